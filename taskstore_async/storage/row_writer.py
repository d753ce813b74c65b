"""The rows that a transaction reads and writes, and their entries in the log."""

from __future__ import annotations

from itertools import count, repeat
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.line import columns_of_lines
from taskstore_async.core.stamp import MAX_STAMP_MS, next_stamp
from taskstore_async.storage import schema
from taskstore_async.storage.log import instant_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.index import Index

__all__ = ["LOOKED_AHEAD", "UNREAD", "Row", "RowWriter"]

_LOG: Final = "INSERT INTO log (seq, collection, id, kind, origin, ms, ns, line) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_LOG_NEW: Final = (
    f"INSERT INTO log (seq, collection, id, kind, origin, ms, ns) "
    f"SELECT pending, ?, id, {schema.CREATED}, {schema.OWN}, ms, ns FROM {{rows}} WHERE pk > ?"
)
LOOKED_AHEAD: Final = 500  #: ids of one query
UNREAD: Final = "unread"  #: stands for a row of which nobody knows yet whether it is there


class Row(msgspec.Struct, frozen=True, gc=False):
    """A record's row, as a write sees it."""

    ms: int
    ns: int
    dead: bool
    pending: int
    raw: bytes
    pk: int


class RowWriter:
    """Reads and writes rows inside the caller's transaction of *index*.

    Args:
        index: Where the rows and the log are.
        coalesce: A pending version that is replaced before it was flushed needs no line of its own.
        append_all: Versions of this very transaction need one all the same.

    Attributes:
        lines: The lines of the transaction by collection, oldest first, as they must be appended.
        written: How many versions it wrote.
        by_position: One of them has the greatest stamp, where the later line wins.
    """

    def __init__(self, index: Index, *, coalesce: bool, append_all: bool) -> None:
        self.lines: dict[str, list[bytes]] = {}
        self.written = 0
        self.by_position = False
        self._index = index
        self._db = index.db
        self._clock_ms = index.now_ms()
        self._keep_from = 0 if not coalesce else index.next_seq if append_all else None
        self._log: list[list[object]] = []
        self._ahead: dict[int, dict[str, Row | None]] = {}  #: rows that nobody has asked for since they were read

    def look_ahead_in(self, name: str, ids: Sequence[str]) -> None:
        """Read the rows *ids* of one collection, which are going to be asked for, if it has any."""
        collection = self._index.collections.get(name)
        if collection is None or collection.record is None:
            return
        for start in range(0, len(ids), LOOKED_AHEAD):
            some = ids[start : start + LOOKED_AHEAD]
            ahead = self._ahead.setdefault(collection.key, {})
            ahead.update(dict.fromkeys(some))
            marks = ", ".join("?" * len(some))
            found = self._db.execute(
                f"SELECT id, ms, ns, dead, pending, line, pk FROM {collection.rows} WHERE id IN ({marks})", some
            )
            for record_id, *row in found:
                ahead[record_id] = Row(*row)

    def _row(self, collection: Collection, record_id: str) -> Row | None:
        if self._ahead and (ahead := self._ahead.get(collection.key)) is not None:
            row = ahead.pop(record_id, UNREAD)  # popped: whoever asks is going to change it
            if not isinstance(row, str):
                return row
        found = self._db.execute(collection.select, (record_id,)).fetchone()
        return None if found is None else Row(*found)

    def _next(self, row: Row | None) -> int:
        """The stamp of the record's next version, in milliseconds."""
        return self._clock_ms if row is None else next_stamp(self._clock_ms, instant_of(row.ms, row.ns))

    def _write_new(
        self, collection: Collection, ids: Sequence[str], raws: Sequence[bytes], ms: Iterable[int], ns: Iterable[int]
    ) -> None:
        """Write the rows of records that have none, and their entries in the log, with two statements.

        Args:
            collection: Where they stand.
            ids: Their ids.
            raws: The line of each.
            ms: The stamp of each, in whole milliseconds.
            ns: The nanoseconds above them.
        """
        first = self._index.take_seqs(len(ids))
        cells = collection.cell_columns(columns_of_lines(raws, collection.declaration.sources))
        highest = schema.highest_key(self._db, collection.rows)
        self._db.executemany(collection.insert, zip(ms, ns, repeat(0), count(first), raws, *cells, ids))
        self._db.execute(_LOG_NEW.format(rows=collection.rows), (collection.key, highest))
        self.lines.setdefault(collection.name, []).extend(raws)
        self.written += len(ids)

    def _write(
        self,
        collection: Collection,
        record_id: str,
        row: Row | None,
        *,
        raw: bytes,
        ms: int,
        cells: Sequence[object],
        kind: int,
        ns: int = 0,
    ) -> None:
        """Write the row and its entry in the log; *ns* is the part of the stamp below a millisecond."""
        seq = self._index.take_seqs(1)
        dead = int(kind == schema.DELETED)  # a bool takes sqlite3 longer to bind
        if row is None:
            self._db.execute(collection.insert, (ms, ns, dead, seq, raw, *cells, record_id))
        else:
            if self._keep_from is not None and row.pending and row.pending >= self._keep_from:
                self._keep_line(row)
            self._db.execute(collection.update, (ms, ns, dead, seq, raw, *cells, row.pk))
        self._log.append([seq, collection.key, record_id, kind, schema.OWN, ms, ns, None])
        self.lines.setdefault(collection.name, []).append(raw)
        self.written += 1
        if ms >= MAX_STAMP_MS:
            self.by_position = True

    def _keep_line(self, row: Row) -> None:
        """Copy the line that a row is about to lose into its entry in the log, so that it is flushed all the same."""
        for entry in reversed(self._log):
            if entry[0] == row.pending:
                entry[-1] = row.raw
                return
        self._db.execute("UPDATE log SET line = ? WHERE seq = ?", (row.raw, row.pending))

    def _write_log(self) -> None:
        """Write the entries that were held back."""
        self._db.executemany(_LOG, self._log)
