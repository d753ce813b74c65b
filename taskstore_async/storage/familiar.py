"""Lines that stand in a file as they stand in the index: told by their bytes, which costs a third of decoding them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import sqlite3

    from taskstore_async.storage.catalogue import Collection

__all__ = ["FamiliarLines", "FamiliarRow"]

FamiliarRow: TypeAlias = tuple[bytes, int, str, int, int]
"""A row whose line was met: its line, key, id, and stamp in whole milliseconds and the nanoseconds above them."""

_PAGE = 256
_AHEAD = 512  #: rows that may be read before the lines they are looked for among
_KEPT = 1_024


class FamiliarLines:
    """The rows of a collection in the order in which they entered it, which is nearly that of the file.

    A line that is met out of that order is simply not found: whoever asks looks it up by its id then.
    """

    def __init__(self, db: sqlite3.Connection, collection: Collection) -> None:
        self._rows = db.execute(f"SELECT line, pk, id, ms, ns FROM {collection.rows} ORDER BY pk")
        self._waiting: dict[bytes, FamiliarRow] = {}
        self._allowed = _AHEAD  #: rows that may have been read by now
        self._read = 0

    def take(self, raw: bytes) -> FamiliarRow | None:
        """The row that has the line *raw*; None when it is not among the next ones. Each is given once."""
        self._allowed += 1
        found = self._waiting.pop(raw, None)
        while found is None and self._read < self._allowed:
            some: list[FamiliarRow] = self._rows.fetchmany(_PAGE)
            if not some:
                break
            self._read += len(some)
            for row in some:
                self._waiting[row[0]] = row
            found = self._waiting.pop(raw, None)
            while len(self._waiting) > _KEPT:
                del self._waiting[next(iter(self._waiting))]
        return found

    def close(self) -> None:
        """End the query: the rows are about to change."""
        self._rows.close()
        self._waiting.clear()
