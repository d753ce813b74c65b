"""Commands that look at a store as a whole: collections, info."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from taskstore_async.cli.git import warn_about_driver
from taskstore_async.cli.invocation import Invocation, command
from taskstore_async.cli.text import human_bytes, human_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskstore_async.storage.reports import CollectionInfo, StoreStats


@command("collections")
def collections(tstore: Invocation) -> None:
    """List the collections; in a pipe name, records, waiting lines, bytes and declared fields.

    Example: tstore collections
    """
    with tstore.open() as store:
        found = store.collections()
    if tstore.out.for_programs:
        tstore.out.values(found)
        return
    size = size_of_form(tstore)
    tstore.out.rows(
        ("collection", "records", "waiting", "size", "declared"),
        [(c.name, str(c.records), str(c.pending), size(c.journal_bytes), " ".join(c.indexed)) for c in found],
    )


@command("info")
def info(tstore: Invocation) -> None:
    """Tell which store this is, why it is this one, what is in it, and when each collection was last synced.

    Example: tstore info
    """
    place = tstore.place()
    with tstore.open() as store:
        found = store.info()
    warn_about_driver(tstore)
    if tstore.out.for_programs:
        tstore.out.value({"found": place.why, **msgspec.structs.asdict(found)})
        return
    tstore.out.facts(
        [
            ("store", found.path),
            ("found", place.why),
            ("format", str(found.format)),
            ("index", f"{found.index}, SQLite {found.sqlite}"),
            *stats_facts(found.stats, size_of_form(tstore))[1:],
            *((one.name, _told(tstore, one)) for one in found.collections),
        ]
    )


def size_of_form(tstore: Invocation) -> Callable[[int], str]:
    """How sizes are told: as people read them, or in bytes."""
    return human_bytes if tstore.out.is_for_people else str


def stats_facts(found: StoreStats, size: Callable[[int], str]) -> list[tuple[str, str]]:
    """Counts and sizes of a store, with their names."""
    return [
        ("store", found.path),
        ("records", str(found.records)),
        ("collections", str(len(found.collections))),
        ("waiting", str(found.pending)),
        ("journals", size(found.journal_bytes)),
        ("store.db", size(found.index_bytes)),
        ("log rows", str(found.log_rows)),
    ]


def _told(tstore: Invocation, one: CollectionInfo) -> str:
    if not tstore.out.is_for_people:
        return f"{one.records} {one.journal_bytes} {one.last_sync_ms or ''}".rstrip()
    more = "".join(f", {word}" for word, true in (("local", one.local), ("closed to writing", one.closed)) if true)
    return (
        f"{one.records:,} records in {one.lines:,} lines, {human_bytes(one.journal_bytes)}, last synced "
        f"{human_time(one.last_sync_ms)}{more}"
    )
