"""What ails the files of a store has an id, is seen, is mended where that is safe, and is not seen any more then."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from taskstore_async.git.doctor import Finding, doctor
from taskstore_async.storage import detectors, schema
from taskstore_async.storage.directory import Directory
from tests.conftest import REPOSITORY
from tests.faults.test_matrix import INDEX, mounted
from tests.storage.samples import files_of
from tests.storage.workshop import NAME, Durability, assert_true, document, journal_of, open_store, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, links and modes are POSIX's")

BAD = b"no record\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A store with a record that is flushed, nobody having it open."""
    with open_store(tmp_path) as store:
        store.put(document("first"), durability=Durability.JOURNAL)
    return tmp_path


def wait(home: Path) -> None:
    """Leave a change in the outbox."""
    store = open_store(home)
    store.put(document("waits"))
    store._engine.abandon()


def found(home: Path, *, fix: bool = False) -> dict[str, Finding]:
    return {one.id: one for one in doctor(home, fix=fix).findings if one.id not in {"no-repository", "sqlite-old"}}


def names_in(home: Path) -> dict[str, int]:
    """What is there, by name and size, but for what SQLite makes for reading."""
    entries = os.scandir(home / ".taskstore")
    return {
        one.name: one.stat(follow_symlinks=False).st_size for one in entries if one.name[-4:] not in {"-wal", "-shm"}
    }


def append(home: Path, data: bytes) -> None:
    with journal_of(home).open("ab") as file:
        file.write(data)


def become(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def inject(home: Path) -> None:
        path = home / ".taskstore" / name
        path.unlink(missing_ok=True)
        make(path)

    return inject


def unlike(schema_number: int) -> Callable[[Path], None]:
    def inject(home: Path) -> None:
        wait(home)
        with closing(sqlite3.connect(home / ".taskstore" / "store.db")) as db:
            db.execute(f"PRAGMA user_version = {schema_number}")

    return inject


def quarantine(home: Path) -> None:
    folder = home / ".taskstore" / "quarantine"
    folder.mkdir()
    (folder / "plans-1.jsonl").write_bytes(BAD)


#: what is done to the store, what is seen then, and whether doctor mends it
FAULTS: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    "an index of a newer schema": (unlike(99), "index-damaged", True),
    "an index that is a link": (become("store.db", lambda path: path.symlink_to("/dev/null")), "index-damaged", True),
    "an index that is a pipe": (become("store.db", os.mkfifo), "index-damaged", True),
    "random bytes as an index": (
        lambda home: INDEX["random bytes"](home / ".taskstore/store.db"),
        "index-damaged",
        True,
    ),
    "an outbox": (wait, "outbox-waiting", True),
    "an index that was set aside": (
        become("store.db.broken-1700000000000", lambda path: path.write_bytes(b"x")),
        "index-set-aside",
        False,
    ),
    "a name that is no collection's": (become("No Such.jsonl", lambda path: path.touch()), "journal-stray", False),
    "a journal that is a link": (become(f"{NAME}.jsonl", lambda path: path.symlink_to("x")), "journal-no-file", False),
    "a journal that is a directory": (become(f"{NAME}.jsonl", lambda path: path.mkdir()), "journal-no-file", False),
    "a journal that is a pipe": (become(f"{NAME}.jsonl", os.mkfifo), "journal-no-file", False),
    "a journal of garbage": (become(f"{NAME}.jsonl", lambda path: path.write_bytes(BAD)), "journal-damaged", False),
    "a line that is no record": (lambda home: append(home, BAD), "lines-unreadable", False),
    "a quarantine": (quarantine, "lines-quarantined", False),
    "ignore rules that are a link": (become(".gitignore", lambda path: path.symlink_to("x")), "file-foreign", False),
    "a lock that is a link": (become("store.lock", lambda path: path.symlink_to("x")), "file-foreign", False),
    "markers": (lambda home: append(home, b"<<<<<<< a\n=======\n>>>>>>> b\n"), "conflict-markers", False),
}


class TestDoctor:
    """Each fault is seen by its id; what can be mended without loss is, and is not seen again."""

    def test_nothing_is_seen_in_a_store_that_is_well(self, home: Path) -> None:
        assert found(home) == {}

    @pytest.mark.parametrize("fault", FAULTS)
    def test_it_is_seen_and_mended(self, home: Path, fault: str) -> None:
        inject, seen, fixable = FAULTS[fault]
        inject(home)
        before = names_in(home)
        one = found(home)[seen]
        assert one.fixable == fixable
        assert one.advice
        assert names_in(home) == before
        if not fixable:
            return
        assert found(home, fix=True)[seen].fixed
        assert seen not in found(home)
        with open_store(home) as store:
            assert "first" in rows(store)
            assert_true(store)

    def test_what_waits_in_a_damaged_index_is_saved(self, home: Path) -> None:
        unlike(99)(home)
        assert found(home, fix=True)["index-damaged"].fixed
        assert "index-set-aside" in found(home)
        with open_store(home) as store:
            assert sorted(rows(store)) == ["first", "waits"]
        assert b'"waits"' in journal_of(home).read_bytes()

    def test_an_index_that_is_held_is_not_damaged(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schema, "BUSY_S", 0.05)
        with closing(sqlite3.connect(home / ".taskstore" / "store.db")) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("PRAGMA journal_mode = DELETE")
            other.execute("BEGIN EXCLUSIVE")
            one = found(home)["index-unreachable"]
            assert one.error
            assert not one.fixable
        assert "index-unreachable" not in found(home)

    def test_where_sqlite_keeps_no_log_there_is_a_note(self, home: Path) -> None:
        with closing(sqlite3.connect(home / ".taskstore" / "store.db")) as db:
            db.execute("PRAGMA journal_mode = DELETE")
        assert not found(home)["no-write-ahead-log"].error

    def test_a_directory_that_cannot_be_written(self, home: Path) -> None:
        with mounted(home, "--bind", str(home)):
            import subprocess  # noqa: PLC0415 - reason: where root may

            subprocess.run(["mount", "-o", "remount,ro,bind", str(home)], check=True)
            assert not found(home)["read-only"].error

    def test_a_network_file_system(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        kind = detectors._file_system(home)
        if not kind:
            pytest.skip("nobody says here what a directory lies on")
        monkeypatch.setattr(detectors, "_REMOTE", frozenset({kind}))
        assert not found(home)["network-file-system"].error

    def test_a_journal_that_cannot_be_read(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(detectors, "_journal", fail)
        (one, *_) = [one for one in detectors._journals(Directory(home / ".taskstore")) if one.error]
        assert one.id == "journal-unreachable"

    @pytest.mark.parametrize(
        ("data", "first"), [(BAD, "tstore compact"), (b"<<<<<<< a\n>>>>>>> b\n" + BAD, "tstore resolve")]
    )
    def test_compaction_is_advised_where_it_decides_nothing(self, home: Path, data: bytes, first: str) -> None:
        append(home, data)
        told = re.findall("tstore [a-z]+", found(home)["lines-unreadable"].advice)
        assert told == [first]

    def test_it_changes_no_journal_by_looking(self, home: Path) -> None:
        append(home, BAD)
        with open_store(home) as store:
            before = files_of(store)
            found(home)
            assert files_of(store) == before


class TestPage:
    """The page of troubles has a row for every id, and no other."""

    def test_every_id_is_there(self) -> None:
        code = [
            *(REPOSITORY / "taskstore_async" / "git").glob("*.py"),
            REPOSITORY / "taskstore_async/storage/detectors.py",
        ]
        said = [line for path in code for line in re.findall(r"\bid=.*", path.read_text())]
        ids = {one for line in said for one in re.findall(r'"([a-z]+(?:-[a-z]+)+)"', line)}
        page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
        assert set(re.findall(r"^\| `([a-z-]+)` \|", page, flags=re.MULTILINE)) == ids
        assert len(ids) > 20
