"""The fold: from lines to the state of every record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.fold import effective, fold, wins
from taskstore_async.core.line import BadLine, Line, decode_line
from taskstore_async.core.line_reader import decode_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

MS = 1_000_000
STAMPS = st.sampled_from(
    [
        *("1", "2", "3", '"1970-01-01T00:00:00.001Z"', '"1970-01-01T00:00:00.001000001Z"'),
        *('"1970-01-01T00:00:00.003+00:00"', "-1", "1.5", "true", '"soon"', "null"),
    ]
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    fields = [f'"id":"{draw(st.sampled_from("abc"))}"', f'"n":{draw(st.integers(0, 99))}']
    stamped = draw(st.lists(st.sampled_from(["updated_at", "created_at"]), unique=True))
    fields += [f'"{name}":{draw(STAMPS)}' for name in stamped]
    if draw(st.integers(0, 3)) == 0:
        fields.append('"deleted":true')
    return ("{" + ",".join(fields) + "}").encode()


FILES = st.lists(lines() | st.sampled_from([b"{", b"[]", b""]), max_size=12)


def line(text: str) -> Line:
    found = decode_line(text.encode(), ())
    assert isinstance(found, Line)
    return found


def naive(found: Sequence[Line | BadLine]) -> dict[str, tuple[bytes, int]]:
    """The winner of every id: the greatest of (instant, position), the instants being filled in from above."""
    states = {}
    read = [each for each in found if isinstance(each, Line)]
    for record_id in {each.id for each in read}:
        candidates: list[tuple[int, int, bytes]] = []
        for position, each in enumerate(read):
            if each.id == record_id:
                above = [instant for instant, _, _ in candidates]
                filled = max(0, each.created or 0, *above)
                candidates.append((filled if each.instant is None else each.instant, position, each.raw))
        instant, _, raw = max(candidates)
        states[record_id] = (raw, instant)
    return states


def states(*texts: str) -> dict[str, tuple[str, int]]:
    """What *texts* fold to: line and instant by id."""
    found = fold(decode_lines("\n".join(texts).encode()))
    return {record_id: (state.line.raw.decode(), state.instant) for record_id, state in found.items()}


class TestFold:
    """Per id the highest stamp wins, on a tie the later line, and position where there is no stamp."""

    @given(FILES)
    def test_it_agrees_with_a_naive_one(self, file: list[bytes]) -> None:
        found = list(decode_lines(b"\n".join(file)))
        assert {record_id: (state.line.raw, state.instant) for record_id, state in fold(found).items()} == naive(found)

    @given(FILES, FILES)
    def test_a_file_can_be_folded_in_two_parts_from_the_first_ones_stamps(
        self, first: list[bytes], second: list[bytes]
    ) -> None:
        above = fold(decode_lines(b"\n".join(first)))
        found = {record_id: (state.line.raw, state.instant) for record_id, state in above.items()}
        for each in decode_lines(b"\n".join(second)):
            if isinstance(each, Line):
                before = found.get(each.id)
                instant = effective(each, before and before[1])
                if before is None or wins(instant, before[1]):
                    found[each.id] = (each.raw, instant)
        whole = fold(decode_lines(b"\n".join([*first, *second])))
        assert found == {record_id: (state.line.raw, state.instant) for record_id, state in whole.items()}

    def test_the_highest_stamp_wins_wherever_it_stands(self) -> None:
        newer, older = '{"id":"a","updated_at":2}', '{"id":"a","updated_at":1}'
        assert states(newer, older) == states(older, newer) == {"a": (newer, 2 * MS)}

    def test_a_tie_goes_to_the_later_line(self) -> None:
        one, other = '{"id":"a","updated_at":2,"n":1}', '{"id":"a","updated_at":"1970-01-01T00:00:00.002Z"}'
        assert states(one, other) == {"a": (other, 2 * MS)}
        assert states(other, one) == {"a": (one, 2 * MS)}

    def test_text_stamps_compare_to_the_nanosecond(self) -> None:
        later, whole = '{"id":"a","updated_at":"1970-01-01T00:00:00.002000001Z"}', '{"id":"a","updated_at":2}'
        assert states(later, whole) == {"a": (later, 2 * MS + 1)}

    def test_a_line_without_stamp_takes_the_place_of_all_above_it(self) -> None:
        bare = '{"id":"a"}'
        assert states('{"id":"a","updated_at":5}', '{"id":"a","updated_at":3}', bare) == {"a": (bare, 5 * MS)}
        assert states(bare) == {"a": (bare, 0)}
        assert states('{"id":"b","updated_at":5}', bare)["a"] == (bare, 0)

    def test_created_at_stands_in_for_a_stamp(self) -> None:
        made = '{"id":"a","created_at":4}'
        assert states(made) == {"a": (made, 4 * MS)}
        assert states('{"id":"a","updated_at":3}', made) == {"a": (made, 4 * MS)}
        assert states(made, '{"id":"a","updated_at":3}') == {"a": (made, 4 * MS)}

    def test_a_bare_tombstone_deletes(self) -> None:
        state = fold(decode_lines(b'{"id":"a","updated_at":5}\n{"id":"a","deleted":true}'))["a"]
        assert (state.line.deleted, state.instant) == (True, 5 * MS)

    @pytest.mark.parametrize("text", ["-1", "9007199254740992", "1.0", "true", '"soon"', "null", "[]"])
    def test_an_unreadable_stamp_is_none(self, text: str) -> None:
        odd = f'{{"id":"a","updated_at":{text}}}'
        assert states('{"id":"a","updated_at":5}', odd) == {"a": (odd, 5 * MS)}

    def test_an_integer_id_and_its_text_are_one_record(self) -> None:
        assert list(states('{"id":7,"updated_at":1}', '{"id":"7","updated_at":2}')) == ["7"]

    def test_ids_stand_in_the_order_of_first_appearance(self) -> None:
        assert list(states('{"id":"b"}', "{", '{"id":"a"}', '{"id":"b"}')) == ["b", "a"]


class TestEffective:
    """What a line counts with depends on itself and on what is above it."""

    @pytest.mark.parametrize(
        ("text", "above", "instant"),
        [
            ('{"id":"a","updated_at":2,"created_at":9}', 7, 2 * MS),
            ('{"id":"a","updated_at":0}', 7, 0),
            ('{"id":"a","created_at":2}', None, 2 * MS),
            ('{"id":"a","created_at":2}', 7, 2 * MS),
            ('{"id":"a","created_at":0}', 7, 7),
            ('{"id":"a","created_at":"soon"}', 7, 7),
            ('{"id":"a"}', None, 0),
            ('{"id":"a"}', 7, 7),
        ],
    )
    def test_examples(self, text: str, above: int | None, instant: int) -> None:
        assert effective(line(text), above) == instant

    def test_winning(self) -> None:
        assert [wins(1, 2), wins(2, 2), wins(3, 2)] == [False, True, True]
