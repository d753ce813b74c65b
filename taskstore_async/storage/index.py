"""One handle's writing connection to ``store.db``: its transactions, and the marks that wait for one."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.storage import catalogue, log, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.journal import FileRecord

__all__ = ["CommitError", "Index", "Mark", "file_of", "open_index"]

_WAL_LIMIT_BYTES = 4 << 20  #: a write-ahead log above it is written back
_LOOK_EVERY = 32  #: transactions between two looks at its size


class CommitError(Exception):
    """COMMIT failed, so nobody knows whether the transaction is there."""


class Mark(msgspec.Struct, frozen=True):
    """A flush that the index does not know of yet.

    Attributes:
        flushed: The newest seq that the journal has.
        record: What the append made of the file; None when only a look at the file can tell.
        revision: Of the file record that the append began from: with another one, an import came between.
    """

    flushed: int
    record: FileRecord | None
    revision: int


class Index:
    """A connection that writes. Every call, opening and closing too, is made under store.lock.

    Args:
        db: The connection.
        path: Its file; None when it lives in memory.
        now_ms: The clock.
    """

    def __init__(self, db: sqlite3.Connection, path: Path | None, *, now_ms: Callable[[], int]) -> None:
        self.db = db
        self.path = path
        self.now_ms = now_ms
        self.marks: dict[str, Mark] = {}
        self.collections: dict[str, Collection] = {}
        self.shared = False  #: another connection has written since our last transaction
        self.next_seq = 0
        (self.index_id,) = db.execute("SELECT value FROM meta WHERE name = 'index_id'").fetchone()
        self._file = None if path is None else file_of(path)
        self._full: bool | None = None
        self._version: int | None = None  #: SQLite's data_version at our last transaction
        self._waiting: dict[str, int] | None = None
        self._trimmed_at = 0
        self._transactions = 0

    def close(self) -> None:
        """Close the connection."""
        self.db.close()

    @property
    def is_current(self) -> bool:
        """Whether the path still names the file that this connection has open."""
        return self.path is None or file_of(self.path) == self._file

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

    def flushed(self, collection: Collection, record: FileRecord | None) -> None:
        """Note that the journal has everything of *collection*, to be marked with the next transaction."""
        self.marks[collection.name] = Mark(self.next_seq - 1, record, collection.revision)

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
        self._begin(full=full)
        try:
            yield
        except BaseException:
            self._rollback()
            raise
        try:
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            raise CommitError(str(error)) from error
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

    def catch_up(self) -> None:
        """Read what other connections have changed. Called first whenever store.lock was taken."""
        (version,) = self.db.execute("PRAGMA data_version").fetchone()
        self.shared = version != self._version
        if self.shared:
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
                record = msgspec.structs.replace(collection.record, rescan=True)
            if record is not None:
                catalogue.keep_mark(self.db, collection, record, flushed=mark.flushed)
        log.raise_low(self.db, self.next_seq - 1)

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
        if self._transactions % _LOOK_EVERY == 0:
            self.checkpoint()

    def _trim(self) -> None:
        with suppress(sqlite3.Error):  # it is tried again
            self.db.execute("BEGIN IMMEDIATE")
            log.trim(self.db, self.collections.values())
            self.db.execute("COMMIT")
        if self.db.in_transaction:
            self._rollback()

    def checkpoint(self, *, above: int = _WAL_LIMIT_BYTES) -> None:
        """Write the write-ahead log back when it is larger than *above* bytes; never waits for readers."""
        if self.path is None:
            return
        with suppress(OSError, sqlite3.Error):
            # A stat, never an open: closing a plain descriptor of it would drop SQLite's locks.
            if os.stat(f"{self.path}-wal").st_size > above:  # noqa: PTH116 - reason: no Path is made 100 times a second
                self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def file_of(path: Path) -> tuple[int, int] | None:
    """The device and inode that *path* names; None when it names nothing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - reason: asked before every answer
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def open_index(path: Path, *, now_ms: Callable[[], int]) -> Index:
    """Open the index at *path* for writing, as it is.

    Raises:
        sqlite3.DatabaseError: It is none of ours, damaged, or of another schema.
    """
    db = schema.connect(path, writable=True)
    try:
        schema.require_ours(db)
        return Index(db, path, now_ms=now_ms)
    except BaseException:
        db.close()
        raise
