"""What changed between two lines of a record, and between two states of a collection."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.difference import FieldChange, Kind, compare, field_changes, state_of


def told(before: bytes | None, after: bytes | None) -> dict[str, tuple[object, object]]:
    return {one.field: (_text(one.before), _text(one.after)) for one in field_changes(before, after)}


def _text(value: object) -> object:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else None


class TestFields:
    """Objects are compared field by field, everything else as a whole, and numbers exactly."""

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            (b'{"id":"a","x":1}', b'{"id":"a","x":2}', {"x": ("1", "2")}),
            (b'{"id":"a","x":1}', b'{"id":"a"}', {"x": ("1", None)}),
            (b'{"id":"a"}', b'{"id":"a","x":null}', {"x": (None, "null")}),
            (b'{"id":"a","x":{"y":{"z":1},"w":2}}', b'{"id":"a","x":{"w":2,"y":{"z":[]}}}', {"x.y.z": ("1", "[]")}),
            (b'{"id":"a","x":{}}', b'{"id":"a","x":[]}', {"x": ("{}", "[]")}),
            (b'{"id":"a","x":[1,2]}', b'{"id":"a","x":[1, 2]}', {}),
            (b'{"id":"a","x":1.10}', b'{"id":"a","x":1.1}', {}),
            (b'{"id":"a","x":0.1}', b'{"id":"a","x":0.10000000000000000001}', {"x": ("0.1", "0.10000000000000000001")}),
            (b'{"id":"a","updated_at":1}', b'{"id":"a","updated_at":2}', {}),
            (b'{"id":7}', b'{"id":"7"}', {}),
            (None, b'{"id":"a","x":1}', {"x": (None, "1")}),
            (b'{"id":"a","x":1}', None, {"x": ("1", None)}),
        ],
    )
    def test_changes(self, before: bytes | None, after: bytes | None, expected: object) -> None:
        assert told(before, after) == expected

    def test_a_stamp_inside_an_object_is_a_field_like_any_other(self) -> None:
        assert list(told(b'{"m":{"updated_at":1}}', b'{"m":{"updated_at":2}}')) == ["m.updated_at"]

    def test_they_come_in_the_order_of_the_later_line(self) -> None:
        assert list(told(b'{"gone":1,"a":1,"b":1}', b'{"b":2,"a":2}')) == ["b", "a", "gone"]

    def test_as_json_what_was_not_there_is_left_out(self) -> None:
        (change,) = field_changes(b'{"x":1}', b"{}")
        assert msgspec.json.encode(change) == b'{"field":"x","before":1}'


class TestRecords:
    """Created, updated and deleted records, by id; a new stamp alone is no difference."""

    def test_kinds(self) -> None:
        before = state_of(b'{"id":"gone","x":1}\n{"id":"same","x":1,"updated_at":1}\n{"id":"new","x":1}\n')
        after = state_of(
            b'{"id":"same","x":1,"updated_at":2}\n{"id":"new","x":2}\n{"id":"b","x":1}\n{"id":"gone","deleted":true}\n'
        )
        assert [(one.id, one.kind) for one in compare(before, after)] == [
            ("b", Kind.CREATED),
            ("gone", Kind.DELETED),
            ("new", Kind.UPDATED),
        ]
        assert compare(before, after)[2].fields == (FieldChange("x", msgspec.Raw(b"1"), msgspec.Raw(b"2")),)

    def test_the_state_of_a_file_is_its_fold_without_tombstones(self) -> None:
        data = b'junk\n{"id":"a","x":2,"updated_at":9}\n{"id":"a","x":1,"updated_at":1}\n'
        data += b'{"id":"b"}\n{"id":"b","deleted":true}\n'
        assert state_of(data) == {"a": b'{"id":"a","x":2,"updated_at":9}'}


states = st.dictionaries(st.sampled_from("abc"), st.sampled_from([b'{"x":1}', b'{"x":2}', b'{"x":{"y":1}}', b"{}"]))


@given(before=states, after=states)
def test_the_other_way_round_is_the_same_the_other_way_round(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    opposite = {Kind.CREATED: Kind.DELETED, Kind.DELETED: Kind.CREATED, Kind.UPDATED: Kind.UPDATED}
    there, back = compare(before, after), compare(after, before)
    assert [(one.id, opposite[one.kind]) for one in there] == [(one.id, one.kind) for one in back]
    for record_id in before.keys() | after.keys():
        forwards, backwards = (told(*pair) for pair in _both_ways(before.get(record_id), after.get(record_id)))
        assert {field: values[::-1] for field, values in forwards.items()} == backwards
    assert (there == []) is (before == after)


def _both_ways(one: bytes | None, other: bytes | None) -> tuple[tuple[bytes | None, bytes | None], ...]:
    return (one, other), (other, one)
