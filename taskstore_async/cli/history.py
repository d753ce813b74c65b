"""Commands about what was: log, diff."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from taskstore_async.cli.invocation import Collection, Invocation, command
from taskstore_async.cli.text import clip, escape, human_count, human_time
from taskstore_async.errors import NoStoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from taskstore_async.core.difference import FieldChange
    from taskstore_async.git.history import LoggedVersion
    from taskstore_async.git.snapshots import CollectionChange

_HASH: Final = 10  #: characters of a commit's name


@command("log")
def log(
    tstore: Invocation,
    collection: Collection,
    record_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The record's id, or the beginning of it; a deleted one's whole id."),
    ],
    *,
    git: Annotated[
        bool, typer.Option("--git", help="And the commit that brought each; versions that only commits have, too.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most the latest so many.")] = None,
) -> None:
    """Show the versions of a record and what changed in each, the latest first.

    They are the lines of the journal since the last compaction, and what waits to be written to it. Each is compared
    with the one that counted before it. After a merge only --git knows what a version of another branch followed: it is
    compared with that, and said to be from another branch. In a pipe: updated_at (ms), what it did to the record, its
    line in the journal, the commit, and the changes.

    Example: tstore log issues bd-7 --git
    """
    from taskstore_async.git.history import log as versions_of  # noqa: PLC0415 - reason: --help needs no engine

    with tstore.open() as store:
        _, versions = versions_of(store, collection, record_id, commits=git)
    shown = versions[::-1][:limit]
    if tstore.out.for_programs:
        tstore.out.values(shown)
        return
    if tstore.out.is_for_people:
        tstore.out.lines(line for one in shown for line in _lines(one))
    else:
        tstore.out.rows((), [_row(one) for one in shown])


def _row(one: LoggedVersion) -> list[str]:
    commit = one.commit.hash if one.commit else ""
    return [str(one.updated_at), one.kind.value, str(one.line or ""), commit, ", ".join(map(_told, _changes(one)))]


def _lines(one: LoggedVersion) -> Iterator[str]:
    """A version as a person reads it: a line about it, and one per change."""
    width = shutil.get_terminal_size().columns
    facts = [human_time(one.updated_at), one.kind.value]
    facts += [f"line {one.line}"] if one.line is not None else []
    facts += ["current"] if one.current else []
    if one.aside:
        facts.append("older than what counted before" if one.commit is None else "from another branch")
    if one.commit is not None:
        facts.append(f"{one.commit.hash[:_HASH]} {one.commit.author}: {one.commit.subject}")
    yield clip("  ".join(facts), width)
    for change in _changes(one):
        yield clip(f"    {escape(_told(change))}", width)


def _changes(one: LoggedVersion) -> tuple[FieldChange, ...]:
    return () if one.kind == "deleted" else one.fields


@command("diff")
def diff(
    tstore: Invocation,
    first: Annotated[
        str | None,
        typer.Argument(metavar="[A]", help="The earlier state; HEAD when there is none.", show_default=False),
    ] = None,
    second: Annotated[
        str | None,
        typer.Argument(
            metavar="[B]", help="The later state; what is there now when there is none.", show_default=False
        ),
    ] = None,
    *,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", metavar="COLL", help="Of this collection alone.")
    ] = None,
) -> None:
    """Compare two states record by record: store directories, journals, or revisions of git (A..B too).

    A record that has only another stamp, or stands elsewhere in its file, is no difference. In a pipe a changed value
    per line: what happened, collection, id, field, before, after.

    Example: tstore diff main..topic
    """
    from taskstore_async.git.snapshots import difference  # noqa: PLC0415 - reason: --help needs no engine

    changes = difference(_place(tstore), first, second, collection=collection)
    if tstore.out.for_programs:
        tstore.out.values([{"collection": one.collection, **_facts(one)} for one in changes])
        return
    tstore.out.rows(("what", "collection", "id", "field", "before", "after"), list(_rows(tstore, changes)))
    if tstore.out.is_for_people:
        tstore.out.words(human_count(len(changes), "record") + (" differs" if len(changes) == 1 else " differ"))


def _place(tstore: Invocation) -> Path | None:
    try:
        return Path(tstore.place().path)
    except NoStoreError:  # two directories or files may be compared without one
        return None


def _facts(one: CollectionChange) -> dict[str, object]:
    return {"id": one.change.id, "kind": one.change.kind, "fields": one.change.fields}


def _rows(tstore: Invocation, changes: Iterable[CollectionChange]) -> Iterator[list[str]]:
    for one in changes:
        head = [one.change.kind.value, one.collection, one.change.id]
        if tstore.out.is_for_people and one.change.kind != "updated":
            yield [*head, *(_headline(one.change.fields) or ["", "", ""])]
            continue
        for change in one.change.fields:
            yield [*head, change.field, _json(change.before), _json(change.after)]
        if not one.change.fields:
            yield [*head, "", "", ""]


def _headline(fields: Iterable[FieldChange]) -> list[str] | None:
    """Of a record that came or went, what a person knows it by."""
    named = {change.field: change for change in fields}
    found = next((named[name] for name in ("title", "name") if name in named), None)
    return None if found is None else [found.field, _json(found.before), _json(found.after)]


def _told(change: FieldChange) -> str:
    before, after = _json(change.before), _json(change.after)
    if not before:
        return f"{change.field}: {after}"
    return f"{change.field}: {before} → {after}" if after else f"{change.field}: {before} removed"


def _json(value: object) -> str:
    """JSON text; nothing for what is not there."""
    import msgspec  # noqa: PLC0415 - reason: --help needs no records

    return bytes(value).decode() if isinstance(value, msgspec.Raw) else ""
