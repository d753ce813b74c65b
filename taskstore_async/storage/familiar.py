"""Lines that stand in a file as they stand in the index: told by their bytes, which costs a third of decoding them."""

from __future__ import annotations

import sqlite3
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING, Any

from taskstore_async.core.names import MAX_ID_CHARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskstore_async.storage.catalogue import Collection

__all__ = ["FamiliarLines"]

_PAGE = 128
_AHEAD = 256  #: rows among which a line is looked for that is not the next one
_KEPT = 1_024
_LONG_BYTES = 16_384  #: rows with longer lines are not kept here by the thousand
_MARKED = b"\x01"


class FamiliarLines:
    """The rows of a collection in the order in which they entered it, which is nearly that of the file.

    Lines are compared with rows many at a time for as long as both go on alike. A line that is met out of that order is
    looked for nearby, and then simply not found: whoever asks looks it up by its id.

    Args:
        db: The index. Its rows must not change until `close`.
        collection: Whose rows.
        seen: A byte for the key of each row, to be set when its line was met.

    Attributes:
        apart: The keys of rows whose lines must be read all the same, wherever they are met from now on.
    """

    def __init__(self, db: sqlite3.Connection, collection: Collection, seen: bytearray) -> None:
        (rows,) = db.execute(f"SELECT count(*) FROM {collection.rows}").fetchone()
        self._without_gaps = rows == len(seen) - 1  # then nobody need ask for the keys
        self._rows = db.execute(
            f"SELECT CASE WHEN length(line) <= {_LONG_BYTES} THEN line END, id{'' if self._without_gaps else ', pk'} "
            f"FROM {collection.rows} ORDER BY pk"
        )
        self._seen = seen
        self.apart: set[int] = set()
        self._lines: list[bytes | None] = []  #: of the rows that are next, as are the other two
        self._ids: list[str] = []
        self._keys: Sequence[int] = range(1, 1)
        self._at = 0  #: where among them the next one is
        self._passed: dict[bytes, tuple[int, str]] = {}  #: the last ones whose lines were not met

    def known(self, raws: Sequence[bytes], start: int, end: int) -> int:
        """How many of the lines from *start* on are what their rows say, so that only their being there is noted.

        A row's stamp is that of its line, where that has one: so equal bytes say all.

        Args:
            raws: Lines that follow each other in the file.
            start: The first that has not been asked for.
            end: Where the first one is, from there on, that has no stamp of its own.

        Returns:
            Their number; the line behind them, if there is one, is to be read.
        """
        at = start
        while at < end:
            at += self._alike(raws, at, end)
            if at == end or not self._is_nearby(raws[at]):
                break
            at += 1
        return at - start

    def close(self) -> None:
        """End the query: the rows are about to change."""
        self._rows.close()

    def _alike(self, raws: Sequence[bytes], start: int, end: int) -> int:
        """Go on for as long as lines and rows are alike; returns how far that was."""
        if self._at == len(self._lines) and not self._read_on():
            return 0
        at, most = self._at, min(end - start, len(self._lines) - self._at)
        alike = next(compress(count(), map(ne, raws[start : start + most], self._lines[at : at + most])), most)
        if not (self.apart.isdisjoint(self._keys[at : at + alike]) and _are_usual(self._ids[at : at + alike])):
            alike = next(place for place in range(alike) if not self._counts(*self._row(at + place)))
        keys = self._keys[at : at + alike]
        if keys and keys[-1] - keys[0] == alike - 1:
            self._seen[keys[0] : keys[-1] + 1] = _MARKED * alike
        else:
            for key in keys:
                self._seen[key] = 1
        self._at += alike
        return alike

    def _is_nearby(self, raw: bytes) -> bool:
        """Whether a line that is not the next one is that of a row nearby, and nothing is to be said of it."""
        row = self._passed.pop(raw, None)
        if row is None:
            if len(self._lines) - self._at < _AHEAD:
                self._read_on()
            try:
                place = self._lines.index(raw, self._at, self._at + _AHEAD)
            except ValueError:
                self._pass_over(self._at + 1)  # for all we know another version of it
                return False
            row = self._row(place)
            self._pass_over(place)
            self._at = place + 1
        if not self._counts(*row):
            return False
        self._seen[row[0]] = 1
        return True

    def _row(self, place: int) -> tuple[int, str]:
        return self._keys[place], self._ids[place]

    def _counts(self, key: int, record_id: str) -> bool:
        """Whether nothing is to be said of a line that is its row's."""
        return key not in self.apart and _are_usual([record_id])

    def _pass_over(self, end: int) -> None:
        """Keep the rows up to the one at *end* in mind, and go on behind them."""
        end = min(end, len(self._lines))
        for place in range(self._at, end):
            line = self._lines[place]
            if line is not None:
                self._passed[line] = self._row(place)
        self._at = end
        while len(self._passed) > _KEPT:
            del self._passed[next(iter(self._passed))]

    def _read_on(self) -> bool:
        """Read further rows; whether there are any."""
        some: list[Any] = self._rows.fetchmany(_PAGE)
        if not some:
            return False
        lines, ids, *keys = zip(*some, strict=True)
        if not set(map(type, ids)) <= {str}:
            raise sqlite3.DatabaseError("an id in it is no text")
        next_key = self._keys.stop if isinstance(self._keys, range) else 0
        left = self._keys[self._at :]
        self._keys = [*left, *keys[0]] if keys else range(next_key - len(left), next_key + len(ids))
        del self._lines[: self._at], self._ids[: self._at]
        self._lines.extend(lines)
        self._ids.extend(ids)
        self._at = 0
        return True


def _are_usual(ids: Sequence[str]) -> bool:
    """Whether there is nothing to say about any of the ids."""
    return "".join(ids).isprintable() and max(map(len, ids), default=0) <= MAX_ID_CHARS
