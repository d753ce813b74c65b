"""Power cuts on real file systems, in images; for root, on Linux."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import REPOSITORY
from tests.crash.images import FILE_SYSTEMS, LOG_FLUSHED, LOG_LOST, own_namespace, why_not

if TYPE_CHECKING:
    from collections.abc import Generator

CUTS = int(os.environ.get("TASKSTORE_CUTS_REAL", "16"))
SEED = os.environ.get("TASKSTORE_CUTS_REAL_SEED", "")

on_each = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(why_not(name) is not None, reason=f"{name}: {why_not(name)}"))
        for name in FILE_SYSTEMS
    ],
)


@contextmanager
def program(name: str, folder: Path, *words: object) -> Generator[subprocess.Popen[str]]:
    """A process that may mount, and is gone after the block with all that it has started."""
    command = [sys.executable, "-m", "tests.crash.real_power", name, str(folder), *map(str, words)]
    with subprocess.Popen(
        own_namespace(command),
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def told(name: str, folder: Path, *words: object) -> list[dict[str, Any]]:
    """What such a process tells; skips the test when the machine has refused it something."""
    with program(name, folder, *words) as process:
        out, said = process.communicate(timeout=120 + 10 * CUTS)
    events: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    for event in events:
        if "refused" in event:
            pytest.skip(f"{name}: {event['refused']}")
    assert process.returncode == 0, f"{' '.join(map(str, words))}: {said[-4000:]}"
    return events


def loops(folder: Path) -> list[str]:
    """The files below *folder* that are loop devices now."""
    backing = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [path for path in backing if path.startswith(f"{folder}/")]


@on_each
class TestRealPowerCut:
    """What was acknowledged at `index` or `journal` is there, batches are whole, and the index is the files' fold."""

    def test_nothing_acknowledged_is_lost(self, tmp_path: Path, name: str) -> None:
        cuts = CUTS // len(FILE_SYSTEMS)
        seed = SEED or str(random.SystemRandom().randrange(10**6))
        (found,) = told(name, tmp_path, seed, cuts)
        assert found["cuts"] == cuts
        assert found["acknowledged"] > cuts

    def test_a_cut_forgets_what_was_not_fsynced_and_nothing_else(self, tmp_path: Path, name: str) -> None:
        lost, flushed = told(name, tmp_path, "forgets")
        for found, how in ((lost, LOG_LOST), (flushed, LOG_FLUSHED)):
            assert found["how"] == how
            assert found["left"]["kept"].rstrip("\0") == "x"  # its size may be that of what was lost
            assert found["left"]["last"] == "z"
            assert not found["left"].get("lost")

    def test_nothing_is_left_of_a_process_that_is_killed(self, tmp_path: Path, name: str) -> None:
        with program(name, tmp_path, "hold") as process:
            assert process.stdout is not None
            held = json.loads(process.stdout.readline())
            if "refused" in held:
                pytest.skip(f"{name}: {held['refused']}")
            assert len(loops(tmp_path)) == 1
            process.kill()
            process.wait()
            assert loops(tmp_path) == []
            assert list((tmp_path / "root").iterdir()) == []
