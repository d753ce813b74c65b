from __future__ import annotations

import os
import random
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

from taskstore_async import Store
from tests.processes.child import Child
from tests.processes.model import Model, Values
from tests.processes.oracle import copy_of_the_journals, fold, read, versions, whole_lines
from tests.processes.records import Mark, Note

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("TASKSTORE_KILLS", "30"))
SEED = os.environ.get("TASKSTORE_KILLS_SEED", "")
PER_STORE = 8  # kills of one store, one after the other
JOURNALS = ("notes", "marks")


def bytes_of(store: Path) -> dict[str, bytes]:
    return {name: read(store / f"{name}.jsonl") for name in JOURNALS}


def state_of(handle: Store) -> Values:
    notes: Values = {f"notes/{note.id}": note.n for note in handle.list(Note)}
    return notes | {f"marks/{mark.id}": mark.n for mark in handle.list(Mark)}


class Storm:
    """One store and the processes that die in it."""

    def __init__(self, nursery: Child, folder: Path, seed: str) -> None:
        self.nursery = nursery
        self.folder = folder
        self.store = folder / ".taskstore"
        self.dice = random.Random(seed)  # noqa: S311 - reason: a die to throw again
        self.seed = seed
        self.start: Values = {}
        self.issued: set[tuple[str, int]] = set()
        self.runs = 0

    def kill_one(self) -> Model:
        """Let a process work and kill it; look at what it left, and open it again."""
        dice = self.dice
        self.runs += 1
        die_in = dice.choice(["", "", "", "write", "write", "before fsync", "after fsync"])
        before = bytes_of(self.store)
        heard = len(self.nursery.events)
        self.nursery.tell(
            "storm",
            store=str(self.store),
            backend=dice.choice(["asyncio", "trio"]),
            callers=dice.randint(1, 16),
            seed=f"{self.seed}-{self.runs}",
            first=self.runs * 1_000_000,
            die_in=die_in,
            die_at=dice.randint(1, 25),
        )
        self.listen(die_in)
        model = Model(self.start)
        model.follow(self.nursery.events[heard:])
        self.issued |= model.issued
        unexpected = [event for event in self.nursery.events[heard:] if "unexpected" in event]
        assert not unexpected
        assert not [event for event in self.nursery.events[heard:] if "refused" in event]
        killed = bytes_of(self.store)
        self.look_at_files(model, before, killed)
        self.look_without_index(model)
        self.reopen(model, killed)
        return model

    def listen(self, die_in: str) -> None:
        """Hear the process until its end, which comes at no particular moment."""
        if die_in:
            self.nursery.tell("wait")
        else:
            for _ in range(self.dice.randint(1, 400)):
                self.nursery.hear()
            time.sleep(self.dice.random() * 0.003)  # not a wait: any moment will do
            self.nursery.tell("kill")
        assert self.nursery.hear_of("ended")["ended"] == signal.SIGKILL, "it ended by itself"

    def look_at_files(self, model: Model, before: dict[str, bytes], killed: dict[str, bytes]) -> None:
        lines = [line for data in killed.values() for line in whole_lines(data)]
        assert versions(lines) <= self.issued, "a line that nobody asked for"
        if not model.compacted:
            assert model.in_journal <= versions(lines), "acknowledged at journal, and not there"
            for name in JOURNALS:
                assert killed[name].startswith(before[name]), f"{name}: old bytes were changed"

    def look_without_index(self, model: Model) -> None:
        copy = copy_of_the_journals(self.store, self.folder / "copy" / ".taskstore")
        with Store.open(copy, records=(Note, Mark)) as handle:
            assert not model.contradictions_without_index(state_of(handle))
        shutil.rmtree(copy)

    def reopen(self, model: Model, killed: dict[str, bytes]) -> None:
        with Store.open(self.store, records=(Note, Mark)) as handle:
            state = state_of(handle)
            assert not model.contradictions(state)
            report = handle.check()
            assert report.ok, report.problems
        after = bytes_of(self.store)
        folded: dict[str, Any] = {}
        for name in JOURNALS:
            assert after[name].startswith(killed[name]), f"{name}: old bytes were changed"
            assert after[name].endswith(b"\n") or not after[name]
            lines = whole_lines(after[name])
            assert versions(lines) <= self.issued
            folded |= {f"{name}/{key}": line["n"] for key, line in fold(lines).items()}
        assert folded == state, "journals and index differ"
        self.start = state


class TestKill:
    """A process killed at any moment leaves all that was acknowledged, no half of an op, and nothing unasked for."""

    def test_what_was_acknowledged_is_there_and_nothing_else(self, tmp_path: Path) -> None:
        seed = SEED or str(random.SystemRandom().randrange(10**6))
        acknowledged = 0
        with Child("nursery") as nursery:
            nursery.hear_of("ready")
            for first in range(0, KILLS, PER_STORE):
                storm = Storm(nursery, tmp_path / str(first), f"{seed}-{first}")
                for _ in range(min(PER_STORE, KILLS - first)):
                    nursery.extend()
                    acknowledged += storm.kill_one().acknowledged
                shutil.rmtree(storm.folder)
            nursery.finish()
        assert acknowledged > KILLS
