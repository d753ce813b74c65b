"""The task that keeps the store of a tracker that is awaited.

Whoever records a run does not wait for the store longer than a tracker waits. So nearly everything that uses the store
is done by tasks of the tracker's own: they end when the store has answered, and nobody has to wait for that. Only what
may be cancelled at any time is done in the caller's task: giving a manager that is at leisure what was just recorded.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from anyio import CancelScope, Event, current_time, move_on_after, to_thread

from taskstore_async.errors import StoreLockedError, UnreadableRecordError
from taskstore_async.tracker.plan import (
    Count,
    DeleteWhere,
    Do,
    Find,
    Get,
    Plan,
    Put,
    Settle,
    Step,
    StoreUnavailableError,
    page_of,
)
from taskstore_async.tracker.settling import LATE, give, is_mistake, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup

    from taskstore_async.actor.manager import StateManager
    from taskstore_async.core.query import Query
    from taskstore_async.core.record import Record
    from taskstore_async.tracker.ledger import Ledger
    from taskstore_async.tracker.settling import Health

__all__ = ["StoreTask", "drive"]

T = TypeVar("T")


class StoreTask:
    """Does steps on a manager, and gives it what waits in the ledger until it has it.

    Args:
        make: Opens the manager, for a block.
        ledger: What is to be given to it.
        health: Told how it went.
        tasks: Where the tasks run; it is cancelled by :meth:`close`.
    """

    def __init__(
        self,
        make: Callable[[], AbstractAsyncContextManager[StateManager]],
        ledger: Ledger,
        health: Health,
        tasks: TaskGroup,
    ) -> None:
        self._make = make
        self._ledger = ledger
        self._health = health
        self._tasks = tasks
        self._manager: StateManager | None = None
        self._leaving = False
        self._idle = False  # the task that serves waits to be poked
        self._giver: Event | None = None  # set when a caller has given the manager what waited
        self._failure: Exception | None = None  # that a caller has met in doing so: for the task that serves to judge
        self._poked = Event()
        self._round = Event()  # set when the manager was given what waited, or could not be
        self._served = Event()

    async def ask(self, step: Step, *, within_s: float) -> object:
        """Have *step* done, and return its answer.

        Raises:
            StoreUnavailableError: It could not be done, or not in time; or :meth:`close` was called.
            TaskStoreError: What was asked is a mistake.
        """
        if self._leaving:
            raise StoreUnavailableError
        with move_on_after(within_s):
            if not isinstance(step, Settle):
                return await self._answered(step)
            await self._settled()
            return None
        self._health.tell(LATE)
        raise StoreUnavailableError

    async def close(self, timeout_s: float) -> None:
        """Give the manager what waits, and close it; after *timeout_s* only close it."""
        self._leaving = True
        self._poked.set()
        with CancelScope(shield=True), move_on_after(timeout_s):
            await self._served.wait()
        self._tasks.cancel_scope.cancel()

    # -- serving --------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Keep a manager open, and give it what waits, until it is closed; what waits then is tried once more."""
        try:
            last = False
            while not last:
                last = self._leaving
                try:
                    await self._serve_once()
                except Exception as error:  # noqa: BLE001 - reason: whatever it is, the run goes on
                    self._failed(error)
                    await self._pause()
                last = last or (self._leaving and not self._ledger.is_waiting)
        finally:
            self._served.set()

    async def _serve_once(self) -> None:
        async with self._make() as manager:
            self._manager = manager
            try:
                await self._give(manager)
            finally:
                self._manager = None

    async def _give(self, manager: StateManager) -> None:
        """Give the manager what waits, until it is to be closed or opened anew."""
        while True:
            try:
                self._raise_failure()
                await drive(settle(self._ledger), partial(_take, manager))
            except Exception as error:  # noqa: BLE001 - reason: whatever it is, the run goes on
                self._failed(error)
                if self._leaving:
                    return
                await self._pause()
                if not isinstance(error, StoreLockedError):
                    return
            else:
                self._health.recovered()
                self._end_round()
                if self._leaving:
                    return
                await self._idled()

    async def _idled(self) -> None:
        """Wait until there is something to do that no caller is doing."""
        self._idle = True
        await self._poked.wait()
        self._poked = Event()
        self._idle = False
        if self._giver is not None:
            await self._giver.wait()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _failed(self, error: Exception) -> None:
        self._health.failed(str(error) or type(error).__name__)
        self._end_round()

    async def _pause(self) -> None:
        """Leave the store alone for a while, but not past leaving."""
        until_s = current_time() + self._health.pause_s
        while not self._leaving and (left_s := until_s - current_time()) > 0:
            with move_on_after(left_s):
                await self._poked.wait()
                self._poked = Event()

    def _end_round(self) -> None:
        done, self._round = self._round, Event()
        done.set()

    # -- answering ------------------------------------------------------------------------------------------

    async def _settled(self) -> None:
        """See to it that the store has what waits for it.

        Raises:
            StoreUnavailableError: It does not take it; it is tried again, and nobody waits for that.
        """
        manager = self._manager
        if manager is not None and self._idle and self._giver is None and not self._poked.is_set():
            await self._give_now(manager)
            if not self._ledger.degraded and self._failure is None:
                return
        ended = self._round
        self._poked.set()
        if not self._ledger.degraded:
            await ended.wait()
        if self._ledger.degraded:
            raise StoreUnavailableError

    async def _give_now(self, manager: StateManager) -> None:
        """Give the manager what waits now, in the caller's task: two tasks need not be woken up for it.

        A caller may leave at any time, as the manager allows; what it has not got by then is left to the task that
        serves, and so is a failure.
        """
        giver = self._giver = Event()
        try:
            await drive(give(self._ledger, self._ledger.waiting()), partial(_take, manager))
        except Exception as error:  # noqa: BLE001 - reason: whatever it is, the run goes on
            self._failure = error
        finally:
            self._giver = None
            giver.set()
            if self._ledger.is_waiting or self._failure is not None:
                self._poked.set()

    async def _answered(self, step: Step) -> object:
        while self._manager is None:
            if self._ledger.degraded:
                raise StoreUnavailableError
            await self._round.wait()
        answer = _Answer()
        # A task of its own: a reader's thread is waited for to its end, and the caller does not wait that long.
        self._tasks.start_soon(self._answer, self._manager, step, answer)
        await answer.done.wait()
        if answer.error is not None:
            raise answer.error
        return answer.value

    async def _answer(self, manager: StateManager, step: Step, answer: _Answer) -> None:
        try:
            answer.value, answer.error = await _take(manager, step), None
        except Exception as error:  # noqa: BLE001 - reason: whatever it is, the run goes on
            answer.error = error if is_mistake(error) else StoreUnavailableError(str(error))
            if not is_mistake(error):
                self._health.tell(str(error) or type(error).__name__)
                self._poked.set()
        else:
            self._health.recovered()
        finally:
            answer.done.set()


class _Answer:
    """What became of a step; while nobody has said anything else: nothing, for the tracker was left."""

    def __init__(self) -> None:
        self.done = Event()
        self.value: object = None
        self.error: Exception | None = StoreUnavailableError()


async def drive(plan: Plan[T], take: Callable[[Step], Awaitable[object]]) -> T:
    """Do *plan*, awaiting each step; an error of a step is raised in the plan."""
    try:
        step = next(plan)
        while True:
            try:
                answer = await take(step)
            except Exception as error:  # noqa: BLE001 - reason: it is the plan's to handle, or raised by it
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as ended:
        return cast("T", ended.value)


async def _take(manager: StateManager, step: Step) -> object:
    """Do a step on *manager*."""
    match step:
        case Find() | Count() | Get():
            return await _asked(manager, step)
        case Put() | DeleteWhere():
            return await _made(manager, step)
        case Settle():
            return None
        case Do(function):
            return await to_thread.run_sync(function)


async def _asked(manager: StateManager, step: Find | Count | Get) -> object:
    match step:
        case Find(target, query):
            return await _listed(manager, target, query)
        case Count(target, filters):
            return await manager.count(target, *filters)
        case Get(target, record_id):
            return await manager.get(target, record_id)


async def _made(manager: StateManager, step: Put | DeleteWhere) -> object:
    match step:
        case Put((record,)):  # which needs no savepoint
            await manager.put(record)
            return None
        case Put(records):
            async with manager.batch() as batch:
                for record in records:
                    batch.put(record)
            return None
        case DeleteWhere(target, filters):
            return await manager.delete_where(target, *filters)


async def _listed(manager: StateManager, target: type[Record], query: Query) -> list[Any]:
    try:
        return await manager.list(
            target, *query.filters, order_by=query.order_by, limit=query.limit, offset=query.offset
        )
    except UnreadableRecordError:
        listing = await manager.list_tolerant(target, *query.filters, order_by=query.order_by)
        return page_of(query, listing.records)
