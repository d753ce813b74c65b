"""The history of runs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from benchmarks.rows import Absent, Family, Row, at_most
from benchmarks.samples import STAMP, folder
from taskstore_async import Durability, Store
from taskstore_async.bench.measure import Sample, race, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rows import Profile

__all__ = ["FAMILY"]


def rows(profile: Profile) -> Iterator[Row | Absent]:
    """Everything about runs."""
    if find_spec("taskstore_async.tracker") is None:
        yield Absent("record_task_start + complete", "there is no tracker yet")
        return
    from taskstore_async.records.runs import RunTask, RunTaskStatus
    from taskstore_async.tracker import BlockingRunTracker

    count = max(50, profile.puts // 16)

    def tracked() -> Sample:
        with folder() as path, BlockingRunTracker.open(path, durability=Durability.INDEX) as tracker:
            run = tracker.record_run_start("bench")
            tracker.record_task_complete(tracker.record_task_start(run, "warm"))
            with timed() as timer:
                for number in range(count):
                    tracker.record_task_complete(tracker.record_task_start(run, f"task-{number}"))
        return Sample(timer.seconds)

    def two_puts() -> Sample:
        with folder() as path, Store.open(path, records=[RunTask]) as store:
            store.put(RunTask(id="warm", run_id="r", name="warm"))
            with timed() as timer:
                for number in range(count):
                    task = RunTask(id=f"r-{number}", run_id="r", name=f"task-{number}", started_at=STAMP)
                    task = task.evolve(status=RunTaskStatus.RUNNING)
                    stored = store.put(task)
                    store.put(stored.evolve(status=RunTaskStatus.COMPLETED, exit_code=0, completed_at=STAMP + 5))
        return Sample(timer.seconds)

    contest = race({"puts": two_puts, "tracker": tracked}, rounds=profile.rounds)
    yield Row(
        name="tracker.task",
        work="record_task_start and record_task_complete, INDEX",
        floor="two puts of the same records",
        value=contest.cost("tracker", "puts"),
        budget=at_most(1.1),
        detail=f"{contest.seconds('tracker') / count * 1e6:.0f} against {contest.seconds('puts') / count * 1e6:.0f} µs",
    )


FAMILY = Family("tracker", rows)
