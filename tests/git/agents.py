"""A program for tests: a running StateManager whose agents write until it is told to stop.

It prints the id of every record as soon as it is acknowledged.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from taskstore_async import Document, StateManager, SyncConfig

AGENTS: Final = 4
PAUSE_S: Final = 0.03


async def run(path: str, *, auto_export: bool) -> None:
    """Write records to the store at *path* until a line comes in, or the other end goes."""
    stop = anyio.Event()

    async def write(store: StateManager, agent: int) -> None:
        number = 0
        while not stop.is_set():
            record_id = f"agent-{agent}-{number}"
            await store.create(Document("issues", {"id": record_id, "title": "written"}))
            sys.stdout.write(f"{record_id}\n")
            number += 1
            await anyio.sleep(PAUSE_S)

    async with (
        StateManager.open(path, sync=SyncConfig(debounce_ms=5, auto_export=auto_export)) as store,
        anyio.create_task_group() as group,
    ):
        for agent in range(AGENTS):
            group.start_soon(write, store, agent)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        stop.set()


if __name__ == "__main__":
    anyio.run(partial(run, sys.argv[1], auto_export=sys.argv[2] == "flushing"))
