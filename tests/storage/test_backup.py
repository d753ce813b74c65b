from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from taskstore_async.core.record import Document, Record
from taskstore_async.errors import (
    DestinationError,
    NoStoreError,
    NotFoundError,
    ReferencedError,
    UniqueError,
    WriteFailedError,
)
from taskstore_async.records.tasks import Prd
from taskstore_async.storage import backup as backup_
from taskstore_async.storage import files
from taskstore_async.storage.engine import Engine
from taskstore_async.storage.exporting import write_file
from taskstore_async.storage.store import Store

from .samples import ALL, QUIET, Note, Plan, Step, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskstore_async.storage.batch import BatchWriter
    from taskstore_async.storage.reports import SyncReport


class Local(Record):
    collection: ClassVar[str] = "locals"
    local: ClassVar[bool] = True


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "one", records=ALL, sync=QUIET) as opened:
        opened.create(Plan(id="p", title="first"))
        yield opened
        assert opened.check().ok


def tree(folder: Path) -> dict[str, bytes]:
    """Every file that a store is made of."""
    made_anew = {"store.db", "store.db-wal", "store.db-shm", "store.lock"}
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in made_anew]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


class TestBackup:
    """A backup is a store, with everything that cannot be made anew."""

    def test_it_opens_and_has_what_waited_and_what_is_beside_the_journals(self, store: Store, tmp_path: Path) -> None:
        (store.path / "plans").mkdir()
        (store.path / "plans" / "p.md").write_text("long")
        (store.path / "quarantine").mkdir()
        (store.path / "quarantine" / "x.jsonl").write_text("bad\n")
        (store.path / "My stray.jsonl").write_text("x\n")
        report = store.backup(tmp_path / "a" / "copy")
        copy = Path(report.path)
        assert tree(copy) == tree(store.path)
        assert sorted(report.files) == sorted(tree(copy))
        assert report.bytes == sum(map(len, tree(copy).values()))
        with Store.open(copy, create=False) as opened:
            assert opened.path == copy
            assert [one["title"] for one in opened.list("plans")] == ["first"]
            assert opened.declaration("plans") == store.declaration("plans")
            assert [one.kind for one in opened.check().problems if one.error] == ["stray"]
        (store.path / "My stray.jsonl").unlink()

    def test_what_another_handle_writes_in_the_last_moment_is_in_it(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced = Engine.sync
        other = Store.open(store.path, sync=QUIET)

        def sync(engine: Engine, **how: bool) -> SyncReport:
            report = synced(engine, **how)
            if engine is not other._engine and other.get("plans", "late") is None:
                other.create(Document("plans", {"id": "late"}))  # it stays in the outbox
            return report

        monkeypatch.setattr(Engine, "sync", sync)
        copy = Path(store.backup(tmp_path / "copy").path)
        monkeypatch.undo()
        other.close()
        assert b'"late"' in (copy / "plans.jsonl").read_bytes()

    def test_a_dry_run_only_tells(self, store: Store, tmp_path: Path) -> None:
        report = store.backup(tmp_path / "copy", dry_run=True)
        assert report.dry_run
        assert not (tmp_path / "copy").exists()
        assert store.backup(tmp_path / "copy").files == report.files

    def test_it_takes_the_place_of_nothing(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        store.backup(tmp_path / "empty")
        (tmp_path / "file").write_text("")
        for place in (tmp_path / "empty", tmp_path / "file", store.path / "x", store.path):
            with pytest.raises(DestinationError):
                store.backup(place)

    def test_one_that_fails_leaves_nothing(self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store.flush()

        def failing(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files, "fsync", failing)
        with pytest.raises(WriteFailedError, match="No space left"):
            store.backup(tmp_path / "copy")
        monkeypatch.undo()
        assert [path.name for path in tmp_path.iterdir()] == ["one"]

    def test_links_are_named_and_not_followed(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("s")
        (store.path / "linked.jsonl").symlink_to(tmp_path / "secret")
        report = store.backup(tmp_path / "copy")
        assert report.passed_over == ("linked.jsonl",)
        assert not (tmp_path / "copy" / "linked.jsonl").exists()
        (store.path / "linked.jsonl").unlink()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_store_that_cannot_be_written_can_be_copied(self, store: Store, tmp_path: Path) -> None:
        store.close()
        store.path.chmod(0o500)
        try:
            with Store.open(store.path, create=False) as read_only:
                read_only.backup(tmp_path / "copy")
        finally:
            store.path.chmod(0o700)
        assert (tmp_path / "copy" / "plans.jsonl").is_file()


class TestRestore:
    """A restore makes a store what the backup is, and loses nothing of what was there."""

    @pytest.fixture
    def copy(self, store: Store, tmp_path: Path) -> Path:
        return Path(store.backup(tmp_path / "copy").path)

    def test_into_nothing(self, copy: Path, tmp_path: Path) -> None:
        with Store.open(tmp_path / "two", sync=QUIET) as fresh:
            report = fresh.restore(copy)
            assert {one.what for one in report.files} == {"same", "new"}
            assert report.set_aside is None
            assert [one["title"] for one in fresh.list("plans")] == ["first"]
            assert fresh.check().ok
        assert tree(fresh.path) == tree(copy)

    def test_over_other_records_only_when_told_and_they_are_kept(self, store: Store, copy: Path) -> None:
        store.put(Plan(id="p", title="second"))
        store.create(Document("others", {"id": "o"}))
        store.flush()
        before = tree(store.path)
        with unchanged(store), pytest.raises(DestinationError, match="--replace"):
            store.restore(copy)
        dry = store.restore(copy, replace=True, dry_run=True)
        assert tree(store.path) == before
        report = store.restore(copy, replace=True)
        assert report.files == dry.files
        assert {(one.file, one.what) for one in report.files if one.what != "same"} == {
            ("plans.jsonl", "replaced"),
            ("others.jsonl", "removed"),
        }
        assert [plan.title for plan in store.list(Plan)] == ["first"]
        assert store.list("others") == []
        assert store.check().ok
        assert report.set_aside is not None
        assert tree(Path(report.set_aside)) == before
        store.restore(report.set_aside, replace=True)
        assert [plan.title for plan in store.list(Plan)] == ["second"]
        assert store.count("others") == 1

    def test_declarations_come_with_it(self, store: Store, copy: Path, tmp_path: Path) -> None:
        with Store.open(tmp_path / "two", sync=QUIET) as fresh:
            fresh.create(Document("plans", {"id": "q"}))
            fresh.restore(copy, replace=True)
            assert fresh.declaration("plans") == store.declaration("plans")
            assert fresh.check().ok

    def test_what_is_local_stays_out_of_git(self, store: Store, tmp_path: Path) -> None:
        with Store.open(store.path, records=[Local], sync=QUIET) as other:
            other.create(Local(id="l"))
        copy = store.backup(tmp_path / "with-local").path
        with Store.open(tmp_path / "two", sync=QUIET) as fresh:
            fresh.restore(copy)
            assert "locals.jsonl" in (fresh.path / ".gitignore").read_text().splitlines()

    def test_what_waits_in_a_store_that_is_the_source_comes_too(self, store: Store, tmp_path: Path) -> None:
        store.create(Plan(id="waiting"))
        with Store.open(tmp_path / "two", sync=QUIET) as fresh:
            fresh.restore(store.path)
            assert fresh.count("plans") == 2

    def test_over_a_journal_that_cannot_be_read_what_the_index_has_is_kept(self, store: Store, copy: Path) -> None:
        (store.path / "plans.jsonl").write_bytes(b"garbage\n")
        store.sync()
        report = store.restore(copy, replace=True)
        assert [plan.title for plan in store.list(Plan)] == ["first"]
        assert report.set_aside is not None
        kept = Path(report.set_aside, "quarantine", "plans-kept.jsonl")
        assert b'"title":"first"' in kept.read_bytes()
        assert Path(report.set_aside, "plans.jsonl").read_bytes() == b"garbage\n"

    def test_what_is_no_store_is_refused(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(NoStoreError):
            store.restore(tmp_path / "nothing")
        with pytest.raises(DestinationError, match="itself"):
            store.restore(store.path)

    def test_one_that_fails_before_the_first_name_changes_nothing(
        self, store: Store, copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.put(Plan(id="p", title="second"))
        store.flush()

        def failing(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(backup_, "_copy_file", failing)
        before = {name: data for name, data in tree(store.path).items() if not name.startswith("quarantine/")}
        with pytest.raises(WriteFailedError):
            store.restore(copy, replace=True)
        assert {name: data for name, data in tree(store.path).items() if not name.startswith("quarantine/")} == before


class TestWriteFile:
    """A file is there whole, or as it was."""

    def test_it_takes_the_place_of_one_and_keeps_its_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        path.write_text("old")
        path.chmod(0o640)
        with path.open() as reading:
            assert write_file(path, [b"a", b"bc"], store=tmp_path / "store") == 3
            assert reading.read() == "old"  # who has it open reads it to its end
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"abc", 0o640)

    def test_one_that_fails_leaves_what_was(self, tmp_path: Path) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"half"
            raise KeyboardInterrupt

        (tmp_path / "x").write_text("old")
        with pytest.raises(KeyboardInterrupt):
            write_file(tmp_path / "x", pieces(), store=tmp_path / "store")
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]

    def test_an_error_names_the_file_that_was_asked_for(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            write_file(tmp_path / "nowhere" / "x", [b"a"])
        assert caught.value.filename == str(tmp_path / "nowhere" / "x")

    def test_never_into_the_store(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "store")
        (tmp_path / "store").mkdir()
        for place in ("store", "store/plans.jsonl", "link/plans.jsonl"):
            with pytest.raises(DestinationError):
                write_file(tmp_path / place, [b""], store=tmp_path / "store")


class TestRehearsal:
    """What a deletion or an import would do is found out by doing it, and nothing of it stays."""

    def test_a_deletion_names_what_goes_with_it(self, store: Store) -> None:
        store.create(Plan(id="child", parent_id="p"))
        store.create(Note(id="n", plan_id="child"))
        store.flush()
        with unchanged(store):
            found = store.rehearse_delete(Plan, ["p"])
        assert {(one.collection, one.id, one.kind) for one in found} == {
            ("plans", "p", "deleted"),
            ("plans", "child", "deleted"),
            ("notes", "n", "updated"),
        }
        store.delete(Plan, "p")
        assert store.count(Plan) == 0

    def test_a_batch_tells_the_lines_that_it_would_append(self, store: Store) -> None:
        def fill(batch: BatchWriter) -> None:
            batch.put(Plan(id="p", slug="first"))
            batch.put(Plan(id="q"))
            batch.put(Plan(id="p", slug="second"))

        def clash(batch: BatchWriter) -> None:
            batch.put(Plan(id="x", slug="same"))
            batch.put(Plan(id="y", slug="same"))

        store.flush()
        with unchanged(store):
            found = store.rehearse(fill)
        assert [(one.kind, one.id) for one in found] == [("created", "q"), ("updated", "p")]
        with store.batch() as batch:
            fill(batch)
        store.flush()
        appended = (store.path / "plans.jsonl").read_bytes().splitlines()[-2:]
        assert [(json.loads(one)["id"], json.loads(one).get("slug")) for one in appended] == [
            (json.loads(bytes(one.line))["id"], json.loads(bytes(one.line)).get("slug")) for one in found
        ]
        with pytest.raises(UniqueError):
            store.rehearse(clash)

    def test_it_refuses_what_the_deletion_would(self, store: Store) -> None:
        store.create(Step(id="s", plan_id="p"))
        with pytest.raises(ReferencedError):
            store.rehearse_delete(Plan, ["p"])
        with pytest.raises(NotFoundError):
            store.rehearse_delete(Plan, ["q"])

    def test_an_import_tells_what_would_be_refused(self, store: Store) -> None:
        lines = [b'{"id":"q","slug":"s"}\n{"id":"r","slug":"s"}\n', b'{"id":"t","parent_id":"gone"}\n']
        store.flush()
        with unchanged(store):
            dry = store.import_lines("plans", lines, dry_run=True)
        assert dry.dry_run
        report = store.import_lines("plans", lines)
        assert (report.taken, report.bad) == (dry.taken, dry.bad)
        assert (report.taken, report.bad_count) == (1, 2)

    def test_an_import_deletes_no_file(self, store: Store) -> None:
        with Store.open(store.path, records=[Prd], sync=QUIET) as other:
            other.write_content(Prd(id="long", title="Long"), "text")
        tombstone = [b'{"id":"long","deleted":true}\n']
        assert store.import_lines("prds", tombstone, on_conflict="replace", dry_run=True).replaced == 1
        assert (store.path / "prds" / "long.md").read_text() == "text"
        store.import_lines("prds", tombstone, on_conflict="replace")
        assert not (store.path / "prds" / "long.md").exists()

    def test_an_import_into_a_new_collection_makes_none(self, store: Store) -> None:
        names = [one.name for one in store.collections()]
        assert store.import_lines("things", [b'{"id":"a"}\n'], dry_run=True).taken == 1
        assert [one.name for one in store.collections()] == names

    def test_collections_of_one_import_may_name_each_other(self, store: Store) -> None:
        data = {"steps": [b'{"id":"s","plan_id":"new"}\n'], "plans": [b'{"id":"new"}\n']}
        reports = store.import_all(data)
        assert {name: report.taken for name, report in reports.items()} == {"steps": 1, "plans": 1}

    def test_a_compaction_tells_what_it_would_leave(self, store: Store) -> None:
        store.put(Plan(id="p", title="second"))
        store.flush()
        with (store.path / "plans.jsonl").open("ab") as file:
            file.write(b"bad\n")
        store.sync()
        with unchanged(store):
            dry = store.compact(dry_run=True)
        assert dry.collections["plans"].quarantined == 1
        assert store.compact() == dry
