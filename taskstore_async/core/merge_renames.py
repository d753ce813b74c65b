"""Two records under one id: which is which, and who referred to which.

Both sides created a record under the same id. The older keeps it; the younger gets an id made of what it is, so that
later merges of the same branches know it again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from msgspec.json import Decoder

from taskstore_async.core.codec import decode_exact, join_fields, same_value, split_fields
from taskstore_async.core.line import Line, decode_line
from taskstore_async.core.merge_report import Decision, Rule
from taskstore_async.core.merge_state import Versions, state
from taskstore_async.core.merge_values import fields_of
from taskstore_async.core.names import MAX_NESTING

__all__ = ["derived_id", "separate"]

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_DERIVED: Final = re.compile(r"(.*)-[0-9a-f]{10}", re.DOTALL)
_ITEMS: Final = Decoder(list[msgspec.Raw])
_OWN: Final = frozenset({"id", "created_at", "updated_at"})
_Records: TypeAlias = dict[str, Versions]


def separate(records: _Records, *, references: Collection[str] = ()) -> list[Decision]:
    """Give every record an id of its own.

    Args:
        records: The lines of the records that a side changed, by id; changed in place.
        references: Further fields that hold ids of these records; those called ``..._id`` and ``..._ids`` do anyway.

    Returns:
        What was decided.
    """
    decisions: list[Decision] = []
    renames: dict[str, dict[str, str]] = {"ours": {}, "theirs": {}}
    _recognise(records, renames)
    for record_id in list(records):
        younger = _younger(records[record_id])
        if younger is None:
            continue
        side, line = younger
        versions = records[record_id]
        new_id = derived_id(record_id, line)
        old = {known.raw for known in versions.base}
        _move(records, record_id, new_id, side, lambda line, old=old: line.raw not in old)  # type: ignore[misc]  # reason: a default that binds the loop's value
        renames[side][record_id] = new_id
    for side, renamed in renames.items():
        decisions += [Decision(old, Rule.RENAMED, note=f"{side}: now {new}") for old, new in renamed.items()]
        if renamed:
            decisions += _refer(records, side, renamed, frozenset(references))
    return decisions


def derived_id(record_id: str, line: Line) -> str:
    """The id of the younger of two records under one id: made of its identity, not of its content."""
    from hashlib import sha256  # noqa: PLC0415 - reason: slow to load, and next to no merge needs it

    identity = msgspec.json.encode([record_id, _created(line)])
    return f"{record_id}-{sha256(identity).hexdigest()[:10]}"


def _created(line: Line) -> str | None:
    """When a record was created, in one spelling for all forms; None when it does not say."""
    instant = line.created
    if instant is not None:
        return str(instant)
    raw = split_fields(line.raw).get("created_at")
    return None if raw is None or bytes(raw) == b"null" else bytes(raw).decode()


def _younger(  # noqa: PLR0911 - reason: one question after the other, the cheap ones first
    versions: Versions,
) -> tuple[str, Line] | None:
    """The side that has to give up the id, and its line; None when both mean the same record."""
    if not (versions.ours and versions.theirs) or (versions.base and not any(line.deleted for line in versions.base)):
        return None
    base, ours, theirs = state(versions.base), state(versions.ours), state(versions.theirs)
    if ours is None or theirs is None or ours.line.raw == theirs.line.raw:
        return None
    if ours.line.deleted or theirs.line.deleted or (base is not None and not base.line.deleted):
        return None
    if any(line.raw == theirs.line.raw for line in versions.ours) or any(
        line.raw == ours.line.raw for line in versions.theirs
    ):
        return None  # one side went through the other's record: that is its past, no other record
    mine, others = _created(ours.line), _created(theirs.line)
    if mine is None or others is None or mine == others or _agree(ours.line.raw, theirs.line.raw):
        return None
    if _age(ours.line, mine) < _age(theirs.line, others):
        return "theirs", theirs.line
    return "ours", ours.line


def _age(line: Line, created: str) -> tuple[bool, int, str]:
    return (line.created is None, line.created or 0, created)


def _agree(one: bytes, other: bytes) -> bool:
    """Whether two records agree in at least half of their content, by size."""
    first, second = fields_of(one), fields_of(other)
    sizes = [
        sum(len(name) + len(value) for name, value in fields.items() if name not in _OWN) for fields in (first, second)
    ]
    agreed = sum(
        2 * len(name) + len(value) + len(second[name])
        for name, value in first.items()
        if name not in _OWN and name in second and same_value(value, second[name])
    )
    return 2 * agreed >= sum(sizes)


def _recognise(records: _Records, renames: dict[str, dict[str, str]]) -> None:
    """Find the records that an earlier merge has renamed, where a version still has them under the old id."""
    for new_id in list(records):
        found = _DERIVED.fullmatch(new_id)
        if found is None or (record_id := found[1]) not in records:
            continue
        there, here = records[new_id], records[record_id]
        for side in ("base", "ours", "theirs"):
            lines: list[Line] = getattr(here, side)
            now = state(lines)
            if getattr(there, side) or now is None or now.line.deleted or derived_id(record_id, now.line) != new_id:
                continue
            if side == "base":
                created = _created(now.line)
                _move(records, record_id, new_id, side, lambda line, created=created: _created(line) == created)  # type: ignore[misc]  # reason: as above
                continue
            stay = {known.raw for known in here.base}  # what is left of it; all else went with the record then, too
            _move(records, record_id, new_id, side, lambda line, stay=stay: line.raw not in stay)  # type: ignore[misc]  # reason: as above
            renames[side][record_id] = new_id


def _move(records: _Records, record_id: str, new_id: str, side: str, chosen: Callable[[Line], bool]) -> None:
    """Put a side's *chosen* lines of a record under another id."""
    lines: list[Line] = getattr(records[record_id], side)
    target = records.setdefault(new_id, Versions([], [], []))
    moved = [_with_id(line, new_id) for line in lines if chosen(line)]
    setattr(target, side, [*getattr(target, side), *moved])
    setattr(records[record_id], side, [line for line in lines if not chosen(line)])


def _with_id(line: Line, new_id: str) -> Line:
    fields = fields_of(line.raw)
    return _line(join_fields({**fields, "id": msgspec.json.encode(new_id)}), line)


def _line(raw: bytes, like: Line) -> Line:
    made = decode_line(raw, (), number=like.number)
    assert isinstance(made, Line)  # noqa: S101 - reason: made of one, and for type checkers
    return made


# -- references ---------------------------------------------------------------------------------------------


def _refer(records: _Records, side: str, renamed: Mapping[str, str], names: frozenset[str]) -> list[Decision]:
    """Rewrite the references to renamed records in the new lines of their own side."""
    decisions: list[Decision] = []
    other = "theirs" if side == "ours" else "ours"
    texts = [msgspec.json.encode(old)[1:-1] for old in renamed]
    for record_id, versions in records.items():
        old = {line.raw for line in versions.base}
        lines: list[Line] = getattr(versions, side)
        if not any(text in line.raw for line in lines if line.raw not in old for text in texts):
            continue
        counterpart = state(getattr(versions, other))
        wanted = {
            was: now
            for was, now in renamed.items()
            if counterpart is None or _rewritten(counterpart.line.raw, "", {was: now}, names) == counterpart.line.raw
        }
        made: list[Line] = []
        used: set[str] = set()
        mentioned: set[str] = set()
        for line in lines:
            raw = line.raw
            if raw not in old:
                changed = _rewritten(raw, "", wanted, names)
                used |= {was for was in wanted if changed != raw and _names(raw, was, names)}
                mentioned |= {was for was in renamed if was != record_id and _mentions(changed, was)}
                raw = changed
            made.append(line if raw == line.raw else _line(raw, line))
        setattr(versions, side, made)
        decisions += [Decision(record_id, Rule.REFERENCES, note=f"{was} is now {renamed[was]}") for was in sorted(used)]
        decisions += [Decision(record_id, Rule.MENTIONED, note=was) for was in sorted(mentioned)]
    return decisions


def _names(raw: bytes, record_id: str, names: frozenset[str]) -> bool:
    return _rewritten(raw, "", {record_id: f"{record_id}?"}, names) != raw


def _rewritten(raw: bytes, name: str, ids: Mapping[str, str], names: frozenset[str], depth: int = 0) -> bytes:
    """*raw*, the value of the field *name*, with other ids in the references that are in it, at any depth."""
    if depth > MAX_NESTING:  # no record of ours; and Python's stack has an end
        return raw
    if raw.startswith(b"{"):
        fields = fields_of(raw)
        made = {key: _rewritten(value, key, ids, names, depth + 1) for key, value in fields.items()}
        return raw if made == fields else join_fields(made)
    if raw.startswith(b"["):
        items = [bytes(item) for item in _ITEMS.decode(raw)]
        renewed = [_rewritten(item, name, ids, names, depth + 1) for item in items]
        return raw if renewed == items else b"[" + b",".join(renewed) + b"]"
    if not (name.endswith(("_id", "_ids")) or name in names):
        return raw
    value = decode_exact(raw)
    found = ids.get(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    return raw if found is None else msgspec.json.encode(found)


def _mentions(raw: bytes, record_id: str) -> bool:
    """Whether the id stands anywhere in the line, as a word."""
    word = re.escape(msgspec.json.encode(record_id)[1:-1])
    return re.search(rb"(?<![\w-])" + word + rb"(?![\w-])", raw) is not None
