"""The commands, one by one, as programs see them: results on stdout, words on stderr, an exit code."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from taskstore_async import Document, Store
from taskstore_async.cli import opening

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]

PACK = """
from typing import Annotated, ClassVar
from taskstore_async import Indexed, Record, References, Unique

class Plan(Record):
    collection: ClassVar[str] = "plans"
    title: str
    slug: Annotated[str | None, Unique] = None

class Step(Record):
    collection: ClassVar[str] = "steps"
    plan_id: Annotated[str, Indexed, References("plans", on_delete="cascade")]
    status: Annotated[str, Indexed] = "open"
"""


@pytest.fixture
def pack(folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of record types in the working directory; returns its name."""
    name = f"pack_{abs(hash(request.node.nodeid))}"
    (folder / f"{name}.py").write_text(PACK, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    return name


def journal(folder: Path, collection: str = "issues") -> Path:
    return folder / ".taskstore" / f"{collection}.jsonl"


def lines(folder: Path, collection: str = "issues") -> list[dict[str, object]]:
    return [json.loads(line) for line in journal(folder, collection).read_text(encoding="utf-8").splitlines()]


class TestFindingTheStore:
    """It is found by walking up; TSTORE_DIR beats that, and --store beats both."""

    @pytest.mark.parametrize(
        "words",
        [
            ["list", "issues"],
            ["get", "issues", "a"],
            ["show", "a"],
            ["update", "issues", "a", "b=c"],
            ["delete", "issues", "a"],
            ["collections"],
            ["stats"],
            ["info"],
            ["sync"],
            ["sync", "--check"],
            ["flush"],
            ["check"],
            ["compact"],
        ],
    )
    def test_without_one_a_command_ends_with_4_and_names_init(
        self, words: list[str], tstore: Tstore, folder: Path
    ) -> None:
        result = tstore(*words)
        assert (result.code, result.out) == (4, "")
        assert "tstore init" in result.err
        assert not (folder / ".taskstore").exists()

    def test_it_is_found_from_a_directory_below(
        self, tstore: Tstore, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tstore("create", "issues", "a=b")
        below = folder / "deep" / "down"
        below.mkdir(parents=True)
        monkeypatch.chdir(below)
        tstore("create", "issues", "a=c")
        assert len(lines(folder)) == 2
        assert not (below / ".taskstore").exists()
        assert f"found above {below}" in tstore("info").out

    def test_from_inside_the_store_directory_too(
        self, tstore: Tstore, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tstore("create", "issues", "a=b")
        monkeypatch.chdir(folder / ".taskstore")
        assert tstore("list", "issues").out.count("\n") == 1

    def test_the_environment_beats_walking_and_the_option_beats_both(
        self, tstore: Tstore, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tstore("create", "issues", "--id", "here", "a=b")
        tstore("--store", str(folder / "one"), "create", "issues", "--id", "one", "a=b")
        monkeypatch.setenv("TSTORE_DIR", str(folder / "one"))
        assert tstore("list", "issues").out.startswith("one\t")
        assert "named by TSTORE_DIR" in tstore("info").out
        assert tstore("list", "issues", "--store", str(folder)).out.startswith("here\t")
        assert tstore("--store", str(folder), "list", "issues").out.startswith("here\t")
        assert "given by --store" in tstore("info", "--store", str(folder)).out
        monkeypatch.setenv("TSTORE_DIR", "")
        assert tstore("list", "issues").out.startswith("here\t")


class TestInit:
    """init makes a store, and leaves alone what is there."""

    def test_it_makes_one_here_even_below_another(
        self, tstore: Tstore, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = tstore("init")
        assert (result.code, result.out) == (0, f"{folder}/.taskstore\n")
        (folder / "sub").mkdir()
        monkeypatch.chdir(folder / "sub")
        assert tstore("init").out == f"{folder}/sub/.taskstore\n"

    def test_again_it_changes_nothing(self, tstore: Tstore, folder: Path) -> None:
        first = json.loads(tstore("init", "--json").out)
        tstore("create", "issues", "a=b")
        before = journal(folder).read_bytes()
        again = json.loads(tstore("init", "--json").out)
        assert (first["created"], again["created"]) == (True, False)
        assert journal(folder).read_bytes() == before
        assert "was there" in tstore("init").err

    def test_it_declares_the_records_of_a_module(self, tstore: Tstore, pack: str, folder: Path) -> None:
        assert tstore("--records", pack, "init").code == 0
        assert {line["id"] for line in lines(folder, "_types")} == {"plans", "steps"}


class TestRecordTypes:
    """--records and TSTORE_RECORDS name a module whose types are declared."""

    def test_rules_hold_from_then_on_without_it(self, tstore: Tstore, pack: str) -> None:
        tstore("create", "plans", "--id", "p", "title=x", "slug=s", "--records", pack)
        taken = tstore("create", "plans", "title=y", "slug=s")
        assert (taken.code, "unique" in taken.err) == (5, True)
        missing = tstore("create", "steps", "plan_id=q")
        assert (missing.code, "create it first" in missing.err) == (5, True)
        tstore("create", "steps", "--id", "s", "plan_id=p")
        assert tstore("delete", "plans", "p").code == 0
        assert tstore("list", "steps").out == ""

    def test_the_environment_names_it_too(
        self, tstore: Tstore, pack: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TSTORE_RECORDS", pack)
        tstore("init")
        tstore("sync")
        assert len(lines(folder, "_types")) == 2

    def test_sync_declares_them(self, tstore: Tstore, pack: str, folder: Path) -> None:
        tstore("init")
        tstore("sync", "--records", pack)
        assert len(lines(folder, "_types")) == 2

    @pytest.mark.parametrize("name", ["no_such_module", "json"])
    def test_a_module_that_does_not_do_is_refused(self, name: str, tstore: Tstore) -> None:
        result = tstore("init", "--records", name)
        assert result.code == 2
        assert name in result.err


class TestCreate:
    """create prints the id, and the record is in the file when it has."""

    def test_a_record_with_an_id_of_its_own(self, tstore: Tstore, folder: Path) -> None:
        result = tstore("create", "issues", "title=Ship it", "priority:=2", "--id", "i-1")
        assert (result.code, result.out, result.err) == (0, "i-1\n", "")
        (line,) = lines(folder)
        assert (line["id"], line["title"], line["priority"]) == ("i-1", "Ship it", 2)
        assert isinstance(line["updated_at"], int)

    def test_without_an_id_it_makes_one(self, tstore: Tstore, folder: Path) -> None:
        result = tstore("create", "issues", "title=x")
        assert result.out.startswith("issue-")
        assert lines(folder)[0]["id"] == result.out.strip()

    def test_an_id_may_be_a_field(self, tstore: Tstore) -> None:
        assert tstore("create", "issues", "id=i-1").out == "i-1\n"
        assert tstore("create", "issues", "id=i-2", "--id", "i-3").code == 2

    def test_as_json_it_prints_the_stored_line(self, tstore: Tstore, folder: Path) -> None:
        result = tstore("create", "issues", "title=x", "--json")
        assert result.out.encode() == journal(folder).read_bytes()

    def test_what_exists_is_a_conflict(self, tstore: Tstore) -> None:
        tstore("create", "issues", "--id", "i-1", "a=b")
        result = tstore("create", "issues", "--id", "i-1", "a=c")
        assert (result.code, result.out) == (5, "")
        assert "exists already" in result.err

    @pytest.mark.parametrize(
        "words",
        [
            ["issues", "a"],
            ["issues", "a:=nope"],
            ["issues", "deleted:=true"],
            ["issues", "updated_at:=5"],
            ["issues", "id:=5"],
            ["Issues", "a=b"],
            ["store", "a=b"],
        ],
    )
    def test_what_cannot_be_stored_is_a_matter_of_usage(self, words: list[str], tstore: Tstore) -> None:
        result = tstore("create", *words)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("tstore: ")


class TestGetAndShow:
    """get prints stored bytes; show prints fields; both take the beginning of an id."""

    LINE = '{"id":"ab-1",  "updated_at":"2026-01-01T00:00:00+01:00","n":1.10,"t":"a\\tb","l":[1],"x":null}'

    @pytest.fixture(autouse=True)
    def _store(self, tstore: Tstore, folder: Path) -> None:
        tstore("init")
        journal(folder).write_text(f'{self.LINE}\n{{"id":"ab-2","updated_at":1}}\n', encoding="utf-8")
        journal(folder, "plans").write_text('{"id":"pl-1","updated_at":1}\n{"id":"ab-2","updated_at":1}\n')

    @pytest.mark.parametrize("words", [[], ["--json"], ["--jsonl"]])
    def test_get_prints_the_bytes_that_are_stored(self, words: list[str], tstore: Tstore) -> None:
        assert tstore("get", "issues", "ab-1", *words).out == self.LINE + "\n"

    def test_the_beginning_of_an_id_is_enough(self, tstore: Tstore) -> None:
        assert tstore("get", "plans", "p").out == '{"id":"pl-1","updated_at":1}\n'

    def test_the_beginning_of_several_is_not(self, tstore: Tstore) -> None:
        result = tstore("get", "issues", "ab")
        assert (result.code, result.out) == (2, "")
        assert "ab-1, ab-2" in result.err

    def test_what_is_not_there_ends_with_3(self, tstore: Tstore) -> None:
        assert tstore("get", "issues", "zz").code == 3
        assert tstore("show", "issues", "zz").code == 3
        assert tstore("show", "zz").code == 3
        assert tstore("get", "nothing", "zz").code == 3

    def test_show_prints_a_field_per_line(self, tstore: Tstore) -> None:
        assert tstore("show", "issues", "ab-1").out.splitlines() == [
            "collection\tissues",
            "id\tab-1",
            "updated_at\t1767222000000",
            "n\t1.1",
            "t\ta\\tb",
            "l\t[1]",
            "x\t",
        ]
        assert tstore("show", "issues", "ab-1", "--json").out == self.LINE + "\n"

    def test_show_looks_in_every_collection(self, tstore: Tstore) -> None:
        assert tstore("show", "pl-1").out.startswith("collection\tplans\n")
        several = tstore("show", "ab-2")
        assert several.code == 2
        assert "issues/ab-2, plans/ab-2" in several.err

    def test_a_whole_id_beats_the_beginning_of_another(self, tstore: Tstore) -> None:
        tstore("create", "plans", "--id", "ab-1-more", "a=b")
        assert tstore("show", "ab-1").out.startswith("collection\tissues\n")


class TestList:
    """list takes filters, an order and a page, and prints what each form is for."""

    @pytest.fixture(autouse=True)
    def _store(self, tstore: Tstore) -> None:
        for number, status in enumerate(("open", "closed", "open", "open")):
            tstore("create", "issues", "--id", f"i-{number}", f"priority:={number}", f"status={status}")

    def ids(self, tstore: Tstore, *words: str) -> list[str]:
        result = tstore("list", "issues", *words)
        assert (result.code, result.err) == (0, "")
        return [line.split("\t")[0] for line in result.out.splitlines()]

    def test_in_a_pipe_a_record_per_line_without_a_header(self, tstore: Tstore) -> None:
        assert self.ids(tstore) == ["i-0", "i-1", "i-2", "i-3"]
        first = tstore("list", "issues").out.splitlines()[0].split("\t")
        assert len(first) == 2
        assert first[1].isdigit()

    def test_declared_fields_are_columns_then(self, tstore: Tstore, pack: str) -> None:
        tstore("create", "plans", "--id", "p", "title=x", "slug=s", "--records", pack)
        row = tstore("list", "plans").out.rstrip("\n").split("\t")
        assert (row[0], row[2:]) == ("p", ["s"])

    def test_fields_can_be_named(self, tstore: Tstore) -> None:
        assert tstore("list", "issues", "--fields", "priority, id,none", "--limit", "1").out == "0\ti-0\t\n"

    def test_filters_must_all_hold(self, tstore: Tstore) -> None:
        assert self.ids(tstore, "-f", "status=open", "-f", "priority>0") == ["i-2", "i-3"]
        assert self.ids(tstore, "--filter", "priority=2") == ["i-2"]

    def test_order_and_page(self, tstore: Tstore) -> None:
        assert self.ids(tstore, "--sort", "-priority", "--limit", "2", "--offset", "1") == ["i-2", "i-1"]
        assert self.ids(tstore, "--sort", "status") == ["i-1", "i-0", "i-2", "i-3"]

    def test_jsonl_are_the_stored_lines(self, tstore: Tstore, folder: Path) -> None:
        assert tstore("--jsonl", "list", "issues").out.encode() == journal(folder).read_bytes()
        assert tstore("list", "issues", "--jsonl") == tstore("--jsonl", "list", "issues")

    def test_json_is_one_list(self, tstore: Tstore, folder: Path) -> None:
        assert json.loads(tstore("list", "issues", "--json").out) == lines(folder)
        assert json.loads(tstore("list", "issues", "--json", "--limit", "0").out) == []

    def test_a_collection_that_is_not_there_is_empty_and_named(self, tstore: Tstore) -> None:
        result = tstore("list", "isues")
        assert (result.code, result.out) == (0, "")
        assert "there are: issues" in result.err

    @pytest.mark.parametrize("words", [["-f", "x"], ["-f", "x:=[1]"], ["--sort", "a b"]])
    def test_what_means_nothing_ends_with_2(self, words: list[str], tstore: Tstore) -> None:
        assert tstore("list", "issues", *words).code == 2


class TestUpdate:
    """update changes the fields that are named, and no other."""

    LINE = (
        '{"id":"a","created_at":"2026-01-01T00:00:00.5+01:00","updated_at":5,"n":12345678901234567890123,'
        '"d":0.1234567890123456789,"s":"x"}'
    )

    @pytest.fixture(autouse=True)
    def _store(self, tstore: Tstore, folder: Path) -> None:
        tstore("init")
        journal(folder).write_text(self.LINE + "\n", encoding="utf-8")

    def test_every_other_field_keeps_its_value(self, tstore: Tstore, folder: Path) -> None:
        result = tstore("update", "issues", "a", "s=y", "new:=[1]")
        assert (result.code, result.out, result.err) == (0, "", "tstore: updated issues/a\n")
        old, new = journal(folder).read_text(encoding="utf-8").splitlines()
        assert old == self.LINE
        stamp = json.loads(new)["updated_at"]
        expected = self.LINE.replace('"updated_at":5', f'"updated_at":{stamp}')
        assert new == expected.replace('"s":"x"}', '"s":"y","new":[1]}')

    def test_as_json_it_prints_the_new_line(self, tstore: Tstore, folder: Path) -> None:
        printed = tstore("update", "issues", "a", "s=y", "--json").out
        assert printed == journal(folder).read_text(encoding="utf-8").splitlines(keepends=True)[1]

    def test_it_may_insist_on_a_version(self, tstore: Tstore, folder: Path) -> None:
        stale = tstore("update", "issues", "a", "s=y", "--if-updated-at", "4")
        assert (stale.code, stale.out) == (5, "")
        assert "read it again" in stale.err
        assert len(lines(folder)) == 1
        assert tstore("update", "issues", "a", "s=y", "--if-updated-at", "5").code == 0

    def test_what_is_not_there_ends_with_3(self, tstore: Tstore) -> None:
        assert tstore("update", "issues", "b", "s=y").code == 3

    def test_the_id_stays(self, tstore: Tstore) -> None:
        assert tstore("update", "issues", "a", "id=b").code == 2


class TestDelete:
    """delete takes several ids, and deletes all of them or none."""

    @pytest.fixture(autouse=True)
    def _store(self, tstore: Tstore) -> None:
        for name in ("a", "b", "c"):
            tstore("create", "issues", "--id", name, "x=y")

    def test_several(self, tstore: Tstore, folder: Path) -> None:
        result = tstore("delete", "issues", "a", "b", "a")
        assert (result.code, result.out) == (0, "")
        assert result.err.splitlines() == ["tstore: deleted issues/a", "tstore: deleted issues/b"]
        assert [line["id"] for line in lines(folder) if line.get("deleted")] == ["a", "b"]

    def test_none_when_one_is_not_there(self, tstore: Tstore) -> None:
        assert tstore("delete", "issues", "a", "zz").code == 3
        assert tstore("get", "issues", "a").code == 0

    def test_as_json(self, tstore: Tstore) -> None:
        assert json.loads(tstore("delete", "issues", "a", "--json").out) == {"collection": "issues", "deleted": ["a"]}


class TestImport:
    """import takes what can be read, names what cannot, and then ends with 1."""

    def test_a_file_names_its_collection_and_makes_the_store(self, tstore: Tstore, folder: Path) -> None:
        (folder / "issues.jsonl").write_text('{"id":"a","updated_at":"2026-01-01T00:00:00Z"}\n{"id":"b"}\n')
        result = tstore("import", "issues.jsonl")
        assert (result.code, result.err) == (0, "")
        assert "taken\t2\n" in result.out
        assert journal(folder).read_text().startswith('{"id":"a","updated_at":"2026-01-01T00:00:00Z"}\n')

    def test_stdin_needs_a_name(self, tstore: Tstore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"id":"a"}\n')))
        assert tstore("import", "-").code == 2
        sys.stdin.seek(0)
        assert json.loads(tstore("import", "-", "-c", "plans", "--json").out)["taken"] == 1

    def test_a_mistyped_collection_makes_no_store(self, tstore: Tstore, folder: Path) -> None:
        (folder / "issues.jsonl").write_text('{"id":"a"}\n')
        assert tstore("create", "Issues", "a=b").code == 2
        assert tstore("import", "issues.jsonl", "-c", "Issues").code == 2
        assert not (folder / ".taskstore").exists()

    def test_a_name_that_is_no_collection_is_refused(self, tstore: Tstore, folder: Path) -> None:
        (folder / "My Issues.json").write_text("{}")
        result = tstore("import", "My Issues.json")
        assert result.code == 2
        assert "--collection" in result.err

    def test_bad_lines_are_named_and_the_rest_is_taken(self, tstore: Tstore, folder: Path) -> None:
        (folder / "issues.jsonl").write_text('{"id":"a"}\n{"id":\n<<<<<<< HEAD\n{"id":"b"}\n')
        result = tstore("import", "issues.jsonl")
        assert result.code == 1
        assert "issues.jsonl:2: " in result.err
        assert "issues.jsonl:3: " in result.err
        assert tstore("list", "issues").out.count("\n") == 2

    def test_many_bad_lines_are_counted(self, tstore: Tstore, folder: Path) -> None:
        (folder / "issues.jsonl").write_text('{"id":"a"}\n' + "x\n" * 30)
        result = tstore("import", "issues.jsonl")
        assert result.err.count("\n") == 21
        assert "10 lines more" in result.err
        again = json.loads(tstore("import", "issues.jsonl", "--json").out)
        assert (again["bad_count"], len(again["bad"])) == (30, 30)

    def test_what_is_stored_otherwise_is_a_conflict_unless_told(self, tstore: Tstore, folder: Path) -> None:
        tstore("create", "issues", "--id", "a", "x=mine")
        (folder / "issues.jsonl").write_text('{"id":"a","updated_at":1,"x":"theirs"}\n{"id":"b","updated_at":1}\n')
        failed = tstore("import", "issues.jsonl")
        assert failed.code == 5
        assert "choose on_conflict" in failed.err
        assert len(lines(folder)) == 1
        for choice, counter, value in (
            ("skip", "skipped", "mine"),
            ("newer", "skipped", "mine"),
            ("replace", "replaced", "theirs"),
        ):
            report = json.loads(tstore("import", "issues.jsonl", "--on-conflict", choice, "--json").out)
            assert report[counter] == 1, choice
            assert json.loads(tstore("get", "issues", "a").out)["x"] == value

    def test_a_file_that_is_not_there(self, tstore: Tstore, folder: Path) -> None:
        result = tstore("import", "issues.jsonl")
        assert (result.code, result.out) == (1, "")
        assert "issues.jsonl: No such file" in result.err
        assert not (folder / ".taskstore").exists()


class TestSync:
    """sync tells what moved in the files, though opening has taken it over already; --check only tells."""

    @pytest.fixture(autouse=True)
    def _store(self, tstore: Tstore, folder: Path) -> None:
        tstore("create", "issues", "--id", "a", "x=y")
        assert tstore("sync", "--check").code == 0
        with journal(folder).open("a", encoding="utf-8") as file:
            file.write('{"id":"b","updated_at":1}\nnonsense\n')

    def test_check_tells_changes_nothing_and_ends_with_6(self, tstore: Tstore, folder: Path) -> None:
        before = journal(folder).read_bytes()
        for _ in range(2):
            report = tstore("sync", "--check", "--json")
            assert report.code == 6
            told = json.loads(report.out)
            assert (told["stale"], told["collections"]["issues"]["taken"]) == (True, 1)
        assert journal(folder).read_bytes() == before

    def test_sync_tells_what_it_took_and_names_bad_lines(self, tstore: Tstore) -> None:
        result = tstore("sync")
        assert (result.code, result.out) == (0, "issues\ttail\t2\t1\t0\t0\t0\t0\t1\n")
        assert "issues.jsonl:3: " in result.err
        assert tstore("sync").out == ""
        assert tstore("sync", "--check").code == 0

    def test_rebuild_reads_everything(self, tstore: Tstore) -> None:
        tstore("sync")
        told = json.loads(tstore("sync", "--rebuild", "--json").out)
        assert told["rebuilt"] is True
        assert told["collections"]["issues"]["lines_read"] == 3

    def test_check_and_rebuild_contradict_each_other(self, tstore: Tstore) -> None:
        assert tstore("sync", "--check", "--rebuild").code == 2

    def test_a_clone_without_an_index_is_stale_until_it_is_synced(self, tstore: Tstore, folder: Path) -> None:
        for file in (folder / ".taskstore").glob("store.db*"):
            file.unlink()
        assert tstore("sync", "--check").code == 6
        assert not (folder / ".taskstore" / "store.db").exists()
        assert tstore("sync").code == 0
        assert tstore("sync", "--check").code == 0


class TestTheWholeStore:
    """flush, check, compact, collections, stats and info."""

    @pytest.fixture(autouse=True)
    def _store(self, tstore: Tstore) -> None:
        tstore("create", "issues", "--id", "a", "x=1")
        tstore("update", "issues", "a", "x=2")

    def test_what_another_process_left_waiting_is_flushed(self, tstore: Tstore, folder: Path) -> None:
        store = Store.open(folder)
        store.create(Document("issues", {"id": "b"}))
        store._engine.abandon()
        assert "b" not in {line["id"] for line in lines(folder)}
        report = json.loads(tstore("flush", "--json").out)
        assert (report["lines"], report["files"]) == (1, 1)
        assert "b" in {line["id"] for line in lines(folder)}
        assert tstore("flush").out == "lines\t0\nbytes\t0\nfiles\t0\n"

    def test_check_is_quiet_about_what_is_well(self, tstore: Tstore) -> None:
        result = tstore("check")
        assert (result.code, result.out) == (0, "")
        assert "1 record in 1 collection: all is well" in result.err

    def test_check_ends_with_6_when_something_is_wrong(self, tstore: Tstore, folder: Path) -> None:
        with journal(folder).open("a") as file:
            file.write("nonsense\n")
        result = tstore("check")
        assert result.code == 6
        assert result.out.startswith("error\tbad-line\tissues.jsonl:3: ")
        report = tstore("check", "--json")
        assert report.code == 6
        assert json.loads(report.out)["ok"] is False

    def test_compact_leaves_the_latest_lines(self, tstore: Tstore, folder: Path) -> None:
        tstore("create", "plans", "a=b")
        report = json.loads(tstore("compact", "issues", "--json").out)["collections"]
        assert list(report) == ["issues"]
        assert (report["issues"]["lines_before"], report["issues"]["lines_after"]) == (2, 1)
        assert len(lines(folder)) == 1
        assert tstore("compact").out.startswith("issues\t1\t1\t")

    def test_compact_leaves_a_choice_to_a_person(self, tstore: Tstore, folder: Path) -> None:
        versions = b'<<<<<<< a\n{"id":"b","n":1,"updated_at":5}\n=======\n{"id":"b","n":2,"updated_at":5}\n>>>>>>> b\n'
        with (folder / ".taskstore" / "issues.jsonl").open("ab") as file:
            file.write(versions)
        result = tstore("compact", "issues")
        assert (result.code, result.out) == (5, "")
        assert "equal stamps between conflict markers (b)" in result.err
        result = tstore("compact")
        assert (result.code, result.out) == (0, "")
        assert "issues was left alone; there is a choice to make: tstore conflicts" in result.err
        assert (folder / ".taskstore" / "issues.jsonl").read_bytes().endswith(versions)
        assert tstore("resolve", "b", "--take", "first").code == 0
        assert tstore("compact").out.startswith("issues\t")

    def test_collections(self, tstore: Tstore) -> None:
        assert tstore("collections").out.startswith("issues\t1\t0\t")
        (told,) = json.loads(tstore("collections", "--json").out)
        assert (told["name"], told["records"], told["lines"], told["pending"]) == ("issues", 1, 2, 0)
        assert json.loads(tstore("collections", "--jsonl").out) == told

    def test_stats_have_both_keys_from_the_start(self, tstore: Tstore) -> None:
        told = json.loads(tstore("stats", "--json").out)
        assert list(told) == ["store", "runs"]
        assert told["runs"] is None
        assert told["store"]["collections"] == {"issues": 1}
        assert "records\t1\n" in tstore("stats").out

    def test_info_tells_where_and_why(self, tstore: Tstore, folder: Path) -> None:
        told = json.loads(tstore("info", "--json").out)
        assert told["path"] == str(folder / ".taskstore")
        assert told["found"] == "in the working directory"
        assert isinstance(told["collections"][0]["last_sync_ms"], int)
        assert "found\tin the working directory\n" in tstore("info").out


class TestWriting:
    """A command that wrote ends with an empty outbox."""

    def test_nothing_waits_after_any_write(self, tstore: Tstore, folder: Path) -> None:
        (folder / "plans.jsonl").write_text('{"id":"p"}\n')
        for words in (
            ["create", "issues", "--id", "a", "x=1"],
            ["update", "issues", "a", "x=2"],
            ["import", "plans.jsonl"],
            ["delete", "issues", "a"],
        ):
            assert tstore(*words).code == 0
            with Store.open(folder) as store:
                assert store.stats().pending == 0, words


class TestLocked:
    """A store that another process holds for too long ends a command with 7."""

    def test_locked(self, tstore: Tstore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tstore("init")
        monkeypatch.setattr(opening, "DEADLINE_S", 0.05)
        other = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", other, str(folder / ".taskstore" / "store.lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            result = tstore("create", "issues", "a=b")
            holder.communicate(b"\n")
        assert (result.code, result.out) == (7, "")
        assert "try again" in result.err
