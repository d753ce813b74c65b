"""What size costs: the same operations on small and large stores, and on journals with a past."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.rows import Family, Row, at_most
from benchmarks.samples import Job, folder, job, jobs, write_journal
from benchmarks.writes import QUIET
from taskstore_async import Durability, Store, new_id
from taskstore_async.bench.measure import Sample, race, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.rows import Absent, Profile

__all__ = ["FAMILY"]

_OPERATIONS = 500


def rows(profile: Profile) -> Iterator[Row | Absent]:
    """Everything about growth."""
    yield from _sizes(profile)
    yield from _versions(profile)


FAMILY = Family("growth", rows)


def _sizes(profile: Profile) -> Iterator[Row]:
    operations = min(_OPERATIONS, profile.gets)
    sizes = sorted({max(1_000, profile.most // 100), profile.many, profile.most})
    with ExitStack() as stack:
        stores: dict[int, Store] = {}
        for size in sizes:
            path = stack.enter_context(folder())
            write_journal(path / ".taskstore" / "jobs.jsonl", size)
            stores[size] = stack.enter_context(
                Store.open(path, records=[Job], durability=Durability.RELAXED, sync=QUIET)
            )
        contenders: dict[str, Callable[[], Sample]] = {}
        for size, store in stores.items():
            chosen = random.Random(size).choices(range(size), k=operations)  # noqa: S311 - reason: a sample, no secret
            contenders[f"put {size}"] = partial(_puts, store, operations)
            contenders[f"update {size}"] = partial(_updates, store, chosen)
            contenders[f"get {size}"] = partial(_gets, store, chosen)
        contest = race(contenders, rounds=max(3, profile.rounds))
    least = sizes[0]
    for size in sizes[1:]:
        for name, work in (("put", "put of a new record"), ("get", "get"), ("update", "put over a random record")):
            bound = at_most(1.3) if size == sizes[-1] and name != "update" else None
            yield Row(
                name=f"growth.{name}.{size}",
                work=f"{work} at {size:,} records, p50",
                floor=f"the same at {least:,}",
                value=contest.latency_cost(f"{name} {size}", f"{name} {least}"),
                budget=bound,
                detail=f"{contest.latency_s(f'{name} {size}', 0.5) * 1e6:.0f} against "
                f"{contest.latency_s(f'{name} {least}', 0.5) * 1e6:.0f} µs",
            )


def _puts(store: Store, count: int) -> Sample:
    made = jobs(count)
    latencies: list[float] = []
    with timed() as timer:
        for one in made:
            begun = time.perf_counter()
            store.create(one.evolve(id=new_id("job")))
            latencies.append(time.perf_counter() - begun)
    return Sample(timer.seconds, latencies_s=latencies)


def _updates(store: Store, chosen: Sequence[int]) -> Sample:
    latencies: list[float] = []
    with timed() as timer:
        for number in chosen:
            begun = time.perf_counter()
            store.put(job(number))
            latencies.append(time.perf_counter() - begun)
    return Sample(timer.seconds, latencies_s=latencies)


def _gets(store: Store, chosen: Sequence[int]) -> Sample:
    latencies: list[float] = []
    with timed() as timer:
        for number in chosen:
            begun = time.perf_counter()
            found = store.get(Job, job(number).id)
            latencies.append(time.perf_counter() - begun)
            assert found is not None
    return Sample(timer.seconds, latencies_s=latencies)


def _versions(profile: Profile) -> Iterator[Row]:
    """Rebuilding from a journal with a past, and after compaction."""
    records = profile.many // 100

    def rebuild(path: Path) -> Sample:
        for beside in path.glob("store.db*"):
            beside.unlink()
        with timed() as timer:
            store = Store.open(path)
        store.close()
        return Sample(timer.seconds)

    with ExitStack() as stack:
        contenders: dict[str, Callable[[], Sample]] = {}
        for versions in (1, 10, 100):
            path = stack.enter_context(folder()) / ".taskstore"
            write_journal(path / "jobs.jsonl", records, versions=versions)
            contenders[f"{versions}"] = partial(rebuild, path)
        path = stack.enter_context(folder()) / ".taskstore"
        write_journal(path / "jobs.jsonl", records, versions=100)
        with Store.open(path) as store:
            store.compact()
        contenders["compacted"] = partial(rebuild, path)
        contest = race(contenders, rounds=profile.slow_rounds)
    for name in ("10", "100", "compacted"):
        says = "100 versions each, compacted" if name == "compacted" else f"{name} versions each"
        yield Row(
            name=f"growth.versions.{name}",
            work=f"rebuild of {records:,} records with {says}",
            floor="one version each",
            value=contest.cost(name, "1"),
            detail=f"{contest.seconds(name) * 1e3:.0f} against {contest.seconds('1') * 1e3:.0f} ms",
        )
