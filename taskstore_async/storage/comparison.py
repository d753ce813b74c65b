"""One collection's rows against its file and its outbox, with nothing in memory but what differs.

A line that stands in the file as it stands in a row is only noted, and each row is then compared with its own line. The
rest is folded: the records of the outbox, and those with a line that has no stamp, which counts with that of the lines
above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskstore_async.core.fold import Folded, effective, wins
from taskstore_async.core.line import BadLine, Line, decode_line
from taskstore_async.storage import log, schema
from taskstore_async.storage.familiar import FamiliarLines
from taskstore_async.storage.journal_reader import JournalReader

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from taskstore_async.storage.catalogue import Collection

__all__ = ["Comparison"]

# What the file has of a row's record: nothing yet; the row's line, last among the newest; older lines alone; another
# line that is as new, last; a newer one.
_NONE, _SAME, _OLDER, _EQUAL, _NEWER = range(5)
_ABSENT: Final = "the index has it, and neither journal nor outbox do"
_OTHER: Final = "the index has another line than the journal and the outbox"
_STAMP: Final = "the index has another stamp than its line"
_LACKING: Final = "journal or outbox have it, and the index does not"


class Comparison:
    """Compares; the index and the file must not change meanwhile.

    Args:
        db: The index.
        collection: The collection.

    Attributes:
        records: How many records the file has lines of.
    """

    def __init__(self, db: sqlite3.Connection, collection: Collection) -> None:
        self.records = 0
        self._db = db
        self._collection = collection
        self._known = bytearray(schema.highest_key(db, collection.rows) + 1)
        self._lacking: set[str] = set()  #: of these there is no row
        self._folded: dict[str, Folded | None] = {}  #: of these everything is folded
        self._unstamped: set[str] = set()
        self._pending = log.pending(db, collection)
        for entry in self._pending:
            self._folded[entry.id] = None

    def read(self, descriptor: int, file: str) -> JournalReader:
        """Read the file; the reader tells of what cannot be read."""
        reader = JournalReader(descriptor, (), file=file, collection=self._collection.name)
        familiar = FamiliarLines(self._db, self._collection, self._known)
        familiar.apart.update(row[0] for record_id in self._folded if (row := self._row(record_id)) is not None)
        for line in reader.lines(familiar.known):
            if line.id in self._folded:
                self._fold(line)
            elif line.id not in self._unstamped:
                self._note(line, familiar)
        familiar.close()
        if self._unstamped:
            self._fold_unstamped(descriptor, file)
        folded = sum(one is not None for one in self._folded.values())
        self.records = len(self._known) - self._known.count(_NONE) + len(self._lacking) + folded
        return reader

    def differences(self) -> Iterator[tuple[str, str]]:
        """The ids of records whose rows are not what file and outbox say, and what is different."""
        for entry in self._pending:
            self._fold(self._collection.decode(entry.raw))
        folded = {record_id: one for record_id, one in self._folded.items() if one is not None}
        columns = ", ".join(["pk", "id", "ms", "ns", "dead", "line", *self._collection.columns.values()])
        for key, record_id, ms, ns, dead, raw, *cells in self._db.execute(
            f"SELECT {columns} FROM {self._collection.rows} ORDER BY pk"
        ):
            if record_id in self._folded:
                best = folded.pop(record_id, None)
                instant = None if best is None else best.instant
                found: int = _NONE if best is None else _SAME if best.line.raw == raw else _NEWER
            else:
                instant = None
                found = self._known[int(key)]
            if found == _NONE:
                yield record_id, _ABSENT
            elif found != _SAME:
                yield record_id, _OTHER
            else:
                line = self._collection.decode(raw)
                said = line.id, line.instant if instant is None else instant, line.deleted
                yield from self._within((record_id, log.instant_of(ms, ns), bool(dead)), said, line, cells)
        for record_id in (*folded, *self._lacking):
            yield record_id, _LACKING

    def _within(
        self, row: tuple[str, int, bool], said: tuple[str, int | None, bool], line: Line, cells: list[Any]
    ) -> Iterator[tuple[str, str]]:
        """What is different between a row and its own line."""
        record_id = row[0]
        if said[0] != record_id:
            yield record_id, _OTHER
            yield said[0], _LACKING
        elif row != said:
            yield record_id, _STAMP
        else:
            expected = self._collection.cells(line)
            for field, cell, value in zip(self._collection.columns, cells, expected, strict=True):
                if (type(cell), cell) != (type(value), value):
                    yield record_id, f"the index has {field}={cell!r}, its line {value!r}"

    def _note(self, line: Line, familiar: FamiliarLines) -> None:
        """Note a line that is not the next row's."""
        row = self._row(line.id)
        own = None if row is None else decode_line(row[1], ()) if isinstance(row[1], bytes) else None
        if line.instant is None or (isinstance(own, Line) and own.instant is None):
            self._unstamped.add(line.id)
        elif row is None:
            self._lacking.add(line.id)
        elif own is None or isinstance(own, BadLine):
            self._known[row[0]] = _NEWER
        elif line.raw == own.raw:
            self._mark(row[0], _SAME)
        elif line.instant == own.instant:
            self._mark(row[0], _EQUAL)
        elif line.instant > (own.instant or 0):
            self._mark(row[0], _NEWER)
            familiar.apart.add(row[0])
        elif self._known[row[0]] == _NONE:
            self._known[row[0]] = _OLDER

    def _mark(self, key: int, found: int) -> None:
        if self._known[key] != _NEWER:  # nothing is newer than what is newer
            self._known[key] = found

    def _fold_unstamped(self, descriptor: int, file: str) -> None:
        """Fold the records with a line that has no stamp, from the first line on."""
        self._folded.update(dict.fromkeys(self._unstamped - self._folded.keys()))
        self._lacking -= self._unstamped
        again = JournalReader(descriptor, (), file=file, collection=self._collection.name)
        for line in again.lines():
            if line.id in self._unstamped:
                self._fold(line)

    def _fold(self, line: Line) -> None:
        best = self._folded.get(line.id)
        instant = effective(line, None if best is None else best.instant)
        if best is None or wins(instant, best.instant):
            self._folded[line.id] = Folded(line, instant)

    def _row(self, record_id: str) -> tuple[int, object] | None:
        found: tuple[int, object] | None = self._db.execute(
            f"SELECT pk, line FROM {self._collection.rows} WHERE id = ?", (record_id,)
        ).fetchone()
        return found
