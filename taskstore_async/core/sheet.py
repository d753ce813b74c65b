"""CSV as records: what its columns hold is guessed, and told before it is believed. Pure."""

from __future__ import annotations

import csv
import io
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.codec import join_fields
from taskstore_async.core.names import MAX_LINE_BYTES
from taskstore_async.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["FORMULA", "Cells", "Sheet", "guarded", "read_sheet", "unguarded"]

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
"""What a spreadsheet may take a text for that begins so, and run."""

_INTEGER: Final = re.compile(r"-?(?:0|[1-9]\d{0,17})")  #: longer ones are somebody's ids rather than numbers
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,17})?(?:[eE][+-]?\d{1,2})?")
_DELIMITERS: Final = ",;\t|"
_encode = msgspec.json.encode


class Cells(StrEnum):
    """What the cells of a column hold."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"  #: lists and objects
    EMPTY = "empty"


class Sheet(msgspec.Struct, frozen=True):
    """A CSV file as records.

    Attributes:
        types: What each column holds, by the field that it becomes.
        lines: A line per row; an empty cell is no field.
    """

    types: dict[str, Cells]
    lines: list[bytes]


def guarded(text: str) -> str:
    """*text* such that no spreadsheet takes it for a formula: ``'`` before it, which they do not show."""
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def unguarded(text: str) -> str:
    """What was guarded."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


def read_sheet(data: bytes, *, source: str, names: Mapping[str, str], typed: bool = True) -> Sheet:
    """Read a CSV file (RFC 4180; semicolons, tabs and bars apart too) with a header.

    A column whose cells are all integers is one of integers, and so on; one that has anything else in it is text, and
    so is the id. So ``007`` stays text, and a number keeps its digits.

    Args:
        data: The file, UTF-8.
        source: What errors call it.
        names: What fields are to be called, by the header's names.
        typed: Guess. False: every cell is text.

    Raises:
        ExchangeError: It is no such file.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExchangeError(source, f"byte {error.start} is no UTF-8", "save it as CSV UTF-8") from error
    header, rows = _table(text, source)
    fields = [names.get(name, name) for name in header]
    if missing := names.keys() - set(header):
        raise ExchangeError(source, f"it has no column {min(missing)!r}", f"it has: {', '.join(header)}")
    if "id" not in fields:
        raise ExchangeError(source, "it has no column 'id'", f"say which one is: --id-field {header[0]}")
    if len(set(fields)) < len(fields) or "" in fields:
        what = next(name for name in fields if not name or fields.count(name) > 1)
        raise ExchangeError(source, f"two columns are called {what!r}" if what else "a column has no name", "name it")
    types = {
        name: _type_of([row[place] for row in rows], text=name == "id" or not typed)
        for place, name in enumerate(fields)
    }
    return Sheet(types, [_line(row, types) for row in rows])


def _table(text: str, source: str) -> tuple[list[str], list[list[str]]]:
    """The header, and the rows as wide as it."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    try:
        header = [name.strip() for name in next(reader, ())]
        for row in reader:
            if not row:
                continue
            if len(row) > len(header):
                reason = f"line {reader.line_num} ends a row of {len(row)} cells, and the header has {len(header)}"
                raise ExchangeError(source, reason, "quote cells that have the separator in them")
            rows.append(row + [""] * (len(header) - len(row)))
    except csv.Error as error:
        raise ExchangeError(source, f"line {reader.line_num}: {error}", "mend its quotes") from error
    if not header:
        raise ExchangeError(source, "it has no header", "its first line must name the fields")
    return header, rows


def _type_of(cells: Sequence[str], *, text: bool) -> Cells:
    there = [cell for cell in cells if cell]
    if not there:
        return Cells.EMPTY
    if text:
        return Cells.TEXT
    for kind, fits in (
        (Cells.INTEGER, _INTEGER.fullmatch),
        (Cells.NUMBER, _NUMBER.fullmatch),
        (Cells.BOOLEAN, _is_boolean),
        (Cells.JSON, _is_json),
    ):
        if all(fits(cell) for cell in there):
            return kind
    return Cells.TEXT


def _is_boolean(cell: str) -> bool:
    return cell in {"true", "false", "TRUE", "FALSE"}


def _is_json(cell: str) -> bool:
    if not cell.startswith(("[", "{")):
        return False
    try:
        msgspec.json.decode(cell, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _line(row: Sequence[str], types: Mapping[str, Cells]) -> bytes:
    return join_fields(dict(_fields(row, types))) + b"\n"


def _fields(row: Sequence[str], types: Mapping[str, Cells]) -> Iterator[tuple[str, msgspec.Raw]]:
    for (name, kind), cell in zip(types.items(), row, strict=True):
        if not cell:
            continue
        if kind is Cells.TEXT:
            yield name, msgspec.Raw(_encode(unguarded(cell)))
        elif kind is Cells.BOOLEAN:
            yield name, msgspec.Raw(cell.lower().encode())
        elif kind is Cells.JSON:
            yield name, msgspec.Raw(msgspec.json.format(cell.encode(), indent=-1))
        else:
            yield name, msgspec.Raw(cell.encode())
