"""Callers in several processes that do random things to a few records, and tell what they ask and what they are told.

The instants are those of ``time.monotonic_ns``, which is one clock for all processes of a machine.
"""

from __future__ import annotations

import fcntl
import inspect
import random
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.to_thread import run_sync

from taskstore_async import Durability, StateManager, Store, SyncConfig, TaskStoreError, WriteUncertainError, eq
from tests.processes.linearizability import DONE, NOTHING, UNKNOWN, Call
from tests.processes.pipe import say
from tests.processes.records import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from tests.processes.child import Event

__all__ = ["KINDS", "calls", "calls_in"]

Handle: TypeAlias = "StateManager | Store"

KINDS = ("asyncio", "trio", "threads", "asyncio and threads")
LEVELS = list(Durability)
LEASE_MS = 3_600_000  #: no lease ends by itself here
_DO = {"get": 8, "put": 2, "create": 3, "update": 6, "modify": 3, "claim": 3, "release": 2, "delete": 1.5}


def calls(
    *, store: str, kind: str, name: str, callers: int, count: int, keys: list[str], seed: str, first: int
) -> None:
    """Have so many callers make *count* calls each, when the gate is opened.

    Args:
        store: Where. The file ``gate`` beside it is locked until everybody is there.
        kind: One of `KINDS`: what the callers are, and which handles they have.
        name: What the callers' names begin with.
        callers: How many.
        count: How many calls each makes.
        keys: The records.
        seed: Of all that is random.
        first: The number of the first call; no other process has one that is less than 10,000 above it.
    """
    dice = random.Random(seed)  # noqa: S311 - reason: a die to throw again
    config = SyncConfig(debounce_ms=dice.choice([0, 5, 1_000]), max_delay_ms=1_000, coalesce=dice.random() < 0.7)
    numbers = iter(range(first, first + 10_000))
    own = [
        _Caller(f"{name}{place}", random.Random(dice.random()), numbers, count, keys)  # noqa: S311 - reason: as above
        for place in range(callers)
    ]
    *loop, threads = kind.split(" and ")
    if threads != "threads":
        loop, threads = [threads], ""
    blocking = own[: callers // 2] if loop and threads else own if threads else []
    with ExitStack() as stack:
        handles = [stack.enter_context(Store.open(store, records=[Note], sync=config)) for _ in blocking]
        running = [
            threading.Thread(target=_at_once, args=(partial(caller.run, handle),), daemon=True)
            for caller, handle in zip(blocking, handles, strict=True)
        ]
        if loop:
            anyio.run(partial(_on_loop, store, config, own[len(blocking) :], running), backend=loop[0])
        else:
            _wait_at_gate(store)
            for thread in running:
                thread.start()
        for thread in running:
            thread.join()
    say(left=name)


async def _on_loop(store: str, config: SyncConfig, own: list[_Caller], threads: list[threading.Thread]) -> None:
    async with StateManager.open(store, records=[Note], sync=config) as manager, anyio.create_task_group() as tasks:
        await run_sync(_wait_at_gate, store)
        for thread in threads:
            thread.start()
        for caller in own:
            tasks.start_soon(caller.run, manager)


def _wait_at_gate(store: str) -> None:
    with open(f"{store}.gate", "rb") as gate:  # noqa: PTH123 - reason: of what is a text here
        say(ready=True)
        fcntl.flock(gate, fcntl.LOCK_SH)


def _at_once(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine that never has to wait: a `Store` answers before it returns."""
    coroutine = run()
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise AssertionError("a blocking call waited")


class _Caller:
    """Makes one call after the other, and remembers what it was told last: often that is no longer so."""

    def __init__(self, name: str, dice: random.Random, numbers: Iterator[int], count: int, keys: list[str]) -> None:
        self.name = name
        self.dice = dice
        self.numbers = numbers
        self.count = count
        self.keys = keys
        self.known: dict[str, Note] = {}
        self.tokens: dict[str, tuple[int, int]] = {}  # the claim that a token is of, by record

    async def run(self, handle: Handle) -> None:
        for _ in range(self.count):
            if self.dice.random() < 0.03:
                await _answer(self.dice.choice([handle.flush, handle.sync])())
            await self.make_one(handle)

    async def make_one(self, handle: Handle) -> None:
        key = self.dice.choice(self.keys)
        (do,) = self.dice.choices(list(_DO), list(_DO.values()))
        if (do == "update" and key not in self.known) or (do == "release" and key not in self.tokens):
            do = "get"
        n = next(self.numbers)
        given: int | None = None
        if do == "update":
            given = self.known[key].n
        elif do == "release" or (do == "put" and key in self.tokens and self.dice.random() < 0.5):
            given = self.tokens[key][0]
        call = partial(self.ask, handle, do, key, n, given)
        say(n=n, asked=time.monotonic_ns(), do=do, key=key, by=self.name, given=given)
        answer, found = await self.answer_of(call, withdraw=isinstance(handle, StateManager))
        say(n=n, answered=time.monotonic_ns(), answer=answer, found=found)

    async def answer_of(
        self, call: Callable[[], Coroutine[Any, Any, tuple[str, int | None]]], *, withdraw: bool
    ) -> tuple[str, int | None]:
        """What came of *call*; some callers of a manager do not wait for it."""
        try:
            if withdraw and self.dice.random() < 0.02:
                with anyio.move_on_after(self.dice.random() * 0.002):
                    return await call()
                return UNKNOWN, None
            return await call()
        except WriteUncertainError:
            return UNKNOWN, None
        except TaskStoreError as error:
            return type(error).__name__, None

    async def ask(self, handle: Handle, do: str, key: str, n: int, given: int | None) -> tuple[str, int | None]:
        level = self.dice.choice(LEVELS)
        note = Note(id=key, n=n, by=self.name)
        found: Note | None
        match do:
            case "get" if self.dice.random() < 0.3:
                some = await _answer(handle.list(Note, eq("id", key)))
                return DONE, self.saw(key, some[0] if some else None)
            case "get":
                return DONE, self.saw(key, await _answer(handle.get(Note, key)))
            case "put":
                token = None if given is None else self.tokens[key][1]
                self.saw(key, await _answer(handle.put(note, token=token, durability=level)))
            case "create":
                self.saw(key, await _answer(handle.create(note, durability=level)))
            case "update":
                self.saw(key, await _answer(handle.update(self.known[key].evolve(n=n), durability=level)))
            case "modify":
                function = partial(_changed, n)
                found = await _answer(handle.modify(Note, key, function, durability=level))
                self.saw(key, found)
                return DONE, int(found.text) if found is not None else None
            case "claim":
                wanted: dict[str, object] = {"n": n}
                lease = await _answer(
                    handle.claim(Note, eq("id", key), owner=self.name, lease_ms=LEASE_MS, set=wanted, durability=level)
                )
                if lease is None:
                    return NOTHING, None
                self.saw(key, lease.record)
                self.tokens[key] = (n, lease.token)
            case "release":
                await _answer(handle.release(Note, key, token=self.tokens[key][1]))
            case _:
                await _answer(handle.delete(Note, key, durability=level))
        return DONE, None

    def saw(self, key: str, note: Note | None) -> int | None:
        if note is None:
            return None
        self.known[key] = note
        return note.n


def _changed(n: int, note: Note) -> Note:
    """A new version that tells which it was made from."""
    return note.evolve(n=n, text=str(note.n))


async def _answer(made: Any) -> Any:  # noqa: ANN401 - reason: what any call of either handle returns
    return await made if inspect.isawaitable(made) else made


def calls_in(events: Iterable[Event]) -> list[Call]:
    """The calls of processes that told *events*; one that was not answered may have been made."""
    asked: dict[int, Call] = {}
    for event in events:
        if "asked" in event:
            fields = {name: event[name] for name in ("do", "n", "given", "key", "by")}
            asked[event["n"]] = Call(**fields, asked_ns=event["asked"], answered_ns=event["asked"], answer=UNKNOWN)
        elif "answered" in event:
            told = {"answer": event["answer"], "found": event["found"], "answered_ns": event["answered"]}
            asked[event["n"]] = asked[event["n"]]._replace(**told)
    return list(asked.values())
