"""Cancelling a caller at any await point never half-applies and never wedges the store."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

import pytest
from anyio import CancelScope, create_task_group, fail_after, get_running_tasks, wait_all_tasks_blocked

from taskstore_async import ClaimLostError, Durability, Indexed, Record, StateManager, eq, in_
from tests.actor.support import DEADLINE_S, Plan, Steps, engine_busy, ids_of, opened, threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from tests.actor.conformance import Loop

pytestmark = pytest.mark.anyio

MOST = 60  # suspensions of any call


class Note(Record):
    collection: ClassVar[str] = "notes"
    text: Annotated[str, Indexed] = ""


Call: TypeAlias = "Callable[[StateManager, str], Coroutine[Any, Any, object]]"


async def titles(store: StateManager, key: str) -> tuple[str, ...]:
    plans = await store.list(Plan, in_("id", [f"{key}a", f"{key}b"]))
    notes = await store.list(Note, eq("id", key))
    return (*(f"{plan.id[-1]} {plan.title}" for plan in plans), *(f"note {note.text}" for note in notes))


async def nothing(store: StateManager, key: str) -> None: ...


async def two(store: StateManager, key: str) -> None:
    await store.create_many([Plan(id=f"{key}a", title="old", status=key), Plan(id=f"{key}b", title="old", status=key)])


async def create(store: StateManager, key: str) -> None:
    await store.create(Plan(id=f"{key}a", title="new", status=key))


async def put(store: StateManager, key: str) -> None:
    await store.put(Plan(id=f"{key}a", title="new", status=key), durability=Durability.JOURNAL)


async def update(store: StateManager, key: str) -> None:
    plan = await store.get(Plan, f"{key}a")
    assert plan is not None
    await store.update(plan.evolve(title="new"))


async def modify(store: StateManager, key: str) -> None:
    await store.modify(Plan, f"{key}a", lambda plan: plan.evolve(title="new"))


async def delete(store: StateManager, key: str) -> None:
    await store.delete(Plan, f"{key}a")


async def delete_where(store: StateManager, key: str) -> None:
    await store.delete_where(Plan, eq("status", key))


async def batch(store: StateManager, key: str) -> None:
    async with store.batch() as changes:
        changes.put(Plan(id=f"{key}a", title="new", status=key))
        changes.create(Note(id=key, text="new"))
        changes.delete(Plan, f"{key}b")


async def claim(store: StateManager, key: str) -> None:
    await store.claim(Plan, eq("status", key), owner="me", set={"title": "new"})


WRITES: dict[str, tuple[Call, Call, set[tuple[str, ...]]]] = {
    # what is there before, the call, and what may be there after, as titles in order
    "create": (nothing, create, {(), ("a new",)}),
    "create_many": (nothing, two, {(), ("a old", "b old")}),
    "put": (two, put, {("a old", "b old"), ("a new", "b old")}),
    "update": (two, update, {("a old", "b old"), ("a new", "b old")}),
    "modify": (two, modify, {("a old", "b old"), ("a new", "b old")}),
    "delete": (two, delete, {("a old", "b old"), ("b old",)}),
    "delete_where": (two, delete_where, {("a old", "b old"), ()}),
    "batch": (two, batch, {("a old", "b old"), ("a new", "note new")}),
    "claim": (two, claim, {("a old", "b old"), ("a new", "b old")}),
}


async def get(store: StateManager, key: str) -> None:
    await store.get(Plan, f"{key}a")


async def list_(store: StateManager, _: str) -> None:
    await store.list(Plan)


async def iterate(store: StateManager, _: str) -> None:
    async with aclosing(store.iterate("plans")) as plans:
        async for _plan in plans:
            pass


async def watch(store: StateManager, key: str) -> None:
    async with aclosing(store.watch(Plan, since="unknown.0")) as changes:
        async for change in changes:
            if change.id == f"{key}b":
                return


async def wait_for(store: StateManager, _: str) -> None:
    with suppress(TimeoutError):
        await store.wait_for(Plan, eq("status", "never"), timeout_s=0.01)


READS: dict[str, Call] = {
    "get": get,
    "list": list_,
    "iterate": iterate,
    "watch": watch,
    "wait_for": wait_for,
    "count": lambda store, key: store.count(Plan, eq("status", key)),
    "list_tolerant": lambda store, _: store.list_tolerant(Plan),
    "history": lambda store, key: store.history(Plan, f"{key}a"),
    "flush": lambda store, _: store.flush(),
    "sync": lambda store, _: store.sync(),
    "is_stale": lambda store, _: store.is_stale(),
    "compact": lambda store, _: store.compact(Plan),
    "check": lambda store, _: store.check(),
    "stats": lambda store, _: store.stats(),
    "rebuild_indexes": lambda store, _: store.rebuild_indexes(Plan),
}


async def by_scope(call: Coroutine[Any, Any, object], at: int) -> bool:
    """Cancel *call* at its *at*-th suspension by a cancel scope; whether it got that far."""
    with CancelScope() as scope:
        steps = Steps(at, scope.cancel)
        await steps.drive(call)
    return steps.fired


async def natively(call: Coroutine[Any, Any, object], at: int) -> bool:
    """Do the same by ``asyncio.Task.cancel``."""
    steps = Steps(at, lambda: task.cancel())  # noqa: PLW0108 - reason: the task is made below

    async def run() -> None:
        await steps.drive(call)

    task = asyncio.create_task(run())
    with suppress(asyncio.CancelledError):
        await task
    return steps.fired


Cancel: TypeAlias = "Callable[[Coroutine[Any, Any, object], int], Awaitable[bool]]"


@pytest.fixture(params=[by_scope, natively])
def cancel(request: pytest.FixtureRequest, anyio_backend: Loop) -> Cancel:
    if request.param is natively and anyio_backend[0] != "asyncio":
        pytest.skip("only asyncio cancels natively")
    cancelling: Cancel = request.param
    return cancelling


class TestTheSweep:
    """A call that is cancelled at its first, second, … last suspension leaves the old state or the new, never half."""

    @pytest.mark.parametrize("name", WRITES)
    async def test_a_write_is_whole_or_not_there(self, name: str, tmp_path: Path, cancel: Cancel) -> None:
        prepare, call, allowed = WRITES[name]
        async with opened(tmp_path, records=[Plan, Note]) as store:
            fired, at = True, 0
            before: tuple[str, ...] = ()
            after: tuple[str, ...] = ()
            for at in range(1, MOST):
                key = f"{name}-{at}-"
                await prepare(store, key)
                before = await titles(store, key)
                fired = await cancel(call(store, key), at)
                await store.put(Note(id="probe", text=key))  # whatever was in a transaction is behind us then
                after = await titles(store, key)
                assert after in allowed
                probe = await store.get(Note, "probe")
                assert probe is not None
                assert probe.text == key
                if not fired:
                    break
            assert not fired, "there are more suspensions than the sweep covers"
            assert at > 1
            assert after in allowed - {before}, "uncancelled, it does what it should"
            assert (await store.check()).ok
        assert threads() == []

    @pytest.mark.parametrize("name", READS)
    async def test_a_read_changes_nothing(self, name: str, tmp_path: Path, cancel: Cancel) -> None:
        async with opened(tmp_path, records=[Plan, Note]) as store:
            await two(store, "x")
            fired = True
            for at in range(1, MOST):
                fired = await cancel(READS[name](store, "x"), at)
                assert await titles(store, "x") == ("a old", "b old")
                await store.put(Note(id="probe", text=str(at)))
                assert await store.count(Note, eq("text", str(at))) == 1
                if not fired:
                    break
            assert not fired, "there are more suspensions than the sweep covers"
            assert (await store.check()).ok
        assert threads() == []

    async def test_a_lease_is_held_or_not(self, tmp_path: Path, cancel: Cancel) -> None:
        async with opened(tmp_path) as store:
            fired = True
            for at in range(1, MOST):
                await store.put(Plan(id="a", status="free"))
                lease = await store.claim(Plan, eq("status", "free"), owner="me")
                assert lease is not None
                fired = await cancel(store.renew(Plan, "a", token=lease.token, lease_ms=120_000), at)
                assert await store.renew(Plan, "a", token=lease.token) > lease.until_ms - 1_000
                fired |= await cancel(store.release(Plan, "a", token=lease.token), at)
                with suppress(ClaimLostError):  # released already
                    await store.release(Plan, "a", token=lease.token)
                if not fired:
                    break
            assert not fired

    async def test_opening_and_leaving_leave_no_thread(self, tmp_path: Path, cancel: Cancel) -> None:
        async def life() -> None:
            async with StateManager.open(tmp_path, records=[Plan]) as store:
                await store.put(Plan(id="a"))

        before = len(get_running_tasks())
        fired = True
        for at in range(1, MOST):
            fired = await cancel(life(), at)
            assert threads() == []
            assert len(get_running_tasks()) == before
            if not fired:
                break
        assert not fired
        assert ids_of(tmp_path) == {"a"}
        async with opened(tmp_path) as store:
            assert (await store.check()).ok

    async def test_among_others_who_write_nothing_is_lost(self, tmp_path: Path, cancel: Cancel) -> None:
        acknowledged: set[str] = set()

        async def other(store: StateManager, number: int) -> None:
            for turn in range(20):
                await store.put(Plan(id=f"other-{number}-{turn}"))
                acknowledged.add(f"other-{number}-{turn}")

        async def victims(store: StateManager) -> None:
            for turn in range(40):
                await cancel(store.put(Plan(id=f"victim-{turn}")), 1 + turn % 3)

        async with opened(tmp_path, queue_max=2) as store:
            async with create_task_group() as tasks:
                tasks.start_soon(victims, store)
                for number in range(4):
                    tasks.start_soon(other, store, number)
            assert len(acknowledged) == 80
            for plan_id in acknowledged:
                assert await store.get(Plan, plan_id) is not None
            assert (await store.check()).ok


class TestQueuedAndInFlight:
    """A caller that is cancelled withdraws what is still queued; what is in a transaction is applied."""

    async def test_a_queued_change_is_withdrawn(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="first"))
            async with create_task_group() as tasks, engine_busy(store):
                tasks.start_soon(store.put, Plan(id="in flight"))
                await wait_all_tasks_blocked()
                with CancelScope() as scope:
                    async with create_task_group() as queued:
                        queued.start_soon(store.put, Plan(id="queued"))
                        await wait_all_tasks_blocked()
                        scope.cancel()
            await store.put(Plan(id="next"))  # behind all that was queued
            assert await store.get(Plan, "in flight") is not None
            assert await store.get(Plan, "queued") is None

    async def test_a_change_that_waits_for_a_place_is_withdrawn(self, tmp_path: Path) -> None:
        async with opened(tmp_path, queue_max=1) as store:
            await store.put(Plan(id="first"))
            async with create_task_group() as tasks, engine_busy(store):
                for number in range(3):  # one in flight, one queued, one that waits for a place
                    tasks.start_soon(store.put, Plan(id=f"other {number}"))
                    await wait_all_tasks_blocked()
                with CancelScope() as scope:
                    async with create_task_group() as queued:
                        queued.start_soon(store.put, Plan(id="late"))
                        await wait_all_tasks_blocked()
                        assert store._writer.depth == 3
                        scope.cancel()
            await store.put(Plan(id="next"))
            assert await store.count(Plan) == 5
            assert await store.get(Plan, "late") is None

    async def test_a_change_in_flight_is_applied(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="first"))
            async with engine_busy(store):
                with CancelScope() as scope:
                    async with create_task_group() as tasks:
                        tasks.start_soon(store.put, Plan(id="in flight"))
                        await wait_all_tasks_blocked()
                        scope.cancel()
                assert scope.cancelled_caught
            await store.put(Plan(id="next"))
            assert await store.get(Plan, "in flight") is not None

    async def test_a_block_that_is_cancelled_may_still_write_under_a_shield(self, tmp_path: Path) -> None:
        with fail_after(DEADLINE_S), CancelScope() as scope:
            async with StateManager.open(tmp_path, records=[Plan]) as store:
                scope.cancel()
                with CancelScope(shield=True):
                    await store.put(Plan(id="last words"))
        assert ids_of(tmp_path) == {"last words"}
