"""Filters, orders and pages: what each means for one record, and for many."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core import filters as filters_module
from taskstore_async.core.comparable import OPAQUE
from taskstore_async.core.filters import (
    Filter,
    FilterOp,
    any_,
    contains,
    eq,
    fields_of,
    gt,
    gte,
    in_,
    is_null,
    lt,
    lte,
    matches,
    ne,
    not_,
    predicate,
)
from taskstore_async.core.query import Cursor, Order, Query, decode_cursor, encode_cursor, select
from taskstore_async.errors import InvalidFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskstore_async.core.filters import ValueOf

COMPARISONS = [eq, ne, gt, gte, lt, lte, contains]
MISSING = msgspec.UNSET


class Status(StrEnum):
    OPEN = "open"


class Mood(str, Enum):  # noqa: UP042 - reason: as people wrote it before StrEnum; its str() is not its value
    GOOD = "good"


class Level(IntEnum):
    HIGH = 3


class Plain(Enum):
    TEXT = "text"
    NUMBER = 7
    DATE = datetime(2024, 1, 1, tzinfo=UTC)


def holds(wanted: Filter, value: object) -> bool:
    """Whether *wanted* holds for a record whose every field has *value*."""
    return matches([wanted], lambda _: value)


def record(record_id: str, **fields: object) -> tuple[str, ValueOf]:
    known = {"id": record_id, **fields}
    return record_id, lambda field: known.get(field, MISSING)


def ids(found: list[tuple[str, Any]]) -> list[str]:
    return [record_id for record_id, _ in found]


class TestComparison:
    """Comparing is two-valued: with a missing, a null or an other-typed value it is false, never unknown."""

    @pytest.mark.parametrize("make", [eq, gt, gte, lt, lte, contains])
    @pytest.mark.parametrize("value", [5, "5"])
    @pytest.mark.parametrize("stored", [None, MISSING, {"a": 5}, 10**30])
    def test_what_does_not_compare_is_false_and_its_complement_true(
        self, make: Callable[[str, object], Filter], value: object, stored: object
    ) -> None:
        assert not holds(make("f", value), stored)
        assert holds(not_(make("f", value)), stored)

    @pytest.mark.parametrize("make", [eq, gt, gte, lt, lte, contains])
    def test_text_and_numbers_do_not_compare(self, make: Callable[[str, object], Filter]) -> None:
        assert not holds(make("f", 5), "5")
        assert not holds(make("f", "5"), 5)

    @pytest.mark.parametrize(
        ("wanted", "stored", "expected"),
        [
            (eq("f", 1), 1.0, True),
            (eq("f", value=True), 1, True),
            (eq("f", 0), False, True),
            (eq("f", -0.0), 0, True),
            (eq("f", 2**53 + 1), float(2**53), False),
            (gt("f", float(2**53)), 2**53 + 1, True),
            (gt("f", 3), 3, False),
            (gte("f", 3), 3, True),
            (lt("f", 3), 3, False),
            (lt("f", 3), 2.5, True),
            (lte("f", 3), 3, True),
            (gt("f", "a"), "b", True),
            (gt("f", "Z"), "a", True),
            (lt("f", "\uffff"), "\U0001f600", False),
            (ne("f", 3), 4, True),
            (ne("f", 3), 3, False),
            (ne("f", 3), "3", True),
            (ne("f", 3), MISSING, True),
        ],
    )
    def test_numbers_compare_exactly_and_text_by_code_point(
        self, wanted: Filter, stored: object, *, expected: bool
    ) -> None:
        assert holds(wanted, stored) is expected

    @pytest.mark.parametrize("stored", [2**63 - 1, -(2**63), 0.5])
    def test_an_integer_beyond_64_bits_is_beyond_every_stored_integer(self, stored: object) -> None:
        assert holds(lt("f", 2**70), stored)
        assert not holds(gt("f", 2**70), stored)
        assert holds(gt("f", -(2**70)), stored)
        assert not holds(eq("f", 2**70), stored)

    def test_and_floats_beyond_it_are_still_compared_with_it(self) -> None:
        assert holds(gt("f", 2**70), 1e300)
        assert holds(eq("f", 2**70), float(2**70))
        assert not holds(gt("f", 10**5000), 1e308)

    def test_an_integer_beyond_every_float_can_be_printed(self) -> None:
        assert repr(gt("f", 10**5000)) == f"gt('f', {2**1024})"
        assert gt("f", -(10**5000)) == gt("f", -(2**1024))

    def test_stamps_compare_as_milliseconds_in_any_form(self) -> None:
        assert holds(eq("created_at", 1_704_067_200_000), "2024-01-01T00:00:00Z")
        assert not holds(eq("started_at", 1_704_067_200_000), "2024-01-01T00:00:00Z")
        assert not holds(contains("created_at", "2024"), "2024-01-01T00:00:00Z")

    @pytest.mark.parametrize(
        ("given_value", "value"),
        [
            (Status.OPEN, "open"),
            (Mood.GOOD, "good"),
            (Plain.TEXT, "text"),
            (Plain.NUMBER, 7),
            (Level.HIGH, 3),
            (True, 1),
            (Decimal("0.5"), 0.5),
        ],
    )
    def test_a_value_is_what_stands_in_the_record(self, given_value: object, value: object) -> None:
        made = eq("f", given_value)
        assert made.value == value
        assert type(made.value) is type(value)


class TestNull:
    """Null and missing are one, and are asked for with ``is_null``, ``eq(f, None)`` or a None in ``in_``."""

    @pytest.mark.parametrize("wanted", [is_null("f"), eq("f", None), in_("f", [None]), Filter("f", FilterOp.EQ)])
    def test_null_is_found(self, wanted: Filter) -> None:
        assert holds(wanted, None)
        assert holds(wanted, MISSING)
        assert not holds(wanted, 0)
        assert not holds(wanted, "")
        assert not holds(wanted, [])

    def test_eq_none_is_is_null(self) -> None:
        assert eq("f", None) == is_null("f")
        assert ne("f", None) == not_(is_null("f"))

    @pytest.mark.parametrize("make", [gt, gte, lt, lte, contains])
    def test_null_has_no_order_and_is_in_nothing(self, make: Callable[[str, object], Filter]) -> None:
        with pytest.raises(InvalidFilterError, match="is_null"):
            make("f", None)


class TestIn:
    """``in_`` is any of several values; none match nothing."""

    def test_one_of_the_values(self) -> None:
        wanted = in_("f", [1, "a"])
        assert [holds(wanted, value) for value in (1, 1.0, True, "a", "1", None, [1])] == [
            True,
            True,
            True,
            True,
            False,
            False,
            False,
        ]

    def test_no_values_match_nothing(self) -> None:
        assert not holds(in_("f", []), None)
        assert holds(not_(in_("f", [])), None)

    def test_any_iterable_will_do_and_is_kept_as_a_tuple(self) -> None:
        values = ["a", "b", "a"]
        made = in_("f", iter(values))
        assert made.value == ("a", "b")
        assert hash(made) == hash(in_("f", ("a", "b")))

    @pytest.mark.parametrize("values", ["abc", b"abc", 5, None])
    def test_one_value_is_refused(self, values: Any) -> None:  # noqa: ANN401 - reason: what a type checker would refuse
        with pytest.raises(InvalidFilterError, match="list"):
            in_("f", values)


class TestContains:
    """``contains`` is a substring of text, ASCII case ignored, or an item of a list."""

    @pytest.mark.parametrize(
        ("needle", "text", "expected"),
        [
            ("ERR", "an error", True),
            ("err", "AN ERROR", True),
            ("", "", True),
            ("100%", "100 percent", False),
            ("100%", "only 100% real", True),
            ("a_b", "axb", False),
            ("É", "é", False),
            ("é", "CAFé", True),
            ("k", "\u212a", False),
            ("i", "İ", False),
            ("b\x00C", "AB\x00cd", True),
            ("b", "a\x00b", True),
        ],
    )
    def test_a_substring(self, needle: str, text: str, *, expected: bool) -> None:
        assert holds(contains("f", needle), text) is expected

    @pytest.mark.parametrize(
        ("item", "items", "expected"),
        [
            ("red", ["red", "blue"], True),
            ("RED", ["red"], False),
            ("re", ["red"], False),
            (1, [True], True),
            (1, [1.0], True),
            (1, ["1"], False),
            ("a", [["a"]], False),
            ("a", [None, "a"], True),
            (2**70, [2**70], False),
            ("", [], False),
        ],
    )
    def test_an_item_of_a_list(self, item: object, items: list[object], *, expected: bool) -> None:
        assert holds(contains("f", item), items) is expected

    def test_a_number_is_not_looked_for_in_text(self) -> None:
        assert not holds(contains("f", 5), "5")

    def test_a_key_of_an_object_is_not_contained(self) -> None:
        assert not holds(contains("f", "a"), {"a": 1})


class TestJoins:
    """Side by side is "and", ``any_`` is "or", ``not_`` is the complement."""

    def test_side_by_side_all_must_hold(self) -> None:
        _, value_of = record("x", a=1, b=2)
        assert matches([eq("a", 1), eq("b", 2)], value_of)
        assert not matches([eq("a", 1), eq("b", 3)], value_of)
        assert matches([], value_of)

    def test_any_needs_one(self) -> None:
        assert holds(any_(eq("a", 1), eq("a", 2)), 2)
        assert not holds(any_(eq("a", 1), eq("a", 2)), 3)

    def test_any_of_nothing_is_nothing(self) -> None:
        assert not holds(any_(), 1)
        assert holds(not_(any_()), 1)

    def test_not_of_several_says_that_they_do_not_all_hold(self) -> None:
        _, value_of = record("x", a=1, b=2)
        assert matches([not_(eq("a", 1), eq("b", 3))], value_of)
        assert not matches([not_(eq("a", 1), eq("b", 2))], value_of)

    def test_not_of_no_filters_matches_nothing(self) -> None:
        assert not holds(Filter("", FilterOp.NOT), 1)

    def test_ne_is_not_eq(self) -> None:
        assert ne("f", 1) == not_(eq("f", 1))

    def test_nesting_has_a_bottom(self) -> None:
        deep = eq("f", 1)
        for _ in range(99):
            deep = any_(deep)
        assert holds(deep, 1)
        with pytest.raises(InvalidFilterError, match="100 deep"):
            any_(deep)

    def test_a_predicate_serves_many_records(self) -> None:
        check = predicate([gt("a", 1), lt("a", 4)])
        assert [value for value in range(6) if check(record("x", a=value)[1])] == [2, 3]

    def test_fields_are_named_once_in_their_order(self) -> None:
        filters = [eq("b", 1), any_(eq("a", 1), not_(eq("c", 2), eq("b", 3)))]
        assert fields_of(filters) == ("b", "a", "c")
        assert Query(tuple(filters), "-d").fields == ("b", "a", "c", "d")
        assert Query().fields == ("id",)


class TestFilter:
    """A filter is an immutable value that prints as the call that makes it, and refuses what means nothing."""

    @pytest.mark.parametrize(
        "made",
        [
            eq("a", "x"),
            ne("a", 1.5),
            ne("a", None),
            in_("a", [1, None, "x"]),
            in_("a", []),
            is_null("a"),
            any_(),
            any_(gt("a", 1), not_(lte("b", 2), contains("c", "y"))),
            not_(not_(eq("a", 1))),
            not_(eq("a", 1), eq("b", 1)),
        ],
    )
    def test_its_repr_makes_it_again(self, made: Filter) -> None:
        assert eval(repr(made), dict(vars(filters_module))) == made  # noqa: S307 - reason: that this works is the promise

    def test_ne_prints_as_ne(self) -> None:
        assert repr(ne("a", "x")) == "ne('a', 'x')"

    def test_it_cannot_be_changed(self) -> None:
        made: Any = eq("a", 1)
        with pytest.raises(AttributeError):
            made.value = 2

    def test_lists_given_to_it_become_its_own(self) -> None:
        parts: Any = [eq("a", 1)]
        values: Any = [1, 2]
        joined = Filter("", FilterOp.ANY, None, parts)
        among = Filter("a", FilterOp.IN, values)
        parts.clear()
        values.clear()
        assert joined == any_(eq("a", 1))
        assert among == in_("a", [1, 2])

    def test_an_op_may_be_given_as_text(self) -> None:
        op: Any = "eq"
        assert Filter("a", op, 1) == eq("a", 1)
        assert Filter("a", op, 1).op is FilterOp.EQ

    @pytest.mark.parametrize("make", COMPARISONS)
    @pytest.mark.parametrize(
        ("value", "hint"),
        [
            (math.nan, "finite"),
            (math.inf, "finite"),
            (-math.inf, "finite"),
            ([1], "in_ for several values"),
            ((1,), "in_ for several values"),
            ({1}, "in_ for several values"),
            ({}, "dict cannot be compared"),
            (datetime(2024, 1, 1, tzinfo=UTC), "datetime cannot be compared"),
            (Plain.DATE, "datetime cannot be compared"),
            (b"x", "bytes cannot be compared"),
            (Decimal("NaN"), "Decimal cannot be compared"),
            (Decimal("1E+400"), "Decimal cannot be compared"),
        ],
    )
    def test_a_value_that_compares_with_nothing_is_refused(
        self, make: Callable[[str, object], Filter], value: object, hint: str
    ) -> None:
        with pytest.raises(InvalidFilterError, match=hint):
            make("f", value)
        with pytest.raises(InvalidFilterError, match=hint):
            in_("f", ["fine", value])

    @pytest.mark.parametrize("field", ["", "a-b", "a.b", "1a", "é", "a" * 65, "a\n", "\ud800"])
    def test_a_field_that_can_have_no_name_is_refused(self, field: str) -> None:
        with pytest.raises(InvalidFilterError, match="no field name"):
            eq(field, 1)

    def test_a_field_is_text(self) -> None:
        field: Any = 5
        with pytest.raises(InvalidFilterError, match="named by text"):
            eq(field, 1)

    @pytest.mark.parametrize(
        ("build", "hint"),
        [
            (lambda: Filter("a", "like", 1), "the ops are eq"),  # type: ignore[arg-type]  # reason: the mistake
            (lambda: Filter("a", FilterOp.ANY), "neither a field"),
            (lambda: Filter("", FilterOp.NOT, 1), "neither a field"),
            (lambda: Filter("a", FilterOp.IS_NULL, 1), "use eq"),
            (lambda: Filter("a", FilterOp.EQ, 1, (eq("a", 1),)), "only any and not"),
            (lambda: any_("status=open"), "eq\\('status', 'open'\\)"),  # type: ignore[arg-type]  # reason: as above
            (lambda: Query(("a",)), "eq\\('status', 'open'\\)"),  # type: ignore[arg-type]  # reason: as above
        ],
    )
    def test_what_is_no_filter_is_refused_with_a_hint(self, build: Callable[[], object], hint: str) -> None:
        with pytest.raises(InvalidFilterError, match=hint):
            build()

    def test_a_long_value_does_not_fill_the_message(self) -> None:
        with pytest.raises(InvalidFilterError) as caught:
            in_("f", "x" * 10_000)
        assert len(str(caught.value)) < 200


class TestOrder:
    """Every order is total: null, numbers, text, the rest; ties by id, ascending."""

    ROWS = (
        record("e", f="b"),
        record("d", f=2),
        record("c", f=None),
        record("b", f=[]),
        record("a"),
        record("f", f=2.0),
        record("g", f="B"),
        record("h", f=-1),
    )

    def test_the_default_is_by_id(self) -> None:
        assert ids(select(Query(), self.ROWS)) == list("abcdefgh")

    def test_ascending(self) -> None:
        assert ids(select(Query(order_by="f"), self.ROWS)) == list("achdfgeb")

    def test_descending_turns_the_values_but_not_the_ids_of_ties(self) -> None:
        assert ids(select(Query(order_by="-f"), self.ROWS)) == list("begdfhac")

    def test_by_id_descending(self) -> None:
        assert ids(select(Query(order_by="-id"), self.ROWS)) == list("hgfedcba")

    def test_it_is_read_from_text(self) -> None:
        assert Order.parse(None) == Order("id")
        assert Order.parse("-updated_at") == Order("updated_at", descending=True)
        assert str(Order.parse("-updated_at")) == "-updated_at"

    @pytest.mark.parametrize("order_by", ["", "-", "--a", "a b", "+a", "a DESC"])
    def test_what_names_no_field_is_refused(self, order_by: str) -> None:
        with pytest.raises(InvalidFilterError, match="no field name"):
            Query(order_by=order_by)


class TestPage:
    """A page is cut from the order: behind the cursor, past the offset, up to the limit."""

    ROWS = tuple(record(f"r{number}", f=number % 3) for number in range(9))

    def test_limit_and_offset(self) -> None:
        assert ids(select(Query(limit=2, offset=1), self.ROWS)) == ["r1", "r2"]
        assert ids(select(Query(limit=0), self.ROWS)) == []
        assert ids(select(Query(offset=7), self.ROWS)) == ["r7", "r8"]
        assert len(select(Query(limit=2**63 - 1, offset=2**63 - 1), self.ROWS)) == 0

    def test_the_offset_counts_from_the_cursor(self) -> None:
        after = Cursor.at(None, *self.ROWS[3])
        assert ids(select(Query(after=after, offset=1, limit=2), self.ROWS)) == ["r5", "r6"]

    def test_rows_in_order_are_taken_only_as_far_as_the_page_needs(self) -> None:
        taken: list[str] = []

        def rows() -> Iterator[tuple[str, ValueOf]]:
            for row in self.ROWS:
                taken.append(row[0])
                yield row

        found = select(Query((gt("f", 0),), limit=1, offset=1), rows(), in_order=True)
        assert ids(found) == ["r2"]
        assert taken == ["r0", "r1", "r2"]

    @pytest.mark.parametrize("bad", [-1, 1.0, True, "5", 2**63])
    def test_a_number_out_of_range_is_refused(self, bad: Any) -> None:  # noqa: ANN401 - reason: the mistakes
        with pytest.raises(InvalidFilterError, match=r"limit=.*: give a whole number from 0 to 2"):
            Query(limit=bad)
        with pytest.raises(InvalidFilterError, match="offset="):
            Query(offset=bad)

    def test_an_offset_is_a_number(self) -> None:
        offset: Any = None
        with pytest.raises(InvalidFilterError, match="offset=None"):
            Query(offset=offset)


class TestCursor:
    """A cursor travels as an opaque token, and fits only the order that it was made for."""

    @given(
        st.sampled_from(["f", "-f"]),
        st.none()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"]))
        | st.just(OPAQUE),
        st.text(st.characters(exclude_categories=["Cs"])),
    )
    def test_a_token_brings_back_its_cursor(self, order_by: str, value: Any, record_id: str) -> None:  # noqa: ANN401 - reason: any comparable
        cursor = Cursor(order_by, value, record_id)
        token = encode_cursor(cursor)
        back = decode_cursor(token, order_by=order_by)
        assert back == cursor
        assert type(back.value) is type(value)
        assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

    def test_the_default_order_is_by_id(self) -> None:
        cursor = Cursor.at(None, *record("x"))
        assert decode_cursor(encode_cursor(cursor)) == Cursor("id", "x", "x")
        assert Query(order_by="id", after=cursor) == Query((), "id", None, 0, cursor)

    @pytest.mark.parametrize("token", ["", "x", "!!!", "é", "bnVsbA", "WzEsMiwzXQ", "W10", "a b", "\ud800"])
    def test_a_broken_token_is_refused(self, token: str) -> None:
        with pytest.raises(InvalidFilterError, match="copy the whole token"):
            decode_cursor(token)

    @given(st.data())
    def test_a_token_cut_short_is_refused(self, data: st.DataObject) -> None:
        token = encode_cursor(Cursor("f", "value", "an id"))
        kept = data.draw(st.integers(0, len(token) - 2))
        with pytest.raises(InvalidFilterError):
            decode_cursor(token[:kept], order_by="f")

    def test_another_order_is_refused(self) -> None:
        cursor = Cursor("f", 1, "x")
        with pytest.raises(InvalidFilterError, match="order 'f', not '-f'; begin at its first page"):
            decode_cursor(encode_cursor(cursor), order_by="-f")
        with pytest.raises(InvalidFilterError, match="begin at its first page"):
            Query(order_by="-f", after=cursor)

    @pytest.mark.parametrize(
        ("order_by", "value", "record_id"),
        [
            ("f", 2**63, "x"),
            ("f", math.nan, "x"),
            ("f", math.inf, "x"),
            ("f", "\ud800", "x"),
            ("f", 1, "\ud800"),
            ("id", "x", "y"),
            ("updated_at", "5", "x"),
            ("updated_at", None, "x"),
        ],
    )
    def test_a_place_where_no_row_can_be_is_refused(self, order_by: str, value: Any, record_id: str) -> None:  # noqa: ANN401 - reason: as above
        with pytest.raises(InvalidFilterError, match="no page ends there"):
            Cursor(order_by, value, record_id)

    def test_a_page_begins_behind_a_row_that_is_gone(self) -> None:
        rows = [record(name, f=1) for name in "ace"]
        assert ids(select(Query(order_by="f", after=Cursor("f", 1, "b")), rows)) == ["c", "e"]
        assert ids(select(Query(order_by="-f", after=Cursor("-f", 2, "z")), rows)) == ["a", "c", "e"]
