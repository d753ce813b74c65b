"""The lines of one record after a merge: its history, and among them the one that the merge decided on.

A merged history is made of sets, so that it does not depend on which side is called ours, and merging it again gives
the same set: the lines of the base that both sides still have, and every line that either side added. The rest of this
module sees to it that the history folds to the *result*, the line that was decided on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.codec import same_value
from taskstore_async.core.fold import effective
from taskstore_async.core.line import Line, decode_line
from taskstore_async.core.merge_stamp import restamped, stamp_above, stamp_of
from taskstore_async.core.merge_state import state

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskstore_async.core.merge_state import Versions

__all__ = ["Layout", "New", "arrange", "arrange_at_once", "conflict_block"]

_OPEN: Final = b"<<<<<<< one version"
_BETWEEN: Final = b"======="
_CLOSE: Final = b">>>>>>> the other version"


class New(msgspec.Struct, frozen=True, order=True, gc=False):
    """A line, or a conflict's block of lines, that follows the base's; they sort as they stand.

    Attributes:
        instant: What it sorts with.
        id: Its record.
        result: It is what the merge decided: last among equals.
        text: Its bytes.
    """

    instant: int
    id: str
    result: bool
    text: bytes


class Layout(msgspec.Struct, frozen=True):
    """Where a record's lines go.

    Attributes:
        places: What stands at which places of the base.
        new: What follows the base's lines.
        repeated: The result had to be written once more, above what would beat it.
    """

    places: dict[int, bytes]
    new: list[New]
    repeated: bool = False


class _History(msgspec.Struct, frozen=True):
    """A record's lines but for the result.

    Attributes:
        kept: Those of the base that both sides have, in the base's order.
        added: Those that a side added, in the order of the merged file; identical ones once.
    """

    kept: list[Line]
    added: list[Line]


def conflict_block(lines: tuple[bytes, ...]) -> bytes:
    """A line as it is; two between markers, for a person to choose from."""
    return lines[0] if len(lines) == 1 else b"\n".join((_OPEN, lines[0], _BETWEEN, lines[1], _CLOSE))


def arrange(record_id: str, versions: Versions, result: tuple[bytes, ...]) -> Layout:
    """Lay out a record's lines so that they fold to *result*: no line, one, or two in conflict."""
    if not result:
        return Layout({}, [])
    if len(versions.ours) <= 1 and len(versions.theirs) <= 1:
        return _alone(record_id, versions, _line_of(result))
    layout = _settled(record_id, versions, _line_of(result))
    if layout is not None:
        return layout
    # A line of the history counts more than the result; or what gave the result its instant, when it has no stamp, is
    # gone. It is then only a line of the history, and written once more.
    raised = _line_of(_raised(result, versions))
    layout = _settled(record_id, versions, raised)
    assert layout is not None  # noqa: S101 - reason: nothing counts more than it, and it is last; for type checkers
    return Layout(layout.places, layout.new, repeated=True)


def arrange_at_once(record_id: str, versions: Versions) -> tuple[str, Layout] | None:
    """The side that changed a record and its layout, where one line of one side is all there is to see; else None.

    What `decide` and `arrange` would say; nearly every record of a large merge is such a one.
    """
    base, ours, theirs = versions.base, versions.ours, versions.theirs
    if ours == theirs or base not in (ours, theirs):
        return None
    who, side = ("ours", ours) if theirs == base else ("theirs", theirs)
    if len(side) == len(base) == 1:
        return who, Layout({base[0].number: side[0].raw}, [])
    if len(side) != len(base) + 1 or side[:-1] != base:
        return None
    line = side[-1]
    instant = line.instant
    if instant is None or any(old.instant is None or old.instant > instant or old.raw == line.raw for old in base):
        return None
    new = New(instant, record_id, True, line.raw)  # noqa: FBT003 - reason: a struct
    return who, Layout(_places(base), [new])


# -- where the result stands ----------------------------------------------------------------------------------


def _settled(record_id: str, versions: Versions, result: Line) -> Layout | None:
    """The layout in which *result* wins: where it stands in the base, else among what is new; None when in neither."""
    history = _history(versions, result.raw)
    counted = _counted(result, versions)
    standing = [line for line in versions.base if line.raw == result.raw]
    if standing:
        kept = sorted([*history.kept, *standing], key=_number)
        if _folds_to(result, counted, [*kept, *history.added]):
            return Layout(_places(kept), _new(record_id, history.added))
    new = _inserted(record_id, history, result)
    lines = {line.raw: line for line in (*history.added, result)}
    if not _folds_to(result, counted, [*history.kept, *(lines[each.text] for each in new)]):
        return None
    if not history.kept and not history.added:
        return _alone(record_id, versions, result)
    return Layout(_places(history.kept), new)


def _alone(record_id: str, versions: Versions, result: Line) -> Layout:
    """The layout of a record of which one line is left: where it stood, else where the record's last line did."""
    if not versions.base:
        return Layout({}, [New(_own(result), record_id, True, result.raw)])  # noqa: FBT003 - reason: a struct
    place = next((line.number for line in versions.base if line.raw == result.raw), versions.base[-1].number)
    return Layout({place: result.raw}, [])


def _history(versions: Versions, result: bytes) -> _History:
    ours, theirs = ({line.raw for line in side} for side in (versions.ours, versions.theirs))
    old = {line.raw for line in versions.base}
    kept = [line for line in versions.base if line.raw in ours and line.raw in theirs and line.raw != result]
    added = {line.raw: line for side in (versions.ours, versions.theirs) for line in side if line.raw not in old}
    added.pop(result, None)
    return _History(kept, sorted(added.values(), key=_order))


def _inserted(record_id: str, history: _History, result: Line) -> list[New]:
    """What is new, with the result last among its equals; without a stamp it is last of all, as position decides."""
    instant = result.instant
    if instant is None:
        instant = max(map(_own, (*history.kept, *history.added, result)))
    last = New(instant, record_id, True, result.raw)  # noqa: FBT003 - reason: a struct
    return sorted([*_new(record_id, history.added), last])


def _new(record_id: str, lines: Iterable[Line]) -> list[New]:
    return [New(_own(line), record_id, False, line.raw) for line in lines]  # noqa: FBT003 - reason: a struct


def _places(lines: Iterable[Line]) -> dict[int, bytes]:
    return {line.number: line.raw for line in lines}


def _counted(result: Line, versions: Versions) -> int:
    """The instant that the result counts with where it comes from; without a stamp it owes that to the lines above.

    The lower one when it comes from both: a side that has dropped those lines has changed no record by that.
    """
    if result.instant is not None:
        return result.instant
    sides = (state(versions.ours), state(versions.theirs))
    found = [side.instant for side in sides if side is not None and side.line.raw == result.raw]
    return min(found, default=_own(result))


def _folds_to(result: Line, counted: int, lines: Sequence[Line]) -> bool:
    winner = state(lines)
    return winner is not None and winner.line.raw == result.raw and winner.instant >= counted


# -- lines --------------------------------------------------------------------------------------------------


def _own(line: Line) -> int:
    """The instant that a line counts with when nothing stands above it; position is no part of what a line sorts by."""
    return effective(line, None)


def _order(line: Line) -> tuple[int, bytes]:
    return (_own(line), line.raw)


def _number(line: Line) -> int:
    return line.number


def _line_of(result: tuple[bytes, ...]) -> Line:
    """*result* as a line; of two in conflict the one that the fold takes, with the whole block as its bytes."""
    line = decode_line(result[-1], ())
    assert isinstance(line, Line)  # noqa: S101 - reason: it was read, or made of what was; for type checkers
    return line if len(result) == 1 else msgspec.structs.replace(line, raw=conflict_block(result))


def _raised(result: tuple[bytes, ...], versions: Versions) -> tuple[bytes, ...]:
    """*result*, stamped one millisecond above every line that is left, and not below what it counted with."""
    old = {line.raw for line in versions.base}
    both = {line.raw for line in versions.ours} & {line.raw for line in versions.theirs}
    left = [line for line in (*versions.ours, *versions.theirs) if line.raw in both or line.raw not in old]
    above = max([_counted(_line_of(result), versions) - 1, *map(_own, left)])
    raised = _stamped_above(result, above)
    if any(same_value(line.raw, raw) for line in versions.base for raw in raised):
        # As a line of the base it would look untouched to the next merge.
        return _stamped_above(result, max([above, *map(_own, versions.base)]))
    return raised


def _stamped_above(result: tuple[bytes, ...], instant: int) -> tuple[bytes, ...]:
    stamp = stamp_above(instant, stamp_of(result[-1]))
    return tuple(restamped(raw, stamp) for raw in result)
