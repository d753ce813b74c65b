"""Names and ids: what a write may use."""

from __future__ import annotations

import unicodedata
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.names import MAX_ID_CHARS, check_collection, check_field, check_id, is_collection
from taskstore_async.errors import InvalidIdError, InvalidNameError, LimitExceededError


class Kind(StrEnum):
    FIRST = "first"


class TestCollections:
    """A collection's name is a file's name on every system, and none of the store's own."""

    @pytest.mark.parametrize("name", ["a", "plans", "task_specs", "a-1", "z" * 64, "com", "com10", "stores", "con-1"])
    def test_names(self, name: str) -> None:
        assert check_collection(name) == name
        assert is_collection(name)

    @pytest.mark.parametrize(
        "name",
        ["", "A", "1a", "_types", "-a", "a.b", "a/b", "..", "a b", "é", "aé", "a\n", "a\x00", "z" * 65, "plans.jsonl"],
    )
    def test_other_names(self, name: str) -> None:
        assert not is_collection(name)
        with pytest.raises(InvalidNameError) as refused:
            check_collection(name)
        assert (refused.value.kind, refused.value.name) == ("collection", name)

    @pytest.mark.parametrize(
        "name", ["store", "merges", "con", "prn", "aux", "nul", "com0", "com9", "lpt0", "lpt5", "lpt9"]
    )
    def test_reserved_names(self, name: str) -> None:
        assert not is_collection(name)
        with pytest.raises(InvalidNameError, match="reserved"):
            check_collection(name)


class TestFields:
    """A declared field is an identifier, so that filters and views can name it."""

    @pytest.mark.parametrize("name", ["a", "_a", "A1", "z" * 64, "createdAt"])
    def test_names(self, name: str) -> None:
        assert check_field(name) == name

    @pytest.mark.parametrize("name", ["", "1a", "a-b", "a.b", "a b", "é", "a\n", "z" * 65, "٣", "a٣"])
    def test_other_names(self, name: str) -> None:
        with pytest.raises(InvalidNameError) as refused:
            check_field(name)
        assert (refused.value.kind, refused.value.name) == ("field", name)


class TestIds:
    """An id is text that a line of a terminal can show; otherwise it is the caller's."""

    @pytest.mark.parametrize(
        "value",
        ["a", "plan-1", "A/B:c", " a", "a ", "é", "\U0001f600", "a\u00a0b", "a\u200db", "x" * MAX_ID_CHARS, "\ue000"],
    )
    def test_ids(self, value: str) -> None:
        assert check_id(value) == value

    @pytest.mark.parametrize("value", ["", " ", "\t\n", "\u00a0", "\u2028", " " * 300])
    def test_blank(self, value: str) -> None:
        with pytest.raises(InvalidIdError, match=r"^Record ID cannot be empty$"):
            check_id(value)

    @pytest.mark.parametrize("value", ["x" * 257, "é" * 257, " x" * 200])
    def test_too_long(self, value: str) -> None:
        with pytest.raises(LimitExceededError) as refused:
            check_id(value)
        assert (refused.value.value, refused.value.limit) == (len(value), 256)

    @pytest.mark.parametrize("char", ["\x00", "\n", "\r", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9f"])
    def test_control_characters(self, char: str) -> None:
        with pytest.raises(InvalidIdError, match="control character, at position 1"):
            check_id(f"a{char}b")

    @pytest.mark.parametrize("char", ["\u2028", "\u2029"])
    def test_what_ends_a_line_elsewhere(self, char: str) -> None:
        with pytest.raises(InvalidIdError, match="position 1"):
            check_id(f"a{char}b")

    @pytest.mark.parametrize("point", [0xD800, 0xDBFF, 0xDC00, 0xDFFF])
    def test_lone_surrogates(self, point: int) -> None:
        with pytest.raises(InvalidIdError, match="surrogate, at position 1"):
            check_id(f"a{chr(point)}")

    @pytest.mark.parametrize("value", [None, 5, 1.5, b"a", ["a"]])
    def test_what_is_no_text(self, value: object) -> None:
        with pytest.raises(InvalidIdError, match=f"is text, not {type(value).__name__}") as refused:
            check_id(value)
        assert refused.value.record_id == value

    def test_text_of_a_subclass_becomes_plain(self) -> None:
        assert type(check_id(Kind.FIRST)) is str
        assert check_id(Kind.FIRST) == "first"

    @given(st.text(st.characters(), max_size=300) | st.text(st.characters(categories=["C", "Z"]), max_size=4))
    def test_the_short_cut_agrees_with_the_rule(self, value: str) -> None:
        allowed = (
            value.strip() != ""
            and len(value) <= 256
            and not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in value)
        )
        try:
            assert check_id(value) == value
        except (InvalidIdError, LimitExceededError):
            assert not allowed
        else:
            assert allowed
