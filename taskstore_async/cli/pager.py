"""Long results on a terminal, a screen at a time."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["page", "pager_of"]

_USUAL: Final = "less"
_LESS: Final = "FRX"  #: ends at once when all fits, shows styles, leaves what was read on the screen


def page(text: str, lines: int) -> bool:
    """Show *text* with the person's pager, when it does not fit the screen.

    Args:
        text: What to show; nothing in it acts on the terminal.
        lines: How many lines it has.

    Returns:
        False when nothing was shown: it fits, nobody is there to turn pages, or there is no pager.
    """
    if lines < shutil.get_terminal_size().lines or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    import subprocess  # noqa: PLC0415 - reason: most output fits

    words = pager_of(os.environ)
    if not words:
        return False
    sys.stdout.flush()
    try:
        process = subprocess.Popen(  # noqa: S603 - reason: the person's own choice, without a shell
            words, stdin=subprocess.PIPE, env={"LESS": _LESS, "LV": "-c", **os.environ}
        )
    except OSError:
        return False
    with suppress(BrokenPipeError):  # the person has seen enough
        process.communicate(text.encode(errors="replace"))
    return True


def pager_of(environment: Mapping[str, str]) -> Sequence[str]:
    """The words of the pager: ``TSTORE_PAGER`` beats ``PAGER`` beats less; none when it is empty or ``cat``."""
    import shlex  # noqa: PLC0415 - reason: as above

    named = environment.get("TSTORE_PAGER", environment.get("PAGER", _USUAL))
    try:
        words = shlex.split(named)
    except ValueError:  # a quote without its end
        return ()
    return () if words == ["cat"] else words
