"""Making ids, and finding a record by the beginning of one."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from taskstore_async.core.names import check_id
from taskstore_async.errors import AmbiguousIdError, InvalidIdError, LimitExceededError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ENTROPY_BYTES", "make_id", "resolve_prefix", "text_id"]

ENTROPY_BYTES: Final = 8
"""How many random bytes an id takes."""

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # without i, l, o, u; in the order of the characters
_BITS: Final = 5
_TIME_CHARS: Final = 10
_RANDOM_CHARS: Final = -(-ENTROPY_BYTES * 8 // _BITS)
_LAST_MS: Final = 2 ** (_TIME_CHARS * _BITS) - 1
_COMPARED: Final = 10_000  #: ids among which similar ones are looked for; a message is not worth more time


def make_id(prefix: str, now_ms: int, entropy: bytes) -> str:
    """An id like ``prd-01hjzx8g00v3m9kq2d7t1wxyz``: the prefix, ten characters of time, thirteen of chance.

    The ids of one prefix sort by the time at which they were made.

    Args:
        prefix: What kind of record it is; may be empty.
        now_ms: Milliseconds since the epoch; a time after the year 37000 counts as the last one before.
        entropy: Eight random bytes; further ones are left alone.

    Raises:
        InvalidIdError: *entropy* is too short, or *prefix* has what no id may have.
        LimitExceededError: *prefix* is too long for an id.
    """
    if len(entropy) < ENTROPY_BYTES:
        raise InvalidIdError(f"an id is made of {ENTROPY_BYTES} random bytes, got {len(entropy)}", prefix)
    time = _spelled(min(max(now_ms, 0), _LAST_MS), _TIME_CHARS)
    chance = _spelled(int.from_bytes(entropy[:ENTROPY_BYTES], "big"), _RANDOM_CHARS)
    return check_id(f"{prefix}-{time}{chance}" if prefix else f"{time}{chance}")


def text_id(text: str) -> str:
    """The id of what is known by *text*, such as a path: the text itself, or a hash of one that can be no id.

    Raises:
        InvalidIdError: *text* is blank.
    """
    try:
        return check_id(text)
    except (InvalidIdError, LimitExceededError):
        if not text.strip():
            raise
    from hashlib import sha256  # noqa: PLC0415 - reason: next to no text needs it

    return f"sha256-{sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def resolve_prefix(prefix: str, ids: Iterable[str], *, collection: str) -> str:
    """The one id that *prefix* is, or else that begins with it.

    Args:
        prefix: An id, or the beginning of one.
        ids: The ids of the records there are.
        collection: Where they stand, for the message.

    Raises:
        InvalidIdError: *prefix* is blank, which is the beginning of every id.
        AmbiguousIdError: Several ids begin with it, and none is it.
        NotFoundError: None does; ``near`` has up to three that look like it.
    """
    known = list(ids)
    if prefix in known:
        return prefix
    if not prefix.strip():
        raise InvalidIdError("Record ID cannot be empty", prefix)
    candidates = sorted({record_id for record_id in known if record_id.startswith(prefix)})
    if len(candidates) > 1:
        raise AmbiguousIdError(collection, prefix, tuple(candidates))
    if not candidates:
        raise NotFoundError(collection, prefix, near=_near(prefix, known))
    return candidates[0]


def _near(prefix: str, known: Iterable[str]) -> tuple[str, ...]:
    """Up to three ids whose beginning looks like *prefix*, the most similar first."""
    from difflib import get_close_matches  # noqa: PLC0415 - reason: slow to load, and only a mistake needs it

    beginnings: dict[str, str] = {}
    for record_id in islice(known, _COMPARED):
        beginnings.setdefault(record_id[: len(prefix)], record_id)
    return tuple(beginnings[match] for match in get_close_matches(prefix, beginnings))


def _spelled(number: int, chars: int) -> str:
    """Spell *number* with *chars* characters of the alphabet, the highest first."""
    return "".join([_ALPHABET[number >> shift & 31] for shift in range((chars - 1) * _BITS, -1, -_BITS)])
