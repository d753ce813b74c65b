"""How long commands take to start, and do little."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.child import program, run_program
from benchmarks.merges import make_sides
from benchmarks.rows import Family, Row, at_most
from benchmarks.samples import STAMP, Job, folder, write_journal
from taskstore_async import Store
from taskstore_async.bench.measure import race
from taskstore_async.records.runs import Run, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.rows import Profile
    from taskstore_async.bench.measure import Sample

__all__ = ["FAMILY"]

_RECORDS = 10_000
_COMMANDS: dict[str, tuple[str, float | None]] = {
    "list": ("list jobs --limit 20", 60),
    "list all": ("list jobs", None),
    "filter": ("list jobs -f status=blocked", None),
    "get": ("get jobs job-0000017", None),
    "history": ("history -n 20", 60),
    "stats": ("stats", None),
    "sync": ("sync", None),
    "create": ("create notes title=x", None),
    "help": ("--help", None),
}
_OF_RUNS = frozenset({"history", "stats"})


def rows(profile: Profile) -> Iterator[Row]:
    """Every kind of command."""
    with folder() as path:
        store = path / ".taskstore"
        write_journal(store / "jobs.jsonl", _RECORDS)
        with Store.open(path, records=[Job, Run]) as opened:
            opened.create_many([_run(number) for number in range(_RECORDS)])
        make_sides(path, "snapshots", 20)
        tstore = [program("tstore"), "--store", str(path)]
        contenders: dict[str, Callable[[], Sample]] = {"python": partial(run_program, [sys.executable, "-c", "pass"])}
        for name, (words, _) in _COMMANDS.items():
            contenders[name] = partial(run_program, [*tstore, *words.split()])
        merge = [program("taskstore-merge"), *(str(path / f"{side}.jsonl") for side in ("base", "ours", "theirs"))]
        contenders["merge"] = partial(run_program, merge)
        contest = race(contenders, rounds=max(5, 2 * profile.rounds))
    for name, (words, limit) in _COMMANDS.items():
        yield Row(
            name=f"start.{name.replace(' ', '_')}",
            work=f"`tstore {words}` at {_RECORDS:,} {'runs' if name in _OF_RUNS else 'records'}",
            floor="bare Python's start",
            value=contest.above(name, "python"),
            unit="ms",
            budget=None if limit is None else at_most(limit),
            detail=f"{contest.seconds(name) * 1e3:.0f} against {contest.seconds('python') * 1e3:.0f} ms",
        )
    yield Row(
        name="start.merge",
        work="the merge driver on three small files",
        floor="bare Python's start",
        value=contest.above("merge", "python"),
        unit="ms",
        budget=at_most(35),
        detail=f"{contest.seconds('merge') * 1e3:.0f} ms",
    )


def _run(number: int) -> Run:
    return Run(
        id=f"run-{number:07}",
        project_id=f"project-{number % 8}",
        status=RunStatus.FAILED if number % 10 == 3 else RunStatus.SUCCESS,
        started_at=STAMP + 60_000 * number,
        completed_at=STAMP + 60_000 * number + 1_500,
        duration_ms=1_500,
        run_dir=f"runs/run-{number:07}",
        size_bytes=4_096,
    )


FAMILY = Family("startup", rows)
