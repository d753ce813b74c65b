"""A row: some work, the floor it is compared with, what came of it, and what it may cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from taskstore_async.bench.measure import Spread  # noqa: TC001 - reason: msgspec reads it at run time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Absent", "Budget", "Family", "Profile", "Report", "Row", "at_least", "at_most"]

Unit = Literal["x", "ms", "MB", "count"]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How much work a run does.

    Attributes:
        name: What it is called.
        rounds: How often quick contenders take turns.
        slow_rounds: How often slow ones do.
        puts: Writes of a contender.
        gets: Reads of a contender.
        many: Records of what the budgets call 100 k.
        most: Records of what the budgets call 1 M.
        callers: How many write at the same time, where that is what is compared.
    """

    name: str
    rounds: int
    slow_rounds: int
    puts: int
    gets: int
    many: int
    most: int
    callers: tuple[int, ...] = (1, 8, 64, 512)


class Budget(msgspec.Struct, frozen=True):
    """What a row may be: at most, or at least, so much."""

    bound: Literal["at most", "at least"]
    limit: float

    def met_by(self, value: float) -> bool:
        """Whether *value* keeps to it."""
        return value <= self.limit if self.bound == "at most" else value >= self.limit

    def missed_by(self, value: float) -> float:
        """How far *value* is beyond the limit, as a share of it; 0 when it is met."""
        beyond = value - self.limit if self.bound == "at most" else self.limit - value
        return max(0.0, beyond / self.limit)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison.

    Attributes:
        name: What it is found by.
        work: What was done.
        floor: What it was compared with.
        value: What came of it, over the rounds.
        unit: Of the value: a ratio, milliseconds above the floor, megabytes, or a number of things.
        budget: What it may be; None where the row only informs.
        detail: Absolute figures, for people.
    """

    name: str
    work: str
    floor: str
    value: Spread
    unit: Unit = "x"
    budget: Budget | None = None
    detail: str = ""


class Absent(msgspec.Struct, frozen=True):
    """Something that could not be measured here, and why."""

    name: str
    reason: str


class Family(msgspec.Struct, frozen=True):
    """Rows that belong together."""

    name: str
    rows: Callable[[Profile], Iterator[Row | Absent]]


class Report(msgspec.Struct, frozen=True):
    """A run.

    Attributes:
        profile: Its profile's name.
        machine: What it ran on, by name.
        seconds: How long it took.
        rows: What was measured, by family.
        absent: What was not.
    """

    profile: str
    machine: dict[str, str]
    seconds: float
    rows: dict[str, list[Row]]
    absent: list[Absent]


def at_most(limit: float) -> Budget:
    """At most *limit*."""
    return Budget("at most", limit)


def at_least(limit: float) -> Budget:
    """At least *limit*."""
    return Budget("at least", limit)
