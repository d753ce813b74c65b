"""Import: bring the index to what a journal file says, and the outbox on top of it.

The state of a record is fold(lines of the file, then pending lines): a pending line folds as if it stood at the end.
Four ways lead there: read the tail, compare the whole file with the index, load a file into an empty table, or load it
into a new table that takes the old one's place. All run inside the caller's transaction, under store.lock.
"""

from __future__ import annotations

import os
import time
import zlib
from typing import TYPE_CHECKING, cast

import msgspec

from taskstore_async.core.codec import BadLine, Line, LineReader
from taskstore_async.core.fold import effective, wins
from taskstore_async.storage import catalogue, files, log, schema
from taskstore_async.storage.familiar import FamiliarLines
from taskstore_async.storage.journal import (
    UNKNOWN,
    FsyncError,
    How,
    NoJournalError,
    chunks,
    classify,
    open_to_read,
    record_of,
)
from taskstore_async.storage.reports import CollectionSync, Problem
from taskstore_async.storage.unseen import first_unseen, noted

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.git import Git
    from taskstore_async.storage.journal import FileRecord
    from taskstore_async.storage.log import Pending
    from taskstore_async.storage.unseen import Unseen

__all__ = ["JournalReader", "Reconciler"]

_BATCH = 2_000
_BEGIN = b'{"id":'
_LISTED = 1_000  #: problems listed per look; a file of another kind has as many bad lines as lines


class _State(msgspec.Struct):
    """A version of a record, and whether it is a pending one."""

    line: Line
    instant: int
    entry: Pending | None = None  #: the pending version it is, None for a line of the file


class _Row(msgspec.Struct, frozen=True):
    """A record's row."""

    instant: int
    dead: bool
    pending: int
    raw: bytes
    pk: int


class _Counts(msgspec.Struct):
    """What an import changed; see `CollectionSync`."""

    taken: int = 0
    removed: int = 0
    outbid: int = 0
    settled: int = 0
    rows_rebuilt: int = 0


class JournalReader:
    """Reads an open journal from an offset, and keeps count of what was consumed.

    After `lines` has ended: ``offset`` is where whole, or readable, lines end; ``torn`` what stands behind it.
    """

    def __init__(
        self, descriptor: int, sources: tuple[str, ...], *, file: str, collection: str, record: FileRecord | None = None
    ) -> None:
        self._recorded_ns = time.time_ns()
        self.status = os.fstat(descriptor)
        self.offset = record.offset if record else 0
        self.good = self.bad = self.begun = self.read = 0
        self.torn = b""
        self.newline = record.newline if record else True  # of bytes that nothing was added to, too
        self.problems: list[Problem] = []
        self._names = (collection, file)
        self._descriptor = descriptor
        self._start = self.offset
        # A last line without a newline was counted, and its newline comes first now.
        number = record.lines + record.newline if record else 1
        self._reader = LineReader(sources, number=number, offset=self.offset)
        self._crc = record.crc if record else 0

    def lines(self, known: Callable[[bytes, int], bool] | None = None) -> Iterator[Line]:
        """The readable lines; the others become problems, and those that are *known* are only counted.

        Args:
            known: As for `LineReader.feed_unknown`.
        """
        for some in self.batches(known):
            yield from some

    def batches(self, known: Callable[[bytes, int], bool] | None = None) -> Iterator[list[Line]]:
        """The same, many at a time; one at a time where some are known."""
        held = bytearray()
        for chunk in chunks(self._descriptor, self._start, self.status.st_size):
            held += chunk
            self.read += len(chunk)
            if known is not None:
                for line in self._reader.feed_unknown(chunk, known):
                    yield self._readable([line])
                found: list[Line | BadLine] = []
            else:
                found = self._reader.feed(chunk)
            if self._reader.flawed:
                yield self._readable(found)
            else:
                self.good += len(found)
                yield cast("list[Line]", found)
            whole = self._reader.offset - self.offset
            if whole:
                with memoryview(held) as view:
                    self._crc = zlib.crc32(view[:whole], self._crc)
                del held[:whole]
                self.offset += whole
                self.newline = True
        for last in self._reader.finish():
            yield self._readable([last])
            if isinstance(last, Line):
                self._crc = zlib.crc32(held, self._crc)
                self.offset += len(held)
                held.clear()
                self.newline = False
        self.good += self._reader.passed
        self.torn = bytes(held)

    def record(self) -> FileRecord:
        """What is known of the file now."""
        return msgspec.structs.replace(
            record_of(self.status),
            recorded_ns=self._recorded_ns,
            offset=self.offset,
            crc=self._crc,
            newline=self.newline,
            lines=self._reader.number - self.newline,
            rescan=self._reader.markers,
        )

    def unread(self) -> FileRecord:
        """A record of the file that has the next look read all of it."""
        return msgspec.structs.replace(record_of(self.status), rescan=True)

    @property
    def unreadable(self) -> bool:
        """Whether nothing may be appended: there are bytes and not one valid line, or what is appended is not read.

        Lines that begin like ours are what first appends have left that were cut short.
        """
        return self.ends_in_base or (not self.good and self.bad > self.begun)

    @property
    def ends_in_base(self) -> bool:
        """Whether the file ends within the base part of a conflict, so that nothing behind it is read."""
        return self._reader.in_base

    def _readable(self, found: Iterable[Line | BadLine]) -> list[Line]:
        readable: list[Line] = []
        for line in found:
            if isinstance(line, Line):
                if line.problem is not None:
                    self._report(line, line.problem, served=True)
                readable.append(line)
            else:
                self.bad += 1
                self.begun += line.raw.startswith(_BEGIN)
                self._report(line, line.reason, served=False)
        self.good += len(readable)
        return readable

    def _report(self, line: Line | BadLine, reason: str, *, served: bool) -> None:
        if len(self.problems) < _LISTED:
            self.problems.append(Problem(*self._names, line.number, line.offset, reason, served))


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
        self._take_seqs = take_seqs
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
                found: dict[str, _State] = {}
                for record_id in pending:
                    if (row := self._row(fresh, record_id)) is not None:
                        found[record_id] = _State(fresh.decode(row.raw), row.instant)
                counts = self._apply(fresh, found, pending, settled=settled, rebuilding=True)
                if descriptor is not None and counts.settled:
                    _make_durable(descriptor, path)
        except NoJournalError as error:
            self._db.execute(f"DROP TABLE {table}")
            return collection, self._close(collection, UNKNOWN, _no_journal(collection, path, error))
        (counts.rows_rebuilt,) = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()
        self._note_differences(collection, table)
        fresh = catalogue.use_table(self._db, collection, table, collection.declaration)
        self._keep(fresh, reader.record() if reader else record_of(None))
        return fresh, _report(How.NEW, counts, reader)

    # -- the ways -------------------------------------------------------------------------------------------

    def _gone(self, collection: Collection, descriptor: int | None) -> CollectionSync:
        """An absent or empty file is an empty collection: exported rows leave, pending ones stay."""
        first = collection.record is None
        counts = self._apply(collection, {}, self._pending(collection), seen=self._none_seen(collection))
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
        counts: _Counts | None
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

    def _unseen(self, collection: Collection, tail: FileRecord, counts: _Counts) -> Unseen:
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
    ) -> _Counts:
        """Fold the new lines onto the rows."""
        waiting = {entry.seq for entries in pending.values() for entry in entries}
        found: dict[str, _State] = {}
        for line in reader.lines():
            _settle_identical(line, pending, settled)
            row = self._row(collection, line.id) if line.id not in found else None
            # A pending row is at least what the file said before, so its stamp stands for the lines above.
            base = row if row is not None and row.pending not in waiting else None
            self._offer(found, line, collection, base, above=row.instant if row else None)
        return self._apply(collection, found, pending, settled=settled)

    def _scan(
        self,
        collection: Collection,
        reader: JournalReader,
        pending: dict[str, list[Pending]],
        settled: set[int] | None,
    ) -> _Counts | None:
        """Compare the whole file with the rows; holds in memory only what differs. None: not one valid line."""
        seen = self._none_seen(collection)
        found: dict[str, _State] = {}
        familiar = FamiliarLines(self._db, collection)

        def known(raw: bytes, stamp_ms: int) -> bool:
            """Whether a line is what its row says, so that nothing but its being there is to be noted."""
            row = familiar.take(raw)
            if row is None:
                return False
            _, pk, record_id, ms, ns = row
            if ms != stamp_ms or ns or record_id in found or record_id in pending or not record_id.isprintable():
                return False
            seen[pk] = 1
            return True

        for line in reader.lines(known):
            _settle_identical(line, pending, settled)
            row = self._row(collection, line.id) if line.id not in found else None
            same = row is not None and row.raw == line.raw and row.instant == line.instant
            if row is not None and same and line.id not in pending:
                seen[row.pk] = 1
                continue
            base = row if row is not None and seen[row.pk] else None
            self._offer(found, line, collection, base, above=base.instant if base else None)
        familiar.close()
        if self._is_damaged(collection, reader, pending):
            return None
        return self._apply(collection, found, pending, settled=settled, seen=seen)

    def _is_damaged(self, collection: Collection, reader: JournalReader, pending: dict[str, list[Pending]]) -> bool:
        """Whether the file is damaged, rather than one that never got to have a first line."""
        if reader.unreadable or reader.good or not reader.bad:
            return reader.unreadable
        if not pending and reader.bad > bool(reader.torn):
            return True  # nobody's appends were cut short
        return any(record_id not in pending for (record_id,) in self._db.execute(f"SELECT id FROM {collection.rows}"))

    def _load(self, collection: Collection, reader: JournalReader) -> _Counts:
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
            self._db.execute(
                f"INSERT INTO log (seq, collection, id, kind, origin, ms, ns) "
                f"SELECT ? + row_number() OVER (ORDER BY pk), ?, id, {schema.CREATED}, {schema.IMPORTED}, ms, ns "
                f"FROM {table} WHERE dead = 0",
                (self._take_seqs(taken) - 1, collection.key),
            )
        return _Counts(taken=taken, rows_rebuilt=rows)

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
        names = ["id", "ms", "ns", "dead", "line", *collection.columns.values()]
        changes = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        insert = (
            f"INSERT INTO {collection.rows} ({', '.join(names)}, pending) VALUES ({', '.join('?' * len(names))}, 0) "
            f"ON CONFLICT (id) DO UPDATE SET {changes} WHERE (excluded.ms, excluded.ns) >= (ms, ns)"
        )
        nothing, cells_from = collection.nothing, collection.cells_from
        tombstones = False
        batch: list[tuple[object, ...]] = []
        for lines in reader.batches():
            for line in lines if pending else ():
                _settle_identical(line, pending, settled)
            for line in lines:
                instant = line.instant
                if instant is None:  # what stands above it must be in the table first
                    self._db.executemany(insert, batch)
                    batch.clear()
                    row = self._row(collection, line.id)
                    instant = effective(line, row.instant if row else None)
                if line.deleted:
                    tombstones = True  # and numbers below: a bool takes sqlite3 longer to bind
                    batch.append((line.id, *divmod(instant, 1_000_000), 1, line.raw, *nothing))
                else:
                    batch.append((line.id, *divmod(instant, 1_000_000), 0, line.raw, *cells_from(line.values)))
            if len(batch) >= _BATCH:
                self._db.executemany(insert, batch)
                batch.clear()
        self._db.executemany(insert, batch)
        schema.create_row_indexes(self._db, collection.rows, len(collection.columns))
        return tombstones

    def _none_seen(self, collection: Collection) -> bytearray:
        """A byte for the key of each row there is, to be set when the file is seen to have it."""
        (highest,) = self._db.execute(f"SELECT coalesce(max(pk), 0) FROM {collection.rows}").fetchone()
        return bytearray(highest + 1)

    def _pending(self, collection: Collection) -> dict[str, list[Pending]]:
        by_id: dict[str, list[Pending]] = {}
        for entry in log.pending(self._db, collection):
            by_id.setdefault(entry.id, []).append(entry)
        return by_id

    def _row(self, collection: Collection, record_id: str) -> _Row | None:
        found = self._db.execute(collection.select, (record_id,)).fetchone()
        if found is None:
            return None
        ms, ns, dead, pending, raw, pk = found
        return _Row(log.instant_of(ms, ns), bool(dead), pending, raw, pk)

    def _offer(
        self, found: dict[str, _State], line: Line, collection: Collection, base: _Row | None, *, above: int | None
    ) -> None:
        """Fold *line* into what the file says of its record so far; *base* is that, where the row holds it."""
        state = found.get(line.id)
        if state is not None:
            above = state.instant if above is None else max(above, state.instant)
        elif base is not None:
            state = found[line.id] = _State(collection.decode(base.raw), base.instant)
        instant = effective(line, above)
        if state is None or wins(instant, state.instant):
            found[line.id] = _State(line, instant)

    def _apply(
        self,
        collection: Collection,
        found: dict[str, _State],
        pending: dict[str, list[Pending]],
        *,
        settled: set[int] | None = None,
        seen: bytearray | None = None,
        rebuilding: bool = False,
    ) -> _Counts:
        """Write the states that differ from their rows. With *seen*, rows that the file does not have leave.

        After a tail, *found* alone may have changed: a pending version that lost before has lost still.
        """
        settled = _beyond_doubt(found, pending, settled or set())
        counts = _Counts(settled=len(settled))
        log.settle(self._db, settled)
        touched = dict.fromkeys(found if seen is None and not rebuilding else [*found, *pending])
        for record_id in touched:
            waiting = [entry for entry in pending.get(record_id, ()) if entry.seq not in settled]
            best = found.get(record_id)
            row = self._row(collection, record_id)
            for entry in waiting:
                if best is None or wins(entry.instant, best.instant):
                    best = _State(collection.decode(entry.raw), entry.instant, entry)
                else:
                    counts.outbid += 1
            if best is not None:
                counts.taken += self._store(collection, record_id, best, row, waiting, told=not rebuilding)
            elif row is not None:
                counts.removed += self._remove(collection, record_id, row)
        if seen is not None:
            at = seen.find(0, 1)
            while at > 0:
                named = self._db.execute(f"SELECT id FROM {collection.rows} WHERE pk = ?", (at,)).fetchone()
                if named is not None and named[0] not in touched and (row := self._row(collection, named[0])):
                    counts.removed += self._remove(collection, named[0], row)
                at = seen.find(0, at + 1)
        return counts

    def _store(
        self,
        collection: Collection,
        record_id: str,
        best: _State,
        row: _Row | None,
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
        values = (ms, ns, best.line.deleted, seq, best.line.raw, *collection.cells(best.line))
        if row is None:
            self._db.execute(collection.insert, (*values, record_id))
        else:
            self._db.execute(collection.update, (*values, row.pk))
        alive = row is not None and not row.dead
        if told and (alive or not best.line.deleted):
            kind = schema.DELETED if best.line.deleted else schema.UPDATED if alive else schema.CREATED
            self._note(collection, record_id, kind, ms, ns)
        return best.entry is None

    def _remove(self, collection: Collection, record_id: str, row: _Row) -> bool:
        self._db.execute(f"DELETE FROM {collection.rows} WHERE pk = ?", (row.pk,))
        if row.dead:
            return False
        self._note(collection, record_id, schema.REMOVED, *divmod(row.instant, 1_000_000))
        return True

    def _note(self, collection: Collection, record_id: str, kind: int, ms: int, ns: int) -> None:
        """Enter a change that came with a file into the log, for the feed."""
        self._db.execute(
            "INSERT INTO log (seq, collection, id, kind, origin, ms, ns) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._take_seqs(1), collection.key, record_id, kind, schema.IMPORTED, ms, ns),
        )

    def _note_differences(self, collection: Collection, table: str) -> None:
        """Enter into the log what *table* says differently from the collection's row table."""
        old = collection.rows
        changed = self._db.execute(
            f"SELECT n.id, n.ms, n.ns, n.dead, coalesce(o.dead, 1) FROM {table} n LEFT JOIN {old} o ON o.id = n.id "
            f"WHERE (o.id IS NULL OR o.line <> n.line) AND NOT (n.dead AND coalesce(o.dead, 1))"
        ).fetchall()
        for record_id, ms, ns, dead, was_dead in changed:
            kind = schema.DELETED if dead else schema.CREATED if was_dead else schema.UPDATED
            self._note(collection, record_id, kind, ms, ns)
        gone = self._db.execute(
            f"SELECT id, ms, ns FROM {old} o WHERE dead = 0 AND NOT EXISTS (SELECT 1 FROM {table} n WHERE n.id = o.id)"
        ).fetchall()
        for record_id, ms, ns in gone:
            self._note(collection, record_id, schema.REMOVED, ms, ns)

    def _keep(self, collection: Collection, record: FileRecord) -> None:
        catalogue.keep_record(self._db, collection, record, synced_ms=self._now_ms())


def _report(how: How, counts: _Counts, reader: JournalReader | None = None) -> CollectionSync:
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


def _beyond_doubt(found: dict[str, _State], pending: dict[str, list[Pending]], settled: set[int]) -> set[int]:
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


def _settle_identical(line: Line, pending: dict[str, list[Pending]], settled: set[int] | None) -> None:
    """A line of the file identical to a pending one is that one, flushed by somebody whose mark was not written."""
    if settled is None:
        return
    for entry in pending.get(line.id, ()):
        if entry.raw == line.raw:
            settled.add(entry.seq)
