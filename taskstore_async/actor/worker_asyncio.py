"""The worker on asyncio: aiosqlite's connection thread as an executor. No SQL passes through aiosqlite.

Two of aiosqlite's names used here are private, ``Connection._execute`` and ``Connection._thread``: the supported range
is pinned, and a test holds them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aiosqlite import Connection
from anyio import CancelScope

from taskstore_async.actor.worker import Call, Seat, ThreadWorker

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

__all__ = ["AsyncioWorker"]

E = TypeVar("E")
T = TypeVar("T")


class AsyncioWorker(ThreadWorker[E]):
    """A worker on asyncio, with any of its loops."""

    def __init__(self, seat: Seat[E], *, name: str) -> None:
        super().__init__(seat)
        self._loop = asyncio.get_running_loop()
        # The seat passes for the connection: aiosqlite only asks that it be true and can be closed. Making
        # the engine comes after, as a hop like any other, so that a cancellation cannot lose it.
        self._connection = Connection(lambda: cast("sqlite3.Connection", seat), iter_chunk_size=0)
        self._execute: Callable[[Callable[[], None]], Awaitable[None]] = self._connection._execute  # noqa: SLF001
        self._thread = thread = self._connection._thread  # noqa: SLF001
        thread.daemon = True  # else an unclosed worker holds the interpreter at exit
        thread.name = name
        thread.run = partial(_serve, thread.run, self._loop, seat)  # type: ignore[method-assign]

    async def _start_thread(self) -> None:
        with CancelScope(shield=True):
            try:
                await self._connection
            except BaseException:
                self._thread.join()  # aiosqlite has told it to end, and it has nothing else to do
                raise

    def _on_own_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:  # no asyncio at all
            return False

    async def _hop(self, call: Call[T]) -> T:
        held: asyncio.CancelledError | None = None
        with CancelScope(shield=True):
            try:
                await self._execute(call)
            except asyncio.CancelledError as cancelled:  # Task.cancel() knows no shield
                held = cancelled
                await self._outlast(call)
        if held is None:
            return call.answer()
        try:
            raise held from call.failure()
        finally:
            del held  # else its traceback holds this frame, and this frame it

    async def _outlast(self, call: Call[Any]) -> None:
        ended = asyncio.Event()
        call.tell(partial(self._loop.call_soon_threadsafe, ended.set))
        while not ended.is_set():
            with suppress(asyncio.CancelledError):  # the first is held; asyncio counts the others
                await ended.wait()

    def _end_thread(self) -> None:
        self._connection.stop()
        self._thread.join()


def _serve(serve: Callable[[], None], loop: asyncio.AbstractEventLoop, seat: Seat[Any]) -> None:
    """Be aiosqlite's thread. When an answer finds its loop closed, end it without a traceback."""
    try:
        serve()
    except RuntimeError:
        if not loop.is_closed():
            raise
    finally:
        seat.close()
