"""The questions that history answers, as plans; each is answered from an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from taskstore_async.core.filters import Filter, eq, gt, in_
from taskstore_async.errors import InvalidFilterError, NotFoundError
from taskstore_async.records.runs import Project, Run, RunStatus, RunTask, RunTaskStatus
from taskstore_async.tracker.plan import Plan, count, find, find_all, get
from taskstore_async.tracker.reports import Failing, OverallStats, TaskHistory, TaskStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from enum import StrEnum

__all__ = [
    "checked_history",
    "checked_project",
    "checked_runs",
    "checked_stats",
    "checked_task",
    "is_open",
    "overall_stats",
    "projects",
    "run_tasks",
    "runs",
    "status_named",
    "task_executions",
    "task_history",
    "task_stats",
]

S = TypeVar("S", bound="StrEnum")
_NEWEST: Final = "-started_at"
_ENDED: Final = (RunTaskStatus.COMPLETED, RunTaskStatus.FAILED)
_SUGGESTED_FROM: Final = 5_000  #: newest tasks among which the names that exist are looked for
_NAMED: Final = 20  #: names in a message


def is_open() -> Plan[bool]:
    """True, when the store answers."""
    yield from get(Project, "-")
    return True


def runs(
    *, status: RunStatus | str | None = None, project: str | None = None, limit: int | None = None
) -> Plan[list[Run]]:
    """Runs, newest first.

    Raises:
        InvalidFilterError: *status* is none.
    """
    wanted = None if status is None else status_named(RunStatus, status)
    return (yield from find(Run, *_given(status=wanted, project_id=project), order_by=_NEWEST, limit=limit))


def run_tasks(run: Run | str) -> Plan[list[RunTask]]:
    """The tasks of a run, in the order in which they were recorded."""
    run_id = run if isinstance(run, str) else run.id
    return (yield from find(RunTask, eq("run_id", run_id), order_by="started_at"))


def projects() -> Plan[list[Project]]:
    """All projects, by id."""
    return (yield from find(Project))


def task_executions(
    name: str, *, status: RunTaskStatus | str | None = None, project: str | None = None, limit: int | None = None
) -> Plan[list[RunTask]]:
    """What became of the task *name* in each run, newest first.

    Raises:
        InvalidFilterError: *status* is none.
    """
    wanted = None if status is None else status_named(RunTaskStatus, status)
    filters = _given(name=name, status=wanted, project_id=project)
    return (yield from find(RunTask, *filters, order_by=_NEWEST, limit=limit))


def task_history(
    name: str, *, status: RunTaskStatus | str | None = None, project: str | None = None, limit: int | None = None
) -> Plan[TaskHistory]:
    """The executions of the task *name*, and since when it fails, if it does."""
    executions = yield from task_executions(name, status=status, project=project, limit=limit)
    return TaskHistory(task=name, failing=(yield from _failing(name, project)), executions=executions)


def _failing(name: str, project: str | None) -> Plan[Failing | None]:
    of_task = _given(name=name, project_id=project)
    ended = yield from find(RunTask, *of_task, in_("status", _ENDED), order_by=_NEWEST, limit=1)
    if not ended or ended[0].status is not RunTaskStatus.FAILED:
        return None
    (last,) = ended
    good = yield from find(RunTask, *of_task, eq("status", RunTaskStatus.COMPLETED), order_by=_NEWEST, limit=1)
    after = [gt("started_at", good[0].started_at)] if good and good[0].started_at is not None else []
    failed = (*of_task, eq("status", RunTaskStatus.FAILED), *after)
    (first, *_) = (yield from find(RunTask, *failed, order_by="started_at", limit=1)) or [last]
    return Failing(
        since=first.run_id,
        since_at=first.started_at,
        run_id=last.run_id,
        exit_code=last.exit_code,
        log_path=last.stderr_path or last.stdout_path,
    )


# -- numbers ------------------------------------------------------------------------------------------------


def overall_stats() -> Plan[OverallStats | None]:
    """All runs in numbers; None when there is no run."""
    from statistics import fmean  # noqa: PLC0415 - reason: a slow start, and history needs none

    everything = yield from find_all(Run)
    if not everything:
        return None
    by_status = {status: sum(run.status is status for run in everything) for status in RunStatus}
    durations = [run.duration_ms for run in everything if run.duration_ms is not None]
    tasks: dict[str, int] = {}
    for status in RunTaskStatus:
        tasks[status.value] = yield from count(RunTask, eq("status", status))
    return OverallStats(
        projects=(yield from count(Project)),
        total=len(everything),
        success=by_status[RunStatus.SUCCESS],
        failed=by_status[RunStatus.FAILED],
        running=by_status[RunStatus.RUNNING],
        success_rate=success_rate(by_status[RunStatus.SUCCESS], by_status[RunStatus.FAILED]),
        mean_duration_ms=fmean(durations) if durations else None,
        size_bytes=sum(run.size_bytes or 0 for run in everything),
        last_started_at=max(run.started_at for run in everything),
        tasks=tasks,
    )


def task_stats(name: str, *, project: str | None = None) -> Plan[TaskStats | None]:
    """All executions of the task *name* in numbers; None when there is none."""
    executions = yield from find_all(RunTask, *_given(name=name, project_id=project))
    if not executions:
        return None
    newest = yield from task_executions(name, project=project, limit=1)
    return stats_of_task(name, executions, newest[0] if newest else None)


def stats_of_task(name: str, executions: Sequence[RunTask], last: RunTask | None) -> TaskStats:
    """*executions* in numbers. Pure."""
    from statistics import fmean, median  # noqa: PLC0415 - reason: as in overall_stats

    by_status = {status: sum(one.status is status for one in executions) for status in RunTaskStatus}
    success, failed = by_status[RunTaskStatus.COMPLETED], by_status[RunTaskStatus.FAILED]
    durations = sorted(one.duration_ms for one in executions if one.status in _ENDED and one.duration_ms is not None)
    return TaskStats(
        task=name,
        total=len(executions),
        success=success,
        failed=failed,
        skipped=by_status[RunTaskStatus.SKIPPED],
        success_rate=success_rate(success, failed),
        mean_duration_ms=fmean(durations) if durations else None,
        median_duration_ms=median(durations) if durations else None,
        p95_duration_ms=percentile(durations, 95) if durations else None,
        max_duration_ms=durations[-1] if durations else None,
        last=last,
    )


def success_rate(success: int, failed: int) -> float | None:
    """How many of what has ended was a success, 0 to 1; None when nothing has ended."""
    return success / (success + failed) if success + failed else None


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The least value that *percent* of 100 values do not exceed (nearest rank).

    Args:
        ordered: Ascending, not empty.
        percent: 1 to 100.
    """
    return ordered[-(-len(ordered) * percent // 100) - 1]


# -- what may be asked for ----------------------------------------------------------------------------------


def status_named(kind: type[S], word: str) -> S:
    """The status that *word* is.

    Raises:
        InvalidFilterError: It is none; the message has those that there are.
    """
    try:
        return kind(word)
    except ValueError:
        raise InvalidFilterError(f"the status {word!r}", f"there are: {', '.join(kind)}") from None


def checked_project(name: str) -> Plan[str]:
    """The id of the project *name*.

    Raises:
        InvalidFilterError: There is none; the message has those that there are.
    """
    known = yield from projects()
    for project in known:
        if name in {project.id, project.name}:
            return project.id
    if (yield from find(Run, eq("project_id", name), limit=1)):  # by a run that was not recorded by a tracker
        return name
    raise InvalidFilterError(f"the project {name!r}", _there("project", [project.id for project in known]))


def checked_task(name: str) -> Plan[str]:
    """The task *name*, which some run has.

    Raises:
        NotFoundError: None has; the message has the name that may be meant, or those of recent tasks.
    """
    if (yield from find(RunTask, eq("name", name), limit=1)):
        return name
    recent = yield from find(RunTask, order_by=_NEWEST, limit=_SUGGESTED_FROM)
    known = {task.name for task in recent}
    from difflib import get_close_matches  # noqa: PLC0415 - reason: slow to load, and only a mistake needs it

    near = tuple(get_close_matches(name, known, n=3))
    raise NotFoundError(RunTask.collection, name, near=near, there=_there("task", known))


def checked_runs(*, status: str | None, project: str | None, limit: int | None) -> Plan[list[Run]]:
    """As `runs`; a project that is none is a mistake, too."""
    owner = None if project is None else (yield from checked_project(project))
    return (yield from runs(status=status, project=owner, limit=limit))


def checked_history(name: str, *, status: str | None, project: str | None, limit: int | None) -> Plan[TaskHistory]:
    """As `task_history`; a task or a project that is none is a mistake, too."""
    owner = None if project is None else (yield from checked_project(project))
    task = yield from checked_task(name)
    return (yield from task_history(task, status=status, project=owner, limit=limit))


def checked_stats(name: str) -> Plan[TaskStats | None]:
    """As `task_stats`; a task that is none is a mistake."""
    return (yield from task_stats((yield from checked_task(name))))


def _there(kind: str, known: Iterable[str]) -> str:
    """What a message says that there is."""
    names = sorted(set(known))
    more = ", …" if len(names) > _NAMED else ""
    return f"there are: {', '.join(names[:_NAMED])}{more}" if names else f"no {kind} has been recorded"


def _given(**wanted: object) -> list[Filter]:
    return [eq(field, value) for field, value in wanted.items() if value is not None]
