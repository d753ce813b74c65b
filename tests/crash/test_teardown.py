"""An event loop that goes away under an open manager takes nothing acknowledged with it, and blocks nobody."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import HAS_UVLOOP, REPOSITORY
from tests.storage.workshop import assert_true, open_store, rows

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import asyncio, sys
from taskstore_async import Document, StateManager, Store

async def begin():
    manager = await StateManager.open(sys.argv[1]).__aenter__()
    await asyncio.gather(*(manager.put(Document("plans", {"id": f"a{n}"})) for n in range(20)))
    return manager

if sys.argv[2] == "uvloop":
    import uvloop
    loop = uvloop.new_event_loop()
else:
    loop = asyncio.new_event_loop()
kept = loop.run_until_complete(begin())
loop.close()
with Store.open(sys.argv[1], lock_timeout_s=5) as store:
    store.put(Document("plans", {"id": "b"}))
    print(len(store.list("plans")), flush=True)
"""


@pytest.mark.parametrize("loop", ["asyncio", *(["uvloop"] if HAS_UVLOOP else [])])
def test_a_loop_that_was_closed_without_leaving_the_manager(tmp_path: Path, loop: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path), loop]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "21\n", done.stderr[-2000:]
    assert done.returncode == 0
    with open_store(tmp_path) as store:
        assert len(rows(store)) == 21
        assert_true(store)
