"""Planning: what is to be built, its parts, the attempts at them, and what these need of each other.

Limits bind writes (``__pre_write__``). A line that breaks one, from another program or a merge, is read all the same.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

import msgspec

from taskstore_async import Indexed, Record, References, Unique, present, text_id

__all__ = [
    "Dependency",
    "DependencyType",
    "Execution",
    "ExecutionStatus",
    "Prd",
    "PrdStatus",
    "RepoState",
    "TaskSpec",
    "TaskStatus",
    "Workflow",
]

_MAX_REVIEW_PASSES = 255


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


class DependencyType(StrEnum):
    """What one attempt wants of another."""

    NOTIFY = "notify"
    QUERY = "query"
    SHARE = "share"


class Prd(Record, kw_only=True):
    """A product requirement: what is to be built, and why.

    Attributes:
        title: Not blank.
        review_passes: 0 to 255.
        content: The whole text, where it is short.
        file: The file that has the text instead, written by ``write_content``; a path in the store directory.
    """

    collection: ClassVar[str] = "prds"

    title: str
    description: str = ""
    status: Annotated[PrdStatus, Indexed] = PrdStatus.DRAFT
    review_passes: int = 0
    content: str | None = None
    file: Annotated[str | None, Unique] = None

    def __pre_write__(self) -> None:
        """Refuse what nobody could find again, and a count that other programs keep in a byte."""
        if not self.title.strip():
            raise ValueError("title cannot be empty")
        if not 0 <= self.review_passes <= _MAX_REVIEW_PASSES:
            raise ValueError(f"review_passes is {self.review_passes}, and must be in 0 ... {_MAX_REVIEW_PASSES}")


class TaskSpec(Record, kw_only=True):
    """One unit of work that an agent loop can pick up.

    Attributes:
        assigned_to: The id of the execution working on it, while one does.
        content: The whole text, where it is short.
        file: The file that has the text instead; as in `Prd`.
    """

    collection: ClassVar[str] = "task_specs"

    prd_id: Annotated[str, Indexed, References("prds", on_delete="cascade")]
    phase_name: str
    description: str = ""
    status: Annotated[TaskStatus, Indexed] = TaskStatus.PENDING
    workflow_name: str | None = None
    assigned_to: str | None = None
    content: str | None = None
    file: Annotated[str | None, Unique] = None


class Execution(Record, kw_only=True):
    """One attempt at a unit of work.

    Attributes:
        iteration_count: 0 or more.
        started_at: Milliseconds since the epoch (UTC).
        completed_at: As *started_at*.
    """

    collection: ClassVar[str] = "executions"

    ts_id: Annotated[str, Indexed, References("task_specs", on_delete="cascade")]
    status: Annotated[ExecutionStatus, Indexed] = ExecutionStatus.RUNNING
    worktree_path: str | None = None
    branch_name: str | None = None
    current_phase: str | None = None
    iteration_count: int = 0
    error_message: str | None = None
    started_at: int | None = None
    completed_at: int | None = None

    def __pre_write__(self) -> None:
        """Refuse a count below nothing."""
        if self.iteration_count < 0:
            raise ValueError(f"iteration_count is {self.iteration_count}, and must be 0 or more")


class Dependency(Record, kw_only=True):
    """What one execution wants of another, or of all.

    Attributes:
        to_exec_id: None: a broadcast.
        resolved_at: Milliseconds since the epoch (UTC); None while it is open. What is open for an execution is one
            indexed lookup: ``eq("to_exec_id", me), eq("resolved", False)``.
    """

    collection: ClassVar[str] = "dependencies"

    from_exec_id: Annotated[str, Indexed, References("executions", on_delete="cascade")]
    to_exec_id: Annotated[str | None, Indexed, References("executions", on_delete="cascade")] = None
    dependency_type: Annotated[DependencyType, Indexed] = DependencyType.NOTIFY
    payload: Any = None
    resolved_at: int | None = None

    indexed: ClassVar = (present("resolved", "resolved_at"),)


class Workflow(Record, kw_only=True):
    """How a unit of work is done, by name.

    Attributes:
        content: The definition. A line that has it as ``awl_code`` is read, and keeps that name beside this one.
        awl_code: What older programs call it; follows *content*. Never set it yourself.
    """

    collection: ClassVar[str] = "workflows"

    name: Annotated[str, Unique]
    version: str | None = None
    description: str | None = None
    content: str | None = None
    awl_code: str | msgspec.UnsetType | None = msgspec.UNSET

    def __post_init__(self) -> None:
        """Keep the two names of one text together."""
        if self.awl_code is msgspec.UNSET:
            return
        if self.content is None:
            msgspec.structs.force_setattr(self, "content", self.awl_code)
        elif self.awl_code != self.content:
            msgspec.structs.force_setattr(self, "awl_code", self.content)


class RepoState(Record, kw_only=True):
    """Up to where a repository was read. Its id is ``text_id(repo_path)``: the path, or a hash of a very long one."""

    collection: ClassVar[str] = "repo_states"

    repo_path: str
    last_synced_commit: str | None = None

    def __pre_write__(self) -> None:
        """Refuse a second record for one repository."""
        if self.id != (wanted := text_id(self.repo_path)):
            raise ValueError(f"the id of this repo_path is {wanted!r}; make it with text_id(repo_path)")
