"""The floors of the writes: the same work as a plain loop would do it, without any of the promises around it."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from benchmarks.samples import STAMP
from taskstore_async.bench.measure import Sample, timed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks.samples import Job

__all__ = [
    "BATCH",
    "PLAIN_TABLES",
    "ROW",
    "append_each",
    "append_many",
    "batches_of",
    "create_plain_tables",
    "index_rows",
    "insert_rows",
    "row_of",
]

BATCH = 64
ROW = "INSERT INTO r (ms, ns, dead, pending, line, c0, c1, c2, id) VALUES (?, 0, 0, ?, ?, ?, ?, ?, ?)"
_LOG = "INSERT INTO log (seq, collection, id, kind, origin, ms, ns, line) VALUES (?, 1, ?, 1, 0, ?, 0, NULL)"
_TABLES = """
CREATE TABLE r (
    pk INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ms INTEGER NOT NULL, ns INTEGER NOT NULL, dead INTEGER NOT NULL,
    pending INTEGER NOT NULL, line BLOB NOT NULL, c0, c1, c2
);
CREATE TABLE log (
    seq INTEGER PRIMARY KEY, collection INTEGER NOT NULL, id TEXT NOT NULL, kind INTEGER NOT NULL,
    origin INTEGER NOT NULL, ms INTEGER NOT NULL, ns INTEGER NOT NULL, line BLOB
);
"""
_INDEXES = """
CREATE INDEX rc0 ON r (c0, ms) WHERE dead = 0;
CREATE INDEX rc1 ON r (c1, ms) WHERE dead = 0;
CREATE INDEX rc2 ON r (c2, ms) WHERE dead = 0;
"""
PLAIN_TABLES = [one for one in (_TABLES + _INDEXES).split(";\n") if one.strip()]
"""The statements that lay out what the index has: a row table with three indexed columns, and a log."""


def batches_of(records: Sequence[Job], size: int = BATCH) -> list[Sequence[Job]]:
    """Cut *records* into batches."""
    return [records[start : start + size] for start in range(0, len(records), size)]


def create_plain_tables(db: sqlite3.Connection, *, indexes: bool = True) -> None:
    """Lay out what the index has: a row table with three indexed columns, and a log."""
    db.executescript(_TABLES + (_INDEXES if indexes else ""))


def index_rows(db: sqlite3.Connection) -> None:
    """Make the indexes that `create_plain_tables` left out, in the transaction that is open."""
    for statement in _INDEXES.strip().splitlines():
        db.execute(statement)


def row_of(record: Job, line: bytes, seq: int = 0) -> tuple[object, ...]:
    """A record's row, for `ROW`."""
    return (STAMP, seq, line, record.status, record.priority, record.owner, record.id)


def append_many(path: Path, records: Sequence[Job], size: int = BATCH) -> Sample:
    """Encode, append and fdatasync, batch by batch."""
    encode = msgspec.json.Encoder().encode
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    latencies: list[float] = []
    try:
        with timed() as timer:
            for batch in batches_of(records, size):
                begun = time.perf_counter()
                os.write(descriptor, b"".join([encode(record) + b"\n" for record in batch]))
                os.fdatasync(descriptor)
                latencies.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
    return Sample(timer.seconds, latencies_s=latencies)


def append_each(path: Path, records: Sequence[Job]) -> Sample:
    """Encode, append and fdatasync, record by record."""
    return append_many(path, records, size=1)


def insert_rows(path: Path, batches: Iterable[Sequence[Job]], *, full: bool, log: bool) -> Sample:
    """Encode and insert with sqlite3, a transaction per batch."""
    encode = msgspec.json.Encoder().encode
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
        create_plain_tables(db)
        with timed() as timer:
            seq = 0
            for batch in batches:
                db.execute("BEGIN IMMEDIATE")
                db.executemany(ROW, [row_of(one, encode(one), seq + place) for place, one in enumerate(batch)])
                if log:
                    db.executemany(_LOG, [(seq + place, one.id, STAMP) for place, one in enumerate(batch)])
                db.execute("COMMIT")
                seq += len(batch)
    return Sample(timer.seconds)
