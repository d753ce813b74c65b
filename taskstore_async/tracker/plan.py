"""What is asked of a store, said once: a plan is a generator of steps, and whoever has a store does them.

A `Store`, a `StateManager` and the memory of a tracker each do the same steps, so what is done with the answers stands
in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import msgspec

from taskstore_async.core.filters import Filter, gt
from taskstore_async.core.query import Query
from taskstore_async.core.record import Record
from taskstore_async.errors import UnreadableRecordError

if TYPE_CHECKING:
    from taskstore_async.storage.store import Store

__all__ = [
    "Count",
    "DeleteWhere",
    "Do",
    "Find",
    "Get",
    "Plan",
    "Put",
    "Settle",
    "Step",
    "StoreUnavailableError",
    "count",
    "do",
    "drive",
    "find",
    "find_all",
    "get",
    "on_store",
    "page_of",
]

T = TypeVar("T")
R = TypeVar("R", bound=Record)
_PAGE: Final = 2_000  #: records that one step asks for, so that no step takes long


class Find(msgspec.Struct, frozen=True):
    """The records that a query finds. Answer: a list."""

    target: type[Record]
    query: Query


class Count(msgspec.Struct, frozen=True):
    """How many records there are. Answer: an integer."""

    target: type[Record]
    filters: tuple[Filter, ...] = ()


class Get(msgspec.Struct, frozen=True):
    """One record. Answer: it, or None."""

    target: type[Record]
    record_id: str


class Put(msgspec.Struct, frozen=True):
    """Store records, all or none. Answer: None."""

    records: tuple[Record, ...]


class DeleteWhere(msgspec.Struct, frozen=True):
    """Delete records. Answer: how many."""

    target: type[Record]
    filters: tuple[Filter, ...]


class Do(msgspec.Struct, frozen=True):
    """Call a function that waits for the file system. Answer: what it returns."""

    function: Callable[[], object]


class Settle(msgspec.Struct, frozen=True):
    """Give the store what a tracker has kept for it. Answer: None, once the store has it."""


class StoreUnavailableError(Exception):
    """The store did not do a step: it cannot, or it took too long. Never leaves this package."""


Step: TypeAlias = Find | Count | Get | Put | DeleteWhere | Settle | Do
Plan: TypeAlias = Generator[Step, Any, T]


# -- steps with the types of their answers ------------------------------------------------------------------


def find(
    target: type[R], *filters: Filter, order_by: str | None = None, limit: int | None = None, offset: int = 0
) -> Plan[list[R]]:
    """The records for which all *filters* hold."""
    return cast("list[R]", (yield Find(target, Query(filters, order_by=order_by, limit=limit, offset=offset))))


def find_all(target: type[R], *filters: Filter) -> Plan[list[R]]:
    """The same, by id, a page at a time."""
    found: list[R] = []
    page = yield from find(target, *filters, order_by="id", limit=_PAGE)
    while page:
        found += page
        page = yield from find(target, *filters, gt("id", page[-1].id), order_by="id", limit=_PAGE)
    return found


def count(target: type[Record], *filters: Filter) -> Plan[int]:
    """How many records there are for which all *filters* hold."""
    return cast("int", (yield Count(target, filters)))


def get(target: type[R], record_id: str) -> Plan[R | None]:
    """One record, or None."""
    return cast("R | None", (yield Get(target, record_id)))


def do(function: Callable[[], T]) -> Plan[T]:
    """What *function*, which waits for the file system, returns."""
    return cast("T", (yield Do(function)))


# -- doing them ---------------------------------------------------------------------------------------------


def drive(plan: Plan[T], take: Callable[[Step], object]) -> T:
    """Do *plan*, blocking; an error of a step is raised in the plan."""
    try:
        step = next(plan)
        while True:
            try:
                answer = take(step)
            except Exception as error:  # noqa: BLE001 - reason: it is the plan's to handle, or raised by it
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as ended:
        return cast("T", ended.value)


def on_store(store: Store) -> Callable[[Step], object]:
    """A function that does a step on *store*, which keeps nothing back that would have to be settled."""

    def take(step: Step) -> object:
        match step:
            case Find() | Count() | Get():
                return _read(store, step)
            case Put() | DeleteWhere():
                return _write(store, step)
            case Settle():
                return None
            case Do(function):
                return function()

    return take


def _read(store: Store, step: Find | Count | Get) -> object:
    match step:
        case Find(target, query):
            return _listed(store, target, query)
        case Count(target, filters):
            return store.count(target, *filters)
        case Get(target, record_id):
            return store.get(target, record_id)


def _write(store: Store, step: Put | DeleteWhere) -> object:
    match step:
        case Put((record,)):  # which needs no savepoint
            store.put(record)
            return None
        case Put(records):
            with store.batch() as batch:
                for record in records:
                    batch.put(record)
            return None
        case DeleteWhere(target, filters):
            return store.delete_where(target, *filters)


def _listed(store: Store, target: type[Record], query: Query) -> list[Record]:
    try:
        return store.list(target, *query.filters, order_by=query.order_by, limit=query.limit, offset=query.offset)
    except UnreadableRecordError:
        return page_of(query, store.list_tolerant(target, *query.filters, order_by=query.order_by).records)


def page_of(query: Query, records: Sequence[Record]) -> list[Record]:
    """The page that *query* asks for, of all that it finds: some of the collection is not ours, and left out."""
    stop = None if query.limit is None else query.offset + query.limit
    return list(records[query.offset : stop])
