"""The calls that make bytes durable, in one place, so that tests can fail them one by one."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLOEXEC = getattr(os, "O_CLOEXEC", 0)
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
NONBLOCK = getattr(os, "O_NONBLOCK", 0)  #: a pipe that nobody writes to must not be waited for

write: Callable[[int, bytes], int] = os.write
fsync: Callable[[int], None] = os.fsync


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


def lock_file(descriptor: int, wait_s: float) -> None:
    """Take the exclusive lock that other tools take on a journal; ends with the descriptor.

    Ours serialise through store.lock, so this lock is nearly always free, and waiting for it may poll.

    Raises:
        TimeoutError: Somebody held it for *wait_s* seconds.
    """
    import portalocker  # noqa: PLC0415 - reason: 46 ms that reading commands do not pay

    deadline = time.monotonic() + wait_s
    while True:
        try:
            portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.LockException:
            if time.monotonic() > deadline:
                message = f"another program has held the file's lock for {wait_s:g} s"
                raise TimeoutError(message) from None
            time.sleep(0.01)
        else:
            return
