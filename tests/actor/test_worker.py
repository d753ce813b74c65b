"""Both workers keep the promises of the port, and each what is its own."""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
import sqlite3
import threading
import weakref
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import aiosqlite
import anyio
import pytest
import trio
import uvloop
from anyio import CancelScope, fail_after, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from taskstore_async.actor.worker import Worker
from taskstore_async.actor.worker_asyncio import AsyncioWorker
from taskstore_async.actor.worker_trio import TrioWorker
from tests.actor.conformance import (
    DEADLINE_S,
    NAME,
    Broken,
    Closings,
    Engine,
    Gate,
    Loop,
    WorkerConformance,
    append,
    break_,
    engine_threads,
    nothing,
    snapshot,
    started,
)
from tests.conftest import LOOPS

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

pytestmark = pytest.mark.anyio

abandoned: list[object] = []  # tasks of loops that ended under them: collected, they would complain


class TestAsyncioWorker(WorkerConformance):
    """On asyncio, a native cancellation is held until the function has ended."""

    @pytest.fixture(params=LOOPS[:-1])
    def loop(self, request: pytest.FixtureRequest) -> Loop:
        loop: Loop = request.param
        return loop

    @pytest.fixture
    def anyio_backend(self, loop: Loop) -> Loop:
        return loop

    def close_loop_under(self, gate: Gate, close: Callable[[Engine], object], loop: Loop) -> Worker[Engine]:
        options: dict[str, Any] = loop[1]
        own = uvloop.new_event_loop() if options["use_uvloop"] else asyncio.new_event_loop()
        tasks: list[asyncio.Task[object]] = []

        async def begin() -> Worker[Engine]:
            worker = await Worker.start(list[Any], close, name=NAME)
            tasks.append(asyncio.create_task(worker.run(gate)))
            await asyncio.sleep(0)
            gate.wait_reached()
            return worker

        worker = own.run_until_complete(begin())
        own.close()
        abandoned.extend(tasks)
        return worker

    async def test_the_loop_decides_which_worker_it_is(self) -> None:
        async with started() as worker:
            assert isinstance(worker, AsyncioWorker)

    def test_the_private_names_of_aiosqlite_are_there(self) -> None:
        assert version("aiosqlite").startswith("0.22."), "pinned in pyproject.toml: read its core.py before moving on"
        assert inspect.iscoroutinefunction(aiosqlite.Connection._execute)
        connection = aiosqlite.Connection(lambda: sqlite3.connect(":memory:"), iter_chunk_size=0)
        assert isinstance(connection._thread, threading.Thread)
        assert not connection._thread.daemon
        assert not connection._thread.is_alive()

    # -- native cancellation --------------------------------------------------------------------------------

    async def test_a_native_cancellation_is_held_until_the_function_has_ended(self) -> None:
        async with started() as worker:
            gate = Gate()
            task = asyncio.create_task(worker.run(gate))
            await gate.reached()
            for number in range(5):
                task.cancel(f"cancellation {number}")
                await settle()
                assert not task.done()
            gate.open()
            with fail_after(DEADLINE_S), pytest.raises(asyncio.CancelledError, match="cancellation 0"):
                await task
            assert task.cancelling() == 5
            assert await worker.run(snapshot) == [gate]

    async def test_a_held_cancellation_does_not_wait_for_other_calls(self) -> None:
        async with started() as worker:
            first, second = Gate(), Gate()
            task, other = asyncio.create_task(worker.run(first)), asyncio.create_task(worker.run(second))
            await first.reached()
            task.cancel()
            await settle()
            first.open()
            await second.reached()
            with fail_after(DEADLINE_S), pytest.raises(asyncio.CancelledError):
                await task
            assert not other.done()
            second.open()
            await other

    async def test_a_call_cancelled_natively_while_it_waits_runs_too(self) -> None:
        async with started() as worker:
            gate = Gate()
            task, waiting = asyncio.create_task(worker.run(gate)), asyncio.create_task(worker.run(append, "waiting"))
            await gate.reached()
            waiting.cancel()
            await settle()
            assert not waiting.done()
            gate.open()
            with fail_after(DEADLINE_S), pytest.raises(asyncio.CancelledError):
                await waiting
            await task
            assert await worker.run(snapshot) == [gate, "waiting"]

    async def test_a_call_made_by_a_cancelled_task_runs_too(self) -> None:
        async def call() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await worker.run(append, "made")

        async with started() as worker:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.create_task(call())
            assert await worker.run(snapshot) == ["made"]

    async def test_a_cancellation_that_comes_when_the_function_has_just_ended_is_raised(self) -> None:
        async with started() as worker:
            first, second = Gate(), Gate()
            task, other = asyncio.create_task(worker.run(first)), asyncio.create_task(worker.run(second))
            await asyncio.sleep(0)
            first.open()
            second.wait_reached()  # the loop stands still, so the first answer waits in it
            task.cancel()
            with fail_after(DEADLINE_S), pytest.raises(asyncio.CancelledError):
                await task
            second.open()
            await other

    @pytest.mark.parametrize("kind", [ValueError, SystemExit])
    async def test_the_functions_error_is_the_cause_of_a_held_cancellation(self, kind: type[BaseException]) -> None:
        async with started() as worker:
            gate = Gate(error := kind("broken"))
            task = asyncio.create_task(worker.run(gate))
            await gate.reached()
            task.cancel()
            await settle()
            gate.open()
            with fail_after(DEADLINE_S), pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert caught.value.__cause__ is error

    async def test_asyncio_timeout_is_a_timeout_after_the_end(self) -> None:
        async with started() as worker:
            gate = Gate()

            async def call() -> None:
                async with asyncio.timeout(0):
                    threading.Timer(0.02, gate.open).start()
                    await worker.run(gate)

            with pytest.raises(TimeoutError):
                await call()
            assert await worker.run(snapshot) == [gate]

    async def test_a_scope_and_a_native_cancellation_together_end_the_task(self) -> None:
        async with started() as worker:
            gate, scope = Gate(), CancelScope()
            after: list[str] = []

            async def call() -> None:
                with scope:
                    await worker.run(gate)
                    after.append("in the scope")
                after.append("after the scope")

            task = asyncio.create_task(call())
            await gate.reached()
            scope.cancel()
            task.cancel()
            await settle()
            assert not task.done()
            gate.open()
            with fail_after(DEADLINE_S), pytest.raises(asyncio.CancelledError):
                await task
            assert after == []
            assert await worker.run(snapshot) == [gate]

    async def test_a_native_cancellation_leaves_no_cycle_behind(self) -> None:
        async with started() as worker:
            gc.disable()
            try:
                gate = Gate()
                task = asyncio.create_task(worker.run(lambda engine: break_(gate(engine))))
                await gate.reached()
                task.cancel()
                await settle()
                gate.open()
                watched: weakref.ref[BaseException] | None = None
                try:
                    await task
                except asyncio.CancelledError as held:
                    if isinstance(held.__cause__, Broken):
                        watched = weakref.ref(held.__cause__)
                assert watched is not None
                del task
                await worker.run(nothing)
                assert watched() is None
            finally:
                gc.enable()

    async def test_a_natively_cancelled_close_still_closes(self) -> None:
        gate, closings = Gate(), Closings()
        worker = await Worker.start(list[Any], closings, name=NAME)
        call = asyncio.create_task(worker.run(gate))
        await gate.reached()
        task = asyncio.create_task(worker.close())
        for _ in range(3):
            await settle()
            task.cancel()
        await settle()
        assert not task.done()
        gate.open()
        with fail_after(DEADLINE_S), pytest.raises(asyncio.CancelledError):
            await task
        await call
        assert [engine for engine, _ in closings] == [[gate]]
        assert not engine_threads()

    @pytest.mark.parametrize("steps", range(6))
    async def test_a_natively_cancelled_start_leaves_no_engine_and_no_thread(self, steps: int) -> None:
        made: list[Engine] = []
        closings = Closings()

        def make() -> Engine:
            made.append([])
            return made[-1]

        task = asyncio.create_task(Worker.start(make, closings, name=NAME))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with fail_after(DEADLINE_S):
            (worker,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(worker, Worker):  # it was ready before
                await worker.close()
        assert len(made) == len(closings)
        assert not engine_threads()

    async def test_a_native_cancellation_while_the_engine_is_made_closes_it(self) -> None:
        gate, closings = Gate(), Closings()

        def make() -> Engine:
            engine: Engine = []
            gate(engine)
            return engine

        task = asyncio.create_task(Worker.start(make, closings, name=NAME))
        await gate.reached()
        task.cancel()
        await settle()
        assert not task.done()
        gate.open()
        with fail_after(DEADLINE_S), pytest.raises(asyncio.CancelledError):
            await task
        assert [engine for engine, _ in closings] == [[gate]]
        assert not engine_threads()


class TestTrioWorker(WorkerConformance):
    """On trio there are only scopes, and Ctrl-C."""

    @pytest.fixture(params=LOOPS[-1:])
    def loop(self, request: pytest.FixtureRequest) -> Loop:
        loop: Loop = request.param
        return loop

    @pytest.fixture
    def anyio_backend(self, loop: Loop) -> Loop:
        return loop

    def close_loop_under(self, gate: Gate, close: Callable[[Engine], object], loop: Loop) -> Worker[Engine]:
        workers: list[Worker[Engine]] = []

        def crash(_: object) -> trio.lowlevel.Abort:
            message = "an abort function must not raise"
            raise RuntimeError(message)

        async def begin() -> None:
            abandoned.append(trio.lowlevel.current_root_task())
            workers.append(await Worker.start(list[Any], close, name=NAME))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(workers[0].run, gate)
                await wait_all_tasks_blocked()
                gate.wait_reached()
                nursery.cancel_scope.cancel()
                await trio.lowlevel.wait_task_rescheduled(crash)

        with pytest.raises(trio.TrioInternalError):  # the only way out of a trio run that waits
            anyio.run(begin, backend=loop[0], backend_options=loop[1])
        return workers[0]

    async def test_the_loop_decides_which_worker_it_is(self) -> None:
        async with started() as worker:
            assert isinstance(worker, TrioWorker)

    def test_ctrl_c_comes_after_the_function_has_ended(self) -> None:
        ended: list[Engine] = []

        def interrupt(engine: Engine) -> None:
            signal.raise_signal(signal.SIGINT)
            engine.append("ended")

        async def main() -> None:
            async with started(ended.append) as worker:
                await worker.run(interrupt)
                await checkpoint()

        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
        assert ended == [["ended"]]

    def test_ctrl_c_while_a_call_is_queued_does_not_break_the_loop(self) -> None:
        ended: list[Engine] = []

        class Interrupting:
            def __init__(self, calls: SimpleQueue[Any]) -> None:
                self._calls = calls

            def put(self, item: object) -> None:
                self._calls.put(item)
                signal.raise_signal(signal.SIGINT)

        async def main() -> None:
            async with started(ended.append) as worker:
                assert isinstance(worker, TrioWorker)
                await worker.run(append, 1)
                calls = worker._calls
                worker._calls = cast("SimpleQueue[Any]", Interrupting(calls))
                try:
                    await worker.run(append, 2)
                finally:
                    worker._calls = calls

        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
        assert ended == [[1, 2]]


async def settle() -> None:
    """Let a cancellation do what it may before it has to wait."""
    for _ in range(5):
        await asyncio.sleep(0)
