"""What the benchmarks' figures rest on, as counts: appends, fsyncs, statements, bytes read, modules loaded."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from benchmarks.samples import STAMP, Job, job, jobs, lines, stored, write_journal
from benchmarks.writes import QUIET
from taskstore_async import Durability, StateManager, Store
from taskstore_async.bench.trial import observed
from taskstore_async.core.write import draft
from taskstore_async.storage import journal
from taskstore_async.storage.ops import Applied, Put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from taskstore_async.storage.engine import Engine

encode = msgspec.json.Encoder().encode


def statements_of(engine: Engine, work: Callable[[], object]) -> list[str]:
    """The statements that *work* runs on the connection that writes."""
    assert engine.connections.index is not None
    seen: list[str] = []
    engine.connections.index.db.set_trace_callback(seen.append)
    try:
        work()
    finally:
        engine.connections.index.db.set_trace_callback(None)
    return seen


class TestWrites:
    """A batch costs one transaction, one look, one append and one fsync, however many writes are in it."""

    def test_a_batch_at_journal_is_one_append_and_one_fsync(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=[Job], sync=QUIET) as store:
            engine = store._engine
            engine.commit([Put(draft(job(0, "first")))], durability=Durability.JOURNAL)
            with observed() as seen:
                for number in range(5):
                    ops = [Put(draft(one)) for one in jobs(64, f"b{number}")]
                    answers = engine.commit(ops, durability=Durability.JOURNAL)
                    assert all(isinstance(answer, Applied) for answer in answers)
            assert (seen.appends, seen.fsyncs, seen.lines) == (5, 5, 5 * 64)

    def test_a_batch_looks_its_records_up_with_one_query(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=[Job], sync=QUIET) as store:
            engine = store._engine
            engine.commit([Put(draft(job(0)))], durability=Durability.RELAXED)
            ops = [Put(draft(one)) for one in jobs(64)]
            seen = statements_of(engine, lambda: engine.commit(ops, durability=Durability.RELAXED))
            assert sum("WHERE id IN" in sql for sql in seen) == 1
            assert not any("WHERE id =" in sql for sql in seen)
            assert sum(sql.startswith(("BEGIN", "COMMIT")) for sql in seen) == 2

    def test_create_many_looks_up_five_hundred_at_a_time(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=[Job], sync=QUIET) as store:
            store.put(job(0, "first"))
            seen = statements_of(store._engine, lambda: store.create_many(jobs(1_200)))
            assert sum("WHERE id IN" in sql for sql in seen) == 3

    def test_an_import_is_one_append_and_a_log_statement_per_thousand(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, sync=QUIET) as store:
            store.put(job(0, "first"), durability=Durability.JOURNAL)
            text = b"".join(lines(2_500))
            with observed() as seen:
                said = statements_of(store._engine, lambda: store.import_lines("brought", [text]))
            assert (seen.appends, seen.lines) == (1, 2_500)
            assert sum(sql.startswith("INSERT INTO log") for sql in said) == 3
            assert not any("WHERE id" in sql for sql in said)

    def test_small_changes_seldom_write_the_log_back(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=[Job], sync=QUIET, durability=Durability.RELAXED) as store:
            store.create_many(jobs(12_000))  # so that the log's file is large from here on
            for one in jobs(40, "settle"):
                store.put(one)

            def puts() -> None:
                for one in jobs(100, "small"):
                    store.put(one)

            assert sum("wal_checkpoint" in sql for sql in statements_of(store._engine, puts)) <= 1

    async def _puts(self, store: StateManager, count: int) -> None:
        import anyio  # noqa: PLC0415 - reason: the others need no loop

        async with anyio.create_task_group() as tasks:
            for one in jobs(count):
                tasks.start_soon(store.put, one)

    @pytest.mark.anyio
    async def test_what_is_queued_together_is_committed_together(self, tmp_path: Path) -> None:
        async with StateManager.open(tmp_path, records=[Job], sync=QUIET) as store:
            await store.put(job(0, "first"))
            before = await store.stats()
            await self._puts(store, 64)
            after = await store.stats()
            assert after.writes - before.writes == 64
            assert after.batches - before.batches <= 2

    @pytest.mark.anyio
    async def test_gets_that_come_together_share_a_hop(self, tmp_path: Path) -> None:
        import anyio  # noqa: PLC0415 - reason: as above

        async with StateManager.open(tmp_path, records=[Job], sync=QUIET) as store:
            await store.create_many(jobs(64))
            before = await store.stats()
            async with anyio.create_task_group() as tasks:
                for one in jobs(64):
                    tasks.start_soon(store.get, Job, one.id)
            after = await store.stats()
            assert after.gets - before.gets == 64
            assert after.get_hops - before.get_hops <= 2


class TestFollowing:
    """Following the files reads no more than it must."""

    @pytest.fixture
    def store_directory(self, tmp_path: Path) -> Path:
        write_journal(tmp_path / ".taskstore" / "jobs.jsonl", 2_000)
        return tmp_path / ".taskstore"

    def test_a_line_that_was_appended_costs_one_pass_over_the_file_and_its_own_bytes(
        self, store_directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        passes: list[int] = []
        real = journal.crc_of_prefix

        def counted(descriptor: int, length: int) -> int:
            passes.append(length)
            return real(descriptor, length)

        with Store.open(store_directory) as store:
            path = store_directory / "jobs.jsonl"
            size = path.stat().st_size
            line = encode(stored(job(7), STAMP + 1)) + b"\n"
            with path.open("ab") as file:
                file.write(line)
            monkeypatch.setattr(journal, "crc_of_prefix", counted)
            report = store.sync()
            assert passes.count(size) == 1
            assert report.collections["jobs"].bytes_read == len(line)
            assert report.collections["jobs"].taken == 1

    def test_nothing_is_read_when_nothing_moved(self, store_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Store.open(store_directory).close()
        time.sleep(journal.SETTLE_NS / 1e9)  # what changed just now could change again with the same times
        with Store.open(store_directory) as store:
            store.sync()
        monkeypatch.setattr(journal, "crc_of_prefix", pytest.fail)
        monkeypatch.setattr(journal, "chunks", pytest.fail)
        with Store.open(store_directory) as store:
            assert store.count("jobs") == 2_000

    def test_another_branch_costs_a_look_up_for_what_it_changes_alone(self, store_directory: Path) -> None:
        other = list(lines(2_000))
        for number in range(0, 2_000, 100):
            other[number] = encode(stored(job(number), STAMP + 5_000)) + b"\n"
        with Store.open(store_directory) as store:
            store.put(job(0, "first"))
            fresh = store_directory / "fresh"
            store.flush()
            own = (store_directory / "jobs.jsonl").read_bytes().splitlines(keepends=True)[2_000:]
            fresh.write_bytes(b"".join([*other, *own]))
            fresh.replace(store_directory / "jobs.jsonl")
            seen = statements_of(store._engine, store.sync)
        assert sum("WHERE id =" in sql for sql in seen) <= 3 * 21

    def test_a_command_that_lists_loads_no_loop(self, store_directory: Path) -> None:
        code = (
            "import sys; from taskstore_async.cli import main; main(); "
            "print(*sorted({'anyio', 'asyncio', 'aiosqlite', 'rich', 'matplotlib', 'portalocker'} & set(sys.modules)))"
        )
        Store.open(store_directory).close()
        words = ["--store", str(store_directory), "list", "jobs", "--limit", "1", "--jsonl"]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[1:] == [""]
