"""What a manager counts and times, without dependencies."""

from __future__ import annotations

from collections import deque

import msgspec

from taskstore_async.storage.reports import StoreStats  # noqa: TC001 - reason: msgspec reads it at run time

__all__ = ["Latency", "ManagerStats", "Measures", "latency"]

_KEPT = 1_024


class Latency(msgspec.Struct, frozen=True):
    """How long something took, in milliseconds, over the newest 1,024 times."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class ManagerStats(msgspec.Struct, frozen=True, kw_only=True):
    """How a manager is doing.

    Attributes:
        store: Counts and sizes of the store.
        queue_depth: Changes that wait for a transaction, and for a place in the queue.
        batches: Transactions made.
        writes: Changes applied or refused in them.
        mean_batch: Changes per transaction.
        max_batch: The most in one.
        commit: How long transactions took from here, at `Durability.JOURNAL` with append and fsync.
        flush: How long background and explicit flushes took.
        waiting: Changes of this manager that are not in the journal yet.
        lag_ms: How long the oldest of them has been waiting.
        gets: Calls of `get`.
        get_hops: Queries that answered them.
        slices: Slices in which large results were decoded.
        errors: Flushes, looks at files and transactions that failed.
        last_error: The newest of their messages.
    """

    store: StoreStats
    queue_depth: int
    batches: int
    writes: int
    mean_batch: float
    max_batch: int
    commit: Latency
    flush: Latency
    waiting: int
    lag_ms: float
    gets: int
    get_hops: int
    slices: int
    errors: int
    last_error: str | None


class Measures:
    """Counters and timings of one manager."""

    def __init__(self) -> None:
        self.batches = self.writes = self.max_batch = 0
        self.gets = self.get_hops = self.slices = 0
        self.errors = 0
        self.last_error: str | None = None
        self.commits: deque[float] = deque(maxlen=_KEPT)
        self.flushes: deque[float] = deque(maxlen=_KEPT)

    def batch(self, size: int, took_ms: float) -> None:
        """Count a transaction of *size* changes."""
        self.batches += 1
        self.writes += size
        self.max_batch = max(self.max_batch, size)
        self.commits.append(took_ms)

    def failed(self, error: Exception) -> None:
        """Count a failure that may have no caller to learn of it."""
        self.errors += 1
        self.last_error = str(error)


def latency(times_ms: deque[float]) -> Latency:
    """Sum up *times_ms*."""
    ordered = sorted(times_ms)
    if not ordered:
        return Latency(0, 0.0, 0.0, 0.0)
    last = len(ordered) - 1
    return Latency(len(ordered), ordered[last // 2], ordered[last * 99 // 100], ordered[last])
