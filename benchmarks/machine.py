"""What a report says about where it was made: nothing that tells whose machine it is."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from benchmarks.samples import folder

__all__ = ["describe"]

_PACKAGES: Final = ("aiosqlite", "anyio", "msgspec", "trio", "uvloop")


def describe() -> dict[str, str]:
    """Python, SQLite, processors, the disk's fsync, and the packages that count."""
    found = {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "SQLite": sqlite3.sqlite_version,
        "append and fdatasync": f"{_fsync_us():.0f} µs",
    }
    if hasattr(os, "getloadavg"):
        found["load average"] = f"{os.getloadavg()[2]:.1f} over 15 minutes"
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _fsync_us() -> float:
    took: list[float] = []
    with folder() as path:
        descriptor = os.open(path / "x", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for _ in range(50):
            begun = time.perf_counter()
            os.write(descriptor, b"x" * 260)
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - begun)
        os.close(descriptor)
    return statistics.median(took) * 1e6
