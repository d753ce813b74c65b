"""A store that is missing, locked, unwritable or broken never fails the run that is recorded."""

from __future__ import annotations

import fcntl
import logging
import os
import runpy
import shutil
import sqlite3
import threading
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import anyio.lowlevel
import pytest
from anyio import CancelScope, create_task_group, fail_after, sleep

from taskstore_async import Store
from taskstore_async.actor import flusher
from taskstore_async.errors import WriteFailedError
from taskstore_async.records.runs import Run, RunStatus, RunTask
from taskstore_async.storage import schema
from taskstore_async.storage.directory import Directory
from taskstore_async.storage.engine import Engine
from taskstore_async.tracker import (
    BlockingRunTracker,
    RunTracker,
    TrackerState,
    awaited,
    blocking,
    ledger,
    settling,
    tracking,
)
from tests.tracker.conftest import of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.tracker.conftest import AnyTracker, Open

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0  # how long a test waits for what must happen; never spent when it does


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait long for a store that is well, on a machine that may be busy; a test that has none says so itself."""
    wait(monkeypatch, calls_s=PATIENCE_S, locks_s=PATIENCE_S)
    monkeypatch.setattr(settling, "_PAUSES_S", (0.02,))


def wait(patch: pytest.MonkeyPatch, *, calls_s: float, locks_s: float) -> None:
    """Set how long trackers wait that are opened from now on."""
    for module in (awaited, blocking):
        patch.setattr(module, "LOCK_TIMEOUT_S", locks_s)
    for module in (awaited, blocking, tracking):
        patch.setattr(module, "PATIENCE_S", calls_s)


async def record(tracker: AnyTracker, *, tasks: int = 1) -> Run:
    """A run that succeeds."""
    run = await of(tracker.record_run_start("demo"))
    for number in range(tasks):
        await of(tracker.record_task_complete(await of(tracker.record_task_start(run, f"task-{number}")), 0))
    ended = await of(tracker.record_run_complete(run, "success"))
    assert ended is not None
    return ended


async def written(tracker: AnyTracker) -> None:
    """Wait until the store has everything."""
    with fail_after(PATIENCE_S):
        while tracker.state != TrackerState():  # noqa: ASYNC110 - reason: a tracker tells nobody
            await sleep(0.005)


def stored(root: Path) -> dict[str, str]:
    with Store.open(root, create=False) as store:
        return {run.id: run.status for run in store.list(Run)}


@contextmanager
def locked(root: Path) -> Generator[None]:
    """Hold store.lock, as another process would."""
    with (root / ".taskstore" / "store.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def locked_by_sqlite(root: Path) -> Generator[None]:
    """Write to store.db as a program that knows nothing of store.lock."""
    with closing(sqlite3.connect(root / ".taskstore" / "store.db", isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")


@contextmanager
def kept_by_sqlite(root: Path) -> Generator[None]:
    """Have store.db open as a program that lets nobody else in, not even to read."""
    with closing(sqlite3.connect(root / ".taskstore" / "store.db", isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("PRAGMA user_version = 7")
        db.execute("COMMIT")
        yield


@contextmanager
def unwritable(root: Path) -> Generator[None]:
    """Have no permission to write; the tests may run as root, who has every permission."""
    assert root.is_dir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Directory, "writable", False)
        yield


@contextmanager
def in_the_way(root: Path) -> Generator[None]:
    """There is a file where the store should be."""
    store = root / ".taskstore"
    store.rename(root / "aside")
    store.write_text("no directory", encoding="utf-8")
    yield
    store.unlink()
    (root / "aside").rename(store)


class TestAwayAndBack:
    """While the store is away memory stands in, one warning says so, and then it is written."""

    @pytest.mark.parametrize("trouble", [locked, locked_by_sqlite, unwritable, in_the_way])
    async def test_the_run_goes_on(
        self,
        trouble: Callable[[Path], Any],
        opened: Open,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async with opened() as tracker:
            before = await record(tracker)
        wait(monkeypatch, calls_s=PATIENCE_S, locks_s=0.02)
        with trouble(tmp_path):
            async with opened() as tracker:
                during = await record(tracker, tasks=3)
                state = tracker.state
                assert state.degraded
                assert state.reason
                assert state.waiting in {4, 5}  # the run, its tasks, and the project where it cannot be looked up
                assert during.id in {run.id for run in await of(tracker.get_recent_runs())}
                assert len(await of(tracker.get_run_tasks(during))) == 3
            assert tracker.state.lost == state.waiting
            assert tracker.state.waiting == 0
        assert stored(tmp_path) == {before.id: RunStatus.SUCCESS}
        assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1

    async def test_one_warning_however_long_it_lasts(
        self, opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with opened() as tracker:
            await record(tracker)
        wait(monkeypatch, calls_s=PATIENCE_S, locks_s=0.02)
        monkeypatch.setattr(settling, "_PAUSES_S", (0.1,))  # so long that the manager looks at the files, in vain
        monkeypatch.setattr(flusher, "POLL_S", 0.001)
        tries: list[str] = []
        failed = settling.Health.failed

        def counted(health: settling.Health, reason: str) -> None:
            tries.append(reason)
            failed(health, reason)

        monkeypatch.setattr(settling.Health, "failed", counted)
        with locked_by_sqlite(tmp_path):
            async with opened() as tracker:
                with (tmp_path / ".taskstore" / "runs.jsonl").open("a", encoding="utf-8") as file:
                    file.write('{"id":"by-hand","updated_at":5}\n')
                with fail_after(PATIENCE_S):
                    while len(tries) < 5:
                        await record(tracker)
                        await sleep(0.01)
        assert all("is locked" in reason for reason in tries)
        assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1

    async def test_a_program_that_keeps_the_index_to_itself_is_not_waited_for_longer_than_agreed(
        self, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with opened() as tracker:
            await record(tracker)
        wait(monkeypatch, calls_s=PATIENCE_S, locks_s=0.02)
        monkeypatch.setattr(schema, "BUSY_S", 10 * PATIENCE_S)
        with kept_by_sqlite(tmp_path), fail_after(PATIENCE_S):
            async with opened() as tracker:
                await record(tracker)
                assert tracker.state.degraded

    @pytest.mark.parametrize("trouble", [locked, locked_by_sqlite, unwritable, in_the_way])
    async def test_what_memory_held_is_written_when_the_store_is_back(
        self, trouble: Callable[[Path], Any], opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with opened() as tracker:
            before = await record(tracker)
        wait(monkeypatch, calls_s=PATIENCE_S, locks_s=0.02)
        held = trouble(tmp_path)
        held.__enter__()
        async with opened() as tracker:
            during = await record(tracker, tasks=3)
            assert tracker.state.degraded
            held.__exit__(None, None, None)
            await written(tracker)
            after = await record(tracker)
            await written(tracker)
        assert stored(tmp_path) == dict.fromkeys([before.id, during.id, after.id], "success")
        with Store.open(tmp_path) as store:
            assert store.count(RunTask) == 5

    @pytest.mark.parametrize("trouble", [locked, in_the_way])
    async def test_leaving_tries_once_more(
        self, trouble: Callable[[Path], Any], opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with opened() as tracker:
            before = await record(tracker)
        wait(monkeypatch, calls_s=PATIENCE_S, locks_s=0.02)
        monkeypatch.setattr(settling, "_PAUSES_S", (PATIENCE_S,))
        held = trouble(tmp_path)
        held.__enter__()
        async with opened() as tracker:
            during = await record(tracker)
            assert tracker.state.degraded
            wait(monkeypatch, calls_s=PATIENCE_S, locks_s=PATIENCE_S)
            held.__exit__(None, None, None)
        assert tracker.state == TrackerState()
        assert stored(tmp_path) == dict.fromkeys([before.id, during.id], "success")

    async def test_the_state_has_changed_when_the_call_returns(
        self, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: Engine, *_args: object, **_options: object) -> NoReturn:
            raise WriteFailedError("store.db", "the disk is gone")

        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
            with monkeypatch.context() as patch:
                patch.setattr(Engine, "commit", fail)
                await of(tracker.record_task_start(run, "build"))
                assert tracker.state.degraded
                assert tracker.state.waiting == 1
            await written(tracker)

    async def test_the_state_says_so_from_the_beginning(self, opened: Open, tmp_path: Path) -> None:
        (tmp_path / ".taskstore").write_text("no directory", encoding="utf-8")
        async with opened() as tracker:
            assert tracker.state.degraded
            assert tracker.state.waiting == 0

    async def test_a_store_that_vanishes_is_made_again(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as tracker:
            await record(tracker)
            run = await of(tracker.record_run_start("demo"))
            shutil.rmtree(tmp_path / ".taskstore")
            await of(tracker.record_run_complete(run, "failed"))
            await written(tracker)
        assert stored(tmp_path)[run.id] == "failed"

    async def test_a_damaged_index_loses_nothing(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as tracker:
            before = await record(tracker)
        (tmp_path / ".taskstore" / "store.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8_192)
        async with opened() as tracker:
            during = await record(tracker)
            await written(tracker)
        assert stored(tmp_path) == dict.fromkeys([before.id, during.id], "success")

    async def test_a_run_that_began_before_the_trouble_ends_in_it(
        self, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
            wait(monkeypatch, calls_s=0.1, locks_s=PATIENCE_S)
            with locked(tmp_path):
                await of(tracker.record_run_complete(run.id, "failed"))
                (known,) = await of(tracker.get_recent_runs())
                assert known.status is RunStatus.FAILED
                assert tracker.state.degraded
            await written(tracker)
        assert stored(tmp_path) == {run.id: "failed"}

    async def test_a_run_of_another_process_can_end_when_the_store_cannot_be_asked(
        self, opened: Open, tmp_path: Path
    ) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo"))
        with in_the_way(tmp_path):
            async with opened() as tracker:
                ended = await of(tracker.record_run_complete(run, "success"))
                assert ended is not None
                assert ended.id == run.id
                assert await of(tracker.record_run_complete("run-x", "success")) is None


class TestNoStore:
    """What means nothing without a store says so, and changes nothing."""

    async def test_nothing_is_deleted(self, opened: Open, tmp_path: Path) -> None:
        async with opened() as tracker:
            run = await of(tracker.record_run_start("demo", run_dir="runs/1"))
        (tmp_path / "runs" / "1").mkdir(parents=True)
        with in_the_way(tmp_path):
            async with opened() as tracker:
                deletion = await of(tracker.delete_run(run))
                assert not deletion.deleted
                assert "not available" in str(deletion.reason)
                assert await of(tracker.find_orphaned_cache()) == []
                (tmp_path / "runs" / "1" / "run.json").write_text(
                    '{"project":"p","status":"success","started_at":1}', encoding="utf-8"
                )
                report = await of(tracker.import_runs(tmp_path / "runs"))
                assert report.skipped == {"runs/1": "the store is not available"}
        assert (tmp_path / "runs" / "1").is_dir()


def test_a_call_waits_less_than_a_second() -> None:
    # Read anew: the tests wait longer. Closing waits for the lock to write, and again to flush.
    constants = runpy.run_path(str(settling.__file__))
    assert 2 * constants["LOCK_TIMEOUT_S"] < constants["PATIENCE_S"] < 1


class TestHanging:
    """Nobody waits for a store that does not answer."""

    @pytest.fixture
    def gate(self, monkeypatch: pytest.MonkeyPatch) -> Generator[threading.Event]:
        """What a commit waits for, until the test sets it."""
        gate = threading.Event()
        commit = Engine.commit

        def commit_later(engine: Engine, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - reason: whatever commit takes
            assert gate.wait(PATIENCE_S)
            return commit(engine, *args, **kwargs)

        monkeypatch.setattr(Engine, "commit", commit_later)
        yield gate
        gate.set()

    async def test_calls_return_and_what_they_said_arrives(
        self, opened: Open, gate: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate.set()
        async with opened() as tracker:
            await record(tracker)
            gate.clear()
            wait(monkeypatch, calls_s=0.1, locks_s=PATIENCE_S)
            run = await record(tracker)
            assert tracker.state.reason == "it does not answer"
            assert run.id in {one.id for one in await of(tracker.get_recent_runs())}
            wait(monkeypatch, calls_s=PATIENCE_S, locks_s=PATIENCE_S)
            gate.set()
            await written(tracker)
        assert stored(tmp_path)[run.id] == "success"

    async def test_a_cancelled_caller_has_recorded_what_it_said(self, gate: threading.Event, tmp_path: Path) -> None:
        gate.set()
        async with RunTracker.open(tmp_path) as tracker:
            gate.clear()
            async with create_task_group() as tasks:
                tasks.start_soon(partial(tracker.record_run_start, "demo", run_id="run-1"))
                with fail_after(PATIENCE_S):
                    while not tracker.state.waiting:
                        await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            assert not tracker.state.degraded
            assert tracker.state.waiting == 2
            gate.set()
            await written(tracker)
        assert stored(tmp_path) == {"run-1": "running"}

    def test_closing_returns_and_counts(
        self, gate: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wait(monkeypatch, calls_s=0.1, locks_s=PATIENCE_S)
        tracker = BlockingRunTracker.open(tmp_path)
        tracker.record_run_start("demo")
        tracker.close()
        assert tracker.state.lost == 2
        tracker.close()
        assert tracker.state.lost == 2
        gate.set()
        tracker._thread._thread.join(PATIENCE_S)
        assert not tracker._thread._thread.is_alive()

    async def test_after_closing_calls_do_nothing_and_fail_nobody(self, opened: Open) -> None:
        async with opened() as tracker:
            run = await record(tracker)
        await of(tracker.record_run_complete(run, "failed"))
        assert tracker.state.lost == 1
        assert await of(tracker.get_recent_runs()) == []


class TestLeaving:
    """Errors of the block reach the caller as they are, and what was recorded is written."""

    async def test_an_error_of_the_block(self, opened: Open, tmp_path: Path) -> None:
        async def fail() -> None:
            async with opened() as tracker:
                await record(tracker)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert len(stored(tmp_path)) == 1

    async def test_a_block_that_is_cancelled(self, opened: Open, tmp_path: Path) -> None:
        with CancelScope() as scope:
            async with opened() as tracker:
                await record(tracker)
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert len(stored(tmp_path)) == 1


class TestBounds:
    """Memory is bounded, and what does not fit is counted."""

    async def test_what_does_not_fit_is_lost_and_counted(
        self, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ledger.Ledger.__init__, "__kwdefaults__", {"kept_max": 3})
        (tmp_path / ".taskstore").write_text("in the way", encoding="utf-8")
        async with opened() as tracker:
            await record(tracker, tasks=5)
            assert tracker.state.waiting == 3
            # Each of the three tasks that did not fit, as it began and as it ended.
            assert tracker.state.lost == 2 * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
class TestForking:
    """A forked child records on its own, and what its parent has not written stays its parent's."""

    def test_a_child_ends_what_its_parent_began(self, tmp_path: Path) -> None:
        with BlockingRunTracker.open(tmp_path) as tracker:
            run = tracker.record_run_start("demo")
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    tracker.record_task_complete(tracker.record_task_start(run, "in-child"))
                    tracker.record_run_complete(run.id, "failed")
                    code = 0 if tracker.state == TrackerState() else 2
                    tracker.close()
                finally:
                    os._exit(code)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert [task.name for task in tracker.get_run_tasks(run)] == ["in-child"]
        assert stored(tmp_path) == {run.id: "failed"}
