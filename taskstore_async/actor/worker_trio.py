"""The worker on trio: a daemon thread of our own that wakes the loop when a call has ended."""

from __future__ import annotations

import warnings
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import trio

from taskstore_async.actor.worker import Call, Seat, ThreadWorker

if TYPE_CHECKING:
    from trio.lowlevel import RaiseCancelT, Task, TrioToken

__all__ = ["TrioWorker"]

E = TypeVar("E")
T = TypeVar("T")

_Queue: TypeAlias = "SimpleQueue[tuple[Call[Any], Task] | None]"  # None ends the thread


class TrioWorker(ThreadWorker[E]):
    """A worker on trio."""

    def __init__(self, seat: Seat[E], *, name: str) -> None:
        super().__init__(seat)
        self._token = trio.lowlevel.current_trio_token()
        self._calls: _Queue = SimpleQueue()
        # The thread does not know the worker, so that a worker nobody closed can be dropped.
        self._thread = Thread(target=_serve, args=(self._calls, self._token, seat), name=name, daemon=True)

    async def _start_thread(self) -> None:
        self._thread.start()

    def __del__(self) -> None:
        """End the thread of a worker that nobody closed."""
        if self._ended is None:
            warnings.warn(f"{self!r} was dropped without being closed", ResourceWarning, source=self, stacklevel=1)
            self._calls.put(None)

    def _on_own_loop(self) -> bool:
        try:
            return trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:  # no trio at all
            return False

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C between the two lines would leave the thread's wake-up behind
    async def _hop(self, call: Call[T]) -> T:
        self._calls.put((call, trio.lowlevel.current_task()))
        await trio.lowlevel.wait_task_rescheduled(_stay)
        return call.answer()

    def _end_thread(self) -> None:
        self._calls.put(None)
        self._thread.join()


def _stay(_: RaiseCancelT) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _serve(calls: _Queue, token: TrioToken, seat: Seat[Any]) -> None:
    """Be the thread, until it is told to end or an answer finds its loop gone."""
    try:
        while (item := calls.get()) is not None:
            call, task = item
            call()
            try:
                token.run_sync_soon(trio.lowlevel.reschedule, task)
            except (trio.RunFinishedError, OSError):  # the latter: the run crashed, and its wake-up socket is closed
                return
            del item, call, task  # nothing of the last call lives on while the thread is idle
    finally:
        seat.close()
