"""Why a record cannot be written, or would not read back as itself.

Only asked when something is wrong, so that it may take its time and tell where.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from enum import Enum
from typing import Final, cast

import msgspec

from taskstore_async.core.names import MAX_NESTING
from taskstore_async.errors import LimitExceededError

__all__ = ["difference", "reason_of", "step", "unwritable"]

_LOCATED: Final = re.compile(r"(?P<reason>.*) - at `(?P<path>\$[^`]*)`", re.DOTALL)


def reason_of(error: Exception) -> tuple[str, str]:
    """The path into the data and the reason that an error of msgspec, or of the user's code, gives."""
    try:
        text = str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - reason: that of a hook may be broken, too
        text = type(error).__name__
    located = _LOCATED.fullmatch(text)
    return ("$", text) if located is None else (located["path"], located["reason"])


def step(path: str, key: object) -> str:
    """The path of what *path* has under *key*."""
    if isinstance(key, str) and key.isidentifier():
        return f"{path}.{key}"
    return f"{path}[{key!r}]"


def unwritable(value: object, subject: str, path: str = "$", depth: int = 0) -> tuple[str, str] | None:
    """Find the first value that JSON does not have.

    Returns:
        Its path and the reason; None when there is none.

    Raises:
        LimitExceededError: The value is nested deeper than a line may be, perhaps endlessly.
    """
    if depth > MAX_NESTING:
        raise LimitExceededError(subject, value=depth, limit=MAX_NESTING, unit="levels of nesting")
    inside = _inner(value)
    if inside is None:
        reason = _flaw(value.value if isinstance(value, Enum) else value)
        return None if reason is None else (path, reason)
    for key, item in inside:
        reason = _flaw(key) or _flaw({key: None})  # a tuple is a value to JSON, but no key
        if reason is not None:
            return path, f"as a key, {reason}"
        found = unwritable(item, subject, step(path, key), depth + 1)
        if found is not None:
            return found
    return None


def _flaw(value: object) -> str | None:
    """Tell what makes a value without others inside unfit for JSON."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{value!r} has a lone surrogate, which is no text"
    elif isinstance(value, float | Decimal):
        finite = value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)
        return None if finite else f"{value!r} is no number that JSON has"
    elif value is not msgspec.UNSET:
        try:
            msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError) as error:
            return str(error)
    return None


def difference(made: object, read: object, path: str = "$") -> tuple[str, str] | None:
    """Find the first place where *read*, decoded from what *made* encodes to, is not the same value.

    A tuple and a list of the same items are the same: an annotation like ``Sequence[str]`` tells them apart no more
    than JSON does. So are sets, and numbers of equal value where the type of the field does not choose among them.

    Returns:
        The path and the reason; None when there is no difference.
    """
    if isinstance(made, Decimal) and isinstance(read, float):
        return None if Decimal(repr(read)) == made else _differs(made, read, path)
    if isinstance(made, dt.datetime) and isinstance(read, dt.datetime):
        # Not ==: it is never true of an hour that a time zone has twice.
        wall = made.replace(tzinfo=None) == read.replace(tzinfo=None)
        return None if wall and made.utcoffset() == read.utcoffset() else _differs(made, read, path)
    comparable = type(made) is type(read) or all(isinstance(value, list | tuple) for value in (made, read))
    inside, other = _inner(made), _inner(read)
    unordered = isinstance(made, AbstractSet)
    if not comparable or inside is None or other is None or unordered:
        return None if made == read else _differs(made, read, path)  # pyright: ignore[reportUnknownArgumentType] - reason: narrowed to a set of anything
    wanted, found = dict(inside), dict(other)
    if wanted.keys() != found.keys():
        return _differs(made, read, path)
    for key, item in wanted.items():
        if (differing := difference(item, found[key], step(path, key))) is not None:
            return differing
    return None


def _differs(made: object, read: object, path: str) -> tuple[str, str]:
    was, becomes = (f"{value!r:.200} ({type(value).__name__})" for value in (made, read))
    return path, f"{was} would read back as {becomes}"


def _inner(value: object) -> Iterable[tuple[object, object]] | None:
    """Yield what is inside *value* under its name in JSON; None when it is no container that JSON knows."""
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return ((encoded, getattr(value, name)) for encoded, name in names)
    if isinstance(value, Mapping):
        return cast("Mapping[object, object]", value).items()
    if isinstance(value, list | tuple | AbstractSet):
        return enumerate(cast("Iterable[object]", value))
    import dataclasses  # noqa: PLC0415 - reason: only asked when something is wrong

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    return None
