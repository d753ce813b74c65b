"""When what was acknowledged is written to the journal, and how long it stays there: plain values, no clock."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

import msgspec

__all__ = ["GRACE_MS", "Durability", "FlushSchedule", "SyncConfig"]

GRACE_MS: Final = 30 * 24 * 3_600_000  #: so long a tombstone stays, for branches that have not seen it


class Durability(StrEnum):
    """What an acknowledged write survives.

    ========== ===================================== ======== ================= ================================
    level      acknowledged means                    SIGKILL  power cut         store.db deleted right after
    ========== ===================================== ======== ================= ================================
    JOURNAL    committed, appended and fsynced       safe     safe              safe
    INDEX      committed with ``synchronous=FULL``   safe     safe              loses what was not flushed yet
    RELAXED    committed with ``synchronous=NORMAL`` safe     may lose the last as INDEX
    ========== ===================================== ======== ================= ================================
    """

    RELAXED = "relaxed"
    INDEX = "index"
    JOURNAL = "journal"

    @property
    def strength(self) -> int:
        """A number that is greater the more an acknowledged write survives."""
        return _STRENGTH[self]


_STRENGTH: Final = {Durability.RELAXED: 0, Durability.INDEX: 1, Durability.JOURNAL: 2}


class SyncConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When a handle exports its writes to the journal.

    Attributes:
        debounce_ms: Milliseconds without a write after which a flush is due. >= 0.
        max_delay_ms: Milliseconds a write may wait, quiet or not. >= *debounce_ms*.
        max_pending: Writes that may wait, however recent. > 0.
        auto_export: Flush when it is due. False: ``flush()``, ``sync()``, leaving, a git hook and other handles do.
        coalesce: Versions of one record that meet in a flush become one line. False: a line for every version.

    Raises:
        ValueError: A number is out of its range.
    """

    debounce_ms: int = 100
    max_delay_ms: int = 1_000
    max_pending: int = 10_000
    auto_export: bool = True
    coalesce: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.debounce_ms < 0:
            raise ValueError(f"debounce_ms is {self.debounce_ms}, and must be 0 or more")
        if self.max_delay_ms < self.debounce_ms:
            raise ValueError(
                f"max_delay_ms is {self.max_delay_ms}, and must be debounce_ms ({self.debounce_ms}) or more"
            )
        if self.max_pending < 1:
            raise ValueError(f"max_pending is {self.max_pending}, and must be 1 or more")


class FlushSchedule:
    """Waits for a quiet spell, but never past a hard limit, nor for more than so many writes.

    Every ``now_ms`` is on one monotonic clock; the caller picks which.
    """

    def __init__(self, config: SyncConfig) -> None:
        self._config = config
        self._waiting = 0
        self._oldest_ms = math.inf
        self._newest_ms = math.inf
        self._not_before_ms = -math.inf

    @property
    def waiting(self) -> int:
        """How many writes wait for a flush."""
        return self._waiting

    @property
    def oldest_ms(self) -> float:
        """When the oldest waiting write was made; ``inf`` when none waits."""
        return self._oldest_ms

    @property
    def limit_ms(self) -> float:
        """When the hard limit of the oldest waiting write is reached; ``inf`` when none waits."""
        return self._oldest_ms + self._config.max_delay_ms

    @property
    def due_ms(self) -> float:
        """When the next flush is due; ``inf`` when nothing waits for one."""
        if not self._config.auto_export or not self._waiting:
            return math.inf
        if self._waiting >= self._config.max_pending:
            return self._not_before_ms
        return max(min(self._newest_ms + self._config.debounce_ms, self.limit_ms), self._not_before_ms)

    def wrote(self, count: int, *, now_ms: float) -> None:
        """Note that *count* writes wait from now on."""
        if count and not self._waiting:
            self._oldest_ms = now_ms
        if count:
            self._newest_ms = now_ms
            self._waiting += count

    def flushed(self) -> None:
        """Note that nothing waits any more. Called before a flush: writes during it count as new."""
        self._waiting = 0
        self._oldest_ms = self._newest_ms = math.inf
        self._not_before_ms = -math.inf

    def failed(self, count: int, *, now_ms: float, retry_ms: float) -> None:
        """Note that *count* writes still wait, and that the next try is *retry_ms* away."""
        self.wrote(count, now_ms=now_ms)
        self._not_before_ms = now_ms + retry_ms
