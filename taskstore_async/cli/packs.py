"""Commands about what the packs bring: plans and their parts, every registered type, and the graph."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskstore_async.cli.errors import UsageError
from taskstore_async.cli.invocation import LIST_TYPE, Invocation, command
from taskstore_async.cli.kinds import Kind, choices, find_kind
from taskstore_async.cli.records import print_rows
from taskstore_async.core.filters import Filter, eq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from taskstore_async.core.record import Record
    from taskstore_async.storage.relations import Relations
    from taskstore_async.storage.store import Store

Description = Annotated[str, typer.Option("--description", metavar="TEXT", help="One sentence on it.")]
Content = Annotated[
    str | None,
    typer.Option("--content", metavar="FILE|-", help="Its long text, Markdown, from a file or from standard input."),
]
Status = Annotated[str | None, typer.Option("--status", metavar="STATUS", help="Only those that have come so far.")]
Limit = Annotated[int | None, typer.Option("--limit", min=0, metavar="N", help="At most so many.")]


# -- making -------------------------------------------------------------------------------------------------


@command("create-prd")
def create_prd(
    tstore: Invocation,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What is to be built.", show_default=False)],
    *,
    description: Description = "",
    content: Content = None,
) -> None:
    """Create a product requirement, and print its id. The store is made when there is none.

    A long text goes to a file beside it: .taskstore/prds/add-oauth-authentication.md.

    Example: tstore create-prd 'Add OAuth Authentication' --content why.md
    """
    from taskstore_async.records.tasks import Prd  # noqa: PLC0415 - reason: --help needs no records
    from taskstore_async.storage.clock import new_id  # noqa: PLC0415 - reason: as above

    _create(tstore, lambda _: Prd(id=new_id("prd"), title=title, description=description), content)


@command("create-task-spec")
def create_task_spec(
    tstore: Invocation,
    prd_id: Annotated[
        str, typer.Argument(metavar="PRD_ID", help="What it is a part of; the beginning is enough.", show_default=False)
    ],
    phase: Annotated[str, typer.Argument(metavar="PHASE", help="What it is called.", show_default=False)],
    *,
    description: Description = "",
    workflow: Annotated[str | None, typer.Option(metavar="NAME", help="The workflow that does it.")] = None,
    content: Content = None,
) -> None:
    """Create a unit of work, a part of a product requirement, and print its id.

    Example: tstore create-task-spec prd-01hj 'Store the tokens' --workflow rust-dev
    """
    from taskstore_async.records.tasks import TaskSpec  # noqa: PLC0415 - reason: --help needs no records
    from taskstore_async.storage.clock import new_id  # noqa: PLC0415 - reason: as above

    def made(store: Store) -> TaskSpec:
        found = store.resolve("prds", prd_id)
        return TaskSpec(
            id=new_id("ts"), prd_id=found, phase_name=phase, description=description, workflow_name=workflow
        )

    _create(tstore, made, content)


def _create(tstore: Invocation, make: Callable[[Store], Record], content: str | None) -> None:
    text = None if content is None else _text(content)
    with tstore.open(create=True) as store:
        record = make(store)
        record = store.create(record) if text is None else store.write_content(record, text)
        raw = store.line(record.collection, record.id)
    # After the block: what is printed is in the journal.
    if tstore.out.for_programs and raw is not None:
        tstore.out.stored([raw])
    else:
        tstore.out.lines([record.id])


def _text(source: str) -> str:
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{source} is no text in UTF-8 (byte {error.start}); a record's content is Markdown"
        ) from error


# -- listing ------------------------------------------------------------------------------------------------


@command("list-prds")
def list_prds(tstore: Invocation, *, status: Status = None, limit: Limit = None) -> None:
    """List the product requirements.

    Example: tstore list-prds --status active
    """
    _list(tstore, "prds", status=status, limit=limit)


@command("list-task-specs")
def list_task_specs(
    tstore: Invocation,
    prd_id: Annotated[
        str | None, typer.Argument(metavar="[PRD_ID]", help="Only the parts of this one.", show_default=False)
    ] = None,
    *,
    status: Status = None,
    limit: Limit = None,
) -> None:
    """List the units of work, of one product requirement or of all.

    Example: tstore list-task-specs prd-01hj --status pending
    """
    owner = None if prd_id is None else ("prds", "prd_id", prd_id)
    _list(tstore, "task_specs", status=status, limit=limit, owner=owner)


@command("list-executions")
def list_executions(tstore: Invocation, *, status: Status = None, limit: Limit = None) -> None:
    """List the attempts at units of work.

    Example: tstore list-executions --status running --limit 20
    """
    _list(tstore, "executions", status=status, limit=limit)


@command(LIST_TYPE)
def list_type(
    tstore: Invocation,
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="The type, by its plural.", show_default=False)],
    *,
    status: Status = None,
    limit: Limit = None,
) -> None:
    """List the records of a type: list-loops is short for list-type loops, and so on for every type.

    The types are those of the packs, of --records, of the store, and of installed packages.

    Example: tstore list-type loops --status running
    """
    _list(tstore, kind, status=status, limit=limit)


def _list(
    tstore: Invocation,
    word: str,
    *,
    status: str | None,
    limit: int | None,
    owner: tuple[str, str, str] | None = None,
) -> None:
    with tstore.open() as store:
        kind = find_kind(tstore, store, word)
        filters: list[Filter] = []
        if owner is not None:
            collection, field, prefix = owner
            filters.append(eq(field, store.resolve(collection, prefix)))
        if status is not None:
            filters.append(eq("status", _checked(kind, status)))
        print_rows(tstore, store, kind.collection, store.lines(kind.target, *filters, limit=limit))


def _checked(kind: Kind, status: str) -> str:
    """Return *status* when records of the type may have it."""
    known = choices(kind, "status")
    if known and status not in known:
        raise UsageError(f"{status!r} is no status of {kind.collection}; they are {', '.join(known)}")
    if kind.record_type is not None and not known:
        raise UsageError(f"{kind.collection} have no status; leave --status out")
    return status


# -- the graph ----------------------------------------------------------------------------------------------


class Drawing(StrEnum):
    """How a graph is drawn."""

    TREE = "tree"
    DOT = "dot"
    MERMAID = "mermaid"


@command("graph")
def graph(
    tstore: Invocation,
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="[TYPE]...", help="Only records of these types.", show_default=False)
    ] = None,
    *,
    drawing: Annotated[
        Drawing, typer.Option("--format", help="A tree, or a language of other programs.")
    ] = Drawing.TREE,
) -> None:
    """Draw which records name which: by references, by parent_id and by depends_on.

    In a tree a record stands below what it names. A circle is told on stderr.

    Example: tstore graph prds task-specs --format mermaid
    """
    from taskstore_async.storage.relations import relations  # noqa: PLC0415 - reason: --help needs no storage

    with tstore.open() as store:
        found = relations(store, [find_kind(tstore, store, kind).collection for kind in kinds or ()])
    cycles = found.graph.cycles()
    if tstore.out.for_programs:
        tstore.out.value({"nodes": found.nodes, "edges": found.edges, "cycles": cycles})
    else:
        tstore.out.lines(_drawn(found, drawing))
    for cycle in cycles:
        tstore.out.words(f"note: these need each other in a circle: {' → '.join([*cycle, cycle[0]])}")


def _drawn(found: Relations, drawing: Drawing) -> Iterable[str]:
    from taskstore_async.cli.drawing import as_dot, as_mermaid, as_tree  # noqa: PLC0415 - reason: only this needs it

    draw = {Drawing.TREE: as_tree, Drawing.DOT: as_dot, Drawing.MERMAID: as_mermaid}[drawing]
    return draw(found)
