"""Trials as pictures: SVG, by matplotlib."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from taskstore_async.bench.workload import Shape
from taskstore_async.core.schedule import Durability
from taskstore_async.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from taskstore_async.bench.trial import Trial

__all__ = ["load", "plot"]

_COLOURS: Final = {Durability.RELAXED: "#8a8a8a", Durability.INDEX: "#1f77b4", Durability.JOURNAL: "#d62728"}
_MARKS: Final = {Shape.BURSTS: "o", Shape.TRICKLE: "s", Shape.AGENTS: "^"}
_STYLE: Final = {
    "svg.hashsalt": "tstore",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
}


def load() -> tuple[Any, Any]:
    """Import matplotlib and its pyplot.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        mpl: Any = import_module("matplotlib")
        mpl.use("svg")
        return mpl, import_module("matplotlib.pyplot")
    except ImportError as error:
        raise MissingExtraError("plots", "bench") from error


def plot(trials: Sequence[Trial], directory: Path) -> list[Path]:
    """Draw *trials* into *directory*, which is made.

    Returns:
        The files: what an acknowledgement takes, and what waiting saves.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    mpl, plt = load()
    directory.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    with mpl.rc_context(_STYLE):
        for name, draw in (("acknowledged", _draw_acknowledged), ("journal-lag", _draw_lag)):
            figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
            draw(axes, trials)
            path = directory / f"debounce-{name}.svg"
            figure.savefig(path, format="svg", metadata={"Date": None})
            plt.close(figure)
            made.append(path)
    return made


def _draw_acknowledged(axes: Any, trials: Sequence[Trial]) -> None:  # noqa: ANN401 - reason: matplotlib's, an extra
    """How long an acknowledgement took, p50 and p99, per shape and durability."""
    width = 0.25
    for place, level in enumerate(Durability):
        found = [[one for one in trials if one.plan.durability is level and one.plan.shape is shape] for shape in Shape]
        middles = [sum(one.p50_ms for one in some) / max(1, len(some)) for some in found]
        tails = [max((one.p99_ms for one in some), default=0.0) for some in found]
        at = [number + (place - 1) * width for number in range(len(Shape))]
        axes.bar(at, tails, width * 0.9, color=_COLOURS[level], alpha=0.35)
        axes.bar(at, middles, width * 0.9, color=_COLOURS[level], label=level.value)
    axes.set_xticks(range(len(Shape)), [shape.value for shape in Shape])
    axes.set_ylabel("acknowledged after, ms (dark: p50, light: p99)")
    axes.set_yscale("log")
    axes.legend()


def _draw_lag(axes: Any, trials: Sequence[Trial]) -> None:  # noqa: ANN401 - reason: as above
    """What waiting costs and saves, a point per configuration."""
    for one in trials:
        config, level = one.plan.config, one.plan.durability
        if level is Durability.JOURNAL:
            continue
        axes.scatter(one.lag_p99_ms, one.appends, color=_COLOURS[level], marker=_MARKS[one.plan.shape], s=28)
        if level is Durability.INDEX:
            text = f"{config.debounce_ms}/{config.max_delay_ms}"
            axes.annotate(text, (one.lag_p99_ms, one.appends), fontsize=6, xytext=(4, 3), textcoords="offset points")
    for shape, mark in _MARKS.items():
        axes.scatter([], [], color="black", marker=mark, label=shape.value)
    axes.set_xlabel("late in the journal, ms (p99); labels: debounce_ms/max_delay_ms")
    axes.set_ylabel("appends per thousand writes")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend()
