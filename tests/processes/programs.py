"""What the child processes do: ``python -m tests.processes.programs NAME ARGUMENTS``."""

from __future__ import annotations

import json
import os
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.to_thread import run_sync

from taskstore_async import Durability, StateManager, Store, StoreClosedError, SyncConfig, in_
from tests.processes.pipe import heard, say
from tests.processes.records import Job, Mark, Note
from tests.processes.storm import nursery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TYPES = (Note, Mark, Job)


def create(*, store: str, name: str) -> None:
    """Create records from "go" to "stop"."""
    with Store.open(store, records=TYPES) as handle:
        say(ready=True)
        heard()
        stopped = threading.Event()
        threading.Thread(target=_stop_when_told, args=(stopped,), daemon=True).start()
        number = 0
        while not stopped.is_set():
            handle.create(Note(id=f"{name}-{number}", n=number, by=name))
            say(ack=f"{name}-{number}")
            number += 1


def _stop_when_told(stopped: threading.Event) -> None:
    heard()
    stopped.set()


def hold(*, store: str, count: int) -> None:
    """Make *count* records that wait in the outbox, and more when told."""
    with Store.open(store, records=TYPES, sync=SyncConfig(auto_export=False)) as handle:
        made = 0
        more = count
        while True:
            for n in range(made + 1, made + more + 1):
                handle.create(Note(id=f"n{n}", n=n))
            made += more
            say(made=made)
            order = heard()
            if order["do"] == "stop":
                return
            if order["do"] == "flush":
                more = 0
                say(flushed=handle.flush().lines)
            else:
                more = order["count"]


def peer(*, store: str, backend: str, name: str, since: str | None = None, **config: Any) -> None:  # noqa: ANN401 - reason: JSON
    """A manager that watches, and writes and reads when told."""
    anyio.run(partial(_peer, store, name, since, SyncConfig(**config)), backend=backend)


async def _peer(store: str, name: str, since: str | None, config: SyncConfig) -> None:
    async with StateManager.open(store, records=TYPES, sync=config) as manager, anyio.create_task_group() as tasks:
        tasks.start_soon(_watch, manager, since)
        number = 0
        say(ready=True)
        while (order := await run_sync(heard))["do"] != "stop":
            if order["do"] == "get":
                found = await manager.get(Note, order["id"])
                say(got=None if found is None else found.n)
                continue
            level = Durability(order.get("durability", "index"))
            for n in range(number + 1, number + order["count"] + 1):
                await manager.put(Note(id=f"{name}-{n % 5}", n=n, by=name), durability=level)
                say(ack=f"{name}-{n % 5}", n=n)
            number += order["count"]
            say(done=order["count"])
        tasks.cancel_scope.cancel()


async def _watch(manager: StateManager, since: str | None) -> None:
    async for change in manager.watch(Note, since=since):
        n = None if change.record is None else change.record.n
        say(change=change.kind, id=change.id, n=n, superseded=change.superseded, cursor=change.cursor)


def write(*, store: str, backend: str, callers: int, **config: Any) -> None:  # noqa: ANN401 - reason: JSON
    """A manager whose callers put new versions of their records, at both durabilities, until told to stop."""
    anyio.run(partial(_write, store, callers, SyncConfig(**config)), backend=backend)


async def _write(store: str, callers: int, config: SyncConfig) -> None:
    async with StateManager.open(store, records=TYPES, sync=config) as manager, anyio.create_task_group() as tasks:
        for caller in range(callers):
            tasks.start_soon(_put_for_ever, manager, caller, callers)
        while (await run_sync(heard))["do"] != "stop":
            say(marked=True)
        tasks.cancel_scope.cancel()
    say(closed=True)


async def _put_for_ever(manager: StateManager, caller: int, step: int) -> None:
    n = caller
    while True:
        level = Durability.JOURNAL if n // step % 2 else Durability.INDEX
        record_id = f"c{caller}-{n // step % 4}"
        await manager.put(Note(id=record_id, n=n, by=f"c{caller}"), durability=level)
        say(ack=record_id, n=n, level=level)
        n += step
        # Between two transactions others of this machine get a turn; a manager that never rests proves no more.
        await anyio.sleep(0.002)


def claim(*, store: str, backend: str, name: str, lease_ms: int) -> None:
    """Claim jobs, one after the other, until there is none; then wait for "again" or "stop"."""
    anyio.run(partial(_claim, store, name, lease_ms), backend=backend)


async def _claim(store: str, name: str, lease_ms: int) -> None:
    async with StateManager.open(store, records=TYPES) as manager:
        say(ready=True)
        while (await run_sync(heard))["do"] != "stop":
            wanted = in_("status", ["pending", "active"])
            changes: dict[str, object] = {"status": "active", "by": name}
            while (lease := await manager.claim(Job, wanted, owner=name, lease_ms=lease_ms, set=changes)) is not None:
                say(claimed=lease.record.id, token=lease.token, until=lease.until_ms, by=lease.record.by)
            say(none=True)


def fork_store(*, store: str) -> None:
    """Fork with an open `Store`; both sides try to use it."""
    handle = Store.open(store, records=TYPES)
    handle.create(Note(id="before", n=1))
    child = os.fork()
    if child == 0:
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: handle.get(Note, "before"),
            "create": lambda: handle.create(Note(id="child", n=2)),
            "flush": handle.flush,
            "sync": handle.sync,
            "check": handle.check,
        }
        for name, call in calls.items():
            try:
                call()
            except StoreClosedError:
                say(child=name, refused=True)
        handle.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    handle.create(Note(id="after", n=3))
    say(parent=[note.id for note in handle.list(Note)], ok=handle.check().ok, status=status)
    handle.close()


def fork_manager(*, store: str, backend: str) -> None:
    """Fork with an open `StateManager`; both sides try to use it."""
    anyio.run(partial(_fork_manager, store, backend), backend=backend)


async def _use_in_child(manager: StateManager) -> None:
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "get": partial(manager.get, Note, "before"),
        "list": partial(manager.list, Note),
        "create": partial(manager.create, Note(id="child", n=2)),
        "flush": manager.flush,
        "sync": manager.sync,
        "check": manager.check,
    }
    for name, call in calls.items():
        try:
            with anyio.fail_after(3):
                await call()
        except StoreClosedError:
            say(child=name, refused=True)
        except Exception as error:  # noqa: BLE001 - reason: told to the test
            say(child=name, refused=repr(error))
        else:
            say(child=name, refused=False)


async def _fork_manager(store: str, backend: str) -> None:
    async with StateManager.open(store, records=TYPES) as manager:
        await manager.create(Note(id="before", n=1))
        child = os.fork()
        if child == 0:
            # The loop of this thread is the parent's too: its descriptors are shared.
            thread = threading.Thread(target=anyio.run, args=(_use_in_child, manager), kwargs={"backend": backend})
            thread.start()
            thread.join()
            os._exit(0)
        _, status = await run_sync(os.waitpid, child, 0)
        await manager.create(Note(id="after", n=3))
        say(parent=[note.id for note in await manager.list(Note)], ok=(await manager.check()).ok, status=status)


PROGRAMS = {one.__name__: one for one in (create, hold, peer, write, claim, fork_store, fork_manager, nursery)}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](**json.loads(sys.argv[2]))
