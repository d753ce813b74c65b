"""Record types, and looks behind the curtain, that the tests of the engine share."""

from __future__ import annotations

import lzma
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar

from taskstore_async.core.record import Indexed, Record, References, Unique
from taskstore_async.core.schedule import SyncConfig

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from taskstore_async.storage.store import Store

QUIET = SyncConfig(auto_export=False)


class Plan(Record):
    collection: ClassVar[str] = "plans"
    title: str = ""
    status: Annotated[str, Indexed] = "draft"
    priority: Annotated[int, Indexed] = 0
    slug: Annotated[str | None, Unique] = None
    parent_id: Annotated[str | None, References("plans", on_delete="cascade")] = None


class Step(Record):
    collection: ClassVar[str] = "steps"
    plan_id: Annotated[str, References("plans")]


class Note(Record):
    collection: ClassVar[str] = "notes"
    plan_id: Annotated[str | None, References("plans", on_delete="set_null")] = None


class Loose(Record):
    collection: ClassVar[str] = "loose"
    title: str
    size: Annotated[int, Indexed] = 0


ALL = (Plan, Step, Note)


def index_of(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table that says something about records."""
    with closing(sqlite3.connect(f"file:{store.path / 'store.db'}?mode=ro", uri=True)) as db:
        tables = ["log", "lease", *[rows for (rows,) in db.execute("SELECT rows FROM collection ORDER BY rows")]]
        return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}


def files_of(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.path.glob("*.jsonl")}


@contextmanager
def unchanged(store: Store) -> Generator[None]:
    """Files and index are after the block what they were before it."""
    before = (files_of(store), index_of(store))
    yield
    assert (files_of(store), index_of(store)) == before


def tamper(store: Store, sql: str, *values: object) -> None:
    """Change the index behind the engine's back; ``{plans}`` is the row table of plans."""
    with closing(sqlite3.connect(store.path / "store.db")) as db:
        tables = dict(db.execute("SELECT name, rows FROM collection").fetchall())
        changed = db.execute(sql.format(**tables), values)
        assert changed.rowcount != 0
        db.commit()


def lines_of(store: Store, name: str) -> list[bytes]:
    return (store.path / f"{name}.jsonl").read_bytes().splitlines()


def unpack(folder: Path, name: str) -> bytes:
    return lzma.decompress((folder / f"{name}.jsonl.xz").read_bytes())
