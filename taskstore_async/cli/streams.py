"""The streams that a process was given: some are closed, some take nothing."""

from __future__ import annotations

import io
import os
import sys
from typing import Final

__all__ = ["fill_streams", "flushed", "let_go_of"]

_BY_NUMBER: Final = ("stdin", "stdout", "stderr")
_FAILED: Final = 1
_PIPE_CLOSED: Final = 141


def fill_streams() -> None:
    """Open the null device for streams that are closed: Python has None for them, and a file gets their number.

    And buffer stdout where PYTHONUNBUFFERED says otherwise: of what does not fit at once the rest would be dropped.
    """
    for number, name in enumerate(_BY_NUMBER):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - reason: it lives as long as the process
            setattr(sys, name, stream)
    out = sys.stdout
    if isinstance(getattr(out, "buffer", None), io.RawIOBase):
        sys.stdout = open(out.fileno(), "w", encoding=out.encoding, errors=out.errors, closefd=False)  # noqa: SIM115 - reason: as above


def flushed() -> int:
    """Flush what was printed, so that the interpreter has nothing to fail at when it ends.

    Returns:
        What a command ends with for which that did not work: 141 when the reader has gone, else 1; 0 when it worked.
    """
    code = 0
    for name in _BY_NUMBER[1:]:
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError) as error:
            let_go_of(name)
            code = _PIPE_CLOSED if isinstance(error, BrokenPipeError) else _FAILED
    return code


def let_go_of(name: str) -> None:
    """Send what a stream can no longer write to the null device; the interpreter would complain about it at exit."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, getattr(sys, name).fileno())
        os.close(null)
    except (OSError, ValueError):  # it is no file of ours
        pass
