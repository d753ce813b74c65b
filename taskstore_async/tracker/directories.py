"""The directories and files beside the records: where they may be, how large they are, and removing them."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from taskstore_async.storage.directory import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CACHE", "RefusedPathError", "cache_entries", "remove", "size_of", "stored_path"]

CACHE: Final = ".cache"
_INDEX: Final = "store.db"  #: what every store has, whatever its directory is called
_AT: Final = os.open in os.supports_dir_fd and shutil.rmtree.avoids_symlink_attacks
_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


class RefusedPathError(ValueError):
    """A path is not one that may be removed; the message says why."""


def stored_path(root: Path, path: str | os.PathLike[str] | None) -> str | None:
    """*path* as records have it: relative to *root* when it is below it, else absolute.

    Args:
        root: Absolute.
        path: A relative one is below *root*.
    """
    if path is None:
        return None
    absolute = Path(os.path.abspath(root / path))  # noqa: PTH100 - reason: resolve() would follow links
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(absolute)


def size_of(path: Path) -> int:
    """How many bytes the files below *path* have; 0 when there is nothing. Links are not followed."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return sum(one.st_size for one in _files(path))


def _files(folder: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - reason: there may be very many
            except OSError:  # it has gone meanwhile
                continue
            if stat.S_ISREG(status.st_mode):
                yield status


def remove(root: Path, relative: str, *, dry_run: bool = False) -> int:
    """Remove a directory or a file below *root*; returns how many bytes that freed, 0 when there was nothing.

    Links inside the directory are removed, not followed. A file that has further hard links frees nothing.

    Args:
        root: Where the path begins; may itself be reached through links.
        relative: What to remove.
        dry_run: Check and count, and remove nothing.

    Raises:
        RefusedPathError: *relative* is absolute, has ``..``, is the root itself or in the store, or is or leads through
            a link; or the directory holds a store. Nothing was removed.
        OSError: It could not be removed, or not all of it.
    """
    parts = _checked_parts(root, relative)
    if not _AT:
        return _remove_by_path(root, parts, dry_run=dry_run)
    with ExitStack() as stack:
        descriptor = os.open(root, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        stack.callback(os.close, descriptor)
        for part in parts[:-1]:
            status = _lstat(part, descriptor)
            if status is None:
                return 0
            _refuse_link(status, relative, part)
            descriptor = os.open(part, _FOLDER, dir_fd=descriptor)
            stack.callback(os.close, descriptor)
        status = _lstat(parts[-1], descriptor)
        if status is None:
            return 0
        _refuse_link(status, relative, parts[-1])
        if not stat.S_ISDIR(status.st_mode):
            if not dry_run:
                os.unlink(parts[-1], dir_fd=descriptor)
            return _freed([status])
        folder = root.joinpath(*parts)
        _refuse_store(folder, relative)
        freed = _freed(_files(folder))
        if not dry_run:
            shutil.rmtree(parts[-1], dir_fd=descriptor)
        return freed


def _remove_by_path(root: Path, parts: tuple[str, ...], *, dry_run: bool) -> int:
    """The same where directories cannot be held open: somebody may swap one for a link between check and removal."""
    path = root
    for part in parts:
        path /= part
        if not os.path.lexists(path):
            return 0
        _refuse_link(path.lstat(), str(path), part)
    if not path.is_dir():
        freed = _freed([path.lstat()])
        if not dry_run:
            path.unlink()
        return freed
    _refuse_store(path, str(path))
    freed = _freed(_files(path))
    if not dry_run:
        shutil.rmtree(path)
    return freed


def _checked_parts(root: Path, relative: str) -> tuple[str, ...]:
    path = PurePosixPath(relative)
    if path.is_absolute() or Path(relative).is_absolute():
        raise RefusedPathError(f"{relative} is outside the root; remove it by hand")
    if ".." in path.parts:
        raise RefusedPathError(f"{relative} leads upwards; remove it by hand")
    if not path.parts:
        raise RefusedPathError("it is the root itself; remove it by hand")
    if NAME in path.parts or any((root / above / _INDEX).exists() for above in path.parents):
        raise RefusedPathError(f"{relative} is part of a store")
    return path.parts


def _lstat(name: str, descriptor: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _refuse_link(status: os.stat_result, relative: str, part: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise RefusedPathError(f"{part} in {relative} is a symbolic link; remove it by hand")


def _refuse_store(folder: Path, relative: str) -> None:
    for parent, names, files in os.walk(folder):
        if NAME in names or _INDEX in files:
            raise RefusedPathError(f"{relative} holds a store ({parent}); remove it by hand")


def _freed(files: Iterator[os.stat_result] | list[os.stat_result]) -> int:
    return sum(one.st_size for one in files if one.st_nlink <= 1)


def cache_entries(root: Path) -> list[tuple[str, str]]:
    """The task and the hash of every entry ``.cache/<task>/<hash>``, in order. Links are no entries."""
    found: list[tuple[str, str]] = []
    cache = root / CACHE
    for task in _folders(cache):
        found += [(task.name, entry.name) for entry in os.scandir(task.path) if not entry.is_symlink()]
    return sorted(found)


def _folders(path: Path) -> list[os.DirEntry[str]]:
    if path.is_symlink() or not path.is_dir():
        return []
    return [entry for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
