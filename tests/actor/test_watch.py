"""Reading, watching and waiting."""

from __future__ import annotations

import math
import sys
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from taskstore_async import (
    Change,
    ChangeKind,
    Document,
    Durability,
    InvalidFilterError,
    LaggedError,
    StateManager,
    StoreClosedError,
    SyncConfig,
    eq,
    gt,
)
from taskstore_async.actor import watch
from taskstore_async.actor.readers import Readers
from taskstore_async.core.change import Origin, Position
from taskstore_async.storage import feed, log
from taskstore_async.storage.reader import Reader
from tests.actor.support import Plan, engine_busy, opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from taskstore_async.storage.engine import Engine

pytestmark = pytest.mark.anyio


async def take(changes: AsyncGenerator[Change[Any]], count: int) -> list[Change[Any]]:
    return [await anext(changes) for _ in range(count)]


async def listening(store: StateManager, count: int = 1) -> None:
    """Return when so many wait for something to happen: on asyncio, whoever is in a hop looks blocked as well."""
    while store._bell._listeners < count:
        await checkpoint()


def kinds(changes: list[Change[Any]]) -> list[tuple[str, str]]:
    return [(change.kind.value, change.id) for change in changes]


def trim(engine: Engine, keep: int) -> None:
    with engine.session() as session, session.index.transaction(full=False):
        log.trim(session.index.db, session.index.collections.values(), keep=keep)


async def cursor_now(store: StateManager) -> str:
    return str(await store._readers.ask(feed.newest))


class TestGets:
    """Gets that are asked together share a query, and each sees every write acknowledged before it began."""

    async def test_64_at_once_take_few_hops(self, tmp_path: Path) -> None:
        found: list[str] = []

        async def get(store: StateManager, number: int) -> None:
            plan = await store.get(Plan, f"{number}")
            assert plan is not None
            found.append(plan.id)

        async with opened(tmp_path) as store:
            await store.create_many(Plan(id=f"{number}") for number in range(64))
            before = await store.stats()
            async with create_task_group() as tasks:
                for number in range(64):
                    tasks.start_soon(get, store, number)
            after = await store.stats()
        assert sorted(found) == sorted(f"{number}" for number in range(64))
        assert after.gets - before.gets == 64
        assert after.get_hops - before.get_hops <= 16

    async def test_each_sees_what_was_acknowledged_before(self, tmp_path: Path) -> None:
        async def work(store: StateManager, task: int) -> None:
            for turn in range(40):
                await store.put(Plan(id=f"{task}", number=turn))
                plan = await store.get(Plan, f"{task}")
                assert plan is not None
                assert plan.number == turn

        async with opened(tmp_path) as store, create_task_group() as tasks:
            for task in range(16):
                tasks.start_soon(work, store, task)

    async def test_a_reader_that_fails_leaves_it_to_the_engine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opening = Reader.open

        def broken(*_: object, **__: object) -> Reader:
            raise ZeroDivisionError

        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            monkeypatch.setattr(Reader, "open", broken)
            assert await store.get(Plan, "a") is not None
            assert await store.count(Plan) == 1
            monkeypatch.setattr(Reader, "open", opening)
            assert await store.get(Plan, "a") is not None

    async def test_a_failure_is_everybodys_and_not_for_ever(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failures: list[str] = []
        get_many = Reader.get_many

        def broken(*_: object) -> list[Any]:
            raise ZeroDivisionError

        async def get(store: StateManager) -> None:
            with pytest.raises(ZeroDivisionError):
                await store.get(Plan, "a")
            failures.append("failed")

        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            monkeypatch.setattr(Reader, "get_many", broken)
            async with create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(get, store)
            assert len(failures) == 5
            monkeypatch.setattr(Reader, "get_many", get_many)
            assert await store.get(Plan, "a") is not None

    async def test_one_that_cannot_even_be_sent_is_not_joined(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(*_: object) -> None:
            raise ZeroDivisionError

        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            monkeypatch.setattr(Readers, "_on", broken)
            with pytest.raises(ZeroDivisionError):
                await store.get(Plan, "a")
            monkeypatch.undo()
            assert await store.get(Plan, "a") is not None

    async def test_reads_do_not_wait_for_the_writer(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            async with engine_busy(store):
                assert await store.get(Plan, "a") is not None
                assert await store.count(Plan) == 1
                assert len(await store.list(Plan)) == 1


class TestLists:
    """Large results are decoded in slices of at most 500, so that no one holds up the loop."""

    async def test_a_list_comes_in_slices(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.create_many(Plan(id=f"{number:04}", number=number) for number in range(1_200))
            before = (await store.stats()).slices
            plans = await store.list(Plan, order_by="-number")
            assert [plan.number for plan in plans] == list(reversed(range(1_200)))
            assert (await store.stats()).slices - before == 3
            assert [plan.number for plan in await store.list(Plan, gt("number", 5), limit=2, offset=1)] == [7, 8]
            assert len((await store.list_tolerant("plans")).records) == 1_200

    async def test_iterating_comes_in_pages(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.create_many(Plan(id=f"{number:04}", number=number % 7) for number in range(1_000))
            found = [plan async for plan in store.iterate(Plan, gt("number", 2), order_by="-number")]
            assert [plan.id for plan in found] == [
                plan.id for plan in await store.list(Plan, gt("number", 2), order_by="-number")
            ]
            assert len([document async for document in store.iterate("plans")]) == 1_000

    async def test_lines_that_cannot_be_read_are_told(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"), durability=Durability.JOURNAL)
            with (tmp_path / ".taskstore" / "plans.jsonl").open("ab") as file:
                file.write(b"no line at all\n")
            assert await store.is_stale()
            assert (await store.sync(check=True)).stale
            assert (await store.sync()).stale
            assert not await store.is_stale()
            listing = await store.list_tolerant(Plan)
            assert [record.id for record in listing.records] == ["a"]
            assert [bad.line for bad in listing.unreadable] == [2]


class TestWatching:
    """Changes come in order and without a gap, and go on where a cursor says."""

    async def test_a_record_that_does_not_fit_the_type_ends_nothing(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            since = await cursor_now(store)
            for record_id, number in (("a", 1), ("b", "many"), ("c", "few"), ("d", 4)):
                await store.put(Document("plans", {"id": record_id, "title": "", "number": number}))
            for begin, kind in ((since, "created"), (str(Position.NOWHERE), "present")):
                async with aclosing(store.watch(Plan, since=begin)) as feed_:
                    changes = [change for change in await take(feed_, 5 - (kind == "created")) if change.id]
                assert kinds(changes) == [(kind, record_id) for record_id in "abcd"]
                assert [change.record and change.record.number for change in changes] == [1, None, None, 4]
                assert [change.unreadable is not None for change in changes] == [False, True, True, False]
                assert "$.number" in str(changes[1].unreadable)
            async with aclosing(store.watch(Plan, since=since)) as feed_:
                cursors = [change.cursor for change in await take(feed_, 4)]
            for place, behind in ((1, "cd"), (2, "d")):
                async with aclosing(store.watch(Plan, since=cursors[place])) as feed_:
                    assert [change.id for change in await take(feed_, len(behind))] == [*behind]

    async def test_a_line_that_somebody_spoils_while_it_is_watched(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store, aclosing(store.watch(Plan, since=await cursor_now(store))) as feed_:
            await store.put(Plan(id="a"), durability=Durability.JOURNAL)
            first = await anext(feed_)
            with (tmp_path / ".taskstore" / "plans.jsonl").open("ab") as journal:
                for record_id in ("b", "c"):
                    journal.write(b'{"id":"%b","updated_at":5,"number":"many"}\n' % record_id.encode())
            await store.sync()
            await store.put(Plan(id="d"))
            changes = [first, *await take(feed_, 3)]
            assert [(change.id, change.origin, change.unreadable is None) for change in changes] == [
                ("a", Origin.WRITE, True),
                ("b", Origin.FILE, False),
                ("c", Origin.FILE, False),
                ("d", Origin.WRITE, True),
            ]

    async def test_in_order_and_without_a_gap(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store, aclosing(store.watch(Plan, since=await cursor_now(store))) as changes:
            async with create_task_group() as tasks:
                for task in range(10):
                    tasks.start_soon(store.create_many, [Plan(id=f"{task}-{turn}") for turn in range(50)])
                seen = await take(changes, 500)
            assert len({change.id for change in seen}) == 500
            assert {change.kind for change in seen} == {ChangeKind.CREATED}
            assert {change.origin for change in seen} == {Origin.WRITE}
            seqs = [Position.parse(change.cursor).seq for change in seen]
            assert seqs == sorted(seqs)
            again = store.watch(Plan, since=seen[122].cursor)
            assert [change.id for change in await take(again, 377)] == [change.id for change in seen[123:]]
            await again.aclose()

    async def test_it_begins_when_the_first_is_asked_for(self, tmp_path: Path) -> None:
        seen: list[Change[Any]] = []

        async def watch(store: StateManager) -> None:
            async with aclosing(store.watch()) as changes:
                seen.extend(await take(changes, 4))

        async with opened(tmp_path, records=[]) as store, create_task_group() as tasks:
            tasks.start_soon(watch, store)
            await listening(store)
            await store.put(Document("docs", {"id": "a"}))  # the first of an empty store
            made = await store.put(Plan(id="p", title="one"))
            await store.update(made.evolve(title="two"))
            await store.delete("docs", "a")
        assert [(change.collection, *one) for change, one in zip(seen, kinds(seen), strict=True)] == [
            ("docs", "created", "a"),
            ("plans", "created", "p"),
            ("plans", "updated", "p"),
            ("docs", "deleted", "a"),
        ]

    async def test_an_earlier_version_is_superseded(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="other"))
            since = await cursor_now(store)
            for title in ("one", "two", "three"):
                await store.put(Plan(id="a", title=title))
            async with aclosing(store.watch(Plan, since=since)) as changes:
                seen = await take(changes, 3)
        assert [(change.superseded, change.record and change.record.title) for change in seen] == [
            (True, None),
            (True, None),
            (False, "three"),
        ]

    async def test_a_slow_watcher_is_given_what_is_there_now(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="other"))
            since = await cursor_now(store)
            await store.create_many([Plan(id=f"{number}", title="old") for number in range(5)])
            async with aclosing(store.watch(Plan, since=since)) as changes:
                await take(changes, 2)
                await store.put(Plan(id="3", title="new"))
                rest = await take(changes, 4)
        assert [(change.id, change.superseded, change.record and change.record.title) for change in rest] == [
            ("2", False, "old"),
            ("3", True, None),
            ("4", False, "old"),
            ("3", False, "new"),
        ]

    async def test_a_slow_watcher_is_given_what_another_handle_has_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with opened(tmp_path) as store, opened(tmp_path) as other:
            since = await cursor_now(store)
            await store.create_many([Plan(id=f"{number}", title="old") for number in range(5)])
            async with aclosing(store.watch(Plan, since=since)) as changes:
                with monkeypatch.context() as patched:
                    patched.setattr(store._bell, "ring", lambda: None)
                    await take(changes, 2)
                    await other.put(Plan(id="3", title="new"))
                    patched.setattr(watch, "current_time", lambda: math.inf)  # later than any poll would have been
                    rest = await take(changes, 4)
        assert [(change.id, change.superseded, change.record and change.record.title) for change in rest] == [
            ("2", False, "old"),
            ("3", True, None),
            ("4", False, "old"),
            ("3", False, "new"),
        ]

    async def test_a_deletion_is_told_though_nothing_is_left_of_it(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            await store.put(Plan(id="b"))
            since = await cursor_now(store)
            await store.delete(Plan, "a")
            await store.compact(Plan, grace_ms=-1)
            async with aclosing(store.watch(Plan, since=since)) as changes:
                change = await anext(changes)
        assert (change.kind, change.id, change.superseded) == (ChangeKind.DELETED, "a", False)

    @pytest.mark.parametrize("target", [Plan, "plans", None])
    async def test_an_unknown_cursor_begins_anew(self, target: Any, tmp_path: Path) -> None:  # noqa: ANN401 - reason: any target
        async with opened(tmp_path) as store:
            await store.create_many([Plan(id=f"{number:03}") for number in range(450)])
            async with aclosing(store.watch(target, since="another.17")) as changes:
                first = await take(changes, 451)
                await store.put(Plan(id="next"))
                following = await anext(changes)
            assert kinds(first) == [("reset", ""), *(("present", f"{number:03}") for number in range(450))]
            assert first[1].record is not None
            assert kinds([following]) == [("created", "next")]
            for stopped in (first[0], first[200]):  # who has not seen all begins anew
                async with aclosing(store.watch(target, since=stopped.cursor)) as changes:
                    assert (await anext(changes)).kind is ChangeKind.RESET
            async with aclosing(store.watch(target, since=first[-1].cursor)) as changes:
                assert kinds(await take(changes, 1)) == [("created", "next")]

    async def test_an_unknown_cursor_in_an_empty_store(self, tmp_path: Path) -> None:
        async with opened(tmp_path, records=[]) as store, aclosing(store.watch(since="another.17")) as changes:
            reset = await anext(changes)
            assert reset.kind is ChangeKind.RESET
            await store.put(Document("docs", {"id": "a"}))
            assert kinds([await anext(changes)]) == [("created", "a")]
            async with aclosing(store.watch(since=reset.cursor)) as again:
                assert kinds([await anext(again)]) == [("created", "a")]

    @pytest.mark.parametrize("cursor", ["", "12", "x.", "x.-1", "x.1a", "x.²", f"x.{2**63}", "x." + "9" * 5_000])
    async def test_what_is_no_cursor_is_refused(self, cursor: str, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            with pytest.raises(InvalidFilterError):
                await anext(store.watch(since=cursor))

    async def test_who_is_too_slow_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log, "KEPT", 5)
        async with opened(tmp_path) as store:
            await store.put(Plan(id="first"))
            since = await cursor_now(store)
            await store.put(Plan(id="second"))
            slow = store.watch(Plan, since=since)
            assert (await anext(slow)).id == "second"
            await store.create_many([Plan(id=f"{number}") for number in range(20)])
            await store.flush()
            await store._worker.run(trim, 5)
            with pytest.raises(LaggedError):
                await take(slow, 21)
            async with aclosing(store.watch(Plan, since=since)) as late:
                assert (await anext(late)).kind is ChangeKind.RESET

    async def test_a_row_that_waits_for_a_flush_is_no_proof(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log, "KEPT", 5)
        async with opened(tmp_path, sync=SyncConfig(auto_export=False)) as store:
            await store.put(Plan(id="waits"))
            since = await cursor_now(store)
            for number in range(20):
                await store.put(Document("docs", {"id": f"{number}"}), durability=Durability.JOURNAL)
            await store._worker.run(trim, 5)
            async with aclosing(store.watch(since=since)) as changes:
                assert (await anext(changes)).kind is ChangeKind.RESET, "rows behind it have been dropped"

    async def test_no_buffer_grows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pages: list[int] = []
        page = feed.page

        def counted(reader: Reader, after: Position, wanted: str | None, limit: int) -> Any:  # noqa: ANN401 - reason: as it is
            found = page(reader, after, wanted, limit)
            assert found is not None
            pages.append(len(found[0]))
            return found

        monkeypatch.setattr(feed, "page", counted)
        async with opened(tmp_path) as store, aclosing(store.watch(Plan, since=await cursor_now(store))) as changes:
            await store.create_many([Plan(id=f"{number}") for number in range(1_000)])
            await anext(changes)
            assert pages == [200]
            await store.create_many([Plan(id=f"late {number}") for number in range(1_000)])
            assert pages == [200], "a watcher reads when it is asked to"
            await take(changes, 1_999)
        assert max(pages) <= 200

    async def test_edits_of_files_arrive(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"), durability=Durability.JOURNAL)
            async with aclosing(store.watch(Plan, since=await cursor_now(store))) as changes:
                with (tmp_path / ".taskstore" / "plans.jsonl").open("ab") as file:
                    file.write(b'{"id":"edited","title":"by hand","updated_at":5}\n')
                change = await anext(changes)
        assert (change.id, change.origin, change.record and change.record.title) == ("edited", Origin.FILE, "by hand")

    async def test_what_another_process_writes_arrives(self, tmp_path: Path) -> None:
        seen: list[Change[Any]] = []

        async def watch(store: StateManager) -> None:
            async with aclosing(store.watch("docs")) as changes:
                seen.append(await anext(changes))

        script = (
            "import sys; from taskstore_async import Document, Store\n"
            "with Store.open(sys.argv[1]) as store: store.put(Document('docs', {'id': 'theirs'}))"
        )
        found: list[Any] = []

        async def wait(store: StateManager) -> None:
            found.append(await store.wait_for("docs", eq("id", "theirs"), timeout_s=10))

        async with opened(tmp_path) as store, create_task_group() as tasks:
            tasks.start_soon(watch, store)
            tasks.start_soon(wait, store)
            await listening(store, 2)
            await anyio.run_process([sys.executable, "-c", script, str(tmp_path)])
        assert kinds(seen) == [("created", "theirs")]
        assert [record.id for record in found] == ["theirs"]

    async def test_it_ends_with_the_manager(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            changes = store.watch(Plan, since="unknown.1")
            await anext(changes)
        with pytest.raises(StoreClosedError):
            await anext(changes)


class TestWaiting:
    """``wait_for`` returns the first record that matches, as soon as there is one."""

    async def test_what_is_there_is_found_at_once(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.create_many([Plan(id="a", number=1), Plan(id="b", number=2)])
            assert (await store.wait_for(Plan, order_by="-number", timeout_s=0)).id == "b"

    async def test_what_comes_is_found_when_it_comes(self, tmp_path: Path) -> None:
        found: list[Plan] = []

        async def wait(store: StateManager) -> None:
            found.append(await store.wait_for(Plan, eq("status", "done")))

        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            async with create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(wait, store)
                await wait_all_tasks_blocked()
                await store.modify(Plan, "a", lambda plan: plan.evolve(number=1))
                await wait_all_tasks_blocked()
                assert found == []
                await store.modify(Plan, "a", lambda plan: plan.evolve(status="done"))
        assert [plan.id for plan in found] == ["a"] * 3

    async def test_nothing_in_time(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            for timeout_s in (0, 0.01):
                told = f"waited {timeout_s:g} s for a record of plans"
                with pytest.raises(TimeoutError, match=rf"^{told} with eq\('status', 'never'\), gt\('number', 1\)$"):
                    await store.wait_for(Plan, eq("status", "never"), gt("number", 1), timeout_s=timeout_s)
                with pytest.raises(TimeoutError, match=f"^{told}$"):
                    await store.wait_for("plans", timeout_s=timeout_s)

    async def test_a_record_that_does_not_fit_the_type_is_passed_over(self, tmp_path: Path) -> None:
        found: list[Plan] = []

        async def wait(store: StateManager) -> None:
            found.append(await store.wait_for(Plan, eq("status", "done")))

        async with opened(tmp_path) as store:
            bad = [{"id": f"a{number}", "status": "done", "number": "many"} for number in range(3)]
            await store.create_many([Document("plans", fields) for fields in bad])
            with pytest.raises(TimeoutError, match=r"passed over: plans/a0 cannot be read as Plan: .*\$\.number"):
                await store.wait_for(Plan, eq("status", "done"), timeout_s=0)
            async with create_task_group() as tasks:
                tasks.start_soon(wait, store)
                await listening(store)
                await store.put(Plan(id="b", status="done"))
            assert [plan.id for plan in found] == ["b"]
            assert (await store.wait_for("plans", eq("status", "done"))).id == "a0", "untyped, it is one like others"


def test_nowhere_is_a_cursor() -> None:
    assert Position.parse(str(Position.NOWHERE)) == Position.NOWHERE
    assert partial(Position.parse, "a.b.12")() == Position("a.b", 12)
