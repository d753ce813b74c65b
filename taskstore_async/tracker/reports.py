"""What a tracker tells: plain values, so that ``--json`` is what they are."""

from __future__ import annotations

import msgspec

from taskstore_async.records.runs import Run, RunTask  # noqa: TC001 - reason: msgspec reads it at run time

__all__ = [
    "Cleaning",
    "Deletion",
    "Failing",
    "ImportedRuns",
    "OverallStats",
    "TaskHistory",
    "TaskStats",
    "TrackerState",
]


class TrackerState(msgspec.Struct, frozen=True, kw_only=True):
    """How a tracker is doing.

    Attributes:
        degraded: The store does not take what is recorded; it is kept in memory, and tried again.
        reason: Why; None when it is not degraded.
        waiting: Records that are in memory and not in the store.
        lost: Records that the store will not get: it refused them, memory was full, or the tracker was closed first.
    """

    degraded: bool = False
    reason: str | None = None
    waiting: int = 0
    lost: int = 0


class OverallStats(msgspec.Struct, frozen=True, kw_only=True):
    """All runs in numbers.

    Attributes:
        success_rate: success / (success + failed), 0 to 1; None when no run has ended.
        mean_duration_ms: Of the runs that have ended; None when none has.
        size_bytes: Of the directories of all runs, as they were when the runs ended.
        last_started_at: Of the newest run, milliseconds since the epoch (UTC).
        tasks: How many tasks have each status.
    """

    projects: int
    total: int
    success: int
    failed: int
    running: int
    success_rate: float | None
    mean_duration_ms: float | None
    size_bytes: int
    last_started_at: int | None
    tasks: dict[str, int]


class TaskStats(msgspec.Struct, frozen=True, kw_only=True):
    """All executions of one task in numbers. Durations are of those that ended, by completing or by failing.

    Attributes:
        total: Whatever became of them.
        success_rate: success / (success + failed), 0 to 1; None when none has ended.
        p95_duration_ms: 95 of 100 took this long at most.
        last: The newest one.
    """

    task: str
    total: int
    success: int
    failed: int
    skipped: int
    success_rate: float | None
    mean_duration_ms: float | None
    median_duration_ms: float | None
    p95_duration_ms: int | None
    max_duration_ms: int | None
    last: RunTask | None


class Failing(msgspec.Struct, frozen=True, kw_only=True):
    """A task whose newest ended execution has failed.

    Attributes:
        since: The run in which it failed first after it had last completed.
        since_at: When that was, milliseconds since the epoch (UTC).
        run_id: The run in which it failed last.
        exit_code: Of that failure.
        log_path: Where to look: its stderr, or else its stdout; absolute when it is known.
    """

    since: str
    since_at: int | None
    run_id: str
    exit_code: int | None
    log_path: str | None


class TaskHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The executions of one task, newest first, and what is wrong with it, if something is."""

    task: str
    failing: Failing | None
    executions: list[RunTask]


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run that was to be deleted.

    Attributes:
        deleted: Its record and its tasks' are gone, and so is its directory. False: nothing was changed.
        freed_bytes: Of the files that were removed; those with further hard links count nothing.
        reason: Why it was not deleted, or why its directory was kept.
    """

    run_id: str
    deleted: bool
    freed_bytes: int = 0
    reason: str | None = None


class Cleaning(msgspec.Struct, frozen=True, kw_only=True):
    """What cleaning did, or with ``dry_run`` would do.

    Attributes:
        runs: Those that are gone, or would go, oldest first.
        refused: Those that had to stay, and why.
        cache: Entries of the cache that are gone, or would go, relative to the root.
        freed_bytes: Space that was freed in directories and journals; with ``dry_run`` the size of the directories.
    """

    dry_run: bool
    runs: list[Run]
    refused: list[Deletion]
    cache: list[str]
    freed_bytes: int


class ImportedRuns(msgspec.Struct, frozen=True, kw_only=True):
    """What an import of run directories took.

    Attributes:
        known: Runs that had been recorded or imported before; they were left as they are.
        skipped: Why a directory gave no run, by its path.
    """

    runs: int = 0
    tasks: int = 0
    known: int = 0
    skipped: dict[str, str] = {}
