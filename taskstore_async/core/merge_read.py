"""Three files, read for a merge: which lines are the same everywhere, and which records were touched.

Decoding is most of the work, so only the lines of records that a side touched are decoded as a whole.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from operator import le
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from msgspec.json import Decoder

from taskstore_async.core.line import BadLine, Line, decode_line
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge_state import Versions
from taskstore_async.errors import MergeInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Reading", "read"]

_Ids: TypeAlias = "list[str | None]"

_BOM: Final = b"\xef\xbb\xbf"
_MARKERS: Final = (b"<<<<<<<", b"|||||||", b">>>>>>>")  # "=======" is one only between others
_BETWEEN: Final = b"======="
_DATALESS: Final = frozenset({"conflict marker", "it is in the base part of a conflict, which is not read"})


class _Identity(msgspec.Struct, gc=False):
    id: str


_IDENTITY: Final = Decoder(_Identity)


class Reading(msgspec.Struct):
    """What a merge has to decide about, and what it may leave as it is.

    Attributes:
        base: The base's lines, without blank ones and markers.
        ids: Their records' ids; None for a line that is no record.
        records: The lines of every record that a side touched, by id. A base line's number is its place in *base*.
        bad: The lines that are no records: how many of each are in the base, ours and theirs.
        appended: Both sides begin with *base*, untouched.
        ordered: Both sides are sorted by id.
        notes: What there is to say.
    """

    base: list[bytes]
    ids: list[str | None]
    records: dict[str, Versions]
    bad: dict[bytes, tuple[int, int, int]]
    appended: bool
    ordered: bool
    notes: list[str]


def read(base: bytes, ours: bytes, theirs: bytes) -> Reading:
    """Read three versions of a file.

    Raises:
        MergeInputError: One of the sides has lines, but not one that is a record.
    """
    start = _common(base, ours, theirs)
    if start:
        lines = _plain_lines(base)
        if lines is not None:
            return _read_appended(lines, _split(ours[start:]), _split(theirs[start:]))
    sides = (_split(ours), _split(theirs))
    for name, data, lines in zip(("our", "their"), (ours, theirs), sides, strict=True):
        if not lines and data.strip():  # nothing but markers: that is not "everything deleted"
            raise MergeInputError(name)
    return _read_any(_split(base), *sides)


def _common(base: bytes, ours: bytes, theirs: bytes) -> int:
    """How many bytes both sides have in common with the whole of the base, whole lines; 0 when they differ in it."""
    if not base:
        return 0
    begin = base if base.endswith(b"\n") else base + b"\n"
    if not (ours.startswith(begin) and theirs.startswith(begin)):
        return 0
    # A mark that stands first in a tail stands within the file: only reading all of that tells so.
    return 0 if ours.startswith(_BOM, len(begin)) or theirs.startswith(_BOM, len(begin)) else len(begin)


def _plain_lines(data: bytes) -> list[bytes] | None:
    """The lines of a file that say something; None when it takes more than splitting to find them."""
    if data.startswith(_BOM) or b"\r" in data:
        return None
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    odd = [line for line in lines if line[:1] != b"{"]
    if not odd:
        return lines
    if any(line.startswith(_MARKERS) for line in odd):
        return None
    return [line for line in lines if line and not line.isspace()]


def _split(data: bytes) -> list[bytes]:
    """The lines of a file that say something, without their ends; no markers, nor the base part of a conflict."""
    lines = _plain_lines(data)
    if lines is not None:
        return lines
    found = list(decode_lines(data))
    marked = any(isinstance(line, BadLine) and line.reason in _DATALESS for line in found)
    return [line.raw for line in found if not _says_nothing(line, marked=marked)]


def _says_nothing(line: Line | BadLine, *, marked: bool) -> bool:
    """Whether a line is a marker, or stands in the base part of a conflict.

    Where there are markers, ``=======`` is one too, even if the block it is left of is broken.
    """
    if not isinstance(line, BadLine):
        return False
    return line.reason in _DATALESS or (marked and line.raw == _BETWEEN)


def _ids(lines: Iterable[bytes]) -> _Ids:
    """The id of each line's record. Other fields are passed over: a line with a bad one has an id here all the same."""
    lines = list(lines)
    decode = _IDENTITY.decode
    try:
        return [decode(line).id for line in lines]
    except (ValueError, RecursionError):
        return [_id(line) for line in lines]


def _id(raw: bytes) -> str | None:
    line = decode_line(raw, ())
    return line.id if isinstance(line, Line) else None


def _sorted(*parts: _Ids) -> bool:
    ids = [record_id for part in parts for record_id in part if record_id is not None]
    return all(map(le, ids, islice(ids, 1, None)))


# -- both sides appended ------------------------------------------------------------------------------------


def _read_appended(base: list[bytes], ours: list[bytes], theirs: list[bytes]) -> Reading:
    ids = _ids(base)
    records: dict[str, Versions] = {}
    bad = [Counter[bytes](), Counter[bytes]()]
    tail_ids: list[_Ids] = [[], []]
    for side, tail in enumerate((ours, theirs)):
        for raw in tail:
            line = decode_line(raw, ())
            if isinstance(line, BadLine):
                bad[side][raw] += 1
                continue
            tail_ids[side].append(line.id)
            versions = records.setdefault(line.id, Versions([], [], []))
            (versions.theirs if side else versions.ours).append(line)
    for place, record_id in enumerate(ids):
        if record_id in records:
            line = decode_line(base[place], (), number=place)
            if isinstance(line, Line):
                records[record_id].base.append(line)
            else:
                ids[place] = None
    for versions in records.values():
        versions.ours = versions.base + versions.ours
        versions.theirs = versions.base + versions.theirs
    for name, side in (("our", 0), ("their", 1)):
        if not tail_ids[side] and bad[side] and not any(ids):
            raise MergeInputError(name)
    old = Counter(raw for raw, record_id in zip(base, ids, strict=True) if record_id is None)
    counts = {raw: (old[raw], old[raw] + bad[0][raw], old[raw] + bad[1][raw]) for raw in (*old, *bad[0], *bad[1])}
    last: _Ids = [next((record_id for record_id in reversed(ids) if record_id is not None), None)]
    ordered = _sorted(ids) and _sorted(last, tail_ids[0]) and _sorted(last, tail_ids[1])
    return Reading(base, ids, records, counts, True, ordered, _notes(counts, torn=[]))  # noqa: FBT003 - reason: a struct


# -- anything else ------------------------------------------------------------------------------------------


def _read_any(base: list[bytes], ours: list[bytes], theirs: list[bytes]) -> Reading:
    ids = _ids(base)
    known: dict[bytes, str | None] = dict(zip(base, ids, strict=True))
    fresh = {raw: decode_line(raw, ()) for side in (ours, theirs) for raw in side if raw not in known}
    known |= {raw: line.id if isinstance(line, Line) else None for raw, line in fresh.items()}
    sides = (ours, theirs)
    side_ids: list[_Ids] = [[known[raw] for raw in side] for side in sides]
    for name, found in zip(("our", "their"), side_ids, strict=True):
        if found and not any(record_id is not None for record_id in found):
            raise MergeInputError(name)

    touched = {line.id for line in fresh.values() if isinstance(line, Line)} | _disturbed(base, ids, sides, side_ids)
    records = {record_id: Versions([], [], []) for record_id in touched}
    unread: set[bytes] = set()
    for place, record_id in enumerate(ids):
        if record_id in records:
            read_line = decode_line(base[place], (), number=place)
            fresh[base[place]] = read_line
            if isinstance(read_line, Line):
                records[record_id].base.append(read_line)
            else:
                unread.add(base[place])
                ids[place] = None
    for which, (found, lines) in enumerate(zip(side_ids, sides, strict=True)):
        for record_id, raw in zip(found, lines, strict=True):
            if record_id in records and isinstance(line := fresh[raw], Line):
                versions = records[record_id]
                (versions.theirs if which else versions.ours).append(line)

    counted = [
        Counter(raw for raw, record_id in zip(lines, found, strict=True) if record_id is None or raw in unread)
        for lines, found in ((base, ids), (ours, side_ids[0]), (theirs, side_ids[1]))
    ]
    bad = {raw: (counted[0][raw], counted[1][raw], counted[2][raw]) for count in counted for raw in count}
    torn = [name for name, count in (("our", counted[1]), ("their", counted[2])) if count.keys() - counted[0].keys()]
    _mend(records.values(), ours="our" in torn, theirs="their" in torn)
    ordered = _sorted(side_ids[0]) and _sorted(side_ids[1])
    return Reading(base, ids, records, bad, False, ordered, _notes(bad, torn=torn))  # noqa: FBT003 - reason: a struct


def _disturbed(base: list[bytes], ids: _Ids, sides: tuple[list[bytes], list[bytes]], side_ids: list[_Ids]) -> set[str]:
    """The records of which a side lacks a line of the base, or has several, maybe in another order."""
    found: set[str] = set()
    for side in sides:
        present = set(side)
        found.update(record_id for raw, record_id in zip(base, ids, strict=True) if raw not in present and record_id)
    for each in (ids, *side_ids):
        if len(set(each)) < len(each):
            found.update(record_id for record_id, count in Counter(each).items() if count > 1 and record_id is not None)
    return found


def _mend(records: Iterable[Versions], *, ours: bool, theirs: bool) -> None:
    """On a side that looks torn, what it merely lacks it did not delete."""
    for versions in records:
        old = {line.raw for line in versions.base}
        if ours and {line.raw for line in versions.ours} < old:
            versions.ours = list(versions.base)
        if theirs and {line.raw for line in versions.theirs} < old:
            versions.theirs = list(versions.base)


def _notes(bad: Mapping[bytes, tuple[int, int, int]], *, torn: Sequence[str]) -> list[str]:
    notes = [f"{len(bad)} line(s) that are no records were merged by their bytes"] if bad else []
    return notes + [f"{side} side has new lines that are no records, so what it lacks is not deleted" for side in torn]
