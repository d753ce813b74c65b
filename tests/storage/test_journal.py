"""What an append and a look may believe of a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from taskstore_async.core.record import Document
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.storage import files, journal
from taskstore_async.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MS = 1_000_000
FAR = 9_000_000_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, sync=SyncConfig(auto_export=False)) as store:
        store.put(Document("plans", {"id": "first"}), durability=Durability.JOURNAL)
        yield store


def path_of(store: Store) -> Path:
    return store.path / "plans.jsonl"


def recorded(status: os.stat_result, later_ms: int) -> journal.FileRecord:
    """The record of a file that was compared so long after its last change."""
    when = status.st_mtime_ns + later_ms * MS
    return msgspec.structs.replace(journal.record_of(status), recorded_ns=when, offset=status.st_size)


class TestFresh:
    """A file is fresh by its stat alone only when it was compared 20 ms after its last change."""

    @pytest.mark.parametrize(("later_ms", "fresh"), [(0, False), (19, False), (20, True)])
    def test_it_was_compared_long_enough_after(self, later_ms: int, fresh: bool, tmp_path: Path) -> None:  # noqa: FBT001 - reason: an expectation
        path = tmp_path / "plans.jsonl"
        path.write_bytes(b"x\n")
        status = path.stat()
        record = recorded(status, later_ms)
        assert journal.looks_fresh(record, status) is fresh
        assert journal.looks_fresh(record, status, flushing=True)

    def test_a_copied_mtime_proves_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "plans.jsonl"
        path.write_bytes(b"x\n")
        os.utime(path, ns=(0, 0))  # as `touch -r` and `cp -p` do; the next such edit may look just the same
        status = path.stat()
        soon = msgspec.structs.replace(recorded(status, 20), recorded_ns=status.st_ctime_ns + 19 * MS)
        assert not journal.looks_fresh(soon, status)
        assert journal.looks_fresh(soon, status, flushing=True)
        later = msgspec.structs.replace(soon, recorded_ns=status.st_ctime_ns + 20 * MS)
        assert journal.looks_fresh(later, status)

    @pytest.mark.parametrize("name", ["device", "inode", "size", "mtime_ns", "ctime_ns"])
    def test_all_five_are_equal(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "plans.jsonl"
        path.write_bytes(b"x\n")
        status = path.stat()
        record = recorded(status, 20)
        other = msgspec.structs.replace(record, **{name: getattr(record, name) + 1})
        assert not journal.looks_fresh(other, status)
        assert not journal.looks_fresh(other, status, flushing=True)

    def test_an_append_alone_makes_nothing_fresh(self, store: Store) -> None:
        store.flush()
        record = store._engine.reader.collections["plans"].record
        assert record is not None
        assert not journal.looks_fresh(record, path_of(store).stat())


class TestAppend:
    """A line counts as flushed when it stands in the file of that name, as a line of its own."""

    def test_it_is_not_glued_to_a_torn_line(self, store: Store) -> None:
        with path_of(store).open("ab") as file:
            file.write(b'{"id":"torn","upd')
        store.put(Document("plans", {"id": "ours"}), durability=Durability.JOURNAL)
        line = store.line("plans", "ours")
        assert line is not None
        assert path_of(store).read_bytes().split(b"\n")[-3:] == [b'{"id":"torn","upd', line, b""]

    def test_it_is_written_again_when_the_file_lost_its_name(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, write = path_of(store), files.write

        def replaced(descriptor: int, data: bytes) -> int:
            """Be git, which puts another file in the place of the one that is open."""
            monkeypatch.setattr(files, "write", write)
            content = path.read_bytes()
            path.rename(path.with_suffix(".old"))  # so that its inode number is not used again
            path.write_bytes(content)
            return write(descriptor, data)

        monkeypatch.setattr(files, "write", replaced)
        store.put(Document("plans", {"id": "ours"}), durability=Durability.JOURNAL)
        line = store.line("plans", "ours")
        assert line is not None
        assert line in path.read_bytes().split(b"\n")

    def test_it_is_missed_when_the_whole_file_goes_before_it_was_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = files.write

        def beaten(descriptor: int, data: bytes) -> int:
            """Let somebody else be the first to write into the file that we have just made."""
            monkeypatch.setattr(files, "write", write)
            with path.open("ab") as file:
                file.write(b'{"id":"theirs","updated_at":1}\n')
            return write(descriptor, data)

        with Store.open(tmp_path, sync=SyncConfig(auto_export=False)) as store:
            path = path_of(store)
            store.put(Document("plans", {"id": "ours"}))
            monkeypatch.setattr(files, "write", beaten)
            store.flush()
            path.unlink()
            store.sync()
            assert store.list("plans") == []


class TestImportOverPending:
    """A pending line that loses to a higher stamp in the file is appended all the same."""

    def test_the_line_is_kept(self, store: Store) -> None:
        store.put(Document("plans", {"id": "a", "by": "us"}))
        pending = store.line("plans", "a")
        assert pending is not None
        theirs = b'{"id":"a","updated_at":%d,"by":"them"}' % FAR
        with path_of(store).open("ab") as file:
            file.write(theirs + b"\n")
        report = store.sync().collections["plans"]
        assert (report.outbid, report.flushed) == (1, 1)
        assert path_of(store).read_bytes().split(b"\n")[-3:] == [theirs, pending, b""]
        assert store.line("plans", "a") == theirs
        assert store.check().ok
