"""history, stats and clean: what people and programs see of runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from taskstore_async import Store
from taskstore_async.cli.text import human_duration
from taskstore_async.records.runs import Project, Run, RunStatus, RunTask, RunTaskStatus, SkipKind
from taskstore_async.storage.clock import now_ms
from tests.cli.test_process import on_a_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]

DAY_MS = 24 * 3_600_000


@pytest.fixture
def history(folder: Path) -> Path:
    """Five runs of two projects, one a day, the newest today; ``test`` fails in the last two of them."""
    now = now_ms()
    outcomes = [("a", "success"), ("b", "failed"), ("a", "success"), ("a", "failed"), ("a", "failed")]
    with Store.open(folder, records=[Project, Run, RunTask]) as store:
        store.create_many([Project(id="a", name="a"), Project(id="b", name="b")])
        for number, (project, status) in enumerate(outcomes):
            at = now - (len(outcomes) - 1 - number) * DAY_MS - 1_000
            run = Run(
                id=f"run-{number}",
                project_id=project,
                status=RunStatus(status),
                started_at=at,
                duration_ms=61_000 + number,
                args=("ci", f"--n={number}"),
                run_dir=f"runs/{number}",
                size_bytes=2_048,
            )
            test = RunTask(
                id=f"test-{number}",
                run_id=run.id,
                project_id=project,
                name="test",
                status=RunTaskStatus.FAILED if status == "failed" else RunTaskStatus.COMPLETED,
                exit_code=number if status == "failed" else 0,
                started_at=at,
                duration_ms=1_000 * (number + 1),
                stderr_path=f"runs/{number}/test.err",
            )
            skip = RunTask(
                id=f"lint-{number}",
                run_id=run.id,
                project_id=project,
                name="lint",
                status=RunTaskStatus.SKIPPED,
                skip_kind=SkipKind.UP_TO_DATE,
                skip_reason="nothing changed",
                started_at=at,
            )
            store.create_many([run, test, skip])
            (folder / f"runs/{number}").mkdir(parents=True)
            (folder / f"runs/{number}/test.err").write_bytes(b"x" * 100)
    return folder


def ids(result: Result) -> list[str]:
    return [line.split("\t")[0] for line in result.out.splitlines()]


@pytest.mark.usefixtures("history")
class TestHistory:
    """Runs newest first, by status and project; a task in each of them, and since when it fails."""

    def test_runs(self, tstore: Tstore) -> None:
        assert ids(tstore("history")) == ["run-4", "run-3", "run-2", "run-1", "run-0"]
        assert ids(tstore("history", "-n", "2")) == ["run-4", "run-3"]
        assert ids(tstore("history", "--status", "failed", "--project", "a")) == ["run-4", "run-3"]
        assert ids(tstore("history", "--project", "b")) == ["run-1"]
        first = tstore("history", "-n", "1").out.rstrip("\n").split("\t")
        assert first[:3] + first[4:] == ["run-4", "a", "failed", "61004", "2048", "ci --n=4"]

    def test_twenty_unless_more_are_asked_for(self, folder: Path, tstore: Tstore) -> None:
        with Store.open(folder) as store:
            store.create_many([Run(id=f"more-{number}", project_id="a", started_at=number) for number in range(30)])
        assert len(ids(tstore("history"))) == 20
        assert len(ids(tstore("history", "-n", "100"))) == 35

    def test_json(self, tstore: Tstore) -> None:
        runs = json.loads(tstore("history", "--json").out)
        assert [run["id"] for run in runs] == ["run-4", "run-3", "run-2", "run-1", "run-0"]
        assert runs[0]["args"] == ["ci", "--n=4"]
        lines = tstore("history", "--jsonl").out.splitlines()
        assert [json.loads(line) for line in lines] == runs

    def test_a_task_that_fails(self, tstore: Tstore) -> None:
        found = json.loads(tstore("history", "test", "--json", "-n", "1").out)
        assert [one["run_id"] for one in found["executions"]] == ["run-4"]
        assert found["failing"]["since"] == "run-3"
        assert (found["failing"]["run_id"], found["failing"]["exit_code"]) == ("run-4", 4)
        assert found["failing"]["log_path"] == "runs/4/test.err"
        first = tstore("history", "test").out.splitlines()[0].split("\t")
        assert first[:3] + first[4:] == ["run-4", "a", "failed", "5000", "4", "", "runs/4/test.err"]

    def test_a_task_that_fails_in_one_project_only(self, tstore: Tstore) -> None:
        found = json.loads(tstore("history", "test", "--project", "b", "--json").out)
        assert (found["failing"]["since"], len(found["executions"])) == ("run-1", 1)
        assert ids(tstore("history", "test", "--status", "completed")) == ["run-2", "run-0"]

    def test_a_task_that_fails_no_more(self, folder: Path, tstore: Tstore) -> None:
        with Store.open(folder) as store:
            store.modify(RunTask, "test-4", lambda task: task.evolve(status=RunTaskStatus.COMPLETED))
        assert json.loads(tstore("history", "test", "--json").out)["failing"] is None
        found = json.loads(tstore("history", "lint", "--json").out)
        assert (found["failing"], len(found["executions"])) == (None, 5)

    @pytest.mark.parametrize(
        ("words", "there"),
        [
            (["--status", "done"], "running, success, failed"),
            (["test", "--status", "success"], "pending, running, completed, failed, skipped"),
            (["--project", "c"], "there are: a, b"),
        ],
    )
    def test_a_wrong_value_is_an_error_that_names_the_right_ones(
        self, words: list[str], there: str, tstore: Tstore
    ) -> None:
        result = tstore("history", *words)
        assert (result.code, result.out) == (2, "")
        assert there in result.err

    @pytest.mark.parametrize("command", ["history", "stats"])
    @pytest.mark.parametrize(
        ("task", "hint"),
        [("tset", "did you mean test?"), ("lnt", "did you mean lint?"), ("x", "there are: lint, test")],
    )
    def test_a_task_that_is_none_is_not_found_and_the_one_that_was_meant_is_named(
        self, command: str, task: str, hint: str, tstore: Tstore
    ) -> None:
        result = tstore(command, task)
        assert (result.code, result.out) == (3, "")
        assert result.err == f"tstore: tasks/{task} does not exist; {hint}\n"
        error = json.loads(tstore(command, task, "--json").err)["error"]
        assert (error["code"], error["exit_code"], error["details"]["record_id"]) == ("not_found", 3, task)

    def test_on_a_terminal_it_is_a_table_with_human_figures(self, folder: Path) -> None:
        code, shown = on_a_terminal(folder, "history", columns=120)
        assert code == 0
        first = shown.splitlines()[1]
        assert first.startswith("run-4")
        assert "1 m 01 s" in first
        assert "2.0 KiB" in first
        assert "\x1b[31mfailed\x1b[0m" in first
        assert "5 runs" in shown

    def test_on_a_terminal_a_failing_task_says_where_to_look(self, folder: Path) -> None:
        _, shown = on_a_terminal(folder, "history", "test", columns=200)
        assert "it fails since run-3 (" in shown
        assert f"last in run-4, with exit code 4; its log: {folder}/runs/4/test.err" in shown

    def test_colours_can_be_declined(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        _, shown = on_a_terminal(folder, "history", columns=120)
        assert "\x1b" not in shown
        assert "1 m 01 s" in shown


class TestStats:
    """Both parts always: the store, and its runs where there are some."""

    def test_without_runs(self, tstore: Tstore) -> None:
        tstore("create", "issues", "a=b")
        found = json.loads(tstore("stats", "--json").out)
        assert found["store"]["records"] == 1
        assert found["runs"] is None
        result = tstore("stats", "test")
        assert result.code == 3
        assert "no task has been recorded" in result.err

    @pytest.mark.usefixtures("history")
    def test_with_runs(self, tstore: Tstore) -> None:
        found = json.loads(tstore("stats", "--json").out)
        assert found["store"]["collections"] == {"projects": 2, "runs": 5, "tasks": 10}
        runs = found["runs"]
        assert (runs["projects"], runs["total"], runs["success"], runs["failed"], runs["running"]) == (2, 5, 2, 3, 0)
        assert (runs["success_rate"], runs["mean_duration_ms"], runs["size_bytes"]) == (0.4, 61_002, 5 * 2_048)
        assert runs["tasks"] == {"pending": 0, "running": 0, "completed": 2, "failed": 3, "skipped": 5}
        facts = dict(line.split("\t") for line in tstore("stats").out.splitlines())
        assert (facts["records"], facts["runs"], facts["success rate"]) == ("17", "5", "40.0%")
        assert (facts["mean duration"], facts["run directories"]) == ("61002", "10240")

    @pytest.mark.usefixtures("history")
    def test_of_a_task(self, folder: Path, tstore: Tstore) -> None:
        task = json.loads(tstore("stats", "test", "--json").out)["runs"]
        assert (task["total"], task["success"], task["failed"], task["skipped"]) == (5, 2, 3, 0)
        assert (task["mean_duration_ms"], task["median_duration_ms"]) == (3_000, 3_000)
        assert (task["p95_duration_ms"], task["max_duration_ms"]) == (5_000, 5_000)
        assert task["last"]["run_id"] == "run-4"
        facts = dict(line.split("\t") for line in tstore("stats", "lint").out.splitlines())
        assert (facts["success rate"], facts["skipped"], facts["last"]) == ("n/a", "5", "skipped in run-4")
        _, shown = on_a_terminal(folder, "stats", "test")
        assert "3.0 s" in shown


@pytest.mark.usefixtures("history")
class TestClean:
    """What no rule keeps goes, with its directory; what is refused stays, and is told."""

    def test_a_dry_run_changes_nothing(self, folder: Path, tstore: Tstore) -> None:
        before = (folder / ".taskstore" / "runs.jsonl").read_bytes()
        done = json.loads(tstore("clean", "--keep-days", "2", "--dry-run", "--json").out)
        assert [run["id"] for run in done["runs"]] == ["run-0", "run-1", "run-2"]
        assert (done["dry_run"], done["freed_bytes"]) == (True, 300)
        assert (folder / ".taskstore" / "runs.jsonl").read_bytes() == before
        assert len(list((folder / "runs").iterdir())) == 5
        assert "would delete 3 runs, which have 300 B" in tstore("clean", "--keep", "2", "--dry-run").err

    def test_what_is_old_goes_and_the_journals_are_compacted(self, folder: Path, tstore: Tstore) -> None:
        journals = [folder / ".taskstore" / f"{name}.jsonl" for name in ("projects", "runs", "tasks")]
        before = sum(journal.stat().st_size for journal in journals)
        done = json.loads(tstore("clean", "--keep-days", "2", "--keep-failed", "3.5", "--json").out)
        assert [run["id"] for run in done["runs"]] == ["run-0", "run-2"]
        assert done["freed_bytes"] == 200 + before - sum(journal.stat().st_size for journal in journals)
        assert sorted(path.name for path in (folder / "runs").iterdir()) == ["1", "3", "4"]
        assert [len(journal.read_bytes().splitlines()) for journal in journals] == [2, 3, 6]
        assert ids(tstore("history")) == ["run-4", "run-3", "run-1"]

    def test_a_choice_that_is_to_be_made_in_a_journal_keeps_nothing_from_going(
        self, folder: Path, tstore: Tstore
    ) -> None:
        side = b'{"id":"p","name":"%d","updated_at":5}\n'
        with (folder / ".taskstore" / "projects.jsonl").open("ab") as file:
            file.write(b"<<<<<<< a\n" + side % 1 + b"=======\n" + side % 2 + b">>>>>>> b\n")
        assert len(json.loads(tstore("clean", "--keep-days", "2", "--json").out)["runs"]) == 3
        assert len((folder / ".taskstore" / "runs.jsonl").read_bytes().splitlines()) == 2
        assert b"<<<<<<<" in (folder / ".taskstore" / "projects.jsonl").read_bytes()

    def test_the_newest_survive_and_other_projects(self, tstore: Tstore) -> None:
        result = tstore("clean", "--keep", "0", "--keep-last", "3", "--project", "a")
        assert result.out.splitlines()[0].startswith("run\trun-0\ta\tsuccess\t")
        assert "deleted 1 run, freed" in result.err
        assert ids(tstore("history")) == ["run-4", "run-3", "run-2", "run-1"]

    def test_orphans_of_the_cache(self, folder: Path, tstore: Tstore) -> None:
        (folder / ".cache" / "test" / "abc").mkdir(parents=True)
        assert json.loads(tstore("clean", "--keep", "9", "--json").out)["cache"] == []
        result = tstore("clean", "--keep", "9", "--orphans")
        assert result.out == "cache\t.cache/test/abc\t\t\t\n"
        assert "0 runs and 1 cached result" in result.err
        assert not (folder / ".cache" / "test" / "abc").exists()

    def test_a_planted_link_and_a_path_upwards_are_refused(self, folder: Path, tstore: Tstore) -> None:
        outside = folder.parent / f"{folder.name}-outside"
        outside.mkdir()
        (outside / "precious").write_text("keep me", encoding="utf-8")
        (folder / "runs" / "0" / "test.err").unlink()
        (folder / "runs" / "0").rmdir()
        (folder / "runs" / "0").symlink_to(outside, target_is_directory=True)
        with Store.open(folder) as store:
            store.modify(Run, "run-1", lambda run: run.evolve(run_dir=f"../{outside.name}"))
        for words in (["--dry-run"], []):
            result = tstore("clean", "--keep-days", "2", *words)
            assert result.code == 1
            assert "refused: run-0: 0 in runs/0 is a symbolic link" in result.err
            assert f"refused: run-1: ../{outside.name} leads upwards" in result.err
        assert (outside / "precious").read_text(encoding="utf-8") == "keep me"
        assert ids(tstore("history")) == ["run-4", "run-3", "run-1", "run-0"]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ([], "--keep-days"),
            (["--keep", "-1"], "--keep"),
            (["--keep", "nan"], "keep_days=nan"),
            (["--keep", "1", "--project", "c"], "there are: a, b"),
        ],
    )
    def test_what_means_nothing(self, words: list[str], said: str, tstore: Tstore) -> None:
        result = tstore("clean", *words)
        assert (result.code, result.out) == (2, "")
        assert said in result.err

    def test_where_nothing_was_recorded_there_is_nothing_to_clean(self, folder: Path, tstore: Tstore) -> None:
        empty = folder / "empty"
        tstore("--store", str(empty), "create", "issues", "a=b")
        result = tstore("--store", str(empty), "clean", "--keep", "1")
        assert (result.code, result.out) == (0, "")
        assert "deleted 0 runs, freed 0 B" in result.err


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 ms"),
        (999.4, "999 ms"),
        (999.6, "1.0 s"),
        (4_240, "4.2 s"),
        (59_949, "59.9 s"),
        (59_950, "1 m 00 s"),
        (125_000, "2 m 05 s"),
        (3_599_600, "1 h 00 m"),
        (11_220_000, "3 h 07 m"),
        (187_200_000, "2 d 04 h"),
    ],
)
def test_durations_for_people(ms: float, said: str) -> None:
    assert human_duration(ms) == said
