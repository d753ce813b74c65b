"""The engine: one handle on a store, used by one thread at a time, synchronous throughout.

It speaks in lines and plain values; `Store` and `StateManager` put types around it. A *session* is what happens under
one hold of store.lock.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from taskstore_async.core.declaration import TYPES, Declaration
from taskstore_async.core.schedule import Durability, FlushSchedule, SyncConfig
from taskstore_async.errors import (
    CollectionClosedError,
    FlushError,
    ReadFailedError,
    StoreBrokenError,
    StoreReadOnlyError,
    TaskStoreError,
    WriteFailedError,
    WriteUncertainError,
)
from taskstore_async.storage import failpoints, journal
from taskstore_async.storage.apply import Application
from taskstore_async.storage.connections import Connections
from taskstore_async.storage.flush import Flusher
from taskstore_async.storage.health import Health, is_damage, is_full, is_trouble
from taskstore_async.storage.index import CommitError, Index, is_read_only
from taskstore_async.storage.journal import FsyncError, How
from taskstore_async.storage.ops import (
    Applied,
    Batch,
    Create,
    CreateMany,
    Declare,
    Delete,
    DeleteWhere,
    Put,
    Refused,
    Update,
)
from taskstore_async.storage.reports import CollectionSync, FlushReport, SyncReport
from taskstore_async.storage.sync import Syncer, all_look_fresh, look_at_all, moved

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.directory import Directory
    from taskstore_async.storage.ops import Answer, Op
    from taskstore_async.storage.reader import Reader

__all__ = ["Engine", "Session"]

_FLUSH_FAILURES: Final = (FlushError, CollectionClosedError, FsyncError, CommitError, sqlite3.Error)

T = TypeVar("T")
_OF_SEVERAL: Final = frozenset({Batch, CreateMany, DeleteWhere, Delete, Declare})  #: ops that may write several lines
_ROOM_BYTES: Final = 1 << 20  #: on a disk that was full, before it is tried again at once
_IDLE_S: Final = 0.02  #: a handle that wrote less lately does not leave its mark to the next transaction


class Session(msgspec.Struct, frozen=True):
    """What a hold of store.lock gives access to."""

    index: Index
    directory: Directory
    syncer: Syncer
    flusher: Flusher


class Engine:
    """A handle on the store in *directory*.

    Args:
        directory: The store.
        config: When a flush is due, and whether versions that meet in one become one line.
        deadline_s: Seconds a call may wait for store.lock.
        look: Bring the index up to date now. False: leave that, and the report of it, to `sync`.

    Raises:
        StoreLockedError: The index had to be brought up to date, and the lock was not to be had.
    """

    def __init__(self, directory: Directory, *, config: SyncConfig, deadline_s: float, look: bool = True) -> None:
        self.directory = directory
        self.config = config
        self.notes: list[str] = []
        self.wanted: dict[str, Declaration] = {}  #: what the record types in use declare, by collection
        self.schedule = FlushSchedule(config)
        self.connections = Connections(directory, self.schedule, notes=self.notes, deadline_s=deadline_s)
        self._durable: set[tuple[int, int]] = set()
        self._health = Health()
        self._left_s = 0.0
        try:
            self._open(look=look)
        except BaseException:
            self.abandon()
            raise

    # -- life -----------------------------------------------------------------------------------------------

    def _open(self, *, look: bool) -> None:
        if self.connections.read_only:
            self.connections.open_in_memory()
            return
        if self.directory.index.exists():
            try:
                reader = self.connections.open_reader()
            except sqlite3.DatabaseError:
                pass  # the session tells what is wrong, and mends it
            else:
                with suppress(OSError):  # of a journal that cannot be read, the session tells too
                    names, unsettled = moved(reader.collections, self.directory)
                    if not names and not unsettled:
                        return
        if look:
            self._bring_up()

    def _bring_up(self) -> None:
        """Bring the index up to date, and open a reader; what cannot be written now keeps nobody from reading."""
        try:
            self.sync()
        except (FlushError, CollectionClosedError, StoreBrokenError, WriteFailedError) as error:
            self.notes.append(str(error))
            try:
                self.connections.open_reader()
            except sqlite3.Error:  # there is no index to read, and that is why
                raise error from None

    def close(self) -> None:
        """Flush, and close. Closing again does nothing.

        Raises:
            FlushError, CollectionClosedError, StoreBrokenError: What waits could not be written; the handle is closed
                all the same.
            StoreLockedError: The lock was not to be had.
        """
        try:
            if self.connections.index is not None and self.connections.are_usable and not self.connections.read_only:
                self._mending(self._close)
        finally:
            self.abandon()

    def _close(self) -> None:
        with self._session() as session:
            try:
                self._flush(session)
            finally:
                self._settle_marks(session)
                if not self.directory.git.may_be_merging():
                    with suppress(sqlite3.Error, CommitError):
                        session.index.forget_appends()
                failpoints.reach("closing")
                session.index.checkpoint(above=0)
                self.connections.close_index()

    def abandon(self) -> None:
        """Close the connections and nothing else: as if the process had been killed."""
        self.connections.abandon()

    # -- reading --------------------------------------------------------------------------------------------

    @property
    def reader(self) -> Reader:
        """What answers questions; asked for anew before each.

        Raises:
            StoreClosedError: The handle is closed, or belongs to another process.
        """
        self.connections.require_usable()
        reader = self.connections.reader
        if reader is None or not reader.is_current:
            self.connections.close_reader()
            if not self.directory.index.exists():
                self._bring_up()  # makes one, and the reader with it
            reader = self.connections.open_reader()
        return reader

    def read(self, question: Callable[[Reader], T]) -> T:
        """Put a question to the index; when that turns out to be damaged, mend it and ask again.

        Raises:
            ReadFailedError: The index cannot be read.
        """
        try:
            try:
                return question(self.reader)
            except sqlite3.DatabaseError as error:
                if self.connections.read_only or not is_damage(error):
                    raise
                self.connections.replace_index(str(error))
            return question(self.reader)
        except OSError as error:
            raise ReadFailedError(str(error.filename or self.directory.path), error.strerror or str(error)) from error
        except sqlite3.DatabaseError as error:
            if is_damage(error) or is_trouble(error):
                raise ReadFailedError(str(self.directory.index), str(error)) from error
            raise
        finally:
            self.connections.close_given_up_reader()

    # -- sessions -------------------------------------------------------------------------------------------

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

    def _may_try(self) -> bool:
        """Whether to try to recover now: it is time, or the disk that was full has room again."""
        if self._health.may_try(time.monotonic()):
            return True
        return self._health.full and shutil.disk_usage(self.directory.path).free >= _ROOM_BYTES

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

    def _is_idle(self) -> bool:
        return time.monotonic() - self._left_s > _IDLE_S

    def _settle_marks(self, session: Session) -> None:
        """Write what flushes have to mark now, rather than with the next transaction."""
        if session.index.marks:
            with suppress(sqlite3.Error, CommitError), session.index.transaction(full=False):
                pass

    def _current_index(self) -> Index:
        """The connection that writes, opened, or opened again when its file is no longer the one of that name."""
        index = self.connections.index
        if index is None or not index.is_current:
            if index is not None and not index.is_named:
                return self._rescue(index)
            index = self.connections.reopen_index()
        self.connections.bring_along(index, settle=not self._health.distrusted)
        return index

    def expect_flush(self, session: Session) -> None:
        """Have what waits flushed in time, though nothing was written here: an import has put it back."""
        self.connections.expect_flush(session.index)

    def _rescue(self, lost: Index) -> Index:
        """Append what waits in an index that lost its name, from the connection that still has it open, and reopen.

        What cannot be appended now goes into the outbox of the index that has the name, which is made if there is none.
        """
        lost.catch_up()
        try:
            self._session_of(lost).flusher.all()
        except (FlushError, CollectionClosedError, sqlite3.Error, CommitError):
            lost.recount()
        except FsyncError as error:
            lost.recount()
            self._broke(error)
        return self.connections.reopen_lost(lost, settle=not self._health.distrusted)

    def replace_index(self, reason: str) -> None:
        """Set the index aside, whose outbox goes into the new one that is built from the files.

        Args:
            reason: Why, for people to read in `notes`.

        Raises:
            WriteFailedError: It cannot be read just now, or no new one be made; what was not saved stays where it is.
        """
        with self._explaining(damage=True):
            self.connections.replace_index(reason)

    def _mending(self, work: Callable[[], T]) -> T:
        """Do *work*; when the index turns out to be damaged, replace it and do it again."""
        with self._explaining(damage=True):
            try:
                return work()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self.connections.replace_index(str(error))
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

    # -- writing --------------------------------------------------------------------------------------------

    def commit(self, ops: Sequence[Op], *, durability: Durability) -> list[Answer]:
        """Make changes in one transaction, each whole or not at all.

        Args:
            ops: What to change, in order; each sees those before it.
            durability: What acknowledged means for all of them.

        Returns:
            An answer for each: `Applied`, or `Refused` with the error, which may be a `WriteUncertainError`.

        Raises:
            TaskStoreError: Nothing was changed: the lock, the disk or the index did not let us.
        """

        def work() -> list[Answer]:
            with self.session() as session:
                return self._commit(session, ops, durability)

        return self._mending(work)

    def _commit(self, session: Session, ops: Sequence[Op], durability: Durability) -> list[Answer]:
        index = session.index
        at_once = durability is Durability.JOURNAL
        full = durability is Durability.INDEX or (at_once and not _OF_SEVERAL.isdisjoint(map(type, ops)))
        try:
            with index.transaction(full=full):
                self._reopen_closed(session, ops)
                application = self.application(session, append_all=at_once)
                answers = application.apply_all(ops)
                application.finish()
        except CommitError as error:
            self._broke(error)
            return [Refused(WriteUncertainError(f"COMMIT failed: {error}")) for _ in ops]
        if not application.written:
            return answers
        application.contents.delete()
        index.wrote({name: len(lines) for name, lines in application.lines.items()})
        if not at_once:
            self.schedule.wrote(application.written, now_ms=_monotonic_ms())
        try:
            if at_once:
                session.flusher.some(application.lines)
            if not index.is_named:
                self._rescue(index)
        except (*_FLUSH_FAILURES, OSError) as error:
            # It is committed, and nobody may do it again.
            self._flush_failed(error, session)
            return [Refused(WriteUncertainError(str(error))) if isinstance(a, Applied) else a for a in answers]
        return answers

    def _reopen_closed(self, session: Session, ops: Sequence[Op]) -> None:
        """Look again at files that were closed to writing: a person may have mended them."""
        if any(collection.closed for collection in session.index.collections.values()):
            for name in sorted({TYPES, *(name for op in ops for name in _names(op))}, key=lambda name: name != TYPES):
                collection = session.index.collections.get(name)
                if collection is not None and collection.closed:
                    session.syncer.one(name)

    def flush(self) -> FlushReport:
        """Write everything acknowledged before to the journal, fsynced.

        Raises:
            FlushError: A file could not be written; what waits is kept and tried again.
            CollectionClosedError: Lines wait for a file that is closed to writing.
            StoreBrokenError: fsync failed.
        """

        def work() -> FlushReport:
            with self.session() as session:
                report = self._flush(session)
                self._settle_marks(session)
                return report

        return self._mending(work)

    def flush_if_due(self) -> FlushReport | None:
        """Flush when the schedule says so; None when it does not."""
        return self.flush() if self.flush_is_due else None

    @property
    def flush_is_due(self) -> bool:
        """Whether the schedule says that it is time to flush, on a handle that can."""
        connections = self.connections
        return _monotonic_ms() >= self.schedule.due_ms and connections.are_usable and not connections.read_only

    def _flush(self, session: Session) -> FlushReport:
        waiting = self.schedule.waiting
        self.schedule.flushed()  # before the flush: writes during it count as new
        try:
            report = session.flusher.all()
        except (*_FLUSH_FAILURES, OSError) as error:
            self._flush_failed(error, session, waiting=waiting)
            if isinstance(error, TaskStoreError | FsyncError | CommitError) or (
                isinstance(error, sqlite3.Error) and is_damage(error)
            ):
                raise
            where = getattr(error, "filename", None) or self.directory.index
            raise FlushError(str(where), str(error), pending=sum(session.index.waiting.values())) from error
        if self._health.broken is None:
            self._health.recovered()
        return report

    def _flush_failed(self, error: Exception, session: Session, *, waiting: int = 0) -> None:
        """Keep what waits, and try again later; after a failed fsync, trust nothing that can be read."""
        session.index.recount()
        if isinstance(error, FsyncError | CommitError):
            self._broke(error)
            self._settle_marks(session)  # of the files that could be written
        self.schedule.failed(max(1, waiting), now_ms=_monotonic_ms(), retry_ms=self._health.failed() * 1_000)

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
    def has_marks(self) -> bool:
        """Whether a flush has something to mark that stands in no index yet."""
        return self.connections.index is not None and bool(self.connections.index.marks)

    @property
    def index_path(self) -> Path | None:
        """The file of the index; None when it lives in memory."""
        return None if self.connections.read_only else self.directory.index

    @property
    def broken(self) -> str | None:
        """Why nothing can be written just now; None when something can."""
        return self._health.broken

    # -- files ----------------------------------------------------------------------------------------------

    def sync(self, *, check: bool = False, rebuild: bool = False) -> SyncReport:
        """Import what moved in the files, then flush.

        Args:
            check: Only tell what would be done.
            rebuild: Read every file anew into new tables, whatever is known of it.

        Raises:
            StoreLockedError, FlushError, CollectionClosedError, StoreBrokenError: As for `flush`.
        """
        self.connections.require_usable()
        if self.connections.read_only:
            return self._sync_memory(check=check)
        return self._mending(lambda: self._sync(check=check, rebuild=rebuild))

    def _sync_memory(self, *, check: bool) -> SyncReport:
        index = self.connections.index
        assert index is not None  # noqa: S101 - reason: the one in memory was made when the handle was
        names, _ = moved(index.collections, self.directory)
        found: dict[str, CollectionSync] = {}
        if names and not check:
            with index.transaction(full=False):
                found = Syncer(index, self.directory).all()
        return SyncReport(stale=bool(names), collections=_told(found), notes=tuple(self.notes))

    def _sync(self, *, check: bool, rebuild: bool) -> SyncReport:
        self.connections.built_now()
        with self.session() as session:
            index = session.index
            self._settle_marks(session)
            built = self.connections.built_now()
            _, strays = self.directory.journals()
            notes = [*self.notes, *(f"{name}: no collection name, so it is not served" for name in strays)]
            found: dict[str, CollectionSync] = {}
            stale = False
            if built is not None:
                found = built
            elif rebuild or not all_look_fresh(index.collections, self.directory):
                found, stale = look_at_all(index, session.syncer, check=check, rebuild=rebuild)
            if not check:
                found = self._flush_and_tell(session, found)
            self.connections.open_reader()
            return SyncReport(
                stale=stale,
                rebuilt=rebuild or built is not None,
                collections=_told(found),
                notes=tuple(notes),
            )

    def _flush_and_tell(self, session: Session, found: dict[str, CollectionSync]) -> dict[str, CollectionSync]:
        waiting = dict(session.index.waiting)
        self._flush(session)
        for name, count in waiting.items():
            if name in found:
                found[name] = msgspec.structs.replace(found[name], flushed=count)
            else:
                found[name] = CollectionSync(how=How.FRESH, flushed=count)
        return found

    @contextmanager
    def consistent(self) -> Generator[tuple[sqlite3.Connection, dict[str, Collection]]]:
        """The index and its catalogue, while no other handle can change them or the files."""
        if self.connections.read_only:
            yield self.reader.db, self.reader.collections
            return
        with self.session() as session:
            self._settle_marks(session)
            yield session.index.db, session.index.collections

    def redeclare(self, wanted: Declaration) -> None:
        """Make a collection's declaration exactly *wanted*, and fill its rows anew from its file."""
        self.sync()
        self._mending(lambda: self._redeclare(wanted))

    def _redeclare(self, wanted: Declaration) -> None:
        with self.session() as session:
            try:
                with session.index.transaction(full=True):
                    application = self.application(session, append_all=False)
                    application.declare(wanted, exactly=True)
                    application.finish()
                    session.syncer.rebuild(wanted.collection)
            except CommitError as error:
                self._broke(error)
                raise WriteUncertainError(f"COMMIT failed: {error}") from error
            self._flush(session)

    def application(self, session: Session, *, append_all: bool) -> Application:
        """What applies ops in a transaction of *session*; see `Application`."""
        return Application(self, session, append_all=append_all)

    def is_stale(self) -> bool:
        """Whether a file is not what the index knows. Changes nothing and takes no lock."""
        known = dict(self.reader.collections)
        if self.connections.index is not None:
            known |= self.connections.index.marked(known)
        names, _ = moved(known, self.directory)
        return bool(names)

    def declaration(self, name: str) -> Declaration:
        """What the store has declared the collection to be."""
        return self.reader.declaration(name)


def _told(found: dict[str, CollectionSync]) -> dict[str, CollectionSync]:
    """Those of which there is something to tell."""
    return {name: one for name, one in found.items() if one.how != How.FRESH or one.flushed}


def _names(op: Op) -> set[str]:
    """The collections that an op names."""
    if isinstance(op, Batch):
        return {name for part in op.ops for name in _names(part)}
    if isinstance(op, CreateMany):
        return {draft.collection for draft in op.drafts}
    if isinstance(op, Declare):
        return {TYPES, op.declaration.collection}
    return {op.draft.collection if isinstance(op, Create | Put | Update) else op.collection}


def _monotonic_ms() -> float:
    return time.monotonic() * 1_000
