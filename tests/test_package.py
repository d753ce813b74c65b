"""The package as it is installed and imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from importlib.resources import files
from inspect import signature
from pathlib import Path
from typing import ClassVar

import pytest

import taskstore_async
from taskstore_async import StateManager, Store

HEAVY = {
    "aiosqlite",
    "anyio",
    "asyncio",
    "importlib.metadata",
    "msgspec",
    "portalocker",
    "pydantic",
    "rich",
    "sqlite3",
    "trio",
    "typer",
    "uvloop",
}


def modules_after(code: str) -> set[str]:
    """Run *code* in a bare interpreter of its own; return the names of the modules it has loaded then."""
    program = f"import sys; sys.path[:0] = sys.argv[1:]\n{code}\nprint('\\n', *sys.modules)"
    # -S: what other packages load at every start, through their .pth files, is not ours.
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, *filter(os.path.isabs, sys.path)],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(result.stdout.split())


class TestImports:
    """Importing the package costs next to nothing; a name costs what it needs."""

    def test_the_package_alone_loads_nothing_heavy(self) -> None:
        loaded = modules_after("import taskstore_async")
        assert {name for name in loaded if name.startswith("taskstore_async")} == {"taskstore_async"}
        assert loaded & HEAVY == set()

    def test_an_error_loads_nothing_heavy(self) -> None:
        assert modules_after("from taskstore_async import NotFoundError") & HEAVY == set()

    def test_records_and_filters_load_no_database_and_no_loop(self) -> None:
        loaded = modules_after("from taskstore_async import Document, Record, Unique, any_, eq, present")
        assert loaded & HEAVY == {"msgspec"}

    def test_the_engine_loads_no_loop_no_lock_and_no_command_line(self) -> None:
        assert modules_after("from taskstore_async import Store, new_id") & HEAVY == {"msgspec", "sqlite3"}


class TestPublicNames:
    """``from taskstore_async import NAME`` is the way to every public name."""

    @pytest.mark.parametrize("name", taskstore_async.__all__)
    def test_every_name_is_there(self, name: str) -> None:
        assert getattr(taskstore_async, name) is not None

    def test_type_checkers_see_the_same_names(self) -> None:
        tree = ast.parse(Path(taskstore_async.__file__).read_text(encoding="utf-8"))
        block = next(node for node in tree.body if isinstance(node, ast.If))
        seen = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
        assert sorted([*seen, "__version__"]) == taskstore_async.__all__

    def test_every_error_is_public(self) -> None:
        from taskstore_async import errors  # noqa: PLC0415 - a test of its own names

        assert set(errors.__all__) <= set(taskstore_async.__all__)

    def test_dir_lists_what_is_not_loaded_yet(self) -> None:
        assert set(taskstore_async.__all__) <= set(dir(taskstore_async))

    def test_a_name_that_is_not_public_is_refused_as_python_does(self) -> None:
        name = "nothing"
        with pytest.raises(AttributeError, match="module 'taskstore_async' has no attribute 'nothing'"):
            getattr(taskstore_async, name)


class TestOneSurface:
    """`Store` and `StateManager` take the same words for the same thing."""

    ONLY_ONE: ClassVar = {
        ("open", "queue_max"),  # there is a queue
        ("open", "on_trouble"),  # and work in the background
        ("compact", "dry_run"),  # for the command line
    }

    def test_the_arguments_of_a_call_are_the_same(self) -> None:
        shared = [
            name for name in dir(Store) if not name.startswith("_") and callable(getattr(StateManager, name, None))
        ]
        for name in shared:
            one, other = (
                {(key, found.kind, found.default) for key, found in signature(getattr(handle, name)).parameters.items()}
                for handle in (Store, StateManager)
            )
            assert {(name, key) for key, *_ in one ^ other} <= self.ONLY_ONE, name
        assert len(shared) > 20


class TestPackaging:
    """What an installer and a type checker look for."""

    def test_it_says_that_it_is_typed(self) -> None:
        assert files("taskstore_async").joinpath("py.typed").is_file()

    def test_the_version_stands_in_one_place(self, repository: Path) -> None:
        project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
        assert "version" not in project["project"]
        assert project["project"]["dynamic"] == ["version"]
        assert project["tool"]["hatch"]["version"]["path"] == "taskstore_async/__init__.py"

    def test_the_change_log_knows_this_version(self, repository: Path) -> None:
        log = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
        headings = [line for line in log.splitlines() if line.startswith("## ")]
        assert headings[0] == "## [Unreleased]" or headings[0].startswith(f"## [{taskstore_async.__version__}]")
