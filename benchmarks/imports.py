"""Taking records from other tools' files."""

from __future__ import annotations

import lzma
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from benchmarks.rows import Absent, Family, Row, at_most
from benchmarks.samples import folder, real_data
from taskstore_async import Store
from taskstore_async.bench.measure import Sample, race, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rows import Profile

__all__ = ["FAMILY"]


class _Fields(msgspec.Struct, gc=False):
    id: str
    updated_at: str


def rows(profile: Profile) -> Iterator[Row | Absent]:
    """Importing real records."""
    file = real_data("beads_max_live.jsonl.xz")
    if file is None:
        yield Absent("import of 10 k real records", "the data is not there")
        return
    data = lzma.decompress(file.read_bytes())
    count = data.count(b"\n")
    decode = msgspec.json.Decoder(_Fields).decode

    def floor() -> Sample:
        with folder() as path, closing(sqlite3.connect(path / "x.db", isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE r (pk INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at TEXT, line BLOB)")
            with timed() as timer:
                read = [line for line in data.split(b"\n") if line]
                found = [(one.id, one.updated_at, line) for one, line in zip(map(decode, read), read, strict=True)]
                db.execute("BEGIN")
                db.executemany("INSERT INTO r (id, at, line) VALUES (?, ?, ?)", found)
                db.execute("COMMIT")
                descriptor = os.open(path / "x.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                os.write(descriptor, b"".join([line + b"\n" for line in read]))
                os.fsync(descriptor)
                os.close(descriptor)
        return Sample(timer.seconds)

    def ours() -> Sample:
        chunks = [data[start : start + 65_536] for start in range(0, len(data), 65_536)]
        with folder() as path, Store.open(path) as store:
            with timed() as timer:
                report = store.import_lines("issues", chunks)
            assert report.taken == count
        return Sample(timer.seconds)

    contest = race({"floor": floor, "import": ours}, rounds=profile.rounds)
    yield Row(
        name="import.real",
        work=f"import of {count:,} real records, {len(data) / 1e6:.1f} MB",
        floor="decode, insert, one append and fsync",
        value=contest.cost("import", "floor"),
        budget=at_most(2),
        detail=f"{contest.seconds('import') * 1e3:.0f} against {contest.seconds('floor') * 1e3:.0f} ms",
    )


FAMILY = Family("import", rows)
