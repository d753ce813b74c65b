"""Stamps: two forms of an instant, and the next one."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.stamp import MAX_STAMP_MS, NS_PER_MS, next_stamp, read_stamp, read_stamps, to_ms

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LOCAL = EPOCH.replace(tzinfo=None)
DAY_NS = 86_400 * 10**9
OFFSETS = st.integers(-(24 * 60 - 1), 24 * 60 - 1)
INSTANTS = st.integers(0, MAX_STAMP_MS * NS_PER_MS)


def instant_of(moment: dt.datetime) -> int:
    """Nanoseconds since the epoch, by the arithmetic of ``datetime``."""
    return (moment - EPOCH) // dt.timedelta(microseconds=1) * 1000


class Level(IntEnum):
    FIVE = 5


class TestIntegers:
    """Integers are milliseconds, 0 to 2^53-1; no other number is a stamp."""

    @given(st.integers(0, MAX_STAMP_MS))
    def test_they_are_milliseconds(self, value: int) -> None:
        instant = read_stamp(value)
        assert instant == value * 1_000_000
        assert to_ms(value * 1_000_000) == to_ms(value * 1_000_000 + 999_999) == value

    @pytest.mark.parametrize("value", [0, 2**53 - 1, Level.FIVE])
    def test_the_bounds_are_in(self, value: int) -> None:
        assert read_stamp(value) == int(value) * NS_PER_MS

    @pytest.mark.parametrize(
        "value", [-1, 2**53, 10**30, True, False, 1.0, 1.5, float("nan"), Decimal(5), None, [], {}, b"5", "5", ""]
    )
    def test_what_is_none(self, value: object) -> None:
        assert read_stamp(value) is None


class TestText:
    """RFC 3339 text is read to the nanosecond; without an offset it is UTC."""

    @pytest.mark.parametrize(
        ("text", "instant"),
        [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00z", 0),
            ("1970-01-01 00:00:01", 10**9),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("1970-01-01T00:00:00.1Z", 10**8),
            ("1970-01-01T00:00:00.1234567899999Z", 123_456_789),
            ("2024-01-01T00:00:00.123456789Z", 1_704_067_200_123_456_789),
            ("2024-01-01T01:30:00+01:30", 1_704_067_200 * 10**9),
            ("2023-12-31T23:00:00-01:00", 1_704_067_200 * 10**9),
            ("2024-01-01T00:00:00-00:00", 1_704_067_200 * 10**9),
            ("1969-12-31T23:30:00-00:30", 0),
            ("2024-02-29T00:00:00Z", 1_709_164_800 * 10**9),
            ("2000-02-29T00:00:00Z", 951_782_400 * 10**9),
            ("9999-12-31T23:59:59.999999999-23:59", 253_402_387_139_999_999_999),
            ("9999-12-31T23:59:59-23:59", 253_402_387_139_000_000_000),
        ],
    )
    def test_forms(self, text: str, instant: int) -> None:
        assert read_stamp(text) == instant

    @pytest.mark.parametrize(
        ("text", "following"),
        [
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.5Z"),
            ("2016-12-31T15:59:60-08:00", "2017-01-01T00:00:00Z"),
            ("2017-01-01T05:29:60+05:30", "2017-01-01T00:00:00Z"),
        ],
    )
    def test_a_leap_second_is_the_beginning_of_the_next_day(self, text: str, following: str) -> None:
        assert read_stamp(text) == read_stamp(following) is not None

    @pytest.mark.parametrize(
        "text",
        [
            "1969-12-31T23:59:59.999999999Z",
            "1970-01-01T00:00:00+00:01",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-32T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T23:60:00Z",
            "2024-01-01T23:59:61Z",
            "2024-01-01T12:00:60Z",
            "2024-01-01T23:59:60+01:00",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+01:60",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00,5Z",
            "2024-01-01T00:00Z",
            "2024-01-01",
            "20240101T000000Z",
            "2024-W01-1T00:00:00Z",
            "+2024-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            " 2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00Z\n",
            "2024-01-01  00:00:00Z",
            "٢٠٢٤-01-01T00:00:00Z",
            "2024-01-01T00:00:00 Z",
            "yesterday",
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        assert read_stamp(text) is None

    @given(
        st.datetimes(LOCAL.replace(year=1969), LOCAL.replace(year=9999, day=29, month=12)),
        OFFSETS,
        st.text("0123456789", max_size=5),
        st.sampled_from("Tt "),
    )
    def test_it_agrees_with_datetime(self, wall: dt.datetime, minutes: int, digits: str, between: str) -> None:
        moment = wall.replace(tzinfo=dt.timezone(dt.timedelta(minutes=minutes)))
        text = wall.isoformat(sep=between, timespec="microseconds") + digits + moment.isoformat()[-6:]
        expected = instant_of(moment) + int(digits[:3].ljust(3, "0"))
        assert read_stamp(text) == (expected if expected >= 0 else None)

    @given(st.dates(dt.date(1970, 1, 1)))
    def test_days_follow_each_other(self, day: dt.date) -> None:
        days = (day - dt.date(1970, 1, 1)).days
        assert read_stamp(f"{day}T00:00:00Z") == days * DAY_NS
        assert read_stamp(f"{day}T23:59:60Z") == (days + 1) * DAY_NS

    @given(
        st.from_regex(
            r"[0-9]{4}-[0-2][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]"
            r"(\.[0-9]{1,6})?(Z|[+-][0-2][0-9]:[0-6][0-9])",
            fullmatch=True,
        )
    )
    def test_the_usual_form_means_what_the_others_do(self, text: str) -> None:
        assert read_stamp(text) == read_stamp(text.replace("T", "t").replace(" ", "t"))

    @given(st.text("0123456789-:T.Z+ ", max_size=30))
    def test_any_text_is_answered(self, text: str) -> None:
        instant = read_stamp(text)
        assert instant is None or instant >= 0


USUAL = st.builds(
    lambda moment, zone: f"{moment.isoformat()}{zone}",
    st.datetimes(dt.datetime(1969, 12, 30), dt.datetime(2100, 1, 1)),  # noqa: DTZ001 - reason: the zone is put behind it
    st.sampled_from(["Z", "+00:00", "-07:00", "+05:45"]),
)
ODD: st.SearchStrategy[object] = st.one_of(
    st.none(),
    st.integers(),
    st.booleans(),
    st.text(),
    st.sampled_from(
        [
            "2025-02-30T00:00:00Z",
            "2016-12-31T23:59:60Z",
            "2025-01-01T24:00:00Z",
            "2025-01-01T00:00:00+23:60",
            "2025-01-01T00:00:00.1234567Z",
            "2025-01-01T00:00:00Z\n2025-01-01T00:00:00Z",
            "2025-01-01T00:00:00Z\n",
            "20250101T000000Z",
            "",
        ]
    ),
)


class TestManyStamps:
    """Many are read as each is."""

    @given(st.lists(USUAL, max_size=8))
    def test_of_the_usual_form(self, values: list[str]) -> None:
        assert read_stamps(values) == [read_stamp(value) for value in values]

    @given(st.lists(st.one_of(USUAL, ODD), max_size=8))
    def test_of_any_form(self, values: list[object]) -> None:
        assert read_stamps(values) == [read_stamp(value) for value in values]


class TestTheNextStamp:
    """A write is later than what it replaces, and no earlier than the clock."""

    @pytest.mark.parametrize(
        ("clock_ms", "current", "stamp_ms"),
        [
            (100, None, 100),
            (100, 0, 100),
            (100, 98 * NS_PER_MS, 100),
            (100, 99 * NS_PER_MS + 999_999, 100),
            (100, 100 * NS_PER_MS, 101),
            (100, 100 * NS_PER_MS + 999_999, 101),
            (100, 5000 * NS_PER_MS, 5001),
            (100, (MAX_STAMP_MS - 1) * NS_PER_MS, MAX_STAMP_MS),
            (100, MAX_STAMP_MS * NS_PER_MS, MAX_STAMP_MS),
            (2**60, None, MAX_STAMP_MS),
        ],
    )
    def test_examples(self, clock_ms: int, current: int | None, stamp_ms: int) -> None:
        assert next_stamp(clock_ms, current) == stamp_ms

    @given(st.integers(0, MAX_STAMP_MS), st.none() | INSTANTS)
    def test_it_never_loses_to_what_it_replaces(self, clock_ms: int, current: int | None) -> None:
        stamp_ms = next_stamp(clock_ms, current)
        assert clock_ms <= stamp_ms <= MAX_STAMP_MS
        assert current is None or stamp_ms * NS_PER_MS > current or stamp_ms == MAX_STAMP_MS
        assert stamp_ms in {clock_ms, MAX_STAMP_MS, to_ms(current or 0) + 1}
