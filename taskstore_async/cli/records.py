"""Commands about records: list, get, show, create, update, delete."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Annotated
from zlib import crc32

import typer

from taskstore_async.cli.columns import (
    cell,
    columns_for_people,
    columns_for_programs,
    fields_of,
    row_of,
    unknown_fields,
)
from taskstore_async.cli.errors import UsageError
from taskstore_async.cli.filters import parse_assignments, parse_filter
from taskstore_async.cli.invocation import Collection, Invocation, command
from taskstore_async.cli.kinds import located, say_if_unreadable
from taskstore_async.cli.text import human_count
from taskstore_async.core.filters import fields_of as fields_of_filters
from taskstore_async.core.names import check_collection
from taskstore_async.errors import NotFoundError, StaleWriteError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskstore_async.core.document import Document
    from taskstore_async.storage.description import Explanation
    from taskstore_async.storage.rehearsal import Doomed
    from taskstore_async.storage.rows import Found
    from taskstore_async.storage.store import Store

RecordId = Annotated[
    str, typer.Argument(metavar="ID", help="The record's id, or the beginning of it.", show_default=False)
]
Assignments = Annotated[
    list[str],
    typer.Argument(
        metavar="FIELD=TEXT|FIELD:=JSON...", help="What to set: title='Ship it' priority:=2.", show_default=False
    ),
]


@command("list")
def list_records(
    tstore: Invocation,
    collection: Collection,
    *,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            "-f",
            metavar="CONDITION",
            help="Only records for which this holds: a field, one of = != > >= < <= ~ (contains) := (JSON), a value. "
            "Several must all hold.",
        ),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="FIELD|-FIELD", help="By this field, with - descending; by id otherwise.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, metavar="N", help="At most so many.")] = None,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="Without the first so many.", show_default=False)] = 0,
    fields: Annotated[str | None, typer.Option(metavar="NAME,NAME", help="These fields alone, in this order.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell which index would answer, and list nothing.")
    ] = False,
) -> None:
    """List the records of a collection.

    A table on a terminal, cut to its width. In a pipe a record per line and tabs between cells, without a header: id,
    updated_at (ms), then the fields that the collection declares, or those that --fields names. With --jsonl the
    stored lines, as they are; with --json the same as one list.

    Example: tstore list issues -f status=open -f 'priority<=1' --sort -updated_at --limit 20
    """
    conditions = [parse_filter(text) for text in filters or ()]
    with tstore.open() as store:
        if explain:
            _print_explanation(tstore, store.explain(collection, *conditions, order_by=sort))
            return
        found = store.lines(collection, *conditions, order_by=sort, limit=limit, offset=offset)
        if not found:
            say_if_unknown(tstore, store, collection)
        named = [*fields_of_filters(conditions), *([sort.removeprefix("-")] if sort else ()), *_split(fields)]
        _say_if_no_field(tstore, store, collection, named, found)
        print_rows(tstore, store, collection, found, fields)


def print_rows(
    tstore: Invocation, store: Store, collection: str, found: Sequence[Found], fields: str | None = None
) -> None:
    """Print records in the form that was asked for: stored lines for programs, else a row each.

    Args:
        tstore: Says the form.
        store: Knows what the collection declares.
        collection: Where they stand.
        found: The records.
        fields: The fields, with commas between; None leaves them to the form.
    """
    wanted = None if fields is None else _split(fields)
    if tstore.out.for_programs and wanted is None:
        tstore.out.stored_many(one.raw for one in found)
        return
    declaration = store.declaration(collection)
    if tstore.out.for_programs:
        tstore.out.values(fields_of(one, wanted or (), declaration) for one in found)
        return
    people = tstore.out.is_for_people
    if wanted is not None:
        columns = wanted
    elif people:
        columns = columns_for_people(found, declaration)
    else:
        columns = columns_for_programs(declaration)
    tstore.out.rows(
        columns, [row_of(one, columns, declaration, people=people) for one in found], wanted=wanted is not None
    )
    if people:
        tstore.out.words(human_count(len(found), "record"))


def _split(fields: str | None) -> list[str]:
    return [name.strip() for name in (fields or "").split(",") if name.strip()]


def _say_if_no_field(
    tstore: Invocation, store: Store, collection: str, names: Sequence[str], found: Sequence[Found]
) -> None:
    """A field that a record lacks is an absent one; a person who mistyped its name is told all the same."""
    declaration = store.declaration(collection)
    missing, known = unknown_fields(names, declaration, chain(found, store.iterate_lines(collection)))
    for name in missing:
        from difflib import get_close_matches  # noqa: PLC0415 - reason: slow to load, and only a mistake needs it

        near = get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
        tstore.out.words(f"note: no record of {collection} has a field {name}; {meant}")


def _print_explanation(tstore: Invocation, found: Explanation) -> None:
    if tstore.out.for_programs:
        tstore.out.value(found)
        return
    ordered = {"index": "by the index", "sort": "sorted", "python": "sorted, by a field without an index"}
    tstore.out.facts(
        [
            ("index", found.index or "none: every record is looked at"),
            ("records", str(found.records)),
            *(("checked one by one", one) for one in found.checked),
            ("order", ordered[found.sorted_by]),
            *(("plan", step) for step in found.plan),
        ]
    )


def say_if_unknown(tstore: Invocation, store: Store, collection: str) -> None:
    """An absent collection is an empty one; a person who mistyped its name is told all the same."""
    names = [one.name for one in store.collections()]
    if collection not in names:
        there = f"there are: {', '.join(names)}" if names else "the store has none yet"
        tstore.out.words(f"note: there is no collection {collection}; {there}")


@command("get")
def get(tstore: Invocation, collection: Collection, record_id: RecordId) -> None:
    """Print the stored bytes of a record: its line in the journal.

    Example: tstore get issues bd-7
    """
    with tstore.open() as store:
        tstore.out.stored([_line(store, collection, _resolved(tstore, store, collection, record_id))])


@command("show")
def show(
    tstore: Invocation,
    first: Annotated[str, typer.Argument(metavar="[TYPE] ID", help="The type, unless the id tells; and the id.")],
    second: Annotated[str | None, typer.Argument(metavar="", hidden=True)] = None,
) -> None:
    """Show a record, field by field; in a pipe a field per line, name and value with a tab between.

    Without a collection the id, or the beginning of it, is looked for in all of them. A collection may be named in the
    singular too, and prd, ts and exec are short for three of them.

    Example: tstore show bd-7
    """
    with tstore.open() as store:
        collection, record_id = located(tstore, store, first, second)
        raw = _line(store, collection, record_id)
        if tstore.out.for_programs:
            tstore.out.stored([raw])
            return
        document = _document(store, collection, record_id)
        tstore.out.facts(
            [
                ("collection", collection),
                *((name, cell(name, value, people=tstore.out.is_for_people)) for name, value in document.items()),
            ]
        )


@command("create")
def create(
    tstore: Invocation,
    collection: Collection,
    assignments: Assignments,
    *,
    record_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The new record's id; one is made otherwise.")
    ] = None,
) -> None:
    """Create a record, and print its id. The store is made when there is none.

    FIELD=TEXT sets text, FIELD:=JSON a number, true, false, null, a list or an object.

    Example: tstore create issues title='Ship it' priority:=2 labels:='["release"]'
    """
    from taskstore_async.core.document import Document  # noqa: PLC0415 - reason: --help needs no records
    from taskstore_async.storage.clock import new_id  # noqa: PLC0415 - reason: as above

    fields = parse_assignments(assignments)
    if record_id is not None:
        if "id" in fields:
            raise UsageError("the id is given twice, with --id and with id=; leave one of them out")
        fields["id"] = record_id
    check_collection(collection)  # before a store is made for it
    fields = {"id": new_id(collection.removesuffix("s")), **fields}
    with tstore.open(create=True) as store:
        document = store.create(Document(collection, fields))
        raw = _line(store, collection, document.id)
        say_if_unreadable(tstore, store, document, raw)
    # After the block: what is printed is in the journal.
    if tstore.out.for_programs:
        tstore.out.stored([raw])
    else:
        tstore.out.lines([document.id])


@command("update")
def update(
    tstore: Invocation,
    collection: Collection,
    record_id: RecordId,
    assignments: Assignments,
    *,
    if_updated_at: Annotated[
        int | None,
        typer.Option(metavar="MS", help="Only if this is still the record's updated_at; exit 5 if it is not."),
    ] = None,
) -> None:
    """Change fields of a record; all others stay as they are.

    Example: tstore update issues bd-7 status=closed --if-updated-at 1767225600000
    """
    fields = parse_assignments(assignments)
    if "id" in fields:
        raise UsageError("a record's id never changes; create a record with the new id, and delete this one")
    with tstore.open() as store:
        found_id = _resolved(tstore, store, collection, record_id)
        document = _document(store, collection, found_id)
        if if_updated_at is not None and document.updated_at != if_updated_at:
            raise StaleWriteError(collection, found_id, expected_at=if_updated_at, actual_at=document.updated_at)
        stored = store.update(document.evolve(**fields))
        raw = _line(store, collection, found_id)
        say_if_unreadable(tstore, store, stored, raw)
    if tstore.out.for_programs:
        tstore.out.stored([raw])
    else:
        tstore.out.words(f"updated {collection}/{found_id}")


@command("delete")
def delete(
    tstore: Invocation,
    collection: Collection,
    record_ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="The records' ids, or the beginnings of them.", show_default=False),
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
) -> None:
    """Delete records, all of them or none, and what the declarations say goes with them.

    With --dry-run, in a pipe: what becomes of a record, and which.

    Example: tstore delete issues bd-7 bd-8 --dry-run
    """
    with tstore.open() as store:
        found = list(dict.fromkeys(_resolved(tstore, store, collection, one) for one in record_ids))
        if dry_run:
            doomed = store.rehearse_delete(collection, found)
            _print_doomed(tstore, doomed)
            return
        with store.batch() as batch:
            for record_id in found:
                batch.delete(collection, record_id)
    if tstore.out.for_programs:
        tstore.out.value({"collection": collection, "deleted": found})
    else:
        for record_id in found:
            tstore.out.words(f"deleted {collection}/{record_id}")


def _print_doomed(tstore: Invocation, doomed: Sequence[Doomed]) -> None:
    if tstore.out.for_programs:
        tstore.out.values(doomed)
        return
    tstore.out.rows(("what", "record"), [(one.kind, f"{one.collection}/{one.id}") for one in doomed])
    tstore.out.words("nothing was written: this is what would be")


def _resolved(tstore: Invocation, store: Store, collection: str, prefix: str) -> str:
    """The id that *prefix* begins; a person who mistyped the collection's name is told."""
    try:
        return store.resolve(collection, prefix)
    except NotFoundError:
        say_if_unknown(tstore, store, collection)
        raise


def _line(store: Store, collection: str, record_id: str) -> bytes:
    raw = store.line(collection, record_id)
    if raw is None:  # somebody deleted it after we resolved its id
        raise NotFoundError(collection, record_id)
    return raw


def _document(store: Store, collection: str, record_id: str) -> Document:
    """The record with every field as its line has it, but for the stamp that the fold gives it.

    ``Store.get`` reads RFC 3339 in ``created_at`` as milliseconds; here it stays what it is, so that an update does
    not change a field that it does not name.
    """
    from taskstore_async.core.codec import decode_exact  # noqa: PLC0415 - reason: --help needs no records
    from taskstore_async.core.document import Document, keep_crc  # noqa: PLC0415 - reason: as above

    known = store.get(collection, record_id)
    raw = store.line(collection, record_id)
    if known is None or raw is None:
        raise NotFoundError(collection, record_id)
    fields = {**decode_exact(raw), "id": record_id, "updated_at": known.updated_at}
    document = Document(collection, fields)
    keep_crc(document, crc32(raw))
    return document
