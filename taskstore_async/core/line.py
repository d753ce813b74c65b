"""A line of a journal: bytes to a record, a tombstone, or a line that is neither; and the values of its fields.

A line that is served (`Line`) is one that `decode_exact` decodes; everything else is a `BadLine`, a value too, so
that it never hides the lines around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Final, TypeAlias, cast

import msgspec
from msgspec import UNSET
from msgspec.json import Decoder, Encoder

from taskstore_async.core.codec import ALWAYS_FINE_BYTES, decode_exact, exact_float, is_fine, may_be_deep, nesting
from taskstore_async.core.ids import text_id
from taskstore_async.core.names import MAX_ID_CHARS, MAX_LINE_BYTES, MAX_NESTING, MAX_READ_NESTING, check_id
from taskstore_async.core.stamp import MAX_STAMP_MS, NS_PER_MS, read_stamp
from taskstore_async.errors import InvalidIdError, LimitExceededError

__all__ = [
    "BadLine",
    "Line",
    "are_plain",
    "columns_of_lines",
    "decode_line",
    "decoder_of",
    "reader_of",
    "tombstone",
    "values_of_line",
]

_ENCODER: Final = Encoder()
_SHOWN_CHARS: Final = 60  #: of a value in a problem
_BASE: Final = ("id", "updated_at", "created_at", "deleted")
_EXTRA: Final = slice(len(_BASE), None)
_KNOWN_BY: Final = "repo_path"  #: what older programs know the records of repo_states by, instead of an id


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


ReadLine: TypeAlias = Callable[[bytes, int, int], Line | BadLine]


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
    return reader_of(tuple(sources))(raw, number, offset)


@lru_cache(maxsize=256)
def decoder_of(sources: tuple[str, ...]) -> Decoder[Any] | None:
    """What decodes of a line the fields that every one is asked for, then *sources*, each field once.

    Those are ``id``, which is text, ``updated_at``, ``created_at`` and ``deleted``. None when ``msgspec`` cannot name a
    field: it has a quote, a backslash or a control character in it.
    """
    names = _names(sources)
    fields: list[Any] = [("f0", str), *((f"f{place}", object, UNSET) for place in range(1, len(names)))]
    try:
        struct = msgspec.defstruct(
            "Fields", fields, rename={f"f{place}": name for place, name in enumerate(names)}, gc=False
        )
    except ValueError:
        return None
    return Decoder(struct, float_hook=exact_float)


def are_plain(sources: tuple[str, ...]) -> bool:
    """Whether *sources* has no field twice, and none that every line is asked for; nearly always."""
    return _names(sources)[_EXTRA] == sources


def _names(sources: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*_BASE, *sources)))


@lru_cache(maxsize=256)
def reader_of(sources: tuple[str, ...]) -> ReadLine:
    """Make the function that reads a line for *sources*: one call into ``msgspec``, and checks of what it skips."""
    decoder = decoder_of(sources)
    if decoder is None:
        return partial(_read_slowly, sources)
    decode = decoder.decode
    as_tuple: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple
    places = [_names(sources).index(source) for source in sources]
    plain = are_plain(sources)

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
            or not (len(raw) <= ALWAYS_FINE_BYTES or is_fine(raw))
        ):
            return _read_slowly(sources, raw, number, offset)
        chosen = values[_EXTRA] if plain else tuple([values[place] for place in places])
        return Line(record_id, raw, instant, values[2], values[3] is True, chosen, number, offset)

    return read


def _read_slowly(sources: tuple[str, ...], raw: bytes, number: int, offset: int) -> Line | BadLine:
    """Read a line that is bad, or about which there is something to say."""
    depth = nesting(raw) if may_be_deep(raw) else 0
    if depth > MAX_READ_NESTING:
        return BadLine(
            number, offset, raw, f"it has {depth:,} levels of nesting, and at most {MAX_READ_NESTING} are read"
        )
    try:
        found = decode_exact(raw)
    except ValueError as error:
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
    decoder: Decoder[Any] = Decoder(struct, float_hook=exact_float)
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


def tombstone(record_id: msgspec.Raw | str, stamp_ms: int) -> bytes:
    """The line that deletes a record.

    Args:
        record_id: The id: as text, or as the JSON that stands in the record's line, which may be an integer.
        stamp_ms: Its ``updated_at``.
    """
    return _ENCODER.encode({"id": record_id, "deleted": True, "updated_at": stamp_ms})
