"""The file that is locked, and signed by who holds it."""

from __future__ import annotations

import errno
import os
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from taskstore_async.errors import NoStoreError, StoreReadOnlyError
from taskstore_async.storage.files import CLOEXEC, NOFOLLOW

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LockFile", "close_all", "descriptors", "guard"]

_TEXT_MAX = 200  # bytes of the file that are read for the holder's name
_GONE = "it was there when it was opened: put it back, and everything goes on"
_READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})

# Held while a lock file is opened, so that no fork falls between the descriptor and its entry in descriptors.
guard = threading.RLock()
descriptors: set[int] = set()


class LockFile:
    """``store.lock``: opened at the first lock, and kept open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = str(path)  # a Path costs twice as much to stat, and every other process waits for that
        self.alone = 0  #: so many holds in a row found the file as this process had signed it
        self._descriptor: int | None = None
        self._inode = (0, 0)  # the device and inode of the descriptor
        self._text = _signature()

    def load(self) -> None:
        """Get ready to lock; at the first lock, because nobody else is to pay the 46 ms of this import."""
        import portalocker  # noqa: PLC0415 - reason: as the docstring says

        self._failures = portalocker.LockException
        # Without NON_BLOCKING it waits in the kernel, and polls nothing.
        exclusive = portalocker.LockFlags.EXCLUSIVE
        at_once = exclusive | portalocker.LockFlags.NON_BLOCKING
        number = int(at_once)
        self._refusals = portalocker.LockException, OSError
        if sys.platform == "win32":

            def lock(descriptor: int) -> None:
                while True:
                    with suppress(portalocker.AlreadyLocked):  # the system waits for ten seconds at a time
                        return portalocker.lock(descriptor, exclusive)

            self._lock, self._unlock = lock, portalocker.unlock
            self._try = partial(portalocker.lock, flags=at_once)
        else:
            # portalocker.lock is whatever the program has set LOCKER to. This is flock: lockf would be dropped when
            # any descriptor of the file closes.
            locker = portalocker.portalocker.FlockLocker()
            self._lock, self._unlock = partial(locker.lock, flags=exclusive), locker.unlock
            # Called as it is: portalocker's looks at the flags cost six times as much.
            flock = cast("Callable[[int, int], object]", locker.locker)

            def try_at_once(descriptor: int) -> None:
                flock(descriptor, number)

            self._try = try_at_once

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
                if self._has_the_name():
                    break
                self.close()  # somebody removed or replaced the file: a lock on the old one is no lock
            self._sign(descriptor)
        except BaseException as error:
            self.close()
            cause = error.__cause__ if isinstance(error, self._failures) else error
            if isinstance(cause, OSError) and cause.errno is not None:
                raise self._explained(cause.errno) from error
            raise

    def try_lock(self) -> bool:
        """Lock and sign the file if that can be done at once; whatever is in the way is left to `lock`."""
        descriptor = self._descriptor
        if descriptor is None:
            return False
        try:
            self._try(descriptor)
        except self._refusals:
            self.alone = 0
            return False
        try:
            if self._has_the_name():
                self._sign(descriptor)
                return True
        except OSError:
            pass
        self.unlock()
        return False

    def unlock(self) -> None:
        """Let others have it; threads of this process queue for it again, like everybody."""
        if self._descriptor is not None:
            with suppress(self._failures):  # somebody closed our descriptor, and that unlocked it
                self._unlock(self._descriptor)

    def close(self) -> None:
        """Close the descriptor, if there is one, and the lock with it; the next lock opens the file anew."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        descriptors.discard(descriptor)  # first: a child forked in between must not close what took its number
        with suppress(OSError):
            os.close(descriptor)

    @property
    def is_open(self) -> bool:
        """Whether it was locked before, and can be tried."""
        return self._descriptor is not None

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
        with guard:
            descriptor = os.open(self._name, os.O_RDWR | os.O_CREAT | CLOEXEC | NOFOLLOW, 0o666)
            descriptors.add(descriptor)
            self._descriptor = descriptor
        status = os.fstat(descriptor)
        self._inode = status.st_dev, status.st_ino
        return descriptor

    def _has_the_name(self) -> bool:
        try:
            named = os.lstat(self._name)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == self._inode

    def _sign(self, descriptor: int) -> None:
        # Seek and read, because there is no pread on Windows. Written over first and cut after: never seen empty.
        with suppress(OSError):  # a full disk: the text is for messages, and the lock holds without
            os.lseek(descriptor, 0, os.SEEK_SET)
            if os.read(descriptor, _TEXT_MAX) == self._text:
                self.alone += 1
            else:
                self.alone = 0
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, self._text)
                os.ftruncate(descriptor, len(self._text))

    def _explained(self, number: int) -> Exception:
        if number in _READ_ONLY:
            return StoreReadOnlyError(str(self.path), os.strerror(number))
        if number in _ABSENT:
            return NoStoreError(str(self.path.parent), _GONE)
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


def close_all() -> None:
    """Close the descriptors of a forked child's parent: they would hold a lock beyond the parent's death.

    Only close them. A flock is of the parent and the child together, so unlocking it here would unlock it there.
    """
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
    descriptors.clear()
