"""The calls that make bytes durable, in one place, so that tests can fail them one by one."""

from __future__ import annotations

import errno
import os
import stat
import time
from functools import cache, partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLOEXEC = getattr(os, "O_CLOEXEC", 0)
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
NONBLOCK = getattr(os, "O_NONBLOCK", 0)  #: a pipe that nobody writes to must not be waited for

write: Callable[[int, bytes], int] = os.write
fsync: Callable[[int], None] = os.fsync


def open_regular(path: Path, flags: int) -> int:
    """Open the regular file *path*; never through a link, which could lead anywhere, and never waiting for a pipe.

    Raises:
        OSError: As ``os.open``; with EINVAL when there is no regular file, with ELOOP when there is a link.
    """
    descriptor = os.open(path, flags | CLOEXEC | NOFOLLOW | NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return descriptor


def read_regular(path: Path) -> bytes:
    """The bytes of the regular file *path*.

    Raises:
        OSError: As for `open_regular`.
    """
    with open(open_regular(path, os.O_RDONLY), "rb") as file:
        return file.read()


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable. A directory cannot be opened on Windows, which needs no such call."""
    if os.name == "nt":  # pragma: no cover - reason: not run there yet
        return
    descriptor = os.open(path, os.O_RDONLY | CLOEXEC)
    try:
        fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some file systems have no such thing
            raise
    finally:
        os.close(descriptor)


@cache
def _locker() -> tuple[Callable[[int], object], type[Exception]]:
    """What locks a descriptor without waiting, and what it raises when somebody else holds it."""
    import portalocker  # noqa: PLC0415 - reason: 46 ms that reading commands do not pay

    flags = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
    if os.name == "nt":  # pragma: no cover - reason: not run there yet
        return partial(portalocker.lock, flags=flags), portalocker.LockException
    # Not portalocker.lock, which is whatever the program has set LOCKER to: others take a flock. The call itself, as
    # portalocker's looks at the flags cost six times as much.
    flock, number = portalocker.portalocker.FlockLocker().locker, int(flags)
    return lambda descriptor: flock(descriptor, number), OSError


def lock_file(descriptor: int, wait_s: float) -> None:
    """Take the exclusive lock that other tools take on a journal; ends with the descriptor.

    Ours serialise through store.lock, so this lock is nearly always free, and waiting for it may poll.

    Raises:
        TimeoutError: Somebody held it for *wait_s* seconds.
    """
    lock, failures = _locker()
    deadline = time.monotonic() + wait_s
    while True:
        try:
            lock(descriptor)
        except failures:
            if time.monotonic() > deadline:
                message = f"another program has held the file's lock for {wait_s:g} s"
                raise TimeoutError(message) from None
            time.sleep(0.01)
        else:
            return
