"""The lines of a file that comes in chunks: many in one call where they are as usual, else one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, count, repeat
from operator import itemgetter
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.json import Decoder

from taskstore_async.core.codec import ALWAYS_FINE_BYTES, is_fine
from taskstore_async.core.line import BadLine, Line, are_plain, decoder_of, reader_of
from taskstore_async.core.names import MAX_ID_CHARS
from taskstore_async.core.stamp import MAX_STAMP_MS, NS_PER_MS, read_stamp, read_stamps

__all__ = ["Columns", "Known", "LineReader", "decode_lines"]

Known: TypeAlias = Callable[[Sequence[bytes], int, int], int]
"""Of lines, a place among them and an end: how many lines from there on, below the end, are known."""
_Found: TypeAlias = tuple[tuple[Any, ...], ...]  #: lines field by field: as `decoder_of` decodes them
_ReadBatch: TypeAlias = Callable[[bytes, list[bytes]], _Found | None]

_T = TypeVar("_T")
_BOM: Final = b"\xef\xbb\xbf"
_MARKERS: Final = frozenset({b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>"})
_MARKER_CHARS: Final = 7
_CHUNK: Final = 1 << 16  #: bytes; the lines of one chunk then fit a processor's cache, which is a quarter of the time


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
        self._read = reader_of(tuple(sources))
        self._read_batch = _batch_reader_of(tuple(sources))
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
        return self._read_batch(text, raws) if not self._in_base and _are_objects(raws) else None

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


# -- many lines at once ---------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _batch_reader_of(sources: tuple[str, ...]) -> _ReadBatch:
    """Make the function that reads the lines of a text in one call into ``msgspec``.

    They begin and end in braces. It gives None when one must be looked at by itself.
    """
    decoder = decoder_of(sources)
    if decoder is None or not are_plain(sources):
        return _read_none
    decode_many = decoder.decode_lines
    as_tuple: Callable[[Any], tuple[Any, ...]] = msgspec.structs.astuple

    def read_batch(text: bytes, raws: list[bytes]) -> _Found | None:
        try:
            decoded = decode_many(text)
            if not text.isascii():
                text.decode()
        except (ValueError, RecursionError):
            return None
        if len(decoded) != len(raws):
            return None
        found = tuple(zip(*map(as_tuple, decoded), strict=True))
        return found if _are_usual(found[0]) and _are_fine(raws) else None

    return read_batch


def _read_none(_text: bytes, _raws: list[bytes]) -> None:
    """Tell that lines must be read one by one."""


_OPENING, _CLOSING = b"{}"
_first: Callable[[bytes], int] = itemgetter(0)
_last: Callable[[bytes], int] = itemgetter(-1)


def _are_objects(raws: list[bytes]) -> bool:
    """Whether each line begins and ends in a brace: then no value reaches from one line into the next."""
    return all(raws) and set(map(_first, raws)) == {_OPENING} and set(map(_last, raws)) == {_CLOSING}


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
        is_fine(raw) for raw in raws if len(raw) > ALWAYS_FINE_BYTES
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
        instants = read_stamps(stamps)
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


def _unstamped(text: bytes, lines: int) -> Sequence[int]:
    """Which of so many lines have no readable stamp of their own; all of them when one cannot be read."""
    try:
        stamps = tuple([one.updated_at for one in _STAMPS.decode_lines(text)])
    except (ValueError, RecursionError):
        return range(lines)
    if len(stamps) != lines:
        return range(lines)
    return () if _are_stamps(stamps) else [at for at, stamp in enumerate(stamps) if read_stamp(stamp) is None]
