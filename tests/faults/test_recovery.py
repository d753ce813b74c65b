"""Something goes missing under an open handle: writes say what to do, reads go on, and with it back everything does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anyio import fail_after, sleep

from taskstore_async import StateManager, Store, SyncConfig
from taskstore_async.errors import WriteFailedError
from taskstore_async.storage import shared_memory
from taskstore_async.storage.polling import Poller
from tests.conftest import REPOSITORY
from tests.faults import shim
from tests.faults.recovery import KINDS, Heard, balloon, deleted, driven, moved_away
from tests.faults.test_matrix import mounted
from tests.processes.child import Child
from tests.storage.workshop import MANUAL, NAME, assert_true, document, journal_of, lines_in, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes, limits and open files that move are POSIX's")
READS = {"get", "list"}
each_kind = pytest.mark.parametrize("kind", KINDS)


def assert_reads_went_on(during: list[Heard], after: list[Heard]) -> None:
    assert [one for one in during if one.call in READS and one.error] == []
    assert [one for one in after if one.error] == []


@pytest.mark.anyio
class TestTakenAway:
    """A handle that is open goes on when what was taken away is back, and needs not be opened again."""

    @each_kind
    async def test_the_directory(self, tmp_path: Path, kind: str) -> None:
        during, after = await driven(kind, tmp_path, moved_away)
        assert_reads_went_on(during, after)
        refused = [one for one in during if one.call not in READS]
        assert {one.error for one in refused} == {"NoStoreError"}
        assert all("put it back" in one.text for one in refused)

    @each_kind
    @pytest.mark.parametrize("name", ["store.db-shm", "store.lock"])
    async def test_a_file_that_is_made_anew(self, tmp_path: Path, kind: str, name: str) -> None:
        during, after = await driven(kind, tmp_path, partial(deleted, name=name))
        assert_reads_went_on(during, after)
        assert [one for one in during if one.error] == []

    @each_kind
    async def test_the_room_on_the_disk(self, tmp_path: Path, kind: str) -> None:
        with mounted(tmp_path, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
            during, after = await driven(kind, tmp_path, balloon)
        assert_reads_went_on(during, after)
        refused = [one for one in during if one.error]
        assert {"relaxed", "index", "journal"} & {one.call for one in refused}
        assert all("full" in one.text or "No space" in one.text for one in refused)
        assert [one for one in refused if "make room" in one.text]


class TestSharedMemory:
    """Processes see what the others write, also when one was there before store.db-shm was deleted."""

    @pytest.mark.parametrize(("one", "other"), [("asyncio", "trio"), ("trio", "asyncio")])
    def test_deleted_between_two_that_open_it(self, tmp_path: Path, one: str, other: str) -> None:
        with Child("peer", store=tmp_path, backend=one, name="a", auto_export=False) as a:
            a.hear_of("ready")
            a.tell("write", count=1, durability="index")
            a.hear_of("done")
            (tmp_path / ".taskstore" / "store.db-shm").unlink()
            with Child("peer", store=tmp_path, backend=other, name="b", auto_export=False) as b:
                b.hear_of("ready")
                for turn in range(1, 6):
                    for writer, reader, name in ((b, a, "b"), (a, b, "a")):
                        writer.tell("write", count=1, durability="index")
                        n = writer.hear_of("ack")["n"]
                        assert n == turn + (name == "a")
                        reader.tell("get", id=f"{name}-{n % 5}")
                        assert reader.hear_of("got")["got"] == n
                a.finish()
                b.finish()

    @pytest.mark.anyio
    async def test_deleted_under_two_handles_of_one_process(self, tmp_path: Path) -> None:
        async with StateManager.open(tmp_path) as one, StateManager.open(tmp_path) as other:
            for manager in (one, other):
                await manager.put(document("before"))
                await manager.get(NAME, "before")
            (tmp_path / ".taskstore" / "store.db-shm").unlink()
            with suppress(WriteFailedError):  # as long as the other has it open
                await one.put(document("during"))
            assert await other.get(NAME, "before") is not None
            await other._worker.run(Poller())  # comes by itself twice a second
            await one.put(document("after"))
            assert await other.get(NAME, "after") is not None
            assert (await other.check()).ok

    def test_deleted_under_a_handle_on_which_nothing_is_called(self, tmp_path: Path) -> None:
        with Store.open(tmp_path) as idle, Store.open(tmp_path) as store:
            idle.put(document("before"))
            (tmp_path / ".taskstore" / "store.db-shm").unlink()
            for _ in range(3):
                with pytest.raises(WriteFailedError, match="use or close the other handles"):
                    store.put(document("refused"))
            assert idle.get(NAME, "before") is not None
            store.put(document("after"))
            assert idle.get(NAME, "after") is not None
            assert idle.get(NAME, "refused") is None


class TestLogAndSharedMemory:
    """What waits to be flushed in a write-ahead log that was deleted is not lost while a handle has it open."""

    @pytest.mark.parametrize("before", [True, False])
    def test_with_another_process_that_opened_it_before_or_after(self, tmp_path: Path, *, before: bool) -> None:
        with open_store(tmp_path) as store:
            for number in range(20):
                store.put(document(f"r{number}"))
            if not before:
                unlink_beside_the_index(tmp_path)
                store.put(document("after"))
            with Child("hold", store=tmp_path, count=1) as other:
                other.hear_of("made")
                if before:
                    unlink_beside_the_index(tmp_path)
                    store.put(document("after"))
                other.tell("make", count=5)
                other.hear_of("made")
                assert_true(store)
                assert store.count(NAME) == 21
                assert store.count("notes") == 6
                other.finish()
            store.flush()
            wanted = ["after", *(f"r{number}" for number in range(20))]
            assert sorted(json.loads(raw)["id"] for raw in lines_in(tmp_path)) == sorted(wanted)
            assert_true(store)

    def test_what_is_there_twice_is_flushed_once(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.put(document("flushed"))
            store.flush()
            store.put(document("waits"))
            unlink_beside_the_index(tmp_path)
            store.put(document("after"))
            store.flush()
            assert [json.loads(raw)["id"] for raw in lines_in(tmp_path)] == ["flushed", "waits", "after"]
            assert_true(store)

    @pytest.mark.anyio
    async def test_deleted_under_a_manager_that_nobody_asks(self, tmp_path: Path) -> None:
        quiet = SyncConfig(debounce_ms=300, max_delay_ms=300)
        async with StateManager.open(tmp_path, sync=quiet) as manager:
            await manager.put(document("waits"))
            unlink_beside_the_index(tmp_path)
            with fail_after(60):
                while not journal_of(tmp_path).exists() or not lines_in(tmp_path):  # noqa: ASYNC110 - reason: files tell nobody
                    await sleep(0.01)
            assert await manager.get(NAME, "waits") is not None
            assert (await manager.check()).ok

    @pytest.mark.parametrize("asked", [True, False])
    def test_a_read_is_first_to_notice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, asked: bool) -> None:
        monkeypatch.setattr(shared_memory, "_MOMENT_S", 0.0)
        with open_store(tmp_path) as store:
            store.put(document("waits"))
            store.count(NAME)
            unlink_beside_the_index(tmp_path)
            if asked:
                assert store.get(NAME, "waits") is not None
            else:
                store._engine.connections.close_reader()
        with open_store(tmp_path) as again:
            assert again.get(NAME, "waits") is not None

    def test_a_read_is_first_to_notice_an_empty_file_in_place_of_the_index(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.put(document("waits"))
            (tmp_path / "empty").touch()
            (tmp_path / "empty").replace(tmp_path / ".taskstore" / "store.db")
            assert store.count(NAME) == 1
        with open_store(tmp_path) as again:
            assert again.get(NAME, "waits") is not None
            assert_true(again)

    @pytest.mark.anyio
    async def test_it_does_not_stay_in_memory(self, tmp_path: Path) -> None:
        async with StateManager.open(tmp_path, sync=MANUAL) as manager:
            await manager.put(document("waits"))
            unlink_beside_the_index(tmp_path)
            with fail_after(60):
                while not (tmp_path / ".taskstore" / "store.db-wal").exists():  # noqa: ASYNC110 - reason: files tell nobody
                    await sleep(0.01)
            await manager._worker.run(Poller())
            with Store.open(tmp_path, create=False) as other:
                assert other.get(NAME, "waits") is not None


def unlink_beside_the_index(root: Path) -> None:
    """What somebody does who takes them for leftovers."""
    for suffix in ("-wal", "-shm"):
        (root / ".taskstore" / f"store.db{suffix}").unlink()


def told(case: str, backend: str, folder: str, **more: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - reason: Popen's
    command = [sys.executable, "-m", "tests.faults.recovery", case, backend, folder]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False, **more)
    assert done.returncode == 0, done.stderr[-3000:]
    return map(json.loads, done.stdout.splitlines())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestProcess:
    """The same where all of a process has to be short of something."""

    def test_descriptors(self, tmp_path: Path, backend: str) -> None:
        events = list(told("descriptors", backend, str(tmp_path)))
        for event in events[:2]:
            during = [Heard(*one) for one in event["during"]]
            assert_reads_went_on(during, [Heard(*one) for one in event["after"]])
            refused = [one for one in during if one.error]
            assert {one.call for one in refused} == {"journal", "flush"}
            assert all("Too many open files" in one.text for one in refused)
        assert [event["kind"] for event in events[2:]] == list(KINDS)
        assert all(event["works"] and event["refused"] for event in events[2:])

    def test_permissions(self, backend: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o777)
            for event in told("modes", backend, folder):
                during = [Heard(*one) for one in event["during"]]
                assert_reads_went_on(during, [Heard(*one) for one in event["after"]])
                refused = [one for one in during if one.error]
                assert {one.call for one in refused} == {"journal", "flush"}
                assert all("Permission denied" in one.text for one in refused)

    @pytest.mark.skipif(bool(shim.why_not()), reason=shim.why_not() or "")
    def test_a_descriptor_for_a_moment(self, tmp_path: Path, backend: str) -> None:
        for event in told("moment", backend, str(tmp_path), env={**os.environ, **shim.environment()}):
            assert [one for one in (*event["during"], *event["after"]) if one[1]] == []
