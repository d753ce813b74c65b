"""The thread on which the store of a tracker that blocks lives.

The store may hang in a call to the operating system, or wait for a lock of somebody else; whoever records a run does
not wait for that, so the store has a thread of its own. The thread is a daemon: it cannot hold the interpreter.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
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

__all__ = ["StoreThread"]

_Job = tuple[Step, "Future[object]"]


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
        self._settling: Future[object] | None = None  # not begun yet, so everybody's who comes until then
        self._thread = threading.Thread(target=self._serve, name="taskstore tracker", daemon=True)
        self._thread.start()

    def ask(self, step: Step) -> Future[object]:
        """Have *step* done; the future has its answer, or a `StoreUnavailableError`, or the caller's mistake."""
        with self._lock:
            if isinstance(step, Settle) and self._settling is not None:
                return self._settling
            future: Future[object] = Future()
            if isinstance(step, Settle):
                self._settling = future
            self._jobs.put((step, future))
            return future

    def close(self, timeout_s: float) -> bool:
        """Give the store what waits, and close it; returns whether that was done in time."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- on the thread --------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._health.pause_s if self._ledger.state.waiting else None)
            except Empty:
                job = (Settle(), Future[object]())
            if job is None:
                break
            self._do(*job)
        self._do(Settle(), Future(), closing=True)
        self._let_go()

    def _do(self, step: Step, future: Future[object], *, closing: bool = False) -> None:
        with self._lock:
            if self._settling is future:
                self._settling = None
        try:
            take = on_store(self._opened(writes=isinstance(step, Settle), closing=closing))
            answer = drive(settle(self._ledger), take) if isinstance(step, Settle) else take(step)
        except StoreUnavailableError as error:
            future.set_exception(error)
        except Exception as error:  # noqa: BLE001 - reason: whatever it is, the run goes on
            if is_mistake(error):
                future.set_exception(error)
                return
            self._suspect = not isinstance(error, StoreLockedError)
            self._health.failed(str(error) or type(error).__name__)
            future.set_exception(StoreUnavailableError(str(error)))
        else:
            self._health.recovered()
            future.set_result(answer)

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
