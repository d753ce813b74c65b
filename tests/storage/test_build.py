"""`store.db` is disposable: missing, damaged, foreign or taken away, the next command has a true one."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from taskstore_async.errors import CollectionClosedError, StoreBrokenError, StoreReadOnlyError, WriteFailedError
from taskstore_async.storage import files, schema
from taskstore_async.storage.directory import Directory
from tests.storage.test_flush import failing
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
    from collections.abc import Callable
    from pathlib import Path

    from taskstore_async.storage.store import Store


def abandoned(folder: Path) -> tuple[bytes, bytes]:
    """Leave a store with a flushed record and a pending one, as a killed process does; returns their lines."""
    store = open_store(folder)
    store.put(document("flushed"), durability=Durability.JOURNAL)
    store.put(document("pending"))
    both = store.line(NAME, "flushed"), store.line(NAME, "pending")
    store._engine.abandon()
    assert both[0] is not None
    assert both[1] is not None
    return both[0], both[1]


def index_of(folder: Path) -> Path:
    return folder / ".taskstore" / "store.db"


def remove_index(folder: Path) -> None:
    for path in index_of(folder).parent.glob("store.db*"):
        path.unlink()


class TestMissing:
    def test_it_is_built_from_the_files(self, tmp_path: Path) -> None:
        flushed, _ = abandoned(tmp_path)
        remove_index(tmp_path)
        with open_store(tmp_path) as store:
            assert [raw for raw, _ in rows(store).values()] == [flushed]
            assert store.sync().rebuilt is False
            assert_true(store)

    def test_a_stale_write_ahead_log_beside_it_goes(self, tmp_path: Path) -> None:
        abandoned(tmp_path)
        path = index_of(tmp_path)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("DELETE FROM log")
            shutil.copy(f"{path}-wal", tmp_path / "wal")
        path.unlink()
        shutil.copy(tmp_path / "wal", f"{path}-wal")
        with open_store(tmp_path) as store:
            assert list(rows(store)) == ["flushed"]
            assert_true(store)

    def test_a_cloned_directory(self, tmp_path: Path) -> None:
        with open_store(tmp_path / "one") as store:
            store.put(document("a"))
        shutil.copytree(tmp_path / "one", tmp_path / "two", ignore=shutil.ignore_patterns("store.*"))
        with open_store(tmp_path / "two", create=False) as store:
            assert list(rows(store)) == ["a"]
            assert_true(store)

    def test_a_reader_makes_one(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.put(document("a"), durability=Durability.JOURNAL)
            remove_index(tmp_path)
            assert list(rows(store)) == ["a"]
            assert index_of(tmp_path).exists()

    def test_a_build_that_fails_leaves_nothing_and_clears_what_others_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        abandoned(tmp_path)
        remove_index(tmp_path)
        left = index_of(tmp_path).with_name("store.db.1.new-wal")
        left.touch()
        failing(monkeypatch, "fsync")
        with pytest.raises(WriteFailedError):
            open_store(tmp_path)
        assert list(index_of(tmp_path).parent.glob("store.db*")) == []
        monkeypatch.undo()
        with open_store(tmp_path) as store:
            assert list(rows(store)) == ["flushed"]


def corrupt(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * 4096 * 3)


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE collection (key, name, rows, flushed)")
        db.execute("INSERT INTO collection VALUES (1, '../evil', 'collection', 0), (2, 7, 'x', 0)")
        db.commit()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA user_version = {schema.SCHEMA + 1}")


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


class TestUnusable:
    """One that cannot be used is kept under another name, and what it had not flushed is saved."""

    @pytest.mark.parametrize("damage", [corrupt, foreign, newer, garbage, empty, directory])
    def test_a_new_one_takes_its_place(self, tmp_path: Path, damage: Callable[[Path], None]) -> None:
        flushed, pending = abandoned(tmp_path)
        with closing(sqlite3.connect(index_of(tmp_path), isolation_level=None)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        damage(index_of(tmp_path))
        with open_store(tmp_path) as store:
            lines = [raw for raw, _ in rows(store).values()]
            assert flushed in lines
            if damage is newer:
                assert pending in lines
                assert pending in lines_in(store)
            assert [path.name for path in store.path.glob("store.db.broken-*")]
            assert "could not be used" in store.notes[0]
            assert_true(store)
        assert not (tmp_path / "evil.jsonl").exists()
        with open_store(tmp_path) as store:
            assert store.notes == ()

    def test_damage_that_a_read_finds(self, tmp_path: Path) -> None:
        store = self.damaged(tmp_path)
        assert list(rows(store)) == ["flushed"]
        assert_true(store)
        store.close()

    def test_damage_that_a_write_finds(self, tmp_path: Path) -> None:
        store = self.damaged(tmp_path)
        store.put(document("new"))
        assert {"flushed", "new"} <= set(rows(store))
        assert_true(store)
        store.close()

    @staticmethod
    def damaged(folder: Path) -> Store:
        store = open_store(folder)
        store.put(document("flushed"), durability=Durability.JOURNAL)
        store.sync()
        with closing(sqlite3.connect(index_of(folder), isolation_level=None)) as db:
            (table,) = db.execute(f"SELECT rows FROM collection WHERE name = '{NAME}'").fetchone()
            db.execute(f"DROP TABLE {table}")
        return store


class TestTakenAway:
    """A handle whose `store.db` lost its name appends what waits from the connection that is still open."""

    def test_before_the_next_write(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.put(document("a"))
            remove_index(tmp_path)
            store.put(document("b"))
            assert {"a", "b"} == set(rows(store))
            assert len(lines_in(store)) == 1
            assert_true(store)
        assert len(lines_in(tmp_path)) == 2

    def test_while_a_write_commits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with open_store(tmp_path) as store:
            store.put(document("a"))
            index = store._engine.connections.index
            assert index is not None
            db = index.db
            db.set_trace_callback(lambda sql: remove_index(tmp_path) if sql.startswith("COMMIT") else None)
            store.put(document("b"))
            monkeypatch.undo()
            assert {"a", "b"} == set(rows(store))
            assert len(lines_in(store)) == 2
            assert_true(store)

    def test_another_process_has_made_a_new_one(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.put(document("a"))
        remove_index(tmp_path)
        with open_store(tmp_path) as other:
            assert rows(other) == {}
            store.put(document("b"))
            other.sync()
            assert {"a", "b"} == set(rows(other)) == set(rows(store))
            assert_true(other)
        store.close()

    def test_what_cannot_be_appended_goes_into_the_new_one(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.put(document("a"), durability=Durability.JOURNAL)
        store.put(document("b"))
        data = journal_of(tmp_path).read_bytes()
        remove_index(tmp_path)
        journal_of(tmp_path).write_bytes(b"garbage\n")
        with pytest.raises(CollectionClosedError):
            store.put(document("c"))
        assert len(outbox(store)) == 1
        journal_of(tmp_path).write_bytes(data)
        store.flush()
        assert {"a", "b"} == set(rows(store))
        assert_true(store)
        store.close()

    def test_a_failed_fsync_meanwhile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store(tmp_path)
        store.put(document("a"))
        remove_index(tmp_path)
        fsync = failing(monkeypatch, "fsync")
        with pytest.raises((StoreBrokenError, WriteFailedError)):
            store.put(document("b"))
        fsync.on = False
        store._engine.mend()
        assert "a" in rows(store)
        assert outbox(store) == []
        assert_true(store)
        store.close()


class TestReadOnly:
    """A directory that cannot be written has an index in memory, and says so."""

    def test_it_reads_and_refuses_to_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        abandoned(tmp_path)
        before = sorted((tmp_path / ".taskstore").iterdir())
        monkeypatch.setattr(Directory, "writable", False)
        with open_store(tmp_path) as store:
            assert list(rows(store)) == ["flushed"]
            assert any("lives in memory" in note for note in store.notes)
            with pytest.raises(StoreReadOnlyError):
                store.put(document("new"))
            with pytest.raises(StoreReadOnlyError):
                store.flush()
            assert store._engine.flush_if_due() is None
            assert not store.sync().stale
            with journal_of(tmp_path).open("ab") as file:
                file.write(line("x", 1) + b"\n")
            assert store.is_stale()
            assert store.sync(check=True).stale
            assert store.sync().stale
            assert set(rows(store)) == {"flushed", "x"}
            assert store.check().ok
        assert sorted((tmp_path / ".taskstore").iterdir()) == before


class TestRollbackJournal:
    """Where a write-ahead log cannot be had, readers take turns with writers."""

    def test_it_works_and_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schema, "JOURNAL_MODE", "DELETE")
        with open_store(tmp_path) as store, open_store(tmp_path) as other:
            assert any("take turns" in note for note in store.notes)
            store.put(document("a"), durability=Durability.JOURNAL)
            other.put(document("b"))
            assert set(rows(store)) == set(rows(other)) == {"a", "b"}
            engine = other._engine
            assert not (store.path / "store.db-wal").exists()
            held = engine.connections.guard()
            with held:
                assert engine.connections.lock.held
                assert set(rows(other)) == {"a", "b"}  # whoever holds it need not wait for it
            assert_true(store)
        with open_store(tmp_path) as store:
            assert any("take turns" in note for note in store.notes)
            remove_index(tmp_path)
            store.put(document("c"), durability=Durability.JOURNAL)
            assert_true(store)


class TestSalvage:
    def test_an_outbox_that_the_file_has_already(self, tmp_path: Path) -> None:
        _, pending = abandoned(tmp_path)
        with journal_of(tmp_path).open("ab") as file:
            file.write(pending + b"\n")
        newer(index_of(tmp_path))
        with open_store(tmp_path) as store:
            assert lines_in(store).count(pending) == 1
            assert_true(store)

    def test_an_index_without_its_identity(self, tmp_path: Path) -> None:
        abandoned(tmp_path)
        with closing(sqlite3.connect(index_of(tmp_path), isolation_level=None)) as db:
            db.execute("DELETE FROM meta WHERE name = 'index_id'")
        with open_store(tmp_path) as store:
            assert set(rows(store)) == {"flushed", "pending"}
            assert_true(store)


def test_a_directory_that_knows_no_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "fsync", 22)
    files.fsync_directory(tmp_path)
