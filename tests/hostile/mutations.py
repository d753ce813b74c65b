"""Small changes to bytes, of the kinds that disks, editors, checkouts and careless scripts make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

__all__ = ["PIECES", "mutated"]

PIECES: Final = (
    *(b"\n", b"\r\n", b"\r", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80"),
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":"),
    *(b"<<<<<<< a\n", b"||||||| b\n", b"=======\n", b">>>>>>> c\n"),
    *(b'"id":"x"', b'"id":7', b'"deleted":true', b'"updated_at":', b'"2024-01-01T00:00:00Z"'),
    *(b"null", b"NaN", b"1e400", b"9007199254740993", b"-1", b'"\\ud800"', b"[" * 300, b" " * 50),
)


def _flip(dice: random.Random, data: bytes) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :]


def _insert(dice: random.Random, data: bytes) -> bytes:
    place = dice.randrange(len(data) + 1)
    return data[:place] + dice.choice(PIECES) + data[place:]


def _cut(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _drop(dice: random.Random, data: bytes) -> bytes:
    first, last = sorted((dice.randrange(len(data) + 1), dice.randrange(len(data) + 1)))
    return data[:first] + data[min(last, first + 40) :]


def _lines(dice: random.Random, data: bytes) -> bytes:
    """Drop, repeat or move a line."""
    lines = data.split(b"\n")
    line = lines.pop(dice.randrange(len(lines)))
    for _ in range(dice.randrange(3)):
        lines.insert(dice.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


_WAYS: Final[Sequence[Callable[[random.Random, bytes], bytes]]] = (_flip, _insert, _cut, _drop, _lines)


def mutated(dice: random.Random, data: bytes, *, most: int = 4) -> bytes:
    """*data* with one to *most* changes; an empty file stays one."""
    for _ in range(dice.randint(1, most)):
        if data:
            data = dice.choice(_WAYS)(dice, data)
    return data
