"""Merging made-up journals agrees with a naive oracle, in every order and however often."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from taskstore_async.core.fold import fold
from taskstore_async.core.line import BadLine
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge import merge
from tests.core.merge_oracle import GONE, Journal, Value, expected, folded
from tests.core.merge_samples import data, dump, result, together

IDS = ("a", "b", "c")
FUTURE = 253402300800000  # the year 10000, which RFC 3339 has no text for
LAST = 2**53 - 1


# -- journals and what happens to them ----------------------------------------------------------------------

ids = st.sampled_from(IDS)
times = st.integers(1, 9)
texts = times.map(lambda ms: f"1970-01-01T00:00:00.{ms:03}Z")
BAD = [b"{torn", b"an editor's leftover", b'{"id":"a","f":', b"[]"]
elements = st.sampled_from([1, "x", True, {"id": "e1", "n": 1}, {"id": "e1", "n": 2}, {"id": 2, "m": 1}, {"k": 1}])


def records(*, capped: bool, position: bool = False, twins: bool = False) -> st.SearchStrategy[Value]:
    """Records of three ids.

    Args:
        capped: Some have the last stamp, above which no merge can write.
        position: Some have no stamp, so their position decides.
        twins: Some are two records that were given one id.
    """
    stamps: st.SearchStrategy[Any] = st.one_of(
        times, times, texts, st.just(FUTURE), *([st.just(LAST)] if capped else []), *([st.none()] if position else [])
    )
    births = {"created_at": st.sampled_from([3, 5])} if twins else {}
    made = st.fixed_dictionaries(
        {"id": ids, "updated_at": stamps, **births},
        optional={
            "f": st.integers(0, 2),
            "g": st.sampled_from(["p", "q", None]),
            "tags": st.lists(elements, max_size=3),
            "meta": st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 2)),
            "deleted": st.sampled_from([True, False, False]),
            **({} if twins else {"created_at": st.just(5)}),
        },
    )
    return made.map(lambda value: {key: item for key, item in value.items() if (key, item) != ("updated_at", None)})


@st.composite
def edited(draw: st.DrawFn, base: Journal, values: st.SearchStrategy[Value]) -> Journal:
    """What a side made of *base*: appended, edited by hand, reverted, compacted, deleted."""
    journal = list(base)
    for _ in range(draw(st.integers(1, 3))):
        step = draw(
            st.sampled_from(["append", "append", "change", "replace", "again", "compact", "remove", "touch", "move"])
        )
        if step == "append" or not journal:
            journal.append(dump(draw(values)))
            continue
        at = draw(st.integers(0, len(journal) - 1))
        value = json.loads(journal[at])
        if step == "change":
            journal.append(dump({**value, **draw(values), "id": value["id"]}))
        elif step == "replace":
            journal[at] = dump({**draw(values), "id": value["id"]})
        elif step == "again":
            journal.append(journal[at])
        elif step == "touch":
            journal[at] = dump({**value, "updated_at": draw(values).get("updated_at", 1)})
        elif step == "remove":
            del journal[at]
        elif step == "move":
            journal.append(journal.pop(at))
        else:
            journal = [state.line for state in folded(journal).values()]
    return journal


@st.composite
def merges(
    draw: st.DrawFn, *, sides: int = 2, capped: bool = False, position: bool = True, twins: bool = False
) -> tuple[Journal, ...]:
    """A base and what *sides* branches made of it."""
    values = records(capped=capped, position=position, twins=twins)
    base: Journal = [dump(value) for value in draw(st.lists(values, max_size=1 if twins else 5))]
    if draw(st.booleans()):
        base = sorted({json.loads(line)["id"]: line for line in base}.values())
    return (base, *(draw(edited(base, values)) for _ in range(sides)))


every_merge = merges(capped=True)


# -- what to look at ----------------------------------------------------------------------------------------


def answered_unread(journals: tuple[Journal, ...]) -> bool:
    """Whether one of the files is the answer, before anything is parsed."""
    base, ours, theirs = journals
    return theirs in (base, ours) or ours == base


def went_back(base: Journal, side: Journal) -> bool:
    """Whether a record that *side* has written about is to the letter what it was: git calls that side untouched."""
    before = fold(decode_lines(data(base)))
    written = fold(decode_lines(data([line for line in side if line not in base])))
    return any(
        record_id in written and record_id in before and state.line.raw == before[record_id].line.raw
        for record_id, state in fold(decode_lines(data(side))).items()
    )


class TestMadeUpJournals:
    """Merges commute byte for byte, repeat harmlessly, and fold to the three-way result."""

    @given(every_merge | merges(twins=True))
    def test_either_side_may_be_called_ours(self, journals: tuple[Journal, ...]) -> None:
        base, ours, theirs = map(data, journals)
        assert merge(base, ours, theirs).data == merge(base, theirs, ours).data

    @given(merges() | merges(twins=True))
    def test_merging_again_changes_nothing(self, journals: tuple[Journal, ...]) -> None:
        base, ours, theirs = map(data, journals)
        merged = merge(base, ours, theirs)
        assume(not merged.conflicts)
        assume(merged.data != base)  # they only wrote lines of it once more, and an untouched side is answered unread
        assert merge(base, merged.data, theirs).data == merged.data
        assert merge(base, ours, merged.data).data == merged.data

    @given(every_merge)
    def test_the_result_folds_to_the_three_way_state_of_every_record(self, journals: tuple[Journal, ...]) -> None:
        merged = merge(*map(data, journals))
        states = result(merged.data)
        for record_id in IDS:
            assert states.get(record_id, GONE) in expected(record_id, *journals), record_id

    @given(every_merge)
    def test_conflicts_are_where_the_oracle_has_two_answers(self, journals: tuple[Journal, ...]) -> None:
        assume(not answered_unread(journals))
        merged = merge(*map(data, journals))
        assert merged.conflicts == sum(len(set(expected(record_id, *journals))) > 1 for record_id in IDS)

    @given(every_merge)
    def test_every_line_of_the_result_can_be_read(self, journals: tuple[Journal, ...]) -> None:
        merged = merge(*map(data, journals))
        bad = [line.raw for line in decode_lines(merged.data) if isinstance(line, BadLine)]
        assert len(bad) == 3 * merged.conflicts

    @given(every_merge)
    def test_new_lines_of_a_record_that_is_repeated_are_kept(self, journals: tuple[Journal, ...]) -> None:
        assume(not answered_unread(journals))
        base, ours, theirs = journals
        merged = merge(*map(data, journals)).data
        lines, states = merged.splitlines(), result(merged)
        for side in (ours, theirs):
            count = Counter(json.loads(line)["id"] for line in side)
            for line in side:
                record_id = json.loads(line)["id"]
                if line not in base and count[record_id] > 1 and record_id in states:
                    assert line in lines

    @given(merges())
    def test_no_line_comes_back_that_both_sides_removed(self, journals: tuple[Journal, ...]) -> None:
        base, ours, theirs = journals
        removed = set(base) - set(ours) - set(theirs)
        assert not removed.intersection(merge(*map(data, journals)).data.splitlines())

    @given(every_merge)
    def test_no_record_is_lost_and_no_deletion_is_undone(self, journals: tuple[Journal, ...]) -> None:
        base, ours, theirs = (result(data(journal)) for journal in journals)
        merged = result(merge(*map(data, journals)).data)
        for record_id in IDS:
            was, mine, others, now = (side.get(record_id, GONE) for side in (base, ours, theirs, merged))
            if GONE not in (mine, others) or (record_id not in base and {mine, others} != {GONE}):
                assert now != GONE
            if mine == others == GONE:
                assert now == GONE
            states = [folded(journal).get(record_id) for journal in journals]
            unchanged = [state and state.line for state in states]
            if GONE in (mine, others) and was != GONE and unchanged[0] in unchanged[1:]:
                assert now == GONE

    @given(every_merge, st.booleans())
    def test_appending_is_a_shortcut_and_nothing_else(self, journals: tuple[Journal, ...], crlf: bool) -> None:  # noqa: FBT001 - reason: Hypothesis
        base, ours, theirs = journals
        appended = (base, [*base, *ours], [*base, *theirs])
        assume(base and not answered_unread(appended))
        sides = [data(journal) for journal in appended]
        # A carriage return is no part of a line, and takes the way that looks at every line.
        slowly = [side.replace(b"\n", b"\r\n") if crlf else b"\xef\xbb\xbf" + side for side in sides]
        assert merge(*slowly).data == merge(*sides).data

    @given(merges(), st.lists(st.sampled_from(BAD), max_size=2))
    def test_lines_of_the_base_that_are_no_records_change_no_law(
        self, journals: tuple[Journal, ...], bad: list[bytes]
    ) -> None:
        base, ours, theirs = (data([*journal[:2], *bad, *journal[2:]]) for journal in journals)
        assume(all(map(result, (ours, theirs))))
        merged = merge(base, ours, theirs)
        assert merge(base, theirs, ours).data == merged.data
        if not merged.conflicts and result(merged.data) and merged.data != base:
            assert merge(base, merged.data, theirs).data == merged.data
            assert merge(base, ours, merged.data).data == merged.data

    @given(merges(capped=True), st.data())
    def test_a_torn_side_loses_nothing(self, journals: tuple[Journal, ...], draw: st.DataObject) -> None:
        base, ours, theirs = journals
        ours = [*ours[: draw.draw(st.integers(1, len(ours) + 1))], draw.draw(st.sampled_from(BAD))]
        assume(result(data(ours)) and not answered_unread((base, ours, theirs)))
        merged = merge(*map(data, (base, ours, theirs)))
        assert merge(*map(data, (base, theirs, ours))).data == merged.data
        assert ours[-1] in merged.data.splitlines()
        now, others = result(merged.data), result(data(theirs))
        for record_id, what in result(data(base)).items():
            if GONE not in (what, others.get(record_id, GONE)) and record_id not in result(data(ours)):
                assert now[record_id] != GONE

    @given(merges(sides=3))
    def test_three_branches_agree_on_ids_in_every_order_and_bracketing(self, journals: tuple[Journal, ...]) -> None:
        assume(not any(went_back(journals[0], side) for side in journals[1:]))  # a revert of what others still have
        base, *sides = map(data, journals)
        found = {
            frozenset(record_id for record_id, what in result(merged).items() if what != GONE)
            for merged in together(base, sides)
        }
        assert len(found) <= 1
