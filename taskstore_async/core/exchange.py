"""What other programs export, as lines of ours; and our lines in the forms that others read. Pure.

Every form becomes lines of a journal first, a value's text as it stood wherever the form has JSON in it. So there is
one import for all of them, which says of each line whether it can be read.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.codec import join_fields, split_fields
from taskstore_async.core.names import check_collection
from taskstore_async.core.sheet import Cells, read_sheet
from taskstore_async.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Brought", "ExchangeForm", "as_document", "as_json", "as_jsonl", "form_of", "read_exchange", "renamed"]


class ExchangeForm(StrEnum):
    """What a file to import holds."""

    JSONL = "jsonl"  #: a record per line
    JSON = "json"  #: a list of records, one record, or one document: ``{collection: [records]}``
    CSV = "csv"  #: a header, and a record per row
    BEADS = "beads"  #: JSONL of the issue tracker of that name
    TASKWARRIOR = "taskwarrior"  #: what ``task export`` prints


_SUFFIXES: Final = {
    ".jsonl": ExchangeForm.JSONL,
    ".ndjson": ExchangeForm.JSONL,
    ".csv": ExchangeForm.CSV,
    ".tsv": ExchangeForm.CSV,
}
_TASKWARRIOR: Final = {
    "uuid": "id",
    "id": "number",
    "entry": "created_at",
    "modified": "updated_at",
    "description": "title",
}
"""What Taskwarrior calls what we call so. Its ``id`` is a number that changes whenever a task is done."""

_BASIC: Final = re.compile(rb'"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z"')  #: Taskwarrior's moments: ISO 8601, basic
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
_LIST: Final = b"["
_BLANK: Final = b" \t\r\n"


class Brought(msgspec.Struct, frozen=True):
    """What a file brings.

    Attributes:
        collections: Lines, by collection; under None those whose collection the file does not name.
        columns: Of CSV, what each column holds, by the field that it becomes.
    """

    collections: dict[str | None, list[bytes]]
    columns: dict[str, Cells] = {}


def read_exchange(
    data: bytes, form: ExchangeForm, *, source: str, names: Mapping[str, str] | None = None, typed: bool = True
) -> Brought:
    """The records of a file as lines.

    A line that is no record comes along: the import tells what is wrong with it.

    Args:
        data: The file.
        form: What it holds.
        source: What errors call it.
        names: What fields are to be called, by what they are called there.
        typed: Guess what the columns of CSV hold.

    Raises:
        ExchangeError: It is no such file, or two fields would have one name.
        InvalidNameError: A document has a key that is no name of a collection.
    """
    calls = names or {}
    match form:
        case ExchangeForm.CSV:
            sheet = read_sheet(data, source=source, names=calls, typed=typed)
            return Brought({None: sheet.lines}, sheet.types)
        case ExchangeForm.JSON:
            return Brought(_lines_of_json(data, source=source, names=calls))
        case ExchangeForm.TASKWARRIOR:
            return Brought({None: _lines_of_taskwarrior(data, source=source, names=calls)})
        case ExchangeForm.JSONL | ExchangeForm.BEADS:
            return Brought({None: _lines_of_jsonl(data, source=source, names=calls)})


def form_of(name: str, data: bytes) -> ExchangeForm:
    """What a file holds: by its name where that tells, else by what is in it.

    Args:
        name: The file's name; empty for a pipe.
        data: All of it.
    """
    suffix = re.search(r"\.[a-z]+$", name.lower())
    known = _SUFFIXES.get(suffix[0]) if suffix else None
    if known is not None:
        return known
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip(_BLANK)
    if text.startswith(_LIST):
        return ExchangeForm.TASKWARRIOR if _is_taskwarrior(text) else ExchangeForm.JSON
    if not text.startswith(b"{"):
        return ExchangeForm.CSV if text else ExchangeForm.JSONL
    try:
        _VALUE.decode(text)
    except (msgspec.DecodeError, RecursionError):  # several values, one per line
        return ExchangeForm.JSONL
    return ExchangeForm.JSON


def _is_taskwarrior(text: bytes) -> bool:
    try:
        items = _ITEMS.decode(text)
        return bool(items) and {"uuid", "entry", "description"} <= split_fields(items[0]).keys()
    except (msgspec.DecodeError, RecursionError):
        return False


def _lines_of_json(data: bytes, *, source: str, names: Mapping[str, str]) -> dict[str | None, list[bytes]]:
    """The records of a list, of a document, or one record; every item becomes a line."""
    text = data.removeprefix(b"\xef\xbb\xbf").strip(_BLANK)
    try:
        if text.startswith(_LIST):
            return {None: _lines(_ITEMS.decode(text), source, names)}
        fields = split_fields(text)
    except (msgspec.DecodeError, RecursionError) as error:
        hint = "mend it, or say what it is: --format jsonl"
        raise ExchangeError(source, f"it is no JSON list or object: {error}", hint) from error
    if not fields or not all(_is_list(value) for value in fields.values()):
        return {None: _lines([msgspec.Raw(text)], source, names)}
    found: dict[str | None, list[bytes]] = {}
    for collection, value in fields.items():
        found[check_collection(collection)] = _lines(_ITEMS.decode(value), source, names)
    return found


def _is_list(value: msgspec.Raw) -> bool:
    return bytes(value).startswith(_LIST)


def _lines(items: Iterable[msgspec.Raw], source: str, names: Mapping[str, str]) -> list[bytes]:
    return [
        renamed(_on_one_line(bytes(item)), names, where=f"{source}: record {number}") + b"\n"
        for number, item in enumerate(items, 1)
    ]


def _on_one_line(raw: bytes) -> bytes:
    """JSON without line ends: between its tokens they say nothing, and within a text there can be none."""
    return msgspec.json.format(raw, indent=-1) if b"\n" in raw or b"\r" in raw else raw


def _lines_of_jsonl(data: bytes, *, source: str, names: Mapping[str, str]) -> list[bytes]:
    """The lines of a JSONL file, with fields renamed; as they are when there is nothing to rename."""
    if not names:
        return [data]
    lines = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
    return [renamed(line, names, where=f"{source}: line {number}") + b"\n" for number, line in lines if line.strip()]


def renamed(raw: bytes, names: Mapping[str, str], *, where: str) -> bytes:
    """A record with fields renamed, all at once, each in its place; the values keep their text.

    Raises:
        ExchangeError: A name is taken by another field, which nothing renames.
    """
    if not names:
        return raw
    try:
        fields = split_fields(raw)
    except (msgspec.DecodeError, RecursionError):
        return raw
    return join_fields(_renamed(fields, names, where))


def _renamed(fields: Mapping[str, msgspec.Raw], names: Mapping[str, str], where: str) -> dict[str, msgspec.Raw]:
    found: dict[str, msgspec.Raw] = {}
    for name, value in fields.items():
        wanted = names.get(name, name)
        if wanted in found:
            there = next(one for one in fields if names.get(one, one) == wanted)
            hint = f"give one of them another name: --map {wanted}=old_{wanted}"
            raise ExchangeError(where, f"both {there!r} and {name!r} would be {wanted!r}", hint)
        found[wanted] = value
    return found


def _lines_of_taskwarrior(data: bytes, *, source: str, names: Mapping[str, str]) -> list[bytes]:
    """The tasks of ``task export``: uuid is the id, entry and modified are the stamps, all else stays."""
    calls = {**_TASKWARRIOR, **names}
    text = data.strip(_BLANK)
    if text.startswith(_LIST):
        lines = _lines_of_json(text, source=source, names=calls)[None]
    else:  # with json.array=off, as old ones print it
        lines = _lines_of_jsonl(text, source=source, names=calls)
    return [_dated(line) for line in lines]


def _dated(line: bytes) -> bytes:
    """A task whose stamps are such as we read."""
    try:
        fields = split_fields(line)
    except (msgspec.DecodeError, RecursionError):
        return line
    for name in ("created_at", "updated_at"):
        if name in fields and (found := _BASIC.fullmatch(bytes(fields[name]))):
            fields[name] = msgspec.Raw(b'"%s-%s-%sT%s:%s:%sZ"' % found.groups())
    return join_fields(fields) + b"\n"


# -- out ----------------------------------------------------------------------------------------------------


def as_jsonl(raws: Iterable[bytes]) -> Iterator[bytes]:
    """A record per line, each with its bytes."""
    for raw in raws:
        yield raw + b"\n"


def as_json(raws: Iterable[bytes]) -> Iterator[bytes]:
    """One list, a record per line, each with its bytes."""
    yield _LIST
    for number, raw in enumerate(raws):
        yield b",\n" + raw if number else raw
    yield b"]\n"


def as_document(collections: Mapping[str, Iterable[bytes]]) -> Iterator[bytes]:
    """One object: a list of records for each collection, each record with its bytes."""
    yield b"{"
    for number, (name, raws) in enumerate(collections.items()):
        yield (b",\n" if number else b"") + msgspec.json.encode(name) + b":"
        for piece in as_json(raws):
            yield piece.removesuffix(b"\n")
    yield b"}\n"
