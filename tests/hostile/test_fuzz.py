"""A fuzzer of the reader and the merge: the corpus and real shapes, changed at random; seeded, and seconds long.

``TASKSTORE_FUZZ`` says how many files, ``TASKSTORE_FUZZ_SEED`` which. The long form, led by what the code does with the
bytes, is ``atheris_targets``.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from taskstore_async.core.codec import decode_exact
from taskstore_async.core.line import BadLine, Line
from taskstore_async.core.line_reader import LineReader, decode_lines
from taskstore_async.core.merge import merge
from taskstore_async.errors import MergeInputError
from tests.hostile.corpus import KINDS, good
from tests.hostile.mutations import mutated

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = int(os.environ.get("TASKSTORE_FUZZ", "1000"))
SEED = os.environ.get("TASKSTORE_FUZZ_SEED", "0")
SMALL = [kind.data for kind in KINDS if len(kind.data) < 1_000]
PLAIN = b"\n".join(good(one, at=at).raw for at, one in enumerate("abcdefgh", 1_700_000_000_000)) + b"\n"


def dices(name: str) -> Iterator[random.Random]:
    for number in range(FILES):
        yield random.Random(f"{SEED} {name} {number}")  # noqa: S311 - reason: a die to throw again


def read_in_pieces(dice: random.Random, data: bytes) -> list[Line | BadLine]:
    reader, place, found = LineReader(()), 0, list[Line | BadLine]()
    while place < len(data):
        size = dice.choice([1, 2, 7, 64, 1_000])
        found += reader.feed(data[place : place + size])
        place += size
    return found + reader.finish()


def assert_readable(dice: random.Random, data: bytes) -> None:
    """Whatever the bytes are: each line is served or told of, where it stands, however the file comes in."""
    found = list(decode_lines(data))
    assert found == read_in_pieces(dice, data)
    assert [one.number for one in found] == sorted({one.number for one in found})
    for one in found:
        assert data[one.offset :].startswith(one.raw)
        assert data[: one.offset].count(b"\n") == one.number - 1
        if isinstance(one, Line):
            value = decode_exact(one.raw)
            assert str(value["id"]) == one.id
            assert one.deleted == (value.get("deleted") is True)
    told = {one.number for one in found}
    for number, line in enumerate(data.split(b"\n"), 1):
        assert number in told or not line.removeprefix(b"\xef\xbb\xbf").strip()


def assert_merged(base: bytes, ours: bytes, theirs: bytes) -> bool:
    """Whatever the three are: an error, or the same whichever side is ours, with every line in it that must be."""
    try:
        merged = merge(base, ours, theirs)
    except MergeInputError:
        try:
            merge(base, theirs, ours)
        except MergeInputError:
            return False
        raise
    assert merge(base, theirs, ours).data == merged.data
    for one in decode_lines(merged.data):
        assert isinstance(one, BadLine) or decode_exact(one.raw) is not None
    ids = {one.id for one in decode_lines(merged.data) if isinstance(one, Line)}
    for mine, others in ((ours, theirs), (theirs, ours)):
        new = {one.id for one in decode_lines(mine) if isinstance(one, Line)}
        new -= {one.id for data in (base, others) for one in decode_lines(data) if isinstance(one, Line)}
        assert new <= ids, "a record that only one side has, and had not before, is gone"
    return True


def three_files(dice: random.Random) -> tuple[bytes, bytes, bytes]:
    """A base and two changed copies of it."""
    base = dice.choice([PLAIN, PLAIN, mutated(dice, PLAIN), dice.choice(SMALL), b""])
    ours = mutated(dice, dice.choice([base, base + good("new-ours").raw + b"\n"]))
    theirs = mutated(dice, dice.choice([base, base + good("new-theirs").raw + b"\n", PLAIN]))
    return base, ours, theirs


class TestReader:
    def test_any_bytes(self) -> None:
        for dice in dices("reader"):
            assert_readable(dice, mutated(dice, dice.choice([*SMALL, PLAIN])))


class TestMerge:
    def test_any_three_files(self) -> None:
        merged = 0
        for dice in dices("merge"):
            merged += assert_merged(*three_files(dice))
        assert merged > FILES // 2
