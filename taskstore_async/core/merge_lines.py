"""From decisions back to lines: which stand where.

History is kept, the order is the base's, and what is new comes after it, ordered by what it is and never by the side
it came from.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.codec import Line, decode_line
from taskstore_async.core.fold import effective, wins
from taskstore_async.core.merge_stamp import restamped, stamp_above, stamp_of
from taskstore_async.core.merge_state import instants
from taskstore_async.core.merge_values import merge_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskstore_async.core.merge_read import Reading
    from taskstore_async.core.merge_state import Versions

__all__ = ["Layout", "New", "arrange", "arrange_at_once", "assemble", "conflict_block"]

_OPEN: Final = b"<<<<<<< one version"
_BETWEEN: Final = b"======="
_CLOSE: Final = b">>>>>>> the other version"


class New(msgspec.Struct, frozen=True, order=True, gc=False):
    """A line, or a conflict's block of lines, that follows the base's; they sort as they stand.

    Attributes:
        instant: What it counts with.
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
        new: What follows.
        repeated: The result had to be written once more.
    """

    places: dict[int, bytes]
    new: list[New]
    repeated: bool = False


def conflict_block(lines: tuple[bytes, ...]) -> bytes:
    """A line as it is; two between markers, for a person to choose from."""
    return lines[0] if len(lines) == 1 else b"\n".join((_OPEN, lines[0], _BETWEEN, lines[1], _CLOSE))


def arrange(record_id: str, versions: Versions, result: tuple[bytes, ...]) -> Layout:
    """Lay out a record's lines so that they fold to *result*: no line, one, or two in conflict."""
    if not result:
        return Layout({}, [])
    if len(versions.ours) <= 1 and len(versions.theirs) <= 1:
        return _one_line(record_id, versions, result)
    text = conflict_block(result)
    left = _counts(versions)
    lives_on = left[text] > 0
    kept = _kept(versions, left)
    if not any(line.raw == text for line in kept):  # a line of the base that one side went back to stands where it did
        back = [line for line in versions.base if line.raw == text]
        kept = sorted([*kept, *back[:1]], key=_place)
    new = _new(record_id, versions, kept, left, result)
    extra = _once_more(record_id, versions, [*(line.raw for line in kept), *(line.text for line in new)], result)
    if extra and any(line.raw == text for line in kept):
        # Where it stands too far up to win, it moves down, if that is enough.
        below = [line for line in kept if line.raw != text]
        moved = Counter({**left, text: left[text] + len(kept) - len(below)})
        after = _new(record_id, versions, below, moved, result)
        if not _once_more(record_id, versions, [*(line.raw for line in below), *(line.text for line in after)], result):
            kept, new, extra = below, after, []
    if extra:  # what loses all the same is no result, and stands where the next merge will put it
        new = sorted(New(line.instant, line.id, line.text == extra[0].text, line.text) for line in new)
    if extra and not lives_on and text in {line.raw for line in versions.base}:
        # A line of the base that a side removed, and that has to be written anew: once is enough.
        kept = [line for line in kept if line.raw != text]
        new = [line for line in new if line.text != text]
    if versions.base and not kept and len(new) == 1:
        return _one_line(record_id, versions, result)
    return Layout({line.number: line.raw for line in kept}, [*new, *extra], bool(extra))


def _new(
    record_id: str, versions: Versions, kept: list[Line], left: Counter[bytes], result: tuple[bytes, ...]
) -> list[New]:
    """The lines that follow the base's: what the sides added, and the result unless it is kept."""
    best = max(instants(kept), default=None)
    text = conflict_block(result)
    counted: dict[bytes, int] = {}
    for lines in (versions.ours, versions.theirs):
        for line, instant in zip(lines, instants(lines), strict=True):
            if left[line.raw] > 0:
                counted[line.raw] = max(counted.get(line.raw, 0), effective(line, max(instant, best or 0)))
    if not any(line.raw == text for line in kept):
        counted.setdefault(text, _made(result[-1], best).instant or 0)
    return sorted(
        New(instant, record_id, raw == text, raw) for raw, instant in counted.items() for _ in range(left[raw] or 1)
    )


def arrange_at_once(record_id: str, versions: Versions) -> tuple[str, Layout] | None:
    """The side that changed a record and its layout, where one line of one side is all there is to see; else None.

    What `decide` and `arrange` would say; nearly every record of a large merge is such a one.
    """
    base, ours, theirs = versions.base, versions.ours, versions.theirs
    if theirs == base:
        who, side = "ours", ours
    elif ours == base:
        who, side = "theirs", theirs
    else:
        return None
    if len(side) == len(base) == 1:
        return who, Layout({base[0].number: side[0].raw}, [])
    if len(side) != len(base) + 1 or side[:-1] != base:
        return None
    line = side[-1]
    instant = line.instant
    if instant is None:
        return None
    for old in base:
        if old.instant is None or old.instant > instant or old.raw == line.raw:
            return None
    new = New(instant, record_id, True, line.raw)  # noqa: FBT003 - reason: a struct
    return who, Layout({old.number: old.raw for old in base}, [new])


def _place(line: Line) -> int:
    return line.number


def _one_line(record_id: str, versions: Versions, result: tuple[bytes, ...]) -> Layout:
    """The layout of a record of which one line is left: where it stood."""
    text = conflict_block(result)
    if versions.base:
        place = next((line.number for line in versions.base if line.raw == text), versions.base[-1].number)
        return Layout({place: text}, [])
    instant = max(_instant(result[-1], lines) for lines in (versions.ours, versions.theirs))
    return Layout({}, [New(instant, record_id, True, text)])  # noqa: FBT003 - reason: a struct


def _instant(raw: bytes, lines: list[Line]) -> int:
    return next((effective(line, None) for line in lines if line.raw == raw), _made(raw, None).instant or 0)


def _counts(versions: Versions) -> Counter[bytes]:
    """How often each line is to be there: three-way, like everything."""
    base, ours, theirs = (
        Counter(line.raw for line in lines) for lines in (versions.base, versions.ours, versions.theirs)
    )
    return Counter({raw: merge_count(base[raw], ours[raw], theirs[raw]) for raw in {*base, *ours, *theirs}})


def _kept(versions: Versions, left: Counter[bytes]) -> list[Line]:
    """The base's lines that are to stay, where they stand; taken out of *left*."""
    kept: list[Line] = []
    for line in versions.base:
        if left[line.raw] > 0:
            kept.append(line)
            left[line.raw] -= 1
    return kept


def _once_more(record_id: str, versions: Versions, lines: list[bytes], result: tuple[bytes, ...]) -> list[New]:
    """The result again, where one of *lines*, which has it among them, would beat it."""
    text = conflict_block(result)
    winner: bytes | None = None
    best: int | None = None
    for raw in lines:
        line = _made(result[-1] if raw == text else raw, best)
        instant = effective(line, best)
        if best is None or wins(instant, best):
            winner, best = raw, instant
    if winner == text or best is None:
        return []
    last = _made(result[-1], best)
    instant = effective(last, best)
    if wins(instant, best):
        return [New(instant, record_id, True, text)]  # noqa: FBT003 - reason: a struct
    raised = _raised(result, best)
    if any(line.raw in raised for line in versions.base):  # it would look untouched to the next merge
        raised = _raised(result, max(best, *instants(versions.base)))
    instant = effective(_made(raised[-1], best), best)
    return [New(instant, record_id, True, conflict_block(raised))]  # noqa: FBT003 - reason: a struct


def _raised(result: tuple[bytes, ...], instant: int) -> tuple[bytes, ...]:
    stamp = stamp_above(instant, stamp_of(result[-1]))
    return tuple(restamped(raw, stamp) for raw in result)


def _made(raw: bytes, above: int | None) -> Line:
    line = decode_line(raw, ())
    assert isinstance(line, Line)  # noqa: S101 - reason: every line here was read, or made of such; for type checkers
    return line if line.instant is not None else msgspec.structs.replace(line, instant=effective(line, above))


def assemble(reading: Reading, layouts: Mapping[str, Layout]) -> bytes:
    """The merged file: the base's order, what is new, the lines that are no records."""
    new = sorted(line for layout in layouts.values() for line in layout.new)
    bad = _bad(reading)
    places = {
        place: (record_id, text) for record_id, layout in layouts.items() for place, text in layout.places.items()
    }
    if reading.ordered:
        lines = [*_standing(reading, places), *((line.id, line.text) for line in new)]
        lines.sort(key=_id_of)  # stable: a record's own lines stay in order
        if reading.appended:
            bad = [raw for raw, record_id in zip(reading.base, reading.ids, strict=True) if record_id is None] + bad
        texts = [text for _, text in lines]
    else:
        texts = [text for _, text in _standing(reading, places)] if _moved(reading, places) else reading.base
        texts = texts + [line.text for line in new]
    texts += bad
    if texts:
        texts.append(b"")
    return b"\n".join(texts)


def _id_of(line: tuple[str, bytes]) -> str:
    return line[0]


def _moved(reading: Reading, places: Mapping[int, tuple[str, bytes]]) -> bool:
    """Whether anything of the base is not where it was. When both sides appended, next to nothing ever is."""
    return not reading.appended or sum(map(len, (versions.base for versions in reading.records.values()))) != len(
        places
    )


def _standing(reading: Reading, places: Mapping[int, tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The lines that stand where the base has them, with their records' ids."""
    records, in_place = reading.records, reading.appended
    standing: list[tuple[str, bytes]] = []
    for place, (record_id, raw) in enumerate(zip(reading.ids, reading.base, strict=True)):
        if record_id is None:
            if in_place and not reading.ordered:
                standing.append(("", raw))
        elif record_id not in records:
            standing.append((record_id, raw))
        elif place in places:
            standing.append(places[place])
    return standing


def _bad(reading: Reading) -> list[bytes]:
    """The lines that are no records: the base's in its order, then the new ones by their bytes."""
    old = dict.fromkeys(raw for raw in reading.base if raw in reading.bad) if reading.bad else {}
    return [
        raw for raw in (*old, *sorted(reading.bad.keys() - old.keys())) for _ in range(merge_count(*reading.bad[raw]))
    ]
