"""Processes that are killed at any moment, and at every named place."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from taskstore_async.storage import failpoints
from tests.crash.storms import Storm
from tests.processes.child import Child

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("TASKSTORE_KILLS", "12"))
KILLS_PER_FAILPOINT = int(os.environ.get("TASKSTORE_FAILPOINT_KILLS", "1"))
SEED = os.environ.get("TASKSTORE_KILLS_SEED", "")
PER_STORE = 8  # rounds of one store, one after the other

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
WITHOUT_INDEX = {"built", "index named"}  #: reached once, when there is none
SELDOM = {"before checkpoint", "after checkpoint", "name fsynced", "rewritten", "replaced"}
ELSEWHERE = {"quarantined", "set aside", "closing"}  #: no process of a storm gets there; see test_failpoints


def storms(
    folder: Path,
    kills: int,
    *,
    processes: int,
    die_in: str | None = None,
    at_most: int = 25,
    without_index: bool = False,
) -> int:
    """Kill so many processes, *processes* at once; returns how many writes were acknowledged. See `Storm.round`."""
    seed = SEED or str(random.SystemRandom().randrange(10**6))
    acknowledged = 0
    with ExitStack() as stack:
        nurseries = [stack.enter_context(Child("nursery")) for _ in range(processes)]
        for nursery in nurseries:
            nursery.hear_of("ready")
        rounds = -(-kills // processes)
        for first in range(0, rounds, PER_STORE):
            storm = Storm(nurseries, folder / str(first), f"{seed}-{processes}-{first}")
            for _ in range(min(PER_STORE, rounds - first)):
                for nursery in nurseries:
                    nursery.extend()
                storm.round(die_in, at_most=at_most, without_index=without_index)
            acknowledged += storm.acknowledged
            shutil.rmtree(storm.folder)
        for nursery in nurseries:
            nursery.finish()
    return acknowledged


class TestKill:
    """A process killed at any moment leaves all that was acknowledged, no half of an op, and nothing unasked for."""

    @pytest.mark.parametrize("processes", [1, 3])
    def test_what_was_acknowledged_is_there_and_nothing_else(self, tmp_path: Path, processes: int) -> None:
        assert storms(tmp_path, KILLS // 2, processes=processes) > KILLS


class TestFailpoint:
    """The same at every named place; a process that does not get there is killed by no one, and the test fails."""

    @pytest.mark.parametrize("name", sorted(set(failpoints.NAMES) - ELSEWHERE))
    def test_killed_there(self, tmp_path: Path, name: str) -> None:
        alone = name in WITHOUT_INDEX
        at_most = 1 if alone else 3 if name in SELDOM else 25
        storms(tmp_path, KILLS_PER_FAILPOINT, processes=1, die_in=name, at_most=at_most, without_index=alone)
