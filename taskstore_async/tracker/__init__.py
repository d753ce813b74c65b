"""Run history: which runs there were, what their tasks did, and how they ended.

`RunTracker` is awaited, `BlockingRunTracker` blocks; both have the same calls, and neither ever fails the run that it
records.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskstore_async.tracker.awaited import RunTracker
    from taskstore_async.tracker.blocking import BlockingRunTracker
    from taskstore_async.tracker.reports import (
        Deletion,
        ImportedRuns,
        OverallStats,
        TaskStats,
        TrackerState,
    )

__all__ = [
    "BlockingRunTracker",
    "Deletion",
    "ImportedRuns",
    "OverallStats",
    "RunTracker",
    "TaskStats",
    "TrackerState",
]

_HOMES = {
    "BlockingRunTracker": "taskstore_async.tracker.blocking",
    "RunTracker": "taskstore_async.tracker.awaited",
}

if not TYPE_CHECKING:  # else every misspelt name would be an object to a type checker

    def __getattr__(name: str) -> object:
        """Load a name from its home: whoever blocks needs no event loop."""
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        return getattr(import_module(_HOMES.get(name, "taskstore_async.tracker.reports")), name)
