"""What the files say, read without any of the code under test."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

State = dict[str, dict[str, Any]]  # the live record of each id, as JSON


def whole_lines(data: bytes, *, superseded: bool = False) -> list[dict[str, Any]]:
    """The lines of a journal, every one of which must be JSON; a last one without a newline may be torn.

    Args:
        data: The journal.
        superseded: A line may be torn behind which there is a whole one of its record: whoever was killed appending it
            did so for another process, which lived, and changed the record before anybody could complete the line.
    """
    lines: list[dict[str, Any]] = []
    *whole, last = data.split(b"\n")
    with suppress(ValueError):
        json.loads(last)
        whole.append(last)
    for place, line in enumerate(whole):
        try:
            lines.append(json.loads(line))
        except ValueError:
            begin = line[: line.find(b'"', len(b'{"id":"')) + 1] or line
            if superseded and any(later.startswith(begin) for later in whole[place + 1 :]):
                continue
            around = data.split(b"\n")[max(0, place - 2) : place + 3]
            raise AssertionError(f"line {place + 1} is not JSON: {line!r}, among {around}") from None
    return lines


def ends_whole(data: bytes) -> bool:
    """Whether the last line of a journal, if there is any, is not torn."""
    try:
        json.loads(data.rpartition(b"\n")[2] or b"null")
    except ValueError:
        return False
    return True


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
