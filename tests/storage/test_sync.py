"""Edits by hand, by git and by other tools: the next command sees them, and pays for what moved only."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async.core.filters import eq
from taskstore_async.errors import CollectionClosedError, ReadFailedError, ReferencedError, UniqueError
from taskstore_async.storage import journal
from taskstore_async.storage.store import Store
from tests.storage.samples import Plan, Step
from tests.storage.workshop import (
    MANUAL,
    NAME,
    Durability,
    assert_true,
    backdate,
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

MANY = 500


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with many records, exported, its file old enough to be told by its stat."""
    with open_store(tmp_path) as store:
        store.create_many([document(f"p{number}", value=number) for number in range(MANY)])
    settle(tmp_path)
    return tmp_path


def settle(folder: Path) -> None:
    for path in (folder / ".taskstore").glob("*.jsonl"):
        backdate(path)
    time.sleep(journal.SETTLE_NS / 1e9)  # a ctime cannot be set
    with open_store(folder) as store:
        store.sync()


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(line("p7", 4_000_000_000_000, value="changed") + b"\n")


def replace(path: Path) -> None:
    data = path.read_bytes().replace(b'"value":7}', b'"value":"changed"}')
    path.unlink()
    path.write_bytes(data)


def edit_in_place(path: Path) -> None:
    """The same length, the same mtime: only the bytes tell."""
    data, status = path.read_bytes(), path.stat()
    changed = data.replace(b'"value":7}', b'"value":8}')
    assert len(changed) == len(data)
    with path.open("r+b") as file:
        file.write(changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_over(path: Path) -> None:
    """As ``cp -p`` does: the size and the mtime are those of another file."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes().replace(b'"value":7}', b'"value":8}'))
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    shutil.copy2(other, path)
    other.unlink()


def truncate(path: Path) -> None:
    data = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(one for one in data if b'"p7"' not in one))


EDITS = [append, replace, edit_in_place, copy_over, truncate]


class TestNextCommandSeesTheTruth:
    """Whatever was done to the files, however the store was used meanwhile."""

    @pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
    def test_while_nobody_had_it_open(self, folder: Path, edit: Callable[[Path], None]) -> None:
        with open_store(folder) as store:
            before = rows(store)["p7"]
        edit(journal_of(folder))
        with open_store(folder) as store:
            assert rows(store).get("p7") != before
            assert_true(store)

    @pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
    def test_while_another_handle_has_it_open(self, folder: Path, edit: Callable[[Path], None]) -> None:
        with open_store(folder) as ours, open_store(folder) as other:
            before = rows(ours)["p7"]
            other.put(document("p8", value="ours"))
            edit(journal_of(folder))
            ours.sync()
            assert rows(ours).get("p7") == rows(other).get("p7") != before
            other.put(document("p9", value="ours"), durability=Durability.JOURNAL)
            assert_true(other)
            assert_true(ours)

    @pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
    def test_before_an_append(self, folder: Path, edit: Callable[[Path], None]) -> None:
        with open_store(folder) as store:
            edit(journal_of(folder))
            store.put(document("new"), durability=Durability.JOURNAL)
            assert_true(store)
            assert b'"new"' in lines_in(store)[-1]

    def test_a_deleted_file_is_an_empty_collection_but_for_what_waits(self, folder: Path) -> None:
        with open_store(folder) as store:
            store.put(document("p1", value="waits"))
            journal_of(folder).unlink()
            report = store.sync()
            assert report.collections[NAME].removed == MANY - 1
            assert list(rows(store)) == ["p1"]
            assert len(lines_in(store)) == 1
            assert_true(store)

    def test_an_empty_file_too(self, folder: Path) -> None:
        journal_of(folder).write_bytes(b"")
        with open_store(folder) as store:
            assert rows(store) == {}
            store.put(document("new"), durability=Durability.JOURNAL)
            assert_true(store)

    def test_git_checkout(self, tmp_path: Path) -> None:
        def git(*arguments: str) -> None:
            environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
            identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
            subprocess.run(
                ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, env=environment
            )

        git("init", "-q", "-b", "main")
        with open_store(tmp_path) as store:
            store.put(document("a", value="main"), durability=Durability.JOURNAL)
            git("add", ".")
            git("commit", "-qm", "one")
            git("checkout", "-qb", "side")
            store.put(document("a", value="side"), durability=Durability.JOURNAL)
            git("commit", "-qam", "two")
            for branch in ("main", "side", "main", "side"):
                git("checkout", "-q", branch)
                store.sync()
                found = store.get(NAME, "a")
                assert found is not None
                assert found["value"] == branch
                assert_true(store)
            tracked = subprocess.run(
                ["git", "ls-files"], cwd=tmp_path, capture_output=True, text=True, check=True
            ).stdout
        assert "store.db" not in tracked
        assert "store.lock" not in tracked
        assert ".taskstore/plans.jsonl" in tracked

    def test_git_that_is_busy_is_given_the_time_to_put_a_file_back(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / ".git").mkdir()
        (folder / ".git" / "index.lock").touch()
        path = journal_of(folder)
        slept: list[float] = []
        with open_store(folder) as store:
            data = path.read_bytes()
            path.unlink()

            def put_back(seconds: float) -> None:
                """Be git: create the file empty, write it in pieces, and let go of the lock."""
                pieces = [b"", data[: len(data) // 2], data]
                path.write_bytes(pieces[len(slept)])
                slept.append(seconds)
                if len(slept) == len(pieces):
                    (folder / ".git" / "index.lock").unlink()

            monkeypatch.setattr("taskstore_async.storage.flush.time.sleep", put_back)
            store.put(document("new"), durability=Durability.JOURNAL)
            assert slept == [0.2] * 3
            assert len(rows(store)) == MANY + 1
            assert_true(store)


class TestCost:
    """A look costs what moved."""

    def test_one_line_more_is_one_line_read(self, folder: Path) -> None:
        with open_store(folder) as store:
            append(journal_of(folder))
            report = store.sync().collections[NAME]
            assert (report.how, report.lines_read, report.rows_rebuilt, report.taken) == ("tail", 1, 0, 1)

    def test_our_own_appends_are_not_read_again(self, folder: Path) -> None:
        with open_store(folder) as store:
            for number in range(3):
                store.put(document("p1", value=number), durability=Durability.JOURNAL)
            assert not store.is_stale()
            assert store.sync().collections == {}

    def test_an_edit_rebuilds_no_row_but_the_one_that_changed(self, folder: Path) -> None:
        with open_store(folder) as store:
            replace(journal_of(folder))
            report = store.sync().collections[NAME]
            assert (report.how, report.taken, report.removed, report.rows_rebuilt) == ("scan", 1, 0, 0)

    def test_an_unchanged_store_is_opened_without_the_lock_and_without_a_byte_of_a_journal(self, folder: Path) -> None:
        program = f"""
            import os, sys
            from taskstore_async.storage.store import Store
            pread, read = os.pread, []
            os.pread = lambda *a: read.append(a) or pread(*a)
            with Store.open({str(folder)!r}) as store:
                assert len(store.list("plans")) == {MANY}
                assert not store.is_stale()
            assert not read, read
            assert "portalocker" not in sys.modules
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)

    def test_looking_changes_nothing(self, folder: Path) -> None:
        with open_store(folder) as store:
            append(journal_of(folder))
            before = rows(store)
            report = store.sync(check=True)
            assert report.stale
            assert report.collections[NAME].taken == 1
            assert rows(store) == before
            assert store.is_stale()
            assert store.sync().stale
            assert not store.sync(check=True).stale


class TestUnreadable:
    """A damaged file keeps what it had, refuses writes, and opens by itself when it is mended."""

    def test_garbage(self, folder: Path) -> None:
        path, data = journal_of(folder), journal_of(folder).read_bytes()
        with open_store(folder) as store:
            path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
            report = store.sync()
            assert report.collections[NAME].how == "closed"
            assert len(rows(store)) == MANY
            with pytest.raises(CollectionClosedError):
                store.put(document("new"))
            path.write_bytes(data)
            store.put(document("new"), durability=Durability.JOURNAL)
            assert len(rows(store)) == MANY + 1
            assert_true(store)

    @pytest.mark.parametrize("known", [True, False])
    def test_every_open_says_so(self, folder: Path, *, known: bool) -> None:
        if not known:
            (folder / ".taskstore" / "store.db").unlink()
        data = journal_of(folder).read_bytes()
        journal_of(folder).write_bytes(b"garbage\n")
        for _ in range(2):
            with open_store(folder) as store:
                assert len(rows(store)) == (MANY if known else 0)
                assert [f"{NAME}.jsonl cannot be read" in note for note in store.notes] == [True]
        journal_of(folder).write_bytes(data)
        with open_store(folder) as store:
            assert store.notes == ()

    def test_every_one_is_told_of_in_a_note_of_bounded_length(self, tmp_path: Path) -> None:
        names = ["subtasks", "tasks", *(f"w{number}" for number in range(100))]
        with Store.open(tmp_path) as store:
            for name in names[:2]:
                (store.path / f"{name}.jsonl").write_bytes(b"garbage\n")
        with Store.open(tmp_path) as store:
            (note,) = store.notes
            assert note.startswith("subtasks.jsonl, tasks.jsonl cannot be read")
            for name in names:
                (store.path / f"{name}.jsonl").write_bytes(b"garbage\n")
        with Store.open(tmp_path) as store:
            (note,) = store.notes
            assert note.startswith("subtasks.jsonl, tasks.jsonl, w0.jsonl and 99 more cannot be read")

    def test_a_good_line_behind_the_garbage_brings_the_files_own_records_and_no_others(self, folder: Path) -> None:
        path = journal_of(folder)
        with open_store(folder) as store:
            path.write_bytes(b"garbage\n")
            store.sync()
            with path.open("ab") as file:
                file.write(line("one", 1) + b"\n")
            store.sync()
            assert list(rows(store)) == ["one"]
            assert_true(store)

    def test_it_stops_no_open_even_when_lines_wait_for_it(self, folder: Path) -> None:
        path, data = journal_of(folder), journal_of(folder).read_bytes()
        store = open_store(folder)
        store.put(document("waits"))
        store._engine.abandon()
        path.write_bytes(b"garbage\n")
        store = open_store(folder)
        assert len(rows(store)) == MANY + 1
        assert [f"{NAME}.jsonl" in note and "closed to writing" in note for note in store.notes] == [True]
        assert [b'"waits"' in raw for raw in outbox(store)] == [True]
        with pytest.raises(CollectionClosedError):
            store.close()
        path.write_bytes(data)
        with open_store(folder) as store:
            assert len(rows(store)) == MANY + 1
            store.flush()
            assert_true(store)

    @pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
    def test_what_is_no_file_is_never_written_through(self, folder: Path, kind: str) -> None:
        path = journal_of(folder)
        kept = path.with_name("kept")
        path.rename(kept)
        if kind == "symlink":
            path.symlink_to(kept)
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
        before = kept.read_bytes()
        with open_store(folder) as store:
            with pytest.raises(CollectionClosedError):
                store.put(document("new"), durability=Durability.JOURNAL)
            assert len(rows(store)) == MANY
            assert store.sync(rebuild=True).collections[NAME].how == "closed"
            assert len(rows(store)) == MANY
            assert not store.check().ok
            assert kept.read_bytes() == before
            path.rmdir() if kind == "directory" else path.unlink()
            kept.rename(path)
            store.put(document("new"), durability=Durability.JOURNAL)
            assert_true(store)

    def test_a_pipe_in_place_of_an_empty_file(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            store.sync()
            os.mkfifo(journal_of(store))
            with pytest.raises(CollectionClosedError):
                store.put(document("new"), durability=Durability.JOURNAL)
            journal_of(store).unlink()

    def test_conflict_markers(self, folder: Path) -> None:
        path = journal_of(folder)
        with path.open("ab") as file:
            file.write(b"<<<<<<< ours\n" + line("x", 5, side="ours") + b"\n||||||| base\n" + line("gone", 9) + b"\n")
            file.write(b"=======\n" + line("x", 6, side="theirs") + b"\n" + line("y", 1) + b"\n>>>>>>> theirs\n")
        with open_store(folder) as store:
            found = rows(store)
            assert found["x"][0] == line("x", 6, side="theirs")
            assert "y" in found
            assert "gone" not in found
            assert [finding.kind for finding in store.check().problems].count("bad-line") == 5
            store.put(document("new"), durability=Durability.JOURNAL)
            assert_true(store)

    def test_a_file_that_ends_in_a_base_part_is_closed(self, folder: Path) -> None:
        path, data = journal_of(folder), journal_of(folder).read_bytes()
        with open_store(folder) as store:
            path.write_bytes(data + b"<<<<<<< ours\n||||||| base\n")
            store.put(document("new"))
            with pytest.raises(CollectionClosedError):
                store.flush()
            path.write_bytes(data)
            store.flush()
            assert_true(store)


class TestAncestor:
    """A directory of the Rust store opens as it is."""

    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        folder = tmp_path / ".taskstore"
        folder.mkdir()
        (folder / "taskstore.db").write_bytes(b"not ours")
        (folder / ".gitignore").write_text("taskstore.db*")
        (folder / ".version").write_text("1")
        lines = [
            b'{"created_at":1,"id":"a","updated_at":5,"v":1}',
            b'{"created_at":1,"id":"a","updated_at":5,"v":2}',
            b'{"deleted":true,"id":"b","updated_at":9}',
            b'{"id":"b","updated_at":8,"v":1}',
            b'{"id":"c","created_at":7,"v":1}',
            b'{"id":"c","created_at":7,"v":2}',
            b'{"id":"d","updated_at":7,"v":2}',
            b'{"id":"d","deleted":true}',
            b'{"id":"e","updated_at":7',
        ]
        (folder / f"{NAME}.jsonl").write_bytes(b"\n".join(lines))
        return tmp_path

    def test_it_reads_by_the_fold_rule(self, old: Path) -> None:
        with open_store(old) as store:
            assert {key: raw[-4:] for key, (raw, _) in rows(store).items()} == {"a": b'":2}', "c": b'":2}'}
            assert_true(store)

    def test_the_next_write_is_not_glued_to_the_torn_line(self, old: Path) -> None:
        with open_store(old) as store:
            store.put(document("new"), durability=Durability.JOURNAL)
            assert lines_in(store)[-2] == b'{"id":"e","updated_at":7'
            assert lines_in(store)[-1].startswith(b'{"id":"new"')
            assert set(rows(store)) == {"a", "c", "new"}
            assert_true(store)
        with open_store(old) as store:
            assert set(rows(store)) == {"a", "c", "new"}

    def test_its_own_files_stay(self, old: Path) -> None:
        with open_store(old) as store:
            store.put(document("new"))
        ignored = (old / ".taskstore" / ".gitignore").read_text().splitlines()
        assert ignored[0] == "taskstore.db*"
        assert {"store.db", "store.lock"} <= set(ignored)
        assert (old / ".taskstore" / "taskstore.db").read_bytes() == b"not ours"


class TestUnstamped:
    def test_a_last_line_without_newline_counts_and_is_read_anew_when_it_grows(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            path = journal_of(store)
            path.write_bytes(line("a", 1) + b"\n" + b'{"id":"b","updated_at":1}')
            store.sync()
            assert set(rows(store)) == {"a", "b"}
            path.write_bytes(line("a", 1) + b"\n" + b'{"id":"b","updated_at":1} x\n')
            store.sync()
            assert set(rows(store)) == {"a"}
            path.write_bytes(line("a", 1) + b"\n" + b'{"id":"b","updated_at":1}')
            store.sync()
            store.put(document("c"), durability=Durability.JOURNAL)
            assert store.sync().collections == {}
            assert [info.lines for info in store.collections()] == [3]
            assert_true(store)

    def test_that_it_has_no_newline_is_not_forgotten_by_a_look_that_finds_nothing_new(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            journal_of(store).write_bytes(line("a", 1))
            store.sync()
            backdate(journal_of(store))
            assert store.sync().collections == {}
            store.put(document("b"), durability=Durability.JOURNAL)
            assert len(lines_in(store)) == 2
            assert_true(store)

    def test_a_torn_line_that_is_completed_in_place_is_seen(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            path = journal_of(store)
            path.write_bytes(line("a", 1) + b"\n" + b'{"id":"b","updated_at":1 ')
            store.sync()
            status = path.stat()
            with path.open("r+b") as file:
                file.write(line("a", 1) + b"\n" + b'{"id":"b","updated_at":1}')
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            assert store.is_stale()
            store.sync()
            assert set(rows(store)) == {"a", "b"}


class TestDeclarations:
    """`_types.jsonl` is a journal like any other."""

    def test_a_line_brought_by_hand_gives_columns(self, folder: Path) -> None:
        types = folder / ".taskstore" / "_types.jsonl"
        types.write_bytes(line(NAME, 5, fields={"value": {"indexed": True}}, local=False) + b"\n")
        with open_store(folder) as store:
            assert store.declaration(NAME).columns == ("value",)
            assert [found.id for found in store.list(NAME, eq("value", 7))] == ["p7"]
            assert_true(store)
            types.write_bytes(line("none", 5, fields=3) + b"\n" + line("Not A Name", 5, fields={}) + b"\nx\n")
            store.sync()
            assert store.declaration(NAME).columns == ()
            assert_true(store)

    def test_a_declared_collection_without_a_file_is_there(self, tmp_path: Path) -> None:
        with open_store(tmp_path) as store:
            types = store.path / "_types.jsonl"
            types.write_bytes(line(NAME, 5, fields={"value": {"indexed": True}}, local=False) + b"\n")
            store.sync()
            assert store.declaration(NAME).columns == ("value",)
            assert store.list(NAME) == []

    @pytest.mark.parametrize(
        "fields",
        [
            {f"f{number}": {"indexed": True} for number in range(3_000)},
            {"f": {"first_of": [f"f{number}" for number in range(3_000)]}},
        ],
    )
    def test_a_declaration_of_more_fields_than_a_table_may_have_is_passed_over(
        self, tmp_path: Path, fields: dict[str, object]
    ) -> None:
        folder = tmp_path / ".taskstore"
        folder.mkdir()
        (folder / "_types.jsonl").write_bytes(line(NAME, 5, fields=fields) + b"\n")
        with open_store(tmp_path) as store:
            store.put(document("a"))
            assert store.declaration(NAME).fields == {}
            assert_true(store)

    @pytest.mark.parametrize(
        "fields", [{f"f{number}": {"indexed": True} for number in range(1_001)}, {"f": {"indexed": "text"}}]
    )
    def test_a_type_is_declared_in_place_of_what_is_passed_over(
        self, tmp_path: Path, fields: dict[str, object]
    ) -> None:
        types = tmp_path / ".taskstore" / "_types.jsonl"
        types.parent.mkdir()
        types.write_bytes(line("plans", 5, fields=fields) + b"\n")
        sizes: set[int] = set()
        for number in range(2):
            with Store.open(tmp_path, records=[Plan], sync=MANUAL) as store:
                if number == 0:
                    store.create(Plan(id="a", slug="s"))
                with pytest.raises(UniqueError):
                    store.create(Plan(id="b", slug="s"))
            sizes.add(types.stat().st_size)
        assert len(sizes) == 1

    def test_a_clone_without_types_filters_refuses_and_cascades(self, tmp_path: Path) -> None:
        with Store.open(tmp_path / "one", records=[Plan, Step], sync=MANUAL) as store:
            store.put(Plan(id="a", slug="s", status="open"))
            store.put(Plan(id="b", parent_id="a"))
            store.put(Step(id="s", plan_id="b"))
        shutil.copytree(tmp_path / "one", tmp_path / "two", ignore=shutil.ignore_patterns("store.*"))
        with open_store(tmp_path / "two") as store:
            assert [found.id for found in store.list("plans", eq("status", "open"))] == ["a"]
            assert store.declaration("plans").columns
            with pytest.raises(UniqueError):
                store.put(document("c", slug="s"))
            with pytest.raises(ReferencedError):
                store.delete("plans", "a")
            store.delete("steps", "s")
            store.delete("plans", "a")
            assert store.list("plans") == []
            assert store.check().ok


def test_a_stray_file_is_named_and_not_served(folder: Path) -> None:
    (folder / ".taskstore" / "Not A Name.jsonl").write_bytes(line("a", 1))
    with open_store(folder) as store:
        notes: Any = store.sync().notes
        assert any("Not A Name.jsonl" in note for note in notes)


class TestBehindATornLine:
    """What was flushed behind what is known of a file is missed when somebody takes it away again."""

    def test_the_row_goes_with_its_line(self, folder: Path) -> None:
        path = journal_of(folder)
        with open_store(folder) as store:
            with path.open("ab") as file:
                file.write(b'{"id":"torn","upd')
            store.put(document("ours"), durability=Durability.JOURNAL)
            lines = path.read_bytes().splitlines(keepends=True)
            assert b'"ours"' in lines[-1]
            path.write_bytes(b"".join(lines[:-1]))
            store.sync()
            assert "ours" not in rows(store)
            assert [finding.kind for finding in store.check().problems if finding.error] == ["bad-line"]


def deeply(levels: int, work: Callable[[], object]) -> object:
    return deeply(levels - 1, work) if levels else work()


class TestDeepStack:
    """Python 3.11 has one limit for the calls of a program and the levels of what is decoded."""

    @pytest.mark.parametrize("call", ["list", "lines", "rebuild"])
    def test_a_caller_that_is_deep_in_its_stack_takes_no_record_away(self, tmp_path: Path, call: str) -> None:
        nested: list[object] = []
        for _ in range(190):
            nested = [nested]
        calls: dict[str, Callable[[Store], object]] = {
            "list": lambda store: store.list(NAME),
            "lines": lambda store: store.lines(NAME),
            "rebuild": lambda store: store.sync(rebuild=True),
        }
        with open_store(tmp_path) as store:
            store.put(document("a", nested=nested))
        for free in range(100, 300, 25):  # of a thousand frames
            with open_store(tmp_path) as store:
                with suppress(RecursionError, ReadFailedError):
                    deeply(sys.getrecursionlimit() - len(inspect.stack(0)) - free, partial(calls[call], store))
                assert store.notes == ()
            with open_store(tmp_path) as store:
                assert list(rows(store)) == ["a"]
                assert_true(store)
