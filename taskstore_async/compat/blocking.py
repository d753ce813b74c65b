"""The older calls, blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from taskstore_async.compat.filters import translated
from taskstore_async.compat.records import as_record, named, replacing
from taskstore_async.core.record import Document, Record
from taskstore_async.storage.store import Store

if TYPE_CHECKING:
    import builtins
    import os
    from collections.abc import Iterable

    from taskstore_async.compat.records import OldRecord
    from taskstore_async.core.filters import Filter

__all__ = ["Storage"]

R = TypeVar("R", bound=Record)


class Storage:
    """The older calls, on a `Store`; for one thread at a time.

    A collection is its name, for `Document` records, or a record type.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def open(cls, path: str | os.PathLike[str] = ".", *, records: Iterable[type[Record]] = ()) -> Self:
        """Open the store at *path*, which is made when there is none; see `Store.open`."""
        return cls(Store.open(path, records=records))

    def close(self) -> None:
        """Flush and close."""
        self.store.close()

    def __enter__(self) -> Self:
        """Enter the block at whose end the store is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Flush and close."""
        self.close()

    def create(self, collection: str | type[Record], record: OldRecord) -> None:
        """Store a new record.

        Raises:
            AlreadyExistsError: There is a record with this id.
            TaskStoreError: As for `Store.create`.
        """
        self.store.create(as_record(collection, record))

    @overload
    def get(self, collection: type[R], record_id: str) -> R | None: ...
    @overload
    def get(self, collection: str, record_id: str) -> Document | None: ...
    def get(self, collection: str | type[Record], record_id: str) -> Record | Document | None:
        """The record, or None."""
        return self.store.get(named(collection), record_id)

    def update(self, collection: str | type[Record], record: OldRecord) -> None:
        """Store a record that is there already, whatever version that is.

        Raises:
            NotFoundError: There is no such record.
            TaskStoreError: As for `Store.modify`.
        """
        made = as_record(collection, record)
        target = type(made) if isinstance(made, Record) else made.collection
        self.store.modify(named(target), made.id, replacing(made))

    def delete(self, collection: str | type[Record], record_id: str) -> None:
        """Delete a record.

        Raises:
            NotFoundError: There is no such record.
            TaskStoreError: As for `Store.delete`.
        """
        self.store.delete(collection, record_id)

    @overload
    def query(self, collection: type[R], filters: Iterable[Filter] = ...) -> builtins.list[R]: ...
    @overload
    def query(self, collection: str, filters: Iterable[Filter] = ...) -> builtins.list[Document]: ...
    def query(self, collection: str | type[Record], filters: Iterable[Filter] = ()) -> builtins.list[Any]:
        """The records for which all *filters* hold, by id; see `taskstore_async.compat.Filter`."""
        return self.store.list(named(collection), *map(translated, filters))

    @overload
    def list(self, collection: type[R]) -> builtins.list[R]: ...
    @overload
    def list(self, collection: str) -> builtins.list[Document]: ...
    def list(self, collection: str | type[Record]) -> builtins.list[Any]:
        """All records, by id."""
        return self.store.list(named(collection))
