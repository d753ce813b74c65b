"""What every worker promises, whichever loop and thread it stands on."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
import warnings
import weakref
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync

from taskstore_async.actor.worker import Worker
from taskstore_async.errors import StoreClosedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

NAME = "engine under test"
DEADLINE_S = 20
Engine: TypeAlias = "list[Any]"  # empty, so false: no adapter may ask whether there is an engine by its truth
Loop: TypeAlias = "tuple[str, dict[str, Any]]"


class Gate:
    """A function for the worker that ends when the test opens the gate, with *outcome*."""

    def __init__(self, outcome: object = None) -> None:
        self.outcome = outcome
        self._reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, engine: Engine) -> object:
        self._reached.set()
        assert self._opened.wait(DEADLINE_S)
        engine.append(self)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def open(self, _: object = None) -> None:
        self._opened.set()

    async def reached(self) -> None:
        """Wait until the function has begun."""
        await run_sync(self.wait_reached)

    def wait_reached(self) -> None:
        """Do the same without a loop."""
        assert self._reached.wait(DEADLINE_S)


def append(engine: Engine, value: object) -> None:
    engine.append(value)


def snapshot(engine: Engine) -> Engine:
    return list(engine)


def raise_(_: object, error: BaseException) -> None:
    raise error


def break_(_: object) -> None:
    raise Broken


def nothing(_: object) -> None: ...


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def wait_for_no_thread() -> None:
    for thread in engine_threads():
        thread.join(DEADLINE_S)
    assert not engine_threads()


def drop(workers: list[Worker[Engine]]) -> None:
    workers.clear()
    gc.collect()


@asynccontextmanager
async def started(close: Callable[[Engine], object] = nothing) -> AsyncGenerator[Worker[Engine]]:
    worker = await Worker.start(list[Any], close, name=NAME)
    try:
        yield worker
    finally:
        await worker.close()


class Value:
    """Something that can be watched by a weak reference."""


class Broken(Exception):  # noqa: N818 - the same, to be raised
    """What a function raises."""


class Closings(list[tuple[Engine, threading.Thread]]):
    """Closes engines, and remembers which and where."""

    def __call__(self, engine: Engine) -> None:
        self.append((list(engine), threading.current_thread()))


class WorkerConformance:
    """A worker calls functions on the one thread at a time that may use an engine.

    A subclass brings two fixtures, ``loop`` (what ``anyio.run`` takes) and ``anyio_backend`` (the same).
    """

    def close_loop_under(self, gate: Gate, close: Callable[[Engine], object], loop: Loop) -> Worker[Engine]:
        """Run a loop, start a worker on it, and let the loop be gone while a call stands at *gate*."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _no_thread_is_left(self) -> Iterator[None]:
        yield
        assert not engine_threads()

    # -- calling --------------------------------------------------------------------------------------------

    async def test_a_function_gets_the_engine_and_its_arguments_and_its_result_comes_back(self) -> None:
        async with started() as worker:
            assert await worker.run(snapshot) == []
            await worker.run(append, 1)
            assert await worker.run(lambda engine, *rest: (engine, rest), "a", None) == ([1], ("a", None))

    async def test_the_engine_is_made_used_and_closed_on_one_daemon_thread(self) -> None:
        threads: list[threading.Thread] = []

        def make() -> Engine:
            note([])
            return []

        def note(_: Engine) -> None:
            threads.append(threading.current_thread())

        worker = await Worker.start(make, note, name=NAME)
        await worker.run(note)
        await worker.run(note)
        await worker.close()
        assert len(threads) == 4
        assert set(threads) == {threads[0]} != {threading.current_thread()}
        assert threads[0].daemon
        assert threads[0].name == NAME

    async def test_a_connection_that_insists_on_its_thread_is_content(self) -> None:
        worker = await Worker.start(lambda: sqlite3.connect(":memory:"), sqlite3.Connection.close, name=NAME)
        assert await worker.run(lambda db: db.execute("SELECT 6 * 7").fetchone()) == (42,)
        await worker.close()

    async def test_calls_run_in_the_order_they_were_made(self) -> None:
        made: list[int] = []

        async def call(worker: Worker[Engine], number: int) -> None:
            made.append(number)
            await worker.run(append, number)

        async with started() as worker:
            with fail_after(DEADLINE_S):
                async with create_task_group() as group:
                    for number in range(200):
                        group.start_soon(call, worker, number)
            assert await worker.run(snapshot) == made

    async def test_workers_live_side_by_side(self) -> None:
        async with started() as one, started() as other, create_task_group() as group:
            gates = Gate(), Gate()
            with fail_after(DEADLINE_S):
                group.start_soon(one.run, gates[0])
                group.start_soon(other.run, gates[1])
                for gate in gates:
                    await gate.reached()  # both run now
                for gate in gates:
                    gate.open()

    # -- answers --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
    async def test_what_a_function_raises_reaches_its_caller_as_itself(self, kind: type[BaseException]) -> None:
        error = kind("broken")
        async with started() as worker:
            caught = None
            try:
                await worker.run(raise_, error)
            except BaseException as raised:  # noqa: BLE001 - whatever it is
                caught = raised
            assert caught is error
            assert await worker.run(snapshot) == []

    @pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
    async def test_the_end_of_an_iterator_does_not_hang_the_call(self, kind: type[Exception]) -> None:
        async with started() as worker:
            with fail_after(DEADLINE_S), pytest.raises((RuntimeError, StopAsyncIteration)) as caught:
                await worker.run(lambda _: raise_(_, kind("over")))
            # No coroutine can raise StopIteration (PEP 479): it is the cause.
            assert isinstance(caught.value.__cause__ or caught.value, kind)
            assert await worker.run(snapshot) == []

    async def test_an_answer_is_not_kept_alive(self) -> None:
        async with started() as worker:
            gc.disable()
            try:
                watched: list[Callable[[], object]] = []
                try:
                    await worker.run(break_)
                except Broken as error:
                    watched.append(weakref.ref(error))
                argument = Value()
                result = await worker.run(lambda _, argument: (argument, Value())[1], argument)
                watched += weakref.ref(argument), weakref.ref(result)
                del argument, result
                assert [ref() for ref in watched] == [None] * 3
            finally:
                gc.enable()

    # -- cancelling -----------------------------------------------------------------------------------------

    async def test_a_cancelled_scope_waits_for_the_end_and_takes_effect_at_the_next_checkpoint(self) -> None:
        gate = Gate("done")
        steps: list[object] = []

        async def call(worker: Worker[Engine], scope: CancelScope) -> None:
            with scope:
                steps.append(await worker.run(gate))
                await checkpoint()
                steps.append("not cancelled")

        async with started() as worker, create_task_group() as group:
            scope = CancelScope()
            with fail_after(DEADLINE_S):
                group.start_soon(call, worker, scope)
                await gate.reached()
                scope.cancel()
                for _ in range(10):
                    await checkpoint()
                assert steps == []
                gate.open()
        assert steps == ["done"]
        assert scope.cancelled_caught

    async def test_a_call_made_or_waiting_in_a_cancelled_scope_runs_too(self) -> None:
        gate = Gate()

        async def call(worker: Worker[Engine], value: str) -> None:
            with CancelScope() as scope:
                scope.cancel()
                await worker.run(append, value)

        async with started() as worker:
            with fail_after(DEADLINE_S):
                async with create_task_group() as group:
                    group.start_soon(worker.run, gate)
                    await gate.reached()
                    group.start_soon(call, worker, "waited")
                    await anyio.wait_all_tasks_blocked()
                    gate.open()
                await call(worker, "made")
            assert await worker.run(snapshot) == [gate, "waited", "made"]

    async def test_a_start_in_a_cancelled_scope_is_whole(self) -> None:
        with CancelScope() as scope:
            scope.cancel()
            worker = await Worker.start(list[Any], nothing, name=NAME)
        assert await worker.run(snapshot) == []
        await worker.close()

    # -- closing --------------------------------------------------------------------------------------------

    async def test_closing_waits_for_every_call_made_before_and_refuses_later_ones(self) -> None:
        gate, closings = Gate(), Closings()
        worker = await Worker.start(list[Any], closings, name=NAME)
        with fail_after(DEADLINE_S):
            async with create_task_group() as group:
                group.start_soon(worker.run, gate)
                await gate.reached()
                group.start_soon(worker.run, append, "queued")
                await anyio.wait_all_tasks_blocked()
                group.start_soon(worker.close)
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(StoreClosedError):
                    await worker.run(append, "late")
                assert not closings
                gate.open()
        assert [engine for engine, _ in closings] == [[gate, "queued"]]
        with pytest.raises(StoreClosedError):
            await worker.run(append, "later")

    async def test_no_thread_is_left_when_close_returns(self) -> None:
        for _ in range(20):
            worker = await Worker.start(list[Any], nothing, name=NAME)
            assert len(engine_threads()) == 1
            await worker.close()
            assert not engine_threads()

    async def test_closing_again_waits_for_the_first_and_closes_once(self) -> None:
        gate, closings = Gate(), Closings()
        worker = await Worker.start(list[Any], closings, name=NAME)

        async def close_and_look() -> None:
            await worker.close()
            assert len(closings) == 1
            assert not engine_threads()

        with fail_after(DEADLINE_S):
            async with create_task_group() as group:
                group.start_soon(worker.run, gate)
                await gate.reached()
                for _ in range(3):
                    group.start_soon(close_and_look)
                await anyio.wait_all_tasks_blocked()
                gate.open()
            await close_and_look()

    async def test_a_cancelled_close_still_closes(self) -> None:
        gate, closings = Gate(), Closings()
        worker = await Worker.start(list[Any], closings, name=NAME)
        with fail_after(DEADLINE_S):
            async with create_task_group() as group:
                group.start_soon(worker.run, gate)
                await gate.reached()
                threading.Timer(0.01, gate.open).start()
                with CancelScope() as scope:
                    scope.cancel()
                    await worker.close()
                    assert len(closings) == 1
        assert not engine_threads()

    async def test_an_engine_that_fails_to_close_says_so_and_the_thread_ends(self) -> None:
        def fail(_: Engine) -> None:
            message = "cannot close"
            raise OSError(message)

        worker = await Worker.start(list[Any], fail, name=NAME)
        with pytest.raises(OSError, match="cannot close"):
            await worker.close()
        assert not engine_threads()
        await worker.close()

    async def test_an_engine_that_cannot_be_made_says_so_and_leaves_nothing(self) -> None:
        closings = Closings()

        def fail() -> Engine:
            message = "cannot open"
            raise OSError(message)

        with fail_after(DEADLINE_S), pytest.raises(OSError, match="cannot open"):
            await Worker.start(fail, closings, name=NAME)
        assert not engine_threads()
        assert not closings

    # -- never closing --------------------------------------------------------------------------------------

    async def test_a_dropped_worker_closes_its_engine_and_ends_its_thread(self) -> None:
        closings = Closings()
        workers = [await Worker.start(list[Any], closings, name=NAME)]
        await workers[0].run(append, 1)
        (thread,) = engine_threads()
        with pytest.warns(ResourceWarning):
            drop(workers)
        await run_sync(wait_for_no_thread)
        assert closings == [([1], thread)]

    async def test_an_engine_that_fails_to_close_when_dropped_is_logged(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noise: list[object] = []
        monkeypatch.setattr(threading, "excepthook", noise.append)
        workers = [await Worker.start(list[Any], break_, name=NAME)]
        with pytest.warns(ResourceWarning):
            drop(workers)
        await run_sync(wait_for_no_thread)
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Broken]
        assert noise == []

    @pytest.mark.parametrize("function", ["len", "lambda _: reached.set() or threading.Event().wait()"])
    def test_the_interpreter_exits_without_a_close(self, loop: Loop, function: str) -> None:
        options = {"backend": loop[0], "backend_options": loop[1]}
        code = f"""
import anyio, threading
from taskstore_async.actor.worker import Worker

reached = threading.Event()

async def main():
    worker = await Worker.start(list, print)
    await worker.run({function})
    reached.set()
    await anyio.sleep_forever()

threading.Thread(target=anyio.run, args=(main,), kwargs={options!r}, daemon=True).start()
assert reached.wait({DEADLINE_S})
"""
        done = run_python(code)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_loop_closed_under_a_call_ends_the_thread_quietly(
        self, loop: Loop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noise: list[object] = []
        monkeypatch.setattr(threading, "excepthook", noise.append)
        gate, closings = Gate(), Closings()
        worker = self.close_loop_under(gate, closings, loop)
        (thread,) = engine_threads()
        gate.open()
        wait_for_no_thread()
        assert noise == []
        assert closings == [([gate], thread)]
        for use in (worker.run(snapshot), worker.close()):
            with pytest.raises(StoreClosedError, match="another event loop"):
                use.send(None)

    def test_another_loop_is_refused(self, loop: Loop) -> None:
        backend, options = loop
        closings = Closings()

        async def start() -> Worker[Engine]:
            return await Worker.start(list[Any], closings, name=NAME)

        async def use(worker: Worker[Engine]) -> None:
            with pytest.raises(StoreClosedError, match="another event loop"):
                await worker.run(append, 1)
            with pytest.raises(StoreClosedError, match="another event loop"):
                await worker.close()

        workers = [anyio.run(start, backend=backend, backend_options=options)]
        for other in ("asyncio", "trio"):
            anyio.run(use, workers[0], backend=other)
        with pytest.warns(ResourceWarning):
            drop(workers)
        wait_for_no_thread()
        assert [engine for engine, _ in closings] == [[]]

    async def test_a_forked_child_is_refused(self) -> None:
        closings = Closings()
        async with started(closings) as worker:
            await worker.run(append, 1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # "multi-threaded": that is the point
                pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    with suppress(StopIteration):
                        worker.close().send(None)  # returns at once: nothing of it is here
                        code = 2
                    try:
                        worker.run(append, 2).send(None)
                        code = 3
                    except StoreClosedError as error:
                        code = 0 if "forked" in str(error) and not closings else 4
                finally:
                    os._exit(code)
            with fail_after(DEADLINE_S, shield=True):
                _, status = await run_sync(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert await worker.run(snapshot) == [1]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
