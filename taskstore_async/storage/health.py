"""Whether a handle may write: what failed, and when it is tried again."""

from __future__ import annotations

from typing import Final

__all__ = ["Health"]

_BACKOFF_S: Final = (0.0, 0.1, 0.5, 2.0, 10.0)


class Health:
    """Counts failures, and says when to try again. Every ``now_s`` is on one monotonic clock.

    Attributes:
        broken: What nobody knows the outcome of, so that nothing is written before it is known; None when all is well.
        distrusted: An fsync failed: what can be read may not be on the disk, and a further fsync says nothing about it.
    """

    def __init__(self) -> None:
        self.broken: str | None = None
        self.distrusted = False
        self._failures = 0
        self._next_try_s = 0.0

    def failed(self) -> float:
        """Note a failure that left everything as it was; returns how many seconds to wait."""
        self._failures += 1
        return _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]

    def broke(self, reason: str, *, now_s: float, distrusted: bool = False) -> None:
        """Note a failure of which nobody knows what it left. The first try to mend it is at once."""
        self.broken = reason
        self.distrusted = self.distrusted or distrusted
        self._next_try_s = now_s + _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._failures += 1

    def may_try(self, now_s: float) -> bool:
        """Whether it is time for another try."""
        return now_s >= self._next_try_s

    def try_at_once(self) -> None:
        """Make it time for another try."""
        self._next_try_s = 0.0

    def recovered(self) -> None:
        """Note that everything is as it should be."""
        self.broken = None
        self.distrusted = False
        self._failures = 0
