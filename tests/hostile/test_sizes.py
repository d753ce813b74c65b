"""Files of any size and shape are read in bounded memory, and told of in bounded words."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import REPOSITORY
from tests.hostile.corpus import good
from tests.storage.workshop import NAME, journal_of, open_store

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20

PROGRAM = """
import json, resource, sys
from taskstore_async.storage.store import Store

idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Store.open(sys.argv[1], create=False) as store:
    listed = {one.id: len(one.encode()) if hasattr(one, "encode") else 0 for one in store.list("plans")}
    problems = [one.message for one in store.check().problems]
    if "--compact" in sys.argv:
        store.compact()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"ids": sorted(listed), "problems": problems, "kib": peak - idle}))
"""


def looked_at(folder: Path, *arguments: str) -> dict[str, Any]:
    """What a process of its own finds in the store, and how much memory that took it."""
    command = [sys.executable, "-c", PROGRAM, str(folder), *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=120)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def plant(folder: Path, *lines: bytes) -> Path:
    path = journal_of(folder)
    path.parent.mkdir()
    with path.open("wb") as file:
        for line in lines:
            file.write(line + b"\n")
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
class TestMemory:
    """Memory grows with the longest line and the records, never with what cannot be read."""

    def test_a_line_of_64_mb_is_served_and_told(self, tmp_path: Path) -> None:
        path = plant(tmp_path, good("first").raw, b'{"id":"big","text":"' + b"x" * (64 * MIB) + b'"}', good("last").raw)
        size = path.stat().st_size
        found = looked_at(tmp_path)
        assert found["ids"] == ["big", "first", "last"]
        assert ["at most 10,485,760 can be written" in one for one in found["problems"]] == [True]
        assert found["kib"] < 8 * 64 * 1024
        assert path.stat().st_size == size

    def test_64_mb_without_a_newline_are_kept(self, tmp_path: Path) -> None:
        path = plant(tmp_path, good("first").raw)
        with path.open("ab") as file:
            file.write(b"x" * (64 * MIB))
        size = path.stat().st_size
        found = looked_at(tmp_path, "--compact")
        assert found["ids"] == ["first"]
        assert found["kib"] < 8 * 64 * 1024
        assert path.stat().st_size == size

    def test_many_bad_lines_are_told_in_a_thousand(self, tmp_path: Path) -> None:
        plant(tmp_path, good("first").raw, *[b"no record"] * 300_000, good("last").raw)
        found = looked_at(tmp_path)
        assert found["ids"] == ["first", "last"]
        assert len(found["problems"]) <= 1_001
        assert found["kib"] < 40 * 1024


class TestWords:
    """What is told of a line is short, however long the line is."""

    @pytest.mark.parametrize(
        "raw",
        [
            b'{"id":"a","updated_at":"' + b"y" * MIB + b'"}',
            b'{"id":"a","updated_at":' + b"9" * 4_000 + b"}",
            b'{"id":"a","updated_at":[' + b"1," * MIB + b"1]}",
            b'{"id":"' + b"i" * MIB + b'"}',
            b"y" * MIB,
            b'{"' + b"k" * MIB + b'":}',
        ],
    )
    def test_a_long_value_is_cut(self, tmp_path: Path, raw: bytes) -> None:
        plant(tmp_path, good("first").raw, raw)
        with open_store(tmp_path) as store:
            (told,) = [one for one in store.check().problems if one.line == 2]
            assert len(told.message) < 400
            assert all(len(one.reason) < 400 for one in store.list_tolerant(NAME).unreadable)
