"""What runs in a process of its own, so that its memory and its start can be measured."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import sysconfig
import threading
import time
import zlib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks.floors import ROW, create_plain_tables, index_rows
from taskstore_async import Document, Store
from taskstore_async.bench.measure import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["crc_pass", "floor_command", "in_child", "peak_mb_of", "program", "run_program"]

_KB_PER_MB: Final = 1_024
_REPOSITORY: Final = Path(__file__).resolve().parent.parent


def in_child(task: str, *words: str | Path) -> Sample:
    """Run one of `TASKS` in a new process; what it printed, with the peak of its memory as ``peak_mb``."""
    command = [sys.executable, "-m", "benchmarks.child", task, *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=_REPOSITORY)
    return msgspec.json.decode(done.stdout, type=Sample)


def program(name: str) -> str:
    """Where an installed program is."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def run_program(command: Sequence[str], *, cwd: Path | None = None, codes: Sequence[int] = (0,)) -> Sample:
    """Run a program from start to end, its output dropped.

    Raises:
        RuntimeError: It ended with another code than those.
    """
    begun = time.perf_counter()
    # Compiled modules are kept, as they are where the program is installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    nowhere = subprocess.DEVNULL
    done = subprocess.run(command, check=False, stdout=nowhere, stderr=nowhere, cwd=cwd, env=environment)
    seconds = time.perf_counter() - begun
    if done.returncode not in codes:
        message = f"{' '.join(command)} ended with {done.returncode}"
        raise RuntimeError(message)
    return Sample(seconds)


def peak_mb_of(command: Sequence[str], *, cwd: Path | None = None) -> float:
    """The peak of a program's memory, from start to end.

    A process inherits the peak of the one that starts it, so a small one does.
    """
    watched = [sys.executable, "-I", "-S", "-c", _WATCHER, *command]
    return float(subprocess.run(watched, check=True, stdout=subprocess.PIPE, cwd=cwd).stdout) / _KB_PER_MB


_WATCHER: Final = """
import os, sys
out = os.dup(1)
nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=nothing)
os.write(out, b"%d" % os.wait4(process, 0)[2].ru_maxrss)
"""


def _own_peak_mb() -> float:
    """The peak of this process's memory; where the system does not tell, with that of the one that started it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KB_PER_MB
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / _KB_PER_MB


def floor_command(base: Path, ours: Path, theirs: Path) -> list[str]:
    """A program that reads and splits three files, finds the lines that a side changed, and decodes them."""
    return [sys.executable, "-c", _MERGE_FLOOR, str(base), str(ours), str(theirs)]


_MERGE_FLOOR: Final = """
import sys, msgspec
decode = msgspec.json.Decoder().decode
split = []
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        split.append(file.read().split(b"\\n"))
base = set(split[0])
sides = [set(side) for side in split[1:]]
for side in sides:
    [decode(line) for line in side - base if line]
    [decode(line) for line in base - side if line]
"""


# -- tasks --------------------------------------------------------------------------------------------------


def rebuild_floor(path: Path) -> None:
    """Decode, insert and index the journal of *path* as fast as Python can."""

    class Fields(msgspec.Struct, gc=False):
        id: str
        updated_at: int
        status: str
        priority: int
        owner: str

    decode = msgspec.json.Decoder(Fields).decode
    database = path / "floor.db"
    database.unlink(missing_ok=True)
    with closing(sqlite3.connect(database, isolation_level=None)) as db, (path / "jobs.jsonl").open("rb") as file:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        create_plain_tables(db, indexes=False)
        db.execute("BEGIN")
        while lines := file.readlines(1 << 19):
            rows: list[tuple[object, ...]] = []
            for line in lines:
                one = decode(line)
                rows.append((one.updated_at, 0, line[:-1], one.status, one.priority, one.owner, one.id))
            db.executemany(ROW, rows)
        index_rows(db)
        db.execute("COMMIT")
    database.unlink()


def rebuild_new(path: Path) -> None:
    """Open a store that has no index yet."""
    for beside in path.glob("store.db*"):
        beside.unlink()
    Store.open(path).close()


def rebuild_in_place(path: Path) -> dict[str, float]:
    """Rebuild the index while a reader is served; returns what it saw, and what the write-ahead log came to."""
    served, fewest, ended = 0, 1 << 60, threading.Event()

    def read() -> None:
        nonlocal served, fewest
        with Store.open(path) as store:
            while not ended.is_set():
                fewest = min(fewest, store.count("jobs"))
                served += 1
                ended.wait(0.1)

    reader = threading.Thread(target=read)
    with Store.open(path) as store:
        reader.start()
        begun = time.perf_counter()
        store.sync(rebuild=True)
        seconds = time.perf_counter() - begun
        grown = _wal_mb(path)
        ended.set()
        reader.join()
        for number in range(40):
            store.put(Document("notes", {"id": f"n{number}"}))
        left = _wal_mb(path)
    return {"seconds": seconds, "served": served, "fewest": fewest, "wal_mb": grown, "wal_left_mb": left}


def _wal_mb(path: Path) -> float:
    try:
        return (path / "store.db-wal").stat().st_size / (1 << 20)
    except FileNotFoundError:
        return 0.0


def crc_pass(path: Path) -> None:
    """One CRC over a file."""
    crc = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)


TASKS: Final[dict[str, Callable[..., dict[str, float] | None]]] = {
    "rebuild_floor": rebuild_floor,
    "rebuild_new": rebuild_new,
    "rebuild_in_place": rebuild_in_place,
}


def main(argv: Sequence[str]) -> None:
    """Run one task, and print its sample."""
    task, *words = argv
    begun = time.perf_counter()
    counts = TASKS[task](*map(Path, words)) or {}
    seconds = counts.pop("seconds", time.perf_counter() - begun)
    sys.stdout.buffer.write(msgspec.json.encode(Sample(seconds, {**counts, "peak_mb": _own_peak_mb()})))


if __name__ == "__main__":
    main(sys.argv[1:])
