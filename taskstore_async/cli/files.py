"""Commands about files: init, sync, flush, check, compact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from taskstore_async.cli.errors import ExitCode, UsageError
from taskstore_async.cli.git import warn_about_driver
from taskstore_async.cli.invocation import Invocation, command
from taskstore_async.cli.progress import ticking
from taskstore_async.cli.records import say_if_unknown
from taskstore_async.cli.text import human_bytes, human_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskstore_async.storage.reports import CollectionSync, CompactReport, Problem
    from taskstore_async.storage.store import Store

_TOLD: Final = 20  #: bad lines that are named one by one


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


def _counts(report: object, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name.removesuffix("_count"), str(getattr(report, name))) for name in names]


def say_bad(tstore: Invocation, bad: Sequence[Problem], total: int) -> None:
    """Name the first lines that could not be read."""
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

    Every command that opens the store does the first on its way; this one tells what it found. In a pipe: collection,
    how its file was read, lines read, records taken and removed, own versions that the file has (settled) or has newer
    ones of (outbid), lines flushed, problems.

    Example: tstore sync --check
    """
    from taskstore_async.cli.opening import synced  # noqa: PLC0415 - reason: --help needs no engine

    if check and rebuild:
        raise UsageError("--check and --rebuild contradict each other; leave one of them out")
    with ticking("syncing"):
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
    say_bad(tstore, bad, len(bad))
    warn_about_driver(tstore)
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
    with tstore.open() as store, ticking("checking"):
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


def _tell_left(tstore: Invocation, store: Store, report: CompactReport) -> None:
    """Tell of the journals that a compaction of all has left alone."""
    for one in store.collections():
        if one.journal_bytes and one.name not in report.collections:
            why = (
                "it is closed to writing: tstore doctor"
                if one.closed
                else "there is a choice to make: tstore conflicts"
            )
            tstore.out.words(f"{one.name} was left alone; {why}")


@command("compact")
def compact(
    tstore: Invocation,
    collection: Annotated[
        str | None, typer.Argument(metavar="[COLL]", help="Only this collection.", show_default=False)
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would happen.")] = False,
) -> None:
    """Leave only the latest line of each record in the files; what cannot be read moves to quarantine/.

    Tombstones stay for 30 days, so that a branch of before the deletion does not bring the record back. In a pipe:
    collection, lines before and after, bytes before and after, lines moved. A journal in which versions with
    equal stamps stand between conflict markers is left alone until one is chosen; when it was named, this ends with 5.

    Example: tstore compact issues
    """
    with tstore.open() as store, ticking("compacting"):
        report = store.compact(collection, dry_run=dry_run)
        if collection is None:
            _tell_left(tstore, store, report)
        elif not report.collections:
            say_if_unknown(tstore, store, collection)
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
    if dry_run:
        tstore.out.words("nothing was written: this is what would be")
