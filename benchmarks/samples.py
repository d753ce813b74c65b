"""What the benchmarks write: records of about 260 bytes with three indexed fields, and files full of them."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

import anyio
import msgspec

from taskstore_async import Indexed, Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

T = TypeVar("T")

LOOPS = ("asyncio", "uvloop", "trio")
STAMP = 1_764_000_000_000
BODY = "Look at what the last run left behind, repeat the step that failed, and say what was different."


class Job(Record):
    """What agents share."""

    collection: ClassVar[str] = "jobs"

    title: str
    status: Annotated[str, Indexed]
    priority: Annotated[int, Indexed]
    owner: Annotated[str, Indexed]
    body: str = BODY


def job(number: int, prefix: str = "job") -> Job:
    """The record number *number*; one in ten is ``active``, one in a hundred ``blocked``."""
    status = "blocked" if number % 100 == 7 else "active" if number % 10 == 3 else "done"
    return Job(
        id=f"{prefix}-{number:07}",
        title=f"Part {number} of the work",
        status=status,
        priority=number % 1_000,
        owner=f"agent-{number % 64}",
    )


def jobs(count: int, prefix: str = "job") -> list[Job]:
    """Records 0 to *count* - 1."""
    return [job(number, prefix) for number in range(count)]


def stored(record: Job, stamp_ms: int = STAMP) -> Job:
    """The record as a store would have written it."""
    return msgspec.structs.replace(record, created_at=stamp_ms, updated_at=stamp_ms)


def lines(count: int, *, versions: int = 1) -> Iterator[bytes]:
    """The lines of a journal with *count* records, each as often as there are *versions*, newlines with them."""
    encode = msgspec.json.Encoder().encode
    for version in range(versions):
        for number in range(count):
            yield encode(stored(job(number), STAMP + version)) + b"\n"


def write_journal(path: Path, count: int, *, versions: int = 1) -> None:
    """Write such a journal; its declarations go beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(lines(count, versions=versions))
    fields = {name: {"indexed": True} for name in ("status", "priority", "owner")}
    declaration = {"id": "jobs", "updated_at": STAMP, "fields": fields, "local": False}
    (path.parent / "_types.jsonl").write_bytes(msgspec.json.encode(declaration) + b"\n")
    (path.parent / ".version").write_text("1\n", encoding="utf-8")


@contextmanager
def folder() -> Generator[Path]:
    """A directory that goes with the block, on the disk that ``TMPDIR`` names."""
    with tempfile.TemporaryDirectory(prefix="taskstore-bench-") as path:
        yield Path(path)


def real_data(name: str) -> Path | None:
    """A file of the public data that is not part of the repository; None where it is absent."""
    path = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / name
    return path if path.exists() else None


def on_loop(loop: str, function: Callable[[], Awaitable[T]]) -> T:
    """Run *function* on one of `LOOPS`."""
    options = {} if loop == "trio" else {"use_uvloop": loop == "uvloop"}
    backend = "trio" if loop == "trio" else "asyncio"
    return anyio.run(function, backend=backend, backend_options=options)
