"""Commands that copy a store whole: backup, restore."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - reason: typer reads the annotations
from typing import Annotated

import typer

from taskstore_async.cli.exchange import DryRun  # noqa: TC001 - reason: as above
from taskstore_async.cli.invocation import Invocation, command
from taskstore_async.cli.progress import counting, ticking
from taskstore_async.cli.text import human_bytes, human_count


@command("backup")
def backup(
    tstore: Invocation,
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="A directory that is not there yet, or is empty.")
    ],
    *,
    dry_run: DryRun = False,
) -> None:
    """Copy the store to a new directory: journals, long texts, declarations, whatever cannot be made anew.

    What waits is written first, and nobody writes meanwhile. The copy is a store itself: tstore --store DEST list …
    looks into it, and tstore restore DEST brings it back.

    Example: tstore backup ../backups/monday
    """
    with tstore.open() as store, counting("copying") as progress:
        report = store.backup(destination, dry_run=dry_run, progress=progress)
    for name in report.passed_over:
        tstore.out.words(f"note: {name} is no regular file, and is not in it")
    for name in report.kept:
        tstore.out.words(f"note: its journal cannot be read, so what the index has is in {name}, to be imported")
    if tstore.out.for_programs:
        tstore.out.value(report)
        return
    tstore.out.lines(report.files)
    what = f"{human_count(len(report.files), 'file')}, {human_bytes(report.bytes)}"
    tstore.out.words(f"{'would copy' if dry_run else 'copied'} {what} to {report.path}")


@command("restore")
def restore(
    tstore: Invocation,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="What backup made, or any other store.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also over records that the backup does not have, or has differently.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Make the store what a backup is. It is made when there is none.

    A store with records that the backup does not have stays as it is, unless --replace says otherwise; its files are
    then kept in quarantine/, and can be restored in their turn. In a pipe: what became of each file, the file, bytes.

    Example: tstore restore ../backups/monday --dry-run
    """
    from taskstore_async.cli.opening import require_store  # noqa: PLC0415 - reason: --help needs no engine

    require_store(source)
    with tstore.open_or_rehearse(dry_run=dry_run) as store, ticking("restoring"):
        report = store.restore(source, replace=replace, dry_run=dry_run)
    if tstore.out.for_programs:
        tstore.out.value(report)
        return
    size = human_bytes if tstore.out.is_for_people else str
    tstore.out.rows(("what", "file", "size"), [(one.what, one.file, size(one.bytes)) for one in report.files])
    if dry_run:
        tstore.out.words("nothing was written: this is what would be")
    elif report.set_aside is not None:
        tstore.out.words(f"the former files are kept; undo with: tstore restore {report.set_aside} --replace")
