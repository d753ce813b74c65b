"""Readers: connections that cannot write, each on a thread of its own. No read passes the writer."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from anyio import Event, Semaphore

from taskstore_async.actor.call import twin
from taskstore_async.actor.worker import Worker
from taskstore_async.errors import TaskStoreError
from taskstore_async.storage.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from taskstore_async.actor.measures import Measures
    from taskstore_async.storage.rows import Found

__all__ = ["Readers"]

_logger = logging.getLogger(__name__)

T = TypeVar("T")
_PATIENCE_S: Final = 1.0  #: for a question that is being answered, before its connection is closed


class Fallback(Protocol):
    """Puts a question to the engine."""

    async def __call__(self, question: Callable[[Reader], T], /) -> T:
        """Return its answer."""
        ...


class _Seat:
    """A reader's place on its thread: opened when it is first asked, and again when the index was replaced."""

    def __init__(self, path: Path, guard: Callable[[], AbstractContextManager[object]]) -> None:
        self._path = path
        self._guard = guard
        self._reader: Reader | None = None
        self._using = threading.Lock()

    def ask(self, question: Callable[[Reader], T]) -> T:
        """Put *question* to a reader of the index that is there now."""
        with self._using:
            if self._reader is not None and not self._reader.is_current:
                self._close()
            if self._reader is None:
                self._reader = Reader.open(self._path, guard=self._guard, holder=self)
            return question(self._reader)

    def let_go(self) -> None:
        """Close the connection, unless a question takes long; on any thread."""
        if self._using.acquire(timeout=_PATIENCE_S):
            try:
                self._close()
            finally:
                self._using.release()

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class _Gets:
    """Gets that are answered by one hop: all that come before its query is sent.

    Attributes:
        done: Set when they are answered.
    """

    def __init__(self) -> None:
        self.done = Event()
        self._keys: list[tuple[str, str]] = []
        self._answers: list[Found | None] = []
        self._error: Exception | None = None
        self._lock = threading.Lock()  # over the keys, until it is sent
        self._sent = False

    def join(self, key: tuple[str, str]) -> int | None:
        """A place in the query; None when it has been sent: it might not see what was acknowledged since."""
        with self._lock:
            if self._sent:
                return None
            self._keys.append(key)
            return len(self._keys) - 1

    def send(self, reader: Reader) -> None:
        """Let nobody join any more, and look; on a reader's thread. A second try may come after one that failed."""
        with self._lock:
            self._sent = True
        self._answers = reader.get_many(self._keys)

    def fail(self, error: Exception) -> None:
        """Answer everybody that it could not be looked, and let nobody join any more."""
        with self._lock:
            self._sent = True
        self._error = error

    def answer(self, place: int) -> Found | None:
        """What was found for the key at *place*; raises what kept it from being found."""
        if self._error is not None:
            raise twin(self._error)
        return self._answers[place]


class Readers:
    """A small pool of connections that cannot write. Until it has any, the engine answers.

    Args:
        measures: Where it counts.
        fallback: Puts a question to the engine itself, which mends an index that cannot be read.
    """

    def __init__(self, measures: Measures, *, fallback: Fallback) -> None:
        self._workers: list[Worker[_Seat]] = []  # the first answers the gets, and questions when no other is free
        self._free: list[Worker[_Seat]] = []
        self._places = Semaphore(1)
        self._measures = measures
        self._fallback = fallback
        self._joining: _Gets | None = None

    async def start(self, path: Path, guard: Callable[[], AbstractContextManager[object]], *, count: int) -> None:
        """Start *count* threads. Whether it ends well or not, :meth:`close` ends them.

        Args:
            path: The index.
            guard: Held around every question.
            count: How many. > 0.
        """
        for number in range(count):
            make = partial(_Seat, path, guard)
            worker = await Worker[_Seat].start(make, _Seat.let_go, name=f"taskstore reader {number}")
            self._workers.append(worker)
        self._free = list(self._workers)
        self._places = Semaphore(count)

    async def get(self, name: str, record_id: str) -> Found | None:
        """The live record, or None. It sees every change that was acknowledged before."""
        self._measures.gets += 1
        key = (name, record_id)
        gets = self._joining
        place = None if gets is None else gets.join(key)
        if gets is not None and place is not None:
            await gets.done.wait()
            return gets.answer(place)
        gets = self._joining = _Gets()
        gets.join(key)
        await self._lead(gets)
        return gets.answer(0)

    async def _lead(self, gets: _Gets) -> None:
        """Send the query for everybody who has joined by then; a leader that is cancelled waits for it all the same."""
        self._measures.get_hops += 1
        try:
            await self._on(self._workers[0] if self._workers else None, gets.send)
        except Exception as error:  # noqa: BLE001 - reason: it is everybody's answer
            gets.fail(error)
        except BaseException as cancelled:
            # Held until the query had ended, with its failure as the cause.
            if isinstance(cancelled.__cause__, Exception):
                gets.fail(cancelled.__cause__)
            raise
        finally:
            gets.done.set()

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Put *question* to a reader that is free."""
        async with self._places:
            worker = self._free.pop() if self._free else None
            try:
                return await self._on(worker, question)
            finally:
                if worker is not None:
                    self._free.append(worker)

    async def _on(self, worker: Worker[_Seat] | None, question: Callable[[Reader], T]) -> T:
        if worker is not None:
            try:
                return await worker.run(_ask, question)
            except TaskStoreError:
                raise
            except Exception:
                _logger.info("a reader could not answer; the engine is asked, and mends what it can", exc_info=True)
        return await self._fallback(question)

    async def close(self) -> None:
        """Close every connection and end every thread.

        Raises:
            BaseException: What the first that failed raised; a native cancellation, too, is held until all have ended.
        """
        failed: BaseException | None = None
        for worker in self._workers:
            try:
                await worker.close()
            except BaseException as error:  # noqa: BLE001 - reason: raised below
                failed = failed or error
        if failed is not None:
            try:
                raise failed
            finally:
                del failed


def _ask(seat: _Seat, question: Callable[[Reader], T]) -> T:
    return seat.ask(question)
