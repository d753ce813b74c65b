"""Loops: what runs, what running loops tell each other, and what they leave behind."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from taskstore_async import Indexed, Record, present

__all__ = [
    "EventRecord",
    "IterationLog",
    "Lane",
    "Loop",
    "LoopStatus",
    "LoopType",
    "SignalRecord",
    "SignalType",
    "ToolJobRecord",
    "ToolJobStatus",
]

_MAX_SUMMARY_BYTES = 1_000


class LoopType(StrEnum):
    """What a loop makes: each kind makes the input of the next."""

    PLAN = "plan"
    SPEC = "spec"
    PHASE = "phase"
    CODE = "code"


class LoopStatus(StrEnum):
    """How far a loop has come."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    REBASING = "rebasing"
    COMPLETE = "complete"
    FAILED = "failed"
    INVALIDATED = "invalidated"


class SignalType(StrEnum):
    """What a loop is told."""

    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    REBASE = "rebase"
    ERROR = "error"
    INFO = "info"
    INVALIDATE = "invalidate"


class Lane(StrEnum):
    """What a tool may use, and so what it waits for."""

    NO_NET = "no-net"
    NET = "net"
    HEAVY = "heavy"


class ToolJobStatus(StrEnum):
    """How far a tool's job has come."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


class Loop(Record, kw_only=True):
    """A loop: it repeats one step, with what it has learned, until a command says that the result is right.

    Attributes:
        parent_id: The loop that started it; None for the first one. Deleting a loop leaves those it started.
        iteration: 0 for the first.
        max_iterations: When to give up; None for never.
        progress: What former iterations have left to know.
        context: Whatever this kind of loop needs.
    """

    collection: ClassVar[str] = "loops"

    loop_type: Annotated[LoopType, Indexed]
    parent_id: Annotated[str | None, Indexed] = None
    input_artifact: str | None = None
    output_artifacts: list[str] = []  # noqa: RUF012 - reason: each record gets a list of its own
    prompt_path: str | None = None
    validation_command: str | None = None
    max_iterations: int | None = None
    worktree: str | None = None
    iteration: int = 0
    status: Annotated[LoopStatus, Indexed] = LoopStatus.PENDING
    progress: str | None = None
    context: Any = None


class SignalRecord(Record, kw_only=True):
    """Something that one loop tells another, or every loop that a selector names.

    What is pending for a loop is one indexed lookup: ``eq("target_loop", me), eq("acknowledged", False)``.

    Attributes:
        acknowledged_at: Milliseconds since the epoch (UTC); None while it is pending.
    """

    collection: ClassVar[str] = "signals"

    signal_type: SignalType
    source_loop: str | None = None
    target_loop: Annotated[str | None, Indexed] = None
    target_selector: Annotated[str | None, Indexed] = None
    reason: str | None = None
    payload: Any = None
    acknowledged_at: int | None = None

    indexed: ClassVar = (present("acknowledged", "acknowledged_at"),)


class EventRecord(Record, kw_only=True):
    """Something that happened, for people who want to know why. There are many, so git does not keep them."""

    collection: ClassVar[str] = "events"
    local: ClassVar[bool] = True

    event_type: Annotated[str, Indexed]
    loop_id: Annotated[str | None, Indexed] = None
    payload: Any = None


class ToolJobRecord(Record, kw_only=True):
    """One use of a tool by a loop.

    Attributes:
        iteration: Of the loop.
        output_summary: At most 1,000 bytes of UTF-8.
        completed_at: Milliseconds since the epoch (UTC).
    """

    collection: ClassVar[str] = "tool_jobs"

    loop_id: Annotated[str, Indexed]
    tool_name: Annotated[str, Indexed]
    iteration: Annotated[int, Indexed] = 0
    lane: Lane = Lane.NO_NET
    input_summary: str | None = None
    output_summary: str | None = None
    status: Annotated[ToolJobStatus, Indexed] = ToolJobStatus.PENDING
    exit_code: int | None = None
    duration_ms: int | None = None
    completed_at: int | None = None

    def __pre_write__(self) -> None:
        """Refuse a summary that is none."""
        size = len((self.output_summary or "").encode())
        if size > _MAX_SUMMARY_BYTES:
            raise ValueError(f"output_summary has {size:,} bytes, and at most {_MAX_SUMMARY_BYTES:,} are stored")


class IterationLog(Record, kw_only=True):
    """What one iteration of an execution left: what was run, what came of it, and what it cost."""

    collection: ClassVar[str] = "iteration_logs"

    execution_id: Annotated[str, Indexed]
    iteration: Annotated[int, Indexed]
    validation_command: str | None = None
    exit_code: int | None = None
    stdout: str | None = None
    stderr: str | None = None
    duration_ms: int | None = None
    files_changed: list[str] = []  # noqa: RUF012 - reason: each record gets a list of its own
    llm_input_tokens: int | None = None
    llm_output_tokens: int | None = None
    tool_calls: list[Any] = []  # noqa: RUF012 - reason: each record gets a list of its own
