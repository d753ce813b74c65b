"""Disks that fail: what is acknowledged is kept, what is uncertain is said to be, and writing goes on by itself."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async.core.record import Document
from taskstore_async.core.schedule import SyncConfig
from taskstore_async.errors import (
    CollectionClosedError,
    FlushError,
    StoreBrokenError,
    WriteFailedError,
    WriteUncertainError,
)
from taskstore_async.storage import files, journal
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
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from taskstore_async.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        opened.put(document("first"), durability=Durability.JOURNAL)
        yield opened


class Failing:
    """Stands in for a call of the system and fails as long as it is told to."""

    def __init__(self, real: Callable[..., Any], error: OSError | None, *, short: bool = False) -> None:
        self.real, self.error, self.short = real, error, short
        self.on = True
        self.calls = 0

    def __call__(self, descriptor: int, *rest: bytes) -> Any:  # noqa: ANN401 - reason: what os.write or os.fsync returns
        self.calls += 1
        if self.on and self.short:
            return self.real(descriptor, rest[0][: len(rest[0]) // 2])
        if self.on and self.error is not None:
            raise self.error
        return self.real(descriptor, *rest)


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int = errno.EIO, *, short: bool = False) -> Failing:
    stand_in = Failing(getattr(files, name), OSError(number, os.strerror(number)), short=short)
    monkeypatch.setattr(files, name, stand_in)
    return stand_in


def broken(store: Store) -> bool:
    return store._engine.broken is not None


def be_patient(store: Store) -> None:
    """As if the time to wait before the next try had passed."""
    store._engine._health.try_at_once()


class TestFailedAppend:
    """A failed append keeps the outbox; at `journal` its caller is told that the outcome is uncertain."""

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
    def test_it_is_tried_again(self, store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        write = failing(monkeypatch, "write", number)
        with pytest.raises(WriteUncertainError):
            store.put(document("a"), durability=Durability.JOURNAL)
        assert store.get(NAME, "a") is not None
        assert len(outbox(store)) == 1
        with pytest.raises(FlushError) as caught:
            store.flush()
        assert caught.value.pending == 1
        store.put(document("b"))
        write.on = False
        store.flush()
        assert [raw[:9] for raw in lines_in(store)] == [b'{"id":"fi', b'{"id":"a"', b'{"id":"b"']
        assert outbox(store) == []
        assert_true(store)

    def test_what_a_short_write_left_is_completed(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        write = failing(monkeypatch, "write", short=True)
        with pytest.raises(WriteUncertainError):
            store.put(document("a", text="x" * 100), durability=Durability.JOURNAL)
        write.on = False
        store.flush()
        assert len(lines_in(store)) == 2
        assert store.sync().collections == {}
        assert_true(store)

    def test_one_collection_does_not_keep_the_others(self, store: Store) -> None:
        store.put(document("a"))
        other = store.path / "others.jsonl"
        store.put(Document("others", {"id": "a"}))
        journal_of(store).unlink()
        journal_of(store).mkdir()
        with pytest.raises(Exception, match="closed to writing"):
            store.flush()
        assert other.read_bytes().startswith(b'{"id":"a"')
        journal_of(store).rmdir()
        store.flush()
        assert_true(store)

    def test_the_schedule_backs_off(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with open_store(tmp_path, sync=SyncConfig(debounce_ms=0)) as store:
            write = failing(monkeypatch, "write")
            store.put(document("a"))
            assert store.notes  # it says so, and the write stands
            calls = write.calls
            assert calls == 1
            store.put(document("b"))
            assert write.calls == calls
            write.on = False
            store._engine.schedule._not_before_ms = 0
            store.put(document("c"))
            assert len(lines_in(store)) == 3

    def test_a_lock_of_another_tool_that_never_ends(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def busy(*_: object) -> None:
            raise TimeoutError("another program has held the file's lock for 10 s")

        monkeypatch.setattr(files, "lock_file", busy)
        store.put(document("a"))
        with pytest.raises(FlushError, match="another program"):
            store.flush()
        monkeypatch.undo()
        store.flush()
        assert_true(store)

    def test_a_file_that_is_always_replaced(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        path, real, on = journal_of(store), os.write, [True]

        def write(descriptor: int, data: bytes) -> int:
            if on[0]:
                kept = path.read_bytes()
                path.unlink()
                path.write_bytes(kept)
            return real(descriptor, data)

        monkeypatch.setattr(files, "write", write)
        store.put(document("a"))
        with pytest.raises(FlushError, match="keeps being replaced"):
            store.flush()
        assert len(outbox(store)) == 1
        on[0] = False
        store.flush()
        assert_true(store)

    def test_no_permission(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.open

        def open_(path: os.PathLike[str], flags: int, *rest: int) -> int:
            if str(path).endswith("plans.jsonl") and flags & os.O_APPEND:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, flags, *rest)

        store.put(document("a"))
        monkeypatch.setattr(os, "open", open_)
        with pytest.raises(FlushError, match="Permission denied"):
            store.flush()
        monkeypatch.undo()
        store.flush()
        assert_true(store)


class TestSwallowedLine:
    """A line counts as flushed only when it stands alone: whoever writes between our look and our append."""

    @pytest.mark.parametrize("torn", [b"", b'{"id":"a"'])
    def test_a_piece_without_newline(self, store: Store, monkeypatch: pytest.MonkeyPatch, torn: bytes) -> None:
        path, real, pieces = journal_of(store), os.write, [b"piece"]
        with path.open("ab") as file:
            file.write(torn)
        store.sync()

        def write(descriptor: int, data: bytes) -> int:
            if pieces:
                with path.open("ab") as file:
                    file.write(pieces.pop())
            return real(descriptor, data)

        monkeypatch.setattr(files, "write", write)
        store.put(document("a"), durability=Durability.JOURNAL)
        raw = store.line(NAME, "a")
        assert raw in lines_in(store)
        assert_true(store)

    def test_a_newline_that_an_edit_in_place_took_away(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        store.put(document("second"), durability=Durability.JOURNAL)
        path, real, done = journal_of(store), os.write, [False]

        def write(descriptor: int, data: bytes) -> int:
            if not done[0]:
                done[0] = True
                with path.open("r+b") as file:
                    file.seek(-1, 2)
                    file.write(b"x")
            return real(descriptor, data)

        monkeypatch.setattr(files, "write", write)
        store.put(document("a"), durability=Durability.JOURNAL)
        assert store.line(NAME, "a") in lines_in(store)

    def test_a_whole_line_is_read(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        path, real, pieces = journal_of(store), os.write, [line("theirs", 1) + b"\n"]

        def write(descriptor: int, data: bytes) -> int:
            if pieces:
                with path.open("ab") as file:
                    file.write(pieces.pop())
            return real(descriptor, data)

        monkeypatch.setattr(files, "write", write)
        store.put(document("a"), durability=Durability.JOURNAL)
        assert len(lines_in(store)) == 3
        assert outbox(store) == []
        store.sync()
        assert "theirs" in rows(store)
        assert_true(store)

    def test_a_line_between_our_write_and_our_look_at_it(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        path, real, pieces = journal_of(store), os.write, [line("theirs", 1) + b"\n"]

        def write(descriptor: int, data: bytes) -> int:
            written = real(descriptor, data)
            if pieces:
                with path.open("ab") as file:
                    file.write(pieces.pop())
            return written

        monkeypatch.setattr(files, "write", write)
        store.put(document("a"), durability=Durability.JOURNAL)
        store.put(document("b"), durability=Durability.JOURNAL)
        assert "theirs" in rows(store)
        assert_true(store)


class TestFailedFsync:
    """After a failed fsync nothing that can be read is trusted: writing stops until all was appended anew."""

    def test_it_stops_writing_and_recovers_by_itself(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        fsync = failing(monkeypatch, "fsync")
        with pytest.raises(WriteUncertainError):
            store.put(document("a"), durability=Durability.JOURNAL)
        assert broken(store)
        with pytest.raises(StoreBrokenError):  # the first try is at once, and fails
            store.put(document("b"))
        calls = fsync.calls
        with pytest.raises(StoreBrokenError):  # and the next is not due
            store.put(document("b"))
        assert fsync.calls == calls
        assert store.get(NAME, "a") is not None
        fsync.on = False
        be_patient(store)
        store.put(document("b"), durability=Durability.JOURNAL)
        assert not broken(store)
        raw = store.line(NAME, "a") or b""
        assert lines_in(store).count(raw) > 1  # those before the failure may be on no disk
        assert outbox(store) == []
        assert_true(store)

    @pytest.fixture
    def stopped(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
        """A handle whose disk is well again, and that does not know it yet."""
        fsync = failing(monkeypatch, "fsync")
        store.put(document("a"))
        for _ in range(3):
            with pytest.raises(StoreBrokenError):
                store.flush()
        fsync.on = False
        with pytest.raises(StoreBrokenError, match="opened anew"):
            store.put(document("b"))
        return store

    def test_mend_recovers_at_once(self, stopped: Store) -> None:
        stopped._engine.mend()
        assert not broken(stopped)
        assert_true(stopped)

    def test_a_handle_that_is_opened_anew_does_not_wait(self, stopped: Store, tmp_path: Path) -> None:
        with open_store(tmp_path) as anew:
            anew.put(document("b"), durability=Durability.JOURNAL)
        assert broken(stopped)

    def test_it_is_found_among_other_failures(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        store.put(document("a"))
        store.put(Document("zoo", {"id": "a"}))
        (store.path / "zoo.jsonl").mkdir()
        fsync = failing(monkeypatch, "fsync")
        with pytest.raises(StoreBrokenError):
            store.flush()
        fsync.on = False
        (store.path / "zoo.jsonl").rmdir()
        store._engine.mend()
        assert len(lines_in(store)) == 3
        assert_true(store)

    def test_a_closed_collection_does_not_keep_the_store_broken(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.put(document("a"))
        store.put(Document("zoo", {"id": "a"}))
        (store.path / "zoo.jsonl").mkdir()
        fsync = failing(monkeypatch, "fsync")
        with pytest.raises(StoreBrokenError):
            store.flush()
        fsync.on = False
        store._engine.mend()
        (store.path / "zoo.jsonl").rmdir()

    def test_of_the_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with open_store(tmp_path) as store:
            real, fail = files.fsync_directory, [True]

            def fsync_directory(path: Path) -> None:
                if fail[0]:
                    raise OSError(errno.EIO, "Input/output error", str(path))
                real(path)

            monkeypatch.setattr(files, "fsync_directory", fsync_directory)
            with pytest.raises(WriteUncertainError):
                store.put(document("a"), durability=Durability.JOURNAL)
            fail[0] = False
            store._engine.mend()
            assert_true(store)

    def test_before_settling_what_another_handle_wrote(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = open_store(tmp_path)
        first.put(document("a"))
        raw = outbox(first)[0]
        first._engine.abandon()
        with journal_of(tmp_path).open("wb") as file:
            file.write(raw + b"\n")  # written, and killed before the fsync
        fsync = failing(monkeypatch, "fsync")
        second = open_store(tmp_path)
        assert outbox_of_file(tmp_path) == 1
        assert broken(second)
        fsync.on = False
        second._engine.mend()
        assert_true(second)
        second.close()

    def test_closing_says_so_and_closes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store(tmp_path)
        store.put(document("a"))
        fsync = failing(monkeypatch, "fsync")
        with pytest.raises(StoreBrokenError):
            store.close()
        fsync.on = False
        with open_store(tmp_path) as again:
            assert "a" in rows(again)
            assert_true(again)


def outbox_of_file(folder: Path) -> int:
    with sqlite3.connect(folder / ".taskstore" / "store.db") as db:
        (count,) = db.execute("SELECT count(*) FROM log WHERE origin = 0").fetchone()
    db.close()
    return int(count)


class FailingCommit:
    """A connection whose COMMIT fails: done all the same, or not at all."""

    def __init__(self, db: sqlite3.Connection, *, done: bool) -> None:
        self.db, self.done = db, done

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - reason: whatever the connection has
        return getattr(self.db, name)

    def execute(self, sql: str, *rest: tuple[object, ...]) -> sqlite3.Cursor:
        if sql != "COMMIT":
            return self.db.execute(sql, *rest)
        if self.done:
            self.db.execute(sql)
        raise sqlite3.OperationalError("disk I/O error")


class TestFailedCommit:
    """Nobody knows whether a COMMIT that failed is there: a connection of its own tells."""

    @pytest.mark.parametrize("done", [True, False])
    def test_it_recovers(self, store: Store, done: bool) -> None:  # noqa: FBT001 - reason: a parameter of the test
        index: Any = store._engine.connections.index
        index.db = FailingCommit(index.db, done=done)
        with pytest.raises(WriteUncertainError):
            store.put(document("a"))
        assert broken(store)
        assert store._engine.connections.index is index
        store.put(document("b"), durability=Durability.JOURNAL)
        assert not broken(store)
        assert store._engine.connections.index is not index
        assert ("a" in rows(store)) is done
        assert_true(store)

    def test_in_an_import(self, store: Store) -> None:
        with journal_of(store).open("ab") as file:
            file.write(line("x", 1) + b"\n")
        index: Any = store._engine.connections.index
        index.db = FailingCommit(index.db, done=False)
        with pytest.raises(StoreBrokenError):
            store.sync()
        store.sync()
        assert "x" in rows(store)
        assert_true(store)

    def test_in_the_import_before_an_append(self, store: Store) -> None:
        store.put(document("a"))
        with journal_of(store).open("ab") as file:
            file.write(line("x", 1) + b"\n")
        index: Any = store._engine.connections.index
        index.db = FailingCommit(index.db, done=False)
        with pytest.raises(StoreBrokenError):
            store.flush()
        store.flush()
        assert {"a", "x"} <= set(rows(store))
        assert_true(store)


class TestFullIndex:
    """What SQLite refuses is rolled back, and leaves the writer running."""

    def test_a_write(self, store: Store) -> None:
        db = store._engine.connections.index.db  # type: ignore[union-attr]
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(WriteFailedError):
            store.put(document("a", text="x" * 100_000))
        db.execute("PRAGMA max_page_count = 100000")
        store.put(document("a", text="x" * 100_000))
        assert_true(store)

    def test_an_import_before_an_append(self, store: Store) -> None:
        store.put(document("a"))
        with journal_of(store).open("ab") as file:
            file.write(line("x", 1, text="x" * 100_000) + b"\n")
        db = store._engine.connections.index.db  # type: ignore[union-attr]
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(FlushError):
            store.flush()
        db.execute("PRAGMA max_page_count = 100000")
        store.flush()
        assert_true(store)


class TestFsyncCounts:
    """`journal` costs an append and an fsync for every file it touches; `index` and `relaxed` none."""

    def test_per_durability(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        write, fsync = failing(monkeypatch, "write"), failing(monkeypatch, "fsync")
        write.on = fsync.on = False
        store.put(document("a"), durability=Durability.JOURNAL)
        assert (write.calls, fsync.calls) == (1, 1)
        store.put(document("a"), durability=Durability.INDEX)
        store.put(document("a"), durability=Durability.RELAXED)
        assert (write.calls, fsync.calls) == (1, 1)
        store.flush()
        assert (write.calls, fsync.calls) == (2, 2)
        with store.batch(durability=Durability.JOURNAL) as batch:
            for number in range(5):
                batch.put(document(str(number)))
                batch.put(Document("others", {"id": str(number)}))
        assert (write.calls, fsync.calls) == (4, 5)  # one for the name of the new file

    def test_levels_of_synchronous(self, store: Store) -> None:
        seen: list[str] = []
        db = store._engine.connections.index.db  # type: ignore[union-attr]
        db.set_trace_callback(lambda sql: seen.append(sql) if "synchronous" in sql else None)
        for durability, level in [
            (Durability.INDEX, "FULL"),
            (Durability.RELAXED, "NORMAL"),
            (Durability.INDEX, "FULL"),
            (Durability.JOURNAL, "NORMAL"),
        ]:
            seen.clear()
            store.put(document("a"), durability=durability)
            assert seen[:1] == [f"PRAGMA synchronous = {level}"]
        assert seen[1:] == ["PRAGMA synchronous = FULL"]  # what waited is on the disk before it is appended
        store.create_many([document("m"), document("n")], durability=Durability.JOURNAL)
        assert seen[-1:] == ["PRAGMA synchronous = FULL"]

    def test_a_handle_makes_the_name_of_every_file_durable_itself(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open_store(tmp_path) as other:
            fsync = failing(monkeypatch, "fsync")
            fsync.on = False
            other.put(document("b"), durability=Durability.JOURNAL)
            assert fsync.calls == 2
            other.put(document("b"), durability=Durability.JOURNAL)
            assert fsync.calls == 3
            kept = journal_of(store).read_bytes()
            held = journal_of(store).open("rb")  # so that the inode is a new one
            journal_of(store).unlink()
            journal_of(store).write_bytes(kept)
            other.put(document("b"), durability=Durability.JOURNAL)
            assert fsync.calls == 5
            held.close()


def test_crc_of_a_file_that_is_shorter_than_thought(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"ab")
    with journal.open_to_read(tmp_path / "x") as descriptor:
        assert descriptor is not None
        assert journal.crc_of_prefix(descriptor, 3) == -1
        assert list(journal.chunks(descriptor, 0, 9)) == [b"ab"]


class TestLostIndex:
    """Who leaves a store.db that lost its name tells the others that have it open what was flushed."""

    @pytest.fixture
    def left(self, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
        """Two handles on one store, whose index is deleted; the second has flushed, and gone on to a new one."""
        with open_store(tmp_path) as stays, open_store(tmp_path) as leaves:
            journal_of(leaves).write_bytes(line("a", 2**53 - 1, v=0) + b"\n")
            stays.put(document("b"))
            for value in (1, 2):
                leaves.put(document("a", v=value), durability=Durability.JOURNAL)
            (leaves.path / "store.db").unlink()
            leaves.put(document("a", v=3), durability=Durability.JOURNAL)
            leaves.flush()
            yield stays, leaves

    def test_what_was_flushed_does_not_come_behind_what_is_newer(self, left: tuple[Store, Store]) -> None:
        stays, leaves = left
        stays.sync()
        for store in left:
            found = store.get(NAME, "a")
            assert found is not None
            assert found["v"] == 3
        assert len(lines_in(leaves)) == 5

    def test_what_waits_is_brought_along_once(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as one, open_store(tmp_path) as other:
            one.put(document("a"))
            other.put(document("b"))
            journal_of(one).write_bytes(b"<<<<<<<\n")  # nothing can be appended to it
            (one.path / "store.db").unlink()
            for store in (one, other):
                with pytest.raises(CollectionClosedError):
                    store.flush()
            journal_of(one).unlink()
            other.flush()
            assert len(lines_in(one)) == 2

    def test_what_was_removed_stays_removed(self, left: tuple[Store, Store]) -> None:
        stays, leaves = left
        kept = [one for one in lines_in(leaves) if b'"v":2' not in one]
        journal_of(leaves).write_bytes(b"\n".join([*kept, b""]))
        stays.sync()
        assert lines_in(leaves) == kept
