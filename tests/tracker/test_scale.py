"""Long histories are answered from an index, with the numbers that reading the journals gives.

The usual run takes a small history; ``nox -s scale`` takes ten thousand runs with a hundred thousand tasks.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async import Store, eq
from taskstore_async.cli import main
from taskstore_async.records.runs import Project, Run, RunStatus, RunTask, RunTaskStatus
from taskstore_async.storage.clock import now_ms
from taskstore_async.tracker.tracking import RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUNS = int(os.environ.get("TSTORE_TEST_RUNS", "300"))
TASKS_OF_A_RUN = 10
DAY_MS = 24 * 3_600_000
NOW_MS = now_ms()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random history of 200 days, the same every time but for where it begins."""
    root = tmp_path_factory.mktemp("scale")
    chance = random.Random(7)  # noqa: S311 - reason: no secret
    with Store.open(root, records=RECORDS) as store:
        store.create_many([Project(id=f"p{number}", name=f"p{number}") for number in range(10)])
        for first in range(0, RUNS, 100):
            store.create_many([one for number in range(first, first + 100) for one in _records(number, chance)])
    return root


def _records(number: int, chance: random.Random) -> Iterator[Run | RunTask]:
    run = Run(
        id=f"run-{number:06}",
        project_id=f"p{chance.randrange(10)}",
        status=chance.choices(list(RunStatus), [2, 80, 18])[0],
        started_at=NOW_MS - chance.randrange(200 * DAY_MS),
        duration_ms=chance.randrange(10**6),
        size_bytes=chance.randrange(10**6),
    )
    yield run
    for place in range(TASKS_OF_A_RUN):
        yield RunTask(
            id=f"task-{number:06}-{place}",
            run_id=run.id,
            project_id=run.project_id,
            name=f"name-{place}",
            status=chance.choices(list(RunTaskStatus), [1, 2, 80, 10, 7])[0],
            started_at=run.started_at + place,
            duration_ms=chance.randrange(10**5),
        )


@pytest.fixture(scope="module")
def lines(root: Path) -> dict[str, list[dict[str, Any]]]:
    """What a naive script knows: the journals, line by line."""
    return {
        name: [json.loads(line) for line in (root / ".taskstore" / f"{name}.jsonl").read_text("utf-8").splitlines()]
        for name in ("runs", "tasks")
    }


def tstore(root: Path, capfdbinary: pytest.CaptureFixture[bytes], *words: str) -> Any:  # noqa: ANN401 - reason: JSON
    assert main(["--store", str(root), "--json", *words]) == 0
    return json.loads(capfdbinary.readouterr().out)


def newest(records: list[dict[str, Any]]) -> list[str]:
    return [one["id"] for one in sorted(records, key=lambda one: (-one["started_at"], one["id"]))]


def test_history(root: Path, lines: dict[str, list[dict[str, Any]]], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    shown = tstore(root, capfdbinary, "history")
    assert [run["id"] for run in shown] == newest(lines["runs"])[:20]
    shown = tstore(root, capfdbinary, "history", "--status", "failed", "--project", "p3", "-n", "1000000")
    wanted = [run for run in lines["runs"] if (run["status"], run["project_id"]) == ("failed", "p3")]
    assert [run["id"] for run in shown] == newest(wanted)
    shown = tstore(root, capfdbinary, "history", "name-3")["executions"]
    assert [task["id"] for task in shown] == newest([task for task in lines["tasks"] if task["name"] == "name-3"])[:20]


def test_stats(root: Path, lines: dict[str, list[dict[str, Any]]], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    runs = tstore(root, capfdbinary, "stats")["runs"]
    by_status = Counter(run["status"] for run in lines["runs"])
    assert runs["total"] == RUNS
    assert {status: runs[status] for status in by_status} == by_status
    assert runs["size_bytes"] == sum(run["size_bytes"] for run in lines["runs"])
    assert +Counter(runs["tasks"]) == Counter(task["status"] for task in lines["tasks"])
    task = tstore(root, capfdbinary, "stats", "name-3")["runs"]
    mine = [one for one in lines["tasks"] if one["name"] == "name-3"]
    by_status = Counter(one["status"] for one in mine)
    assert (task["total"], task["success"], task["failed"]) == (RUNS, by_status["completed"], by_status["failed"])
    durations = sorted(one["duration_ms"] for one in mine if one["status"] in {"completed", "failed"})
    assert task["max_duration_ms"] == durations[-1]
    slower = sum(duration > task["p95_duration_ms"] for duration in durations)
    assert slower <= len(durations) * 5 // 100


def test_clean(root: Path, lines: dict[str, list[dict[str, Any]]], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    words = ["--keep", "30.5", "--keep-failed", "90.5", "--keep-last", "70", "--dry-run"]
    done = tstore(root, capfdbinary, "clean", *words)
    kept = set(newest(lines["runs"])[:70])
    for run in lines["runs"]:
        days = {"failed": 90.5}.get(run["status"], 30.5)
        if now_ms() - run["started_at"] <= days * DAY_MS:
            kept.add(run["id"])
    gone = {run["id"] for run in done["runs"]}
    # A run may cross the line between the command and this.
    assert len(gone ^ {run["id"] for run in lines["runs"] if run["id"] not in kept}) <= 1
    assert len(gone) > RUNS / 2


@pytest.mark.parametrize(
    ("target", "filters", "order_by"),
    [
        (Run, [], "-started_at"),
        (Run, [eq("status", "failed")], "-started_at"),
        (Run, [eq("project_id", "p3")], "-started_at"),
        (RunTask, [eq("name", "name-3")], "-started_at"),
        (RunTask, [eq("run_id", "run-000001")], "started_at"),
        (RunTask, [eq("status", "failed")], None),
    ],
)
def test_each_question_has_an_index(root: Path, target: type[Run | RunTask], filters: list[Any], order_by: str) -> None:
    with Store.open(root) as store:
        explained = store.explain(target, *filters, order_by=order_by)
    assert "USING INDEX" in explained.plan[0], explained
