"""Memory in front of a store is one store, and what a store refuses is counted."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async import LimitExceededError, eq, gt
from taskstore_async.errors import WriteFailedError
from taskstore_async.records.runs import Project, Run, RunStatus, RunTask, RunTaskStatus
from taskstore_async.tracker.ledger import Ledger, in_memory, overlaid
from taskstore_async.tracker.plan import Plan, Put, Step, count, drive, find, get
from taskstore_async.tracker.settling import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from taskstore_async import Filter, Record

RUNS = st.lists(
    st.builds(
        Run,
        id=st.integers(0, 7).map(lambda number: f"run-{number}"),
        project_id=st.sampled_from("ab"),
        status=st.sampled_from(RunStatus),
        started_at=st.integers(0, 3),
    ),
    unique_by=lambda run: run.id,
)
FILTERS = st.lists(
    st.one_of(
        st.builds(eq, st.just("project_id"), st.sampled_from("ab")),
        st.builds(eq, st.just("status"), st.sampled_from(RunStatus)),
        st.builds(gt, st.just("started_at"), st.integers(0, 3)),
    ),
    max_size=2,
)


def holding(records: Iterable[Record]) -> Ledger:
    ledger = Ledger()
    for record in records:
        ledger.keep(record)
    return ledger


def store_of(records: Iterable[Record]) -> Callable[[Step], object]:
    """A store, as far as plans go, that has *records*."""
    ledger = holding(records)

    def take(step: Step) -> object:
        def one() -> Plan[object]:
            return (yield step)

        return drive(overlaid(one(), ledger), in_memory)

    return take


def failing(_step: Step) -> object:
    """A store that cannot be written."""
    raise WriteFailedError("/x", "no")


class TestOverlay:
    """What waits in memory counts as stored, in every answer."""

    @given(stored=RUNS, waiting=RUNS, filters=FILTERS, order_by=st.sampled_from([None, "-started_at", "-id"]))
    def test_memory_over_a_store_is_a_store_with_everything(
        self, stored: list[Run], waiting: list[Run], filters: list[Filter], order_by: str | None
    ) -> None:
        everything = store_of({run.id: run for run in (*stored, *waiting)}.values())
        below, above = store_of(stored), holding(waiting)

        def question() -> Plan[list[object]]:
            answers: list[object] = [(yield from count(Run, *filters)), (yield from get(Run, "run-0"))]
            for limit, offset in product((None, 0, 1, 3), (0, 1, 2)):
                found = yield from find(Run, *filters, order_by=order_by, limit=limit, offset=offset)
                answers.append(found)
            return answers

        assert drive(overlaid(question(), above), below) == drive(question(), everything)

    def test_an_error_of_the_store_reaches_the_plan(self) -> None:
        def plan() -> Plan[str]:
            try:
                yield from count(Run)
            except WriteFailedError:
                return "handled"
            return "never"

        assert drive(overlaid(plan(), Ledger()), failing) == "handled"
        with pytest.raises(WriteFailedError):
            drive(overlaid(count(Run), Ledger()), failing)


class TestUnderWay:
    """What a later call will change is known until it has ended, or its run has."""

    def test_tasks_end_with_their_run(self) -> None:
        task, other = (RunTask(id=f"t-{run}", run_id=run, name="x", status=RunTaskStatus.RUNNING) for run in "ab")
        ledger = holding([task, other])
        ledger.settle(ledger.waiting())
        assert ledger.known(RunTask, task.id) == task
        ledger.forget_tasks_of("a")
        assert ledger.known(RunTask, task.id) is None
        assert ledger.known(RunTask, other.id) == other

    def test_what_has_ended_is_known_as_long_as_it_waits(self) -> None:
        ledger = holding([Run(id="r", project_id="p", started_at=1)])
        ended = Run(id="r", project_id="p", started_at=1, status=RunStatus.FAILED)
        ledger.keep(ended)
        assert ledger.known(Run, "r") == ended
        ledger.settle(ledger.waiting())
        assert ledger.known(Run, "r") is None


class TestSettling:
    """Everything that a store takes gets there; what it refuses for good is counted, and keeps nothing else back."""

    def test_a_refused_record_is_lost_alone(self) -> None:
        ledger = holding(RunTask(id=f"t{number}", run_id="r", name="x") for number in range(4))
        taken: list[str] = []

        def take(step: Step) -> object:
            if isinstance(step, Put):
                ids = [record.id for record in step.records]
                if "t2" in ids:
                    raise LimitExceededError("tasks/t2", value=2, limit=1, unit="bytes")
                taken.extend(ids)
            return None

        drive(settle(ledger), take)
        assert taken == ["t0", "t1", "t3"]
        assert (ledger.state.waiting, ledger.state.lost) == (0, 1)

    def test_a_store_that_fails_keeps_everything_waiting(self) -> None:
        ledger = holding([Run(id="r", project_id="p", started_at=1)])

        with pytest.raises(WriteFailedError):
            drive(settle(ledger), failing)
        assert (ledger.state.waiting, ledger.state.lost) == (1, 0)

    def test_what_changes_while_it_is_written_is_written_again(self) -> None:
        run = Run(id="r", project_id="p", started_at=1)
        ledger = holding([run])
        put: list[Record] = []

        def take(step: Step) -> object:
            if isinstance(step, Put):
                if not put:
                    ledger.keep(run.evolve(status=RunStatus.FAILED))
                put.extend(step.records)
            return None

        drive(settle(ledger), take)
        assert [getattr(record, "status", None) for record in put] == ["running", "failed"]
        assert ledger.state.waiting == 0

    def test_a_project_that_is_there_is_not_written_again(self) -> None:
        put: list[Record] = []

        def take(step: Step) -> object:
            if isinstance(step, Put):
                put.extend(step.records)
                return None
            return Project(id="p", name="p", path="/here")

        drive(settle(holding([Project(id="p", name="p")])), take)
        drive(settle(holding([Project(id="p", name="p", path="/here")])), take)
        assert put == []
        drive(settle(holding([Project(id="p", name="p", path="/there")])), take)
        assert [record.id for record in put] == ["p"]

    def test_much_goes_in_several_transactions(self) -> None:
        ledger = holding(RunTask(id=f"t{number}", run_id="r", name="x") for number in range(1_200))
        sizes: list[int] = []

        def take(step: Step) -> object:
            if isinstance(step, Put):
                sizes.append(len(step.records))
            return None

        drive(settle(ledger), take)
        assert sizes == [500, 500, 200]
