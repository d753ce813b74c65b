"""The older storage calls, for programs that were written for them: collection names and whole records.

`Storage` blocks, `AsyncStorage` is awaited. New code uses `Store` and `StateManager`, on which both stand.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskstore_async.compat.awaited import AsyncStorage
    from taskstore_async.compat.blocking import Storage
    from taskstore_async.compat.filters import Filter

__all__ = ["AsyncStorage", "Filter", "Storage"]

_HOMES = {
    "AsyncStorage": "taskstore_async.compat.awaited",
    "Filter": "taskstore_async.compat.filters",
    "Storage": "taskstore_async.compat.blocking",
}

if not TYPE_CHECKING:  # else every misspelt name would be an object to a type checker

    def __getattr__(name: str) -> object:
        """Load a name from its home: whoever blocks needs no event loop."""
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        return getattr(import_module(_HOMES[name]), name)
