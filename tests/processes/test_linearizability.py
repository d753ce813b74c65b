"""What callers in several processes were told can have happened one call at a time, each while it was waited for."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import time
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from taskstore_async import Store
from tests.processes.child import Child
from tests.processes.histories import KINDS, calls_in
from tests.processes.linearizability import ABSENT, NOTHING, UNKNOWN, Call, State, contradiction, records_of
from tests.processes.records import Note

if TYPE_CHECKING:
    from pathlib import Path

HISTORIES = int(os.environ.get("TASKSTORE_HISTORIES", "12"))
SEED = os.environ.get("TASKSTORE_HISTORIES_SEED", "0")
PER_STORE = 4  #: rounds of one store, one after the other
CALLERS = 3
COUNT = 40
KEYS = 3

LOST, STALE, EXISTS, ABSENT_TOLD = "ClaimLostError", "StaleWriteError", "AlreadyExistsError", "NotFoundError"

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def call(do: str, n: int, asked: int, answered: int, answer: str = "done", **more: int | None) -> Call:
    return Call(do, n, asked, answered, answer=answer, **more)  # type: ignore[arg-type]


class TestChecker:
    """It lets pass what some order explains, and nothing else."""

    POSSIBLE: dict[str, list[Call]] = {
        "nothing": [],
        "one after the other": [call("create", 1, 0, 1), call("get", 2, 2, 3, found=1), call("delete", 3, 4, 5)],
        "a read during a write sees the old": [call("put", 1, 0, 9), call("get", 2, 3, 4)],
        "a read during a write sees the new": [call("put", 1, 0, 9), call("get", 2, 3, 4, found=1)],
        "two reads during a write see it come": [
            call("put", 1, 0, 9),
            call("get", 2, 1, 2),
            call("get", 3, 3, 4, found=1),
        ],
        "two writes at once, in the order that a later read tells": [
            call("put", 1, 0, 9),
            call("put", 2, 1, 5),
            call("get", 3, 10, 11, found=1),
        ],
        "one of two creates at once is refused": [call("create", 1, 0, 9), call("create", 2, 1, 8, EXISTS)],
        "an update and what made it stale": [
            call("create", 1, 0, 1),
            call("update", 2, 2, 9, STALE, given=1),
            call("modify", 3, 3, 8, found=1),
        ],
        "what nobody was told of came late": [
            call("put", 1, 0, 0, UNKNOWN),
            call("get", 2, 5, 6),
            call("get", 3, 7, 8, found=1),
        ],
        "what nobody was told of never came": [call("put", 1, 0, 0, UNKNOWN), call("get", 2, 5, 6)],
        "a claim that was released is claimed again": [
            call("create", 1, 0, 1),
            call("claim", 2, 2, 3),
            call("claim", 3, 4, 5, NOTHING),
            call("release", 4, 6, 7, given=2),
            call("claim", 5, 8, 9),
            call("put", 6, 10, 11, LOST, given=2),
            call("put", 7, 10, 11, given=5),
        ],
        "answered at the instant at which another is asked": [call("put", 1, 0, 5), call("get", 2, 5, 6)],
    }
    IMPOSSIBLE: dict[str, list[Call]] = {
        "a stale read": [call("put", 1, 0, 1), call("put", 2, 2, 3), call("get", 3, 4, 5, found=1)],
        "a read that sees a record no more": [call("put", 1, 0, 1), call("get", 2, 2, 3)],
        "two reads that see a write go": [
            call("put", 1, 0, 9),
            call("get", 2, 1, 2, found=1),
            call("get", 3, 3, 4),
        ],
        "a read of what nobody wrote": [call("get", 1, 0, 1, found=7)],
        "a read of what is written later": [call("get", 1, 0, 1, found=2), call("put", 2, 2, 3)],
        "a lost update": [
            call("create", 1, 0, 1),
            call("modify", 2, 2, 8, found=1),
            call("modify", 3, 3, 9, found=1),
        ],
        "two winners of a compare-and-set": [
            call("create", 1, 0, 1),
            call("update", 2, 2, 8, given=1),
            call("update", 3, 3, 9, given=1),
        ],
        "no winner of a compare-and-set": [
            call("create", 1, 0, 1),
            call("update", 2, 2, 8, STALE, given=1),
            call("update", 3, 3, 9, STALE, given=1),
        ],
        "created twice": [call("create", 1, 0, 9), call("create", 2, 1, 8)],
        "refused for what is not there": [call("create", 1, 0, 1, EXISTS)],
        "deleted twice": [call("put", 1, 0, 1), call("delete", 2, 2, 8), call("delete", 3, 3, 9)],
        "not found, and there all the time": [call("put", 1, 0, 1), call("delete", 2, 2, 3, ABSENT_TOLD)],
        "claimed twice": [call("create", 1, 0, 1), call("claim", 2, 2, 8), call("claim", 3, 3, 9)],
        "written under a lease that was lost": [
            call("create", 1, 0, 1),
            call("claim", 2, 2, 3),
            call("release", 3, 4, 5, given=2),
            call("put", 4, 6, 7, given=2),
        ],
        "what nobody was told of was there before it was asked for": [
            call("get", 2, 0, 1, found=1),
            call("put", 1, 5, 5, UNKNOWN),
        ],
        "what nobody was told of came twice": [
            call("put", 1, 0, 0, UNKNOWN),
            call("get", 2, 1, 2, found=1),
            call("delete", 3, 3, 4),
            call("get", 4, 5, 6, found=1),
        ],
    }

    @pytest.mark.parametrize("name", POSSIBLE)
    def test_it_lets_pass(self, name: str) -> None:
        assert contradiction(self.POSSIBLE[name]) is None

    @pytest.mark.parametrize("name", IMPOSSIBLE)
    def test_it_refuses(self, name: str) -> None:
        told = contradiction(self.IMPOSSIBLE[name])
        assert told is not None
        assert "none of these can come next" in told

    def test_it_begins_with_what_was_there(self) -> None:
        assert contradiction([call("get", 2, 0, 1, found=1)], State(1)) is None
        assert contradiction([call("get", 2, 0, 1, found=1)], ABSENT) is not None

    def test_it_takes_back_what_led_nowhere(self) -> None:
        # Eight writes at once, and reads that tell their order, from the last to the first: one of 8! ways.
        writes = [call("put", n, n, 100) for n in range(8)]
        reads = [call("get", 50 + n, 20 + 2 * n, 21 + 2 * n, found=7 - n) for n in range(8)]
        assert contradiction([*writes, *reads]) is None
        assert contradiction([*writes, *reads, call("get", 99, 101, 102, found=3)]) is not None

    def test_several_that_nobody_was_told_of_come_anywhere_or_never(self) -> None:
        lost = [call("put", n, n, n, UNKNOWN) for n in range(6)]
        settled = [call("put", 100 + n, 100 + 2 * n, 101 + 2 * n) for n in range(50)]
        assert contradiction([*lost, *settled, call("get", 500, 900, 901, found=149)]) is None
        assert contradiction([*lost, *settled, call("get", 500, 900, 901, found=3)]) is None
        assert contradiction([*lost, *settled, call("get", 500, 900, 901, found=148)]) is not None


@posix
class TestHistories:
    """Managers on asyncio and trio, and threads with stores, in two to four processes, one of which may be killed."""

    def test_each_is_linearizable(self, tmp_path: Path) -> None:
        dice = random.Random(f"histories {SEED}")  # noqa: S311 - reason: a die to throw again
        answered = overlapping = killed = 0
        with ExitStack() as stack:
            nurseries = [stack.enter_context(Child("nursery")) for _ in range(4)]
            for nursery in nurseries:
                nursery.hear_of("ready")
            for turn in range(HISTORIES):
                folder = tmp_path / str(turn // PER_STORE)
                folder.mkdir(exist_ok=True)
                some = dice.sample(nurseries, k=2 + turn % 3)
                doomed = dice.choice(some) if turn % 2 else None
                history = recorded(folder, some, dice, turn, doomed)
                killed += doomed is not None
                for key, one in records_of(history).items():
                    wrong = contradiction(one)
                    assert wrong is None, f"{key}, with seed {SEED}: {wrong}"
                answered += sum(one.answer != UNKNOWN for one in history)
                overlapping += overlaps(history)
                if turn % PER_STORE == PER_STORE - 1:
                    shutil.rmtree(folder)
            for nursery in nurseries:
                nursery.finish()
        assert killed == HISTORIES // 2
        assert answered > HISTORIES * COUNT * CALLERS
        assert overlapping > HISTORIES * COUNT, "the processes took turns"


def recorded(folder: Path, nurseries: list[Child], dice: random.Random, turn: int, doomed: Child | None) -> list[Call]:
    """The history of one round, with a last look from here at what it left."""
    store = folder / ".taskstore"
    keys = [f"r{turn}-{number}" for number in range(KEYS)]
    heard = {nursery: len(nursery.events) for nursery in nurseries}
    kinds = dice.sample(KINDS, k=len(KINDS))
    with store.with_suffix(".gate").open("wb") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for number, nursery in enumerate(nurseries):
            nursery.extend()
            nursery.tell(
                "calls",
                store=str(store),
                kind=kinds[number],
                name=f"{kinds[number]} ",
                callers=CALLERS,
                count=COUNT,
                keys=keys,
                seed=f"{SEED}-{turn}-{number}",
                first=(turn * 10 + number + 1) * 10_000,
            )
        for nursery in nurseries:
            nursery.hear_of("ready")
        fcntl.flock(gate, fcntl.LOCK_UN)
    if doomed is not None:
        for _ in range(dice.randint(1, COUNT * CALLERS)):
            doomed.hear_of("n")
        doomed.tell("kill")
        assert doomed.hear_of("ended")["ended"] in {0, signal.SIGKILL}
    for nursery in nurseries:
        if nursery is not doomed:
            nursery.hear_of("left")
            nursery.tell("wait")
            assert nursery.hear_of("ended")["ended"] == 0
    history: list[Call] = []
    for nursery in nurseries:
        told = nursery.events[heard[nursery] :]
        assert nursery is doomed or len({e["n"] for e in told if "answered" in e}) == CALLERS * COUNT
        history += calls_in(told)
    with Store.open(store, records=[Note]) as handle:
        for number, key in enumerate(keys):
            asked = time.monotonic_ns()
            note = handle.get(Note, key)
            found = None if note is None else note.n
            history.append(Call("get", number, asked, time.monotonic_ns(), found=found, key=key, by="afterwards"))
        assert not [one for one in handle.check().problems if one.error]
    return history


def overlaps(history: list[Call]) -> int:
    """How often a call of another process was asked before the one before it was answered."""
    by_time = sorted(history, key=lambda one: one.asked_ns)
    return sum(a.answered_ns > b.asked_ns and a.by[:-1] != b.by[:-1] for a, b in pairwise(by_time))
