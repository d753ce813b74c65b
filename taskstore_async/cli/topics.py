"""The texts of ``tstore help``, made from the program itself where it can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskstore_async.cli.errors import ExitCode, errors_by_exit_code
from taskstore_async.cli.reference import commands, commands_by_family, shared_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from taskstore_async.cli.reference import CommandInfo, ParameterInfo

__all__ = ["TOPICS", "help_of_command", "topics"]

_MEANINGS: Final = {
    ExitCode.OK: "it was done",
    ExitCode.FAILED: "something failed: the disk, the store, a part of an import",
    ExitCode.USAGE: "the words mean nothing: a name, a filter, a value, an id that begins several",
    ExitCode.NOT_FOUND: "there is no such record, version or revision",
    ExitCode.NO_STORE: "there is no store; make one with: tstore init",
    ExitCode.CONFLICT: "somebody or something is in the way: it exists, it was changed, it is named by others",
    ExitCode.PROBLEMS: "a check found some (check, doctor, sync --check)",
    ExitCode.LOCKED: "another process held the store for ten seconds; try again",
    ExitCode.INTERRUPTED: "Ctrl-C; the store is whole",
    ExitCode.PIPE_CLOSED: "whoever read the output has gone, as after | head",
}

_FILTERS: Final = """\
A filter is a field, an operator and a value: tstore list issues -f status=open -f 'priority<=1'

  =    is; the text, or the number, true, false or null that it spells: priority=2 finds 2 and "2"
  !=   is not; what has no such field is found too
  > >= < <=   numbers with numbers, text with text; a moment (2026-01-31T12:00:00Z) with created_at and updated_at
  ~    contains: a part of a text (ASCII case ignored), or an element of a list
  :=   is, in JSON alone: zip:='"007"', labels:=null

Several -f must all hold. A comparison with a value that is missing, null or of another kind does not hold. Any field
can be asked for; a declared one has an index (tstore indexes COLL), and --explain tells which one answers. Quote what
the shell would take: < > ! * and blanks.

For everything else there is SQL: tstore query "SELECT count(*) FROM issues"
"""

_JSON: Final = """\
--json prints one JSON value, --jsonl a value per line. Both may stand before or behind the command's name.

Records are the stored lines, byte for byte: list --jsonl, get, show, create and update print them as they stand in the
journal. What else a command prints has a schema: tstore schema COMMAND. Fields may be added to it; none changes its
meaning, and none goes.

A command that fails prints nothing more on stdout, and as the last line of stderr:

  {"error": {"code": "not_found", "message": "...", "exit_code": 3, "details": {"collection": "issues", ...}}}

The code is for programs, and stays; tstore help exit-codes has all of them. The message is for people.
"""

_ENV: Final = """\
There is no configuration file: options, and these.

  TSTORE_DIR      the store, or the directory that holds it; --store beats it, and it beats walking up from here
  TSTORE_RECORDS  a module of record types to declare, as --records
  TSTORE_PAGER    what shows long tables on a terminal, instead of PAGER; empty or cat for none
  NO_COLOR        no colours, when it is not empty; --color always beats it
  TERM            dumb: no colours
  COLUMNS, LINES  the size of the terminal, where it does not tell
"""


def exit_codes() -> str:
    """The exit codes, and the errors that end with them."""
    lines: list[str] = []
    for code, meaning in _MEANINGS.items():
        lines.append(f"{code.value:>3}  {meaning}")
        names = errors_by_exit_code().get(code, [])
        lines += [f"     {', '.join(names)}"] if names else []
    lines += [
        "",
        "Below each: what --json calls the errors that end so. The commands that git calls (merge, merge-driver) end",
        "as git wants it: 0 merged, 1 a conflict, 2 nothing was merged.",
    ]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """The page of all commands, in Markdown."""
    return "\n".join(_reference()) + "\n"


def _reference() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield (
        "Made by `tstore help commands`; a test holds it against the program. "
        "`tstore COMMAND --help` says the same, and the defaults."
    )
    yield ""
    yield "Every command has these options, before or behind its name:"
    yield ""
    yield from _options(shared_options())
    for title, some in commands_by_family().items():
        yield ""
        yield f"## {title}"
        for one in some:
            yield ""
            yield from _section(one)


def _section(one: CommandInfo) -> Iterator[str]:
    yield f"### {one.name}"
    yield ""
    yield f"`{one.usage}`"
    yield ""
    yield one.summary
    for part in one.more.split("\n\n") if one.more else ():
        yield ""
        yield part
    if one.arguments or one.options:
        yield ""
        yield from _options((*one.arguments, *one.options))
    if one.example:
        yield ""
        yield "```sh"
        yield one.example
        yield "```"


def _options(options: Iterable[ParameterInfo]) -> Iterator[str]:
    for one in options:
        name = ", ".join(one.names)
        written = f"{name} {one.metavar}".strip() if one.names else one.metavar
        yield f"- `{written}`: {one.help}"


def manual() -> str:
    """The manual page, for man(1)."""
    return "\n".join(_manual()) + "\n"


def _manual() -> Iterator[str]:
    yield '.TH TSTORE 1 "" "taskstore-async" "User Commands"'
    yield ".SH NAME"
    yield r"tstore \- typed records in plain JSONL files, queried through SQLite, merged by git"
    yield ".SH SYNOPSIS"
    yield r".B tstore"
    yield r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]"
    yield ".SH OPTIONS"
    yield from _tagged(shared_options())
    yield ".SH COMMANDS"
    for title, some in commands_by_family().items():
        yield f".SS {_roff(title)}"
        for one in some:
            yield ".TP"
            yield f".B {_roff(one.usage)}"
            yield _roff(f"{one.summary} {one.more}".replace("\n\n", " ").strip())
            if one.options:
                yield ".RS"
                yield from _tagged(one.options)
                yield ".RE"
    for title, text in (("EXIT STATUS", exit_codes()), ("FILTERS", _FILTERS), ("JSON", _JSON), ("ENVIRONMENT", _ENV)):
        yield f".SH {title}"
        yield ".nf"
        yield from map(_roff, text.rstrip("\n").split("\n"))
        yield ".fi"


def _tagged(options: Iterable[ParameterInfo]) -> Iterator[str]:
    for one in options:
        yield ".TP"
        names = ", ".join(one.names)
        yield f".B {_roff(f'{names} {one.metavar}'.strip())}"
        yield _roff(one.help)


def _roff(text: str) -> str:
    """Text in which nothing is a request; hyphens are such as one can copy."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def help_of_command(name: str) -> str | None:
    """How a command is used; None when there is none of that name."""
    return next(("\n".join(_section(one)) for one in commands() if one.name == name), None)


TOPICS: Final[dict[str, Callable[[], str]]] = {
    "exit-codes": exit_codes,
    "filters": lambda: _FILTERS,
    "json": lambda: _JSON,
    "env": lambda: _ENV,
    "commands": reference,
    "man": manual,
}


def topics() -> Iterator[tuple[str, str]]:
    """The topics, and what each explains."""
    yield from {
        "exit-codes": "what a command ends with, and what --json calls the errors",
        "filters": "what -f takes",
        "json": "what --json promises",
        "env": "the environment variables",
        "commands": "all commands, in Markdown",
        "man": "the manual page: tstore help man | man -l -",
    }.items()
