"""The index or a journal is taken away or damaged, in every way, while the store is closed and while it is open."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from taskstore_async.core.record import Document, Record
from taskstore_async.errors import (
    CollectionClosedError,
    ReadFailedError,
    StoreBrokenError,
    StoreReadOnlyError,
    TaskStoreError,
    WriteFailedError,
    WriteUncertainError,
)
from taskstore_async.storage import build, files, schema
from taskstore_async.storage.polling import Poller
from taskstore_async.storage.reader import Reader
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
    from collections.abc import Callable, Generator

    from taskstore_async.storage.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, links and modes are POSIX's")
when = pytest.mark.parametrize("when", ["closed", "open"])


class Spoiled(Record):
    """A type for the records of the tests."""

    collection: ClassVar[str] = NAME
    text: str = ""


def fill(path: Path, data: bytes) -> None:
    """Put *data* into the file that is there."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, data, 0)
    finally:
        os.close(descriptor)


def instead(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in the place of the file."""
    path.unlink()
    make(path)


def foreign(path: Path, schema_number: int | None) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        if schema_number is not None:
            db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {schema_number}")


def middle_of(path: Path) -> None:
    data = path.read_bytes()
    half = len(data) // 2
    fill(path, data[: half - 3000] + os.urandom(6000) + data[half + 3000 :])


INDEX: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: fill(path, b""),
    "cut off": lambda path: fill(path, path.read_bytes()[: path.stat().st_size // 2]),
    "cut off within a page": lambda path: fill(path, path.read_bytes()[:1_000]),
    "random bytes": lambda path: fill(path, os.urandom(50_000)),
    "damaged in the middle": middle_of,
    "another program's": lambda path: foreign(path, None),
    "of a newer schema": lambda path: foreign(path, schema.SCHEMA + 1),
    "of this schema, and empty": lambda path: foreign(path, schema.SCHEMA),
    "a directory": lambda path: instead(path, Path.mkdir),
    "a pipe": lambda path: instead(path, os.mkfifo),
}


def spoil(path: Path) -> None:
    """Write nonsense over every page but those at which a table or an index begins: opening finds nothing wrong."""
    with closing(sqlite3.connect(path)) as db:
        roots = {root for (root,) in db.execute("SELECT rootpage FROM sqlite_master")}
        ((page_bytes,),) = db.execute("PRAGMA page_size").fetchall()
    data = path.read_bytes()
    pages = [data[start : start + page_bytes] for start in range(0, len(data), page_bytes)]
    spoiled = [page if number in roots or number == 1 else b"\xff" * page_bytes for number, page in enumerate(pages, 1)]
    fill(path, b"".join(spoiled))


def look_as_a_manager_does(store: Store) -> None:
    """Somebody has appended a version of a record."""
    with journal_of(store).open("ab") as file:
        file.write(b'{"id":"r1","text":"y","updated_at":9007199254740991}\n')
    Poller()(store._engine)


CALLS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get(NAME, "r1"),
    "list": lambda store: store.list(NAME),
    "history": lambda store: store.history(NAME, "r1"),
    "stats": lambda store: store.stats(),
    "info": lambda store: store.info(),
    "describe": lambda store: store.describe(NAME, "r1"),
    "rebuild_indexes": lambda store: store.rebuild_indexes(Spoiled),
    "sync": lambda store: store.sync(rebuild=True),
    "put": lambda store: store.put(document("r1")),
    "compact": lambda store: store.compact(),
    "import": lambda store: store.import_lines(NAME, [b'{"id":"r1","text":"y"}\n'], on_conflict="replace"),
    "import, rehearsed": lambda store: store.import_lines(
        NAME, [b'{"id":"r1","text":"y"}\n'], on_conflict="replace", dry_run=True
    ),
    "rehearse": lambda store: store.rehearse(lambda batch: batch.put(document("r1"))),
    "rehearse_delete": lambda store: store.rehearse_delete(NAME, ["r1"]),
    "poll": look_as_a_manager_does,
}


class TestIndex:
    """Whatever becomes of store.db: what stands in the journal is there, and the next call works or says why not."""

    @when
    @pytest.mark.parametrize("damage", INDEX)
    def test_the_journal_brings_it_back(self, tmp_path: Path, when: str, damage: str) -> None:
        store = open_store(tmp_path)
        store.create_many([document(f"r{number}", text="x" * 200) for number in range(200)])  # several pages
        store.flush()
        store.put(document("journal"), durability=Durability.JOURNAL)
        if when == "closed":
            store.close()
        INDEX[damage](tmp_path / ".taskstore" / "store.db")
        if when == "closed":
            store = open_store(tmp_path)
        store.put(document("after"), durability=Durability.JOURNAL)
        assert store.get(NAME, "journal") is not None
        assert store.get(NAME, "r199") is not None
        assert store.count(NAME) == 202
        if any(one.kind == "index" for one in store.check().problems):
            # Where SQLite has the pages in memory or in its log, only a check sees it; and doctor does this:
            store._engine.replace_index("a check found it damaged")
        assert_true(store)
        store.close()
        assert {json.loads(raw)["id"] for raw in lines_in(tmp_path)} >= {"r0", "r199", "journal", "after"}
        with open_store(tmp_path) as again:
            assert again.count(NAME) == 202
            assert_true(again)

    @pytest.mark.parametrize("call", CALLS)
    def test_every_call_mends_what_it_finds_spoiled(self, tmp_path: Path, call: str) -> None:
        with open_store(tmp_path) as store:
            store.create_many([document(f"r{number}", text="x" * 200) for number in range(500)])
        spoil(tmp_path / ".taskstore" / "store.db")
        with open_store(tmp_path) as store:
            CALLS[call](store)
            assert store.count(NAME) == 500
            assert_true(store)
            assert "malformed" in "".join(store.info().notes)

    @pytest.mark.parametrize("damage", ["empty", "random bytes", "cut off within a page"])
    def test_a_compaction_mends_what_it_finds_spoiled(self, tmp_path: Path, damage: str) -> None:
        index = tmp_path / ".taskstore" / "store.db"
        with open_store(tmp_path) as store:
            store.create_many([document(f"r{number}", text="x" * 200) for number in range(150)])
        with closing(sqlite3.connect(index)) as db:
            db.execute("SELECT * FROM log").fetchall()  # and what its log had is in it
        with open_store(tmp_path) as store:
            store.put(document("waits"))
            INDEX[damage](index)
            store.compact()
            store.put(document("after"))
            assert store.get(NAME, "after") is not None
            assert_true(store)

    @pytest.mark.parametrize("call", ["put", "import", "import, rehearsed", "rehearse", "rehearse_delete"])
    def test_every_write_mends_a_line_that_it_finds_spoiled(self, tmp_path: Path, call: str) -> None:
        with open_store(tmp_path) as store:
            store.create_many([document(f"r{number}") for number in range(500)])
            store.flush()
            with store._engine.session() as session, session.index.transaction(full=False):
                table = session.index.collections[NAME].rows
                session.index.db.execute(f"UPDATE {table} SET line = x'00' WHERE id = 'r1'")
            CALLS[call](store)
            assert_true(store)
            assert "a line in it is damaged" in "".join(store.info().notes)

    @pytest.mark.parametrize("records", [3, 150])
    @pytest.mark.parametrize("damage", ["empty", "random bytes", "cut off", "cut off within a page"])
    def test_what_was_written_to_a_damaged_index_is_saved_from_memory(
        self, tmp_path: Path, damage: str, records: int
    ) -> None:
        with open_store(tmp_path) as store:
            store.create_many([document(f"r{number}", text="x" * 200) for number in range(records)])
        with open_store(tmp_path) as store:
            store.put(document("before"))
            INDEX[damage](tmp_path / ".taskstore" / "store.db")
            store.put(document("after"))  # into what SQLite has in memory: nobody has noticed yet
            store._engine.replace_index("somebody noticed")
            assert store.get(NAME, "before") is not None
            assert store.get(NAME, "after") is not None
            assert "2 pending line(s) saved" in store.notes[-1]
            store.flush()
            assert_true(store)
        assert {json.loads(raw)["id"] for raw in lines_in(tmp_path)} >= {"before", "after"}

    @when
    def test_what_waited_is_saved_where_it_can_be_read(self, tmp_path: Path, when: str) -> None:
        store = open_store(tmp_path)
        store.put(document("waits"))
        index = tmp_path / ".taskstore" / "store.db"
        if when == "open":
            index.unlink()  # the connection still has it
            store.flush()
        else:
            store._engine.abandon()
            with closing(sqlite3.connect(index)) as db:
                db.execute("PRAGMA user_version = 99")
            store = open_store(tmp_path)
        assert store.get(NAME, "waits") is not None
        store.close()
        assert b'"waits"' in journal_of(tmp_path).read_bytes()

    def test_another_program_that_holds_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schema, "BUSY_S", 0.05)
        with open_store(tmp_path) as store:
            store.put(document("a"), durability=Durability.JOURNAL)
            with closing(sqlite3.connect(tmp_path / ".taskstore" / "store.db")) as other:
                other.execute("BEGIN IMMEDIATE")
                for call in (lambda: store.put(document("b")), lambda: store.delete(NAME, "a")):
                    with pytest.raises(WriteFailedError, match=r"locked.*nothing was changed"):
                        call()
                assert store.get(NAME, "a") is not None
                assert [one.id for one in store.list(NAME)] == ["a"]
                other.rollback()
            store.put(document("b"), durability=Durability.JOURNAL)
            assert_true(store)

    def test_a_read_that_fails_says_so_and_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **_options: object) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

        with open_store(tmp_path) as store:
            store.put(document("a"))
            monkeypatch.setattr(Reader, "get", fail)
            with pytest.raises(ReadFailedError, match=r"store\.db could not be read \(disk I/O error\).*tstore doctor"):
                store.get(NAME, "a")
            monkeypatch.undo()
            assert store.get(NAME, "a") is not None
            assert not list(store.path.glob("store.db.*"))


class TestSettingAside:
    """A damaged index is set aside only when its outbox is safe, wherever it is interrupted."""

    @pytest.fixture
    def waiting(self, tmp_path: Path) -> Path:
        """A store whose index has a line that waits, and is of another schema."""
        store = open_store(tmp_path)
        store.put(document("first"), durability=Durability.JOURNAL)
        store.put(document("waits"))
        store._engine.abandon()
        with closing(sqlite3.connect(tmp_path / ".taskstore" / "store.db")) as db:
            db.execute("PRAGMA user_version = 99")
        return tmp_path

    @pytest.mark.parametrize("step", ["_rename", "_build"])
    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_whoever_comes_next_goes_on(
        self, waiting: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
    ) -> None:
        real, calls = getattr(build, step), [0]

        def fail(*args: object, **kwargs: object) -> object:
            calls[0] += 1
            if step == "_rename":
                real(*args, **kwargs)
            if calls[0] == 1:
                raise error
            return real(*args, **kwargs)

        monkeypatch.setattr(build, step, fail)
        with pytest.raises((WriteFailedError, KeyboardInterrupt)):
            open_store(waiting)
        monkeypatch.undo()
        with open_store(waiting) as store:
            assert sorted(rows(store)) == ["first", "waits"]
            assert any("1 pending line(s) saved" in note for note in store.notes)
            assert_true(store)
        kept = [path.name for path in (waiting / ".taskstore").glob("store.db.*")]
        assert not [name for name in kept if "aside" in name or "new" in name]
        assert [name for name in kept if name.startswith("store.db.broken-")]

    def test_the_log_of_the_index_goes_with_it(self, tmp_path: Path) -> None:
        folder = tmp_path / "killed"
        with open_store(tmp_path / "alive") as store:
            store.put(document("first"), durability=Durability.JOURNAL)
            store.put(document("waits"))
            shutil.copytree(tmp_path / "alive", folder)
        # Killed between two renames: the line that waits stands in the write-ahead log alone, under the old name.
        assert (folder / ".taskstore" / "store.db-wal").stat().st_size
        (folder / ".taskstore" / "store.db").rename(folder / ".taskstore" / "store.db.aside")
        with open_store(folder) as store:
            assert sorted(rows(store)) == ["first", "waits"]

    def test_an_index_that_cannot_be_read_just_now_stays_where_it_is(
        self, waiting: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = schema.connect

        def connect(
            path: Path | None, *, writable: bool, create: bool = False, busy_s: float = 0.0
        ) -> sqlite3.Connection:
            if not writable and path is not None:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise error
            return real(path, writable=writable, create=create, busy_s=busy_s)

        monkeypatch.setattr(schema, "connect", connect)
        with pytest.raises(WriteFailedError, match="disk I/O error"):
            open_store(waiting)
        monkeypatch.undo()
        with open_store(waiting) as store:
            assert sorted(rows(store)) == ["first", "waits"]


OTHERS = line("theirs", 1) + b"\n"
JOURNAL: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: fill(path, b""),
    "cut off within a line": lambda path: fill(path, path.read_bytes()[:-10]),
    "cut off within the first line": lambda path: fill(path, path.read_bytes()[:10]),
    "random bytes": lambda path: fill(path, os.urandom(3_000)),
    "replaced": lambda path: instead(path, lambda new: new.write_bytes(OTHERS)),
    "overwritten": lambda path: fill(path, OTHERS),
    "a directory": lambda path: instead(path, Path.mkdir),
    "a link": lambda path: instead(
        path,
        lambda new: new.symlink_to(shutil.copy(__file__, new.with_suffix(".moved"))),
    ),
    "a link to nothing": lambda path: instead(path, lambda new: new.symlink_to("nothing")),
    "a pipe": lambda path: instead(path, os.mkfifo),
}


class TestFirstAppend:
    """A file with nothing in it but beginnings of first lines is ours; one that had lines once is damaged."""

    def test_it_is_cut_short_again_and_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def write(descriptor: int, data: bytes) -> int:
            return os.write(descriptor, data[: len(data) // 2])

        with open_store(tmp_path) as store:
            monkeypatch.setattr(files, "write", write)
            for number in range(4):
                with pytest.raises(WriteUncertainError):
                    store.put(document("a", number=number, text="x" * 200), durability=Durability.JOURNAL)
            monkeypatch.undo()
            assert len(lines_in(store)) > 1
            store.put(document("b"), durability=Durability.JOURNAL)
            found = store.get(NAME, "a")
            assert found is not None
            assert found["number"] == 3
            assert_true(store)
        assert b'"number":3,' in journal_of(tmp_path).read_bytes()

    @pytest.mark.parametrize("index", ["kept", "lost"])
    def test_a_power_cut_has_left_its_size_and_not_its_bytes(self, tmp_path: Path, index: str) -> None:
        store = open_store(tmp_path)
        store.put(document("a"))
        store._engine.abandon()
        if index == "lost":
            for path in (tmp_path / ".taskstore").glob("store.db*"):
                path.unlink()
        journal_of(tmp_path).write_bytes(bytes(200))
        with open_store(tmp_path) as store:
            store.put(document("b"), durability=Durability.JOURNAL)
            assert (store.get(NAME, "a") is None) is (index == "lost")
            assert_true(store)
        assert journal_of(tmp_path).read_bytes().startswith(bytes(200) + b"\n{")

    @when
    def test_lines_that_were_cut_short_later_delete_nothing(self, tmp_path: Path, when: str) -> None:
        store = open_store(tmp_path)
        store.put(document("a"), durability=Durability.JOURNAL)
        if when == "closed":
            store.close()
        fill(journal_of(tmp_path), b'{"id":"a","upda')
        if when == "closed":
            store = open_store(tmp_path)
        with pytest.raises((CollectionClosedError, WriteUncertainError), match="closed to writing"):
            store.put(document("b"), durability=Durability.JOURNAL)
        assert store.get(NAME, "a") is not None
        store._engine.abandon()


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


class TestJournal:
    """Whatever becomes of a journal: what waited for it waits on, and is in it when the file has been put back."""

    @when
    @pytest.mark.parametrize("damage", JOURNAL)
    def test_nothing_that_waited_is_lost(self, tmp_path: Path, when: str, damage: str) -> None:
        store = open_store(tmp_path)
        store.put(document("flushed"), durability=Durability.JOURNAL)
        store.put(document("waits"))
        path, kept = journal_of(store), journal_of(store).read_bytes()
        if when == "closed":
            store._engine.abandon()
        JOURNAL[damage](path)
        if when == "closed":
            store = open_store(tmp_path)
        try:
            store.put(document("after"), durability=Durability.JOURNAL)
        except TaskStoreError:
            assert store.get(NAME, "flushed") is not None  # a damaged file deletes nothing
            assert [one for one in store.check().problems if one.error]
            remove(path)
            path.write_bytes(kept)  # git checkout
        else:
            assert store.get(NAME, "after") is not None
        store.put(document("end"), durability=Durability.JOURNAL)
        assert_true(store)
        store.close()
        assert b'"waits"' in path.read_bytes()
        with open_store(tmp_path) as again:
            assert {"waits", "end"} <= set(rows(again))
            assert_true(again)

    @when
    @pytest.mark.parametrize("damage", ["a directory", "a link", "a pipe", "random bytes"])
    def test_others_go_on(self, tmp_path: Path, when: str, damage: str) -> None:
        store = open_store(tmp_path)
        store.put(document("flushed"), durability=Durability.JOURNAL)
        if when == "closed":
            store.close()
        JOURNAL[damage](journal_of(tmp_path))
        if when == "closed":
            store = open_store(tmp_path)
        store.put(Document("others", {"id": "a"}), durability=Durability.JOURNAL)
        store.sync()
        reason = "not one line of it is a record" if damage == "random bytes" else "is no regular file"
        with pytest.raises(CollectionClosedError, match=f"{reason}.*is closed to writing"):
            store.put(document("refused"))
        assert [one.id for one in store.list("others")] == ["a"]
        assert store.get(NAME, "flushed") is not None
        store.close()


class TestDescriptors:
    """Without a descriptor to spare, calls are refused and say why; with one, they work again."""

    def test_none_left(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.put(document("a"), durability=Durability.JOURNAL)
            with no_descriptor_left():
                with pytest.raises(TaskStoreError, match="Too many open files"):
                    store.put(document("b"), durability=Durability.JOURNAL)
                assert store.get(NAME, "a") is not None
                with pytest.raises(TaskStoreError):
                    open_store(tmp_path / "other")
            store.put(document("c"), durability=Durability.JOURNAL)
            assert_true(store)


@contextmanager
def no_descriptor_left() -> Generator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    taken: list[int] = []
    try:
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def mounted(folder: Path, *arguments: str) -> Generator[None]:
    """Mount something on *folder* for a block, or skip the test."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount")
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class TestFullDisk:
    """A full disk refuses writes with a clear error; reads go on, and with room everything goes on."""

    def test_a_tiny_one(self, tmp_path: Path) -> None:
        with mounted(tmp_path, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
            acknowledged = self.filled(tmp_path)
            with open_store(tmp_path) as store:
                assert acknowledged <= set(rows(store))
                assert_true(store)

    def filled(self, folder: Path) -> set[str]:
        acknowledged: set[str] = set()
        balloon = folder / "balloon"
        with open_store(folder) as store:
            balloon.write_bytes(b"x" * 200_000)
            told: set[type[Exception]] = set()
            for number in range(3_000):
                level = (Durability.JOURNAL, Durability.INDEX)[number % 2]
                try:
                    store.put(document(f"r{number}", text="x" * 2_000), durability=level)
                except TaskStoreError as error:
                    told.add(type(error))
                    if len(told) > 1 or number > 2_000:
                        break
                else:
                    acknowledged.add(f"r{number}")
            assert told, "it never became full"
            assert acknowledged <= {one.id for one in store.list(NAME)}
            balloon.unlink()
            try:
                store.put(document("end"), durability=Durability.JOURNAL)
            except StoreBrokenError:
                store._engine.mend()
                store.put(document("end"), durability=Durability.JOURNAL)
            store.flush()
            assert_true(store)
        return acknowledged | {"end"}

    def test_one_that_can_only_be_read(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.put(document("a"))
        for path in (tmp_path / ".taskstore").glob("store.*"):
            path.unlink()
        with mounted(tmp_path, "--bind", str(tmp_path)):
            subprocess.run(["mount", "-o", "remount,ro,bind", str(tmp_path)], check=True)
            with open_store(tmp_path) as store:
                assert list(rows(store)) == ["a"]
                assert any("lives in memory" in note for note in store.notes)
                with pytest.raises(StoreReadOnlyError, match="cannot be written"):
                    store.put(document("b"))
                assert not outbox(store)
