"""Journal files: what we know of one, whether it moved, and how lines are appended to it."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.errors import CollectionClosedError
from taskstore_async.storage import failpoints, files
from taskstore_async.storage.unseen import Unseen  # noqa: TC001 - reason: msgspec reads it at run time

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

CHUNK = 1 << 16  #: bytes; lines are read from a processor's cache, see `core.line_reader`
CRC_CHUNK = 1 << 20
SETTLE_NS = 20_000_000  #: a file recorded sooner than this after a change may change again with the same times
LOCK_WAIT_S = 10.0


class FileRecord(msgspec.Struct, frozen=True, array_like=True):
    """What the index knows of a journal file: the file it read, how far, and the CRC of those bytes.

    An absent file is recorded with inode 0 and size 0.
    """

    device: int = 0
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    offset: int = 0  #: bytes read into the index
    crc: int = 0  #: CRC-32 of the first `offset` bytes
    newline: bool = True  #: those bytes end in a newline (or are none)
    lines: int = 0  #: lines in those bytes
    rescan: bool = False  #: the file cannot be read on from `offset`: conflict markers, or no valid line yet
    recorded_ns: int = 0  #: wall time before the bytes were compared; 0 for what an append has only extended
    unseen: Unseen = ()  #: appends that git may not have seen, should it replace the file soon

    @property
    def identity(self) -> tuple[int, int, int, int, int]:
        """Device, inode, size, mtime and ctime (ns)."""
        return (self.device, self.inode, self.size, self.mtime_ns, self.ctime_ns)


class How(StrEnum):
    """What a look at a file found, compared with its record."""

    FRESH = "fresh"
    TAIL = "tail"
    SCAN = "scan"
    NEW = "new"
    GONE = "gone"
    CLOSED = "closed"


def identity_of(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Device, inode, size, mtime and ctime (ns) of *status*."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


UNKNOWN = FileRecord(size=-1)  #: of something that is no file: no size is -1, so it is looked at again


def record_of(status: os.stat_result | None) -> FileRecord:
    """A record of the file with *status* (None: absent), of which nothing was read yet."""
    return FileRecord() if status is None else FileRecord(*identity_of(status))


def stat_of(path: Path) -> os.stat_result | None:
    """The file's stat, None when it is absent."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def closed(collection: str, path: Path) -> CollectionClosedError:
    """Why nothing may be appended to the file of *collection*."""
    status = stat_of(path)
    return CollectionClosedError(collection, str(path), regular=status is None or stat.S_ISREG(status.st_mode))


def looks_fresh(record: FileRecord | None, status: os.stat_result | None, *, flushing: bool = False) -> bool:
    """Whether *status* alone shows that nothing moved since *record*.

    A file recorded within 20 ms of its mtime or ctime may have changed since without showing it; before a flush five
    equal values are enough, because the CRC that the append extends still convicts such an edit at the next look. That
    there is none is no proof when lines of ours stood in one behind what is known.
    """
    if record is None:
        return False
    if status is None:
        return record.size == 0 and not record.rescan
    if not stat.S_ISREG(status.st_mode):
        return False
    if status.st_size == 0:
        return record.size == 0 and not record.rescan
    changed_ns = max(record.mtime_ns, record.ctime_ns)  # an mtime can be set, and is when a file is copied
    return record.identity == identity_of(status) and (flushing or record.recorded_ns - changed_ns >= SETTLE_NS)


def classify(descriptor: int | None, record: FileRecord | None, *, flushing: bool = False) -> How:
    """How the open file (None: absent) differs from *record*; reads the known prefix when its stat is not enough."""
    status = os.fstat(descriptor) if descriptor is not None else None
    if looks_fresh(record, status, flushing=flushing):
        return How.FRESH
    if record is None:
        return How.NEW
    if descriptor is None or status is None or status.st_size == 0:
        return How.GONE
    if record.rescan or record.offset == 0 or crc_of_prefix(descriptor, record.offset) != record.crc:
        return How.SCAN
    if not record.newline and status.st_size > record.offset and os.pread(descriptor, 1, record.offset) not in b"\r\n":
        return How.SCAN  # the last line, which had no newline, grew: what was read of it is not a line any more
    return How.TAIL


def size_of(descriptor: int | None) -> int:
    """The open file's size in bytes, 0 when there is none."""
    return 0 if descriptor is None else os.fstat(descriptor).st_size


def last_byte(descriptor: int) -> bytes:
    """The open file's last byte; empty when it is."""
    size = size_of(descriptor)
    return os.pread(descriptor, 1, size - 1) if size else b""


def crc_of_prefix(descriptor: int, length: int) -> int:
    """CRC-32 of the file's first *length* bytes."""
    crc = position = 0
    while position < length:
        chunk = os.pread(descriptor, min(CRC_CHUNK, length - position), position)
        if not chunk:
            return -1  # shorter than thought: equal to no CRC
        crc = zlib.crc32(chunk, crc)
        position += len(chunk)
    return crc


def chunks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes from *start* up to *end*, or to the end of a file that shrank meanwhile."""
    position = start
    while position < end:
        chunk = os.pread(descriptor, min(CHUNK, end - position), position)
        if not chunk:
            return
        yield chunk
        position += len(chunk)


class NoJournalError(OSError):
    """What stands under a journal's name is no file that may be read or written: a link, a directory, a pipe."""


_UNFIT = {errno.ELOOP, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO, errno.ENOTDIR, errno.EINVAL}


def _open(path: Path, flags: int) -> int:
    """Open the regular file *path*.

    Raises:
        NoJournalError: There is something else, or it may not be opened.
        OSError: As ``os.open``.
    """
    try:
        return files.open_regular(path, flags)
    except OSError as error:
        if error.errno in _UNFIT:
            raise NoJournalError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def open_to_read(path: Path) -> Generator[int | None]:
    """A descriptor of the file, None when it is absent.

    Raises:
        NoJournalError: There is something that is no journal.
    """
    try:
        descriptor = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_to_append(path: Path, *, create: bool = True, wait_s: float = LOCK_WAIT_S) -> Generator[int]:
    """A descriptor that appends to the file of that name *now*, locked against other tools.

    Opened afresh for every append: git replaces files, and a held descriptor would write into an unlinked inode.

    Args:
        path: The file.
        create: Make it when it is absent. Never one that was there at the last look: git unlinks a file before it makes
            the new one, never over another, so that a file made in between fails its merge and is committed, empty.
        wait_s: Seconds to wait for another program that has locked it.

    Raises:
        FileNotFoundError: It is absent, and not to be made.
        TimeoutError: Another program has it locked.
    """
    descriptor = _open(path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0))
    try:
        files.lock_file(descriptor, wait_s)
        yield descriptor
    finally:
        os.close(descriptor)


class FsyncError(OSError):
    """The bytes were written, and may not be on the disk."""


class Appended(msgspec.Struct, frozen=True):
    """What an append did. `flushed`: the path still names the file written; `record`: None when it cannot advance."""

    flushed: bool
    record: FileRecord | None
    length: int


def append(path: Path, descriptor: int, record: FileRecord, lines: Sequence[bytes]) -> Appended:
    """Append *lines* to the open file in one write, and fsync.

    *record* describes the file as it was read: up to `size`, of which `offset` bytes are whole lines. The rest is a
    torn line; where it is the beginning of one of *lines*, the append begins with the rest of that line.

    Raises:
        FsyncError: The bytes were written, but fsync failed.
        OSError: Writing failed. What was written is found by the next look at the file.
    """
    torn = b"".join(chunks(descriptor, record.offset, record.size))
    begun, rest = _completed(torn, lines)
    head = begun if begun is not None else b"\n" if torn or not record.newline else b""
    data = head + b"".join([line + b"\n" for line in rest])
    failpoints.reach("before append")
    written = files.write(descriptor, data)
    if written != len(data):
        raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written", str(path))
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    failpoints.reach("appended")
    try:
        files.fsync(descriptor)
    except OSError as error:
        raise FsyncError(error.errno, error.strerror, str(path)) from error
    failpoints.reach("append fsynced")
    status, named = os.fstat(descriptor), stat_of(path)
    begin = end - len(data)
    alone = head.startswith(b"\n") or _stands_before(descriptor, begin, torn)
    if not alone or named is None or (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino):
        return Appended(flushed=False, record=None, length=len(data))
    if begin != record.size or status.st_size != end or (torn and begun is None):
        # What somebody else has written, or left unended, has yet to be read: the next look begins there.
        return Appended(flushed=True, record=None, length=len(data))
    advanced = msgspec.structs.replace(
        record_of(status),
        offset=end,
        crc=zlib.crc32(data, zlib.crc32(torn, record.crc)),
        lines=record.lines + data.count(b"\n") - (not record.newline),
        rescan=record.rescan,
    )
    return Appended(flushed=True, record=advanced, length=len(data))


def _completed(torn: bytes, lines: Sequence[bytes]) -> tuple[bytes | None, Sequence[bytes]]:
    """The rest of the oldest of *lines* that begins with *torn*, and the lines that follow it.

    One that is not the first of them comes again in its place: the order decides between equal stamps.
    """
    for place, line in enumerate(lines if torn else ()):
        if line.startswith(torn):
            return line[len(torn) :] + b"\n", lines if place else lines[1:]
    return None, lines


def _stands_before(descriptor: int, begin: int, torn: bytes) -> bool:
    """Whether what stands before our bytes is still what the append was made for: whole lines and *torn*.

    Somebody who writes between the look and the append may leave a line without its newline; ours would be a part of
    it.
    """
    wanted = torn if begin == len(torn) else b"\n" + torn
    return begin >= len(torn) and os.pread(descriptor, len(wanted), begin - len(wanted)) == wanted
