"""What needs what: order, what is ready, what is blocked, and circles, over ids and the edges between them."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Self, cast

from taskstore_async.core.document import Document
from taskstore_async.errors import CycleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from taskstore_async.core.record import AnyRecord

__all__ = ["Graph"]


class Graph:
    """Ids, and for each the ids that it needs first.

    Args:
        needs: What each id needs. The keys are the graph's ids; their order decides where nothing else does. What is
            needed and is no key is outside of the graph: in nobody's way for `order`, and never complete unless its
            status says so.
    """

    def __init__(self, needs: Mapping[str, Iterable[str]]) -> None:
        self.needs: dict[str, tuple[str, ...]] = {one: tuple(dict.fromkeys(wanted)) for one, wanted in needs.items()}

    @classmethod
    def of(cls, records: Iterable[AnyRecord], *fields: str) -> Self:
        """The graph of *records*, each of which needs the ids that *fields* hold.

        Args:
            records: Of one type or several, or documents. Of several with one id the last counts.
            fields: References, or lists of ids such as ``depends_on``. What a record does not have, and what is no id,
                names nothing.
        """
        return cls({record.id: [one for field in fields for one in _ids(record, field)] for record in records})

    @property
    def dependents(self) -> dict[str, tuple[str, ...]]:
        """For each id that is needed, those that need it."""
        found: dict[str, list[str]] = {}
        for one, wanted in self.needs.items():
            for other in wanted:
                found.setdefault(other, []).append(one)
        return {other: tuple(ones) for other, ones in found.items()}

    def order(self) -> list[str]:
        """Every id behind all that it needs; otherwise in the graph's own order.

        Raises:
            CycleError: Some need each other in a circle.
        """
        places = {one: place for place, one in enumerate(self.needs)}
        ids = list(self.needs)
        missing = [sum(other in places for other in wanted) for wanted in self.needs.values()]
        dependents = self.dependents
        free = [place for place, count in enumerate(missing) if count == 0]
        heapify(free)
        found: list[str] = []
        while free:
            one = ids[heappop(free)]
            found.append(one)
            for other in dependents.get(one, ()):
                place = places[other]
                missing[place] -= 1
                if missing[place] == 0:
                    heappush(free, place)
        if len(found) < len(ids):
            raise CycleError(tuple(self.cycles()))
        return found

    def ready(self, status: Mapping[str, str], *, pending: str = "pending", complete: str = "complete") -> list[str]:
        """What can begin: it is pending, and everything that it needs is complete.

        Args:
            status: By id.
            pending: The status of what has not begun.
            complete: The status of what is done.
        """
        waiting = self._waiting(status, pending, complete)
        return [one for one, unmet in waiting.items() if not unmet]

    def blocked(
        self, status: Mapping[str, str], *, pending: str = "pending", complete: str = "complete"
    ) -> dict[str, tuple[str, ...]]:
        """What is pending and cannot begin, each with what it waits for; arguments as for `ready`."""
        waiting = self._waiting(status, pending, complete)
        return {one: unmet for one, unmet in waiting.items() if unmet}

    def _waiting(self, status: Mapping[str, str], pending: str, complete: str) -> dict[str, tuple[str, ...]]:
        return {
            one: tuple(other for other in wanted if status.get(other) != complete)
            for one, wanted in self.needs.items()
            if status.get(one) == pending
        }

    def cycles(self) -> list[tuple[str, ...]]:
        """A shortest circle of each knot of ids that need each other; none when there is an order.

        Returns:
            Circles: each id needs the next one, and the last needs the first.
        """
        places = {one: place for place, one in enumerate(self.needs)}
        found: list[tuple[str, ...]] = []
        for knot in self._knots():
            first = min(knot, key=places.__getitem__)
            if len(knot) > 1 or first in self.needs[first]:
                found.append(self._circle(first, knot))
        return sorted(found, key=lambda circle: places[circle[0]])

    def _circle(self, first: str, knot: set[str]) -> tuple[str, ...]:
        """The shortest way from *first* through *knot* back to it."""
        came_from: dict[str, str] = {}
        waiting = deque([first])
        while first not in came_from:
            one = waiting.popleft()
            for other in self.needs[one]:
                if other in knot and other not in came_from:
                    came_from[other] = one
                    waiting.append(other)
        way = [came_from[first]]
        while way[-1] != first:
            way.append(came_from[way[-1]])
        return tuple(reversed(way))

    def _knots(self) -> Iterator[set[str]]:
        """The strongly connected components (Kosaraju's way); not recursive: a chain may be long."""
        dependents = self.dependents
        left = set(self.needs)
        for root in reversed(self._finished()):
            if root not in left:
                continue
            left.discard(root)
            knot, waiting = {root}, [root]
            while waiting:
                for other in dependents.get(waiting.pop(), ()):
                    if other in left:
                        left.discard(other)
                        knot.add(other)
                        waiting.append(other)
            yield knot

    def _finished(self) -> list[str]:
        """Every id once, in the order in which a search that goes deep first is done with it."""
        seen: set[str] = set()
        found: list[str] = []
        for root in self.needs:
            waiting = [(root, False)]
            while waiting:
                one, done = waiting.pop()
                if done:
                    found.append(one)
                elif one not in seen:
                    seen.add(one)
                    waiting.append((one, True))
                    waiting += [(other, False) for other in self.needs[one] if other in self.needs]
        return found


def _ids(record: AnyRecord, field: str) -> Iterator[str]:
    """The ids that a field of *record* holds."""
    value: Any = record.get(field) if isinstance(record, Document) else getattr(record, field, None)
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        yield from (one for one in cast("list[object]", value) if isinstance(one, str))
