"""Merging made-up journals agrees with a naive oracle, in every order and however often."""

from __future__ import annotations

import json
from collections import Counter
from itertools import permutations
from typing import TYPE_CHECKING, Any, TypeAlias

from hypothesis import assume, given
from hypothesis import strategies as st

from taskstore_async.core.codec import BadLine, decode_lines
from taskstore_async.core.fold import fold
from taskstore_async.core.merge import merge
from taskstore_async.core.stamp import read_stamp

if TYPE_CHECKING:
    from collections.abc import Hashable

Value: TypeAlias = dict[str, Any]
Journal: TypeAlias = list[bytes]

LAST = 2**53 - 1
RFC = {stamp: f"1970-01-01T00:00:00.{stamp:03}Z" for stamp in range(20)}


def dump(value: Value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def data(journal: Journal) -> bytes:
    return b"".join(line + b"\n" for line in journal)


# -- journals and what happens to them ----------------------------------------------------------------------

ids = st.sampled_from(["a", "b", "c"])
stamps = st.integers(1, 9).flatmap(lambda ms: st.sampled_from([ms, RFC[ms]])) | st.sampled_from([253402300800000, LAST])
elements = st.sampled_from([1, "x", True, {"id": "e1", "n": 1}, {"id": "e1", "n": 2}, {"id": 2, "m": 1}, {"k": 1}])
values = st.fixed_dictionaries(
    {"id": ids, "updated_at": stamps},
    optional={
        "f": st.integers(0, 2),
        "g": st.sampled_from(["p", "q", None]),
        "tags": st.lists(elements, max_size=3),
        "meta": st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 2)),
        "deleted": st.sampled_from([True, False, False]),
    },
)


@st.composite
def edited(draw: st.DrawFn, base: Journal) -> Journal:
    """What a side made of *base*: appended, edited by hand, reverted, compacted, deleted."""
    journal = list(base)
    for _ in range(draw(st.integers(0, 3))):
        step = draw(st.sampled_from(["append", "append", "change", "replace", "again", "compact", "remove", "touch"]))
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
            journal[at] = dump({**value, "updated_at": draw(stamps)})
        elif step == "remove":
            del journal[at]
        else:
            journal = [winner["line"] for winner in folded(journal).values()]
    return journal


@st.composite
def merges(draw: st.DrawFn, sides: int = 2) -> tuple[Journal, ...]:
    base: Journal = [dump(value) for value in draw(st.lists(values, max_size=5))]
    if draw(st.booleans()):
        base = sorted({json.loads(line)["id"]: line for line in base}.values())
    return (base, *(draw(edited(base)) for _ in range(sides)))


# -- the oracle: naive, and made of decoded values ----------------------------------------------------------

GONE = "gone"


def folded(journal: Journal) -> dict[str, Value]:
    best: dict[str, Value] = {}
    for place, line in enumerate(journal):
        value = json.loads(line)
        at = read_stamp(value["updated_at"])
        if value["id"] not in best or at >= best[value["id"]]["at"]:
            best[value["id"]] = {"at": at, "line": line, "value": value, "place": place}
    return best


def frozen(value: object) -> Hashable:
    if isinstance(value, dict):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return frozenset(Counter(frozen(item) for item in value).items())
    return (type(value).__name__, value)


def content(side: Value | None) -> Hashable:
    """What a state says, but for its stamp; lists without their order."""
    if side is None or side["value"].get("deleted") is True:
        return GONE
    return frozen({key: item for key, item in side["value"].items() if key != "updated_at"})


MISSING = object()


def same(one: object, other: object) -> bool:
    return one is other or (MISSING not in (one, other) and frozen(one) == frozen(other))


def find(items: list[Any], name: str) -> Any:  # noqa: ANN401 - reason: JSON
    return next((item for item in items if isinstance(item, dict) and str(item.get("id")) == name), MISSING)


def three_way(base: Any, ours: Any, theirs: Any, prefer: int) -> Any:  # noqa: ANN401 - reason: JSON
    if same(ours, theirs) or same(base, theirs):
        return ours
    if same(base, ours):
        return theirs
    if isinstance(ours, dict) and isinstance(theirs, dict):
        before = base if isinstance(base, dict) else {}
        made = {
            key: three_way(before.get(key, MISSING), ours.get(key, MISSING), theirs.get(key, MISSING), prefer)
            for key in {*ours, *theirs}
        }
        return {key: item for key, item in made.items() if item is not MISSING}
    mine, others = ([] if side is MISSING else side for side in (ours, theirs))
    if isinstance(mine, list) and isinstance(others, list):
        return three_way_list(base if isinstance(base, list) else [], mine, others, prefer)
    return (ours, theirs)[prefer]


def three_way_list(base: list[Any], ours: list[Any], theirs: list[Any], prefer: int) -> list[Any]:
    def named(items: list[Any]) -> Counter[str]:
        return Counter(str(item["id"]) for item in items if isinstance(item, dict) and "id" in item)

    names = {name for side in (base, ours, theirs) for name in named(side)}
    names = {name for name in names if all(named(side)[name] < 2 for side in (base, ours, theirs))}
    made: list[Any] = []
    for name in names:
        old, mine, others = (find(side, name) for side in (base, ours, theirs))
        if MISSING in (mine, others):
            left = others if mine is MISSING else mine
            if left is not MISSING and (old is MISSING or frozen(old) != frozen(left)):
                made.append(left)
        else:
            made.append(three_way(old, mine, others, prefer))
    rest = [
        [item for item in side if not (isinstance(item, dict) and str(item.get("id")) in names)]
        for side in (base, ours, theirs)
    ]
    counts = [Counter(frozen(item) for item in side) for side in rest]
    for what in {*counts[1], *counts[2]}:
        b, o, t = (count[what] for count in counts)
        n = t if o == b else o if t == b else min(o, t) if o < b and t < b else max(o, t)
        example = next(item for side in rest for item in side if frozen(item) == what)
        made += [example] * n
    return made


def is_past(journal: Journal, line: bytes, base: Value | None) -> bool:
    """Whether a side whose file is *journal* has *line* behind it, after the base's line."""
    versions = sorted((read_stamp(json.loads(each)["updated_at"]), place, each) for place, each in enumerate(journal))
    mine = [each for each in versions if json.loads(each[2])["id"] == json.loads(line)["id"]]
    if line == mine[-1][2] or line not in [each[2] for each in mine]:
        return False
    where = max(each for each in mine if each[2] == line)
    if base is None:
        return True
    old = [each for each in mine if each[2] == base["line"]]
    return where > max(old) if old else where[0] > base["at"]


def unstamped(side: Value) -> Value:
    return {key: item for key, item in side["value"].items() if key != "updated_at"}


def expected(  # noqa: PLR0911 - reason: a rule each
    record_id: str, base: Journal, ours: Journal, theirs: Journal
) -> list[Hashable]:
    """What the record may be after the merge: one content, or two that are in conflict."""
    b, o, t = (folded(journal).get(record_id) for journal in (base, ours, theirs))
    raws = [None if side is None else side["line"] for side in (b, o, t)]
    if raws[1] == raws[2] or raws[2] == raws[0]:
        return [content(o)]
    if raws[1] == raws[0]:
        return [content(t)]
    if o and t and is_past(ours, t["line"], b):
        return [content(o)]
    if o and t and is_past(theirs, o["line"], b):
        return [content(t)]
    if GONE in (content(o), content(t)):
        living = o if content(t) == GONE else t
        if (
            living is None
            or content(living) == GONE
            or (b and content(b) != GONE and frozen(b["value"]) == frozen(living["value"]))
        ):
            return [GONE]
        return [content(living)]
    assert o is not None
    assert t is not None
    if b and frozen(b["value"]) == frozen(o["value"]):
        return [content(t)]
    if b and frozen(b["value"]) == frozen(t["value"]):
        return [content(o)]
    before = {} if b is None or content(b) == GONE else unstamped(b)
    prefer = [0, 1] if o["at"] == t["at"] else [0 if o["at"] > t["at"] else 1]
    return [frozen(three_way(before, unstamped(o), unstamped(t), side)) for side in prefer]


def result(merged: bytes) -> dict[str, Hashable]:
    return {
        record_id: content({"value": json.loads(state.line.raw)})
        for record_id, state in fold(decode_lines(merged)).items()
    }


def can_be_raised(journals: tuple[Journal, ...]) -> bool:
    """Whether a merge can stamp above every line. At the last stamp it cannot: what it makes may be the base's line."""
    return not any(str(LAST).encode() in line for journal in journals for line in journal)


def repeats_what_another_dropped(journals: tuple[Journal, ...]) -> bool:
    """Whether a file has one line twice, byte for byte, and a side did more than append.

    Which of the two a merge then keeps is a matter of order alone; the state is right either way.
    """
    base = journals[0]
    appended = all(side[: len(base)] == base for side in journals)
    return not appended and any(len(set(journal)) < len(journal) for journal in journals)


class TestMadeUpJournals:
    """Merges commute byte for byte, repeat harmlessly, and fold to the three-way result."""

    @given(merges())
    def test_either_side_may_be_called_ours(self, journals: tuple[Journal, ...]) -> None:
        base, ours, theirs = map(data, journals)
        assert merge(base, ours, theirs).data == merge(base, theirs, ours).data

    @given(merges())
    def test_merging_again_changes_nothing(self, journals: tuple[Journal, ...]) -> None:
        assume(can_be_raised(journals) and not repeats_what_another_dropped(journals))
        base, ours, theirs = map(data, journals)
        merged = merge(base, ours, theirs)
        assume(not merged.conflicts)
        # Both sides only repeated lines of the base: nothing to merge, and an untouched side is answered unread.
        assume(merged.data != base)
        assert merge(base, merged.data, theirs).data == merged.data
        assert merge(base, ours, merged.data).data == merged.data

    @given(merges())
    def test_the_result_folds_to_the_three_way_state_of_every_record(self, journals: tuple[Journal, ...]) -> None:
        merged = merge(*map(data, journals))
        states = result(merged.data)
        for record_id in "abc":
            wanted = expected(record_id, *journals)
            assert states.get(record_id, GONE) in wanted, record_id

    @given(merges())
    def test_conflicts_are_where_the_oracle_has_two_answers(self, journals: tuple[Journal, ...]) -> None:
        merged = merge(*map(data, journals))
        if journals[2] not in (journals[0], journals[1]) and journals[0] != journals[1]:
            assert merged.conflicts == sum(len(set(expected(record_id, *journals))) > 1 for record_id in "abc")

    @given(merges())
    def test_every_line_of_the_result_can_be_read(self, journals: tuple[Journal, ...]) -> None:
        merged = merge(*map(data, journals))
        bad = [line.raw for line in decode_lines(merged.data) if isinstance(line, BadLine)]
        assert len(bad) == 3 * merged.conflicts

    @given(merges())
    def test_new_lines_of_a_record_that_is_repeated_are_kept(self, journals: tuple[Journal, ...]) -> None:
        base, ours, theirs = journals
        merged = merge(*map(data, journals)).data.splitlines()
        if theirs in (base, ours) or ours == base:
            return
        states = result(data([line for line in merged if line.startswith(b"{")]))
        for side in (ours, theirs):
            count = Counter(json.loads(line)["id"] for line in side)
            for line in side:
                record_id = json.loads(line)["id"]
                if line not in base and count[record_id] > 1 and record_id in states:
                    assert line in merged

    @given(merges(sides=3))
    def test_three_branches_agree_on_ids_in_every_order(self, journals: tuple[Journal, ...]) -> None:
        assume(can_be_raised(journals))
        base, *sides = map(data, journals)
        found = set()
        for first, second, third in permutations(sides):
            step = merge(base, first, second)
            last = merge(base, step.data, third)
            if step.conflicts or last.conflicts:
                continue
            found.add(frozenset(key for key, item in result(last.data).items() if item != GONE))
        assert len(found) <= 1

    @given(st.permutations([0, 1, 2]), st.data())
    def test_three_branches_agree_on_one_sided_fields_and_list_elements(
        self, order: list[int], draw: st.DataObject
    ) -> None:
        base: Value = {"id": "a", "x0": 0, "x1": 0, "x2": 0, "tags": [1, 2, 3], "updated_at": 1}
        branches: list[Value] = []
        for branch in range(3):
            tags = [tag for tag in base["tags"] if draw.draw(st.booleans())] + draw.draw(
                st.lists(st.integers(4, 6), unique=True, max_size=2)
            )
            branches.append(
                {**base, f"x{branch}": branch + 1, "tags": tags, "updated_at": draw.draw(st.integers(2, 9))}
            )
        lines = [dump(branch) + b"\n" for branch in branches]
        root = dump(base) + b"\n"
        left = merge(root, merge(root, lines[order[0]], lines[order[1]]).data, lines[order[2]])
        right = merge(root, lines[order[0]], merge(root, lines[order[1]], lines[order[2]]).data)
        wanted = {tag for tag in range(1, 4) if all(tag in branch["tags"] for branch in branches)}
        wanted |= {tag for branch in branches for tag in branch["tags"] if tag > 3}
        for merged in (left, right):
            (state,) = (json.loads(found.line.raw) for found in fold(decode_lines(merged.data)).values())
            assert (state["x0"], state["x1"], state["x2"]) == (1, 2, 3)
            assert set(state["tags"]) == wanted

    @given(merges(), st.booleans())
    def test_appending_is_a_shortcut_and_nothing_else(self, journals: tuple[Journal, ...], crlf: bool) -> None:  # noqa: FBT001 - reason: Hypothesis
        base, ours, theirs = journals
        ours, theirs = [*base, *ours], [*base, *theirs]
        sides = [data(journal) for journal in (base, ours, theirs)]
        # A carriage return is no part of a line, and takes the way that looks at every line.
        slowly = [side.replace(b"\n", b"\r\n") if crlf else b"\xef\xbb\xbf" + side for side in sides]
        if not base or ours == theirs or base in (ours, theirs):
            return
        assert merge(*slowly).data == merge(*sides).data
