"""The program explains itself, and the pages say what the program says."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from taskstore_async.cli.app import FAMILIES
from taskstore_async.cli.errors import ExitCode
from taskstore_async.cli.families import MODULES
from taskstore_async.cli.invocation import registered
from taskstore_async.cli.reference import FAMILY_TITLES, commands, commands_by_family
from taskstore_async.cli.topics import TOPICS, manual, reference, topics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]

STEPS = ("init", "import", "list", "show", "update", "log", "diff", "query", "export", "backup", "restore")
NAMES = [one.name for one in commands()]


class TestPages:
    """The reference and the manual are made from the commands, and are kept as they are made."""

    @pytest.mark.parametrize(
        ("page", "made", "topic"), [("commands.md", reference, "commands"), ("tstore.1", manual, "man")]
    )
    def test_it_is_what_the_program_says(
        self, page: str, made: Callable[[], str], topic: str, repository: Path, tstore: Tstore
    ) -> None:
        kept = (repository / "docs" / page).read_text(encoding="utf-8")
        assert kept == made(), f"run: tstore help {topic} > docs/{page}"
        assert tstore("help", topic).out == kept

    @pytest.mark.parametrize("name", NAMES)
    def test_every_command_is_in_both(self, name: str) -> None:
        assert f"\n### {name}\n" in reference()
        assert f".B tstore {name}".replace("-", r"\-") in manual()

    def test_every_family_has_a_title(self) -> None:
        assert {module.__name__.rpartition(".")[2] for module in FAMILIES} == set(FAMILY_TITLES)
        assert sorted(one.name for some in commands_by_family().values() for one in some) == NAMES

    def test_every_command_is_found_where_it_is_said_to_be(self) -> None:
        homes = {name: function.__module__.rpartition(".")[2] for name, function in registered.items()}
        assert {name: module for module, names in MODULES.items() for name in names} == homes

    @pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
    def test_the_manual_is_well_formed(self) -> None:
        result = subprocess.run(
            ["groff", "-Kutf8", "-man", "-Tutf8", "-ww"], input=manual().encode(), capture_output=True, check=True
        )
        assert result.stderr == b""
        text = re.sub(r"\x1b\[[\d;]*m|.\x08", "", result.stdout.decode())
        assert "--if-updated-at MS" in text
        assert "tstore schema" in text

    def test_no_line_of_it_is_taken_for_a_request(self) -> None:
        requests = {line.split()[0] for line in manual().splitlines() if line.startswith((".", "'"))}
        assert requests == {".TH", ".SH", ".SS", ".B", ".TP", ".RS", ".RE", ".nf", ".fi"}


class TestFirstTenMinutes:
    """The recorded session shows what a newcomer needs; that it is so, is tried with all pages."""

    @pytest.mark.parametrize("name", STEPS)
    def test_it_is_shown(self, name: str, repository: Path) -> None:
        page = (repository / "docs" / "first-ten-minutes.md").read_text(encoding="utf-8")
        assert f"\n$ tstore {name}" in page
        assert "\n$ tstore list issues -f " in page


class TestHelp:
    """Topics and commands are explained by name."""

    def test_topics(self, tstore: Tstore) -> None:
        assert tstore("help").out == "".join(f"{name}\t{what}\n" for name, what in topics())
        assert [name for name, _ in topics()] == list(TOPICS)

    @pytest.mark.parametrize("name", ["list", "export-json", "help"])
    def test_a_command(self, name: str, tstore: Tstore) -> None:
        assert tstore("help", name).out.startswith(f"### {name}\n\n`tstore {name}")

    def test_what_is_neither(self, tstore: Tstore) -> None:
        result = tstore("help", "exit")
        assert (result.code, "exit-codes" in result.err) == (2, True)

    def test_every_exit_code_is_explained(self, tstore: Tstore) -> None:
        text = tstore("help", "exit-codes").out
        for code in ExitCode:
            assert re.search(rf"^ *{code.value}  \w", text, flags=re.MULTILINE)

    def test_every_operator_is_explained(self, tstore: Tstore) -> None:
        text = tstore("help", "filters").out
        for operator in ("=", "!=", "> >= < <=", "~", ":="):
            assert f"\n  {operator} " in text

    def test_every_variable_that_is_read_is_explained(self, tstore: Tstore, repository: Path) -> None:
        text = tstore("help", "env").out
        sources = "".join(path.read_text() for path in (repository / "taskstore_async" / "cli").glob("*.py"))
        for name in set(re.findall(r'"(TSTORE_[A-Z]+|NO_COLOR|TERM|PAGER)"', sources)) - {"PAGER"}:
            assert f"\n  {name} " in text


class TestPrime:
    """An agent learns on one page what is here and what it may do."""

    def test_without_a_store(self, tstore: Tstore, folder: Path) -> None:
        result = tstore("prime")
        assert (result.code, result.err) == (0, "")
        assert "`tstore init` makes one" in result.out
        assert not (folder / ".taskstore").exists()

    def test_with_one(self, tstore: Tstore) -> None:
        tstore("create", "issues", "--id", "a", "x=1")
        text = tstore("prime").out
        assert "- `issues`: 1 record\n" in text
        for one in commands():
            assert f"- `{one.usage}`: {one.summary}\n" in text
        assert len(text.encode()) < 16_384

    def test_an_empty_one(self, tstore: Tstore) -> None:
        tstore("init")
        assert "Nothing yet; `tstore create COLL" in tstore("prime").out
