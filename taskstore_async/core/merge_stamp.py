"""The stamp of a version that a merge made."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

import msgspec

from taskstore_async.core.codec import decode_exact, join_fields, split_fields
from taskstore_async.core.stamp import MAX_STAMP_MS, NS_PER_MS, read_stamp

__all__ = ["STAMP", "restamped", "stamp_above", "stamp_of"]

STAMP: Final = "updated_at"

_NS_PER_S: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - reason: local time of the text's own offset
_TEXT: Final = re.compile(r".{10}([Tt ]).{8}(?:\.([0-9]+))?([Zz]|([+-])([0-9]{2}):([0-9]{2}))?", re.DOTALL)
_LEAST_DIGITS: Final = 3  #: of a second: what a millisecond takes
_MOST_DIGITS: Final = 9  #: what an instant has


def stamp_above(instant: int, form: object) -> bytes:
    """The stamp one millisecond above *instant*, as JSON.

    Args:
        instant: Nanoseconds since the epoch.
        form: The decoded stamp whose form it takes: RFC 3339 with its separator, zone and digits (at least three), or
            whole milliseconds. Whatever is no stamp gives milliseconds.

    Returns:
        JSON text. At 2^53-1 milliseconds the stamp stays, and after the year 9999 text becomes milliseconds.
    """
    if isinstance(form, str) and read_stamp(form) is not None and (found := _TEXT.fullmatch(form)) is not None:
        text = _as_text(instant + NS_PER_MS, found)
        if text is not None:
            return msgspec.json.encode(text)
    return str(min(instant // NS_PER_MS + 1, MAX_STAMP_MS)).encode()


def stamp_of(line: bytes) -> object:
    """The decoded stamp of a line; None when it has none."""
    raw = split_fields(line).get(STAMP)
    return None if raw is None else decode_exact(raw)


def restamped(line: bytes, stamp: bytes) -> bytes:
    """*line* with another stamp, given as JSON."""
    return join_fields({**split_fields(line), STAMP: stamp})


def _as_text(instant: int, form: re.Match[str]) -> str | None:
    separator, fraction, zone, sign, hours, minutes = form.groups()
    offset_s = 0 if sign is None else (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1)
    seconds, ns = divmod(instant + offset_s * _NS_PER_S, _NS_PER_S)
    try:
        time = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    digits = min(max(len(fraction or ""), _LEAST_DIGITS), _MOST_DIGITS)
    return f"{time.isoformat(separator)}.{f'{ns:09}'[:digits]}{zone or ''}"
