"""The merged file: the base's order, then what is new, then the lines that are no records.

What is new is ordered by what it is, never by the side that it came from.
"""

from __future__ import annotations

from collections import Counter
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, TypeAlias

from taskstore_async.core.merge_values import merge_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskstore_async.core.merge_history import Layout, New
    from taskstore_async.core.merge_read import Reading

__all__ = ["assemble"]


_Placed: TypeAlias = "tuple[str, bytes]"
"""A line with its record's id."""


def assemble(reading: Reading, layouts: Mapping[str, Layout]) -> bytes:
    """The merged file.

    Args:
        reading: The files.
        layouts: Where the lines of each record go that a side touched.
    """
    places = {
        place: (record_id, text) for record_id, layout in layouts.items() for place, text in layout.places.items()
    }
    new = sorted(line for layout in layouts.values() for line in layout.new)
    if reading.ordered:
        new.sort(key=attrgetter("id"))  # stable: a record's own lines stay in order
    bad = _bad(reading)
    if reading.appended and _in_place(reading, places, new):
        texts = reading.base + [line.text for line in new]
        bad -= Counter(raw for raw in reading.base if raw in bad)
    else:
        lines = _standing(reading, places)
        lines += [(line.id, line.text) for line in new]
        if reading.ordered:
            lines.sort(key=itemgetter(0))
        texts = [text for _, text in lines]
    texts += bad.elements()
    if texts:
        texts.append(b"")
    return b"\n".join(texts)


def _standing(reading: Reading, places: Mapping[int, _Placed]) -> list[_Placed]:
    """The lines that stand where the base has them."""
    records = reading.records
    standing: list[_Placed] = []
    for place, (record_id, raw) in enumerate(zip(reading.ids, reading.base, strict=True)):
        if record_id is None:
            continue
        if record_id not in records:
            standing.append((record_id, raw))
        elif place in places:
            standing.append(places[place])
    return standing


def _in_place(reading: Reading, places: Mapping[int, _Placed], new: Sequence[New]) -> bool:
    """Whether the base can stand as it was, with all that is new below it; nearly always, when both sides appended."""
    touched = sum(len(versions.base) for versions in reading.records.values())
    if touched != len(places) or any(text != reading.base[place] for place, (_, text) in places.items()):
        return False
    if not reading.ordered or not new:
        return True
    last = next((record_id for record_id in reversed(reading.ids) if record_id is not None), "")
    return last <= new[0].id


def _bad(reading: Reading) -> Counter[bytes]:
    """The lines that are no records, three-way: the base's in its order, then the new ones by their bytes."""
    if not reading.bad:
        return Counter()
    old = dict.fromkeys(raw for raw in reading.base if raw in reading.bad)
    return Counter({raw: merge_count(*reading.bad[raw]) for raw in (*old, *sorted(reading.bad.keys() - old.keys()))})
