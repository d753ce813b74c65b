"""Random changes while random calls of the system fail: nothing acknowledged is lost, and it mends itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.faults.shim import environment, why_not

RUNS = int(os.environ.get("TASKSTORE_FAULTS", "40"))
SEED = int(os.environ.get("TASKSTORE_FAULTS_SEED", "0"))
PER_PROCESS = 40

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


def runs(first: int, count: int) -> list[dict[str, Any]]:
    """What a process of its own tells of so many runs."""
    command = [sys.executable, "-m", "tests.faults.runs", str(first), str(count)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=30 + 5 * count, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


class TestFaultRuns:
    """Acknowledged is there, refused is not, uncertain is whole or not at all; reading the files anew says the same."""

    def test_in_any_run(self) -> None:
        found = [run for first in range(SEED, SEED + RUNS, PER_PROCESS) for run in runs(first, PER_PROCESS)]
        broken = [run for run in found if run["wrong"]]
        assert not broken, broken[0]
        assert len(found) >= RUNS
        assert sum(bool(run["told"]) for run in found) > RUNS // 5, "next to nothing failed"
        told = {name for run in found for name in run["told"]}
        assert {"WriteUncertainError", "WriteFailedError", "StoreBrokenError", "FlushError"} <= told

    @pytest.mark.parametrize("seed", [1047, 2088, 1257, 3329, 3224])
    def test_in_runs_that_once_went_wrong(self, seed: int) -> None:
        (run,) = runs(seed, 1)
        assert run["wrong"] == []
