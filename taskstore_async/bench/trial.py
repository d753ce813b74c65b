"""One trial: a shape of writing, at a durability and with a configuration, on a disk."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import msgspec

from taskstore_async.actor.manager import StateManager
from taskstore_async.bench.measure import percentile
from taskstore_async.bench.workload import Shape, run_shape
from taskstore_async.core.document import Document
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.storage import files

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["Plan", "Trial", "observed", "run_trial"]

_UPDATES_EVERY = 2  #: every second write of an agent is a new version of its own record


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial is to do.

    Attributes:
        shape: How writes come.
        durability: What acknowledged means.
        config: When they are exported.
        seconds: How long. > 0.
        record_bytes: The size of a line, about.
    """

    shape: Shape
    durability: Durability
    config: SyncConfig
    seconds: float
    record_bytes: int = 260


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial came to.

    Attributes:
        plan: What it did.
        writes: Acknowledged writes.
        per_second: Of them.
        p50_ms: How long an acknowledgement took, at the median.
        p99_ms: The same at the 99th percentile.
        journal_fsyncs: Fsyncs of journal files per thousand writes.
        index_fsyncs: Fsyncs of the index's log per thousand writes: one per transaction at INDEX, none below and above.
        appends: Appends to journal files per thousand writes.
        lines: Lines in them per thousand writes: versions of one record that meet in a flush become one.
        lag_p50_ms: How long after its acknowledgement a write was fsynced in the journal, at the median.
        lag_p99_ms: The same at the 99th percentile.
        lag_max_ms: The longest.
        lost_mean: Acknowledged writes that a deleted ``store.db`` would have cost, over all moments of a flush.
        lost_max: The most.
    """

    plan: Plan
    writes: int
    per_second: float
    p50_ms: float
    p99_ms: float
    journal_fsyncs: float
    index_fsyncs: float
    appends: float
    lines: float
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float
    lost_mean: float
    lost_max: int


class _Observer:
    """Sees every append and fsync of a journal, on the engine's thread."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what was seen."""
        self.appends = self.fsyncs = self.lines = 0
        self.acknowledged: list[float] = []
        self.lags_s: list[float] = []
        self.at_risk: list[int] = []
        self._settled = self._covered = 0

    def wrote(self, data: bytes) -> None:
        """An append begins: it has every write that was acknowledged before."""
        self.appends += 1
        self.lines += data.count(b"\n")
        self._covered = len(self.acknowledged)

    def synced(self) -> None:
        """What was appended is on the disk."""
        self.fsyncs += 1
        now = time.perf_counter()
        waiting = self.acknowledged[self._settled : self._covered]
        if waiting:
            self.at_risk.append(len(waiting))
            self.lags_s += [now - at for at in waiting]
        self._settled = self._covered


@contextmanager
def observed() -> Generator[_Observer]:
    """Count what the engine writes to journals, for the length of a block."""
    observer = _Observer()
    write, fsync = files.write, files.fsync

    def counted_write(descriptor: int, data: bytes) -> int:
        observer.wrote(data)
        return write(descriptor, data)

    def counted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        observer.synced()

    files.write, files.fsync = counted_write, counted_fsync
    try:
        yield observer
    finally:
        files.write, files.fsync = write, fsync


def run_trial(plan: Plan, directory: Path | None = None) -> Trial:
    """Run one trial on asyncio.

    Args:
        plan: What to do.
        directory: Where the store is made, in a directory of its own that goes again; None for the system's place.
    """
    with tempfile.TemporaryDirectory(prefix="tstore-bench-", dir=directory) as path, observed() as observer:
        return anyio.run(partial(_run, plan, path, observer))


async def _run(plan: Plan, path: str, observer: _Observer) -> Trial:
    text = "x" * max(1, plan.record_bytes - 100)  # the rest is what every line has
    latencies: list[float] = []
    counts: dict[int, int] = {}
    async with StateManager.open(path, sync=plan.config, durability=plan.durability) as store:

        async def write(agent: int) -> None:
            number = counts[agent] = counts.get(agent, 0) + 1
            name = f"agent-{agent}" if number % _UPDATES_EVERY == 0 else f"event-{agent}-{number}"
            document = Document("trials", {"id": name, "number": number, "text": text})
            begun = time.perf_counter()
            await store.put(document)
            ended = time.perf_counter()
            latencies.append(ended - begun)
            observer.acknowledged.append(ended)

        await write(0)  # the collection is new: what that costs is no part of it
        await store.flush()
        latencies.clear()
        observer.begin()
        before = await store.stats()
        begun = time.perf_counter()
        await run_shape(plan.shape, write, plan.seconds)
        seconds = time.perf_counter() - begun
        after = await store.stats()
        last = (await store.flush()).files  # its lines count, but the append is one that only the end has caused
        appends, fsyncs, lines = observer.appends - last, observer.fsyncs - last, observer.lines
    thousands = len(latencies) / 1_000
    direct = plan.durability is Durability.JOURNAL
    lags = [0.0] if direct else observer.lags_s or [0.0]
    lost = [0] if direct else observer.at_risk or [0]
    commits = after.batches - before.batches if plan.durability is Durability.INDEX else 0
    return Trial(
        plan=plan,
        writes=len(latencies),
        per_second=len(latencies) / seconds,
        p50_ms=percentile(latencies, 0.5) * 1_000,
        p99_ms=percentile(latencies, 0.99) * 1_000,
        journal_fsyncs=fsyncs / thousands,
        index_fsyncs=commits / thousands,
        appends=appends / thousands,
        lines=lines / thousands,
        lag_p50_ms=percentile(lags, 0.5) * 1_000,
        lag_p99_ms=percentile(lags, 0.99) * 1_000,
        lag_max_ms=max(lags) * 1_000,
        lost_mean=sum(lost) / len(lost),
        lost_max=max(lost),
    )
