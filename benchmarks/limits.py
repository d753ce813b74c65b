"""For rows that miss their budget: what it would take to keep to it."""

from __future__ import annotations

from typing import Final

__all__ = ["LIMITS"]

_ONE_PUT: Final = (
    "Beside its fsync a put takes 115 µs: 30 are COMMIT's, which writes seven pages, 30 other statements of SQLite, 25 "
    "system calls that look at lock, index and journal, the rest is Python."
)

LIMITS: Final[dict[str, str]] = {
    "puts.journal.engine": (
        "Of about 18 µs a put, 9 are SQLite's: 5 for finding and writing a row, three indexes and the log, 3 for "
        "COMMIT, which writes 20 pages, 2 for checkpoints. 4 are the fsync of the journal, which the floor has too; "
        "2.5 encoding, proving that a record reads back as itself, and laying out its line; the rest, the look at "
        "lock, index and file and the marks, is shared by 64. SQLite's share alone is twice the floor. Pages of 1, 2 "
        "or 8 KiB, a log that may grow to 32 MB and one that another thread fsyncs ahead were tried: none is faster."
    ),
    "puts.journal.against.each": (
        "A batch of 64 costs the processor 1.5 to 2 ms, as much as a dozen fsyncs of a fast disk; where an append and "
        "fsync takes 1 ms or more, the row is met several times over."
    ),
    "puts.journal.against.langgraph": (
        "It writes what came in one tick with one executemany, checks no value, has no index by field, no log and no "
        "journal. On disks whose fsync takes 1 ms or more the order is the other way round."
    ),
    "puts.relaxed": (
        "The engine alone takes 1.6 times as long as the floor. The manager adds 7 µs a put: 2 for the draft and the "
        "record that is returned, the rest for two wake-ups on the loop and the calls between, and on an idle machine "
        "100 µs a batch for the way to the engine's thread and back. It would take callers that put many at a time."
    ),
    "puts.index": "One fsync of the index's log stands against one of the journal: on a disk that others use, noise.",
    "put.one.manager": (
        f"{_ONE_PUT} The way to the engine's thread and back adds 70, and on an idle machine, whose processors have to "
        "wake up for each handover, 100. It would take a first put that is made on the loop's own thread."
    ),
    "put.one.store": _ONE_PUT,
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
        "Lines are decoded many at a time, and their ids, lengths and stamps checked column by column, so the row is "
        "met in processor time (1.15); the new index is fsynced before it gets its name, and the floor's is not."
    ),
    "rebuild.in_place": (
        "What is written goes through the write-ahead log, so twice to the disk, and the new rows are compared with "
        "the old ones for the feed. In processor time it is 2.3."
    ),
    "sync.branch": (
        "Of about 1.5 µs a line, 0.5 are SQLite's for reading the rows, 0.4 reading, splitting and summing up the file "
        "and making sure that each line has a stamp of its own; a changed record costs 30 µs in row, indexes and log. "
        "It would take a sum over each run of rows, kept in the index."
    ),
    "start.list": (
        "Importing typer and msgspec takes 30 ms and the engine's modules 14; parsing, opening the index and printing "
        "take 8. It would take a typer that loads less of the standard library."
    ),
    "start.merge": "Python's modules for JSON, times and paths; alone on the machine it is 30 ms.",
    "import.real": (
        "Of about 5 µs a record, 1.4 are reading the lines, 0.6 of them for stamps of RFC 3339 text, which the floor "
        "does not read; rows and log take 2, the append and its fsync 1. What is left to gain is a reader of such "
        "stamps in C."
    ),
    "tracker.task.StateManager": (
        "A record is made, kept in memory and given a time limit before it is put: 20 to 30 µs, on a machine whose "
        "put takes 400."
    ),
    "tracker.task.Store": (
        "The store of a tracker has a thread of its own, so that a run never waits for one that hangs: handing a "
        "record over and waking up again costs 30 to 50 µs a put here. It would take writing in the caller's thread."
    ),
}
