"""Three-way merge of one record: what it is after a merge, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.codec import join_fields, same_value
from taskstore_async.core.fold import Folded, effective
from taskstore_async.core.merge_report import Decision, Rule, Sides
from taskstore_async.core.merge_stamp import STAMP, restamped, stamp_above, stamp_of
from taskstore_async.core.merge_values import Fields, ValueMerge, fields_of, same_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskstore_async.core.line import Line

__all__ = ["Outcome", "Versions", "decide", "instants", "sides_of", "state"]


class Versions(msgspec.Struct):
    """The lines of one record in the three files, each in its file's order."""

    base: list[Line]
    ours: list[Line]
    theirs: list[Line]


class Outcome(msgspec.Struct, frozen=True):
    """What a record is after a merge.

    Attributes:
        lines: Its line; none when nothing is left of it, not even a tombstone; two when it is in conflict.
        decision: What to report; None when only one side changed it, or both did the same.
        changed_by: ``ours``, ``theirs`` or ``both``; empty when nothing but lines that lose was changed.
        sides: Which of the two lines of a conflict is whose.
    """

    lines: tuple[bytes, ...]
    decision: Decision | None = None
    changed_by: str = "both"
    sides: Sides | None = None


def instants(lines: Sequence[Line]) -> list[int]:
    """The instant that each of a record's lines counts with, where it stands."""
    found: list[int] = []
    above: int | None = None
    for line in lines:
        instant = effective(line, above)
        found.append(instant)
        above = instant if above is None else max(above, instant)
    return found


def state(lines: Sequence[Line]) -> Folded | None:
    """The fold of one record's lines; None without lines."""
    if not lines:
        return None
    counted = instants(lines)
    _, place = max((instant, place) for place, instant in enumerate(counted))
    return Folded(lines[place], counted[place])


def sides_of(versions: Versions) -> Sides:
    """What each side's lines of a record fold to."""
    return Sides(_raw(state(versions.ours)), _raw(state(versions.theirs)))


def decide(record_id: str, versions: Versions) -> Outcome:
    """Merge one record.

    Neither side may be two records under one id: that is settled before.
    """
    base, ours, theirs = state(versions.base), state(versions.ours), state(versions.theirs)
    old, mine, others = _raw(base), _raw(ours), _raw(theirs)
    if mine == others:
        return Outcome(_lines(ours), changed_by="" if mine == old else "both")
    if mine == old:
        return Outcome(_lines(theirs), changed_by="theirs")
    if others == old:
        return Outcome(_lines(ours), changed_by="ours")
    if ours is not None and theirs is not None:
        theirs_is_past = _is_past(theirs, of=versions.ours, now=ours, old=versions.base)
        ours_is_past = _is_past(ours, of=versions.theirs, now=theirs, old=versions.base)
        if theirs_is_past != ours_is_past:  # both: only the order of equal stamps differs, and that is no past
            return Outcome(_lines(ours if theirs_is_past else theirs), Decision(record_id, Rule.PAST))
        if not ours.line.deleted and not theirs.line.deleted:
            return _both_alive(record_id, base, ours, theirs)
    return _with_deletion(record_id, base, ours, theirs)


def _both_alive(record_id: str, base: Folded | None, ours: Folded, theirs: Folded) -> Outcome:
    """Merge a record that stands, in other bytes, on both sides: by its values."""
    if same_value(ours.line.raw, theirs.line.raw):
        return Outcome((min(ours.line.raw, theirs.line.raw),))
    if base is not None and same_value(base.line.raw, ours.line.raw):
        return Outcome((theirs.line.raw,), changed_by="theirs")
    if base is not None and same_value(base.line.raw, theirs.line.raw):
        return Outcome((ours.line.raw,), changed_by="ours")
    before = {} if base is None or base.line.deleted else fields_of(base.line.raw)
    return _by_field(record_id, before, ours, theirs)


def _is_past(version: Folded, *, of: Sequence[Line], now: Folded, old: Sequence[Line]) -> bool:
    """Whether *version* is a line that the side *of* went through after the base, and has left behind.

    Such a change came to that side by a cherry-pick, say. One that it went through *before* the base is a revert, and
    so is one that stands in the base.
    """
    raw = version.line.raw
    if raw == now.line.raw or any(line.raw == raw for line in old):
        return False
    counted = instants(of)
    ranks = [(counted[place], place) for place, line in enumerate(of) if line.raw == raw]
    base = state(old)
    if not ranks or base is None:
        return bool(ranks)
    of_base = [(counted[place], place) for place, line in enumerate(of) if line.raw == base.line.raw]
    if of_base:
        return max(ranks) > max(of_base)
    # The base's line is not there any more to tell before from after: the stamp does, if it says anything.
    stamp = version.line.instant
    return stamp is None or stamp >= base.instant


def _with_deletion(record_id: str, base: Folded | None, ours: Folded | None, theirs: Folded | None) -> Outcome:
    """Merge a record that at least one side has deleted, with a tombstone or without."""
    alive = [side for side in (ours, theirs) if side is not None and not side.line.deleted]
    tombstones = [side for side in (ours, theirs) if side is not None and side.line.deleted]
    if not alive:
        return Outcome((max(tombstones, key=_rank).line.raw,))
    (living,) = alive
    who = "ours" if living is ours else "theirs"
    if base is not None and not base.line.deleted and same_value(base.line.raw, living.line.raw):
        return Outcome(_lines(tombstones[0] if tombstones else None), changed_by="theirs" if who == "ours" else "ours")
    if not tombstones and (base is None or base.line.deleted):  # the other side purged a tombstone, no record
        return Outcome((living.line.raw,), changed_by=who)
    line = living.line.raw
    if tombstones and tombstones[0].instant > living.instant:
        # Above the base too: a line that is the base's again would look untouched to the next merge.
        above = max(tombstones[0].instant, 0 if base is None else base.instant)
        line = restamped(line, stamp_above(above, stamp_of(tombstones[0].line.raw)))
    return Outcome((line,), Decision(record_id, Rule.MODIFIED_LIVES, note=f"modified by {who}"))


def _by_field(record_id: str, before: Fields, ours: Folded, theirs: Folded) -> Outcome:
    sides = (ours, theirs)
    newer = 0 if _rank(ours) > _rank(theirs) else 1
    tie = ours.instant == theirs.instant
    contents = [fields_of(side.line.raw) for side in sides]
    for content in contents:
        content["id"] = contents[newer]["id"]  # one may be an integer, the other its text
    old, mine, others = (
        {name: value for name, value in fields.items() if name != STAMP} for fields in (before, *contents)
    )

    def merged(prefer: int) -> tuple[ValueMerge, dict[str, bytes]]:
        merge = ValueMerge(newer=newer, tie=tie, prefer=prefer)
        return merge, merge.fields(old, mine, others)

    merge, fields = merged(newer)
    results = [fields] if not merge.contested else [fields, merged(1 - newer)[1]]
    known = [_known(result, (mine, others), newer=newer, tie=tie) for result in results]
    if None not in known:
        lines = [sides[side].line.raw for side in known if side is not None]
    else:
        stamp = stamp_above(max(ours.instant, theirs.instant), stamp_of(sides[newer].line.raw))
        lines = [_stamped(result, stamp, like=contents[newer]) for result in results]
    rule = Rule.CONFLICT if merge.contested else Rule.FIELDS if None in known else Rule.NEWEST
    preferring = lines if newer == 0 else lines[::-1]
    whose = Sides(*preferring) if merge.contested else None
    return Outcome(tuple(sorted(lines)), Decision(record_id, rule, tuple(merge.decisions)), sides=whose)


def _known(result: Fields, contents: tuple[Fields, Fields], *, newer: int, tie: bool) -> int | None:
    """The side whose newest version *result* is, but for the stamp; None when it is a version of its own."""
    if same_fields(result, contents[newer]):
        return newer
    return 1 - newer if tie and same_fields(result, contents[1 - newer]) else None


def _stamped(fields: dict[str, bytes], stamp: bytes, *, like: Fields) -> bytes:
    """The line of *fields*, with the stamp where *like* has it."""
    if STAMP not in like:
        return join_fields({**fields, STAMP: stamp})
    place = list(like).index(STAMP)
    names = list(fields)
    after = next((name for name in list(like)[place + 1 :] if name in fields), None)
    at = len([name for name in names if name in like]) if after is None else names.index(after)
    return join_fields({name: stamp if name == STAMP else fields[name] for name in (*names[:at], STAMP, *names[at:])})


def _rank(side: Folded) -> tuple[int, bool, bytes]:
    """A key by which the newer version comes last, whichever side it is on; of equals one with a stamp of its own."""
    return (side.instant, side.line.instant is not None, side.line.raw)


def _raw(side: Folded | None) -> bytes | None:
    return None if side is None else side.line.raw


def _lines(side: Folded | None) -> tuple[bytes, ...]:
    return () if side is None else (side.line.raw,)
