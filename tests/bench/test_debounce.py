"""Choosing a durability and a `SyncConfig` from trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from taskstore_async import MissingExtraError
from taskstore_async.bench import plots
from taskstore_async.bench.debounce import Grid, plans, recommend
from taskstore_async.bench.trial import Plan, Trial, run_trial
from taskstore_async.bench.workload import Shape
from taskstore_async.core.schedule import Durability, SyncConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

SHORT = SyncConfig(debounce_ms=100, max_delay_ms=1_000)
LONG = SyncConfig(debounce_ms=1_000, max_delay_ms=5_000)


def trial(shape: Shape, durability: Durability, config: SyncConfig, **said: float) -> Trial:
    plan = Plan(shape=shape, durability=durability, config=config, seconds=1)
    figures = {
        "per_second": 1_000.0,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "journal_fsyncs": 1.0,
        "index_fsyncs": 50.0,
        "appends": 1.0,
        "lines": 500.0,
        "lag_p50_ms": config.max_delay_ms / 2,
        "lag_p99_ms": config.max_delay_ms,
        "lag_max_ms": config.max_delay_ms,
        "lost_mean": 10.0,
        **said,
    }
    return Trial(plan=plan, writes=1_000, lost_max=20, **figures)


def trials(*, short: dict[str, float] | None = None, direct_p50_ms: float = 5.0) -> list[Trial]:
    return [
        one
        for shape in Shape
        for one in (
            trial(shape, Durability.INDEX, SHORT, **(short or {})),
            trial(shape, Durability.INDEX, LONG),
            trial(shape, Durability.JOURNAL, SHORT, p50_ms=direct_p50_ms),
        )
    ]


class TestRecommendation:
    """The least lag that costs few appends and hardly more lines; JOURNAL where it is nearly free."""

    def test_the_shorter_wait_when_it_costs_next_to_nothing(self) -> None:
        found = recommend(trials(), max_lag_ms=6_000)
        assert (found.config.debounce_ms, found.config.max_delay_ms) == (100, 1_000)
        assert found.durability is Durability.INDEX

    @pytest.mark.parametrize("costly", [{"appends": 6.0}, {"lines": 700.0}])
    def test_the_longer_wait_when_it_saves_appends_or_lines(self, costly: dict[str, float]) -> None:
        assert recommend(trials(short=costly), max_lag_ms=6_000).config.max_delay_ms == 5_000

    def test_never_later_than_is_allowed(self) -> None:
        assert recommend(trials(short={"appends": 6.0}), max_lag_ms=2_000).config.max_delay_ms == 1_000

    def test_journal_where_it_is_nearly_free(self) -> None:
        assert recommend(trials(direct_p50_ms=1.5), max_lag_ms=6_000).durability is Durability.JOURNAL

    def test_it_says_why(self) -> None:
        reasons = " ".join(recommend(trials(), max_lag_ms=6_000).reasons)
        for word in ("1000 ms", "1.0 appends a second", "500 lines", "cost 20 writes", "5.0 times"):
            assert word in reasons

    def test_without_trials_at_journal_nothing_is_said_for_it(self) -> None:
        found = recommend([one for one in trials() if one.plan.durability is Durability.INDEX], max_lag_ms=6_000)
        assert found.durability is Durability.INDEX


class TestTrials:
    """A trial counts what the engine does."""

    def test_the_grid_has_every_shape_and_tries_journal_once_for_each(self) -> None:
        made = plans(Grid(), record_bytes=500)
        assert {one.shape for one in made} == set(Shape)
        assert sum(one.durability is Durability.JOURNAL for one in made) == len(Shape)
        assert all(one.record_bytes == 500 for one in made)
        waiting = [one for one in made if one.durability is not Durability.JOURNAL]
        assert all(one.seconds * 1_000 > one.config.max_delay_ms for one in waiting)

    def test_at_journal_every_write_is_in_the_journal_when_it_is_acknowledged(self) -> None:
        plan = Plan(shape=Shape.TRICKLE, durability=Durability.JOURNAL, config=SHORT, seconds=0.2)
        found = run_trial(plan)
        assert found.appends == found.journal_fsyncs == found.lines == 1_000
        assert (found.lag_max_ms, found.lost_max) == (0, 0)

    def test_at_index_writes_wait_together(self) -> None:
        config = SyncConfig(debounce_ms=60_000, max_delay_ms=60_000)
        found = run_trial(Plan(shape=Shape.BURSTS, durability=Durability.INDEX, config=config, seconds=0.1))
        assert found.writes == 200
        assert found.appends == 0
        assert found.lost_max == 200
        assert 500 < found.lines < 700  # half of the writes are versions of 20 records
        assert 5 <= found.index_fsyncs * found.writes / 1_000 <= 200


class TestPlots:
    """Plots are an extra."""

    def test_two_pictures(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        drawn = plots.plot(trials(), tmp_path / "new")
        assert [path.name for path in drawn] == ["debounce-acknowledged.svg", "debounce-journal-lag.svg"]
        assert all(path.read_text(encoding="utf-8").startswith("<?xml") for path in drawn)

    def test_without_matplotlib_it_says_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
        with pytest.raises(MissingExtraError, match=r"taskstore-async\[bench\]"):
            plots.plot(trials(), tmp_path)


class TestCommand:
    """`tstore bench` measures, and says what to take."""

    def test_what_pictures_need_is_told_before_anything_is_measured(
        self, tstore: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
        monkeypatch.delattr("taskstore_async.bench.debounce.run_grid")
        result = tstore("bench", "debounce", "--plots", "plots")
        assert result.code == 1
        assert "taskstore-async[bench]" in result.err

    def test_writes(self, tstore: Callable[..., Result], tmp_path: Path) -> None:
        result = tstore("bench", "--seconds", "0.1", "--dir", str(tmp_path), "--json")
        assert result.code == 0, result.err
        found = msgspec.json.decode(result.out)
        assert {(one["durability"], one["callers"]) for one in found} == {
            (None, 1),
            *((level.value, callers) for level in Durability for callers in (1, 8, 64)),
        }
        assert list(tmp_path.iterdir()) == []

    def test_debounce(self, tstore: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
        from taskstore_async.bench import debounce  # noqa: PLC0415 - reason: only here

        monkeypatch.setattr(debounce, "run_grid", lambda *_words, **_said: trials())
        result = tstore("bench", "debounce", "--quick")
        assert result.code == 0, result.err
        config = "SyncConfig(debounce_ms=100, max_delay_ms=1000, max_pending=1000)"
        assert f"recommended: Durability.INDEX, {config}" in result.out
