"""The one lock of a store: a blocking flock on ``store.lock``, waited for on a helper thread.

A blocking flock queues in the kernel, so no process starves, as those that poll do; but it takes no deadline, and a
thread that waits in it cannot be stopped. So a daemon thread waits in it, and callers wait for the thread. A lock that
comes after its caller gave up goes to the next caller, or is released at once. Every release is an unlock that other
processes see: the threads of one process never hand the lock to each other behind their backs.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from taskstore_async.errors import NoStoreError, StoreClosedError, StoreLockedError, StoreReadOnlyError
from taskstore_async.storage.files import CLOEXEC, NOFOLLOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

__all__ = ["DEADLINE_S", "LOCK_NAME", "StoreLock"]

LOCK_NAME = "store.lock"
DEADLINE_S = 10.0  #: seconds that a caller waits unless told otherwise
THREAD_NAME = "taskstore-lock"
_TEXT_MAX = 200  # bytes of the file that are read for the holder's name
_END_S = 1.0  # an idle helper needs microseconds to end

_READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})

# Held while a lock file is opened, so that no fork falls between the descriptor and its entry in _descriptors.
_guard = threading.RLock()
_descriptors: set[int] = set()
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
        self._turnstile = _Turnstile(_LockFile(self.path))

    @classmethod
    def of(cls, directory: Path) -> StoreLock:
        """Return this process's lock of *directory*: the same for every spelling of its path.

        A forked child gets one of its own, which waits for its parent's like any other process.
        """
        resolved = directory.resolve()
        key = os.path.normcase(resolved)
        with _guard:
            lock = _locks.get(key)
            if lock is None:
                lock = _locks[key] = cls(resolved)
        return lock

    def hold(self, *, deadline_s: float = DEADLINE_S) -> AbstractContextManager[None]:
        """Hold the lock for the length of a ``with`` block: against other processes, and other threads of this one.

        Callers of one process are let through in the order they came. An interrupted wait (Ctrl-C) leaves nothing
        behind. It may be left in another thread than it was entered in.

        Args:
            deadline_s: Seconds to wait, at most; 0 or less gives up at once, infinity never does.

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

    def __init__(self) -> None:
        self.gate = threading.Lock()  # opened when it is this caller's turn, or when there will be none
        self.gate.acquire()
        self.error: BaseException | None = None
        self.thread = threading.get_ident()


class _Turnstile:
    """Lets the callers of one process through one by one, in the order they came, each with a flock of its own.

    The helper thread refers to this and not to the :class:`StoreLock`, so that one nobody uses can be dropped.
    """

    def __init__(self, file: _LockFile) -> None:
        self._pid = os.getpid()
        self._file = file
        self._mutex = threading.Lock()  # over the four below
        self._waiting: deque[_Turn] = deque()
        self._holder: _Turn | None = None
        self._busy = False  # the flock is held or on its way: the helper was called for it
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
            self._waiting.append(turn)
            if not self._busy:
                self._busy = True  # and no Python call from here to the put: Ctrl-C could fall in between
                self._calls.put(self._serve)
        # Always through the helper: a first try in this thread would overtake the processes that queue in the kernel.
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


def _run(calls: SimpleQueue[Callable[[], None] | None], file: _LockFile) -> None:
    """Be the helper thread."""
    try:
        while (call := calls.get()) is not None:
            call()
    finally:
        file.close()


class _LockFile:
    """``store.lock``: opened at the first lock, and kept open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = str(path)  # a Path costs twice as much to stat, and every other process waits for that
        self._descriptor: int | None = None
        self._text = _signature()

    def load(self) -> None:
        """Get ready to lock; at the first lock, because nobody else is to pay the 46 ms of this import."""
        import portalocker  # noqa: PLC0415 - reason: as the docstring says

        self._failures = portalocker.LockException
        # Without NON_BLOCKING it waits in the kernel, and polls nothing.
        exclusive = portalocker.LockFlags.EXCLUSIVE
        if sys.platform == "win32":

            def lock(descriptor: int) -> None:
                while True:
                    with suppress(portalocker.AlreadyLocked):  # the system waits for ten seconds at a time
                        return portalocker.lock(descriptor, exclusive)

            self._lock, self._unlock = lock, portalocker.unlock
        else:
            # portalocker.lock is whatever the program has set LOCKER to. This is flock: lockf would be dropped when
            # any descriptor of the file closes.
            locker = portalocker.portalocker.FlockLocker()
            self._lock, self._unlock = partial(locker.lock, flags=exclusive), locker.unlock

    def lock(self) -> None:
        """Wait for the lock of the file that has the name now, and sign it.

        Raises:
            StoreReadOnlyError: It cannot be created or opened.
            NoStoreError: Its directory does not exist.
            OSError: Anything else.
        """
        try:
            while True:
                descriptor = self._open() if self._descriptor is None else self._descriptor
                self._lock(descriptor)
                if self._has_the_name(descriptor):
                    break
                self.close()  # somebody removed or replaced the file: a lock on the old one is no lock
            self._sign(descriptor)
        except BaseException as error:
            self.close()
            cause = error.__cause__ if isinstance(error, self._failures) else error
            if isinstance(cause, OSError) and cause.errno is not None:
                raise self._explained(cause.errno) from error
            raise

    def unlock(self) -> None:
        """Let others have it; threads of this process queue for it again, like everybody."""
        if self._descriptor is not None:
            with suppress(self._failures):  # somebody closed our descriptor, and that unlocked it
                self._unlock(self._descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        _descriptors.discard(descriptor)  # first: a child forked in between must not close what took its number
        with suppress(OSError):
            os.close(descriptor)

    def holder(self) -> str:
        """Who holds the lock, as the file says: process id and command; empty when it does not say."""
        try:
            # Closing a descriptor drops no flock; and without NONBLOCK a named pipe would keep us here.
            descriptor = os.open(self._name, os.O_RDONLY | CLOEXEC | NOFOLLOW | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            return ""
        try:
            text = os.read(descriptor, _TEXT_MAX).decode(errors="replace")
        except OSError:
            return ""
        finally:
            os.close(descriptor)
        pid, _, command = _printable(text).partition(" ")
        return f"process {pid} ({command})" if pid.isdecimal() and command else f"{pid} {command}".strip()

    def _open(self) -> int:
        with _guard:
            descriptor = os.open(self._name, os.O_RDWR | os.O_CREAT | CLOEXEC | NOFOLLOW, 0o666)
            _descriptors.add(descriptor)
            self._descriptor = descriptor
        return descriptor

    def _has_the_name(self, descriptor: int) -> bool:
        try:
            named = os.stat(self._name, follow_symlinks=False)  # noqa: PTH116 - reason: as for _name
        except FileNotFoundError:
            return False
        ours = os.fstat(descriptor)
        return named.st_ino == ours.st_ino and named.st_dev == ours.st_dev

    def _sign(self, descriptor: int) -> None:
        # Seek and read, because there is no pread on Windows. Written over first and cut after: never seen empty.
        with suppress(OSError):  # a full disk: the text is for messages, and the lock holds without
            os.lseek(descriptor, 0, os.SEEK_SET)
            if os.read(descriptor, _TEXT_MAX) != self._text:
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, self._text)
                os.ftruncate(descriptor, len(self._text))

    def _explained(self, number: int) -> Exception:
        if number in _READ_ONLY:
            return StoreReadOnlyError(str(self.path), os.strerror(number))
        if number in _ABSENT:
            return NoStoreError(str(self.path.parent))
        return OSError(number, os.strerror(number), str(self.path))


def _signature() -> bytes:
    """Return ``<pid> <command>`` of this process, a line of at most 100 bytes."""
    script = Path(sys.argv[0] if getattr(sys, "argv", None) else "")  # no argv in an embedded interpreter
    command = _printable(script.parent.name if script.name == "__main__.py" else script.name) or "python"
    return f"{os.getpid()} {command[:60]}".encode(errors="replace")[:99] + b"\n"


def _printable(text: str) -> str:
    """Return the first line of *text*, without what would move a terminal's cursor."""
    line = text.partition("\n")[0]
    return "".join(letter if letter.isprintable() else "?" for letter in line).strip()


def _after_fork_in_child() -> None:
    """Forget the parent's locks, and close their descriptors: they would hold a lock beyond the parent's death.

    Only close them. A flock is of the parent and the child together, so unlocking it here would unlock it there.
    """
    global _locks  # noqa: PLW0603 - reason: the old one may have been half changed by a thread that is gone
    _locks = weakref.WeakValueDictionary()
    for descriptor in _descriptors:
        with suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()
    _guard.release()


if sys.platform != "win32":
    os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_after_fork_in_child)
