"""A model of one collection: its journal, its index with the outbox, and two handles that may die at every step.

It says what the log, flush and sync of a store promise, in the shortest code that does it: no SQL, no files, no clock.
Each rule has a switch, so that a test can take it away and show what breaks. A handle's call is a generator that yields
the name of the step it is about to do; between two steps anything may happen: a kill, a power cut, an edit by somebody
else, a step of the other handle.

What the model leaves out: refusing writes while the file is closed (they stay pending), batches, readers, kinds of
change, stamps that cannot be read, salvage of a damaged store.db, ``coalesce=False``, failing fsyncs, full disks, and
what a running manager does in the background (only explicit calls are here, and its timer).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar
from zlib import crc32

from tests.storage.simulator_disk import (
    STAMP_MAX,
    Inode,
    Stat,
    Version,
    fold,
    is_outplaced,
    line_of,
    lines_of,
    read_line,
    says_nothing,
    tail_of,
    versions_of,
)

if TYPE_CHECKING:
    from tests.storage.simulator_oracle import Durability
    from tests.storage.simulator_world import World

T = TypeVar("T")
Steps: TypeAlias = Generator[str, None, T]

SEQ_PER_MS = 1024
TRIES = 4  #: how often a flush looks again at a file that keeps moving
SECOND_LOOK_MS = 200


@dataclass(frozen=True)
class Rules:
    """One switch per sentence. All on is the store as designed; ``test_simulator.py`` says why each is there."""

    # a write
    stamp_above_row: bool = True
    seq_reread_when_other_wrote: bool = True
    first_seq_above_clock: bool = True
    index_commits_full: bool = True
    store_db_looked_at_before_begin: bool = True
    store_db_looked_at_before_answer: bool = True
    # an import
    gone_file_keeps_pending_rows: bool = True
    pending_folds_at_end: bool = True
    pending_line_copied_when_import_wins: bool = True
    identical_line_settles_pending: bool = True
    settled_entries_change_origin: bool = True
    fsync_before_settling: bool = True
    outplaced_tie_does_not_settle: bool = True
    # staleness
    fresh_only_20_ms_after_mtime: bool = True
    fresh_only_20_ms_after_ctime: bool = True
    ctime_compared: bool = True
    crc_of_prefix_checked: bool = True
    newline_less_prefix_that_grew_is_scanned: bool = True
    stat_taken_before_reading: bool = True
    closed_file_does_not_advance_record: bool = True
    # an append
    import_before_append: bool = True
    open_path_afresh: bool = True
    repair_newline_before_append: bool = True
    complete_torn_tail: bool = True
    counted_only_while_path_names_inode: bool = True
    counted_only_if_lines_stand_alone: bool = True
    record_does_not_advance_if_offset_differs: bool = True
    record_of_append_dated_before_it: bool = True
    record_ends_where_our_bytes_end: bool = True
    scanned_after_append_that_record_does_not_cover: bool = True
    index_durable_before_top_stamp: bool = True
    fsync_before_answer: bool = True
    directory_fsynced: bool = True
    directory_fsynced_by_every_handle: bool = True
    second_look_while_git_works: bool = True
    # the mark
    mark_only_if_record_unchanged: bool = True
    mark_written_before_unlock_when_other_wrote: bool = True
    mark_written_when_idle: bool = True
    mark_left_in_lost_index: bool = True
    # compaction
    compaction_carries_late_bytes: bool = True
    compaction_compares_before_rename: bool = True


@dataclass(frozen=True)
class Row:
    """The latest version of a record. *seq* names the log entry it is pending under; 0: it came from the journal."""

    version: Version
    line: bytes
    seq: int = 0


@dataclass(frozen=True)
class Entry:
    """One of our changes in the log. Its line stands in the record's row, until an import takes the row away."""

    version: Version
    origin: Literal["own", "settled"] = "own"
    line: bytes | None = None


@dataclass(frozen=True)
class FileRecord:
    """What of the journal is in the index: *offset* bytes, with this CRC, of a file that looked like *stat*."""

    stat: Stat | None = None
    offset: int = 0
    crc: int = 0
    ends_in_newline: bool = True
    recorded: int = 0
    rescan: bool = False
    data: bytes = b""  #: truth, for the judge: the bytes that were compared


@dataclass
class State:
    """What a transaction leaves behind."""

    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    log: dict[int, Entry] = field(default_factory=dict[int, Entry])
    flushed: int = 0
    record: FileRecord = FileRecord()
    revision: int = 0  #: of *record*

    def copy(self) -> State:
        return replace(self, rows=dict(self.rows), log=dict(self.log))

    def set_record(self, record: FileRecord) -> None:
        self.record = record
        self.revision += 1

    def outbox(self) -> dict[int, bytes]:
        """The lines that are not in the journal yet, by seq. A version replaced in its row before its flush is none."""
        lines: dict[int, bytes] = {}
        for seq, entry in sorted(self.log.items()):
            row = self.rows.get(entry.version.id)
            line = row.line if entry.line is None and row is not None and row.seq == seq else entry.line
            if entry.origin == "own" and seq > self.flushed and line is not None:
                lines[seq] = line
        return lines


@dataclass
class Index:
    """One store.db; a path may name another one by now."""

    number: int
    committed: State = field(default_factory=State)
    durable: State = field(default_factory=State)  #: what a power cut leaves for sure
    writes: int = 0  #: data_version
    settled: set[Version] = field(default_factory=set[Version])  #: what it was told the journal has


@dataclass(frozen=True)
class Mark:
    """What a flush achieved, kept in memory until this handle's next transaction."""

    flushed: int
    record: FileRecord
    revision: int  #: of the file record it was made from


class Handle:
    """A process with the store open. What stands in attributes dies with it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rules = world.rules
        self.index = Index(0)
        self.is_open = False
        self.next_seq = 0
        self.clock = 0
        self.mark: Mark | None = None
        self.seen_writes = 0
        self.other_wrote = False
        self.held: Inode | None = None  #: the descriptor it last appended by
        self.synced_name: Inode | None = None  #: the inode for which it fsynced the directory
        self.appending: bytes = b""  #: handed to write(), which a kill may cut short
        self.looked_at: bytes = b""  #: what the transaction's import found in the journal
        self.seen: bytes = b""  #: what it takes the journal for while it appends

    # -- transactions --------------------------------------------------------------------------------------

    def lock(self) -> Steps[None]:
        while self.world.lock_holder not in {None, self}:
            yield "wait"
        self.world.lock_holder = self
        self.other_wrote = self.is_open and self.index.writes != self.seen_writes

    def unlock(self) -> None:
        self.world.lock_holder = None

    def begin(self) -> State:
        """Begin a transaction; the mark that waits goes in first."""
        self.looked_at = b""
        state = self.index.committed.copy()
        if self.index.writes != self.seen_writes and self.rules.seq_reread_when_other_wrote:
            self.next_seq = max(self.next_seq, max(state.log, default=0) + 1)
        mark = self.mark
        if mark is not None and (mark.revision == state.revision or not self.rules.mark_only_if_record_unchanged):
            state.flushed = max(state.flushed, mark.flushed)
            state.set_record(mark.record)
        return state

    def commit(self, state: State, *, full: bool = False) -> None:
        index = self.index
        index.committed = state
        if full:
            index.durable = state
        index.settled |= _settled_for_good(self.looked_at)
        self.looked_at = b""
        index.writes += 1
        self.seen_writes = index.writes
        self.mark = None

    # -- open and close ------------------------------------------------------------------------------------

    def open(self) -> Steps[None]:
        yield from self.lock()
        yield "open"
        yield from self._open_locked()
        self.unlock()

    def _open_locked(self) -> Steps[None]:
        world = self.world
        self.mark = None
        self.index = world.store_db or Index(world.next_index_number())
        self.seen_writes = -1
        state = self.begin()
        yield from self.check(state)
        self.commit(state)
        world.store_db = self.index  # a new one is built aside and renamed in
        clock = world.disk.now * SEQ_PER_MS if self.rules.first_seq_above_clock else 0
        self.next_seq = max(max(state.log, default=0) + 1, clock)
        self.is_open = True

    def rescue(self) -> Steps[None]:
        """When the path names another store.db, bring what only ours knows into the journal, or there; and reopen."""
        if self.world.store_db is self.index:
            return
        there = _settled_for_good(self.world.disk.read() or b"")
        yield from self.flush_locked()
        if self.mark is not None:
            if self.rules.mark_left_in_lost_index:  # another handle may have it open still
                yield "commit mark"
                self.commit(self.begin())
            there &= _settled_for_good(self.world.disk.read() or b"")
            self.index.settled |= there
            self.world.witness.rescued(there)
        left = self.index.committed.outbox()
        yield from self._open_locked()
        if left:
            yield "commit what was left"
            state = self.begin()
            known = set(state.outbox().values())
            for line in left.values():
                version = read_line(line)
                if line in known:
                    continue  # another handle has brought it along
                assert version is not None
                state.log[self.next_seq] = Entry(version, line=line)
                self.next_seq += 1
                self.index.settled.discard(version)
            yield from self.check(state, force=True)
            self.commit(state, full=True)

    # -- a write -------------------------------------------------------------------------------------------

    def write(self, record_id: str, value: int | None, durability: Durability) -> Steps[Version | None]:
        yield from self.lock()
        if self.rules.store_db_looked_at_before_begin:
            yield from self.rescue()
        state = self.begin()
        row = state.rows.get(record_id)
        if value is None and (row is None or row.version.value is None):
            self.world.refusals += 1  # nothing to delete
            self.unlock()
            return None
        world = self.world
        self.clock = max(self.clock, world.disk.now - world.clock_set_back_ms)
        above = row.version.stamp + 1 if row is not None and self.rules.stamp_above_row else 0
        version = Version(record_id, min(STAMP_MAX, max(self.clock, above)), value)
        seq = self.next_seq
        state.rows[record_id] = Row(version, line_of(version), seq)
        state.log[seq] = Entry(version)
        yield "commit"
        self.next_seq = seq + 1
        self.commit(state, full=durability == "index" and self.rules.index_commits_full)
        world.committed(self.index, seq, version)
        yield "committed"
        done = durability != "journal" or (yield from self.flush_locked(durable=True))
        if self.rules.store_db_looked_at_before_answer:
            yield from self.rescue()
        if done:
            world.witness.acknowledged(version, durability, world.disk.read() or b"")
        self.unlock()
        return version if done else None

    # -- import --------------------------------------------------------------------------------------------

    def check(self, state: State, *, flushing: bool = False, force: bool = False) -> Steps[bool]:
        """Bring *state* up to what the journal holds. True when the file had moved, or *force* says so."""
        disk, rules = self.world.disk, self.rules
        recorded, inode, record = disk.now, disk.entry, state.record
        yield "stat"
        stat = inode.stat() if inode is not None else None
        if not force and self._fresh(record, stat, flushing=flushing):
            return False
        yield "read"
        data = inode.data if inode is not None else b""
        yield "import"
        if not rules.stat_taken_before_reading:
            recorded, stat = disk.now, inode.stat() if inode is not None else None
        closed = self.closed(state, data)
        if closed and rules.closed_file_does_not_advance_record:
            state.set_record(replace(record, rescan=True))
            return True  # rows stay; the next look scans
        settled = not closed and self._import(state, data, scan=force)
        if settled and inode is not None and rules.fsync_before_settling:
            yield "fsync before settling"
            inode.synced = inode.data
            disk.synced_entry = disk.entry
        state.set_record(FileRecord(stat, len(data), crc32(data), not tail_of(data), recorded, data=data))
        self.looked_at = data
        return True

    def _fresh(self, record: FileRecord, stat: Stat | None, *, flushing: bool) -> bool:
        if stat is None or record.stat is None:
            return stat is record.stat and not record.rescan
        known = record.stat if self.rules.ctime_compared else record.stat._replace(ctime=stat.ctime)
        changed = max(known.mtime, record.stat.ctime if self.rules.fresh_only_20_ms_after_ctime else 0)
        old_enough = record.recorded >= changed + 20 or not self.rules.fresh_only_20_ms_after_mtime
        return stat == known and (flushing or old_enough)

    def closed(self, state: State, data: bytes) -> bool:
        """Bytes but not one valid line: closed to writing, unless it is only the beginning of a line of ours."""
        torn = b"\n" not in data and any(line.startswith(data) for line in state.outbox().values())
        return says_nothing(data) and not torn

    def _import(self, state: State, data: bytes, *, scan: bool) -> bool:
        """Read on from the offset, or *scan*. True when a pending line was found in the journal."""
        record, rules = state.record, self.rules
        tail = data[record.offset :]
        same = len(data) >= record.offset and (
            crc32(data[: record.offset]) == record.crc or not rules.crc_of_prefix_checked
        )
        same = same and not record.rescan and not scan
        ended = record.ends_in_newline or tail[:1] in {b"", b"\n"} or not rules.newline_less_prefix_that_grew_is_scanned
        if same and ended and data:
            known = {
                key: row for key, row in state.rows.items() if row.seq <= state.flushed or not self._is_own(state, row)
            }
            return self._merge_in(state, known, lines_of(tail))
        return self._merge_in(state, {}, lines_of(data))

    def _is_own(self, state: State, row: Row) -> bool:
        entry = state.log.get(row.seq)
        return entry is not None and entry.origin == "own"

    def _merge_in(self, state: State, known: dict[str, Row], lines: list[bytes]) -> bool:
        """Let the rows be the fold of *known*, then *lines*, then the outbox."""
        rules = self.rules
        rows = {key: replace(row, seq=0) for key, row in known.items()}
        for line in lines:
            version = read_line(line)
            if version is not None and (version.id not in rows or version.stamp >= rows[version.id].version.stamp):
                rows[version.id] = Row(version, line)
        found, waiting = self._split_outbox(state, rows, lines)
        for seq, line in waiting.items():
            version = state.log[seq].version
            row = rows.get(version.id)
            least = version.stamp if rules.pending_folds_at_end else version.stamp - 1
            if row is None or row.version.stamp <= least:
                rows[version.id] = Row(version, line, seq)
        for seq, line in waiting.items():
            entry = state.log[seq]
            if rows[entry.version.id].seq != seq and rules.pending_line_copied_when_import_wins:
                state.log[seq] = replace(entry, line=line)
        for seq, line in found.items():
            settled = rules.settled_entries_change_origin
            state.log[seq] = (
                replace(state.log[seq], origin="settled") if settled else replace(state.log[seq], line=line)
            )
        if not lines and not known and not rules.gone_file_keeps_pending_rows:
            rows = {}
        state.rows = rows
        return bool(found)

    def _split_outbox(
        self, state: State, rows: dict[str, Row], lines: list[bytes]
    ) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """The pending lines that the journal has, and those it has not."""
        found: dict[int, bytes] = {}
        waiting: dict[int, bytes] = {}
        for seq, line in state.outbox().items():
            version = state.log[seq].version
            row = rows.get(version.id)
            # A tie that another line won: this one must stand at the end again.
            beaten = row is not None and row.line != line and row.version.stamp == version.stamp
            identical = line in lines and self.rules.identical_line_settles_pending
            settles = identical and not (beaten and self.rules.outplaced_tie_does_not_settle)
            (found if settles else waiting)[seq] = line
        return found, waiting

    # -- flush ---------------------------------------------------------------------------------------------

    def flush(self) -> Steps[bool]:
        """Bring the outbox into the journal, and what moved there into the index."""
        disturbances = self.world.editor.disturbances
        yield from self.lock()
        done = yield from self.flush_locked()
        if self.index is not self.world.store_db:
            yield from self.rescue()
            done = yield from self.flush_locked()
        if not done and disturbances == self.world.editor.disturbances and not self.world.file_is_closed():
            self.world.witness.complain("flush gave up, though nobody disturbed it")
        self.unlock()
        return done

    def sync(self) -> Steps[bool]:
        """As flush, but the file is looked at as if it were not known to be fresh within the tick."""
        yield from self.lock()
        state = self.begin()
        if (yield from self.check(state)):
            yield "commit import"
            self.commit(state)
        self.unlock()
        return (yield from self.flush())

    def idle(self) -> Steps[bool]:
        """What a manager's timer does: look at the file, and save a mark that nothing else has saved."""
        disturbances = self.world.editor.disturbances
        yield from self.lock()
        state = self.begin()
        moved = yield from self.check(state)
        if moved or (self.mark is not None and self.rules.mark_written_when_idle):
            yield "commit import"
            self.commit(state)
        if disturbances == self.world.editor.disturbances:
            self.index.settled |= _settled_for_good(self.world.disk.read() or b"")
        self.unlock()
        return True

    def flush_locked(self, *, durable: bool = False) -> Steps[bool]:
        """Append the outbox; True when all of it is in the journal. *durable*: callers at ``journal`` wait for it."""
        world = self.world
        for _ in range(TRIES):
            state = self.begin()
            if self.rules.import_before_append and (yield from self.check(state, flushing=True)):
                yield "commit import"
                self.commit(state)
                state = self.begin()
            self.seen = state.record.data if self.rules.import_before_append else world.disk.read() or b""
            outbox = state.outbox()
            if not outbox or self.closed(state, world.disk.read() or b""):
                return not outbox
            top = any(state.log[seq].version.stamp == STAMP_MAX for seq in outbox)
            if top and self.rules.index_durable_before_top_stamp:  # an older one that came back would win over it
                yield "commit durably"
                self.commit(state, full=True)
                state = self.begin()
            known_missing = world.git_content is not None and world.disk.entry is None
            if durable and known_missing and self.rules.second_look_while_git_works:
                yield "second look"
                world.wait(SECOND_LOOK_MS)
            elif (yield from self._append(state, outbox, durable=durable)):
                if self.other_wrote:
                    yield from self._save_mark(outbox)
                return True
        return False

    def _save_mark(self, outbox: dict[int, bytes]) -> Steps[None]:
        if self.rules.mark_written_before_unlock_when_other_wrote:
            yield "commit mark"
            self.commit(self.begin())
        self.index.settled |= set(versions_of(b"\n".join(outbox.values())))

    def _append(self, state: State, outbox: dict[int, bytes], *, durable: bool) -> Steps[bool]:
        """One append, and the mark it earns. False when a line may not be in the journal, whatever was written."""
        world, rules = self.world, self.rules
        inode = self.held if self.held is not None and not rules.open_path_afresh else world.disk.entry
        created = inode is None
        if inode is None:
            inode = world.create_journal(durable=durable)
        self.held = inode
        yield "open to append"
        torn, chunk = self._chunk(inode.data, outbox)
        recorded = world.disk.now
        self.appending = chunk
        yield "append"
        self.appending = b""
        began = world.append(self, inode, chunk)
        yield "fsync"
        if rules.fsync_before_answer:
            inode.synced = inode.data
        yield "fsync directory"
        new = self.synced_name is not inode if rules.directory_fsynced_by_every_handle else created
        if new and rules.directory_fsynced:
            world.disk.synced_entry = world.disk.entry
            self.synced_name = world.disk.entry
        yield "look at the path"
        named = world.disk.entry is inode
        alone = chunk.startswith(b"\n") or tail_of(inode.data[:began]) == torn
        if not rules.record_of_append_dated_before_it:
            recorded = world.disk.now
        counted = (named or not rules.counted_only_while_path_names_inode) and (
            alone or not rules.counted_only_if_lines_stand_alone
        )
        if counted:
            record = state.record
            if named and (began == record.offset or not rules.record_does_not_advance_if_offset_differs):
                record = self._advance(record, inode, chunk, end=began + len(chunk), recorded=recorded)
            else:
                record = replace(record, rescan=rules.scanned_after_append_that_record_does_not_cover)
            self.mark = Mark(max(outbox), record, self.index.committed.revision)
        return counted

    def _chunk(self, data: bytes, outbox: dict[int, bytes]) -> tuple[bytes, bytes]:
        """The unended last line, and what to append to it."""
        torn, lines = tail_of(data), list(outbox.values())
        chunk = b"".join(line + b"\n" for line in lines)
        if not torn:
            return torn, chunk
        rest = next((line for line in lines if line.startswith(torn) and line != torn), None)
        if rest is not None and self.rules.complete_torn_tail:
            lines.remove(rest)
            return torn, b"".join([rest[len(torn) :] + b"\n", *(line + b"\n" for line in lines)])
        return torn, b"\n" + chunk if self.rules.repair_newline_before_append else chunk

    def _advance(self, record: FileRecord, inode: Inode, chunk: bytes, *, end: int, recorded: int) -> FileRecord:
        stat = inode.stat()
        if self.rules.record_ends_where_our_bytes_end:
            stat = stat._replace(size=end)
        crc, data = crc32(chunk, record.crc), record.data + chunk
        return FileRecord(stat, end, crc, recorded=recorded, rescan=record.rescan, data=data)

    # -- compaction ----------------------------------------------------------------------------------------

    def compact(self) -> Steps[bool]:
        """Put the latest lines in the place of all of them."""
        world, rules = self.world, self.rules
        yield from self.lock()
        state = self.begin()
        if (yield from self.check(state)):
            self.commit(state)
        flushed = yield from self.flush_locked()
        old = world.disk.entry
        done = False
        if flushed and old is not None and self.begin().outbox() == {} and not world.file_is_closed():
            data = old.data
            latest = fold(versions_of(data)).values()
            kept = b"".join(line_of(version) + b"\n" for version in latest)
            yield "rename"
            # The model takes the last look and the rename for one step; on a real disk nothing can.
            late = old.data[len(data) :] if rules.compaction_carries_late_bytes else b""
            same = world.disk.entry is old and old.data.startswith(data) and not (tail_of(data) and late)
            done = same or not rules.compaction_compares_before_rename
            if done:
                world.rename_over(kept + late)
        self.unlock()
        return done


def _settled_for_good(data: bytes) -> set[Version]:
    """Truth, for the judge: what the journal has, and what may not come back by our hand once others removed it."""
    lines = lines_of(data)
    untouched = {(version, line_of(version)) for version in versions_of(data)}
    return {version for version, line in untouched if line in lines and not is_outplaced(version, line, lines)}
