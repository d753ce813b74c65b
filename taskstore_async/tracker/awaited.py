"""The history of runs, for coroutines."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from anyio import create_task_group, current_time, to_thread

from taskstore_async.actor.manager import StateManager
from taskstore_async.core.schedule import Durability
from taskstore_async.storage.clock import now_ms
from taskstore_async.tracker import cleaning, importing, reading
from taskstore_async.tracker.ledger import Ledger, in_memory, overlaid
from taskstore_async.tracker.plan import Do, Plan, Step, StoreUnavailableError, drive
from taskstore_async.tracker.settling import LOCK_TIMEOUT_S, PATIENCE_S, Health
from taskstore_async.tracker.store_task import StoreTask
from taskstore_async.tracker.store_task import drive as drive_awaiting
from taskstore_async.tracker.tracking import RECORDS, Budget, RunEnd, RunStart, TaskEnd, TaskStart, Tracking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup

    from taskstore_async.records.runs import Project, Run, RunStatus, RunTask, RunTaskStatus, SkipKind
    from taskstore_async.tracker.reports import Deletion, ImportedRuns, OverallStats, TaskStats
    from taskstore_async.tracker.tracking import AnyPath

__all__ = ["RunTracker"]

T = TypeVar("T")


class RunTracker(Tracking):
    """Records runs and answers questions about them, on asyncio or trio; any number of tasks may call it.

    The store never fails a run, and no call waits longer than a second for it. When it is missing, locked, unwritable
    or broken, what is recorded is kept in memory: one warning is logged, `state` says so, questions are answered from
    memory and from what can still be read, and what memory holds is written once the store is back. What could not be
    written by the time of leaving is counted in ``state.lost``. Calls raise programming errors (a status that is none,
    a record that cannot be stored) and cancellation, and nothing else.

    A caller that is cancelled while a call waits has recorded what it said all the same.
    """

    def __init__(self, root: AnyPath, tasks: TaskGroup, *, durability: Durability) -> None:
        super().__init__(root, Ledger())
        self._durability = durability
        self._health = Health(self._root, self._ledger)
        self._store = StoreTask(self._opened, self._ledger, self._health, tasks)
        self._left = False

    @classmethod
    @asynccontextmanager
    async def open(cls, root: AnyPath, *, durability: Durability = Durability.INDEX) -> AsyncGenerator[Self]:
        """Open the history in *root* for the length of an ``async with`` block.

        Args:
            root: The directory that holds one store for all projects, such as a home directory. It is made when there
                is none.
            durability: What it means that the store has something.
        """
        error: BaseException | None = None
        async with create_task_group() as tasks:
            tracker = cls(root, tasks, durability=durability)
            tasks.start_soon(tracker._store.serve)
            try:
                await tracker._attempt(reading.is_open)
                yield tracker
            except BaseException as raised:  # noqa: BLE001 - reason: raised below, outside of the group, as it is
                error = raised
            await tracker._leave()
        if error is not None:
            try:
                raise error
            finally:
                del error  # else its traceback holds this frame, and this frame it

    # -- recording ------------------------------------------------------------------------------------------

    async def record_run_start(self, project: str, **said: Unpack[RunStart]) -> Run:
        """A run of *project* has begun. Two that begin in one instant are two.

        Args:
            project: Its name; it becomes known with its first run.
            said: What else there is to say; see `RunStart`.
        """
        return await self._record(self._start_run(project, said))

    async def record_run_complete(self, run: Run | str, status: RunStatus | str, **said: Unpack[RunEnd]) -> Run | None:
        """A run has ended.

        Args:
            run: What `record_run_start` returned, or its id.
            status: ``success`` or ``failed``.
            said: What else there is to say; see `RunEnd`.

        Returns:
            The run as it ended; None for an id that nobody knows, which is logged.

        Raises:
            ValueError: *status* is neither.
        """
        return await self._record(self._complete_run(run, status, said))

    async def record_task_start(self, run: Run | str, name: str, **said: Unpack[TaskStart]) -> RunTask:
        """The task *name* of a run has begun.

        Raises:
            ValueError: *name* is blank.
        """
        return await self._record(self._start_task(run, name, said))

    async def record_task_complete(
        self, task: RunTask | str, exit_code: int | None = 0, **said: Unpack[TaskEnd]
    ) -> RunTask | None:
        """A task has ended.

        Args:
            task: What `record_task_start` returned, or its id.
            exit_code: It has failed when this is neither 0 nor None, unless *said* has a ``status``.
            said: What else there is to say; see `TaskEnd`.

        Returns:
            The task as it ended; None for an id that nobody knows, which is logged.

        Raises:
            ValueError: The status is neither ``completed`` nor ``failed``.
        """
        return await self._record(self._complete_task(task, exit_code, said))

    async def record_task_skipped(
        self, run: Run | str, name: str, kind: SkipKind | str, reason: str | None = None, **said: Unpack[TaskStart]
    ) -> RunTask:
        """The task *name* of a run is not executed.

        Args:
            run: The run, or its id.
            name: The task.
            kind: ``up-to-date``, ``serial-predecessor`` or ``unreachable``.
            reason: For people.
            said: What else there is to say; see `TaskStart`.

        Raises:
            ValueError: *kind* is none of these, or *name* is blank.
        """
        return await self._record(self._skip_task(run, name, kind, reason, said))

    # -- reading --------------------------------------------------------------------------------------------

    async def get_recent_runs(self, limit: int = 20) -> list[Run]:
        """The newest runs of all projects, newest first."""
        return await self._read(partial(reading.runs, limit=limit))

    async def get_runs(
        self, *, status: RunStatus | str | None = None, project: str | None = None, limit: int | None = None
    ) -> list[Run]:
        """The runs with this status, of the project with this id; newest first, at most *limit*.

        Raises:
            InvalidFilterError: *status* is none.
        """
        return await self._read(partial(reading.runs, status=status, project=project, limit=limit))

    async def get_run_tasks(self, run: Run | str) -> list[RunTask]:
        """The tasks of a run, in the order in which they began."""
        return await self._read(partial(reading.run_tasks, run))

    async def get_task_history(
        self,
        name: str,
        *,
        status: RunTaskStatus | str | None = None,
        project: str | None = None,
        limit: int | None = None,
    ) -> list[RunTask]:
        """What became of the task *name* in each run, newest first.

        Raises:
            InvalidFilterError: *status* is none.
        """
        return await self._read(partial(reading.task_executions, name, status=status, project=project, limit=limit))

    async def get_overall_stats(self) -> OverallStats | None:
        """All runs in numbers; None when there is none."""
        return await self._read(reading.overall_stats)

    async def get_task_stats(self, name: str, *, project: str | None = None) -> TaskStats | None:
        """All executions of the task *name* in numbers; None when there is none."""
        return await self._read(partial(reading.task_stats, name, project=project))

    async def get_all_projects(self) -> list[Project]:
        """All projects, by id."""
        return await self._read(reading.projects)

    # -- cleaning -------------------------------------------------------------------------------------------

    async def find_old_runs(
        self,
        keep_days: float,
        *,
        keep_last: int = 0,
        keep_failed_days: float | None = None,
        project: str | None = None,
    ) -> list[Run]:
        """The runs that no rule keeps, oldest first.

        A run is kept when it began within the last *keep_days*, is one of the newest *keep_last*, failed and began
        within the last *keep_failed_days*, or has not ended and began within the last 7 days.

        Args:
            keep_days: Days. >= 0.
            keep_last: How many. >= 0.
            keep_failed_days: Days. >= 0.
            project: Only the runs of the project with this id; *keep_last* then counts those.

        Raises:
            InvalidFilterError: A number is less than 0.
        """
        plan = partial(
            cleaning.find_old_runs,
            now_ms=now_ms(),
            keep_days=keep_days,
            keep_last=keep_last,
            keep_failed_days=keep_failed_days,
            project=project,
        )
        return await self._read(plan)

    async def delete_run(self, run: Run | str) -> Deletion:
        """Delete a run, its tasks, and its directory if no other run has it.

        Nothing is deleted when the directory is a symbolic link or is reached through one, is not below the root, or
        holds a store; nor when the store is not available.

        Raises:
            NotFoundError: There is no such run.
        """
        plan = partial(cleaning.delete_run, self._root, run)
        return await self._attempt(plan) or cleaning.not_deleted(run, self.state)

    async def find_orphaned_cache(self) -> list[str]:
        """The entries ``.cache/<task>/<hash>`` that no task record names, relative to the root.

        There is none when the store is not available: without it, nobody knows.
        """
        return await self._attempt(partial(cleaning.find_orphaned_cache, self._root)) or []

    async def import_runs(self, folder: AnyPath) -> ImportedRuns:
        """Record the runs whose directories are below *folder*, or are it: those that have a ``run.json``.

        Doing it again changes nothing.

        Raises:
            OSError: *folder* cannot be read.
        """
        return await self._record(importing.import_runs(self._root, Path(folder)), budget=Budget.of_each_step())

    # -- plans ----------------------------------------------------------------------------------------------

    async def _read(self, make: Callable[[], Plan[T]]) -> T:
        """Do a plan; from memory alone, when the store cannot be asked."""
        try:
            return await self._record(make(), budget=Budget.of_each_step())
        except StoreUnavailableError:
            return drive(overlaid(make(), self._ledger), in_memory)

    async def _attempt(self, make: Callable[[], Plan[T]]) -> T | None:
        """Do a plan that means nothing without a store; None when there is none."""
        try:
            return await self._record(make(), budget=Budget.of_each_step())
        except StoreUnavailableError:
            return None

    async def _record(self, plan: Plan[T], *, budget: Budget | None = None) -> T:
        return await drive_awaiting(overlaid(plan, self._ledger), partial(self._ask, budget or Budget.of_the_call()))

    async def _ask(self, budget: Budget, step: Step) -> object:
        if isinstance(step, Do):
            return await to_thread.run_sync(step.function)
        began_s = current_time()
        try:
            return await self._store.ask(step, within_s=budget.left_s)
        except StoreUnavailableError:
            if self._left:
                self._ledger.lose_all()
            raise
        finally:
            budget.spend(current_time() - began_s, degraded=self._ledger.degraded)

    def _opened(self) -> AbstractAsyncContextManager[StateManager]:
        return StateManager.open(
            self._root,
            records=RECORDS,
            durability=self._durability,
            lock_timeout_s=LOCK_TIMEOUT_S,
            on_trouble=lambda error: self._health.mention(str(error)),
        )

    async def _leave(self) -> None:
        self._left = True
        await self._store.close(PATIENCE_S)
        self._ledger.lose_all()
