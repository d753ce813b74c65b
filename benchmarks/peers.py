"""What a user would pick instead, on the same work; each is optional."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import aiosqlite
import msgspec

from benchmarks.floors import PLAIN_TABLES, ROW, create_plain_tables, row_of
from benchmarks.rows import Absent
from benchmarks.samples import folder
from taskstore_async.bench.measure import Sample, timed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.samples import Job

__all__ = ["SAYS", "durable_puts"]

SAYS = {
    "sqlite3": "sqlite3, FULL, a commit per put, with the same indexes",
    "aiosqlite": "aiosqlite, FULL, a commit per put, with the same indexes",
    "sqlite-utils": "sqlite-utils, upsert per put, with the same indexes",
    "diskcache": "diskcache, a set per put",
    "tinydb": "TinyDB, an insert per put (100 of them, scaled up; no fsync)",
    "langgraph": "LangGraph's AsyncSqliteStore, aput by as many tasks",
}

_FEW = 100
_Peer: TypeAlias = "Callable[[Sequence[Job], int], Callable[[], Sample] | Absent]"


def durable_puts() -> dict[str, _Peer]:
    """The peers of a durable put: each makes a contender for records and so many callers, or says why it cannot."""
    return {
        "sqlite3": _sqlite3,
        "aiosqlite": _aiosqlite,
        "sqlite-utils": _sqlite_utils,
        "diskcache": _diskcache,
        "langgraph": _langgraph,
        "tinydb": _tinydb,
    }


def _installed(name: str) -> Any | None:  # noqa: ANN401 - reason: an optional module, whose types are not at hand
    try:
        return import_module(name)
    except ImportError:
        return None


def _sqlite3(records: Sequence[Job], callers: int) -> Callable[[], Sample]:
    del callers
    encode = msgspec.json.Encoder().encode

    def run() -> Sample:
        with folder() as path, closing(sqlite3.connect(path / "x.db", isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            create_plain_tables(db)
            with timed() as timer:
                for one in records:
                    db.execute(ROW, row_of(one, encode(one)))
        return Sample(timer.seconds)

    return run


def _aiosqlite(records: Sequence[Job], callers: int) -> Callable[[], Sample]:
    encode = msgspec.json.Encoder().encode

    async def main() -> Sample:
        with folder() as path:
            async with aiosqlite.connect(path / "x.db", isolation_level=None) as db:
                await db.execute("PRAGMA journal_mode = WAL")
                for statement in PLAIN_TABLES:
                    await db.execute(statement)

                async def caller(mine: Sequence[Job]) -> None:
                    for one in mine:
                        await db.execute(ROW, row_of(one, encode(one)))

                with timed() as timer:
                    await _together(caller, records, callers)
        return Sample(timer.seconds)

    return lambda: asyncio.run(main())


async def _together(caller: Callable[[Sequence[Job]], Awaitable[None]], records: Sequence[Job], callers: int) -> None:
    await asyncio.gather(*[caller(records[place::callers]) for place in range(callers)])


def _sqlite_utils(records: Sequence[Job], callers: int) -> Callable[[], Sample] | Absent:
    del callers
    sqlite_utils = _installed("sqlite_utils")
    if sqlite_utils is None:
        return Absent("sqlite-utils", "not installed")

    def run() -> Sample:
        with folder() as path:
            db = sqlite_utils.Database(path / "x.db")
            try:
                db.enable_wal()
                table: Any = db["jobs"]
                table.insert(msgspec.to_builtins(records[0]), pk="id")
                for column in ("status", "priority", "owner"):
                    table.create_index([column])
                with timed() as timer:
                    for one in records:
                        table.upsert(msgspec.to_builtins(one), pk="id")
            finally:
                db.conn.close()
        return Sample(timer.seconds)

    return run


def _diskcache(records: Sequence[Job], callers: int) -> Callable[[], Sample] | Absent:
    del callers
    diskcache = _installed("diskcache")
    if diskcache is None:
        return Absent("diskcache", "not installed")

    def run() -> Sample:
        with folder() as path, diskcache.Cache(str(path), sqlite_synchronous=2) as cache, timed() as timer:
            for one in records:
                cache.set(one.id, msgspec.to_builtins(one))
        return Sample(timer.seconds)

    return run


def _tinydb(records: Sequence[Job], callers: int) -> Callable[[], Sample] | Absent:
    """It writes its whole file with every insert, so it is given few records, and its time is scaled up."""
    del callers
    tinydb = _installed("tinydb")
    if tinydb is None:
        return Absent("TinyDB", "not installed")
    few = records[:_FEW]

    def run() -> Sample:
        with folder() as path, tinydb.TinyDB(path / "x.json") as db, timed() as timer:
            for one in few:
                db.insert(msgspec.to_builtins(one))
        return Sample(timer.seconds * len(records) / len(few))

    return run


def _langgraph(records: Sequence[Job], callers: int) -> Callable[[], Sample] | Absent:
    langgraph = _installed("langgraph.store.sqlite.aio")
    if langgraph is None:
        return Absent("LangGraph", "langgraph-checkpoint-sqlite is not installed")

    async def main() -> Sample:
        with folder() as path:
            async with langgraph.AsyncSqliteStore.from_conn_string(str(path / "x.db")) as store:
                await store.setup()

                async def caller(mine: Sequence[Job]) -> None:
                    for one in mine:
                        await store.aput(("jobs",), one.id, msgspec.to_builtins(one))

                with timed() as timer:
                    await _together(caller, records, callers)
        return Sample(timer.seconds)

    return lambda: asyncio.run(main())
