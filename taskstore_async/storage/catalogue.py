"""The index's catalogue: which collections there are, their tables, columns, marks and file records."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable  # noqa: TC003 - reason: msgspec reads it at run time
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from taskstore_async.core.comparable import COMPARABLE, OPAQUE, comparable
from taskstore_async.core.declaration import TYPES, Declaration
from taskstore_async.core.line import Line, decode_line, values_of_line
from taskstore_async.core.names import is_collection
from taskstore_async.errors import TaskStoreError
from taskstore_async.storage import schema
from taskstore_async.storage.journal import FileRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Collection", "add", "keep_mark", "keep_record", "load", "redeclare", "use_table"]

_TEXTS = frozenset({str, type(None)})
_LAST_REVISION = 1 << 62
_encode = msgspec.json.Encoder().encode
_decode_declaration = msgspec.json.Decoder(dict[str, Any]).decode
_decode_record = msgspec.json.Decoder(FileRecord).decode
_NAMES = "key, name, rows, declaration, flushed, revision, record, closed, synced_ms"


class Collection(msgspec.Struct):
    """One row of the catalogue, with what is derived from its declaration.

    Attributes:
        key: What the log calls it.
        rows: The name of its row table.
        flushed: Own log rows above it are its outbox.
        revision: Counts the file records written, so that one made from an older one can be told.
        record: What is known of its file; None before the first look.
        closed: The file has bytes, and not one valid line.
        synced_ms: When its file was last read.
    """

    key: int
    name: str
    rows: str
    declaration: Declaration
    declared: bytes  #: the declaration as the catalogue has it
    flushed: int
    revision: int
    record: FileRecord | None
    closed: bool
    synced_ms: int
    columns: dict[str, str] = {}  #: field name → generated column name
    select: str = ""
    insert: str = ""
    update: str = ""
    nothing: tuple[None, ...] = ()  #: the cells of a tombstone
    cells_from: Callable[[tuple[Any, ...]], tuple[COMPARABLE | bytes, ...]] = tuple  #: cells of the sources' values
    satisfies: Declaration | None = None  #: what a record type declares, and this declaration is known to contain

    def __post_init__(self) -> None:
        """Derive the statements that name the generated columns."""
        self.satisfies = None
        names = [f"c{position}" for position in range(len(self.declaration.columns))]
        self.nothing = (None,) * len(names)
        self.cells_from = _plain_cells if self.declaration.plain else partial(_computed_cells, self.declaration)
        self.columns = dict(zip(self.declaration.columns, names, strict=True))
        self.select = f"SELECT ms, ns, dead, pending, line, pk FROM {self.rows} WHERE id = ?"
        self.insert = (
            f"INSERT INTO {self.rows} ({', '.join(['ms', 'ns', 'dead', 'pending', 'line', *names, 'id'])}) "
            f"VALUES ({', '.join('?' * (6 + len(names)))})"
        )
        assignments = ", ".join(f"{name} = ?" for name in ["ms", "ns", "dead", "pending", "line", *names])
        self.update = f"UPDATE {self.rows} SET {assignments} WHERE pk = ?"

    @property
    def has_rules(self) -> bool:
        """Whether writing a record asks about others."""
        return bool(self.declaration.unique_fields or self.declaration.references)

    @property
    def writable(self) -> bool:
        """Whether its file was looked at, and is not closed to writing."""
        return self.record is not None and not self.closed

    def cells(self, line: Line) -> tuple[COMPARABLE | bytes, ...]:
        """The values of *line*'s columns as SQLite takes them; nothing at all for a tombstone."""
        return self.nothing if line.deleted else self.cells_from(line.values)

    def cells_of(self, raw: bytes) -> tuple[COMPARABLE | bytes, ...]:
        """The same of a live line that is stored, or about to be, decoded for nothing else."""
        return self.cells_from(values_of_line(raw, self.declaration.sources))

    def cell_columns(self, values: Sequence[Sequence[Any]]) -> list[Sequence[COMPARABLE | bytes]]:
        """The same of many live lines, field by field.

        Args:
            values: Of each source, the values of all lines.
        """
        if not self.declaration.plain:
            return list(zip(*map(self.cells_from, zip(*values, strict=True)), strict=True))
        return [_cell_column(column) for column in values]

    def decode(self, raw: bytes) -> Line:
        """A line that is stored, decoded as far as the columns need it.

        Raises:
            sqlite3.DatabaseError: It is none, though only lines that were read are stored.
        """
        line = decode_line(raw, self.declaration.sources) if isinstance(cast("object", raw), bytes) else None
        if not isinstance(line, Line):
            raise sqlite3.DatabaseError(f"{self.rows} or the log has a line of {self.name} that is none")
        return line


def _plain_cells(values: tuple[Any, ...]) -> tuple[COMPARABLE | bytes, ...]:
    return tuple([value if type(value) is str else _cell(comparable(value)) for value in values])


def _cell_column(values: Sequence[Any]) -> Sequence[COMPARABLE | bytes]:
    """The cells of one field: its values themselves, when all are text or null, or integers that fit."""
    kinds = set(map(type, values))
    if kinds <= _TEXTS or (kinds == {int} and comparable(min(values)) is not OPAQUE is not comparable(max(values))):
        return values
    return [_cell(comparable(value)) for value in values]


def _computed_cells(declaration: Declaration, values: tuple[Any, ...]) -> tuple[COMPARABLE | bytes, ...]:
    return tuple([_cell(value) for value in declaration.column_values(values)])


def _cell(value: COMPARABLE) -> COMPARABLE | bytes:
    return b"" if value is OPAQUE else value


def _collection(row: tuple[Any, ...], known: Collection | None) -> Collection:
    """Read a row of the catalogue; *known* is what it was, whose declaration need not be decoded again."""
    key, name, rows, declared, flushed, revision, record, closed, synced_ms = row
    decoded = None if record is None else _decode_record(record)
    if not type(flushed) is type(revision) is int or revision > _LAST_REVISION:
        raise sqlite3.DatabaseError(f"its catalogue has {name!r} flushed up to {flushed!r}, in revision {revision!r}")
    if known is not None and known.rows == rows and known.declared == declared:
        known.flushed, known.revision, known.record = flushed, revision, decoded
        known.closed, known.synced_ms = bool(closed), synced_ms
        return known
    if not (name == TYPES or is_collection(name)) or not schema.is_row_table(rows):
        raise sqlite3.DatabaseError(f"its catalogue has a collection {name!r} in a table {rows!r}")
    declaration = Declaration.from_object(name, _decode_declaration(declared))
    return Collection(
        key, name, rows, declaration, declared, flushed, revision, decoded, closed=bool(closed), synced_ms=synced_ms
    )


def load(db: sqlite3.Connection, known: Mapping[str, Collection] = {}) -> dict[str, Collection]:
    """Every collection of the index, by name.

    Args:
        db: The index.
        known: What an earlier call returned; entries that still stand are brought up to date and used again.

    Raises:
        sqlite3.DatabaseError: It has what we have not written.
    """
    found = db.execute(f"SELECT {_NAMES} FROM collection ORDER BY name").fetchall()
    try:
        return {row[1]: _collection(row, known.get(row[1])) for row in found}
    except (TaskStoreError, ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"its catalogue cannot be read: {error}") from error


def add(db: sqlite3.Connection, name: str, declaration: Declaration | None = None) -> Collection:
    """Enter a collection into the catalogue, with an empty row table."""
    declaration = declaration or Declaration(name, {}, local=False)
    table = schema.new_table_name(db)
    schema.create_rows(db, table, len(declaration.columns))
    schema.create_row_indexes(db, table, len(declaration.columns))
    (row,) = db.execute(
        f"INSERT INTO collection (name, rows, declaration, flushed, revision, closed, synced_ms) "
        f"VALUES (?, ?, ?, 0, 0, 0, 0) RETURNING {_NAMES}",
        (name, table, _encode(declaration.to_fields())),
    ).fetchall()
    return _collection(row, None)


def keep_record(
    db: sqlite3.Connection, collection: Collection, record: FileRecord, *, closed: bool = False, synced_ms: int
) -> None:
    """Write what is now known of the collection's file."""
    collection.record, collection.closed, collection.synced_ms = record, closed, synced_ms
    collection.revision += 1
    db.execute(
        "UPDATE collection SET record = ?, closed = ?, synced_ms = ?, revision = ? WHERE key = ?",
        (_encode(record), closed, synced_ms, collection.revision, collection.key),
    )


def keep_mark(db: sqlite3.Connection, collection: Collection, record: FileRecord, *, flushed: int) -> None:
    """Write that the outbox is flushed up to *flushed*, and what its append made of the file."""
    collection.record, collection.flushed = record, flushed
    collection.revision += 1
    db.execute(
        "UPDATE collection SET record = ?, flushed = ?, revision = ? WHERE key = ?",
        (_encode(record), flushed, collection.revision, collection.key),
    )


def use_table(db: sqlite3.Connection, collection: Collection, table: str, declaration: Declaration) -> Collection:
    """Make *table*, laid out for *declaration*, the collection's row table, and drop the one it had."""
    declared = _encode(declaration.to_fields())
    db.execute("UPDATE collection SET rows = ?, declaration = ? WHERE key = ?", (table, declared, collection.key))
    db.execute(f"DROP TABLE {collection.rows}")
    return msgspec.structs.replace(collection, rows=table, declaration=declaration, declared=declared)


def redeclare(db: sqlite3.Connection, collection: Collection, declaration: Declaration) -> Collection:
    """Give the collection the columns of *declaration*, filled from its stored lines, in a new table."""
    table = schema.new_table_name(db)
    count = len(declaration.columns)
    schema.create_rows(db, table, count)
    changed = msgspec.structs.replace(collection, rows=table, declaration=declaration)
    names = ["pk", "id", "ms", "ns", "dead", "pending", "line", *changed.columns.values()]
    insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    stored = db.execute(f"SELECT pk, id, ms, ns, dead, pending, line FROM {collection.rows} ORDER BY pk")
    db.executemany(insert, ((*row, *changed.cells(changed.decode(row[6]))) for row in stored))
    schema.create_row_indexes(db, table, count)
    return use_table(db, collection, table, declaration)
