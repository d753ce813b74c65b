"""The commands that set git up, and those that git runs: what they print, what they end with, what they load."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from taskstore_async.cli import main
from taskstore_async.git import status, uninstall
from taskstore_async.git.block import HOOKS, REFUSED
from taskstore_async.git.events import PROBE

if TYPE_CHECKING:
    from tests.git.support import Clone

UNWANTED = {"aiosqlite", "anyio", "asyncio", "importlib.metadata", "portalocker", "rich", "trio", "typer", "uvloop"}


@pytest.fixture
def here(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Clone:
    monkeypatch.chdir(clone.home)
    return clone


class TestSettingUp:
    """A row per thing on stdout, words on stderr, JSON for programs."""

    def test_install_and_uninstall(self, here: Clone, capfd: pytest.CaptureFixture[str]) -> None:
        hooks = here.top / ".git" / "hooks"
        assert main(["install-hooks"]) == 0
        out, err = capfd.readouterr()
        assert (out.splitlines()[0], err) == (f"attributes\tunchanged\t{here.store / '.gitattributes'}", "")
        assert out.splitlines()[2:] == [f"{name}\tmade\t{hooks / name}" for name in HOOKS]
        assert main(["uninstall-hooks"]) == 0
        assert capfd.readouterr().out.splitlines() == [f"{name}\tremoved\t{hooks / name}" for name in HOOKS]
        assert status(here.home).driver is not None
        assert main(["uninstall-hooks", "--merge-driver", "--json"]) == 0
        done = json.loads(capfd.readouterr().out)
        assert {step["what"]: step["action"] for step in done["steps"]} == {
            **dict.fromkeys(HOOKS, "absent"),
            "merge driver": "removed",
        }

    @pytest.mark.parametrize("command", ["install-hooks", "install-merge-driver"])
    def test_a_dry_run(self, here: Clone, command: str, capfd: pytest.CaptureFixture[str]) -> None:
        uninstall(here.home)
        assert main([command, "--dry-run"]) == 0
        out, err = capfd.readouterr()
        assert "merge driver\tmade\t" in out
        assert err == "tstore: nothing was changed\n"
        assert status(here.home).driver is None

    def test_the_driver_alone(self, here: Clone, capfd: pytest.CaptureFixture[str]) -> None:
        uninstall(here.home)
        assert main(["install-merge-driver"]) == 0
        assert "pre-commit" not in capfd.readouterr().out
        assert status(here.home).driver is not None

    def test_what_is_left_to_the_person_is_said(self, here: Clone, capfd: pytest.CaptureFixture[str]) -> None:
        here.git("config", "core.hooksPath", "hooks")
        assert main(["install-hooks"]) == 0
        assert "tstore: pre-push: core.hooksPath is" in capfd.readouterr().err

    def test_outside_of_git(self, here: Clone, capfd: pytest.CaptureFixture[str]) -> None:
        (here.top / ".git").rename(here.top / "git")
        assert main(["install-hooks"]) == 1
        assert "git init" in capfd.readouterr().err


class TestDoctor:
    """Exit 6 when something is wrong, and a row for each thing."""

    def test_it_ends_with_six_until_it_is_mended(self, here: Clone, capfd: pytest.CaptureFixture[str]) -> None:
        uninstall(here.home)
        assert main(["doctor"]) == 6
        out, err = capfd.readouterr()
        assert any(row.startswith("error\tdriver-not-configured\t") for row in out.splitlines())
        assert err == "tstore: 1 problem\ntstore: some of it is mended by: tstore doctor --fix\n"
        assert main(["doctor", "--fix"]) == 0
        out, err = capfd.readouterr()
        assert any(row.startswith("fixed\tdriver-not-configured\t") for row in out.splitlines())
        assert err == "tstore: all is well\n"
        assert main(["doctor", "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["ok"] is True


class TestWarning:
    """In a clone without the driver, sync and info say so, in one line."""

    @pytest.mark.parametrize("command", ["sync", "info"])
    def test_it_is_said_until_it_is_mended(self, here: Clone, command: str, capfd: pytest.CaptureFixture[str]) -> None:
        uninstall(here.home)
        assert main([command]) == 0
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert "tstore install-merge-driver" in err
        assert main(["install-merge-driver"]) == 0
        capfd.readouterr()
        assert main([command]) == 0
        assert capfd.readouterr().err == ""

    def test_without_git_nothing_is_said_nor_asked(
        self, here: Clone, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def asked(*_: object) -> None:
            pytest.fail("git was started")

        (here.top / ".git").rename(here.top / "git")
        monkeypatch.setattr("taskstore_async.git.repository.Repository.around", asked)
        assert main(["info"]) == 0
        assert capfd.readouterr().err == ""


class TestStart:
    """What git runs for every file and at every step starts without typer and without a loop."""

    def loaded(self, clone: Clone, *words: str, **environment: str) -> tuple[int, set[str]]:
        code = "from taskstore_async.cli import main; code = main(sys.argv[1:]); print('\\n--', *sys.modules)"
        # -S: what other packages load at every start, through their .pth files, is not ours.
        program = f"import sys; sys.path[:0] = {sys.path!r}; {code}; sys.exit(code)"
        done = clone.run(sys.executable, "-I", "-S", "-c", program, *words, **environment)
        return done.code, set(done.out.partition("\n--")[2].split())

    @pytest.mark.parametrize("name", HOOKS)
    def test_a_hook(self, clone: Clone, name: str) -> None:
        code, loaded = self.loaded(clone, "hook", name)
        assert code == 0
        assert loaded & UNWANTED == set()  # nothing has moved and nothing waits: not even the lock is needed
        assert "taskstore_async.storage.store" in loaded

    def test_a_hook_where_there_is_no_store_loads_no_engine(self, clone: Clone) -> None:
        clone.git("rm", "-r", "--quiet", "--cached", ".taskstore")
        code, loaded = self.loaded(clone, "hook", "pre-commit")
        assert code == 0
        assert loaded & (UNWANTED | {"sqlite3", "taskstore_async.storage.store"}) == set()

    def test_the_merge_driver(self, clone: Clone) -> None:
        for name in "OAB":
            (clone.top / name).write_bytes(b'{"id":"a"}\n')
        code, loaded = self.loaded(clone, "merge-driver", "O", "A", "B", "x.jsonl")
        assert code == 0
        assert loaded & (UNWANTED | {"sqlite3", "subprocess", "pathlib"}) == set()
        assert {name for name in loaded if name.startswith("taskstore_async.git")} <= {
            "taskstore_async.git",
            "taskstore_async.git.decisions",
            "taskstore_async.git.driver",
        }

    def test_help_of_a_hook_is_the_programs(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert main(["hook", "--help"]) == 0
        assert "Usage: tstore hook" in capfd.readouterr().out

    @pytest.mark.usefixtures("here")
    def test_behind_other_options_a_hook_is_a_command_like_any_other(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(PROBE, "token")
        for words in (["hook", "pre-push", "origin", "url"], ["--json", "hook", "pre-push", "origin", "url"]):
            assert main(words) == REFUSED
            assert capfd.readouterr().out.startswith("token pre-push ")


def test_a_missing_module_does_not_stop_a_commit(clone: Clone) -> None:
    from taskstore_async.git import install  # noqa: PLC0415 - reason: only here

    install(clone.home)
    program = clone.top / ".git" / "bin" / "tstore"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -S\nimport nothing_of_that_name\n")
    program.chmod(0o755)
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin"}
    done = clone.run("git", "commit", "--allow-empty", "--quiet", "-m", "x", **environment)
    assert done.code == 0
    assert "ModuleNotFoundError" in done.err
    assert (
        subprocess.run(["git", "log", "-1", "--format=%s"], cwd=clone.top, capture_output=True, check=True).stdout
        == b"x\n"
    )
