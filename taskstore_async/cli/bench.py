"""The command that measures: bench."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path  # noqa: TC003 - reason: typer looks at the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer

from taskstore_async.cli.invocation import Invocation, command

if TYPE_CHECKING:
    from taskstore_async.bench.debounce import Recommendation
    from taskstore_async.bench.trial import Trial
    from taskstore_async.bench.writes import WriteCost

_HEADER: Final = (
    "writes",
    "durability",
    "debounce/delay",
    "per s",
    "p50 ms",
    "p99 ms",
    "appends/k",
    "fsyncs/k",
    "lag p50",
    "lag p99",
    "lag max",
    "lost",
)


class What(StrEnum):
    """What is measured."""

    WRITES = "writes"
    DEBOUNCE = "debounce"


@command("bench")
def bench(
    tstore: Invocation,
    what: Annotated[
        What, typer.Argument(metavar="[writes|debounce]", help="What to measure.", show_default="writes")
    ] = What.WRITES,
    *,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="On the disk that has this directory.")
    ] = None,
    record_bytes: Annotated[int, typer.Option(min=110, help="The size of a record's line, about.")] = 260,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long a trial takes at least.")] = 2.0,
    max_lag_ms: Annotated[
        int, typer.Option(min=1, help="debounce: how late a write may be in the journal, at the 99th percentile.")
    ] = 6_000,
    quick: Annotated[bool, typer.Option("--quick", help="debounce: fewer and shorter trials.")] = False,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="debounce: draw the trials into this directory, as SVG.")
    ] = None,
) -> None:
    """Measure this machine's disk with records of your size: what a write costs, and which SyncConfig to take.

    writes: every durability, with 1, 8 and 64 callers, beside a bare append and fsync. debounce: bursts, a trickle and
    many agents, over quiet spells, hard limits and durabilities; about three minutes. Stores are made in directories of
    their own, and go again.

    Example: tstore bench debounce --record-bytes 1000 --plots plots
    """
    if what is What.WRITES:
        _show_writes(tstore, directory, record_bytes=record_bytes, seconds=seconds)
        return
    from taskstore_async.bench import debounce  # noqa: PLC0415 - reason: no other command needs it
    from taskstore_async.bench import plots as drawing  # noqa: PLC0415 - reason: as above

    if plots is not None:
        drawing.load()  # what is missing is told before three minutes of measuring, not behind them
    grid = debounce.QUICK if quick else debounce.Grid(seconds=seconds)
    wanted = debounce.plans(grid, record_bytes=record_bytes)
    trials = debounce.run_grid(wanted, directory=directory, progress=_progress)
    found = debounce.recommend(trials, max_lag_ms=max_lag_ms)
    drawn = drawing.plot(trials, plots) if plots is not None else []
    _show_trials(tstore, trials, found)
    for path in drawn:
        tstore.out.words(f"drew {path}")


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done}/{total} trials\x1b[K" if done < total else "\r\x1b[K")
        sys.stderr.flush()


def _show_writes(tstore: Invocation, directory: Path | None, *, record_bytes: int, seconds: float) -> None:
    from taskstore_async.bench import writes  # noqa: PLC0415 - reason: as above
    from taskstore_async.core.schedule import Durability  # noqa: PLC0415 - reason: as above

    bare = writes.bare_append(seconds=seconds, record_bytes=record_bytes, directory=directory)
    measure = partial(writes.measure_writes, seconds=seconds, record_bytes=record_bytes, directory=directory)
    costs = [bare, *(measure(level, callers) for level in Durability for callers in writes.CALLERS)]
    if tstore.out.for_programs:
        tstore.out.values([_plain(one) for one in costs])
        return
    tstore.out.rows(
        ("durability", "callers", "writes/s", "p50 ms", "p99 ms", "per transaction"),
        [
            (
                "bare append, fsync" if one.durability is None else one.durability.value,
                str(one.callers),
                f"{one.per_second:,.0f}",
                f"{one.p50_ms:.2f}",
                f"{one.p99_ms:.2f}",
                f"{one.batch:.1f}",
            )
            for one in costs
        ],
    )


def _show_trials(tstore: Invocation, trials: list[Trial], found: Recommendation) -> None:
    if tstore.out.for_programs:
        tstore.out.value({"trials": [_plain(one) for one in trials], "recommendation": _plain(found)})
        return
    tstore.out.rows(
        _HEADER,
        [
            (
                one.plan.shape.value,
                one.plan.durability.value,
                f"{one.plan.config.debounce_ms}/{one.plan.config.max_delay_ms}",
                f"{one.per_second:,.0f}",
                f"{one.p50_ms:.2f}",
                f"{one.p99_ms:.2f}",
                f"{one.appends:.1f}",
                f"{one.journal_fsyncs + one.index_fsyncs:.1f}",
                f"{one.lag_p50_ms:.0f}",
                f"{one.lag_p99_ms:.0f}",
                f"{one.lag_max_ms:.0f}",
                f"{one.lost_max}",
            )
            for one in trials
        ],
    )
    config = found.config
    chosen = (
        f"recommended: Durability.{found.durability.name}, SyncConfig(debounce_ms={config.debounce_ms}, "
        f"max_delay_ms={config.max_delay_ms}, max_pending={config.max_pending})"
    )
    tstore.out.lines(["", chosen, *(f"- {reason}" for reason in found.reasons)])


def _plain(value: Trial | Recommendation | WriteCost) -> object:
    import msgspec  # noqa: PLC0415 - reason: as above

    return msgspec.to_builtins(value)
