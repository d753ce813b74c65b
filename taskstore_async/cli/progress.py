"""What a person sees while something takes long: on a terminal, on stderr, and gone when it is done."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["counting", "ticking"]

_AFTER_S: Final = 0.5  #: what is done by then needs no words
_BAR: Final = 30  #: columns of the bar
_ERASE: Final = "\r\x1b[K"


@contextmanager
def counting(what: str) -> Generator[Callable[[int, int], None] | None, None, None]:
    """A bar for what knows how far it is: a function that takes how much of how much is done; None in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return

    def show(done: int, total: int) -> None:
        full = _BAR * done // max(total, 1)
        _print(f"\r{what} {'█' * full}{'░' * (_BAR - full)} {done:,}/{total:,}")

    try:
        yield show
    finally:
        _print(_ERASE)  # the line is free again for what is to be told


@contextmanager
def ticking(what: str) -> Generator[None, None, None]:
    """Tell each second that *what* is still under way, once it has taken half of one."""
    if not sys.stderr.isatty():
        yield
        return
    ended, shown = Event(), Event()
    began_s = monotonic()

    def tick() -> None:
        wait_s = _AFTER_S
        while not ended.wait(wait_s):
            _print(f"{_ERASE}{what} … {monotonic() - began_s:.0f} s")
            shown.set()
            wait_s = 1.0

    teller = Thread(target=tick, name="tstore-progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
        if shown.is_set():
            _print(_ERASE)


def _print(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
