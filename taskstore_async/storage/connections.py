"""What a handle has open: the connection that writes its index and the one that reads it, and the lock around both."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final

from taskstore_async.errors import StoreClosedError
from taskstore_async.storage import log, schema
from taskstore_async.storage.clock import process_clock
from taskstore_async.storage.lock import StoreLock
from taskstore_async.storage.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager

    from taskstore_async.core.schedule import FlushSchedule
    from taskstore_async.storage.build import Opened
    from taskstore_async.storage.directory import Directory
    from taskstore_async.storage.index import Index
    from taskstore_async.storage.reports import CollectionSync

__all__ = ["Connections"]

_TAKE_TURNS: Final = "SQLite cannot keep a write-ahead log here; readers and writers take turns"


class Connections:
    """Opens the connections of a handle, opens them again when the index is no longer the one of its name, closes them.

    Args:
        directory: The store.
        schedule: Told how much waits in an index that is opened.
        notes: Where it notes what a person should know.
        deadline_s: Seconds to wait for store.lock.

    Attributes:
        index: The one that writes, used under store.lock; None when it is not open.
        reader: The one that reads; None when it is not open.
        read_only: The directory cannot be written, and its index lives in memory.
        closed: Nothing is opened any more.
        in_a_hurry: Nobody is waited for, see `hurrying`.
        saved: Lines that wait and that no file of the name has, as far as is known; by collection, see `bring_along`.
    """

    def __init__(self, directory: Directory, schedule: FlushSchedule, *, notes: list[str], deadline_s: float) -> None:
        self.index: Index | None = None
        self.reader: Reader | None = None
        self.read_only = not directory.writable
        self.closed = False
        self.in_a_hurry = False
        self.saved: dict[str, list[bytes]] = {}
        self._directory = directory
        self._schedule = schedule
        self._notes = notes
        self._deadline_s = deadline_s
        self._lock: StoreLock | None = StoreLock.of(directory.path)
        self._pid = os.getpid()
        self._built: dict[str, CollectionSync] | None = None
        self._exclusive = False  #: SQLite's readers and writers exclude each other: there is no write-ahead log

    # -- the lock -------------------------------------------------------------------------------------------

    def require_usable(self) -> None:
        """Refuse a handle that is closed.

        Raises:
            StoreClosedError: It is, or it belongs to another process.
        """
        if self._pid != os.getpid():
            raise StoreClosedError("it belongs to the process that this one was forked from")
        if self.closed:
            raise StoreClosedError

    @property
    def are_usable(self) -> bool:
        """Whether the handle is open, and of this process."""
        return not self.closed and self._pid == os.getpid()

    @property
    def lock(self) -> StoreLock:
        """store.lock, as this process has it."""
        self.require_usable()
        assert self._lock is not None  # noqa: S101 - reason: only a closed handle has none
        return self._lock

    def hold(self) -> AbstractContextManager[None]:
        """Hold store.lock for the length of a block.

        Raises:
            StoreLockedError: It was not to be had in time.
        """
        return self.lock.hold(deadline_s=0.0 if self.in_a_hurry else self._deadline_s)

    @contextmanager
    def hurrying(self) -> Generator[None]:
        """Wait for nobody who has a lock, for the length of a block."""
        self.in_a_hurry = True
        try:
            yield
        finally:
            self.in_a_hurry = False

    def guard(self) -> AbstractContextManager[object]:
        """What a reader holds for the length of a question: the lock, where SQLite has no write-ahead log."""
        if not self._exclusive or self.lock.held:
            return nullcontext()
        return self.hold()

    # -- opening --------------------------------------------------------------------------------------------

    def open_in_memory(self) -> None:
        """Build an index in memory, of a directory that cannot be written, and open both connections on it."""
        from taskstore_async.storage.build import build_in_memory  # noqa: PLC0415 - reason: a command that reads makes no index

        opened = build_in_memory(self._directory, now_ms=process_clock)
        self._notes.append(opened.note)
        self.index = opened.index
        self.reader = Reader(opened.index.db, None)

    def open_reader(self) -> Reader:
        """The connection that reads, opened when there is none."""
        if self.reader is None:
            reader = Reader.open(self._directory.index, guard=self.guard, busy_s=self._deadline_s)
            self._note_mode(reader.db)
            self.reader = reader
        return self.reader

    def reopen_index(self) -> Index:
        """Open the connection that writes, after closing what is open; under store.lock.

        Raises:
            OSError: Its shared memory is lost, or a file cannot be made.
            sqlite3.OperationalError: SQLite cannot open the file for a reason that another file would not mend.
        """
        if self.index is not None:
            self.let_all_go()
        index = self._take(self._open_or_build())
        writes = index.can_write
        if not writes:  # perhaps because of others, which are as old as what stood in the way
            self.let_all_go()
            index = self._take(self._open_or_build())
            writes = index.can_write
        if index.memory is not None:
            try:
                index.memory.require(to_write=not writes)
            except OSError:
                self.let_all_go()
                raise
        return index

    def reopen_lost(self, lost: Index, *, settle: bool) -> Index:
        """Open the index that has the name now, and enter into its outbox what waits in *lost*, which lost it.

        Args:
            lost: Caught up. It is closed.
            settle: As for `Syncer.one`.
        """
        from taskstore_async.storage.build import bring_along, outbox_of  # noqa: PLC0415 - reason: a command that reads makes no index

        outbox = outbox_of(lost)
        opened = self._open_or_build()
        try:
            if outbox:
                bring_along(opened.index, self._directory, outbox, settle=settle)
        except BaseException:
            opened.index.close()
            raise
        with suppress(sqlite3.Error):
            lost.close()
        return self._take(opened)

    def bring_along(self, index: Index, *, settle: bool) -> None:
        """Enter into the outbox of *index* what was saved and is not there; under store.lock.

        Args:
            index: The one that writes.
            settle: As for `Syncer.one`.
        """
        if self.saved:
            from taskstore_async.storage.build import bring_along  # noqa: PLC0415 - reason: a command that reads makes no index

            bring_along(index, self._directory, self.saved, settle=settle)
            self.saved = {}

    def replace_index(self, reason: str) -> None:
        """Close both, set the index aside, and open a new one that has what the old one had not flushed.

        Args:
            reason: Why, for people to read in the notes.
        """
        from taskstore_async.storage.build import replace_index  # noqa: PLC0415 - reason: a command that reads makes no index

        self.require_usable()
        with self.hold():
            self.let_go(damaged=True)
            self._take(replace_index(self._directory, reason, now_ms=process_clock, saved=self.saved))
            self.saved = {}

    def _open_or_build(self) -> Opened:
        from taskstore_async.storage.build import open_or_build  # noqa: PLC0415 - reason: a command that reads makes no index

        return open_or_build(self._directory, now_ms=process_clock, busy_s=self._deadline_s)

    def _take(self, opened: Opened) -> Index:
        """Make what was opened the connection that writes."""
        if opened.note:
            self._notes.append(opened.note)
        self._built = opened.built or self._built
        index = self.index = opened.index
        self._note_mode(index.db)
        self.expect_flush(index)
        return index

    def built_now(self) -> dict[str, CollectionSync] | None:
        """What building an index has read since the last call, by collection; None when none was built."""
        built, self._built = self._built, None
        return built

    def expect_flush(self, index: Index) -> None:
        """Have what waits in *index* flushed in time, though this handle has not written it."""
        waiting = sum(index.waiting.values())
        if waiting and not self._schedule.waiting:
            self._schedule.wrote(waiting, now_ms=time.monotonic() * 1_000)

    def _note_mode(self, db: sqlite3.Connection) -> None:
        # Only who writes without store.lock, such as another program, can make SQLite itself wait.
        db.execute(f"PRAGMA busy_timeout = {round(1_000 * min(self._deadline_s, schema.BUSY_S))}")
        (mode,) = db.execute("PRAGMA journal_mode").fetchone()
        self._exclusive = mode != "wal"
        if self._exclusive and _TAKE_TURNS not in self._notes:
            self._notes.append(_TAKE_TURNS)

    # -- closing --------------------------------------------------------------------------------------------

    def close_index(self) -> None:
        """Close the connection that writes; under store.lock."""
        if self.index is not None:
            self.index.close()
            self.index = None

    def close_reader(self) -> None:
        """Close the connection that reads; when its shared memory is lost, both, as others of this process do."""
        reader = self.reader
        if reader is None:
            return
        if reader.memory is None or reader.memory.is_whole:
            reader.close()
            self.reader = None
            return
        with nullcontext() if self.lock.held else self.hold():
            self.let_all_go()

    def close_given_up_reader(self) -> None:
        """Close the connection that reads, if its shared memory was given up while it answered."""
        reader = self.reader
        if reader is not None and reader.memory is not None and reader.memory.given_up:
            reader.close()
            self.reader = None

    def let_go(self, *, damaged: bool = False) -> None:
        """Close both, to be opened again by whoever needs them; under store.lock.

        Args:
            damaged: The file may have lost what SQLite still has in memory.
        """
        index = self.index
        alone = index is not None and index.memory is not None and index.memory.has_log_alone
        if index is not None and (alone or damaged):
            self._save(index)
        for connection in (self.index, self.reader):
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
        self.index = self.reader = None

    def _save(self, index: Index) -> None:
        """Read what waits, as far as it can be read."""
        with suppress(sqlite3.Error):
            index.catch_up()
        for name, collection in index.collections.items():
            with suppress(sqlite3.Error):
                if raws := log.pending_lines(index.db, collection):
                    there = set(self.saved.get(name, ()))
                    self.saved.setdefault(name, []).extend([raw for raw in raws if raw not in there])

    def let_all_go(self) -> None:
        """Close the connections of this process, as far as nobody uses them; under store.lock. See `SharedMemory`."""
        memories = {one.memory for one in (self.index, self.reader) if one is not None}
        self.let_go()
        for memory in memories:
            if memory is not None:
                memory.give_up()

    def let_go_of_given_up(self) -> bool:
        """Close both, if another handle of this process has given up their shared memory, or that is lost.

        They are opened again by the next call. Whoever keeps some for long calls this now and then: only when all are
        closed at a time, SQLite opens it anew.

        Returns:
            Whether it had to.
        """
        if all(one is None or one.memory is None or one.memory.is_whole for one in (self.index, self.reader)):
            return False
        with self.hold():
            self.let_all_go()
        return True

    def abandon(self) -> None:
        """Close both and nothing else, for good: as if the process had been killed."""
        self.closed = True
        if self._pid != os.getpid():
            return
        self.let_go()
        self._lock = None  # its thread ends with the last handle on the directory
