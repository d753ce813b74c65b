"""The directory of a store: where it is, and the small files that belong to it."""

from __future__ import annotations

import errno
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskstore_async.core.declaration import TYPES
from taskstore_async.core.names import check_collection, is_collection
from taskstore_async.errors import (
    NoStoreError,
    ReadFailedError,
    StoreReadOnlyError,
    StoreVersionError,
    TaskStoreError,
    WriteFailedError,
)
from taskstore_async.storage import files
from taskstore_async.storage.git import Git

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FORMAT", "NAME", "Directory"]

NAME: Final = ".taskstore"
FORMAT: Final = 1
_SUFFIX: Final = ".jsonl"
_IGNORED: Final = ("store.db", "store.db-*", "store.db.*", "store.lock", "merges.log", "quarantine/", "*.tmp")
_ATTRIBUTES: Final = ("*.jsonl -text merge=tstore",)


class Directory:
    """The files of one store.

    Attributes:
        path: The store directory itself, absolute.
        git: The git repository around it, if there is one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = path / "store.db"
        self.quarantine = path / "quarantine"
        self.git = Git(path)
        self._journals: dict[str, Path] = {}  #: made paths: every flush asks for some

    @classmethod
    def at(cls, path: str | os.PathLike[str], *, create: bool) -> Directory:
        """The store at *path*: the directory that holds ``.taskstore/``, or a store directory itself.

        A store directory is told by its name or by its ``.version``.

        Args:
            path: Where to look.
            create: Make what is missing.

        Raises:
            NoStoreError: There is none, and none was to be made; or there is a link to one, or a file in its place.
            StoreVersionError: It has a newer format than this program knows.
            StoreReadOnlyError: It was to be made, and cannot be.
            ReadFailedError, WriteFailedError: The disk refused something.
        """
        given = Path(os.path.abspath(path))  # noqa: PTH100 - reason: resolve() would follow the person's own links
        itself = given.name == NAME or (given / ".version").is_file()
        directory = cls(given if itself else given / NAME)
        if directory.path.name == NAME and directory.path.is_symlink():
            # A clone may bring it, and it leads wherever its author liked.
            target = os.path.realpath(directory.path)
            raise NoStoreError(str(directory.path), f"it is a link; if it is meant, name what it leads to: {target}")
        if not directory.path.is_dir():
            if (file := directory._in_the_way()) is not None:
                raise NoStoreError(str(directory.path), f"{file} is a file, and a store is a directory; name another")
            if not create:
                raise NoStoreError(str(directory.path))
            directory._make()
        directory._check_version()
        return directory

    @classmethod
    def above(cls, start: Path) -> Directory | None:
        """The store that *start* or the nearest directory above it holds; None when there is none."""
        for folder in (start, *start.parents):
            if folder.name == NAME and folder.is_dir():
                return cls(folder)
            if (folder / NAME).is_dir():
                return cls(folder / NAME)
        return None

    @property
    def writable(self) -> bool:
        """Whether this process may make files here."""
        return os.access(self.path, os.W_OK | os.X_OK)

    def journal(self, collection: str) -> Path:
        """The journal file of *collection*.

        Raises:
            InvalidNameError: It is no name of one, and could lead out of the directory.
        """
        found = self._journals.get(collection)
        if found is None:
            if collection != TYPES:
                check_collection(collection)
            found = self._journals[collection] = self.path / f"{collection}{_SUFFIX}"
        return found

    def journals(self) -> tuple[list[str], list[str]]:
        """The collections that have a journal, in order; and the names of ``.jsonl`` files that are none."""
        names = sorted(entry.name for entry in os.scandir(self.path) if entry.name.endswith(_SUFFIX))
        stems = [name.removesuffix(_SUFFIX) for name in names]
        served = [stem for stem in stems if stem != TYPES and is_collection(stem)]
        strays = [stem + _SUFFIX for stem in stems if stem != TYPES and not is_collection(stem)]
        return served, strays

    def keep_local(self, collections: Iterable[str]) -> None:
        """Keep the journals of *collections* out of git."""
        _complete(self.path / ".gitignore", [f"{name}{_SUFFIX}" for name in collections])

    def complete(self) -> None:
        """Add what ``.gitignore`` and ``.gitattributes`` must say; what they have stays."""
        _complete(self.path / ".gitignore", _IGNORED)
        _complete(self.path / ".gitattributes", _ATTRIBUTES)

    def _in_the_way(self) -> Path | None:
        """What is no directory where the store, or one above it, would have to be; None when nothing is."""
        there = next((one for one in (self.path, *self.path.parents) if os.path.lexists(one)), None)
        return None if there is None or there.is_dir() else there

    def _make(self) -> None:
        new = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.complete()
            for folder in new:
                files.fsync_directory(folder.parent)
        except OSError as error:
            raise _explained(self.path, error) from error

    def _check_version(self) -> None:
        version = self.path / ".version"
        try:
            text = _text_of(version)
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno in _NO_FILE:
                raise StoreVersionError(str(self.path), found=reason, known=FORMAT) from error
            raise ReadFailedError(str(version), reason) from error
        if text is None or not text.strip():  # blank: whoever made it was killed before it was written
            try:
                if self.writable and (text is not None or not _made(version, [str(FORMAT)])):
                    version.write_text(f"{FORMAT}\n", encoding="utf-8")
            except OSError as error:
                raise _explained(version, error) from error
            return
        found = re.match(r"\s*v?(\d{1,9})(?!\d)", text)  # int() takes no more than 4,300 digits
        if found is None or int(found[1]) > FORMAT:
            raise StoreVersionError(str(self.path), found=text.strip()[:40], known=FORMAT)


def _complete(path: Path, wanted: Iterable[str]) -> None:
    """Add the lines that a file lacks, without touching those that it has; what is no file is left alone."""
    try:
        text = _text_of(path) or ""
    except OSError as error:
        if error.errno in _NO_FILE:
            return
        raise
    there = {line.strip() for line in text.splitlines()}
    missing = [line for line in wanted if line not in there]
    if missing and not text and _made(path, missing):
        return
    if missing:
        glue = "" if not text or text.endswith("\n") else "\n"
        descriptor = files.open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with open(descriptor, "a", encoding="utf-8") as file:  # noqa: PTH123 - reason: a descriptor
            file.write(glue + "".join(line + "\n" for line in missing))


def _explained(path: Path, error: OSError) -> TaskStoreError:
    reason = error.strerror or str(error)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR}:
        return StoreReadOnlyError(str(path), reason)
    return WriteFailedError(str(path), reason)


_NO_FILE: Final = {errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO}
_TEXT_BYTES: Final = 1 << 20


def _text_of(path: Path) -> str | None:
    """The text of a small file; None when it is absent.

    Raises:
        OSError: It cannot be read, or is no regular file: a link that a clone brings may lead to one without end.
    """
    try:
        descriptor = files.open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - reason: a descriptor
        return file.read(_TEXT_BYTES).decode(errors="replace")


def _made(path: Path, lines: Iterable[str]) -> bool:
    """Make a file with *lines* in one go; False when somebody else has made it meanwhile."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return path.stat().st_size > 0
    except OSError:  # a file system without links
        return False
    finally:
        temporary.unlink()
    return True
