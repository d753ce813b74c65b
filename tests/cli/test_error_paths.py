"""What stands in the way of a command is told, with what helps; and that helps when it is done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from taskstore_async.cli import opening
from taskstore_async.storage.directory import Directory

from .test_schemas import CALLS, furnished, records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]

__all__ = ["furnished", "records"]  # fixtures

NEEDS_NO_STORE = {"bench", "create", "create-prd", "create-task-spec", "demo", "import", "init", "merge"}
NEEDS_A_SOURCE = {"diff", "restore"}
WRITES = {
    "clean": ["--keep-days", "0"],
    "compact": [],
    "create": ["issues", "x=1"],
    "create-prd": ["Another"],
    "create-task-spec": ["prd-1", "Two"],
    "delete": ["issues", "a"],
    "import": ["all.json"],
    "restore": ["copy", "--replace"],
    "update": ["issues", "a", "x=2"],
}
READS = {
    "collections": [],
    "describe": ["a"],
    "export": ["issues"],
    "export-json": [],
    "get": ["issues", "a"],
    "graph": [],
    "history": [],
    "indexes": ["prds"],
    "info": [],
    "list": ["issues"],
    "list-prds": [],
    "log": ["issues", "a"],
    "query": ["SELECT id FROM issues"],
    "show": ["a"],
    "stats": [],
}


class TestNoStore:
    """Without a store a command ends with 4, names what makes one, and makes none itself."""

    @pytest.mark.parametrize("name", sorted(CALLS.keys() - NEEDS_NO_STORE))
    def test_no_store(self, name: str, tstore: Tstore, folder: Path) -> None:
        for words in CALLS[name]:
            result = tstore(name, *words)
            assert (result.code, result.out) == (4, "")
            assert "no store at" in result.err
            assert name in NEEDS_A_SOURCE or "make one with: tstore init" in result.err
        assert not (folder / ".taskstore").exists()

    def test_the_hint_helps(self, tstore: Tstore) -> None:
        hint = tstore("list", "issues").err.rpartition("make one with: ")[2].split()
        assert hint[0] == "tstore"
        assert tstore(*hint[1:]).code == 0
        assert tstore("list", "issues").code == 0


@pytest.mark.usefixtures("records")
class TestUnknownCollection:
    """A collection that is not there is an empty one; whoever mistyped its name is told what there is."""

    @pytest.mark.parametrize(
        "words",
        [
            ["list", "issue"],
            ["export", "issue"],
            ["get", "issue", "a"],
            ["update", "issue", "a", "x=1"],
            ["delete", "issue", "a"],
            ["compact", "issue"],
        ],
    )
    def test_the_names_are_told(self, words: list[str], tstore: Tstore) -> None:
        result = tstore(*words)
        assert (result.code in {0, 3}, result.out) == (True, "")
        assert "there is no collection issue; there are: issues, " in result.err

    @pytest.mark.parametrize(
        "words",
        [
            ["-f", "stauts=open"],
            ["-f", "stauts!=open"],
            ["--sort", "-stauts"],
            ["--fields", "id,stauts"],
        ],
    )
    def test_a_field_that_no_record_has_is_told(self, words: list[str], tstore: Tstore) -> None:
        tstore("create", "issues", "title=x", "status=open")
        result = tstore("list", "issues", *words)
        assert (result.code, result.err.count("\n")) == (0, 1)
        assert "no record of issues has a field stauts; did you mean status?" in result.err

    def test_a_field_that_some_record_has_is_not_told(self, tstore: Tstore) -> None:
        for number in range(60):
            tstore("create", "rare", "--id", f"r-{number:02}", "title=x")
        tstore("update", "rare", "r-59", "note=y")
        assert tstore("list", "rare", "-f", "note=z", "--sort", "created_at", "--fields", "id,note").err == ""

    def test_an_empty_collection_lacks_no_field(self, tstore: Tstore) -> None:
        tstore("create", "empty", "--id", "a", "title=x")
        tstore("delete", "empty", "a")
        assert tstore("list", "empty", "-f", "stauts=open").err == ""

    @pytest.mark.parametrize(
        ("words", "code", "hint"),
        [
            (["indexes", "issue"], 0, "tstore collections"),
            (["query", "SELECT * FROM issue"], 2, "did you mean issues?"),
            (["log", "issue", "a"], 3, "list the collection"),
            (["list-type", "nothing"], 3, ""),
        ],
    )
    def test_so_is_what_helps(self, words: list[str], code: int, hint: str, tstore: Tstore) -> None:
        result = tstore(*words)
        assert (result.code, result.out) == (code, "") or code == 3
        assert hint in result.err
        assert result.err.startswith("tstore: ")

    def test_a_name_that_cannot_be_one_is_refused(self, tstore: Tstore) -> None:
        for words in (["create", "Is sues", "x=1"], ["import", "all.json", "-c", "../x"], ["list", "../x"]):
            result = tstore(*words)
            assert result.code in {0, 2}, result
            assert result.err


@pytest.mark.usefixtures("records")
class TestWrongFilter:
    """A condition that means nothing ends with 2, and shows one that does."""

    @pytest.mark.parametrize("name", ["list", "export"])
    @pytest.mark.parametrize("condition", ["nonsense", "a b=1", "=1", "status:=open", "x>=[1]"])
    def test_wrong_filter(self, name: str, condition: str, tstore: Tstore) -> None:
        result = tstore(name, "issues", "-f", condition)
        if condition == "x>=[1]":  # text, as it stands there
            assert result.code == 0
            return
        assert (result.code, result.out) == (2, "")
        assert "-f status=open" in result.err or "name=text" in result.err or "quote" in result.err

    def test_the_example_helps(self, tstore: Tstore) -> None:
        example = re.search(r"-f \S+", tstore("list", "issues", "-f", "nonsense").err)
        assert example is not None
        assert tstore("list", "issues", *example[0].split()).code == 0


@pytest.mark.usefixtures("records")
class TestLocked:
    """While another process holds the store, writing ends with 7 and names it, and reading goes on."""

    @pytest.fixture
    def holder(self, folder: Path, tstore: Tstore, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
        tstore("list", "issues")  # so that nothing is left to do at opening
        monkeypatch.setattr(opening, "DEADLINE_S", 0.2)
        code = (
            "import sys; from taskstore_async.storage.lock import StoreLock; from pathlib import Path\n"
            "with StoreLock.of(Path(sys.argv[1])).hold():\n"
            "    print('held', flush=True)\n"
            "    sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(folder / ".taskstore")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process.pid
            process.communicate("")

    @pytest.mark.parametrize("name", WRITES)
    def test_writing(self, name: str, holder: int, tstore: Tstore) -> None:
        result = tstore(name, *WRITES[name])
        assert (result.code, result.out) == (7, "")
        assert str(holder) in result.err
        assert "try again" in result.err

    def test_reading(self, holder: int, tstore: Tstore) -> None:
        assert holder
        for name, words in READS.items():
            assert tstore(name, *words).code == 0, name


@pytest.mark.usefixtures("records")
class TestReadOnly:
    """In a directory that cannot be written everything can be read, and a write says what is missing."""

    @pytest.fixture(autouse=True)
    def _read_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Directory, "writable", property(lambda _: False))  # root may write anywhere

    @pytest.mark.parametrize("name", WRITES)
    def test_writing(self, name: str, tstore: Tstore) -> None:
        result = tstore(name, *WRITES[name])
        assert (result.code, result.out) == (1, "")
        assert "give this user write permission, or copy the store" in result.err

    @pytest.mark.parametrize("name", READS)
    def test_reading(self, name: str, tstore: Tstore) -> None:
        result = tstore(name, *READS[name])
        assert result.code == 0
        assert "memory" in result.err

    def test_the_hint_helps(self, tstore: Tstore, monkeypatch: pytest.MonkeyPatch) -> None:
        assert tstore("backup", "mine").code == 0
        monkeypatch.setattr(Directory, "writable", property(lambda _: True))
        assert tstore("--store", "mine", "update", "issues", "a", "x=2").code == 0


@pytest.mark.usefixtures("records")
class TestBrokenJournal:
    """A journal that nobody can read closes its collection to writing, and takes nothing away."""

    @pytest.fixture(autouse=True)
    def _broken(self, records: Path, tstore: Tstore) -> None:
        tstore("list", "issues")
        (records / ".taskstore" / "issues.jsonl").write_text("garbage\nmore of it\n")

    @pytest.mark.parametrize(
        "words",
        [
            ["create", "issues", "x=1"],
            ["update", "issues", "a", "x=2"],
            ["delete", "issues", "a"],
            ["delete", "issues", "a", "--dry-run"],
            ["compact", "issues"],
            ["import", "ours.jsonl", "-c", "issues"],
        ],
    )
    def test_writing(self, words: list[str], tstore: Tstore) -> None:
        result = tstore(*words)
        assert (result.code, result.out) == (1, "")
        assert "save that (tstore export issues -o saved.jsonl), move the file away or restore" in result.err

    @pytest.mark.parametrize("name", READS)
    def test_reading(self, name: str, tstore: Tstore) -> None:
        assert tstore(name, *READS[name]).code == 0

    def test_checks_say_so(self, tstore: Tstore) -> None:
        for name in ("check", "doctor"):
            result = tstore(name)
            assert result.code == 6
            assert "issues.jsonl" in result.out

    def test_the_hint_helps(self, tstore: Tstore, folder: Path) -> None:
        told = tstore("create", "issues", "x=1").err
        export, take = re.findall(r"tstore ((?:export|import) [^);\n]*)", told)
        assert tstore(*export.split()).code == 0
        (folder / ".taskstore" / "issues.jsonl").rename(folder / "broken.jsonl")
        assert tstore(*take.split()).code == 0
        assert json.loads(tstore("get", "issues", "a").out)["title"] == "z"
        assert tstore("create", "issues", "x=1").code == 0
        assert tstore("check").code == 0

    def test_the_hint_helps_with_the_declarations_too(self, tstore: Tstore, folder: Path) -> None:
        journal = folder / ".taskstore" / "_types.jsonl"
        journal.write_text('{"id":"issues","updated_at":5,"fields":{"title":{"unique":true}}}\n')
        before = tstore("indexes", "issues").out
        journal.write_text("garbage\n")
        told = tstore("init", "--records", "taskstore_async.records.tasks").err
        export, move = re.findall(r"((?:tstore export|mv) [^);\n]*)", told)
        assert tstore(*export.split()[1:]).code == 0
        journal.unlink()
        _, source, target = move.split()
        (folder / source).rename(target)
        assert "title" in before
        assert tstore("indexes", "issues").out == before
        assert tstore("init", "--records", "taskstore_async.records.tasks").code == 0

    @pytest.mark.parametrize("back", [b"", b'{"id":"a","title":"committed","updated_at":1}\n'], ids=["gone", "older"])
    @pytest.mark.parametrize("directory", [False, True])
    def test_what_doctor_advises_keeps_what_git_does_not_have(
        self, tstore: Tstore, folder: Path, *, back: bytes, directory: bool
    ) -> None:
        journal = folder / ".taskstore" / "issues.jsonl"
        if directory:
            journal.rename(folder / "broken.jsonl")
            journal.mkdir()
        before = tstore("list", "issues", "--json").out
        told = tstore("doctor").out
        assert f"git checkout -- {journal}" in told
        assert told.index("tstore export") < told.index("git checkout") < told.index("tstore import")
        export, take = re.findall(r"tstore ((?:export|import) [^);\t\n]*)", told)
        assert tstore(*export.split()).code == 0
        journal.rename(folder / "moved")
        journal.write_bytes(back)
        assert tstore(*take.split()).code == 0
        assert tstore("list", "issues", "--json").out == before
        assert tstore("check").code == 0

    def test_a_backup_has_what_only_the_index_has(self, tstore: Tstore, folder: Path) -> None:
        result = tstore("backup", "mine")
        assert "quarantine/issues-kept.jsonl, to be imported" in result.err
        assert json.loads((folder / "mine" / "quarantine" / "issues-kept.jsonl").read_bytes())["title"] == "z"
        assert (folder / "mine" / "issues.jsonl").read_text() == "garbage\nmore of it\n"


class TestInterrupted:
    """Ctrl-C leaves a whole store, and says nothing."""

    def test_in_the_middle_of_an_import(self, tstore: Tstore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from taskstore_async.storage import importing  # noqa: PLC0415 - reason: only here

        (folder / "issues.jsonl").write_text("".join(f'{{"id":"{number}","updated_at":5}}\n' for number in range(9)))
        written = importing._write

        def interrupted(*words: object, progress: object, **more: object) -> object:
            del progress

            def stop(done: int, _: int) -> None:
                if done >= 4:
                    raise KeyboardInterrupt

            return written(*words, progress=stop, **more)  # type: ignore[arg-type]  # reason: as they came

        with monkeypatch.context() as patch:
            patch.setattr(importing, "_BATCH", 2)
            patch.setattr(importing, "_write", interrupted)
            result = tstore("import", "issues.jsonl")
        assert (result.code, result.out, result.err) == (130, "", "")
        assert tstore("list", "issues").out.count("\n") == 4
        assert tstore("check").code == 0
        assert "taken\t5\n" in tstore("import", "issues.jsonl").out
