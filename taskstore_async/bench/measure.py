"""Measuring by comparison: contenders take turns in one process, and what counts is the ratio within a round.

Absolute times depend on the machine and on who else uses it; a ratio of two runs a moment apart hardly does.
"""

from __future__ import annotations

import gc
import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

__all__ = ["Contest", "Sample", "Spread", "percentile", "race", "timed"]


class Sample(msgspec.Struct, frozen=True):
    """One run of a contender.

    Attributes:
        seconds: What counts of it.
        counts: Whatever else it has counted or measured, by name.
        latencies_s: How long each of its calls took, when it has looked.
    """

    seconds: float
    counts: dict[str, float] = {}
    latencies_s: list[float] = []


class Spread(msgspec.Struct, frozen=True):
    """A figure from several rounds: the median, the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """The spread of *figures*, one per round; at least one."""
        return cls(statistics.median(figures), min(figures), max(figures))


class Contest(msgspec.Struct, frozen=True):
    """What several contenders did, round by round."""

    samples: dict[str, list[Sample]]

    def cost(self, one: str, other: str) -> Spread:
        """How many times as long as *other* the contender *one* takes."""
        pairs = zip(self.samples[one], self.samples[other], strict=True)
        return Spread.of([mine.seconds / its.seconds for mine, its in pairs])

    def rate(self, one: str, other: str) -> Spread:
        """How many times as fast as *other* the contender *one* is."""
        return self.cost(other, one)

    def above(self, one: str, other: str) -> Spread:
        """How many milliseconds longer than *other* the contender *one* takes."""
        pairs = zip(self.samples[one], self.samples[other], strict=True)
        return Spread.of([(mine.seconds - its.seconds) * 1_000 for mine, its in pairs])

    def seconds(self, name: str) -> float:
        """The median time of a contender."""
        return statistics.median(sample.seconds for sample in self.samples[name])

    def count(self, name: str, key: str) -> Spread:
        """What a contender has counted."""
        return Spread.of([sample.counts[key] for sample in self.samples[name]])

    def latency_cost(self, one: str, other: str, share: float = 0.5) -> Spread:
        """How many times as long as those of *other* the calls of *one* take, at a percentile."""
        pairs = zip(self.samples[one], self.samples[other], strict=True)
        return Spread.of(
            [percentile(mine.latencies_s, share) / percentile(its.latencies_s, share) for mine, its in pairs]
        )

    def latency_s(self, name: str, share: float) -> float:
        """The percentile of a contender's calls, the median of its rounds."""
        return statistics.median(percentile(sample.latencies_s, share) for sample in self.samples[name])


def race(contenders: Mapping[str, Callable[[], Sample]], *, rounds: int) -> Contest:
    """Let *contenders* take turns, the other way round in every second round."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            gc.collect()
            samples[name].append(contenders[name]())
    return Contest(samples)


class _Timer:
    """How long a block took; see `timed`."""

    seconds = 0.0


@contextmanager
def timed() -> Generator[_Timer]:
    """Time a block."""
    timer = _Timer()
    begun = time.perf_counter()
    try:
        yield timer
    finally:
        timer.seconds = time.perf_counter() - begun


def percentile(figures: Sequence[float], share: float) -> float:
    """The least of *figures* that a *share* of them does not exceed; 0 when there are none."""
    if not figures:
        return 0.0
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
