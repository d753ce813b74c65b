"""The history of runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anyio import run

from benchmarks.rows import Family, Row, at_most
from benchmarks.samples import STAMP, folder
from taskstore_async import Durability, StateManager, Store
from taskstore_async.bench.measure import Sample, race, timed
from taskstore_async.records.runs import RunTask, RunTaskStatus
from taskstore_async.tracker import BlockingRunTracker, RunTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.rows import Profile

__all__ = ["FAMILY"]


def rows(profile: Profile) -> Iterator[Row]:
    """Everything about runs."""
    count = max(50, profile.puts // 16)
    yield _row(profile, "BlockingRunTracker", "Store", partial(_tracked, count), partial(_put, count))
    yield _row(
        profile,
        "RunTracker on asyncio",
        "StateManager",
        lambda: run(_tracked_awaiting, count),
        lambda: run(_put_awaiting, count),
    )


def _row(profile: Profile, title: str, floor: str, tracker: Callable[[], Sample], puts: Callable[[], Sample]) -> Row:
    contest = race({"puts": puts, "tracker": tracker}, rounds=profile.rounds)
    count = max(50, profile.puts // 16)
    took = [contest.seconds(name) / count * 1e6 for name in ("tracker", "puts")]
    return Row(
        name=f"tracker.task.{floor}",
        work=f"record_task_start and record_task_complete, INDEX, {title}",
        floor=f"two puts of the same records, {floor}",
        value=contest.cost("tracker", "puts"),
        budget=at_most(1.1),
        detail=f"{took[0]:.0f} against {took[1]:.0f} µs",
    )


def _begun(name: str) -> RunTask:
    return RunTask(id=f"r-{name}", run_id="r", name=name, status=RunTaskStatus.RUNNING, started_at=STAMP)


def _ended(task: RunTask) -> RunTask:
    return task.evolve(status=RunTaskStatus.COMPLETED, exit_code=0, completed_at=STAMP + 5)


def _tracked(count: int) -> Sample:
    with folder() as path, BlockingRunTracker.open(path, durability=Durability.INDEX) as tracker:
        bench = tracker.record_run_start("bench")
        tracker.record_task_complete(tracker.record_task_start(bench, "warm"))
        with timed() as timer:
            for number in range(count):
                tracker.record_task_complete(tracker.record_task_start(bench, f"task-{number}"))
    return Sample(timer.seconds)


def _put(count: int) -> Sample:
    with folder() as path, Store.open(path, records=[RunTask]) as store:
        store.put(_begun("warm"))
        with timed() as timer:
            for number in range(count):
                store.put(_ended(store.put(_begun(f"task-{number}"))))
    return Sample(timer.seconds)


async def _tracked_awaiting(count: int) -> Sample:
    with folder() as path:
        async with RunTracker.open(path, durability=Durability.INDEX) as tracker:
            bench = await tracker.record_run_start("bench")
            await tracker.record_task_complete(await tracker.record_task_start(bench, "warm"))
            with timed() as timer:
                for number in range(count):
                    await tracker.record_task_complete(await tracker.record_task_start(bench, f"task-{number}"))
    return Sample(timer.seconds)


async def _put_awaiting(count: int) -> Sample:
    with folder() as path:
        async with StateManager.open(path, records=[RunTask]) as store:
            await store.put(_begun("warm"))
            with timed() as timer:
                for number in range(count):
                    await store.put(_ended(await store.put(_begun(f"task-{number}"))))
    return Sample(timer.seconds)


FAMILY = Family("tracker", rows)
