"""Small file systems in a file, whose power can be cut: for a process that may mount, in a mount namespace of its own.

The cut is the shutdown ioctl: from one moment on nothing reaches the file any more, whatever was written before and not
yet fsynced is forgotten, and the next mount replays the file system's own log. Nothing has to be cleaned up after a
process that was killed: with the last process of the namespace the kernel takes mount and loop device away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__ = [
    "FILE_SYSTEMS",
    "LOG_FLUSHED",
    "LOG_LOST",
    "Image",
    "NoCutsHereError",
    "image",
    "own_namespace",
    "why_not",
]

LOG_FLUSHED: Final = 1  #: what was done to names is on the disk, what was written to files is not
LOG_LOST: Final = 2  #: neither is
_SHUTDOWN: Final = 0x8004587D  #: _IOR('X', 125, __u32), the same number on both


class FileSystem(NamedTuple):
    """How one is made.

    Attributes:
        size_mib: As small as mkfs allows, or as the work needs; the file is sparse.
        mkfs: The command, to which the file is added.
        options: Ways to mount it, among which to choose.
    """

    size_mib: int
    mkfs: Sequence[str]
    options: Sequence[str]


FILE_SYSTEMS: Final = {
    # noauto_da_alloc: a file that was renamed over another is written out only when somebody asks for it.
    "ext4": FileSystem(192, ("mkfs.ext4", "-q", "-F"), ("rw", "rw,noauto_da_alloc")),
    "xfs": FileSystem(320, ("mkfs.xfs", "-q", "-f"), ("rw",)),
}


class NoCutsHereError(Exception):
    """This machine does not let us: the message says what it refused."""


def why_not(name: str) -> str | None:
    """Why there can be no such image here; None when it is worth a try."""
    if sys.platform != "linux":
        return "loop devices and the shutdown ioctl are Linux's"
    if os.geteuid() != 0:
        return "only root may mount an image"
    if not Path("/dev/loop-control").exists():
        return "there is no /dev/loop-control, so no loop device"
    needed = (FILE_SYSTEMS[name].mkfs[0], "mount", "umount", "unshare")
    missing = [command for command in needed if shutil.which(command) is None]
    if missing:
        return f"{missing[0]} is not installed"
    said = _refusal()
    return f"no mount namespace of its own: {said}" if said else None


@cache
def _refusal() -> str:
    return _said(*own_namespace(["true"]))


def own_namespace(command: Sequence[str]) -> list[str]:
    """The command that runs *command* where no mount of it is seen from without, or outlives it."""
    return ["unshare", "--mount", "--propagation", "private", "--", *command]


class Image:
    """One file system in a file, mounted between `mount` and `cut`, or `unmount`.

    Args:
        name: Which file system.
        folder: Where the file and the place to mount it are made.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.root = folder / "root"
        self.options = FILE_SYSTEMS[name].options
        self._name = name
        self._file = folder / f"{name}.img"
        self._mounted = False
        self.root.mkdir()
        with self._file.open("wb") as file:
            file.truncate(FILE_SYSTEMS[name].size_mib << 20)
        _run(*FILE_SYSTEMS[name].mkfs, str(self._file))

    def mount(self, options: str = "rw") -> None:
        """Mount it; the kernel replays what its log has.

        Raises:
            NoCutsHereError: mount said no.
        """
        _run("mount", "-t", self._name, "-o", f"loop,{options}", str(self._file), str(self.root))
        self._mounted = True

    def shut_down(self, how: int) -> None:
        """Cut the power: `LOG_LOST` or `LOG_FLUSHED`. The rest is to end who uses it, and to `unmount`.

        Raises:
            NoCutsHereError: The ioctl was refused.
        """
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, how.to_bytes(4, sys.byteorder))
        except OSError as error:
            raise NoCutsHereError(f"{self._name} refused the shutdown ioctl: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Take it away, now or, while somebody still uses it, as soon as nobody does."""
        if self._mounted and _said("umount", str(self.root)):
            _run("umount", "--lazy", str(self.root))
        self._mounted = False

    def delete(self) -> None:
        """Unmount it and delete the file."""
        self.unmount()
        self._file.unlink()
        self.root.rmdir()


@contextmanager
def image(name: str, folder: Path) -> Generator[Image]:
    """An image for the length of a block; whatever happens, it is gone after."""
    made = Image(name, folder)
    try:
        yield made
    finally:
        made.delete()


def _said(*command: str) -> str:
    """What a command that failed has said; nothing when it did not."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return (done.stderr.strip() or f"exit {done.returncode}") if done.returncode else ""


def _run(*command: str) -> None:
    if said := _said(*command):
        raise NoCutsHereError(f"{command[0]}: {said}")
