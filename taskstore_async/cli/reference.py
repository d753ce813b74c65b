"""What the commands are, read from the program itself: for the pages, the completion and whoever has to be told."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final

import msgspec
import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

__all__ = ["FAMILY_TITLES", "CommandInfo", "ParameterInfo", "commands", "commands_by_family", "shared_options"]

FAMILY_TITLES: Final = {
    "records": "Records",
    "query": "Asking",
    "packs": "Built-in record types",
    "history": "What was",
    "files": "Files",
    "inspect": "The store as a whole",
    "exchange": "Moving records in and out",
    "backup": "Backup",
    "git": "Git",
    "merging": "Merges",
    "doctor": "Repair",
    "runs": "Runs",
    "live": "Live",
    "bench": "Measuring",
    "help": "Help",
}
"""What the commands of a module are about, in the order in which a reader wants them."""

_SHARED: Final = frozenset({"store", "records", "json", "jsonl", "color", "version", "help"})


class ParameterInfo(msgspec.Struct, frozen=True):
    """An argument or an option.

    Attributes:
        names: Of an option, how it is written; none of an argument.
        metavar: What its value is called; empty for a flag.
        help: What it is for.
        choices: The values that it may have, where they are few.
        required: It must be given.
        many: It may be given several times.
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    choices: tuple[str, ...] = ()
    required: bool = False
    many: bool = False


class CommandInfo(msgspec.Struct, frozen=True):
    """A command.

    Attributes:
        name: How it is called.
        family: The module that has it.
        summary: Its first sentence.
        more: The rest of its help, paragraphs apart by blank lines; without the example.
        example: A command line that works.
        arguments: In order.
        options: Its own, without those that every command has.
    """

    name: str
    family: str
    summary: str
    more: str
    example: str
    arguments: tuple[ParameterInfo, ...]
    options: tuple[ParameterInfo, ...]

    @property
    def usage(self) -> str:
        """How it is written: ``tstore list COLL``."""
        words = ["tstore", self.name, *(one.metavar for one in self.arguments)]
        words += [f"{one.names[0]} {one.metavar}".rstrip() for one in self.options if one.required]
        return " ".join(words)


def commands() -> list[CommandInfo]:
    """Every command, by name."""
    from taskstore_async.cli.app import FAMILIES, app  # noqa: PLC0415 - reason: it imports this module's callers

    homes = _homes(FAMILIES)
    group = typer.main.get_group(app)
    return [_info(name, homes.get(name, ""), command) for name, command in sorted(group.commands.items())]


def commands_by_family() -> dict[str, list[CommandInfo]]:
    """The commands by what they are about."""
    found: dict[str, list[CommandInfo]] = {title: [] for title in FAMILY_TITLES.values()}
    for one in commands():
        found[FAMILY_TITLES[one.family]].append(one)
    return found


def shared_options() -> list[ParameterInfo]:
    """The options that every command has."""
    from taskstore_async.cli.app import app  # noqa: PLC0415 - reason: as above

    group = typer.main.get_group(app)
    return [_parameter(one) for one in group.params if one.name in _SHARED]


def _homes(families: Sequence[ModuleType]) -> dict[str, str]:
    """The module of each command, by name."""
    from taskstore_async.cli.invocation import registered  # noqa: PLC0415 - reason: as above

    known = {module.__name__ for module in families}
    return {
        name: function.__module__.rpartition(".")[2]
        for name, function in registered.items()
        if function.__module__ in known
    }


def _info(name: str, family: str, command: object) -> CommandInfo:
    text = inspect.cleandoc(getattr(command, "help", None) or "")
    body, _, example = text.partition("Example: ")
    summary, _, more = body.strip().partition("\n\n")
    parameters = [one for one in getattr(command, "params", ()) if not getattr(one, "hidden", False)]
    return CommandInfo(
        name=name,
        family=family,
        summary=" ".join(summary.split()),
        more="\n\n".join(" ".join(part.split()) for part in more.split("\n\n") if part.strip()),
        example=example.strip(),
        arguments=tuple(_parameter(one) for one in parameters if one.param_type_name == "argument"),
        options=tuple(
            _parameter(one) for one in parameters if one.param_type_name == "option" and one.name not in _SHARED
        ),
    )


def _parameter(one: object) -> ParameterInfo:
    choices = tuple(str(choice) for choice in getattr(getattr(one, "type", None), "choices", ()))
    argument = getattr(one, "param_type_name", "") == "argument"
    many = bool(getattr(one, "multiple", False)) or getattr(one, "nargs", 1) != 1
    metavar: str = getattr(one, "metavar", None) or ""
    if not metavar and not getattr(one, "is_flag", False):
        kind = str(getattr(getattr(one, "type", None), "name", "value")).upper()
        metavar = "|".join(choices) or {"INTEGER": "N", "INTEGER RANGE": "N"}.get(kind, kind.split()[0])
    return ParameterInfo(
        names=() if argument else tuple(_names(one)),
        metavar=metavar,
        help=" ".join((getattr(one, "help", None) or "").split()),
        choices=choices,
        required=bool(getattr(one, "required", False)),
        many=many,
    )


def _names(option: object) -> Iterator[str]:
    """The short name first, as help has it."""
    yield from sorted([*getattr(option, "opts", ()), *getattr(option, "secondary_opts", ())], key=len)
