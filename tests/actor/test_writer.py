"""Many changes share a transaction, and each has its own answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pytest
from anyio import create_task_group, fail_after, sleep_forever, wait_all_tasks_blocked

from taskstore_async import (
    AlreadyExistsError,
    ClaimLostError,
    Document,
    Durability,
    FlushError,
    InvalidIdError,
    InvalidRecordError,
    LimitExceededError,
    NotFoundError,
    Record,
    References,
    StaleWriteError,
    StateManager,
    StoreClosedError,
    StoreLockedError,
    TaskStoreError,
    UnreadableRecordError,
    WriteUncertainError,
    eq,
    lt,
)
from taskstore_async.actor import writer
from taskstore_async.actor.call import twin
from taskstore_async.storage import clock, files
from taskstore_async.storage.engine import Engine
from tests.actor.support import DEADLINE_S, Plan, engine_busy, ids_of, lines_of, opened, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from taskstore_async.storage.batch import BatchWriter

pytestmark = pytest.mark.anyio


class Step(Record):
    collection: ClassVar[str] = "steps"
    plan_id: Annotated[str | None, References("plans")] = None


class Picky(Record):
    """What a user may write: a type that refuses some of its own values, and not in our words."""

    collection: ClassVar[str] = "picky"
    unlucky: ClassVar[int] = 13
    number: int = 0

    def __post_init__(self) -> None:
        if self.number == self.unlucky:
            message = "not thirteen"
            raise ZeroDivisionError(message)


class Strict(Record, forbid_unknown_fields=True):
    collection: ClassVar[str] = "strict"
    number: int = 0


async def outcome(outcomes: dict[str, object], name: str, call: Coroutine[Any, Any, object]) -> None:
    try:
        outcomes[name] = await call
    except TaskStoreError as error:
        outcomes[name] = error


class TestGroupCommit:
    """What is queued together shares a transaction, and at ``journal`` one append and one fsync for each file."""

    async def test_64_tasks_share_transactions_and_fsyncs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[int] = []
        fsync = files.fsync

        def counted(descriptor: int) -> None:
            synced.append(descriptor)
            fsync(descriptor)

        async def work(store: StateManager, task: int) -> None:
            for turn in range(63):
                await store.put(Plan(id=f"{task}-{turn}"))

        async with opened(tmp_path, records=[Plan], durability=Durability.JOURNAL) as store:
            await store.put(Plan(id="first"))  # the file is new, and its directory is synced
            before = await store.stats()
            monkeypatch.setattr(files, "fsync", counted)
            async with create_task_group() as tasks:
                for task in range(64):
                    tasks.start_soon(work, store, task)
            after = await store.stats()
            monkeypatch.undo()
        writes, batches = after.writes - before.writes, after.batches - before.batches
        assert writes == 64 * 63
        assert writes / batches > 16
        assert after.max_batch == 64
        assert len(synced) == batches
        assert len(lines_of(tmp_path)) == 64 * 63 + 1
        assert after.waiting == 0, "what is in the journal does not wait for a flush"

    async def test_who_is_left_for_a_later_transaction_waits_on_for_its_own_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "_BATCH_MAX", 3)
        outcomes: dict[str, object] = {}
        names = [f"plan-{number}" for number in range(10)]
        async with opened(tmp_path) as store:
            await store.create(Plan(id="taken"))
            async with create_task_group() as tasks, engine_busy(store):
                for name in (*names, "taken"):
                    tasks.start_soon(outcome, outcomes, name, store.create(Plan(id=name, title=name)))
                await wait_all_tasks_blocked()
            assert (await store.stats()).max_batch == 3
        assert isinstance(outcomes.pop("taken"), AlreadyExistsError)
        assert {name: getattr(one, "title", one) for name, one in outcomes.items()} == dict(
            zip(names, names, strict=True)
        )

    async def test_a_batch_over_two_files_syncs_each_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with opened(tmp_path, durability=Durability.JOURNAL) as store:
            for collection in ("a", "b"):
                await store.put(Document(collection, {"id": "first"}))
            synced: list[int] = []
            fsync = files.fsync

            def counted(descriptor: int) -> None:
                synced.append(descriptor)
                fsync(descriptor)

            async with create_task_group() as tasks, engine_busy(store):
                tasks.start_soon(store.put, Plan(id="the batch that is on its way"))
                await wait_all_tasks_blocked()
                for number in range(20):
                    tasks.start_soon(store.put, Document("ab"[number % 2], {"id": f"n{number}"}))
                await wait_all_tasks_blocked()
                monkeypatch.setattr(files, "fsync", counted)
            monkeypatch.undo()
            assert (await store.stats()).max_batch == 20
        assert len(synced) == 2 + 2  # the other batch: a new file, and its directory

    async def test_a_call_may_ask_for_more_than_the_manager_gives(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="relaxed"), durability=Durability.RELAXED)
            assert ids_of(tmp_path) == set()
            await store.put(Plan(id="journal"), durability=Durability.JOURNAL)
            assert "journal" in ids_of(tmp_path)

    async def test_callers_wait_while_the_queue_is_full(self, tmp_path: Path) -> None:
        async with opened(tmp_path, queue_max=1) as store:
            async with create_task_group() as tasks, engine_busy(store):
                tasks.start_soon(store.put, Plan(id="in flight"))
                await wait_all_tasks_blocked()
                for number in range(29):
                    tasks.start_soon(store.put, Plan(id=f"{number}"))
                await wait_all_tasks_blocked()
                statistics = store._writer._inbox.statistics()
                assert (statistics.current_buffer_used, statistics.tasks_waiting_send) == (1, 28)
                assert store._writer.depth == 29
            assert await store.count(Plan) == 30
            assert (await store.stats()).queue_depth == 0

    async def test_a_queue_without_places_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="queue_max is 0"):
            async with StateManager.open(tmp_path, queue_max=0):
                raise AssertionError  # pragma: no cover


class TestRefusals:
    """A refused change fails alone; its neighbours in the transaction are made."""

    async def test_a_refused_change_fails_alone(self, tmp_path: Path) -> None:
        outcomes: dict[str, object] = {}
        async with opened(tmp_path, records=[Plan, Step]) as store:
            old = await store.create(Plan(id="there"))
            await store.update(old.evolve(title="newer"))
            calls = {
                "good": store.put(Plan(id="good")),
                "exists": store.create(Plan(id="there")),
                "stale": store.update(old.evolve(title="older")),
                "absent": store.delete(Plan, "absent"),
                "token": store.put(Plan(id="there"), token=7),
                "dangling": store.put(Step(id="s", plan_id="nowhere")),
                "good too": store.put(Plan(id="good too")),
            }
            async with create_task_group() as tasks, engine_busy(store):
                tasks.start_soon(store.put, Plan(id="on its way"))
                await wait_all_tasks_blocked()
                for name, call in calls.items():
                    tasks.start_soon(outcome, outcomes, name, call)
                await wait_all_tasks_blocked()
            kinds = {name: type(value).__name__ for name, value in outcomes.items()}
            assert kinds == {
                "good": "Plan",
                "exists": "AlreadyExistsError",
                "stale": "StaleWriteError",
                "absent": "NotFoundError",
                "token": "ClaimLostError",
                "dangling": "MissingReferenceError",
                "good too": "Plan",
            }
            stats = await store.stats()
            assert stats.max_batch == len(calls)
            assert await store.count(Plan) == 4

    async def test_what_keeps_all_from_happening_is_everybodys_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outcomes: dict[str, object] = {}

        def locked(*_: object, **__: object) -> None:
            raise StoreLockedError("store.lock", waited_s=1, holder="somebody")

        async with opened(tmp_path) as store:
            async with create_task_group() as tasks, engine_busy(store):
                monkeypatch.setattr(Engine, "commit", locked)
                for number in range(4):
                    tasks.start_soon(outcome, outcomes, f"{number}", store.put(Plan(id=f"{number}")))
                await wait_all_tasks_blocked()
            monkeypatch.undo()
            assert [type(error) for error in outcomes.values()] == [StoreLockedError] * 4
            assert len(set(map(id, outcomes.values()))) == 4, "each has its own, with its own traceback"
            await store.put(Plan(id="next"))

    async def test_an_unknown_failure_of_a_transaction_does_not_end_the_writer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        async with opened(tmp_path) as store:
            monkeypatch.setattr(Engine, "commit", broken)
            with pytest.raises(WriteUncertainError, match="ZeroDivisionError"):
                await store.put(Plan(id="a"))
            monkeypatch.undo()
            await store.put(Plan(id="b"))
        assert "a transaction of 1 change(s) failed" in caplog.text

    def test_a_twin_is_the_same_error_once_more(self) -> None:
        error = StoreLockedError("store.lock", waited_s=1, holder="somebody")
        again = twin(error)
        assert again is not error
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


class TestTypesOfTheUser:
    """What a record type or a function of the caller raises reaches the caller, and nobody else."""

    async def test_a_post_init_that_raises(self, tmp_path: Path) -> None:
        async with opened(tmp_path, records=[Picky]) as store:
            await store.put(Document("picky", {"id": "a", "number": 13}))
            await store.put(Picky(id="b", number=1))
            with pytest.raises(UnreadableRecordError, match="not thirteen"):
                await store.get(Picky, "a")
            with pytest.raises(UnreadableRecordError):
                await store.list(Picky)
            assert await store.claim(Picky, eq("number", 13), owner="me") is None, "and it is leased to nobody"
            assert await store.claim("picky", eq("number", 13), owner="me") is not None
            listing = await store.list_tolerant(Picky)
            assert [record.id for record in listing.records] == ["b"]
            assert [bad.record_id for bad in listing.unreadable] == ["a"]
            with pytest.raises(InvalidRecordError):
                await store.claim(Picky, owner="me", set={"number": "many"})
            await store.put(Picky(id="c"))

    async def test_a_field_that_the_type_forbids_is_refused_before_anything_is_written(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            made = await store.put(Document("strict", {"id": "a", "number": 1, "extra": 1}))
            for write in (store.put, store.update):
                with pytest.raises(InvalidRecordError, match=r"extra.*nothing was written"):
                    await write(Strict(id="a", number=2, updated_at=made.updated_at))
            with pytest.raises(InvalidRecordError, match="extra"):  # noqa: PT012 - reason: the block is the batch
                async with store.batch() as batch:
                    batch.create(Plan(id="beside"))
                    batch.put(Strict(id="a", number=2))
            assert await store.get("strict", "a") == made
            assert await store.get(Plan, "beside") is None
            assert await store.claim(Strict, owner="me") is None
            await store.put(Document("strict", {"id": "a", "number": 1}))
            lease = await store.claim(Strict, owner="me", set={"number": 2})
            assert lease is not None
            assert lease.record == await store.get(Strict, "a")
            assert lease.record.number == 2

    async def test_hooks_that_think_otherwise_by_then(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = Engine.commit

        def commit_and_refuse(engine: Engine, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - reason: what it takes
            answers = commit(engine, *args, **options)
            monkeypatch.setattr(Picky, "unlucky", 1)
            return answers

        async with opened(tmp_path, records=[Picky]) as store:
            monkeypatch.setattr(Engine, "commit", commit_and_refuse)
            stored = await store.create(Picky(id="a", number=1))
            monkeypatch.undo()
            assert stored == await store.get(Picky, "a")
            monkeypatch.setattr(Engine, "commit", commit_and_refuse)
            lease = await store.claim(Picky, owner="me")
            monkeypatch.undo()
            assert lease is not None
            assert lease.record == await store.get(Picky, "a")

    async def test_a_modify_function_that_raises(self, tmp_path: Path) -> None:
        def explode(_: Plan) -> Plan:
            raise ZeroDivisionError

        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            with pytest.raises(ZeroDivisionError):
                await store.modify(Plan, "a", explode)
            with pytest.raises(InvalidIdError):
                await store.modify(Plan, "a", lambda plan: plan.evolve(id="b"))
            with pytest.raises(NotFoundError):
                await store.modify(Plan, "absent", explode)
            await store.modify(Plan, "a", lambda _: Plan(id="a", title="made anew"))

    async def test_a_record_that_cannot_be_stored(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            with pytest.raises(InvalidRecordError):
                await store.put(Document("docs", {"id": "a", "weight": float("nan")}))
            with pytest.raises(InvalidIdError):
                await store.put(Plan(id=" "))
            with pytest.raises(LimitExceededError):
                await store.put(Plan(id="a", title="x" * (11 << 20)))
            await store.put(Plan(id="b"))


class TestWriting:
    """The calls that change something do what they say."""

    async def test_what_is_stored_is_what_is_returned(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            made = await store.create(Plan(id="a", title="one"))
            assert made == await store.get(Plan, "a")
            assert made.updated_at > 0
            again = await store.update(made.evolve(title="two"))
            assert again.updated_at > made.updated_at
            with pytest.raises(AlreadyExistsError):
                await store.create(Plan(id="a"))
            with pytest.raises(StaleWriteError):
                await store.delete(Plan, "a", if_updated_at=made.updated_at)
            await store.delete(Plan, "a", if_updated_at=again.updated_at)
            assert await store.get(Plan, "a") is None
            assert [version.deleted for version in await store.history(Plan, "a")][-1]

    async def test_the_state_is_seen_without_types_too(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            made = await store.put(Document("plans", {"id": "a", "title": "one", "extra": [1]}))
            assert made["extra"] == [1]
            await store.modify(Plan, "a", lambda plan: plan.evolve(title="two"))
            found = await store.get("plans", "a")
            assert found is not None
            assert (found["title"], found["extra"]) == ("two", [1])

    async def test_many_at_once_are_all_or_none(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            assert await store.create_many([]) == 0
            assert await store.create_many(Plan(id=f"{n:04}", number=n) for n in range(1_201)) == 1_201
            with pytest.raises(AlreadyExistsError):
                await store.create_many([Plan(id="new"), Plan(id="0001")])
            assert await store.get(Plan, "new") is None
            assert await store.delete_where(Plan, lt("number", 1_200)) == 1_200
            assert [plan.id for plan in await store.list(Plan)] == ["1200"]

    async def test_a_batch_takes_nothing_behind_its_end(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            async with store.batch() as changes:
                changes.create(Plan(id="a"))
            late: tuple[Callable[[], None], ...] = (
                lambda: changes.put(Plan(id="late")),
                lambda: changes.delete(Plan, "a"),
            )
            for call in late:
                with pytest.raises(RuntimeError, match="this batch has ended, so nothing was written"):
                    call()
            assert [plan.id for plan in await store.list(Plan)] == ["a"]
            assert len(changes.results) == 1
            with pytest.raises(KeyError):
                async with store.batch() as changes:
                    raise KeyError
            with pytest.raises(RuntimeError, match="this batch has ended"):
                changes.create(Plan(id="late"))

    async def test_a_batch_is_busy_being_written_when_it_has_ended(self, tmp_path: Path) -> None:
        async def write(store: StateManager, begun: list[BatchWriter]) -> None:
            async with store.batch() as changes:
                begun.append(changes)
                changes.create(Plan(id="a"))

        begun: list[BatchWriter] = []
        async with opened(tmp_path) as store, create_task_group() as tasks, engine_busy(store):
            tasks.start_soon(write, store, begun)
            await wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="this batch has ended"):
                begun[0].create(Plan(id="late"))

    async def test_a_batch_is_all_or_none(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="old"))
            async with store.batch() as changes:
                changes.create(Plan(id="a"))
                changes.put(Document("docs", {"id": "d"}))
                changes.delete(Plan, "old")
            assert [one is None for one in changes.results] == [False, False, True]
            with pytest.raises(NotFoundError):  # noqa: PT012 - reason: the block is what raises
                async with store.batch() as changes:
                    changes.put(Plan(id="b"))
                    changes.delete(Plan, "absent")
            with pytest.raises(ZeroDivisionError):  # noqa: PT012 - reason: the block is what raises
                async with store.batch() as changes:
                    changes.put(Plan(id="b"))
                    raise ZeroDivisionError
            async with store.batch():
                pass
            assert [plan.id for plan in await store.list(Plan)] == ["a"]

    async def test_callers_who_modify_one_record_all_count(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Plan(id="a"))
            async with create_task_group() as tasks:
                for _ in range(16):
                    tasks.start_soon(store.modify, Plan, "a", lambda plan: plan.evolve(number=plan.number + 1))
            plan = await store.get(Plan, "a")
            assert plan is not None
            assert plan.number == 16


class TestLeases:
    """A record is claimed by one at a time; the fencing token keeps late writers out."""

    async def test_every_record_is_claimed_once(self, tmp_path: Path) -> None:
        claimed: list[tuple[str, str]] = []

        async def agent(store: StateManager, name: str) -> None:
            while (
                lease := await store.claim(Plan, eq("status", "draft"), owner=name, set={"status": name})
            ) is not None:
                claimed.append((lease.record.id, lease.record.status))

        async with opened(tmp_path) as store:
            await store.create_many(Plan(id=f"{number}") for number in range(20))
            async with create_task_group() as tasks:
                for number in range(8):
                    tasks.start_soon(agent, store, f"agent {number}")
            assert sorted(plan_id for plan_id, _ in claimed) == sorted(f"{number}" for number in range(20))
            assert {plan.id: plan.status for plan in await store.list(Plan)} == dict(claimed)

    async def test_a_lease_ends_and_its_token_with_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        now_ms = clock.now_ms()
        monkeypatch.setattr(clock.process_clock, "_last_ms", 0)
        monkeypatch.setattr(clock, "now_ms", lambda: now_ms)
        async with opened(tmp_path) as store:
            plan = await store.create(Plan(id="a"))
            first = await store.claim(Plan, owner="one", lease_ms=1_000)
            assert first is not None
            assert await store.claim(Plan, owner="two") is None
            assert await store.renew(Plan, "a", token=first.token, lease_ms=2_000) == first.until_ms + 1_000
            now_ms += 2_001
            second = await store.claim(Plan, owner="two", lease_ms=1_000)
            assert second is not None
            assert second.token > first.token
            for late in (
                lambda: store.put(plan, token=first.token),
                lambda: store.update(second.record, token=first.token),
                lambda: store.delete(Plan, "a", token=first.token),
                lambda: store.renew(Plan, "a", token=first.token),
                lambda: store.release(Plan, "a", token=first.token),
                lambda: store.modify(Plan, "a", lambda plan: plan.evolve(title="late"), token=first.token),
            ):
                with pytest.raises(ClaimLostError):
                    await late()
            await store.update(second.record.evolve(title="mine"), token=second.token)
            await store.release(Plan, "a", token=second.token)
            assert await store.claim(Plan, owner="three") is not None


class Bug(BaseException):
    """Something that nobody expects."""


class TestTheWriterDies:
    """Nobody waits for ever: what was in flight is uncertain, what was queued is refused, the block cancelled."""

    async def test_every_caller_learns_it_and_leaving_raises_it_bare(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        outcomes: dict[str, object] = {}

        def die(*_: object, **__: object) -> None:
            raise Bug

        managers: list[StateManager] = []
        with fail_after(DEADLINE_S):
            async with create_task_group() as outside:
                with pytest.raises(Bug):  # noqa: PT012 - reason: the block is what raises
                    async with StateManager.open(tmp_path, records=[Plan], queue_max=2) as store:
                        managers.append(store)
                        await store.put(Plan(id="before"))
                        async with engine_busy(store):
                            monkeypatch.setattr(Engine, "commit", die)
                            for number in range(5):  # in flight, queued, queued, and two that wait for a place
                                outside.start_soon(outcome, outcomes, f"{number}", store.put(Plan(id=f"{number}")))
                                await wait_all_tasks_blocked()
                        await sleep_forever()
                await outcome(outcomes, "late", managers[0].put(Plan(id="late")))
        kinds = {name: type(value) for name, value in outcomes.items()}
        assert kinds == {"0": WriteUncertainError, **dict.fromkeys(["1", "2", "3", "4", "late"], StoreClosedError)}
        assert isinstance(outcomes["0"], WriteUncertainError)
        assert isinstance(outcomes["0"].__cause__, Bug)
        assert "the writer ended" in caplog.text
        assert ids_of(tmp_path) == {"before"}, "what was acknowledged is flushed all the same"
        caplog.clear()
        outcomes.clear()
        assert threads() == []

    @pytest.mark.parametrize("error", [Bug, KeyboardInterrupt, ZeroDivisionError])
    async def test_the_failure_wins_over_its_consequences(
        self, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def die(_: object) -> None:
            raise error

        with fail_after(DEADLINE_S), pytest.raises(error):  # noqa: PT012 - reason: the block is what raises
            async with StateManager.open(tmp_path, records=[Plan]) as store:
                monkeypatch.setattr(store._writer, "_commit", die)
                await store.put(Plan(id="a"))

    @pytest.mark.parametrize(
        ("failure", "raised"), [(ZeroDivisionError, KeyError), (KeyboardInterrupt, KeyboardInterrupt)]
    )
    async def test_an_error_of_the_block_wins_over_it_unless_it_is_ctrl_c(
        self, failure: type[BaseException], raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def die(_: object) -> None:
            raise failure

        with fail_after(DEADLINE_S), pytest.raises(raised):  # noqa: PT012 - reason: the block is what raises
            async with StateManager.open(tmp_path, records=[Plan]) as store:
                monkeypatch.setattr(store._writer, "_commit", die)
                try:
                    await store.put(Plan(id="a"))
                except WriteUncertainError:
                    raise KeyError("the block's own") from None


class TestAFailingDisk:
    """What was acknowledged is kept and tried again; at ``journal`` its callers are told that it is uncertain."""

    async def test_a_failed_append_at_journal_is_uncertain_and_appended_later(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = True
        write = files.write

        def write_unless_full(descriptor: int, data: bytes) -> int:
            if full:
                raise OSError(28, "No space left on device")
            return write(descriptor, data)

        async with opened(tmp_path, durability=Durability.JOURNAL) as store:
            await store.put(Plan(id="before"))
            monkeypatch.setattr(files, "write", write_unless_full)
            with pytest.raises(WriteUncertainError, match="No space left"):
                await store.put(Plan(id="a"))
            stats = await store.stats()
            assert stats.waiting > 0, "somebody tries again"
            with pytest.raises(FlushError):
                await store.flush()
            assert (await store.stats()).errors > 0
            assert ids_of(tmp_path) == {"before"}
            full = False
            await store.flush()
            assert ids_of(tmp_path) == {"before", "a"}


def test_every_write_takes_a_durability() -> None:
    import inspect  # noqa: PLC0415 - reason: of this test alone

    calls: list[Callable[..., object]] = [
        StateManager.create,
        StateManager.put,
        StateManager.update,
        StateManager.modify,
        StateManager.delete,
        StateManager.delete_where,
        StateManager.create_many,
        StateManager.batch,
        StateManager.claim,
    ]
    assert all("durability" in inspect.signature(call).parameters for call in calls)


CANNOT_BE: dict[str, Callable[[StateManager], Coroutine[Any, Any, object]]] = {
    "delete": lambda store: store.delete("plans", "\udce9"),
    "delete, no text": lambda store: store.delete("plans", ["p-1"]),  # type: ignore[arg-type]  # reason: a mistake
    "release": lambda store: store.release("plans", "\udce9", token=1),
    "renew": lambda store: store.renew("plans", "p-1", token=2**70),
    "put": lambda store: store.put(Document("plans", {"id": "p-1"}), token=2**70),
    "claim, the owner": lambda store: store.claim("plans", owner="\udce9"),
    "claim, how long": lambda store: store.claim("plans", owner="me", lease_ms=2**70),
}


class TestWhatCannotBeStored:
    """An id, a token, an owner or a time that SQLite does not take is its caller's mistake, and nobody else's."""

    @pytest.mark.parametrize("what", CANNOT_BE)
    async def test_it_is_refused_alone(self, what: str, tmp_path: Path) -> None:
        outcomes: dict[str, object] = {}

        async def refused(store: StateManager) -> None:
            with pytest.raises((NotFoundError, ClaimLostError, ValueError)):
                await CANNOT_BE[what](store)

        async with opened(tmp_path) as store, create_task_group() as tasks:
            await store.put(Document("plans", {"id": "p-1"}))
            for number in range(6):
                if number == 3:
                    tasks.start_soon(refused, store)
                tasks.start_soon(outcome, outcomes, str(number), store.put(Document("plans", {"id": f"q-{number}"})))
        assert [one for one in outcomes.values() if isinstance(one, Exception)] == []

    async def test_there_is_no_record_of_such_an_id(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as store:
            await store.put(Document("plans", {"id": "p-1"}))
            assert await store.get("plans", "\udce9") is None
            with pytest.raises(NotFoundError):
                await store.modify("plans", "\udce9", lambda plan: plan)
