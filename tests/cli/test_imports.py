"""What a command costs is what it needs: no reading one loads a loop, a lock, or what draws."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from taskstore_async.cli import main

from .test_error_paths import READS
from .test_process import UNWANTED
from .test_schemas import furnished, records

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["furnished", "records"]  # fixtures

OTHERS: dict[str, list[str]] = {
    "check": [],
    "complete": ["--", "get", "issues", ""],
    "completion": ["bash"],
    "conflicts": [],
    "diff": ["copy", ".taskstore"],
    "help": ["filters"],
    "list-type": ["prds"],
    "prime": [],
}
BUDGETED = ["collections", "describe", "get", "history", "indexes", "info", "list", "log", "query", "show"]
OWN = 85
"""How many modules of its own a reading command may load."""
SELDOM = {
    *(f"taskstore_async.storage.{name}" for name in ("backup", "check", "exporting", "importing")),
    *(f"taskstore_async.cli.{name}" for name in ("app", "exchange", "live", "reference", "schemas")),
}
"""What none of those needs."""
BESIDE = {"_queue", "_struct", "base64", "binascii", "gc", "queue", "struct", "ipaddress", "urllib", "urllib.parse"}
"""What it may load beside those, and beside what typer, msgspec and sqlite3 load; the last three, which quote the
index's name, come with pathlib until Python 3.12."""
NOT_AT_ALL = {"asyncio", "matplotlib", "pydantic", "rich", "trio", "uvloop"}


def run_in_a_process(folder: Path, code: str, *words: str) -> str:
    """What a program prints; -S: what other packages load at every start, through their .pth files, is not ours."""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert result.returncode in {0, 5, 6}, result.stderr
    return result.stdout


def loaded_by(folder: Path, words: list[str]) -> set[str]:
    """The modules that a command has loaded when it is done."""
    code = (
        "from taskstore_async.cli import main\ncode = main(sys.argv[1:]); print('\\n--', *sys.modules); sys.exit(code)"
    )
    return set(run_in_a_process(folder, code, *words).rpartition("\n--")[2].split())


@pytest.mark.parametrize("name", [*READS, *(name for name in OTHERS if name not in {"check", "conflicts"})])
def test_a_reading_command_loads_nothing_that_it_does_not_need(name: str, records: Path) -> None:
    assert main(["list", "issues"]) == 0  # so that nothing is left to do at opening
    assert loaded_by(records, [name, *({**READS, **OTHERS}[name])]) & UNWANTED == set()


@pytest.mark.parametrize("name", ["check", "conflicts", "export", "import"])
def test_a_command_that_takes_the_lock_loads_no_loop(name: str, records: Path) -> None:
    words = {**READS, **OTHERS, "import": ["in.csv"]}[name]
    assert loaded_by(records, [name, *words]) & NOT_AT_ALL == set()


@pytest.mark.parametrize("name", BUDGETED)
def test_a_reading_command_keeps_to_its_number_of_modules(name: str, records: Path) -> None:
    assert main(["list", "issues"]) == 0
    loaded = loaded_by(records, [name, *READS[name]])
    own = {one for one in loaded if one.startswith("taskstore_async")}
    assert "taskstore_async.storage.engine" in own
    assert own & SELDOM == set()
    assert len(own) <= OWN
    floor = set(run_in_a_process(records, "import typer, msgspec, sqlite3; print(*sys.modules)").split())
    others = {one for one in loaded - own - floor if not one.startswith(("typer.", "click."))}
    assert others <= BESIDE


def test_typer_builds_the_named_command_alone(records: Path) -> None:
    code = (
        "from taskstore_async.cli import main; main(sys.argv[1:])\n"
        "from taskstore_async.cli.invocation import app; print(*(one.name for one in app.registered_commands))"
    )
    assert run_in_a_process(records, code, "get", "issues", "a").splitlines()[-1] == "get"
    assert run_in_a_process(records, code, "list-tasks").splitlines()[-1] == "list-type"


def test_no_cycle_is_looked_for_in_what_a_command_loads(records: Path) -> None:
    code = (
        "import gc; from taskstore_async.cli import main\n"
        "def counts(): return [one['collections'] for one in gc.get_stats()]\n"
        "before = counts(); main(); print(before == counts(), len(gc.get_objects()) < gc.get_freeze_count())"
    )
    assert run_in_a_process(records, code, "list", "issues").splitlines()[-1] == "True True"


def test_the_collector_of_a_program_that_calls_a_command_is_left_alone(records: Path) -> None:
    code = (
        "import gc\nfrom taskstore_async.cli import main\n"
        "before = gc.get_threshold(), gc.get_freeze_count(); main(sys.argv[1:])\n"
        "print(before == (gc.get_threshold(), gc.get_freeze_count()))"
    )
    assert run_in_a_process(records, code, "list", "issues").splitlines()[-1] == "True"
