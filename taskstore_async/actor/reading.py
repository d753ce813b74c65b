"""The calls of a manager that change nothing."""

from __future__ import annotations

import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

import msgspec
from anyio import current_time, move_on_after
from anyio.lowlevel import checkpoint

from taskstore_async.actor.handle import Handle, declared, loaded
from taskstore_async.actor.watch import Watcher
from taskstore_async.core.query import Cursor, Query
from taskstore_async.core.record import Document, Record
from taskstore_async.errors import UnreadableRecordError
from taskstore_async.storage import inspection
from taskstore_async.storage.check import problems_of
from taskstore_async.storage.content import read_content
from taskstore_async.storage.reports import Listing, Unreadable
from taskstore_async.storage.rows import values_of

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator

    from taskstore_async.core.change import Change
    from taskstore_async.core.filters import Filter
    from taskstore_async.core.record import AnyRecord
    from taskstore_async.storage.reports import Version
    from taskstore_async.storage.rows import Found

__all__ = ["SLICE", "Reading"]

R = TypeVar("R", bound=Record)
SLICE: Final = 500  #: records decoded or encoded between two checkpoints
_PAGE: Final = 500


class Reading(Handle):
    """See `StateManager`."""

    @overload
    async def get(self, target: type[R], record_id: str) -> R | None: ...
    @overload
    async def get(self, target: str, record_id: str) -> Document | None: ...
    async def get(self, target: type[Record] | str, record_id: str) -> Record | Document | None:
        """The record, or None when there is none. It sees every write that was acknowledged before.

        Raises:
            UnreadableRecordError: It is there, and does not fit the type.
            StoreClosedError: The manager is closing or closed.
        """
        name = await self._name(target)
        found = await self._readers.get(name, record_id)
        return None if found is None else loaded(target, found)

    @overload
    async def list(
        self, target: type[R], *filters: Filter, order_by: str | None = ..., limit: int | None = ..., offset: int = ...
    ) -> builtins.list[R]: ...
    @overload
    async def list(
        self, target: str, *filters: Filter, order_by: str | None = ..., limit: int | None = ..., offset: int = ...
    ) -> builtins.list[Document]: ...
    async def list(
        self,
        target: type[Record] | str,
        *filters: Filter,
        order_by: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> builtins.list[Any]:
        """The records for which all *filters* hold, from one state of the store.

        Args:
            target: The collection.
            filters: `eq`, `gt`, `in_` and so on.
            order_by: A field, with ``-`` before it for descending; by id when there is none. Ties are by id.
            limit: At most so many.
            offset: Without the first so many.

        Raises:
            InvalidFilterError: A filter, the order or the page cannot mean anything.
            UnreadableRecordError: A record does not fit the type; see `list_tolerant`.
            StoreClosedError: The manager is closing or closed.
        """
        found = await self._find(target, Query(filters, order_by=order_by, limit=limit, offset=offset))
        records: builtins.list[Any] = []
        for start in range(0, len(found), SLICE):
            if start:
                await checkpoint()
            self._measures.slices += 1
            records += [loaded(target, one) for one in found[start : start + SLICE]]
        return records

    async def count(self, target: type[Record] | str, *filters: Filter) -> int:
        """How many records there are for which all *filters* hold."""
        name = await self._name(target)
        declaration = declared(target)
        query = Query(filters)
        return await self._readers.ask(lambda reader: reader.count(name, query, declaration=declaration))

    @overload
    def iterate(self, target: type[R], *filters: Filter, order_by: str | None = ...) -> AsyncGenerator[R]: ...
    @overload
    def iterate(self, target: str, *filters: Filter, order_by: str | None = ...) -> AsyncGenerator[Document]: ...
    async def iterate(
        self, target: type[Record] | str, *filters: Filter, order_by: str | None = None
    ) -> AsyncGenerator[Any]:
        """The same as `list`, a page at a time by key.

        A record that changes meanwhile may be seen as either version.
        """
        name = await self._name(target)
        declaration = declared(target)
        if declaration is None:
            declaration = await self._readers.ask(lambda reader: reader.declaration(name))
        after: Cursor | None = None
        while True:
            page = await self._find(target, Query(filters, order_by=order_by, limit=_PAGE, after=after))
            self._measures.slices += bool(page)
            for found in page:
                yield loaded(target, found)
            if len(page) < _PAGE:
                return
            after = Cursor.at(order_by, page[-1].id, values_of(page[-1], declaration))

    async def read_content(self, record: AnyRecord) -> str | None:
        """The long text of *record*: what its file has, else its own ``content``; None when it has neither.

        Raises:
            ContentError: The file is not there, is no text in UTF-8, or is not one that the store would read.
        """
        return await self._readers.ask(lambda _: read_content(self._path, record))  # on a thread that may wait

    async def list_tolerant(self, target: type[Record] | str, *filters: Filter, order_by: str | None = None) -> Listing:
        """What can be read as the type, and what cannot, with the reason: records that do not fit, and bad lines."""
        name = await self._name(target)
        records: builtins.list[Any] = []
        unreadable: builtins.list[Unreadable] = []
        found = await self._find(target, Query(filters, order_by=order_by))
        for place, one in enumerate(found):
            if place and place % SLICE == 0:
                await checkpoint()
            try:
                records.append(loaded(target, one))
            except UnreadableRecordError as error:
                unreadable.append(Unreadable(one.id, error.reason))
        problems = await self._worker.run(problems_of, name)
        unreadable += [Unreadable(None, one.reason, one.line, one.offset) for one in problems if not one.served]
        return Listing(records, unreadable)

    async def history(self, target: type[Record] | str, record_id: str) -> builtins.list[Version]:
        """The versions of a record, oldest first: those in the journal, then those that wait to be flushed.

        It begins at the last compaction, and is complete when every version was flushed for itself
        (`Durability.JOURNAL`, or ``coalesce=False``).
        """
        return await self._worker.run(inspection.history, await self._name(target), record_id)

    @overload
    def watch(self, target: type[R], *, since: str | None = ...) -> AsyncGenerator[Change[R]]: ...
    @overload
    def watch(self, target: str | None = ..., *, since: str | None = ...) -> AsyncGenerator[Change[Document]]: ...
    async def watch(
        self, target: type[Record] | str | None = None, *, since: str | None = None
    ) -> AsyncGenerator[Change[Any]]:
        """Changes as they happen, by any process, in order and without a gap; for ever.

        A record that does not fit the type comes as well, as None with the reason (`Change.unreadable`).

        Args:
            target: The collection; None for all, as documents.
            since: The cursor of the last change that was seen; None to begin when the first is asked for. One that the
                log does not go back to gives a ``RESET``, then every live record as ``PRESENT``: no state is missed,
                only what led to it.

        Raises:
            LaggedError: This watcher was so slow that the log was trimmed past it; resume with its cursor.
            InvalidFilterError: *since* is no cursor.
            StoreClosedError: The manager is closing or closed.
        """
        name = None if target is None else await self._name(target)

        def load(collection: str, found: Found) -> Any:  # noqa: ANN401 - reason: what target says
            return loaded(collection if target is None else target, found)

        async with aclosing(Watcher(self._readers, self._bell, name, load).changes(since)) as changes:
            async for change in changes:
                yield change

    @overload
    async def wait_for(
        self, target: type[R], *filters: Filter, order_by: str | None = ..., timeout_s: float | None = ...
    ) -> R: ...
    @overload
    async def wait_for(
        self, target: str, *filters: Filter, order_by: str | None = ..., timeout_s: float | None = ...
    ) -> Document: ...
    async def wait_for(
        self, target: type[Record] | str, *filters: Filter, order_by: str | None = None, timeout_s: float | None = None
    ) -> Any:
        """The first record for which all *filters* hold, as soon as there is one.

        A record that does not fit the type is passed over; the `TimeoutError` names one.

        Args:
            target: The collection.
            filters: As for `list`.
            order_by: Which comes first, when there are several.
            timeout_s: Seconds to wait; it looks once at least. None for ever.

        Raises:
            TimeoutError: There was none in time.
            InvalidFilterError: A filter or the order cannot mean anything.
            StoreClosedError: The manager is closing or closed.
        """
        query = Query(filters, order_by=order_by)
        deadline_s = math.inf if timeout_s is None else current_time() + timeout_s
        while True:
            event = self._bell.next
            first = await self._first(target, query)
            if not (first is None or isinstance(first, UnreadableRecordError)):
                return first
            with move_on_after(None if timeout_s is None else deadline_s - current_time()) as waiting:
                await self._bell.wait(event)
            if waiting.cancelled_caught:
                matching = f" with {', '.join(map(repr, filters))}" if filters else ""
                passed = "" if first is None else f"; passed over: {first}"
                message = f"waited {timeout_s:g} s for a record of {await self._name(target)}{matching}{passed}"
                raise TimeoutError(message)

    async def _first(self, target: type[Record] | str, query: Query) -> Any:  # noqa: ANN401 - reason: what target says
        """The first record that fits the type; else why the first one does not, or None when there is none at all."""
        limit = 1
        while True:
            found = await self._find(target, msgspec.structs.replace(query, limit=limit))
            unreadable: UnreadableRecordError | None = None
            for one in found:
                try:
                    return loaded(target, one)
                except UnreadableRecordError as error:
                    unreadable = unreadable or error
            if len(found) < limit:
                return unreadable
            limit *= 8
