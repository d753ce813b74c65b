"""Text for people: escaped, measured, cut, laid out."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.cli.text import (
    clip,
    escape,
    human_bytes,
    human_count,
    human_time,
    json_of,
    lay_out,
    left_out,
    tsv_cell,
    width_of,
)

ACTING = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
cells = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=60)


def test_what_is_no_number_in_json_is_null_there() -> None:
    value = {"NaN": [Decimal("NaN"), 'NaN\\"', float("nan")], "1": {"b": Decimal("NaN")}, "c": "x"}
    assert json.loads(json_of(value), parse_constant=pytest.fail) == {
        "NaN": [None, 'NaN\\"', None],
        "1": {"b": None},
        "c": "x",
    }


class TestEscaping:
    """No character of data acts on a terminal."""

    @pytest.mark.parametrize("code", ACTING)
    def test_what_acts_is_spelled_out(self, code: int) -> None:
        spelled = escape(f"a{chr(code)}b")
        assert spelled.isascii()
        assert spelled.isprintable()
        assert spelled.startswith("a\\")

    @given(st.text())
    def test_nothing_that_acts_is_left(self, text: str) -> None:
        assert not {chr(code) for code in ACTING} & set(escape(text))

    def test_what_does_not_act_stays(self) -> None:
        assert escape("Größe, 日本語, 👍") == "Größe, 日本語, 👍"

    def test_a_character_can_be_kept(self) -> None:
        assert escape("a\tb\x1b", keep="\t") == "a\tb\\u001b"

    @given(st.text())
    def test_a_cell_of_tsv_reads_back(self, text: str) -> None:
        cell = tsv_cell(text)
        assert not {"\t", "\n", "\r"} & set(cell)
        names = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
        assert re.sub(r"\\(.)", lambda found: names[found[1]], cell) == text


class TestWidth:
    """Wide characters take two columns, combining ones none."""

    @pytest.mark.parametrize(
        ("text", "width"),
        [("", 0), ("abc", 3), ("日本", 4), ("e\u0301", 1), ("\u1112\u1161\u11ab", 2), ("ß", 1), ("👍", 2)],
    )
    def test_width(self, text: str, width: int) -> None:
        assert width_of(text) == width

    @given(cells, st.integers(1, 40))
    def test_clipped_text_fits_and_is_a_beginning(self, text: str, width: int) -> None:
        clipped = clip(text, width)
        assert width_of(clipped) <= width
        assert clipped == text or (clipped.endswith("…") and text.startswith(clipped[:-1]))


class TestTables:
    """Columns line up, and a table is never wider than the terminal."""

    @given(st.lists(st.tuples(cells, cells, cells), max_size=5), st.integers(10, 120))
    def test_no_line_is_wider_than_the_terminal(self, rows: list[tuple[str, str, str]], width: int) -> None:
        assert all(width_of(line) <= width for line in lay_out(("id", "title", "status"), rows, width=width))

    def test_columns_line_up_with_wide_characters(self) -> None:
        lines = lay_out(("id", "title", "x"), [("a", "日本", "1"), ("bb", "abcde", "22")], width=80)
        assert lines == ["id  title   x", "a   日本    1", "bb  abcde  22"]

    def test_columns_that_do_not_fit_are_left_out_from_the_right(self) -> None:
        lines = lay_out(("id", "title", "notes"), [("a", "t" * 30, "n" * 30)], width=36)
        assert lines == ["id  title", "a   " + "t" * 30]
        assert left_out(("id", "title", "notes"), [("a", "t" * 30, "n" * 30)], width=36) == ["notes"]
        assert left_out(("id", "title", "notes"), [("a", "t" * 30, "n" * 30)], width=80) == []

    def test_room_that_is_left_goes_to_what_was_cut(self) -> None:
        assert lay_out(("id", "title"), [("a", "t" * 70)], width=80)[1] == "a   " + "t" * 70

    def test_a_table_without_rows_is_its_header(self) -> None:
        assert lay_out(("id", "title"), [], width=80) == ["id  title"]


class TestFigures:
    """Sizes, counts and moments as people read them."""

    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (2**20, "1.0 MiB"),
            (3 * 2**30, "3.0 GiB"),
            (5000 * 2**40, "5,000.0 TiB"),
        ],
    )
    def test_sizes(self, size: int, text: str) -> None:
        assert human_bytes(size) == text

    def test_counts(self) -> None:
        assert [human_count(count, "record") for count in (0, 1, 2000)] == ["0 records", "1 record", "2,000 records"]

    def test_moments(self) -> None:
        assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", human_time(1_767_225_600_000))
        assert human_time(None) == "never"
        assert human_time(2**53 - 1) == str(2**53 - 1)
