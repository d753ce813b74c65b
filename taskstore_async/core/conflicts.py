"""Conflicts that stand between markers in a file: which records are contested, and what the file is without markers.

Git's text merge leaves such markers when the merge driver is not configured, and the driver does where nothing decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.fold import Folded, fold
from taskstore_async.core.line import BadLine, Line
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge_stamp import STAMP
from taskstore_async.core.merge_values import fields_of, same_fields

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

__all__ = ["Block", "Contest", "Markers", "find_markers", "without_markers"]

_MARKER: Final = "conflict marker"  #: the reason that a bad line has which is one
_CHARS: Final = 7
_OPEN: Final = b"<<<<<<<"
_BASE: Final = b"|||||||"
_BETWEEN: Final = b"======="
_CLOSE: Final = b">>>>>>>"


class Contest(msgspec.Struct, frozen=True):
    """A record that both sides of a block have, with different content.

    Attributes:
        id: The record's id.
        first: Its latest line on the upper side.
        second: Its latest line on the lower side.
    """

    id: str
    first: Line
    second: Line


class Block(msgspec.Struct, frozen=True):
    """What stands between markers. Line numbers begin with 1.

    Attributes:
        first: The line of the opening marker.
        base: The line of the marker that a diff3 block has before its base part.
        middle: The line of the marker between the sides, or after the base part.
        last: The line of the closing marker.
        labels: What the opening and the closing marker say: ``HEAD`` and a branch, when git wrote them.
        contests: The records that a person has to choose a version of, by id.
    """

    first: int
    base: int | None
    middle: int
    last: int
    labels: tuple[str, str]
    contests: tuple[Contest, ...] = ()

    @property
    def upper(self) -> range:
        """The lines of the upper side."""
        return range(self.first + 1, self.middle if self.base is None else self.base)

    @property
    def lower(self) -> range:
        """The lines of the lower side."""
        return range(self.middle + 1, self.last)


class Markers(msgspec.Struct, frozen=True):
    """The markers of a file.

    Attributes:
        blocks: The whole blocks, from the top.
        stray: The lines of markers that belong to no whole block.
    """

    blocks: tuple[Block, ...]
    stray: tuple[int, ...]


def find_markers(data: bytes) -> Markers:
    """The conflict markers of a file, and what is contested between them."""
    if _OPEN not in data and _CLOSE not in data:
        return Markers((), ())
    return _markers({line.number: line for line in decode_lines(data)})


def without_markers(data: bytes, chosen: Collection[str] = ()) -> tuple[bytes, list[bytes]]:
    """A file without the markers between which nothing is left to choose.

    Every line that is read stays, and so does what the lines of each record fold to: the lines of a record in *chosen*
    leave their block upwards; a block in which nothing else is contested loses its markers, and its base part, which
    would come back to life without them. Where a marker is astray nobody knows what a base part is, so nothing changes.

    Args:
        data: What the file holds.
        chosen: The ids of the records whose contests are settled.

    Returns:
        The file, and the lines that were taken out of it.
    """
    lines = {line.number: line for line in decode_lines(data)}
    markers = _markers(lines)
    if markers.stray:
        return data, []
    texts = data.split(b"\n")
    kept: list[bytes] = []
    taken: list[bytes] = []
    done = 0
    for block in markers.blocks:
        kept += texts[done : block.first - 1]
        done = block.last
        sides = [*block.upper, *block.lower]
        if all(contest.id in chosen for contest in block.contests):
            kept += [texts[number - 1] for number in sides]
            rest = sorted({*range(block.first, block.last + 1)}.difference(sides))
            taken += [texts[number - 1] for number in rest if texts[number - 1].strip()]
        else:
            settled = {number for number in sides if _is_of(lines.get(number), chosen)}
            kept += [texts[number - 1] for number in sides if number in settled]
            kept += [texts[number - 1] for number in range(block.first, block.last + 1) if number not in settled]
    return b"\n".join([*kept, *texts[done:]]), taken


def _is_of(line: Line | BadLine | None, ids: Collection[str]) -> bool:
    return isinstance(line, Line) and line.id in ids


def _markers(lines: Mapping[int, Line | BadLine]) -> Markers:
    blocks: list[Block] = []
    stray: list[int] = []
    begun: dict[bytes, BadLine] = {}
    for line in lines.values():
        if not isinstance(line, BadLine) or line.reason != _MARKER:
            continue
        kind = line.raw[:_CHARS]
        if not _follows(kind, begun):
            stray += [marker.number for marker in begun.values()]
            begun = {}
            if kind != _OPEN:
                stray.append(line.number)
                continue
        begun[kind] = line
        if kind == _CLOSE:
            blocks.append(_block(begun, lines))
            begun = {}
    stray += [marker.number for marker in begun.values()]
    return Markers(tuple(blocks), tuple(stray))


def _follows(kind: bytes, begun: Collection[bytes]) -> bool:
    """Whether a marker may come next in a block that has *begun*."""
    if kind == _OPEN:
        return not begun
    if kind == _BASE:
        return len(begun) == 1
    return bool(begun) and (_BETWEEN in begun) is (kind == _CLOSE)


def _block(markers: Mapping[bytes, BadLine], lines: Mapping[int, Line | BadLine]) -> Block:
    base = markers.get(_BASE)
    block = Block(
        markers[_OPEN].number,
        None if base is None else base.number,
        markers[_BETWEEN].number,
        markers[_CLOSE].number,
        (_label(markers[_OPEN]), _label(markers[_CLOSE])),
    )
    upper, lower = (fold(lines[number] for number in side if number in lines) for side in (block.upper, block.lower))
    return msgspec.structs.replace(block, contests=tuple(_contests(upper, lower)))


def _label(marker: BadLine) -> str:
    return marker.raw[_CHARS:].decode(errors="replace").strip()


def _contests(upper: Mapping[str, Folded], lower: Mapping[str, Folded]) -> Iterator[Contest]:
    for record_id in sorted(upper.keys() & lower.keys()):
        first, second = upper[record_id].line, lower[record_id].line
        if not _say_the_same(first, second):
            yield Contest(record_id, first, second)


def _say_the_same(one: Line, other: Line) -> bool:
    """Whether two lines are the same record but for the stamp; tombstones are, whatever else they have."""
    if one.deleted or other.deleted:
        return one.deleted and other.deleted
    first, second = fields_of(one.raw), fields_of(other.raw)
    for fields in (first, second):
        fields.pop(STAMP, None)
        fields.pop("id", None)  # an integer here, its text there
    return same_fields(first, second)
