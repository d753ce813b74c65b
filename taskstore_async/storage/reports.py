"""What the engine's calls tell: plain values, so that ``--json`` is ``msgspec.to_builtins`` of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


class Problem(msgspec.Struct, frozen=True):
    """A line that could not be read, or was read and breaks a limit."""

    collection: str
    file: str
    line: int  #: 1-based
    offset: int  #: of its first byte
    reason: str
    served: bool = False  #: the record is there all the same


class CollectionSync(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at one journal found and did."""

    how: str  #: fresh, tail, scan, new, gone or closed
    lines_read: int = 0
    bytes_read: int = 0
    taken: int = 0  #: records that now have the file's version
    removed: int = 0  #: records that the file has not any more
    settled: int = 0  #: own versions that were found in the file
    outbid: int = 0  #: own pending versions that lost to a higher stamp in the file; they are still appended
    flushed: int = 0  #: lines appended
    rows_rebuilt: int = 0
    problems: tuple[Problem, ...] = ()


class SyncReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `sync` did, or with ``check`` would do."""

    stale: bool  #: some file differed from what the index knew
    rebuilt: bool = False
    collections: dict[str, CollectionSync] = {}
    notes: tuple[str, ...] = ()


class FlushReport(msgspec.Struct, frozen=True):
    """What a flush appended."""

    lines: int = 0
    bytes: int = 0
    files: int = 0


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an import took. ``taken`` counts new records and, apart, ``replaced`` and ``unchanged`` ones."""

    lines: int
    taken: int
    replaced: int
    unchanged: int
    skipped: int
    skipped_ids: tuple[str, ...] = ()  #: at most 100 of them
    superseded: int = 0  #: lines of the source that a later or newer line of the same id beats
    replaced_ids: tuple[str, ...] = ()  #: at most 100 of them
    bad: tuple[Problem, ...] = ()  #: the first of them
    bad_count: int = 0
    dry_run: bool = False  #: nothing was written: this is what would be


def together(reports: Iterable[ImportReport]) -> ImportReport:
    """The reports of several collections as one: what they count and name, added up."""
    many = list(reports)
    return ImportReport(
        lines=sum(one.lines for one in many),
        taken=sum(one.taken for one in many),
        replaced=sum(one.replaced for one in many),
        unchanged=sum(one.unchanged for one in many),
        skipped=sum(one.skipped for one in many),
        skipped_ids=tuple(record_id for one in many for record_id in one.skipped_ids),
        superseded=sum(one.superseded for one in many),
        replaced_ids=tuple(record_id for one in many for record_id in one.replaced_ids),
        bad=tuple(problem for one in many for problem in one.bad),
        bad_count=sum(one.bad_count for one in many),
        dry_run=any(one.dry_run for one in many),
    )


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that `check` found wrong, or worth knowing when not ``error``."""

    kind: str
    message: str
    collection: str | None = None
    record_id: str | None = None
    file: str | None = None
    line: int | None = None
    offset: int | None = None
    error: bool = True


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the index equals the journal and the outbox, and what else is wrong."""

    ok: bool
    collections: int
    records: int
    problems: tuple[Finding, ...] = ()


class Compacted(msgspec.Struct, frozen=True, kw_only=True):
    """What compaction did to one journal."""

    lines_before: int
    lines_after: int
    bytes_before: int
    bytes_after: int
    quarantined: int = 0


class CompactReport(msgspec.Struct, frozen=True):
    """What compaction did, by collection."""

    collections: dict[str, Compacted]


class CollectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One collection as it stands."""

    name: str
    records: int
    tombstones: int
    pending: int
    lines: int
    journal_bytes: int
    local: bool
    declared: bool
    indexed: tuple[str, ...]
    closed: bool
    last_sync_ms: int | None


class StoreStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and sizes of a store. Sizes in bytes."""

    path: str
    collections: dict[str, int]
    records: int
    pending: int
    journal_bytes: int
    index_bytes: int
    log_rows: int


class StoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store is and how it is kept."""

    path: str
    format: int
    index: str  #: wal, rollback or memory
    index_id: str
    sqlite: str
    stats: StoreStats
    collections: tuple[CollectionInfo, ...]
    notes: tuple[str, ...] = ()


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a record."""

    raw: bytes  #: its line
    updated_at: int  #: the stamp that the fold gives it, whole milliseconds
    deleted: bool
    line: int | None  #: where it stands in the journal; None when it is not flushed yet
    current: bool  #: it is the version that counts


class Listing(msgspec.Struct, frozen=True):
    """What `list_tolerant` found."""

    records: list[Any]
    unreadable: list[Unreadable]


class Unreadable(msgspec.Struct, frozen=True):
    """A record, or a line, that `list_tolerant` could not give as the type asked for."""

    record_id: str | None
    reason: str
    line: int | None = None
    offset: int | None = None
