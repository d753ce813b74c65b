"""The engine: one handle on a store, used by one thread at a time, synchronous throughout.

It speaks in lines and plain values; `Store` and `StateManager` put types around it.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from taskstore_async.core.declaration import TYPES, Declaration
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.errors import (
    CollectionClosedError,
    FlushError,
    ReadFailedError,
    StoreBrokenError,
    TaskStoreError,
    WriteFailedError,
    WriteUncertainError,
)
from taskstore_async.storage import failpoints
from taskstore_async.storage.apply import Application
from taskstore_async.storage.health import is_damage, is_trouble
from taskstore_async.storage.index import CommitError
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
from taskstore_async.storage.sessions import Sessions
from taskstore_async.storage.sync import Syncer, all_look_fresh, look_at_all, moved

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.directory import Directory
    from taskstore_async.storage.ops import Answer, Op
    from taskstore_async.storage.reader import Reader
    from taskstore_async.storage.sessions import Session

__all__ = ["Engine"]

_FLUSH_FAILURES: Final = (FlushError, CollectionClosedError, FsyncError, CommitError, sqlite3.Error)

_NAMED: Final = 3  #: journals that a note names one by one

T = TypeVar("T")
_OF_SEVERAL: Final = frozenset({Batch, CreateMany, DeleteWhere, Delete, Declare})  #: ops that may write several lines


class Engine(Sessions):
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
        super().__init__(directory, config=config, deadline_s=deadline_s)
        self.wanted: dict[str, Declaration] = {}  #: what the record types in use declare, by collection
        try:
            self._open(look=look)
            if look:
                self._note_closed()
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

    def _note_closed(self) -> None:
        """Note which collections show what their files had before something happened to these."""
        reader = self.connections.reader
        if reader is None:
            return
        with suppress(sqlite3.Error):  # whoever asks something next tells what is wrong, and mends it
            paths = [self.directory.journal(one.name) for one in reader.collections.values() if one.closed]
            told = "\n".join(self.notes)
            names = [path.name for path in paths if f"{path} " not in told]
            if names:
                which = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if names[_NAMED:] else "")
                what = "cannot be read, so what is shown is what it had, if anything, and nothing can be written"
                self.notes.append(f"{which} {what}; run: tstore doctor")

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
        connections = self.connections
        has_written = connections.index is not None or bool(connections.saved)
        try:
            if has_written and connections.are_usable and not connections.read_only:
                self.mending(self._close)
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
            if self.connections.saved or not self.directory.index.exists():
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

    def expect_flush(self, session: Session) -> None:
        """Have what waits flushed in time, though nothing was written here: an import has put it back."""
        self.connections.expect_flush(session.index)

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

        return self.mending(work)

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
                if application.by_position:
                    # A power cut must not bring back an older version that then waits, and is appended behind this one.
                    index.make_durable()
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

        return self.mending(work)

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

    @property
    def index_path(self) -> Path | None:
        """The file of the index; None when it lives in memory."""
        return None if self.connections.read_only else self.directory.index

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
        return self.mending(lambda: self._sync(check=check, rebuild=rebuild))

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
        self.mending(lambda: self._redeclare(wanted))

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
