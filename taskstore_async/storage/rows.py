"""Reading a collection's rows: one place for everything that runs a query."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, cast

import msgspec

from taskstore_async.core.codec import decode_exact
from taskstore_async.core.comparable import OPAQUE
from taskstore_async.core.declaration import Declaration
from taskstore_async.core.names import can_be_stored
from taskstore_async.storage.log import instant_of
from taskstore_async.storage.select import compile_query, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from taskstore_async.core.query import Query
    from taskstore_async.storage.catalogue import Collection

__all__ = ["Found", "all_ids", "count_rows", "found_lines", "get_line", "get_lines", "sound", "values_of"]

_ASKED = 500  #: ids of one query


class _Object(msgspec.Struct):
    """Any JSON object."""


_skim = msgspec.json.Decoder(_Object).decode


class Found(msgspec.Struct, frozen=True, gc=False):
    """A live record: its line, and the stamp that the fold gave it, in nanoseconds."""

    id: str
    raw: bytes
    instant: int


def sound(found: Sequence[Found]) -> None:
    """Look through lines that nobody is going to decode as a type.

    Raises:
        sqlite3.DatabaseError: One is no line, so the index is damaged.
    """
    for one in found:
        try:
            _skim(one.raw)
            if not bytes.isascii(one.raw):  # which refuses text: SQLite keeps it where bytes are meant
                one.raw.decode()
        except RecursionError:  # it is the stack of the caller that is deep: what is stored was read before
            continue
        except (ValueError, TypeError) as error:
            raise sqlite3.DatabaseError(f"a line in it is damaged: {error}") from error


def get_line(db: sqlite3.Connection, collection: Collection, record_id: str) -> Found | None:
    """The live record *record_id*; None when there is none."""
    if not can_be_stored(record_id):
        return None
    row = db.execute(f"SELECT line, ms, ns FROM {collection.rows} WHERE id = ? AND dead = 0", (record_id,)).fetchone()
    return None if row is None else Found(record_id, row[0], instant_of(row[1], row[2]))


def get_lines(db: sqlite3.Connection, collection: Collection, ids: Sequence[str]) -> dict[str, Found]:
    """The live ones of the records *ids*, by id."""
    found: dict[str, Found] = {}
    for start in range(0, len(ids), _ASKED):
        some = ids[start : start + _ASKED]
        marks = ", ".join("?" * len(some))
        rows = db.execute(f"SELECT id, line, ms, ns FROM {collection.rows} WHERE id IN ({marks}) AND dead = 0", some)
        for record_id, raw, ms, ns in rows:
            found[record_id] = Found(record_id, raw, instant_of(ms, ns))
    return found


def found_lines(
    db: sqlite3.Connection, collection: Collection, query: Query, *, declaration: Declaration | None = None
) -> list[Found]:
    """The live records that *query* finds, in its order.

    Args:
        db: Any connection to the index.
        collection: Where to look.
        query: What is asked for.
        declaration: Knows the computed fields that the stored declaration does not have (yet).
    """
    compiled = compile_query(query, table=collection.rows, columns=collection.columns)
    sql, params = compiled.select()
    rows = db.execute(sql, params)
    found = [Found(record_id, raw, instant_of(ms, ns)) for raw, ms, ns, record_id in rows]
    if compiled.rest is None:
        return found
    by_id = {one.id: one for one in found}
    known = declaration or collection.declaration
    return [by_id[record_id] for record_id, _ in finish(compiled, ((one.id, values_of(one, known)) for one in found))]


def count_rows(
    db: sqlite3.Connection, collection: Collection, query: Query, *, declaration: Declaration | None = None
) -> int:
    """How many live records *query* finds."""
    compiled = compile_query(query, table=collection.rows, columns=collection.columns)
    if compiled.residual:
        return len(found_lines(db, collection, query, declaration=declaration))
    (count,) = db.execute(*compiled.count).fetchone()
    return int(count)


def values_of(found: Found, declaration: Declaration) -> Callable[[str], object]:
    """A function that gives the value of a field, computed ones too, decoding the line when it is first asked.

    It raises ``sqlite3.DatabaseError`` when that is none.
    """
    fields: dict[str, Any] = {}

    def value_of(name: str) -> object:
        if not fields:
            try:
                fields.update(decode_exact(found.raw))
            except (ValueError, TypeError) as error:
                raise sqlite3.DatabaseError(f"a line in it is damaged: {error}") from error
            fields.update(id=found.id, updated_at=found.instant // 1_000_000)
        declared = declaration.fields.get(name)
        if declared is None or not declared.computed:
            return fields.get(name, msgspec.UNSET)
        only = Declaration(declaration.collection, {name: declared})
        (value,) = only.column_values([fields.get(source, msgspec.UNSET) for source in only.sources])
        return [] if value is OPAQUE else value

    return value_of


def all_ids(db: sqlite3.Connection, collection: Collection) -> list[str]:
    """The ids of all live records, in order.

    Raises:
        sqlite3.DatabaseError: One is no text.
    """
    rows = db.execute(f"SELECT id FROM {collection.rows} WHERE dead = 0 ORDER BY id")
    ids: list[str] = [record_id for (record_id,) in rows]
    if ids and not isinstance(cast("object", ids[-1]), str):  # SQLite sorts bytes behind text, and has no number there
        raise sqlite3.DatabaseError(f"an id of {collection.name} in it is no text")
    return ids
