"""Copies of a store: what it is made of, and nothing that can be made anew; and a store made of such a copy."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.content import SUFFIX
from taskstore_async.errors import DestinationError, WriteFailedError
from taskstore_async.storage import files
from taskstore_async.storage.clock import now_ms
from taskstore_async.storage.directory import Directory
from taskstore_async.storage.engine import Engine
from taskstore_async.storage.exporting import check_outside, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from taskstore_async.storage.index import Index

__all__ = ["BackupReport", "FileChange", "RestoreReport", "back_up", "restore"]

_SMALL: Final = (".version", ".gitignore", ".gitattributes")
_CHUNK: Final = 1 << 20
_TMP: Final = ".tmp"
_WAIT_S: Final = 10.0  #: for whoever holds the lock of a store that is the source of a restore


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds.

    Attributes:
        path: Where it is: a store directory itself.
        files: The files, as paths below it.
        bytes: Their size together.
        passed_over: What is no regular file, such as links, and is not in it.
        kept: Records of collections whose journal cannot be read, as the index has them: for import.
    """

    path: str
    files: tuple[str, ...]
    bytes: int
    passed_over: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    dry_run: bool = False


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore does to one file: new, replaced, removed, or same."""

    file: str
    what: str
    bytes: int  #: of the file that counts then; of the removed one, its own


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore did.

    Attributes:
        path: The store directory.
        source: The backup.
        files: What became of each file.
        set_aside: Where the former files are, as a store that can be restored in its turn; None when there were none.
    """

    path: str
    source: str
    files: tuple[FileChange, ...]
    set_aside: str | None = None
    dry_run: bool = False


def back_up(
    engine: Engine, destination: Path, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None
) -> BackupReport:
    """Copy the store; see `Store.backup`."""
    destination = Path(os.path.abspath(destination))  # noqa: PTH100 - reason: resolve() would follow the person's own links
    check_outside(destination, store=engine.directory.path)
    if os.path.lexists(destination) and (not destination.is_dir() or any(destination.iterdir())):
        raise DestinationError(str(destination), "is there already", "name a directory that is not")
    if not engine.directory.writable:  # nothing can wait in it, and nobody with our rights writes
        return _copied(engine.directory, destination, {}, dry_run=dry_run, progress=progress)
    engine.sync()
    with engine.session() as session:
        session.flusher.all()
        return _copied(engine.directory, destination, _kept(session.index), dry_run=dry_run, progress=progress)


def _kept(index: Index) -> dict[str, list[bytes]]:
    """The live lines that collections closed to writing have in the index alone, and where they go in a copy."""
    return {
        f"quarantine/{name}-kept.jsonl": [
            line for (line,) in index.db.execute(f"SELECT line FROM {one.rows} WHERE dead = 0 ORDER BY id")
        ]
        for name, one in index.collections.items()
        if one.closed
    }


def _copied(
    directory: Directory,
    destination: Path,
    kept: Mapping[str, Sequence[bytes]],
    *,
    dry_run: bool,
    progress: Callable[[int, int], None] | None,
) -> BackupReport:
    names, passed_over = _truth(directory)
    kept_bytes = sum(len(line) + 1 for lines in kept.values() for line in lines)
    if dry_run:
        size = sum((directory.path / name).stat().st_size for name in names)
    else:
        new = [folder for folder in destination.parents if not folder.exists()]
        temporary = destination.with_name(f".{destination.name}.{os.getpid()}{_TMP}")
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            size = _copy(directory.path, temporary, names, progress=progress)
            _write_kept(temporary, kept)
            temporary.replace(destination)
            for folder in (destination, *new):
                files.fsync_directory(folder.parent)
        except OSError as error:
            raise WriteFailedError(str(destination), error.strerror or str(error)) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return BackupReport(
        path=str(destination),
        files=(*names, *kept),
        bytes=size + kept_bytes,
        passed_over=tuple(passed_over),
        kept=tuple(kept),
        dry_run=dry_run,
    )


def _truth(directory: Directory) -> tuple[list[str], list[str]]:
    """The files that a store is made of, as paths below its directory; and what is in their place but no such file."""
    top = [entry.name for entry in os.scandir(directory.path) if entry.name.endswith(".jsonl") or entry.name in _SMALL]
    served, _ = directory.journals()
    below = [f"{name}/{file}" for name in served for file in _names_in(directory.path / name, SUFFIX)]
    below += [f"quarantine/{file}" for file in _names_in(directory.quarantine, "")]
    found: list[str] = []
    passed_over: list[str] = []
    for name in (*sorted(top), *below):
        status = (directory.path / name).lstat()
        (found if stat.S_ISREG(status.st_mode) else passed_over).append(name)
    return found, passed_over


def _names_in(folder: Path, suffix: str) -> Iterator[str]:
    """The names of files in a folder that is one itself."""
    if folder.is_dir() and not folder.is_symlink():
        entries = (entry for entry in os.scandir(folder) if entry.name.endswith(suffix))
        yield from sorted(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))


def _copy(source: Path, target: Path, names: Iterable[str], *, progress: Callable[[int, int], None] | None) -> int:
    """Copy files, fsynced, their folders too; returns how many bytes."""
    target.mkdir()
    names = list(names)
    size = 0
    for number, name in enumerate(names, 1):
        path = target / name
        path.parent.mkdir(exist_ok=True)
        size += _copy_file(source / name, path)
        if progress is not None:
            progress(number, len(names))
    for folder in {target, *((target / name).parent for name in names)}:
        files.fsync_directory(folder)
    return size


def _write_kept(target: Path, kept: Mapping[str, Sequence[bytes]]) -> None:
    for name, lines in kept.items():
        path = target / name
        path.parent.mkdir(exist_ok=True)
        write_file(path, (line + b"\n" for line in lines))


def _copy_file(source: Path, target: Path) -> int:
    descriptor = files.open_regular(source, os.O_RDONLY)
    with open(descriptor, "rb") as old, target.open("xb") as new:  # noqa: PTH123 - reason: a descriptor
        shutil.copyfileobj(old, new, _CHUNK)
        new.flush()
        files.fsync(new.fileno())
        return new.tell()


def restore(engine: Engine, source: str | os.PathLike[str], *, replace: bool, dry_run: bool = False) -> RestoreReport:
    """Make the store what a backup is; see `Store.restore`."""
    backup = Directory.at(source, create=False)
    directory = engine.directory
    if os.path.realpath(backup.path) == os.path.realpath(directory.path):
        raise DestinationError(str(directory.path), "is the backup itself", "name the store with --store")
    if backup.index.exists() and backup.writable:  # a store in use: what waits in it belongs to it
        with closing(Engine(backup, config=engine.config, deadline_s=_WAIT_S)) as other:
            other.sync()
    engine.sync()
    with engine.session() as session:
        session.flusher.all()
        changes = list(_changes(backup, directory))
        losing = [one.file for one in changes if one.what in {"replaced", "removed"} and one.file not in _SMALL]
        if losing and not replace and not dry_run:
            what = f"has records of its own ({', '.join(losing[:3])}{', …' if len(losing) > 3 else ''})"  # noqa: PLR2004 - reason: that many fit a line
            raise DestinationError(str(directory.path), what, "restore elsewhere, or in their place with --replace")
        aside = directory.quarantine / f"before-restore-{now_ms()}" if losing else None
        if not dry_run:
            try:
                if aside is not None:
                    _set_aside(directory, aside, _kept(session.index))
                _place(backup, directory, changes)
            except OSError as error:
                where = str(error.filename or directory.path)
                raise WriteFailedError(where, error.strerror or str(error)) from error
    if not dry_run:
        engine.sync(rebuild=True)
        declared = engine.reader.collections.values()
        directory.keep_local(one.name for one in declared if one.declaration.local)  # git is to ignore them here too
    return RestoreReport(
        path=str(directory.path),
        source=str(backup.path),
        files=tuple(changes),
        set_aside=None if aside is None else str(aside),
        dry_run=dry_run,
    )


def _changes(backup: Directory, directory: Directory) -> Iterator[FileChange]:
    wanted, _ = _truth(backup)
    there, _ = _truth(directory)
    for name in wanted:
        if name in {".gitignore", ".gitattributes"} and name in there:
            continue  # the person's own lines in them are no part of what is restored
        path = backup.path / name
        same = name in there and path.read_bytes() == (directory.path / name).read_bytes()
        what = "same" if same else "replaced" if name in there else "new"
        yield FileChange(file=name, what=what, bytes=path.stat().st_size)
    for name in there:
        if name not in wanted and name not in _SMALL and not name.startswith("quarantine/"):
            yield FileChange(file=name, what="removed", bytes=(directory.path / name).stat().st_size)


def _set_aside(directory: Directory, aside: Path, kept: Mapping[str, Sequence[bytes]]) -> None:
    """Copy what is there to *aside*, so that a restore can be undone by another."""
    _make_folder(aside.parent)
    former, _ = _truth(directory)
    _copy(directory.path, aside, [name for name in former if not name.startswith("quarantine/")], progress=None)
    _write_kept(aside, kept)
    files.fsync_directory(aside.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder of the store, unless there is one; a link in its place could lead anywhere."""
    folder.mkdir(exist_ok=True)
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "it is a link", str(folder))


def _place(backup: Directory, directory: Directory, changes: Iterable[FileChange]) -> None:
    """Write all new files beside the former ones, and only then give them their names."""
    ready: list[tuple[Path, Path]] = []
    try:
        for one in changes:
            path = directory.path / one.file
            if one.what in {"new", "replaced"}:
                _make_folder(path.parent)
                temporary = path.with_name(f"{path.name}.{os.getpid()}{_TMP}")
                temporary.unlink(missing_ok=True)
                ready.append((temporary, path))
                _copy_file(backup.path / one.file, temporary)
        for temporary, path in ready:
            temporary.replace(path)
        for one in changes:
            if one.what == "removed":
                (directory.path / one.file).unlink()
        for folder in {directory.path, *((directory.path / one.file).parent for one in changes)}:
            files.fsync_directory(folder)
    finally:
        for temporary, _ in ready:
            temporary.unlink(missing_ok=True)
