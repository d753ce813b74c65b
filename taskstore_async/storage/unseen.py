"""Appends that git may not have seen when it replaced the file.

``git merge`` looks at the working tree, runs its drivers for a while without holding anything, and then checks out over
the file without another look. Other commands hold their index from the look on, so of theirs only an append that came
while they held it can have been overlooked. What was overlooked is not taken for removed when the new file lacks it: it
waits again, and is appended to the new file.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["WINDOW_NS", "Spell", "Unseen", "first_unseen", "noted"]

WINDOW_NS: Final = 2_000_000_000  #: git is done with what it has looked at
_SPELL_NS: Final = 1_000_000_000  #: appends that begin within it are one spell, so that there are never many


class Spell(NamedTuple):
    """Appends that followed each other.

    Attributes:
        flushed: The flushed mark before the first.
        begun_ns: When that was, wall clock.
        busy: Git held its index when they were done.
    """

    flushed: int
    begun_ns: int
    busy: bool


Unseen = tuple[Spell, ...]


def noted(unseen: Unseen, *, flushed: int, now_ns: int, busy: bool) -> Unseen:
    """*unseen* with an append of now, and without what is too old to matter.

    Args:
        unseen: What was noted before, oldest first.
        flushed: The collection's flushed mark before the append.
        now_ns: The time, wall clock.
        busy: Git holds its index.
    """
    kept = tuple(spell for spell in unseen if 0 <= now_ns - spell.begun_ns <= WINDOW_NS + _SPELL_NS)
    if any(spell.busy == busy and now_ns - spell.begun_ns <= _SPELL_NS for spell in kept):
        return kept
    return (*kept, Spell(flushed, now_ns, busy))


def first_unseen(unseen: Unseen, *, replaced_ns: int, while_busy: bool) -> int | None:
    """The mark above which appends may have been overlooked by who replaced the file then; None when none was.

    An append may have come up to a whole spell after the time that is noted.

    Args:
        unseen: What was noted.
        replaced_ns: When the file was replaced, wall clock.
        while_busy: Only those count that were made while git held its index.
    """
    since_ns = replaced_ns - WINDOW_NS - _SPELL_NS
    marks = [spell.flushed for spell in unseen if spell.begun_ns >= since_ns and (spell.busy or not while_busy)]
    return min(marks, default=None)
