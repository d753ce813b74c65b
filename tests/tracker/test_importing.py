"""Run directories that exist already are taken over once, and what cannot be is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from taskstore_async.records.runs import RunStatus, RunTaskStatus, SkipKind
from tests.tracker.conftest import of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tracker.conftest import Open

pytestmark = pytest.mark.anyio

RUN = {"project": "demo", "status": "success", "started_at": 1_700_000_000_000}


def directory(path: Path, said: object) -> Path:
    path.mkdir(parents=True)
    (path / "run.json").write_text(said if isinstance(said, str) else json.dumps(said), encoding="utf-8")
    return path


class TestImport:
    """Everything that a run.json says is recorded, under an id that stays the same."""

    async def test_a_run_with_its_tasks(self, opened: Open, tmp_path: Path) -> None:
        folder = directory(
            tmp_path / "old" / "deep" / "1",
            {
                **RUN,
                "status": "failed",
                "started_at": "2024-01-01T10:00:00+01:00",
                "completed_at": "2024-01-01T09:00:02.5Z",
                "args": ["ci"],
                "user": "ann",
                "something": "else",
                "tasks": [
                    {
                        "name": "build",
                        "status": "failed",
                        "exit_code": 2,
                        "stderr_path": "build.err",
                        "artifacts": ["o"],
                    },
                    {"name": "ship", "status": "skipped", "skip_kind": "unreachable", "skip_reason": "no"},
                ],
            },
        )
        size = (folder / "run.json").stat().st_size
        async with opened() as tracker:
            report = await of(tracker.import_runs(tmp_path / "old"))
            assert (report.runs, report.tasks, report.known, report.skipped) == (1, 2, 0, {})
            (run,) = await of(tracker.get_recent_runs())
            build, ship = await of(tracker.get_run_tasks(run))
            assert [project.id for project in await of(tracker.get_all_projects())] == ["demo"]
        assert (run.status, run.started_at, run.duration_ms) == (RunStatus.FAILED, 1_704_099_600_000, 2_500)
        assert (run.args, run.user, run.run_dir, run.size_bytes) == (("ci",), "ann", "old/deep/1", size)
        assert (build.name, build.status, build.exit_code) == ("build", RunTaskStatus.FAILED, 2)
        assert (build.stderr_path, build.artifacts) == ("old/deep/1/build.err", ("old/deep/1/o",))
        assert (ship.skip_kind, ship.skip_reason, ship.project_id) == (SkipKind.UNREACHABLE, "no", "demo")

    async def test_doing_it_again_changes_nothing(self, opened: Open, tmp_path: Path) -> None:
        directory(tmp_path / "old" / "1", RUN)
        directory(tmp_path / "old" / "2", {**RUN, "id": "mine"})
        async with opened() as tracker:
            assert (await of(tracker.import_runs(tmp_path / "old"))).runs == 2
            before = await of(tracker.get_recent_runs())
            report = await of(tracker.import_runs(tmp_path / "old"))
            assert (report.runs, report.known) == (0, 2)
            assert await of(tracker.get_recent_runs()) == before
            assert "mine" in [run.id for run in before]

    async def test_a_run_that_was_recorded_is_left_as_it_is(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
            directory(tmp_path / "old" / "1", {**RUN, "id": run.id})
            assert (await of(tracker.import_runs(tmp_path / "old"))).known == 1
            (same,) = await of(tracker.get_recent_runs())
            assert same.status is RunStatus.RUNNING

    async def test_the_directory_may_be_the_run_itself_and_holds_no_other(self, opened: Open, tmp_path: Path) -> None:
        directory(tmp_path / "old", RUN)
        directory(tmp_path / "old" / "inner", RUN)
        async with opened() as tracker:
            assert (await of(tracker.import_runs(tmp_path / "old"))).runs == 1

    async def test_many(self, opened: Open, tmp_path: Path) -> None:
        for number in range(250):
            directory(tmp_path / "old" / str(number), {**RUN, "tasks": [{"name": "x", "status": "completed"}]})
        async with opened() as tracker:
            report = await of(tracker.import_runs(tmp_path / "old"))
            assert (report.runs, report.tasks) == (250, 250)
            assert len(await of(tracker.get_runs())) == 250


class TestSkipped:
    """What gives no run is named with the reason, and the rest is taken."""

    async def test_reasons(self, opened: Open, tmp_path: Path) -> None:
        folder = tmp_path / "old"
        directory(folder / "good", RUN)
        directory(folder / "torn", '{"project": "demo"')
        directory(folder / "lacking", {"project": "demo"})
        directory(folder / "status", {**RUN, "status": "done"})
        directory(folder / "moment", {**RUN, "started_at": "yesterday"})
        directory(folder / "id", {**RUN, "id": " "})
        (folder / "nothing").mkdir()
        async with opened() as tracker:
            report = await of(tracker.import_runs(folder))
        assert report.runs == 1
        assert {path.removeprefix(f"{folder}/"): reason for path, reason in report.skipped.items()} == {
            "torn": "Input data was truncated",
            "lacking": "Object missing required field `status`",
            "status": "Invalid enum value 'done' - at `$.status`",
            "moment": "'yesterday' is no moment; write milliseconds since the epoch, or RFC 3339 text",
            "id": "Record ID cannot be empty",
        }

    async def test_what_is_not_below_the_root(
        self, opened: Open, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        elsewhere = directory(tmp_path_factory.mktemp("elsewhere") / "1", RUN)
        async with opened() as tracker:
            report = await of(tracker.import_runs(elsewhere))
            assert report.skipped == {str(elsewhere): f"it is not below {tmp_path}"}
            assert await of(tracker.get_recent_runs()) == []

    async def test_a_directory_that_is_not_there_is_an_error(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as tracker:
            with pytest.raises(FileNotFoundError):
                await of(tracker.import_runs(tmp_path / "missing"))
