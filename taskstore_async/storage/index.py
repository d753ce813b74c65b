"""One handle's writing connection to ``store.db``: its transactions, and the marks that wait for one."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.storage import catalogue, failpoints, log, schema
from taskstore_async.storage.shared_memory import Connection, file_of
from taskstore_async.storage.unseen import Unseen, first_unseen, noted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.journal import FileRecord

__all__ = ["CommitError", "Index", "Mark", "is_read_only", "open_index"]

_WAL_LIMIT_BYTES = 8 << 20  #: a write-ahead log above it is written back
_LOOK_EVERY = 32  #: transactions between two looks at its size, until one tells how fast it grows
_LOOK_MOST = 1_024
_LOOK_LEAST = 8
_WAL_FRAMES = 3_000  #: what is to be in the log when it is written back: a page that changed often is written once
_LOW_EVERY = 1_000  #: entries that the newest mark of all may be behind


class CommitError(Exception):
    """COMMIT failed, so nobody knows whether the transaction is there."""


class Mark(msgspec.Struct, frozen=True):
    """A flush that the index does not know of yet.

    Attributes:
        flushed: The newest seq that the journal has.
        record: What the append made of the file; None when only a look at the file can tell.
        revision: Of the file record that the append began from: with another one, an import came between.
        unseen: The appends of late, this one too; see `storage.unseen`.
    """

    flushed: int
    record: FileRecord | None
    revision: int
    unseen: Unseen


class Index:
    """A connection that writes. Every call, opening and closing too, is made under store.lock.

    Args:
        db: The connection.
        path: Its file; None when it lives in memory.
        now_ms: The clock.
    """

    def __init__(self, db: Connection, path: Path | None, *, now_ms: Callable[[], int]) -> None:
        self.db = db
        self.path = path
        self.now_ms = now_ms
        self.marks: dict[str, Mark] = {}
        self.collections: dict[str, Collection] = {}
        self.shared = False  #: another connection has written since our last transaction
        self.next_seq = 0
        (self.index_id,) = db.execute("SELECT value FROM meta WHERE name = 'index_id'").fetchone()
        self.memory = db.memory
        if self.memory is not None:
            self.memory.look()
        self._file = None if path is None else file_of(path)
        self._full: bool | None = None
        self._durable = False  #: every commit is on the disk, those of other connections too
        self._version: int | None = None  #: SQLite's data_version at our last transaction
        self._waiting: dict[str, int] | None = None
        self._trimmed_at = 0
        self._transactions = 0  #: since the write-ahead log was written back
        self._look_after = _LOOK_EVERY
        self._low = 0
        self._appended: set[str] = set()  #: collections to whose files in a git repository this handle has appended

    def close(self) -> None:
        """Close the connection."""
        self.db.close()

    @property
    def is_current(self) -> bool:
        """Whether the path still names the file that this connection has open, and others see what it writes."""
        return self.is_named and (self.memory is None or self.memory.is_whole)

    @property
    def is_named(self) -> bool:
        """Whether the path still names the file that this connection has open."""
        return self.path is None or file_of(self.path) == self._file

    @property
    def can_write(self) -> bool:
        """Whether SQLite could open its files for writing."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return not is_read_only(error)
        self.db.execute("ROLLBACK")
        return True

    @property
    def waiting(self) -> dict[str, int]:
        """How many own changes of each collection wait for a flush; those of other handles too."""
        if self._waiting is None:
            self._waiting = log.pending_count(self.db)
            for name, mark in self.marks.items():
                collection = self.collections.get(name)
                if name in self._waiting and collection is not None and collection.revision == mark.revision:
                    self._waiting[name] = log.count_above(self.db, collection, mark.flushed)
            self._waiting = {name: count for name, count in self._waiting.items() if count}
        return self._waiting

    def wrote(self, counts: Mapping[str, int]) -> None:
        """Note that a transaction has added so many changes to the outbox of each collection."""
        if self._waiting is not None:
            for name, count in counts.items():
                self._waiting[name] = self._waiting.get(name, 0) + count

    def flushed(self, collection: Collection, record: FileRecord | None, *, git_busy: bool | None) -> None:
        """Note that the journal has everything of *collection*, to be marked with the next transaction.

        Args:
            collection: What was flushed.
            record: What the append made of the file; None when only a look at it can tell.
            git_busy: Whether git holds its index; None outside of its working trees.
        """
        former = self.marks.get(collection.name)
        if former is not None and former.revision == collection.revision:
            flushed, unseen = former.flushed, former.unseen
        else:
            flushed = collection.flushed
            unseen = collection.record.unseen if collection.record is not None else ()
        if git_busy is not None:
            unseen = noted(unseen, flushed=flushed, now_ns=time.time_ns(), busy=git_busy)
            self._appended.add(collection.name)
        if record is not None and unseen:
            record = msgspec.structs.replace(record, unseen=unseen)
        self.marks[collection.name] = Mark(self.next_seq - 1, record, collection.revision, unseen)

    def forget_appends(self) -> None:
        """Let what this handle has appended count as seen by git: it ends, and what follows comes after it."""
        if not self._appended:
            return
        with self.transaction(full=False):
            for name in self._appended & self.collections.keys():
                collection = self.collections[name]
                if collection.record is not None and collection.record.unseen:
                    record = msgspec.structs.replace(collection.record, unseen=())
                    catalogue.keep_mark(self.db, collection, record, flushed=collection.flushed)
        self._appended.clear()

    def marked(self, known: Mapping[str, Collection]) -> dict[str, Collection]:
        """Those of *known* of whose files only a mark tells what they are by now, as that mark will have them."""
        return {
            name: msgspec.structs.replace(known[name], record=mark.record)
            for name, mark in self.marks.items()
            if mark.record is not None and name in known and known[name].revision == mark.revision
        }

    def recount(self) -> None:
        """Forget how many changes wait: what an import settled is not counted one by one."""
        self._waiting = None

    def take_seqs(self, count: int) -> int:
        """Reserve *count* seqs of the log; returns the first."""
        first = self.next_seq
        self.next_seq += count
        return first

    @contextmanager
    def transaction(self, *, full: bool) -> Generator[None]:
        """BEGIN IMMEDIATE … COMMIT; ROLLBACK when the block raises.

        What a former flush has to mark is written first.

        Args:
            full: Committed means safe from a power cut.

        Raises:
            CommitError: COMMIT failed.
            sqlite3.Error: BEGIN failed.
        """
        changes = self.db.total_changes
        self._begin(full=full)
        try:
            yield
        except BaseException:
            self._rollback()
            raise
        failpoints.reach("before commit")
        try:
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            raise CommitError(str(error)) from error
        failpoints.reach("after commit")
        if self.db.total_changes != changes:
            self._durable = full
        self.marks.clear()
        self._housekeeping()

    def _begin(self, *, full: bool) -> None:
        if full is not self._full:
            self.db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            self._full = full
        self.db.execute("BEGIN IMMEDIATE")
        if self.marks:
            try:
                self._write_marks()
            except BaseException:
                self._rollback()
                raise
        failpoints.reach("begun")

    def make_durable(self) -> None:
        """Have everything that was committed on the disk, also what nobody waited for. Outside a transaction.

        Raises:
            CommitError: COMMIT failed.
            sqlite3.Error: BEGIN failed.
        """
        if not self._durable and self.path is not None:
            with self.transaction(full=True):  # an empty one would wait for nothing
                self.db.execute(
                    "INSERT INTO meta VALUES ('durable', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
                )

    def catch_up(self) -> None:
        """Read what other connections have changed. Called first whenever store.lock was taken."""
        (version,) = self.db.execute("PRAGMA data_version").fetchone()
        self.shared = version != self._version
        if self.shared:
            self._durable = False
            self.reload()
            self._version = version

    def reload(self) -> None:
        """Read anew what is kept in memory of the index."""
        self.collections = catalogue.load(self.db, self.collections)
        self._waiting = None
        self.next_seq = max(log.seq_beyond(self.db), self.next_seq or self.now_ms() * log.SEQ_PER_MS)

    def _write_marks(self) -> None:
        for name, mark in self.marks.items():
            collection = self.collections.get(name)
            if collection is None or collection.revision != mark.revision:
                self._waiting = None
                continue  # somebody has looked at the file since: that settled what we wrote
            record = mark.record
            if record is None and collection.record is not None:
                # Our lines stand behind what is known of the file. Should they go again, only a scan would notice.
                record = msgspec.structs.replace(collection.record, rescan=True, unseen=mark.unseen)
            if record is not None:
                catalogue.keep_mark(self.db, collection, record, flushed=mark.flushed)
        if self.next_seq - self._low > _LOW_EVERY:
            self._low = self.next_seq
            log.raise_low(self.db, min([self.next_seq - 1, *self._unseen_marks()]))

    def _unseen_marks(self) -> Iterator[int]:
        now_ns = time.time_ns()
        for collection in self.collections.values():
            if collection.record is not None and collection.record.unseen:
                flushed = first_unseen(collection.record.unseen, replaced_ns=now_ns, while_busy=False)
                if flushed is not None:
                    yield flushed

    def _rollback(self) -> None:
        with suppress(sqlite3.Error):
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
        self.collections = {}  # what is kept in memory may tell of rows that are not there
        try:
            self.reload()
        except sqlite3.Error:
            self._version = None  # the next session does it

    def _housekeeping(self) -> None:
        if self.next_seq - self._trimmed_at > log.TRIM_EVERY:
            self._trimmed_at = self.next_seq
            self._trim()
        self._transactions += 1
        if self._transactions < self._look_after:
            return
        if frames := self.checkpoint():
            most = self._transactions * _WAL_FRAMES // frames
            self._look_after = min(max(most, _LOOK_LEAST), _LOOK_MOST)
            self._transactions = 0
        else:
            self._look_after += _LOOK_EVERY

    def _trim(self) -> None:
        with suppress(sqlite3.Error):  # it is tried again
            self.db.execute("BEGIN IMMEDIATE")
            log.trim(self.db, self.collections.values())
            self.db.execute("COMMIT")
        if self.db.in_transaction:
            self._rollback()

    def checkpoint(self, *, above: int = _WAL_LIMIT_BYTES) -> int:
        """Write the write-ahead log back when its file is larger than *above* bytes; never waits for readers.

        Returns:
            How many pages were in it; 0 when it was left alone.
        """
        if self.path is None:
            return 0
        with suppress(OSError, sqlite3.Error):
            # A stat, never an open: closing a plain descriptor of it would drop SQLite's locks.
            if os.stat(f"{self.path}-wal").st_size > above:  # noqa: PTH116 - reason: no Path is made 100 times a second
                failpoints.reach("before checkpoint")
                ((_, frames, _),) = self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                failpoints.reach("after checkpoint")
                return max(0, int(frames))
        return 0


def is_read_only(error: sqlite3.Error) -> bool:
    """Whether *error* says that this connection cannot write."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_READONLY


def open_index(path: Path, *, now_ms: Callable[[], int], busy_s: float = math.inf) -> Index:
    """Open the index at *path* for writing, as it is; *busy_s* is as for `schema.connect`.

    Raises:
        sqlite3.DatabaseError: It is none of ours, damaged, or of another schema.
    """
    db = schema.connect(path, writable=True, busy_s=busy_s)
    try:
        schema.require_ours(db)
        return Index(db, path, now_ms=now_ms)
    except BaseException:
        db.close()
        raise
