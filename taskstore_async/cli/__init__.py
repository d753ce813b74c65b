"""The command line, ``tstore``: to look, sync, repair and merge by hand.

Nothing of it is loaded before it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its words, without the program's name; those of the process when None.

    Returns:
        The exit code; `taskstore_async.cli.errors` has the table.
    """
    try:
        from taskstore_async.cli.app import run  # noqa: PLC0415 - reason: commands that git runs start without typer

        return run(argv)
    except KeyboardInterrupt:
        return 130
