"""Two managers against a plain dictionary, on each loop: whatever is asked of either, all answer the same.

Callers are cancelled at any moment, people edit the file, the clock is set forwards and back, and managers are opened
again and killed. `tests.storage.test_model` does the same to one `Store`, with references and unique fields.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from anyio import create_task_group
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from taskstore_async import (
    AlreadyExistsError,
    Durability,
    NotFoundError,
    StaleWriteError,
    StateManager,
    SyncConfig,
    eq,
)
from taskstore_async.storage import clock
from tests.actor.support import Plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractContextManager

    from anyio.from_thread import BlockingPortal

HANDLES = st.sampled_from([0, 1])
IDS = st.sampled_from(["a", "b", "7"])
NUMBERS = st.integers(0, 3)
LEVELS = st.sampled_from(Durability)
HOUR_MS = 3_600_000
MARGIN_MS = 1_000  # a foreign line is stamped so far above what is known


class ManagerMachine(RuleBasedStateMachine):
    backend: ClassVar[str]

    @initialize(coalesce=st.booleans())
    def begin(self, *, coalesce: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="taskstore-model-"))
        self.journal = self.folder / ".taskstore" / "plans.jsonl"
        self.records: dict[str, int] = {}
        self.stale: Plan | None = None
        self.ahead_ms = 0
        self.stack = ExitStack()
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        real_ms = clock.now_ms
        patch.setattr(clock, "now_ms", lambda: real_ms() + self.ahead_ms)
        patch.setattr(clock.process_clock, "_last_ms", 0)
        self.portal: BlockingPortal = self.stack.enter_context(start_blocking_portal(self.backend))
        self.config = SyncConfig(auto_export=False, coalesce=coalesce)
        self.opened: list[AbstractContextManager[StateManager]] = []
        self.handles: list[StateManager] = []
        for _ in range(2):
            self.open()

    def open(self, place: int | None = None) -> None:
        make = StateManager.open(self.folder, records=[Plan], sync=self.config)
        opened = self.portal.wrap_async_context_manager(make)
        handle = opened.__enter__()
        if place is None:
            self.opened.append(opened)
            self.handles.append(handle)
        else:
            self.opened[place], self.handles[place] = opened, handle

    def teardown(self) -> None:
        if not hasattr(self, "handles"):
            return
        with self.stack:
            assert self.call(0, StateManager.sync, rebuild=True).rebuilt
            self.agree()
            for opened in self.opened:
                opened.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    def call(self, place: int, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:  # noqa: ANN401 - reason: as the function
        return self.portal.call(partial(function, self.handles[place], *args, **options))

    def cancelled(
        self, place: int, steps: int, function: Callable[..., Coroutine[Any, Any, object]], *args: object
    ) -> None:
        """Cancel a call after so many steps of the loop, if it has not ended by then."""

        async def attempt() -> None:
            async with create_task_group() as tasks:
                tasks.start_soon(partial(function, self.handles[place], *args))
                for _ in range(steps):
                    await checkpoint()
                tasks.cancel_scope.cancel()

        self.portal.call(attempt)
        self.call(place, StateManager.history, Plan, "a")  # behind the transaction, if one had begun

    def stored(self, place: int) -> dict[str, int]:
        return {plan.id: plan.number for plan in self.call(place, StateManager.list, Plan)}

    # -- calls ----------------------------------------------------------------------------------------------

    @rule(place=HANDLES, record_id=IDS, number=NUMBERS, level=LEVELS)
    def create(self, place: int, record_id: str, number: int, level: Durability) -> None:
        new = Plan(id=record_id, number=number)
        if record_id in self.records:
            with pytest.raises(AlreadyExistsError):
                self.call(place, StateManager.create, new, durability=level)
            return
        self.call(place, StateManager.create, new, durability=level)
        self.records[record_id] = number

    @rule(place=HANDLES, record_id=IDS, number=NUMBERS, level=LEVELS)
    def put(self, place: int, record_id: str, number: int, level: Durability) -> None:
        self.call(place, StateManager.put, Plan(id=record_id, number=number), durability=level)
        self.records[record_id] = number

    @rule(place=HANDLES, record_id=IDS, number=NUMBERS)
    def update(self, place: int, record_id: str, number: int) -> None:
        plan = self.call(place, StateManager.get, Plan, record_id)
        assert (plan is None) == (record_id not in self.records)
        if plan is not None:
            self.call(place, StateManager.update, plan.evolve(number=number))
            self.records[record_id] = number
            self.stale = plan

    @rule(place=HANDLES)
    def update_of_an_old_version(self, place: int) -> None:
        if self.stale is not None:
            with pytest.raises((StaleWriteError, NotFoundError)):
                self.call(place, StateManager.update, self.stale)

    @rule(place=HANDLES, record_id=IDS)
    def modify(self, place: int, record_id: str) -> None:
        if record_id in self.records:
            plan = self.call(place, StateManager.modify, Plan, record_id, lambda one: one.evolve(number=one.number + 1))
            self.records[record_id] += 1
            assert plan.number == self.records[record_id]

    @rule(place=HANDLES, record_id=IDS, level=LEVELS)
    def delete(self, place: int, record_id: str, level: Durability) -> None:
        if record_id not in self.records:
            with pytest.raises(NotFoundError):
                self.call(place, StateManager.delete, Plan, record_id)
            return
        self.call(place, StateManager.delete, Plan, record_id, durability=level)
        del self.records[record_id]

    @rule(place=HANDLES, number=NUMBERS)
    def delete_where(self, place: int, number: int) -> None:
        gone = [record_id for record_id, found in self.records.items() if found == number]
        assert self.call(place, StateManager.delete_where, Plan, eq("number", number)) == len(gone)
        for record_id in gone:
            del self.records[record_id]

    @rule(place=HANDLES, ids=st.sets(IDS, min_size=1), number=NUMBERS, level=LEVELS)
    def batch(self, place: int, ids: set[str], number: int, level: Durability) -> None:
        self.call(place, put_all, ids, number, level)
        self.records.update(dict.fromkeys(ids, number))

    @rule(place=HANDLES, number=NUMBERS)
    def claim(self, place: int, number: int) -> None:
        wanted = sorted(record_id for record_id, found in self.records.items() if found == number)
        first, second = (
            self.call(one, StateManager.claim, Plan, eq("number", number), owner="me", order_by="id")
            for one in (place, 1 - place)
        )
        assert [lease.record.id for lease in (first, second) if lease is not None] == wanted[:2]
        for lease in (first, second):
            if lease is None:
                continue
            self.call(1 - place, StateManager.update, lease.record.evolve(number=number + 1), token=lease.token)
            self.records[lease.record.id] = number + 1
            self.call(place, StateManager.release, Plan, lease.record.id, token=lease.token)

    # -- cancelled callers: applied or not, and a batch whole -------------------------------------------------

    @rule(place=HANDLES, steps=st.integers(0, 12), ids=st.sets(IDS, min_size=1), number=NUMBERS, level=LEVELS)
    def cancelled_batch(self, place: int, steps: int, ids: set[str], number: int, level: Durability) -> None:
        self.cancelled(place, steps, put_all, ids, number, level)
        found = self.stored(1 - place)
        assert found in (self.records, {**self.records, **dict.fromkeys(ids, number)})
        self.records = found

    @rule(place=HANDLES, steps=st.integers(0, 12), record_id=IDS)
    def cancelled_delete(self, place: int, steps: int, record_id: str) -> None:
        if record_id in self.records:
            self.cancelled(place, steps, StateManager.delete, Plan, record_id)
            found = self.stored(1 - place)
            assert found in (self.records, {one: n for one, n in self.records.items() if one != record_id})
            self.records = found

    @rule(place=HANDLES, steps=st.integers(0, 6))
    def cancelled_flush(self, place: int, steps: int) -> None:
        self.cancelled(place, steps, StateManager.flush)

    # -- what comes from without -----------------------------------------------------------------------------

    @rule(place=HANDLES, record_id=IDS, number=NUMBERS, deleted=st.booleans(), newer=st.booleans())
    def foreign_line(self, place: int, record_id: str, number: int, *, deleted: bool, newer: bool) -> None:
        """Somebody appends to the file, with a stamp above the record's or far below."""
        self.call(place, StateManager.flush)
        known = self.call(place, StateManager.history, Plan, record_id)
        if not newer and not known:
            return
        at = max([one.updated_at for one in known], default=0) + MARGIN_MS if newer else 1
        with self.journal.open("ab") as file:
            gone = {"deleted": True} if deleted else {}
            file.write(json.dumps({"id": record_id, "number": number, "updated_at": at, **gone}).encode() + b"\n")
        self.call(place, StateManager.sync)
        if newer and deleted:
            self.records.pop(record_id, None)
        elif newer:
            self.records[record_id] = number

    @rule(hours=st.integers(-3, 3))
    def set_the_clock(self, hours: int) -> None:
        self.ahead_ms += hours * HOUR_MS

    @rule(place=HANDLES, rebooted=st.booleans())
    def reopen(self, place: int, *, rebooted: bool) -> None:
        """Close and open again; as if after a reboot, when nothing remembers what the clock said."""
        self.opened[place].__exit__(None, None, None)
        if rebooted:
            clock.process_clock._last_ms = 0
        self.open(place)

    @rule(place=HANDLES)
    def lose_the_index(self, place: int) -> None:
        for one in (place, 1 - place):
            self.call(one, StateManager.flush)
        (self.journal.parent / "store.db").unlink()
        self.call(place, StateManager.sync)

    @rule(place=HANDLES)
    def flush(self, place: int) -> None:
        self.call(place, StateManager.flush)

    @rule(place=HANDLES)
    def compact(self, place: int) -> None:
        self.call(place, StateManager.compact)

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "handles"):
            for place in (0, 1):
                assert self.stored(place) == self.records
                assert self.call(place, StateManager.count, Plan, eq("number", 1)) == list(self.records.values()).count(
                    1
                )
            assert [one for one in self.call(0, StateManager.check).problems if one.kind != "duplicate"] == []


async def put_all(store: StateManager, ids: set[str], number: int, level: Durability) -> None:
    async with store.batch(durability=level) as batch:
        for record_id in sorted(ids):
            batch.put(Plan(id=record_id, number=number))


class AsyncioMachine(ManagerMachine):
    backend = "asyncio"


class TrioMachine(ManagerMachine):
    backend = "trio"


ROUNDS = int(os.environ.get("TASKSTORE_MODEL", "15"))
quick = settings(
    max_examples=ROUNDS, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class TestManagersOnAsyncio(AsyncioMachine.TestCase):  # type: ignore[misc, valid-type]
    """Two managers on asyncio answer as the model does."""

    settings = quick


class TestManagersOnTrio(TrioMachine.TestCase):  # type: ignore[misc, valid-type]
    """Two managers on trio answer as the model does."""

    settings = quick
