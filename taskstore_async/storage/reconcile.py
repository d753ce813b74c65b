"""Import: bring the index to what a journal file says, and the outbox on top of it.

The state of a record is fold(lines of the file, then pending lines): a pending line folds as if it stood at the end.
Four ways lead there: read the tail, compare the whole file with the index, load a file into an empty table, or load it
into a new table that takes the old one's place. All run inside the caller's transaction, under store.lock.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.fold import effective, wins
from taskstore_async.core.line_reader import Columns
from taskstore_async.storage import catalogue, files, log, schema
from taskstore_async.storage.familiar import FamiliarLines
from taskstore_async.storage.journal import (
    UNKNOWN,
    FsyncError,
    How,
    NoJournalError,
    classify,
    open_to_read,
    record_of,
)
from taskstore_async.storage.journal_reader import JournalReader
from taskstore_async.storage.reports import CollectionSync, Problem
from taskstore_async.storage.state_writer import Counts, State, StateWriter
from taskstore_async.storage.unseen import first_unseen, noted

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from taskstore_async.core.line import Line
    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.git import Git
    from taskstore_async.storage.journal import FileRecord
    from taskstore_async.storage.log import Pending
    from taskstore_async.storage.state_writer import Row
    from taskstore_async.storage.unseen import Unseen

__all__ = ["Reconciler"]


class Reconciler:
    """Imports files into one index. Every call runs inside a write transaction of *db*.

    Args:
        db: The index.
        git: The repository around the files.
        take_seqs: Reserves so many seqs of the log and returns the first.
        now_ms: The clock.
        building: The index is new, so that nobody waits for its changes.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        git: Git,
        *,
        take_seqs: Callable[[int], int],
        now_ms: Callable[[], int],
        building: bool,
    ) -> None:
        self._db = db
        self._git = git
        self._writer = StateWriter(db, take_seqs=take_seqs)
        self._now_ms = now_ms
        self._building = building

    def look(
        self,
        collection: Collection,
        path: Path,
        *,
        flushing: bool = False,
        settle: bool = True,
        force: bool = False,
    ) -> CollectionSync:
        """Import what moved in the file at *path*.

        Args:
            collection: Its catalogue entry, as it stands in this transaction.
            path: The journal file.
            flushing: An append follows: five equal stat values are enough (see `looks_fresh`).
            settle: A line identical to a pending one settles it. Not after a failed fsync, when what can be read
                is perhaps not on the disk.
            force: Read and compare the whole file whatever its record says.
        """
        try:
            with open_to_read(path) as descriptor:
                how = How.SCAN if force else classify(descriptor, collection.record, flushing=flushing)
                if how is How.FRESH:
                    return CollectionSync(how=How.FRESH)
                if descriptor is None or os.fstat(descriptor).st_size == 0:
                    return self._gone(collection, descriptor)
                return self._read(collection, descriptor, path, how, settle=settle)
        except NoJournalError as error:
            return self._close(collection, UNKNOWN, _no_journal(collection, path, error))

    def rebuild(self, collection: Collection, path: Path) -> tuple[Collection, CollectionSync]:
        """Load the file at *path* into a new row table, put the outbox on top, and let it take the old one's place.

        Returns:
            The catalogue entry from now on, and what was found.
        """
        pending = self._pending(collection)
        table = schema.new_table_name(self._db)
        schema.create_rows(self._db, table, len(collection.columns))
        fresh = msgspec.structs.replace(collection, rows=table)
        settled: set[int] = set()
        reader: JournalReader | None = None
        try:
            with open_to_read(path) as descriptor:
                if descriptor is not None:
                    sources = fresh.declaration.sources
                    reader = JournalReader(descriptor, sources, file=path.name, collection=fresh.name)
                    self._fill(fresh, reader, pending, settled)
                    if reader.unreadable:
                        self._db.execute(f"DROP TABLE {table}")
                        return collection, self._close(collection, reader.unread(), *reader.problems)
                found: dict[str, State] = {}
                for record_id in pending:
                    if (row := self._writer.row(fresh, record_id)) is not None:
                        found[record_id] = State(fresh.decode(row.raw), row.instant)
                counts = self._writer.apply(fresh, found, pending, settled=settled, rebuilding=True)
                if descriptor is not None and counts.settled:
                    _make_durable(descriptor, path)
        except NoJournalError as error:
            self._db.execute(f"DROP TABLE {table}")
            return collection, self._close(collection, UNKNOWN, _no_journal(collection, path, error))
        (counts.rows_rebuilt,) = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()
        self._writer.note_differences(collection, table)
        fresh = catalogue.use_table(self._db, collection, table, collection.declaration)
        self._keep(fresh, reader.record() if reader else record_of(None))
        return fresh, _report(How.NEW, counts, reader)

    # -- the ways -------------------------------------------------------------------------------------------

    def _gone(self, collection: Collection, descriptor: int | None) -> CollectionSync:
        """An absent or empty file is an empty collection: exported rows leave, pending ones stay."""
        first = collection.record is None
        counts = self._writer.apply(collection, {}, self._pending(collection), seen=self._none_seen(collection))
        self._keep(collection, record_of(None if descriptor is None else os.fstat(descriptor)))
        return _report(How.NEW if first and not counts.removed else How.GONE, counts)

    def _read(self, collection: Collection, descriptor: int, path: Path, how: How, *, settle: bool) -> CollectionSync:
        tail = collection.record if how is How.TAIL else None
        sources = collection.declaration.sources
        reader = JournalReader(descriptor, sources, file=path.name, collection=collection.name, record=tail)
        if tail is None:
            self._let_unseen_wait(collection, os.fstat(descriptor))
        pending = self._pending(collection)
        settled: set[int] | None = set() if settle else None
        counts: Counts | None
        if tail is not None:
            counts = self._tail(collection, reader, pending, settled)
        elif pending or self._db.execute(f"SELECT 1 FROM {collection.rows} LIMIT 1").fetchone():
            counts = self._scan(collection, reader, pending, settled)
        else:
            counts = self._load(collection, reader)
        if counts is not None and counts.settled:
            _make_durable(descriptor, path)
        if counts is None or reader.ends_in_base or (tail is None and self._is_damaged(collection, reader, pending)):
            return self._close(collection, reader.unread(), *reader.problems)
        record = reader.record()
        if tail is not None:
            record = msgspec.structs.replace(record, unseen=self._unseen(collection, tail, counts))
        self._keep(collection, record)
        return _report(How.FRESH if tail is not None and not reader.read else how, counts, reader)

    def _unseen(self, collection: Collection, tail: FileRecord, counts: Counts) -> Unseen:
        busy = self._git.busy
        if not counts.settled or busy is None:
            return tail.unseen
        # Another handle has appended them, or one that was killed: a moment ago, for all we know.
        return noted(tail.unseen, flushed=collection.flushed, now_ns=time.time_ns(), busy=busy)

    def _let_unseen_wait(self, collection: Collection, status: os.stat_result) -> None:
        """Put what was appended just before git replaced the file back into the outbox; see `storage.unseen`."""
        record = collection.record
        if record is None or not record.unseen:
            return
        if not self._git.wrote(status):
            return
        while_busy = self._git.held_its_index(status)
        flushed = first_unseen(record.unseen, replaced_ns=status.st_mtime_ns, while_busy=while_busy)
        if flushed is not None:
            log.unsettle(self._db, collection, above=flushed)
            catalogue.keep_mark(self._db, collection, record, flushed=min(flushed, collection.flushed))

    def _close(self, collection: Collection, record: FileRecord, *problems: Problem) -> CollectionSync:
        """Keep the rows as they are, and let nobody write: the file is damaged, not deleted."""
        catalogue.keep_record(self._db, collection, record, closed=True, synced_ms=self._now_ms())
        return CollectionSync(how=How.CLOSED, lines_read=len(problems), problems=problems)

    def _tail(
        self,
        collection: Collection,
        reader: JournalReader,
        pending: dict[str, list[Pending]],
        settled: set[int] | None,
    ) -> Counts:
        """Fold the new lines onto the rows."""
        waiting = {entry.seq for entries in pending.values() for entry in entries}
        found: dict[str, State] = {}
        for line in reader.lines():
            _settle_identical(line.id, line.raw, pending, settled)
            row = self._writer.row(collection, line.id) if line.id not in found else None
            # A pending row is at least what the file said before, so its stamp stands for the lines above.
            base = row if row is not None and row.pending not in waiting else None
            self._offer(found, line, collection, base, above=row.instant if row else None)
        return self._writer.apply(collection, found, pending, settled=settled)

    def _scan(
        self,
        collection: Collection,
        reader: JournalReader,
        pending: dict[str, list[Pending]],
        settled: set[int] | None,
    ) -> Counts | None:
        """Compare the whole file with the rows; holds in memory only what differs. None: not one valid line."""
        seen = self._none_seen(collection)
        found: dict[str, State] = {}
        rows: dict[str, Row | None] = {}
        familiar = FamiliarLines(self._db, collection, seen)
        for record_id in pending:
            if (row := self._writer.row(collection, record_id)) is not None:
                familiar.apart.add(row.pk)
        for line in reader.lines(familiar.known):
            _settle_identical(line.id, line.raw, pending, settled)
            row = self._writer.row(collection, line.id) if line.id not in found else None
            if row is not None:
                if row.raw == line.raw and row.instant == line.instant and line.id not in pending:
                    seen[row.pk] = 1
                    continue
                familiar.apart.add(row.pk)
            rows.setdefault(line.id, row)
            base = row if row is not None and seen[row.pk] else None
            self._offer(found, line, collection, base, above=base.instant if base else None)
        familiar.close()
        if self._is_damaged(collection, reader, pending):
            return None
        for key in familiar.apart:
            seen[key] = 1  # looked at one by one below, whether or not the file has them
        return self._writer.apply(collection, found, pending, settled=settled, seen=seen, rows=rows)

    def _is_damaged(self, collection: Collection, reader: JournalReader, pending: dict[str, list[Pending]]) -> bool:
        """Whether the file is damaged, rather than one that never got to have a first line."""
        if reader.unreadable or reader.good or not reader.bad:
            return reader.unreadable
        if not pending and reader.bad > bool(reader.torn):
            return True  # nobody's appends were cut short
        return any(record_id not in pending for (record_id,) in self._db.execute(f"SELECT id FROM {collection.rows}"))

    def _load(self, collection: Collection, reader: JournalReader) -> Counts:
        """Stream the file into the collection's empty table."""
        for column in collection.columns.values():
            self._db.execute(f"DROP INDEX IF EXISTS {collection.rows}{column}")
        tombstones = self._fill(collection, reader, {}, None)
        table = collection.rows
        (rows,) = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()
        taken = rows
        if tombstones:  # else nobody need look through the table
            (taken,) = self._db.execute(f"SELECT count(*) FROM {table} WHERE dead = 0").fetchone()
        if taken and not self._building and not reader.unreadable:
            self._writer.note_all(collection, str(schema.CREATED), f"{table} n WHERE n.dead = 0")
        return Counts(taken=taken, rows_rebuilt=rows)

    # -- the steps ------------------------------------------------------------------------------------------

    def _fill(
        self,
        collection: Collection,
        reader: JournalReader,
        pending: dict[str, list[Pending]],
        settled: set[int] | None,
    ) -> bool:
        """Fold every line of the file into a table without column indexes, then make these.

        Returns:
            Whether there was a tombstone.
        """
        names = ["id", "ms", "line", *collection.columns.values(), "ns", "dead"]
        changes = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        marks = ", ".join("?" * (len(names) - 2))
        insert, insert_whole = (
            f"INSERT INTO {collection.rows} ({', '.join(names)}, pending) VALUES ({marks}, {below}, 0) "
            f"ON CONFLICT (id) DO UPDATE SET {changes} WHERE (excluded.ms, excluded.ns) >= (ms, ns)"
            for below in ("?, ?", "0, 0")
        )
        nothing, cells_from = collection.nothing, collection.cells_from
        tombstones = False
        for found in reader.batches():
            if isinstance(found, Columns):
                for record_id, raw in zip(found.ids, found.raws, strict=True) if pending else ():
                    _settle_identical(record_id, raw, pending, settled)
                columns = (found.ids, found.stamps_ms, found.raws, *collection.cell_columns(found.values))
                self._db.executemany(insert_whole, zip(*columns, strict=True))
                continue
            batch: list[tuple[object, ...]] = []
            for line in found:
                if pending:
                    _settle_identical(line.id, line.raw, pending, settled)
                instant = line.instant
                if instant is None:  # what stands above it must be in the table first
                    self._db.executemany(insert, batch)
                    batch.clear()
                    row = self._writer.row(collection, line.id)
                    instant = effective(line, row.instant if row else None)
                tombstones = tombstones or line.deleted
                ms, ns = divmod(instant, 1_000_000)
                cells = nothing if line.deleted else cells_from(line.values)
                batch.append((line.id, ms, line.raw, *cells, ns, int(line.deleted)))  # a bool takes longer to bind
            self._db.executemany(insert, batch)
        schema.create_row_indexes(self._db, collection.rows, len(collection.columns))
        return tombstones

    def _none_seen(self, collection: Collection) -> bytearray:
        """A byte for the key of each row there is, to be set when the file is seen to have it."""
        return bytearray(schema.highest_key(self._db, collection.rows) + 1)

    def _pending(self, collection: Collection) -> dict[str, list[Pending]]:
        by_id: dict[str, list[Pending]] = {}
        for entry in log.pending(self._db, collection):
            by_id.setdefault(entry.id, []).append(entry)
        return by_id

    def _offer(
        self, found: dict[str, State], line: Line, collection: Collection, base: Row | None, *, above: int | None
    ) -> None:
        """Fold *line* into what the file says of its record so far; *base* is that, where the row holds it."""
        state = found.get(line.id)
        if state is not None:
            above = state.instant if above is None else max(above, state.instant)
        elif base is not None:
            state = found[line.id] = State(collection.decode(base.raw), base.instant)
        instant = effective(line, above)
        if state is None or wins(instant, state.instant):
            found[line.id] = State(line, instant)

    def _keep(self, collection: Collection, record: FileRecord) -> None:
        catalogue.keep_record(self._db, collection, record, synced_ms=self._now_ms())


def _report(how: How, counts: Counts, reader: JournalReader | None = None) -> CollectionSync:
    return CollectionSync(
        how=how,
        lines_read=reader.good + reader.bad if reader else 0,
        bytes_read=reader.read if reader else 0,
        taken=counts.taken,
        removed=counts.removed,
        settled=counts.settled,
        outbid=counts.outbid,
        rows_rebuilt=counts.rows_rebuilt,
        problems=tuple(reader.problems) if reader else (),
    )


def _make_durable(descriptor: int, path: Path) -> None:
    """Before the outbox lets go of lines: whoever wrote them may have been killed before they were on the disk.

    Raises:
        FsyncError: They may not be there.
    """
    try:
        files.fsync(descriptor)
        files.fsync_directory(path.parent)
    except OSError as error:
        raise FsyncError(error.errno, error.strerror, str(path)) from error


def _no_journal(collection: Collection, path: Path, error: OSError) -> Problem:
    return Problem(collection.name, path.name, 0, 0, f"it is no file that can be read ({error.strerror})")


def _settle_identical(record_id: str, raw: bytes, pending: dict[str, list[Pending]], settled: set[int] | None) -> None:
    """A line of the file identical to a pending one is that one, flushed by somebody whose mark was not written."""
    if settled is None:
        return
    for entry in pending.get(record_id, ()):
        if entry.raw == raw:
            settled.add(entry.seq)
