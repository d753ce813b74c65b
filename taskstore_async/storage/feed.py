"""Reading the log as a feed of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.change import ChangeKind, Origin, Position
from taskstore_async.core.declaration import TYPES
from taskstore_async.core.query import Cursor, Query
from taskstore_async.storage import log, schema
from taskstore_async.storage.rows import Found, found_lines

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.reader import Reader

__all__ = ["Entry", "newest", "page", "present"]

_KINDS: Final = {
    schema.CREATED: ChangeKind.CREATED,
    schema.UPDATED: ChangeKind.UPDATED,
    schema.DELETED: ChangeKind.DELETED,
    schema.REMOVED: ChangeKind.REMOVED,
}


class Entry(msgspec.Struct, frozen=True):
    """A change as the log has it, with the record's line as it is now."""

    seq: int
    collection: str
    id: str
    kind: ChangeKind
    origin: Origin
    found: Found | None
    superseded: bool


def newest(reader: Reader) -> Position:
    """The end of the log."""
    return Position(reader.index_id, log.last_seq(reader.db))


def page(reader: Reader, after: Position, wanted: str | None, limit: int) -> tuple[list[Entry], Position] | None:
    """The changes behind *after*, oldest first.

    Args:
        reader: The index.
        after: The last change that was seen.
        wanted: Of this collection alone; None for all.
        limit: At most so many rows of the log are read.

    Returns:
        The changes, and where the next page begins; None when the log does not have the change *after* any more.
    """
    db = reader.db
    with reader.snapshot():
        if not _is_known(reader, after):
            return None
        by_key = {collection.key: collection for collection in reader.collections.values()}
        rows = db.execute(
            "SELECT seq, collection, id, kind, origin, ms, ns FROM log WHERE seq > ? ORDER BY seq LIMIT ?",
            (after.seq, limit),
        ).fetchall()
        entries = list(_entries(db, by_key, rows, wanted))
    return entries, Position(after.index_id, rows[-1][0] if rows else after.seq)


def present(reader: Reader, name: str, after: Cursor | None, limit: int) -> list[Found]:
    """A page of the live records of a collection, by id."""
    return reader.ask(name, found_lines, Query(limit=limit, after=after)) or []


def _is_known(reader: Reader, position: Position) -> bool:
    """Whether nothing behind *position* can have been dropped from the log."""
    if position.index_id != reader.index_id:
        return False
    db = reader.db
    if position.seq and db.execute("SELECT 1 FROM log WHERE seq = ?", (position.seq,)).fetchone() is None:
        return False
    # A row that waits for a flush outlives those around it; the newest rows are all there, whatever their kind.
    last = (position.seq, log.KEPT - 1)
    return db.execute("SELECT 1 FROM log WHERE seq > ? ORDER BY seq LIMIT 1 OFFSET ?", last).fetchone() is None


def _entries(
    db: sqlite3.Connection, by_key: dict[int, Collection], rows: list[tuple[int, ...]], wanted: str | None
) -> Iterable[Entry]:
    for seq, key, record_id, kind, origin, ms, ns in rows:
        collection = by_key.get(key)
        if collection is None or collection.name == TYPES or (wanted is not None and collection.name != wanted):
            continue
        row = db.execute(f"SELECT line, ms, ns, dead FROM {collection.rows} WHERE id = ?", (record_id,)).fetchone()
        gone = kind in {schema.DELETED, schema.REMOVED}
        # A record without a row is gone, tombstone and all.
        superseded = not gone if row is None else (row[1], row[2], bool(row[3])) != (ms, ns, gone)
        yield Entry(
            seq=seq,
            collection=collection.name,
            id=str(record_id),
            kind=_KINDS[kind],
            origin=Origin.FILE if origin == schema.IMPORTED else Origin.WRITE,
            found=None
            if row is None or gone or superseded
            else Found(str(record_id), row[0], log.instant_of(row[1], row[2])),
            superseded=superseded,
        )
