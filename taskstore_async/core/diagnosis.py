"""What ``tstore doctor`` finds: the shape of it. What looks for it stands on the floors above."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

__all__ = ["Diagnosis", "Fix"]

Fix: TypeAlias = Callable[[], object]


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be.

    Attributes:
        id: Its kind, for programs: words with hyphens, the same in every version.
        seen: What was seen, in a sentence without its point.
        advice: What a person can do about it.
        error: It puts records at risk, or something does not work; else it is worth knowing.
        fix: Mends it without loss; None where only a person can. A `TaskStoreError` or `OSError` says why it could not.
    """

    id: str
    seen: str
    advice: str
    error: bool = True
    fix: Fix | None = None
