"""Power cuts on the simulated disk, in a process with the shim.

``python -m tests.crash.power random FIRST COUNT CUTS``: each of COUNT runs changes a store at random while the shim
writes down what reaches the disk; then CUTS power cuts, anywhere in it, and a look at what is left. Prints a line of
JSON for each run. ``python -m tests.crash.power NAME CUTS``: one run of a script, and CUTS at every place in it.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import sys
import tempfile
import traceback
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from taskstore_async.core.record import Document
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.errors import NotFoundError
from taskstore_async.storage.store import Store
from tests.crash.disk import Disk, Entry, entries
from tests.faults.runs import MEMORY, number_of
from tests.faults.shim import Call, Shim
from tests.processes.pipe import say

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES: Final = ("plans", "steps")
IDS: Final = ("a", "b", "c")
TWINS: Final = tuple((name, "twin") for name in NAMES)  #: only ever written together
OPS: Final = 30
LEVELS: Final = list(Durability)
BAD_LINES: Final = {"line", "bad-line", "closed"}

Key = tuple[str, str]


class Change(NamedTuple):
    """One op: what it makes of records, and at which marks of the record it began and was acknowledged."""

    values: dict[Key, int | None]
    level: Durability
    begun: int
    done: int


class Work:
    """Random changes of a store in *folder*, in one process."""

    def __init__(self, folder: Path, dice: random.Random, shim: Shim) -> None:
        self.folder = folder
        self.dice = dice
        self.shim = shim
        self.changes: list[Change] = []
        self._mark = 0
        self._config = SyncConfig(debounce_ms=dice.choice([0, 1_000]), coalesce=dice.random() < 0.7)

    def mark(self) -> int:
        self._mark += 1
        self.shim.mark(self._mark)
        return self._mark

    def do(self) -> None:
        store = Store.open(self.folder, sync=self._config)
        try:
            for number in range(1, OPS + 1):
                store = self.step(store, number)
            if self.dice.random() < 0.5:
                store.close()
        finally:
            store._engine.abandon()

    def step(self, store: Store, number: int) -> Store:
        level = self.dice.choice(LEVELS)
        key = (self.dice.choice(NAMES), self.dice.choice(IDS))
        do = self.dice.choices(("put", "delete", "batch", "flush", "compact", "reopen"), (8, 2, 4, 2, 1, 1))[0]
        if do == "put":
            self.change({key: number}, level, lambda: store.put(self.record(key, number), durability=level))
        elif do == "delete":
            self.change({key: None}, level, lambda: store.delete(*key, durability=level))
        elif do == "batch":
            self.change(dict.fromkeys(TWINS, number), level, lambda: self.batch(store, number, level))
        elif do == "reopen":
            if self.dice.random() < 0.5:
                store._engine.abandon()
            else:
                store.close()
            return Store.open(self.folder, sync=self._config)
        else:
            calls: dict[str, Callable[[], object]] = {"flush": store.flush, "compact": store.compact}
            calls[do]()
        return store

    def record(self, key: Key, number: int) -> Document:
        return Document(key[0], {"id": key[1], "n": number, "text": "x" * self.dice.choice([0, 50, 5_000])})

    def batch(self, store: Store, number: int, level: Durability) -> None:
        with store.batch(durability=level) as batch:
            for key in TWINS:
                batch.put(self.record(key, number))

    def change(self, values: dict[Key, int | None], level: Durability, call: Callable[[], object]) -> None:
        begun = self.mark()
        try:
            call()
        except NotFoundError:
            return
        self.changes.append(Change(values, level, begun, self.mark()))


def contradictions(changes: list[Change], mark: int, state: dict[Key, int | None], safe: set[Durability]) -> list[str]:
    """What of *state* cannot be after a cut behind *mark*, when acknowledged at a level in *safe* means safe."""
    wrong: list[str] = []
    for key in {key for change in changes for key in change.values}:
        own = [change for change in changes if key in change.values and change.begun <= mark]
        sure = max((place for place, one in enumerate(own, 1) if one.done <= mark and one.level in safe), default=0)
        possible = [None, *(one.values[key] for one in own)][sure:]
        if state.get(key) not in possible:
            wrong.append(f"{key} is {state.get(key)}, and may be {possible}")
    return wrong


def halves(changes: list[Change], mark: int, state: dict[Key, int | None]) -> list[str]:
    """Which of *changes*, all of one caller, are in *state* in part, whatever came after them."""
    own = [change for change in changes if change.begun <= mark]
    wrong: list[str] = []
    for place, change in enumerate(own):
        told: set[bool] = set()
        for key in change.values:
            now = state.get(key)
            after = {at >= place for at, one in enumerate(own) if key in one.values and one.values[key] == now}
            after |= {False} if now is None else set()
            if len(after) == 1:
                told |= after
        if len(told) > 1:
            wrong.append(f"half of {change}: {[state.get(key) for key in change.values]}")
    return wrong


def gaps(changes: list[Change], mark: int, state: dict[Key, int | None]) -> list[str]:
    """What is wrong when no prefix of *changes*, one op after the other, has left *state*.

    A change at `journal` may outlive those before it that nobody had promised: its line is on the disk, their commits
    are not.
    """
    own = [change for change in changes if change.begun <= mark]
    unsure = [place for place, change in enumerate(own) if change.done > mark]
    sure = (place for place, one in enumerate(own, 1) if one.done <= mark and one.level is Durability.INDEX)
    first = max(sure, default=0)
    found = {key: value for key, value in state.items() if value is not None}
    for end in range(first, len(own) + 1):
        for there in product((False, True), repeat=min(len(unsure), 6)):
            left: dict[Key, int | None] = {}
            without = {place for place, one in zip(unsure, there, strict=False) if not one}
            for place, change in enumerate(own):
                if place not in without and (place < end or change.level is Durability.JOURNAL):
                    left |= change.values
            if found == {key: value for key, value in left.items() if value is not None}:
                return []
    return [f"no prefix of {len(own)} changes, {first} of them sure, leaves {found}"]


def look(folder: Path, changes: list[Change], mark: int) -> list[str]:
    """What is wrong in a store that a power cut behind *mark* has left."""
    with Store.open(folder) as store:
        state = state_of(store)
        wrong = contradictions(changes, mark, state, {Durability.JOURNAL, Durability.INDEX})
        if len({state.get(key) for key in TWINS}) > 1:
            wrong.append(f"half a batch: {[state.get(key) for key in TWINS]}")
        wrong += halves(changes, mark, state) + gaps(changes, mark, state)
        wrong += [f"check: {one.message}" for one in store.check().problems if one.kind not in BAD_LINES]
    return wrong


def look_without_index(folder: Path, changes: list[Change], mark: int) -> list[str]:
    for path in folder.glob(".taskstore/store.db*"):
        path.unlink()
    with Store.open(folder) as store:
        found = contradictions(changes, mark, state_of(store), {Durability.JOURNAL})
        return [f"without the index: {one}" for one in found]


def state_of(store: Store) -> dict[Key, int | None]:
    return {(name, one.id): number_of(one) for name in NAMES for one in store.list(name)}


class Script(Work):
    """A history that is written down, for what chance finds too seldom."""

    name = ""

    def do(self) -> None:
        with Store.open(self.folder, sync=SyncConfig(auto_export=False)) as store:
            getattr(self, self.name)(store)
            store._engine.abandon()

    def relaxed_batch(self, store: Store) -> None:
        """A batch that nobody has waited for is appended, one journal after the other."""
        self.put_both(store, 1, Durability.INDEX)
        store.flush()
        self.put_both(store, 2, Durability.RELAXED)
        store.flush()

    def relaxed_batch_beside(self, store: Store) -> None:
        """A write at journal takes the half of such a batch with it that waits for the same file."""
        self.put_both(store, 1, Durability.JOURNAL)
        self.put_both(store, 2, Durability.RELAXED)
        record = self.record(("plans", "a"), 3)
        self.change({("plans", "a"): 3}, Durability.JOURNAL, lambda: store.put(record, durability=Durability.JOURNAL))

    def replaced_index(self, store: Store) -> None:
        """An index that cannot be used is set aside, and what it had not flushed goes into the new one."""
        self.put_both(store, 1, Durability.INDEX)
        store._engine.abandon()
        with closing(sqlite3.connect(self.folder / ".taskstore" / "store.db")) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA user_version = 99")
        Store.open(self.folder, sync=SyncConfig(auto_export=False))._engine.abandon()

    def greatest_stamp(self, store: Store) -> None:
        """Where the stamp cannot grow the later line wins: nothing older may come behind what was acknowledged."""
        with (store.path / "plans.jsonl").open("wb") as file:
            file.write(b'{"id":"a","deleted":true,"updated_at":9007199254740991}\n')
            file.flush()
            os.fsync(file.fileno())
        store.sync()
        for number, level in ((1, Durability.INDEX), (2, Durability.JOURNAL), (3, Durability.JOURNAL)):
            put = partial(store.put, self.record(("plans", "a"), number), durability=level)
            self.change({("plans", "a"): number}, level, put)
            store.flush()

    def put_both(self, store: Store, number: int, level: Durability) -> None:
        self.change(dict.fromkeys(TWINS, number), level, lambda: self.batch(store, number, level))


def recorded(work: Work, root: Path, shim: Shim, scratch: Path) -> list[Entry]:
    """Do the work; what reached the disk."""
    record = scratch / "record"
    with record.open("wb") as file:
        shim.record(file.fileno(), str(root))
        try:
            work.do()
        finally:
            shim.record(-1, "")
    return list(entries(record.read_bytes()))


def cut_at(place: int, work: Work, played: list[Entry], root: Path, scratch: Path) -> list[str]:
    """Cut the power behind so many entries; what is wrong then."""
    disk, mark = Disk(), 0
    for entry in played[:place]:
        if entry.call is Call.MARK:
            mark = entry.offset
        else:
            disk.play(entry)
    wrong: list[str] = []
    for looking in (look, look_without_index):
        left = scratch / "cut"
        (left / ".taskstore").mkdir(parents=True)
        disk.cut(work.dice, left, str(root))
        try:
            found = looking(left, work.changes, mark)
        except Exception:  # noqa: BLE001 - reason: told to the test
            found = [traceback.format_exc()]
        wrong += [f"cut at {place} of {len(played)}: {one}" for one in found]
        shutil.rmtree(left)
    return wrong


def run(seed: str, cuts: int, shim: Shim, *, script: str = "") -> tuple[int, list[str]]:
    """One run: how many cuts, and what is wrong."""
    dice = random.Random(seed)  # noqa: S311 - reason: a die to throw again
    with tempfile.TemporaryDirectory(prefix="taskstore-power-", dir=MEMORY) as folder:
        scratch = Path(os.path.realpath(folder))
        root = scratch / "run"
        (root / ".taskstore").mkdir(parents=True)
        work = (Script if script else Work)(root, dice, shim)
        if isinstance(work, Script):
            work.name = script
        played = recorded(work, root, shim, scratch)
        whole = range(len(played) + 1)
        places = [place for place in whole for _ in range(cuts)] if script else dice.choices(whole, k=cuts)
        return len(places), [one for place in places for one in cut_at(place, work, played, root, scratch)]


def main(what: str, *numbers: str) -> None:
    """Make the runs, and tell of each."""
    shim = Shim()
    if what != "random":
        cuts, wrong = run(what, int(numbers[0]), shim, script=what)
        say(script=what, cuts=cuts, wrong=wrong[:10])
        return
    first, count, cuts = map(int, numbers)
    for seed in range(first, first + count):
        done, wrong = run(f"power {seed}", cuts, shim)
        say(seed=seed, cuts=done, wrong=wrong[:10])


if __name__ == "__main__":
    main(*sys.argv[1:])
