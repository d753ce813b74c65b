"""The log: every change in order. What lies above a collection's flushed mark, and is ours, is the outbox."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.storage import schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskstore_async.storage.catalogue import Collection

KEPT = 100_000  #: rows the log keeps for watchers that resume, beside the outbox
TRIM_EVERY = 10_000
_LOW = "SELECT value FROM meta WHERE name = 'low'"
PENDING_LINES = (
    f"SELECT coalesce(log.line, r.line) FROM log "
    f"LEFT JOIN {{rows}} r ON log.line IS NULL AND r.id = log.id AND r.pending = log.seq "
    f"WHERE log.seq > ? AND log.collection = ? AND log.origin = {schema.OWN} ORDER BY log.seq"
)  #: all that another program's hand may need of an outbox
_LAST_SEQ = 1 << 62
SEQ_PER_MS = 1024  #: the first seq of a handle is above now_ms times this, so an index that was lost never reuses one


class Pending(msgspec.Struct, frozen=True):
    """One version that is acknowledged and not yet in the journal."""

    seq: int
    id: str
    raw: bytes
    instant: int
    in_row: bool  #: its line stands in the record's row, not in the log


def instant_of(ms: int, ns: int) -> int:
    """The instant of a stored stamp, in nanoseconds.

    Raises:
        sqlite3.DatabaseError: It is none: SQLite keeps text where a number is meant.
    """
    try:
        return ms * 1_000_000 + ns
    except TypeError:
        raise sqlite3.DatabaseError("a stamp in it is no number") from None


def last_seq(db: sqlite3.Connection) -> int:
    """The newest seq of the log, 0 when it is empty."""
    (seq,) = db.execute("SELECT max(seq) FROM log").fetchone()
    return seq or 0


def seq_beyond(db: sqlite3.Connection) -> int:
    """The least seq that is above the log and above every mark.

    A mark may be above every row of the log, and what is written below a mark is never flushed.

    Raises:
        sqlite3.DatabaseError: None is left above, or one of those is no number.
    """
    (seq,) = db.execute(
        f"SELECT max(coalesce((SELECT max(seq) FROM log), 0), ({_LOW}), "
        f"coalesce((SELECT max(flushed) FROM collection), 0))"
    ).fetchone()
    if type(seq) is not int or seq > _LAST_SEQ:
        raise sqlite3.DatabaseError(f"its log is at {seq!r}, where nothing can be added")
    return seq + 1


def pending(db: sqlite3.Connection, collection: Collection) -> list[Pending]:
    """The collection's outbox, oldest first.

    A version that a later one of ours replaced in the row before it was flushed is not there any more: the two met
    in one flush, and became one line.
    """
    rows = db.execute(
        f"SELECT log.seq, log.id, log.ms, log.ns, coalesce(log.line, r.line), log.line IS NULL "
        f"FROM log LEFT JOIN {collection.rows} r ON log.line IS NULL AND r.id = log.id AND r.pending = log.seq "
        f"WHERE log.seq > max(?, ({_LOW})) AND log.collection = ? AND log.origin = {schema.OWN} ORDER BY log.seq",
        (collection.flushed, collection.key),
    )
    return [
        Pending(seq, record_id, line, instant_of(ms, ns), bool(in_row))
        for seq, record_id, ms, ns, line, in_row in rows
        if line is not None
    ]


def pending_lines(db: sqlite3.Connection, collection: Collection) -> list[bytes]:
    """The lines of the collection's outbox alone, oldest first; see `pending`.

    Raises:
        sqlite3.DatabaseError: One is not what we have written.
    """
    rows = db.execute(
        f"SELECT coalesce(log.line, r.line) AS found FROM log "
        f"LEFT JOIN {collection.rows} r ON log.line IS NULL AND r.id = log.id AND r.pending = log.seq "
        f"WHERE log.seq > max(?, ({_LOW})) AND log.collection = ? AND log.origin = {schema.OWN} "
        f"AND found IS NOT NULL ORDER BY log.seq",
        (collection.flushed, collection.key),
    )
    lines: list[bytes] = [line for (line,) in rows]
    if not set(map(type, lines)) <= {bytes}:
        raise sqlite3.DatabaseError("a line that waits in it is text")
    return lines


def pending_count(db: sqlite3.Connection) -> dict[str, int]:
    """How many own changes of each collection are not flushed, by its name; collections without any are left out."""
    return dict(
        db.execute(
            f"SELECT c.name, count(*) FROM log l JOIN collection c ON c.key = l.collection "
            f"WHERE l.seq > ({_LOW}) AND l.origin = {schema.OWN} AND l.seq > c.flushed GROUP BY c.name"
        ).fetchall()
    )


def count_above(db: sqlite3.Connection, collection: Collection, seq: int) -> int:
    """How many own changes of *collection* there are above *seq*."""
    found = db.execute(
        f"SELECT count(*) FROM log WHERE seq > ? AND collection = ? AND origin = {schema.OWN}", (seq, collection.key)
    )
    return int(found.fetchone()[0])


def raise_low(db: sqlite3.Connection, newest: int) -> None:
    """Note up to where nothing of any collection waits, so that no later look at the outbox begins below.

    Args:
        db: The index.
        newest: The newest seq of the log; a lower one when what is above it may have to wait again.
    """
    found = db.execute(
        f"SELECT l.seq FROM log l JOIN collection c ON c.key = l.collection "
        f"WHERE l.seq > ({_LOW}) AND l.origin = {schema.OWN} AND l.seq > c.flushed ORDER BY l.seq LIMIT 1"
    ).fetchone()
    low = min(newest, found[0] - 1) if found else newest
    db.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'low'", (low,))


def settle(db: sqlite3.Connection, seqs: Iterable[int]) -> None:
    """Note that the journal has these versions: they leave the outbox."""
    db.executemany(f"UPDATE log SET origin = {schema.SETTLED} WHERE seq = ?", [(seq,) for seq in seqs])


def unsettle(db: sqlite3.Connection, collection: Collection, *, above: int) -> None:
    """Take that back for versions above a seq: the file that had them is gone."""
    db.execute(
        f"UPDATE log SET origin = {schema.OWN} WHERE seq > ? AND collection = ? AND origin = {schema.SETTLED}",
        (above, collection.key),
    )


def keep_line(db: sqlite3.Connection, entry: Pending) -> None:
    """Copy a pending line into its log row, because another line takes its place in the record's row."""
    db.execute("UPDATE log SET line = ? WHERE seq = ?", (entry.raw, entry.seq))


def trim(db: sqlite3.Connection, collections: Iterable[Collection], *, keep: int = KEPT) -> None:
    """Drop all but the outbox and the newest *keep* rows."""
    found = db.execute("SELECT seq FROM log ORDER BY seq DESC LIMIT 1 OFFSET ?", (keep,)).fetchone()
    if found is None:
        return
    for collection in collections:
        db.execute(
            f"DELETE FROM log WHERE collection = ? AND seq <= ? AND (seq <= ? OR origin <> {schema.OWN})",
            (collection.key, found[0], collection.flushed),
        )
