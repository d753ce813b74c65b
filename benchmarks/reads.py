"""Reads: by id, by filter, page by page, and while others write."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import aiosqlite
import anyio
import msgspec

from benchmarks import floors
from benchmarks.rows import Family, Row, at_least, at_most
from benchmarks.samples import LOOPS, Job, folder, job, jobs, on_loop, stored, write_journal
from benchmarks.writes import QUIET
from taskstore_async import Durability, StateManager, Store, eq
from taskstore_async.bench.measure import Sample, race, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.rows import Absent, Profile

__all__ = ["FAMILY"]

CALLERS = 64
_GET = "SELECT line FROM r WHERE id = ? AND dead = 0"


def rows(profile: Profile) -> Iterator[Row | Absent]:
    """Everything about reads."""
    with folder() as path:
        count = profile.many
        write_journal(path / ".taskstore" / "jobs.jsonl", count)
        Store.open(path, records=[Job]).close()
        _make_plain(path / "plain.db", count)
        yield from _gets(profile, path, count)
        yield from _filters(path, count, rounds=profile.rounds)
        yield from _pages(profile, path, count)
        yield from _gets_under_writes(profile, path, count)
    with folder() as path:
        write_journal(path / ".taskstore" / "jobs.jsonl", profile.most)
        Store.open(path, records=[Job]).close()
        _make_plain(path / "plain.db", profile.most)
        yield from _filters(path, profile.most, rounds=profile.slow_rounds, of=f".{profile.most}")


FAMILY = Family("reads", rows)


def _make_plain(path: Path, count: int) -> None:
    """The same records in a database of the same layout."""
    encode = msgspec.json.Encoder().encode
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        floors.create_plain_tables(db)
        db.execute("BEGIN")
        db.executemany(floors.ROW, (floors.row_of(one, encode(stored(one))) for one in jobs(count)))
        db.execute("COMMIT")


def _ids(profile: Profile, count: int) -> list[str]:
    chosen = random.Random(1).choices(range(count), k=profile.gets)  # noqa: S311 - reason: a sample, no secret
    return [job(number).id for number in chosen]


def _gets(profile: Profile, path: Path, count: int) -> Iterator[Row]:
    ids = _ids(profile, count)
    decode = msgspec.json.Decoder(Job).decode

    async def bare(callers: int) -> Sample:
        async with aiosqlite.connect(path / "plain.db", isolation_level=None) as db:

            async def caller(mine: Sequence[str], latencies: list[float]) -> None:
                for one in mine:
                    begun = time.perf_counter()
                    ((line,),) = await db.execute_fetchall(_GET, (one,))
                    decode(line)
                    latencies.append(time.perf_counter() - begun)

            await caller(ids[:CALLERS], [])
            latencies: list[float] = []
            with timed() as timer:
                await asyncio.gather(*[caller(ids[place::callers], latencies) for place in range(callers)])
        return Sample(timer.seconds, latencies_s=latencies)

    async def managed(callers: int) -> Sample:
        async with StateManager.open(path, records=[Job]) as store:
            await _get_all(store, ids[:CALLERS], callers, [])
            before = await store.stats()
            latencies: list[float] = []
            with timed() as timer:
                await _get_all(store, ids, callers, latencies)
            hops = (await store.stats()).get_hops - before.get_hops
        return Sample(timer.seconds, {"per_hop": len(ids) / hops}, latencies)

    contenders: dict[str, Callable[[], Sample]] = {"bare 1": lambda: asyncio.run(bare(1))}
    contenders["bare 64"] = lambda: asyncio.run(bare(CALLERS))
    for loop in LOOPS:
        for callers in (1, CALLERS):
            contenders[f"{loop} {callers}"] = partial(on_loop, loop, partial(managed, callers))
    contest = race(contenders, rounds=profile.rounds)
    for loop in LOOPS:
        yield Row(
            name=f"get.one.{loop}",
            work=f"get, one caller, StateManager on {loop}, p50",
            floor="one bare aiosqlite hop that reads the same line, and its decoding",
            value=contest.latency_cost(f"{loop} 1", "bare 1"),
            budget=at_most(1.5) if loop == "asyncio" else None,
            detail=f"{contest.latency_s(f'{loop} 1', 0.5) * 1e6:.0f} against "
            f"{contest.latency_s('bare 1', 0.5) * 1e6:.0f} µs",
        )
        name = f"{loop} {CALLERS}"
        yield Row(
            name=f"get.many.{loop}",
            work=f"gets, {CALLERS} callers, StateManager on {loop}",
            floor=f"bare aiosqlite with {CALLERS} callers",
            value=contest.rate(name, f"bare {CALLERS}"),
            budget=at_least(1.5) if loop == "asyncio" else None,
            detail=f"{len(ids) / contest.seconds(name):,.0f} against {len(ids) / contest.seconds('bare 64'):,.0f} "
            f"gets/s, {contest.count(name, 'per_hop').median:.0f} per hop",
        )


async def _get_all(store: StateManager, ids: Sequence[str], callers: int, latencies: list[float]) -> None:
    async def caller(mine: Sequence[str]) -> None:
        for one in mine:
            begun = time.perf_counter()
            found = await store.get(Job, one)
            latencies.append(time.perf_counter() - begun)
            assert found is not None

    async with anyio.create_task_group() as tasks:
        for place in range(callers):
            tasks.start_soon(caller, ids[place::callers])


def _filters(path: Path, count: int, *, rounds: int, of: str = "") -> Iterator[Row]:
    decode = msgspec.json.Decoder(Job).decode
    for status, share in (("active", 10), ("blocked", 1)):

        def bare(status: str = status) -> Sample:
            with closing(sqlite3.connect(path / "plain.db")) as db, timed() as timer:
                found = db.execute("SELECT line FROM r WHERE dead = 0 AND c0 = ? ORDER BY id", (status,))
                records = [decode(line) for (line,) in found]
            return Sample(timer.seconds, {"rows": len(records)})

        def ours(status: str = status) -> Sample:
            with Store.open(path, records=[Job]) as store:
                store.count(Job)
                with timed() as timer:
                    records = store.list(Job, eq("status", status))
            return Sample(timer.seconds, {"rows": len(records)})

        async def awaited(status: str = status) -> Sample:
            async with StateManager.open(path, records=[Job]) as store:
                await store.count(Job)
                with timed() as timer:
                    records = await store.list(Job, eq("status", status))
            return Sample(timer.seconds, {"rows": len(records)})

        contest = race({"bare": bare, "store": ours, "manager": partial(on_loop, "asyncio", awaited)}, rounds=rounds)
        for name, says in (("manager", "StateManager on asyncio"), ("store", "Store")):
            yield Row(
                name=f"filter.{share}.{name}{of}",
                work=f"filter on an indexed field, {share} % of {count:,}, typed, {says}",
                floor="the bare SELECT and msgspec's decoding",
                value=contest.cost(name, "bare"),
                budget=at_most(1.4) if share == 10 and not of else None,
                detail=f"{contest.seconds(name) * 1e3:.1f} against {contest.seconds('bare') * 1e3:.1f} ms, "
                f"{contest.count(name, 'rows').median:,.0f} records",
            )


def _pages(profile: Profile, path: Path, count: int) -> Iterator[Row]:
    decode = msgspec.json.Decoder(Job).decode
    questions: dict[str, tuple[str, str, Callable[[Store], int], int]] = {
        "page": (
            "a page of 50 by an indexed field",
            "SELECT line FROM r WHERE dead = 0 ORDER BY c1 DESC, id LIMIT 50",
            lambda store: len(store.list(Job, order_by="-priority", limit=50)),
            20,
        ),
        "count": (
            "a count by an indexed field",
            "SELECT count(*) FROM r WHERE dead = 0 AND c0 = 'active'",
            lambda store: store.count(Job, eq("status", "active")),
            20,
        ),
        "iterate": (
            "iterating over all",
            "SELECT line FROM r WHERE dead = 0 ORDER BY id",
            lambda store: sum(1 for _ in store.iterate(Job)),
            1,
        ),
    }
    for name, (says, sql, ask, times) in questions.items():

        def bare(sql: str = sql, times: int = times, *, counted: bool = name == "count") -> Sample:
            with closing(sqlite3.connect(path / "plain.db")) as db, timed() as timer:
                for _ in range(times):
                    for (line,) in db.execute(sql):
                        if not counted:
                            decode(line)
            return Sample(timer.seconds)

        def ours(ask: Callable[[Store], int] = ask, times: int = times) -> Sample:
            with Store.open(path, records=[Job]) as store:
                store.count(Job)
                with timed() as timer:
                    for _ in range(times):
                        ask(store)
            return Sample(timer.seconds)

        contest = race({"bare": bare, "store": ours}, rounds=profile.slow_rounds)
        yield Row(
            name=f"read.{name}",
            work=f"{says}, of {count:,}, Store",
            floor="the bare SELECT" + ("" if name == "count" else " and msgspec's decoding"),
            value=contest.cost("store", "bare"),
            detail=f"{contest.seconds('store') / times * 1e3:.2f} ms",
        )


def _gets_under_writes(profile: Profile, path: Path, count: int) -> Iterator[Row]:
    """Gets by 64 callers while 64 others put, and a flush runs."""
    ids = _ids(profile, count)

    async def alone() -> Sample:
        async with StateManager.open(path, records=[Job], sync=QUIET) as store:
            latencies: list[float] = []
            with timed() as timer:
                await _get_all(store, ids, CALLERS, latencies)
        return Sample(timer.seconds, latencies_s=latencies)

    async def amid_writes() -> Sample:
        async with StateManager.open(path, records=[Job], durability=Durability.RELAXED, sync=QUIET) as store:
            written, seconds = 0, 0.0
            latencies: list[float] = []

            async def write(place: int) -> None:
                nonlocal written
                number = 0
                while True:
                    await store.put(job(number, f"w{place}"))
                    written += 1
                    number += 1

            async def flush() -> None:
                while True:
                    await store.flush()
                    await anyio.sleep(0.02)

            async with anyio.create_task_group() as tasks:
                for place in range(CALLERS):
                    tasks.start_soon(write, place)
                tasks.start_soon(flush)
                begun = time.perf_counter()
                await _get_all(store, ids, CALLERS, latencies)
                seconds = time.perf_counter() - begun
                tasks.cancel_scope.cancel()
            return Sample(seconds, {"written": written / seconds}, latencies)

    contest = race(
        {"alone": partial(on_loop, "asyncio", alone), "amid": partial(on_loop, "asyncio", amid_writes)},
        rounds=profile.slow_rounds,
    )
    yield Row(
        name="get.amid_writes",
        work=f"gets, {CALLERS} callers, while {CALLERS} others put and flushes run, StateManager on asyncio",
        floor="the same gets alone",
        value=contest.rate("amid", "alone"),
        detail=f"{len(ids) / contest.seconds('amid'):,.0f} gets/s beside "
        f"{contest.count('amid', 'written').median:,.0f} puts/s; p99 {contest.latency_s('amid', 0.99) * 1e3:.1f} ms",
    )
