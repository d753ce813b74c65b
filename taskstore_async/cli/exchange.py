"""Commands that move records in and out: import, export, export-json."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from taskstore_async.cli.errors import ExitCode, UsageError
from taskstore_async.cli.files import say_bad
from taskstore_async.cli.filters import parse_filter
from taskstore_async.cli.invocation import Invocation, command
from taskstore_async.cli.progress import counting, ticking
from taskstore_async.cli.records import say_if_unknown
from taskstore_async.cli.text import human_bytes
from taskstore_async.core.exchange import ExchangeForm
from taskstore_async.core.names import check_collection, is_collection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from taskstore_async.core.exchange import Brought
    from taskstore_async.core.filters import Filter
    from taskstore_async.core.sheet import Cells
    from taskstore_async.storage.reports import ImportReport
    from taskstore_async.storage.store import Store

_STDIN: Final = "-"
_USUAL: Final = {ExchangeForm.BEADS: "issues", ExchangeForm.TASKWARRIOR: "tasks"}  #: where records of these go
_COUNTS: Final = ("lines", "taken", "replaced", "unchanged", "skipped", "superseded", "bad_count")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would happen.")]
Target = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file, whole or not at all; - is stdout."),
]


class OnConflict(StrEnum):
    """What an import does with a record that is stored with other content."""

    FAIL = "fail"
    SKIP = "skip"
    REPLACE = "replace"
    NEWER = "newer"


class Format(StrEnum):
    """What an export looks like."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"


@command("import")
def import_file(
    tstore: Invocation,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="The files; - for stdin, which is read to its end first."),
    ],
    *,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", metavar="COLL", help="Where they go; a file's name otherwise.")
    ] = None,
    on_conflict: Annotated[
        OnConflict,
        typer.Option(help="A record is stored already, with other content: fail before anything is written, or …"),
    ] = OnConflict.FAIL,
    form: Annotated[
        ExchangeForm | None,
        typer.Option("--format", help="What the files hold; their names and content tell otherwise."),
    ] = None,
    id_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="The field that is the id, where it is called otherwise.")
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="THEIRS=OURS", help="A field that is to have another name; several times."),
    ] = None,
    no_types: Annotated[
        bool, typer.Option("--no-types", help="Every cell of CSV is text; its columns' types are guessed otherwise.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Take records from JSONL, JSON, CSV, beads or Taskwarrior. The store is made when there is none.

    Stamps and bytes are kept where that can be. What cannot be read is skipped and named, and the command then ends
    with 1; all others are taken. JSON is a list, one record, or what export-json prints. With --dry-run everything is
    done and taken back, so that it tells what would be refused too, and of CSV what the columns are taken for.

    Several files are one import with a report each. All are read before anything is written, and a conflict in one of
    them stops all; their records may name each other, and of an id that several have the winner is taken.

    Example: tstore import issues.csv --id-field key --map created=created_at --dry-run
    """
    if files.count(_STDIN) > 1:
        raise UsageError("stdin can be read once; leave one - out")
    names = _names(maps or (), id_field)
    sources = [_source(one, collection, form, names, typed=not no_types) for one in files]
    with tstore.open_or_rehearse(dry_run=dry_run) as store, counting("importing") as progress:
        reports = store.import_files(
            [(one.name, one.targets) for one in sources],
            on_conflict=on_conflict.value,
            dry_run=dry_run,
            progress=progress,
        )
    _print_import(tstore, list(zip(sources, reports, strict=True)))


class _Source(msgspec.Struct):
    """A file: what it is called and holds, and where its records go."""

    name: str
    form: ExchangeForm
    columns: Mapping[str, Cells]
    targets: dict[str, Sequence[bytes]]


def _source(
    file: str, collection: str | None, form: ExchangeForm | None, names: Mapping[str, str], *, typed: bool
) -> _Source:
    from taskstore_async.core.exchange import form_of, read_exchange  # noqa: PLC0415 - reason: --help needs no records

    data = _bytes_of(file)
    name = "<stdin>" if file == _STDIN else file
    found = form or form_of("" if file == _STDIN else file, data)
    brought = read_exchange(data, found, source=name, names=names, typed=typed)
    return _Source(name, found, brought.columns, _targets(brought, file, collection, found))


def _bytes_of(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == _STDIN else Path(file).read_bytes()


def _names(maps: Sequence[str], id_field: str | None) -> dict[str, str]:
    names: dict[str, str] = {}
    for word in maps:
        theirs, sign, ours = word.partition("=")
        if not (theirs and sign and ours.encode(errors="ignore").decode() == ours != ""):
            raise UsageError(f"{word!r} maps no field; write theirs=ours: --map created=created_at")
        names[theirs] = ours
    if id_field is not None:
        names[id_field] = "id"
    return names


def _targets(brought: Brought, file: str, collection: str | None, form: ExchangeForm) -> dict[str, Sequence[bytes]]:
    """Where the records go."""
    if None not in brought.collections:
        if collection is not None:
            raise UsageError(f"{file} names its collections itself; leave --collection out")
        return {name: lines for name, lines in brought.collections.items() if name is not None}
    if collection is not None:
        return {check_collection(collection): brought.collections[None]}
    stem = Path(file).name.partition(".")[0]
    if file == _STDIN or not is_collection(stem):
        stem = _USUAL.get(form, "")
    if not stem:
        what = "stdin has no name" if file == _STDIN else f"{Path(file).name!r} does not name a collection"
        raise UsageError(f"{what}; say where the records go: --collection issues")
    return {stem: brought.collections[None]}


def _print_import(tstore: Invocation, done: Sequence[tuple[_Source, dict[str, ImportReport]]]) -> None:
    from taskstore_async.storage.reports import together  # noqa: PLC0415 - reason: --help needs no engine

    total = together(report for _, reports in done for report in reports.values())
    if not tstore.out.for_programs:
        for source, reports in done:
            _print_source(tstore, source, reports, named=len(done) > 1)
        if total.dry_run:
            for record_id in total.replaced_ids:
                tstore.out.words(f"would replace {record_id}")
            tstore.out.words("nothing was written: this is what would be")
    elif len(done) == 1:
        tstore.out.value(_fields(*done[0]))
    else:
        files = [{"file": source.name, **_fields(source, reports)} for source, reports in done]
        tstore.out.value({**msgspec.structs.asdict(total), "files": files})
    say_bad(tstore, total.bad, total.bad_count)
    if total.bad_count:
        tstore.code = ExitCode.FAILED


def _fields(source: _Source, reports: dict[str, ImportReport]) -> dict[str, object]:
    """What programs are told of a file."""
    from taskstore_async.storage.reports import together  # noqa: PLC0415 - reason: as above

    more = {"format": source.form, "columns": source.columns, "collections": reports}
    return {**msgspec.structs.asdict(together(reports.values())), **more}


def _print_source(tstore: Invocation, source: _Source, reports: dict[str, ImportReport], *, named: bool) -> None:
    for name, report in reports.items():
        counts = [(count.removesuffix("_count"), str(getattr(report, count))) for count in _COUNTS]
        tstore.out.facts([*([("file", source.name)] if named else ()), ("collection", name), *counts])
    if source.columns and any(report.dry_run for report in reports.values()):
        tstore.out.facts([(f"column {name}", kind.value) for name, kind in source.columns.items()])


@command("export")
def export(
    tstore: Invocation,
    collection: Annotated[
        str | None,
        typer.Argument(metavar="[COLL]", help="The collection; all of them when there is none.", show_default=False),
    ] = None,
    *,
    file_format: Annotated[
        Format | None, typer.Option("--format", help="What it looks like; the file's name tells otherwise, else JSONL.")
    ] = None,
    output: Target = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", "-f", metavar="CONDITION", help="Only records for which this holds, as for list."),
    ] = None,
    sort: Annotated[str | None, typer.Option(metavar="FIELD|-FIELD", help="By this field; by id otherwise.")] = None,
) -> None:
    """Write a collection out: JSONL and JSON with the stored bytes, CSV safe to open in a spreadsheet.

    Without COLL all collections: with -o DIRECTORY/ a file each, with --format json one document, which is what
    export-json prints. A store's only collection need not be named. import takes all of it back; CSV says less than
    JSON: an empty text is no field any more.

    Example: tstore export issues --format csv -o issues.csv
    """
    wanted = _format(tstore, file_format, output)
    conditions = [parse_filter(text) for text in filters or ()]
    with tstore.open() as store:
        names = [collection] if collection is not None else [one.name for one in store.collections()]
        folder = Path(output) if output is not None and (output.endswith("/") or Path(output).is_dir()) else None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                lines = _raws(store, name, conditions, sort)
                _put(tstore, store, _pieces(wanted, lines), str(folder / f"{name}.{wanted}"))
        elif len(names) == 1:
            lines = _raws(store, names[0], conditions, sort)
            if not lines:
                say_if_unknown(tstore, store, names[0])
            _put(tstore, store, _pieces(wanted, lines), output)
        elif wanted is Format.JSON:
            _put_document(tstore, store, {name: _raws(store, name, conditions, sort) for name in names}, output)
        else:
            raise UsageError(
                f"there are {len(names)} collections ({', '.join(names)}); name one, write a file each with "
                f"-o DIRECTORY/, or all as one with --format json"
            )


@command("export-json")
def export_json(tstore: Invocation, *, output: Target = None) -> None:
    """Write the whole store as one JSON document, a list of records for each collection, which import takes back.

    Each record has its stored bytes. Long texts in files beside the records stay there: backup copies them too.

    Example: tstore export-json -o everything.json
    """
    with tstore.open() as store:
        _put_document(
            tstore, store, {one.name: _raws(store, one.name, (), None) for one in store.collections()}, output
        )


def _format(tstore: Invocation, wanted: Format | None, output: str | None) -> Format:
    if wanted is not None:
        return wanted
    if output is not None:
        suffix = Path(output).suffix.removeprefix(".")
        return Format(suffix) if suffix in set(Format) else Format.JSONL
    return Format(tstore.form.value) if tstore.out.for_programs and tstore.form else Format.JSONL


def _raws(store: Store, name: str, conditions: Sequence[Filter], sort: str | None) -> list[bytes]:
    return [one.raw for one in store.lines(name, *conditions, order_by=sort)]


def _pieces(wanted: Format, raws: Sequence[bytes]) -> Iterable[bytes]:
    from taskstore_async.core.exchange import as_json, as_jsonl  # noqa: PLC0415 - reason: --help needs no records

    match wanted:
        case Format.JSONL:
            return as_jsonl(raws)
        case Format.JSON:
            return as_json(raws)
        case Format.CSV:
            return _csv(raws)


def _csv(raws: Sequence[bytes]) -> Iterator[bytes]:
    """A column for every field that a record has; lists and objects as JSON."""
    from taskstore_async.cli.spreadsheet import csv_lines  # noqa: PLC0415 - reason: a module that only CSV needs
    from taskstore_async.core.codec import split_fields  # noqa: PLC0415 - reason: --help needs no records

    names = list(dict.fromkeys(["id", *(name for raw in raws for name in split_fields(raw))]))
    for line in csv_lines(names, (_cells(raw, names) for raw in raws)):
        yield line.encode() + b"\n"


def _cells(raw: bytes, names: Sequence[str]) -> list[object]:
    """Texts as they are, all else as the JSON that stands there, null and what is missing as nothing."""
    from taskstore_async.core.codec import decode_exact, split_fields  # noqa: PLC0415 - reason: as above

    fields = split_fields(raw)
    cells: list[object] = []
    for name in names:
        value = fields.get(name)
        known = None if value is None else decode_exact(value)
        cells.append(value if known is not None and not isinstance(known, str) else known)
    return cells


def _put_document(
    tstore: Invocation, store: Store, collections: Mapping[str, Sequence[bytes]], output: str | None
) -> None:
    from taskstore_async.core.exchange import as_document  # noqa: PLC0415 - reason: --help needs no records

    _put(tstore, store, as_document(collections), output)


def _put(tstore: Invocation, store: Store, pieces: Iterable[bytes], output: str | None) -> None:
    """Print it, or write it to a file and tell."""
    from taskstore_async.storage.exporting import write_file  # noqa: PLC0415 - reason: --help needs no engine

    if output is None or output == "-":
        tstore.out.pieces(pieces)
        return
    with ticking("exporting"):
        size = write_file(Path(output), pieces, store=store.path)
    if tstore.out.for_programs:
        tstore.out.value({"path": output, "bytes": size})
    else:
        tstore.out.words(f"wrote {output}, {human_bytes(size)}")
