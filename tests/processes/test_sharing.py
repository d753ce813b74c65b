from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from taskstore_async import Store, SyncConfig
from tests.processes.child import DEADLINE_S, Child
from tests.processes.oracle import fold, read, versions, whole_lines
from tests.processes.records import Note

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes.child import Event

THREADS = 10
EACH = 25


class _Writer:
    """A thread with a store of its own, which creates until everybody has had enough."""

    def __init__(self, path: Path, name: str, stopped: threading.Event) -> None:
        self.made = 0
        self.error: Exception | None = None
        self.enough = threading.Event()
        self._path = path
        self._name = name
        self._stopped = stopped
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            with Store.open(self._path, records=[Note]) as store:
                while not self._stopped.is_set():
                    store.create(Note(id=f"{self._name}-{self.made}", n=self.made, by=self._name))
                    self.made += 1
                    if self.made == EACH:
                        self.enough.set()
        except Exception as error:  # noqa: BLE001 - reason: looked at by the test
            self.error = error
            self.enough.set()


class TestManyWriters:
    """Threads and processes that write at once all get their turn, and lose nothing."""

    def test_ten_threads_and_three_processes_create_at_once(self, tmp_path: Path) -> None:
        stopped = threading.Event()
        writers = [_Writer(tmp_path, f"t{number}", stopped) for number in range(THREADS)]
        with ExitStack() as stack:
            children = [stack.enter_context(Child("create", store=tmp_path, name=f"p{number}")) for number in range(3)]
            for child in children:
                child.hear_of("ready")
            for child in children:
                child.tell("go")
            for writer in writers:
                writer.thread.start()
            try:
                # Nobody stops before everybody has reached the count: who is starved now is starved for good.
                for writer in writers:
                    assert writer.enough.wait(DEADLINE_S)
                for child in children:
                    child.hear_until(lambda event: event["ack"].endswith(f"-{EACH}"))
            finally:
                stopped.set()
            for child in children:
                child.finish()
            for writer in writers:
                writer.thread.join(DEADLINE_S)
        assert [writer.error for writer in writers if writer.error] == []
        acknowledged = {f"t{number}-{n}" for number, writer in enumerate(writers) for n in range(writer.made)}
        acknowledged |= {event["ack"] for child in children for event in child.told("ack")}
        assert len(acknowledged) > EACH * (THREADS + 3) - 1
        with Store.open(tmp_path, records=[Note]) as store:
            assert {note.id for note in store.list(Note)} == acknowledged
            assert store.check().ok
        assert set(fold(whole_lines(read(tmp_path / ".taskstore" / "notes.jsonl")))) == acknowledged

    def test_all_open_a_new_directory_at_once(self, tmp_path: Path) -> None:
        for attempt in range(10):
            path = tmp_path / str(attempt)
            path.mkdir()
            stopped = threading.Event()
            writers = [_Writer(path, f"t{number}", stopped) for number in range(4)]
            stopped.set()
            for writer in writers:
                writer.thread.start()
            for writer in writers:
                writer.thread.join(DEADLINE_S)
            assert [writer.error for writer in writers if writer.error] == []
            ignored = (path / ".taskstore" / ".gitignore").read_text().splitlines()
            assert len(ignored) == len(set(ignored))


def seqs(changes: list[Event]) -> list[int]:
    return [int(change["cursor"].rpartition(".")[2]) for change in changes]


def changes_of(child: Child) -> list[Event]:
    return child.told("change")


class TestTwoManagers:
    """What one process was told, another reads at once and sees in its feed: in order, without a gap, and resumable."""

    @pytest.mark.parametrize(("one", "other"), [("asyncio", "trio"), ("trio", "asyncio")])
    def test_each_reads_what_the_other_acknowledged(self, tmp_path: Path, one: str, other: str) -> None:
        with (
            Child("peer", store=tmp_path, backend=one, name="a") as a,
            Child("peer", store=tmp_path, backend=other, name="b") as b,
        ):
            a.hear_of("ready")
            b.hear_of("ready")
            for turn in range(1, 16):
                for writer, reader, name in ((a, b, "a"), (b, a, "b")):
                    level = "journal" if turn % 3 == 0 else "relaxed" if turn % 3 == 1 else "index"
                    writer.tell("write", count=1, durability=level)
                    ack = writer.hear_of("ack")
                    assert ack["n"] == turn
                    reader.tell("get", id=f"{name}-{turn % 5}")
                    assert reader.hear_of("got")["got"] == turn
            a.finish()
            b.finish()

    @pytest.mark.parametrize(("one", "other"), [("asyncio", "trio"), ("trio", "asyncio")])
    def test_both_feeds_tell_every_change_once_in_one_order(self, tmp_path: Path, one: str, other: str) -> None:
        with Store.open(tmp_path, records=[Note]) as store:
            store.create(Note(id="first", n=0))
        with (
            Child("peer", store=tmp_path, backend=one, name="a", since="none.0", debounce_ms=5, max_delay_ms=50) as a,
            Child("peer", store=tmp_path, backend=other, name="b", since="none.0", debounce_ms=0, max_delay_ms=50) as b,
        ):
            for child in (a, b):
                child.hear_until(lambda event: event.get("change") == "present" and event["id"] == "first")
            for level in ("index", "journal"):
                a.tell("write", count=60, durability=level)
                b.tell("write", count=60, durability=level)
            for child in (a, b):
                child.hear_until(lambda _, child=child: len(changes_of(child)) == 2 + 240)  # type: ignore[misc]
            assert_feeds(a, b)
            a.finish()
            b.finish()
            assert len(changes_of(a)) == len(changes_of(b)) == 2 + 240

    def test_a_killed_watcher_resumes_where_it_was(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=[Note]) as store:
            store.create(Note(id="first", n=0))
        seen: list[Event] = []
        cursor = "none.0"
        with Child("peer", store=tmp_path, backend="trio", name="a", debounce_ms=5, max_delay_ms=50) as writer:
            writer.hear_of("ready")
            for turn in range(1, 6):
                with Child("peer", store=tmp_path, backend="asyncio", name="w", since=cursor) as watcher:
                    if turn == 1:
                        watcher.hear_until(lambda event: event.get("change") == "present")
                    writer.tell("write", count=40, durability="index" if turn % 2 else "journal")
                    heard = turn * 8  # it dies in the middle of what it is told, or before
                    for _ in range(heard):
                        watcher.hear_of("change")
                    watcher.kill()
                    watcher.hear_out()
                    seen += [change for change in changes_of(watcher) if change["change"] not in {"reset", "present"}]
                    cursor = changes_of(watcher)[-1]["cursor"]
            for _ in range(5):
                writer.hear_of("done")
            with Child("peer", store=tmp_path, backend="trio", name="w", since=cursor) as watcher:
                watcher.hear_until(lambda _: len(seen) + len(changes_of(watcher)) == 200)
                watcher.finish()
                seen += changes_of(watcher)
            writer.finish()
        assert len(seen) == 200
        assert seqs(seen) == sorted(set(seqs(seen)))
        kinds = [change["change"] for change in seen]
        assert kinds == ["created"] * 5 + ["updated"] * 195
        assert [change["id"] for change in seen] == [f"a-{n % 5}" for n in range(1, 201)]


def assert_feeds(a: Child, b: Child) -> None:
    """Both have heard the same 240 changes, 24 for each of ten ids, the newest of each with its record."""
    first, second = ([c for c in changes_of(child) if c["change"] not in {"reset", "present"}] for child in (a, b))
    key = [(change["cursor"], change["id"], change["change"]) for change in first]
    assert key == [(change["cursor"], change["id"], change["change"]) for change in second]
    assert seqs(first) == sorted(set(seqs(first)))
    for feed in (first, second):
        for name in ("a", "b"):
            for number in range(5):
                own = [change for change in feed if change["id"] == f"{name}-{number}"]
                assert [change["change"] for change in own] == ["created"] + ["updated"] * 23
                told = [change["n"] for change in own if not change["superseded"]]
                assert told == sorted(set(told))
                assert own[-1]["n"] == max(n for n in range(1, 121) if n % 5 == number)


class TestOutboxOfAnother:
    """Any process can flush what another has acknowledged, whether that one runs or is dead."""

    def test_of_one_that_runs_and_writes_on(self, tmp_path: Path) -> None:
        journal = tmp_path / ".taskstore" / "notes.jsonl"
        with Child("hold", store=tmp_path, count=30) as holder:
            holder.hear_of("made")
            assert read(journal) == b""
            with Store.open(tmp_path) as store:
                store.flush()
                assert len(whole_lines(read(journal))) == 30
                holder.tell("more", count=10)
                holder.hear_of("made")
                assert len(whole_lines(read(journal))) == 30
                holder.tell("flush")
                assert holder.hear_of("flushed")["flushed"] == 10
                holder.hear_of("made")
                holder.tell("more", count=5)
                holder.hear_of("made")
                assert store.flush().lines == 5
            holder.finish()
        lines = whole_lines(read(journal))
        assert len(lines) == 45, "a line was written twice"
        assert versions(lines) == {(f"n{n}", n) for n in range(1, 46)}

    def test_of_one_that_was_killed(self, tmp_path: Path) -> None:
        journal = tmp_path / ".taskstore" / "notes.jsonl"
        with Child("hold", store=tmp_path, count=30) as holder:
            holder.hear_of("made")
            holder.kill()
        assert read(journal) == b""
        with Store.open(tmp_path, sync=SyncConfig(auto_export=False)) as store:
            store.flush()
            assert versions(whole_lines(read(journal))) == {(f"n{n}", n) for n in range(1, 31)}
            assert store.flush().lines == 0
            assert store.check().ok
