"""A simulated disk: what a process did to its files, and what of it a power cut may leave.

It is played from the record of the shim (tests/faults). Written bytes are on the disk for sure once their file was
fsynced, names once their directory was; of the rest any part may be there: none, all, some writes and not those before
them, a part of a write. Operations on the names of one directory survive in order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.faults.shim import Call

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

__all__ = ["Disk", "Entry", "entries"]

_HEAD: Final = struct.Struct("<IIIIQQQ")
_SECTOR: Final = 512


class Entry(NamedTuple):
    """One thing that was done."""

    call: Call
    path: str
    other: str
    inode: int
    offset: int
    data: bytes


def entries(record: bytes) -> Iterator[Entry]:
    """What the shim has written down."""
    place = 0
    while place < len(record):
        number, length, other_length, _, inode, offset, size = _HEAD.unpack_from(record, place)
        place += _HEAD.size
        call = Call(number)
        ends = (place + length, place + length + other_length)
        path, other = record[place : ends[0]].decode(), record[ends[0] : ends[1]].decode()
        place = ends[1]
        data = record[place : place + size] if call is Call.WRITE else b""
        place += len(data)
        yield Entry(call, path, other, inode, offset, data)


@dataclass
class _File:
    """One inode: its bytes on the disk, and what was done to it since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  #: bytes at an offset; None: cut there

    def fsync(self) -> None:
        for offset, data in self.pending:
            _put(self.durable, offset, data)
        self.pending.clear()

    def left(self, dice: random.Random, how: str) -> bytes:
        """What a power cut leaves."""
        found = bytearray(self.durable)
        for offset, data in self.pending:
            if how == "none" or (how == "some" and dice.random() < 0.5):
                continue
            if how == "some" and data is not None and dice.random() < 0.3:
                end = dice.randrange(len(data) + 1)
                _put(found, offset, data[: end if dice.random() < 0.5 else end // _SECTOR * _SECTOR])
                continue
            _put(found, offset, data)
        return bytes(found)


def _put(target: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del target[offset:]
        target.extend(bytes(offset - len(target)))
    else:
        target.extend(bytes(max(0, offset - len(target))))
        target[offset : offset + len(data)] = data


@dataclass
class Disk:
    """The files of one directory tree, which was empty."""

    names: dict[str, _File] = field(default_factory=dict)
    pending: list[tuple[Entry, _File | None]] = field(default_factory=list)  #: names that were made or taken away
    _now: dict[str, _File] = field(default_factory=dict)
    _inodes: dict[int, _File] = field(default_factory=dict)

    def play(self, entry: Entry) -> None:
        """Do what was done."""
        if entry.call is Call.CREATE:
            self._inodes[entry.inode] = _File()
        if entry.call in {Call.CREATE, Call.RENAME, Call.LINK, Call.UNLINK}:
            made = self._inodes[entry.inode] if entry.call is Call.CREATE else None
            _rename(self._now, entry, made)
            self.pending.append((entry, made))
        elif entry.call is Call.FSYNC and entry.inode not in self._inodes:
            self._fsync_directory(entry.path)
        elif entry.call is Call.FSYNC:
            self._inodes[entry.inode].fsync()
        elif entry.inode in self._inodes:
            data = entry.data if entry.call is Call.WRITE else None
            self._inodes[entry.inode].pending.append((entry.offset, data))

    def _fsync_directory(self, path: str) -> None:
        kept: list[tuple[Entry, _File | None]] = []
        for entry, made in self.pending:
            if _folder(entry) == path:
                _rename(self.names, entry, made)
            else:
                kept.append((entry, made))
        self.pending = kept

    def left(self, dice: random.Random) -> dict[str, bytes]:
        """What a power cut leaves: the bytes of each file."""
        names = dict(self.names)
        ways = ("none", "some", "all")
        how = dice.choice(ways)
        count = {"none": 0, "all": len(self.pending)}.get(dice.choice(ways), dice.randint(0, len(self.pending)))
        for entry, made in self.pending[:count]:
            _rename(names, entry, made)
        bytes_of: dict[int, bytes] = {}
        return {path: bytes_of.setdefault(id(file), file.left(dice, how)) for path, file in names.items()}

    def cut(self, dice: random.Random, target: Path, root: str) -> None:
        """Write what a power cut leaves to *target*, which stands for *root*."""
        for path, data in self.left(dice).items():
            place = target / PurePosixPath(path).relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not path.endswith("-shm"):  # memory that is mapped: SQLite makes it anew
                place.write_bytes(data)


def _folder(entry: Entry) -> str:
    return str(PurePosixPath(entry.other or entry.path).parent)


def _rename(names: dict[str, _File], entry: Entry, made: _File | None) -> None:
    if made is not None:
        names[entry.path] = made
    elif entry.path in names:
        if entry.call is Call.LINK:
            names[entry.other] = names[entry.path]
        elif entry.call is Call.RENAME:
            names[entry.other] = names.pop(entry.path)
        else:
            del names[entry.path]
