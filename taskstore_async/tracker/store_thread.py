"""The thread on which the store of a tracker that blocks lives.

The store may hang in a call to the operating system, or wait for a lock of somebody else; whoever records a run does
not wait for that, so the store has a thread of its own. The thread is a daemon: it cannot hold the interpreter.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from taskstore_async.errors import StoreLockedError
from taskstore_async.tracker.plan import Settle, Step, StoreUnavailableError, drive, on_store
from taskstore_async.tracker.settling import is_mistake, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskstore_async.storage.store import Store
    from taskstore_async.tracker.ledger import Ledger
    from taskstore_async.tracker.settling import Health

__all__ = ["Answer", "NotInTimeError", "StoreThread"]


class NotInTimeError(Exception):
    """The answer has not come yet."""


class Answer:
    """What is to become of a step; any number of threads may wait for it."""

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._value: object = None
        self._coming = threading.Lock()  # a future's condition takes twice as long
        self._coming.acquire()

    def give(self, value: object) -> None:
        """The step was done."""
        self._value = value
        self._coming.release()

    def refuse(self, error: Exception) -> None:
        """The step was not done."""
        self._error = error
        self._coming.release()

    def wait(self, seconds: float) -> object:
        """What was given.

        Raises:
            NotInTimeError: Nothing was, in so many seconds.
            Exception: The step was refused.
        """
        if not self._coming.acquire(timeout=seconds):
            raise NotInTimeError
        self._coming.release()  # to the next one who waits
        if self._error is not None:
            raise self._error
        return self._value


_Job = tuple[Step, Answer]


class StoreThread:
    """Does steps on a store, in order, and gives it what waits in the ledger until it has it.

    Args:
        make: Opens the store.
        ledger: What is to be given to it.
        health: Told how it went.
    """

    def __init__(self, make: Callable[[], Store], ledger: Ledger, health: Health) -> None:
        self._make = make
        self._ledger = ledger
        self._health = health
        self._store: Store | None = None
        self._suspect = False  # opened before something went wrong
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._settling: Answer | None = None  # not begun yet, so everybody's who comes until then
        self._thread = threading.Thread(target=self._serve, name="taskstore tracker", daemon=True)
        self._thread.start()

    def ask(self, step: Step) -> Answer:
        """Have *step* done; the answer is its own, or a `StoreUnavailableError`, or the caller's mistake."""
        with self._lock:
            if isinstance(step, Settle) and self._settling is not None:
                return self._settling
            answer = Answer()
            if isinstance(step, Settle):
                self._settling = answer
            self._jobs.put((step, answer))
            return answer

    def close(self, timeout_s: float) -> bool:
        """Give the store what waits, and close it; returns whether that was done in time."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- on the thread --------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._health.pause_s if self._ledger.is_waiting else None)
            except Empty:
                job = (Settle(), Answer())
            if job is None:
                break
            self._do(*job)
        self._do(Settle(), Answer(), closing=True)
        self._let_go()

    def _do(self, step: Step, answer: Answer, *, closing: bool = False) -> None:
        with self._lock:
            if self._settling is answer:
                self._settling = None
        try:
            take = on_store(self._opened(writes=isinstance(step, Settle), closing=closing))
            found = drive(settle(self._ledger), take) if isinstance(step, Settle) else take(step)
        except StoreUnavailableError as error:
            answer.refuse(error)
        except Exception as error:  # noqa: BLE001 - reason: whatever it is, the run goes on
            if is_mistake(error):
                answer.refuse(error)
                return
            self._suspect = not isinstance(error, StoreLockedError)
            self._health.failed(str(error) or type(error).__name__)
            answer.refuse(StoreUnavailableError(str(error)))
        else:
            self._health.recovered()
            answer.give(found)

    def _opened(self, *, writes: bool, closing: bool) -> Store:
        """The store; one that something was wrong with is opened anew, once its pause is over.

        Raises:
            StoreUnavailableError: It is to be left alone for now; but reading from one that is open does no harm.
        """
        pausing = self._health.pause_s > 0
        if self._suspect and not pausing:
            self._let_go()
        if pausing and not closing and (writes or self._store is None):
            raise StoreUnavailableError
        if self._store is None:
            self._store = self._make()
            self._suspect = False
        return self._store

    def _let_go(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            except Exception as error:  # noqa: BLE001 - reason: what it has is in its index, and flushed by the next
                self._health.tell(f"closing it failed: {error}")
