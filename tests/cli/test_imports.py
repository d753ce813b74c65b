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
NOT_AT_ALL = {"asyncio", "matplotlib", "pydantic", "rich", "trio", "uvloop"}


def loaded_by(folder: Path, words: list[str]) -> set[str]:
    """The modules that a command has loaded when it is done."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; from taskstore_async.cli import main\n"
        "code = main(sys.argv[1:]); print('\\n--', *sys.modules); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *words], capture_output=True, text=True, check=False, cwd=folder
    )
    assert result.returncode in {0, 5, 6}, result.stderr
    return set(result.stdout.rpartition("\n--")[2].split())


@pytest.mark.parametrize("name", [*READS, *(name for name in OTHERS if name not in {"check", "conflicts"})])
def test_a_reading_command_loads_nothing_that_it_does_not_need(name: str, records: Path) -> None:
    assert main(["list", "issues"]) == 0  # so that nothing is left to do at opening
    assert loaded_by(records, [name, *({**READS, **OTHERS}[name])]) & UNWANTED == set()


@pytest.mark.parametrize("name", ["check", "conflicts", "export", "import"])
def test_a_command_that_takes_the_lock_loads_no_loop(name: str, records: Path) -> None:
    words = {**READS, **OTHERS, "import": ["in.csv"]}[name]
    assert loaded_by(records, [name, *words]) & NOT_AT_ALL == set()
