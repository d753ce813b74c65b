"""What is recorded can be read, by either tracker, in this process and in the next."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from anyio import create_task_group

from taskstore_async import InvalidFilterError, InvalidRecordError, Store
from taskstore_async.records.runs import Run, RunStatus, RunTaskStatus, SkipKind
from taskstore_async.storage.engine import Engine
from taskstore_async.storage.ops import Batch, Put
from taskstore_async.tracker import TrackerState
from tests.tracker.conftest import of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from taskstore_async.storage.ops import Answer, Op
    from tests.tracker.conftest import Open

pytestmark = pytest.mark.anyio


class TestRecording:
    """A run, its tasks and its project are in the store when the call that records them returns."""

    async def test_a_run_from_beginning_to_end(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo", args=["build", "-v"], run_dir=tmp_path / "demo" / "1"))
            with Store.open(tmp_path) as store:
                begun = store.get(Run, run.id)
            (tmp_path / "demo" / "1").mkdir(parents=True)
            (tmp_path / "demo" / "1" / "log").write_bytes(b"12345")
            await of(tracker.record_run_complete(run, "success"))
            assert tracker.state == TrackerState()
        assert begun is not None
        assert (begun.status, begun.completed_at, begun.duration_ms) == (RunStatus.RUNNING, None, None)
        with Store.open(tmp_path) as store:
            ended = store.get(Run, run.id)
            assert [project["name"] for project in store.list("projects")] == ["demo"]
        assert ended is not None
        assert (ended.status, ended.args, ended.run_dir) == (RunStatus.SUCCESS, ("build", "-v"), "demo/1")
        assert ended.size_bytes == 5
        assert ended.completed_at is not None
        assert ended.duration_ms == ended.completed_at - ended.started_at
        assert ended.user
        assert ended.hostname

    async def test_tasks_that_complete_fail_and_are_skipped(self, opened: Open) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
            good = await of(tracker.record_task_start(run, "compile", stdout_path="logs/compile", script_hash="abc"))
            await of(tracker.record_task_complete(good, 0, artifacts=["out/a", "out/b"], duration_ms=7))
            bad = await of(tracker.record_task_start(run.id, "test", depends_on=["compile"]))
            await of(tracker.record_task_complete(bad.id, 2))
            await of(tracker.record_task_skipped(run, "deploy", "unreachable", "test failed"))
            tasks = {task.name: task for task in await of(tracker.get_run_tasks(run))}
        assert set(tasks) == {"compile", "test", "deploy"}
        compiled, tested, deployed = tasks["compile"], tasks["test"], tasks["deploy"]
        assert (compiled.status, compiled.exit_code, compiled.duration_ms) == (RunTaskStatus.COMPLETED, 0, 7)
        assert (compiled.stdout_path, compiled.script_hash) == ("logs/compile", "abc")
        assert compiled.artifacts == ("out/a", "out/b")
        assert (tested.status, tested.exit_code, tested.depends_on) == (RunTaskStatus.FAILED, 2, ("compile",))
        assert (deployed.status, deployed.skip_kind) == (RunTaskStatus.SKIPPED, SkipKind.UNREACHABLE)
        assert deployed.skip_reason == "test failed"
        assert {task.project_id for task in tasks.values()} == {"demo"}

    async def test_many_at_a_time_are_each_written_once(self, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        written: list[str] = []
        commit = Engine.commit

        def counted(engine: Engine, ops: Sequence[Op], **options: Any) -> list[Answer]:  # noqa: ANN401 - reason: as it has them
            for op in ops:
                assert isinstance(op, Put | Batch)
                written.extend(
                    put.draft.id for put in (op.ops if isinstance(op, Batch) else [op]) if isinstance(put, Put)
                )
            return commit(engine, ops, **options)

        async with opened() as tracker:

            async def begin(task_id: str) -> None:
                await of(tracker.record_task_start(run, "build", task_id=task_id))

            run = await of(tracker.record_run_start("demo"))
            monkeypatch.setattr(Engine, "commit", counted)
            wanted = [f"task-{number}" for number in range(40)]
            async with create_task_group() as tasks:
                for task_id in wanted:
                    tasks.start_soon(begin, task_id)
            assert sorted(written) == sorted(wanted)

    async def test_two_runs_in_one_instant_stay_two(self, opened: Open) -> None:
        async with opened() as tracker:
            runs = [await of(tracker.record_run_start("demo", started_at=1_700_000_000_000)) for _ in range(2)]
            assert {run.id for run in await of(tracker.get_recent_runs())} == {run.id for run in runs}
            assert len({run.id for run in runs}) == 2

    async def test_a_run_may_end_in_another_process(self, opened: Open) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
            task = await of(tracker.record_task_start(run, "build"))
        async with opened() as tracker:
            await of(tracker.record_task_complete(task.id, 0))
            ended = await of(tracker.record_run_complete(run.id, "failed"))
            assert ended is not None
            assert (ended.project_id, ended.status) == ("demo", RunStatus.FAILED)
            (again,) = await of(tracker.get_run_tasks(run.id))
            assert (again.name, again.status) == ("build", RunTaskStatus.COMPLETED)

    async def test_paths_are_relative_to_the_root_where_they_can_be(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as tracker:
            run = await of(
                tracker.record_run_start(
                    "demo", cwd=tmp_path / "work", task_file="tasks.yml", run_dir="runs/./1", project_path="/elsewhere"
                )
            )
            assert (run.cwd, run.task_file, run.run_dir) == ("work", "work/tasks.yml", "runs/1")
            (project,) = await of(tracker.get_all_projects())
            assert project.path == "/elsewhere"

    async def test_a_project_is_written_once_and_keeps_its_path(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as tracker:
            await of(tracker.record_run_start("demo", project_path="/elsewhere"))
        async with opened() as tracker:
            await of(tracker.record_run_start("demo"))
            (project,) = await of(tracker.get_all_projects())
            assert project.path == "/elsewhere"
        journal = tmp_path / ".taskstore" / "projects.jsonl"
        assert len(journal.read_bytes().splitlines()) == 1

    async def test_the_journals_are_no_business_of_git(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as tracker:
            await of(tracker.record_task_start(await of(tracker.record_run_start("demo")), "build"))
        ignored = (tmp_path / ".taskstore" / ".gitignore").read_text(encoding="utf-8").splitlines()
        assert {"projects.jsonl", "runs.jsonl", "tasks.jsonl"} <= set(ignored)

    async def test_a_long_project_name_is_no_longer_id(self, opened: Open) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("p" * 300))
            (project,) = await of(tracker.get_all_projects())
            assert (project.name, project.id) == ("p" * 300, run.project_id)
            assert [one.id for one in await of(tracker.get_runs(project=run.project_id))] == [run.id]


class TestMistakes:
    """Programming errors are raised, and nothing is recorded."""

    async def test_a_status_that_is_none(self, opened: Open) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
            task = await of(tracker.record_task_start(run, "build"))
            for status in ("done", "running"):
                with pytest.raises(ValueError, match=status):
                    await of(tracker.record_run_complete(run, status))
                with pytest.raises(ValueError, match=status):
                    await of(tracker.record_task_complete(task, status=status))
            with pytest.raises(ValueError, match="lazy"):
                await of(tracker.record_task_skipped(run, "deploy", "lazy"))
            with pytest.raises(ValueError, match="empty"):
                await of(tracker.record_task_start(run, " "))
            with pytest.raises(InvalidFilterError, match="running, success, failed"):
                await of(tracker.get_runs(status="done"))
            assert [one.status for one in await of(tracker.get_recent_runs())] == [RunStatus.RUNNING]
            assert len(await of(tracker.get_run_tasks(run))) == 1

    async def test_a_record_that_no_store_takes(self, opened: Open) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
            with pytest.raises(InvalidRecordError, match=r"\$\.exit_code"):
                await of(tracker.record_task_complete(await of(tracker.record_task_start(run, "x")), "1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # reason: the mistake
            assert tracker.state == TrackerState()

    async def test_an_id_that_nobody_knows_is_told_and_fails_nobody(
        self, opened: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with opened() as tracker:
            assert await of(tracker.record_run_complete("run-x", "success")) is None
            assert await of(tracker.record_task_complete("task-x")) is None
            assert tracker.state == TrackerState(lost=2)
            assert await of(tracker.get_recent_runs()) == []
        assert "runs/run-x is unknown" in caplog.text


class TestReading:
    """Questions are answered newest first, by status and project, and in numbers."""

    async def test_runs_by_status_and_project(self, opened: Open) -> None:
        async with opened() as tracker:
            for number, (project, status) in enumerate([("a", "success"), ("b", "failed"), ("a", "failed")]):
                run = await of(tracker.record_run_start(project, run_id=f"run-{number}", started_at=number))
                await of(tracker.record_run_complete(run, status))
            await of(tracker.record_run_start("a", run_id="run-3", started_at=3))
            assert [run.id for run in await of(tracker.get_recent_runs(2))] == ["run-3", "run-2"]
            assert [run.id for run in await of(tracker.get_runs(project="a", limit=2))] == ["run-3", "run-2"]
            assert [run.id for run in await of(tracker.get_runs(status=RunStatus.FAILED))] == ["run-2", "run-1"]
            assert [run.id for run in await of(tracker.get_runs(status="failed", project="b"))] == ["run-1"]
            stats = await of(tracker.get_overall_stats())
            assert stats is not None
            assert (stats.projects, stats.total, stats.success, stats.failed, stats.running) == (2, 4, 1, 2, 1)
            assert stats.success_rate == 1 / 3
            assert stats.last_started_at == 3

    async def test_without_runs_there_are_no_numbers(self, opened: Open) -> None:
        async with opened() as tracker:
            assert await of(tracker.get_overall_stats()) is None
            assert await of(tracker.get_task_stats("build")) is None
            await of(tracker.record_run_start("demo"))
            stats = await of(tracker.get_overall_stats())
            assert stats is not None
            assert (stats.success_rate, stats.mean_duration_ms) == (None, None)

    async def test_a_task_in_numbers(self, opened: Open) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
            for number in range(1, 21):
                task = await of(tracker.record_task_start(run, "build", started_at=number))
                await of(tracker.record_task_complete(task, int(number == 20), duration_ms=number * 10))
            await of(tracker.record_task_skipped(run, "build", "up-to-date", started_at=21))
            await of(tracker.record_task_start(run, "other"))
            stats = await of(tracker.get_task_stats("build"))
            assert stats is not None
            assert (stats.total, stats.success, stats.failed, stats.skipped) == (21, 19, 1, 1)
            assert stats.success_rate == 0.95
            assert (stats.mean_duration_ms, stats.median_duration_ms) == (105, 105)
            assert (stats.p95_duration_ms, stats.max_duration_ms) == (190, 200)
            assert stats.last is not None
            assert stats.last.status is RunTaskStatus.SKIPPED
            history = await of(tracker.get_task_history("build", status="failed"))
            assert [task.started_at for task in history] == [20]

    async def test_what_is_not_ours_in_a_collection_is_left_out(self, opened: Open, tmp_path: Path) -> None:
        journal = tmp_path / ".taskstore" / "tasks.jsonl"
        journal.parent.mkdir()
        journal.write_text('{"id":"a","title":"somebody else\'s","run_id":"run-1","updated_at":1}\n', encoding="utf-8")
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo", run_id="run-1"))
            await of(tracker.record_task_start(run, "build"))
            assert [task.name for task in await of(tracker.get_run_tasks(run))] == ["build"]
            stats = await of(tracker.get_overall_stats())
            assert stats is not None
            assert stats.tasks["running"] == 1


def test_whoever_blocks_loads_no_event_loop() -> None:
    program = "import sys; from taskstore_async.tracker import BlockingRunTracker; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert not {"anyio", "asyncio", "trio", "aiosqlite"} & set(result.stdout.split())


def test_names_that_are_none_are_none() -> None:
    import taskstore_async.tracker  # noqa: PLC0415 - reason: what is tested

    with pytest.raises(AttributeError, match="Nonsense"):
        taskstore_async.tracker.Nonsense  # type: ignore[attr-defined]  # noqa: B018 # pyright: ignore[reportAttributeAccessIssue, reportUnusedExpression] - reason: the mistake
