"""Several handles on one store: marks, seqs, forks, and what a killed one leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest

from taskstore_async.core.record import Document
from taskstore_async.core.schedule import SyncConfig
from taskstore_async.core.stamp import MAX_STAMP_MS
from taskstore_async.errors import StoreClosedError, StoreLockedError, TaskStoreError
from taskstore_async.storage import index as index_module
from taskstore_async.storage import log, sessions
from taskstore_async.storage.clock import process_clock
from taskstore_async.storage.engine import Engine
from taskstore_async.storage.lock import StoreLock
from taskstore_async.storage.store import Store
from tests.storage.samples import Plan
from tests.storage.workshop import (
    NAME,
    Durability,
    assert_true,
    document,
    journal_of,
    line,
    lines_in,
    open_store,
    outbox,
    rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNAL = Durability.JOURNAL


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handles that never count as idle keep their marks for the next transaction."""
    monkeypatch.setattr(sessions, "_IDLE_S", float("inf"))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    with open_store(tmp_path) as first, open_store(tmp_path) as second:
        yield first, second


def has_marks(store: Store) -> bool:
    return store._engine.has_marks


class TestMarks:
    """What a flush has to mark is written with the next transaction, unless somebody could miss it until then."""

    @pytest.mark.usefixtures("busy")
    def test_it_waits_for_the_next_transaction(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.put(document("a"), durability=JOURNAL)
            assert has_marks(store)
            store.put(document("b"), durability=Durability.INDEX)
            assert not has_marks(store)
            assert not store.is_stale()
            store.flush()
            assert not has_marks(store)
            assert_true(store)

    def test_a_handle_that_was_idle_writes_it_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "_IDLE_S", -1.0)
        with open_store(tmp_path) as store:
            store.put(document("a"), durability=JOURNAL)
            assert not has_marks(store)
            store._engine.abandon()
        with open_store(tmp_path) as store:
            assert store.sync().collections == {}

    @pytest.mark.usefixtures("busy")
    def test_when_somebody_else_has_written_it_is_not_put_off(self, pair: tuple[Store, Store]) -> None:
        first, second = pair
        first.put(document("a"), durability=JOURNAL)
        assert has_marks(first)
        second.put(document("b"), durability=JOURNAL)
        first.put(document("c"), durability=JOURNAL)
        assert not has_marks(first)
        assert_true(first)

    @pytest.mark.usefixtures("busy")
    def test_two_unsaved_ones(self, pair: tuple[Store, Store]) -> None:
        first, second = pair
        first.put(document("a"), durability=JOURNAL)
        second.put(document("b"), durability=JOURNAL)
        second.put(document("c"))
        first.put(document("d"), durability=JOURNAL)
        second.flush()
        first.flush()
        assert len(lines_in(first)) == 4
        assert outbox(first) == []
        assert_true(first)
        assert_true(second)

    @pytest.mark.usefixtures("busy")
    def test_it_is_dropped_when_an_import_came_between(self, pair: tuple[Store, Store]) -> None:
        first, second = pair
        first.put(document("a"), durability=JOURNAL)
        with journal_of(first).open("ab") as file:
            file.write(line("x", 1) + b"\n")
        second.sync()  # settles what the first has written
        first.put(document("b"), durability=JOURNAL)
        assert len(lines_in(first)) == 3
        assert set(rows(first)) == {"a", "b", "x"}
        assert_true(first)

    @pytest.mark.usefixtures("busy")
    def test_it_hides_nothing_that_others_wrote_meanwhile(self, pair: tuple[Store, Store]) -> None:
        first, second = pair
        first.put(document("a"), durability=JOURNAL)
        second.put(document("b"))
        assert first.flush().lines == 1
        assert len(lines_in(first)) == 2
        assert_true(second)

    @pytest.mark.usefixtures("busy")
    def test_it_does_not_survive_a_kill_and_need_not(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.put(document("a"), durability=JOURNAL)
        store._engine.abandon()
        with open_store(tmp_path) as store:
            assert outbox(store) == []
            assert len(lines_in(store)) == 1
            assert_true(store)


class TestSeqs:
    """No change is ever entered below a mark."""

    def test_a_flush_by_a_younger_handle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = open_store(tmp_path)
        first.put(document("a"))
        monkeypatch.setattr("taskstore_async.storage.connections.process_clock", lambda: process_clock() + 3_600_000)
        with open_store(tmp_path) as hook:  # its seqs begin an hour above
            hook.flush()
        monkeypatch.undo()
        first.put(document("b"))
        assert len(outbox(first)) == 1
        assert first.flush().lines == 1
        assert len(lines_in(first)) == 2
        first.close()

    def test_three_handles_that_alternate(self, tmp_path: Path) -> None:
        stores = [open_store(tmp_path) for _ in range(3)]
        for number in range(12):
            store = stores[number % 3]
            durability = JOURNAL if number % 4 == 0 else Durability.INDEX
            store.put(document(f"p{number % 5}", value=number), durability=durability)
            assert all(rows(other) == rows(store) for other in stores)
        for store in stores:
            assert_true(store)
            store.close()
        with open_store(tmp_path) as store:
            found = store.get(NAME, "p1")
            assert found is not None
            assert found["value"] == 11


class TestLog:
    """The log keeps the outbox whatever its length, and so many rows beside it."""

    def test_trimming(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log, "TRIM_EVERY", 0)
        monkeypatch.setattr(log.trim, "__kwdefaults__", {"keep": 3})
        with open_store(tmp_path) as store:
            for number in range(6):
                store.put(document(f"p{number}"))
            assert store.stats().log_rows == 6
            assert len(outbox(store)) == 6
            store.flush()
            store.put(document("last"))
            assert store.stats().log_rows == 3
            assert len(outbox(store)) == 1
            assert_true(store)

    def test_every_version_has_a_line_when_they_are_not_to_be_joined(self, tmp_path: Path) -> None:
        with open_store(tmp_path, sync=SyncConfig(auto_export=False, coalesce=False)) as store:
            for number in range(3):
                store.put(document("a", value=number))
            store.flush()
            assert len(lines_in(store)) == 3
        with open_store(tmp_path) as store:
            for number in range(3):
                store.put(document("a", value=number))
            store.flush()
            assert len(lines_in(store)) == 4
            assert_true(store)


class TestTies:
    """At the greatest stamp position decides, and an older identical line settles nothing."""

    def test_a_b_a(self, tmp_path: Path) -> None:
        top = line("a", MAX_STAMP_MS, v=0)
        with open_store(tmp_path) as store:
            journal_of(store).write_bytes(top + b"\n")
            store.sync()
            for value in (1, 2, 1):
                store.put(document("a", v=value, created_at=1), durability=JOURNAL)
            assert len(lines_in(store)) == 4
            assert lines_in(store)[1] == lines_in(store)[3]
            store.put(document("a", v=2, created_at=1))
            store._engine.abandon()
        with open_store(tmp_path) as store:
            with journal_of(store).open("ab") as file:
                file.write(line("x", 1) + b"\n")
            journal_of(store).write_bytes(journal_of(store).read_bytes() + b"")
            store.sync(rebuild=True)
            found = store.get(NAME, "a")
            assert found is not None
            assert found["v"] == 2
            assert_true(store)

    def test_a_pending_line_wins_a_tie_and_loses_to_a_higher_stamp(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            ours = store.put(document("a", v="ours"))
            path = journal_of(store)
            path.write_bytes(line("a", ours.updated_at, v="theirs") + b"\n")
            assert store.sync(check=True).collections[NAME].taken == 0
            path.write_bytes(line("a", ours.updated_at + 1, v="theirs") + b"\n")
            report = store.sync()
            assert report.collections[NAME].outbid == 1
            assert report.collections[NAME].flushed == 1
            assert len(lines_in(store)) == 2  # it is appended all the same
            found = store.get(NAME, "a")
            assert found is not None
            assert found["v"] == "theirs"
            assert_true(store)


class TestRebuild:
    def test_it_keeps_what_waits_though_the_file_won(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            ours = store.put(document("a", v="ours"))
            with store._engine.session() as session:
                journal_of(store).write_bytes(line("a", ours.updated_at + 5, v="theirs") + b"\n")
                with session.index.transaction(full=False):
                    session.syncer.rebuild(NAME)
            assert len(outbox(store)) == 1
            store.flush()
            assert len(lines_in(store)) == 2
            assert_true(store)

    def test_it_settles_what_is_there_and_tells_the_feed_what_differs(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            for key in ("same", "gone", "changed"):
                store.put(document(key), durability=JOURNAL)
            store.put(document("pending"))
            raw = outbox(store)[0]
            kept = [one for one in lines_in(store) if b"gone" not in one]
            with store._engine.session() as session:
                later = line("changed", 4_000_000_000_000)
                journal_of(store).write_bytes(b"\n".join([*kept, raw, later, line("new", 1), b""]))
                (before,) = session.index.db.execute("SELECT max(seq) FROM log").fetchone()
                with session.index.transaction(full=False):
                    report = session.syncer.rebuild(NAME)
                noted = session.index.db.execute("SELECT id, kind FROM log WHERE seq > ?", (before,)).fetchall()
            assert report.settled == 1
            assert sorted(noted) == [("changed", 2), ("gone", 4), ("new", 1)]
            assert outbox(store) == []
            assert_true(store)

    def test_a_file_that_cannot_be_read_keeps_the_rows(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.put(document("a"), durability=JOURNAL)
            data = journal_of(store).read_bytes()
            journal_of(store).write_bytes(b"garbage\n")
            assert store.sync(rebuild=True).collections[NAME].how == "closed"
            assert set(rows(store)) == {"a"}
            journal_of(store).write_bytes(data)
            store.sync(rebuild=True)
            assert_true(store)

    def test_an_absent_file(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.put(document("a"), durability=JOURNAL)
            journal_of(store).unlink()
            store.sync(rebuild=True)
            assert rows(store) == {}
            assert_true(store)


class TestLife:
    def test_a_closed_handle_refuses_everything(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.close()
        store.close()
        for call in (
            store.flush,
            store.sync,
            store.is_stale,
            lambda: store.get(NAME, "a"),
            lambda: store.put(document("a")),
        ):
            with pytest.raises(StoreClosedError):
                call()
        assert store._engine.flush_if_due() is None

    def test_no_thread_is_left(self, tmp_path: Path) -> None:
        before = threading.active_count()
        with open_store(tmp_path) as store, open_store(tmp_path):
            store.put(document("a"))
            assert threading.active_count() == before + 1
        for thread in threading.enumerate():
            if "lock" in thread.name.lower() and thread is not threading.current_thread():
                thread.join(10)
        assert threading.active_count() == before

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_forked_child_is_told(self, tmp_path: Path) -> None:
        program = f"""
            import os
            from taskstore_async.core.record import Document
            from taskstore_async.errors import StoreClosedError
            from taskstore_async.storage.store import Store
            store = Store.open({str(tmp_path)!r})
            store.put(Document("plans", {{"id": "a"}}))
            child = os.fork()
            if child == 0:
                told = 0
                for call in (store.flush, store.sync, lambda: store.get("plans", "a"), store.is_stale):
                    try:
                        call()
                    except StoreClosedError:
                        told += 1
                store.close()
                os._exit(told)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
            store.put(Document("plans", {{"id": "b"}}))
            store.close()
        """
        subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], check=True)
        with open_store(tmp_path) as store:
            assert set(rows(store)) == {"a", "b"}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_child_opens_the_store_though_a_thread_was_opening_it(self, tmp_path: Path) -> None:
        program = f"""
            import os, signal, threading
            from taskstore_async.core.record import Document
            from taskstore_async.storage.shared_memory import SharedMemory
            from taskstore_async.storage.store import Store
            Store.open({str(tmp_path)!r}).close()
            held = threading.Event()
            def hold():
                with SharedMemory.mutex:
                    held.set()
                    threading.Event().wait()
            threading.Thread(target=hold, daemon=True).start()
            held.wait()
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                store = Store.open({str(tmp_path)!r})
                store.put(Document("plans", {{"id": "a"}}))
                store.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """
        subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], check=True)
        with open_store(tmp_path) as store:
            assert set(rows(store)) == {"a"}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_nobody_cuts_off_what_a_child_has_mapped_when_its_parent_has_closed(self, tmp_path: Path) -> None:
        program = f"""
            import fcntl, os
            from taskstore_async.core.record import Document
            from taskstore_async.storage.store import Store
            parents = Store.open({str(tmp_path)!r})
            parents.put(Document("plans", {{"id": "a"}}))
            opened, leave = os.pipe(), os.pipe()
            child = os.fork()
            if child == 0:
                store = Store.open({str(tmp_path)!r})
                os.write(opened[1], b".")
                os.read(leave[0], 1)
                store.put(Document("plans", {{"id": "b"}}))
                store.close()
                os._exit(0)
            os.read(opened[0], 1)
            path = parents.path
            parents.close()
            # SQLite tries this before it takes the shared memory for left over, or deletes the log of the index.
            for name, start, length in (("store.db-shm", 128, 1), ("store.db", 0x40000002, 510)):
                with open(path / name, "r+b") as file:
                    try:
                        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
                    except BlockingIOError:
                        continue
                    raise AssertionError(name)
            os.write(leave[1], b".")
            assert os.waitpid(child, 0)[1] == 0
        """
        subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], check=True, timeout=60)
        with open_store(tmp_path) as store:
            assert set(rows(store)) == {"a", "b"}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_child_does_not_write_beside_others_while_its_parents_connections_keep_shared_memory_that_is_lost(
        self, tmp_path: Path
    ) -> None:
        program = f"""
            import os
            from taskstore_async.core.record import Document
            from taskstore_async.errors import WriteFailedError
            from taskstore_async.storage.store import Store
            parents = Store.open({str(tmp_path)!r})
            parents.put(Document("plans", {{"id": "a"}}))
            child = os.fork()
            if child == 0:
                store = Store.open({str(tmp_path)!r})
                store.put(Document("plans", {{"id": "b"}}))
                os.unlink(store.path / "store.db-shm")
                try:
                    store.put(Document("plans", {{"id": "c"}}))
                except WriteFailedError:
                    os._exit(7)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        """
        subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], check=True)
        with open_store(tmp_path) as store:
            assert set(rows(store)) == {"a", "b"}

    def test_the_lock_is_waited_for_and_no_longer(self, tmp_path: Path) -> None:
        with open_store(tmp_path, lock_timeout_s=0.05) as store:
            store.put(document("a"))
            held, leave = threading.Event(), threading.Event()

            def hold() -> None:
                with StoreLock.of(store.path).hold():
                    held.set()
                    leave.wait(10)

            thread = threading.Thread(target=hold)
            thread.start()
            held.wait(10)
            with pytest.raises(StoreLockedError):
                store.put(document("b"))
            assert set(rows(store)) == {"a"}  # readers do not wait
            leave.set()
            thread.join()
            store.put(document("b"))

    def test_what_waits_is_flushed_when_it_is_due(self, tmp_path: Path) -> None:
        with open_store(tmp_path, sync=SyncConfig(debounce_ms=0)) as store:
            store.put(document("a"))
            assert len(lines_in(store)) == 1
        with open_store(tmp_path) as store:
            store.put(document("b"))
            assert store._engine.flush_if_due() is None
        assert len(lines_in(tmp_path)) == 2

    def test_what_a_killed_handle_left_is_due_for_the_next_that_writes(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.put(document("a"))
        store._engine.abandon()
        with open_store(tmp_path) as store:
            store.put(document("b"))
            assert store._engine.schedule.waiting == 2
        assert len(lines_in(tmp_path)) == 2

    def test_an_open_that_fails_leaves_nothing_open(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise TaskStoreError("no")

        monkeypatch.setattr(Engine, "_open", fail)
        with pytest.raises(TaskStoreError):
            open_store(tmp_path)

    def test_a_declaration_is_made_again_from_the_file(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=[Plan]) as store:
            store.put(Plan(id="a", status="open"))
            assert store.rebuild_indexes(Plan) == 1
            assert_true(store)
            assert store.check().ok


class TestCheckpoint:
    def test_a_long_write_ahead_log_is_written_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(index_module, "_LOOK_EVERY", 1)
        with open_store(tmp_path) as store:
            index = store._engine.connections.index
            assert index is not None
            seen: list[str] = []
            index.db.set_trace_callback(lambda sql: seen.append(sql) if "checkpoint" in sql else None)
            store.put(document("a"))
            assert seen == []
            monkeypatch.setattr(index_module.Index.checkpoint, "__kwdefaults__", {"above": 0})
            store.put(document("a"))
            assert seen == ["PRAGMA wal_checkpoint(PASSIVE)"]


def test_batches_of_two_collections_are_flushed_each_in_one_append(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with store.batch(durability=JOURNAL) as batch:
            batch.put(document("a"))
            batch.put(Document("others", {"id": "a"}))
            batch.delete(NAME, "a")
        assert len(lines_in(store)) == 2
        assert_true(store)
