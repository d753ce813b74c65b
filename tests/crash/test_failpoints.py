"""The named places themselves, and those that only a life of its own leads to."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from taskstore_async.storage import failpoints
from tests.conftest import REPOSITORY
from tests.crash.test_kills import ELSEWHERE, KILLS_PER_FAILPOINT
from tests.hostile.corpus import good
from tests.storage.workshop import Durability, assert_true, document, journal_of, open_store, rows

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name == "nt", reason="nothing is killed by a signal there")

WORK = """
import sys
from taskstore_async import Document, Durability, Store
from taskstore_async.core.schedule import SyncConfig

with Store.open(sys.argv[1], sync=SyncConfig(auto_export=False)) as store:
    for number in range(int(sys.argv[2])):
        store.put(Document("plans", {"id": f"w{number}"}), durability=Durability.INDEX)
        print(number, flush=True)
    if "compact" in sys.argv:
        store.compact()
"""


def work(folder: Path, at: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Write some records, and what *words* say, in a process that dies *at* a place."""
    environment = {**os.environ, failpoints.VARIABLE: at}
    command = [sys.executable, "-c", WORK, str(folder), *words]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


class TestEnvironment:
    """Nothing is armed unless the environment says so, and what it says is checked."""

    def test_nothing_is_armed(self) -> None:
        assert failpoints.VARIABLE not in os.environ
        assert failpoints.reach is failpoints._pass

    def test_a_name_that_is_none(self, tmp_path: Path) -> None:
        done = work(tmp_path, "nowhere", "1")
        assert done.returncode == 1
        assert "'nowhere' is no failpoint; there are: locked, " in done.stderr

    def test_the_third_time(self, tmp_path: Path) -> None:
        with open_store(tmp_path):
            pass
        done = work(tmp_path, "before commit:3", "5")
        assert done.returncode == -signal.SIGKILL
        assert done.stdout == "0\n1\n"
        with open_store(tmp_path) as store:
            assert sorted(rows(store)) == ["w0", "w1"]

    def test_every_place_is_somewhere(self) -> None:
        folder = REPOSITORY / "taskstore_async" / "storage"
        code = "".join(path.read_text() for path in folder.glob("*.py") if path.name != "failpoints.py")
        reached = {name for name in failpoints.NAMES if f'failpoints.reach("{name}")' in code}
        assert reached == set(failpoints.NAMES)
        assert code.count("failpoints.reach(") == len(failpoints.NAMES)


often = pytest.mark.parametrize("time", range(KILLS_PER_FAILPOINT))


class TestElsewhere:
    """Killed while compaction quarantines, while a damaged index is replaced, while closing."""

    def test_each_is_looked_at_here(self) -> None:
        assert {"quarantined", "set aside", "closing"} == ELSEWHERE

    @often
    def test_quarantined(self, tmp_path: Path, time: int) -> None:
        del time
        path = journal_of(tmp_path)
        path.parent.mkdir()
        path.write_bytes(b"no record\n" + good("first").raw + b"\n")
        assert work(tmp_path, "quarantined", "1", "compact").returncode == -signal.SIGKILL
        assert path.read_bytes().startswith(b"no record\n")
        with open_store(tmp_path) as store:
            assert sorted(rows(store)) == ["first", "w0"]
            store.compact()
            assert_true(store)
        kept = b"".join(one.read_bytes() for one in (path.parent / "quarantine").iterdir())
        assert b"no record\n" in kept

    @often
    def test_set_aside(self, tmp_path: Path, time: int) -> None:
        del time
        store = open_store(tmp_path)
        store.put(document("waits"))
        store._engine.abandon()
        with closing(sqlite3.connect(tmp_path / ".taskstore" / "store.db")) as db:
            db.execute("PRAGMA user_version = 99")
        assert work(tmp_path, "set aside", "0").returncode == -signal.SIGKILL
        assert not (tmp_path / ".taskstore" / "store.db").exists()
        with open_store(tmp_path) as store:
            assert sorted(rows(store)) == ["waits"]
            assert_true(store)

    @often
    def test_closing(self, tmp_path: Path, time: int) -> None:
        del time
        with open_store(tmp_path) as store:
            store.put(document("first"), durability=Durability.JOURNAL)
        done = work(tmp_path, "closing", "3")
        assert done.returncode == -signal.SIGKILL
        assert done.stdout == "0\n1\n2\n"
        assert all(f'"w{number}"'.encode() in journal_of(tmp_path).read_bytes() for number in range(3))
        with open_store(tmp_path) as store:
            assert sorted(rows(store)) == ["first", "w0", "w1", "w2"]
            assert_true(store)
