"""A state store that agent loops can await, in plain files that git can merge.

Every public name is here, and is loaded when it is first used (PEP 562): importing the package loads no event loop,
no database and no command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskstore_async.actor.manager import StateManager
    from taskstore_async.core.change import Change, ChangeKind, Origin
    from taskstore_async.core.filters import (
        Filter,
        FilterOp,
        any_,
        contains,
        eq,
        gt,
        gte,
        in_,
        is_null,
        lt,
        lte,
        ne,
        not_,
    )
    from taskstore_async.core.graph import Graph
    from taskstore_async.core.ids import text_id
    from taskstore_async.core.record import Document, Indexed, Record, References, Unique, first_of, present
    from taskstore_async.core.schedule import Durability, SyncConfig
    from taskstore_async.errors import (
        AlreadyExistsError,
        AmbiguousIdError,
        CannotResolveError,
        ClaimLostError,
        CollectionClosedError,
        ContentError,
        CycleError,
        DeclarationConflictError,
        DestinationError,
        ExchangeError,
        FlushError,
        GitError,
        ImportConflictError,
        InvalidFilterError,
        InvalidIdError,
        InvalidNameError,
        InvalidQueryError,
        InvalidRecordError,
        InvalidRecordTypeError,
        LaggedError,
        LimitExceededError,
        MergeInputError,
        MissingExtraError,
        MissingReferenceError,
        NoRepositoryError,
        NoRevisionError,
        NoStoreError,
        NotFoundError,
        QueryTimeoutError,
        ReadFailedError,
        ReferencedError,
        StaleWriteError,
        StoreBrokenError,
        StoreClosedError,
        StoreLockedError,
        StoreReadOnlyError,
        StoreVersionError,
        TaskStoreError,
        UniqueError,
        UnreadableRecordError,
        UnresolvedConflictError,
        WriteFailedError,
        WriteUncertainError,
    )
    from taskstore_async.storage.clock import new_id, now_ms
    from taskstore_async.storage.store import Lease, Store

__version__ = "0.1.0"

__all__ = [
    "AlreadyExistsError",
    "AmbiguousIdError",
    "CannotResolveError",
    "Change",
    "ChangeKind",
    "ClaimLostError",
    "CollectionClosedError",
    "ContentError",
    "CycleError",
    "DeclarationConflictError",
    "DestinationError",
    "Document",
    "Durability",
    "ExchangeError",
    "Filter",
    "FilterOp",
    "FlushError",
    "GitError",
    "Graph",
    "ImportConflictError",
    "Indexed",
    "InvalidFilterError",
    "InvalidIdError",
    "InvalidNameError",
    "InvalidQueryError",
    "InvalidRecordError",
    "InvalidRecordTypeError",
    "LaggedError",
    "Lease",
    "LimitExceededError",
    "MergeInputError",
    "MissingExtraError",
    "MissingReferenceError",
    "NoRepositoryError",
    "NoRevisionError",
    "NoStoreError",
    "NotFoundError",
    "Origin",
    "QueryTimeoutError",
    "ReadFailedError",
    "Record",
    "ReferencedError",
    "References",
    "StaleWriteError",
    "StateManager",
    "Store",
    "StoreBrokenError",
    "StoreClosedError",
    "StoreLockedError",
    "StoreReadOnlyError",
    "StoreVersionError",
    "SyncConfig",
    "TaskStoreError",
    "Unique",
    "UniqueError",
    "UnreadableRecordError",
    "UnresolvedConflictError",
    "WriteFailedError",
    "WriteUncertainError",
    "__version__",
    "any_",
    "contains",
    "eq",
    "first_of",
    "gt",
    "gte",
    "in_",
    "is_null",
    "lt",
    "lte",
    "ne",
    "new_id",
    "not_",
    "now_ms",
    "present",
    "text_id",
]

_FILTERS = "any_ contains eq gt gte in_ is_null lt lte ne not_ Filter FilterOp"
_RECORDS = "Document Indexed Record References Unique first_of present"
_HOMES = {
    **dict.fromkeys(_FILTERS.split(), "taskstore_async.core.filters"),
    **dict.fromkeys(_RECORDS.split(), "taskstore_async.core.record"),
    "Change": "taskstore_async.core.change",
    "ChangeKind": "taskstore_async.core.change",
    "Origin": "taskstore_async.core.change",
    "Durability": "taskstore_async.core.schedule",
    "Graph": "taskstore_async.core.graph",
    "Lease": "taskstore_async.storage.store",
    "StateManager": "taskstore_async.actor.manager",
    "SyncConfig": "taskstore_async.core.schedule",
    "Store": "taskstore_async.storage.store",
    "new_id": "taskstore_async.storage.clock",
    "now_ms": "taskstore_async.storage.clock",
    "text_id": "taskstore_async.core.ids",
}


if not TYPE_CHECKING:  # else every misspelt name would be an object to a type checker

    def __getattr__(name: str) -> object:
        """Load a public name from its home, once."""
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        value = getattr(import_module(_HOMES.get(name, "taskstore_async.errors")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
