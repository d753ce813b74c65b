"""Merging: each rule with the example that it needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async.core.fold import fold
from taskstore_async.core.line import BadLine, Line
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge import merge
from taskstore_async.core.merge_report import Merged, Rule, words
from taskstore_async.errors import MergeInputError

if TYPE_CHECKING:
    from collections.abc import Sequence


def line(record_id: Any, at: Any, /, **fields: Any) -> bytes:  # noqa: ANN401 - reason: JSON
    stamp = {} if at is None else {"updated_at": at}
    return json.dumps({"id": record_id, **fields, **stamp}, separators=(",", ":")).encode() + b"\n"


def gone(record_id: str, at: int) -> bytes:
    return line(record_id, at, deleted=True)


def both(base: bytes, ours: bytes, theirs: bytes, *, references: Sequence[str] = ()) -> Merged:
    """The merge, after proof that the sides may change places and that a clean merge repeats without effect."""
    merged = merge(base, ours, theirs, references=references)
    assert merge(base, theirs, ours, references=references).data == merged.data
    if not merged.conflicts:
        for side in (ours, theirs):
            assert merge(base, merged.data, side, references=references).data == merged.data
    return merged


def states(data: bytes) -> dict[str, Any]:
    return {record_id: json.loads(state.line.raw) for record_id, state in fold(decode_lines(data)).items()}


def rules(merged: Merged) -> list[Rule]:
    return [decision.rule for decision in merged.report.decisions]


A1 = line("a", 1, f=1, g=1)
B1 = line("b", 1, f=1)


class TestReading:
    """What is no data carries none, and what is data is read, wherever it stands."""

    def test_equal_inputs_are_answered_before_parsing(self) -> None:
        assert merge(b"1", b"?", b"?").data == b"?"
        assert merge(b"?", b"?", b"\xff").data == b"\xff"
        assert merge(b"?", b"\xff", b"?").data == b"\xff"

    def test_both_sides_may_have_added_the_file(self) -> None:
        assert both(b"", A1, B1).data == A1 + B1

    def test_a_side_may_be_empty(self) -> None:
        assert both(A1 + B1, b"", A1 + line("b", 2, f=2)).data == line("b", 2, f=2)

    def test_a_merge_may_leave_nothing(self) -> None:
        assert both(A1 + B1, A1, B1).data == b""

    def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_a_line(self) -> None:
        crlf = b"\xef\xbb\xbf" + (A1 + B1).replace(b"\n", b"\r\n")
        changed = line("a", 2, f=2, g=1)
        assert both(A1 + B1, crlf, changed + B1).data == changed + B1

    def test_a_base_with_carriage_returns_may_be_appended_to(self) -> None:
        crlf = A1.replace(b"\n", b"\r\n")
        assert both(crlf, crlf + B1, crlf + line("c", 1)).data == A1 + B1 + line("c", 1)

    def test_blank_lines_say_nothing(self) -> None:
        assert both(A1, A1 + b"\n  \n" + B1, A1 + b"\n" + line("c", 1)).data == A1 + B1 + line("c", 1)

    def test_markers_of_an_earlier_merge_carry_no_data_and_the_lines_between_them_do(self) -> None:
        torn = b"<<<<<<< HEAD\n" + line("a", 2, f=2) + b"=======\n" + line("a", 3, f=3) + b">>>>>>> topic\n"
        merged = both(A1, torn, A1 + B1)
        assert b"<<<" not in merged.data
        assert b"===" not in merged.data
        assert states(merged.data)["a"]["f"] == 3

    def test_the_base_part_of_a_diff3_block_is_not_read(self) -> None:
        block = b"<<<<<<< HEAD\n" + B1 + b"||||||| base\n" + A1 + b"=======\n>>>>>>> topic\n"
        assert set(states(both(A1, block, A1 + line("c", 1)).data)) == {"b", "c"}  # it would resurrect

    def test_what_is_left_of_nested_markers_carries_no_data_either(self) -> None:
        two, three, four = line("a", 2, f=2), line("b", 1), line("c", 1)
        inner = b"<<<<<<< x\n" + two + b"=======\n" + three + b">>>>>>> y\n"
        nested = b"<<<<<<< HEAD\n" + inner + b"=======\n" + four + b">>>>>>> topic\n"
        for left in (nested, nested.replace(b"<<<<<<< HEAD\n", b""), nested.replace(b">>>>>>> topic\n", b"")):
            assert both(A1, left, A1 + line("d", 1)).data == two + three + four + line("d", 1)

    def test_gits_longer_markers_in_a_base_part_are_part_of_it(self) -> None:
        base = b"||||||| base\n<<<<<<<<< one\n" + A1 + b"=========\n" + A1 + b">>>>>>>>> two\n"
        block = b"<<<<<<< HEAD\n" + B1 + base + b"=======\n>>>>>>> topic\n"
        assert both(A1, block, A1 + line("c", 1)).data == B1 + line("c", 1)

    def test_markers_in_the_base_may_be_resolved_by_both(self) -> None:
        block = b"<<<<<<< x\n" + A1 + b"=======\n" + line("a", 2) + b">>>>>>> y\n"
        assert both(block, block + B1, block + line("c", 1)).data == A1 + line("a", 2) + B1 + line("c", 1)

    def test_a_last_line_without_newline_counts(self) -> None:
        assert both(A1[:-1], A1 + B1[:-1], A1 + line("c", 1)[:-1]).data == A1 + B1 + line("c", 1)

    def test_lines_that_are_no_records_are_kept_three_way_after_the_records(self) -> None:
        base = b"{old\n{gone\n" + A1
        merged = both(base, b"{old\n" + A1 + b"{new\n", base + B1)
        assert merged.data == A1 + B1 + b"{old\n{new\n"
        assert "no records" in merged.report.notes[0]

    def test_lines_that_are_no_records_stay_where_they_are_when_both_sides_append(self) -> None:
        base = line("z", 1) + b"{old\n" + A1
        merged = both(base, base + line("x", 2) + b"{o\n", base + b"{a\n" + B1)
        assert merged.data == base + B1 + line("x", 2) + b"{a\n{o\n"

    def test_a_torn_base_that_both_append_to_keeps_its_order_and_its_bad_line(self) -> None:
        base = A1 + b"{old\n"
        assert both(base, base + line("x", 1), base + B1).data == base + B1 + line("x", 1)
        base = b"{old\n" + line("m", 1)
        merged = both(base, base + line("x", 1), base + line("n", 2) + b"{new\n")
        assert merged.data == base + line("n", 2) + line("x", 1) + b"{new\n"

    def test_on_a_side_with_new_bad_lines_a_missing_record_is_no_deletion(self) -> None:
        merged = both(A1 + B1, A1 + b'{"id":"b","f', line("a", 2, f=2) + B1)
        assert set(states(merged.data)) == {"a", "b"}
        assert "not deleted" in merged.report.notes[1]

    def test_on_a_torn_side_the_lost_end_of_a_history_is_no_revert(self) -> None:
        base = A1 + line("a", 2, f=2)
        assert states(both(base, A1 + b'{"id":"a', base + B1).data)["a"]["f"] == 2

    def test_on_a_torn_side_a_revert_is_one_all_the_same(self) -> None:
        one, two = line("a", 1, f=1), line("a", 1, f=2)
        assert states(both(one + two, two + one + b"{torn", one + two + B1).data)["a"]["f"] == 1

    def test_bytes_that_are_no_utf8_are_a_bad_line_and_kept(self) -> None:
        bad = b'{"id":"a","f":"\xff"}\n'
        assert both(bad + B1, bad + B1 + line("a", 1), bad + line("c", 1) + B1).data.count(bad) == 1
        assert both(bad + B1, bad + B1 + line("a", 1), bad + B1 + line("c", 1)).data.count(bad) == 1

    @pytest.mark.parametrize("side", ["our", "their"])
    @pytest.mark.parametrize("base", [b"", A1, b"{bad\n"])
    def test_a_side_with_lines_but_no_record_is_an_error(self, side: str, base: bytes) -> None:
        pointer = base.replace(A1, b"") + b"version https://git-lfs.github.com/spec/v1\nsize 12345\n"
        sides = (pointer, base + B1) if side == "our" else (base + B1, pointer)
        with pytest.raises(MergeInputError, match=f"{side} side cannot be merged") as caught:
            merge(base, *sides)
        assert caught.value.side == side

    def test_integer_ids_are_their_decimal_text(self) -> None:
        merged = both(line(7, 1, f=1, g=1), line(7, 2, f=2, g=1), line("7", 3, f=1, g=2))
        assert states(merged.data) == {"7": {"id": "7", "f": 2, "g": 2, "updated_at": 4}}
        assert not both(b"", line(7, 2, f=1), line("7", 2, g=1)).conflicts
        tied = both(line(7, 1, f=1, g=1), line(7, 2, f=2, g=1), line("7", 2, f=1, g=2))
        assert not tied.conflicts


class TestRecords:
    """Per record the three-way rule: what one side changed stands, verbatim."""

    def test_the_side_that_changed_stands_with_its_bytes(self) -> None:
        odd = b'{ "id" : "a", "updated_at" : 0, "f": 1.10 }\n'
        assert both(A1 + B1, odd + B1, A1 + line("b", 5)).data == odd + line("b", 5)

    def test_a_reformatted_line_loses_to_a_changed_one(self) -> None:
        spaced = A1.replace(b":", b": ")
        assert both(A1, spaced, line("a", 1, f=2, g=1)).data == line("a", 1, f=2, g=1)

    def test_a_reformatted_line_loses_to_an_older_version_too(self) -> None:
        base, older = line("a", 5, f=1), line("a", 2, f=2)
        assert both(base, base.replace(b":", b": "), older).data == older

    def test_reformatted_on_both_sides_is_the_lesser_by_bytes(self) -> None:
        assert both(A1, A1.replace(b":", b": "), A1.replace(b",", b", ")).data == A1.replace(b":", b": ")

    def test_deleted_and_untouched_is_deleted(self) -> None:
        assert both(A1 + B1, B1, A1 + line("b", 2)).data == line("b", 2)
        base = A1 + B1
        assert both(base, base + gone("a", 2), base + line("c", 1)).data == base + line("c", 1) + gone("a", 2)

    def test_deleted_and_only_reformatted_is_deleted(self) -> None:
        assert both(A1 + B1, B1, A1.replace(b":", b": ") + B1).data == B1
        assert both(A1, gone("a", 2), A1.replace(b":", b": ")).data == gone("a", 2)

    def test_deleted_and_modified_lives_and_is_reported(self) -> None:
        merged = both(A1 + B1, B1, line("a", 2, f=2) + B1)
        assert merged.data == line("a", 2, f=2) + B1
        assert rules(merged) == [Rule.MODIFIED_LIVES]

    def test_a_modification_outlives_a_later_tombstone(self) -> None:
        assert both(A1, gone("a", 9), line("a", 2, f=2)).data == line("a", 10, f=2)
        assert states(both(A1, A1 + gone("a", 9), A1 + line("a", 2, f=2)).data)["a"]["f"] == 2

    def test_a_tombstone_that_one_side_purged_goes(self) -> None:
        base = A1 + gone("b", 1)
        assert both(base, A1, base + line("c", 1)).data == A1 + line("c", 1)

    def test_a_record_made_anew_outlives_the_purge_of_its_tombstone(self) -> None:
        merged = both(gone("a", 1) + B1, B1, line("a", 2) + B1)
        assert merged.data == line("a", 2) + B1
        assert rules(merged) == []

    def test_deleted_on_both_sides_is_the_later_tombstone(self) -> None:
        assert both(A1, gone("a", 2), gone("a", 3)).data == gone("a", 3)
        assert both(A1 + B1, gone("a", 2) + B1, B1 + line("c", 1)).data == gone("a", 2) + B1 + line("c", 1)

    def test_without_stamps_position_decides(self) -> None:
        base = line("a", None, f=1)
        assert states(both(base, base + line("a", None, f=2), base + line("b", None)).data)["a"]["f"] == 2
        bare = b'{"id":"a","deleted":true}\n'
        assert states(both(base, base + bare, base + line("b", None)).data)["a"]["deleted"]


class TestFields:
    """What each side changed in a record is in the result; where both changed a value, the newer record's is."""

    def test_each_side_keeps_the_field_it_changed(self) -> None:
        merged = both(A1, line("a", 2, f=2, g=1), line("a", 3, f=1, g=2))
        assert merged.data == line("a", 4, f=2, g=2)
        assert rules(merged) == [Rule.FIELDS]
        assert {(field.path, field.took) for field in merged.report.decisions[0].fields} == {
            ("f", "ours"),
            ("g", "theirs"),
        }

    def test_a_field_that_both_changed_is_the_newer_records(self) -> None:
        assert both(A1, line("a", 2, f=2, g=2), line("a", 3, f=3, g=1)).data == line("a", 4, f=3, g=2)

    def test_a_removed_field_stays_removed(self) -> None:
        assert both(A1, line("a", 2, g=1), line("a", 3, f=1, g=2)).data == line("a", 4, g=2)

    def test_unknown_and_added_fields_survive(self) -> None:
        assert states(both(A1, line("a", 2, f=1, g=1, x=1), line("a", 3, f=1, g=1, y=2)).data)["a"] == {
            "id": "a", "f": 1, "g": 1, "x": 1, "y": 2, "updated_at": 4,
        }  # fmt: skip

    def test_objects_recurse(self) -> None:
        base = line("a", 1, m={"x": 1, "y": 1, "z": {"p": 1}})
        ours, theirs = line("a", 2, m={"x": 2, "y": 1, "z": {"p": 1}}), line("a", 3, m={"x": 1, "z": {"p": 1, "q": 2}})
        assert states(both(base, ours, theirs).data)["a"]["m"] == {"x": 2, "z": {"p": 1, "q": 2}}

    def test_objects_added_on_both_sides_recurse_too(self) -> None:
        assert states(both(A1, line("a", 2, m={"x": 1}), line("a", 3, m={"y": 1})).data)["a"]["m"] == {"x": 1, "y": 1}

    def test_numbers_move_as_text(self) -> None:
        base = b'{"id":"a","f":1.10,"g":1,"updated_at":1}\n'
        ours = b'{"id":"a","f":1.10,"g":12345678901234567890.50,"updated_at":2}\n'
        theirs = b'{"id":"a","f":2.500,"g":1,"updated_at":3}\n'
        assert both(base, ours, theirs).data == b'{"id":"a","f":2.500,"g":12345678901234567890.50,"updated_at":4}\n'

    def test_if_it_is_the_newest_side_but_for_the_stamp_it_is_that_line(self) -> None:
        newest = line("a", 3, f=2, g=2)
        merged = both(A1, line("a", 2, f=2, g=1), newest)
        assert merged.data == newest
        assert rules(merged) == [Rule.NEWEST]

    def test_if_it_is_the_older_side_but_for_the_stamp_it_is_a_new_version(self) -> None:
        assert both(A1, line("a", 2, f=2, g=2), line("a", 3, f=1, g=2)).data == line("a", 4, f=2, g=2)

    def test_deep_values_are_taken_whole(self) -> None:
        def deep(levels: int, value: int) -> Any:  # noqa: ANN401 - reason: JSON
            made: Any = value
            for _ in range(levels):
                made = {"x": made}
            return made

        ours, theirs = line("a", 2, m=deep(400, 1)), line("a", 3, m=deep(400, 2))
        assert states(both(A1, ours, theirs).data)["a"]["m"] == deep(400, 2)


class TestStamps:
    """A merged version is one millisecond above both, in the later one's form."""

    @pytest.mark.parametrize(
        ("ours", "theirs", "merged"),
        [
            (5, 9, 10),
            (5, "1970-01-01T00:00:00.009Z", "1970-01-01T00:00:00.010Z"),
            (9, "1970-01-01T00:00:00.005Z", 10),
            ("1970-01-01T02:00:00.000000001+02:00", 0, "1970-01-01T02:00:00.001000001+02:00"),
            ("1970-01-01T00:00:01-01:30", 0, "1970-01-01T00:00:01.001-01:30"),
            ("1970-01-02 23:59:59.9999", 0, "1970-01-03 00:00:00.0009"),
            ("1970-01-01t00:00:00.12345678901z", 0, "1970-01-01t00:00:00.124456789z"),
            ("9999-12-31T23:59:59.999Z", 0, 253402300800000),
            (2**53 - 1, 1, 2**53 - 1),
        ],
    )
    def test_forms(self, ours: object, theirs: object, merged: object) -> None:
        found = both(A1, line("a", ours, f=2, g=1), line("a", theirs, f=1, g=2))
        assert states(found.data)["a"] == {"id": "a", "f": 2, "g": 2, "updated_at": merged}

    def test_a_version_without_a_stamp_gets_one(self) -> None:
        merged = both(line("a", None, f=1, g=1), line("a", None, f=2, g=1), line("a", None, f=1, g=2))
        assert states(merged.data)["a"] == {"id": "a", "f": 2, "g": 2, "updated_at": 1}

    def test_the_stamp_stands_where_it_stood(self) -> None:
        base = b'{"updated_at":1,"id":"a","f":1,"g":1}\n'
        merged = both(base, base.replace(b'"f":1', b'"f":2'), base.replace(b'"g":1', b'"g":2'))
        assert merged.data == b'{"updated_at":2,"id":"a","f":2,"g":2}\n'


def merged_list(base: Any, ours: Any, theirs: Any) -> Any:  # noqa: ANN401 - reason: JSON
    wrapped = [
        line("a", at, **({} if value is None else {"l": value})) for at, value in ((1, base), (3, ours), (2, theirs))
    ]
    return states(both(*wrapped).data)["a"].get("l")


class TestLists:
    """Lists merge by element: nothing that a side added is missing, nothing that it removed is back."""

    def test_what_each_side_added_is_there_in_order(self) -> None:
        assert merged_list([1, 2], [1, 2, 3], [1, 2, 4]) == [1, 2, 4, 3]
        assert merged_list([], ["b"], ["a"]) == ["a", "b"]
        assert merged_list([1, 9], [1, 9, 3], [1, 5, 6, 9]) == [1, 5, 6, 9, 3]

    def test_removed_and_untouched_there_is_removed(self) -> None:
        assert merged_list([1, 2, 3], [1, 3], [1, 2, 3, 4]) == [1, 3, 4]
        assert merged_list([{"id": 1, "n": 1}, 5], [5, 6], [{"id": 1, "n": 1}, 5, 7]) == [5, 7, 6]

    def test_removed_and_modified_lives(self) -> None:
        assert merged_list([{"id": 1, "n": 1}], [], [{"id": 1, "n": 2}]) == [{"id": 1, "n": 2}]

    def test_objects_are_the_same_by_id(self) -> None:
        base, ours, theirs = {"id": "e", "n": 1, "m": 1}, {"id": "e", "n": 2, "m": 1}, {"id": "e", "n": 1, "m": 2}
        assert merged_list([base], [ours], [theirs]) == [{"id": "e", "n": 2, "m": 2}]

    def test_objects_whose_id_a_list_has_twice_are_the_same_by_content(self) -> None:
        one, two, three = ({"id": "e", "n": n} for n in (1, 2, 3))
        assert merged_list([one, two], [one, two, three], [one]) == [one, three]

    def test_the_rest_is_the_same_by_content_and_occurrence(self) -> None:
        assert merged_list(["x"], ["x", "x"], ["x", "y"]) == ["x", "y", "x"]
        assert merged_list(["x", "x"], ["x"], ["x", "x", "y"]) == ["x", "y"]
        assert merged_list(["x", "x", "x"], ["x", "x"], ["x"]) == ["x"]
        assert merged_list([1, True, {"k": [1]}], [1, True, {"k": [True]}], [1, {"k": [1]}]) == [1, {"k": [True]}]

    def test_an_absent_list_is_an_empty_one(self) -> None:
        assert merged_list(["x", "y"], None, ["x", "y", "z"]) == ["z"]
        assert merged_list(None, ["x"], ["y"]) == ["y", "x"]

    def test_a_number_beyond_all_numbers_is_an_element_like_any(self) -> None:
        huge = b"1e9999999999999999999"
        base = b'{"id":"a","l":[1],"updated_at":1}\n'
        ours, theirs = base.replace(b"[1]", b"[1,%b]" % huge), base.replace(b"[1]", b"[1,2]")
        assert both(base, ours.replace(b":1}", b":2}"), theirs).data.count(huge) == 1


class TestPast:
    """A line that the other side went through after the base, and left behind, is that side's past and loses."""

    def test_a_cherry_picked_change_does_not_undo_a_later_deletion(self) -> None:
        picked = line("a", 2, f=2)
        merged = both(A1, A1 + picked + gone("a", 3), A1 + picked)
        assert merged.data == A1 + picked + gone("a", 3)
        merged = both(A1 + B1, A1 + picked + gone("a", 3) + B1, A1 + B1.replace(b":1", b":2") + picked)
        assert states(merged.data)["a"]["deleted"]
        assert rules(merged) == [Rule.PAST]

    def test_nor_a_later_change_back(self) -> None:
        picked, back = line("a", 2, f=2, g=1), line("a", 3, f=1, g=1)
        assert states(both(A1, A1 + picked + back + B1, A1 + picked).data)["a"]["f"] == 1

    def test_a_record_created_and_deleted_there_stays_deleted(self) -> None:
        created = line("c", 2)
        assert states(both(A1, A1 + created + gone("c", 3), A1 + created + B1).data)["c"]["deleted"]

    def test_a_past_of_which_the_base_was_compacted_away_is_told_by_stamps(self) -> None:
        picked = line("a", 2, f=2, g=1)
        assert states(both(A1, picked + gone("a", 3), A1 + picked).data)["a"]["deleted"]
        older = line("a", 0, f=0, g=1)
        assert states(both(A1, older + line("a", 3, f=1, g=3), older).data)["a"] == {
            "id": "a", "f": 0, "g": 3, "updated_at": 4,
        }  # fmt: skip

    def test_without_stamps_it_is_past_what_the_base_does_not_have(self) -> None:
        picked = line("a", None, f=2, g=1)
        assert states(both(A1, picked + gone("a", 3), A1 + picked).data)["a"]["deleted"]
        tied, later = line("a", 1, f=2, g=1), line("a", 1, f=3, g=1)
        assert states(both(A1, tied + later, tied).data)["a"]["f"] == 3

    def test_nor_is_what_both_have_in_another_order(self) -> None:
        one, two = line("a", 2, f=2, g=1), line("a", 2, f=3, g=1)
        assert both(A1, A1 + one + two, A1 + two + one).conflicts == 1

    def test_nor_is_what_stands_before_the_base(self) -> None:
        older = line("a", 0, f=0, g=1)
        merged = both(A1, older + A1 + line("a", 3, f=1, g=3), older)
        assert states(merged.data)["a"] == {"id": "a", "f": 0, "g": 3, "updated_at": 4}

    def test_nor_is_a_line_of_the_base(self) -> None:
        two = line("a", 1, f=2, g=1)
        assert states(both(A1 + two, A1 + two + A1 + gone("a", 9), A1).data)["a"]["f"] == 1

    def test_revert_still_works(self) -> None:
        # git revert: the base is the newer version, theirs the one before it.
        new = line("a", 2, f=2, g=1)
        merged = both(A1 + new, A1 + new + B1, A1)
        assert states(merged.data) == {**states(A1), **states(B1)}
        later = line("a", 3, f=2, g=3)
        assert states(both(A1 + new, A1 + new + later, A1).data)["a"] == {"id": "a", "f": 1, "g": 3, "updated_at": 4}


class TestConflicts:
    """Only equal stamps and one value changed to two are a conflict; both lines are the complete merge."""

    def test_two_complete_merges_stand_between_markers_in_content_order(self) -> None:
        base = line("a", 1, f=1, g=1, h=1)
        merged = both(base, line("a", 2, f=3, g=2, h=1), line("a", 2, f=2, g=1, h=2))
        assert merged.conflicts == merged.report.conflicts == 1
        assert merged.data == (
            b"<<<<<<< one version\n" + line("a", 3, f=2, g=2, h=2) + b"=======\n" + line("a", 3, f=3, g=2, h=2)
            + b">>>>>>> the other version\n"
        )  # fmt: skip
        assert rules(merged) == [Rule.CONFLICT]

    def test_versions_that_need_no_merge_keep_their_bytes(self) -> None:
        merged = both(A1, line("a", 2, f=3, g=1), line("a", 2, f=2, g=1))
        assert [each for each in merged.data.splitlines() if each.startswith(b"{")] == [
            line("a", 2, f=2, g=1)[:-1],
            line("a", 2, f=3, g=1)[:-1],
        ]

    def test_the_markers_follow_the_history(self) -> None:
        merged = both(A1, A1 + line("a", 2, f=3, g=1), A1 + line("a", 2, f=2, g=1))
        assert merged.data.startswith(A1)
        assert merged.data.endswith(b">>>>>>> the other version\n")
        assert states(merged.data)["a"]["f"] == 3

    def test_equal_stamps_alone_are_none(self) -> None:
        merged = both(A1, line("a", 2, f=2, g=1), line("a", 2, f=1, g=2))
        assert merged.data == line("a", 3, f=2, g=2)
        assert both(A1, line("a", 2, f=2, g=1), line("a", 2, f=2, g=2)).data == line("a", 2, f=2, g=2)

    def test_the_earlier_created_at_wins(self) -> None:
        ours, theirs = line("a", 2, created_at=5, f=1), line("a", 2, created_at="1970-01-01T00:00:00.004Z", f=1)
        merged = both(b"", ours, theirs)
        assert merged.conflicts == 0
        assert states(merged.data)["a"]["created_at"] == "1970-01-01T00:00:00.004Z"

    @pytest.mark.parametrize("name", ["content_hash", "digest", "file_sha256"])
    def test_the_greater_digest_wins(self, name: str) -> None:
        merged = both(A1, line("a", 2, **{name: "aa"}), line("a", 2, **{name: "bb"}))
        assert merged.conflicts == 0
        assert states(merged.data)["a"][name] == "bb"

    def test_a_digest_is_known_by_its_whole_word(self) -> None:
        assert both(A1, line("a", 2, rehash="aa"), line("a", 2, rehash="bb")).conflicts == 1


OLD = {"created_at": 10, "title": "Fix the parser", "body": "x" * 40}
YOUNG = {"created_at": 20, "title": "Write the docs", "body": "y" * 40}


class TestTwoRecordsUnderOneId:
    """Both live: the older keeps the id, the younger gets one made of its identity."""

    def test_both_live(self) -> None:
        merged = both(b"", line("t-1", 10, **OLD), line("t-1", 20, **YOUNG))
        found = states(merged.data)
        new = next(record_id for record_id in found if record_id != "t-1")
        assert len(new) == len("t-1-") + 10
        assert found["t-1"]["title"] == OLD["title"]
        assert found[new] == {"id": new, **YOUNG, "updated_at": 20}
        assert rules(merged) == [Rule.RENAMED]

    def test_half_of_the_content_makes_them_one(self) -> None:
        ours, theirs = line("t-1", 10, **OLD), line("t-1", 20, **{**YOUNG, "body": OLD["body"]})
        assert len(states(both(b"", ours, theirs).data)) == 1

    def test_the_same_created_at_makes_them_one(self) -> None:
        same = {**YOUNG, "created_at": "1970-01-01T00:00:00.010Z"}
        assert len(states(both(b"", line("t-1", 10, **OLD), line("t-1", 20, **same)).data)) == 1

    def test_without_created_at_they_are_one(self) -> None:
        assert len(states(both(b"", line("t-1", 10, **OLD), line("t-1", 20, title="Write the docs")).data)) == 1

    def test_one_that_is_in_the_base_is_one(self) -> None:
        merged = both(line("t-1", 1, f=1), line("t-1", 10, **OLD), line("t-1", 20, **YOUNG))
        assert len(states(merged.data)) == 1

    def test_under_a_tombstone_both_are_new(self) -> None:
        merged = both(gone("t-1", 1), line("t-1", 10, **OLD), line("t-1", 20, **YOUNG))
        assert len(states(merged.data)) == 2

    def test_the_past_of_one_side_is_no_other_record(self) -> None:
        created = line("t-1", 10, **OLD)
        again = line("t-1", 30, **YOUNG)
        merged = both(B1, B1 + created + gone("t-1", 20) + again, B1 + created)
        assert states(merged.data)["t-1"]["title"] == YOUNG["title"]
        assert len(states(merged.data)) == 2

    def test_the_name_comes_from_identity_so_a_later_merge_knows_it_again(self) -> None:
        ours, theirs = line("t-1", 10, **OLD), line("t-1", 20, **YOUNG)
        first = both(b"", ours, theirs).data
        changed = line("t-1", 30, **{**YOUNG, "title": "Rewrite the docs"})
        later = states(both(theirs, first, changed).data)  # git's base is now the tip that was merged
        assert sorted(value["title"] for value in later.values()) == ["Fix the parser", "Rewrite the docs"]
        assert later["t-1"]["title"] == OLD["title"]
        never = states(both(b"", first, changed).data)  # and a base before both knows no better
        assert later.keys() == never.keys()

    @pytest.mark.parametrize("base", [b"", line("t-1", 1, created_at=20, f=1) + gone("t-1", 2)])
    def test_all_of_its_lines_go_with_it_however_often(self, base: bytes) -> None:
        ours = base + line("t-1", 10, **OLD)
        theirs = base + gone("t-1", 15) + line("t-1", 20, **YOUNG)
        first = both(base, ours, theirs).data
        assert both(base, first, theirs).data == first
        assert both(base, first, ours).data == first

    def test_unreadable_times_of_creation_differ_by_their_text(self) -> None:
        ours, theirs = ({**each, "created_at": text} for each, text in ((OLD, "monday"), (YOUNG, "tuesday")))
        found = states(both(b"", line("t-1", 10, **ours), line("t-1", 20, **theirs)).data)
        assert found["t-1"]["title"] == OLD["title"]
        assert len(found) == 2

    def test_references_on_its_own_side_follow_it(self) -> None:
        refers = line("r", 20, parent_id="t-1", deps=[{"depends_on_id": "t-1"}], blocked_ids=["t-1", "q"], title="t-1")
        merged = both(b"", line("t-1", 10, **OLD), line("t-1", 20, **YOUNG) + refers)
        found = states(merged.data)
        new = next(record_id for record_id in found if record_id.startswith("t-1-"))
        assert found["r"] == {
            "id": "r", "parent_id": new, "deps": [{"depends_on_id": new}], "blocked_ids": [new, "q"], "title": "t-1",
            "updated_at": 20,
        }  # fmt: skip
        assert rules(merged) == [Rule.MENTIONED, Rule.REFERENCES, Rule.RENAMED]

    def test_declared_references_follow_it_too(self) -> None:
        theirs = line("t-1", 20, **YOUNG) + line("r", 20, owner="t-1")
        found = states(both(b"", line("t-1", 10, **OLD), theirs, references=["owner"]).data)
        assert found["r"]["owner"].startswith("t-1-")
        assert states(both(b"", line("t-1", 10, **OLD), theirs).data)["r"]["owner"] == "t-1"

    def test_references_on_the_other_side_do_not(self) -> None:
        merged = both(b"", line("t-1", 10, **OLD) + line("r", 20, parent_id="t-1"), line("t-1", 20, **YOUNG))
        assert states(merged.data)["r"]["parent_id"] == "t-1"

    def test_nor_do_lines_of_the_base(self) -> None:
        base = line("r", 1, parent_id="t-1")
        merged = both(base, base + line("t-1", 10, **OLD), base + line("t-1", 20, **YOUNG))
        assert states(merged.data)["r"]["parent_id"] == "t-1"

    def test_history_keeps_its_bytes_where_a_new_version_is_rewritten(self) -> None:
        base = line("r", 1, parent_id="t-1")
        theirs = base + line("t-1", 20, **YOUNG) + line("r", 20, parent_id="t-1", f=1) + line("q", 20)
        merged = both(base, line("q", 19) + line("t-1", 10, **OLD), theirs)
        assert states(merged.data)["r"]["parent_id"].startswith("t-1-")
        merged = both(base, base + line("r", 2) + line("t-1", 10, **OLD), theirs)
        assert merged.data.startswith(base)

    def test_nor_what_the_other_sides_version_of_the_record_names_too(self) -> None:
        ours = line("t-1", 10, **OLD) + line("r", 20, parent_id="t-1", f=1)
        theirs = line("t-1", 20, **YOUNG) + line("r", 20, parent_id="t-1", g=1)
        assert states(both(b"", ours, theirs).data)["r"]["parent_id"] == "t-1"


class TestLines:
    """History is kept, order is the base's, and the fold of the result is what was decided."""

    def test_an_id_that_neither_side_repeats_stays_one_line_where_it_stood(self) -> None:
        base = line("z", 1) + A1 + line("m", 1)
        merged = both(base, base.replace(A1, line("a", 2, f=2, g=1)), base.replace(A1, line("a", 3, f=1, g=2)))
        assert merged.data == line("z", 1) + line("a", 4, f=2, g=2) + line("m", 1)

    def test_a_file_sorted_by_id_stays_sorted(self) -> None:
        base = line("b", 1) + line("f", 1)
        merged = both(base, line("a", 9) + base, base.replace(line("f", 1), line("d", 1) + line("f", 2)))
        assert merged.data == line("a", 9) + line("b", 1) + line("d", 1) + line("f", 2)

    def test_one_that_both_sides_sorted_is_sorted(self) -> None:
        base, other = B1 + A1, A1 + line("b", 2)
        assert both(base, line("a", 2, f=2, g=1) + B1, other).data == line("a", 2, f=2, g=1) + line("b", 2)

    def test_one_whose_sides_appended_stays_sorted_too(self) -> None:
        assert both(A1, A1 + line("c", 1), A1 + line("b", 9)).data == A1 + line("b", 9) + line("c", 1)

    def test_what_is_new_follows_by_instant_then_id_then_bytes(self) -> None:
        base = line("z", 1)
        merged = both(base, base + line("c", 5) + line("b", 9), base + line("d", 5) + line("a", 7))
        assert merged.data == base + line("c", 5) + line("d", 5) + line("a", 7) + line("b", 9)

    def test_the_history_of_a_repeated_id_is_kept_and_identical_lines_once(self) -> None:
        one, two, same = line("a", 2, f=2, g=1), line("a", 3, f=1, g=2), line("a", 1, f=9, g=1)
        merged = both(A1, A1 + same + one, A1 + same + two)
        assert merged.data == A1 + same + one + two + line("a", 4, f=2, g=2)

    def test_lines_that_one_side_compacted_away_are_gone(self) -> None:
        base = A1 + line("a", 2, f=2)
        assert both(base, line("a", 2, f=2), base + line("a", 3, f=3)).data == line("a", 2, f=2) + line("a", 3, f=3)

    def test_one_line_that_is_left_of_a_history_stands_where_it_stood(self) -> None:
        merged = both(A1 + B1, B1, A1 + B1 + line("a", 5, f=5))
        assert merged.data == line("a", 5, f=5) + B1

    def test_a_result_that_its_history_would_beat_is_written_once_more_above(self) -> None:
        high, low, old = line("a", 10, f=2), line("a", 5, f=1), line("a", 7, f=3)
        merged = both(high, high + old, low)
        assert merged.data == low + old + line("a", 8, f=1)
        assert rules(merged) == [Rule.REPEATED]

    def test_the_result_is_last_among_lines_of_its_stamp(self) -> None:
        lost, won = line("a", 5, f=9), line("a", 5, f=2)
        merged = both(A1, A1 + lost + won, A1 + B1)
        assert merged.data == A1 + lost + won + B1
        assert rules(merged) == []

    def test_a_repeated_result_without_a_stamp_needs_none(self) -> None:
        base = line("a", 5, f=1) + line("a", None, f=2)
        swapped = line("a", None, f=2) + line("a", 5, f=1)
        merged = both(base, swapped, base + B1)
        assert states(merged.data)["a"]["f"] == 1

    def test_a_result_whose_instant_came_from_lines_that_are_gone_is_written_with_it(self) -> None:
        high, low, bare = line("a", 9, f=1), line("a", 5, f=3), line("a", None, f=2)
        merged = both(low + high, low + high + bare, low)
        assert merged.data == low + bare + line("a", 9, f=2)
        assert rules(merged) == [Rule.NEWEST, Rule.REPEATED]

    def test_but_not_when_only_those_lines_were_dropped(self) -> None:
        low, bare = line("a", 5, f=3), line("a", None, f=2)
        assert both(low + bare, low + bare + B1, bare).data == bare + B1

    def test_what_would_then_look_like_the_base_is_written_above_it(self) -> None:
        high, low, bare = b'{"updated_at":9,"id":"a"}\n', line("a", 5), line("a", None)
        merged = both(low + high, low + high + bare, low + line("a", 4))
        assert states(merged.data)["a"]["updated_at"] == 10

    def test_a_line_that_a_side_went_back_to_stands_below_the_one_it_left(self) -> None:
        two = line("a", 1, f=2, g=1)
        assert both(A1 + two, two + A1, A1 + two + B1).data == two + A1 + B1

    def test_an_unchanged_record_keeps_its_bytes_and_its_place(self) -> None:
        odd = b'{ "id":"q",  "n":1.0 }\n'
        assert both(odd + A1, odd + A1 + B1, odd + A1 + line("c", 1)).data.startswith(odd + A1)
        assert both(odd + A1, odd + B1, odd + line("a", 2)).data.startswith(odd)

    def test_a_conflict_that_its_history_would_beat_is_raised_as_a_whole(self) -> None:
        from taskstore_async.core.merge_history import arrange  # noqa: PLC0415 - reason: no merge is known to need it
        from taskstore_async.core.merge_state import Versions  # noqa: PLC0415 - reason: as above

        high = next(each for each in decode_lines(line("a", 9, number=0)) if isinstance(each, Line))
        layout = arrange("a", Versions([high], [high, high], [high]), (A1[:-1], line("a", 1, f=2)[:-1]))
        assert layout.new[-1].text.count(b'"updated_at":10') == 2


class TestReport:
    """A report says what was decided, in words that a terminal bears."""

    def test_it_counts_and_explains(self) -> None:
        merged = both(A1 + B1, line("a", 2, f=2, g=1) + B1, line("a", 3, f=1, g=2) + line("b", 2))
        said = list(words(merged.report))
        assert said[0] == "0 changed by us, 1 by them, 1 by both, 0 in conflict"
        assert "a: merged field by field" in said
        assert "    f: ours, changed there only" in said

    def test_control_characters_are_spelled_out(self) -> None:
        evil = "a\x1b[2J"
        merged = both(line(evil, 1, f=1), line(evil, 2, f=2), b"" + line("b", 1))
        assert all(text.isprintable() for text in words(merged.report))

    def test_bad_lines_of_the_result_are_only_markers(self) -> None:
        merged = both(A1, line("a", 2, f=2), line("a", 2, f=3))
        reasons = {each.reason for each in decode_lines(merged.data) if isinstance(each, BadLine)}
        assert reasons == {"conflict marker"}
