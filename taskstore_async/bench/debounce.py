"""Which durability and which `SyncConfig`: trials over all of them, and what follows. Deciding is pure."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.bench.trial import Plan, Trial, run_trial
from taskstore_async.bench.workload import Shape
from taskstore_async.core.schedule import Durability, SyncConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = ["QUICK", "Grid", "Recommendation", "plans", "recommend", "run_grid"]

_FEW_PER_S: Final = 5.0  #: appends a second that no disk notices
_HARDLY_MORE: Final = 1.25  #: lines may be so many times the least before waiting longer is worth it
_CHEAP: Final = 2.0  #: an acknowledgement at JOURNAL may take so many times one at INDEX to be recommended
_PENDING_S: Final = 2.0


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried.

    Attributes:
        debounce_ms: Quiet spells.
        max_delay_ms: Hard limits; combined with every quiet spell that is not longer.
        seconds: How long a trial takes at least; one whose hard limit is longer takes one and a half times that.
    """

    debounce_ms: tuple[int, ...] = (100, 500, 1_000)
    max_delay_ms: tuple[int, ...] = (1_000, 5_000)
    seconds: float = 2.0


QUICK: Final = Grid(debounce_ms=(50, 200), max_delay_ms=(400,), seconds=0.6)
"""Enough to see how it goes."""


class Recommendation(msgspec.Struct, frozen=True):
    """What to use, and why.

    Attributes:
        durability: What acknowledged should mean.
        config: When to export.
        reasons: Sentences.
    """

    durability: Durability
    config: SyncConfig
    reasons: list[str]


def plans(grid: Grid, *, record_bytes: int) -> list[Plan]:
    """The trials of *grid*. At JOURNAL nothing waits, so there the configuration is tried once."""
    made: list[Plan] = []
    pairs = [(quiet, most) for quiet, most in itertools.product(grid.debounce_ms, grid.max_delay_ms) if quiet <= most]
    for shape, durability in itertools.product(Shape, Durability):
        for quiet, most in pairs[:1] if durability is Durability.JOURNAL else pairs:
            seconds = grid.seconds if durability is Durability.JOURNAL else max(grid.seconds, most * 1.5 / 1_000)
            config = SyncConfig(debounce_ms=quiet, max_delay_ms=most)
            made.append(
                Plan(shape=shape, durability=durability, config=config, seconds=seconds, record_bytes=record_bytes)
            )
    return made


def run_grid(
    wanted: Sequence[Plan], *, directory: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Trial]:
    """Run trials, one after the other.

    Args:
        wanted: Which.
        directory: On which disk; see `run_trial`.
        progress: Called with how many of how many are done.
    """
    trials: list[Trial] = []
    for plan in wanted:
        trials.append(run_trial(plan, directory))
        if progress is not None:
            progress(len(trials), len(wanted))
    return trials


def recommend(trials: Sequence[Trial], *, max_lag_ms: float) -> Recommendation:
    """Choose from what was measured.

    The least lag that costs few appends a second, and not many more lines than waiting longer would; and JOURNAL where
    an acknowledgement at it costs hardly more than at INDEX.

    Args:
        trials: Of at least one configuration at INDEX, every shape of it.
        max_lag_ms: How long a write may be missing from the journal, at the 99th percentile.
    """
    waiting = [trial for trial in trials if trial.plan.durability is Durability.INDEX]
    by_config = {one.plan.config: [two for two in waiting if two.plan.config == one.plan.config] for one in waiting}
    least_lines = min(_lines(found) for found in by_config.values())
    in_time = {config: found for config, found in by_config.items() if _lag_ms(found) <= max_lag_ms} or by_config
    cheap = {
        config: found
        for config, found in in_time.items()
        if _appends_per_s(found) <= _FEW_PER_S and _lines(found) <= _HARDLY_MORE * least_lines
    } or in_time
    config = min(cheap, key=lambda one: (one.max_delay_ms, one.debounce_ms))
    chosen = cheap[config]
    durability, why = _durability(trials, chosen)
    busiest = max(one.per_second for one in chosen)
    pending = max(1_000, round(busiest * min(_PENDING_S, config.max_delay_ms / 1_000), -3))
    keeps = (
        f"debounce_ms={config.debounce_ms} and max_delay_ms={config.max_delay_ms} keep the journal within "
        f"{_lag_ms(chosen):.0f} ms of what is acknowledged (p99), for {_appends_per_s(chosen):.1f} appends a second"
    )
    reasons = [
        keeps,
        f"a thousand writes become {_lines(chosen):.0f} lines; the fewest of all that was tried: {least_lines:.0f}",
        f"a store.db that somebody deletes would cost {max(one.lost_max for one in chosen)} writes at the worst moment",
        why,
    ]
    return Recommendation(durability, msgspec.structs.replace(config, max_pending=int(pending)), reasons)


def _durability(trials: Iterable[Trial], chosen: Sequence[Trial]) -> tuple[Durability, str]:
    direct = {one.plan.shape: one for one in trials if one.plan.durability is Durability.JOURNAL}
    costs = [direct[one.plan.shape].p50_ms / one.p50_ms for one in chosen if one.plan.shape in direct and one.p50_ms]
    if not costs:
        return Durability.INDEX, "JOURNAL was not tried"
    worst = max(costs)
    if worst <= _CHEAP:
        why = (
            f"an acknowledgement at JOURNAL takes at most {worst:.1f} times one at INDEX here, and nothing is lost "
            "with store.db; take INDEX where a line for every version would make the journal long"
        )
        return Durability.JOURNAL, why
    return Durability.INDEX, f"an acknowledgement at JOURNAL takes up to {worst:.1f} times one at INDEX here"


def _appends_per_s(found: Iterable[Trial]) -> float:
    """Appends a second, of the shape that makes most."""
    return max(one.appends * one.per_second / 1_000 for one in found)


def _lines(found: Iterable[Trial]) -> float:
    """Lines per thousand writes, over all shapes alike."""
    figures = [one.lines for one in found]
    return sum(figures) / len(figures)


def _lag_ms(found: Iterable[Trial]) -> float:
    return max(one.lag_p99_ms for one in found)
