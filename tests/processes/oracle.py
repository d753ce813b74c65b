"""What the files say, read without any of the code under test."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

State = dict[str, dict[str, Any]]  # the live record of each id, as JSON


def whole_lines(data: bytes) -> list[dict[str, Any]]:
    """The lines of a journal that end in a newline; every one of them must be JSON."""
    lines: list[dict[str, Any]] = []
    for place, line in enumerate(data.split(b"\n")[:-1]):
        try:
            lines.append(json.loads(line))
        except ValueError:
            around = data.split(b"\n")[max(0, place - 2) : place + 3]
            raise AssertionError(f"line {place + 1} is not JSON: {line!r}, among {around}") from None
    return lines


def read(path: Path) -> bytes:
    """The bytes of a file; none when it is absent."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def versions(lines: Iterable[dict[str, Any]]) -> set[tuple[str, int]]:
    """Which writes the lines are of: id and ``n``."""
    return {(line["id"], line["n"]) for line in lines if "n" in line}


def fold(lines: Iterable[dict[str, Any]]) -> State:
    """The latest state per id: the highest stamp, and the later line on a tie."""
    state: State = {}
    for line in lines:
        known = state.get(line["id"])
        if known is None or line["updated_at"] >= known["updated_at"]:
            state[line["id"]] = line
    return {record_id: line for record_id, line in state.items() if not line.get("deleted")}


def copy_of_the_journals(store: Path, target: Path) -> Path:
    """A store directory with the journals of another and nothing else: what a fresh clone has."""
    target.mkdir(parents=True)
    for path in store.glob("*.jsonl"):
        shutil.copy(path, target)
    return target
