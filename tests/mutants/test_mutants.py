"""Each mutant of the catalogue is killed: a test fails that would not fail otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LEFT_OUT = shutil.ignore_patterns("__pycache__", "mutants", "*.pyc", "*.db*")


def run(checkout: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run *tests* of *checkout* on its own copy of the package."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "PYTEST"))}
    environment |= {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:cov", *tests]
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its tests, to be broken and mended."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("taskstore_async", "tests"):
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=LEFT_OUT)
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    return copy


def test_without_a_change_the_tests_pass(checkout: Path) -> None:
    every = tuple(sorted({test for mutant in MUTANTS for test in mutant.tests}))
    result = run(checkout, every)
    assert result.returncode == 0, result.stdout[-2000:]


def test_the_catalogue_has_what_it_must() -> None:
    assert len(MUTANTS) >= 30
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_it_is_killed(mutant: Mutant, checkout: Path) -> None:
    module = checkout / "taskstore_async" / mutant.module
    text = module.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, (
        f"the code has moved on: {mutant.old!r} stands in it {text.count(mutant.old)} times"
    )
    module.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        result = run(checkout, mutant.tests)
    finally:
        module.write_text(text, encoding="utf-8")
    assert result.returncode == 1, result.stdout[-2000:]  # 1: tests failed; anything else is no verdict
