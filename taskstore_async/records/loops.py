"""Loops: what running loops tell each other."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from taskstore_async.core.record import Indexed, Record, present

__all__ = ["SignalRecord", "SignalType"]


class SignalType(StrEnum):
    """What a loop is told."""

    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    REBASE = "rebase"
    ERROR = "error"
    INFO = "info"
    INVALIDATE = "invalidate"


class SignalRecord(Record, kw_only=True):
    """Something that one loop tells another, or every loop that a selector names.

    What is pending for a loop is one indexed lookup: ``eq("target_loop", me), eq("acknowledged", False)``.
    """

    collection: ClassVar[str] = "signals"

    signal_type: SignalType
    source_loop: str | None = None
    target_loop: Annotated[str | None, Indexed] = None
    target_selector: Annotated[str | None, Indexed] = None
    reason: str | None = None
    payload: Any = None
    acknowledged_at: int | None = None  #: milliseconds since the epoch (UTC)

    indexed: ClassVar = (present("acknowledged", "acknowledged_at"),)
