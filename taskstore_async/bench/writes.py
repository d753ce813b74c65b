"""What a write costs here: every durability, few callers and many, beside the bare disk."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from taskstore_async.actor.manager import StateManager
from taskstore_async.bench.measure import percentile
from taskstore_async.core.document import Document
from taskstore_async.core.schedule import Durability  # noqa: TC001 - reason: msgspec reads it at run time

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CALLERS", "WriteCost", "bare_append", "measure_writes"]

CALLERS: Final = (1, 8, 64)
_REST_BYTES: Final = 100  #: of a line, beside its text


class WriteCost(msgspec.Struct, frozen=True, kw_only=True):
    """What writes of so many callers at one durability cost.

    Attributes:
        durability: What acknowledged means; None for the bare append and fsync of one record.
        callers: How many write at the same time.
        per_second: Acknowledged writes.
        p50_ms: How long an acknowledgement took, at the median.
        p99_ms: The same at the 99th percentile.
        batch: Writes per transaction.
    """

    durability: Durability | None
    callers: int
    per_second: float
    p50_ms: float
    p99_ms: float
    batch: float


def bare_append(*, seconds: float, record_bytes: int, directory: Path | None = None) -> WriteCost:
    """Append and fsync one record after the other, and nothing else: what the disk can do."""
    data = b"x" * (record_bytes - 1) + b"\n"
    latencies: list[float] = []
    with tempfile.TemporaryFile(prefix="tstore-bench-", dir=directory, buffering=0) as file:
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            before = time.perf_counter()
            file.write(data)
            os.fsync(file.fileno())
            latencies.append(time.perf_counter() - before)
        return _cost(None, 1, latencies, time.perf_counter() - begun, batch=1.0)


def measure_writes(
    durability: Durability, callers: int, *, seconds: float, record_bytes: int, directory: Path | None = None
) -> WriteCost:
    """Let *callers* tasks write, each as fast as it is answered, on asyncio.

    Args:
        durability: What acknowledged means.
        callers: How many. > 0.
        seconds: How long.
        record_bytes: The size of a line, about.
        directory: Where the store is made, in a directory of its own that goes again; None for the system's place.
    """
    with tempfile.TemporaryDirectory(prefix="tstore-bench-", dir=directory) as path:
        return anyio.run(partial(_measure, path, durability, callers, seconds, record_bytes))


async def _measure(path: str, durability: Durability, callers: int, seconds: float, record_bytes: int) -> WriteCost:
    text = "x" * max(1, record_bytes - _REST_BYTES)
    latencies: list[float] = []
    async with StateManager.open(path, durability=durability) as store:

        async def caller(place: int, end: float) -> None:
            number = 0
            while time.perf_counter() < end:
                document = Document("records", {"id": f"r-{place}-{number}", "number": number, "text": text})
                before = time.perf_counter()
                await store.put(document)
                latencies.append(time.perf_counter() - before)
                number += 1

        await store.put(Document("records", {"id": "first"}))
        before = await store.stats()
        begun = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for place in range(callers):
                tasks.start_soon(caller, place, begun + seconds)
        took = time.perf_counter() - begun
        batches = (await store.stats()).batches - before.batches
    return _cost(durability, callers, latencies, took, batch=len(latencies) / max(1, batches))


def _cost(
    durability: Durability | None, callers: int, latencies: list[float], seconds: float, *, batch: float
) -> WriteCost:
    return WriteCost(
        durability=durability,
        callers=callers,
        per_second=len(latencies) / seconds,
        p50_ms=percentile(latencies, 0.5) * 1_000,
        p99_ms=percentile(latencies, 0.99) * 1_000,
        batch=batch,
    )
