"""StateManager: the store that agent loops await."""

from __future__ import annotations

import logging
import tempfile
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from anyio import CancelScope, Event, create_task_group, get_cancelled_exc_class, sleep

from taskstore_async.actor.flusher import Flusher, Sentry
from taskstore_async.actor.measures import ManagerStats, Measures, latency
from taskstore_async.actor.readers import Readers
from taskstore_async.actor.reading import Reading
from taskstore_async.actor.trouble import Trouble
from taskstore_async.actor.watch import Bell
from taskstore_async.actor.worker import Worker
from taskstore_async.actor.writer import Writer
from taskstore_async.actor.writing import Writing
from taskstore_async.core.record import Record, Registry, declaration_of
from taskstore_async.core.schedule import GRACE_MS, Durability, SyncConfig
from taskstore_async.errors import StoreClosedError, TaskStoreError, WriteUncertainError
from taskstore_async.storage import inspection, log
from taskstore_async.storage.check import check
from taskstore_async.storage.compact import compact
from taskstore_async.storage.declaring import declare
from taskstore_async.storage.directory import Directory
from taskstore_async.storage.engine import Engine

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from taskstore_async.storage.reports import CheckReport, CompactReport, FlushReport, SyncReport

__all__ = ["StateManager"]

_logger = logging.getLogger(__name__)

_READERS: Final = 2
_QUEUE: Final = 1_024
_PAUSE_S: Final = 1.0


class StateManager(Reading, Writing):
    """A handle on a store for any number of coroutines of one event loop, asyncio or trio.

    Open it with `StateManager.open`, as an async context manager. Every change goes through one writer task, many of
    them in one transaction; reads go to connections of their own. A collection is named by its record type, or by its
    name for untyped access, which gives `Document` records.

    A caller that is cancelled while it waits for a change does not learn what became of it: one that is still queued is
    withdrawn, one already in a transaction is applied.
    """

    def __init__(
        self,
        worker: Worker[Engine],
        config: SyncConfig,
        registry: Registry,
        durability: Durability,
        queue_max: int,
        *,
        on_trouble: Callable[[TaskStoreError], object] | None = None,
    ) -> None:
        self._worker = worker
        self._durability = durability
        self._measures = Measures()
        self._bell = Bell()
        self._wanted = {one.collection: one for one in registry.declarations}
        self._trouble = Trouble(on_trouble)
        self._flusher = Flusher(worker, config, self._measures, self._trouble)
        self._writer = Writer(worker, self._measures, wrote=self._wrote, queue_max=queue_max)
        self._readers = Readers(self._measures, fallback=self._ask_engine)
        self._body, self._background = CancelScope(), CancelScope()
        self._wrote_all = Event()
        self._failure: BaseException | None = None

    # -- life -----------------------------------------------------------------------------------------------

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | os.PathLike[str] = ".",
        *,
        records: Iterable[type[Record]] = (),
        sync: SyncConfig | None = None,
        durability: Durability = Durability.INDEX,
        create: bool = True,
        lock_timeout_s: float = 10.0,
        queue_max: int = _QUEUE,
        on_trouble: Callable[[TaskStoreError], object] | None = None,
    ) -> AsyncGenerator[Self]:
        """Open the store at *path* for the length of an ``async with`` block.

        Leaving makes what is queued, flushes, and ends every task and thread; errors of the block reach the caller as
        they are.

        Args:
            path: The directory that holds or will hold ``.taskstore/``, or a store directory itself.
            records: Types to declare now; others are declared at their first write.
            sync: When writes are exported to the journal.
            durability: What acknowledged means, unless a call says otherwise.
            create: Make the store when there is none.
            lock_timeout_s: Seconds a transaction, a flush and leaving may wait for other processes.
            queue_max: So many changes wait for the writer; further callers wait for a place, which leaving may refuse
                them. > 0.
            on_trouble: Called with what goes wrong in the background, where no caller learns of it: a flush, or a look
                at the files. It is tried again by itself, and told once for as long as it stays the same. None logs a
                warning. A plain function, on the event loop, that must not block; when it raises, or is an async one,
                that is logged as an error, and the warning with it.

        Raises:
            NoStoreError: There is none, and *create* is false.
            StoreVersionError: It has a newer format.
            StoreLockedError: Another process held the lock for too long.
            DeclarationConflictError: A type defines a field differently from the store.
            InvalidRecordTypeError, InvalidNameError: A type cannot be used.
            FlushError, StoreBrokenError, CollectionClosedError: On leaving: what waits could not be written. It is safe
                in the index. Not raised over an error of the block, but logged.
            BaseException: On leaving: what ended the writer, and cancelled the block.
        """
        if queue_max < 1:
            message = f"queue_max is {queue_max}, and must be 1 or more"
            raise ValueError(message)
        registry = Registry(records)
        config = sync or SyncConfig()
        make = partial(
            _make_engine,
            path,
            create=create,
            config=config,
            registry=registry,
            deadline_s=lock_timeout_s,
            durability=durability,
        )
        worker = await Worker[Engine].start(make, Engine.abandon, name="taskstore engine")
        manager = cls(worker, config, registry, durability, queue_max, on_trouble=on_trouble)
        error: BaseException | None = None
        try:
            await manager._start()
            async with create_task_group() as tasks:
                tasks.start_soon(manager._make_changes)
                tasks.start_soon(manager._work)
                try:
                    with manager._body:
                        yield manager
                except BaseException as raised:  # noqa: BLE001 - reason: raised below, outside of the group, as it is
                    error = raised
                await manager._end()
        except BaseException as raised:  # noqa: BLE001 - reason: raised below; nothing but beginning and leaving is left
            error = error or raised
        error = await manager._close(manager._verdict(error))
        if error is not None:
            try:
                raise error
            finally:
                del error  # else its traceback holds this frame, and this frame it

    @classmethod
    @asynccontextmanager
    async def temporary(
        cls,
        *,
        records: Iterable[type[Record]] = (),
        sync: SyncConfig | None = None,
        durability: Durability = Durability.INDEX,
    ) -> AsyncGenerator[Self]:
        """A store in a temporary directory that goes with it; for tests."""
        with tempfile.TemporaryDirectory(prefix="taskstore-") as folder:
            async with cls.open(folder, records=records, sync=sync, durability=durability) as manager:
                yield manager

    async def _start(self) -> None:
        """Learn from the engine what the parts need."""
        self._path, index, guard, waiting, left = await self._worker.run(_facts)
        if index is None:
            return
        self._flusher.wrote(waiting)
        if left:  # by a process that was killed, perhaps
            try:
                await self._flusher.flush()
            except TaskStoreError as error:
                self._trouble.met("flushing what was left", error)
        await self._readers.start(index, guard, count=_READERS)

    async def _make_changes(self) -> None:
        try:
            # It ends when its queue is closed. A block that is cancelled may still write, under a shield of its own.
            with CancelScope(shield=True):
                await self._writer.run()
        except get_cancelled_exc_class():
            raise  # a native one: the loop is being torn down
        except BaseException as error:
            _logger.exception("the writer ended", extra={"store": str(self.path)})
            self._fail(error)
        finally:
            self._wrote_all.set()

    async def _work(self) -> None:
        """Run what goes on in the background."""
        sentry = Sentry(self._worker, self._measures, self._trouble, moved=self._bell.ring)
        with self._background:
            async with create_task_group() as tasks:
                tasks.start_soon(self._guarded, self._flusher.run)
                tasks.start_soon(self._guarded, sentry.run)
                tasks.start_soon(self._guarded, partial(self._bell.poll, self._readers))

    async def _guarded(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run a background task; when it fails in a way it does not expect, log that, and begin anew."""
        while True:
            try:
                await run()
            except Exception as error:
                self._measures.failed(error)
                _logger.exception("a background task failed, and is started again", extra={"store": str(self.path)})
            except get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - reason: Ctrl-C on trio may hit any task; raised by leaving
                self._fail(error)
            await sleep(_PAUSE_S)

    def _fail(self, error: BaseException) -> None:
        """End the block because of *error*."""
        self._failure = self._failure or error
        self._body.cancel()

    async def _end(self) -> None:
        """Make what is queued, and end the tasks."""
        self._writer.close()
        with CancelScope(shield=True):
            await self._wrote_all.wait()
        self._background.cancel()

    def _verdict(self, error: BaseException | None) -> BaseException | None:
        """What leaving raises: *error*, unless that only says that the manager has failed."""
        failure, self._failure = self._failure, None
        if failure is None:
            return error
        consequence = error is None or isinstance(error, StoreClosedError | WriteUncertainError)
        return failure if consequence or not isinstance(failure, Exception) else error

    async def _close(self, error: BaseException | None) -> BaseException | None:
        """Flush and close everything, within the bounds of the lock; returns what is to be raised."""
        self._bell.close()
        self._writer.abandon()
        failed: BaseException | None = None
        with CancelScope(shield=True):
            for close in (partial(self._worker.run, Engine.close), self._readers.close, self._worker.close):
                try:
                    await close()
                except get_cancelled_exc_class() as cancelled:  # a native one, held until it had ended
                    error = error or cancelled
                    failed = failed or cancelled.__cause__
                except BaseException as raised:  # noqa: BLE001 - reason: the rest is to be closed as well
                    failed = failed or raised
        if failed is not None and error is not None:
            _logger.error("a store that was left by an error could not be flushed or closed: %s", failed)
        return error or failed

    def _wrote(self, count: int) -> None:
        self._flusher.wrote(count)
        self._bell.ring()

    @property
    def path(self) -> Path:
        """The store directory."""
        return self._path

    # -- files ----------------------------------------------------------------------------------------------

    async def flush(self) -> FlushReport:
        """Write everything acknowledged before to the journal, fsynced.

        Raises:
            FlushError, CollectionClosedError, StoreBrokenError, StoreLockedError: It could not be done; what waits is
                kept, and tried again.
        """
        return await self._flusher.flush()

    async def sync(self, *, check: bool = False, rebuild: bool = False) -> SyncReport:
        """Import what moved in the files, then flush; see `Store.sync`."""
        if check:
            return await self._worker.run(_look)
        report = await self._flusher.flushing(partial(_sync, rebuild))
        self._bell.ring()
        return report

    async def is_stale(self) -> bool:
        """Whether a file is not what the index knows."""
        return await self._worker.run(Engine.is_stale)

    async def rebuild_indexes(self, record_type: type[Record]) -> int:
        """Make the store's declaration exactly what *record_type* says, and fill its index anew; see `Store`."""
        readable = await self._worker.run(inspection.rebuild_indexes, record_type)
        wanted = declaration_of(record_type)
        self._wanted[wanted.collection] = wanted
        self._bell.ring()
        return readable

    async def compact(self, target: type[Record] | str | None = None, *, grace_ms: int = GRACE_MS) -> CompactReport:
        """Leave only the latest line of each record in the journals; see `Store.compact`."""
        name = None if target is None else await self._name(target)
        return await self._flusher.flushing(partial(_compact, name, grace_ms))

    async def check(self) -> CheckReport:
        """Prove that the index is what the journals and the outbox say; see `Store.check`."""
        return await self._worker.run(check)

    async def stats(self) -> ManagerStats:
        """How the store and this manager are doing."""
        store = await self._worker.run(inspection.stats)
        measures = self._measures
        return ManagerStats(
            store=store,
            queue_depth=self._writer.depth,
            batches=measures.batches,
            writes=measures.writes,
            mean_batch=measures.writes / measures.batches if measures.batches else 0.0,
            max_batch=measures.max_batch,
            commit=latency(measures.commits),
            flush=latency(measures.flushes),
            waiting=self._flusher.schedule.waiting,
            lag_ms=self._flusher.lag_ms,
            gets=measures.gets,
            get_hops=measures.get_hops,
            slices=measures.slices,
            errors=measures.errors,
            last_error=measures.last_error,
        )


def _make_engine(
    path: str | os.PathLike[str],
    *,
    create: bool,
    config: SyncConfig,
    registry: Registry,
    deadline_s: float,
    durability: Durability,
) -> Engine:
    """Make the engine on its thread, with the types declared."""
    engine = Engine(Directory.at(path, create=create), config=config, deadline_s=deadline_s)
    try:
        declare(engine, registry, durability)
    except BaseException:
        engine.abandon()
        raise
    return engine


def _facts(engine: Engine) -> tuple[Path, Path | None, Callable[[], AbstractContextManager[object]], int, bool]:
    """What the parts of a manager need.

    Returns:
        The store directory; the file of the index, unless it lives in memory; what readers hold; how many changes wait
        for a flush; and whether some of them are of somebody else.
    """
    waiting = sum(engine.read(lambda reader: log.pending_count(reader.db)).values())
    left = waiting > engine.schedule.waiting
    return engine.directory.path, engine.index_path, engine.connections.guard, waiting, left


def _look(engine: Engine) -> SyncReport:
    return engine.sync(check=True)


def _sync(rebuild: bool, engine: Engine) -> SyncReport:  # noqa: FBT001 - reason: partial of a private function
    return engine.sync(rebuild=rebuild)


def _compact(name: str | None, grace_ms: int, engine: Engine) -> CompactReport:
    return compact(engine, name, grace_ms=grace_ms)
