"""Following the files: rebuilding, opening, one line more, another branch."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from benchmarks.child import crc_pass, in_child
from benchmarks.rows import Family, Row, at_most
from benchmarks.samples import STAMP, folder, job, lines, stored, write_journal
from taskstore_async import Store
from taskstore_async.bench.measure import Sample, race, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.rows import Absent, Profile

__all__ = ["FAMILY"]


def rows(profile: Profile) -> Iterator[Row | Absent]:
    """Everything about following the files."""
    with folder() as path:
        store = path / ".taskstore"
        write_journal(store / "jobs.jsonl", profile.most)
        yield from _rebuild(profile, store, profile.most)
        yield from _one_line(profile, store, profile.most)
    with folder() as path:
        store = path / ".taskstore"
        write_journal(store / "jobs.jsonl", profile.many)
        yield from _open(profile, store, profile.many)
        yield from _branch(profile, store, profile.many)


FAMILY = Family("sync", rows)


def _rebuild(profile: Profile, path: Path, count: int) -> Iterator[Row]:
    contest = race(
        {
            "floor": partial(in_child, "rebuild_floor", path),
            "new": partial(in_child, "rebuild_new", path),
            "in place": partial(in_child, "rebuild_in_place", path),
        },
        rounds=profile.slow_rounds,
    )
    floor = "decode, insert and index as fast as Python can"
    against = f"{contest.seconds('floor'):.2f} s, {contest.count('floor', 'peak_mb').median:.0f} MB"
    for name, says, limit in (("new", "no index yet", 1.3), ("in place", "in place while a reader is served", 2.5)):
        key = name.replace(" ", "_")
        detail = f"{contest.seconds(name):.2f} s against {against}"
        if name == "in place":
            fewest, served = contest.count(name, "fewest").low, contest.count(name, "served").median
            detail += f"; the reader counted {served:.0f} times, never less than {fewest:,.0f}"
        yield Row(
            name=f"rebuild.{key}",
            work=f"rebuild of {count:,} lines, {says}",
            floor=floor,
            value=contest.cost(name, "floor"),
            budget=at_most(limit),
            detail=detail,
        )
        yield Row(
            name=f"rebuild.{key}.memory",
            work=f"rebuild of {count:,} lines, {says}, peak memory",
            floor="nothing",
            value=contest.count(name, "peak_mb"),
            unit="MB",
            budget=at_most(150),
        )
    yield Row(
        name="rebuild.in_place.wal",
        work="the write-ahead log 40 writes after a rebuild in place",
        floor="nothing",
        value=contest.count("in place", "wal_left_mb"),
        unit="MB",
        budget=at_most(17),
        detail=f"{contest.count('in place', 'wal_mb').median:.0f} MB right after it",
    )


def _one_line(profile: Profile, path: Path, count: int) -> Iterator[Row]:
    journal = path / "jobs.jsonl"
    encode = msgspec.json.Encoder().encode
    number = 0

    def crc() -> Sample:
        with timed() as timer:
            crc_pass(journal)
        return Sample(timer.seconds)

    with Store.open(path) as store:

        def sync() -> Sample:
            nonlocal number
            number += 1
            with journal.open("ab") as file:
                file.write(encode(stored(job(number), STAMP + 1_000 + number)) + b"\n")
            with timed() as timer:
                report = store.sync()
            assert report.collections["jobs"].lines_read == 1
            return Sample(timer.seconds)

        store.sync()
        contest = race({"crc": crc, "sync": sync}, rounds=max(5, profile.rounds))
    yield Row(
        name="sync.one_line",
        work=f"one line appended by another program, at {count:,} lines, sync",
        floor="one CRC pass over the file",
        value=contest.cost("sync", "crc"),
        budget=at_most(1.3),
        detail=f"{contest.seconds('sync') * 1e3:.1f} against {contest.seconds('crc') * 1e3:.1f} ms",
    )


def _open(profile: Profile, path: Path, count: int) -> Iterator[Row]:
    Store.open(path).close()

    def bare() -> Sample:
        with timed() as timer, closing(sqlite3.connect(f"file:{path / 'store.db'}?mode=ro", uri=True)) as db:
            db.execute("SELECT count(*) FROM collection").fetchone()
        return Sample(timer.seconds)

    def ours() -> Sample:
        with timed() as timer:
            store = Store.open(path)
        store.close()
        return Sample(timer.seconds)

    contest = race({"bare": bare, "store": ours}, rounds=max(5, profile.rounds))
    yield Row(
        name="open.unchanged",
        work=f"opening a store of {count:,} records of which nothing moved",
        floor="opening its index with sqlite3",
        value=contest.above("store", "bare"),
        unit="ms",
        budget=at_most(5),
        detail=f"{contest.seconds('store') * 1e3:.1f} against {contest.seconds('bare') * 1e3:.1f} ms",
    )


def _branch(profile: Profile, path: Path, count: int) -> Iterator[Row]:
    """A branch switch: the file is replaced by one in which 1 % of the records have another version."""
    main = list(lines(count))
    encode = msgspec.json.Encoder().encode
    other = list(main)
    for number in range(0, count, 100):
        other[number] = encode(stored(job(number), STAMP + 5_000)) + b"\n"
    branches = [b"".join(main), b"".join(other)]
    del main, other
    at = 0

    def replace() -> None:
        nonlocal at
        at = 1 - at
        fresh = path / "jobs.jsonl.checkout"
        fresh.write_bytes(branches[at])
        fresh.replace(path / "jobs.jsonl")

    def switch() -> Sample:
        with Store.open(path) as store:
            replace()
            with timed() as timer:
                report = store.sync()
            assert report.collections["jobs"].taken == -(-count // 100)
        return Sample(timer.seconds)

    def rebuild() -> Sample:
        for beside in path.glob("store.db*"):
            beside.unlink()
        with timed() as timer:
            store = Store.open(path)
        store.close()
        return Sample(timer.seconds)

    contest = race({"rebuild": rebuild, "switch": switch}, rounds=profile.slow_rounds)
    yield Row(
        name="sync.branch",
        work=f"branch switch that changes 1 % of {count:,} records, sync",
        floor="a rebuild of the same store",
        value=contest.cost("switch", "rebuild"),
        budget=at_most(0.4),
        detail=f"{contest.seconds('switch') * 1e3:.0f} against {contest.seconds('rebuild') * 1e3:.0f} ms",
    )
