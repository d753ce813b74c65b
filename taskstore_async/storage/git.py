"""What can be told of git by looking at its files: it is never run, and nothing of it is changed."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Git"]

_LOOK_S: Final = 1.0  #: seconds after which a repository that was not there may be
_HOLDING: Final = ("checkout:", "commit:", "commit (amend):", "commit (initial):")
_MERGE_NS: Final = 10_000_000_000  #: no merge driver takes longer
_LAST_BYTES: Final = 16_384  #: of the log of HEAD
_DONE: Final = re.compile(rb"> (\d+) [+-]\d{4}\t(.*)")


class Git:
    """The repository in whose working tree *path* lies, if it lies in one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder: Path | None = None
        self._looked_s = -_LOOK_S

    @property
    def folder(self) -> Path | None:
        """Where git keeps the index of the working tree; None outside of any."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            with suppress(OSError):  # nothing may fail because git's own files cannot be looked at
                self._folder = _folder_of(self._path)
        return self._folder

    @property
    def busy(self) -> bool | None:
        """Whether a git command is seen to hold the index; None outside of any repository."""
        folder = self.folder
        return None if folder is None else _is_there(folder / "index.lock")

    def may_be_merging(self) -> bool:
        """Whether a git command is under way that may overlook what is appended now.

        A merge holds the index now and then. It writes ORIG_HEAD first, unless that says already what it should,
        and moves HEAD last; one that leaves conflicts writes MERGE_HEAD last, when all files are there.
        """
        folder = self.folder
        if folder is None:
            return False
        begun_ns = _mtime_ns(folder / "ORIG_HEAD")
        ended_ns = max(_mtime_ns(folder / "logs" / "HEAD"), _mtime_ns(folder / "MERGE_HEAD"))
        merging = begun_ns > max(ended_ns, time.time_ns() - _MERGE_NS)
        return merging or bool(self.busy)

    def wrote(self, status: os.stat_result) -> bool:
        """Whether it was git that wrote the file with *status*: it holds its index now, or has written it since."""
        folder = self.folder
        return folder is not None and (bool(self.busy) or _mtime_ns(folder / "index") >= status.st_mtime_ns)

    def held_its_index(self, status: os.stat_result) -> bool:
        """Whether what wrote the file with *status* held the index from its look at the files on.

        A checkout does so. The log of HEAD has it, and a second is as near as that tells the time: where it has more
        since then than checkouts and commits, which write no files, or where a merge may have been under way, which
        begins with writing ORIG_HEAD and may fail without another word, nobody knows.
        """
        if self.folder is None or _mtime_ns(self.folder / "ORIG_HEAD") > status.st_mtime_ns - _MERGE_NS:
            return False
        since_s = status.st_mtime_ns // 1_000_000_000
        done = [what for at_s, what in _last_done(self.folder / "logs" / "HEAD") if at_s >= since_s]
        return any(what.startswith("checkout:") for what in done) and all(what.startswith(_HOLDING) for what in done)


def _folder_of(path: Path) -> Path | None:
    for above in (path, *path.parents):
        git = above / ".git"
        if git.is_dir():
            return git
        if git.is_file():  # a linked worktree or a submodule
            found = re.match(r"gitdir: (.+)", git.read_text(encoding="utf-8", errors="replace"))
            return above / found[1].strip() if found else None
    return None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # as of a repository that belongs to somebody else
        return False


def _mtime_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _last_done(log: Path) -> Iterator[tuple[int, str]]:
    """When, in seconds, and what git has done of late, by its own words."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        if (found := _DONE.search(line)) is not None:
            yield int(found[1]), found[2].decode(errors="replace")
