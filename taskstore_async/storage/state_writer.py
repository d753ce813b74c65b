"""What a look at a file has found, written to the rows and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.fold import wins
from taskstore_async.core.line import Line  # noqa: TC001 - reason: msgspec reads it at run time
from taskstore_async.storage import log, schema
from taskstore_async.storage.log import Pending  # noqa: TC001 - reason: as above

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from taskstore_async.storage.catalogue import Collection

__all__ = ["Counts", "Row", "State", "StateWriter"]


class State(msgspec.Struct):
    """A version of a record, and whether it is a pending one."""

    line: Line
    instant: int
    entry: Pending | None = None  #: the pending version it is, None for a line of the file


class Row(msgspec.Struct, frozen=True):
    """A record's row."""

    instant: int
    dead: bool
    pending: int
    raw: bytes
    pk: int


class Counts(msgspec.Struct):
    """What an import changed; see `CollectionSync`."""

    taken: int = 0
    removed: int = 0
    outbid: int = 0
    settled: int = 0
    rows_rebuilt: int = 0


class StateWriter:
    """Writes the states of records that a file and the outbox say, inside the caller's transaction.

    Args:
        db: The index.
        take_seqs: Reserves so many seqs of the log and returns the first.
    """

    def __init__(self, db: sqlite3.Connection, *, take_seqs: Callable[[int], int]) -> None:
        self._db = db
        self._take_seqs = take_seqs
        self._updates: list[tuple[object, ...]] = []
        self._notes: list[tuple[object, ...]] = []

    def row(self, collection: Collection, record_id: str) -> Row | None:
        """The row of a record; None when there is none."""
        found = self._db.execute(collection.select, (record_id,)).fetchone()
        if found is None:
            return None
        ms, ns, dead, pending, raw, pk = found
        return Row(log.instant_of(ms, ns), bool(dead), pending, raw, pk)

    def apply(
        self,
        collection: Collection,
        found: dict[str, State],
        pending: dict[str, list[Pending]],
        *,
        settled: set[int] | None = None,
        seen: bytearray | None = None,
        rows: Mapping[str, Row | None] = {},
        rebuilding: bool = False,
    ) -> Counts:
        """Write the states that differ from their rows. With *seen*, rows that the file does not have leave.

        After a tail, *found* alone may have changed: a pending version that lost before has lost still. Rows that were
        read before are in *rows*.
        """
        self._updates, self._notes = [], []
        settled = _beyond_doubt(found, pending, settled or set())
        counts = Counts(settled=len(settled))
        log.settle(self._db, settled)
        touched = dict.fromkeys(found if seen is None and not rebuilding else [*found, *pending])
        for record_id in touched:
            waiting = [entry for entry in pending.get(record_id, ()) if entry.seq not in settled]
            best = found.get(record_id)
            row = rows[record_id] if record_id in rows else self.row(collection, record_id)
            for entry in waiting:
                if best is None or wins(entry.instant, best.instant):
                    best = State(collection.decode(entry.raw), entry.instant, entry)
                else:
                    counts.outbid += 1
            if best is not None:
                counts.taken += self._store(collection, record_id, best, row, waiting, told=not rebuilding)
            elif row is not None:
                counts.removed += self._remove(collection, record_id, row)
        if seen is not None:
            at = seen.find(0, 1)
            next_from = f"SELECT pk, id FROM {collection.rows} WHERE pk >= ? ORDER BY pk LIMIT 1"  # there may be gaps
            while at > 0:
                if (named := self._db.execute(next_from, (at,)).fetchone()) is None:
                    break
                key, record_id = named
                gone = key < len(seen) and not seen[key] and record_id not in touched
                if gone and (row := self.row(collection, record_id)):
                    counts.removed += self._remove(collection, record_id, row)
                at = seen.find(0, key + 1)
        self._write_held(collection)
        return counts

    def _write_held(self, collection: Collection) -> None:
        """Write rows and entries of the log that were held back, to be written together."""
        self._db.executemany(collection.update, self._updates)
        self._db.executemany(
            "INSERT INTO log (seq, collection, id, kind, origin, ms, ns) VALUES (?, ?, ?, ?, ?, ?, ?)", self._notes
        )
        self._updates.clear()
        self._notes.clear()

    def _store(
        self,
        collection: Collection,
        record_id: str,
        best: State,
        row: Row | None,
        waiting: list[Pending],
        *,
        told: bool,
    ) -> bool:
        """Make *best* the record's row; whether a line of the file changed it."""
        seq = best.entry.seq if best.entry else 0
        for entry in waiting:
            if entry.in_row and entry.seq != seq:
                log.keep_line(self._db, entry)
        if row is not None and row.raw == best.line.raw and row.instant == best.instant:
            if seq not in (0, row.pending):  # that a version came with the file is told by its entry in the log
                self._db.execute(f"UPDATE {collection.rows} SET pending = ? WHERE pk = ?", (seq, row.pk))
            return False
        ms, ns = divmod(best.instant, 1_000_000)
        values = (ms, ns, int(best.line.deleted), seq, best.line.raw, *collection.cells(best.line))
        if row is None:
            self._db.execute(collection.insert, (*values, record_id))
        else:
            self._updates.append((*values, row.pk))
        alive = row is not None and not row.dead
        if told and (alive or not best.line.deleted):
            kind = schema.DELETED if best.line.deleted else schema.UPDATED if alive else schema.CREATED
            self._note(collection, record_id, kind, ms, ns)
        return best.entry is None

    def _remove(self, collection: Collection, record_id: str, row: Row) -> bool:
        self._db.execute(f"DELETE FROM {collection.rows} WHERE pk = ?", (row.pk,))
        if row.dead:
            return False
        self._note(collection, record_id, schema.REMOVED, *divmod(row.instant, 1_000_000))
        return True

    def _note(self, collection: Collection, record_id: str, kind: int, ms: int, ns: int) -> None:
        """Enter a change that came with a file into the log, for the feed."""
        self._notes.append((self._take_seqs(1), collection.key, record_id, kind, schema.IMPORTED, ms, ns))

    def note_differences(self, collection: Collection, table: str) -> None:
        """Enter into the log what *table* says differently from the collection's row table."""
        old = collection.rows
        self.note_all(
            collection,
            f"CASE WHEN n.dead THEN {schema.DELETED} WHEN coalesce(o.dead, 1) THEN {schema.CREATED} "
            f"ELSE {schema.UPDATED} END",
            f"{table} n LEFT JOIN {old} o ON o.id = n.id "
            f"WHERE (o.id IS NULL OR o.line <> n.line) AND NOT (n.dead AND coalesce(o.dead, 1))",
        )
        self.note_all(
            collection,
            str(schema.REMOVED),
            f"{old} n WHERE n.dead = 0 AND NOT EXISTS (SELECT 1 FROM {table} m WHERE m.id = n.id)",
        )

    def note_all(self, collection: Collection, kind: str, source: str) -> None:
        """The same of all rows ``n`` that *source* has, by SQLite alone: they may be many."""
        first = self._take_seqs(0)
        noted = self._db.execute(
            f"INSERT INTO log (seq, collection, id, kind, origin, ms, ns) "
            f"SELECT ? + row_number() OVER (ORDER BY n.pk), ?, n.id, {kind}, {schema.IMPORTED}, n.ms, n.ns "
            f"FROM {source}",
            (first - 1, collection.key),
        )
        self._take_seqs(noted.rowcount)


def _beyond_doubt(found: dict[str, State], pending: dict[str, list[Pending]], settled: set[int]) -> set[int]:
    """Those of *settled* that are the file's version of their record, or older than it.

    Only at the greatest stamp, where it stays, can an identical line be an older one that another has replaced.
    """
    kept: set[int] = set()
    for record_id, entries in pending.items() if settled else ():
        best = found.get(record_id)
        kept |= {
            entry.seq
            for entry in entries
            if entry.seq in settled
            and best is not None
            and (best.instant > entry.instant or best.line.raw == entry.raw)
        }
    return kept
