"""Three branches, merged in any order and bracketing; and records that branches created under one id."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.fold import fold
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge import merge
from tests.core.merge_oracle import GONE, Journal, Value, content
from tests.core.merge_samples import data, dump, result, together

if TYPE_CHECKING:
    from collections.abc import Sequence

IDS = ("a", "b", "c")


def original(record_id: str) -> Value:
    return {
        "id": record_id,
        "x0": 0,
        "x1": 0,
        "x2": 0,
        "m": {"y0": 0, "y1": 0, "y2": 0},
        "tags": [1, 2, 3],
        "updated_at": 1,
    }


BASE: Journal = [dump(original(record_id)) for record_id in IDS]


class Branch(NamedTuple):
    """What one branch did: to which records, and what its file is then."""

    journal: Journal
    changed: dict[str, Value]
    deleted: set[str]


@st.composite
def branches(draw: st.DrawFn, number: int) -> Branch:
    """A branch that changes only what is its own: fields, values in an object, elements, records."""
    journal = list(BASE)
    changed: dict[str, Value] = {}
    deleted: set[str] = set()
    for record_id in IDS:
        old, at = original(record_id), draw(st.integers(2, 9))
        place = journal.index(dump(old))
        step = draw(st.sampled_from(["nothing", "edit", "append", "remove", "tombstone"]))
        if step in {"edit", "append"}:
            tags = [tag for tag in old["tags"] if draw(st.booleans())]
            tags += draw(st.lists(st.integers(4, 6), unique=True, max_size=2))
            tags += [{"id": f"e{number}", "n": number}] if draw(st.booleans()) else []
            own = {f"x{number}": 1, "m": {**old["m"], f"y{number}": 1}, "tags": tags, "updated_at": at}
            changed[record_id] = {**old, **own}
            journal[place : place + (step == "edit")] = [dump(changed[record_id])]
            if step == "append":
                journal[place : place + 2] = journal[place : place + 2][::-1]
        elif step != "nothing":
            deleted.add(record_id)
            gone = dump({"id": record_id, "deleted": True, "updated_at": at})
            journal[place : place + 1] = [gone] if step == "tombstone" else []
    return Branch(journal, changed, deleted)


def united(made: Sequence[Branch]) -> dict[str, Value]:
    """What is to come of *made*, whatever the order."""
    wanted: dict[str, Value] = {}
    for record_id in IDS:
        old = original(record_id)
        versions = [branch.changed[record_id] for branch in made if record_id in branch.changed]
        if not versions and any(record_id in branch.deleted for branch in made):
            continue
        for version in versions:
            old = {**old, **{name: version[name] for name in ("x0", "x1", "x2") if version[name]}}
            old["m"] = {name: old["m"][name] or version["m"][name] for name in old["m"]}
            dropped = [tag for tag in original(record_id)["tags"] if tag not in version["tags"]]
            added = [tag for tag in version["tags"] if tag not in old["tags"]]
            old["tags"] = [tag for tag in old["tags"] if tag not in dropped] + [
                tag for tag in added if tag not in (1, 2, 3)
            ]
        wanted[record_id] = old
    return wanted


class TestThreeBranches:
    """Merged in any order and bracketing, three branches agree on ids, one-sided fields and elements of lists."""

    @given(st.tuples(branches(0), branches(1), branches(2)))
    def test_nothing_contested_depends_on_the_order(self, made: tuple[Branch, ...]) -> None:
        outcomes = list(together(data(BASE), [data(branch.journal) for branch in made]))
        assert len(outcomes) == 12
        wanted = {record_id: content(value) for record_id, value in united(made).items()}
        for merged in outcomes:
            assert {record_id: said for record_id, said in result(merged).items() if said != GONE} == wanted


@st.composite
def rivals(draw: st.DrawFn, sides: int) -> list[Journal]:
    """Branches that each created a record under one id, with a child that refers to it."""
    created = draw(st.lists(st.integers(1, 9), min_size=sides, max_size=sides, unique=True))
    journals: list[Journal] = []
    for branch in range(sides):
        times = draw(st.lists(st.integers(10, 19), min_size=1, max_size=3))
        record = {"id": "t-1", "created_at": created[branch], "title": f"{branch}" * 20}
        journal = [dump({**record, "n": number, "updated_at": at}) for number, at in enumerate(times)]
        journal.append(dump({"id": f"child-{branch}", "parent_id": "t-1", "updated_at": draw(st.integers(10, 19))}))
        journals.append(draw(st.permutations(journal)))
    return journals


class TestRivalsForAnId:
    """Records that branches created under one id all live, and their children know them, in any order."""

    @given(rivals(2), st.booleans())
    def test_two(self, journals: list[Journal], tombstone: bool) -> None:  # noqa: FBT001 - reason: Hypothesis
        base = [dump({"id": "t-1", "deleted": True, "updated_at": 0})] if tombstone else []
        old, ours, theirs = data(base), data(base + journals[0]), data(base + journals[1])
        merged = merge(old, ours, theirs)
        assert merge(old, theirs, ours).data == merged.data
        assert merge(old, merged.data, theirs).data == merged.data
        assert merge(old, ours, merged.data).data == merged.data
        self.check(merged.data, 2)

    @given(rivals(3))
    def test_three(self, journals: list[Journal]) -> None:
        outcomes = list(together(b"", [data(journal) for journal in journals]))
        assert len(outcomes) == 12
        for merged in outcomes:
            self.check(merged, 3)
        assert len({frozenset(result(merged).items()) for merged in outcomes}) == 1

    def check(self, merged: bytes, count: int) -> None:
        found = {record_id: json.loads(state.line.raw) for record_id, state in fold(decode_lines(merged)).items()}
        assert len(found) == 2 * count
        for branch in range(count):
            assert found[found[f"child-{branch}"]["parent_id"]]["title"] == f"{branch}" * 20
