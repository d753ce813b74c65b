"""What a run and its tasks look like when they begin and when they end. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from taskstore_async.records.runs import Project, Run, RunStatus, RunTask, RunTaskStatus, SkipKind

if TYPE_CHECKING:
    from taskstore_async.core.record import Record

__all__ = ["completed_run", "completed_task", "is_under_way", "project_named", "skipped_task"]

_ID_CHARS: Final = 256


def project_named(name: str, *, path: str | None = None) -> Project:
    """The record of the project *name*, whose id is its name, or a hash of one that is too long for an id."""
    record_id = name if len(name) <= _ID_CHARS else f"project-{sha256(name.encode()).hexdigest()}"
    return Project(id=record_id, name=name, path=path)


def completed_run(
    run: Run, status: RunStatus | str, *, now_ms: int, duration_ms: int | None = None, size_bytes: int | None = None
) -> Run:
    """*run* as it ended.

    Raises:
        ValueError: *status* is none of ``success`` and ``failed``.
    """
    ended = RunStatus(status)
    if ended is RunStatus.RUNNING:
        raise ValueError("a run that is complete has the status success or failed, not running")
    duration = _since(run.started_at, now_ms) if duration_ms is None else duration_ms
    return run.evolve(status=ended, completed_at=now_ms, duration_ms=duration, size_bytes=size_bytes)


def completed_task(
    task: RunTask,
    exit_code: int | None,
    *,
    now_ms: int,
    status: RunTaskStatus | str | None = None,
    duration_ms: int | None = None,
    output_path: str | None = None,
    artifacts: tuple[str, ...] | None = None,
) -> RunTask:
    """*task* as it ended: completed when *exit_code* is 0 or None, else failed, unless *status* says.

    Raises:
        ValueError: *status* is none of ``completed`` and ``failed``.
    """
    ended = RunTaskStatus(status) if status is not None else _status_of(exit_code)
    if ended not in {RunTaskStatus.COMPLETED, RunTaskStatus.FAILED}:
        message = f"a task that is complete has the status completed or failed, not {ended}"
        raise ValueError(message)
    return task.evolve(
        status=ended,
        exit_code=exit_code,
        completed_at=now_ms,
        duration_ms=_since(task.started_at, now_ms) if duration_ms is None else duration_ms,
        output_path=task.output_path if output_path is None else output_path,
        artifacts=task.artifacts if artifacts is None else artifacts,
    )


def skipped_task(task: RunTask, kind: SkipKind | str, reason: str | None) -> RunTask:
    """*task* as one that is not executed.

    Raises:
        ValueError: *kind* is none of `SkipKind`.
    """
    return task.evolve(status=RunTaskStatus.SKIPPED, skip_kind=SkipKind(kind), skip_reason=reason)


def is_under_way(record: Record) -> bool:
    """Whether a later call will change *record*."""
    if isinstance(record, Run):
        return record.status is RunStatus.RUNNING
    return isinstance(record, RunTask) and record.status in {RunTaskStatus.PENDING, RunTaskStatus.RUNNING}


def _status_of(exit_code: int | None) -> RunTaskStatus:
    return RunTaskStatus.FAILED if exit_code else RunTaskStatus.COMPLETED


def _since(started_at: int | None, now_ms: int) -> int | None:
    return None if started_at is None else max(0, now_ms - started_at)
