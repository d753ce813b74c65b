"""Comparable values: one meaning for filters, orders and columns."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.comparable import OPAQUE, comparable, field_comparable, sort_key

if TYPE_CHECKING:
    from taskstore_async.core.comparable import COMPARABLE

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | INTEGERS.map(float)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.decimals() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
COMPARABLES = st.none() | INTEGERS | FLOATS | TEXT | st.just(OPAQUE)


class Status(StrEnum):
    OPEN = "open"


class Mood(str, Enum):  # noqa: UP042 - reason: that is the test
    """As people wrote it before ``StrEnum``: ``str()`` of it is not its value."""

    GOOD = "good"


class Level(IntEnum):
    HIGH = 3


class TestComparable:
    """A value compares as a number, as text, as nothing, or not at all."""

    @pytest.mark.parametrize("missing", [None, msgspec.UNSET])
    def test_null_and_missing_are_the_same(self, missing: object) -> None:
        assert comparable(missing) is None

    @pytest.mark.parametrize(("value", "number"), [(True, 1), (False, 0), (Level.HIGH, 3), (7, 7), (1.5, 1.5)])
    def test_booleans_and_numbers_are_plain_numbers(self, value: object, number: float) -> None:
        found = comparable(value)
        assert found == number
        assert type(found) is type(number)

    @pytest.mark.parametrize(("value", "text"), [(Status.OPEN, "open"), (Mood.GOOD, "good"), ("", "")])
    def test_text_of_any_class_is_plain_text(self, value: object, text: str) -> None:
        found = comparable(value)
        assert found == text
        assert type(found) is str

    @pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
    def test_integers_beyond_64_bits_are_opaque(self, value: int) -> None:
        assert comparable(value) is OPAQUE

    @pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
    def test_the_last_64_bit_integers_are_numbers(self, value: int) -> None:
        assert comparable(value) == value

    @pytest.mark.parametrize("value", [Decimal("1E+400"), Decimal("NaN"), Decimal("sNaN"), float("inf"), float("nan")])
    def test_what_is_no_finite_float_is_opaque(self, value: object) -> None:
        assert comparable(value) is OPAQUE

    def test_a_decimal_is_the_nearest_float(self) -> None:
        assert comparable(Decimal("0.1000000000000000055511151231257827")) == 0.1
        assert type(comparable(Decimal(1))) is float

    @pytest.mark.parametrize("value", [[], [1], {}, {"a": 1}, b"", object()])
    def test_anything_else_is_opaque(self, value: object) -> None:
        assert comparable(value) is OPAQUE
        assert repr(OPAQUE) == "OPAQUE"

    @given(JSON)
    def test_every_json_value_is_comparable_and_stays_what_it_became(self, value: object) -> None:
        once = comparable(value)
        assert once is OPAQUE or comparable(once) == once
        assert type(once) in {type(None), int, float, str, type(OPAQUE)}


class TestFieldComparable:
    """The stamps compare as whole milliseconds, in whichever form a line has them."""

    @pytest.mark.parametrize("name", ["created_at", "updated_at"])
    def test_text_of_another_tool_compares_with_our_integers(self, name: str) -> None:
        assert field_comparable(name, "2024-01-01T00:00:00.123456789Z") == 1_704_067_200_123
        assert field_comparable(name, 1_704_067_200_123) == 1_704_067_200_123

    @pytest.mark.parametrize("value", ["yesterday", -1, 1.5, None])
    def test_an_unreadable_stamp_compares_as_what_it_is(self, value: object) -> None:
        assert field_comparable("created_at", value) == value

    def test_other_fields_are_not_looked_at_as_stamps(self) -> None:
        assert field_comparable("started_at", "2024-01-01T00:00:00Z") == "2024-01-01T00:00:00Z"


class TestOrder:
    """Python and SQLite order and equate comparable values alike, so a sort may happen in either."""

    @given(st.lists(COMPARABLES, max_size=12))
    def test_sorting_agrees_with_sqlite(self, values: list[COMPARABLE]) -> None:
        db = sqlite3.connect(":memory:")
        db.execute("CREATE TABLE r (id INTEGER PRIMARY KEY, c0)")
        db.executemany("INSERT INTO r VALUES (?, ?)", enumerate(b"" if value is OPAQUE else value for value in values))
        by_sqlite = [row[0] for row in db.execute("SELECT id FROM r ORDER BY c0, id")]
        db.close()
        assert sorted(range(len(values)), key=lambda place: sort_key(values[place])) == by_sqlite

    @given(COMPARABLES, COMPARABLES)
    def test_equality_agrees_with_sqlite(self, left: COMPARABLE, right: COMPARABLE) -> None:
        if OPAQUE in {left, right} or None in {left, right}:
            return  # equal to nothing, in a filter
        db = sqlite3.connect(":memory:")
        ((equal,),) = db.execute("SELECT ? = ?", (left, right))
        db.close()
        assert (sort_key(left) == sort_key(right)) == bool(equal)

    def test_kinds_follow_each_other(self) -> None:
        ordered: list[COMPARABLE] = [None, -1.5, 0, 2**53 + 1, "", "a", "é", "\U0001f600", OPAQUE]
        assert sorted(sorted(ordered, key=repr), key=sort_key) == ordered
