"""Holds of store.lock, and what goes wrong in them: a *session* is what happens under one."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from taskstore_async.core.schedule import FlushSchedule, SyncConfig
from taskstore_async.errors import (
    CollectionClosedError,
    FlushError,
    StoreBrokenError,
    StoreReadOnlyError,
    TaskStoreError,
    WriteFailedError,
)
from taskstore_async.storage import failpoints, journal
from taskstore_async.storage.connections import Connections
from taskstore_async.storage.flush import Flusher
from taskstore_async.storage.health import Health, is_damage, is_full
from taskstore_async.storage.index import CommitError, Index, is_read_only
from taskstore_async.storage.journal import FsyncError
from taskstore_async.storage.sync import Syncer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from taskstore_async.storage.directory import Directory

__all__ = ["Session", "Sessions"]

T = TypeVar("T")
_ROOM_BYTES: Final = 1 << 20  #: on a disk that was full, before it is tried again at once
_IDLE_S: Final = 0.02  #: a handle that wrote less lately does not leave its mark to the next transaction


class Session(msgspec.Struct, frozen=True):
    """What a hold of store.lock gives access to."""

    index: Index
    directory: Directory
    syncer: Syncer
    flusher: Flusher


class Sessions:
    """Opens sessions on the store in *directory*, one at a time, and recovers in them from what failed before.

    Args:
        directory: The store.
        config: When a flush is due, and whether versions that meet in one become one line.
        deadline_s: Seconds a call may wait for store.lock.
    """

    def __init__(self, directory: Directory, *, config: SyncConfig, deadline_s: float) -> None:
        self.directory = directory
        self.config = config
        self.notes: list[str] = []
        self.schedule = FlushSchedule(config)
        self.connections = Connections(directory, self.schedule, notes=self.notes, deadline_s=deadline_s)
        self._durable: set[tuple[int, int]] = set()
        self._health = Health()
        self._left_s = 0.0

    @contextmanager
    def session(self) -> Generator[Session]:
        """Hold store.lock, with an index that is the one in the directory.

        Raises:
            StoreReadOnlyError: The directory cannot be written.
            StoreLockedError: The lock was not to be had in time.
            StoreBrokenError: A failed fsync or COMMIT has not been mended yet.
            WriteFailedError: The disk or SQLite refused something.
        """
        broken = self._health.broken
        if broken is not None and not self._may_try():
            raise StoreBrokenError(str(self.directory.path), broken)
        with self._explaining(damage=False), self._session() as session:
            if broken is not None:
                self._recover(session, broken)
            yield session

    @contextmanager
    def _session(self) -> Generator[Session]:
        connections = self.connections
        connections.require_usable()
        if connections.read_only:
            raise StoreReadOnlyError(str(self.directory.path), "no write permission")
        with connections.hold():
            failpoints.reach("locked")
            if self._health.broken is not None:
                connections.close_index()  # what a COMMIT that failed has left is seen by a connection of its own
            index = self._current_index()
            index.catch_up()
            session = self._session_of(index)
            try:
                yield session
            except (FsyncError, CommitError) as error:
                raise self._broke(error) from error
            except sqlite3.OperationalError as error:
                if is_read_only(error) and index is connections.index:
                    # SQLite could not open its files for writing just then, and while it has them open it does not try
                    # again.
                    connections.let_all_go()
                raise
            finally:
                if index is connections.index and index.marks and (index.shared or self._is_idle()):
                    self._settle_marks(session)
                self._left_s = time.monotonic()

    def _session_of(self, index: Index) -> Session:
        syncer = Syncer(index, self.directory)
        settle = not self._health.distrusted
        wait_s = 0.0 if self.connections.in_a_hurry else journal.LOCK_WAIT_S
        flusher = Flusher(index, self.directory, syncer, durable=self._durable, settle=settle, wait_s=wait_s)
        return Session(index, self.directory, syncer, flusher)

    def _current_index(self) -> Index:
        """The connection that writes, opened, or opened again when its file is no longer the one of that name."""
        index = self.connections.index
        if index is None or not index.is_current:
            if index is not None and not index.is_named:
                return self._rescue(index)
            index = self.connections.reopen_index()
        self.connections.bring_along(index, settle=not self._health.distrusted)
        return index

    def _rescue(self, lost: Index) -> Index:
        """Append what waits in an index that lost its name, from the connection that still has it open, and reopen.

        What cannot be appended now goes into the outbox of the index that has the name, which is made if there is none.
        """
        lost.catch_up()
        session = self._session_of(lost)
        try:
            session.flusher.all()
        except (FlushError, CollectionClosedError, sqlite3.Error, CommitError):
            lost.recount()
        except FsyncError as error:
            lost.recount()
            self._broke(error)
        self._settle_marks(session)  # another handle that has it open still would append the same again
        return self.connections.reopen_lost(lost, settle=not self._health.distrusted)

    def _settle_marks(self, session: Session) -> None:
        """Write what flushes have to mark now, rather than with the next transaction."""
        if session.index.marks:
            with suppress(sqlite3.Error, CommitError), session.index.transaction(full=False):
                pass

    def _is_idle(self) -> bool:
        return time.monotonic() - self._left_s > _IDLE_S

    @property
    def has_marks(self) -> bool:
        """Whether a flush has something to mark that stands in no index yet."""
        return self.connections.index is not None and bool(self.connections.index.marks)

    def replace_index(self, reason: str) -> None:
        """Set the index aside, whose outbox goes into the new one that is built from the files.

        Args:
            reason: Why, for people to read in `notes`.

        Raises:
            WriteFailedError: It cannot be read just now, or no new one be made; what was not saved stays where it is.
        """
        with self._explaining(damage=True):
            self.connections.replace_index(reason)

    def mending(self, work: Callable[[], T]) -> T:
        """Do *work*; when the index turns out to be damaged, replace it and do it again."""
        with self._explaining(damage=True):
            try:
                return work()
            except msgspec.DecodeError as error:  # of a stored line: what is to be written was read before
                reason = f"a line in it is damaged: {error}"
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                reason = str(error)
            self.connections.replace_index(reason)
            return work()

    @contextmanager
    def _explaining(self, *, damage: bool) -> Generator[None]:
        """Turn what the disk or SQLite say into an error that tells what to do; *damage*: that, too."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if not damage and is_damage(error):
                raise  # whoever began mends it
            raise WriteFailedError(str(self.directory.index), str(error)) from error
        except OSError as error:
            raise WriteFailedError(str(error.filename or self.directory.path), error.strerror or str(error)) from error

    # -- what failed ----------------------------------------------------------------------------------------

    def _broke(self, error: FsyncError | CommitError) -> StoreBrokenError:
        what = "fsync" if isinstance(error, FsyncError) else "COMMIT"
        full = is_full(error)
        why = f"{error.strerror if isinstance(error, FsyncError) else error}{'; make room' if full else ''}"
        reason = f"a failed {what} ({why})"
        self.break_off(reason, distrusted=isinstance(error, FsyncError), full=full)
        return StoreBrokenError(str(self.directory.path), reason)

    def break_off(self, reason: str, *, distrusted: bool = False, full: bool = False) -> None:
        """Let nobody write until what is there was compared with what should be; see `Health.broke`."""
        if self._health.broken is None or distrusted > self._health.distrusted:
            self._health.broke(reason, now_s=time.monotonic(), distrusted=distrusted, full=full)

    def _may_try(self) -> bool:
        """Whether to try to recover now: it is time, or the disk that was full has room again."""
        if self._health.may_try(time.monotonic()):
            return True
        return self._health.full and shutil.disk_usage(self.directory.path).free >= _ROOM_BYTES

    def _recover(self, session: Session, broken: str) -> None:
        """After a failed fsync or COMMIT: compare the files with the index, and append what is not beyond doubt there.

        After a failed fsync a line that can be read may not be on the disk, and a further fsync says nothing about it:
        the outbox is appended anew, whatever stands there. A line twice does no harm.
        """
        try:
            with session.index.transaction(full=True):
                session.syncer.all(settle=not self._health.distrusted, force=True)
            with suppress(CollectionClosedError):  # it cannot be written, and what waits for it is where it was
                session.flusher.all()
        except (OSError, TaskStoreError, CommitError, sqlite3.Error) as error:
            lost = isinstance(error, FsyncError)
            self._health.broke(broken, now_s=time.monotonic(), distrusted=lost, full=is_full(error))
            raise StoreBrokenError(str(self.directory.path), broken) from error
        self._health.recovered()

    def mend(self) -> None:
        """Try at once to recover from a failed fsync or COMMIT, without waiting for the next try."""
        self._health.try_at_once()
        with self.session():
            pass

    @property
    def broken(self) -> str | None:
        """Why nothing can be written just now; None when something can."""
        return self._health.broken
