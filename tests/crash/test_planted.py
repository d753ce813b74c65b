"""Each planted bug is found by the test that it names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY
from tests.crash.images import FILE_SYSTEMS, why_not
from tests.crash.planted import PLANTED, PLANTED_ON_REAL_DISKS, Planted
from tests.mutants.test_mutants import checkout, run

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["checkout"]

each = pytest.mark.parametrize("bug", PLANTED, ids=[bug.name for bug in PLANTED])
takes_minutes = pytest.mark.skipif(
    not os.environ.get("TASKSTORE_PLANTED"), reason="it takes minutes: set TASKSTORE_PLANTED, or run nox -s crash"
)


reasons = [why_not(name) for name in FILE_SYSTEMS]
where_cuts_are_real = pytest.mark.skipif(None not in reasons, reason="; ".join(map(str, reasons)))
each_on_real_disks = pytest.mark.parametrize(
    "bug", PLANTED_ON_REAL_DISKS, ids=[bug.name for bug in PLANTED_ON_REAL_DISKS]
)


def test_there_are_enough() -> None:
    assert len({bug.name for bug in PLANTED}) == len(PLANTED) >= 12
    assert len(PLANTED_ON_REAL_DISKS) == 3


@each
def test_it_can_still_be_planted(bug: Planted) -> None:
    text = (REPOSITORY / "taskstore_async" / bug.module).read_text(encoding="utf-8")
    for old, new in bug.changes:
        assert text.count(old) == 1, f"the code has moved on: {old!r} stands in it {text.count(old)} times"
        assert old != new
    assert (REPOSITORY / bug.test.partition("::")[0]).is_file()


@takes_minutes
def test_without_a_bug_the_tests_pass(checkout: Path) -> None:
    result = run(checkout, tuple(sorted({bug.test for bug in PLANTED})))
    assert result.returncode == 0, result.stdout[-2000:]


@takes_minutes
@each
def test_it_is_found(bug: Planted, checkout: Path) -> None:
    find(bug, checkout)


@takes_minutes
@where_cuts_are_real
@each_on_real_disks
def test_it_is_found_on_real_disks(bug: Planted, checkout: Path) -> None:
    find(bug, checkout)


def find(bug: Planted, checkout: Path) -> None:
    """Plant it, and see its test fail."""
    module = checkout / "taskstore_async" / bug.module
    text = changed = module.read_text(encoding="utf-8")
    for old, new in bug.changes:
        changed = changed.replace(old, new)
    module.write_text(changed, encoding="utf-8")
    try:
        result = run(checkout, (bug.test,))
    finally:
        module.write_text(text, encoding="utf-8")
    assert result.returncode == 1, result.stdout[-2000:]  # 1: tests failed; anything else is no verdict
