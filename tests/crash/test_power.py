"""Power cuts, on the simulated disk: anywhere in a random history, with any part of what was not fsynced left."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.crash.disk import Disk, Entry
from tests.faults.shim import Call, environment, why_not

CUTS = int(os.environ.get("TASKSTORE_CUTS", "100"))
SEED = int(os.environ.get("TASKSTORE_CUTS_SEED", "0"))
PER_RUN = 25
PER_PLACE = max(1, CUTS // 100)

on_linux = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


def runs(*words: object) -> list[dict[str, Any]]:
    """What a process of its own tells of runs."""
    command = [sys.executable, "-m", "tests.crash.power", *map(str, words)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=60 + CUTS, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@on_linux
class TestPowerCut:
    """What was acknowledged at `index` or `journal` is there, batches are whole, and the index is the files' fold."""

    def test_anywhere(self) -> None:
        found = runs("random", SEED, -(-CUTS // PER_RUN), PER_RUN)
        broken = [run for run in found if run["wrong"]]
        assert not broken, broken[0]
        assert sum(run["cuts"] for run in found) >= CUTS

    @pytest.mark.parametrize("script", ["relaxed_batch", "relaxed_batch_beside", "replaced_index", "greatest_stamp"])
    def test_everywhere(self, script: str) -> None:
        (run,) = runs(script, PER_PLACE)
        assert run["cuts"] > 50 * PER_PLACE
        assert run["wrong"] == []


class TestDisk:
    """The simulated disk forgets what was not fsynced, and nothing else."""

    ROOT = "/store"

    def cuts(self, *done: Entry) -> set[tuple[tuple[str, bytes], ...]]:
        """Everything that 2,000 power cuts leave."""
        disk = Disk()
        for entry in done:
            disk.play(entry)
        dice = random.Random(1)  # noqa: S311 - reason: a die to throw again
        left = [disk.left(dice) for _ in range(2_000)]
        return {tuple(sorted((path.removeprefix("/store/"), data) for path, data in one.items())) for one in left}

    def entry(self, call: Call, name: str, *, other: str = "", inode: int = 1, data: bytes = b"", at: int = 0) -> Entry:
        path = f"{self.ROOT}/{name}" if name else self.ROOT
        return Entry(call, path, f"{self.ROOT}/{other}" if other else "", inode, at, data)

    def test_a_name_without_fsync_of_its_directory_may_be_lost(self) -> None:
        made = self.entry(Call.CREATE, "a"), self.entry(Call.WRITE, "a", data=b"xy"), self.entry(Call.FSYNC, "a")
        assert self.cuts(*made) == {(), (("a", b"xy"),)}

    def test_bytes_without_fsync_may_be_lost_or_torn(self) -> None:
        made = (
            self.entry(Call.CREATE, "a"),
            self.entry(Call.FSYNC, "", inode=9),
            self.entry(Call.WRITE, "a", data=b"xy"),
        )
        assert self.cuts(*made) == {(("a", data),) for data in (b"", b"x", b"xy")}

    def test_a_later_write_may_survive_an_earlier_one(self) -> None:
        made = self.entry(Call.CREATE, "a"), self.entry(Call.FSYNC, "", inode=9)
        writes = self.entry(Call.WRITE, "a", data=b"x"), self.entry(Call.WRITE, "a", data=b"y", at=1)
        assert (("a", b"\0y"),) in self.cuts(*made, *writes)

    def test_a_rename_before_fsync_may_leave_an_empty_file(self) -> None:
        made = self.entry(Call.CREATE, "a.tmp"), self.entry(Call.WRITE, "a.tmp", data=b"x")
        renamed = self.entry(Call.RENAME, "a.tmp", other="a"), self.entry(Call.FSYNC, "", inode=9)
        assert self.cuts(*made, *renamed) == {(("a", b""),), (("a", b"x"),)}

    def test_what_was_fsynced_stays(self) -> None:
        made = self.entry(Call.CREATE, "a"), self.entry(Call.WRITE, "a", data=b"x"), self.entry(Call.FSYNC, "a")
        assert self.cuts(*made, self.entry(Call.FSYNC, "", inode=9)) == {(("a", b"x"),)}
