"""Which module has which commands: a command starts in half the time when it alone is loaded and built."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from taskstore_async.cli.invocation import LIST_TYPE, offer

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MODULES", "load"]

MODULES: Final = {
    "backup": ("backup", "restore"),
    "bench": ("bench",),
    "doctor": ("doctor",),
    "exchange": ("import", "export", "export-json"),
    "files": ("init", "sync", "flush", "check", "compact"),
    "git": ("install-hooks", "install-merge-driver", "uninstall-hooks", "hook"),
    "help": ("help", "prime", "schema", "completion"),
    "history": ("log", "diff"),
    "inspect": ("collections", "info"),
    "live": ("demo", "watch"),
    "merging": ("merge", "conflicts", "resolve"),
    "packs": (
        "create-prd",
        "create-task-spec",
        "list-prds",
        "list-task-specs",
        "list-executions",
        "graph",
        "list-type",
    ),
    "query": ("query", "indexes", "describe"),
    "runs": ("history", "stats", "clean"),
    "records": ("list", "get", "show", "create", "update", "delete"),
}
_HOME: Final = {command: module for module, commands in MODULES.items() for command in commands}
_WITH_VALUE: Final = frozenset({"--store", "--records", "--color"})


def load(words: Sequence[str]) -> None:
    """Load the command that *words* name; all of them when they name none that is known."""
    name = _command_of(words)
    if name not in _HOME and name.startswith("list-"):
        name = LIST_TYPE
    if name in _HOME:
        import_module(f"taskstore_async.cli.{_HOME[name]}")
        offer([name])
    elif list(words) != ["--version"]:
        import_module("taskstore_async.cli.app")


def _command_of(words: Sequence[str]) -> str:
    """The first word that is neither an option nor an option's value; empty when there is none."""
    left = iter(words)
    for word in left:
        if word in _WITH_VALUE:
            next(left, None)
        elif not word.startswith("-"):
            return word
    return ""
