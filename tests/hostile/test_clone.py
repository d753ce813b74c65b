"""A clone whose author means harm: what it brings leads nowhere, runs nothing and makes nobody lose a write."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from taskstore_async.core.declaration import TYPES
from taskstore_async.core.record import Document
from taskstore_async.errors import (
    CollectionClosedError,
    FlushError,
    InvalidNameError,
    NoStoreError,
    TaskStoreError,
    WriteFailedError,
)
from taskstore_async.git.decisions import read_log
from taskstore_async.git.driver import MERGED, keep_in_log, merge_files
from taskstore_async.git.history import log
from taskstore_async.git.snapshots import snapshot
from taskstore_async.storage.store import Store
from tests.hostile.corpus import good
from tests.storage.samples import tamper
from tests.storage.workshop import NAME, Durability, assert_true, document, journal_of, line, lines_in, open_store

LINE = good("theirs").raw + b"\n"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and modes are POSIX's")


class Outside:
    """A folder beside the clone, in which nothing may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.file = folder / "file"
        self.file.write_text("what was there\n")
        self.store = folder / "store"
        with open_store(self.store) as store:
            store.put(document("other"), durability=Durability.JOURNAL)
        (self.store / ".taskstore" / "store.lock").unlink()
        self.before = self.look()

    def look(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path / "outside")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The store directory of a fresh clone, with one record in its journal."""
    folder = tmp_path / "clone" / ".taskstore"
    folder.mkdir(parents=True)
    (folder / f"{NAME}.jsonl").write_bytes(LINE)
    return folder


def use(clone: Path) -> None:
    """Do everything that writes."""
    with open_store(clone) as store:
        store.put(document("ours"), durability=Durability.JOURNAL)
        store.put(document("theirs", text="ours"))
        store.delete(NAME, "ours")
        store.sync()
        store.compact(grace_ms=0)
        assert_true(store)


class TestLinks:
    """Nothing is read or written through a link that a clone brings."""

    def test_the_store_itself(self, tmp_path: Path, outside: Outside) -> None:
        (tmp_path / ".taskstore").symlink_to(outside.store / ".taskstore")
        for path in (tmp_path, tmp_path / ".taskstore"):
            with pytest.raises(NoStoreError, match="it is a link; if it is meant, name what it leads to"):
                open_store(path)
        assert outside.look() == outside.before

    def test_a_store_that_does_not_exist(self, tmp_path: Path) -> None:
        (tmp_path / ".taskstore").symlink_to(tmp_path / "nowhere")
        with pytest.raises(NoStoreError):
            open_store(tmp_path)
        assert not (tmp_path / "nowhere").exists()

    def test_what_a_person_names_may_be_a_link(self, tmp_path: Path, outside: Outside) -> None:
        (tmp_path / "mine").symlink_to(outside.store)
        with open_store(tmp_path / "mine") as store:
            assert store.get(NAME, "other") is not None

    @pytest.mark.parametrize("target", ["journal", "file", "nowhere"])
    def test_a_journal(self, clone: Path, outside: Outside, target: str) -> None:
        targets = {"journal": journal_of(outside.store), "file": outside.file, "nowhere": outside.folder / "new"}
        (clone / f"{NAME}.jsonl").unlink()
        (clone / f"{NAME}.jsonl").symlink_to(targets[target])
        with open_store(clone) as store:
            assert store.count(NAME) == 0
            with pytest.raises(CollectionClosedError):
                store.put(document("ours"), durability=Durability.JOURNAL)
            with pytest.raises(CollectionClosedError):
                store.compact(NAME)
            assert store.list_tolerant(NAME).unreadable[0].reason.startswith("it is no file that can be read")
            assert [one.kind for one in store.check().problems] == ["no-journal"]
        assert outside.look() == outside.before

    @pytest.mark.parametrize("folder", [NAME, "quarantine"])
    def test_a_folder_that_a_restore_writes_to(
        self, clone: Path, outside: Outside, tmp_path: Path, folder: str
    ) -> None:
        copy = tmp_path / "copy"
        with open_store(clone) as store:
            store.backup(copy)
            store.put(document("ours"))
            store.flush()
            (copy / NAME).mkdir()
            (copy / NAME / "text.md").write_text("from the backup")
            (clone / folder).symlink_to(outside.folder)
            before = journal_of(store).read_bytes()
            with pytest.raises(WriteFailedError, match="it is a link"):
                store.restore(copy, replace=True)
            assert journal_of(store).read_bytes() == before
        assert outside.look() == outside.before

    def test_the_declarations(self, clone: Path, outside: Outside) -> None:
        (clone / f"{TYPES}.jsonl").symlink_to(outside.file)
        with open_store(clone) as store:
            store.put(document("ours"), durability=Durability.JOURNAL)
        assert outside.look() == outside.before

    @pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
    @pytest.mark.parametrize("target", ["file", "index", "nowhere"])
    def test_the_index(self, clone: Path, outside: Outside, suffix: str, target: str) -> None:
        if suffix:
            with open_store(clone):
                pass
        name = clone / f"store.db{suffix}"
        targets = {
            "file": outside.file,
            "index": outside.store / ".taskstore" / "store.db",
            "nowhere": outside.folder / "new",
        }
        name.unlink(missing_ok=True)
        name.symlink_to(targets[target])
        use(clone)
        assert not name.is_symlink()
        assert outside.look() == outside.before

    @pytest.mark.parametrize("name", [".gitignore", ".gitattributes"])
    @pytest.mark.parametrize("target", ["file", "nowhere", "/dev/zero", "/dev/tty"])
    def test_what_git_reads(self, clone: Path, outside: Outside, name: str, target: str) -> None:
        (clone / name).symlink_to(outside.folder / target)
        use(clone)
        assert outside.look() == outside.before

    @pytest.mark.parametrize("target", ["file", "nowhere", "/dev/zero"])
    def test_the_version(self, clone: Path, outside: Outside, target: str) -> None:
        (clone / ".version").symlink_to(outside.folder / target)
        with pytest.raises(TaskStoreError, match="format"):
            open_store(clone)
        assert outside.look() == outside.before

    @pytest.mark.parametrize("target", ["file", "nowhere"])
    def test_the_lock(self, clone: Path, outside: Outside, target: str) -> None:
        (clone / "store.lock").symlink_to(outside.folder / target)
        with pytest.raises(TaskStoreError, match=r"store\.lock"):
            use(clone)
        assert outside.look() == outside.before

    def test_the_quarantine(self, clone: Path, outside: Outside) -> None:
        (clone / "quarantine").symlink_to(outside.folder)
        journal = journal_of(clone.parent)
        journal.write_bytes(b"no record\n" + LINE)
        with open_store(clone) as store, pytest.raises(FlushError, match="link"):
            store.compact()
        assert journal.read_bytes() == b"no record\n" + LINE
        assert outside.look() == outside.before

    def test_what_a_merge_looks_at(self, clone: Path, outside: Outside) -> None:
        (clone / "merges.log").symlink_to(outside.file)
        (clone / f"{TYPES}.jsonl").symlink_to("/dev/zero")
        for name, data in (
            ("O", LINE),
            ("A", LINE + line("a", 1) + b"\nno record\n"),
            ("B", line("theirs", 9) + b"\n"),
        ):
            (clone / name).write_bytes(data)
        names = [str(clone / name) for name in "OAB"]
        assert merge_files(*names, output=names[1], path=str(clone / f"{NAME}.jsonl")) == MERGED
        assert outside.look() == outside.before

    def test_what_a_merge_has_left(self, clone: Path, outside: Outside) -> None:
        outside.file.write_bytes(b'{"at":1,"path":"x.jsonl","decisions":[]}\n')
        (clone / "merges.log").symlink_to(outside.file)
        with open_store(clone) as store:
            assert read_log(store) == []

    def test_a_merge_waits_for_no_pipe(self, clone: Path) -> None:
        os.mkfifo(clone / "merges.log")
        keep_in_log(str(clone), {"at": 1})
        with open_store(clone) as store:
            assert read_log(store) == []

    def test_what_is_compared(self, clone: Path, outside: Outside) -> None:
        (clone / f"{NAME}.jsonl").unlink()
        (clone / f"{NAME}.jsonl").symlink_to(journal_of(outside.store))
        with pytest.raises(OSError, match="symbolic link"):
            snapshot(None, str(clone))

    def test_what_git_knows_of_it(self, clone: Path, outside: Outside) -> None:
        git(clone.parent, "init", "--quiet", ".")
        git(clone.parent, "add", "--all")
        git(clone.parent, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=first")
        with open_store(clone):
            pass
        (clone / f"{NAME}.jsonl").unlink()
        (clone / f"{NAME}.jsonl").symlink_to(journal_of(outside.store))
        with open_store(clone) as store:
            _, versions = log(store, NAME, "theirs", commits=True)
        assert [one.commit is not None for one in versions] == [True]


class TestTrackedIndex:
    """An index that came with a clone runs nothing, hides nothing, and gets no write lost."""

    @pytest.mark.parametrize(
        "sql",
        [
            "CREATE TRIGGER t AFTER INSERT ON log BEGIN DELETE FROM log; END",
            "CREATE TRIGGER t AFTER UPDATE ON collection BEGIN UPDATE collection SET flushed = 9e15; END",
            "CREATE VIEW v AS SELECT 1",
        ],
    )
    def test_triggers_and_views(self, clone: Path, sql: str) -> None:
        with open_store(clone):
            pass
        with closing(sqlite3.connect(clone / "store.db")) as db:
            db.execute(sql)
        with open_store(clone) as store:
            store.put(document("ours"), durability=Durability.JOURNAL)
            assert any("is not ours" in note for note in store.notes)
            assert {one.id for one in store.list(NAME)} == {"ours", "theirs"}
            assert_true(store)
        assert len(lines_in(clone.parent)) == 2

    @pytest.mark.parametrize("name", ["../../outside/new", "/new", "store", "A", "\x00"])
    def test_a_collection_of_an_impossible_name(self, clone: Path, outside: Outside, name: str) -> None:
        with open_store(clone) as store:
            store.put(document("ours"))
            tamper(store, "UPDATE collection SET name = ? WHERE name = 'plans'", name)
            store._engine.abandon()
        use(clone)
        assert outside.look() == outside.before

    @pytest.mark.parametrize(
        "table",
        [
            "meta",
            "r1, log",
            "(SELECT * FROM r1)",
            "(WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n FROM x) SELECT n FROM x)",
        ],
    )
    def test_a_table_that_is_a_statement(self, clone: Path, table: str) -> None:
        with open_store(clone) as store:
            store.put(document("ours"))
            tamper(store, "UPDATE collection SET rows = ? WHERE name = 'plans'", table)
            store._engine.abandon()
        with open_store(clone) as store:
            assert any("cannot be used" in note or "could not be used" in note for note in store.notes)
            assert {one.id for one in store.list(NAME)} == {"theirs"}
        use(clone)

    @pytest.mark.parametrize("value", [b"", b"{", b"null", b"[]", b'{"fields":1}', 7, None, b"\xff"])
    @pytest.mark.parametrize("column", ["declaration", "record"])
    def test_a_catalogue_of_nonsense(self, clone: Path, column: str, value: object) -> None:
        with open_store(clone) as store:
            store.put(document("ours"))
            if value is None and column == "declaration":
                value = "null"
            tamper(store, f"UPDATE collection SET {column} = ? WHERE name = 'plans'", value)
            store._engine.abandon()
        with open_store(clone) as store:
            assert {one.id for one in store.list(NAME)} == {"ours", "theirs"}, store.notes
            store.flush()
            assert_true(store)

    def test_an_index_of_a_newer_schema(self, clone: Path) -> None:
        with open_store(clone) as store:
            store.put(document("ours"))
            store._engine.abandon()
        with closing(sqlite3.connect(clone / "store.db")) as db:
            db.execute("PRAGMA user_version = 99")
        with open_store(clone) as store:
            assert "has schema 99" in store.notes[0]
            assert {one.id for one in store.list(NAME)} == {"ours", "theirs"}
            assert_true(store)
        assert len(lines_in(clone.parent)) == 2


class TestAttributes:
    """Attributes of a clone name drivers and filters; the store's own line stands behind them, and none is run."""

    ATTRIBUTES = "*.jsonl merge=evil filter=evil diff=evil\n"

    def test_nothing_is_executed(self, clone: Path, tmp_path: Path) -> None:
        (clone / ".gitattributes").write_text(self.ATTRIBUTES)
        sign = tmp_path / "executed"
        git(clone.parent, "init", "-q")
        for key in ("merge.evil.driver", "filter.evil.clean", "filter.evil.smudge", "diff.evil.command"):
            git(clone.parent, "config", key, f"touch {sign}")
        hooks = clone.parent / ".git" / "hooks"
        hooks.mkdir(exist_ok=True)
        for name in ("pre-commit", "post-checkout", "post-index-change", "fsmonitor-watchman"):
            (hooks / name).write_text(f"#!/bin/sh\ntouch {sign}\n")
            (hooks / name).chmod(0o755)
        use(clone)
        assert not sign.exists()
        text = (clone / ".gitattributes").read_text()
        assert text.startswith(self.ATTRIBUTES)
        assert text.endswith("*.jsonl -text merge=tstore\n")
        assert git(clone.parent, "check-attr", "merge", f".taskstore/{NAME}.jsonl").endswith("merge: tstore\n")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


class TestNames:
    """Names that traverse, collide or are reserved become no path and no SQL, and are told of."""

    STRAYS = (
        "Plans",
        "PLANS",
        "con",
        "store",
        "merges",
        "..",
        "a b",
        "plans~",
        "pläne",
        "-x",
        "x" * 65,
        "_types2",
        "a\nb",
    )

    def test_files_of_such_names_are_told_and_not_served(self, clone: Path) -> None:
        for name in self.STRAYS:
            (clone / f"{name}.jsonl").write_bytes(LINE)
        with open_store(clone) as store:
            assert [one.name for one in store.collections()] == [NAME]
            told = {one.file for one in store.check().problems if one.kind == "stray"}
            assert told == {f"{name}.jsonl" for name in self.STRAYS}
            assert sum("not served" in note for note in store.sync().notes) == len(self.STRAYS)
            store.compact()
        assert all((clone / f"{name}.jsonl").read_bytes() == LINE for name in self.STRAYS)

    @pytest.mark.parametrize(
        "name", [*STRAYS, "", "../plans", "/etc/passwd", "plans/x", "plans\0", "plans.jsonl", TYPES]
    )
    def test_a_call_with_such_a_name_is_refused_or_finds_nothing(self, clone: Path, name: str) -> None:
        secret = clone.parent / "plans.jsonl"
        secret.write_bytes(LINE)
        with open_store(clone) as store:
            for write in (
                lambda: store.put(Document(name, {"id": "a"})),
                lambda: store.delete(name, "theirs"),
                lambda: store.import_lines(name, [LINE]),
            ):
                with pytest.raises(TaskStoreError):
                    write()
            for read in (
                lambda: store.get(name, "theirs"),
                lambda: store.list(name),
                lambda: store.list_tolerant(name).records,
                lambda: store.list_tolerant(name).unreadable,
                lambda: store.history(name, "theirs"),
                lambda: store.compact(name).collections,
            ):
                try:
                    found = read()
                except TaskStoreError:
                    continue
                assert not found
        assert secret.read_bytes() == LINE

    def test_a_path_out_of_the_store_is_refused_at_its_only_door(self, clone: Path) -> None:
        with open_store(clone) as store, pytest.raises(InvalidNameError):
            store._engine.directory.journal("../plans")

    @pytest.mark.parametrize("field", ["a b", "a; DROP TABLE r1", 'a"', "", "x" * 65, "ID", "rowid", "A", "Line"])
    def test_fields_of_such_names_in_declarations(self, clone: Path, field: str) -> None:
        declared = {field: {"indexed": True}, "a": {"indexed": True}}
        (clone / f"{TYPES}.jsonl").write_bytes(line(NAME, 1, fields=declared, local=False) + b"\n")
        use(clone)

    def test_declarations_of_such_collections(self, clone: Path, outside: Outside) -> None:
        lines = [line(name, 1, fields={}, local=True) for name in (*self.STRAYS, "../../outside/new", "store.db")]
        (clone / f"{TYPES}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        use(clone)
        assert outside.look() == outside.before


class TestPlaces:
    """A store works wherever a directory can be."""

    @pytest.mark.parametrize(
        "name", ["with spaces  ", "Ünï—cödé ☃", "a'b\"c;d#e?f%g&h", "x" * 200, "new\nline", "-x", "file:x?mode=ro"]
    )
    def test_odd_directories(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        with Store.open(folder) as store:
            store.put(document("a"), durability=Durability.JOURNAL)
            assert_true(store)
        shutil.rmtree(folder)
