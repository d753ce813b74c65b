"""What a store holds and how it is kept: counts, sizes, versions."""

from __future__ import annotations

import sqlite3
import warnings
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.declaration import TYPES
from taskstore_async.core.filters import gt
from taskstore_async.core.fold import effective, wins
from taskstore_async.core.ids import resolve_prefix
from taskstore_async.core.line import BadLine, Line, decode_line
from taskstore_async.core.query import Query
from taskstore_async.core.record import Record, declaration_of
from taskstore_async.core.write import load
from taskstore_async.errors import AmbiguousIdError, InvalidIdError, NotFoundError, UnreadableRecordError
from taskstore_async.storage import log
from taskstore_async.storage.directory import FORMAT
from taskstore_async.storage.journal import NoJournalError, open_to_read, stat_of
from taskstore_async.storage.journal_reader import JournalReader
from taskstore_async.storage.reports import CollectionInfo, StoreInfo, StoreStats, Version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from taskstore_async.storage.directory import Directory
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.reader import Reader
    from taskstore_async.storage.rows import Found

__all__ = ["collections", "history", "info", "not_found", "rebuild_indexes", "stats", "warn_of"]

_WARNINGS = 10
_PAGE = 2_000  #: records that are loaded at a time


def collections(engine: Engine) -> list[CollectionInfo]:
    """The collections and what is in them; the journal of the declarations is none."""
    return engine.read(partial(_collections, engine.directory))


def _collections(directory: Directory, reader: Reader) -> list[CollectionInfo]:
    found: list[CollectionInfo] = []
    with reader.snapshot():
        catalogue = reader.collections
        waiting = log.pending_count(reader.db)
        for name, collection in catalogue.items():
            counted = reader.db.execute(f"SELECT count(*) FILTER (WHERE dead = 0), count(*) FROM {collection.rows}")
            live, rows = counted.fetchone()
            status = stat_of(directory.journal(name))
            if name == TYPES or not (rows or status or collection.declaration.fields):
                continue
            found.append(
                CollectionInfo(
                    name=name,
                    records=live,
                    tombstones=rows - live,
                    pending=waiting.get(name, 0),
                    lines=collection.record.lines if collection.record else 0,
                    journal_bytes=status.st_size if status else 0,
                    local=collection.declaration.local,
                    declared=bool(collection.declaration.fields),
                    indexed=collection.declaration.columns,
                    closed=collection.closed,
                    last_sync_ms=collection.synced_ms or None,
                )
            )
    return found


def stats(engine: Engine) -> StoreStats:
    """Counts and sizes. Sizes in bytes."""
    return _stats(engine, collections(engine))


def _stats(engine: Engine, found: list[CollectionInfo]) -> StoreStats:
    log_rows, waiting = engine.read(_log_rows)
    index = stat_of(engine.directory.index)
    return StoreStats(
        path=str(engine.directory.path),
        collections={one.name: one.records for one in found},
        records=sum(one.records for one in found),
        pending=waiting,
        journal_bytes=sum(one.journal_bytes for one in found),
        index_bytes=index.st_size if index else 0,
        log_rows=log_rows,
    )


def _log_rows(reader: Reader) -> tuple[int, int]:
    """How many entries the log has, and how many wait to be flushed."""
    (log_rows,) = reader.db.execute("SELECT count(*) FROM log").fetchone()
    return log_rows, sum(log.pending_count(reader.db).values())


def info(engine: Engine) -> StoreInfo:
    """Where the store is and how it is kept."""
    found = collections(engine)
    mode, index_id = engine.read(_kind)
    return StoreInfo(
        path=str(engine.directory.path),
        format=FORMAT,
        index={"wal": "wal", "memory": "memory"}.get(mode, "rollback"),
        index_id=index_id,
        sqlite=sqlite3.sqlite_version,
        stats=_stats(engine, found),
        collections=tuple(found),
        notes=tuple(engine.notes),
    )


def _kind(reader: Reader) -> tuple[str, str]:
    """What keeps the index from being torn, as SQLite calls it, and the index's id."""
    (mode,) = reader.db.execute("PRAGMA journal_mode").fetchone()
    return mode, reader.index_id


def history(engine: Engine, name: str, record_id: str) -> list[Version]:
    """The versions of a record, oldest first: those in the journal, then those that wait to be flushed.

    Raises:
        ReadFailedError: The journal or the index cannot be read.
    """
    return engine.read(lambda reader: _versions(reader, engine.directory.journal(name), name, record_id))


def _versions(index: Reader, path: Path, name: str, record_id: str) -> list[Version]:
    waiting = _waiting(index, name, record_id)  # first: what is flushed meanwhile is then seen twice, not never
    lines: list[Line] = []
    try:
        with open_to_read(path) as descriptor:
            if descriptor is not None:
                reader = JournalReader(descriptor, (), file=path.name, collection=name)
                lines = [line for line in reader.lines() if line.id == record_id]
    except NoJournalError:
        pass  # sync and check report it
    flushed = len(lines)
    there = {line.raw for line in lines}
    lines += [line for line in waiting if line.raw not in there]
    versions: list[tuple[Line, int]] = []
    above: int | None = None
    best = -1
    for line in lines:
        instant = effective(line, above)
        versions.append((line, instant))
        if best < 0 or wins(instant, versions[best][1]):
            best = len(versions) - 1
        above = instant if above is None else max(above, instant)
    return [
        Version(
            raw=line.raw,
            updated_at=instant // 1_000_000,
            deleted=line.deleted,
            line=line.number if place < flushed else None,
            current=place == best,
        )
        for place, (line, instant) in enumerate(versions)
    ]


def _waiting(index: Reader, name: str, record_id: str) -> list[Line]:
    collection = index.collections.get(name)
    pending = log.pending(index.db, collection) if collection else []
    decoded = [decode_line(entry.raw, ()) for entry in pending if entry.id == record_id]
    return [line for line in decoded if not isinstance(line, BadLine)]


def not_found(engine: Engine, name: str, record_id: str) -> NotFoundError:
    """An error that names similar ids."""
    try:
        ids = engine.read(lambda reader: reader.ids(name))
        return NotFoundError(name, record_id, near=(resolve_prefix(record_id, ids, collection=name),))
    except NotFoundError as error:
        return error
    except AmbiguousIdError as error:
        return NotFoundError(name, record_id, near=error.candidates[:3])
    except InvalidIdError:
        return NotFoundError(name, record_id)


def rebuild_indexes(engine: Engine, record_type: type[Record]) -> int:
    """Make the store's declaration exactly what *record_type* says, and fill its index anew; see `Store`."""
    wanted = declaration_of(record_type)
    engine.redeclare(wanted)
    engine.wanted[wanted.collection] = wanted
    readable = 0
    refused: list[UnreadableRecordError] = []
    query = Query(order_by="id", limit=_PAGE)
    while page := engine.read(partial(_page, wanted.collection, query)):
        for found in page:
            try:
                load(record_type, found.raw, found.instant)
            except UnreadableRecordError as error:
                refused.append(error)
            else:
                readable += 1
        del refused[_WARNINGS:]
        query = msgspec.structs.replace(query, filters=(gt("id", page[-1].id),))
    warn_of(refused)
    return readable


def _page(name: str, query: Query, reader: Reader) -> list[Found]:
    return reader.find(name, query)


def warn_of(refused: Sequence[UnreadableRecordError]) -> None:
    """Name the first ten records that a type cannot read in a warning each."""
    for error in refused[:_WARNINGS]:
        warnings.warn(str(error), stacklevel=4)
