"""Three-way merge of the values in a record: fields, objects, lists.

Values move as the JSON text that stands in the lines, so numbers stay exact.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping
from decimal import Decimal
from typing import Final, TypeAlias, cast

import msgspec
from msgspec.json import Decoder

from taskstore_async.core.codec import decode_exact, join_fields, same_value, split_fields
from taskstore_async.core.merge_report import FieldDecision
from taskstore_async.core.names import MAX_NESTING
from taskstore_async.core.stamp import read_stamp

__all__ = ["Fields", "ValueMerge", "fields_of", "merge_count", "same_fields"]

Fields: TypeAlias = Mapping[str, bytes]
"""A record's fields, each as JSON text."""

_Slot: TypeAlias = tuple[Hashable, int]
"""An element of a list: what it is, and which of several equal ones."""

_ITEMS: Final = Decoder(list[msgspec.Raw])
_DIGEST: Final = re.compile(r"(?:.*_)?(?:hash|digest|checksum|sha1|sha256|sha512|md5|crc32)")
_SIDES: Final = ("ours", "theirs")
_BOOL: Final = object()


class _Identified(msgspec.Struct, gc=False):
    id: str | int


_IDENTIFIED: Final = Decoder(_Identified)


def fields_of(line: bytes) -> dict[str, bytes]:
    """The fields of a line, in its order."""
    return {name: bytes(value) for name, value in split_fields(line).items()}


def same_fields(one: Fields, other: Fields) -> bool:
    """Whether two records say the same, field by field."""
    return one.keys() == other.keys() and all(same_value(one[name], other[name]) for name in one)


def merge_count(base: int, ours: int, theirs: int) -> int:
    """How many equal things there are after a merge.

    Changed on one side: what it says. Both took away: the fewest. Both added, or one added and one took away: the
    most, so that nothing added is missing and merging again changes nothing.
    """
    if ours == base:
        return theirs
    if theirs == base:
        return ours
    return min(ours, theirs) if max(ours, theirs) < base else max(ours, theirs)


class ValueMerge:
    """One merge of two versions of a record.

    Args:
        newer: The newer side, 0 (ours) or 1 (theirs): its order is kept, and it wins where the stamps decide.
        tie: The stamps are equal, so they decide nothing.
        prefer: The side whose contested values are taken; meant for ties.

    Attributes:
        decisions: What became of the values that the sides disagree on.
        contested: The paths of the values between which nothing decides.
    """

    def __init__(self, *, newer: int, tie: bool, prefer: int) -> None:
        self.decisions: list[FieldDecision] = []
        self.contested: list[str] = []
        self._newer = newer
        self._tie = tie
        self._prefer = prefer

    def fields(self, base: Fields, ours: Fields, theirs: Fields, *, path: str = "", depth: int = 0) -> dict[str, bytes]:
        """The merged fields, in the newer side's order, then what only the other has in its own."""
        first, second = (theirs, ours) if self._newer else (ours, theirs)
        merged: dict[str, bytes] = {}
        for name in (*first, *(name for name in second if name not in first)):
            where = f"{path}.{name}" if path else name
            value = self._value(where, name, base.get(name), ours.get(name), theirs.get(name), depth)
            if value is not None:
                merged[name] = value
        return merged

    def _value(  # noqa: PLR0917 - reason: called for every value
        self, path: str, name: str, base: bytes | None, ours: bytes | None, theirs: bytes | None, depth: int
    ) -> bytes | None:
        """The merged value; None for one that is not there, of either side as of the result."""
        if ours == theirs or _same(ours, theirs):
            return theirs if self._newer else ours
        if _same(base, ours):
            return self._decided(path, 1, "changed there only", theirs)
        if _same(base, theirs):
            return self._decided(path, 0, "changed there only", ours)
        if _is(ours, b"{") and _is(theirs, b"{") and depth < MAX_NESTING:
            below = fields_of(cast("bytes", base)) if _is(base, b"{") else {}
            merged = self.fields(
                below, fields_of(cast("bytes", ours)), fields_of(cast("bytes", theirs)), path=path, depth=depth + 1
            )
            return join_fields(merged)
        # An absent list is an empty one: one side emptied it, and many tools leave out what is empty.
        if _is(ours or b"[]", b"[") and _is(theirs or b"[]", b"[") and depth < MAX_NESTING:
            self.decisions.append(FieldDecision(path, "both", "by element"))
            return self._list(path, _items(base), _items(ours), _items(theirs), depth)
        return self._choose(path, name, ours, theirs)

    def _decided(self, path: str, side: int, why: str, value: bytes | None) -> bytes | None:
        self.decisions.append(FieldDecision(path, _SIDES[side], why))
        return value

    def _choose(self, path: str, name: str, ours: bytes | None, theirs: bytes | None) -> bytes | None:
        """One of two values that exclude each other."""
        values = (ours, theirs)
        if not self._tie:
            return self._decided(path, self._newer, "newer", values[self._newer])
        if name == "created_at":
            side = 0 if _age(ours) < _age(theirs) else 1
            return self._decided(path, side, "earlier", values[side])
        if _DIGEST.fullmatch(name):
            side = 0 if (ours or b"") > (theirs or b"") else 1
            return self._decided(path, side, "greater", values[side])
        self.contested.append(path)
        return self._decided(path, self._prefer, "contested", values[self._prefer])

    # -- lists ----------------------------------------------------------------------------------------------

    def _list(self, path: str, base: list[bytes], ours: list[bytes], theirs: list[bytes], depth: int) -> bytes:
        """Merge lists by element: objects by id, the rest by content and occurrence."""
        versions = [_slots(items, names) for items, names in _named((base, ours, theirs))]
        counts = [Counter(what for what, _ in version) for version in versions]
        kept: dict[_Slot, bytes] = {}
        for slot in (*versions[1], *versions[2]):
            if slot in kept:
                continue
            what, occurrence = slot
            old, mine, others = (version.get(slot) for version in versions)
            if isinstance(what, str):  # an object with an id
                value = self._element(f"{path}[{what}]", old, mine, others, depth)
            elif occurrence < merge_count(*(count[what] for count in counts)):
                value = (mine, others)[self._newer] or mine or others
            else:
                value = None
            if value is not None:
                kept[slot] = value
        first, second = (versions[2], versions[1]) if self._newer else (versions[1], versions[2])
        order = _woven([slot for slot in first if slot in kept], [slot for slot in second if slot in kept])
        return b"[" + b",".join([kept[slot] for slot in order]) + b"]"

    def _element(
        self, path: str, base: bytes | None, ours: bytes | None, theirs: bytes | None, depth: int
    ) -> bytes | None:
        """An object of a list. Removed here and modified there, it lives."""
        if ours is None or theirs is None:
            there = theirs if ours is None else ours
            return None if base is not None and _same(base, there) else there
        return self._value(path, "", base, ours, theirs, depth + 1)


def _woven(first: list[_Slot], second: list[_Slot]) -> list[_Slot]:
    """Both orders in one: *first*, and what only *second* has, after what it follows there."""
    known = set(first)
    after: dict[_Slot | None, list[_Slot]] = {}
    last: _Slot | None = None
    for slot in second:
        if slot in known:
            last = slot
        else:
            after.setdefault(last, []).append(slot)
    woven = after.get(None, [])
    for slot in first:
        woven.append(slot)
        woven += after.get(slot, ())
    return woven


def _named(versions: tuple[list[bytes], ...]) -> list[tuple[list[bytes], list[str | None]]]:
    """Each list with the ids of its elements; None where there is none, or where one list has it twice."""
    named = [(items, [_id_of(item) for item in items]) for items in versions]
    twice = {name for _, names in named for name, count in Counter(names).items() if count > 1}
    return [(items, [None if name in twice else name for name in names]) for items, names in named]


def _slots(items: list[bytes], names: list[str | None]) -> dict[_Slot, bytes]:
    seen: Counter[Hashable] = Counter()
    slots: dict[_Slot, bytes] = {}
    for item, name in zip(items, names, strict=True):
        what: Hashable = (_content(item),) if name is None else name
        slots[what, seen[what]] = item
        seen[what] += 1
    return slots


def _id_of(item: bytes) -> str | None:
    if not item.startswith(b"{"):
        return None
    try:
        return str(_IDENTIFIED.decode(item).id)
    except msgspec.DecodeError:
        return None


def _content(item: bytes) -> Hashable:
    """What two elements that say the same value have in common."""
    try:
        return _frozen(decode_exact(item))
    except (ValueError, RecursionError):
        return item


def _frozen(value: object) -> Hashable:
    if isinstance(value, dict):
        return frozenset((key, _frozen(item)) for key, item in cast("dict[str, object]", value).items())
    if isinstance(value, list):
        return tuple(_frozen(item) for item in cast("list[object]", value))
    if isinstance(value, bool):
        return (_BOOL, value)  # True is 1 to Python
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(value)
    return value


# -- values -------------------------------------------------------------------------------------------------


def _same(one: bytes | None, other: bytes | None) -> bool:
    return one == other if one is None or other is None else same_value(one, other)


def _is(value: bytes | None, opening: bytes) -> bool:
    return value is not None and value.startswith(opening)


def _items(value: bytes | None) -> list[bytes]:
    return [bytes(item) for item in _ITEMS.decode(value)] if value is not None and value.startswith(b"[") else []


def _age(value: bytes | None) -> tuple[bool, int, bytes]:
    """A key by which the earlier of two times comes first, and what is none last."""
    instant = None if value is None else read_stamp(decode_exact(value))
    return (instant is None, instant or 0, value or b"")
