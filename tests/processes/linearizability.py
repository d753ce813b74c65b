"""Whether what several callers were told of one record can have happened one call at a time.

The search is that of J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects" (1993): take a call that no
other ended before, let the specification answer it, go on if that is what the caller was told, else take it back.
What was tried is remembered by the calls taken and the state they led to, as G. Lowe has it in "Testing for
Linearizability" (2017). Each record is looked at alone: a history is linearizable if the part of each object is
(M. Herlihy and J. Wing, "Linearizability: A Correctness Condition for Concurrent Objects", 1990).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["ABSENT", "DONE", "UNKNOWN", "Call", "State", "contradiction", "records_of"]

DONE: Final = "done"
NOTHING: Final = "nothing"  #: the answer of a claim that found nothing free
_SHOWN: Final = 20  #: calls before and behind the one that fits nowhere
UNKNOWN: Final = "unknown"  #: it may have been made at any moment since it was asked for, or never


class State(NamedTuple):
    """A record at a moment.

    Attributes:
        n: Which write it is of; None when there is none.
        claim: Which call holds the lease; None when it is free.
    """

    n: int | None = None
    claim: int | None = None


ABSENT: Final = State()


class Call(NamedTuple):
    """What one caller asked of one record, and was told.

    Attributes:
        do: get, put, create, update, modify, delete, claim or release.
        n: The number of the call, and of what it writes.
        given: The version that an update compares with; the claim under which something is put or released.
        asked_ns: When, on one clock for all.
        answered_ns: When it was answered, on the same clock.
        answer: `DONE`, `NOTHING`, the name of an error, or `UNKNOWN`.
        found: The version that a get found, or that a modify changed.
        key: The record.
        by: The caller.
    """

    do: str
    n: int
    asked_ns: int
    answered_ns: int
    given: int | None = None
    answer: str = DONE
    found: int | None = None
    key: str = ""
    by: str = ""

    def __str__(self) -> str:
        """A line for people to read."""
        given = "" if self.given is None else f" given {self.given}"
        found = f" {self.found}" if self.do in {"get", "modify"} and self.answer == DONE else ""
        return f"{self.asked_ns}..{self.answered_ns} {self.by} {self.do} {self.n}{given}: {self.answer}{found}"


class _Answer(NamedTuple):
    after: State
    answer: str = DONE
    found: int | None = None


def _answered(state: State, call: Call) -> _Answer:  # noqa: C901, PLR0911 - reason: a case for each call
    """What a store that does one thing after the other answers: the specification."""
    match call.do:
        case "get":
            return _Answer(state, found=state.n)
        case "put":
            if call.given is not None and call.given != state.claim:
                return _Answer(state, "ClaimLostError")
            return _Answer(state._replace(n=call.n))
        case "create":
            return _Answer(State(call.n)) if state.n is None else _Answer(state, "AlreadyExistsError")
        case "claim":
            free = state.n is not None and state.claim is None
            return _Answer(State(call.n, call.n)) if free else _Answer(state, NOTHING)
        case "release":
            held = call.given == state.claim
            return _Answer(state._replace(claim=None)) if held else _Answer(state, "ClaimLostError")
        case _ if state.n is None:
            return _Answer(state, "NotFoundError")
        case "update":
            current = call.given == state.n
            return _Answer(state._replace(n=call.n)) if current else _Answer(state, "StaleWriteError")
        case "modify":
            return _Answer(state._replace(n=call.n), found=state.n)
        case "delete":
            return _Answer(ABSENT)
        case other:
            raise ValueError(other)


def records_of(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """The history of each record, by its key."""
    histories: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        histories[call.key].append(call)
    return dict(histories)


def contradiction(calls: Iterable[Call], start: State = ABSENT) -> str | None:
    """Why the history of one record is not linearizable; None when it is.

    Args:
        calls: The history, in any order.
        start: What the record was before.
    """
    history = sorted(calls, key=lambda call: call.asked_ns)
    certain = sum(1 << place for place, call in enumerate(history) if call.answer != UNKNOWN)
    tried: set[tuple[int, State]] = set()
    to_try: list[tuple[int, State]] = [(0, start)]
    furthest, stuck = 0, start
    while to_try:
        taken, state = to_try.pop()
        if taken & certain == certain:
            return None
        if (taken, state) in tried:
            continue
        tried.add((taken, state))
        if (taken & certain).bit_count() >= (furthest & certain).bit_count():
            furthest, stuck = taken, state
        to_try += reversed(_next(history, taken, state))
    return _told(history, furthest, stuck)


def _next(history: Sequence[Call], taken: int, state: State) -> list[tuple[int, State]]:
    """Where the search can go from here: one that was answered and changes nothing can as well be taken first."""
    ways: list[tuple[int, State]] = []
    for place in _eligible(history, taken):
        call = history[place]
        made = _answered(state, call)
        if call.answer == UNKNOWN:
            if made.after != state:
                ways.append((taken | 1 << place, made.after))
        elif (made.answer, made.found) == (call.answer, call.found):
            if made.after == state:
                return [(taken | 1 << place, state)]
            ways.append((taken | 1 << place, made.after))
    return ways


def _eligible(history: Sequence[Call], taken: int) -> Iterator[int]:
    """The places of the calls that can come next: none that is left was answered before they were asked."""
    first = (~taken & taken + 1).bit_length() - 1
    horizon_ns: float = float("inf")
    left: list[int] = []
    for place in range(first, len(history)):
        call = history[place]
        if call.asked_ns > horizon_ns:
            break
        if not taken >> place & 1:
            left.append(place)
            if call.answer != UNKNOWN:
                horizon_ns = min(horizon_ns, call.answered_ns)
    return (place for place in left if history[place].asked_ns <= horizon_ns)


def _told(history: Sequence[Call], taken: int, state: State) -> str:
    nobody = [str(history[place]) for place in _eligible(history, taken)]
    first = next(_eligible(history, taken), 0)
    near = range(max(0, first - _SHOWN), min(len(history), first + _SHOWN))
    around = [f"{'+' if taken >> place & 1 else '-'} {history[place]}" for place in near]
    return "\n".join([f"the record is {state}, and none of these can come next:", *nobody, "of:", *around])
