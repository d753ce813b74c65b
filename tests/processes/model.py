"""What must be in a store after its process was killed, as far as what it told allows to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.processes.child import Event

Values = dict[str, "int | None"]  # by collection/id: which write the record is of; None when there is no record


class Model:
    """Follows what one process tells, from a state in which everything was exported.

    Attributes:
        settled: What every acknowledged op has left, by record.
        flying: The values of each op that was issued and not answered, by caller.
        issued: Every version that anybody asked for: id and number.
        in_journal: The versions acknowledged at ``journal``.
        compacted: Whether compaction was asked for.
    """

    def __init__(self, start: Values) -> None:
        self.settled: Values = dict(start)
        self.flying: dict[str, Values] = {}
        self.issued: set[tuple[str, int]] = set()
        self.in_journal: set[tuple[str, int]] = set()
        self.compacted = False
        self.acknowledged = 0
        self._level: dict[str, str] = {}
        self._history: dict[str, list[int | None]] = {key: [value] for key, value in start.items()}
        self._answered: dict[str, int] = {}
        self._exported: dict[str, int] = {}
        self._exporting: dict[int, dict[str, int]] = {}

    def follow(self, events: Iterable[Event]) -> None:
        """Take in what was told."""
        for event in events:
            if "issued" in event:
                self._issue(event["caller"], event["values"], event["level"])
            elif "acknowledged" in event:
                self._acknowledge(event["caller"])
            elif "refused" in event:
                self._refuse(event["caller"])
            elif "exporting" in event:
                self._exporting[event["exporting"]] = dict(self._answered)
                self.compacted |= event["how"] == "compact"
            elif "exported" in event:
                for key, place in self._exporting.pop(event["exported"]).items():
                    self._exported[key] = max(place, self._exported.get(key, 0))

    def _issue(self, caller: str, values: Values, level: str) -> None:
        self.flying[caller], self._level[caller] = values, level
        for key, value in values.items():
            self._history.setdefault(key, [None]).append(value)
            if value is not None:
                self.issued.add((key.partition("/")[2], value))

    def _acknowledge(self, caller: str) -> None:
        values = self.flying.pop(caller)
        self.settled.update(values)
        self.acknowledged += 1
        for key, value in values.items():
            self._answered[key] = len(self._history[key]) - 1
            if self._level[caller] == "journal":
                self._exported[key] = self._answered[key]
                if value is not None:
                    self.in_journal.add((key.partition("/")[2], value))

    def _refuse(self, caller: str) -> None:
        for key in self.flying.pop(caller):
            self._history[key].pop()

    def contradictions(self, state: Values) -> list[str]:
        """What of *state* cannot be: a record that is not what it must be, an op of which a part is there."""
        open_keys = {key for values in self.flying.values() for key in values}
        wrong = [
            f"{key} is {state.get(key)}, and {self.settled.get(key)} was acknowledged"
            for key in {*state, *self.settled} - open_keys
            if state.get(key) != self.settled.get(key)
        ]
        for caller, values in self.flying.items():
            applied = all(state.get(key) == value for key, value in values.items())
            untouched = all(state.get(key) == self.settled.get(key) for key in values)
            if not applied and not untouched:
                now = {key: state.get(key) for key in values}
                before = {key: self.settled.get(key) for key in values}
                wrong.append(f"an op of {caller} is there in part: {before} -> {values}, found {now}")
        return wrong

    def contradictions_without_index(self, state: Values) -> list[str]:
        """The same, where only the journals were left: a record is what was exported, or anything asked for later."""
        wrong: list[str] = []
        for key in {*state, *self._history}:
            possible = self._history.get(key, [None])[self._exported.get(key, 0) :]
            if state.get(key) not in possible:
                wrong.append(f"{key} is {state.get(key)} without the index, and may be {possible[:20]}")
        return wrong
