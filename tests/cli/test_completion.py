"""Tab knows what may come next, and never says a word when it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taskstore_async.cli.completion import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]


@pytest.fixture(autouse=True)
def _store(folder: Path, tstore: Tstore) -> None:
    assert folder.is_dir()
    tstore("create", "issues", "--id", "bd-1", "title=x", "status=open")
    tstore("create", "issues", "--id", "bd-2", "title=y", "priority:=1", "a b=z")
    tstore("create", "plans", "--id", "p-1", "title=z")


class TestCandidates:
    """What is offered begins with what was typed."""

    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            (["expo"], ["export", "export-json"]),
            (["list", ""], ["issues", "plans"]),
            (["--json", "list", "is"], ["issues"]),
            (["list", "issues", ""], []),
            (["list", "issues", "--off"], ["--offset"]),
            (["list", "--color", ""], ["auto", "always", "never"]),
            (["list", "--color", "auto", "p"], ["plans"]),
            (["list", "issues", "-f", "st"], ["status="]),
            (["list", "issues", "-f", "a"], []),  # "a b" is a field that no filter can name
            (["list", "issues", "--sort", "pri"], ["priority"]),
            (["list", "issues", "--sort", "-pri"], ["-priority"]),
            (["list", "issues", "--fields", "ti"], ["title"]),
            (["list", "issues", "--fields", "title,ti"], []),
            (["list", "issues", "--fields", "id,ti"], ["id,title"]),
            (["get", "issues", "bd-"], ["bd-1", "bd-2"]),
            (["delete", "issues", "bd-1", "bd-"], ["bd-1", "bd-2"]),
            (["update", "issues", "bd-2", "ti"], ["title="]),
            (["show", ""], ["bd-1", "bd-2", "p-1"]),
            (["describe", "plan", ""], ["p-1"]),
            (["import", "x", "-c", "p"], ["plans"]),
            (["import", "x", "--format", "b"], ["beads"]),
            (["completion", ""], ["bash", "zsh", "fish"]),
            (["help", "fil"], ["filters"]),
            (["schema", "resol"], ["resolve"]),
            (["init", ""], []),
            (["nonsense", ""], []),
            (["get", "absent", ""], []),
        ],
    )
    def test_offered(self, words: list[str], offered: list[str], tstore: Tstore) -> None:
        result = tstore("complete", "--", *words)
        assert (result.code, result.err) == (0, "")
        assert [line.partition("\t")[0] for line in result.out.splitlines()] == offered

    def test_without_a_store_nothing_is_said(self, tstore: Tstore, folder: Path) -> None:
        shutil.rmtree(folder / ".taskstore")
        assert tstore("complete", "--", "list", "") == tstore("complete", "--", "get", "x", "")
        assert tstore("complete", "--", "list", "").err == ""
        assert not (folder / ".taskstore").exists()

    def test_another_store(self, tstore: Tstore, folder: Path) -> None:
        tstore("--store", "two", "create", "notes", "--id", "n", "x=1")
        assert tstore("complete", "--", "--store", str(folder / "two"), "list", "").out == "notes\t1 record\n"

    def test_an_id_that_acts_on_a_terminal_is_not_offered(self, tstore: Tstore, folder: Path) -> None:
        with (folder / ".taskstore" / "issues.jsonl").open("a") as file:
            file.write('{"id":"bd-\\u009b2J","title":"x"}\n')
        assert [line[:4] for line in tstore("complete", "--", "get", "issues", "bd-").out.splitlines()] == [
            "bd-1",
            "bd-2",
        ]


class TestShells:
    """Each shell asks the program, with the words as they stand."""

    @pytest.fixture
    def path(self, folder: Path) -> dict[str, str]:
        """An environment in which ``tstore`` is this program."""
        program = folder / "bin" / "tstore"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m taskstore_async "$@"\n')
        program.chmod(0o755)
        paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": paths}

    @pytest.mark.parametrize(
        ("line", "replies"),
        [
            ("tstore get issues bd-", ["bd-1", "bd-2"]),
            ("tstore list ", ["issues", "plans"]),
            ("tstore list issues -f status=", [""]),
            ("tstore expo", ["export", "export-json"]),
        ],
    )
    @pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
    def test_bash(self, line: str, replies: list[str], path: dict[str, str], tstore: Tstore) -> None:
        script = tstore("completion", "bash").out
        asking = f"COMP_LINE='{line}'; COMP_POINT={len(line)}; _tstore; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        result = subprocess.run(["bash", "-c", script + asking], capture_output=True, text=True, env=path, check=True)
        assert result.stderr == ""
        assert result.stdout.splitlines() == replies

    @pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
    def test_fish(self, path: dict[str, str], tstore: Tstore) -> None:
        script = tstore("completion", "fish").out + "complete -C 'tstore get issues bd-'\n"
        result = subprocess.run(["fish", "-c", script], capture_output=True, text=True, env=path, check=True)
        assert result.stdout.splitlines() == ["bd-1\tissues", "bd-2\tissues"]

    @pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
    def test_zsh(self, path: dict[str, str], tstore: Tstore) -> None:
        asked = (
            "compdef() { : }\n_files() { print files }\n"
            "compadd() { print -r -- $#shown $shown[1]; print -rl -- ${@[5,-1]} }\n"
            f"{tstore('completion', 'zsh').out}\n"
            "words=(tstore get issues bd-); CURRENT=4; _tstore\nwords=(tstore list ''); CURRENT=3; _tstore\n"
            "words=(tstore import x); CURRENT=3; _tstore\n"
        )
        result = subprocess.run(["zsh", "-f", "-c", asked], capture_output=True, text=True, env=path, check=True)
        assert result.stderr == ""
        assert result.stdout.splitlines() == [
            *("2 bd-1  -- issues", "bd-1", "bd-2"),
            *("2 issues  -- 2 records", "issues", "plans"),
            "files",
        ]

    def test_there_is_one_for_each(self) -> None:
        assert list(SCRIPTS) == ["bash", "zsh", "fish"]
