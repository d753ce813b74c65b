"""The outbox becomes lines of the journal."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from taskstore_async.errors import CollectionClosedError, FlushError, StoreLockedError, TaskStoreError
from taskstore_async.storage import failpoints, files, journal, log
from taskstore_async.storage.journal import FsyncError, NoJournalError, closed
from taskstore_async.storage.reports import FlushReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.directory import Directory
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.index import Index
    from taskstore_async.storage.sync import Syncer

__all__ = ["Flusher", "flush_due"]

_TRIES = 8  #: somebody else must write between every look and append for all of them to fail
SECOND_LOOK_S = 0.2
_LOOKS = 10  #: git writes a file in less than two seconds, or has been interrupted
_RETRY_MS = 100.0
_FORBIDDEN = {errno.EACCES, errno.EPERM}


class Flusher:
    """Appends what waits, under store.lock.

    Args:
        index: Where it waits.
        directory: The store.
        syncer: Imports what moved in a file before it is appended to.
        durable: The files whose name is known to be on the disk, by device and inode; of the handle.
        settle: A line identical to a pending one settles it.
        wait_s: Seconds to wait for another program that has locked a file.
    """

    def __init__(
        self,
        index: Index,
        directory: Directory,
        syncer: Syncer,
        *,
        durable: set[tuple[int, int]],
        settle: bool = True,
        wait_s: float = journal.LOCK_WAIT_S,
    ) -> None:
        self._index = index
        self._directory = directory
        self._syncer = syncer
        self._durable = durable
        self._settle = settle
        self._wait_s = wait_s

    def all(self) -> FlushReport:
        """Flush every collection; one that cannot be does not keep the others.

        Raises:
            FlushError: A file could not be written.
            FsyncError: What was written may not be on the disk.
            CollectionClosedError: Lines wait for a file that is closed to writing.
        """
        lines = size = count = 0
        failed: TaskStoreError | FsyncError | None = None
        for name in sorted(self._index.waiting):
            try:
                appended = self.one(name)
            except (FlushError, CollectionClosedError) as error:
                failed = failed or error
                continue
            except FsyncError as error:  # of all failures, the one that must not go unnoticed
                failed = error
                continue
            lines += appended.lines
            size += appended.bytes
            count += appended.files
        if failed is not None:
            raise failed
        return FlushReport(lines, size, count)

    def some(self, batches: Mapping[str, Sequence[bytes]]) -> None:
        """Flush the collections of a transaction that has just been committed, with the lines that it wrote."""
        waiting = self._index.waiting
        for name, lines in batches.items():
            # Nothing waited before: what is to be appended need not be read back.
            self.one(name, lines if waiting.get(name) == len(lines) else None)

    def one(self, name: str, lines: Sequence[bytes] | None = None) -> FlushReport:
        """Flush one collection; *lines* is its whole outbox, when that is known."""
        path = self._directory.journal(name)
        for _ in range(_TRIES):
            collection = self._index.collections[name]
            status = journal.stat_of(path)
            fresh = journal.looks_fresh(collection.record, status, flushing=True)
            if not fresh or status is None or status.st_size == 0:
                self._look_twice(collection)
                fresh = journal.looks_fresh(collection.record, journal.stat_of(path), flushing=True)
            if not fresh:
                with self._index.transaction(full=False):
                    self._syncer.one(name, flushing=True, settle=self._settle)
                collection, lines = self._index.collections[name], None
            if collection.closed:
                raise closed(name, path)
            if lines is None:
                lines = log.pending_lines(self._index.db, collection)
                if lines:
                    # Of an op of several lines some may be in one file and not yet in another when the power goes: its
                    # whole must be on the disk first, whoever has committed it, and how.
                    self._index.make_durable()
            done = self._append(collection, lines) if lines else FlushReport()
            if done is not None:
                self._index.waiting.pop(name, None)
                return done
            lines = None
        raise FlushError(str(path), "it keeps being replaced while it is written", pending=len(lines or ()))

    def _append(self, collection: Collection, lines: Sequence[bytes]) -> FlushReport | None:
        """Append *lines* to the file of that name now; None when it is not, or no longer, the one looked at."""
        path = self._directory.journal(collection.name)
        record = collection.record
        absent = record is None or record.size == 0  # or empty, which is the same
        try:
            with journal.open_to_append(path, create=absent, wait_s=self._wait_s) as descriptor:
                status = os.fstat(descriptor)
                if record is None or not journal.looks_fresh(record, status, flushing=True):
                    return None
                appended = journal.append(path, descriptor, record, lines)
            if appended.flushed:
                self._make_name_durable(path, (status.st_dev, status.st_ino))
        except FsyncError:
            raise
        except OSError as error:
            if isinstance(error, NoJournalError) and error.errno not in _FORBIDDEN:
                return None  # the next look says what it is
            if isinstance(error, FileNotFoundError) and not absent:
                return None  # it has just gone; the next look says whether for good
            raise FlushError(str(path), error.strerror or str(error), pending=len(lines)) from error
        if not appended.flushed:
            return None
        self._index.flushed(collection, appended.record, git_busy=self._directory.git.busy)
        return FlushReport(len(lines), appended.length, 1)

    def _make_name_durable(self, path: Path, inode: tuple[int, int]) -> None:
        """Fsync the directory, once per handle and file: who made the file may have been killed before it did so."""
        if inode in self._durable:
            return
        try:
            files.fsync_directory(path.parent)
        except OSError as error:
            raise FsyncError(error.errno, error.strerror, str(path.parent)) from error
        self._durable.add(inode)
        failpoints.reach("name fsynced")

    def _look_twice(self, collection: Collection) -> None:
        """Give git the time to finish a file that it is replacing.

        It unlinks the old one, creates the new one, never over another, and writes it piece by piece at its own offset:
        what is appended in between is overwritten.
        """
        path = self._directory.journal(collection.name)
        for _ in range(_LOOKS):
            before = journal.stat_of(path)
            empty = before is not None and before.st_size == 0
            if journal.looks_fresh(collection.record, before, flushing=True) and not empty:
                return
            if not self._directory.git.busy:
                return
            time.sleep(SECOND_LOOK_S)
            after = journal.stat_of(path)
            if (before and journal.identity_of(before)) == (after and journal.identity_of(after)):
                return


def flush_due(engine: Engine, *, waiting: bool) -> None:
    """Flush what is due. A flush that fails is noted, and tried again: what waits is safe in the index.

    Args:
        engine: Its `flush_is_due` says so.
        waiting: Wait for others. False, for a read: while somebody else has a lock, git is busy, or the store is
            stopped, the flush is left to a later call.
    """
    try:
        if waiting:
            engine.flush_if_due()
        else:
            _flush_at_once(engine)
    except TaskStoreError as error:
        if str(error) not in engine.notes:
            engine.notes.append(str(error))


def _flush_at_once(engine: Engine) -> None:
    if engine.broken is not None or engine.connections.lock.held:
        return
    try:
        if not engine.directory.git.busy:
            with engine.connections.hurrying():
                engine.flush()
    except StoreLockedError:
        pass
    finally:
        if engine.flush_is_due:
            engine.schedule.failed(0, now_ms=time.monotonic() * 1_000, retry_ms=_RETRY_MS)
