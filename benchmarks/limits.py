"""For rows that miss their budget: what it would take to keep to it."""

from __future__ import annotations

from typing import Final

__all__ = ["LIMITS"]

_THREADS: Final = (
    "A write passes three threads (loop, engine, the helper that waits for store.lock), and each handover costs 30 to "
    "50 µs here. It would take a lock that is kept for several transactions, or tried first in the engine's thread, "
    "which starves other processes."
)

LIMITS: Final[dict[str, str]] = {
    "puts.journal.engine": (
        "Of about 15 µs a put, 8 are SQLite's for a row, three indexes and the log; the lock, the look at the file, "
        "the append and the marks are shared by 64 and cost 4; proving that a record reads back as itself costs 1. "
        "What is left to gain is in the marks (a row of the catalogue per batch) and in the draft."
    ),
    "puts.journal.against.each": (
        "A batch of 64 costs the processor 1.5 to 2 ms, as much as a dozen fsyncs of a fast disk; where an append and "
        "fsync takes 1 ms or more, the row is met several times over."
    ),
    "puts.journal.against.langgraph": (
        "It writes what came in one tick with one executemany, checks no value, has no index by field, no log and no "
        "journal. On disks whose fsync takes 1 ms or more the order is the other way round."
    ),
    "puts.relaxed": "As for the engine; the manager adds about 8 µs a put, half of it asyncio's futures and handles.",
    "puts.index": "One fsync of the index's log stands against one of the journal: on a disk that others use, noise.",
    "put.one.manager": _THREADS,
    "put.one.store": _THREADS,
    "create_many.store": (
        "Each record is encoded, decoded and compared before the first row is written, so that nothing is stored that "
        "would not read back: a fifth of the time. The log's rows are another tenth."
    ),
    "create_many.manager": "As for Store; the drafts are made in slices on the loop, which goes on meanwhile.",
    "get.one.asyncio": (
        "The hop outlasts a native cancellation, keeps the answer of a caller that went away, and asks whether the "
        "index is still the file of that name. It would take a lighter shield than anyio's scope, and an event that is "
        "made only when a second caller joins."
    ),
    "filter.10.store": "Beside decoding, each record gets the CRC of its line, which compare-and-set needs: 10 %.",
    "filter.10.manager": "As for Store, and the rows cross a thread before they are decoded in slices of 500.",
    "rebuild.new": (
        "Lines are decoded for their id, stamp, creation and deletion beside the indexed fields, and numbered for "
        "reports. In processor time it is 1.3 to 1.4; the rest is a machine that others use."
    ),
    "rebuild.in_place": (
        "What is written goes through the write-ahead log, so twice to the disk, and the new rows are compared with "
        "the old ones for the feed. In processor time it is 2.3."
    ),
    "sync.branch": (
        "A line that is unchanged costs 1.7 µs: reading its row, and finding its bytes among the next ones. Comparing "
        "runs of lines with runs of rows at once would halve that."
    ),
    "start.list": (
        "typer alone takes most of the budget; the rest is importing every family of commands and building their "
        "options, about 28 ms. Loading only the family of the command that was named would keep to it."
    ),
    "start.merge": "Python's modules for JSON, times and paths; alone on the machine it is 30 ms.",
    "import.real": (
        "Every record is folded, compared with what is stored, checked, entered into row table and log, read back as a "
        "line and appended. Writing rows many at a time, as create_many does, would save a fifth."
    ),
}
