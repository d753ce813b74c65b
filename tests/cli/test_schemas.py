"""What programs are told: every command's JSON fits its schema, and every failure has a code."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from taskstore_async import errors
from taskstore_async.cli.errors import ExitCode, error_code_of, errors_by_exit_code
from taskstore_async.cli.reference import commands
from taskstore_async.cli.schemas import SHAPES, schema_of
from taskstore_async.core.record import Document
from taskstore_async.records.runs import Project, Run, RunStatus, RunTask, RunTaskStatus
from taskstore_async.records.tasks import Prd, TaskSpec
from taskstore_async.storage.store import Store

from .shapes import mismatches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]

WITHOUT_JSON = {"completion", "help", "hook", "prime", "schema"}

CALLS: dict[str, list[list[str]]] = {
    "backup": [["another"]],
    "bench": [["--seconds", "0.1"]],
    "check": [[]],
    "clean": [["--keep-days", "0", "--dry-run"]],
    "collections": [[]],
    "compact": [[], ["--dry-run"]],
    "conflicts": [[]],
    "create": [["issues", "title=x", "n:=1"]],
    "create-prd": [["A title"]],
    "create-task-spec": [["prd-1", "Phase"]],
    "delete": [["issues", "a", "--dry-run"], ["issues", "a"]],
    "demo": [["--agents", "1", "--tasks", "2", "--dir", "demo"]],
    "describe": [["a"], ["prd-1"]],
    "diff": [["copy", ".taskstore"]],
    "doctor": [[]],
    "export": [["issues"], ["issues", "-o", "out.jsonl"], ["--format", "json"]],
    "export-json": [[], ["-o", "out.json"]],
    "flush": [[]],
    "get": [["issues", "a"]],
    "graph": [[]],
    "history": [[], ["build"]],
    "import": [["in.csv"], ["in.csv", "--dry-run", "--on-conflict", "replace"], ["all.json"], ["in.csv", "all.json"]],
    "indexes": [["prds"]],
    "info": [[]],
    "init": [[]],
    "install-hooks": [["--dry-run"]],
    "install-merge-driver": [["--dry-run"]],
    "list": [["issues"], ["issues", "--fields", "title"], ["prds", "-f", "status=draft", "--explain"]],
    "list-executions": [[]],
    "list-prds": [[]],
    "list-task-specs": [[]],
    "list-type": [["prds"]],
    "log": [["issues", "a"]],
    "merge": [["base.jsonl", "ours.jsonl", "theirs.jsonl", "-o", "merged.jsonl"]],
    "query": [["SELECT * FROM issues"]],
    "resolve": [["--dry-run"], []],
    "restore": [["copy", "--dry-run"]],
    "show": [["a"]],
    "stats": [[], ["build"]],
    "sync": [[], ["--check"], ["--rebuild"]],
    "uninstall-hooks": [["--dry-run"], []],
    "update": [["issues", "a", "title=y"]],
    "watch": [["--since", "0", "--limit", "2"]],
}


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in a repository with something in it for every command."""
    folder = tmp_path_factory.mktemp("furnished")
    subprocess.run(["git", "init", "-q", "."], check=True, cwd=folder)
    with Store.open(folder, records=[Prd, TaskSpec, Project, Run, RunTask]) as store:
        store.create(Project(id="p", name="p"))
        store.create(Run(id="run-1", project_id="p", status=RunStatus.FAILED, started_at=1_700_000_000_000))
        store.create(RunTask(id="rt-1", run_id="run-1", name="build", status=RunTaskStatus.FAILED))
        store.write_content(Prd(id="prd-1", title="First"), "# Long\n")
        store.create(TaskSpec(id="ts-1", prd_id="prd-1", phase_name="One"))
        issue = store.create(Document("issues", {"id": "a", "title": "x"}))
        store.backup(folder / "copy")
        store.update(issue.evolve(title="z"))
    (folder / "in.csv").write_text("id,n\nx,1\n")
    (folder / "all.json").write_text('{"notes":[{"id":"n"}]}')
    (folder / "base.jsonl").write_text('{"id":"m","updated_at":1,"x":1,"y":1}\n')
    (folder / "ours.jsonl").write_text('{"id":"m","updated_at":2,"x":2,"y":1}\n')
    (folder / "theirs.jsonl").write_text('{"id":"m","updated_at":3,"x":3,"y":2}\n')
    return folder


@pytest.fixture
def records(furnished: Path, folder: Path) -> Path:
    """The same in the working directory."""
    return shutil.copytree(furnished, folder, dirs_exist_ok=True)


class TestSchemas:
    """What a command prints with --json is what its schema says, and nothing besides."""

    def test_every_command_has_one(self) -> None:
        names = {one.name for one in commands()}
        assert set(SHAPES) - {"error"} == names - WITHOUT_JSON
        assert set(CALLS) == set(SHAPES) - {"error"}

    @pytest.mark.parametrize("name", [name for name in CALLS if name != "bench"])
    def test_output_fits(self, name: str, records: Path, tstore: Tstore) -> None:
        schema = schema_of(name)
        assert records.is_dir()
        for words in CALLS[name]:
            result = tstore(name, *words, "--json")
            assert result.code in {0, 5, 6}, result.err
            lines = result.out.splitlines() if name == "watch" else [result.out]
            assert [one for line in lines for one in mismatches(json.loads(line), schema)] == []

    def test_the_watchdog_bites(self) -> None:
        schema = schema_of("flush")
        assert mismatches({"lines": 1, "bytes": 2, "files": 3}, schema) == []
        assert mismatches({"lines": "1", "bytes": 2, "other": 3}, schema) == [
            "$.lines: '1' is no integer",
            "$.other is not in the schema",
        ]
        assert mismatches({"found": "x"}, schema_of("info"))
        assert mismatches([{"title": "x"}], schema_of("show"))

    def test_they_can_be_asked_for(self, tstore: Tstore) -> None:
        assert json.loads(tstore("schema", "list").out) == schema_of("list")
        assert set(json.loads(tstore("schema").out)) == set(SHAPES)
        refused = tstore("schema", "help")
        assert (refused.code, "these do: " in refused.err) == (2, True)


class TestFailures:
    """A command that fails with --json says so in one line of JSON, with a code that stays."""

    @pytest.mark.parametrize(
        ("words", "code", "exit_code"),
        [
            (["get", "issues", "zzz"], "not_found", ExitCode.NOT_FOUND),
            (["list", "issues", "-f", "nonsense"], "usage", ExitCode.USAGE),
            (["create", "Issues", "x=1"], "invalid_name", ExitCode.USAGE),
            (["nonsense"], "usage", ExitCode.USAGE),
            (["create", "issues", "--id", "a", "x=1"], "already_exists", ExitCode.CONFLICT),
            (["update", "issues", "a", "x=1", "--if-updated-at", "1"], "stale_write", ExitCode.CONFLICT),
            (["import", "absent.jsonl"], "os", ExitCode.FAILED),
            (["--store", "nowhere", "list", "issues"], "no_store", ExitCode.NO_STORE),
            (["query", "DELETE FROM issues"], "invalid_query", ExitCode.USAGE),
        ],
    )
    @pytest.mark.parametrize("place", ["before", "behind"])
    def test_failure(self, words: list[str], code: str, exit_code: ExitCode, place: str, tstore: Tstore) -> None:
        tstore("create", "issues", "--id", "a", "x=1")
        result = tstore(*words, "--json") if place == "behind" else tstore("--json", *words)
        told = json.loads(result.err.splitlines()[-1])
        assert mismatches(told, schema_of("error")) == []
        assert (result.code, result.out) == (exit_code, "")
        assert (told["error"]["code"], told["error"]["exit_code"]) == (code, exit_code)

    def test_what_the_error_knows_is_told(self, tstore: Tstore) -> None:
        tstore("create", "issues", "--id", "a", "x=1")
        error = json.loads(tstore("get", "issues", "b", "--json").err)["error"]
        assert (error["details"]["collection"], error["details"]["record_id"]) == ("issues", "b")

    def test_every_error_has_a_code_of_its_own_and_stands_once_in_the_table(self) -> None:
        kinds = [getattr(errors, name) for name in errors.__all__]
        assert all(issubclass(kind, errors.TaskStoreError) for kind in kinds)
        listed = [code for codes in errors_by_exit_code().values() for code in codes]
        assert len(set(listed)) == len(listed) == len(kinds) + 2
        assert error_code_of(FileNotFoundError()) == "os"

    def test_words_stay_words_without_it(self, tstore: Tstore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
        assert tstore("get", "issues", "b").err.startswith("tstore: ")
