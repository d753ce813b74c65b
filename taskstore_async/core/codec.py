"""Lines and the JSON in them: bytes to values and back, with nothing rounded and nothing dropped.

A line that is served (`Line`) is one that `decode_exact` decodes; everything else is a `BadLine`, a value too, so
that it never hides the lines around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial
from itertools import accumulate, count, repeat
from operator import attrgetter, itemgetter
from typing import Any, Final, TypeAlias, TypeVar, cast

import msgspec
from msgspec import UNSET
from msgspec.json import Decoder, Encoder

from taskstore_async.core.ids import text_id
from taskstore_async.core.names import MAX_ID_CHARS, MAX_LINE_BYTES, MAX_NESTING, MAX_READ_NESTING, check_id
from taskstore_async.core.readback import difference, reason_of, unwritable
from taskstore_async.core.stamp import MAX_STAMP_MS, NS_PER_MS, read_stamp
from taskstore_async.errors import InvalidIdError, InvalidRecordError, LimitExceededError

__all__ = [
    "ALWAYS_FINE_BYTES",
    "BadLine",
    "Columns",
    "Known",
    "Line",
    "LineReader",
    "check_line",
    "columns_of_lines",
    "decode_exact",
    "decode_line",
    "decode_lines",
    "encode_exact",
    "join_fields",
    "same_value",
    "split_fields",
    "tombstone",
    "values_of_line",
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


def _exact_float(text: str) -> float | Decimal:
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


_EXACT: Final = Decoder(float_hook=_exact_float)


def _decode_long(raw: bytes) -> Any:  # noqa: ANN401 - reason: as decode_exact
    """Decode JSON that has an integer of more digits than ``msgspec`` takes."""
    import json  # noqa: PLC0415 - reason: next to no line needs it

    # json takes what is no JSON (NaN, lone surrogates), so msgspec judges the text first.
    _WELL_FORMED.decode(raw)
    return json.loads(raw.decode(), parse_int=_exact_int, parse_float=_exact_float)


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
    if _may_be_deep(line) and (depth := _nesting(line)) > MAX_NESTING:
        raise LimitExceededError(subject, value=depth, limit=MAX_NESTING, unit="levels of nesting")


def _may_be_deep(line: bytes) -> bool:
    """Tell whether the line has as many brackets as it takes to be nested too deeply; nearly none has."""
    return len(line) > ALWAYS_FINE_BYTES and line.count(b"[") + line.count(b"{") > MAX_NESTING


def _is_fine(line: bytes) -> bool:
    """Tell that the line breaks no limit, as nearly no line does, however long."""
    return len(line) <= MAX_LINE_BYTES and not _may_be_deep(line)


def _nesting(line: bytes) -> int:
    """How many levels of nesting the line has, whether or not it is well-formed."""
    depth = deepest = 0
    for byte in _TEXTS.sub(b"", line).translate(None, _NOT_BRACKETS):
        depth += _STEPS[byte]
        deepest = max(deepest, depth)
    return deepest


# -- lines --------------------------------------------------------------------------------------------------


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line that is a record or a tombstone.

    Attributes:
        id: The record's id; an integer one as its decimal text.
        raw: The line's bytes: no newline, no carriage return before it, no byte order mark. An id that it lacked stands
            first in them.
        instant: ``updated_at`` in nanoseconds since the epoch; None when there is no readable one.
        created_at: ``created_at`` as it is decoded; ``msgspec.UNSET`` when there is none. See `created`.
        deleted: It is a tombstone.
        values: The decoded values of the fields that were asked for, in that order; ``msgspec.UNSET`` where one is
            absent.
        number: Its number in the file, from 1.
        offset: Where it begins in the file, in bytes.
        problem: What is wrong with a line that is served all the same; None for nearly all.
    """

    id: str
    raw: bytes
    instant: int | None
    created_at: object
    deleted: bool
    values: tuple[Any, ...]
    number: int = 0
    offset: int = 0
    problem: str | None = None

    @property
    def created(self) -> int | None:
        """``created_at`` in nanoseconds since the epoch; None when there is no readable one."""
        return read_stamp(self.created_at)  # not kept: only lines without a stamp, and merges, ask


class BadLine(msgspec.Struct, frozen=True, gc=False):
    """A line that is no record.

    Attributes:
        number: Its number in the file, from 1.
        offset: Where it begins in the file, in bytes.
        raw: Its bytes, as in `Line`.
        reason: Why it is none.
    """

    number: int
    offset: int
    raw: bytes
    reason: str


class Columns(msgspec.Struct, frozen=True, gc=False):
    """Many lines, field by field: live records whose stamps are integers, and nothing to say about any.

    Attributes:
        ids: As in `Line`, as are the others.
        raws: Their bytes.
        stamps_ms: Their ``updated_at``.
        values: Of each field that was asked for, the values of all lines.
    """

    ids: Sequence[str]
    raws: Sequence[bytes]
    stamps_ms: Sequence[int]
    values: tuple[Sequence[Any], ...]


_Read: TypeAlias = Callable[[bytes, int, int], Line | BadLine]
Known: TypeAlias = Callable[[Sequence[bytes], int, int], int]
"""Of lines, a place among them and an end: how many lines from there on, below the end, are known."""
_Found: TypeAlias = tuple[tuple[Any, ...], ...]  #: lines field by field: those of `_BASE`, then the sources
_ReadMany: TypeAlias = Callable[[bytes, list[bytes]], _Found | None]

_T = TypeVar("_T")
_SHOWN_CHARS: Final = 60  #: of a value in a problem
_BASE: Final = ("id", "updated_at", "created_at", "deleted")
_EXTRA: Final = slice(len(_BASE), None)
_KNOWN_BY: Final = "repo_path"  #: what older programs know the records of repo_states by, instead of an id


def decode_line(raw: bytes, sources: Sequence[str], *, number: int = 0, offset: int = 0) -> Line | BadLine:
    """Read one line.

    A record is a JSON object whose ``id`` is text or an integer; one without is known by its ``repo_path``, if it has
    one, and gets that as its id. One with ``"deleted": true`` is a tombstone,
    whatever else it has. A line that breaks a limit, whose id could not be written or whose ``updated_at`` is no stamp
    (null counts as none) is served with a ``problem``.

    Args:
        raw: The line, without its end.
        sources: The fields whose values are wanted. Other fields are checked, not decoded.
        number: Its number in the file.
        offset: Where it begins in the file.

    Returns:
        A `Line`, which `decode_exact` can decode as a whole; else a `BadLine`.
    """
    return _reader_of(tuple(sources))[0](raw, number, offset)


def values_of_line(raw: bytes, sources: tuple[str, ...]) -> tuple[Any, ...]:
    """The values of the fields *sources* in a line that is served or ours, in that order; see `Line.values`."""
    return _values_readers_of(sources)[0](raw) if sources else ()


def columns_of_lines(raws: Sequence[bytes], sources: tuple[str, ...]) -> list[Sequence[Any]]:
    """The same of many such lines, field by field: of each source, the values of all lines."""
    return _values_readers_of(sources)[1](raws) if sources else []


_ReadValues: TypeAlias = Callable[[bytes], tuple[Any, ...]]
_ReadColumns: TypeAlias = Callable[[Sequence[bytes]], list[Sequence[Any]]]


@lru_cache(maxsize=256)
def _values_readers_of(sources: tuple[str, ...]) -> tuple[_ReadValues, _ReadColumns]:
    """Make the functions that read nothing but *sources*, of one line and of many."""

    def read_slowly(raw: bytes) -> tuple[Any, ...]:
        line = decode_line(raw, sources)
        assert isinstance(line, Line)  # noqa: S101 - reason: what is served was read before
        return line.values

    names = [f"f{place}" for place in range(len(sources))]
    fields: list[Any] = [(name, object, UNSET) for name in names]
    try:
        struct = msgspec.defstruct("Values", fields, rename=dict(zip(names, sources, strict=True)), gc=False)
    except ValueError:  # a name with a quote in it, or one twice
        return read_slowly, lambda raws: list(zip(*map(read_slowly, raws), strict=True))
    decoder: Decoder[Any] = Decoder(struct, float_hook=_exact_float)
    decode, decode_many = decoder.decode, decoder.decode_lines
    as_tuple: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple
    getters = [attrgetter(name) for name in names]

    def read(raw: bytes) -> tuple[Any, ...]:
        try:
            return as_tuple(decode(raw))
        except (ValueError, RecursionError):  # an integer too long to be one, for one
            return read_slowly(raw)

    def read_columns(raws: Sequence[bytes]) -> list[Sequence[Any]]:
        try:
            found = decode_many(b"\n".join(raws))
        except (ValueError, RecursionError):
            return list(zip(*map(read, raws), strict=True))
        return [list(map(getter, found)) for getter in getters]

    return read, read_columns


@lru_cache(maxsize=256)
def _reader_of(sources: tuple[str, ...]) -> tuple[_Read, _ReadMany]:
    """Make the functions that read lines for *sources*: one call into ``msgspec``, and checks of what it skips.

    The second one reads the lines of a text, which begin and end in braces, in one call; None when one must be looked
    at by itself.
    """
    names = tuple(dict.fromkeys((*_BASE, *sources)))
    fields: list[Any] = [("f0", str), *((f"f{place}", object, UNSET) for place in range(1, len(names)))]
    try:
        struct = msgspec.defstruct(
            "Fields", fields, rename={f"f{place}": name for place, name in enumerate(names)}, gc=False
        )
    except ValueError:  # a name with a quote, a backslash or a control character in it
        return partial(_read_slowly, sources), _read_none
    decoder: Decoder[Any] = Decoder(struct, float_hook=_exact_float)
    decode = decoder.decode
    as_tuple: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple
    places = [names.index(source) for source in sources]
    plain = names[_EXTRA] == sources  # nearly always: no field twice, and none that every record has

    def read(raw: bytes, number: int, offset: int) -> Line | BadLine:
        try:
            found = decode(raw)
            if not raw.isascii():
                raw.decode()  # msgspec does not look at the text of fields that it passes over
        except (ValueError, RecursionError):
            return _read_slowly(sources, raw, number, offset)
        values = as_tuple(found)
        record_id: str = values[0]
        stamp: object = values[1]
        if type(stamp) is int and 0 <= stamp <= MAX_STAMP_MS:
            instant: int | None = stamp * NS_PER_MS
        else:
            instant = read_stamp(stamp)
            if instant is None and stamp is not UNSET:
                return _read_slowly(sources, raw, number, offset)
        if (
            not (record_id.isprintable() and record_id[:1] > " " and len(record_id) <= MAX_ID_CHARS)  # as `check_id`
            or not (len(raw) <= ALWAYS_FINE_BYTES or _is_fine(raw))
        ):
            return _read_slowly(sources, raw, number, offset)
        chosen = values[_EXTRA] if plain else tuple([values[place] for place in places])
        return Line(record_id, raw, instant, values[2], values[3] is True, chosen, number, offset)

    return read, _many_reader(decoder) if plain else _read_none


def _many_reader(decoder: Decoder[Any]) -> _ReadMany:
    """Make the second of the functions of `_reader_of`."""
    as_tuple: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple

    def read_many(text: bytes, raws: list[bytes]) -> _Found | None:
        try:
            decoded = decoder.decode_lines(text)
            if not text.isascii():
                text.decode()
        except (ValueError, RecursionError):
            return None
        if len(decoded) != len(raws):
            return None
        found = tuple(zip(*map(as_tuple, decoded), strict=True))
        return found if _are_usual(found[0]) and _are_fine(raws) else None

    return read_many


def _read_none(_text: bytes, _raws: list[bytes]) -> None:
    """Tell that lines must be read one by one."""


def _are_usual(ids: tuple[str, ...]) -> bool:
    """Whether all can be the ids of records; see `check_id`."""
    joined = "".join(ids)
    return (
        joined.isprintable()
        and all(ids)
        and len(max(ids, key=len)) <= MAX_ID_CHARS
        and (" " not in joined or not any(one[0] == " " for one in ids))
    )


def _are_fine(raws: list[bytes]) -> bool:
    return len(max(raws, key=len)) <= ALWAYS_FINE_BYTES or all(
        _is_fine(raw) for raw in raws if len(raw) > ALWAYS_FINE_BYTES
    )


def _are_stamps(stamps: tuple[Any, ...]) -> bool:
    """Whether all are integers that `read_stamp` reads."""
    return set(map(type, stamps)) == {int} and min(stamps) >= 0 and max(stamps) <= MAX_STAMP_MS


def _as_columns(found: _Found, raws: list[bytes]) -> Columns | None:
    """What was found as columns; None when one is a tombstone, or has no integer as its stamp."""
    ids, stamps, _, deleted, *values = found
    return Columns(ids, raws, stamps, tuple(values)) if _are_stamps(stamps) and True not in deleted else None


def _as_lines(found: _Found, raws: list[bytes], number: int, offset: int) -> list[Line | BadLine] | None:
    """What was found as lines; None when there is something to say about a stamp."""
    ids, stamps, created, deleted, *values = found
    instants: list[int | None]
    if _are_stamps(stamps):
        instants = [stamp * NS_PER_MS for stamp in stamps]
    else:
        instants = list(map(read_stamp, stamps))
        if None in instants:
            without = [stamp for stamp, instant in zip(stamps, instants, strict=True) if instant is None]
            if any(stamp is not None and stamp is not UNSET for stamp in without):
                return None
    chosen = zip(*values, strict=True) if values else repeat(())
    tombstones = [one is True for one in deleted]
    offsets = accumulate([offset, *[len(raw) + 1 for raw in raws]])
    return list(map(Line, ids, raws, instants, created, tombstones, chosen, count(number), offsets))


class _Stamp(msgspec.Struct, gc=False):
    """The stamp of a line, and nothing else of it."""

    updated_at: object = UNSET


_STAMPS: Final = Decoder(_Stamp)
_OPENING, _CLOSING = b"{}"
_first: Callable[[bytes], int] = itemgetter(0)
_last: Callable[[bytes], int] = itemgetter(-1)


def _unstamped(text: bytes, lines: int) -> Sequence[int]:
    """Which of so many lines have no readable stamp of their own; all of them when one cannot be read."""
    try:
        stamps = tuple([one.updated_at for one in _STAMPS.decode_lines(text)])
    except (ValueError, RecursionError):
        return range(lines)
    if len(stamps) != lines:
        return range(lines)
    return () if _are_stamps(stamps) else [at for at, stamp in enumerate(stamps) if read_stamp(stamp) is None]


def _are_objects(raws: list[bytes]) -> bool:
    """Whether each line begins and ends in a brace: then no value reaches from one line into the next."""
    return all(raws) and set(map(_first, raws)) == {_OPENING} and set(map(_last, raws)) == {_CLOSING}


def _read_slowly(sources: tuple[str, ...], raw: bytes, number: int, offset: int) -> Line | BadLine:
    """Read a line that is bad, or about which there is something to say."""
    depth = _nesting(raw) if _may_be_deep(raw) else 0
    if depth > MAX_READ_NESTING:
        return BadLine(
            number, offset, raw, f"it has {depth:,} levels of nesting, and at most {MAX_READ_NESTING} are read"
        )
    try:
        found = decode_exact(raw)
    except (ValueError, RecursionError) as error:
        return BadLine(number, offset, raw, str(error))
    if not isinstance(found, dict):
        return BadLine(number, offset, raw, "it is no JSON object")
    fields = cast("dict[str, Any]", found)
    raw = _with_id(raw, fields)
    record_id: object = fields.get("id")
    if type(record_id) is int:
        record_id = str(record_id)
    if not isinstance(record_id, str):
        return BadLine(number, offset, raw, "it has no id that is text or an integer")
    stamp = fields.get("updated_at")
    instant = read_stamp(stamp)
    problems = list(_problems(raw, record_id, depth))
    if instant is None and stamp is not None:
        problems.append(f"updated_at is no readable stamp: {_shown(stamp)}")
    values = tuple([fields.get(source, UNSET) for source in sources])
    deleted = fields.get("deleted") is True
    created = fields.get("created_at", UNSET)
    return Line(record_id, raw, instant, created, deleted, values, number, offset, "; ".join(problems) or None)


def _with_id(raw: bytes, fields: dict[str, Any]) -> bytes:
    """Give a line that has no id, and is known by another field, its id: in *fields*, and in the bytes returned."""
    known_by: object = fields.get(_KNOWN_BY)
    if "id" in fields or not isinstance(known_by, str) or not known_by.strip():
        return raw
    fields["id"] = text_id(known_by)
    rest = raw[raw.index(b"{") + 1 :]
    return b'{"id":' + _ENCODER.encode(fields["id"]) + b"," + rest


def _problems(raw: bytes, record_id: str, depth: int) -> Iterator[str]:
    """Tell which limits a line breaks."""
    try:
        check_id(record_id)
    except (InvalidIdError, LimitExceededError) as error:
        yield str(error)
    if len(raw) > MAX_LINE_BYTES:
        yield f"it has {len(raw):,} bytes, and at most {MAX_LINE_BYTES:,} can be written"
    if depth > MAX_NESTING:
        yield f"it has {depth} levels of nesting, and at most {MAX_NESTING} can be written"


def _shown(value: object) -> str:
    """Spell a decoded value for a message, cut to a length that a message bears."""
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


# -- files --------------------------------------------------------------------------------------------------

_BOM: Final = b"\xef\xbb\xbf"
_MARKERS: Final = frozenset({b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>"})
_MARKER_CHARS: Final = 7
_CHUNK: Final = 1 << 16  #: bytes; the lines of one chunk then fit a processor's cache, which is a quarter of the time


class LineReader:
    """Reads the lines of one file, which comes in chunks of any size.

    A newline ends a line; carriage returns before it and a byte order mark at the beginning of the file are no part of
    a line. Blank lines are counted and give nothing. Of a block between git's conflict markers the lines of both sides
    are read; the markers, and the base part of a diff3 block, whose lines would bring back what both sides have left
    behind, become bad lines.

    Args:
        sources: The fields whose values are wanted, as for `decode_line`.
        number: The number of the line that the first chunk begins with.
        offset: Where in the file the first chunk begins; always at the beginning of a line.

    Attributes:
        number: The number of the line that begins at ``offset``.
        offset: Up to where whole lines, with their newlines, were read. `finish` does not move it.
        markers: A conflict marker was seen.
        flawed: A line was bad, or had a problem; there is nothing to say of any as long as it is false.
        passed: How many lines were known.
    """

    def __init__(self, sources: Sequence[str], *, number: int = 1, offset: int = 0) -> None:
        self.number = number
        self.offset = offset
        self.markers = False
        self.flawed = False
        self.passed = 0
        self._read, self._read_many = _reader_of(tuple(sources))
        self._held: list[bytes] = []  # the beginning of a line, joined once its end has come
        self._in_block = False
        self._in_base = False

    @property
    def in_base(self) -> bool:
        """Whether what comes next would not be read, being in the base part of a conflict."""
        return self._in_base

    def feed(self, chunk: bytes) -> list[Line | BadLine]:
        """The lines that *chunk* ends."""
        text, offset = self._text(chunk)
        if text is None:
            return []
        raws = text.split(b"\n")
        found = self._read_together(text, raws)
        lines = None if found is None else _as_lines(found, raws, self.number, offset)
        return list(self._one_by_one(raws, offset)) if lines is None else self._passing(lines, text, raws, offset)

    def feed_columns(self, chunk: bytes) -> Columns | list[Line | BadLine]:
        """The same; as columns where they can be, which costs half as much."""
        text, offset = self._text(chunk)
        if text is None:
            return []
        raws = text.split(b"\n")
        found = self._read_together(text, raws)
        columns = None if found is None else _as_columns(found, raws)
        if columns is not None:
            return self._passing(columns, text, raws, offset)
        lines = None if found is None else _as_lines(found, raws, self.number, offset)
        return list(self._one_by_one(raws, offset)) if lines is None else self._passing(lines, text, raws, offset)

    def _read_together(self, text: bytes, raws: list[bytes]) -> _Found | None:
        return self._read_many(text, raws) if not self._in_base and _are_objects(raws) else None

    def _passing(self, found: _T, text: bytes, raws: list[bytes], offset: int) -> _T:
        self.number, self.offset = self.number + len(raws), offset + len(text) + 1
        return found

    def feed_unknown(self, chunk: bytes, known: Known) -> Iterator[Line | BadLine]:
        """The lines that *chunk* ends and that are not known, read one by one; the others are counted.

        Args:
            chunk: The next bytes.
            known: Tells how many lines need not be read, by their bytes; what is to be said of an id is its to know. It
                is asked when the lines before were taken.
        """
        text, offset = self._text(chunk)
        if text is None:
            return
        raws = text.split(b"\n")
        usual = not self._in_base and _are_objects(raws) and _are_fine(raws)
        unstamped = _unstamped(text, len(raws)) if usual else range(len(raws))
        at = 0
        for end in (*unstamped, len(raws)):
            while at < end:
                passing = known(raws, at, end)
                self.passed += passing
                self.number += passing
                self.offset = offset + sum(map(len, raws[at : at + passing])) + passing
                at += passing
                if at < end:
                    yield from self._one_by_one([raws[at]], self.offset)
                    at += 1
                offset = self.offset
            if end < len(raws):
                yield from self._one_by_one([raws[end]], offset)
                at, offset = end + 1, self.offset

    def _text(self, chunk: bytes) -> tuple[bytes | None, int]:
        """The whole lines that have come with *chunk*, without their last newline, and where they begin."""
        end = chunk.rfind(b"\n")
        if end < 0:
            self._held.append(chunk)
            return None, self.offset
        text = b"".join((*self._held, chunk[:end]))
        self._held = [chunk[end + 1 :]]
        if self.offset == 0 and text.startswith(_BOM):
            return text[len(_BOM) :], len(_BOM)
        return text, self.offset

    def _one_by_one(self, raws: list[bytes], offset: int) -> Iterator[Line | BadLine]:
        for raw in raws:
            line = self._read(raw.rstrip(b"\r"), self.number, offset)
            kept: Line | BadLine | None = line
            if isinstance(line, BadLine) or self._in_base:
                self.flawed = True
                kept = self._among_markers(line)
            elif line.problem is not None:
                self.flawed = True
            self.number += 1
            offset = self.offset = offset + len(raw) + 1
            if kept is not None:
                yield kept

    def finish(self) -> list[Line | BadLine]:
        """The last line, when it has no newline: a line if it can be read as one, else a bad one, which is torn."""
        text, offset = b"".join(self._held), self.offset
        self._held = []
        if offset == 0 and text.startswith(_BOM):
            text, offset = text[len(_BOM) :], len(_BOM)
        line = self._read(text.rstrip(b"\r"), self.number, offset)
        kept = self._among_markers(line) if isinstance(line, BadLine) or self._in_base else line
        if kept is None:
            return []
        if kept is line and isinstance(kept, BadLine):
            kept = msgspec.structs.replace(kept, reason=f"torn: it ends without a newline, and {kept.reason}")
        return [kept]

    def _among_markers(self, line: Line | BadLine) -> Line | BadLine | None:
        """What *line* is, being bad or in the base part of a conflict; None when it is blank."""
        raw = line.raw
        marker = raw[:_MARKER_CHARS]
        if marker in _MARKERS and raw[_MARKER_CHARS:][:1] in {b"", b" "} and (self._in_block or marker != b"======="):
            self.markers = True
            if marker == b"<<<<<<<":
                self._in_block = True
            elif marker == b">>>>>>>":
                self._in_block = False
            self._in_base = self._in_block and marker == b"|||||||"
            return BadLine(line.number, line.offset, raw, "conflict marker")
        if not raw or raw.isspace():
            return None
        if self._in_base:
            reason = "it is in the base part of a conflict, which is not read"
            return BadLine(line.number, line.offset, raw, reason)
        return line


def decode_lines(data: bytes, sources: Sequence[str] = ()) -> Iterator[Line | BadLine]:
    """Read the lines of a whole file.

    Args:
        data: What the file holds.
        sources: As for `decode_line`.
    """
    reader = LineReader(sources)
    for position in range(0, len(data), _CHUNK):
        yield from reader.feed(data[position : position + _CHUNK])
    yield from reader.finish()


def tombstone(record_id: msgspec.Raw | str, stamp_ms: int) -> bytes:
    """The line that deletes a record.

    Args:
        record_id: The id: as text, or as the JSON that stands in the record's line, which may be an integer.
        stamp_ms: Its ``updated_at``.
    """
    return _ENCODER.encode({"id": record_id, "deleted": True, "updated_at": stamp_ms})
