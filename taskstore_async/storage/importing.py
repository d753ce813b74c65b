"""Taking records from another JSONL file, as our own writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec

from taskstore_async.core.codec import BadLine, Line, LineReader, same_value, split_fields
from taskstore_async.core.fold import Folded, effective, wins
from taskstore_async.core.names import check_collection
from taskstore_async.core.stamp import NS_PER_MS
from taskstore_async.errors import CollectionClosedError, ImportConflictError, TaskStoreError
from taskstore_async.storage.reports import ImportReport, Problem
from taskstore_async.storage.transact import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from taskstore_async.storage.engine import Engine, Session

__all__ = ["OnConflict", "import_lines"]

OnConflict = Literal["fail", "skip", "replace", "newer"]
_BATCH: Final = 1_000
_LISTED: Final = 100
_BAD_LISTED: Final = 1_000


class _Source(msgspec.Struct):
    """What a file brings."""

    folded: dict[str, Folded]
    bad: list[Problem]
    lines: int = 0


class _Plan(msgspec.Struct):
    """What is to be done with what it brings."""

    new: list[Folded]
    replacing: list[Folded]
    unchanged: int
    skipped: list[str]
    conflicts: list[str]


def import_lines(
    engine: Engine,
    collection: str,
    data: Iterable[bytes],
    *,
    source: str,
    on_conflict: OnConflict,
    progress: Callable[[int, int], None] | None,
) -> ImportReport:
    """Take the winner of each id; see `Store.import_lines`."""
    check_collection(collection)
    if on_conflict not in get_args(OnConflict):
        choices = ", ".join(get_args(OnConflict))
        raise ValueError(f"on_conflict is {on_conflict!r}, and must be one of {choices}")
    brought = _read(collection, data, source)
    engine.sync()
    with engine.session() as session:
        with transaction(engine, session, full=False):
            session.syncer.one(collection)
        if session.index.collections[collection].closed:
            raise CollectionClosedError(collection, str(engine.directory.journal(collection)))
        plan = _plan(session, collection, brought.folded, on_conflict)
        if plan.conflicts:
            listed = tuple(plan.conflicts[:_LISTED])
            raise ImportConflictError(collection, listed, total=len(plan.conflicts))
        refused = _write(engine, session, collection, plan, progress=progress)
    engine.flush()
    refused_ids = {record_id for record_id, _ in refused}
    bad = [*brought.bad, *(_refusal(collection, source, brought.folded[one], reason) for one, reason in refused)]
    return ImportReport(
        lines=brought.lines,
        taken=sum(one.line.id not in refused_ids for one in plan.new),
        replaced=sum(one.line.id not in refused_ids for one in plan.replacing),
        unchanged=plan.unchanged,
        skipped=len(plan.skipped),
        skipped_ids=tuple(plan.skipped[:_LISTED]),
        superseded=brought.lines - len(brought.bad) - len(brought.folded),
        bad=tuple(bad[:_BAD_LISTED]),
        bad_count=len(bad),
    )


def _read(collection: str, data: Iterable[bytes], source: str) -> _Source:
    reader = LineReader(())
    brought = _Source({}, [])

    def take(lines: Iterable[Line | BadLine]) -> None:
        for line in lines:
            brought.lines += 1
            if isinstance(line, BadLine):
                brought.bad.append(Problem(collection, source, line.number, line.offset, line.reason))
                continue
            best = brought.folded.get(line.id)
            instant = effective(line, None if best is None else best.instant)
            if best is None or wins(instant, best.instant):
                brought.folded[line.id] = Folded(line, instant)

    for chunk in data:
        take(reader.feed(chunk))
    take(reader.finish())
    return brought


def _plan(session: Session, name: str, folded: dict[str, Folded], on_conflict: OnConflict) -> _Plan:
    """Decide about every record before anything is written."""
    collection = session.index.collections[name]
    plan = _Plan([], [], 0, [], [])
    for record_id, one in folded.items():
        row = session.index.db.execute(collection.select, (record_id,)).fetchone()
        ms, ns, dead, _, raw, _ = row or (0, 0, True, 0, b"", 0)
        newer = one.instant > ms * NS_PER_MS + ns
        if dead and one.line.deleted:
            plan.unchanged += 1
        elif dead and on_conflict == "newer" and row is not None and not newer:
            plan.skipped.append(record_id)  # it was deleted after it was last changed there
        elif dead:
            plan.new.append(one)
        elif _is_stored(raw, one.line.raw):
            plan.unchanged += 1
        elif on_conflict == "replace" or (on_conflict == "newer" and newer):
            plan.replacing.append(one)
        elif on_conflict == "fail":
            plan.conflicts.append(record_id)
        else:
            plan.skipped.append(record_id)
    return plan


def _is_stored(stored: bytes, brought: bytes) -> bool:
    """Whether the two are one record, whenever it was written."""
    if stored == brought:
        return True
    one, other = split_fields(stored), split_fields(brought)
    one.pop("updated_at", None)
    other.pop("updated_at", None)
    return one.keys() == other.keys() and all(same_value(bytes(one[key]), bytes(other[key])) for key in one)


def _write(
    engine: Engine, session: Session, name: str, plan: _Plan, *, progress: Callable[[int, int], None] | None
) -> list[tuple[str, str]]:
    """Write what is to be written, in transactions of a thousand.

    Returns:
        The ids that were refused, with the reason.
    """
    wanted = [*plan.new, *plan.replacing]
    coming = {one.line.id for one in wanted if not one.line.deleted}
    refused: list[tuple[str, str]] = []
    for start in range(0, len(wanted), _BATCH):
        with transaction(engine, session, full=True):
            application = engine.application(session, append_all=False)
            for one in wanted[start : start + _BATCH]:
                try:
                    application.take_line(name, one.line, one.instant, coming=coming)
                except TaskStoreError as error:
                    refused.append((one.line.id, str(error)))
                    coming.discard(one.line.id)
            application.finish()
        session.index.recount()
        if progress is not None:
            progress(min(start + _BATCH, len(wanted)), len(wanted))
    return refused


def _refusal(collection: str, source: str, one: Folded, reason: str) -> Problem:
    return Problem(collection, source, one.line.number, one.line.offset, reason)
