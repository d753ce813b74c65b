"""Long results on a terminal come a screen at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from taskstore_async.cli import main
from taskstore_async.cli.pager import pager_of
from tests.cli.terminal import shown_by

if TYPE_CHECKING:
    from pathlib import Path

MARK = "sed s/^/PAGED:/"


def shown_to_a_person(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """What the program shows on a terminal where somebody can turn pages, 24 lines high."""
    command = [sys.executable, "-m", "taskstore_async", *words]
    return shown_by(command, folder, {**os.environ, "LINES": "24", "COLUMNS": "80", **environment}, typing=True)


@pytest.fixture
def full(folder: Path) -> Path:
    """A store with more records than a screen has lines."""
    (folder / ".taskstore").mkdir()
    lines = b"".join(b'{"id":"i-%02d","title":"\x1b[31mred","updated_at":1}\n' % number for number in range(40))
    (folder / ".taskstore" / "issues.jsonl").write_bytes(lines.replace(b"\x1b", b"\\u001b"))
    return folder


class TestPager:
    """What does not fit the screen goes through the person's pager; what fits, or what nobody reads, does not."""

    def test_a_long_list_is_paged_and_nothing_of_it_acts(self, full: Path) -> None:
        code, shown = shown_to_a_person(full, "list", "issues", TSTORE_PAGER=MARK)
        assert code == 0
        assert shown.count("PAGED:") == 41
        assert "\x1b" not in shown
        assert shown.endswith("tstore: 40 records\n")

    def test_a_short_one_is_not(self, full: Path) -> None:
        assert "PAGED:" not in shown_to_a_person(full, "list", "issues", "--limit", "5", TSTORE_PAGER=MARK)[1]

    def test_json_is_not(self, full: Path) -> None:
        assert "PAGED:" not in shown_to_a_person(full, "list", "issues", "--jsonl", TSTORE_PAGER=MARK)[1]

    def test_in_a_pipe_nothing_is(self, full: Path) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "taskstore_async", "list", "issues"],
            cwd=full,
            env={**os.environ, "TSTORE_PAGER": MARK},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "PAGED:" not in result.stdout

    @pytest.mark.parametrize("pager", ["", "cat", "no-such-program", "'"])
    def test_without_one_it_is_printed(self, pager: str, full: Path) -> None:
        code, shown = shown_to_a_person(full, "list", "issues", TSTORE_PAGER=pager)
        assert code == 0
        assert shown.count("i-") == 40

    def test_a_person_who_has_seen_enough_is_no_error(self, full: Path) -> None:
        code, shown = shown_to_a_person(full, "list", "issues", TSTORE_PAGER="head -1")
        assert (code, shown.count("i-")) == (0, 0)

    def test_errors_are_not_paged(self, folder: Path) -> None:
        assert main(["init"]) == 0
        code, shown = shown_to_a_person(folder, "get", "issues", "x", TSTORE_PAGER=MARK)
        assert code == 3
        assert "PAGED:" not in shown


class TestWhich:
    """TSTORE_PAGER beats PAGER beats less."""

    @pytest.mark.parametrize(
        ("environment", "words"),
        [
            ({}, ["less"]),
            ({"PAGER": "more -s"}, ["more", "-s"]),
            ({"PAGER": "more", "TSTORE_PAGER": "most 'a b'"}, ["most", "a b"]),
            ({"PAGER": "more", "TSTORE_PAGER": ""}, []),
            ({"PAGER": "cat"}, []),
        ],
    )
    def test_which(self, environment: dict[str, str], words: list[str]) -> None:
        assert list(pager_of(environment)) == words
