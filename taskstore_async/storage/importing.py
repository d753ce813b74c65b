"""Taking records from lines of another file, as our own writes."""

from __future__ import annotations

import sqlite3
from contextlib import nullcontext, suppress
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec

from taskstore_async.core.codec import same_value, split_fields
from taskstore_async.core.fold import Folded, effective, wins
from taskstore_async.core.line import BadLine, Line
from taskstore_async.core.line_reader import LineReader
from taskstore_async.core.names import check_collection
from taskstore_async.core.stamp import NS_PER_MS
from taskstore_async.errors import CollectionClosedError, FlushError, ImportConflictError
from taskstore_async.storage.journal import closed
from taskstore_async.storage.reports import ImportReport, Problem
from taskstore_async.storage.transact import rehearsal, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.sessions import Session

__all__ = ["OnConflict", "import_files"]

OnConflict = Literal["fail", "skip", "replace", "newer"]
_BATCH: Final = 1_000
_ASKED: Final = 500
_LISTED: Final = 100
_BAD_LISTED: Final = 1_000


class _Source(msgspec.Struct):
    """What a file brings to a collection."""

    file: str
    collection: str
    folded: dict[str, Folded]
    bad: list[Problem]
    lines: int = 0


class _Plan(msgspec.Struct):
    """What is to be done with what it brings."""

    new: list[Folded]  #: no row is there
    revived: list[Folded]  #: the row of a deleted record is
    replacing: list[Folded]
    unchanged: int
    skipped: list[str]
    conflicts: list[str]


def import_files(
    engine: Engine,
    files: Sequence[tuple[str, Mapping[str, Iterable[bytes]]]],
    *,
    on_conflict: OnConflict,
    dry_run: bool,
    progress: Callable[[int, int], None] | None,
) -> list[dict[str, ImportReport]]:
    """Take the winner of each id of each collection of all files; see `Store.import_files`."""
    for name in chain.from_iterable(data for _, data in files):
        check_collection(name)
    if on_conflict not in get_args(OnConflict):
        choices = ", ".join(get_args(OnConflict))
        raise ValueError(f"on_conflict is {on_conflict!r}, and must be one of {choices}")
    brought = [_read(name, chunks, source) for source, data in files for name, chunks in data.items()]
    for later, one in enumerate(brought):
        for earlier in brought[:later]:
            if earlier.collection == one.collection:
                _outbid(earlier.folded, one.folded)
    engine.sync()

    def work() -> tuple[list[_Plan], dict[str, list[tuple[str, str]]]]:
        with engine.session() as session, rehearsal(engine, session) if dry_run else nullcontext():
            return _take(engine, session, brought, on_conflict, progress=progress, rehearsing=dry_run)

    plans, refused = engine.mending(work)
    if not dry_run:
        engine.flush()
    told = iter(
        [_report(one, plan, refused[one.collection], dry_run=dry_run) for one, plan in zip(brought, plans, strict=True)]
    )
    return [{name: next(told) for name in data} for _, data in files]


def _outbid(earlier: dict[str, Folded], later: dict[str, Folded]) -> None:
    """Leave each id to the file that has the winner of both."""
    for record_id in earlier.keys() & later.keys():
        best, one = earlier[record_id], later[record_id]
        instant = effective(one.line, best.instant) if one.line.instant is None else one.instant
        if wins(instant, best.instant):
            later[record_id] = Folded(one.line, instant)
            del earlier[record_id]
        else:
            del later[record_id]


def _take(
    engine: Engine,
    session: Session,
    brought: Sequence[_Source],
    on_conflict: OnConflict,
    *,
    progress: Callable[[int, int], None] | None,
    rehearsing: bool,
) -> tuple[list[_Plan], dict[str, list[tuple[str, str]]]]:
    """Decide about every record of every collection, then write what is to be written.

    Returns:
        The plans, and by collection the ids that were refused, with the reason.

    Raises:
        CollectionClosedError, ImportConflictError: Then nothing was written.
    """
    names = list(dict.fromkeys(one.collection for one in brought))
    with nullcontext() if rehearsing else transaction(engine, session, full=False):
        for name in names:
            session.syncer.one(name)
    plans: list[_Plan] = []
    for one in brought:
        if session.index.collections[one.collection].closed:
            raise closed(one.collection, engine.directory.journal(one.collection))
        plan = _plan(session, one.collection, one.folded, on_conflict)
        if plan.conflicts:
            some, total = tuple(plan.conflicts[:_LISTED]), len(plan.conflicts)
            file = one.file if any(other.file != one.file for other in brought) else None
            raise ImportConflictError(one.collection, some, total=total, source=file)
        plans.append(plan)
    wanted = [
        (one.collection, some is plan.new, some)
        for one, plan in zip(brought, plans, strict=True)
        for some in (plan.new, plan.revived, plan.replacing)
    ]
    return plans, _write(engine, session, wanted, names=names, progress=progress, rehearsing=rehearsing)


def _report(brought: _Source, plan: _Plan, refused_of_all: Sequence[tuple[str, str]], *, dry_run: bool) -> ImportReport:
    refused = [(record_id, reason) for record_id, reason in refused_of_all if record_id in brought.folded]
    refused_ids = {record_id for record_id, _ in refused}
    bad = [*brought.bad, *(_refusal(brought, record_id, reason) for record_id, reason in refused)]
    replaced = [one.line.id for one in plan.replacing if one.line.id not in refused_ids]
    return ImportReport(
        lines=brought.lines,
        taken=len(plan.new) + len(plan.revived) - len(refused_ids.difference([one.line.id for one in plan.replacing])),
        replaced=len(replaced),
        replaced_ids=tuple(replaced[:_LISTED]),
        unchanged=plan.unchanged,
        skipped=len(plan.skipped),
        skipped_ids=tuple(plan.skipped[:_LISTED]),
        superseded=brought.lines - len(brought.bad) - len(brought.folded),
        bad=tuple(bad[:_BAD_LISTED]),
        bad_count=len(bad),
        dry_run=dry_run,
    )


def _read(collection: str, data: Iterable[bytes], source: str) -> _Source:
    reader = LineReader(())
    brought = _Source(source, collection, {}, [])
    folded = brought.folded

    def take(lines: Sequence[Line | BadLine]) -> None:
        brought.lines += len(lines)
        for line in lines:
            if type(line) is Line and line.instant is not None and line.id not in folded:  # as nearly all are
                folded[line.id] = Folded(line, line.instant)
                continue
            if isinstance(line, BadLine):
                brought.bad.append(Problem(collection, source, line.number, line.offset, line.reason))
                continue
            best = folded.get(line.id)
            instant = line.instant
            if instant is None:
                instant = effective(line, None if best is None else best.instant)
            if best is None or wins(instant, best.instant):
                folded[line.id] = Folded(line, instant)

    for chunk in data:
        take(reader.feed(chunk))
    take(reader.finish())
    return brought


def _plan(session: Session, name: str, folded: dict[str, Folded], on_conflict: OnConflict) -> _Plan:
    """Decide about every record before anything is written."""
    collection = session.index.collections[name]
    plan = _Plan([], [], [], 0, [], [])
    stored = _stored(session, collection, list(folded))
    for record_id, one in folded.items():
        row = stored.get(record_id)
        if row is None:
            if one.line.deleted:
                plan.unchanged += 1
            else:
                plan.new.append(one)
            continue
        ms, ns, dead, raw = row
        newer = one.instant > ms * NS_PER_MS + ns
        if dead and one.line.deleted:
            plan.unchanged += 1
        elif dead and on_conflict == "newer" and not newer:
            plan.skipped.append(record_id)  # it was deleted after it was last changed there
        elif dead:
            plan.revived.append(one)
        elif _is_stored(raw, one.line.raw):
            plan.unchanged += 1
        elif on_conflict == "replace" or (on_conflict == "newer" and newer):
            plan.replacing.append(one)
        elif on_conflict == "fail":
            plan.conflicts.append(record_id)
        else:
            plan.skipped.append(record_id)
    return plan


def _stored(session: Session, collection: Collection, ids: list[str]) -> dict[str, tuple[int, int, bool, bytes]]:
    """The stamp, whether it is deleted, and the line of each of *ids* that there is."""
    found: dict[str, tuple[int, int, bool, bytes]] = {}
    if session.index.db.execute(f"SELECT 1 FROM {collection.rows} LIMIT 1").fetchone() is None:
        return found
    for start in range(0, len(ids), _ASKED):
        some = ids[start : start + _ASKED]
        sql = f"SELECT id, ms, ns, dead, line FROM {collection.rows} WHERE id IN ({', '.join('?' * len(some))})"
        for record_id, ms, ns, dead, line in session.index.db.execute(sql, some):
            found[record_id] = (ms, ns, bool(dead), line)
    return found


def _is_stored(stored: bytes, brought: bytes) -> bool:
    """Whether the two are one record, whenever it was written."""
    if stored == brought:
        return True
    one, other = split_fields(stored), split_fields(brought)
    one.pop("updated_at", None)
    other.pop("updated_at", None)
    return one.keys() == other.keys() and all(same_value(bytes(one[key]), bytes(other[key])) for key in one)


def _write(
    engine: Engine,
    session: Session,
    wanted: Sequence[tuple[str, bool, Sequence[Folded]]],
    *,
    names: Iterable[str],
    progress: Callable[[int, int], None] | None,
    rehearsing: bool,
) -> dict[str, list[tuple[str, str]]]:
    """Write what is to be written, in transactions of a thousand or less; in that of the rehearsal, if it is one.

    What is wanted are records of a collection, with whether there is a row of none of them.

    Returns:
        By collection, the ids that were refused, with the reason.
    """
    refused: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    coming: dict[str, set[str]] = {name: set() for name in names}
    lines: dict[str, list[bytes]] = {}
    _ = session.index.waiting  # counted while there is little, and added to from now on
    for name, _, some in wanted:
        coming[name].update([one.line.id for one in some if not one.line.deleted])
    written, total = 0, sum(len(some) for *_, some in wanted)
    for name, new, some in (
        (name, new, all_[start : start + _BATCH]) for name, new, all_ in wanted for start in range(0, len(all_), _BATCH)
    ):
        # What is reported is in the journal by then, fsynced: no transaction need be on the disk before.
        with nullcontext() if rehearsing else transaction(engine, session, full=False):
            application = engine.application(session, append_all=False)
            found = application.take_lines(name, some, new=new, coming=coming)
            refused[name] += [(record_id, str(error)) for record_id, error in found]
            application.finish()
        if rehearsing:
            continue
        application.contents.delete()
        session.index.wrote({name: len(held) for name, held in application.lines.items()})
        for held_of, held in application.lines.items():
            lines.setdefault(held_of, []).extend(held)
        written += len(some)
        if progress is not None:
            progress(written, total)
    if lines:
        _append(session, lines)
    return refused


def _append(session: Session, lines: Mapping[str, Sequence[bytes]]) -> None:
    """Flush what was written while its lines are at hand; what cannot be flushed is left to the flush of everything."""
    with suppress(FlushError, CollectionClosedError, sqlite3.Error):
        session.index.make_durable()  # of a deletion that had consequences, one file must not have a part alone
        session.flusher.some(lines)


def _refusal(brought: _Source, record_id: str, reason: str) -> Problem:
    line = brought.folded[record_id].line
    return Problem(brought.collection, brought.file, line.number, line.offset, reason)
