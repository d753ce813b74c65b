"""What a tracker has in memory: what the store has not got yet, what is under way, and how the store is doing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec

from taskstore_async.core.filters import in_, not_, predicate
from taskstore_async.core.query import Query, select
from taskstore_async.core.write import draft
from taskstore_async.tracker.plan import Count, DeleteWhere, Do, Find, Get, Plan, Put, Settle, Step
from taskstore_async.tracker.recording import is_under_way
from taskstore_async.tracker.reports import TrackerState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskstore_async.core.filters import Filter, ValueOf
    from taskstore_async.core.record import Record

__all__ = ["Ledger", "Waiting", "in_memory", "overlaid"]

T = TypeVar("T")
R = TypeVar("R", bound="Record")
KEPT_MAX: Final = 100_000
_Key = tuple[type["Record"], str]


class Waiting(msgspec.Struct, frozen=True):
    """A record that waits for the store, and when it was kept, as a number that only grows."""

    ticket: int
    record: Record


class Ledger:
    """The memory of one tracker; any thread may use it.

    Args:
        kept_max: So many records wait for the store; further ones are lost, and counted.
    """

    def __init__(self, *, kept_max: int = KEPT_MAX) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[_Key, Waiting] = {}
        self._under_way: dict[_Key, Record] = {}
        self._tickets = 0
        self._kept_max = kept_max
        self._lost = 0
        self._reason: str | None = None
        self._told = False

    # -- records --------------------------------------------------------------------------------------------

    def keep(self, record: Record) -> None:
        """Keep *record* until the store has it.

        Raises:
            InvalidRecordError, InvalidIdError, LimitExceededError: No store can ever take it; it is not kept.
        """
        draft(record)
        key = (type(record), record.id)
        with self._lock:
            self._tickets += 1
            if is_under_way(record):
                self._under_way[key] = record
            else:
                self._under_way.pop(key, None)
            if key in self._waiting or len(self._waiting) < self._kept_max:
                self._waiting[key] = Waiting(self._tickets, record)
            else:
                self._lost += 1

    def known(self, target: type[R], record_id: str) -> R | None:
        """The record, if it is under way or waits for the store."""
        key = (target, record_id)
        with self._lock:
            waiting = self._waiting.get(key)
            found = waiting.record if waiting is not None else self._under_way.get(key)
        return cast("R | None", found)

    def forget_tasks_of(self, run_id: str) -> None:
        """Tasks that never ended end with their run: what comes later about them is asked of the store."""
        with self._lock:
            for key, record in list(self._under_way.items()):
                if getattr(record, "run_id", None) == run_id:
                    del self._under_way[key]

    def waiting(self) -> list[Waiting]:
        """What waits for the store, oldest first."""
        with self._lock:
            found = list(self._waiting.values())
        return sorted(found, key=lambda one: one.ticket) if len(found) > 1 else found

    def settle(self, done: Sequence[Waiting], *, lost: bool = False) -> None:
        """The store has *done*, or (*lost*) will never take it; what was kept anew meanwhile goes on waiting."""
        with self._lock:
            for one in done:
                key = (type(one.record), one.record.id)
                if self._waiting.get(key) is one:
                    del self._waiting[key]
            self._lost += len(done) if lost else 0

    def lose(self) -> None:
        """Count a record that could not even be kept."""
        with self._lock:
            self._lost += 1

    def lose_all(self) -> None:
        """Give up on what waits, and count it."""
        with self._lock:
            self._lost += len(self._waiting)
            self._waiting.clear()

    def of_child(self) -> Ledger:
        """The ledger with which a forked child goes on: what is under way may end there."""
        child = Ledger(kept_max=self._kept_max)
        child._under_way = dict(self._under_way)
        return child

    # -- how the store is doing -----------------------------------------------------------------------------

    @property
    def degraded(self) -> bool:
        """Whether the store does not take what is recorded."""
        return self._reason is not None

    def failed(self, reason: str) -> None:
        """The store did not take something."""
        with self._lock:
            self._reason = reason

    def told_before(self) -> bool:
        """Whether a person has been told; that is done once in a tracker's life, by whoever hears False."""
        with self._lock:
            told, self._told = self._told, True
        return told

    def recovered(self) -> None:
        """The store takes what is recorded."""
        with self._lock:
            if not self._waiting:
                self._reason = None

    @property
    def is_waiting(self) -> bool:
        """Whether anything waits for the store."""
        return bool(self._waiting)

    @property
    def state(self) -> TrackerState:
        """How it is just now."""
        with self._lock:
            return TrackerState(
                degraded=self._reason is not None, reason=self._reason, waiting=len(self._waiting), lost=self._lost
            )


# -- answering from memory ----------------------------------------------------------------------------------


def overlaid(plan: Plan[T], ledger: Ledger) -> Plan[T]:
    """*plan*, with answers in which what waits for the store counts as stored."""
    answer: Any = None
    failed: Exception | None = None
    while True:
        try:
            step = plan.send(answer) if failed is None else plan.throw(failed)
        except StopIteration as ended:
            return cast("T", ended.value)
        failed = None
        try:
            answer = yield from _over(step, ledger)
        except Exception as error:  # noqa: BLE001 - reason: it is the plan's to handle, or raised by it
            failed = error


def _over(step: Step, ledger: Ledger) -> Plan[object]:
    match step:
        case Get(target, record_id):
            for record in _of(ledger, target):
                if record.id == record_id:
                    return record
        case Count(target, filters):
            if mine := _of(ledger, target):
                below = yield Count(target, (*filters, _without(mine)))
                holds = predicate(filters)
                return below + sum(holds(_values_of(record)) for record in mine)
        case Find(target, query):
            if mine := _of(ledger, target):
                return _page(query, mine, (yield Find(target, _reaching(query, mine))))
        case Put() | DeleteWhere() | Settle() | Do():
            pass
    return (yield step)


def _reaching(query: Query, mine: Sequence[Record]) -> Query:
    """What must be known of the store to answer *query* once *mine* are among it."""
    limit = None if query.limit is None else query.offset + query.limit
    return Query((*query.filters, _without(mine)), order_by=query.order_by, limit=limit)


def _page(query: Query, mine: Sequence[Record], below: Sequence[Record]) -> list[Record]:
    by_id = {record.id: record for record in (*below, *mine)}
    rows = [(record.id, _values_of(record)) for record in by_id.values()]
    return [by_id[record_id] for record_id, _ in select(query, rows)]


def _without(mine: Sequence[Record]) -> Filter:
    return not_(in_("id", [record.id for record in mine]))


def _of(ledger: Ledger, target: type[Record]) -> list[Record]:
    return [one.record for one in ledger.waiting() if isinstance(one.record, target)]


def _values_of(record: Record) -> ValueOf:
    fields = cast("dict[str, object]", msgspec.to_builtins(record))
    return lambda name: fields.get(name, msgspec.UNSET)


def in_memory(step: Step) -> object:
    """Do a step on a store that has nothing: what `overlaid` makes of it is what memory knows."""
    match step:
        case Find():
            return []
        case Count() | DeleteWhere():
            return 0
        case Get() | Put() | Settle():
            return None
        case Do(function):
            return function()
