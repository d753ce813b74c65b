"""Putting a rewritten journal in the place of the old one, so that nothing is lost that others append meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from taskstore_async.storage import failpoints, files, journal
from taskstore_async.storage.clock import now_ms
from taskstore_async.storage.journal import chunks, crc_of_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from taskstore_async.storage.directory import Directory

__all__ = ["TRIES", "clear_temporaries", "is_still", "quarantine", "replace"]

TRIES: Final = 5  #: so often a file may be replaced by somebody else while it is rewritten


def replace(path: Path, old: int, pieces: Iterable[bytes], *, size: int, crc: int) -> int | None:
    """Write *pieces* to a new file and put it in the place of the journal *path*, under store.lock.

    Args:
        path: The journal.
        old: A descriptor of it, as `open_to_append` gives it.
        pieces: What comes in the place of its first *size* bytes; what it has gained behind them is carried over.
        size: How many of its bytes were read.
        crc: The CRC-32 of these bytes.

    Returns:
        The new file's size; None when the name stands for another file by now, or for other bytes. Then nothing was
        replaced: read it again.

    Raises:
        OSError: It could not be written; the journal is as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        written, new_size = _write(temporary, pieces, old, size)
        if not is_still(old, path, size=size, crc=crc):
            return None
        failpoints.reach("rewritten")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    failpoints.reach("replaced")
    files.fsync_directory(path.parent)
    _carry_late(old, path, size + new_size - written)
    return new_size


def clear_temporaries(path: Path) -> None:
    """Remove what somebody left who was killed while rewriting the journal; under store.lock."""
    for left in path.parent.glob(f"{path.name}.*.tmp"):
        left.unlink(missing_ok=True)


def is_still(descriptor: int, path: Path, *, size: int, crc: int) -> bool:
    """Whether the name still stands for the open file, and that for the bytes that were read."""
    named, status = journal.stat_of(path), os.fstat(descriptor)
    same = named is not None and (named.st_dev, named.st_ino) == (status.st_dev, status.st_ino)
    return same and crc_of_prefix(descriptor, size) == crc


def quarantine(directory: Directory, name: str, lines: Iterable[bytes]) -> None:
    """Keep lines that leave a journal in a file of their own.

    Raises:
        OSError: It cannot be written, or the folder for it is a link.
    """
    directory.quarantine.mkdir(exist_ok=True)
    if directory.quarantine.is_symlink():
        raise OSError(errno.ELOOP, "it is a link", str(directory.quarantine))
    path = directory.quarantine / f"{name}-{now_ms()}.jsonl"
    with path.open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))
        file.flush()
        files.fsync(file.fileno())
    files.fsync_directory(directory.quarantine)
    files.fsync_directory(directory.path)
    failpoints.reach("quarantined")


def _write(path: Path, pieces: Iterable[bytes], old: int, size: int) -> tuple[int, int]:
    """Write *pieces*, and what the old file has gained behind *size*; returns the size before and after that."""
    with path.open("wb") as file:
        path.chmod(stat.S_IMODE(os.fstat(old).st_mode))
        file.writelines(pieces)
        written = file.tell()
        for chunk in chunks(old, size, os.fstat(old).st_size):
            file.write(chunk)
        file.flush()
        files.fsync(file.fileno())
        return written, file.tell()


def _carry_late(old: int, path: Path, size: int) -> None:
    """Append what the old file gained behind *size*: between the last look at it and its end."""
    late = b"".join(chunks(old, size, os.fstat(old).st_size))
    if late:
        with path.open("ab") as file:
            file.write(late)
            file.flush()
            files.fsync(file.fileno())
