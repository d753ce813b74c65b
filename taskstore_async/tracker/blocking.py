"""`RunTracker` for those who do not await."""

from __future__ import annotations

import os
import time
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar, Unpack

from taskstore_async.core.schedule import Durability
from taskstore_async.storage.clock import now_ms
from taskstore_async.storage.store import Store
from taskstore_async.tracker import cleaning, importing, reading
from taskstore_async.tracker.ledger import Ledger, in_memory, overlaid
from taskstore_async.tracker.plan import Do, Plan, Settle, Step, StoreUnavailableError, drive
from taskstore_async.tracker.settling import LATE, LOCK_TIMEOUT_S, PATIENCE_S, Health
from taskstore_async.tracker.store_thread import NotInTimeError, StoreThread
from taskstore_async.tracker.tracking import RECORDS, Budget, RunEnd, RunStart, TaskEnd, TaskStart, Tracking

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskstore_async.records.runs import Project, Run, RunStatus, RunTask, RunTaskStatus, SkipKind
    from taskstore_async.tracker.reports import Deletion, ImportedRuns, OverallStats, TaskStats
    from taskstore_async.tracker.tracking import AnyPath

__all__ = ["BlockingRunTracker"]

T = TypeVar("T")


class BlockingRunTracker(Tracking):
    """Records runs and answers questions about them, for callers without an event loop; any thread may call it.

    The store never fails a run, and no call waits longer than a second for it: see `RunTracker`, which has the same
    calls and says what each does.
    """

    def __init__(self, root: AnyPath, *, durability: Durability) -> None:
        super().__init__(root, Ledger())
        self._durability = durability
        self._inherited: list[StoreThread] = []  # of the process that this one was forked from; never closed here
        self._closed = False
        self._begin()
        _trackers.add(self)

    @classmethod
    def open(cls, root: AnyPath, *, durability: Durability = Durability.INDEX) -> Self:
        """Open the history in *root*; the store is made when there is none. See `RunTracker.open`."""
        tracker = cls(root, durability=durability)
        tracker._attempt(partial(reading.is_open))
        return tracker

    def close(self) -> None:
        """Give the store what it has not got yet, and close it; what it does not take within a second is lost."""
        if self._closed:
            return
        self._closed = True
        if not self._thread.close(PATIENCE_S):
            self._health.tell(LATE)
        self._ledger.lose_all()

    def __enter__(self) -> Self:
        """Enter the block at whose end the tracker is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # -- recording ------------------------------------------------------------------------------------------

    def record_run_start(self, project: str, **said: Unpack[RunStart]) -> Run:
        """See `RunTracker.record_run_start`."""
        return self._record(self._start_run(project, said))

    def record_run_complete(self, run: Run | str, status: RunStatus | str, **said: Unpack[RunEnd]) -> Run | None:
        """See `RunTracker.record_run_complete`."""
        return self._record(self._complete_run(run, status, said))

    def record_task_start(self, run: Run | str, name: str, **said: Unpack[TaskStart]) -> RunTask:
        """See `RunTracker.record_task_start`."""
        return self._record(self._start_task(run, name, said))

    def record_task_complete(
        self, task: RunTask | str, exit_code: int | None = 0, **said: Unpack[TaskEnd]
    ) -> RunTask | None:
        """See `RunTracker.record_task_complete`."""
        return self._record(self._complete_task(task, exit_code, said))

    def record_task_skipped(
        self, run: Run | str, name: str, kind: SkipKind | str, reason: str | None = None, **said: Unpack[TaskStart]
    ) -> RunTask:
        """See `RunTracker.record_task_skipped`."""
        return self._record(self._skip_task(run, name, kind, reason, said))

    # -- reading --------------------------------------------------------------------------------------------

    def get_recent_runs(self, limit: int = 20) -> list[Run]:
        """See `RunTracker.get_recent_runs`."""
        return self._read(partial(reading.runs, limit=limit))

    def get_runs(
        self, *, status: RunStatus | str | None = None, project: str | None = None, limit: int | None = None
    ) -> list[Run]:
        """See `RunTracker.get_runs`."""
        return self._read(partial(reading.runs, status=status, project=project, limit=limit))

    def get_run_tasks(self, run: Run | str) -> list[RunTask]:
        """See `RunTracker.get_run_tasks`."""
        return self._read(partial(reading.run_tasks, run))

    def get_task_history(
        self,
        name: str,
        *,
        status: RunTaskStatus | str | None = None,
        project: str | None = None,
        limit: int | None = None,
    ) -> list[RunTask]:
        """See `RunTracker.get_task_history`."""
        return self._read(partial(reading.task_executions, name, status=status, project=project, limit=limit))

    def get_overall_stats(self) -> OverallStats | None:
        """See `RunTracker.get_overall_stats`."""
        return self._read(reading.overall_stats)

    def get_task_stats(self, name: str, *, project: str | None = None) -> TaskStats | None:
        """See `RunTracker.get_task_stats`."""
        return self._read(partial(reading.task_stats, name, project=project))

    def get_all_projects(self) -> list[Project]:
        """See `RunTracker.get_all_projects`."""
        return self._read(reading.projects)

    # -- cleaning -------------------------------------------------------------------------------------------

    def find_old_runs(
        self,
        keep_days: float,
        *,
        keep_last: int = 0,
        keep_failed_days: float | None = None,
        project: str | None = None,
    ) -> list[Run]:
        """See `RunTracker.find_old_runs`."""
        plan = partial(
            cleaning.find_old_runs,
            now_ms=now_ms(),
            keep_days=keep_days,
            keep_last=keep_last,
            keep_failed_days=keep_failed_days,
            project=project,
        )
        return self._read(plan)

    def delete_run(self, run: Run | str) -> Deletion:
        """See `RunTracker.delete_run`."""
        plan = partial(cleaning.delete_run, self._root, run)
        return self._attempt(plan) or cleaning.not_deleted(run, self.state)

    def find_orphaned_cache(self) -> list[str]:
        """See `RunTracker.find_orphaned_cache`."""
        return self._attempt(partial(cleaning.find_orphaned_cache, self._root)) or []

    def import_runs(self, folder: AnyPath) -> ImportedRuns:
        """See `RunTracker.import_runs`."""
        return self._record(importing.import_runs(self._root, Path(folder)), budget=Budget.of_each_step())

    # -- inside ---------------------------------------------------------------------------------------------

    def _read(self, make: Callable[[], Plan[T]]) -> T:
        """Do a plan; from memory alone, when the store cannot be asked."""
        try:
            return self._record(make(), budget=Budget.of_each_step())
        except StoreUnavailableError:
            return drive(overlaid(make(), self._ledger), in_memory)

    def _attempt(self, make: Callable[[], Plan[T]]) -> T | None:
        """Do a plan that means nothing without a store; None when there is none."""
        try:
            return self._record(make(), budget=Budget.of_each_step())
        except StoreUnavailableError:
            return None

    def _record(self, plan: Plan[T], *, budget: Budget | None = None) -> T:
        return drive(overlaid(plan, self._ledger), partial(self._take, budget or Budget.of_the_call()))

    def _take(self, budget: Budget, step: Step) -> object:
        if isinstance(step, Do):
            return step.function()
        if self._closed:
            self._ledger.lose_all()
            raise StoreUnavailableError
        answer = self._thread.ask(step)
        if isinstance(step, Settle) and self._ledger.degraded:
            raise StoreUnavailableError  # the thread goes on trying; nobody waits for that
        began_s = time.monotonic()
        try:
            return answer.wait(budget.left_s)
        except NotInTimeError:
            self._health.tell(LATE)
            raise StoreUnavailableError from None
        finally:
            budget.spend(time.monotonic() - began_s, degraded=self._ledger.degraded)

    def _begin(self) -> None:
        self._health = Health(self._root, self._ledger)
        self._thread = StoreThread(self._opened, self._ledger, self._health)

    def _opened(self) -> Store:
        return Store.open(self._root, records=RECORDS, durability=self._durability, lock_timeout_s=LOCK_TIMEOUT_S)

    def _begin_in_child(self) -> None:
        """In a forked child: begin anew. What waited is its parent's to write; what is under way may end here."""
        self._inherited.append(self._thread)  # kept, so that nothing of the parent's is closed
        self._ledger = self._ledger.of_child()
        if not self._closed:
            self._begin()


_trackers: Final[weakref.WeakSet[BlockingRunTracker]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for tracker in list(_trackers):
        tracker._begin_in_child()  # noqa: SLF001 - reason: this is its own module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
