"""Whether a handle may write: what failed, what an error says of it, and when it is tried again."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

__all__ = ["Health", "is_damage", "is_full", "is_trouble"]

_BACKOFF_S: Final = (0.0, 0.1, 0.5, 2.0, 10.0)
_TROUBLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}


class Health:
    """Counts failures, and says when to try again. Every ``now_s`` is on one monotonic clock.

    Attributes:
        broken: What nobody knows the outcome of, so that nothing is written before it is known; None when all is well.
        distrusted: An fsync failed: what can be read may not be on the disk, and a further fsync says nothing about it.
        full: It failed because the disk was full: when that has room, another try need not wait.
    """

    def __init__(self) -> None:
        self.broken: str | None = None
        self.distrusted = False
        self.full = False
        self._failures = 0
        self._next_try_s = 0.0

    def failed(self) -> float:
        """Note a failure that left everything as it was; returns how many seconds to wait."""
        self._failures += 1
        return _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]

    def broke(self, reason: str, *, now_s: float, distrusted: bool = False, full: bool = False) -> None:
        """Note a failure of which nobody knows what it left. The first try to mend it is at once."""
        self.broken = reason
        self.distrusted = self.distrusted or distrusted
        self.full = full
        self._next_try_s = now_s + _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._failures += 1

    def may_try(self, now_s: float) -> bool:
        """Whether it is time for another try."""
        return now_s >= self._next_try_s

    def try_at_once(self) -> None:
        """Make it time for another try."""
        self._next_try_s = 0.0

    def recovered(self) -> None:
        """Note that everything is as it should be."""
        self.broken = None
        self.full = False
        self.distrusted = False
        self._failures = 0


def is_full(error: BaseException) -> bool:
    """Whether *error*, or what led to it, says that the disk is full."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    if isinstance(error, sqlite3.Error):
        return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_FULL
    return error.__cause__ is not None and is_full(error.__cause__)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether *error* says that the file is no index, rather than that it cannot be reached just now."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    primary = code & 0xFF
    lacking = str(error).startswith(("no such table", "no such column"))
    return primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or lacking


def is_trouble(error: sqlite3.Error) -> bool:
    """Whether *error* says that the index cannot be reached just now."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _TROUBLE
