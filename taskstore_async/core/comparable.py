"""What a value in a record is to a filter, an order and an index.

A JSON value is comparable as a number, as text or not at all. One function decides, and SQLite's columns,
the filters in Python and every order use it, so that they cannot disagree.
"""

from __future__ import annotations

import math
from decimal import Decimal
from enum import Enum
from typing import Final, TypeAlias

from msgspec import UNSET

from taskstore_async.core.stamp import read_stamp, to_ms

__all__ = ["COMPARABLE", "OPAQUE", "Opaque", "comparable", "field_comparable", "sort_key"]


class Opaque(Enum):
    """The type of `OPAQUE`, apart from every JSON value."""

    OPAQUE = "opaque"

    def __repr__(self) -> str:
        """Return the name that code uses."""
        return self.name


OPAQUE: Final = Opaque.OPAQUE
"""A value that is there, but equal to nothing: a list, an object, an integer beyond 64 bits."""

COMPARABLE: TypeAlias = int | float | str | Opaque | None
"""What `comparable` returns. Never a ``bool``, never NaN, never an infinity."""

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_STAMPS: Final = frozenset({"created_at", "updated_at"})


def comparable(value: object) -> COMPARABLE:
    """What *value* compares as.

    Args:
        value: A decoded JSON value, ``decimal.Decimal`` for a number that a float would round, or
            ``msgspec.UNSET`` for a field that is not there.

    Returns:
        ``None`` for null and for what is missing; text as it is; ``true`` and ``false`` as 1 and 0; integers of
        64 bits and finite floats as they are; a `Decimal` as the nearest finite float; `OPAQUE` for the rest.
    """
    if type(value) is str or (type(value) is int and _LEAST <= value <= _MOST):  # nearly all
        return value
    if value is None or value is UNSET:
        return None
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value) if _LEAST <= value <= _MOST else OPAQUE
    if isinstance(value, Decimal):
        value = float(value) if value.is_finite() else math.inf
    if isinstance(value, float) and math.isfinite(value):
        return value
    return OPAQUE


def field_comparable(name: str, value: object) -> COMPARABLE:
    """What *value* compares as in the field *name*.

    ``created_at`` and ``updated_at`` compare as whole milliseconds, whichever readable form the line has them in
    (so RFC 3339 text of another tool sorts among our integers); every other field as `comparable` says.
    """
    if name in _STAMPS:
        instant = read_stamp(value)
        if instant is not None:
            return to_ms(instant)
    return comparable(value)


def sort_key(value: COMPARABLE) -> tuple[int, int | float | str]:
    """A key that orders comparable values: None, then numbers, then text by code point, then what is opaque."""
    if value is None:
        return (0, 0)
    if isinstance(value, str):
        return (2, value)
    if isinstance(value, Opaque):
        return (3, 0)
    return (1, value)
