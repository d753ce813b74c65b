"""Fault runs: random changes while one kind of call fails, then a look at what is there.

``python -m tests.faults.runs FIRST COUNT``, in a process that has the shim; prints a line of JSON for each run.
"""

from __future__ import annotations

import errno
import os
import random
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from taskstore_async.core.record import Document
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.errors import NotFoundError, TaskStoreError, WriteUncertainError
from taskstore_async.storage.store import Store
from tests.faults.shim import Action, Call, Shim
from tests.processes.pipe import say

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES: Final = ("plans", "steps")
IDS: Final = ("a", "b", "c")
OPS: Final = 25
LEVELS: Final = list(Durability)
MEMORY: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - reason: fsync costs nothing there
ALLOWED: Final = {"bad-line", "line"}  #: what an append that was cut short may leave in a journal

Key = tuple[str, str]


class Fault(NamedTuple):
    """What fails in a run."""

    call: Call
    part: str
    action: Action
    number: int
    nth: int
    length: int  #: how many calls fail from the nth on


_WAYS: Final = (
    (Call.WRITE, Action.REFUSE, (errno.ENOSPC, errno.EIO)),
    (Call.WRITE, Action.SHORTEN, (0,)),
    (Call.FSYNC, Action.REFUSE, (errno.EIO, errno.ENOSPC)),
    (Call.OPEN, Action.REFUSE, (errno.EMFILE, errno.ENFILE, errno.EIO)),
    (Call.RENAME, Action.REFUSE, (errno.EIO, errno.ENOSPC)),
    (Call.TRUNCATE, Action.REFUSE, (errno.EIO,)),
    (Call.READ, Action.REFUSE, (errno.EIO,)),
    (Call.UNLINK | Call.LINK, Action.REFUSE, (errno.EIO,)),
)
_PARTS: Final = (".jsonl", "plans.jsonl", "store.db", "store.db-wal", "store.lock", ".taskstore")


def drawn(dice: random.Random) -> Fault:
    """Any fault."""
    call, action, numbers = dice.choice(_WAYS)
    nth = dice.choice([1, 2, 3, dice.randrange(1, 80)])
    return Fault(call, dice.choice(_PARTS), action, dice.choice(numbers), nth, dice.choice([1, 1, 3, 10**6]))


def number_of(record: Document) -> int:
    number = record["n"]
    assert isinstance(number, int)
    return number


class Expected:
    """What each record may be by now: its number, or None when there is none."""

    def __init__(self) -> None:
        self.possible: dict[Key, set[int | None]] = {(name, one): {None} for name in NAMES for one in IDS}
        self.groups: list[dict[Key, int]] = []  #: batches of which nobody knows whether they are there

    def applied(self, values: dict[Key, int | None]) -> None:
        self.groups = [group for group in self.groups if not group.keys() & values.keys()]
        for key, value in values.items():
            self.possible[key] = {value}

    def uncertain(self, values: dict[Key, int | None]) -> None:
        self.groups = [group for group in self.groups if not group.keys() & values.keys()]
        for key, value in values.items():
            self.possible[key].add(value)
        self.groups.append({key: value for key, value in values.items() if value is not None})

    def contradictions(self, state: dict[Key, int | None]) -> list[str]:
        wrong = [
            f"{key} is {state.get(key)}, and may be {possible}"
            for key, possible in self.possible.items()
            if state.get(key) not in possible
        ]
        for group in self.groups:
            there = {state.get(key) == value for key, value in group.items()}
            if len(there) > 1:
                wrong.append(f"of the batch {group} a part is there: {state}")
        return wrong


class Run:
    """One run in *folder*."""

    def __init__(self, folder: Path, seed: str, shim: Shim) -> None:
        self.folder = folder
        self.dice = random.Random(seed)  # noqa: S311 - reason: a die to throw again
        self.shim = shim
        self.expected = Expected()
        self.wrong: list[str] = []
        self.store: Store | None = None
        self.fault = drawn(self.dice)
        self.told: list[str] = []
        self._config = SyncConfig(debounce_ms=self.dice.choice([0, 1_000]), coalesce=self.dice.random() < 0.7)

    def play(self) -> int:
        """Do everything; returns how many calls could have failed."""
        if self.dice.random() < 0.7:  # else the store is made while things fail
            self.attempt(self.reopen)
        self.shim.arm(
            self.fault.call,
            self.fault.part,
            nth=self.fault.nth,
            count=self.fault.length,
            action=self.fault.action,
            number=self.fault.number,
        )
        for number in range(1, OPS + 1):
            self.step(number)
        hits = self.shim.disarm()
        self.recover()
        return hits

    def attempt(self, call: Callable[[], object]) -> bool:
        """Whether *call* succeeded; nothing but our own errors may come out of it."""
        try:
            call()
        except TaskStoreError as error:
            self.told.append(type(error).__name__)
            return False
        return True

    def reopen(self) -> None:
        old, self.store = self.store, None
        if old is not None:
            if self.dice.random() < 0.5:
                old._engine.abandon()
            else:
                with suppress(TaskStoreError):
                    old.close()
        self.store = Store.open(self.folder, sync=self._config, lock_timeout_s=5)

    def step(self, number: int) -> None:
        if self.store is None and not self.attempt(self.reopen):
            return
        assert self.store is not None
        level = self.dice.choice(LEVELS)
        key = (self.dice.choice(NAMES), self.dice.choice(IDS))
        do = self.dice.choices(
            ("put", "delete", "batch", "get", "flush", "sync", "compact", "reopen"), (8, 2, 4, 3, 2, 1, 1, 1)
        )[0]
        store = self.store
        if do == "put":
            self.change({key: number}, lambda: store.put(self.record(key, number), durability=level))
        elif do == "delete":
            self.change({key: None}, lambda: store.delete(*key, durability=level))
        elif do == "batch":
            values: dict[Key, int | None] = {(name, one): number for name in NAMES for one in IDS[:2]}
            self.change(values, lambda: self.batch(store, values, number, level))
        elif do == "get":
            self.attempt(lambda: self.read(store, key))
        else:
            calls: dict[str, Callable[[], object]] = {
                "flush": store.flush,
                "sync": store.sync,
                "compact": store.compact,
                "reopen": self.reopen,
            }
            self.attempt(calls[do])

    def record(self, key: Key, number: int) -> Document:
        return Document(key[0], {"id": key[1], "n": number, "text": "x" * self.dice.choice([0, 50, 5_000])})

    def batch(self, store: Store, values: dict[Key, int | None], number: int, level: Durability) -> None:
        with store.batch(durability=level) as batch:
            for key in values:
                batch.put(self.record(key, number))

    def change(self, values: dict[Key, int | None], call: Callable[[], object]) -> None:
        try:
            call()
        except WriteUncertainError:
            self.told.append("WriteUncertainError")
            self.expected.uncertain(values)
        except NotFoundError:
            self.expected.applied(values)  # it says that there is none, and that must be so
        except TaskStoreError as error:
            self.told.append(type(error).__name__)
        else:
            self.expected.applied(values)

    def read(self, store: Store, key: Key) -> None:
        found = store.get(*key)
        number = None if found is None else number_of(found)
        if number not in self.expected.possible[key]:
            self.wrong.append(f"{key} was read as {number}, and may be {self.expected.possible[key]}")

    # -- afterwards -----------------------------------------------------------------------------------------

    def recover(self) -> None:
        """The cause is gone: the same handle works again, and everything is as it was told."""
        if self.store is None:
            self.reopen()
        assert self.store is not None
        self.store._engine.mend()  # by itself it would wait a moment
        self.store.put(Document("plans", {"id": "end", "n": 0}), durability=Durability.JOURNAL)
        self.store.flush()
        self.look(self.store)
        self.store.close()
        with Store.open(self.folder) as store:
            before = self.look(store)
        for path in self.folder.glob(".taskstore/store.db*"):
            path.unlink()
        with Store.open(self.folder) as store:
            after = self.look(store)
        if before != after:
            self.wrong.append(f"a new index says {after}, and the old one said {before}")

    def look(self, store: Store) -> dict[Key, int | None]:
        state: dict[Key, int | None] = {(name, one.id): number_of(one) for name in NAMES for one in store.list(name)}
        self.wrong += self.expected.contradictions(state)
        self.wrong += [f"check: {one.message}" for one in store.check().problems if one.kind not in ALLOWED]
        return state


def main(first: int, count: int) -> None:
    """Make *count* runs, and tell of each."""
    shim = Shim()
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory(prefix="taskstore-fault-", dir=MEMORY) as folder:
            run = Run(Path(folder), f"fault {seed}", shim)
            hits = 0
            try:
                hits = run.play()
            except Exception:  # noqa: BLE001 - reason: told to the test
                shim.disarm()
                run.wrong.append(traceback.format_exc())
            finally:
                if run.store is not None:
                    run.store._engine.abandon()
            told = {name: run.told.count(name) for name in set(run.told)}
            say(seed=seed, fault=repr(run.fault), hits=hits, told=told, wrong=run.wrong)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
