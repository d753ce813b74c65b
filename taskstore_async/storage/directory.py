"""The directory of a store: where it is, and the small files that belong to it."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskstore_async.core.declaration import TYPES
from taskstore_async.core.names import is_collection
from taskstore_async.errors import NoStoreError, StoreReadOnlyError, StoreVersionError
from taskstore_async.storage import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = path / "store.db"
        self.quarantine = path / "quarantine"

    @classmethod
    def at(cls, path: str | os.PathLike[str], *, create: bool) -> Directory:
        """The store at *path*: the directory that holds ``.taskstore/``, or a store directory itself.

        A store directory is told by its name or by its ``.version``.

        Args:
            path: Where to look.
            create: Make what is missing.

        Raises:
            NoStoreError: There is none, and none was to be made.
            StoreVersionError: It has a newer format than this program knows.
            StoreReadOnlyError: It was to be made, and cannot be.
        """
        given = Path(os.path.abspath(path))  # noqa: PTH100 - reason: resolve() would follow the person's own links
        itself = given.name == NAME or (given / ".version").is_file()
        directory = cls(given if itself else given / NAME)
        if not directory.path.is_dir():
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
        """The journal file of *collection*."""
        return self.path / f"{collection}{_SUFFIX}"

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

    def git_is_busy(self) -> bool:
        """Whether a git command holds the index of the repository around the store."""
        return any(lock.exists() for lock in self._index_locks())

    def _index_locks(self) -> Iterator[Path]:
        for folder in (self.path, *self.path.parents):
            git = folder / ".git"
            if git.is_dir():
                yield git / "index.lock"
                return
            if git.is_file():  # a linked worktree or a submodule
                found = re.match(r"gitdir: (.+)", git.read_text(encoding="utf-8", errors="replace"))
                if found:
                    yield (folder / found[1].strip()) / "index.lock"
                return

    def _make(self) -> None:
        new = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.complete()
            for folder in new:
                files.fsync_directory(folder.parent)
        except OSError as error:
            raise StoreReadOnlyError(str(self.path), error.strerror or str(error)) from error

    def _check_version(self) -> None:
        version = self.path / ".version"
        try:
            text: str | None = version.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = None
        if text is None or not text.strip():  # blank: whoever made it was killed before it was written
            if self.writable and (text is not None or not _made(version, [str(FORMAT)])):
                version.write_text(f"{FORMAT}\n", encoding="utf-8")
            return
        found = re.match(r"\s*v?(\d+)", text)
        if found is None or int(found[1]) > FORMAT:
            raise StoreVersionError(str(self.path), found=text.strip()[:40], known=FORMAT)


def _complete(path: Path, wanted: Iterable[str]) -> None:
    """Add the lines that a file lacks, without touching those that it has."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    there = {line.strip() for line in text.splitlines()}
    missing = [line for line in wanted if line not in there]
    if missing and not text and _made(path, missing):
        return
    if missing:
        glue = "" if not text or text.endswith("\n") else "\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(glue + "".join(line + "\n" for line in missing))


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
