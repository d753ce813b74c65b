"""Records as the older calls take them: typed ones, documents, and plain mappings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from taskstore_async.core.record import Document, Record
from taskstore_async.errors import InvalidNameError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OldRecord", "as_record", "named", "replacing"]

OldRecord: TypeAlias = Record | Mapping[str, object]
"""A record: typed, or its fields by name, ``id`` among them."""


def as_record(collection: str | type[Record], record: OldRecord) -> Record | Document:
    """*record*, as one of *collection*.

    Raises:
        InvalidNameError: It is of a type that says another collection.
        InvalidIdError: It has no ``id``.
    """
    name = collection if isinstance(collection, str) else collection.collection
    if isinstance(record, Record | Document):
        if record.collection != name:
            raise InvalidNameError("collection", name, f"{type(record).__name__} records are of {record.collection}")
        return record
    return Document(name, record)


def named(collection: str | type[Record]) -> str:
    """*collection*, as it is; as a name to type checkers, whose overloads take one or the other, and not either."""
    return cast("str", collection)


def replacing(record: Record | Document) -> Callable[[object], Any]:
    """What `Store.modify` does to make an update that asks nobody which version is there."""
    return lambda _current: record
