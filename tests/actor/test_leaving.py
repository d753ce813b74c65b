"""Leaving writes what waits, raises what is to be raised as it is, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, get_running_tasks, sleep_forever, wait_all_tasks_blocked

from taskstore_async import (
    DeclarationConflictError,
    Document,
    FlushError,
    NoStoreError,
    Record,
    References,
    StateManager,
    Store,
    StoreClosedError,
    StoreReadOnlyError,
    SyncConfig,
    eq,
)
from taskstore_async.actor.readers import Readers
from taskstore_async.storage import files
from taskstore_async.storage.directory import Directory
from taskstore_async.storage.engine import Engine
from tests.actor.support import DEADLINE_S, Plan, engine_busy, ids_of, opened, threads

if TYPE_CHECKING:
    from pathlib import Path

    from tests.actor.conformance import Loop

pytestmark = pytest.mark.anyio

QUICK = SyncConfig(debounce_ms=0, max_delay_ms=0)


def full_disk(_: int, __: bytes) -> int:
    raise OSError(28, "No space left on device")


async def refused(call: Any, refusals: list[str]) -> None:  # noqa: ANN401 - reason: any coroutine
    with pytest.raises(StoreClosedError):
        await call
    refusals.append("refused")


class TestLeaving:
    """What waits is in the journal after, however the block is left; the block's own error is raised bare."""

    async def test_by_its_end(self, tmp_path: Path) -> None:
        tasks = len(get_running_tasks())
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            assert ids_of(tmp_path) == set()
            assert store.path == tmp_path / ".taskstore"
        assert ids_of(tmp_path) == {"a"}
        assert threads() == []
        assert len(get_running_tasks()) == tasks

    @pytest.mark.parametrize(
        "error", [KeyError, KeyboardInterrupt, StopIteration, StopAsyncIteration, StoreClosedError]
    )
    async def test_by_an_exception(self, error: type[BaseException], tmp_path: Path) -> None:
        raised = error()
        with pytest.raises(error) as caught:  # noqa: PT012 - reason: the block is what raises
            async with opened(tmp_path) as store:
                await store.put(Plan(id="a"))
                raise raised
        assert caught.value is raised
        assert ids_of(tmp_path) == {"a"}
        del caught, raised
        assert threads() == []

    async def test_by_a_cancellation(self, tmp_path: Path) -> None:
        with fail_after(DEADLINE_S), CancelScope() as scope:
            async with StateManager.open(tmp_path, records=[Plan]) as store:
                await store.put(Plan(id="a"))
                scope.cancel()
                await sleep_forever()
        assert scope.cancelled_caught
        assert ids_of(tmp_path) == {"a"}
        assert threads() == []

    async def test_by_native_cancellations_one_after_the_other(self, tmp_path: Path, anyio_backend: Loop) -> None:
        if anyio_backend[0] != "asyncio":
            pytest.skip("only asyncio cancels natively")
        inside = asyncio.Event()

        async def life() -> None:
            async with StateManager.open(tmp_path, records=[Plan]) as store:
                await store.put(Plan(id="a"))
                inside.set()
                await sleep_forever()

        with fail_after(DEADLINE_S):
            task = asyncio.create_task(life())
            await inside.wait()
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
            assert task.cancelled()
        assert ids_of(tmp_path) == {"a"}
        del task
        assert threads() == []

    async def test_with_a_full_queue(self, tmp_path: Path) -> None:
        stored: set[str] = set()
        turned_away: set[str] = set()

        async def put(store: StateManager, plan_id: str) -> None:
            try:
                stored.add((await store.put(Plan(id=plan_id))).id)
            except StoreClosedError:
                turned_away.add(plan_id)

        with fail_after(DEADLINE_S):
            async with create_task_group() as outside:  # noqa: SIM117 - reason: the callers outlive the manager
                async with StateManager.open(tmp_path, records=[Plan], queue_max=3) as store:
                    async with engine_busy(store):
                        for number in range(20):
                            outside.start_soon(put, store, f"{number}")
                            if number in {0, 3, 19}:  # one in flight, three queued, and the rest
                                await wait_all_tasks_blocked()
        assert {"0", "1", "2", "3"} <= stored, "what was in flight and queued is made"
        assert stored | turned_away == {f"{number}" for number in range(20)}, "nobody waits for ever"
        assert ids_of(tmp_path) == stored

    async def test_with_a_failing_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(FlushError, match="No space left"):  # noqa: PT012 - reason: the block is what raises
            async with opened(tmp_path) as store:
                await store.put(Plan(id="a"))
                monkeypatch.setattr(files, "write", full_disk)
        assert threads() == []
        monkeypatch.undo()
        async with opened(tmp_path) as store:
            assert await store.get(Plan, "a") is not None
        assert ids_of(tmp_path) == {"a"}

    async def test_with_a_failing_disk_by_an_exception(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(ZeroDivisionError), caplog.at_level(logging.ERROR):  # noqa: PT012 - reason: the block is what raises
            async with opened(tmp_path) as store:
                await store.put(Plan(id="a"))
                monkeypatch.setattr(files, "write", full_disk)
                raise ZeroDivisionError
        assert "could not be flushed or closed" in caplog.text
        assert "No space left" in caplog.text

    async def test_while_closing_a_reader_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        close = Readers.close

        async def fail(readers: Readers) -> None:
            await close(readers)
            raise ZeroDivisionError

        monkeypatch.setattr(Readers, "close", fail)
        with pytest.raises(ZeroDivisionError):
            async with opened(tmp_path) as store:
                await store.put(Plan(id="a"))
        assert threads() == []

    async def test_tasks_that_outlive_it_are_refused(self, tmp_path: Path) -> None:
        refusals: list[str] = []

        async def watch(store: StateManager) -> None:
            async for _ in store.watch(Plan):
                pass

        with fail_after(DEADLINE_S):
            async with create_task_group() as outside, StateManager.open(tmp_path, records=[Plan]) as store:
                outside.start_soon(refused, watch(store), refusals)
                outside.start_soon(refused, store.wait_for(Plan, eq("status", "never")), refusals)
                await wait_all_tasks_blocked()
            for call in (
                store.get(Plan, "a"),
                store.list(Plan),
                store.put(Plan(id="a")),
                store.flush(),
                store.sync(),
                store.stats(),
                store.wait_for(Plan),
                watch(store),
            ):
                await refused(call, refusals)
            with pytest.raises(StoreClosedError):
                await store._bell.wait(store._bell.next)
        assert len(refusals) == 10


class TestNeverLeaving:
    """A manager that nobody leaves does not hold the interpreter, whatever becomes of its loop."""

    SCRIPT = """
import asyncio, sys, anyio
from taskstore_async import Document, StateManager

async def main():
    global manager, task
    manager = StateManager.open(sys.argv[1])
    store = await manager.__aenter__()
    await store.put(Document("docs", {"id": "a"}))
    task = BUSY

if LOOP == "trio":
    anyio.run(main, backend="trio")
else:
    import uvloop
    loop = uvloop.new_event_loop() if LOOP == "uvloop" else asyncio.new_event_loop()
    loop.run_until_complete(main())
    if CLOSE:
        loop.close()
print("the end")
"""

    @pytest.mark.parametrize("close", [False, True])
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
    def test_the_interpreter_exits(self, loop: str, close: bool, tmp_path: Path) -> None:  # noqa: FBT001 - reason: a parameter
        busy = "None" if loop == "trio" else "loop.create_task(store._worker.run(lambda engine: None))"
        script = self.SCRIPT.replace("LOOP", repr(loop)).replace("CLOSE", repr(close)).replace("BUSY", busy)
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        if loop == "trio":  # its own complaint is that the block was never left
            assert done.returncode == 1
            assert "TrioInternalError" in done.stderr or "stack" in done.stderr
        else:
            assert (done.returncode, done.stdout) == (0, "the end\n")
        with Store.open(tmp_path) as store:
            assert store.get("docs", "a") is not None, "what was acknowledged is there"


class TestOpening:
    """What keeps a store from being opened is raised as it is, and leaves nothing behind."""

    async def test_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(NoStoreError):
            async with StateManager.open(tmp_path, create=False):
                raise AssertionError  # pragma: no cover
        assert threads() == []

    async def test_the_parts_cannot_be_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Readers, "start", fail)
        with pytest.raises(ZeroDivisionError):
            async with StateManager.open(tmp_path):
                raise AssertionError  # pragma: no cover
        assert threads() == []

    async def test_a_type_that_contradicts_the_store(self, tmp_path: Path) -> None:
        class Step(Record):
            collection: ClassVar[str] = "steps"
            owner: Annotated[str | None, References("plans")] = None

        class Other(Record):
            collection: ClassVar[str] = "steps"
            owner: Annotated[str | None, References("people")] = None

        async with opened(tmp_path, records=[Step]) as store:
            for call in (store.get(Other, "a"), store.put(Other(id="a")), store.list(Other)):
                with pytest.raises(DeclarationConflictError):
                    await call
            with pytest.raises(DeclarationConflictError):
                async with store.batch() as changes:
                    changes.put(Other(id="a"))
            await store.put(Step(id="a"))
            assert await store.rebuild_indexes(Other) == 1
            assert await store.get(Other, "a") is not None
        with pytest.raises(DeclarationConflictError):
            async with opened(tmp_path, records=[Step]):
                raise AssertionError  # pragma: no cover
        assert threads() == []

    async def test_what_a_killed_process_left_is_flushed(self, tmp_path: Path) -> None:
        store = Store.open(tmp_path)
        store.put(Document("docs", {"id": "a"}))
        store._engine.abandon()  # as if killed
        assert ids_of(tmp_path, "docs") == set()
        async with opened(tmp_path, records=[]):
            assert ids_of(tmp_path, "docs") == {"a"}

    async def test_what_cannot_be_flushed_at_once_is_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Store.open(tmp_path)
        store.put(Document("docs", {"id": "a"}))
        store._engine.abandon()
        monkeypatch.setattr(files, "write", full_disk)
        async with opened(tmp_path, records=[]) as manager:
            assert (await manager.stats()).waiting == 1
            monkeypatch.undo()
            while ids_of(tmp_path, "docs") != {"a"}:  # noqa: ASYNC110 - reason: a file cannot ring
                await anyio.sleep(0.01)
            assert (await manager.stats()).waiting == 0

    async def test_a_store_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a", title="there"))
        monkeypatch.setattr(Directory, "writable", False)
        async with opened(tmp_path) as store:
            plan = await store.get(Plan, "a")
            assert plan is not None
            assert [found.id for found in await store.list(Plan, eq("title", "there"))] == ["a"]
            assert not await store._worker.run(lambda engine: engine.index_path)
            with pytest.raises(StoreReadOnlyError):
                await store.put(plan)
            assert (await store.stats()).store.records == 1
        assert threads() == []

    async def test_a_temporary_one_goes_with_its_block(self) -> None:
        with fail_after(DEADLINE_S):
            async with StateManager.temporary(records=[Plan]) as store:
                await store.put(Plan(id="a"))
                assert store.path.exists()
        assert not await anyio.Path(store.path).exists()


class TestBackgroundTasks:
    """A background task that fails is logged, and begun anew; what is no error ends the block."""

    async def test_it_is_begun_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        flush = Engine.flush
        failures: list[ZeroDivisionError] = []

        def fail_once(engine: Engine) -> object:
            if not failures:
                failures.append(ZeroDivisionError("the first time"))
                raise failures[0]
            return flush(engine)

        monkeypatch.setattr("taskstore_async.actor.manager._PAUSE_S", 0)
        monkeypatch.setattr(Engine, "flush", fail_once)
        async with opened(tmp_path, sync=QUICK) as store:
            await store.put(Plan(id="a"))
            while ids_of(tmp_path) != {"a"}:  # noqa: ASYNC110 - reason: a file cannot ring
                await anyio.sleep(0.01)
            stats = await store.stats()
            assert stats.errors
            assert stats.last_error == "the first time"
        assert "a background task failed" in caplog.text

    async def test_ctrl_c_in_one_ends_the_block(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(_: Engine) -> None:
            raise KeyboardInterrupt

        with fail_after(DEADLINE_S), pytest.raises(KeyboardInterrupt):  # noqa: PT012 - reason: the block is what raises
            async with StateManager.open(tmp_path, records=[Plan], sync=QUICK) as store:
                monkeypatch.setattr(Engine, "flush", interrupt)
                await store.put(Plan(id="a"))
                await sleep_forever()
        assert ids_of(tmp_path) == {"a"}
