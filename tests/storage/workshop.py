"""Tools of the engine's tests: stores of documents, lines made by hand, and a fold that knows no index."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.fold import effective, wins
from taskstore_async.core.line import Line
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.record import Document
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.storage import log
from taskstore_async.storage.store import Store

if TYPE_CHECKING:
    from pathlib import Path

NAME = "plans"
MANUAL = SyncConfig(auto_export=False)


def line(record_id: str, at: object = None, **fields: object) -> bytes:
    """A line as somebody else writes it."""
    stamp = {} if at is None else {"updated_at": at}
    return msgspec.json.encode({"id": record_id, **fields, **stamp})


def document(record_id: str, **fields: object) -> Document:
    """A document of the collection that every test uses."""
    return Document(NAME, {"id": record_id, **fields})


def open_store(path: Path, *, sync: SyncConfig = MANUAL, create: bool = True, lock_timeout_s: float = 10.0) -> Store:
    """Open the store in *path*; it flushes when it is told to."""
    return Store.open(path, sync=sync, create=create, lock_timeout_s=lock_timeout_s)


def journal_of(store: Store | Path) -> Path:
    """The journal of the collection."""
    return (store.path if isinstance(store, Store) else store / ".taskstore") / f"{NAME}.jsonl"


def lines_in(store: Store | Path) -> list[bytes]:
    """The lines of the journal, as they are."""
    path = journal_of(store)
    return path.read_bytes().splitlines() if path.exists() else []


def backdate(path: Path, seconds: float = 10.0) -> None:
    """Make a file's mtime old, so that its stat alone may prove that nothing moved."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - int(seconds * 1e9)))


def outbox(store: Store) -> list[bytes]:
    """What the index still holds for the journal, oldest first."""
    with store._engine.consistent() as (db, collections):
        found = collections.get(NAME)
        return [] if found is None else [entry.raw for entry in log.pending(db, found)]


def rows(store: Store) -> dict[str, tuple[bytes, int]]:
    """The live records: line and instant by id."""
    return {found.id: (found.raw, found.instant) for found in store.lines(NAME)}


def naive(data: bytes, pending: list[bytes]) -> dict[str, tuple[bytes, int]]:
    """The live records that a file's bytes and an outbox make, in the shortest code that says so."""
    best: dict[str, tuple[Line, int]] = {}
    for one in [*decode_lines(data), *(found for raw in pending for found in decode_lines(raw))]:
        if isinstance(one, Line):
            before = best.get(one.id)
            instant = effective(one, None if before is None else before[1])
            if before is None or wins(instant, before[1]):
                best[one.id] = (one, instant)
    return {key: (found.raw, instant) for key, (found, instant) in best.items() if not found.deleted}


def assert_true(store: Store) -> None:
    """The index is the fold of the file and the outbox."""
    report = store.check()
    differences = [finding.message for finding in report.problems if finding.kind in {"difference", "index", "stale"}]
    assert not differences
    path = journal_of(store)
    assert rows(store) == naive(path.read_bytes() if path.exists() else b"", outbox(store))


__all__ = [
    "MANUAL",
    "NAME",
    "Durability",
    "assert_true",
    "backdate",
    "document",
    "journal_of",
    "line",
    "lines_in",
    "naive",
    "open_store",
    "outbox",
    "rows",
]
