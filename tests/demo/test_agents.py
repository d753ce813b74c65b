"""Simulated agents share one store."""

from __future__ import annotations

import lzma
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from taskstore_async import Store, eq
from taskstore_async.demo.agents import Job, Outcome, Progress, run, tasks_from
from taskstore_async.records.loops import SignalRecord
from taskstore_async.records.tasks import Execution, ExecutionStatus, TaskSpec, TaskStatus

if TYPE_CHECKING:
    from pathlib import Path

TASKS = [(f"ts-{number:03}", f"Part {number}", "") for number in range(40)]


def do(path: Path, loop: str = "asyncio", *, agents: int = 5, seed: int = 1) -> Outcome:
    return run(Job(path=str(path), agents=agents, tasks=TASKS, loop=loop, seed=seed), Progress(), lambda: None)


class TestAgents:
    """No task is done twice, none is lost, and the index is what the journal says."""

    @pytest.mark.parametrize("loop", ["asyncio", "trio"])
    def test_every_task_ends_once(self, loop: str, tmp_path: Path) -> None:
        outcome = do(tmp_path, loop)
        assert outcome.broken == ()
        assert outcome.complete + outcome.given_up == len(TASKS)
        with Store.open(tmp_path, create=False) as store:
            done = store.list(Execution, eq("status", ExecutionStatus.COMPLETE))
            assert sorted(one.ts_id for one in done) == sorted(
                one.id for one in store.list(TaskSpec, eq("status", TaskStatus.COMPLETE))
            )
            assert store.count(Execution) == outcome.executions == outcome.progress.claimed
            assert store.count(SignalRecord) == outcome.progress.signals == outcome.progress.failures

    def test_what_an_earlier_demo_left_is_finished_and_not_done_again(self, tmp_path: Path) -> None:
        first = do(tmp_path)
        again = do(tmp_path, "trio", seed=2)
        assert again.broken == ()
        assert (again.complete, again.given_up, again.executions) == (first.complete, first.given_up, first.executions)
        assert again.progress.claimed == 0

    def test_two_processes_share_the_tasks(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from tests.demo.test_agents import do\n"
            "outcome = do(Path(sys.argv[1]), sys.argv[2], seed=int(sys.argv[3]))\n"
            "assert not outcome.broken, outcome.broken\n"
            "print(outcome.progress.claimed, outcome.executions)"
        )
        command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
        processes = [
            subprocess.Popen([*command, loop, str(seed)], stdout=subprocess.PIPE, text=True)
            for seed, loop in enumerate(("asyncio", "trio"))
        ]
        claimed, executions = zip(
            *(map(int, process.communicate(timeout=60)[0].split()) for process in processes), strict=True
        )
        assert [process.returncode for process in processes] == [0, 0]
        assert sum(claimed) == max(executions)

    def test_a_task_that_was_done_twice_is_told(self, tmp_path: Path) -> None:
        do(tmp_path)
        with Store.open(tmp_path) as store:
            store.create(Execution(id="twice", ts_id="ts-001", status=ExecutionStatus.COMPLETE))
        assert "ts-001 was done 2 times" in do(tmp_path).broken


class TestTasksFromAFile:
    """Any issue file gives tasks."""

    def test_id_title_and_description_are_taken(self) -> None:
        lines = [
            b'{"id":"a","title":"A","description":"first"}',
            b"not json",
            b"[" * 10_000,
            b'{"id":7}',
            b'{"title":"no id"}',
            b'{"id":"a","title":"A, again"}',
        ]
        assert tasks_from(lines, None) == [("a", "A, again", ""), ("7", "7", "")]
        assert tasks_from(lines, 1) == [("a", "A", "first")]

    def test_a_real_issue_file(self, shared_data: Path) -> None:
        with lzma.open(shared_data / "beads_max_live.jsonl.xz") as file:
            tasks = tasks_from(file.read().split(b"\n"), None)
        assert len(tasks) == 9_365
