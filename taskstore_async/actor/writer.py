"""The writer: the one task that changes the store.

Whatever is queued when it comes round shares a transaction; callers wait while the queue is full.
"""

from __future__ import annotations

import logging
import math
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    Event,
    WouldBlock,
    create_memory_object_stream,
)

from taskstore_async.actor.call import Call, twin
from taskstore_async.errors import StoreClosedError, TaskStoreError, WriteUncertainError
from taskstore_async.storage.ops import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from taskstore_async.actor.measures import Measures
    from taskstore_async.actor.worker import Worker
    from taskstore_async.core.schedule import Durability
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.ops import Answer, Op

__all__ = ["Writer"]

_logger = logging.getLogger(__name__)
_BATCH_MAX: Final = 512


class Writer:
    """Queues changes and makes them, many in one transaction.

    Args:
        worker: The thread of the engine.
        measures: Where it counts.
        wrote: Called after each transaction, with how many changes more than before wait for a flush.
        queue_max: So many changes wait; further callers wait for a place. > 0.
    """

    def __init__(
        self, worker: Worker[Engine], measures: Measures, *, wrote: Callable[[int], None], queue_max: int
    ) -> None:
        self._worker = worker
        self._measures = measures
        self._wrote = wrote
        self._sender, self._inbox = create_memory_object_stream[Call](queue_max)
        self._in_flight: list[Call] = []
        self._event: Callable[[], Event] = type(Event())  # asking anew for the loop's events costs twice as much
        self._answered = self._event()  # of the calls that came since the last transaction began
        self._pid = os.getpid()

    @property
    def depth(self) -> int:
        """How many changes wait for a transaction; those that wait for a place too."""
        waiting = self._inbox.statistics()
        return waiting.current_buffer_used + waiting.tasks_waiting_send

    async def ask(self, op: Op, durability: Durability) -> object:
        """Have *op* made, and return its answer.

        A caller cancelled while it waits withdraws an op that is still queued; an op already in a transaction is
        applied regardless.

        Raises:
            StoreClosedError: The manager is closing or closed.
            TaskStoreError: The op was refused, or its outcome is not known.
        """
        if self._pid != os.getpid():
            raise StoreClosedError("it belongs to the process that this one was forked from")
        call = Call(op, durability, self._answered)
        try:
            try:
                self._sender.send_nowait(call)
            except WouldBlock:
                await self._sender.send(call)
            return await call.answer()
        except (ClosedResourceError, BrokenResourceError):
            raise StoreClosedError from None
        except BaseException:
            call.withdrawn = True  # it may have got its place just before the cancellation came
            raise

    def close(self) -> None:
        """Take no more; what is queued is still made, and who waits for a place may be refused."""
        self._sender.close()

    def abandon(self) -> None:
        """Take no more, and make nothing more: it has ended, or never ran."""
        self._sender.close()
        self._inbox.close()

    async def run(self) -> None:
        """Make what is queued, until the queue is closed and empty.

        Raises:
            BaseException: What ended it early. Every call has an answer by then.
        """
        failure: BaseException | None = None
        try:
            while True:
                try:
                    first = await self._inbox.receive()
                except EndOfStream:
                    return
                calls = self._in_flight = [
                    call for call in (first, *self._queued(_BATCH_MAX - 1)) if not call.withdrawn
                ]
                self._answered = self._event()
                if calls:
                    await self._commit(calls)
        except BaseException as error:
            failure = error
            raise
        finally:
            # No await here: no call can slip in and stay unanswered.
            self._sender.close()
            for call in self._in_flight:  # their transaction may have been committed
                uncertain = WriteUncertainError("the writer ended in the middle of it")
                uncertain.__cause__ = failure
                call.refuse(uncertain)
                call.answered.set()
            for call in self._queued(math.inf):
                call.refuse(StoreClosedError())
                call.answered.set()
            self._inbox.close()
            del failure  # else its traceback holds this frame, and this frame it

    def _queued(self, most: float) -> Iterator[Call]:
        while most > 0:
            try:
                yield self._inbox.receive_nowait()
            except (WouldBlock, EndOfStream):
                return
            most -= 1

    async def _commit(self, calls: list[Call]) -> None:
        """Make one transaction, and answer its callers."""
        durability = max({call.durability for call in calls}, key=lambda level: level.strength)
        begun_s = time.perf_counter()
        answers, waiting = await self._worker.run(partial(_commit, [call.op for call in calls], durability))
        self._measures.batch(len(calls), (time.perf_counter() - begun_s) * 1_000)
        self._wrote(waiting)
        self._in_flight = []  # and no await from here on: each of them is answered
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, Refused):
                call.refuse(answer.error)
            else:
                call.apply(answer.value)
        for answered in {call.answered for call in calls}:
            answered.set()


def _commit(ops: Sequence[Op], durability: Durability, engine: Engine) -> tuple[Sequence[Answer], int]:
    """Commit on the engine's thread; what keeps all of it from happening is everybody's answer.

    Returns:
        The answers, and how many changes more than before wait for a flush.
    """
    before = engine.schedule.waiting
    answers: Sequence[Answer]
    try:
        answers = engine.commit(ops, durability=durability)
    except TaskStoreError as error:
        answers = [Refused(twin(error)) for _ in ops]
    except Exception as error:
        _logger.exception("a transaction of %d change(s) failed", len(ops))
        answers = [Refused(WriteUncertainError(f"{type(error).__name__}: {error}")) for _ in ops]
    return answers, max(0, engine.schedule.waiting - before)
