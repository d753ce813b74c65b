"""Fold: from lines to the state of every record.

Per id the line with the highest stamp wins, and of equal ones the later. Position decides where no stamp does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.line import BadLine, Line

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Folded", "effective", "fold", "wins"]


class Folded(msgspec.Struct, frozen=True, gc=False):
    """The state of a record: its winning line, which may be a tombstone.

    Attributes:
        line: The line.
        instant: The stamp that it counts with, in nanoseconds since the epoch.
    """

    line: Line
    instant: int


def effective(line: Line, above: int | None) -> int:
    """The instant that *line* counts with.

    Args:
        line: The line.
        above: The greatest instant of the lines of its id above it; None when there are none.

    Returns:
        The line's own stamp when it has a readable one; else the greatest of its ``created_at`` and *above*; else 0.
    """
    instant = line.instant
    if instant is not None:
        return instant
    return max(line.created or 0, above or 0)


def wins(instant: int, best: int) -> bool:
    """Whether a line that counts with *instant* takes the place of one above it that counts with *best*."""
    return instant >= best


def fold(lines: Iterable[Line | BadLine]) -> dict[str, Folded]:
    """The state of every record after *lines*, in the order in which the ids first appeared.

    A deleted record's state is its tombstone. Lines that could not be read have no part in it.
    """
    states: dict[str, Folded] = {}
    for line in lines:
        if isinstance(line, BadLine):
            continue
        best = states.get(line.id)
        if best is None:
            states[line.id] = Folded(line, effective(line, None))
        elif wins(instant := effective(line, best.instant), best.instant):
            states[line.id] = Folded(line, instant)
    return states
