"""The index's layout, and how its connections are opened.

``store.db`` is derived from the journal and can be rebuilt at any time, so there are no migration steps: an index of
another ``SCHEMA`` is set aside and built anew.
"""

from __future__ import annotations

import math
import os
import re
import sqlite3
import stat
from typing import TYPE_CHECKING
from urllib.parse import quote

from taskstore_async.storage.shared_memory import Connection, SharedMemory

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
APPLICATION_ID = 0x7473746F  # "tsto": tells our index from any other SQLite file

JOURNAL_MODE = "WAL"
BESIDE = ("", "-wal", "-shm", "-journal")  #: what SQLite adds to the index's name for the files of it
BUSY_S = 10.0
MOST_GAPS = 1 << 26  #: keys of a row table that no row has; each costs a byte when a file is compared with the rows
WAL_KEPT_BYTES = 16 << 20  #: a write-ahead log that grew beyond it shrinks to it when it begins anew

_ROW_TABLE = re.compile(r"r[0-9]+")

# Origins of a log row.
OWN, IMPORTED, SETTLED = 0, 1, 2
# Kinds of a change. A *removed* record left the journal itself: there is no tombstone.
CREATED, UPDATED, DELETED, REMOVED = 1, 2, 3, 4

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE collection (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    rows TEXT NOT NULL,           -- the name of its row table
    declaration BLOB NOT NULL,    -- what its columns were made from
    flushed INTEGER NOT NULL,     -- own log rows above it are the outbox
    revision INTEGER NOT NULL,    -- counts the file records written
    record BLOB,                  -- the file record; NULL before the first look at the file
    closed INTEGER NOT NULL,      -- the file has bytes, and not one valid line
    synced_ms INTEGER NOT NULL
);
CREATE TABLE log (
    seq INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    ms INTEGER NOT NULL,
    ns INTEGER NOT NULL,
    line BLOB
);
CREATE TABLE lease (
    collection INTEGER NOT NULL,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    token INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    PRIMARY KEY (collection, id)
) WITHOUT ROWID;
"""


def create_tables(db: sqlite3.Connection) -> None:
    """Lay out an empty index in *db*, with an identity of its own."""
    db.executescript(_TABLES)
    db.execute(f"PRAGMA user_version = {SCHEMA}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("INSERT INTO meta VALUES ('index_id', ?)", (os.urandom(8).hex(),))
    db.execute("INSERT INTO meta VALUES ('tables', 0)")
    db.execute("INSERT INTO meta VALUES ('token', 0)")
    db.execute("INSERT INTO meta VALUES ('low', 0)")  # no own log row at or below it is unflushed, of any collection


def require_ours(db: sqlite3.Connection) -> None:
    """Check that *db* is an index of this schema number.

    Raises:
        sqlite3.DatabaseError: It is something else, or no database at all.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise sqlite3.DatabaseError("it is no index of this program")
    if version != SCHEMA:
        raise sqlite3.DatabaseError(f"it has schema {version}, and this program knows {SCHEMA}")
    if db.execute("SELECT 1 FROM meta WHERE name = 'index_id'").fetchone() is None:
        raise sqlite3.DatabaseError("it has lost its identity")
    odd = db.execute("SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index')").fetchone()
    if odd is not None:  # a trigger of somebody else's would run within our transactions
        raise sqlite3.DatabaseError(f"it has a {odd[0]} that is not ours, {odd[1]!r}")


def _require_regular(path: Path) -> None:
    """Check that the index and what SQLite keeps beside it are files, or absent.

    Raises:
        sqlite3.DatabaseError: One is a link, which may lead anywhere, or a pipe, which may have no end.
    """
    for suffix in BESIDE:
        name = f"{path}{suffix}"
        try:
            status = os.lstat(name)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode):
            raise sqlite3.DatabaseError(f"{os.path.basename(name)} is no regular file")  # noqa: PTH119 - reason: text


def connect(path: Path | None, *, writable: bool, create: bool = False, busy_s: float = math.inf) -> Connection:
    """Open the index at *path* (None: in memory) in autocommit mode, for any one thread at a time.

    A connection that can write is opened and closed under store.lock, because closing the last one checkpoints.

    Args:
        path: The file.
        writable: Whether it may write.
        create: Make the file when there is none.
        busy_s: Seconds that a statement waits for programs that know nothing of store.lock; `BUSY_S` at most.

    Raises:
        sqlite3.DatabaseError: There is none, or something that is no file.
    """
    if path is None:
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=Connection)
    else:
        _require_regular(path)
        mode = "rwc" if create else "rw" if writable else "ro"
        wait_s = min(busy_s, BUSY_S)
        uri = f"file:{quote(os.fsencode(path))}?mode={mode}"
        db = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=wait_s, factory=Connection
        )
        db.memory = SharedMemory.joined_by(db, path)
    try:
        db.execute("PRAGMA cache_size = -16384")
        if writable:
            # Every writer holds store.lock, so nothing waits in SQLite's busy handler, which starves.
            db.execute("PRAGMA wal_autocheckpoint = 0")
            # Some builds of SQLite write zeros over whatever is freed. The index only repeats what the journals say.
            db.execute("PRAGMA secure_delete = OFF").fetchall()
            db.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
    except BaseException:
        db.close()
        raise
    return db


def create_rows(db: sqlite3.Connection, table: str, columns: int) -> None:
    """Create a row table with *columns* generated, typeless columns; `create_row_indexes` makes it fast."""
    names = "".join(f", c{position}" for position in range(columns))
    db.execute(
        f"CREATE TABLE {table} (pk INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ms INTEGER NOT NULL, "
        f"ns INTEGER NOT NULL, dead INTEGER NOT NULL, pending INTEGER NOT NULL, line BLOB NOT NULL{names})"
    )


def create_row_indexes(db: sqlite3.Connection, table: str, columns: int) -> None:
    """Index every column of *table* together with the stamp, over the live rows."""
    for position in range(columns):
        db.execute(f"CREATE INDEX {table}c{position} ON {table} (c{position}, ms) WHERE dead = 0")


def is_row_table(name: object) -> bool:
    """Whether *name* is one that `new_table_name` makes, and may stand in a statement."""
    return isinstance(name, str) and _ROW_TABLE.fullmatch(name) is not None


def highest_key(db: sqlite3.Connection, table: str) -> int:
    """The greatest key of a row table; 0 when it is empty.

    Raises:
        sqlite3.DatabaseError: There are keys that we do not give: below 1, or far apart. Nothing can be kept by them.
    """
    lowest, highest = db.execute(f"SELECT (SELECT min(pk) FROM {table}), (SELECT max(pk) FROM {table})").fetchone()
    if lowest is None:
        return 0
    if lowest < 1:
        raise sqlite3.DatabaseError(f"{table} has a row with the key {lowest}, which is none of ours")
    if highest > MOST_GAPS and highest - db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > MOST_GAPS:
        raise sqlite3.DatabaseError(f"{table} has a row with the key {highest}, which is too far from the others")
    return int(highest)


def new_table_name(db: sqlite3.Connection) -> str:
    """A row table name that was never used in this index."""
    (number,) = db.execute("UPDATE meta SET value = value + 1 WHERE name = 'tables' RETURNING value").fetchone()
    return f"r{number}"
