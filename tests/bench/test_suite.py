"""The suite: what it must have a row for, and what the page makes of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import growth, imports, merges, programs, reads, startup, syncs, tracker, writes
from benchmarks.__main__ import FAMILIES, joined, run
from benchmarks.page import page
from benchmarks.rows import Absent, Profile, Report, Row, at_least, at_most
from taskstore_async.bench.measure import Contest, Sample, Spread, percentile, race

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.rows import Family

SMOKE = Profile(name="smoke", rounds=1, slow_rounds=1, puts=64, gets=64, many=200, most=2_000, callers=(8,))
BUDGETS = {
    writes: {
        "puts.journal.engine",
        *(f"puts.journal.manager.{loop}" for loop in ("asyncio", "uvloop", "trio")),
        "puts.journal.against.each",
        "puts.journal.against.aiosqlite",
        "puts.index",
        "puts.relaxed",
        "puts.relaxed.trio",
        "put.one.manager",
        "create_many.store",
    },
    reads: {"get.one.asyncio", "get.many.asyncio", "filter.10.manager"},
    syncs: {
        "rebuild.new",
        "rebuild.new.memory",
        "rebuild.in_place",
        "rebuild.in_place.memory",
        "rebuild.in_place.wal",
        "open.unchanged",
        "sync.one_line",
        "sync.branch",
    },
    growth: {"growth.put.2000", "growth.get.2000"},
}


def row(value: float, **said: object) -> Row:
    given = {"name": "a", "work": "work", "floor": "floor", "budget": at_most(2), **said}
    return Row(value=Spread(value, value, value), **given)  # type: ignore[arg-type]


def report(*rows: Row) -> Report:
    return Report("smoke", {"Python": "3"}, 60, {"writes": list(rows)}, [Absent("Taskwarrior", "not on the path")])


class TestRows:
    """Every row of the budget table has a row in the suite, with its budget."""

    @pytest.mark.parametrize("module", list(BUDGETS), ids=lambda module: module.__name__)
    def test_the_rows_with_a_budget_are_there(self, module: object) -> None:
        family: Family = module.FAMILY  # type: ignore[attr-defined]
        found = {one.name: one for one in family.rows(SMOKE) if isinstance(one, Row)}
        assert BUDGETS[module] <= {name for name, one in found.items() if one.budget is not None}  # type: ignore[index]
        assert len({one.name for one in found.values()}) == len(found)

    def test_the_other_families_are_a_part_of_the_suite(self) -> None:
        assert {merges.FAMILY, startup.FAMILY, imports.FAMILY, tracker.FAMILY, programs.FAMILY} <= set(FAMILIES)

    def test_filters_are_measured_at_both_sizes(self) -> None:
        found = {one.name for one in reads.FAMILY.rows(SMOKE)}
        names = {f"filter.{share}.{name}" for share in (1, 10) for name in ("store", "manager")}
        assert names | {f"{name}.2000" for name in names} <= found

    def test_a_merge_is_measured_with_its_memory(self) -> None:
        found = {one.name for one in merges.merge_rows(SMOKE, "journals", 40, 2.2, 220)}
        assert found == {"merge.journals.40", "merge.journals.40.memory"}

    def test_what_is_absent_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        from benchmarks.rows import Family as Made  # noqa: PLC0415 - reason: a type elsewhere

        made = run(SMOKE, [Made("peers", lambda _: iter([Absent("Taskwarrior", "not on the path")]))])
        assert made.absent == [Absent("Taskwarrior", "not on the path")]
        assert "Taskwarrior: skipped, not on the path" in capsys.readouterr().out


class TestPrograms:
    """Another program is a row where it is on the path, and a word where it is not, or is another one."""

    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("PATH", str(tmp_path))
        return tmp_path

    def test_none_is_there(self, path: Path) -> None:
        assert list(programs.FAMILY.rows(SMOKE)) == [
            Absent("Taskwarrior", "there is no program `task` on the path"),
            Absent("the Rust taskstore", "there is no program `taskstore` on the path"),
        ]
        assert not list(path.iterdir())

    @pytest.mark.parametrize(
        ("name", "rows"),
        [
            ("task", ["program.taskwarrior.import", "program.taskwarrior.list"]),
            ("taskstore", ["program.taskstore.sync", "program.taskstore.list"]),
        ],
    )
    @pytest.mark.parametrize("fits", [True, False])
    def test_one_is_there(self, path: Path, name: str, rows: list[str], *, fits: bool) -> None:
        (path / name).write_text(f"#!/bin/sh\nexit {0 if fits else 3}\n", encoding="utf-8")
        (path / name).chmod(0o755)
        found = list(programs.FAMILY.rows(SMOKE))
        assert [one.name for one in found if isinstance(one, Row)] == (rows if fits else [])
        absent = [one.reason for one in found if isinstance(one, Absent)]
        assert [f"`{name}` is another one" in reason for reason in absent].count(True) == (not fits)


class TestPage:
    """The page shows every row, and says of each that misses its budget by how much."""

    def test_a_row_that_keeps_to_its_budget(self) -> None:
        text = page(report(row(1.5)))
        assert "| work | floor | ≤ 2.00 x | **1.50 x** (1.50 x … 1.50 x) | met |" in text
        assert "1 of 1 rows with a budget keep to it." in text
        assert "missed" not in text

    def test_a_row_that_misses_it(self) -> None:
        text = page(report(row(3.0), row(0.1, budget=at_least(0.2)), row(5.0, budget=None)))
        assert "0 of 2 rows" in text
        assert "- work: 3.00 x, budget ≤ 2.00 x, missed by 50%." in text
        assert "- work: 0.10 x, budget ≥ 0.20 x, missed by 50%." in text
        assert text.count("**missed**") == 2

    def test_units(self) -> None:
        text = page(report(row(81.6, unit="MB", budget=at_most(150)), row(0.44, unit="ms", budget=at_most(5))))
        assert "≤ 150 MB | **82 MB**" in text
        assert "≤ 5.0 ms | **0.4 ms**" in text

    def test_what_was_not_measured_is_listed(self) -> None:
        assert "- Taskwarrior: not on the path" in page(report(row(1)))

    def test_a_later_run_of_one_family_takes_the_place_of_the_earlier(self) -> None:
        before = Report("full", {}, 60, {"writes": [row(1.0)], "reads": [row(1.1)]}, [])
        after = Report("full", {}, 30, {"reads": [row(1.2)]}, [])
        both = joined(before, after)
        assert both.rows == {"writes": [row(1.0)], "reads": [row(1.2)]}
        assert both.seconds == 90


class TestMeasuring:
    """Contenders take turns, and ratios are made within a round."""

    def test_contenders_take_turns_the_other_way_round_in_every_second_round(self) -> None:
        order: list[str] = []

        def contender(name: str) -> Sample:
            order.append(name)
            return Sample(1.0)

        race({"a": lambda: contender("a"), "b": lambda: contender("b")}, rounds=2)
        assert order == ["a", "b", "b", "a"]

    def test_a_ratio_is_the_median_of_the_rounds_ratios(self) -> None:
        contest = Contest({"work": [Sample(2), Sample(90), Sample(4)], "floor": [Sample(1), Sample(30), Sample(1)]})
        assert contest.cost("work", "floor") == Spread(3, 2, 4)
        assert contest.rate("work", "floor") == Spread(1 / 3, 1 / 4, 1 / 2)
        assert contest.above("work", "floor").median == 3_000

    def test_percentiles(self) -> None:
        assert percentile([], 0.5) == 0
        assert percentile([3, 1, 2], 0.5) == 2
        assert percentile(list(range(100)), 0.99) == 99
