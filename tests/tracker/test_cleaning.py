"""What survives cleaning is what the rule says, and nothing outside of the root is ever removed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskstore_async import Document, InvalidFilterError, NotFoundError, Store
from taskstore_async.records.runs import Project, Run, RunStatus, RunTask
from taskstore_async.storage.clock import now_ms
from taskstore_async.tracker import Deletion
from taskstore_async.tracker.cleaning import clean
from taskstore_async.tracker.directories import RefusedPathError, remove, size_of
from taskstore_async.tracker.tracking import RECORDS
from tests.tracker.conftest import of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from taskstore_async.tracker.reports import Cleaning
    from tests.tracker.conftest import Open

DAY_MS = 24 * 3_600_000
NOW_MS = 1_800_000_000_000

HISTORIES = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(RunStatus),
        st.integers(0, 20 * 4).map(lambda quarters: NOW_MS - quarters * DAY_MS // 4),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that the examples of the property share."""
    with Store.open(tmp_path_factory.mktemp("clean"), records=RECORDS) as store:
        yield store


def cleaned(store: Store, **rule: object) -> Cleaning:
    return clean(store, now_ms=NOW_MS, **rule)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # reason: the tests pass what clean takes


class TestRule:
    """A run survives when one of the rules keeps it, and only then."""

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
    @given(
        history=HISTORIES,
        keep_days=st.integers(0, 12),
        keep_last=st.integers(0, 4),
        keep_failed_days=st.none() | st.integers(0, 20),
        project=st.sampled_from([None, "a"]),
        dry_run=st.booleans(),
    )
    def test_what_survives_is_what_the_rule_says(  # noqa: PLR0917 - reason: Hypothesis names them all
        self,
        store: Store,
        history: list[tuple[str, RunStatus, int]],
        keep_days: int,
        keep_last: int,
        keep_failed_days: int | None,
        project: str | None,
        dry_run: bool,  # noqa: FBT001 - reason: as above
    ) -> None:
        store.delete_where(Run)
        store.delete_where(RunTask)
        runs = [
            Run(id=f"r{number:02}", project_id=owner, status=status, started_at=at, run_dir=f"runs/{number}")
            for number, (owner, status, at) in enumerate(history)
        ]
        store.create_many(runs)
        store.create_many([RunTask(id=f"t-{run.id}", run_id=run.id, name="x", started_at=1) for run in runs])
        store.put(Project(id="a", name="a"))
        for run in runs:
            (store.path.parent / str(run.run_dir)).mkdir(parents=True, exist_ok=True)

        done = cleaned(
            store,
            keep_days=keep_days,
            keep_last=keep_last,
            keep_failed_days=keep_failed_days,
            project=project,
            dry_run=dry_run,
        )

        # The rule anew, in the plainest way.
        mine = [run for run in runs if project in {None, run.project_id}]
        newest = sorted(mine, key=lambda run: (-run.started_at, run.id))[:keep_last]
        kept = set[str]()
        for run in runs:
            age_days = (NOW_MS - run.started_at) / DAY_MS
            if (
                run not in mine
                or run in newest
                or age_days <= keep_days
                or (run.status == "failed" and keep_failed_days is not None and age_days <= keep_failed_days)
                or (run.status == "running" and age_days <= 7)
            ):
                kept.add(run.id)
        gone = {run.id for run in runs} - kept
        assert {run.id for run in done.runs} == gone
        assert done.refused == []
        left = {run.id for run in runs} if dry_run else kept
        assert {run.id for run in store.list(Run)} == left
        assert {task.run_id for task in store.list(RunTask)} == left
        assert {run.id for run in runs if (store.path.parent / str(run.run_dir)).exists()} == left

    @pytest.mark.parametrize("name", ["keep_days", "keep_last", "keep_failed_days"])
    def test_numbers_below_zero_mean_nothing(self, store: Store, name: str) -> None:
        with pytest.raises(InvalidFilterError, match=f"{name}=-1"):
            cleaned(store, **{"keep_days": 1, name: -1})


class TestSpace:
    """What is said to be freed has been freed, in directories and in journals."""

    def test_freed_bytes_are_those_of_files_and_lines(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=RECORDS) as store:
            for number in range(10):
                run_dir = tmp_path / "runs" / str(number)
                (run_dir / "deep").mkdir(parents=True)
                (run_dir / "deep" / "log").write_bytes(b"x" * 1_000)
                store.create(
                    Run(
                        id=f"r{number}",
                        project_id="p",
                        status=RunStatus.SUCCESS,
                        started_at=1,
                        run_dir=f"runs/{number}",
                    )
                )
            shared = tmp_path / "kept"
            os.link(tmp_path / "runs" / "0" / "deep" / "log", shared)
            before = sum(len(line.raw) + 1 for line in store.lines(Run))  # some of them wait to be flushed
            dry = cleaned(store, keep_days=1, dry_run=True)
            done = cleaned(store, keep_days=1)
            after = size_of(tmp_path / ".taskstore" / "runs.jsonl")
        assert dry.freed_bytes == 9_000
        assert [run.id for run in dry.runs] == [run.id for run in done.runs]
        assert len(done.runs) == 10
        assert done.freed_bytes == 9_000 + before - after
        assert after == 0
        assert shared.read_bytes() == b"x" * 1_000

    def test_it_compacts_even_when_nothing_is_old(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=RECORDS) as store:
            run = store.create(Run(id="r", project_id="p", started_at=NOW_MS))
            store.flush()
            store.update(run.evolve(status=RunStatus.SUCCESS))
            store.flush()
            done = cleaned(store, keep_days=1)
            assert done.runs == []
            assert done.freed_bytes > 0
        assert len((tmp_path / ".taskstore" / "runs.jsonl").read_bytes().splitlines()) == 1

    def test_somebody_elses_collection_keeps_its_tombstones(self, tmp_path: Path) -> None:
        with Store.open(tmp_path) as store:
            store.create(Document("tasks", {"id": "a", "title": "tracked by git"}))
            store.flush()
            store.delete("tasks", "a")
            cleaned(store, keep_days=1)
        assert b'"deleted":true' in (tmp_path / ".taskstore" / "tasks.jsonl").read_bytes()


@pytest.mark.anyio
class TestDeleting:
    """A run goes with its tasks and its directory; a path that leads elsewhere is refused, and nothing is changed."""

    async def test_record_tasks_and_directory(self, opened: Open, tmp_path: Path) -> None:
        (tmp_path / "runs" / "1").mkdir(parents=True)
        (tmp_path / "runs" / "1" / "log").write_bytes(b"12345")
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo", run_dir="runs/1"))
            other = await of(tracker.record_run_start("demo", run_dir="runs/2"))
            for one in (run, other):
                await of(tracker.record_task_complete(await of(tracker.record_task_start(one, "x"))))
                await of(tracker.record_run_complete(one, "success"))
            assert await of(tracker.delete_run(run.id)) == Deletion(run_id=run.id, deleted=True, freed_bytes=5)
            assert [one.id for one in await of(tracker.get_recent_runs())] == [other.id]
            assert await of(tracker.get_run_tasks(run)) == []
            assert len(await of(tracker.get_run_tasks(other))) == 1
            with pytest.raises(NotFoundError):
                await of(tracker.delete_run(run))
        assert [path.name for path in (tmp_path / "runs").iterdir()] == []

    @pytest.mark.parametrize(
        "run_dir",
        [
            "link",
            "link/inside",
            "runs/../../outside",
            "/etc",
            ".",
            "",
            ".taskstore",
            ".taskstore/quarantine",
            "nested",
            "nested/deep/.taskstore/prds",
            "other",
            "other/quarantine",
        ],
    )
    async def test_what_is_refused(self, opened: Open, tmp_path: Path, run_dir: str) -> None:
        outside = tmp_path.parent / f"{tmp_path.name}-outside"
        (outside / "inside").mkdir(parents=True)
        (outside / "inside" / "precious").write_text("keep me", encoding="utf-8")
        (tmp_path / "link").symlink_to(outside, target_is_directory=True)
        (tmp_path / "nested" / "deep" / ".taskstore" / "prds").mkdir(parents=True)
        (tmp_path / "other" / "quarantine").mkdir(parents=True)  # a store under another name
        (tmp_path / "other" / "store.db").touch()
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
            await of(tracker.record_run_complete(run, "success"))
            with Store.open(tmp_path) as store:  # by hand: a tracker does not record all of these as they are
                store.modify("runs", run.id, lambda one: one.evolve(run_dir=run_dir))
            deletion = await of(tracker.delete_run(run))
            assert not deletion.deleted
            assert ("is a symbolic link" if run_dir.startswith("link") else "") in str(deletion.reason)
            assert [one.id for one in await of(tracker.get_recent_runs())] == [run.id]
        assert (outside / "inside" / "precious").read_text(encoding="utf-8") == "keep me"
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "nested" / "deep" / ".taskstore" / "prds").is_dir()
        assert (tmp_path / "other" / "quarantine").is_dir()

    async def test_links_inside_of_a_directory_are_removed_and_not_followed(self, opened: Open, tmp_path: Path) -> None:
        precious = tmp_path / "precious"
        precious.mkdir()
        (precious / "file").write_text("keep me", encoding="utf-8")
        (tmp_path / "runs" / "1").mkdir(parents=True)
        (tmp_path / "runs" / "1" / "link").symlink_to(precious, target_is_directory=True)
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo", run_dir="runs/1"))
            assert (await of(tracker.delete_run(run))).deleted
        assert not (tmp_path / "runs" / "1").exists()
        assert (precious / "file").read_text(encoding="utf-8") == "keep me"

    async def test_a_directory_that_another_run_has_is_kept(self, opened: Open, tmp_path: Path) -> None:
        (tmp_path / "runs" / "1" / "part").mkdir(parents=True)
        async with opened() as tracker:
            first = await of(tracker.record_run_start("demo", run_dir="runs/1"))
            second = await of(tracker.record_run_start("demo", run_dir="runs/1/part"))
            kept = await of(tracker.delete_run(first))
            assert kept.deleted
            assert "another run" in str(kept.reason)
            assert (tmp_path / "runs" / "1" / "part").is_dir()
            assert (await of(tracker.delete_run(second))).deleted
        assert not (tmp_path / "runs" / "1" / "part").exists()

    async def test_a_run_without_a_directory_or_whose_directory_is_gone(self, opened: Open) -> None:
        async with opened() as tracker:
            for run_dir in (None, "runs/gone/deep"):
                run = await of(tracker.record_run_start("demo"))
                if run_dir is not None:
                    run = await of(tracker.record_run_start("demo", run_dir=run_dir))
                assert await of(tracker.delete_run(run)) == Deletion(run_id=run.id, deleted=True)

    async def test_old_runs_are_found_by_either_tracker(self, opened: Open) -> None:
        async with opened() as tracker:
            for days in range(5):
                run = await of(
                    tracker.record_run_start("demo", run_id=f"r{days}", started_at=now_ms() - days * DAY_MS - 1_000)
                )
                await of(tracker.record_run_complete(run, "success"))
            assert [run.id for run in await of(tracker.find_old_runs(2))] == ["r4", "r3", "r2"]
            assert [run.id for run in await of(tracker.find_old_runs(2, keep_last=3))] == ["r4", "r3"]
            assert await of(tracker.find_old_runs(2, project="other")) == []


@pytest.mark.anyio
class TestCache:
    """An entry of the cache that no task names, by a hash or by a path, is an orphan."""

    async def test_orphans(self, opened: Open, tmp_path: Path) -> None:
        cache = tmp_path / ".cache"
        for entry in ("build/by-script", "build/by-inputs", "build/nobodys", "test/by-path", "other/by-script"):
            (cache / entry).mkdir(parents=True)
        (cache / "test" / "a-file").write_text("", encoding="utf-8")
        (cache / "test" / "a-link").symlink_to(tmp_path)
        (cache / "link").symlink_to(tmp_path)
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
            await of(tracker.record_task_start(run, "build", script_hash="by-script", inputs_hash="by-inputs"))
            await of(tracker.record_task_start(run, "elsewhere", output_path=cache / "test" / "by-path" / "out"))
            found = await of(tracker.find_orphaned_cache())
        assert found == [".cache/build/nobodys", ".cache/other/by-script", ".cache/test/a-file"]

    def test_without_a_cache_there_are_none(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=RECORDS) as store:
            assert cleaned(store, keep_days=1, orphans=True).cache == []

    def test_cleaning_removes_what_the_runs_leave_behind(self, tmp_path: Path) -> None:
        entry = tmp_path / ".cache" / "build" / "abc"
        entry.mkdir(parents=True)
        (entry / "out").write_bytes(b"123")
        with Store.open(tmp_path, records=RECORDS) as store:
            store.create(Run(id="r", project_id="p", status=RunStatus.SUCCESS, started_at=1))
            store.create(RunTask(id="t", run_id="r", name="build", script_hash="abc"))
            assert cleaned(store, keep_days=1, dry_run=True).cache == []
            dry = cleaned(store, keep_days=1, orphans=True, dry_run=True)
            assert (dry.cache, dry.freed_bytes) == ([".cache/build/abc"], 3)
            assert entry.exists()
            assert cleaned(store, keep_days=1, orphans=True).cache == [".cache/build/abc"]
        assert not entry.exists()


class TestWithoutDescriptors:
    """Where directories cannot be held open the same is refused and removed."""

    @pytest.fixture(autouse=True)
    def by_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("taskstore_async.tracker.directories._AT", False)

    def test_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "file").write_bytes(b"123")
        (tmp_path / "link").symlink_to(tmp_path / "a")
        for path in ("link", "link/b"):
            with pytest.raises(RefusedPathError):
                remove(tmp_path, path)
        assert remove(tmp_path, "missing/x") == 0
        assert remove(tmp_path, "a/b", dry_run=True) == 3
        assert remove(tmp_path, "a/b/file") == 3
        assert remove(tmp_path, "a") == 0
        assert not (tmp_path / "a").exists()
