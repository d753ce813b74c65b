"""merge, conflicts, resolve: what a person sees of merges, and settles."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async import Document, Store, SyncConfig
from taskstore_async.cli import opening
from taskstore_async.git import driver, resolving
from taskstore_async.git.driver import merge_files
from taskstore_async.storage.directory import Directory
from taskstore_async.storage.journal import SETTLE_NS
from tests.cli.test_process import on_a_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]

AT = 1_767_225_600_000


def line(record_id: str, at: int = 0, **fields: object) -> bytes:
    return json.dumps({"id": record_id, **fields, "updated_at": AT + at}, separators=(",", ":")).encode() + b"\n"


BASE = line("a", f=1, g=1)
OURS = line("a", 5, f=2, g=1)
THEIRS = line("a", 5, f=3, g=9)


@pytest.fixture
def journal(tstore: Tstore, folder: Path) -> Path:
    assert tstore("init").code == 0
    return folder / ".taskstore" / "issues.jsonl"


def merged(journal: Path, base: bytes = BASE, ours: bytes = OURS, theirs: bytes = THEIRS) -> int:
    """Merge as git would, into the journal."""
    folder = journal.parent.parent
    for name, data in (("O", base), ("A", ours), ("B", theirs)):
        (folder / name).write_bytes(data)
    code = merge_files(*(str(folder / name) for name in "OAB"), output=str(folder / "A"), path=str(journal))
    journal.write_bytes((folder / "A").read_bytes())
    return code


def record(tstore: Tstore, record_id: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tstore("get", "issues", record_id).out)
    return found


def lines(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


def quarantined(journal: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((journal.parent / "quarantine").glob("*")))


class TestMerge:
    """Three files become one, without a store; exit codes as git wants them."""

    @pytest.fixture
    def files(self, folder: Path) -> list[str]:
        for name, data in (("base", BASE), ("ours", line("a", 2, f=2, g=1)), ("theirs", line("a", 3, f=1, g=2))):
            (folder / name).write_bytes(data)
        return ["base", "ours", "theirs"]

    def test_the_result_goes_to_stdout_and_the_files_stay(self, tstore: Tstore, files: list[str], folder: Path) -> None:
        result = tstore("merge", *files)
        assert (result.code, result.out) == (0, line("a", 4, f=2, g=2).decode())
        assert "a: merged field by field" in result.err
        assert (folder / "ours").read_bytes() == line("a", 2, f=2, g=1)

    def test_or_to_a_file(self, tstore: Tstore, files: list[str], folder: Path) -> None:
        result = tstore("merge", *files, "-o", "out", "--json")
        assert result.code == 0
        assert json.loads(result.out)["decisions"][0]["rule"] == "fields"
        assert (folder / "out").read_bytes() == line("a", 4, f=2, g=2)

    def test_a_conflict_ends_with_1(self, tstore: Tstore, files: list[str], folder: Path) -> None:
        (folder / "theirs").write_bytes(line("a", 2, f=3, g=1))
        result = tstore("merge", *files)
        assert result.code == 1
        assert result.out.startswith("<<<<<<< one version\n")

    def test_what_cannot_be_merged_ends_with_2_and_touches_nothing(
        self, tstore: Tstore, files: list[str], folder: Path
    ) -> None:
        (folder / "theirs").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        result = tstore("merge", *files, "-o", "ours")
        assert (result.code, result.out) == (2, "")
        assert "LFS pointer" in result.err
        assert (folder / "ours").read_bytes() == line("a", 2, f=2, g=1)
        told = json.loads(tstore("merge", *files, "-o", "ours", "--json").err)["error"]
        assert (told["code"], told["exit_code"], told["details"]["side"]) == ("merge_input", 2, "their")
        assert "ours was not merged: their side" in told["message"]

    def test_what_is_no_error_of_ours_is_told_to_a_program_too(
        self, tstore: Tstore, files: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def too_deep(*_: object, **__: object) -> None:
            raise RecursionError("too deep")

        monkeypatch.setattr(driver, "merge", too_deep)
        result = tstore("merge", *files, "--json")
        told = json.loads(result.err)["error"]
        assert (result.code, told["code"], told["exit_code"]) == (2, "recursion", 2)

    @pytest.mark.parametrize("wrong", [1, 2])
    def test_a_mistyped_file_is_no_version_without_records(
        self, tstore: Tstore, files: list[str], folder: Path, wrong: int
    ) -> None:
        files[wrong] = "ourz"
        result = tstore("merge", *files, "-o", "out")
        assert (result.code, result.out) == (2, "")
        assert "there is no file ourz; nothing was merged" in result.err
        assert not (folder / "out").exists()

    def test_the_base_may_be_absent(self, tstore: Tstore, files: list[str]) -> None:
        assert tstore("merge", "absent", *files[1:]).code == 0

    def test_too_few_files_end_with_2(self, tstore: Tstore) -> None:
        assert tstore("merge", "base", "ours").code == 2


class TestConflicts:
    """What stands between markers, what may name the wrong record, and what merges decided by themselves."""

    def test_nothing_is_left(self, tstore: Tstore, journal: Path) -> None:
        journal.write_bytes(BASE)
        assert tstore("conflicts") == tstore("conflicts", "--merges", "1")
        result = tstore("conflicts", "--json")
        assert result.code == 0
        assert json.loads(result.out) == {"standing": [], "markers": [], "mentions": [], "decided": []}

    def test_a_record_between_markers_is_told_with_what_differs(self, tstore: Tstore, journal: Path) -> None:
        assert merged(journal) == 1
        result = tstore("conflicts")
        assert result.code == 5
        assert "conflict\tissues\ta\tf: " in result.out
        assert {"ours 2", "theirs 3"} == set(result.out.splitlines()[0].partition("f: ")[2].split(", "))
        assert "tstore resolve ID --take ours|theirs|FILE" in result.err
        (standing,) = json.loads(tstore("conflicts", "--json").out)["standing"]
        assert (standing["id"], standing["line"], [one["field"] for one in standing["fields"]]) == ("a", 1, ["f"])
        assert standing[standing["ours"]]["f"] == 2
        assert standing["first"]["g"] == standing["second"]["g"] == 9

    def test_what_a_merge_decided_is_told_the_newest_first(self, tstore: Tstore, journal: Path) -> None:
        merged(journal, theirs=line("a", 6, f=3, g=1))
        merged(journal, BASE, line("b", 1, f=1), line("b", 2, f=2))
        result = tstore("conflicts")
        assert result.code == 0
        assert [row.split("\t")[2] for row in result.out.splitlines()] == ["b", "a"]
        assert "f: theirs, newer" in result.out
        assert [row.split("\t")[2] for row in tstore("conflicts", "--merges", "1").out.splitlines()] == ["b"]
        decided = json.loads(tstore("conflicts", "--json").out)["decided"]
        assert (decided[1]["ours"]["f"], decided[1]["theirs"]["f"]) == (2, 3)

    def test_a_log_with_other_lines_in_it_is_read_all_the_same(self, tstore: Tstore, journal: Path) -> None:
        (journal.parent / "merges.log").write_bytes(b'junk\n{"at":"x"}\n\n{"at":1}\n[]\n')
        merged(journal, theirs=line("a", 6, f=3, g=1))
        assert tstore("conflicts").out.count("decided") == 1

    def test_without_a_store_it_ends_with_4(self, tstore: Tstore) -> None:
        assert tstore("conflicts").code == tstore("resolve", "a", "--take", "ours").code == 4


class TestStanding:
    """A chosen version becomes a new one of the record; its markers go, and no line of it does."""

    @pytest.mark.parametrize("swapped", [False, True])
    @pytest.mark.parametrize(("take", "f"), [("ours", 2), ("theirs", 3)])
    def test_ours_and_theirs_are_who_they_were(
        self, take: str, f: int, *, swapped: bool, tstore: Tstore, journal: Path
    ) -> None:
        sides = (THEIRS, OURS) if swapped else (OURS, THEIRS)
        assert merged(journal, BASE, *sides) == 1
        before = lines(journal)
        result = tstore("resolve", "a", "--take", take)
        assert result.code == 0
        assert (record(tstore)["f"], record(tstore)["g"]) == (5 - f if swapped else f, 9)
        *kept, new = lines(journal)
        assert kept == [one for one in before if one.startswith(b"{")]
        assert json.loads(new)["updated_at"] > AT + 6
        assert quarantined(journal) == b"".join(one for one in before if not one.startswith(b"{"))
        assert tstore("conflicts").code == 0
        assert tstore("check").code == 0

    @pytest.mark.parametrize("take", ["first", "second"])
    def test_where_nobody_knows_whose_is_which_the_upper_and_the_lower_can_be_taken(
        self, take: str, tstore: Tstore, journal: Path
    ) -> None:
        merged(journal)
        (journal.parent / "merges.log").unlink()
        (standing,) = json.loads(tstore("conflicts", "--json").out)["standing"]
        assert standing["ours"] is None
        assert "tstore resolve ID --take first|second|FILE" in tstore("conflicts").err
        refused = tstore("resolve", "a", "--take", "ours")
        assert (refused.code, refused.out) == (3, "")
        assert "take first or second" in refused.err
        assert tstore("resolve", "a", "--take", take).code == 0
        assert record(tstore)["f"] == standing[take]["f"]

    def test_what_gits_text_merge_left_is_settled_record_by_record(self, tstore: Tstore, journal: Path) -> None:
        upper, lower = line("a", f=1) + line("b", f=1), line("a", 1, f=2) + line("b", 1, f=2)
        dead = line("dead", f=1)
        journal.write_bytes(
            b"<<<<<<< HEAD\n" + upper + b"||||||| base\n" + dead + b"=======\n" + lower + b">>>>>>> topic\n" + line("z")
        )
        assert tstore("resolve", "a", "--take", "ours").code == 0
        assert record(tstore)["f"] == 1
        result = tstore("conflicts")
        assert (result.code, result.out.count("conflict\t")) == (5, 1)
        assert tstore("resolve", "b", "--take", "theirs", "--json").code == 0
        assert record(tstore, "b")["f"] == 2
        assert tstore("get", "issues", "dead").code == 3
        assert not any(marker in journal.read_bytes() for marker in (b"<<<", b"===", b"|||", b">>>", dead))
        assert dead in quarantined(journal)
        assert tstore("check").code == 0

    def test_a_deletion_can_be_chosen(self, tstore: Tstore, journal: Path) -> None:
        tombstone = b'{"id":"a","deleted":true,"updated_at":%d}\n' % AT
        journal.write_bytes(b"<<<<<<< HEAD\n" + tombstone + b"=======\n" + line("a", 5, f=1) + b">>>>>>> topic\n")
        result = tstore("resolve", "a", "--take", "ours", "--json")
        assert json.loads(result.out) == {"collection": "issues", "id": "a", "line": None, "markers": 3}
        assert tstore("get", "issues", "a").code == 3
        assert tstore("conflicts").code == 0

    @pytest.mark.parametrize("data", [b'{"f":7}', b'{"id":"a","f":7,"updated_at":1}\n'])
    def test_a_file_can_say_what_the_record_is(
        self, data: bytes, tstore: Tstore, journal: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        merged(journal)
        (folder / "mine.json").write_bytes(data)
        assert tstore("resolve", "a", "--take", "mine.json").code == 0
        assert record(tstore)["f"] == 7
        assert "g" not in record(tstore)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"f":8}')))
        assert tstore("resolve", "a", "--take", "-", "--force").code == 0
        assert record(tstore)["f"] == 8

    @pytest.mark.parametrize(
        ("data", "message"), [(b'{"id":"b"}', "the record b"), (b"[1]", "no JSON object"), (b"{", "no JSON")]
    )
    def test_a_file_that_is_no_such_record_is_refused(
        self, data: bytes, message: str, tstore: Tstore, journal: Path, folder: Path
    ) -> None:
        merged(journal)
        before = journal.read_bytes()
        (folder / "mine.json").write_bytes(data)
        result = tstore("resolve", "a", "--take", "mine.json")
        assert result.code == 2
        assert message in result.err
        assert journal.read_bytes() == before

    def test_what_was_changed_since_is_taken_back_only_with_force(self, tstore: Tstore, journal: Path) -> None:
        merged(journal)
        tstore("update", "issues", "a", "h=new")
        result = tstore("resolve", "a", "--take", "ours")
        assert result.code == 3
        assert "tstore log issues a" in result.err
        assert record(tstore)["h"] == "new"
        assert tstore("resolve", "a", "--take", "ours", "--force").code == 0
        assert "h" not in record(tstore)

    def test_one_that_was_deleted_since_comes_back_only_with_force(self, tstore: Tstore, journal: Path) -> None:
        merged(journal)
        tstore("delete", "issues", "a")
        assert tstore("resolve", "a", "--take", "ours").code == 3
        assert tstore("get", "issues", "a").code == 3
        assert tstore("resolve", "a", "--take", "ours", "--force").code == 0
        assert record(tstore)["f"] == 2

    def test_somebody_who_was_faster_is_not_overwritten(
        self, tstore: Tstore, journal: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        merged(journal)
        real = resolving._fields

        def slowly(*args: Any) -> Any:  # noqa: ANN401 - reason: passed on
            with Store.open(journal.parent) as other:
                other.put(Document("issues", {"id": "a", "f": "faster", "updated_at": 0}))
            return real(*args)

        monkeypatch.setattr(resolving, "_fields", slowly)
        result = tstore("resolve", "a", "--take", "ours")
        assert result.code == 5
        assert record(tstore)["f"] == "faster"
        assert tstore("conflicts").out.count("conflict\t") == 1

    def test_another_handle_with_writes_that_wait_loses_nothing(
        self, tstore: Tstore, journal: Path, folder: Path
    ) -> None:
        merged(journal)
        with Store.open(folder, sync=SyncConfig(auto_export=False)) as store:
            store.create(Document("issues", {"id": "waits"}))
            assert tstore("resolve", "a", "--take", "theirs").code == 0
            store.create(Document("issues", {"id": "later"}))
            assert [one.id for one in store.list("issues")] == ["a", "later", "waits"]
            assert store.list("issues")[0]["f"] == 3
            store.flush()
            assert store.check().ok
        assert {json.loads(one)["id"] for one in lines(journal)} == {"a", "later", "waits"}


WRITER = """
import sys
import time
import anyio
from taskstore_async import Document, StateManager, SyncConfig

async def main():
    config = SyncConfig(debounce_ms=5, max_delay_ms=20)
    async with StateManager.open(".", sync=config) as store, anyio.create_task_group() as group:
        stop = anyio.Event()

        async def wait_for_the_end():
            await anyio.to_thread.run_sync(sys.stdin.read)
            stop.set()

        group.start_soon(wait_for_the_end)
        number = 0
        while not stop.is_set():
            await store.create(Document("issues", {"id": f"w-{number}"}))
            print(f"w-{number}", flush=True)
            number += 1

anyio.run(main)
"""


class TestCompany:
    """A running StateManager in another process loses nothing while records are resolved."""

    def test_every_write_that_it_acknowledged_is_there(self, tstore: Tstore, journal: Path, folder: Path) -> None:
        blocks = [
            b"<<<<<<< HEAD\n%s=======\n%s>>>>>>> topic\n" % (line(key, f=1), line(key, f=2)) for key in "abcdefgh"
        ]
        journal.write_bytes(b"".join(blocks))
        with subprocess.Popen(
            [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, text=True
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdin is not None
            acknowledged = [writer.stdout.readline().strip()]
            for key in "abcdefgh":
                assert tstore("resolve", key, "--take", "ours").code == 0
                acknowledged.append(writer.stdout.readline().strip())
            writer.stdin.close()
            acknowledged += writer.stdout.read().split()
            assert writer.wait() == 0
        assert tstore("conflicts").code == tstore("check").code == 0
        with Store.open(folder) as store:
            ids = {one.id: one for one in store.list("issues")}
        assert set(acknowledged) <= ids.keys()
        assert [ids[key]["f"] for key in "abcdefgh"] == [1] * 8
        assert {json.loads(one)["id"] for one in lines(journal)} == ids.keys()


class TestPast:
    """What a merge decided by itself can be undone: the other version becomes a new one."""

    @pytest.mark.parametrize(("take", "f"), [("ours", 2), ("theirs", 3)])
    def test_either_version_can_come_back(self, take: str, f: int, tstore: Tstore, journal: Path) -> None:
        assert merged(journal, theirs=line("a", 6, f=3, g=1)) == 0
        before = lines(journal)
        assert tstore("resolve", "a", "--take", take).code == 0
        assert record(tstore)["f"] == f
        assert lines(journal)[:-1] == before
        assert not (journal.parent / "quarantine").exists()
        assert tstore("conflicts").out == ""
        assert tstore("resolve", "a", "--take", take, "--force").code == 0  # changing one's mind is no conflict

    def test_a_deletion_that_lost_can_be_taken(self, tstore: Tstore, journal: Path) -> None:
        merged(journal, BASE + line("b"), line("b"), OURS + line("b"))
        assert record(tstore)["f"] == 2
        assert tstore("resolve", "a", "--take", "ours").code == 0
        assert tstore("get", "issues", "a").code == 3
        assert tstore("conflicts").out == ""

    def test_what_was_changed_since_is_taken_back_only_with_force(self, tstore: Tstore, journal: Path) -> None:
        merged(journal, theirs=line("a", 6, f=3, g=1))
        tstore("update", "issues", "a", "h=new")
        assert tstore("resolve", "a", "--take", "ours").code == 3
        assert record(tstore)["h"] == "new"
        assert tstore("resolve", "a", "--take", "ours", "--force").code == 0

    def test_a_version_that_was_too_long_to_keep_can_come_from_a_file(
        self, tstore: Tstore, journal: Path, folder: Path
    ) -> None:
        merged(journal, theirs=line("a", 6, f="x" * 200_000, g=1))
        result = tstore("resolve", "a", "--take", "ours")
        assert result.code == 3
        assert "from a file" in result.err
        (folder / "mine").write_bytes(OURS)
        assert tstore("resolve", "a", "--take", "mine").code == 0
        assert record(tstore)["f"] == 2

    def test_between_markers_or_not_is_said(self, tstore: Tstore, journal: Path) -> None:
        merged(journal, theirs=line("a", 6, f=3, g=1))
        result = tstore("resolve", "a", "--take", "first")
        assert result.code == 3
        assert "take ours or theirs" in result.err


class TestWhich:
    """The record is found by its id or the beginning of it, in the collection that is said where several have it."""

    def test_nothing_is_known_about_it(self, tstore: Tstore, journal: Path) -> None:
        merged(journal)
        result = tstore("resolve", "nobody", "--take", "ours")
        assert result.code == 3
        assert "tstore conflicts" in result.err

    def test_the_beginning_is_enough_when_one_fits(self, tstore: Tstore, journal: Path) -> None:
        merged(journal, b"", line("bd-1", f=1, x=1), line("bd-1", f=2, x=1))
        assert tstore("resolve", "bd", "--take", "ours").code == 0
        assert record(tstore, "bd-1")["f"] == 1

    def test_two_collections_need_to_be_told_apart(self, tstore: Tstore, journal: Path) -> None:
        merged(journal)
        merged(journal.with_name("tasks.jsonl"))
        result = tstore("resolve", "a", "--take", "ours")
        assert result.code == 2
        assert "issues/a" in result.err
        assert "tasks/a" in result.err
        assert tstore("resolve", "a", "--take", "ours", "-c", "tasks").code == 0
        assert tstore("resolve", "a", "--take", "ours").code == 2  # both are decisions that can be changed
        assert tstore("conflicts").out.count("conflict\t") == 1

    @pytest.mark.parametrize(
        "words",
        [
            ["a"],
            ["a", "--take", "ours", "--refer", "x=y"],
            ["--take", "ours"],
            ["--force"],
            ["a", "--take", "no-such-file"],
            ["a", "--refer", "x"],
            ["a", "--refer", "=y"],
        ],
    )
    def test_usage(self, words: list[str], tstore: Tstore, journal: Path) -> None:
        merged(journal)
        before = journal.read_bytes()
        assert tstore("resolve", *words).code == 2
        assert journal.read_bytes() == before


class TestAll:
    """One side of every record that stands between markers, all of them or none."""

    @pytest.fixture
    def two(self, tstore: Tstore, journal: Path) -> None:
        blocks = [b"<<<<<<< HEAD\n%s=======\n%s>>>>>>> topic\n" % (line(key, f=1), line(key, f=2)) for key in "ab"]
        for name in ("issues", "tasks"):
            journal.with_name(f"{name}.jsonl").write_bytes(b"".join(blocks))
        assert tstore("conflicts").out.count("conflict\t") == 4

    @pytest.mark.usefixtures("two")
    def test_every_record_takes_that_side(self, tstore: Tstore, journal: Path) -> None:
        result = tstore("resolve", "--all", "--take", "ours")
        assert result.code == 0
        assert "4 records resolved" in result.err
        assert (record(tstore, "a")["f"], record(tstore, "b")["f"]) == (1, 1)
        assert b"<<<" not in journal.read_bytes()
        assert quarantined(journal).count(b"<<<<<<< HEAD") == 4
        assert tstore("conflicts").code == 0
        assert json.loads(tstore("resolve", "--all", "--take", "ours", "--json").out) == []

    @pytest.mark.usefixtures("two")
    def test_of_one_collection(self, tstore: Tstore) -> None:
        assert tstore("resolve", "--all", "--take", "theirs", "-c", "tasks").code == 0
        assert {row.split("\t")[1] for row in tstore("conflicts").out.splitlines()} == {"issues"}

    @pytest.mark.usefixtures("two")
    def test_one_that_was_changed_since_stops_all(self, tstore: Tstore, journal: Path) -> None:
        tstore("update", "issues", "b", "h=new")
        before = journal.read_bytes()
        assert tstore("resolve", "--all", "--take", "ours").code == 3
        assert journal.read_bytes() == before
        assert tstore("resolve", "--all", "--take", "ours", "--force").code == 0

    @pytest.mark.usefixtures("two")
    @pytest.mark.parametrize(
        "words", [["--all"], ["a", "--all", "--take", "ours"], ["--all", "--refer", "a=b"], ["--all", "--take", "A"]]
    )
    def test_usage(self, words: list[str], tstore: Tstore, folder: Path) -> None:
        (folder / "A").write_bytes(OURS)
        assert tstore("resolve", *words).code == 2


class TestTerminal:
    """Whatever stands in a record, no character of it acts on a person's terminal."""

    EVIL = "\x1b[2J\x9b\u202e\x07"

    @pytest.mark.parametrize("words", [["conflicts"], ["conflicts", "--json"], ["resolve", "b", "--take", "ours"]])
    def test_what_stands_between_markers(self, words: list[str], journal: Path, folder: Path) -> None:
        sides = [line("b" + self.EVIL, 5, **{f"f{self.EVIL}": value + self.EVIL}, same=1) for value in "xy"]
        assert merged(journal, b"", *sides) == 1
        code, shown = on_a_terminal(folder, *words)
        assert code == (2 if words[0] == "resolve" else 5)  # an id with these in it cannot be written
        assert not set(self.EVIL) & set(shown) - set("[2J")
        assert "\\u001b" in shown or "\\x1b" in shown


class TestMarkers:
    """Markers with nothing to choose between them are taken out; those that make no block are for a person."""

    def test_they_go_and_the_lines_stay(self, tstore: Tstore, journal: Path) -> None:
        journal.write_bytes(b"<<<<<<< HEAD\n" + line("a") + b"=======\n" + line("b") + b">>>>>>> topic\n")
        assert "markers\tissues\t\tlines 1, 3, 5" in tstore("conflicts").out
        assert tstore("conflicts").code == 5
        result = tstore("resolve")
        assert (result.code, result.out) == (0, "issues\t3\n")
        assert journal.read_bytes() == line("a") + line("b")
        assert json.loads(tstore("resolve", "--json").out) == {}
        assert "tstore conflicts" in tstore("resolve").err
        assert tstore("check").code == 0

    def test_a_block_that_has_no_end_is_left_to_a_person(self, tstore: Tstore, journal: Path) -> None:
        data = line("a") + b"<<<<<<< HEAD\n" + line("b")
        journal.write_bytes(data)
        result = tstore("conflicts")
        assert result.code == 5
        assert "no whole block" in result.out
        assert "editor" in result.err
        tstore("resolve")
        assert journal.read_bytes() == data


class TestMentions:
    """Who names an id that has become two records' is listed, and told what it means."""

    @pytest.fixture
    def renamed(self, tstore: Tstore, journal: Path) -> str:
        tstore("create", "notes", "--id", "n-1", "text=see bd-7, soon", "issue_id=bd-7")
        tstore("create", "notes", "--id", "n-2", "text=nothing of the kind: bd-77")
        young = line("bd-7", created_at=9, title="something else entirely")
        merged(journal, b"", young, line("bd-7", created_at=5, name="the first of that id"))
        (mention,) = json.loads(tstore("conflicts", "--json").out)["mentions"]
        assert (mention["collection"], mention["id"], mention["old"]) == ("notes", "n-1", "bd-7")
        assert mention["paths"] == ["text", "issue_id"]
        new: str = mention["new"]
        return new

    def test_it_means_the_new_one(self, renamed: str, tstore: Tstore) -> None:
        result = tstore("conflicts")
        assert result.code == 5
        assert f"tstore resolve n-1 --refer bd-7={renamed}" in result.err
        assert tstore("resolve", "n-1", "--refer", f"bd-7={renamed}").code == 0
        note = json.loads(tstore("get", "notes", "n-1").out)
        assert (note["text"], note["issue_id"]) == (f"see {renamed}, soon", renamed)
        assert tstore("conflicts").code == 0

    def test_it_means_the_old_one(self, renamed: str, tstore: Tstore) -> None:
        assert renamed != "bd-7"
        before = tstore("get", "notes", "n-1").out
        assert tstore("resolve", "n-1", "--refer", "bd-7=bd-7").code == 0
        assert tstore("get", "notes", "n-1").out == before
        assert tstore("conflicts").code == 0

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["n-2", "--refer", "bd-7=bd-7"], "does not name bd-7"),
            (["n-1", "--refer", "bd-7=nobody"], "no record nobody"),
            (["n-3", "--refer", "bd-7=bd-7"], "did you mean notes/n-"),
            (["n-1", "-c", "issues", "--refer", "bd-7=bd-7"], "does not exist"),
        ],
    )
    def test_what_cannot_be_is_refused(self, renamed: str, words: list[str], message: str, tstore: Tstore) -> None:
        assert renamed
        result = tstore("resolve", *words)
        assert result.code == 3
        assert message in result.err

    def test_a_merge_that_was_given_up_or_done_again_is_told_once_or_not_at_all(
        self, renamed: str, tstore: Tstore, journal: Path
    ) -> None:
        log = journal.with_name("merges.log")
        log.write_bytes(log.read_bytes() * 2)
        assert tstore("conflicts").out.count("mention\t") == 1
        journal.write_bytes(line("bd-7", created_at=5, name="the first of that id"))
        result = tstore("conflicts")
        assert (result.code, result.out.count("mention\t"), result.out.count(renamed)) == (0, 0, 2)

    def test_an_id_with_spaces_in_it(self, tstore: Tstore, journal: Path) -> None:
        tstore("create", "notes", "--id", "n", "text=see no 7")
        theirs = line("no 7", created_at=5, name="the first of that id")
        merged(journal, b"", line("no 7", created_at=9, title="something else entirely"), theirs)
        (mention,) = json.loads(tstore("conflicts", "--json").out)["mentions"]
        assert mention["new"].startswith("no 7-")

    def test_in_the_merged_file_itself_only_what_the_merge_could_not_decide_is_listed(
        self, tstore: Tstore, journal: Path
    ) -> None:
        young = line("bd-7", created_at=9, title="something else entirely")
        theirs = line("bd-7", created_at=5, name="the first of that id") + line("c", parent_id="bd-7")
        merged(journal, b"", young + line("b", parent_id="bd-7") + line("d", text="after bd-7"), theirs)
        found = json.loads(tstore("conflicts", "--json").out)["mentions"]
        assert [(one["collection"], one["id"]) for one in found] == [("issues", "d")]
        assert record(tstore, "b")["parent_id"] != "bd-7"


class TestTrouble:
    """What stands in the way is named, and the file stays as it is."""

    def test_locked(self, tstore: Tstore, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        merged(journal)
        time.sleep(SETTLE_NS / 1e9)  # what changed just now could change again with the same times
        assert tstore("conflicts").code == 5
        before = journal.read_bytes()
        monkeypatch.setattr(opening, "DEADLINE_S", 0.05)
        other = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", other, str(journal.with_name("store.lock"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            looked, result = tstore("conflicts"), tstore("resolve", "a", "--take", "ours")
            holder.communicate(b"\n")
        assert looked.code == 5  # looking needs no lock
        assert (result.code, result.out) == (7, "")
        assert journal.read_bytes() == before

    def test_a_directory_that_cannot_be_written(
        self, tstore: Tstore, journal: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        merged(journal)
        before = journal.read_bytes()
        monkeypatch.setattr(Directory, "writable", False)
        assert tstore("conflicts").out.count("conflict\t") == 1
        result = tstore("resolve", "a", "--take", "ours")
        assert result.code == 1
        assert "write permission" in result.err
        assert journal.read_bytes() == before

    def test_a_file_in_which_nothing_is_a_record(self, tstore: Tstore, journal: Path) -> None:
        journal.write_bytes(b"<<<<<<< HEAD\nversion https://git-lfs\n=======\nsize 1\n>>>>>>> topic\n")
        result = tstore("conflicts")
        assert result.code == 5
        assert "editor" in result.err
        before = journal.read_bytes()
        assert tstore("resolve").code == 0
        assert journal.read_bytes() == before
