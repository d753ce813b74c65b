"""Commands about merges: merge, conflicts, resolve."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from taskstore_async.cli.errors import ExitCode, UsageError, tell
from taskstore_async.cli.invocation import Invocation, command
from taskstore_async.cli.text import human_count, human_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from taskstore_async.core.difference import FieldChange
    from taskstore_async.git.decisions import Conflicts, Past, Standing
    from taskstore_async.git.resolving import Foreseen, Resolved, Side

_SIDES: Final = ("ours", "theirs", "first", "second")

InCollection = Annotated[
    str | None, typer.Option("--collection", "-c", metavar="COLL", help="Where it stands, when the id does not tell.")
]


@command("merge")
def merge(
    tstore: Invocation,
    base: Annotated[str, typer.Argument(metavar="BASE", help="The version both come from; may be absent or empty.")],
    ours: Annotated[str, typer.Argument(metavar="OURS", help="One version.")],
    theirs: Annotated[str, typer.Argument(metavar="THEIRS", help="The other version.")],
    *,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where the result goes, whole or not at all; else stdout."),
    ] = None,
) -> None:
    """Merge two versions of a JSONL file record by record, field by field; no store is needed.

    What was decided is told on stderr, with --json as one object: on stdout when the result goes to a file. Exit codes
    are git's: 0 merged, 1 a conflict stands between markers, 2 nothing was merged.

    Example: tstore merge base.jsonl ours.jsonl theirs.jsonl -o merged.jsonl
    """
    from taskstore_async.git.driver import ERROR, merge_files  # noqa: PLC0415 - reason: --help needs no merge

    for path in (ours, theirs):
        if not Path(path).exists():  # to the driver it would be a version from which everything was deleted
            raise UsageError(f"there is no file {path}; nothing was merged (for a deleted file give an empty one)")
    as_json = tstore.out.for_programs
    refuse = partial(tell, as_json=as_json, exit_code=ERROR)
    code = merge_files(base, ours, theirs, output=output, path=output, as_json=as_json, refuse=refuse)
    tstore.code = ExitCode(code)


@command("conflicts")
def conflicts(
    tstore: Invocation,
    *,
    merges: Annotated[int, typer.Option(min=0, metavar="N", help="Of so many past merges.")] = 10,
) -> None:
    """Tell what merges left to a person, and what the last ones decided by themselves; exit 5 when something is left.

    Left are records that stand between conflict markers in a file, and records that name an id which is two records'
    since a merge. In a pipe: what it is, collection, id, and what there is to say.

    Example: tstore conflicts --json
    """
    from taskstore_async.git.decisions import conflicts as find  # noqa: PLC0415 - reason: --help needs no engine

    with tstore.open() as store:
        found = find(store, merges=merges)
    if tstore.out.for_programs:
        tstore.out.value(found)
    elif tstore.out.is_for_people:
        tstore.out.lines(_lines(found))
    else:
        tstore.out.rows((), [[*head, about] for head, abouts in _told(found) for about in abouts])
    if not tstore.out.for_programs:
        for hint in _hints(found):
            tstore.out.words(hint)
    if found.standing or found.markers or found.mentions:
        tstore.code = ExitCode.CONFLICT


def _lines(found: Conflicts) -> Iterator[str]:
    """What a person reads: a line about each, and what there is to say of it below."""
    for (what, collection, record_id), abouts in _told(found):
        yield f"{what}  {collection}/{record_id}" if record_id else f"{what}  {collection}"
        for about in abouts:
            yield f"    {about}"


def _told(found: Conflicts) -> Iterator[tuple[tuple[str, str, str], list[str]]]:
    """What it is, the collection and the id; and what there is to say of it."""
    for standing in found.standing:
        choices = [_choice(standing, change) for change in standing.fields]
        yield (("conflict", standing.collection, standing.id), choices)
    for stray in found.markers:
        kind = "markers with nothing to choose between them" if stray.whole else "markers that make no whole block"
        yield (("markers", stray.collection, ""), [f"lines {', '.join(map(str, stray.lines))}: {kind}"])
    for mention in found.mentions:
        about = f"{', '.join(mention.paths)}: {mention.old} or {mention.new}"
        yield (("mention", mention.collection, mention.id), [about])
    for past in found.decided:
        yield (("decided", past.collection, past.decision.id), [_decided(past)])


def _choice(standing: Standing, change: FieldChange) -> str:
    whose = {"first": ("ours", "theirs"), "second": ("theirs", "ours"), None: ("first", "second")}[standing.ours]
    upper, lower = (bytes(value).decode() if value else "absent" for value in (change.before, change.after))
    return f"{change.field}: {whose[0]} {upper}, {whose[1]} {lower}"


def _decided(past: Past) -> str:
    from taskstore_async.core.merge_report import Report, words  # noqa: PLC0415 - reason: --help needs no merge

    _, first, *fields = words(Report(decisions=(past.decision,)))
    why = "; ".join([first.removeprefix(f"{past.decision.id}: "), *(field.strip() for field in fields)])
    return f"{human_time(past.at)}: {why}"


def _hints(found: Conflicts) -> Iterator[str]:
    if found.standing:
        records = len({(one.collection, one.id) for one in found.standing})
        whose = "ours|theirs" if all(one.ours for one in found.standing) else "first|second"
        yield f"{human_count(records, 'record')} to choose a version of: tstore resolve ID --take {whose}|FILE"
    if any(stray.whole for stray in found.markers):
        yield "markers with nothing to choose between them go with: tstore resolve"
    if not all(stray.whole for stray in found.markers):
        yield "markers that make no whole block are for an editor: mend the file, then run tstore sync"
    for mention in found.mentions[:1]:
        command = f"tstore resolve {mention.id} --refer {mention.old}={mention.new}"
        yield f"say which record is meant: {command}, or ={mention.old} to leave it"


@command("resolve")
def resolve(
    tstore: Invocation,
    record_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="The record's id, or the beginning of it.", show_default=False),
    ] = None,
    *,
    take: Annotated[
        str | None,
        typer.Option(
            metavar="ours|theirs|first|second|FILE",
            help="Whose version; the upper or the lower one between markers; or a file with the record as JSON, "
            "- for stdin.",
        ),
    ] = None,
    refer: Annotated[
        str | None,
        typer.Option(metavar="OLD=NEW", help="Where this record names OLD, it means NEW; OLD=OLD leaves it as it is."),
    ] = None,
    collection: InCollection = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every record that stands between markers, all of them or none.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also when the record was changed since the merge, which is undone then.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be written and taken out.")] = False,
) -> None:
    """Choose between the versions that a merge left between markers, or undo what it decided about a record.

    The version becomes a new one of the record, and the markers around it go; no line of its history does. Without an
    ID, markers between which there is nothing to choose are taken out of all files. What is taken out is kept in
    quarantine/. With --dry-run, in a pipe: what, where, and the line that would be written or taken out; and what
    merges.log would call settled.

    Example: tstore resolve bd-7 --take theirs
    """
    from taskstore_async.git import resolving  # noqa: PLC0415 - reason: --help needs no engine

    if every:
        side = _version(take or "ours")
        if record_id is not None or refer is not None or take is None or isinstance(side, bytes):
            raise UsageError("--all goes with --take ours|theirs|first|second, and without an id")
        with tstore.open() as store:
            if dry_run:
                _print_foreseen(tstore, resolving.rehearse_resolve_all(store, side, collection=collection, force=force))
                return
            resolved, folder = resolving.resolve_all(store, side, collection=collection, force=force), store.path
        _print_all(tstore, resolved, folder)
        return
    if record_id is None:
        if take or refer or collection or force:
            raise UsageError("the options need a record's id, or --all: tstore resolve ID --take ours")
        with tstore.open() as store:
            if dry_run:
                _print_foreseen(tstore, resolving.rehearse_clean(store))
                return
            cleaned = resolving.clean(store)
        _print_cleaned(tstore, cleaned)
        return
    if (take is None) is (refer is None):
        raise UsageError("say either which version to take, --take ours|theirs|FILE, or what is meant, --refer OLD=NEW")
    if refer is not None:
        _refer(tstore, record_id, refer, collection, dry_run=dry_run)
        return
    version = _version(take or "")
    with tstore.open() as store:
        if dry_run:
            foreseen = resolving.rehearse_resolve(store, record_id, version, collection=collection, force=force)
            _print_foreseen(tstore, foreseen)
            return
        done, folder = resolving.resolve(store, record_id, version, collection=collection, force=force), store.path
    _print_resolved(tstore, done, folder)


def _refer(tstore: Invocation, record_id: str, refer: str, collection: str | None, *, dry_run: bool) -> None:
    from taskstore_async.git import resolving  # noqa: PLC0415 - reason: --help needs no engine

    old, sign, new = refer.partition("=")
    if not (old and sign and new):
        raise UsageError(f"{refer!r} does not say what is meant; write OLD=NEW: --refer bd-7=bd-7-0123456789")
    with tstore.open() as store:
        if dry_run:
            _print_foreseen(tstore, resolving.rehearse_refer(store, record_id, old, new, collection=collection))
            return
        done, folder = resolving.refer(store, record_id, old, new, collection=collection), store.path
    _print_resolved(tstore, done, folder)


def _version(take: str) -> Side | bytes:
    from taskstore_async.git.resolving import Side  # noqa: PLC0415 - reason: --help needs no engine

    if take in _SIDES:
        return Side(take)
    if take == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(take).read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {take}; --take is ours, theirs, first, second or a file") from error


def _print_foreseen(tstore: Invocation, foreseen: Foreseen) -> None:
    """What would be written, taken out and noted: whole lines, since that is what was asked for."""
    if tstore.out.for_programs:
        tstore.out.value(foreseen)
        return
    rows = [(one.kind, f"{one.collection}/{one.id}", bytes(one.line).decode()) for one in foreseen.changes]
    rows += [("taken out", f"{name}.jsonl", line) for name, lines in foreseen.taken_out.items() for line in lines]
    rows += [("settled", one, "") for one in foreseen.settled]
    if tstore.out.is_for_people:
        tstore.out.lines("  ".join(row).rstrip() for row in rows)
    else:
        tstore.out.rows((), rows)
    tstore.out.words("nothing was written: this is what would be")


def _print_cleaned(tstore: Invocation, cleaned: dict[str, int]) -> None:
    if tstore.out.for_programs:
        tstore.out.value(cleaned)
        return
    tstore.out.rows(("collection", "lines taken out"), [(name, str(count)) for name, count in cleaned.items()])
    if not cleaned:
        tstore.out.words("there are no markers without something to choose between them; see: tstore conflicts")


def _print_all(tstore: Invocation, resolved: Sequence[Resolved], folder: Path) -> None:
    if tstore.out.for_programs:
        tstore.out.values(resolved)
        return
    tstore.out.words(f"{human_count(len(resolved), 'record')} resolved")
    if resolved:
        after = _then_add(folder, *(one.collection for one in resolved))
        tstore.out.words(f"the markers went to quarantine/; {after}")


def _print_resolved(tstore: Invocation, done: Resolved, folder: Path) -> None:
    if tstore.out.for_programs:
        tstore.out.value(done)
        return
    became = "is deleted" if done.line is None else "has its new version"
    tstore.out.words(f"{done.collection}/{done.id} {became}")
    if done.markers:
        tstore.out.words(f"its markers went to quarantine/; {_then_add(folder, done.collection)}")


def _then_add(folder: Path, *collections: str) -> str:
    """What is left to do when the merge is git's."""
    names = " ".join(os.path.relpath(folder / f"{name}.jsonl") for name in dict.fromkeys(collections))
    return f"when no conflict is left: git add {names}"
