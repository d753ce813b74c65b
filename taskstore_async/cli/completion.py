"""What may stand where the cursor is: commands, options, collections, fields and ids.

A shell runs ``tstore complete -- WORDS``, the last of which is being written, and gets a candidate per line, a tab and
what it is. Nothing is ever said on stderr: whoever presses Tab has not asked for an error.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from taskstore_async.cli.text import clip, escape, human_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from taskstore_async.cli.reference import CommandInfo, ParameterInfo
    from taskstore_async.storage.store import Store

__all__ = ["SCRIPTS", "candidates", "main"]

SCRIPTS: Final = {
    "bash": """\
_tstore() {
    local cur line IFS=$'\\n'
    COMPREPLY=()
    cur=${COMP_LINE:0:COMP_POINT}
    local -a words
    IFS=$' \\t\\n' read -r -a words <<< "$cur"
    [[ $cur == *' ' ]] && words+=("")
    local last=${words[${#words[@]}-1]} skip=0
    # bash replaces only what stands behind the last = or : of a word.
    case $last in *[=:]*) skip=$(( ${#last} - $(printf %s "${last##*[=:]}" | wc -m) )) ;; esac
    while IFS= read -r line; do
        line=${line%%$'\\t'*}
        COMPREPLY+=("${line:skip}")
    done < <(tstore complete -- "${words[@]:1}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _tstore tstore
""",
    "zsh": """\
#compdef tstore
_tstore() {
    local -a found names shown
    local tab=$'\\t'
    found=("${(@f)$(tstore complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    found=("${(@)found:#}")
    if (( ! ${#found} )); then
        _files
        return
    fi
    names=("${(@)found%%${tab}*}")
    shown=("${(@)found/${tab}/  -- }")
    compadd -l -d shown -- "${names[@]}"
}
compdef _tstore tstore
""",
    "fish": """\
complete -c tstore -a '(tstore complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
""",
}

_MOST: Final = 200  #: candidates that a person can look through
_LOOKED_AT: Final = 50  #: records whose fields are offered
_WAIT_S: Final = 0.5
_WIDE: Final = 60
_COLLECTIONS: Final = {"COLL", "[COLL]", "TYPE", "[TYPE]..."}


def main(argv: Sequence[str]) -> int:
    """Print the candidates for the last of *argv*."""
    words = list(argv[1:] if argv[:1] == ["--"] else argv) or [""]
    lines: list[str] = []
    with suppress(Exception):
        lines += [f"{name}\t{escape(what)}" if what else name for name, what in islice(candidates(words), _MOST)]
    # A candidate with a control character could not be typed, and would act on the terminal.
    shown = [line for line in lines if escape(line, keep="\t") == line]
    with suppress(OSError):  # the shell that asked has gone
        sys.stdout.write("".join(f"{line}\n" for line in shown))
    return 0


def candidates(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What the last of *words* may become, each with what it is.

    Args:
        words: Behind ``tstore``; the last is being written, and may be empty.
    """
    from taskstore_async.cli.reference import commands, shared_options  # noqa: PLC0415 - reason: it builds the program

    known = commands()
    shared = shared_options()
    *before, current = words
    command, place, awaited, options = _where(before, {one.name: one for one in known}, shared)
    if awaited is not None:
        offered = _of_option(awaited, before, current)
    elif current.startswith("-"):
        offered = ((name, one.help) for one in options for name in one.names if name.startswith("--"))
    elif command is None:
        offered = () if place else ((one.name, one.summary) for one in known)
    else:
        offered = _of_argument(command, place, before, current)
    yield from ((name, clip(what, _WIDE)) for name, what in offered if name.startswith(current))


def _where(
    before: Sequence[str], known: dict[str, CommandInfo], shared: Sequence[ParameterInfo]
) -> tuple[CommandInfo | None, list[str], ParameterInfo | None, list[ParameterInfo]]:
    """The command, its arguments so far, the option whose value comes next, and the options that may come."""
    command: CommandInfo | None = None
    place: list[str] = []
    awaited: ParameterInfo | None = None
    options = list(shared)
    for word in before:
        if awaited is not None:
            awaited = None
        elif word.startswith("-"):
            found = next((one for one in options if word in one.names), None)
            awaited = found if found is not None and found.metavar else None
        elif command is None and not place and word in known:
            command = known[word]
            options += command.options
        else:
            place.append(word)
    return command, place, awaited, options


def _of_option(option: ParameterInfo, before: Sequence[str], current: str) -> Iterable[tuple[str, str]]:
    if option.choices:
        return ((choice, "") for choice in option.choices)
    if option.metavar == "COLL":
        return _collections(before)
    if option.metavar == "CONDITION":
        return ((f"{name}=", "") for name in _fields(before) if name.isidentifier())
    if option.metavar == "FIELD|-FIELD":
        return ((f"{'-' * current.startswith('-')}{name}", "") for name in _fields(before))
    if option.metavar == "NAME,NAME":
        others = current[: current.rfind(",") + 1]
        return ((others + name, "") for name in _fields(before) if name not in others.split(","))
    return ()


def _of_argument(
    command: CommandInfo, place: Sequence[str], before: Sequence[str], current: str
) -> Iterable[tuple[str, str]]:
    arguments = command.arguments
    argument = arguments[min(len(place), len(arguments) - 1)] if arguments else None
    found: Iterable[tuple[str, str]] = ()
    if argument is None or (len(place) >= len(arguments) and not argument.many and argument.metavar != "[TYPE] ID"):
        pass  # nothing may come any more
    elif argument.metavar in _COLLECTIONS:
        found = _collections(before)
    elif argument.metavar.startswith("FIELD="):
        found = ((f"{name}=", "") for name in _fields(before))
    elif argument.metavar in {"[TOPIC]", "[COMMAND]"}:
        found = _topics()
    elif argument.choices or "|" in argument.metavar:
        found = ((choice, "") for choice in argument.choices or argument.metavar.split("|"))
    elif "ID" in argument.metavar:
        found = _ids(command, place, before, current)
    return found


def _topics() -> list[tuple[str, str]]:
    from taskstore_async.cli.reference import commands  # noqa: PLC0415 - reason: it builds the program
    from taskstore_async.cli.topics import topics  # noqa: PLC0415 - reason: texts

    return [*topics(), *((one.name, one.summary) for one in commands())]


def _opened(before: Sequence[str]) -> Store:
    """The store that the words are about."""
    from taskstore_async.cli.finding import find_store  # noqa: PLC0415 - reason: only where something is asked of it
    from taskstore_async.storage.store import Store  # noqa: PLC0415 - reason: as above

    named = next((before[at + 1] for at, word in enumerate(before[:-1]) if word == "--store"), None)
    return Store.open(find_store(named).path, create=False, lock_timeout_s=_WAIT_S)


def _collections(before: Sequence[str]) -> list[tuple[str, str]]:
    with _opened(before) as store:
        return [(one.name, human_count(one.records, "record")) for one in store.collections()]


def _ids(command: CommandInfo, place: Sequence[str], before: Sequence[str], current: str) -> list[tuple[str, str]]:
    """The ids of the collection that was named; where the id alone may tell, of all."""
    with _opened(before) as store:
        names = [one.name for one in store.collections()]
        first = command.arguments[0].metavar
        wanted = names
        if first == "COLL":
            wanted = [place[0]]
        elif place:
            wanted = [name for name in names if name in {place[0], f"{place[0]}s"}] or names
        return [(one, name) for name in wanted for one in store.ids(name, current, limit=_MOST)]


def _fields(before: Sequence[str]) -> list[str]:
    from taskstore_async.core.codec import split_fields  # noqa: PLC0415 - reason: only where something is asked of it

    with _opened(before) as store:
        names = {one.name for one in store.collections()}
        name = next(word for word in before if word in names)
        declared = store.declaration(name).columns
        found = [field for one in store.lines(name, limit=_LOOKED_AT) for field in split_fields(one.raw)]
    return list(dict.fromkeys([*declared, *found]))
