"""The library that fails calls and writes down what reaches the disk; for processes that are started with it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Action", "Call", "Shim", "environment", "why_not"]

SOURCE: Final = Path(__file__).with_name("disk_shim.c")
_VARIABLE: Final = "LD_PRELOAD"


class Call(IntFlag):
    """What can fail; as in the C file."""

    WRITE = 1
    FSYNC = 2
    OPEN = 4
    RENAME = 8
    UNLINK = 16
    TRUNCATE = 32
    READ = 64
    LINK = 128
    CREATE = 256  #: only recorded
    MARK = 512  #: only recorded


class Action(IntEnum):
    """How it fails."""

    REFUSE = 1
    SHORTEN = 2  #: half is written
    LIE = 3  #: nothing is done, and success is told


def why_not() -> str | None:
    """Why there can be no shim here; None when there can."""
    if sys.platform != "linux":
        return "the shim is for Linux"
    if shutil.which("cc") is None:
        return "there is no C compiler to build the shim with"
    return None


def built() -> Path:
    """The library, compiled when its source is new."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"taskstore-shim-{os.getuid()}-{digest}.so"
    if not library.exists():
        made = library.with_suffix(f".{os.getpid()}")
        command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(made), str(SOURCE), "-ldl", "-lpthread"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        made.replace(library)
    return library


def environment() -> Mapping[str, str]:
    """The environment of a process that has the shim."""
    return {**os.environ, _VARIABLE: str(built())}


class Shim:
    """The shim of this process, which was started with `environment`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ[_VARIABLE])

    def arm(self, calls: Call, part: str, *, nth: int, count: int, action: Action, number: int = 0) -> None:
        """Have calls fail.

        Args:
            calls: Which.
            part: Of the path.
            nth: The first of them that fails, from 1.
            count: How many fail from then on.
            action: How.
            number: The errno, when it is refused.
        """
        self._library.shim_arm(int(calls), part.encode(), nth, count, int(action), number)

    def disarm(self) -> int:
        """Let everything pass; returns how many calls there were that could have failed."""
        return int(self._library.shim_disarm())

    def record(self, descriptor: int, part: str) -> None:
        """Write down what is done to files whose path has *part* in it; -1: nothing any more."""
        self._library.shim_record(descriptor, part.encode())

    def mark(self, number: int) -> None:
        """Write down that something has happened."""
        self._library.shim_mark(ctypes.c_uint64(number))
