"""The older calls, awaited."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from taskstore_async.actor.manager import StateManager
from taskstore_async.compat.filters import translated
from taskstore_async.compat.records import as_record, named, replacing
from taskstore_async.core.record import Document, Record

if TYPE_CHECKING:
    import builtins
    import os
    from collections.abc import AsyncGenerator, Iterable

    from taskstore_async.compat.records import OldRecord
    from taskstore_async.core.filters import Filter

__all__ = ["AsyncStorage"]

R = TypeVar("R", bound=Record)


class AsyncStorage:
    """The older calls, on a `StateManager`; for any number of tasks of one event loop. See `Storage`."""

    def __init__(self, manager: StateManager) -> None:
        self.manager = manager

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: str | os.PathLike[str] = ".", *, records: Iterable[type[Record]] = ()
    ) -> AsyncGenerator[Self]:
        """Open the store at *path* for the length of an ``async with`` block; see `StateManager.open`."""
        async with StateManager.open(path, records=records) as manager:
            yield cls(manager)

    async def create(self, collection: str | type[Record], record: OldRecord) -> None:
        """Store a new record; see `Storage.create`."""
        await self.manager.create(as_record(collection, record))

    @overload
    async def get(self, collection: type[R], record_id: str) -> R | None: ...
    @overload
    async def get(self, collection: str, record_id: str) -> Document | None: ...
    async def get(self, collection: str | type[Record], record_id: str) -> Record | Document | None:
        """The record, or None."""
        return await self.manager.get(named(collection), record_id)

    async def update(self, collection: str | type[Record], record: OldRecord) -> None:
        """Store a record that is there already, whatever version that is; see `Storage.update`."""
        made = as_record(collection, record)
        target = type(made) if isinstance(made, Record) else made.collection
        await self.manager.modify(named(target), made.id, replacing(made))

    async def delete(self, collection: str | type[Record], record_id: str) -> None:
        """Delete a record; see `Storage.delete`."""
        await self.manager.delete(collection, record_id)

    @overload
    async def query(self, collection: type[R], filters: Iterable[Filter] = ...) -> builtins.list[R]: ...
    @overload
    async def query(self, collection: str, filters: Iterable[Filter] = ...) -> builtins.list[Document]: ...
    async def query(self, collection: str | type[Record], filters: Iterable[Filter] = ()) -> builtins.list[Any]:
        """The records for which all *filters* hold, by id; see `taskstore_async.compat.Filter`."""
        return await self.manager.list(named(collection), *map(translated, filters))

    @overload
    async def list(self, collection: type[R]) -> builtins.list[R]: ...
    @overload
    async def list(self, collection: str) -> builtins.list[Document]: ...
    async def list(self, collection: str | type[Record]) -> builtins.list[Any]:
        """All records, by id."""
        return await self.manager.list(named(collection))
