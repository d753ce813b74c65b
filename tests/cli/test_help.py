"""Every command explains itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import typer

from taskstore_async import __version__, errors
from taskstore_async.cli.app import app
from taskstore_async.cli.errors import ExitCode, exit_code_of
from taskstore_async.cli.reference import FAMILY_TITLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

GROUP = typer.main.get_group(app)
NAMES = sorted(GROUP.commands)
FIRST = "init import list get show create update delete collections stats sync flush check compact info demo"

every_command = pytest.mark.parametrize("name", NAMES)


class TestHelp:
    """A command has help, an example, a line in the README, and a word on each of its options."""

    def test_the_first_commands_are_there(self) -> None:
        assert set(FIRST.split()) <= set(NAMES)

    @every_command
    def test_a_command_has_help_and_an_example(self, name: str) -> None:
        text = GROUP.commands[name].help or ""
        summary, _, example = text.partition("Example: ")
        assert summary.strip()
        assert example.startswith(f"tstore {name}")

    @every_command
    def test_a_command_is_in_the_readme(self, name: str, repository: Path) -> None:
        text = (repository / "README.md").read_text(encoding="utf-8")
        assert f"| `{name}" in text

    @every_command
    def test_every_option_has_a_word_of_help(self, name: str) -> None:
        for parameter in GROUP.commands[name].params:
            assert getattr(parameter, "help", None) or getattr(parameter, "hidden", False), parameter.name

    @every_command
    def test_help_can_be_asked_for(self, name: str, tstore: Callable[..., Result]) -> None:
        result = tstore(name, "--help")
        assert (result.code, result.err) == (0, "")
        assert f"Usage: tstore {name}" in result.out
        assert "[]" not in result.out.partition("\n\n")[0]

    def test_without_words_the_program_explains_itself(self, tstore: Callable[..., Result]) -> None:
        assert tstore() == tstore("--help") == tstore("-h")
        assert "Exit codes: 0 ok" in " ".join(tstore().out.split())

    def test_the_program_lists_its_commands_by_what_they_are_about(self, tstore: Callable[..., Result]) -> None:
        _, *families = re.split(r"^(\w.*):\n", tstore("--help").out.partition("\nOptions:\n")[2], flags=re.MULTILINE)
        titles, bodies = families[::2], families[1::2]
        assert titles == list(FAMILY_TITLES.values())
        assert "..." not in "".join(bodies)
        listed = [line.split()[0] for body in bodies for line in body.splitlines() if re.match(r"  \S", line)]
        assert sorted(listed) == sorted(GROUP.commands)

    def test_the_version(self, tstore: Callable[..., Result]) -> None:
        assert tstore("--version").out == f"tstore {__version__}\n"


class TestUsage:
    """Words that mean nothing end with 2, and say where help is."""

    @pytest.mark.parametrize(
        ("words", "message", "where"),
        [
            (["nonsense"], "nonsense", "tstore --help"),
            (["--nonsense"], "--nonsense", "tstore --help"),
            (["list"], "COLL", "tstore list --help"),
            (["list", "issues", "--limit", "-1"], "--limit", "tstore list --help"),
            (["import", "x.jsonl", "--on-conflict", "win"], "win", "tstore import --help"),
        ],
    )
    def test_usage(self, words: list[str], message: str, where: str, tstore: Callable[..., Result]) -> None:
        result = tstore(*words)
        assert result.code == 2
        assert result.out == ""
        assert result.err.startswith("tstore: ")
        assert message in result.err
        assert where in result.err

    def test_json_and_jsonl_contradict_each_other(self, tstore: Callable[..., Result]) -> None:
        assert tstore("--json", "--jsonl", "stats").code == 2
        assert tstore("stats", "--json", "--jsonl").code == 2


class TestExitCodes:
    """One table from error class to exit code."""

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (errors.InvalidFilterError("x", "y"), ExitCode.USAGE),
            (errors.NotFoundError("plans", "p"), ExitCode.NOT_FOUND),
            (errors.AmbiguousIdError("plans", "p", ("p1", "p2")), ExitCode.USAGE),
            (errors.NoStoreError("/x"), ExitCode.NO_STORE),
            (errors.AlreadyExistsError("plans", "p"), ExitCode.CONFLICT),
            (errors.StaleWriteError("plans", "p", expected_at=1, actual_at=2), ExitCode.CONFLICT),
            (errors.StoreLockedError("/x", waited_s=1, holder=""), ExitCode.LOCKED),
            (errors.StoreVersionError("/x", found="9", known=1), ExitCode.FAILED),
            (errors.TaskStoreError("x"), ExitCode.FAILED),
            (KeyboardInterrupt(), ExitCode.INTERRUPTED),
            (BrokenPipeError(), ExitCode.PIPE_CLOSED),
        ],
    )
    def test_code(self, error: BaseException, code: ExitCode) -> None:
        assert exit_code_of(error) is code
