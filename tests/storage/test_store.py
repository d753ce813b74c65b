from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from zlib import crc32

import msgspec
import pytest

from taskstore_async.core.document import crc_of
from taskstore_async.core.filters import eq, gt, in_, ne
from taskstore_async.core.record import Document, Indexed, Record, References, Unique
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.errors import (
    AlreadyExistsError,
    AmbiguousIdError,
    CollectionClosedError,
    DeclarationConflictError,
    InvalidIdError,
    InvalidNameError,
    InvalidRecordError,
    LimitExceededError,
    NoStoreError,
    NotFoundError,
    StaleWriteError,
    StoreClosedError,
    TaskStoreError,
    UniqueError,
    UnreadableRecordError,
    WriteFailedError,
)
from taskstore_async.storage import clock, files, inspection
from taskstore_async.storage.lock import StoreLock
from taskstore_async.storage.store import Store

from .samples import ALL, QUIET, Loose, Plan, files_of, lines_of, tamper, unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from taskstore_async.storage.batch import BatchWriter


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, records=ALL, sync=QUIET) as opened:
        yield opened
        assert opened.check().ok


class TestWrites:
    """Every write returns what it stored, and what it stored is what is read."""

    def test_create_sets_both_stamps_and_get_returns_the_same(self, store: Store) -> None:
        made = store.create(Plan(id="p", title="x"))
        assert made.created_at == made.updated_at > 0
        assert store.get(Plan, "p") == made
        assert store.get("plans", "p") == Document("plans", json.loads(store.line(Plan, "p") or b""))

    def test_create_keeps_a_created_at_of_its_own(self, store: Store) -> None:
        assert store.create(Plan(id="p", created_at=5)).created_at == 5

    def test_create_over_a_record_is_refused(self, store: Store) -> None:
        store.create(Plan(id="p", title="first"))
        with unchanged(store), pytest.raises(AlreadyExistsError):
            store.create(Plan(id="p", title="second"))

    def test_put_keeps_the_stored_created_at_when_it_has_none(self, store: Store) -> None:
        store.create(Plan(id="p", created_at=5))
        assert store.put(Plan(id="p", title="new")).created_at == 5
        assert store.put(Document("plans", {"id": "p"})).created_at == 5

    def test_put_over_a_tombstone_is_a_new_record_with_a_later_stamp(self, store: Store) -> None:
        store.create(Plan(id="p", created_at=5))
        store.delete(Plan, "p")
        store.flush()
        dead_at = json.loads(lines_of(store, "plans")[-1])["updated_at"]
        made = store.put(Plan(id="p"))
        assert made.updated_at > dead_at
        assert made.created_at not in {None, 5}

    def test_typed_writes_keep_unknown_fields_and_documents_replace_all(self, store: Store) -> None:
        store.create(Document("plans", {"id": "p", "title": "x", "price": Decimal("1.10"), "extra": [1]}))
        plan = store.get(Plan, "p")
        assert plan is not None
        plan = store.update(plan.evolve(title="y"))
        assert store.modify(Plan, "p", lambda one: one.evolve(priority=3)).priority == 3
        store.put(Plan(id="p", title="z"))
        assert b'"price":1.10' in (store.line("plans", "p") or b"")
        assert b'"extra":[1]' in (store.line("plans", "p") or b"")
        store.put(Document("plans", {"id": "p", "title": "only"}))
        document = store.get("plans", "p")
        assert document is not None
        assert set(document) == {"id", "title", "created_at", "updated_at"}

    def test_a_write_that_changes_nothing_is_a_new_version(self, store: Store) -> None:
        first = store.create(Plan(id="p"))
        second = store.update(first)
        assert second.updated_at > first.updated_at

    def test_update_and_delete_of_an_absent_record_are_refused(self, store: Store) -> None:
        store.create(Plan(id="plan-1"))
        with unchanged(store):
            with pytest.raises(NotFoundError):
                store.update(Plan(id="nothing", updated_at=1))
            with pytest.raises(NotFoundError):
                store.delete(Plan, "nothing")
            with pytest.raises(NotFoundError, match="plan-1"):
                store.modify(Plan, "plan-2", lambda one: one)

    def test_an_absent_record_is_named_with_those_that_begin_like_it(self, store: Store) -> None:
        store.create_many([Plan(id=f"plan-{n}") for n in range(3)])
        for asked, near in (
            ("plan-", ("plan-0", "plan-1", "plan-2")),
            ("plan-1x", ()),
            ("plan", ("plan-0",)),
            (" ", ()),
        ):
            with pytest.raises(NotFoundError) as caught:
                store.modify(Plan, asked, lambda one: one)
            assert set(near) <= set(caught.value.near)
        store.create(Plan(id="single"))
        with pytest.raises(NotFoundError) as caught:
            store.modify(Plan, "sing", lambda one: one)
        assert caught.value.near == ("single",)

    def test_update_compares_the_stamp(self, store: Store) -> None:
        first = store.create(Plan(id="p"))
        store.update(first.evolve(title="mine"))
        with unchanged(store), pytest.raises(StaleWriteError) as caught:
            store.update(first.evolve(title="theirs"))
        assert caught.value.expected_at == first.updated_at
        assert "CRC" not in str(caught.value)

    def test_update_compares_the_line_when_the_stamps_are_equal(self, store: Store) -> None:
        store.flush()
        journal = store.path / "plans.jsonl"
        journal.write_bytes(b'{"id":"p","updated_at":5,"title":"a"}\n')
        store.sync()
        read = store.get(Plan, "p")
        assert read is not None
        journal.write_bytes(b'{"id":"p","updated_at":5,"title":"b"}\n')
        store.sync()
        with unchanged(store), pytest.raises(StaleWriteError, match=r"CRC [0-9a-f]{8}.*CRC [0-9a-f]{8}"):
            store.update(read.evolve(title="c"))

    def test_a_record_that_was_never_read_compares_its_stamp_alone_and_0_never_matches(self, store: Store) -> None:
        made = store.create(Plan(id="p"))
        assert store.update(Plan(id="p", title="x", updated_at=made.updated_at)).title == "x"
        with pytest.raises(StaleWriteError):
            store.update(Plan(id="p"))

    def test_modify_retries_until_nobody_was_faster(self, store: Store) -> None:
        store.create(Plan(id="p"))
        tries: list[int] = []

        def function(plan: Plan) -> Plan:
            tries.append(plan.priority)
            if len(tries) < 3:
                store.put(plan.evolve(priority=plan.priority + 10))
            return plan.evolve(title="done")

        made = store.modify(Plan, "p", function)
        assert (made.priority, made.title, tries) == (20, "done", [0, 10, 20])

    def test_modify_takes_a_record_made_anew(self, store: Store) -> None:
        store.create(Plan(id="p", created_at=5))
        made = store.modify(Plan, "p", lambda one: Plan(id=one.id, title="anew"))
        assert (made.title, made.created_at) == ("anew", 5)
        document = store.modify("plans", "p", lambda one: Document("plans", {"id": "p", "title": one["title"]}))
        assert set(document) == {"id", "title", "created_at", "updated_at"}

    def test_modify_refuses_another_record(self, store: Store) -> None:
        store.create_many([Plan(id="p"), Plan(id="q")])
        with unchanged(store), pytest.raises(InvalidIdError, match="plans/q"):
            store.modify(Plan, "p", lambda one: one.evolve(id="q"))

    def test_delete_takes_the_version_it_may_delete(self, store: Store) -> None:
        made = store.create(Plan(id="p"))
        with unchanged(store), pytest.raises(StaleWriteError):
            store.delete(Plan, "p", if_updated_at=made.updated_at - 1)
        store.delete(Plan, "p", if_updated_at=made.updated_at)
        assert store.get(Plan, "p") is None

    def test_an_integer_id_is_its_text_and_stays_an_integer_in_the_line(self, store: Store) -> None:
        (store.path / "events.jsonl").write_bytes(b'{"id":7,"x":1}\n{"id":8,"x":1}\n')
        store.sync()
        document = store.get("events", "7")
        assert document is not None
        store.update(document.evolve(x=2))
        store.delete("events", "8")
        store.flush()
        *_, seven, eight = lines_of(store, "events")
        assert seven.startswith(b'{"id":7,"x":2,')
        assert eight.startswith(b'{"id":8,"deleted":true')

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1: 2}, object()])
    def test_what_json_does_not_have_is_refused_before_anything_is_written(self, store: Store, value: object) -> None:
        store.create(Plan(id="p"))
        with unchanged(store), pytest.raises(InvalidRecordError):
            store.put(Document("plans", {"id": "p", "x": value}))

    @pytest.mark.parametrize("record_id", ["", " ", "a\nb", "x" * 257])
    def test_ids_that_cannot_be_are_refused(self, store: Store, record_id: str) -> None:
        with unchanged(store), pytest.raises((InvalidIdError, LimitExceededError)):
            store.create(Plan(id=record_id))

    @pytest.mark.parametrize(
        "text", ["'; DROP TABLE log; --", '"\\', "a\u2028b\x7f\x00", "<<<<<<< HEAD", "\U0001f600" * 100, "\r\n"]
    )
    def test_hostile_text_comes_back_as_it_was(self, store: Store, text: str) -> None:
        store.create(Plan(id="p", title=text, status=text, slug=text))
        store.flush()
        assert store.sync(rebuild=True).rebuilt
        found = store.list(Plan, eq("status", text), eq("title", text))
        assert [(plan.title, plan.slug) for plan in found] == [(text, text)]
        assert len(lines_of(store, "plans")) == 1

    def test_too_large_a_line_is_refused(self, store: Store) -> None:
        with unchanged(store), pytest.raises(LimitExceededError):
            store.create(Plan(id="p", title="x" * (10 << 20)))

    @pytest.mark.parametrize("name", ["../plans", "Plans", "_types", "store", ""])
    def test_a_name_that_is_no_collection_is_refused_for_every_write(self, store: Store, name: str) -> None:
        before = sorted(path.name for path in store.path.parent.rglob("*"))
        with unchanged(store):
            for write in (
                lambda: store.create(Document(name, {"id": "plans"})),
                lambda: store.delete(name, "plans"),
                lambda: store.delete_where(name),
                lambda: store.claim(name, owner="me"),
                lambda: store.release(name, "plans", token=1),
                lambda: store.import_lines(name, [b""]),
            ):
                with pytest.raises(InvalidNameError):
                    write()
        assert sorted(path.name for path in store.path.parent.rglob("*")) == before


class TestBatches:
    """A batch, create_many and delete_where are applied whole or not at all."""

    def test_a_batch_mixes_collections_and_sees_its_own_changes(self, store: Store) -> None:
        store.create(Plan(id="old"))
        with store.batch() as batch:
            batch.create(Plan(id="p"))
            batch.put(Document("notes", {"id": "n", "plan_id": "p"}))
            batch.update(Document("notes", {"id": "n", "plan_id": None, "updated_at": 1}))
            batch.ops.pop()
            batch.delete(Plan, "old")
            batch.delete("notes", "n")
        assert [type(one).__name__ for one in batch.results] == ["Stored", "Stored", "NoneType", "NoneType"]
        assert [plan.id for plan in store.list(Plan)] == ["p"]
        assert store.count("notes") == 0

    def test_a_refusal_leaves_nothing_of_the_batch(self, store: Store) -> None:
        made = store.create(Plan(id="p"))
        refused: tuple[Callable[[BatchWriter], None], ...] = (
            lambda batch: batch.create(Plan(id="p")),
            lambda batch: batch.update(made.evolve(updated_at=1)),
            lambda batch: batch.delete(Plan, "absent"),
            lambda batch: batch.put(Plan(id="x", parent_id="absent")),
        )
        for last in refused:
            with unchanged(store), pytest.raises(TaskStoreError), store.batch() as batch:  # noqa: PT012 - reason: the block is the batch
                batch.create(Plan(id="q"))
                batch.put(Plan(id="p", title="changed"))
                batch.delete(Plan, "q")
                last(batch)
        assert store.flush().lines >= 1
        assert [json.loads(line)["title"] for line in lines_of(store, "plans")] == [""]

    def test_a_block_that_raises_writes_nothing(self, store: Store) -> None:
        with unchanged(store), pytest.raises(KeyError), store.batch() as batch:  # noqa: PT012 - reason: the block is the batch
            batch.create(Plan(id="q"))
            raise KeyError
        with unchanged(store), store.batch():
            pass
        with unchanged(store), pytest.raises(RuntimeError, match="this batch has ended"):
            batch.create(Plan(id="r"))

    def test_nothing_that_comes_behind_the_end_of_the_block_is_dropped_without_a_word(self, store: Store) -> None:
        with store.batch() as batch:
            batch.create(Plan(id="p"))
        late: tuple[Callable[[], None], ...] = (
            lambda: batch.create(Plan(id="late")),
            lambda: batch.put(Plan(id="late")),
            lambda: batch.update(Plan(id="p")),
            lambda: batch.delete(Plan, "p"),
        )
        for call in late:
            with unchanged(store), pytest.raises(RuntimeError, match="this batch has ended, so nothing was written"):
                call()
        assert len(batch.ops) == len(batch.results) == 1
        rehearsed: list[BatchWriter] = []
        store.rehearse(rehearsed.append)
        with pytest.raises(RuntimeError, match="this batch has ended"):
            rehearsed[0].put(Plan(id="late"))

    def test_create_many_is_whole(self, store: Store) -> None:
        assert store.create_many([Plan(id=f"p{n}") for n in range(50)]) == 50
        assert store.create_many([]) == 0
        with unchanged(store), pytest.raises(AlreadyExistsError):
            store.create_many([Plan(id="new"), Plan(id="p7")])
        with unchanged(store), pytest.raises(AlreadyExistsError):
            store.create_many([Plan(id="twice"), Plan(id="twice")])

    def test_delete_where_deletes_what_it_finds_and_says_how_many(self, store: Store) -> None:
        store.create_many([Plan(id=f"p{n}", priority=n, title=str(n % 2)) for n in range(10)])
        assert store.delete_where(Plan, gt("priority", 4), eq("title", "1")) == 3
        assert store.delete_where(Plan, gt("priority", 100)) == 0
        assert [plan.priority for plan in store.list(Plan, order_by="priority")] == [0, 1, 2, 3, 4, 6, 8]

    def test_a_refused_op_does_not_disturb_the_versions_before_it(self, tmp_path: Path) -> None:
        config = SyncConfig(auto_export=False, coalesce=False)
        with Store.open(tmp_path, records=ALL, sync=config) as store:
            store.create(Plan(id="p", title="1"))
            with pytest.raises(AlreadyExistsError), store.batch() as batch:  # noqa: PT012 - reason: the block is the batch
                batch.put(Plan(id="p", title="2"))
                batch.create(Plan(id="p"))
            store.put(Plan(id="p", title="3"))
            with store.batch() as batch:
                batch.put(Plan(id="p", title="4"))
                batch.put(Plan(id="p", title="5"))
            assert store.check().ok
            store.flush()
            assert [json.loads(line)["title"] for line in lines_of(store, "plans")] == ["1", "3", "4", "5"]


class TestDurability:
    """What acknowledged means is chosen by the handle, and for every call."""

    def test_journal_has_the_line_in_the_file_when_the_call_returns(self, store: Store) -> None:
        store.create(Plan(id="a"))
        assert "plans.jsonl" not in files_of(store)
        store.create(Plan(id="b"), durability=Durability.JOURNAL)
        assert b'"id":"b"' in files_of(store)["plans.jsonl"]
        assert b'"id":"a"' in files_of(store)["plans.jsonl"]

    def test_every_version_of_a_journal_batch_gets_its_line(self, store: Store) -> None:
        with store.batch(durability=Durability.JOURNAL) as batch:
            batch.put(Plan(id="a", title="1"))
            batch.put(Plan(id="a", title="2"))
        assert [json.loads(line)["title"] for line in lines_of(store, "plans")] == ["1", "2"]

    @pytest.mark.parametrize("level", list(Durability))
    def test_every_level_of_the_handle_serves_what_it_acknowledged(self, tmp_path: Path, level: Durability) -> None:
        with Store.open(tmp_path, records=ALL, durability=level) as store:
            made = store.create(Plan(id="a"))
            assert store.get(Plan, "a") == made
            assert ("plans.jsonl" in files_of(store)) is (level is Durability.JOURNAL)
        with Store.open(tmp_path) as store:
            assert store.get(Plan, "a") == made

    def test_a_call_that_finds_the_schedule_due_flushes(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=ALL, sync=SyncConfig(debounce_ms=0, max_delay_ms=0)) as store:
            store.create(Plan(id="a"))
            assert b'"id":"a"' in files_of(store)["plans.jsonl"]

    def test_a_flush_that_fails_after_a_write_is_noted_once_and_the_write_stands(self, tmp_path: Path) -> None:
        store = Store.open(tmp_path, records=ALL, sync=SyncConfig(debounce_ms=0, max_delay_ms=0))
        store.create(Plan(id="b"))
        (store.path / "plans.jsonl").write_bytes(b"garbage\n")
        store.create(Plan(id="a"))
        assert store.get(Plan, "a") is not None
        assert len(store.notes) == 1
        assert "plans.jsonl" in store.notes[0]
        (store.path / "plans.jsonl").unlink()
        store.close()
        with Store.open(tmp_path) as store:
            assert store.get(Plan, "a") is not None


DUE = SyncConfig(debounce_ms=1_000, max_delay_ms=60_000)


class TestFlushingWhenReading:
    """A read that finds the schedule due flushes, and neither waits nor fails for it."""

    @pytest.fixture
    def late(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
        """Lets so many seconds pass."""
        passed = [0.0]
        now = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])

        def pass_(seconds: float) -> None:
            passed[0] += seconds

        return pass_

    @pytest.fixture
    def waiting(self, tmp_path: Path) -> Iterator[Store]:
        """A store in which a record waits."""
        with Store.open(tmp_path, records=ALL, sync=DUE) as store:
            store.create(Plan(id="a"))
            yield store

    @pytest.mark.parametrize(
        "read",
        [
            lambda store: store.get(Plan, "a"),
            lambda store: store.list(Plan),
            lambda store: store.count(Plan),
            lambda store: [*store.iterate(Plan)],
            lambda store: store.line(Plan, "a"),
            lambda store: store.ids(Plan),
            lambda store: store.resolve(Plan, "a"),
            lambda store: store.list_tolerant(Plan),
            lambda store: store.query("SELECT id FROM plans"),
            lambda store: store.history(Plan, "a"),
        ],
    )
    def test_every_read_does(
        self, waiting: Store, late: Callable[[float], None], read: Callable[[Store], object]
    ) -> None:
        read(waiting)
        assert "plans.jsonl" not in files_of(waiting), "it is not due"
        late(2)
        assert read(waiting)
        assert b'"id":"a"' in files_of(waiting)["plans.jsonl"]

    def test_not_where_the_export_is_left_to_somebody_else(self, tmp_path: Path, late: Callable[[float], None]) -> None:
        with Store.open(tmp_path, records=ALL, sync=SyncConfig(auto_export=False)) as store:
            store.create(Plan(id="a"))
            late(100)
            assert store.get(Plan, "a") is not None
            assert "plans.jsonl" not in files_of(store)

    def test_it_waits_for_nobody(
        self, waiting: Store, late: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waited: list[float] = []
        hold = StoreLock.hold

        def hold_and_tell(lock: StoreLock, *, deadline_s: float) -> AbstractContextManager[None]:
            waited.append(deadline_s)
            return hold(lock, deadline_s=deadline_s)

        monkeypatch.setattr(StoreLock, "hold", hold_and_tell)
        late(2)
        other = os.open(waiting.path / "store.lock", os.O_RDWR)
        try:
            fcntl.flock(other, fcntl.LOCK_EX)
            for _ in range(3):
                assert waiting.get(Plan, "a") is not None
            assert "plans.jsonl" not in files_of(waiting)
        finally:
            os.close(other)
        assert waited == [0.0], "and not again for every read"
        assert waiting.notes == ()
        with StoreLock.of(waiting.path).hold(deadline_s=10):  # behind the helper, which had begun to wait
            pass
        waiting.get(Plan, "a")
        assert "plans.jsonl" not in files_of(waiting), "not at once"
        late(1)
        waiting.get(Plan, "a")
        assert "plans.jsonl" in files_of(waiting)

    def test_nor_for_who_has_locked_a_journal(
        self, waiting: Store, late: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waited: list[float] = []
        lock_file = files.lock_file

        def lock_and_tell(descriptor: int, wait_s: float) -> None:
            waited.append(wait_s)
            lock_file(descriptor, wait_s)

        monkeypatch.setattr(files, "lock_file", lock_and_tell)
        waiting.flush()
        waiting.put(Plan(id="b"))
        waited.clear()
        late(2)
        with (waiting.path / "plans.jsonl").open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            assert waiting.get(Plan, "b") is not None
        assert len(lines_of(waiting, "plans")) == 1
        assert waited == [0.0]
        late(100)
        waiting.get(Plan, "b")
        assert len(lines_of(waiting, "plans")) == 2

    def test_nor_for_git(self, tmp_path: Path, late: Callable[[float], None]) -> None:
        (tmp_path / ".git").mkdir()
        with Store.open(tmp_path, records=ALL, sync=DUE) as store:
            store.create(Plan(id="a"))
            late(2)
            (tmp_path / ".git" / "index.lock").touch()
            assert store.get(Plan, "a") is not None
            assert "plans.jsonl" not in files_of(store)
            (tmp_path / ".git" / "index.lock").unlink()
            late(1)
            assert store.get(Plan, "a") is not None
            assert "plans.jsonl" in files_of(store)

    def test_what_fails_is_kept_for_the_next_write(self, waiting: Store, late: Callable[[float], None]) -> None:
        waiting.flush()
        waiting.create(Plan(id="b"))
        file = waiting.path / "plans.jsonl"
        whole = file.read_bytes()
        file.write_bytes(b"garbage\n")
        late(2)
        for _ in range(3):
            assert waiting.get(Plan, "b") is not None
        (note,) = waiting.notes
        assert "plans.jsonl" in note
        file.write_bytes(whole)
        late(100)
        waiting.create(Plan(id="c"))
        assert [json.loads(line)["id"] for line in lines_of(waiting, "plans")] == ["a", "b", "c"]

    def test_a_read_inside_a_session_leaves_it_to_others(self, waiting: Store, late: Callable[[float], None]) -> None:
        late(2)
        with waiting._engine.session():
            assert waiting.get(Plan, "a") is not None
        assert "plans.jsonl" not in files_of(waiting)

    def test_a_store_that_is_stopped_is_read(
        self, waiting: Store, late: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waiting._engine.break_off("a failed fsync")
        late(100)
        monkeypatch.setattr(waiting._engine, "flush", lambda: pytest.fail("it may take long to recover"))
        assert waiting.get(Plan, "a") is not None
        monkeypatch.undo()
        waiting._engine.mend()


class TestOpening:
    """A store is opened where it is, and made where it is not."""

    def test_a_missing_store_is_made_only_on_request(self, tmp_path: Path) -> None:
        with pytest.raises(NoStoreError):
            Store.open(tmp_path, create=False)
        with Store.open(tmp_path) as store:
            assert store.path == tmp_path / ".taskstore"
        with Store.open(tmp_path / ".taskstore", create=False) as store:
            assert store.path == tmp_path / ".taskstore"

    def test_a_closed_handle_says_so(self, tmp_path: Path) -> None:
        store = Store.open(tmp_path)
        store.close()
        store.close()
        with pytest.raises(StoreClosedError):
            store.get(Plan, "p")
        with pytest.raises(StoreClosedError):
            store.create(Plan(id="p"))

    def test_temporary_is_gone_afterwards(self) -> None:
        with Store.temporary(records=[Plan]) as store:
            store.create(Plan(id="p"))
            path = store.path
        assert not path.exists()

    def test_declarations_are_in_the_file_and_serve_the_untyped(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=ALL) as store:
            store.create(Plan(id="p", slug="s"))
        (tmp_path / ".taskstore" / "store.db").unlink()
        with Store.open(tmp_path) as store:
            assert store.declaration("plans").unique_fields == ("slug",)
            with pytest.raises(UniqueError):
                store.create(Document("plans", {"id": "q", "slug": "s"}))

    def test_a_type_that_is_not_in_records_is_declared_at_its_first_write(self, tmp_path: Path) -> None:
        with Store.open(tmp_path) as store:
            assert store.list(Loose, eq("size", 1)) == []
            assert store.declaration("loose").columns == ()
            store.create(Loose(id="x", title="x", size=1))
            assert store.declaration("loose").columns == ("size",)
            assert store.declaration("nobody").columns == ()
            assert [one.id for one in store.list(Loose, eq("size", 1))] == ["x"]

    def test_a_different_definition_is_refused_until_rebuild_indexes_says_it_is_meant(self, tmp_path: Path) -> None:
        class Other(Record):
            collection: ClassVar[str] = "plans"
            parent_id: Annotated[str | None, Indexed] = None
            title: Annotated[str, Unique] = ""
            slug: str | None = None

        with Store.open(tmp_path, records=ALL) as store:
            store.create(Plan(id="p", title="x", slug="s"))
            store.create(Document("steps", {"id": "s", "plan_id": "p"}))
        with Store.open(tmp_path) as store:
            assert store.rebuild_indexes(Other) == 1
            assert store.declaration("plans").unique_fields == ("title",)
            assert store.declaration("plans").references == {}
            store.put(Document("plans", {"id": "q", "slug": "s"}))
            assert store.check().ok
            with pytest.raises(DeclarationConflictError, match="rebuild_indexes"):
                store.get(Contrary, "s")
        with pytest.raises(DeclarationConflictError), Store.open(tmp_path, records=[Contrary]):
            pass

    def test_what_the_type_cannot_read_is_named_and_kept_by_rebuild_indexes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inspection, "_PAGE", 3)
        with Store.open(tmp_path) as store:
            for number in range(14):
                title: object = "x" if number < 2 else number
                store.create(Document("loose", {"id": f"r{number:02}", "title": title, "size": number}))
            with pytest.warns(UserWarning, match="loose/r") as caught:
                assert store.rebuild_indexes(Loose) == 2
            assert len(caught) == 10
            assert store.count("loose", gt("size", 1)) == 12
            assert store.check().ok


class Contrary(Record):
    collection: ClassVar[str] = "steps"
    plan_id: Annotated[str, References("notes")] = ""


class TestReads:
    """Typed and untyped reads give the same records, whole or by page."""

    def test_lists_are_filtered_ordered_and_paged(self, store: Store) -> None:
        store.create_many([Plan(id=f"p{n:04}", priority=n % 7, title=str(n)) for n in range(1_100)])
        wanted = [plan for plan in store.list(Plan) if plan.priority != 3]
        found = store.list(Plan, ne("priority", 3), order_by="-priority", limit=10, offset=5)
        assert [one.id for one in found] == [one.id for one in sorted(wanted, key=lambda p: (-p.priority, p.id))[5:15]]
        assert [one.id for one in store.iterate(Plan, ne("priority", 3))] == [one.id for one in wanted]
        assert [one.id for one in store.iterate("plans", order_by="title")] == [
            one.id for one in sorted(store.list(Plan), key=lambda p: (p.title, p.id))
        ]
        assert store.count(Plan, in_("priority", [1, 2])) == sum(one.priority in {1, 2} for one in store.list(Plan))
        assert store.count("plans", eq("title", "7")) == 1

    def test_a_collection_that_is_not_there_is_empty(self, store: Store) -> None:
        assert store.list("nothing") == []
        assert store.count("nothing") == 0
        assert store.get("nothing", "x") is None
        assert store.line("nothing", "x") is None
        assert list(store.iterate("nothing")) == []
        assert store.history("nothing", "x") == []

    def test_the_beginning_of_an_id_is_enough(self, store: Store) -> None:
        store.create_many([Plan(id="alpha"), Plan(id="alp"), Plan(id="beta")])
        assert store.resolve(Plan, "b") == "beta"
        assert store.resolve("plans", "alp") == "alp"
        with pytest.raises(AmbiguousIdError):
            store.resolve(Plan, "al")
        with pytest.raises(NotFoundError):
            store.resolve(Plan, "gamma")

    def test_list_tolerant_gives_the_readable_and_names_the_rest(self, store: Store) -> None:
        store.create_many([Document("loose", {"id": "a", "title": "x"}), Document("loose", {"id": "b", "title": 5})])
        store.flush()
        with (store.path / "loose.jsonl").open("ab") as file:
            file.write(b'{"id":"c", torn\n')
        store.sync()
        with pytest.raises(UnreadableRecordError):
            store.list(Loose)
        listing = store.list_tolerant(Loose)
        assert [one.id for one in listing.records] == ["a"]
        unfit, bad = listing.unreadable
        assert (unfit.record_id, unfit.line) == ("b", None)
        assert (bad.record_id, bad.line) == (None, 3)
        assert bad.offset == sum(len(line) + 1 for line in lines_of(store, "loose")[:2])
        assert store.list_tolerant("loose", eq("id", "b")).records[0].id == "b"
        store.compact("loose")

    def test_a_closed_collection_is_read_and_not_written(self, store: Store) -> None:
        store.create(Plan(id="p"))
        store.flush()
        journal = store.path / "plans.jsonl"
        good = journal.read_bytes()
        journal.write_bytes(b"garbage\n")
        store.sync()
        assert [plan.id for plan in store.list(Plan)] == ["p"]
        with pytest.raises(CollectionClosedError):
            store.put(Plan(id="p"))
        assert journal.read_bytes() == b"garbage\n"
        journal.write_bytes(good)
        store.put(Plan(id="p", title="mended"))

    def test_a_disk_that_is_full_refuses_and_changes_nothing(self, store: Store) -> None:
        store.create(Plan(id="p"))
        index = store._engine.connections.index
        assert index is not None
        (pages,) = index.db.execute("PRAGMA page_count").fetchone()
        index.db.execute(f"PRAGMA max_page_count = {pages}")
        with unchanged(store), pytest.raises(WriteFailedError, match="full"):
            store.create_many([Plan(id=f"q{n}", title="x" * 3_000) for n in range(200)])
        index.db.execute("PRAGMA max_page_count = 100000")
        store.create(Plan(id="after"))


class TestStamps:
    """A later write has a later stamp, whatever the clock does."""

    def test_a_clock_that_is_set_back_does_not_turn_stamps_back(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = store.create(Plan(id="p"))
        monkeypatch.setattr(clock, "now_ms", lambda: 1)
        second = store.update(first)
        assert second.updated_at == first.updated_at + 1
        assert store.create(Plan(id="q")).updated_at >= first.updated_at

    def test_a_record_of_the_future_poisons_only_itself(self, store: Store) -> None:
        (store.path / "plans.jsonl").write_bytes(b'{"id":"p","updated_at":253370764800000}\n')
        store.sync()
        assert store.put(Plan(id="p")).updated_at == 253370764800001
        assert store.create(Plan(id="q")).updated_at < 253370764800000

    def test_at_the_greatest_stamp_position_decides(self, store: Store) -> None:
        top = 2**53 - 1
        (store.path / "plans.jsonl").write_bytes(b'{"id":"p","updated_at":%d}\n' % top)
        store.sync()
        for title in ("a", "b", "a"):
            assert store.put(Plan(id="p", title=title)).updated_at == top
            store.flush()
        assert [plan.title for plan in store.list(Plan)] == ["a"]
        store.sync(rebuild=True)
        assert [plan.title for plan in store.list(Plan)] == ["a"]

    def test_new_ids_sort_by_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clock, "now_ms", iter(range(10**12, 10**12 + 5)).__next__)
        made = [clock.new_id("plan") for _ in range(5)]
        assert made == sorted(made)
        assert all(one.startswith("plan-") for one in made)


WRITER = """
import sys
from taskstore_async.core.record import Document
from taskstore_async.storage.store import Store
with Store.open(sys.argv[1]) as store:
    for number in range(int(sys.argv[3])):
        made = store.create(Document("events", {"id": f"{sys.argv[2]}-{number}", "n": number}))
        print(made.id, flush=True)
"""


class TestCompany:
    """Handles of one directory, in threads and processes, never lose each other's acknowledged writes."""

    def test_ten_threads_with_a_store_each(self, tmp_path: Path) -> None:
        acknowledged: list[str] = []
        failed: list[BaseException] = []

        def work(name: int) -> None:
            try:
                with Store.open(tmp_path, records=[Loose]) as store:
                    for number in range(20):
                        made = store.create(Loose(id=f"{name}-{number}", title="x"))
                        acknowledged.append(made.id)
            except BaseException as error:  # noqa: BLE001 - reason: told by the test
                failed.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(acknowledged) == 200
        with Store.open(tmp_path) as store:
            assert {one.id for one in store.list("loose")} == set(acknowledged)
            assert store.check().ok
            assert len(lines_of(store, "loose")) == 200

    def test_three_processes_at_once(self, tmp_path: Path) -> None:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), str(name), "40"], stdout=subprocess.PIPE, text=True
            )
            for name in range(3)
        ]
        acknowledged = [line for process in processes for line in process.communicate(timeout=120)[0].splitlines()]
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert len(acknowledged) == 120
        with Store.open(tmp_path) as store:
            assert {one.id for one in store.list("events")} == set(acknowledged)
            assert store.check().ok

    def test_a_second_handle_sees_what_the_first_was_told(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=ALL) as one, Store.open(tmp_path, records=ALL) as other:
            made = one.create(Plan(id="p"))
            assert other.get(Plan, "p") == made
            other.update(made.evolve(title="x"))
            with pytest.raises(StaleWriteError):
                one.update(made.evolve(title="y"))


def test_a_tampered_index_is_no_argument_about_the_truth(store: Store) -> None:
    store.create(Plan(id="p", title="true"))
    store.flush()
    tamper(store, "UPDATE {plans} SET line = ?", b'{"id":"p","updated_at":1,"title":"false"}')
    store.sync(rebuild=True)
    plan: Any = store.get(Plan, "p")
    assert plan.title == "true"


class Part(msgspec.Struct, forbid_unknown_fields=True):
    size: int = 0


class Strict(Record, forbid_unknown_fields=True):
    collection: ClassVar[str] = "strict"
    size: int = 0


class Nested(Record):
    collection: ClassVar[str] = "nested"
    size: int = 0
    part: Part | None = None


class Moody(Record):
    collection: ClassVar[str] = "moody"
    refusing: ClassVar[bool] = False
    size: int = 0

    def __post_init__(self) -> None:
        if self.refusing:
            raise ValueError("not today")


class TestWhatIsStoredIsAnswered:
    """A write that was applied never raises as if it was refused, and one that raises has changed nothing."""

    def test_over_a_field_that_the_type_forbids(self, store: Store) -> None:
        made = store.put(Document("strict", {"id": "a", "size": 1, "extra": 1}))
        before = store.line("strict", "a")
        record = Strict(id="a", size=2)
        for write in (store.put, store.update):
            with pytest.raises(InvalidRecordError, match=r"extra.*add the field to Strict.*nothing was written"):
                write(record.evolve(updated_at=made.updated_at))
            assert store.line("strict", "a") == before
        with pytest.raises(InvalidRecordError, match="extra"), store.batch() as batch:  # noqa: PT012 - reason: the block is the batch
            batch.create(Plan(id="beside"))
            batch.put(record)
        assert store.get(Plan, "beside") is None
        assert store.put(Document("strict", {"id": "a", "size": 1})).updated_at > made.updated_at
        assert store.put(record).size == 2

    def test_over_a_field_that_a_type_inside_forbids(self, store: Store) -> None:
        store.put(Document("nested", {"id": "a", "size": 1, "part": {"size": 1, "extra": 1}}))
        before = store.line("nested", "a")
        with pytest.raises(InvalidRecordError, match="extra"):
            store.put(Nested(id="a", size=2, part=Part(1)))
        assert store.line("nested", "a") == before
        assert store.put(Nested(id="a", size=2)).size == 2, "what takes the place of all that was there fits"

    @pytest.mark.parametrize("stamp", ["2024-01-01T00:00:00+02:00", 5, 1 << 60])
    def test_stamps_that_somebody_else_wrote_are_in_nobodys_way(self, tmp_path: Path, stamp: object) -> None:
        (tmp_path / ".taskstore").mkdir()
        line = json.dumps({"id": 7, "created_at": stamp, "updated_at": stamp, "size": 1})
        (tmp_path / ".taskstore" / "strict.jsonl").write_text(line + "\n")
        with Store.open(tmp_path, records=[Strict]) as store:
            assert store.put(Strict(id="7", size=2)) == store.get(Strict, "7")

    def test_hooks_that_think_otherwise_by_then(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        first = store.create(Moody(id="a", size=1))
        changes = [first.evolve(size=2), Moody(id="b", size=3)]
        commit = store._engine.commit

        def commit_and_refuse(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - reason: whatever commit takes
            answers = commit(*args, **options)
            monkeypatch.setattr(Moody, "refusing", True)
            return answers

        monkeypatch.setattr(store._engine, "commit", commit_and_refuse)
        stored = [store.update(changes[0])]
        monkeypatch.setattr(Moody, "refusing", False)
        stored.append(store.put(changes[1]))
        with pytest.raises(UnreadableRecordError):
            store.get(Moody, "a")
        monkeypatch.setattr(Moody, "refusing", False)
        lease = store.claim(Moody, owner="me")
        assert lease is not None
        assert lease.record.size == 2
        monkeypatch.undo()
        assert stored[0].evolve(updated_at=lease.record.updated_at) == store.get(Moody, "a")
        assert stored[1] == store.get(Moody, "b")
        assert crc_of(stored[1]) == crc32(store.line(Moody, "b") or b"")
        assert store.update(stored[1].evolve(size=4)).size == 4, "it is the version that is stored"
