"""The one lock of a store: a blocking flock on ``store.lock``, waited for on a helper thread.

A blocking flock queues in the kernel, so no process starves, as those that poll do; but it takes no deadline, and a
thread that waits in it cannot be stopped. So a daemon thread waits in it, and callers wait for the thread. A lock that
comes after its caller gave up goes to the next caller, or is released at once. Every release is an unlock that other
processes see: the threads of one process never hand the lock to each other behind their backs.

A process that has been alone for a while may try once before it queues, because the thread costs as much as a small
transaction. That overtakes a process that has just begun to queue, so the tries of a busy process end every few
milliseconds with a turn in the queue; and as soon as the file is signed by somebody else, there are none.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from taskstore_async.errors import StoreClosedError, StoreLockedError
from taskstore_async.storage.lock_file import LockFile, close_all, guard

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

__all__ = ["DEADLINE_S", "LOCK_NAME", "StoreLock"]

LOCK_NAME = "store.lock"
DEADLINE_S = 10.0  #: seconds that a caller waits unless told otherwise
THREAD_NAME = "taskstore-lock"
_END_S = 1.0  # an idle helper needs microseconds to end
_ALONE = 16  # holds in a row between which nobody else had the lock, before the first try
_TRIES_S = 0.005  # as long after a turn in the queue may be tried: a process that comes waits so much longer, once
_PAUSE_S = 0.001  # after a pause like this a try overtakes nobody: who was waiting has the lock

_locks: weakref.WeakValueDictionary[str, StoreLock] = weakref.WeakValueDictionary()


class StoreLock:
    """The lock of one store's directory, in this process; get it with :meth:`of`.

    It costs nothing until first held; from then on it keeps one descriptor and one idle daemon thread, which end
    when the last reference to the lock is dropped. Any thread may use it.

    Args:
        directory: The resolved directory that holds ``store.lock``. It need not exist yet.
    """

    __slots__ = ("__weakref__", "_turnstile", "path")

    def __init__(self, directory: Path) -> None:
        self._turnstile: _Turnstile | None = None  # first: __del__ looks at it
        self.path = directory / LOCK_NAME  #: the lock file
        self._turnstile = _Turnstile(LockFile(self.path))

    @classmethod
    def of(cls, directory: Path) -> StoreLock:
        """Return this process's lock of *directory*: the same for every spelling of its path.

        A forked child gets one of its own, which waits for its parent's like any other process.
        """
        resolved = directory.resolve()
        key = os.path.normcase(resolved)
        with guard:
            lock = _locks.get(key)
            if lock is None:
                lock = _locks[key] = cls(resolved)
        return lock

    def hold(self, *, deadline_s: float = DEADLINE_S) -> AbstractContextManager[None]:
        """Hold the lock for the length of a ``with`` block: against other processes, and other threads of this one.

        Callers of one process are let through in the order they came. An interrupted wait (Ctrl-C) leaves nothing
        behind. It may be left in another thread than it was entered in.

        Args:
            deadline_s: Seconds to wait, at most; 0 or less gives up at once if it is not free, infinity never does.

        Raises:
            StoreLockedError: On entering: others held it until the deadline. The message names who holds it.
            StoreReadOnlyError: On entering: the lock file cannot be created or opened for writing.
            NoStoreError: On entering: the directory does not exist.
            StoreClosedError: On entering, in a forked child: this is the parent's lock.
            RuntimeError: On entering: this thread holds the lock already; the second wait would never end.
            OSError: On entering: whatever else the system said, such as that its files cannot be locked.
        """
        return _Hold(self, self._turnstile_now(), deadline_s)

    @property
    def held(self) -> bool:
        """Whether the calling thread holds the lock."""
        return self._turnstile_now().held

    def _turnstile_now(self) -> _Turnstile:
        assert self._turnstile is not None  # noqa: S101 - reason: None only while __init__ runs
        return self._turnstile

    def __del__(self) -> None:
        """End the helper thread."""
        if self._turnstile is not None:
            self._turnstile.end()

    def __repr__(self) -> str:
        return f"StoreLock({str(self.path)!r})"


class _Hold:
    """One ``with`` block. A class and no generator: it is cheaper, and Ctrl-C finds fewer gaps in it."""

    __slots__ = ("_deadline_s", "_lock", "_turn", "_turnstile")

    def __init__(self, lock: StoreLock, turnstile: _Turnstile, deadline_s: float) -> None:
        self._turn: _Turn | None = None
        self._lock = lock  # keeps the helper alive
        self._turnstile = turnstile
        self._deadline_s = deadline_s

    def __enter__(self) -> None:
        if self._turn is not None:
            message = f"one hold of {self._lock!r} cannot be entered twice; call hold() again"
            raise RuntimeError(message)
        turn = self._turn = _Turn()
        try:
            self._turnstile.enter(turn, deadline_s=self._deadline_s)
        except BaseException:
            self._leave(turn)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._turn is not None:
            self._leave(self._turn)

    def _leave(self, turn: _Turn) -> None:
        try:
            self._turnstile.leave(turn)
        except BaseException:  # Ctrl-C in the middle of it; doing it twice does no harm
            self._turnstile.leave(turn)
            raise
        finally:
            self._turn = None

    def __del__(self) -> None:
        """Release what nobody left: Ctrl-C can hit before the first line of ``__exit__``."""
        if self._turn is not None:
            self._turnstile.abandon(self._turn)


class _Turn:
    """A caller's place in the queue."""

    __slots__ = ("error", "gate", "thread")

    gate: threading.Lock  #: of a turn that queues: opened when it has come, or when it never will

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.thread = threading.get_ident()

    def queue(self) -> None:
        """Get ready to wait."""
        self.gate = threading.Lock()
        self.gate.acquire()


class _Turnstile:
    """Lets the callers of one process through one by one, in the order they came, each with a flock of its own.

    The helper thread refers to this and not to the :class:`StoreLock`, so that one nobody uses can be dropped.
    """

    def __init__(self, file: LockFile) -> None:
        self._pid = os.getpid()
        self._file = file
        self._mutex = threading.Lock()  # over the six below
        self._waiting: deque[_Turn] = deque()
        self._holder: _Turn | None = None
        self._busy = False  # the flock is held or on its way: the helper was called for it, or it is tried
        self._queued_s = self._left_s = 0.0  # when the last turn came from the queue, and when the last one ended
        self._thread: threading.Thread | None = None
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    @property
    def held(self) -> bool:
        holder = self._holder
        return holder is not None and holder.thread == threading.get_ident() and self._pid == os.getpid()

    def enter(self, turn: _Turn, *, deadline_s: float) -> None:
        """Wait until *turn* holds the lock. After an exception the caller must ``leave``."""
        if self._pid != os.getpid():
            raise StoreClosedError("the process has forked since it was opened")
        with self._mutex:
            if self._holder is not None and self._holder.thread == turn.thread:
                message = f"this thread holds {self._file.path} already, and a second wait for it would never end"
                raise RuntimeError(message)
            if self._thread is None:
                self._start()
            trying = self._may_try(deadline_s)
            if trying:
                self._busy, self._holder = True, turn  # before it holds: an interrupted try is left like a hold
            else:
                turn.queue()
                self._waiting.append(turn)
                if not self._busy:
                    self._busy = True  # and no Python call from here to the put: Ctrl-C could fall in between
                    self._calls.put(self._serve)
        if not (trying and self._tried(turn)):
            self._wait(turn, deadline_s)

    def _may_try(self, deadline_s: float) -> bool:
        """Whether a first try in the caller's thread overtakes nobody, or not for long.

        Who gives up at once has no other way, and does so seldom.
        """
        if self._busy:
            return False
        if deadline_s <= 0 and self._file.is_open:
            return True
        if self._file.alone < _ALONE:
            return False
        now_s = time.monotonic()
        return now_s - self._queued_s < _TRIES_S or now_s - self._left_s > _PAUSE_S

    def _tried(self, turn: _Turn) -> bool:
        """Take the lock for *turn* if it is free; else have it queue, before those who came meanwhile."""
        if self._file.try_lock():
            return True
        turn.queue()
        with self._mutex:
            self._waiting.appendleft(turn)
            self._holder = None  # and no Python call from here to the put: Ctrl-C could fall in between
            self._calls.put(self._serve)
        return False

    def _wait(self, turn: _Turn, deadline_s: float) -> None:
        """Wait for the turn of one that has queued."""
        if not turn.gate.acquire(timeout=min(max(0.0, deadline_s), threading.TIMEOUT_MAX)):
            with self._mutex:
                late = turn in self._waiting  # else the lock came this very moment
                if late:
                    self._waiting.remove(turn)
            if late:
                raise StoreLockedError(str(self._file.path), waited_s=max(0.0, deadline_s), holder=self._file.holder())
        error, turn.error = turn.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # or it and this frame would keep each other alive

    def leave(self, turn: _Turn) -> None:
        """Release the lock if *turn* holds it; withdraw the request if it waits."""
        if self._pid != os.getpid():
            return  # a flock is shared with a forked child: unlocking here would take it from the parent
        with self._mutex:
            if self._holder is not turn:
                with suppress(ValueError):
                    self._waiting.remove(turn)
                return
        self._file.unlock()
        with self._mutex:
            self._left_s = time.monotonic()
            if self._waiting and self._waiting[0] is turn:  # a try that failed, and was interrupted on its way to queue
                self._waiting.popleft()
            self._holder = None  # and no Python call from here on: Ctrl-C could fall in between
            if self._waiting:
                self._calls.put(self._serve)
            else:
                self._busy = False

    def abandon(self, turn: _Turn) -> None:
        """``leave`` on the helper thread: a finalizer may run while this one is inside the mutex."""
        if self._pid == os.getpid():
            self._calls.put(partial(self.leave, turn))

    def end(self) -> None:
        """End the helper: before this returns when it is idle, else when the flock it waits for has come."""
        thread = self._thread
        if thread is None or self._pid != os.getpid():
            return
        self._calls.put(None)
        if not self._busy and thread.ident != threading.get_ident() and not sys.is_finalizing():
            thread.join(_END_S)

    def _start(self) -> None:
        self._file.load()
        thread = threading.Thread(target=_run, args=(self._calls, self._file), name=THREAD_NAME, daemon=True)
        thread.start()
        self._thread = thread

    def _serve(self) -> None:
        """Take the flock for whoever is first in the queue when it comes; on the helper thread."""
        error: BaseException | None = None
        try:
            self._file.lock()
        except BaseException as caught:  # noqa: BLE001 - reason: raised in the caller's thread
            error = caught
        with self._mutex:
            self._queued_s = time.monotonic()
            turn = self._waiting.popleft() if self._waiting else None
            if error is None and turn is not None:
                self._holder = turn
            elif self._waiting:
                self._calls.put(self._serve)
            else:
                self._busy = False
        if turn is not None:
            turn.error = error
            turn.gate.release()
        elif error is None:
            self._file.unlock()  # whoever comes from now on is served by this thread, after this


def _run(calls: SimpleQueue[Callable[[], None] | None], file: LockFile) -> None:
    """Be the helper thread."""
    try:
        while (call := calls.get()) is not None:
            call()
    finally:
        file.close()


def _after_fork_in_child() -> None:
    """Forget the parent's locks, and close their files."""
    global _locks  # noqa: PLW0603 - reason: the old one may have been half changed by a thread that is gone
    _locks = weakref.WeakValueDictionary()
    close_all()
    guard.release()


if sys.platform != "win32":
    os.register_at_fork(before=guard.acquire, after_in_parent=guard.release, after_in_child=_after_fork_in_child)
