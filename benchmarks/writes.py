"""Writes: many callers and one, at each durability; many records in one call."""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
import msgspec

from benchmarks import floors, peers
from benchmarks.rows import Absent, Family, Row, at_least, at_most
from benchmarks.samples import LOOPS, Job, folder, jobs, on_loop
from taskstore_async import Durability, StateManager, Store, SyncConfig
from taskstore_async.bench.measure import Sample, race, timed
from taskstore_async.core.write import draft
from taskstore_async.storage.ops import Applied, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.rows import Profile

__all__ = ["FAMILY"]

CALLERS = 64
_WARM = 64
QUIET = SyncConfig(debounce_ms=60_000, max_delay_ms=60_000, max_pending=10_000_000)


def rows(profile: Profile) -> Iterator[Row | Absent]:
    """Everything about writes."""
    yield from _many_callers(profile)
    yield from _levels(profile)
    yield from _by_callers(profile)
    yield from _one_caller(profile)
    yield from _create_many(profile)


FAMILY = Family("writes", rows)


# -- contenders ---------------------------------------------------------------------------------------------


def engine_puts(records: Sequence[Job], durability: Durability, size: int = CALLERS) -> Sample:
    """The functions that `Store` is made of, called in a plain loop with batches of *size*."""
    with folder() as path, Store.open(path, records=[Job], durability=durability, sync=QUIET) as store:
        engine = store._engine  # noqa: SLF001 - reason: Store has no call for a batch that others' writes share
        engine.commit([Put(draft(one)) for one in jobs(_WARM, "warm")], durability=durability)
        latencies: list[float] = []
        with timed() as timer:
            for batch in floors.batches_of(records, size):
                begun = time.perf_counter()
                answers = engine.commit([Put(draft(one)) for one in batch], durability=durability)
                latencies.append(time.perf_counter() - begun)
                assert all(isinstance(answer, Applied) for answer in answers)
    return Sample(timer.seconds, latencies_s=latencies)


def store_puts(records: Sequence[Job], durability: Durability) -> Sample:
    """`Store.put`, one after the other."""
    with folder() as path, Store.open(path, records=[Job], durability=durability, sync=QUIET) as store:
        for one in jobs(_WARM, "warm"):
            store.put(one)
        latencies: list[float] = []
        with timed() as timer:
            for one in records:
                begun = time.perf_counter()
                store.put(one)
                latencies.append(time.perf_counter() - begun)
    return Sample(timer.seconds, latencies_s=latencies)


def manager_puts(records: Sequence[Job], durability: Durability, loop: str, callers: int = CALLERS) -> Sample:
    """`StateManager.put` by so many tasks."""

    async def main() -> Sample:
        with folder() as path:
            async with StateManager.open(path, records=[Job], durability=durability, sync=QUIET) as store:
                await _put_all(store, jobs(_WARM, "warm"), callers, [])
                before = await store.stats()
                latencies: list[float] = []
                with timed() as timer:
                    await _put_all(store, records, callers, latencies)
                after = await store.stats()
                batches = after.batches - before.batches
                return Sample(timer.seconds, {"batch": len(records) / batches}, latencies)

    return on_loop(loop, main)


async def _put_all(store: StateManager, records: Sequence[Job], callers: int, latencies: list[float]) -> None:
    async def caller(mine: Sequence[Job]) -> None:
        for one in mine:
            begun = time.perf_counter()
            await store.put(one)
            latencies.append(time.perf_counter() - begun)

    async with anyio.create_task_group() as tasks:
        for place in range(callers):
            tasks.start_soon(caller, records[place::callers])


def in_folder(contender: Callable[[Path], Sample]) -> Callable[[], Sample]:
    """A contender that gets a directory of its own for each run."""

    def run() -> Sample:
        with folder() as path:
            return contender(path)

    return run


# -- rows ---------------------------------------------------------------------------------------------------


def _many_callers(profile: Profile) -> Iterator[Row | Absent]:
    records = jobs(profile.puts)
    batches = floors.batches_of(records)
    few = records[: max(CALLERS, profile.puts // 8)]
    level = Durability.JOURNAL
    contenders: dict[str, Callable[[], Sample]] = {
        "loop": in_folder(lambda path: floors.append_many(path / "x.jsonl", records)),
        "engine": partial(engine_puts, records, level),
        **{loop: partial(manager_puts, records, level, loop) for loop in LOOPS},
        "each": in_folder(lambda path: floors.append_each(path / "x.jsonl", few)),
    }
    absent: list[Absent] = []
    for name, make in peers.durable_puts().items():
        contender = make(few, CALLERS)
        if isinstance(contender, Absent):
            absent.append(contender)
        else:
            contenders[name] = contender
    del batches
    contest = race(contenders, rounds=profile.rounds)
    count = len(records)
    yield Row(
        name="puts.journal.engine",
        work=f"durable puts in batches of {CALLERS}, JOURNAL, the engine alone",
        floor="encode, append and fdatasync the same batches",
        value=contest.rate("engine", "loop"),
        budget=at_least(0.2),
        detail=f"{count / contest.seconds('engine'):,.0f} against {count / contest.seconds('loop'):,.0f} puts/s",
    )
    for loop in LOOPS:
        batch = contest.count(loop, "batch").median
        yield Row(
            name=f"puts.journal.manager.{loop}",
            work=f"durable puts, {CALLERS} callers, JOURNAL, StateManager on {loop}",
            floor="the engine alone",
            value=contest.rate(loop, "engine"),
            budget=at_least(0.6 if loop == "trio" else 0.65),
            detail=f"{count / contest.seconds(loop):,.0f} puts/s in batches of {batch:.0f}; "
            f"p50 {contest.latency_s(loop, 0.5) * 1e3:.2f} ms, p99 {contest.latency_s(loop, 0.99) * 1e3:.2f} ms",
        )
    share = count / len(few)
    for name in contenders:
        if name in {"loop", "engine", *LOOPS}:
            continue
        rate = contest.rate("asyncio", name)
        value = msgspec.structs.replace(rate, median=rate.median * share, low=rate.low * share, high=rate.high * share)
        yield Row(
            name=f"puts.journal.against.{name}",
            work=f"durable puts, {CALLERS} callers, JOURNAL, StateManager on asyncio",
            floor="one append and fdatasync per put" if name == "each" else peers.SAYS[name],
            value=value,
            budget=at_least(6 if name == "each" else 1) if name in {"each", "langgraph", "aiosqlite"} else None,
            detail=f"{len(few) / contest.seconds(name):,.0f} puts/s there",
        )
    yield from absent


def _levels(profile: Profile) -> Iterator[Row]:
    records = jobs(profile.puts)
    batches = floors.batches_of(records)
    contenders: dict[str, Callable[[], Sample]] = {
        "sqlite3": in_folder(lambda path: floors.insert_rows(path / "x.db", batches, full=False, log=True)),
        "engine relaxed": partial(engine_puts, records, Durability.RELAXED),
        "journal": partial(manager_puts, records, Durability.JOURNAL, "asyncio"),
        "index": partial(manager_puts, records, Durability.INDEX, "asyncio"),
        "relaxed": partial(manager_puts, records, Durability.RELAXED, "asyncio"),
        "relaxed trio": partial(manager_puts, records, Durability.RELAXED, "trio"),
    }
    contest = race(contenders, rounds=profile.rounds)
    count = len(records)
    work = f"puts, {CALLERS} callers"
    floor = "a plain sqlite3 loop writing the same rows, log and indexes, NORMAL"
    yield Row(
        name="puts.index",
        work=f"{work}, INDEX, StateManager on asyncio",
        floor="the same at JOURNAL",
        value=contest.rate("index", "journal"),
        budget=at_least(0.9),
        detail=f"{count / contest.seconds('index'):,.0f} puts/s",
    )
    yield Row(
        name="puts.relaxed",
        work=f"{work}, RELAXED, StateManager on asyncio",
        floor=floor,
        value=contest.rate("relaxed", "sqlite3"),
        budget=at_least(0.55),
        detail=f"{count / contest.seconds('relaxed'):,.0f} against {count / contest.seconds('sqlite3'):,.0f} puts/s",
    )
    yield Row(
        name="puts.relaxed.engine",
        work=f"puts in batches of {CALLERS}, RELAXED, the engine alone",
        floor=floor,
        value=contest.rate("engine relaxed", "sqlite3"),
        detail=f"{count / contest.seconds('engine relaxed'):,.0f} puts/s",
    )
    yield Row(
        name="puts.relaxed.trio",
        work=f"{work}, RELAXED, StateManager on trio",
        floor="the same on asyncio",
        value=contest.rate("relaxed trio", "relaxed"),
        budget=at_least(0.65),
        detail=f"{count / contest.seconds('relaxed trio'):,.0f} puts/s",
    )


def _by_callers(profile: Profile) -> Iterator[Row]:
    """How the number of callers counts, at each durability."""
    for callers, level in itertools.product(profile.callers, Durability):
        records = jobs(max(callers, profile.puts // (16 if callers == 1 else 4)))
        contest = race(
            {
                "manager": partial(manager_puts, records, level, "asyncio", callers),
                "engine": partial(engine_puts, records, level, callers),
            },
            rounds=max(1, profile.slow_rounds),
        )
        batch = contest.count("manager", "batch").median
        yield Row(
            name=f"puts.{level}.callers.{callers}",
            work=f"puts, {callers} caller{'s' * (callers > 1)}, {level.name}, StateManager on asyncio",
            floor="the engine alone, in batches of as many",
            value=contest.rate("manager", "engine"),
            detail=f"{len(records) / contest.seconds('manager'):,.0f} puts/s in batches of {batch:.0f}; "
            f"p50 {contest.latency_s('manager', 0.5) * 1e3:.2f} ms, "
            f"p99 {contest.latency_s('manager', 0.99) * 1e3:.2f} ms",
        )


def _one_caller(profile: Profile) -> Iterator[Row]:
    records = jobs(max(64, profile.puts // 16))
    level = Durability.JOURNAL
    contest = race(
        {
            "loop": in_folder(lambda path: floors.append_each(path / "x.jsonl", records)),
            "store": partial(store_puts, records, level),
            "manager": partial(manager_puts, records, level, "asyncio", 1),
        },
        rounds=profile.rounds,
    )
    for name, says in (("manager", "StateManager on asyncio"), ("store", "Store")):
        yield Row(
            name=f"put.one.{name}",
            work=f"durable put, one caller, JOURNAL, {says}, p50",
            floor="a bare append and fdatasync",
            value=contest.latency_cost(name, "loop"),
            budget=at_most(2.6),
            detail=f"{contest.latency_s(name, 0.5) * 1e6:.0f} against {contest.latency_s('loop', 0.5) * 1e6:.0f} µs",
        )


def _create_many(profile: Profile) -> Iterator[Row]:
    records = jobs(profile.many)
    level = Durability.JOURNAL

    def floor(path: Path) -> Sample:
        with timed() as timer:
            floors.insert_rows(path / "x.db", [records], full=True, log=False)
            floors.append_many(path / "x.jsonl", records, size=len(records))
        return Sample(timer.seconds)

    def ours(path: Path) -> Sample:
        with Store.open(path, records=[Job], durability=level) as store, timed() as timer:
            store.create_many(records)
        return Sample(timer.seconds)

    def managed(path: Path) -> Sample:
        async def main() -> Sample:
            async with StateManager.open(path, records=[Job], durability=level) as store:
                with timed() as timer:
                    await store.create_many(records)
            return Sample(timer.seconds)

        return on_loop("asyncio", main)

    contest = race(
        {"floor": in_folder(floor), "store": in_folder(ours), "manager": in_folder(managed)}, rounds=profile.slow_rounds
    )
    for name, says in (("store", "Store"), ("manager", "StateManager on asyncio")):
        yield Row(
            name=f"create_many.{name}",
            work=f"create_many of {profile.many:,} records, JOURNAL, {says}",
            floor="encode, executemany with the same indexes, one append and fsync",
            value=contest.cost(name, "floor"),
            budget=at_most(1.5),
            detail=f"{contest.seconds(name):.2f} against {contest.seconds('floor'):.2f} s",
        )
