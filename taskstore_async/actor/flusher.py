"""The flusher: exports what waits when it is due, and notices files that moved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

from anyio import Event, current_time, move_on_after, sleep

from taskstore_async.core.schedule import FlushSchedule
from taskstore_async.errors import StoreClosedError, TaskStoreError
from taskstore_async.storage.polling import SECOND_LOOK_S, Poller

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskstore_async.actor.measures import Measures
    from taskstore_async.actor.trouble import Trouble
    from taskstore_async.actor.worker import Worker
    from taskstore_async.core.schedule import SyncConfig
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.reports import FlushReport

__all__ = ["Flusher", "Sentry"]

T = TypeVar("T")
_FLUSHING: Final = "a background flush"
_LOOKING: Final = "looking at the files"
_RETRY_MS: Final = (100.0, 500.0, 2_000.0, 10_000.0)
_GIT_RETRY_MS: Final = 100.0
_SOON_MS: Final = 1.0  #: a timer may go off a little early
POLL_S: Final = 0.5


class Flusher:
    """Flushes after a quiet spell, and never later than the hard limit.

    Args:
        worker: The thread of the engine.
        config: What quiet and late mean.
        measures: Where it counts.
        trouble: Told of a flush that failed and has no caller.
    """

    def __init__(self, worker: Worker[Engine], config: SyncConfig, measures: Measures, trouble: Trouble) -> None:
        self.schedule = FlushSchedule(config)
        self._worker = worker
        self._measures = measures
        self._trouble = trouble
        self._woken = Event()
        self._failures = 0
        self._late_ms = math.inf  # the oldest of what failed flushes have left

    @property
    def lag_ms(self) -> float:
        """How long the oldest of what waits has been waiting; 0 when nothing does."""
        return max(0.0, _now_ms() - self._oldest_ms) if self.schedule.waiting else 0.0

    @property
    def _oldest_ms(self) -> float:
        return min(self._late_ms, self.schedule.oldest_ms)

    def wrote(self, count: int) -> None:
        """Note that *count* more changes wait from now on."""
        was_due_ms = self.schedule.due_ms
        self.schedule.wrote(count, now_ms=_now_ms())
        if self.schedule.due_ms < was_due_ms:  # later is left to the one who wakes up too early
            self._woken.set()

    async def flush(self) -> FlushReport:
        """Flush now.

        Raises:
            TaskStoreError: It could not be done; what waits is kept and tried again.
        """
        return await self.flushing(_flush)

    async def flushing(self, function: Callable[[Engine], T]) -> T:
        """Call *function*, which flushes among other things, on the engine's thread, and return what it returns."""
        waiting, oldest_ms = self.schedule.waiting, self._oldest_ms
        self.schedule.flushed()  # before the flush: writes during it count as new
        begun_ms = _now_ms()
        try:
            done = await self._worker.run(function)
        except StoreClosedError:
            raise
        except BaseException as error:
            # A cancellation is held until the flush has ended, and has its failure as the cause.
            failure = error if isinstance(error, Exception) else error.__cause__
            if isinstance(failure, Exception):
                self._failed(failure, waiting, oldest_ms)
            raise
        self._failures = 0
        self._late_ms = math.inf
        self._trouble.over(_FLUSHING)
        self._measures.flushes.append(_now_ms() - begun_ms)
        return done

    async def run(self) -> None:
        """Flush whenever it is due, until cancelled."""
        while True:
            self._woken = Event()
            wait_ms = self.schedule.due_ms - _now_ms()
            if wait_ms > _SOON_MS:
                with move_on_after(None if math.isinf(wait_ms) else wait_ms / 1_000):
                    await self._woken.wait()
                continue  # and ask again: it may be due later than it was
            if _now_ms() < self.schedule.limit_ms and await self._worker.run(_git_is_busy):
                self.schedule.failed(0, now_ms=_now_ms(), retry_ms=_GIT_RETRY_MS)
                continue
            try:
                await self.flush()
            except TaskStoreError as error:
                self._trouble.met(_FLUSHING, error)

    def _failed(self, error: Exception, waiting: int, oldest_ms: float) -> None:
        retry_ms = _RETRY_MS[min(self._failures, len(_RETRY_MS) - 1)]
        self._failures += 1
        self._late_ms = min(oldest_ms, _now_ms())
        self._measures.failed(error)
        self.schedule.failed(max(1, waiting), now_ms=_now_ms(), retry_ms=retry_ms)


class Sentry:
    """Looks at the files twice a second.

    Args:
        worker: The thread of the engine.
        measures: Where it counts.
        trouble: Told of a look that failed.
        moved: Called after a look; something may have changed.
    """

    def __init__(
        self, worker: Worker[Engine], measures: Measures, trouble: Trouble, *, moved: Callable[[], None]
    ) -> None:
        self._worker = worker
        self._measures = measures
        self._trouble = trouble
        self._moved = moved

    async def run(self) -> None:
        """Look, until cancelled."""
        poller = Poller()
        pause_s = POLL_S
        while True:
            await sleep(pause_s)
            pause_s = POLL_S
            try:
                if await self._worker.run(poller):
                    pause_s = SECOND_LOOK_S
            except TaskStoreError as error:
                self._measures.failed(error)
                self._trouble.met(_LOOKING, error)
            else:
                self._trouble.over(_LOOKING)
            self._moved()


def _now_ms() -> float:
    return current_time() * 1_000


def _flush(engine: Engine) -> FlushReport:
    return engine.flush()


def _git_is_busy(engine: Engine) -> bool:
    return bool(engine.directory.git.busy)
