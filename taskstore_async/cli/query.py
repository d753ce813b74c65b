"""Commands that ask: query, indexes, describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from taskstore_async.cli.filters import parse_parameters
from taskstore_async.cli.invocation import Collection, Invocation, command
from taskstore_async.cli.kinds import located
from taskstore_async.cli.output import cell_of
from taskstore_async.cli.progress import ticking
from taskstore_async.cli.text import human_bytes, human_count, human_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskstore_async.core.declaration import FieldDeclaration
    from taskstore_async.storage.ask import Answer
    from taskstore_async.storage.description import Description


@command("query")
def query(
    tstore: Invocation,
    sql: Annotated[str, typer.Argument(metavar="SELECT", help="One SELECT.", show_default=False)],
    *,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=TEXT|NAME:=JSON", help="The value of :NAME in it; several times."),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.001, metavar="SECONDS", help="Stop it when it takes longer.")
    ] = 30.0,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV with a header, safe to open in a spreadsheet.")] = False,
) -> None:
    """Ask with SQL. Nothing can be changed by it.

    Every collection is a table: id, updated_at (ms), the fields that it declares, which have indexes, and json, the
    stored line. Any other field is json ->> '$.title'; the elements of a list come from json_each(issues.json,
    '$.labels'). A name with a dash in it is written "in-double-quotes". Of a declared field that holds a list or an
    object there is nothing to see but in json.

    Example: tstore query "SELECT id, json ->> '$.title' FROM issues WHERE updated_at > :since" -p since:=0
    """
    values = parse_parameters(parameters or ())
    with tstore.open() as store, ticking("asking"):
        answer = store.query(sql, values, timeout_s=timeout_s)
    if as_csv:
        from taskstore_async.cli.spreadsheet import csv_lines  # noqa: PLC0415 - reason: a module that only CSV needs

        tstore.out.lines(csv_lines(answer.columns, _shown(answer)))
    elif tstore.out.for_programs:
        tstore.out.values(dict(zip(answer.columns, row, strict=True)) for row in _shown(answer))
    else:
        tstore.out.rows(answer.columns, [[cell_of(value) for value in row] for row in _shown(answer)])
        if tstore.out.is_for_people:
            tstore.out.words(human_count(len(answer.rows), "row"))


def _shown(answer: Answer) -> Iterator[list[object]]:
    """The rows as JSON has values; of bytes, which no record has, only text is shown."""
    for row in answer.rows:
        yield [value.decode(errors="replace") or None if isinstance(value, bytes) else value for value in row]


@command("indexes")
def indexes(tstore: Invocation, collection: Collection) -> None:
    """List the fields that a collection declares: those whose filters, orders and queries use an index.

    id has one too. Any other field can be used as well; then every record is looked at. In a pipe: field, what it is.

    Example: tstore indexes plans
    """
    with tstore.open() as store:
        declaration = store.declaration(collection)
        known = any(one.name == collection for one in store.collections())
    if tstore.out.for_programs:
        tstore.out.value({"collection": collection, **declaration.to_fields()})
    else:
        tstore.out.rows(("field", "what"), [(name, _what(one)) for name, one in declaration.fields.items()])
    if not known:
        tstore.out.words(f"note: there is no collection {collection}; see: tstore collections")
    elif not declaration.fields:
        tstore.out.words(f"{collection} declares no field; a record type does, with --records MODULE")


def _what(one: FieldDeclaration) -> str:
    """What a field is declared to be, in words."""
    words = ["unique"] if one.unique else []
    if one.references is not None:
        words.append(f"names a record of {one.references} (when that is deleted: {one.on_delete})")
    if one.present is not None:
        words.append(f"computed: whether {one.present} is there")
    if one.first_of is not None:
        words.append(f"computed: the first that is there of {', '.join(one.first_of)}")
    return ", ".join(words) or "indexed"


@command("describe")
def describe(
    tstore: Invocation,
    first: Annotated[str, typer.Argument(metavar="[TYPE] ID", help="The type, unless the id tells; and the id.")],
    second: Annotated[str | None, typer.Argument(metavar="", hidden=True)] = None,
    *,
    collection: Annotated[
        str | None,
        typer.Option("--collection", "-c", metavar="COLL", help="Where it stands, when the id does not tell."),
    ] = None,
) -> None:
    """Tell what is known of a record beside its fields: versions, size, claim, what it names and what names it.

    A long text beside the record follows: on a terminal as its Markdown is meant, in a pipe as it was written, and with
    --json as content.

    Example: tstore describe bd-7
    """
    with tstore.open() as store:
        place = store.locate(first, collection) if collection else located(tstore, store, first, second)
        found = store.describe(*place)
        document = store.get(*place)
        text = None if document is None else store.read_content(document)
    if tstore.out.for_programs:
        tstore.out.value({**msgspec.structs.asdict(found), "content": text})
    else:
        tstore.out.facts(list(_described(tstore, found)))
        _print_text(tstore, text)


def _print_text(tstore: Invocation, text: str | None) -> None:
    if text is None:
        return
    tstore.out.lines([""])
    if tstore.out.is_for_people:
        from taskstore_async.cli.markdown import rendered  # noqa: PLC0415 - reason: only a terminal needs it

        tstore.out.styled(rendered(text))
    else:
        tstore.out.lines(text.splitlines())


def _described(tstore: Invocation, found: Description) -> Iterator[tuple[str, str]]:
    people = tstore.out.is_for_people

    def moment(at_ms: int | None) -> str:
        return human_time(at_ms) if people and at_ms is not None else str("" if at_ms is None else at_ms)

    yield "collection", found.collection
    yield "id", found.id
    yield "created_at", moment(found.created_at)
    yield "updated_at", moment(found.updated_at)
    yield "size", human_bytes(found.bytes) if people else str(found.bytes)
    yield "fields", str(found.fields)
    yield "versions", str(found.versions)
    yield "line", "waits to be written" if found.line is None else str(found.line)
    if found.lease is not None:
        yield "claimed by", f"{found.lease.owner}, until {moment(found.lease.until_ms)}"
    for one in found.names:
        yield "names", f"{one.collection}/{one.id} in {one.field}{'' if one.exists else ', which does not exist'}"
    for one in found.named_by:
        yield "named by", f"{one.collection}/{one.id} in {one.field}"
