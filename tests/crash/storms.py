"""A store, the processes that die in it, and what must be in it after each time."""

from __future__ import annotations

import random
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any, ClassVar

from taskstore_async import Store
from tests.processes.model import Model, Values
from tests.processes.oracle import copy_of_the_journals, ends_whole, fold, read, versions, whole_lines
from tests.processes.records import Mark, Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.processes.child import Child, Event

__all__ = ["INSIDE", "Storm", "troubles"]

JOURNALS = ("notes", "marks")
INSIDE = ("write", "before fsync", "after fsync")  #: places in an append that no failpoint stands at
PER_PROCESS = 1_000_000  #: numbers, as the storm has it


def bytes_of(store: Path) -> dict[str, bytes]:
    """The journals."""
    return {name: read(store / f"{name}.jsonl") for name in JOURNALS}


def state_of(handle: Store) -> Values:
    """Which write each record is of."""
    notes: Values = {f"notes/{note.id}": note.n for note in handle.list(Note)}
    return notes | {f"marks/{mark.id}": mark.n for mark in handle.list(Mark)}


class Storm:
    """One store and the processes that die in it, some at once, over and over.

    Args:
        nurseries: Each has one process at a time.
        folder: Where the store is.
        seed: Of all that is random here and in the processes.
    """

    model: ClassVar[type[Model]] = Model  #: what must be there afterwards
    torn: ClassVar[bool] = False  #: whether what nobody was told of may stay in a journal, and be no line

    def __init__(self, nurseries: Sequence[Child], folder: Path, seed: str) -> None:
        self.nurseries = nurseries
        self.folder = folder
        self.store = folder / ".taskstore"
        self.dice = random.Random(seed)  # noqa: S311 - reason: a die to throw again
        self.seed = seed
        self.start: Values = {}
        self.issued: set[tuple[str, int]] = set()
        self.runs = 0
        self.acknowledged = 0

    def round(self, die_in: str | None = None, *, at_most: int = 25, without_index: bool = False) -> None:
        """Let processes work and kill them; look at what they left, and open it again.

        Args:
            die_in: Where they kill themselves; None: each anywhere, or from without at any moment.
            at_most: The first to so manieth time they are there.
            without_index: Delete the index before.
        """
        self.runs += 1
        before = bytes_of(self.store)
        if without_index:
            for path in self.store.glob("store.db*"):
                path.unlink()
        heard = [len(nursery.events) for nursery in self.nurseries]
        places = [self._begin(number, die_in, at_most) for number in range(len(self.nurseries))]
        self._end(places)
        models: dict[str, Model] = {}
        for number, nursery in enumerate(self.nurseries):
            told = nursery.events[heard[number] :]
            prefix = prefix_of(number)
            model = models[prefix] = self.model(of(prefix, self.start))
            model.follow(told)
            self.issued |= model.issued
            self.acknowledged += model.acknowledged
        killed = bytes_of(self.store)
        self._look_at_files(models.values(), before, killed)
        self._look_without_index(models)
        self._reopen(models, killed)

    def _begin(self, number: int, die_in: str | None, at_most: int) -> str:
        dice = self.dice
        place = die_in if die_in is not None else dice.choice(["", "", "", "write", *INSIDE])
        self.nurseries[number].tell(
            "storm",
            store=str(self.store),
            backend=dice.choice(["asyncio", "trio"]),
            callers=dice.choice([1, 2, 5, 16, 32]),
            prefix=prefix_of(number),
            seed=f"{self.seed}-{self.runs}-{number}",
            first=(self.runs * 10 + number) * PER_PROCESS,
            die_in=place,
            die_at=dice.randint(1, at_most),
        )
        return place

    def _end(self, places: Sequence[str]) -> None:
        for nursery, place in zip(self.nurseries, places, strict=True):
            self._listen(nursery, place)

    def _listen(self, nursery: Child, die_in: str) -> None:
        """Hear a process until its end, which comes at no particular moment."""
        heard = len(nursery.events)
        if die_in:
            nursery.tell("wait")
        else:
            self._listen_for_a_while(nursery)
            nursery.tell("kill")
        assert nursery.hear_of("ended")["ended"] == signal.SIGKILL, "it ended by itself"
        assert not troubles(nursery.events[heard:])

    def _listen_for_a_while(self, nursery: Child) -> None:
        for _ in range(self.dice.randint(1, 400)):
            nursery.hear()
        time.sleep(self.dice.random() * 0.003)  # not a wait: any moment will do

    def _look_at_files(self, models: Iterable[Model], before: dict[str, bytes], killed: dict[str, bytes]) -> None:
        lines = [line for data in killed.values() for line in self._lines(data)]
        there = versions(lines)
        assert there <= self.issued, "a line that nobody asked for"
        models = list(models)
        if not any(model.compacted for model in models):
            assert all(model.in_journal <= there for model in models), "acknowledged at journal, and not there"
            for name in JOURNALS:
                assert killed[name].startswith(before[name]), f"{name}: old bytes were changed"

    def _lines(self, data: bytes) -> list[dict[str, Any]]:
        return whole_lines(data, superseded=len(self.nurseries) > 1)

    def _look_without_index(self, models: dict[str, Model]) -> None:
        copy = copy_of_the_journals(self.store, self.folder / "copy" / ".taskstore")
        with Store.open(copy, records=(Note, Mark)) as handle:
            state = state_of(handle)
            for prefix, model in models.items():
                wrong = model.contradictions_without_index(of(prefix, state))
                assert not wrong, wrong
        shutil.rmtree(copy)

    def _reopen(self, models: dict[str, Model], killed: dict[str, bytes]) -> None:
        with Store.open(self.store, records=(Note, Mark)) as handle:
            state = state_of(handle)
            for prefix, model in models.items():
                wrong = model.contradictions(of(prefix, state))
                assert not wrong, wrong
            report = handle.check()
            torn = {"bad-line"} if self.torn or len(self.nurseries) > 1 else set[str]()
            assert not [one for one in report.problems if one.error and one.kind not in torn]
        after = bytes_of(self.store)
        folded: dict[str, Any] = {}
        for name in JOURNALS:
            assert after[name].startswith(killed[name]), f"{name}: old bytes were changed"
            lines = self._lines(after[name])
            assert versions(lines) <= self.issued
            assert self.torn or ends_whole(after[name]), f"{name} ends in a torn line"
            folded |= {f"{name}/{key}": line["n"] for key, line in fold(lines).items()}
        assert folded == state, "journals and index differ"
        self.start = state


def troubles(told: Iterable[Event]) -> list[Event]:
    """What went wrong in a process of which nothing should have."""
    return [event for event in told if "unexpected" in event or "refused" in event]


def prefix_of(number: int) -> str:
    """What the names of a process's callers begin with."""
    return "cdefgh"[number]


def of(prefix: str, state: Values) -> Values:
    """The records of one process."""
    return {key: value for key, value in state.items() if key.partition("/")[2].startswith(prefix)}
