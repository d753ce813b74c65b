"""The rules for names and ids, and the limits that bind writes.

Lines of a file that break a limit are served all the same, and reported: somebody else's data is not ours to drop.
"""

from __future__ import annotations

import re
from typing import Final

from taskstore_async.errors import InvalidIdError, InvalidNameError, LimitExceededError

__all__ = [
    "MAX_ID_CHARS",
    "MAX_INDEXED_FIELDS",
    "MAX_LINE_BYTES",
    "MAX_NESTING",
    "MAX_READ_NESTING",
    "can_be_stored",
    "check_collection",
    "check_field",
    "check_id",
    "is_collection",
    "is_device",
]

MAX_ID_CHARS: Final = 256
MAX_INDEXED_FIELDS: Final = 64
MAX_LINE_BYTES: Final = 10 * 1024 * 1024
MAX_NESTING: Final = 200
"""How deeply a line may be nested, in levels: the record itself is the first."""

MAX_READ_NESTING: Final = 500
"""How deeply a line may be nested to be read. Python's stack decides what can be decoded, and it differs from caller
to caller; a bound well below it makes every reader serve the same lines."""

_COLLECTION: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
)
_RESERVED: Final = _DEVICES | {"store", "merges"}

# Control characters (C0, delete, C1), and the two separators that end a line as they do.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def is_collection(name: str) -> bool:
    """Whether *name* can be a collection's: ``[a-z][a-z0-9_-]{0,63}``, and not reserved."""
    return _COLLECTION.fullmatch(name) is not None and name not in _RESERVED


def is_device(name: str) -> bool:
    """Whether Windows calls a device so, in which case no file there can have the name, with any suffix."""
    return name in _DEVICES


def check_collection(name: str) -> str:
    """Return *name* when it can be a collection's.

    Raises:
        InvalidNameError: It cannot: it is not ``[a-z][a-z0-9_-]{0,63}``, or it is reserved: ``store``, ``merges``,
            what Windows calls its devices.
    """
    if _COLLECTION.fullmatch(name) is None:
        raise InvalidNameError("collection", name, "it must match [a-z][a-z0-9_-]{0,63}")
    if name in _RESERVED:
        owner = "Windows calls a device so" if name in _DEVICES else "the store has a file of that name"
        raise InvalidNameError("collection", name, f"it is reserved, because {owner}; choose another")
    return name


def check_field(name: str) -> str:
    """Return *name* when it can be that of a declared field or a filter.

    Raises:
        InvalidNameError: It is not ``[A-Za-z_][A-Za-z0-9_]{0,63}``.
    """
    if _FIELD.fullmatch(name) is None:
        raise InvalidNameError("field", name, "it must match [A-Za-z_][A-Za-z0-9_]{0,63}")
    return name


def can_be_stored(record_id: object) -> bool:
    """Whether a record that is stored can have this id: SQLite takes nothing else for one, and fails."""
    return isinstance(record_id, str) and (record_id.isascii() or _SURROGATE.search(record_id) is None)


def check_id(value: object) -> str:
    """Return *value* as plain text when it can be the id of a record that is to be written.

    Raises:
        InvalidIdError: It is no text, blank, or has a control character, a line separator or a lone surrogate.
        LimitExceededError: It has more than 256 characters.
    """
    if not isinstance(value, str):
        raise InvalidIdError(f"a record's id is text, not {type(value).__name__}: {value!r:.100}", value)
    text = value if type(value) is str else str.__str__(value)
    # Most ids are printable, which says all of what follows at once. The first character: only a space is printable
    # and blank.
    if text.isprintable() and 0 < len(text) <= MAX_ID_CHARS and text[0] != " ":
        return text
    if not text.strip():
        raise InvalidIdError("Record ID cannot be empty", value)
    if len(text) > MAX_ID_CHARS:
        what = f"the record id {text[:20]!r}..."
        raise LimitExceededError(what, value=len(text), limit=MAX_ID_CHARS, unit="characters")
    if (found := _CONTROL.search(text)) is not None:
        reason = f"{found[0]!r}, a control character, at position {found.start()}"
        raise InvalidIdError(f"the record id {text!r} cannot be used: it has {reason}; leave it out", value)
    if (found := _SURROGATE.search(text)) is not None:
        reason = f"{found[0]!r}, a lone surrogate, at position {found.start()}"
        raise InvalidIdError(f"the record id {text!r} cannot be used: it has {reason}; it is no text", value)
    return text
