"""What is known of one record beside its fields, and of how a query is answered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.codec import split_fields
from taskstore_async.core.filters import in_
from taskstore_async.core.line import Line, decode_line
from taskstore_async.core.query import Query
from taskstore_async.core.stamp import to_ms
from taskstore_async.errors import NotFoundError
from taskstore_async.storage.clock import now_ms
from taskstore_async.storage.inspection import history
from taskstore_async.storage.rows import values_of
from taskstore_async.storage.rules import integer_of
from taskstore_async.storage.select import compile_query

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from taskstore_async.core.filters import Filter
    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.rows import Found

__all__ = ["Description", "Explanation", "HeldLease", "Reference", "describe", "explain"]

_INDEX: Final = re.compile(r"USING (?:COVERING )?INDEX r\d+c(\d+)")
_BY_ID: Final = "sqlite_autoindex"
_SORTS: Final = "TEMP B-TREE"


class Reference(msgspec.Struct, frozen=True):
    """One record that names another in a declared reference.

    Attributes:
        field: Of the record that names.
        collection: Of the other record: the one that is named, or the one that names.
        id: The other record's id.
        exists: It is there.
    """

    field: str
    collection: str
    id: str
    exists: bool = True


class HeldLease(msgspec.Struct, frozen=True):
    """Who has claimed a record, and until when (ms)."""

    owner: str
    token: int
    until_ms: int


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A record, seen from outside.

    Attributes:
        collection: Where it stands.
        id: Its id.
        created_at: When it was created, as its line says (ms); None when that does not tell.
        updated_at: Its version (ms).
        bytes: The size of its line.
        fields: How many it has.
        versions: How many the journal and the outbox have.
        line: Where its version stands in the journal; None when it waits to be flushed.
        lease: Who has claimed it.
        names: The records that it names.
        named_by: The records that name it.
    """

    collection: str
    id: str
    created_at: int | None
    updated_at: int
    bytes: int
    fields: int
    versions: int
    line: int | None
    lease: HeldLease | None
    names: tuple[Reference, ...]
    named_by: tuple[Reference, ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """How a query is answered.

    Attributes:
        index: The field whose index finds the records; None when all are looked at.
        records: How many records the index leaves, or how many there are.
        checked: The filters that are checked record by record, in Python.
        sorted_by: What puts the records in order: ``index``, ``sort``, or ``python`` for a field without an index.
        plan: What SQLite says.
    """

    index: str | None
    records: int
    checked: tuple[str, ...]
    sorted_by: str
    plan: tuple[str, ...]


def describe(engine: Engine, name: str, record_id: str) -> Description:
    """What is known of a live record beside its fields.

    Raises:
        NotFoundError: There is none.
    """
    found = engine.read(lambda reader: reader.get(name, record_id, untyped=True))
    if found is None:
        raise NotFoundError(name, record_id)
    value_of = values_of(found, engine.declaration(name))
    versions = history(engine, name, record_id)
    current = next((one for one in versions if one.current), None)
    return Description(
        collection=name,
        id=record_id,
        created_at=_created(found),
        updated_at=to_ms(found.instant),
        bytes=len(found.raw),
        fields=len(split_fields(found.raw)),
        versions=len(versions),
        line=None if current is None else current.line,
        lease=engine.read(lambda reader: reader.ask(name, _lease, record_id, now_ms())),
        names=tuple(_names(engine, name, value_of)),
        named_by=tuple(_named_by(engine, name, record_id)),
    )


def _created(found: Found) -> int | None:
    line = decode_line(found.raw, ())
    created = line.created if isinstance(line, Line) else None
    return None if created is None else to_ms(created)


def _lease(db: sqlite3.Connection, collection: Collection, record_id: str, at_ms: int) -> HeldLease | None:
    sql = "SELECT owner, token, until_ms FROM lease WHERE collection = ? AND id = ? AND until_ms > ?"
    row = db.execute(sql, (collection.key, record_id, at_ms)).fetchone()
    return None if row is None else HeldLease(*row)


def _names(engine: Engine, name: str, value_of: Callable[[str], object]) -> Iterator[Reference]:
    for field, declared in engine.declaration(name).fields.items():
        target, value = declared.references, value_of(field)
        if target is not None and isinstance(value, str | int):
            there = engine.read(lambda reader, at=target, one=str(value): reader.get(at, one))  # type: ignore[misc]  # reason: defaults that bind the loop's values
            yield Reference(field, target, str(value), exists=there is not None)


def _named_by(engine: Engine, name: str, record_id: str) -> Iterator[Reference]:
    number = integer_of(record_id)
    same = [record_id] if number is None else [record_id, number]
    for other, collection in engine.reader.collections.items():
        for field, declared in collection.declaration.fields.items():
            if declared.references == name:
                query = Query((in_(field, same),))
                found = engine.read(lambda reader, at=other, query=query: reader.find(at, query))  # type: ignore[misc]  # reason: as above
                yield from (Reference(field, other, one.id) for one in found)


def explain(engine: Engine, name: str, *filters: Filter, order_by: str | None = None) -> Explanation:
    """How the records that `Store.list` would give are found.

    Raises:
        InvalidFilterError: As for `Store.list`.
    """
    query = Query(filters, order_by=order_by)
    return engine.read(lambda reader: reader.ask(name, _explain, query)) or Explanation(
        index=None, records=0, checked=(), sorted_by="index", plan=()
    )


def _explain(db: sqlite3.Connection, collection: Collection, query: Query) -> Explanation:
    compiled = compile_query(query, table=collection.rows, columns=collection.columns)
    sql, params = compiled.select()
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", params)]
    (records,) = db.execute(*compiled.count).fetchone()
    by_sql = "sort" if any(_SORTS in step for step in plan) else "index"
    return Explanation(
        index=_index_of(plan[0], collection) if plan else None,
        records=records,
        checked=tuple(map(repr, compiled.residual)),
        sorted_by=by_sql if compiled.order is not None else "python",
        plan=tuple(_renamed(step, collection) for step in plan),
    )


def _index_of(step: str, collection: Collection) -> str | None:
    """The field by whose index a step of a plan finds records; None when it goes through all of them."""
    if not step.startswith("SEARCH"):
        return None
    if _BY_ID in step:
        return "id"
    found = _INDEX.search(step)
    return None if found is None else list(collection.columns)[int(found[1])]


def _renamed(step: str, collection: Collection) -> str:
    """A step of a plan with the names that people know."""
    step = re.sub(rf"\b{collection.rows}c(\d+)\b", lambda found: f"of {_field(found, collection)}", step)
    step = re.sub(r"\bsqlite_autoindex_\w+", "of id", step)
    step = re.sub(rf"\b{collection.rows}\b", collection.name, step)
    step = re.sub(r"\bc(\d+)\b", lambda found: _field(found, collection), step)
    return re.sub(r"\bms\b", "updated_at", step)


def _field(found: re.Match[str], collection: Collection) -> str:
    return list(collection.columns)[int(found[1])]
