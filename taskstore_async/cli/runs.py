"""Commands about executions: history, stats, clean."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Annotated, Final

import typer

from taskstore_async.cli.errors import ExitCode
from taskstore_async.cli.inspect import size_of_form, stats_facts
from taskstore_async.cli.invocation import Invocation, command
from taskstore_async.cli.text import escape, human_bytes, human_count, human_duration, human_time, lay_out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from taskstore_async.records.runs import Run, RunTask
    from taskstore_async.tracker.reports import Cleaning, Failing, OverallStats, TaskHistory, TaskStats

TaskName = Annotated[
    str | None, typer.Argument(metavar="[TASK]", help="Only the executions of this task.", show_default=False)
]
ProjectName = Annotated[str | None, typer.Option("--project", metavar="PROJECT", help="Only runs of this project.")]

_STATUS: Final = re.compile(r"(?<!\S)(success|completed|failed|running|skipped)(?!\S)")
_COLOURS: Final = {"success": 32, "completed": 32, "failed": 31, "running": 33, "skipped": 90}


@command("history")
def history(
    tstore: Invocation,
    task: TaskName = None,
    *,
    limit: Annotated[int, typer.Option("-n", "--limit", min=0, metavar="N", help="At most so many.")] = 20,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help="Only those that ended, or stand, so.")] = None,
    project: ProjectName = None,
) -> None:
    """List runs, newest first; with TASK what became of it in each, and since when it fails, if it does.

    In a pipe: a run's id, project, status, started_at (ms), duration (ms), size (bytes) and arguments; or a task's run,
    project, status, started_at, duration, exit code, why it was skipped, and log.

    Example: tstore history build -n 5 --status failed
    """
    from taskstore_async.tracker import reading  # noqa: PLC0415 - reason: --help needs no engine
    from taskstore_async.tracker.plan import drive, on_store  # noqa: PLC0415 - reason: as above

    with tstore.open() as store:
        ask, root = on_store(store), store.path.parent
        if task is None:
            _print_runs(tstore, drive(reading.checked_runs(status=status, project=project, limit=limit), ask))
        else:
            plan = reading.checked_history(task, status=status, project=project, limit=limit)
            _print_task(tstore, drive(plan, ask), root)


@command("stats")
def stats(tstore: Invocation, task: TaskName = None) -> None:
    """Print counts and sizes of the store, and of the runs in it; with TASK, of its executions.

    With --json always both: {"store": ..., "runs": ...}, and null for runs where none has been recorded.

    Example: tstore stats --json
    """
    from taskstore_async.tracker import reading  # noqa: PLC0415 - reason: --help needs no engine
    from taskstore_async.tracker.plan import drive, on_store  # noqa: PLC0415 - reason: as above

    with tstore.open() as store:
        found = store.stats()
        ask = on_store(store)
        runs = None if task is not None else drive(reading.overall_stats(), ask)
        executions = None if task is None else drive(reading.checked_stats(task), ask)
    if tstore.out.for_programs:
        tstore.out.value({"store": found, "runs": executions if task is not None else runs})
        return
    facts = stats_facts(found, size_of_form(tstore))
    facts += [] if runs is None else _overall_facts(tstore, runs)
    facts += [] if executions is None else _task_facts(tstore, executions)
    tstore.out.facts(facts)


@command("clean")
def clean(
    tstore: Invocation,
    *,
    keep_days: Annotated[
        float, typer.Option("--keep-days", "--keep", min=0, metavar="N", help="Runs of the last N days survive.")
    ],
    keep_last: Annotated[int, typer.Option(min=0, metavar="N", help="The newest N survive, too.")] = 0,
    keep_failed: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Failed runs of the last DAYS survive, too.")
    ] = None,
    project: ProjectName = None,
    orphans: Annotated[bool, typer.Option("--orphans", help="Also what no task names in the cache.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
) -> None:
    """Delete old runs with their directories, and compact their journals.

    A run that has not ended survives for 7 days at least. A directory that is a symbolic link, is outside of the root
    or holds a store is refused, and so is its run: then this ends with 1. In a pipe: what went, a line each; run or
    cache, id or path, project, status, started_at (ms).

    Example: tstore clean --keep-days 30 --keep-last 10 --dry-run
    """
    from taskstore_async.storage.clock import now_ms  # noqa: PLC0415 - reason: --help needs no engine
    from taskstore_async.tracker import cleaning  # noqa: PLC0415 - reason: as above

    with tstore.open() as store:
        done = cleaning.clean(
            store,
            now_ms=now_ms(),
            keep_days=keep_days,
            keep_last=keep_last,
            keep_failed_days=keep_failed,
            project=project,
            orphans=orphans,
            dry_run=dry_run,
        )
    _print_cleaning(tstore, done)
    if done.refused:
        tstore.code = ExitCode.FAILED


# -- printing -----------------------------------------------------------------------------------------------


def _print_runs(tstore: Invocation, runs: Sequence[Run]) -> None:
    if tstore.out.for_programs:
        tstore.out.values(runs)
        return
    header = ("run", "project", "status", "started", "duration", "size", "args")
    _table(tstore, header, [_run_cells(tstore, run) for run in runs])
    if tstore.out.is_for_people:
        tstore.out.words(human_count(len(runs), "run"))


def _run_cells(tstore: Invocation, run: Run) -> list[str]:
    started, duration, size = _figures(tstore, run.started_at, run.duration_ms, run.size_bytes)
    return [run.id, run.project_id, run.status, started, duration, size, " ".join(run.args)]


def _print_task(tstore: Invocation, found: TaskHistory, root: Path) -> None:
    if tstore.out.for_programs:
        tstore.out.value(found)
        return
    header = ("run", "project", "status", "started", "duration", "exit", "skipped", "log")
    _table(tstore, header, [_task_cells(tstore, one) for one in found.executions])
    if tstore.out.is_for_people:
        if found.failing is not None:
            tstore.out.lines(["", *_failing_lines(found.failing, root)])
        tstore.out.words(human_count(len(found.executions), "execution"))


def _task_cells(tstore: Invocation, one: RunTask) -> list[str]:
    started, duration, _ = _figures(tstore, one.started_at, one.duration_ms, None)
    code = "" if one.exit_code is None else str(one.exit_code)
    skipped = ": ".join(filter(None, (one.skip_kind, one.skip_reason)))
    log = one.stderr_path or one.stdout_path or ""
    return [one.run_id, one.project_id or "", one.status, started, duration, code, skipped, log]


def _failing_lines(failing: Failing, root: Path) -> list[str]:
    code = "unknown" if failing.exit_code is None else str(failing.exit_code)
    log = "none" if failing.log_path is None else str(root / failing.log_path)
    return [
        f"it fails since {failing.since} ({human_time(failing.since_at)})",
        f"last in {failing.run_id}, with exit code {code}; its log: {log}",
    ]


def _print_cleaning(tstore: Invocation, done: Cleaning) -> None:
    for one in done.refused:
        tstore.out.words(f"refused: {one.run_id}: {one.reason}")
    if tstore.out.for_programs:
        tstore.out.value(done)
        return
    rows = [["run", run.id, run.project_id, run.status, _at(tstore, run.started_at)] for run in done.runs]
    rows += [["cache", entry, "", "", ""] for entry in done.cache]
    _table(tstore, ("what", "which", "project", "status", "started"), rows)
    went = human_count(len(done.runs), "run")
    if done.cache:
        went += f" and {human_count(len(done.cache), 'cached result')}"
    verbs = ("would delete", "which have") if done.dry_run else ("deleted", "freed")
    tstore.out.words(f"{verbs[0]} {went}, {verbs[1]} {human_bytes(done.freed_bytes)}")


def _overall_facts(tstore: Invocation, runs: OverallStats) -> list[tuple[str, str]]:
    started, mean, size = _figures(tstore, runs.last_started_at, runs.mean_duration_ms, runs.size_bytes)
    return [
        ("projects", str(runs.projects)),
        ("runs", str(runs.total)),
        *((status, str(count)) for status, count in _ended(runs)),
        ("running", str(runs.running)),
        ("success rate", _rate(runs.success_rate)),
        ("mean duration", mean),
        ("run directories", size),
        ("last run", started),
        *((f"tasks {status}", str(count)) for status, count in runs.tasks.items()),
    ]


def _task_facts(tstore: Invocation, task: TaskStats) -> list[tuple[str, str]]:
    durations = (
        ("mean duration", task.mean_duration_ms),
        ("median", task.median_duration_ms),
        ("95 of 100", task.p95_duration_ms),
        ("longest", task.max_duration_ms),
    )
    last = "" if task.last is None else f"{task.last.status} in {task.last.run_id}"
    return [
        ("task", task.task),
        ("executions", str(task.total)),
        *((status, str(count)) for status, count in _ended(task)),
        ("skipped", str(task.skipped)),
        ("success rate", _rate(task.success_rate)),
        *((name, _duration(tstore, value)) for name, value in durations),
        ("last", last),
    ]


def _ended(one: OverallStats | TaskStats) -> list[tuple[str, int]]:
    return [("success", one.success), ("failed", one.failed)]


def _rate(rate: float | None) -> str:
    return "n/a" if rate is None else f"{rate:.1%}"


def _figures(
    tstore: Invocation, at_ms: int | None, duration_ms: float | None, size_bytes: int | None
) -> tuple[str, str, str]:
    """A moment, a duration and a size, for whoever reads them."""
    size = "" if size_bytes is None else size_of_form(tstore)(size_bytes)
    return _at(tstore, at_ms), _duration(tstore, duration_ms), size


def _at(tstore: Invocation, at_ms: int | None) -> str:
    if at_ms is None:
        return ""
    return human_time(at_ms) if tstore.out.is_for_people else str(at_ms)


def _duration(tstore: Invocation, duration_ms: float | None) -> str:
    if duration_ms is None:
        return ""
    return human_duration(duration_ms) if tstore.out.is_for_people else str(round(duration_ms))


def _table(tstore: Invocation, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; on a terminal that has colours, with the status of each row in its own."""
    if not tstore.out.is_for_people or not rows:
        tstore.out.rows(header, rows)
        return
    escaped = [[escape(cell) for cell in row] for row in rows]
    lines = lay_out(header, escaped, width=shutil.get_terminal_size().columns)
    tstore.out.styled([lines[0], *(_painted(line) for line in lines[1:])])


def _painted(line: str) -> str:
    return _STATUS.sub(lambda found: f"\x1b[{_COLOURS[found[0]]}m{found[0]}\x1b[0m", line)
