"""What a merge must come to, told naively: made of decoded values, a record at a time, and slow.

It shares no code with the merge but the reading of stamps.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from taskstore_async.core.stamp import read_stamp

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["GONE", "Journal", "Value", "content", "expected", "folded"]

Value: TypeAlias = dict[str, Any]
Journal: TypeAlias = list[bytes]
"""Lines without their ends, each a record's."""

GONE: Final = "gone"
MISSING: Final = object()


class State(NamedTuple):
    """The winning line of a record."""

    at: int
    place: int
    line: bytes
    value: Value


def versions(journal: Journal, record_id: str) -> list[State]:
    """A record's lines, each with the instant that it counts with."""
    found: list[State] = []
    for place, line in enumerate(journal):
        value = json.loads(line)
        if str(value["id"]) != record_id:
            continue
        at = read_stamp(value.get("updated_at"))
        if at is None:
            at = max([read_stamp(value.get("created_at")) or 0, *(above.at for above in found)])
        found.append(State(at, place, line, value))
    return found


def folded(journal: Journal) -> dict[str, State]:
    """The state of every record."""
    ids = dict.fromkeys(str(json.loads(line)["id"]) for line in journal)
    return {record_id: max(versions(journal, record_id), key=lambda state: state[:2]) for record_id in ids}


def frozen(value: object) -> Hashable:
    """A value as something to compare; lists without their order."""
    if isinstance(value, dict):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return frozenset(Counter(frozen(item) for item in value).items())
    return (type(value).__name__, value)


def content(value: Value | None) -> Hashable:
    """What a record says, but for its stamp."""
    if value is None or value.get("deleted") is True:
        return GONE
    return frozen({**unstamped(value), "id": str(value["id"])})


def unstamped(value: Value) -> Value:
    return {key: item for key, item in value.items() if key != "updated_at"}


def expected(  # noqa: PLR0911 - reason: a rule each
    record_id: str, base: Journal, ours: Journal, theirs: Journal
) -> list[Hashable]:
    """What the record may be after the merge: one content, or two that are in conflict."""
    b, o, t = (folded(journal).get(record_id) for journal in (base, ours, theirs))
    old, mine, others = (None if state is None else state.line for state in (b, o, t))
    said = [content(None if state is None else state.value) for state in (b, o, t)]
    if others in {mine, old}:
        return [said[1]]
    if mine == old:
        return [said[2]]
    if o and t:
        earlier = [state.line for state in versions(base, record_id)]
        past = tuple(
            is_past(versions(side, record_id), line, b, earlier) for side, line in ((ours, t.line), (theirs, o.line))
        )
        if past in {(True, False), (False, True)}:
            return [said[1] if past[0] else said[2]]
    if GONE in said[1:]:
        living, what = (o, said[1]) if said[2] == GONE else (t, said[2])
        untouched = b and said[0] != GONE and living and frozen(b.value) == frozen(living.value)
        return [GONE if untouched else what]
    assert o is not None
    assert t is not None
    if b and frozen(b.value) == frozen(o.value):
        return [said[2]]
    if b and frozen(b.value) == frozen(t.value):
        return [said[1]]
    before = {} if b is None or said[0] == GONE else unstamped(b.value)
    prefer = [0, 1] if o.at == t.at else [0 if o.at > t.at else 1]
    return [content(three_way(before, unstamped(o.value), unstamped(t.value), side)) for side in prefer]


def is_past(went_through: list[State], line: bytes, base: State | None, before: list[bytes]) -> bool:
    """Whether a side has *line* behind it, after the base's line."""
    ranked = sorted(went_through)
    if line == ranked[-1].line or line in before or line not in [state.line for state in ranked]:
        return False
    where = max(state for state in ranked if state.line == line)
    if base is None:
        return True
    old = [state for state in ranked if state.line == base.line]
    if old:
        return where > max(old)
    stamp = read_stamp(where.value.get("updated_at"))
    return stamp is None or stamp >= base.at


def same(one: object, other: object) -> bool:
    return one is other or (MISSING not in (one, other) and frozen(one) == frozen(other))


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
    sides = (base, ours, theirs)
    counted = [Counter(str(item["id"]) for item in side if isinstance(item, dict) and "id" in item) for side in sides]
    names = {name for side in counted for name in side if all(count[name] < 2 for count in counted)}
    made: list[Any] = []
    for name in names:
        old, mine, others = (find(side, name) for side in sides)
        if MISSING in (mine, others):
            left = others if mine is MISSING else mine
            if left is not MISSING and (old is MISSING or frozen(old) != frozen(left)):
                made.append(left)
        else:
            made.append(three_way(old, mine, others, prefer))
    rest = [[item for item in side if not (isinstance(item, dict) and str(item.get("id")) in names)] for side in sides]
    counts = [Counter(frozen(item) for item in side) for side in rest]
    for what in {*counts[1], *counts[2]}:
        b, o, t = (count[what] for count in counts)
        n = t if o == b else o if t == b else min(o, t) if o < b and t < b else max(o, t)
        example = next(item for side in rest for item in side if frozen(item) == what)
        made += [example] * n
    return made


def find(items: list[Any], name: str) -> Any:  # noqa: ANN401 - reason: JSON
    return next((item for item in items if isinstance(item, dict) and str(item.get("id")) == name), MISSING)
