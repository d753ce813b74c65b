"""How long commands take to start, and do little."""

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from benchmarks.child import program, run_program
from benchmarks.merges import make_sides
from benchmarks.rows import Absent, Family, Row, at_most
from benchmarks.samples import Job, folder, write_journal
from taskstore_async import Store
from taskstore_async.bench.measure import race

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
    "stats": ("stats", None),
    "sync": ("sync", None),
    "create": ("create notes title=x", None),
    "help": ("--help", None),
}


def rows(profile: Profile) -> Iterator[Row | Absent]:
    """Every kind of command."""
    with folder() as path:
        store = path / ".taskstore"
        write_journal(store / "jobs.jsonl", _RECORDS)
        Store.open(path, records=[Job]).close()
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
            work=f"`tstore {words}` at {_RECORDS:,} records",
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
    if find_spec("taskstore_async.tracker") is None:
        yield Absent("`tstore history -n 20` at 10,000 runs", "there is no tracker yet")


FAMILY = Family("startup", rows)
