"""Planning: what is to be built, its parts, and the attempts at them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from taskstore_async.core.record import Indexed, Record, References, Unique

__all__ = ["Execution", "ExecutionStatus", "Prd", "PrdStatus", "TaskSpec", "TaskStatus"]


class PrdStatus(StrEnum):
    """How far a product requirement has come."""

    DRAFT = "draft"
    READY = "ready"
    ACTIVE = "active"
    IN_PROGRESS = "in_progress"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskStatus(StrEnum):
    """How far a unit of work has come."""

    PENDING = "pending"
    BLOCKED = "blocked"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"


class ExecutionStatus(StrEnum):
    """How far an attempt has come."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    FAILED = "failed"
    STOPPED = "stopped"


class Prd(Record, kw_only=True):
    """A product requirement: what is to be built, and why.

    Raises:
        ValueError: The title is blank.
    """

    collection: ClassVar[str] = "prds"

    title: str
    description: str = ""
    status: Annotated[PrdStatus, Indexed] = PrdStatus.DRAFT
    review_passes: int = 0
    content: str | None = None
    file: Annotated[str | None, Unique] = None

    def __post_init__(self) -> None:
        """Refuse what nobody could find again."""
        if not self.title.strip():
            raise ValueError("title cannot be empty")


class TaskSpec(Record, kw_only=True):
    """One unit of work that an agent loop can pick up."""

    collection: ClassVar[str] = "task_specs"

    prd_id: Annotated[str, Indexed, References("prds", on_delete="cascade")]
    phase_name: str
    description: str = ""
    status: Annotated[TaskStatus, Indexed] = TaskStatus.PENDING
    workflow_name: str | None = None
    assigned_to: str | None = None  #: id of the execution working on it, while one does
    content: str | None = None
    file: Annotated[str | None, Unique] = None


class Execution(Record, kw_only=True):
    """One attempt at a unit of work."""

    collection: ClassVar[str] = "executions"

    ts_id: Annotated[str, Indexed, References("task_specs", on_delete="cascade")]
    status: Annotated[ExecutionStatus, Indexed] = ExecutionStatus.RUNNING
    worktree_path: str | None = None
    branch_name: str | None = None
    current_phase: str | None = None
    iteration_count: int = 0
    error_message: str | None = None
    started_at: int | None = None  #: milliseconds since the epoch (UTC)
    completed_at: int | None = None  #: milliseconds since the epoch (UTC)
