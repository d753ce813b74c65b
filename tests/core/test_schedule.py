from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.schedule import Durability, FlushSchedule, SyncConfig


class TestDurability:
    """The levels have an order, and are text."""

    def test_the_strongest_of_several(self) -> None:
        assert max(Durability, key=lambda level: level.strength) is Durability.JOURNAL
        assert sorted(Durability, key=lambda level: level.strength) == ["relaxed", "index", "journal"]


class TestSyncConfig:
    """Numbers out of their range are refused with the number."""

    @pytest.mark.parametrize(
        ("name", "numbers"),
        [
            ("debounce_ms", {"debounce_ms": -1}),
            ("max_delay_ms", {"debounce_ms": 10, "max_delay_ms": 9}),
            ("max_pending", {"max_pending": 0}),
        ],
    )
    def test_out_of_range(self, name: str, numbers: dict[str, int]) -> None:
        with pytest.raises(ValueError, match=f"{name} is {numbers[name]}"):
            msgspec.convert(numbers, SyncConfig)

    def test_the_edges_are_in_range(self) -> None:
        assert SyncConfig(debounce_ms=0, max_delay_ms=0, max_pending=1).auto_export


class TestFlushSchedule:
    """A flush is due after a quiet spell, but never past the hard limit, nor after more than so many writes."""

    @pytest.fixture
    def schedule(self) -> FlushSchedule:
        return FlushSchedule(SyncConfig(debounce_ms=100, max_delay_ms=1_000, max_pending=10))

    def test_nothing_is_due_while_nothing_waits(self, schedule: FlushSchedule) -> None:
        schedule.wrote(0, now_ms=5)
        assert (schedule.waiting, schedule.due_ms, schedule.limit_ms, schedule.oldest_ms) == (0, *[math.inf] * 3)

    def test_every_write_puts_the_flush_off_up_to_the_limit(self, schedule: FlushSchedule) -> None:
        schedule.wrote(1, now_ms=0)
        assert schedule.due_ms == 100
        schedule.wrote(1, now_ms=90)
        assert schedule.due_ms == 190
        schedule.wrote(1, now_ms=950)
        assert (schedule.due_ms, schedule.limit_ms, schedule.oldest_ms, schedule.waiting) == (1_000, 1_000, 0, 3)

    def test_many_writes_are_due_at_once(self, schedule: FlushSchedule) -> None:
        schedule.wrote(9, now_ms=0)
        assert schedule.due_ms == 100
        schedule.wrote(1, now_ms=0)
        assert schedule.due_ms == -math.inf

    def test_a_flush_begins_anew(self, schedule: FlushSchedule) -> None:
        schedule.wrote(10, now_ms=0)
        schedule.flushed()
        assert (schedule.waiting, schedule.due_ms) == (0, math.inf)
        schedule.wrote(1, now_ms=500)
        assert (schedule.due_ms, schedule.oldest_ms) == (600, 500)

    def test_after_a_failure_the_next_try_waits_however_many_wait(self, schedule: FlushSchedule) -> None:
        schedule.failed(10, now_ms=0, retry_ms=2_000)
        assert (schedule.due_ms, schedule.waiting) == (2_000, 10)
        schedule.wrote(5, now_ms=1)
        assert schedule.due_ms == 2_000
        schedule.flushed()
        schedule.wrote(1, now_ms=10)
        assert schedule.due_ms == 110

    def test_without_auto_export_nothing_is_ever_due(self) -> None:
        schedule = FlushSchedule(SyncConfig(auto_export=False, max_pending=1))
        schedule.wrote(100, now_ms=0)
        assert (schedule.due_ms, schedule.waiting) == (math.inf, 100)

    @given(
        gaps=st.lists(st.integers(0, 50), min_size=1),
        quiet=st.integers(0, 60),
        more=st.integers(0, 60),
        most=st.integers(1, 20),
    )
    def test_it_agrees_with_looking_at_every_write(self, gaps: list[int], quiet: int, more: int, most: int) -> None:
        schedule = FlushSchedule(SyncConfig(debounce_ms=quiet, max_delay_ms=quiet + more, max_pending=most))
        waiting: list[int] = []
        now = 0
        for gap in gaps:
            now += gap
            if schedule.due_ms <= now:
                assert len(waiting) >= most or now >= min(waiting[-1] + quiet, waiting[0] + quiet + more)
                schedule.flushed()
                waiting = []
            elif waiting:
                assert len(waiting) < most
                assert now < min(waiting[-1] + quiet, waiting[0] + quiet + more)
            schedule.wrote(1, now_ms=now)
            waiting.append(now)
        assert schedule.waiting == len(waiting)
