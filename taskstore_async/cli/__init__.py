"""The command line, ``tstore``: to look, sync, repair and merge by hand.

Nothing of it is loaded before it is called.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

_RUN_BY_OTHERS: Final = {
    "merge-driver": "taskstore_async.git.driver",
    "hook": "taskstore_async.git.events",
    "complete": "taskstore_async.cli.completion",
}
_HELP: Final = frozenset({"-h", "--help"})
_RARELY: Final = 100_000  #: objects that are made between two looks for cycles; a short command makes fewer


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its words, without the program's name; those of the process when None.

    Returns:
        The exit code; `taskstore_async.cli.errors` has the table.
    """
    if argv is None:
        return _main_of_process(sys.argv[1:])
    words = list(argv)
    try:
        run_by_others = _RUN_BY_OTHERS.get(words[0]) if words else None
        if run_by_others is not None and not _HELP.intersection(words):
            program: Callable[[Sequence[str]], int] = import_module(run_by_others).main
            return program(words[1:])
        # Not above: the commands that git runs start without typer.
        from taskstore_async.cli.families import load  # noqa: PLC0415 - reason: as above
        from taskstore_async.cli.running import run  # noqa: PLC0415 - reason: as above

        load(words)
        return run(words)
    except KeyboardInterrupt:
        return 130


def _main_of_process(words: Sequence[str]) -> int:
    """Run the command that a process is there for.

    What is loaded lives until the end, so looking for cycles in it only costs: a sixth of a short command's time while
    it loads, and as much again when the interpreter ends and looks through everything that has not been set aside.
    """
    from taskstore_async.cli.streams import fill_streams, flushed  # noqa: PLC0415 - reason: nothing is loaded before it is called

    gc.set_threshold(_RARELY)
    fill_streams()
    try:
        code = main(words)
        printed = flushed()
        # What git runs ends as git wants it: a report that nobody took is no conflict, and stops no commit.
        return code if words and words[0] in _RUN_BY_OTHERS else code or printed
    finally:
        gc.freeze()
