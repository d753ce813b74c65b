"""What the connections of this process to one index have in common: SQLite's mapping of its shared memory.

SQLite opens ``store.db-shm`` for the first connection of a process that needs it, and keeps it open until the last one
closes. When it could only be opened for reading, because no descriptor was left just then, or when it was deleted
since, so that other processes have another one, opening one connection again mends nothing: all have to close first.
"""

from __future__ import annotations

import errno
import math
import os
import sqlite3
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Connection", "Holder", "SharedMemory", "file_of"]

_File = tuple[int, int]
_MOMENT_S: Final = 0.02
_SHARED: Final = (0x40000002, 510)  #: the bytes of an index that SQLite locks as long as it has it open
_ALIVE: Final = (128, 1)  #: that of the shared memory


class Holder(Protocol):
    """Keeps a connection between questions."""

    def let_go(self) -> object:
        """Close it, when nobody uses it, on any thread."""
        ...


class Connection(sqlite3.Connection):
    """A connection to an index.

    Attributes:
        memory: What it has in common with others; None when the index itself lives in memory.
    """

    memory: SharedMemory | None = None

    def close(self) -> None:
        """Close it."""
        super().close()
        if self.memory is not None:
            self.memory.left(self)


class SharedMemory:
    """The mapping that the connections of this process to one index share, as long as any of them is open.

    Get it with `joined_by`.

    Args:
        index: The file of the index.

    Attributes:
        known: What there is, by the file of its index.
        mutex: Over that, and the connections of each.
        path: Its file.
        connections: Those that are open.
        file: Its device and inode; None before anybody has looked.
        descriptors: Those by which a forked child has locked files anew. Never closed: that would drop SQLite's locks.
        given_up: A handle has found it useless. Who has a connection closes it after the next use.
    """

    known: ClassVar[dict[_File, SharedMemory]] = {}
    mutex: ClassVar = threading.RLock()

    def __init__(self, index: Path) -> None:
        self.path = f"{index}-shm"
        self.file: _File | None = None
        self._log_path = f"{index}-wal"
        self._log: _File | None = None
        self.given_up = False
        self._looked_s = -math.inf
        self._looked_lost = False
        self.connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._holders: weakref.WeakSet[Holder] = weakref.WeakSet()
        self.descriptors: dict[_File, int] = {}

    @classmethod
    def joined_by(cls, connection: Connection, index: Path) -> SharedMemory:
        """What *connection*, which was just opened, has in common with the others."""
        file = file_of(index) or (0, 0)
        with cls.mutex:
            memory = cls.known.get(file)
            if memory is None or not memory.connections:
                memory = cls.known[file] = cls(index)
            memory.connections.add(connection)
        return memory

    def left(self, connection: Connection) -> None:
        """Note that *connection* is closed."""
        with self.mutex:
            self.connections.discard(connection)
            if not self.connections:
                for file in [file for file, one in self.known.items() if one is self]:
                    del self.known[file]

    def look(self) -> None:
        """Learn which file it is, and the log's. Called when a connection has read something, and so has it open."""
        if self.file is None:
            self.file = file_of(self.path)
        if self._log is None:
            self._log = file_of(self._log_path)

    @property
    def is_lost(self) -> bool:
        """Whether the name is that of another file by now, or of none: others do not see what is written here."""
        return self.file is not None and file_of(self.path) != self.file

    @property
    def has_log_alone(self) -> bool:
        """Whether it is lost and the write-ahead log too: what stands there, these connections alone can read."""
        return self.is_lost and self._log is not None and file_of(self._log_path) != self._log

    @property
    def is_whole(self) -> bool:
        """Whether it can be used: it is not lost, and nobody has given it up."""
        return not self.given_up and not self.is_lost

    @property
    def looks_whole(self) -> bool:
        """The same, as it was a moment ago: a look costs as much as a small question, and is worth it now and then."""
        now_s = time.monotonic()
        if now_s - self._looked_s > _MOMENT_S:
            self._looked_s = now_s
            self._looked_lost = self.is_lost
        return not self.given_up and not self._looked_lost

    def require(self, *, to_write: bool = False) -> None:
        """Check that it is not lost; *to_write*: nor given up.

        Raises:
            OSError: It is, and a connection of another handle of this process keeps it.
        """
        lost = self.is_lost
        if lost or (to_write and self.given_up):
            what = "was deleted while in use" if lost else "could only be opened for reading"
            reason = f"it {what}; use or close the other handles that this process has on the store"
            raise OSError(errno.ESTALE, reason, self.path)

    def kept_by(self, holder: Holder) -> None:
        """Have *holder* told when all connections have to close."""
        self._holders.add(holder)

    def give_up(self) -> None:
        """Have every connection closed that nobody uses; the others learn of it by `is_whole`."""
        self.given_up = True
        for holder in list(self._holders):
            holder.let_go()


def file_of(path: Path | str) -> _File | None:
    """The device and inode that *path* names; None when it names nothing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - reason: asked before every answer
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


if sys.platform != "win32":

    def _lock_anew(memory: SharedMemory, index: _File) -> None:
        """Lock what the connections of a forked child's parent have locked, which the child does not inherit.

        SQLite takes those locks for its own, and shares them with the child's connections. Without them, whoever opens
        the index when nobody else has it open cuts the shared memory off, and SIGBUS ends who has it mapped.
        """
        for path, file, start, length in (
            (memory.path.removesuffix("-shm"), index, *_SHARED),
            (memory.path, memory.file, *_ALIVE),
        ):
            with suppress(OSError):  # as good as it gets
                if file is None or file_of(path) != file:
                    continue
                if file not in memory.descriptors:
                    memory.descriptors[file] = os.open(path, os.O_RDONLY)
                fcntl.lockf(memory.descriptors[file], fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)

    def _after_fork_in_child() -> None:
        """Forget who held the mutex: a thread that is gone. What is open stays known: SQLite keeps it open here too."""
        SharedMemory.mutex = threading.RLock()
        for index, memory in SharedMemory.known.items():
            if memory.connections and memory.file is not None:  # else a lock on the index would keep all from writing
                _lock_anew(memory, index)

    os.register_at_fork(after_in_child=_after_fork_in_child)
