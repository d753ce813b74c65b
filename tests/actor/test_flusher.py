"""What waits is flushed when it is due; minutes pass on trio's virtual clock.

Real threads would be a mistake there: while one works, every task is blocked, and the clock would jump. So the engine
runs inline, behind the same port.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import pytest
import trio
from anyio import CancelScope, sleep
from trio.testing import MockClock

from taskstore_async import Durability, FlushError, StateManager, SyncConfig, TaskStoreError, eq
from taskstore_async.actor.worker import Worker
from taskstore_async.storage import clock, files, polling
from taskstore_async.storage.engine import Engine
from taskstore_async.storage.polling import Poller
from taskstore_async.storage.store import Store
from tests.actor.support import Plan, ids_of, lines_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from taskstore_async.core.schedule import SyncConfig as Config

pytestmark = pytest.mark.anyio

E = TypeVar("E")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class InlineWorker(Worker[E]):
    """Runs functions at once, on the loop's own thread: no time passes."""

    def __init__(self, make: Callable[[], E], close: Callable[[E], object]) -> None:
        self._engine = make()
        self._close = close

    async def run(self, function: Callable[[E, *Ts], T], *args: *Ts) -> T:
        await trio.lowlevel.cancel_shielded_checkpoint()
        return function(self._engine, *args)

    async def close(self) -> None:
        self._close(self._engine)


class Disk:
    """Counts appends and fsyncs, and fails when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.appends: list[bytes] = []
        self.fsyncs = 0
        self.full = False
        self._write, self._fsync = files.write, files.fsync
        monkeypatch.setattr(files, "write", self.write)
        monkeypatch.setattr(files, "fsync", self.fsync)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        self.appends.append(data)
        return self._write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self.fsyncs += 1
        self._fsync(descriptor)

    def forget(self) -> None:
        self.appends.clear()
        self.fsyncs = 0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(make: Callable[[], Any], close: Callable[[Any], object], *, name: str) -> Worker[Any]:  # noqa: ARG001 - reason: the port's
        return InlineWorker(make, close)

    monkeypatch.setattr(Worker, "start", start)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def opened(path: Path, sync: Config | None = None) -> Any:  # noqa: ANN401 - reason: as open returns it
    return StateManager.open(path, records=[Plan], sync=sync)


class TestDebouncing:
    """A flush comes after a quiet spell, and never later than the hard limit."""

    async def test_fifty_creates_over_five_seconds_are_one_append_and_one_fsync(
        self, tmp_path: Path, disk: Disk
    ) -> None:
        async with opened(tmp_path, SyncConfig(debounce_ms=1_000, max_delay_ms=5_000)) as store:
            await store.put(Plan(id="first"))
            await store.flush()
            disk.forget()
            for number in range(50):
                await store.create(Plan(id=f"{number}"))
                await sleep(0.1)
            await sleep(0.01)
            assert (len(disk.appends), disk.fsyncs) == (1, 1)
            assert len(ids_of(tmp_path)) == 51
            await sleep(60)
            assert (len(disk.appends), disk.fsyncs) == (1, 1), "nothing waits any more"
            assert (await store.stats()).flush.count >= 2

    async def test_a_quiet_spell_is_enough(self, tmp_path: Path, disk: Disk) -> None:
        async with opened(tmp_path, SyncConfig(debounce_ms=1_000, max_delay_ms=60_000)) as store:
            await store.flush()
            disk.forget()
            for number in range(10):
                await store.put(Plan(id=f"{number}"))
                await sleep(0.9)
            assert disk.appends == []
            stats = await store.stats()
            assert stats.waiting >= 10
            assert stats.lag_ms == pytest.approx(9_000)
            await sleep(0.2)
            assert len(disk.appends) == 1
            assert (await store.stats()).lag_ms == 0

    async def test_many_do_not_wait_at_all(self, tmp_path: Path, disk: Disk) -> None:
        async with opened(tmp_path, SyncConfig(debounce_ms=60_000, max_delay_ms=60_000, max_pending=20)) as store:
            await store.flush()
            disk.forget()
            for number in range(25):
                await store.put(Plan(id=f"{number}"))
            await sleep(0.1)
            assert len(disk.appends) == 1

    @pytest.mark.parametrize(("coalesce", "lines"), [(True, 1), (False, 20)])
    async def test_twenty_updates_of_one_record(self, coalesce: bool, lines: int, tmp_path: Path) -> None:  # noqa: FBT001 - reason: a parameter
        async with opened(tmp_path, SyncConfig(coalesce=coalesce)) as store:
            for number in range(20):
                await store.put(Plan(id="a", number=number))
            await sleep(10)
            assert len(lines_of(tmp_path)) == lines
            assert lines_of(tmp_path)[-1]["number"] == 19

    async def test_nothing_is_exported_unless_asked_for(self, tmp_path: Path) -> None:
        async with opened(tmp_path, SyncConfig(auto_export=False)) as store:
            await store.put(Plan(id="a"))
            await sleep(600)
            assert ids_of(tmp_path) == set()
            report = await store.flush()
            assert report.lines >= 1
            assert ids_of(tmp_path) == {"a"}

    async def test_a_sync_flushes_too(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            await store.sync()
            assert ids_of(tmp_path) == {"a"}
            assert (await store.stats()).waiting == 0

    async def test_it_stands_back_from_git_up_to_the_limit(self, tmp_path: Path) -> None:
        lock = tmp_path / ".git" / "index.lock"
        lock.parent.mkdir()
        async with opened(tmp_path, SyncConfig(debounce_ms=1_000, max_delay_ms=5_000)) as store:
            lock.touch()
            await store.put(Plan(id="a"))
            await sleep(4.5)
            assert ids_of(tmp_path) == set()
            lock.unlink()
            await sleep(0.2)
            assert ids_of(tmp_path) == {"a"}
            lock.touch()
            await store.put(Plan(id="b"))
            await sleep(5.2)
            assert ids_of(tmp_path) == {"a", "b"}


class TestAFailingDisk:
    """What waits is kept and tried again, ever more rarely; ``stats()`` shows it, and ``flush()`` says it."""

    async def test_it_backs_off_and_recovers(
        self, tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            disk.full = True
            await sleep(60)
            stats = await store.stats()
            assert 5 <= stats.errors <= 15, "it tries again, and not all the time"
            assert "No space left" in str(stats.last_error)
            assert stats.lag_ms == pytest.approx(60_000, abs=100)
            assert stats.waiting >= 1
            with pytest.raises(FlushError, match="No space left"):
                await store.flush()
            await store.put(Plan(id="b"))
            disk.full = False
            await sleep(20)
            assert ids_of(tmp_path) == {"a", "b"}
            stats = await store.stats()
            assert (stats.waiting, stats.lag_ms) == (0, 0)
        assert "a background flush failed" in caplog.text

    async def test_who_opened_the_manager_may_be_told_instead(
        self, tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
    ) -> None:
        told: list[TaskStoreError] = []
        async with StateManager.open(tmp_path, records=[Plan], on_trouble=told.append) as store:
            for _ in range(2):
                await store.put(Plan(id="a"))
                disk.full = True
                await sleep(60)
                disk.full = False
                await sleep(20)
        assert [type(error) for error in told] == [FlushError, FlushError], "once for each time"
        assert not caplog.records

    @pytest.mark.parametrize("kind", ["raising", "async"])
    async def test_one_who_cannot_be_told_stops_nothing(
        self, tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture, kind: str
    ) -> None:
        def raising(_: TaskStoreError) -> None:
            raise ValueError("a mistake of the caller's")

        async def is_async(_: TaskStoreError) -> None: ...

        with Store.open(tmp_path, records=[Plan], sync=SyncConfig(auto_export=False)) as left:
            left.put(Plan(id="left"))
            left._engine.abandon()
        disk.full = True
        tell: Callable[[TaskStoreError], object] = raising if kind == "raising" else is_async
        async with StateManager.open(tmp_path, records=[Plan], on_trouble=tell) as store:
            await store.put(Plan(id="a"))
            await sleep(60)
            disk.full = False
            await sleep(20)
            assert ids_of(tmp_path) == {"left", "a"}
        said = [record.message for record in caplog.records]
        assert "on_trouble could not be called" in said
        assert any(message.startswith("flushing what was left failed, and is tried again") for message in said)
        assert "a background task failed, and is started again" not in said

    async def test_a_flush_that_is_cancelled_natively_still_counts_its_failure(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Cancelled(BaseException):
            """As asyncio's, held until the function had ended, and with its failure as the cause."""

        async def cancelled(*_: object) -> None:
            raise Cancelled from causes.pop()

        causes = [None, FlushError("plans.jsonl", "full", pending=1)]
        async with opened(tmp_path, SyncConfig(auto_export=False)) as store:
            await store.put(Plan(id="a"))
            waiting = store._flusher.schedule.waiting
            for left in (waiting, 0):
                with monkeypatch.context() as patch:
                    patch.setattr(store._flusher._worker, "run", cancelled)
                    with pytest.raises(Cancelled):
                        await store.flush()
                assert store._flusher.schedule.waiting == left


class TestLeases:
    """Leases run out while minutes pass."""

    async def test_one_that_is_renewed_lasts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clock.process_clock, "_last_ms", 0)
        monkeypatch.setattr(clock, "now_ms", lambda: 1_700_000_000_000 + int(trio.current_time() * 1_000))
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            lease = await store.claim(Plan, eq("id", "a"), owner="one", lease_ms=60_000)
            assert lease is not None
            for _ in range(10):
                await sleep(50)
                assert await store.claim(Plan, owner="two") is None
                await store.renew(Plan, "a", token=lease.token, lease_ms=60_000)
            await sleep(61)
            second = await store.claim(Plan, owner="two")
            assert second is not None
            assert second.token > lease.token

    async def test_waiting_gives_up_when_told(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            begun = trio.current_time()
            with pytest.raises(TimeoutError):
                await store.wait_for(Plan, timeout_s=120)
            assert trio.current_time() - begun == pytest.approx(120)


class TestTheSentry:
    """Files that moved are noticed within a second; git in the middle of it is not believed."""

    async def test_an_edit_is_imported(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"), durability=Durability.JOURNAL)
            with (tmp_path / ".taskstore" / "plans.jsonl").open("ab") as file:
                file.write(b'{"id":"b","title":"by hand","updated_at":5}\n')
            assert await store.get(Plan, "b") is None
            await sleep(0.6)
            assert await store.get(Plan, "b") is not None
            (tmp_path / ".taskstore" / "others.jsonl").write_text('{"id":"c","updated_at":5}\n')
            await sleep(0.6)
            assert await store.get("others", "c") is not None

    async def test_a_failing_look_is_logged_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        looks: list[Engine] = []

        def fail(_: Poller, engine: Engine) -> bool:
            looks.append(engine)
            raise TaskStoreError("not now")

        async with opened(tmp_path) as store:
            with monkeypatch.context() as patch:
                patch.setattr(Poller, "__call__", fail)
                await sleep(10)
            assert len(looks) >= 19
            assert caplog.text.count("looking at the files failed") == 1
            assert (await store.stats()).errors == len(looks)

    async def test_it_looks_again_soon_when_in_doubt(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        looks: list[float] = []

        def doubt(_: Poller, __: Engine) -> bool:
            looks.append(trio.current_time())
            return len(looks) == 1

        monkeypatch.setattr(Poller, "__call__", doubt)
        async with opened(tmp_path):
            await sleep(1.5)
        assert [later - earlier for earlier, later in pairwise(looks)] == pytest.approx([0.2, 0.5])

    async def test_its_end_is_part_of_leaving(self, tmp_path: Path) -> None:
        with CancelScope() as scope:
            async with opened(tmp_path) as store:
                await store.put(Plan(id="a"))
                scope.cancel()
                await sleep(1)
        assert ids_of(tmp_path) == {"a"}


class TestThePoller:
    """That a file vanished, shrank or ends in a torn line is believed when a look 200 ms later says the same."""

    @pytest.fixture
    def seconds(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [1_000.0]

        class Time:
            @staticmethod
            def monotonic() -> float:
                return now[0]

        monkeypatch.setattr(polling, "time", Time)
        return now

    @pytest.mark.parametrize("harm", ["vanished", "shrank", "torn"])
    async def test_it_looks_twice(self, harm: str, tmp_path: Path, seconds: list[float]) -> None:
        async with opened(tmp_path, SyncConfig(auto_export=False)) as store:
            for number in range(3):
                await store.put(Plan(id=f"{number}"), durability=Durability.JOURNAL)
            journal = tmp_path / ".taskstore" / "plans.jsonl"
            whole = journal.read_bytes()
            poller = Poller()
            if harm == "vanished":
                journal.unlink()
            elif harm == "shrank":
                journal.write_bytes(whole.splitlines(keepends=True)[0])
            else:
                journal.write_bytes(whole + b'{"id":"3","updated_at":5}')
            assert poller(store._worker._engine), "a second look is wanted"
            assert await store.count(Plan) == 3
            seconds[0] += 0.1
            assert poller(store._worker._engine), "too soon"
            journal.write_bytes(whole)  # git has done its work
            assert not poller(store._worker._engine)
            assert await store.count(Plan) == 3
            if harm == "vanished":
                journal.unlink()
            else:
                journal.write_bytes(whole.splitlines(keepends=True)[0])
            assert poller(store._worker._engine)
            seconds[0] += 0.2
            assert not poller(store._worker._engine)
            assert await store.count(Plan) == (0 if harm == "vanished" else 1)
