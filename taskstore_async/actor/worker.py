"""The port between the async shell and a synchronous engine: one thread at a time may use it.

``Worker.start`` is the only place in the package that asks which event loop is running.
"""

from __future__ import annotations

import logging
import os
import threading
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar, TypeVarTuple, cast

from anyio import Event

from taskstore_async.errors import StoreClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Call", "Seat", "ThreadWorker", "Worker"]

_logger = logging.getLogger(__name__)

E = TypeVar("E")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Worker(ABC, Generic[E]):
    """Runs functions on the one thread at a time that may use an engine.

    Any number may live side by side, each with its own engine and thread. A worker belongs to the event loop it was
    started on. Its thread is a daemon: a worker that is never closed does not hold the interpreter.
    """

    @staticmethod
    async def start(
        make: Callable[[], E], close: Callable[[E], object], *, name: str = "taskstore engine"
    ) -> Worker[E]:
        """Start a thread and make the engine on it.

        Args:
            make: Makes the engine; any object.
            close: Closes it. Called once, on the same thread: by :meth:`close`; when the start is cancelled; or, of a
                worker that was never closed, when it is dropped or its loop turns out to be closed.
            name: What debuggers call the thread.

        Raises:
            Exception: What *make* raised; then no thread is left.
        """
        seat = Seat(make, close)
        worker: ThreadWorker[E]
        if _loop_library() == "trio":
            from taskstore_async.actor.worker_trio import TrioWorker  # noqa: PLC0415 - only where trio runs

            worker = TrioWorker(seat, name=name)
        else:
            from taskstore_async.actor.worker_asyncio import AsyncioWorker  # noqa: PLC0415 - only where asyncio runs

            worker = AsyncioWorker(seat, name=name)
        await worker.begin()
        return worker

    @abstractmethod
    async def run(self, function: Callable[[E, *Ts], T], *args: *Ts) -> T:
        """Call *function* with the engine and *args* on the thread, and return what it returns.

        One call is one hop. Calls run in the order they were made. The function always runs to its end, and ``run``
        returns only then, under a shield: a native cancellation meanwhile (``asyncio.Task.cancel``) is raised after,
        with the function's error, if any, as its cause; a cancel scope's at the caller's next checkpoint.

        Raises:
            StoreClosedError: The worker is closing or closed, or this is another process (a fork) or another event
                loop than it was started in. The function was not and will not be called.
            BaseException: What the function raised, itself, ``SystemExit`` and ``KeyboardInterrupt`` too. Only
                ``StopIteration`` arrives as the cause of a ``RuntimeError``: no coroutine can raise it.
        """

    @abstractmethod
    async def close(self) -> None:
        """Wait for the calls made before, close the engine, and end the thread. Later calls are refused.

        Cancelled like :meth:`run`. Closing again waits for the first to end; in a forked child, which has nothing to
        close, it does nothing.

        Raises:
            StoreClosedError: This is another event loop than the worker was started in.
            BaseException: What closing the engine raised; the thread has ended.
        """


class Call(Generic[T]):
    """One function on its way to the thread, and its answer on the way back."""

    __slots__ = ("_ended", "_error", "_function", "_listener", "_lock", "_value")

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._value: T | None = None
        self._listener: Callable[[], object] | None = None
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._ended = False

    def __call__(self) -> None:
        """Call the function, on this thread, and keep what it returns or raises."""
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 - it is the caller's, and must not end the thread
            self._error = error
        del self._function
        with self._lock:
            self._ended = True
            listener = self._listener
        if listener is not None:
            listener()

    def tell(self, listener: Callable[[], object]) -> None:
        """Call *listener* when the function has ended: on its thread then, or here if it has already."""
        with self._lock:
            self._listener = listener
            ended = self._ended
        if ended:
            listener()

    def answer(self) -> T:
        """Hand over what the function returned, or raise what it raised. Only once: nothing here keeps it alive."""
        error = self.failure()
        if error is None:
            value, self._value = self._value, None
            return cast("T", value)
        try:
            raise error
        finally:
            del error  # else its traceback holds this frame, and this frame it

    def failure(self) -> BaseException | None:
        """Hand over what the function raised. Only once, too: its traceback leads back here."""
        error, self._error = self._error, None
        return error


class Seat(Generic[E]):
    """The engine's place on the thread. It is made, used and closed there."""

    __slots__ = ("_close", "_make", "engine")

    engine: E  #: from :meth:`open` to :meth:`vacate`

    def __init__(self, make: Callable[[], E], close: Callable[[E], object]) -> None:
        self._make = make
        self._close = close

    def open(self) -> None:
        """Make the engine."""
        make = self._make
        del self._make  # or what it holds would live as long as the worker
        self.engine = make()

    def vacate(self) -> None:
        """Close the engine, unless there is none (any more)."""
        if hasattr(self, "engine"):
            engine = self.engine
            del self.engine
            self._close(engine)

    def close(self) -> None:
        """Vacate with nobody left to raise to."""
        try:
            self.vacate()
        except Exception:
            _logger.exception("closing the engine of a worker that nobody closed failed")


class ThreadWorker(Worker[E]):
    """What the adapters share: who may call, and the order of beginning and end.

    Args:
        seat: The engine's place.
    """

    def __init__(self, seat: Seat[E]) -> None:
        self._seat = seat
        self._pid = os.getpid()
        self._ended: Event | None = None  #: there from the beginning of the end, set when the thread is gone

    async def begin(self) -> None:
        """Start the thread and make the engine; see :meth:`Worker.start`."""
        await self._start_thread()
        try:
            await self._hop(Call(self._seat.open))
        except BaseException:
            await self.close()
            raise

    async def run(self, function: Callable[[E, *Ts], T], *args: *Ts) -> T:
        """Call *function* on the thread; see :meth:`Worker.run`."""
        if self._pid != os.getpid():
            raise StoreClosedError("it belongs to the process that this one was forked from")
        if self._ended is not None:
            raise StoreClosedError
        self._require_loop()
        return await self._hop(Call(partial(function, self._seat.engine, *args)))

    async def close(self) -> None:
        """End the thread; see :meth:`Worker.close`."""
        if self._pid != os.getpid():
            return
        if self._ended is not None:
            await self._ended.wait()
            return
        self._require_loop()
        self._ended = Event()
        try:
            await self._hop(Call(self._seat.vacate))
        finally:
            self._end_thread()
            self._ended.set()

    def _require_loop(self) -> None:
        if not self._on_own_loop():
            raise StoreClosedError("it belongs to another event loop")

    @abstractmethod
    def _on_own_loop(self) -> bool:
        """Whether the running event loop is the one that the thread answers to."""

    @abstractmethod
    async def _start_thread(self) -> None:
        """Start the thread; when that is cancelled, leave none."""

    @abstractmethod
    async def _hop(self, call: Call[T]) -> T:
        """Queue *call* for the thread before anything is awaited, and return its answer when it has ended."""

    @abstractmethod
    def _end_thread(self) -> None:
        """End the idle thread, and return when it is gone. Without an await: nothing may come between."""


def _loop_library() -> str:
    try:
        from sniffio import current_async_library  # noqa: PLC0415 - comes with trio
    except ImportError:
        return "asyncio"
    return current_async_library()
