"""Runs: what was executed, when, for which project, and how it ended. Local: their journals are no business of git.

Scripts, logs and outputs stay ordinary files; these records name them, relative to the root that holds the store.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from taskstore_async import Indexed, Record

__all__ = ["Project", "Run", "RunStatus", "RunTask", "RunTaskStatus", "SkipKind"]


class RunStatus(StrEnum):
    """How far a run has come."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


class RunTaskStatus(StrEnum):
    """How far one task of a run has come."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class SkipKind(StrEnum):
    """Why a task was not executed."""

    UP_TO_DATE = "up-to-date"
    SERIAL_PREDECESSOR = "serial-predecessor"
    UNREACHABLE = "unreachable"


class Project(Record, kw_only=True):
    """What runs belong to."""

    collection: ClassVar[str] = "projects"
    local: ClassVar[bool] = True

    name: str
    path: str | None = None


class Run(Record, kw_only=True):
    """One execution of a task file, or of whatever a project calls a run."""

    collection: ClassVar[str] = "runs"
    local: ClassVar[bool] = True

    project_id: Annotated[str, Indexed]
    status: Annotated[RunStatus, Indexed] = RunStatus.RUNNING
    started_at: Annotated[int, Indexed]  #: milliseconds since the epoch (UTC)
    completed_at: int | None = None  #: milliseconds since the epoch (UTC)
    duration_ms: int | None = None
    args: tuple[str, ...] = ()
    task_file: str | None = None
    cwd: str | None = None
    user: str | None = None
    hostname: str | None = None
    run_dir: str | None = None  #: relative to the root; what `delete_run` removes
    size_bytes: int | None = None  #: of the files in run_dir, when the run ended


class RunTask(Record, kw_only=True):
    """One task of a run."""

    collection: ClassVar[str] = "tasks"
    local: ClassVar[bool] = True

    run_id: Annotated[str, Indexed]
    name: Annotated[str, Indexed]
    status: Annotated[RunTaskStatus, Indexed] = RunTaskStatus.PENDING
    project_id: str | None = None
    started_at: Annotated[int | None, Indexed] = None  #: milliseconds since the epoch (UTC); when it was recorded
    completed_at: int | None = None  #: milliseconds since the epoch (UTC)
    duration_ms: int | None = None
    script_hash: str | None = None
    inputs_hash: str | None = None
    script_path: str | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    output_path: str | None = None
    artifacts: tuple[str, ...] = ()
    exit_code: int | None = None
    skip_kind: SkipKind | None = None
    skip_reason: str | None = None
    depends_on: tuple[str, ...] = ()  #: names of tasks of the same run
