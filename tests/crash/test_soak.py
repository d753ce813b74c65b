"""Everything at once, over and over: memory, descriptors, threads and the write-ahead log stay where they were.

``TASKSTORE_SOAK_ROUNDS`` says how often; ``nox -s soak`` takes about ten minutes.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
import pytest

from taskstore_async import Durability, StateManager, SyncConfig, eq
from tests.processes.records import Job, Note

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = int(os.environ.get("TASKSTORE_SOAK_ROUNDS", "12"))
WARM = 6
IDS = 40
PAGE_BYTES = 4096
GROWTH_BYTES = 64 << 20  #: what the caches of several connections may take yet
WAL_BYTES = 24 << 20  #: what a log is written back at, and what came while it was

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc says what a process holds")


class Held(NamedTuple):
    """What this process holds."""

    memory_bytes: int
    descriptors: int
    threads: int
    wal_bytes: int


def held(store: Path) -> Held:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - reason: no Path, no garbage
        pages = int(file.read().split()[1])
    wal = store / "store.db-wal"
    size = wal.stat().st_size if wal.exists() else 0
    return Held(pages * PAGE_BYTES, len([*os.scandir("/proc/self/fd")]), threading.active_count(), size)


async def write(manager: StateManager, name: str, number: int) -> None:
    """Put, update, batch and delete records of one's own."""
    text = "x" * (number % 7 * 300)
    for place in range(IDS):
        level = list(Durability)[place % 3]
        await manager.put(Note(id=f"{name}-{place}", n=number, by=name, text=text), durability=level)
    note = await manager.get(Note, f"{name}-1")
    assert note is not None
    await manager.update(note.evolve(n=number + 1))
    async with manager.batch() as batch:
        batch.put(Note(id=f"{name}-2", n=number, by=name))
        batch.delete(Note, f"{name}-3")
    await manager.delete_where(Note, eq("by", name), eq("id", f"{name}-4"))


async def work(manager: StateManager, number: int) -> None:
    """Claim, read, list and history."""
    await manager.put(Job(id=f"j{number % IDS}"))
    lease = await manager.claim(Job, eq("status", "pending"), owner="soak", lease_ms=60_000, set={"status": "active"})
    assert lease is not None
    await manager.release(Job, lease.record.id, token=lease.token)
    assert await manager.count(Note) <= 5 * IDS
    await manager.list(Note, eq("by", "w1"), order_by="-n", limit=10)
    await manager.history(Note, "w0-0")


async def watch(manager: StateManager, changes: int) -> None:
    """Hear of so many changes."""
    async with aclosing(manager.watch(Note)) as feed:
        async for _ in feed:
            changes -= 1
            if changes == 0:
                return


async def one_round(manager: StateManager, number: int, journal: Path) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, manager, 10)
        for place in range(4):
            tasks.start_soon(write, manager, f"w{place}", number)
        tasks.start_soon(work, manager, number)
    with anyio.move_on_after(0):  # cancelled at once
        await manager.put(Note(id="cancelled", n=number))
    if number % 5 == 0:
        with journal.open("ab") as file:
            file.write(b'{"id":"theirs","n":1,"updated_at":%d}\n' % number)
        await manager.sync()
        await manager.compact()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it_holds_no_more_in_the_end_than_when_it_was_warm(tmp_path: Path) -> None:
    store = tmp_path / ".taskstore"
    config = SyncConfig(debounce_ms=20, max_delay_ms=200)
    async with StateManager.open(tmp_path, records=(Note, Job), sync=config) as manager:
        again = partial(one_round, manager, journal=store / "notes.jsonl")
        for number in range(WARM):
            await again(number)
        await manager.flush()
        warm = held(store)
        for number in range(WARM, WARM + ROUNDS):
            await again(number)
        await manager.flush()
        end = held(store)
        assert (await manager.check()).ok
    assert end.descriptors <= warm.descriptors
    assert end.threads <= warm.threads
    assert end.memory_bytes - warm.memory_bytes < GROWTH_BYTES
    assert end.wal_bytes < WAL_BYTES
