"""Made-up journals: what stands in them, and what to look at in a merge of them."""

from __future__ import annotations

import json
from itertools import permutations
from typing import TYPE_CHECKING

from taskstore_async.core.fold import fold
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge import merge
from tests.core.merge_oracle import content

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from tests.core.merge_oracle import Journal, Value

__all__ = ["data", "dump", "result", "together"]


def dump(value: Value) -> bytes:
    """A line."""
    return json.dumps(value, separators=(",", ":")).encode()


def data(journal: Journal) -> bytes:
    """A file."""
    return b"".join(line + b"\n" for line in journal)


def result(merged: bytes) -> dict[str, Hashable]:
    """What each record of a file says."""
    return {record_id: content(json.loads(state.line.raw)) for record_id, state in fold(decode_lines(merged)).items()}


def together(base: bytes, sides: Sequence[bytes]) -> Iterator[bytes]:
    """The merges of three branches, in every order and bracketing, without those that stop at a conflict."""
    for first, second, third in permutations(sides):
        inner = merge(base, first, second)
        for outer in (merge(base, inner.data, third), merge(base, third, inner.data)):
            if not inner.conflicts and not outer.conflicts:
                yield outer.data
