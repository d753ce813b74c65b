"""The simulator's bytes: lines and their fold, and a directory with one name in it that git may pull away."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

STAMP_MAX = 2**53 - 1
TICK_MS = 10  #: a file system's times are this coarse: two changes within a tick look alike


class Version(NamedTuple):
    """What one line says: the identity of a write, for the model and for the real engine alike."""

    id: str
    stamp: int
    value: int | None  #: the record's field ``v``; None in a tombstone


def line_of(version: Version) -> bytes:
    """The version's line, without its newline. Equal values give lines of equal length."""
    fields: dict[str, object] = {"id": version.id, "updated_at": version.stamp}
    fields |= {"deleted": True} if version.value is None else {"v": version.value}
    return json.dumps(fields, separators=(",", ":")).encode()


@lru_cache(maxsize=50_000)
def read_line(raw: bytes) -> Version | None:
    """What the line says; None when it cannot be read. Fields that the model does not know are passed over."""
    try:
        found: object = json.loads(raw)
    except ValueError:
        return None
    match found:
        case {"id": str(record_id), "updated_at": int(stamp), "deleted": True}:
            return Version(record_id, stamp, None)
        case {"id": str(record_id), "updated_at": int(stamp), "v": int(value)}:
            return Version(record_id, stamp, value)
        case _:
            return None


def lines_of(data: bytes) -> list[bytes]:
    """All lines with anything in them, the last one with or without its newline."""
    return [line for line in data.split(b"\n") if line]


def versions_of(data: bytes) -> list[Version]:
    """What the readable lines say, in order."""
    found = (read_line(line) for line in lines_of(data))
    return [version for version in found if version is not None]


def tail_of(data: bytes) -> bytes:
    """What stands after the last newline."""
    return data[data.rfind(b"\n") + 1 :]


def says_nothing(data: bytes) -> bool:
    """Bytes but not one valid line: such a file is closed to writing. Blank lines alone are an empty file."""
    return bool(lines_of(data)) and not versions_of(data)


def fold(versions: Iterable[Version]) -> dict[str, Version]:
    """The latest version of each id: the highest stamp, the later line on a tie."""
    winners: dict[str, Version] = {}
    for version in versions:
        best = winners.get(version.id)
        if best is None or version.stamp >= best.stamp:
            winners[version.id] = version
    return winners


def is_outplaced(version: Version, line: bytes, lines: list[bytes]) -> bool:
    """Whether one of *lines* stands behind the last that is *line*, and wins the tie: ours must come again."""
    behind = lines[len(lines) - lines[::-1].index(line) :]
    return any(other and (other.id, other.stamp) == (version.id, version.stamp) for other in map(read_line, behind))


class JournalFile(Protocol):
    """The journal as an editor or git has it in hands. A real file can stand here as well."""

    def looks(self) -> object:
        """What its stat says, but its size; None when there is no such file."""
        ...

    def read(self) -> bytes | None:
        """All bytes; None when there is no such file."""
        ...

    def append(self, data: bytes) -> None:
        """Write at the end, making the file when there is none."""
        ...

    def overwrite(self, data: bytes) -> None:
        """Put other bytes into the same inode, making the file when there is none."""
        ...

    def replace(self, data: bytes) -> None:
        """Put a new inode with these bytes in the place of the old one."""
        ...

    def unlink(self) -> None:
        """Take the name away, if it is there."""
        ...


class Stat(NamedTuple):
    """What ``stat`` says. There is no inode number: it would be the same again after a replacement."""

    size: int
    mtime: int
    ctime: int


@dataclass
class Inode:
    """One file, with or without a name."""

    data: bytes = b""
    mtime: int = 0
    ctime: int = 0
    synced: bytes = b""  #: what a power cut leaves for sure

    def stat(self) -> Stat:
        return Stat(len(self.data), self.mtime, self.ctime)


class Disk:
    """One name in one directory, and the inode it stands for. Is itself a ``JournalFile``."""

    def __init__(self) -> None:
        self.now = 1_000  #: milliseconds; never goes back
        self.entry: Inode | None = None
        self.synced_entry: Inode | None = None  #: what the name stands for after a power cut

    def write(self, inode: Inode, data: bytes) -> None:
        inode.data = data
        inode.mtime = inode.ctime = self.now // TICK_MS * TICK_MS

    def create(self) -> Inode:
        self.entry = Inode()
        self.write(self.entry, b"")
        return self.entry

    def power_cut(self, survives: int) -> None:
        """Keep what was synced, and *survives* of the bytes appended since."""
        self.entry = self.synced_entry
        if self.entry is not None:
            self.write(self.entry, self.entry.data[: len(self.entry.synced) + survives])
            self._all_synced()

    def looks(self) -> tuple[int, int] | None:
        return None if self.entry is None else (self.entry.mtime, self.entry.ctime)

    def read(self) -> bytes | None:
        return None if self.entry is None else self.entry.data

    def append(self, data: bytes) -> None:
        self.overwrite((self.read() or b"") + data)

    def overwrite(self, data: bytes) -> None:
        self.write(self.entry or self.create(), data)
        self._all_synced()

    def replace(self, data: bytes) -> None:
        self.write(self.create(), data)
        self._all_synced()

    def unlink(self) -> None:
        self.entry = None
        self._all_synced()

    def _all_synced(self) -> None:
        # What others write is on disk at once: only our own fsyncs are on trial.
        self.synced_entry = self.entry
        if self.entry is not None:
            self.entry.synced = self.entry.data
