"""The process that is killed: callers that do random things to a store, and tell before and after each what it is."""

from __future__ import annotations

import os
import random
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from taskstore_async import Durability, Record, StateManager, SyncConfig, TaskStoreError, eq
from taskstore_async.storage import failpoints, files
from tests.processes.histories import calls
from tests.processes.pipe import heard, say
from tests.processes.records import Mark, Note
from tests.processes.working import work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

LEVELS = list(Durability)
SIZES = (0, 0, 0, 20, 700, 6_000, 30_000)
OWN_IDS = 4
OPS_MAX = 3_000


def nursery() -> None:
    """Fork a process when told and kill it when told: a fork has imported everything already."""
    say(ready=True)
    child = 0
    while (do := (order := heard()).pop("do")) != "stop":
        if do in _PROCESSES:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    _PROCESSES[do](**order)
                    code = 0
                finally:
                    os._exit(code)
        else:
            if do == "kill":
                os.kill(child, signal.SIGKILL)  # it is ours and not waited for, so the id is still its own
            _, status = os.waitpid(child, 0)
            say(ended=status)


def storm(
    *, store: str, backend: str, callers: int, prefix: str, seed: str, first: int, die_in: str, die_at: int
) -> None:
    """Change things until killed."""
    dice = random.Random(seed)  # noqa: S311 - reason: a die to throw again
    if die_in in failpoints.NAMES:
        failpoints.arm(die_in, nth=die_at)
    else:
        _die(die_in, die_at, dice)
    anyio.run(partial(_storm, store, callers, prefix, dice, first), backend=backend)


def _die(where: str, at: int, dice: random.Random) -> None:
    """Have this process kill itself at the *at*-th append, at a place inside it that no other process could hit."""
    write, fsync = files.write, files.fsync
    left = at

    def dying() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def write_and_die(descriptor: int, data: bytes) -> int:
        if dying():
            write(descriptor, data[: dice.randrange(len(data) + 1)])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(descriptor, data)

    def fsync_and_die(descriptor: int) -> None:
        if where == "after fsync":
            fsync(descriptor)
        if dying():
            os.kill(os.getpid(), signal.SIGKILL)
        if where == "before fsync":
            fsync(descriptor)

    if where == "write":
        files.write = write_and_die
    elif where:
        files.fsync = fsync_and_die


async def _storm(store: str, callers: int, prefix: str, dice: random.Random, first: int) -> None:
    config = SyncConfig(debounce_ms=dice.choice([0, 5, 1_000]), max_delay_ms=1_000, coalesce=dice.random() < 0.7)
    async with StateManager.open(store, records=(Note, Mark), sync=config) as manager:
        numbers = iter(range(first, first + 1_000_000))
        async with anyio.create_task_group() as tasks:
            for place in range(callers):
                name = f"{prefix}{place}"
                there = {f"notes/{note.id}" for note in await manager.list(Note, eq("by", name))}
                there |= {f"marks/{name}-{i}" for i in range(OWN_IDS) if await manager.get(Mark, f"{name}-{i}")}
                own = random.Random(dice.random())  # noqa: S311 - reason: as above
                caller = _Caller(manager, name, own, numbers, there)
                tasks.start_soon(caller.run)


_PROCESSES: Final[dict[str, Callable[..., None]]] = {"storm": storm, "calls": calls, "work": work}


class _Caller:
    """Changes records that are its own, one op at a time."""

    def __init__(
        self,
        manager: StateManager,
        name: str,
        dice: random.Random,
        numbers: Iterator[int],
        there: set[str],
    ) -> None:
        self.manager = manager
        self.name = name
        self.dice = dice
        self.numbers = numbers
        self.there = there

    async def run(self) -> None:
        """Do one thing after the other; not for ever, should nobody kill this process."""
        ops = (self.create, self.put, self.update, self.delete, self.batch, self.many, self.clear, self.files)
        weights = (3, 6, 4, 2, 4, 1, 0.3, 0.5)
        while True:
            (op,) = self.dice.choices(ops, weights)
            n = next(self.numbers)
            if n % 1_000_000 > OPS_MAX:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                await op(n, self.dice.choice(LEVELS))
            except Exception as error:
                say(unexpected=repr(error), caller=self.name)
                raise

    async def change(
        self, n: int, level: Durability, values: dict[str, int | None], call: Callable[[], Awaitable[Any]]
    ) -> None:
        """Make *call*, which gives these records these versions; told before and after."""
        say(issued=n, caller=self.name, level=level, values=values)
        try:
            await call()
        except TaskStoreError as error:
            say(refused=n, caller=self.name, error=type(error).__name__)
            return
        say(acknowledged=n, caller=self.name)
        for key, value in values.items():
            (self.there.discard if value is None else self.there.add)(key)

    def record(self, key: str, n: int) -> Record:
        kind, _, record_id = key.partition("/")
        if kind == "marks":
            return Mark(id=record_id, n=n)
        return Note(id=record_id, n=n, by=self.name, text="x" * self.dice.choice(SIZES))

    def key(self) -> str:
        return f"{self.dice.choice(['notes', 'marks'])}/{self.name}-{self.dice.randrange(OWN_IDS)}"

    async def create(self, n: int, level: Durability) -> None:
        key = self.key()
        if key not in self.there:
            await self.change(n, level, {key: n}, partial(self.manager.create, self.record(key, n), durability=level))

    async def put(self, n: int, level: Durability) -> None:
        key = self.key()
        await self.change(n, level, {key: n}, partial(self.manager.put, self.record(key, n), durability=level))

    async def update(self, n: int, level: Durability) -> None:
        record_id = f"{self.name}-{self.dice.randrange(OWN_IDS)}"
        note = await self.manager.get(Note, record_id)
        if note is not None:
            update = partial(self.manager.update, note.evolve(n=n), durability=level)
            await self.change(n, level, {f"notes/{record_id}": n}, update)

    async def delete(self, n: int, level: Durability) -> None:
        key = self.key()
        if key in self.there:
            kind, _, record_id = key.partition("/")
            await self.change(n, level, {key: None}, partial(self.manager.delete, kind, record_id, durability=level))

    async def batch(self, n: int, level: Durability) -> None:
        values: dict[str, int | None] = {}
        for key in {self.key() for _ in range(self.dice.randrange(2, 7))}:
            values[key] = None if key in self.there and self.dice.random() < 0.3 else n

        async def call() -> None:
            async with self.manager.batch(durability=level) as batch:
                for key, value in values.items():
                    kind, _, record_id = key.partition("/")
                    if value is None:
                        batch.delete(kind, record_id)
                    else:
                        batch.put(self.record(key, n))

        await self.change(n, level, values, call)

    async def many(self, n: int, level: Durability) -> None:
        keys = [f"notes/{self.name}-m{n}-{i}" for i in range(self.dice.randrange(1, 8))]
        records = [self.record(key, n) for key in keys]
        await self.change(
            n, level, dict.fromkeys(keys, n), partial(self.manager.create_many, records, durability=level)
        )

    async def clear(self, n: int, level: Durability) -> None:
        values: dict[str, int | None] = {key: None for key in self.there if key.startswith("notes/")}
        call = partial(self.manager.delete_where, Note, eq("by", self.name), durability=level)
        await self.change(n, level, values, call)

    async def files(self, n: int, level: Durability) -> None:
        exports: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("flush", self.manager.flush),
            ("sync", self.manager.sync),
            ("compact", self.manager.compact),
        ]
        name, call = self.dice.choice(exports)
        say(exporting=n, caller=self.name, how=name)
        await call()
        say(exported=n, caller=self.name)
        del level
