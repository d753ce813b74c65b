"""Records come in, go out, and come back as they were."""

from __future__ import annotations

import csv
import io
import json
import lzma
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]

CSV = 'key,title,prio,zip,created\na-1,"Ship, it",1,007,2026-01-01T00:00:00Z\na-2,-x,2,010,\n'


def journal(folder: Path, name: str) -> list[bytes]:
    return (folder / ".taskstore" / f"{name}.jsonl").read_bytes().splitlines()


class TestImport:
    """Files of other programs become records, and nothing happens that was not shown."""

    def test_a_sheet_is_shown_before_it_is_believed(self, tstore: Tstore, folder: Path) -> None:
        (folder / "issues.csv").write_text(CSV)
        words = ["import", "issues.csv", "--id-field", "key", "--map", "created=created_at"]
        dry = tstore(*words, "--dry-run")
        assert (dry.code, "column prio\tinteger\n" in dry.out, "column zip\ttext\n" in dry.out) == (0, True, True)
        assert "nothing was written" in dry.err
        assert not (folder / ".taskstore").exists()
        report = json.loads(tstore(*words, "--json").out)
        assert (report["taken"], report["format"], report["columns"]["prio"]) == (2, "csv", "integer")
        assert journal(folder, "issues") == [
            b'{"id":"a-1","title":"Ship, it","prio":1,"zip":"007","created_at":"2026-01-01T00:00:00Z"}',
            b'{"id":"a-2","title":"-x","prio":2,"zip":"010"}',
        ]

    @pytest.mark.parametrize("word", ["n", "n=", "=n", "n=\udcff"])
    def test_a_field_gets_a_name_that_json_has(self, word: str, tstore: Tstore, folder: Path) -> None:
        (folder / "issues.csv").write_text("id,n\na,1\n")
        refused = tstore("import", "issues.csv", "--map", word)
        assert (refused.code, f"{word!r} maps no field; write theirs=ours" in refused.err) == (2, True)

    def test_no_types(self, tstore: Tstore, folder: Path) -> None:
        (folder / "issues.csv").write_text("id,n\na,1\n")
        tstore("import", "issues.csv", "--no-types")
        assert journal(folder, "issues") == [b'{"id":"a","n":"1"}']

    def test_a_dry_run_changes_no_store_that_is_there(self, tstore: Tstore, folder: Path) -> None:
        tstore("create", "issues", "--id", "a", "x=1")
        (folder / "issues.jsonl").write_text('{"id":"a","x":"2"}\n{"id":"b"}\n')
        before = journal(folder, "issues")
        result = tstore("import", "issues.jsonl", "--on-conflict", "replace", "--dry-run")
        assert ("taken\t1\n" in result.out, "replaced\t1\n" in result.out) == (True, True)
        assert "would replace a\n" in result.err
        assert tstore("import", "issues.jsonl", "--dry-run").code == 5
        assert journal(folder, "issues") == before
        assert tstore("list", "issues", "--fields", "id").out == "a\n"

    def test_taskwarrior_and_beads_have_a_place_of_their_own(
        self, tstore: Tstore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task = b'[{"uuid":"u","id":1,"description":"Buy","entry":"20240101T120000Z"}]'
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(task)))
        assert tstore("import", "-").code == 0
        assert tstore("list", "tasks", "--fields", "id,title,updated_at").out == "u\tBuy\t1704110400000\n"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"id":"bd-1","updated_at":5}\n')))
        assert tstore("import", "-", "--format", "beads").code == 0
        assert tstore("get", "issues", "bd-1").out == '{"id":"bd-1","updated_at":5}\n'

    def test_a_list_and_a_document(self, tstore: Tstore, folder: Path) -> None:
        (folder / "plans.json").write_text('[\n {"id": "p"},\n 7\n]')
        result = tstore("import", "plans.json")
        assert result.code == 1
        assert "plans.json:2: " in result.err
        (folder / "all.json").write_text('{"plans":[{"id":"q"}],"notes":[{"id":"n"}]}')
        report = json.loads(tstore("import", "all.json", "--json").out)
        assert {name: one["taken"] for name, one in report["collections"].items()} == {"plans": 1, "notes": 1}
        assert tstore("import", "all.json", "-c", "x").code == 2

    @pytest.mark.parametrize(
        ("words", "hint"),
        [
            (["import", "x.csv"], "--id-field a"),
            (["import", "x.csv", "--map", "a"], "theirs=ours"),
            (["import", "x.csv", "--format", "json"], "--format jsonl"),
            (["import", "absent.csv"], "see that the path is right"),
        ],
    )
    def test_what_cannot_be_taken_is_refused_with_what_helps(
        self, words: list[str], hint: str, tstore: Tstore, folder: Path
    ) -> None:
        (folder / "x.csv").write_text("a,b\n1,2\n")
        result = tstore(*words)
        assert (result.code in {1, 2}, result.out) == (True, "")
        assert hint in result.err
        assert not (folder / ".taskstore").exists()


class TestSeveralFiles:
    """Several files are one import: each is reported, and a failure in one leaves the store as it was."""

    @pytest.fixture(autouse=True)
    def _files(self, folder: Path) -> None:
        (folder / "plans.jsonl").write_text('{"id":"p","v":1}\n')
        (folder / "issues.csv").write_text("id,n\na,1\nb,2\n")

    def test_each_has_its_report(self, tstore: Tstore, folder: Path) -> None:
        words = ["import", "plans.jsonl", "issues.csv"]
        dry = tstore(*words, "--dry-run")
        assert (dry.code, (folder / ".taskstore").exists()) == (0, False)
        facts = [row.split("\t") for row in dry.out.splitlines()]
        assert [row for row in facts if row[0] in {"file", "collection", "taken", "column n"}] == [
            *(["file", "plans.jsonl"], ["collection", "plans"], ["taken", "1"]),
            *(["file", "issues.csv"], ["collection", "issues"], ["taken", "2"], ["column n", "integer"]),
        ]
        done = tstore(*words)
        assert done.out.splitlines() == [row for row in dry.out.splitlines() if not row.startswith("column")]
        assert (journal(folder, "plans"), len(journal(folder, "issues"))) == ([b'{"id":"p","v":1}'], 2)

    def test_programs_get_one_document(self, tstore: Tstore) -> None:
        report = json.loads(tstore("import", "plans.jsonl", "issues.csv", "--json").out)
        assert [(one["file"], one["format"], one["taken"]) for one in report["files"]] == [
            ("plans.jsonl", "jsonl", 1),
            ("issues.csv", "csv", 2),
        ]
        assert (report["lines"], report["taken"], report["dry_run"]) == (3, 3, False)
        assert report["files"][1]["collections"]["issues"]["taken"] == 2

    def test_what_is_told_of_one_names_no_file(self, tstore: Tstore) -> None:
        assert tstore("import", "plans.jsonl", "--dry-run").out.startswith("collection\tplans\nlines\t1\n")
        assert "files" not in json.loads(tstore("import", "plans.jsonl", "--json").out)

    def test_stdin_is_one_of_them(self, tstore: Tstore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"id":"q"}\n')))
        assert tstore("import", "plans.jsonl", "-", "-c", "plans").code == 0
        assert tstore("list", "plans", "--fields", "id").out == "p\nq\n"
        twice = tstore("import", "-", "plans.jsonl", "-")
        assert (twice.code, "read once" in twice.err) == (2, True)

    @pytest.mark.parametrize("order", [["old.jsonl", "new.jsonl"], ["new.jsonl", "old.jsonl"]])
    def test_of_an_id_in_several_the_newer_is_taken(self, order: list[str], tstore: Tstore, folder: Path) -> None:
        (folder / "old.jsonl").write_text('{"id":"p","v":1,"updated_at":1}\n{"id":"q","updated_at":1}\n')
        (folder / "new.jsonl").write_text('{"id":"p","v":2,"updated_at":2}\n')
        report = json.loads(tstore("import", *order, "-c", "plans", "--json").out)
        counts = {one["file"]: (one["lines"], one["taken"], one["superseded"]) for one in report["files"]}
        assert counts == {"old.jsonl": (2, 1, 1), "new.jsonl": (1, 1, 0)}
        assert json.loads(tstore("get", "plans", "p").out) == {"id": "p", "v": 2, "updated_at": 2}
        assert b'"v":1' not in b"".join(journal(folder, "plans"))

    @pytest.mark.parametrize(("names", "value"), [(["a.jsonl", "b.jsonl"], "b"), (["b.jsonl", "a.jsonl"], "a")])
    def test_without_stamps_it_is_the_last(self, names: list[str], value: str, tstore: Tstore, folder: Path) -> None:
        for name in names:
            (folder / name).write_text(f'{{"id":"p","v":"{name[0]}"}}\n')
        tstore("import", *names, "-c", "plans")
        assert json.loads(tstore("get", "plans", "p").out)["v"] == value

    def test_one_without_a_stamp_counts_as_if_it_stood_below(self, tstore: Tstore, folder: Path) -> None:
        (folder / "a.jsonl").write_text('{"id":"p","v":"a","updated_at":5}\n')
        (folder / "b.jsonl").write_text('{"id":"p","v":"b"}\n')
        tstore("import", "a.jsonl", "b.jsonl", "-c", "plans")
        (folder / "ab.jsonl").write_text((folder / "a.jsonl").read_text() + (folder / "b.jsonl").read_text())
        tstore("--store", "one", "import", "ab.jsonl", "-c", "plans")
        assert journal(folder, "plans") == journal(folder / "one", "plans")
        assert json.loads(tstore("get", "plans", "p").out)["v"] == "b"

    @pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
    def test_a_conflict_in_one_says_which_and_stops_all(self, dry_run: list[str], tstore: Tstore, folder: Path) -> None:
        tstore("create", "plans", "--id", "p", "v:=2")
        before = journal(folder, "plans")
        result = tstore("import", "issues.csv", "plans.jsonl", *dry_run)
        assert (result.code, result.out) == (5, "")
        assert "plans.jsonl: 1 of the records to import are in plans already" in result.err
        assert journal(folder, "plans") == before
        assert not (folder / ".taskstore" / "issues.jsonl").exists()
        assert tstore("import", "issues.csv", "plans.jsonl", "--on-conflict", "skip", *dry_run).code == 0

    def test_one_that_cannot_be_read_stops_all(self, tstore: Tstore, folder: Path) -> None:
        for bad in ("absent.jsonl", "x.csv"):
            (folder / "x.csv").write_text("a,b\n1,2\n")
            result = tstore("import", "plans.jsonl", bad)
            assert (result.code in {1, 2}, result.out, bad in result.err) == (True, "", True)
        assert not (folder / ".taskstore").exists()

    def test_records_name_those_of_another_file_and_bad_lines_their_own(self, tstore: Tstore, folder: Path) -> None:
        (folder / "prds.jsonl").write_text('{"id":"prd-1","title":"One"}\n')
        specs = [f'{{"id":"ts-{number}","prd_id":"prd-{number}","phase_name":"x"}}\n' for number in (1, 2)]
        (folder / "task_specs.jsonl").write_text("".join(specs))
        words = ["import", "task_specs.jsonl", "prds.jsonl"]

        def run(place: str, *words: str) -> Result:
            return tstore("--store", place, "--records", "taskstore_async.records.tasks", *words)

        assert "prd-1" in run("alone", *words[:2]).err
        dry, both = run("both", *words, "--dry-run"), run("both", *words)
        assert (both.code, both.out) == (dry.code, dry.out) == (1, dry.out)
        assert "task_specs.jsonl:2: " in both.err
        assert "prd-1" not in both.err
        assert "prds.jsonl" not in both.err
        assert run("both", "list", "task_specs", "--fields", "id").out == "ts-1\n"
        (folder / "more.jsonl").write_text('{"id":"ts-3","prd_id":"prd-3","phase_name":"x"}\n')
        report = json.loads(run("both", "import", words[1], "more.jsonl", "-c", "task_specs", "--json").out)
        assert [[bad["file"] for bad in one["bad"]] for one in report["files"]] == [[words[1]], ["more.jsonl"]]


class TestExport:
    """What goes out has the stored bytes, and comes back as it was."""

    @pytest.fixture(autouse=True)
    def _records(self, folder: Path, tstore: Tstore) -> None:
        (folder / "issues.jsonl").write_bytes(b'{"id":"a","x":1.10,"t":"=1+1"}\n{"id":"b","x":null,"l":[1]}\n')
        assert tstore("import", "issues.jsonl").code == 0

    def test_forms(self, tstore: Tstore, folder: Path) -> None:
        raw = (folder / "issues.jsonl").read_text()
        first, second = raw.splitlines()
        assert tstore("export").out == tstore("export", "issues", "--jsonl").out == raw
        assert tstore("export", "--json").out == tstore("export", "--format", "json").out == f"[{first},\n{second}]\n"
        assert tstore("export", "--format", "csv").out == "id,x,t,l\na,1.10,'=1+1,\nb,,,[1]\n"
        assert tstore("export", "issues", "-o", "-", "-f", "x=1.1").out == first + "\n"
        assert tstore("export", "issues", "--sort", "-id").out == f"{second}\n{first}\n"

    def test_to_files(self, tstore: Tstore, folder: Path) -> None:
        tstore("create", "notes", "--id", "n", "x=y")
        ambiguous = tstore("export")
        assert ambiguous.code == 2
        assert "-o DIRECTORY/" in ambiguous.err
        assert tstore("export", "-o", "out/").code == 0
        assert (folder / "out" / "issues.jsonl").read_bytes() == (folder / "issues.jsonl").read_bytes()
        assert (folder / "out" / "notes.jsonl").exists()
        assert tstore("export", "issues", "-o", "i.csv").err == "tstore: wrote i.csv, 31 B\n"
        assert (folder / "i.csv").read_text().startswith("id,x,t,l\n")
        report = json.loads(tstore("export", "--json", "-o", "all.json").out)
        assert report == {"path": "all.json", "bytes": (folder / "all.json").stat().st_size}
        assert (folder / "all.json").read_text() == tstore("export-json").out

    def test_never_over_a_journal(self, tstore: Tstore) -> None:
        result = tstore("export", "issues", "-o", ".taskstore/other.jsonl")
        assert (result.code, "name another place" in result.err) == (1, True)

    def test_an_unknown_collection_is_named(self, tstore: Tstore) -> None:
        assert "there is no collection issue; there are: issues" in tstore("export", "issue").err

    def test_a_document_comes_back_unchanged(self, tstore: Tstore, folder: Path) -> None:
        tstore("create", "notes", "--id", "n", "x=y")
        document = tstore("export-json").out
        (folder / "all.json").write_text(document)
        assert tstore("--store", "two", "import", "all.json").code == 0
        assert tstore("--store", "two", "export-json").out == document


class TestBackup:
    """A backup is looked into, and brought back, with the same program."""

    def test_there_and_back(self, tstore: Tstore, folder: Path) -> None:
        tstore("create", "issues", "--id", "a", "x=1")
        before = journal(folder, "issues")
        dry = tstore("backup", "b", "--dry-run")
        assert ("would copy" in dry.err, (folder / "b").exists()) == (True, False)
        made = tstore("backup", "b")
        assert made.out == dry.out == ".gitattributes\n.gitignore\n.version\nissues.jsonl\n"
        assert tstore("--store", "b", "get", "issues", "a").out == before[0].decode() + "\n"
        tstore("update", "issues", "a", "x=2")
        refused = tstore("restore", "b")
        assert (refused.code, "--replace" in refused.err) == (1, True)
        assert "replaced\tissues.jsonl\t" in tstore("restore", "b", "--dry-run").out
        assert len(journal(folder, "issues")) == 2
        done = tstore("restore", "b", "--replace")
        assert (done.code, journal(folder, "issues")) == (0, before)
        undo = done.err.rpartition("undo with: tstore ")[2].split()
        assert tstore(*undo).code == 0
        assert len(journal(folder, "issues")) == 2

    def test_a_restore_makes_the_store(self, tstore: Tstore, folder: Path) -> None:
        tstore("create", "issues", "--id", "a", "x=1")
        tstore("backup", "b")
        report = json.loads(tstore("--store", "two", "restore", "b", "--dry-run", "--json").out)
        assert (report["dry_run"], (folder / "two").exists()) == (True, False)
        assert tstore("--store", "two", "restore", "b").code == 0
        assert tstore("--store", "two", "list", "issues").out == tstore("list", "issues").out
        absent = tstore("--store", "three", "restore", "nothing")
        assert (absent.code, (folder / "three").exists()) == (4, False)

    def test_it_takes_the_place_of_nothing(self, tstore: Tstore, folder: Path) -> None:
        tstore("create", "issues", "--id", "a", "x=1")
        (folder / "b").mkdir()
        (folder / "b" / "mine").write_text("x")
        result = tstore("backup", "b")
        assert (result.code, "name a directory that is not" in result.err) == (1, True)


class TestDryRun:
    """What deletes and rewrites tells first, when it is asked to."""

    def test_delete(self, tstore: Tstore, folder: Path) -> None:
        (folder / "pack.py").write_text(
            "from typing import Annotated, ClassVar\n"
            "from taskstore_async import Record, References\n"
            "class Plan(Record):\n"
            "    collection: ClassVar[str] = 'plans'\n"
            "    parent_id: Annotated[str | None, References('plans', on_delete='cascade')] = None\n"
        )
        tstore("--records", "pack", "create", "plans", "--id", "p", "x=1")
        tstore("create", "plans", "--id", "c", "parent_id=p")
        assert tstore("delete", "plans", "p", "--dry-run").out == "deleted\tplans/p\ndeleted\tplans/c\n"
        assert json.loads(tstore("delete", "plans", "c", "--dry-run", "--json").out) == [
            {"collection": "plans", "id": "c", "kind": "deleted"}
        ]
        assert tstore("delete", "plans", "absent", "--dry-run").code == 3
        assert len(tstore("list", "plans").out.splitlines()) == 2

    def test_compact(self, tstore: Tstore, folder: Path) -> None:
        tstore("create", "issues", "--id", "a", "x=1")
        tstore("update", "issues", "a", "x=2")
        dry = tstore("compact", "--dry-run")
        assert dry.out.startswith("issues\t2\t1\t")
        assert len(journal(folder, "issues")) == 2
        assert tstore("compact").out == dry.out
        assert len(journal(folder, "issues")) == 1


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class TestRealData:
    """Public data goes round: what a form can hold comes back byte for byte."""

    @pytest.fixture(params=["beads_max_live", "beads_v0.36.0_issues", "relay_last", "frankenredis_max"])
    def real(self, request: pytest.FixtureRequest, folder: Path, shared_data: Path) -> Path:
        with lzma.open(shared_data / f"{request.param}.jsonl.xz") as packed:
            (folder / "issues.jsonl").write_bytes(packed.read())
        return folder

    def test_round_trips(self, real: Path, tstore: Tstore) -> None:
        raw = sorted((real / "issues.jsonl").read_text(encoding="utf-8").splitlines())
        assert tstore("import", "issues.jsonl").code == 0
        for form in ("jsonl", "json", "csv"):
            assert tstore("export", "issues", "-o", f"out.{form}").code == 0
        assert tstore("export-json", "-o", "all.json").code == 0
        assert sorted((real / "out.jsonl").read_text(encoding="utf-8").splitlines()) == raw
        for file, words in {"out.jsonl": ["-c", "issues"], "out.json": ["-c", "issues"], "all.json": []}.items():
            target = f"from-{file}"
            assert tstore("--store", target, "import", file, *words).code == 0
            again = (real / target / ".taskstore" / "issues.jsonl").read_bytes()
            assert again == (real / "out.jsonl").read_bytes()
        # CSV has no empty text and no null, and says of a number what it is only by its column.
        assert tstore("--store", "from-csv", "import", "out.csv", "-c", "issues", "--on-conflict", "fail").code == 0
        assert tstore("--store", "from-csv", "export", "issues", "--format", "csv").out.splitlines() == (
            (real / "out.csv").read_text(encoding="utf-8").splitlines()
        )
        cells = [
            cell for row in csv.reader(io.StringIO((real / "out.csv").read_text(encoding="utf-8"))) for cell in row
        ]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@")) and not is_number(cell)]
        assert tstore("backup", "copy").code == 0
        assert (real / "copy" / "issues.jsonl").read_bytes() == (real / ".taskstore" / "issues.jsonl").read_bytes()
