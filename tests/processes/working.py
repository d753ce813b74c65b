"""Callers that claim jobs and finish them under their leases; some hold one for longer than it lasts."""

from __future__ import annotations

import random
from functools import partial

import anyio

from taskstore_async import ClaimLostError, StateManager, ne
from tests.processes.pipe import say
from tests.processes.records import Job

__all__ = ["work"]

CALLERS = 3
DAWDLING = 0.1  #: how many of the claims are held for too long


def work(*, store: str, backend: str, name: str, lease_ms: int) -> None:
    """Claim and finish until every job is done."""
    anyio.run(partial(_work, store, name, lease_ms), backend=backend)


async def _work(store: str, name: str, lease_ms: int) -> None:
    async with StateManager.open(store, records=[Job]) as manager, anyio.create_task_group() as tasks:
        for place in range(CALLERS):
            tasks.start_soon(_finish, manager, name, lease_ms, random.Random(f"{name} {place}"))  # noqa: S311 - reason: dice
    say(left=name)


async def _finish(manager: StateManager, name: str, lease_ms: int, dice: random.Random) -> None:
    changes: dict[str, object] = {"status": "active", "by": name}
    while await manager.count(Job, ne("status", "done")):
        lease = await manager.claim(Job, ne("status", "done"), owner=name, lease_ms=lease_ms, set=changes)
        if lease is None:
            await anyio.sleep(lease_ms / 2_000)  # until a lease of somebody else has ended
            continue
        say(claimed=lease.record.id, token=lease.token, until=lease.until_ms, by=name)
        if dice.random() < DAWDLING:
            await anyio.sleep(lease_ms * (1 + dice.random() / 5) / 1_000)
        try:
            done = await manager.update(lease.record.evolve(status="done"), token=lease.token)
        except ClaimLostError:
            say(lost=lease.record.id, token=lease.token, by=name)
        else:
            say(done=done.id, token=lease.token, by=name, at=done.updated_at)
