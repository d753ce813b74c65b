"""What the words after -f and in create and update mean."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.cli.errors import UsageError
from taskstore_async.cli.filters import parse_assignments, parse_filter
from taskstore_async.core.filters import Filter, eq, matches
from taskstore_async.errors import InvalidFilterError


def holds(text: str, value: object, *, field: str = "x") -> bool:
    return matches([parse_filter(text)], {field: value}.get)


class TestFilters:
    """The value after an operator matches as text or as the JSON scalar it spells; after := as JSON alone."""

    @pytest.mark.parametrize(
        ("text", "value", "expected"),
        [
            ("x=2", 2, True),
            ("x=2", "2", True),
            ("x=2", 2.0, True),
            ("x=2", 3, False),
            ("x=2", "2.0", False),
            ("x=2.50", Decimal("2.5"), True),
            ("x=true", True, True),
            ("x=true", "true", True),
            ("x=null", None, True),
            ("x=null", "null", True),
            ("x=null", "", False),
            ("x=", "", True),
            ("x=", None, False),
            ('x="a b"', "a b", True),
            ('x="a b"', '"a b"', True),
            ("x=a=b", "a=b", True),
            ("x = a", " a", True),
            ("x=line\ntwo", "line\ntwo", True),
            ("x!=2", 2, False),
            ("x!=2", "2", False),
            ("x!=2", 3, True),
            ("x!=2", None, True),
            ("x>2", 3, True),
            ("x>2", 2, False),
            ("x>=2", 2, True),
            ("x<2", 1, True),
            ("x<=2", 2, True),
            ("x<2", None, False),
            ("x>b", "c", True),
            ("x>2", "3", True),
            ("x<true", 0, True),
            ("x~EDI", "edited", True),
            ("x~b", ["a", "b"], True),
            ("x~2", [1, 2], True),
            ("x~null", "a null", True),
            ("x~null", [None], False),
            ("x:=2", 2, True),
            ("x:=2", "2", False),
            ('x:="2"', "2", True),
            ("x:=null", None, True),
            ("x:=true", True, True),
        ],
    )
    def test_a_condition_finds_what_it_says(self, text: str, value: object, expected: bool) -> None:  # noqa: FBT001 - reason: a table
        assert holds(text, value) is expected

    @pytest.mark.parametrize("field", ["created_at", "updated_at"])
    def test_a_moment_compares_with_stamps(self, field: str) -> None:
        assert holds(f"{field}>=2026-01-01T00:00:00Z", 1_767_225_600_000, field=field)
        assert not holds(f"{field}>2026-01-01T00:00:00Z", 1_767_225_600_000, field=field)

    @pytest.mark.parametrize("field", ["created_at", "updated_at"])
    def test_a_date_is_the_moment_at_which_it_begins(self, field: str) -> None:
        assert holds(f"{field}>=2026-01-01", 1_767_225_600_000, field=field)
        assert not holds(f"{field}>2026-01-01", 1_767_225_600_000, field=field)
        assert not holds(f"{field}>=2026-01-32", 1_767_225_600_000, field=field)
        assert not holds("x>=2026-01-01", 1_767_225_600_000)

    def test_a_moment_is_plain_text_elsewhere(self) -> None:
        assert not holds("x>=2026-01-01T00:00:00Z", 1_767_225_600_000)

    @given(st.text())
    def test_any_text_finds_itself(self, value: str) -> None:
        assert holds(f"x={value}", value)

    @given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
    def test_any_scalar_finds_itself_by_its_json(self, value: float) -> None:
        assert holds(f"x={msgspec.json.encode(value).decode()}", value)

    @given(st.integers())
    def test_a_number_of_any_size_is_no_error(self, value: int) -> None:
        assert isinstance(parse_filter(f"x>{value}"), Filter)

    @pytest.mark.parametrize("text", ["", "x", "=2", "a b=2", "x ? 2", "1x=2"])
    def test_what_is_no_condition_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(UsageError, match="-f status=open"):
            parse_filter(text)

    def test_what_is_no_json_is_refused(self) -> None:
        with pytest.raises(UsageError, match="is no JSON"):
            parse_filter("x:=open")

    def test_so_is_what_no_decoder_gets_to_the_end_of(self) -> None:
        deep = "[" * 10_000 + "]" * 10_000
        with pytest.raises(UsageError, match="is no JSON"):
            parse_filter(f"x:={deep}")
        assert parse_filter(f"x={deep}") == eq("x", deep)
        with pytest.raises(UsageError, match="write name=text"):
            parse_assignments([f"x:={deep}"])

    @pytest.mark.parametrize("text", ["x:=[1]", 'x:={"a":1}'])
    def test_lists_and_objects_equal_nothing_and_are_refused(self, text: str) -> None:
        with pytest.raises(InvalidFilterError):
            parse_filter(text)

    def test_plain_text_makes_a_plain_filter(self) -> None:
        assert parse_filter("status=open") == eq("status", "open")


class TestAssignments:
    """name=text sets text, name:=json what the JSON says."""

    def test_text_stays_text_and_json_becomes_what_it_says(self) -> None:
        words = ["a=2", "b:=2", "c=", 'd:=["x",1.10]', "e=x=y", "f=:=", "g:=null"]
        expected = {"a": "2", "b": 2, "c": "", "d": ["x", 1.1], "e": "x=y", "f": ":=", "g": None}
        assert parse_assignments(words) == expected

    @pytest.mark.parametrize("word", ["a", "=b", ":=2", ""])
    def test_what_sets_nothing_is_refused_with_an_example(self, word: str) -> None:
        with pytest.raises(UsageError, match="priority:=2"):
            parse_assignments([word])

    def test_a_field_is_set_once(self) -> None:
        with pytest.raises(UsageError, match="a is set twice"):
            parse_assignments(["a=1", "a:=2"])

    def test_the_stamp_is_the_stores(self) -> None:
        with pytest.raises(UsageError, match="updated_at is set by the store"):
            parse_assignments(["updated_at:=5"])

    def test_what_is_no_json_is_refused(self) -> None:
        with pytest.raises(UsageError, match="write name=text"):
            parse_assignments(["a:=text"])
