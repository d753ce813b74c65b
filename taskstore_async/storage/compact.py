"""Compaction: the journals keep the latest line of each record, and nothing is lost that could not be read."""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.codec import join_fields, split_fields
from taskstore_async.core.conflicts import find_markers
from taskstore_async.core.declaration import TYPES
from taskstore_async.core.fold import effective, wins
from taskstore_async.core.line import BadLine, Line
from taskstore_async.core.line_reader import LineReader
from taskstore_async.core.schedule import GRACE_MS
from taskstore_async.core.stamp import NS_PER_MS
from taskstore_async.errors import FlushError, UnresolvedConflictError
from taskstore_async.storage import journal
from taskstore_async.storage.clock import now_ms
from taskstore_async.storage.journal import chunks, closed, crc_of_prefix, open_to_append
from taskstore_async.storage.reports import Compacted, CompactReport
from taskstore_async.storage.transact import transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.sessions import Session

__all__ = ["compact"]

_BEYOND: Final = 1_024  #: carriage returns that a line may end in


class _Kept(msgspec.Struct):
    """The line of a record that stays, and the stamp that the fold gave it."""

    line: Line
    instant: int


class _Content(msgspec.Struct):
    """What a file holds, up to where whole lines end."""

    kept: dict[str, _Kept]
    bad: list[bytes]
    lines: int
    size: int
    crc: int
    open_ended: bool = False  #: it ends within a conflict, so that what comes next would not be read
    contested: tuple[str, ...] = ()  #: records with versions between markers of which no stamp says which is the later


def compact(engine: Engine, name: str | None, *, grace_ms: int = GRACE_MS, dry_run: bool = False) -> CompactReport:
    """Compact one collection, or all; see `Store.compact`.

    Raises:
        CollectionClosedError: The one that was named is closed to writing. Of all, those that are are left alone.
        UnresolvedConflictError: In the one that was named versions with equal stamps stand between markers. Likewise.
        FlushError: A file could not be written, or somebody else kept replacing it.
    """
    engine.sync()
    return engine.mending(lambda: _compact_all(engine, name, grace_ms=grace_ms, dry_run=dry_run))


def _compact_all(engine: Engine, name: str | None, *, grace_ms: int, dry_run: bool) -> CompactReport:
    done: dict[str, Compacted] = {}
    with engine.session() as session:
        for one in [name] if name is not None else sorted(session.index.collections):
            collection = session.index.collections.get(one)
            path = engine.directory.journal(one)
            if collection is None or journal.stat_of(path) is None:
                continue
            if not collection.closed:
                with suppress(UnresolvedConflictError) if name is None else nullcontext():
                    done[one] = _compact(engine, session, one, grace_ms=grace_ms, dry_run=dry_run)
            elif name is not None:
                raise closed(one, path)
    return CompactReport(done)


def _compact(engine: Engine, session: Session, name: str, *, grace_ms: int, dry_run: bool) -> Compacted:
    from taskstore_async.storage import replacing  # noqa: PLC0415 - reason: each start loads this module, for a default

    path = engine.directory.journal(name)
    replacing.clear_temporaries(path)
    quarantined: list[bytes] = []
    try:
        for _ in range(replacing.TRIES):
            with open_to_append(path, create=False) as old:  # other tools that lock the journal wait
                content = _read(old)
                if content.bad and (content.open_ended or not content.kept):
                    raise closed(name, path)
                if content.contested and name != TYPES:  # what is declared there is no record that could be resolved
                    raise UnresolvedConflictError(name, str(path), content.contested)
                lines = _latest(content, oldest=(now_ms() - grace_ms) * NS_PER_MS)
                if dry_run:
                    return _told(content, lines, sum(len(line) + 1 for line in lines), len(content.bad))
                if content.bad != quarantined:
                    quarantined = content.bad
                    replacing.quarantine(engine.directory, name, quarantined)
                pieces = (line + b"\n" for line in lines)
                new_size = replacing.replace(path, old, pieces, size=content.size, crc=content.crc)
                if new_size is None:
                    continue
            with transaction(engine, session, full=False):
                session.syncer.one(name, force=True)
            return _told(content, lines, new_size, len(quarantined))
    except OSError as error:
        raise FlushError(str(path), error.strerror or str(error), pending=0) from error
    raise FlushError(str(path), "it keeps being replaced while it is compacted", pending=0)


def _told(content: _Content, lines: Sequence[bytes], new_size: int, quarantined: int) -> Compacted:
    return Compacted(
        lines_before=content.lines,
        lines_after=len(lines),
        bytes_before=content.size,
        bytes_after=new_size,
        quarantined=quarantined,
    )


def _read(descriptor: int) -> _Content:
    """Fold the open file; a torn line at its end is left to whoever is writing it."""
    end = os.fstat(descriptor).st_size
    reader = LineReader(())
    content = _Content({}, [], 0, 0, 0)
    bad: list[BadLine] = []
    for chunk in chunks(descriptor, 0, end):
        bad += _fold(content, reader.feed(chunk))
    content.size = reader.offset
    content.lines = reader.number - 1
    if last := [line for line in reader.finish() if isinstance(line, Line)]:
        _fold(content, last)
        content.size = end
        content.lines += 1
    content.bad = [_bytes_at(descriptor, line, end) for line in bad]
    content.open_ended = reader.in_base
    content.crc = crc_of_prefix(descriptor, content.size)
    if reader.markers:
        blocks = find_markers(b"".join(chunks(descriptor, 0, content.size))).blocks
        contests = (contest for block in blocks for contest in block.contests)
        undecided = (
            one.id
            for one in contests
            if one.first.instant == one.second.instant
            and content.kept[one.id].line.raw in {one.first.raw, one.second.raw}  # else a later line has decided
        )
        content.contested = tuple(dict.fromkeys(undecided))
    return content


def _bytes_at(descriptor: int, line: BadLine, end: int) -> bytes:
    """The line as it stands in the file, carriage returns too."""
    found = b""
    for chunk in chunks(descriptor, line.offset, min(line.offset + len(line.raw) + _BEYOND, end)):
        found += chunk
    return found[: len(line.raw)] + found[len(line.raw) :].partition(b"\n")[0]


def _fold(content: _Content, lines: Iterable[Line | BadLine]) -> list[BadLine]:
    """Fold the readable lines; returns the others."""
    bad: list[BadLine] = []
    for line in lines:
        if isinstance(line, BadLine):
            bad.append(line)
            continue
        kept = content.kept.get(line.id)
        instant = effective(line, kept.instant if kept else None)
        if kept is None or wins(instant, kept.instant):
            content.kept.pop(line.id, None)  # it moves to where its line stood
            content.kept[line.id] = _Kept(line, instant)
    return bad


def _latest(content: _Content, *, oldest: int) -> list[bytes]:
    """The lines that stay, in the order in which they stood."""
    lines: list[bytes] = []
    for kept in content.kept.values():
        if kept.line.deleted and kept.instant < oldest:
            continue
        raw = kept.line.raw
        if kept.line.instant is None:  # position gave it its stamp, and its position is about to change
            ms = -(-kept.instant // NS_PER_MS)
            raw = join_fields({**split_fields(raw), "updated_at": msgspec.Raw(b"%d" % ms)})
        lines.append(raw)
    return lines
