"""Taking conflict markers out of a journal: no record changes, nothing is lost, and nobody is overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async.core.record import Document
from taskstore_async.errors import CollectionClosedError, FlushError, StoreReadOnlyError
from taskstore_async.storage import files, replacing
from taskstore_async.storage.directory import Directory

from .workshop import NAME, assert_true, journal_of, line, open_store, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from taskstore_async.storage.store import Store

UPPER, LOWER, NEW = line("a", 1, f=1), line("a", 2, f=2), line("a", 3, f=3)
MARKED = b"\n".join((line("x", 1), b"<<<<<<< HEAD", UPPER, b"=======", LOWER, b">>>>>>> topic", b""))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store whose journal has a record between markers."""
    with open_store(tmp_path) as opened:
        journal_of(opened).write_bytes(MARKED)
        opened.sync()
        yield opened
        opened.flush()
        assert_true(opened)


def quarantined(store: Store) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((store.path / "quarantine").glob("*")))


class TestUnmark:
    """Every record stays what it is; the index knows the new file at once; the markers are kept elsewhere."""

    def test_a_settled_conflict(self, store: Store) -> None:
        before = rows(store)
        assert [one.id for one in store.markers(NAME).blocks[0].contests] == ["a"]
        assert store.unmark(NAME, {"a"}) == 3
        assert journal_of(store).read_bytes() == b"\n".join((line("x", 1), UPPER, LOWER, b""))
        assert quarantined(store) == b"<<<<<<< HEAD\n=======\n>>>>>>> topic\n"
        assert rows(store) == before
        assert not store.is_stale()
        assert store.markers(NAME).blocks == ()

    def test_one_that_is_not_settled_stays(self, store: Store) -> None:
        assert store.unmark(NAME) == 0
        assert journal_of(store).read_bytes() == MARKED
        assert quarantined(store) == b""

    def test_what_waits_is_flushed_before(self, store: Store) -> None:
        store.put(Document(NAME, {"id": "waits"}))
        assert store.unmark(NAME, {"a"}) == 3
        assert b"waits" in journal_of(store).read_bytes()

    def test_no_journal_is_made_where_there_is_none(self, store: Store) -> None:
        assert store.unmark("nowhere") == 0
        assert store.markers("nowhere").blocks == ()
        assert not (store.path / "nowhere.jsonl").exists()

    def test_a_file_of_markers_alone_is_left_to_a_person(self, store: Store) -> None:
        before = rows(store)
        journal_of(store).write_bytes(b"<<<<<<< HEAD\n=======\n>>>>>>> topic\n")
        with pytest.raises(CollectionClosedError):
            store.unmark(NAME)
        assert rows(store) == before
        journal_of(store).write_bytes(MARKED)

    def test_what_is_no_file_has_no_markers(self, store: Store) -> None:
        (store.path / "folder.jsonl").mkdir()
        assert store.markers("folder").blocks == ()
        with pytest.raises(CollectionClosedError):
            store.unmark("folder")
        (store.path / "folder.jsonl").rmdir()

    def test_a_directory_that_cannot_be_written_is_left_alone(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Directory, "writable", False)
        with open_store(store.path, create=False) as reading:
            assert len(reading.markers(NAME).blocks) == 1
            with pytest.raises(StoreReadOnlyError):
                reading.unmark(NAME, {"a"})
        assert journal_of(store).read_bytes() == MARKED


class TestCompany:
    """What others do to the file meanwhile is kept."""

    def test_what_is_appended_meanwhile_comes_along(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        real, write = replacing.is_still, replacing._write

        def append(text: bytes) -> None:
            with journal_of(store).open("ab") as file:
                file.write(text + b"\n")

        def before(*args: Any) -> tuple[int, int]:  # noqa: ANN401 - reason: passed on
            append(line("early", 1))
            return write(*args)

        def after(*args: Any, **named: Any) -> bool:  # noqa: ANN401 - reason: passed on
            still = real(*args, **named)
            append(line("late", 1))
            return still

        monkeypatch.setattr(replacing, "_write", before)
        monkeypatch.setattr(replacing, "is_still", after)
        assert store.unmark(NAME, {"a"}) == 3
        expected = (line("x", 1), UPPER, LOWER, line("early", 1), line("late", 1), b"")
        assert journal_of(store).read_bytes() == b"\n".join(expected)
        assert sorted(rows(store)) == ["a", "early", "late", "x"]

    def test_a_file_that_git_replaced_is_read_again(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        real, replaced = replacing._write, [False]

        def replace(*args: Any) -> tuple[int, int]:  # noqa: ANN401 - reason: passed on
            sizes = real(*args)
            if not replaced[0]:
                replaced[0] = True
                journal_of(store).unlink()
                journal_of(store).write_bytes(MARKED + NEW + b"\n")
            return sizes

        monkeypatch.setattr(replacing, "_write", replace)
        assert store.unmark(NAME, {"a"}) == 3
        assert journal_of(store).read_bytes() == b"\n".join((line("x", 1), UPPER, LOWER, NEW, b""))
        assert quarantined(store).count(b"HEAD") == 1

    def test_it_gives_up_on_a_file_that_keeps_being_replaced(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(replacing, "is_still", lambda *_, **__: False)
            with pytest.raises(FlushError, match="replaced"):
                store.unmark(NAME, {"a"})
        assert journal_of(store).read_bytes() == MARKED
        assert not list(store.path.glob("*.tmp"))

    def test_a_full_disk_leaves_the_file(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(files, "fsync", full)
            with pytest.raises(FlushError, match="No space"):
                store.unmark(NAME, {"a"})
        assert journal_of(store).read_bytes() == MARKED
        assert not list(store.path.glob("*.tmp"))

    def test_what_somebody_left_who_was_killed_is_cleared(self, store: Store) -> None:
        left = store.path / f"{NAME}.jsonl.1.tmp"
        left.write_bytes(b"half")
        store.unmark(NAME, {"a"})
        assert not left.exists()
