"""Writing records out, to files that are not the store's."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from taskstore_async.errors import DestinationError
from taskstore_async.storage import files

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["check_outside", "write_file"]


def write_file(path: Path, pieces: Iterable[bytes], *, store: Path | None = None) -> int:
    """Write *pieces* to the file *path*, in the place of one that is there; whole, or not at all.

    Args:
        path: Where. What is no regular file, such as a pipe, is written to as it is.
        pieces: The content.
        store: A store directory that it must not be in.

    Returns:
        How many bytes.

    Raises:
        DestinationError: It would be in the store directory.
        OSError: It cannot be written; what was there is as it was.
    """
    if store is not None:
        check_outside(path, store=store)
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            return sum(map(file.write, pieces))
    path = Path(os.path.realpath(path))  # a link stays one
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            written = sum(map(file.write, pieces))
            file.flush()
            files.fsync(file.fileno())
        if path.exists():
            temporary.chmod(path.stat().st_mode)
        temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # nobody knows the other name
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    files.fsync_directory(path.parent)
    return written


def check_outside(path: Path, *, store: Path) -> None:
    """See that *path* is no part of the store directory, whose files are written by the store alone.

    Raises:
        DestinationError: It is.
    """
    inside, real = os.path.realpath(path), os.path.realpath(store)
    if inside == real or inside.startswith(real + os.sep):
        raise DestinationError(str(path), "is in the store's own directory", "name another place")
