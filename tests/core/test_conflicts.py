"""Markers in a file: what is contested between them, and what is left when they go."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.conflicts import find_markers, without_markers
from taskstore_async.core.fold import fold
from taskstore_async.core.line import Line
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge import merge


def line(record_id: str, at: int | None = None, value: int = 0, *, deleted: bool = False) -> bytes:
    stamp = b"" if at is None else b',"updated_at":%d' % at
    return b'{"id":"%s","f":%d%s%s}\n' % (record_id.encode(), value, b',"deleted":true' * deleted, stamp)


A1, A2, A3 = (line("a", 1, value) for value in (1, 2, 3))
B1, B2 = line("b", 1, 1), line("b", 2, 2)
PLAIN = b"<<<<<<< HEAD\n" + A1 + B1 + b"=======\n" + A2 + B2 + b">>>>>>> topic\n"


def contested(data: bytes) -> list[list[str]]:
    return [[contest.id for contest in block.contests] for block in find_markers(data).blocks]


class TestContests:
    """A record is contested that both sides of a block have, with different content."""

    def test_the_blocks_of_git_name_the_sides(self) -> None:
        (block,) = find_markers(line("x", 1) + PLAIN).blocks
        assert (block.first, block.base, block.middle, block.last) == (2, None, 5, 8)
        assert block.labels == ("HEAD", "topic")
        assert [(one.id, one.first.raw, one.second.raw) for one in block.contests] == [
            ("a", A1.strip(), A2.strip()),
            ("b", B1.strip(), B2.strip()),
        ]

    def test_the_driver_leaves_one_record_in_a_block(self) -> None:
        merged = merge(A1, line("a", 5, 2), line("a", 5, 3))
        assert merged.conflicts == 1
        assert contested(merged.data) == [["a"]]

    def test_the_latest_line_of_a_side_counts(self) -> None:
        data = b"<<<<<<< x\n" + line("a", 9, 9) + A1 + b"=======\n" + A2 + b">>>>>>> y\n"
        ((contest,),) = (block.contests for block in find_markers(data).blocks)
        assert contest.first.raw == line("a", 9, 9).strip()

    @pytest.mark.parametrize(
        ("upper", "lower"),
        [
            (A1, B1),
            (A1, b""),
            (A1, A1),
            (A1, line("a", 7, 1)),
            (line("a", 1, deleted=True), line("a", 2, 5, deleted=True)),
            (b"torn {\n", A1),
            (b'{"id":7,"f":1}\n', b'{"id":"7","f":1}\n'),
        ],
        ids=["other records", "one side", "equal", "but for the stamp", "both deleted", "unreadable", "an integer id"],
    )
    def test_nothing_is_contested(self, upper: bytes, lower: bytes) -> None:
        assert contested(b"<<<<<<< x\n" + upper + b"=======\n" + lower + b">>>>>>> y\n") == [[]]

    def test_deleted_here_and_changed_there_is(self) -> None:
        assert contested(b"<<<<<<< x\n" + line("a", 1, deleted=True) + b"=======\n" + A2 + b">>>>>>> y\n") == [["a"]]

    def test_a_file_without_markers_has_none(self) -> None:
        assert find_markers(A1 + A2) == find_markers(b"")
        assert find_markers(A1).blocks == ()

    @pytest.mark.parametrize(
        ("data", "stray"),
        [
            (b"<<<<<<< x\n" + A1, (1,)),
            (A1 + b">>>>>>> y\n", (2,)),
            (b"<<<<<<< x\n=======\n" + A1, (1, 2)),
            (b"<<<<<<< x\n" + A1 + b">>>>>>> y\n", (1, 3)),
            (b"<<<<<<< x\n||||||| b\n" + A1 + b"<<<<<<< x\n=======\n>>>>>>> y\n", (1, 2)),
            (b"<<<<<<< x\n=======\n||||||| b\n>>>>>>> y\n", (1, 2, 3, 4)),
            (b"<<<<<<< x\n=======\n=======\n>>>>>>> y\n", (1, 2, 3, 4)),
        ],
    )
    def test_markers_that_make_no_block_are_astray_and_nothing_is_touched(
        self, data: bytes, stray: tuple[int, ...]
    ) -> None:
        assert find_markers(data).stray == stray
        assert without_markers(data) == (data, [])


class TestWithoutMarkers:
    """Markers go when nothing between them is left to choose; every line that is read stays."""

    def test_what_is_contested_keeps_them(self) -> None:
        assert without_markers(PLAIN) == (PLAIN, [])

    def test_a_chosen_record_leaves_its_block_upwards(self) -> None:
        data, taken = without_markers(line("x", 1) + PLAIN, {"a"})
        rest = b"<<<<<<< HEAD\n" + B1 + b"=======\n" + B2 + b">>>>>>> topic\n"
        assert (data, taken) == (line("x", 1) + A1 + A2 + rest, [])
        assert contested(data) == [["b"]]

    def test_with_the_last_of_them_the_markers_go(self) -> None:
        data, taken = without_markers(PLAIN + line("x", 1), {"a", "b"})
        assert data == A1 + B1 + A2 + B2 + line("x", 1)
        assert taken == [b"<<<<<<< HEAD", b"=======", b">>>>>>> topic"]

    def test_the_base_part_goes_too_because_it_would_come_back_to_life(self) -> None:
        dead = line("gone", 1)
        data = b"<<<<<<< x\n" + A1 + b"||||||| base\n" + dead + b"=======\n" + A2 + b">>>>>>> y\n"
        kept, taken = without_markers(data, {"a"})
        assert kept == A1 + A2
        assert dead.strip() in taken

    def test_bytes_that_are_no_record_stay(self) -> None:
        data = b"\xef\xbb\xbf" + A1 + b"junk\r\n\n<<<<<<< x\r\ntorn {\r\n\r\n=======\r\n>>>>>>> y\r\nlast"
        assert without_markers(data)[0] == b"\xef\xbb\xbf" + A1 + b"junk\r\n\ntorn {\r\n\r\nlast"


lines = st.builds(
    line,
    st.sampled_from("abc"),
    st.none() | st.integers(0, 3),
    st.integers(0, 2),
    deleted=st.booleans(),
)
some = st.lists(lines, max_size=4).map(b"".join)
bases = st.none() | some
files = st.lists(
    some
    | st.tuples(some, bases, some).map(
        lambda parts: (
            b"<<<<<<< x\n%s%s=======\n%s>>>>>>> y\n"
            % (parts[0], b"" if parts[1] is None else b"||||||| base\n" + parts[1], parts[2])
        )
    ),
    max_size=5,
).map(b"".join)


class TestNothingIsLost:
    """Whatever is chosen, what the file folds to stays, and so does every line that is read."""

    @given(data=files, chosen=st.sets(st.sampled_from("abc")))
    def test_fold_and_lines_stay(self, data: bytes, chosen: set[str]) -> None:
        before = [one for one in decode_lines(data) if isinstance(one, Line)]
        made, taken = without_markers(data, chosen)
        after = [one for one in decode_lines(made) if isinstance(one, Line)]
        assert {key: (one.line.raw, one.instant) for key, one in fold(after).items()} == {
            key: (one.line.raw, one.instant) for key, one in fold(before).items()
        }
        assert Counter(one.raw for one in after) == Counter(one.raw for one in before)
        assert Counter(made.splitlines()) + Counter(taken) == Counter(data.splitlines())
        assert all(set(ids) - chosen for ids in contested(made))
