"""Commands about files: init, import, sync, flush, check, compact."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from taskstore_async.cli.errors import ExitCode, UsageError
from taskstore_async.cli.invocation import Invocation, command
from taskstore_async.cli.text import human_bytes, human_count
from taskstore_async.core.names import check_collection, is_collection

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from taskstore_async.storage.reports import CollectionSync, ImportReport, Problem

_CHUNK: Final = 1 << 20
_TOLD: Final = 20  #: bad lines that are named one by one
_BAR: Final = 30  #: columns of the progress bar


class OnConflict(StrEnum):
    """What an import does with a record that is stored with other content."""

    FAIL = "fail"
    SKIP = "skip"
    REPLACE = "replace"
    NEWER = "newer"


class Format(StrEnum):
    """What an import reads."""

    JSONL = "jsonl"


@command("init")
def init(tstore: Invocation) -> None:
    """Make a store in the working directory, or where --store or TSTORE_DIR says; one that is there stays as it is.

    With --records, the record types of a module are declared in it.

    Example: tstore init
    """
    from taskstore_async.cli.opening import opened, store_exists  # noqa: PLC0415 - reason: --help needs no engine

    place = tstore.place(create=True, upwards=False)
    there = store_exists(place)
    with opened(place, create=True, records=tstore.record_types()) as store:
        path = str(store.path)
    if tstore.out.for_programs:
        tstore.out.value({"path": path, "created": not there})
        return
    tstore.out.lines([path])
    tstore.out.words("the store was there already" if there else "made a store; fill it with: tstore import FILE")


@command("import")
def import_file(
    tstore: Invocation,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of JSON lines, - for stdin.", show_default=False)],
    *,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", metavar="COLL", help="Where they go; the file's name otherwise.")
    ] = None,
    on_conflict: Annotated[
        OnConflict,
        typer.Option(help="A record is stored already, with other content: fail before anything is written, or …"),
    ] = OnConflict.FAIL,
    file_format: Annotated[Format, typer.Option("--format", help="What the file holds.")] = Format.JSONL,
) -> None:
    """Take the records of another JSONL file. The store is made when there is none.

    Stamps and bytes are kept where that can be. A line that cannot be read is skipped and named, and the command then
    ends with 1; all others are taken.

    Example: tstore import issues.jsonl --on-conflict newer
    """
    del file_format  # there is one
    target = check_collection(collection) if collection else _collection_of(file)
    with _chunks_of(file) as chunks, tstore.open(create=True) as store, _progress(target) as progress:
        report = store.import_lines(
            target,
            chunks,
            source="<stdin>" if file == "-" else file,
            on_conflict=on_conflict.value,
            progress=progress,
        )
    _print_import(tstore, target, report)
    if report.bad_count:
        tstore.code = ExitCode.FAILED


def _collection_of(file: str) -> str:
    stem = Path(file).name.removesuffix(".jsonl")
    if file == "-" or not is_collection(stem):
        what = "stdin has no name" if file == "-" else f"{Path(file).name!r} does not name a collection"
        raise UsageError(f"{what}; say where the records go: --collection issues")
    return stem


def _chunks_of(file: str) -> AbstractContextManager[Iterable[bytes]]:
    @contextmanager
    def opened() -> Generator[Iterable[bytes], None, None]:
        with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as stream:
            yield _read(stream)

    return opened()


def _read(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


@contextmanager
def _progress(collection: str) -> Generator[Callable[[int, int], None] | None, None, None]:
    """A bar on stderr, where a person sees it; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return

    def show(done: int, total: int) -> None:
        full = _BAR * done // total
        bar = "█" * full + "░" * (_BAR - full)
        sys.stderr.write(f"\rimporting {collection} {bar} {done:,}/{total:,}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")  # the line is free again for what is to be told


def _print_import(tstore: Invocation, collection: str, report: ImportReport) -> None:
    if tstore.out.for_programs:
        tstore.out.value(report)
    else:
        tstore.out.facts(
            [
                ("collection", collection),
                *_counts(report, ("lines", "taken", "replaced", "unchanged", "skipped", "superseded", "bad_count")),
            ]
        )
    _say_bad(tstore, report.bad, report.bad_count)


def _counts(report: object, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name.removesuffix("_count"), str(getattr(report, name))) for name in names]


def _say_bad(tstore: Invocation, bad: Sequence[Problem], total: int) -> None:
    for problem in bad[:_TOLD]:
        tstore.out.words(f"{problem.file}:{problem.line}: {problem.reason}")
    if total > _TOLD:
        tstore.out.words(f"… and {human_count(total - _TOLD, 'line')} more; --json names up to 1,000")


@command("sync")
def sync(
    tstore: Invocation,
    *,
    check: Annotated[bool, typer.Option("--check", help="Only tell; exit 6 when a file has moved.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Read every file anew, whatever is known of it.")] = False,
) -> None:
    """Import what moved in the files, then write what waits to them.

    Every command does the first on its way; this one tells what it found.

    Example: tstore sync --check
    """
    from taskstore_async.cli.opening import synced  # noqa: PLC0415 - reason: --help needs no engine

    if check and rebuild:
        raise UsageError("--check and --rebuild contradict each other; leave one of them out")
    report = synced(tstore.place(), check=check, rebuild=rebuild)
    if tstore.record_types() and not check:
        with tstore.open():
            pass  # opening declares them
    if tstore.out.for_programs:
        tstore.out.value(report)
    else:
        tstore.out.rows(_SYNC_HEADER, [_sync_row(name, one) for name, one in report.collections.items()])
        if tstore.out.is_for_people and not report.collections:
            tstore.out.words("nothing has moved" if not report.stale else "a file has moved; run: tstore sync")
    for note in report.notes:
        tstore.out.words(f"note: {note}")
    bad = [problem for one in report.collections.values() for problem in one.problems]
    _say_bad(tstore, bad, len(bad))
    if check and report.stale:
        tstore.code = ExitCode.PROBLEMS


_SYNC_HEADER: Final = ("collection", "how", "lines", "taken", "removed", "settled", "outbid", "flushed", "problems")


def _sync_row(name: str, one: CollectionSync) -> list[str]:
    counts = (one.lines_read, one.taken, one.removed, one.settled, one.outbid, one.flushed, len(one.problems))
    return [name, str(one.how), *map(str, counts)]


@command("flush")
def flush(tstore: Invocation) -> None:
    """Write everything that waits to the files, fsynced.

    Example: tstore flush
    """
    with tstore.open() as store:
        report = store.flush()
    if tstore.out.for_programs:
        tstore.out.value(report)
    else:
        tstore.out.facts(_counts(report, ("lines", "bytes", "files")))


@command("check")
def check(tstore: Invocation) -> None:
    """Prove that the index is what the files say, and tell whatever else is wrong; exit 6 when something is.

    Example: tstore check
    """
    with tstore.open() as store:
        report = store.check()
    if tstore.out.for_programs:
        tstore.out.value(report)
    else:
        tstore.out.rows(
            ("severity", "kind", "message"),
            [("error" if one.error else "note", one.kind, one.message) for one in report.problems],
        )
        errors = sum(one.error for one in report.problems)
        what = f"{human_count(report.records, 'record')} in {human_count(report.collections, 'collection')}"
        tstore.out.words(f"{what}: {human_count(errors, 'error') if errors else 'all is well'}")
    if not report.ok:
        tstore.code = ExitCode.PROBLEMS


@command("compact")
def compact(
    tstore: Invocation,
    collection: Annotated[
        str | None, typer.Argument(metavar="[COLL]", help="Only this collection.", show_default=False)
    ] = None,
) -> None:
    """Leave only the latest line of each record in the files; what cannot be read moves to quarantine/.

    Tombstones stay for 30 days, so that a branch of before the deletion does not bring the record back.

    Example: tstore compact issues
    """
    with tstore.open() as store:
        report = store.compact(collection)
    if tstore.out.for_programs:
        tstore.out.value(report)
        return
    size = human_bytes if tstore.out.is_for_people else str
    tstore.out.rows(
        ("collection", "lines before", "after", "size before", "after", "quarantined"),
        [
            (
                name,
                str(c.lines_before),
                str(c.lines_after),
                size(c.bytes_before),
                size(c.bytes_after),
                str(c.quarantined),
            )
            for name, c in report.collections.items()
        ],
    )
