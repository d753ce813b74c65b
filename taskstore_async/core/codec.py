"""JSON, exactly: bytes to values and back, with nothing rounded or dropped; and how long and deep it may be."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from msgspec.json import Decoder, Encoder

from taskstore_async.core.names import MAX_LINE_BYTES, MAX_NESTING
from taskstore_async.core.readback import difference, reason_of, unwritable
from taskstore_async.errors import InvalidRecordError, LimitExceededError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ALWAYS_FINE_BYTES",
    "check_line",
    "decode_exact",
    "encode_exact",
    "exact_float",
    "is_fine",
    "join_fields",
    "may_be_deep",
    "nesting",
    "same_value",
    "split_fields",
]

# -- values -------------------------------------------------------------------------------------------------

_FIELDS: Final = Decoder(dict[str, msgspec.Raw])
_WELL_FORMED: Final = Decoder(msgspec.Raw)
_ENCODER: Final = Encoder(decimal_format="number")
_ONLY_RAW: Final = frozenset({msgspec.Raw})
_SAFE_FLOAT_CHARS: Final = 16  #: 15 digits and a point: a float has all of them
_SCALARS: Final = frozenset({str, int, float, bool, type(None), Decimal})
_BEYOND: Final = Decimal("NaN")


def decode_exact(raw: bytes | msgspec.Raw) -> Any:  # noqa: ANN401 - reason: JSON is any value
    """The value that the JSON text *raw* says.

    Returns:
        Objects as ``dict`` (of duplicate keys the last counts, in the first one's place), lists as ``list``, integers
        as ``int`` of any size, other numbers as ``float`` when that says the same number, else as ``Decimal``.
        Integers of more digits than Python converts (4,300) are ``Decimal`` too. A number whose exponent is beyond
        what ``Decimal`` has (18 digits) is ``Decimal("NaN")``: it is there, equal to nothing, and cannot be written.

    Raises:
        ValueError: *raw* is no JSON in UTF-8, or has a lone surrogate. (``msgspec.DecodeError`` and
            ``UnicodeDecodeError`` are ones.)
        RecursionError: It is nested too deeply; never at 500 levels or less, unless the caller's stack is.
    """
    try:
        return _EXACT.decode(raw)
    except msgspec.ValidationError:  # a well-formed integer that is too long
        return _decode_long(bytes(raw))


def encode_exact(obj: object, *, subject: str) -> bytes:
    """Encode *obj* as compact JSON, and prove that it reads back as the same value.

    A tuple is a list to JSON, and text or a number of a subclass is what its base class says.

    Args:
        obj: The value.
        subject: What it is, for messages: ``plans/plan-1``.

    Raises:
        InvalidRecordError: JSON does not have a value in it (NaN, an infinity, a lone surrogate, a key that is no
            text, a class that JSON lacks), or would bring it back as another; ``path`` leads to it.
        LimitExceededError: It is nested more than 200 levels deep.
    """
    try:
        data = _ENCODER.encode(obj)
        back = decode_exact(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRecordError(subject, *(unwritable(obj, subject) or reason_of(error))) from error
    if not _same(obj, back):
        found = unwritable(obj, subject) or difference(obj, back) or ("$", "it would not read back as itself")
        raise InvalidRecordError(subject, *found)
    _check_nesting(data, subject)
    return data


def split_fields(data: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The fields of the JSON object *data*, each as the text that stands there, in the order of first appearance.

    Of duplicate keys the last counts, as everywhere. The values are views of *data*, and not looked into: invalid
    UTF-8 in them passes, so *data* must be a line that is served, or our own.

    Raises:
        msgspec.DecodeError: *data* is no JSON object.
    """
    return _FIELDS.decode(data)


def join_fields(fields: Mapping[str, msgspec.Raw | bytes]) -> bytes:
    """The JSON object with *fields*, compact but for what stands inside the values."""
    if not _ONLY_RAW.issuperset(map(type, fields.values())):
        fields = {name: msgspec.Raw(value) for name, value in fields.items()}
    return _ENCODER.encode(fields)


def same_value(old: bytes, new: bytes) -> bool:
    """Whether two JSON texts say the same value.

    Numbers are equal when they are the same number (1, 1.0 and 10e-1; 0 and -0.0), exactly, whatever a float would
    round; text by its characters, however escaped; objects by keys, in any order; lists item by item.

    Raises:
        ValueError: As `decode_exact` says.
        RecursionError: As `decode_exact` says.
    """
    return old == new or _same(decode_exact(old), decode_exact(new))


def exact_float(text: str) -> float | Decimal:
    """Read a number with a fraction or an exponent: a float when it says the same number, else a decimal."""
    number = float(text)
    if len(text) <= _SAFE_FLOAT_CHARS and "e" not in text and "E" not in text:
        return number
    try:
        exact = Decimal(text)
    except InvalidOperation:
        return _BEYOND
    return number if Decimal(repr(number)) == exact else exact


def _exact_int(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:  # Python refuses to convert so many digits, because it takes quadratic time
        return Decimal(text)


_EXACT: Final = Decoder(float_hook=exact_float)


def _decode_long(raw: bytes) -> Any:  # noqa: ANN401 - reason: as decode_exact
    """Decode JSON that has an integer of more digits than ``msgspec`` takes."""
    import json  # noqa: PLC0415 - reason: next to no line needs it

    # json takes what is no JSON (NaN, lone surrogates), so msgspec judges the text first.
    _WELL_FORMED.decode(raw)
    return json.loads(raw.decode(), parse_int=_exact_int, parse_float=exact_float)


def _same(made: object, read: object) -> bool:
    """Whether *made* is the value *read*, which was decoded from JSON. Not recursive: values may be nested deeply."""
    pairs: list[tuple[Any, Any]] = [(made, read)]
    while pairs:
        one, other = pairs.pop()
        kind = cast("type[object]", type(other))
        given = cast("type[object]", type(one))
        if given is kind and kind in _SCALARS:
            if one != other:
                return False
        elif kind is dict:
            if not issubclass(given, dict) or one.keys() != other.keys():
                return False
            pairs.extend([(one[key], item) for key, item in other.items()])
        elif kind is list:
            if not issubclass(given, list | tuple) or len(one) != len(other):
                return False
            pairs.extend(zip(one, other, strict=True))
        elif not _same_scalar(one, other):
            return False
    return True


def _same_scalar(one: object, other: object) -> bool:
    """Whether two scalars of different classes are the same to JSON: text of a subclass, numbers of any class."""
    if isinstance(other, str):
        return isinstance(one, str) and one == other
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    if not isinstance(one, int | float | Decimal) or not isinstance(other, int | float | Decimal):
        return False
    return _decimal(one) == _decimal(other)


def _decimal(number: float | Decimal) -> Decimal:
    """The number that was written: of a float not the binary fraction that it is, but the decimal one it stands for."""
    return Decimal(float.__repr__(number)) if isinstance(number, float) else Decimal(number)


# -- limits -------------------------------------------------------------------------------------------------

ALWAYS_FINE_BYTES: Final = 2 * MAX_NESTING
"""Shorter lines break no limit: what is nested too deeply has more bytes."""
_TEXTS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = {byte: 1 if byte in b"[{" else -1 for byte in b"[]{}"}


def check_line(line: bytes, *, subject: str) -> None:
    """Refuse a line, which is well-formed, that breaks a limit.

    Raises:
        LimitExceededError: It has more than 10 MiB, or more than 200 levels of nesting.
    """
    if len(line) > MAX_LINE_BYTES:
        raise LimitExceededError(subject, value=len(line), limit=MAX_LINE_BYTES, unit="bytes")
    _check_nesting(line, subject)


def _check_nesting(line: bytes, subject: str) -> None:
    if may_be_deep(line) and (depth := nesting(line)) > MAX_NESTING:
        raise LimitExceededError(subject, value=depth, limit=MAX_NESTING, unit="levels of nesting")


def may_be_deep(line: bytes) -> bool:
    """Tell whether the line has as many brackets as it takes to be nested too deeply; nearly none has."""
    return len(line) > ALWAYS_FINE_BYTES and line.count(b"[") + line.count(b"{") > MAX_NESTING


def is_fine(line: bytes) -> bool:
    """Tell that the line breaks no limit, as nearly no line does, however long."""
    return len(line) <= MAX_LINE_BYTES and not may_be_deep(line)


def nesting(line: bytes) -> int:
    """How many levels of nesting the line has, whether or not it is well-formed."""
    depth = deepest = 0
    for byte in _TEXTS.sub(b"", line).translate(None, _NOT_BRACKETS):
        depth += _STEPS[byte]
        deepest = max(deepest, depth)
    return deepest
