"""How a record becomes a line, and a line a record.

`draft` and `load` run in the caller's thread, and with them all code of the user. `line_of` is a pure function that
runs none: it joins a draft with the stored line, on the thread of the index. Some have to read a record there, because
nothing may be written that the caller could not have back: a claim, a write whose type forbids fields, and one that
moves a long text to a file.
"""

from __future__ import annotations

import reprlib
from copy import copy
from functools import cache
from typing import Any, Final, TypeVar, cast
from zlib import crc32

import msgspec
from msgspec.json import Decoder, Encoder

from taskstore_async.core.codec import (
    ALWAYS_FINE_BYTES,
    check_line,
    decode_exact,
    encode_exact,
    join_fields,
    split_fields,
)
from taskstore_async.core.document import Document, crc_of, keep_crc
from taskstore_async.core.names import check_collection, check_id
from taskstore_async.core.readback import difference, reason_of, unwritable
from taskstore_async.core.record import AnyRecord, Record, RecordT, declaration_of
from taskstore_async.core.shape import Shape, exact_decoder, forbids_fields, has_own_equality, shape_of
from taskstore_async.core.stamp import MAX_STAMP_MS, NS_PER_MS, read_stamp, to_ms
from taskstore_async.core.takeover import Json, take_over, with_sorted
from taskstore_async.errors import InvalidRecordError, ReadFailedError, UnreadableRecordError

__all__ = ["Draft", "draft", "line_of", "load", "load_document", "load_stored"]

_R = TypeVar("_R", bound=Record)
_ENCODER: Final = Encoder(decimal_format="number")
_NULL: Final = msgspec.Raw(b"null")


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A record that is ready to be written, whatever is stored by then.

    Attributes:
        collection: Where it is to stand.
        id: Its id.
        data: The record as JSON, proved to read back as itself.
        shape: What is known about its type; None for a document, which replaces all.
        expected_at: The version it was made from (``updated_at``, ms); 0 when it was never stored.
        expected_crc: The CRC-32 of the line it was made from, when that is known.
        record_type: Its type; None for a document.
        strict: The type refuses fields that it does not know, so that what is stored may keep it from being read.
    """

    collection: str
    id: str
    data: bytes
    shape: Shape | None
    expected_at: int
    expected_crc: int | None
    record_type: type[Record] | None = None
    strict: bool = False

    @property
    def known(self) -> frozenset[str] | None:
        """The names that the record's type writes; None for a document."""
        return None if self.shape is None else self.shape.known


class _Codec(msgspec.Struct, frozen=True):
    """How records of one type are encoded and decoded."""

    collection: str
    shape: Shape
    decoder: Decoder[Any]
    sets: tuple[str, ...]
    equality_lies: bool
    strict: bool


@cache
def _codec_of(record_type: type[Record]) -> _Codec:
    collection = declaration_of(record_type).collection
    shape = shape_of(record_type)
    kind = msgspec.inspect.type_info(record_type)
    return _Codec(
        collection=collection,
        shape=shape,
        sets=tuple(name for name, form in shape.forms.items() if form.is_set),
        decoder=exact_decoder(record_type),
        equality_lies=has_own_equality(kind),
        strict=forbids_fields(kind),
    )


def draft(record: AnyRecord) -> Draft:
    """Encode *record*, and prove that what is written will be read as the same record.

    Raises:
        InvalidIdError: The id is blank, has control characters or is no text.
        InvalidNameError: The collection has a name that cannot be.
        InvalidRecordError: A value does not fit its field's type, or JSON does not have it (NaN, an infinity, a lone
            surrogate) or would bring it back as another; ``path`` leads to it. Or the record's own ``__pre_write__``
            refuses it, or a document says that it is deleted. Or *record* is neither a record nor a document.
        InvalidRecordTypeError: As `declaration_of` says.
        LimitExceededError: The id is too long, or the record is nested too deeply.
    """
    if not isinstance(record, Record):  # asked so because Document's class is an abstract one, and slow to ask
        return _draft_document(record)
    codec = _codec_of(type(record))
    record_id = check_id(record.id)
    try:
        data = _ENCODER.encode(record)
        back = codec.decoder.decode(data)
        record.__pre_write__()
    except Exception as error:  # a record's own hooks may raise anything
        raise _refusal(codec.collection, record, error) from error
    if codec.equality_lies or back != record:
        _check_same(codec.collection, record, back)
    if record.created_at is not None and not _is_created(record.created_at):
        reason = f"{record.created_at} is not in 0 ... {MAX_STAMP_MS} ms"
        raise InvalidRecordError(f"{codec.collection}/{record_id}", "$.created_at", reason)
    if codec.sets:
        data = with_sorted(data, codec.sets)
    return Draft(
        codec.collection,
        record_id,
        data,
        codec.shape,
        record.updated_at,
        crc_of(record),
        type(record),
        codec.strict,
    )


def line_of(draft: Draft, current: bytes | None, *, stamp_ms: int, created_ms: int) -> bytes:
    """The line that writing *draft* over the line *current* stores.

    Over nothing: ``id``, ``created_at``, ``updated_at`` and the rest, in the record's order. Over a line: its keys in
    its order, then new ones. Every value that is the same keeps its bytes; of a typed record, so does every field that
    its type does not know.

    Args:
        draft: What to write.
        current: The stored line; None when there is none, or a tombstone.
        stamp_ms: The new ``updated_at``.
        created_ms: The ``created_at`` of a new record that brings none.

    Raises:
        InvalidRecordError: What stays of the stored line has a field that the record's type forbids.
        LimitExceededError: The line is larger, or nested deeper, than a line may be.
    """
    if current is None and (new := _first_line(draft, stamp_ms, created_ms)) is not None:
        if len(new) > ALWAYS_FINE_BYTES:
            check_line(new, subject=f"{draft.collection}/{draft.id}")
        return new
    fields: dict[str, Json] = {**split_fields(draft.data)}
    stamp = msgspec.Raw(b"%d" % stamp_ms)
    created = fields.pop("created_at", _NULL)
    fields.pop("updated_at", None)
    if current is None:
        own = {"id": fields.pop("id"), "created_at": created, "updated_at": stamp}
        if created == _NULL:
            own["created_at"] = msgspec.Raw(b"%d" % created_ms)
        line = join_fields({**own, **fields})
    else:
        stored = split_fields(current)
        fields["id"] = stored["id"]  # an integer, perhaps, which the record has as its text
        fields["updated_at"] = stamp
        if (kept := _created(stored.get("created_at"), created)) is not None:
            fields["created_at"] = kept
        joined = take_over(stored, fields, draft.shape)
        joined["updated_at"] = stamp  # also over a stamp that is no integer, but equal to this one
        line = join_fields(joined)
        if draft.strict:
            _check_readable(draft, line, stamp_ms)
    check_line(line, subject=f"{draft.collection}/{draft.id}")
    return line


def _first_line(draft: Draft, stamp_ms: int, created_ms: int) -> bytes | None:
    """The line of a typed record that was never stored; None where it is not laid out as nearly all are.

    The record's own fields come first in its JSON, then those that every record has, which the line begins with. So
    cutting the text in two says the same as splitting it into fields, at a third of the time.
    """
    record_id = _ENCODER.encode(draft.id)
    own = b',"id":%b,"created_at":null,"updated_at":%d}' % (record_id, draft.expected_at)
    if draft.shape is None or not draft.data.endswith(own):
        return None
    rest = draft.data[1 : -len(own)]
    return b'{"id":%b,"created_at":%d,"updated_at":%d,%b}' % (record_id, created_ms, stamp_ms, rest)


def load(record_type: type[_R], raw: bytes, instant: int) -> _R:
    """The record that the line *raw* holds.

    Args:
        record_type: What to read it as.
        raw: The line; no tombstone.
        instant: The stamp that the fold gave it, in nanoseconds.

    Returns:
        The record, ``updated_at`` being *instant* in whole milliseconds and ``created_at`` None when the line has no
        readable one. The line's CRC-32 is kept beside it.

    Raises:
        UnreadableRecordError: The line does not fit the type; the reason has the path to the value.
    """
    codec = _codec_of(record_type)
    stamp_ms = to_ms(instant)
    record: _R | None
    try:
        record = codec.decoder.decode(raw)
    except Exception:  # noqa: BLE001 - reason: a record's own hooks may raise anything; the second reading tells what
        record = None
    if record is None or record.updated_at != stamp_ms or not _is_created(record.created_at):
        record = _load_mended(codec, record_type, raw, stamp_ms)
    keep_crc(record, crc32(raw))
    return record


def load_stored(record: RecordT, raw: bytes, instant: int) -> RecordT:
    """The record that has been stored as the line *raw*, for who wrote it; arguments as for `load`.

    It is stored, so this raises nothing that could be taken for a refusal: of a line that the type does not read, since
    its own hooks think otherwise by now, the caller has what it wrote, with the stamps of the line.
    """
    if not isinstance(record, Record):
        return cast("RecordT", load_document(record.collection, raw, instant))
    try:
        return load(type(record), raw, instant)
    except UnreadableRecordError:
        created = read_stamp(decode_exact(bytes(split_fields(raw).get("created_at", _NULL))))
        record = copy(record)
        msgspec.structs.force_setattr(record, "updated_at", to_ms(instant))
        msgspec.structs.force_setattr(record, "created_at", None if created is None else to_ms(created))
        keep_crc(record, crc32(raw))
        return record


def load_document(collection: str, raw: bytes, instant: int) -> Document:
    """The document that the line *raw* holds; arguments as for `load`.

    ``id`` is text in it and ``updated_at`` an integer, as is ``created_at`` when it is readable; every other field is
    what the line says.

    Raises:
        ReadFailedError: It is no line, so the index that has it is damaged.
    """
    try:
        fields: dict[str, Any] = decode_exact(raw)
        fields["id"] = str(fields["id"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReadFailedError("the index", f"a line of {collection} in it is damaged: {error}") from error
    fields["updated_at"] = to_ms(instant)
    created = read_stamp(fields.get("created_at"))
    if created is not None:
        fields["created_at"] = to_ms(created)
    document = Document(collection, fields)
    keep_crc(document, crc32(raw))
    return document


def _draft_document(document: Document) -> Draft:
    if not isinstance(cast("object", document), Document):
        reason = "it is neither a Record nor a Document; give one, and return one from the function of modify"
        raise InvalidRecordError(reprlib.repr(document), "$", reason)
    check_collection(document.collection)
    subject = f"{document.collection}/{check_id(document.id)}"
    if document.fields.get("deleted") is True:
        raise InvalidRecordError(subject, "$.deleted", "true is the sign of a deleted record; call delete instead")
    data = encode_exact(dict(document.fields), subject=subject)
    return Draft(document.collection, document.id, data, None, document.updated_at, crc_of(document))


def _check_readable(draft: Draft, line: bytes, stamp_ms: int) -> None:
    """Refuse a line that the record's own type would not read."""
    assert draft.record_type is not None  # noqa: S101 - reason: only a type is strict
    try:
        load(draft.record_type, line, stamp_ms * NS_PER_MS)
    except UnreadableRecordError as error:
        name = draft.record_type.__name__
        reason = f"{name} could not read it, because of what is stored there ({error.reason}); add the field to {name}"
        subject = f"{draft.collection}/{draft.id}"
        raise InvalidRecordError(subject, "$", f"{reason}, or store a Document, which replaces all") from error


def _refusal(collection: str, record: Record, error: Exception) -> InvalidRecordError:
    """Tell why *record* does not encode, or what it encodes to does not decode."""
    subject = f"{collection}/{record.id}"
    path, reason = unwritable(record, subject) or reason_of(error)
    return InvalidRecordError(subject, path, reason)


def _check_same(collection: str, record: Record, back: Record) -> None:
    """Refuse a record that reads back as another one."""
    subject = f"{collection}/{record.id}"
    found = unwritable(record, subject) or difference(record, back)
    if found is not None:
        raise InvalidRecordError(subject, *found)


def _is_created(created: int | None) -> bool:
    return created is None or 0 <= created <= MAX_STAMP_MS


def _load_mended(codec: _Codec, record_type: type[_R], raw: bytes, stamp_ms: int) -> _R:
    """Read a line whose id is an integer, or whose stamps are not our integers."""
    record_id = "?"
    try:
        fields = split_fields(raw)
        record_id = str(decode_exact(bytes(fields["id"])))
        fields["id"] = msgspec.Raw(msgspec.json.encode(record_id))
        fields["updated_at"] = msgspec.Raw(b"%d" % stamp_ms)
        if "created_at" in fields:
            created = read_stamp(decode_exact(bytes(fields["created_at"])))
            fields["created_at"] = _NULL if created is None else msgspec.Raw(b"%d" % to_ms(created))
        read: _R = codec.decoder.decode(join_fields(fields))
    except Exception as error:
        path, reason = reason_of(error)
        reason = f"{reason} - at {path}"
        raise UnreadableRecordError(codec.collection, record_id, record_type.__name__, reason) from error
    return read


def _created(stored: Json | None, new: Json) -> Json | None:
    """The ``created_at`` that a write over one leaves: the stored bytes, unless the record says another time."""
    if stored is None or new == _NULL:
        return stored if new == _NULL else new
    wanted = decode_exact(bytes(new))
    instant = read_stamp(decode_exact(bytes(stored)))
    if type(wanted) is int and instant is not None and to_ms(instant) == wanted:
        return stored
    return new
