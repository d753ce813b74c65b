"""Ids: made to sort by time, found by their beginning."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.ids import ENTROPY_BYTES, make_id, resolve_prefix
from taskstore_async.core.names import check_id
from taskstore_async.core.stamp import MAX_STAMP_MS
from taskstore_async.errors import AmbiguousIdError, InvalidIdError, LimitExceededError, NotFoundError

TIMES = st.integers(0, 2**50 - 1)
ENTROPY = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES + 8)
IDS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=6)
NOTHING = bytes(ENTROPY_BYTES)


class TestMaking:
    """An id tells its kind, sorts by the time at which it was made, and is nobody else's."""

    def test_its_form(self) -> None:
        assert make_id("prd", 1_704_067_200_000, b"\x00\x01\x02\x03\x04\x05\x06\x07") == "prd-01hk153x00000820c20a1g7"
        assert make_id("", 0, NOTHING) == "0" * 23

    @given(st.sampled_from(["prd", "task", "x-1"]), TIMES, ENTROPY)
    def test_it_can_be_written_and_read_aloud(self, prefix: str, now_ms: int, entropy: bytes) -> None:
        made = make_id(prefix, now_ms, entropy)
        assert check_id(made) == made
        assert re.fullmatch(prefix + "-[0-9a-hjkmnp-tv-z]{23}", made)

    @given(TIMES, TIMES, ENTROPY, ENTROPY)
    def test_ids_sort_by_time(self, one: int, other: int, entropy: bytes, more: bytes) -> None:
        first, second = make_id("p", one, entropy), make_id("p", other, more)
        if one != other:
            assert (first < second) == (one < other)

    @given(TIMES, ENTROPY, ENTROPY)
    def test_every_random_bit_tells(self, now_ms: int, entropy: bytes, more: bytes) -> None:
        same = entropy[:ENTROPY_BYTES] == more[:ENTROPY_BYTES]
        assert (make_id("p", now_ms, entropy) == make_id("p", now_ms, more)) == same

    def test_there_are_64_random_bits(self) -> None:
        assert ENTROPY_BYTES * 8 >= 64

    def test_a_time_that_is_none_is_the_nearest(self) -> None:
        assert make_id("p", -5, NOTHING) == make_id("p", 0, NOTHING)
        assert make_id("p", MAX_STAMP_MS, NOTHING) == make_id("p", 2**50 - 1, NOTHING)

    def test_too_little_chance_is_refused(self) -> None:
        with pytest.raises(InvalidIdError, match="8 random bytes, got 7"):
            make_id("p", 0, bytes(7))

    def test_a_prefix_that_cannot_be_is_refused(self) -> None:
        with pytest.raises(InvalidIdError):
            make_id("a\n", 0, NOTHING)
        with pytest.raises(LimitExceededError):
            make_id("x" * 300, 0, NOTHING)


class TestFinding:
    """The beginning of an id is enough when it fits one only."""

    @given(st.text("ab", min_size=1, max_size=4), IDS)
    def test_it_agrees_with_a_naive_search(self, prefix: str, ids: list[str]) -> None:
        fitting = {record_id for record_id in ids if record_id[: len(prefix)] == prefix}
        if prefix in fitting or len(fitting) == 1:
            assert resolve_prefix(prefix, iter(ids), collection="plans") in {prefix, *fitting}
            assert (resolve_prefix(prefix, ids, collection="plans") == prefix) == (prefix in fitting)
        elif fitting:
            with pytest.raises(AmbiguousIdError) as several:
                resolve_prefix(prefix, iter(ids), collection="plans")
            assert several.value.candidates == tuple(sorted(fitting))
        else:
            with pytest.raises(NotFoundError) as none:
                resolve_prefix(prefix, iter(ids), collection="plans")
            assert set(none.value.near) <= set(ids)

    def test_an_exact_id_wins_over_longer_ones(self) -> None:
        assert resolve_prefix("a", ["ab", "a", "ac"], collection="plans") == "a"

    def test_several_are_named(self) -> None:
        with pytest.raises(AmbiguousIdError, match="plans") as refused:
            resolve_prefix("a", ["b", "ac", "ab"], collection="plans")
        assert (refused.value.prefix, refused.value.candidates) == ("a", ("ab", "ac"))

    def test_similar_beginnings_are_near(self) -> None:
        ids = ["prd-01hk153x00000g40r40m30e", "task-01hk153x00000g40r40m30e", "zzz"]
        with pytest.raises(NotFoundError, match="did you mean prd-01hk153x00000g40r40m30e") as refused:
            resolve_prefix("pdr-01hk", ids, collection="plans")
        assert refused.value.collection == "plans"
        with pytest.raises(NotFoundError) as refused:
            resolve_prefix("plan-10", ["plan-1", "x"], collection="plans")
        assert refused.value.near == ("plan-1",)

    def test_nothing_is_near_nothing(self) -> None:
        with pytest.raises(NotFoundError) as refused:
            resolve_prefix("a", [], collection="plans")
        assert refused.value.near == ()

    @pytest.mark.parametrize("prefix", ["", " "])
    def test_a_blank_beginning_names_no_record(self, prefix: str) -> None:
        with pytest.raises(InvalidIdError, match=r"^Record ID cannot be empty$"):
            resolve_prefix(prefix, ["a"], collection="plans")

    def test_a_stored_id_is_found_whatever_it_is(self) -> None:
        assert resolve_prefix(" ", [" ", "a"], collection="plans") == " "
        assert resolve_prefix("x" * 280, ["x" * 300], collection="plans") == "x" * 300
