"""What `claim` and `modify` make of what they are given, before anything is asked of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.codec import encode_exact
from taskstore_async.core.document import crc_of
from taskstore_async.core.names import can_be_stored
from taskstore_async.core.query import Query
from taskstore_async.core.readback import reason_of, unwritable
from taskstore_async.core.record import declaration_of
from taskstore_async.core.shape import exact_decoder
from taskstore_async.errors import InvalidIdError, InvalidRecordError
from taskstore_async.storage.ops import Claim, Renew

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskstore_async.core.filters import Filter
    from taskstore_async.core.record import Document, Record
    from taskstore_async.core.write import Draft

__all__ = ["claim_op", "draft_of_modified", "renew_op"]

_LEASE_MAX_MS: Final = 2**53  #: as long as a stamp may be
_encode = msgspec.json.Encoder(decimal_format="number").encode


def claim_op(
    target: type[Record] | str,
    filters: Sequence[Filter],
    *,
    owner: str,
    lease_ms: int,
    changes: Mapping[str, object],
    order_by: str | None,
) -> Claim:
    """The op that claims; see `Store.claim`.

    Raises:
        InvalidRecordError: A change is no value of its field, or of a field that the type does not have.
        InvalidFilterError: A filter or the order cannot mean anything.
        ValueError: *lease_ms* is no positive number, or *owner* is blank.
    """
    if not owner.strip():
        raise ValueError("owner is blank; say who claims, for people to read")
    if not can_be_stored(owner):
        raise ValueError(
            f"owner is {owner!r}, with a lone surrogate, which is no text; say who claims, for people to read"
        )
    name = target if isinstance(target, str) else declaration_of(target).collection
    raw = _untyped(name, changes) if isinstance(target, str) else _typed(target, changes)
    record_type = None if isinstance(target, str) else target
    return Claim(name, Query(tuple(filters), order_by=order_by), owner, _positive(lease_ms), raw, record_type)


def renew_op(collection: str, record_id: str, *, token: int, lease_ms: int) -> Renew:
    """The op that renews a lease.

    Raises:
        ValueError: *lease_ms* is no positive number.
    """
    return Renew(collection, record_id, token, _positive(lease_ms))


def draft_of_modified(draft: Draft, current: Record | Document) -> Draft:
    """The draft of what a function made from *current*, to be stored if that is still the version there is.

    Whatever the function returned, a record made anew too, was made from *current*.

    Raises:
        InvalidIdError: It is another record.
    """
    if (draft.collection, draft.id) != (current.collection, current.id):
        message = f"modify of {current.collection}/{current.id} returned {draft.collection}/{draft.id}; keep the id"
        raise InvalidIdError(message, draft.id)
    return msgspec.structs.replace(draft, expected_at=current.updated_at, expected_crc=crc_of(current))


def _positive(lease_ms: int) -> int:
    if lease_ms <= 0:
        raise ValueError(f"lease_ms is {lease_ms}, and must be more than 0")
    if lease_ms > _LEASE_MAX_MS:
        raise ValueError(f"lease_ms is {lease_ms}, and must be {_LEASE_MAX_MS} or less")
    return lease_ms


def _untyped(collection: str, changes: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    subject = f"a claim in {collection}"
    return {name: msgspec.Raw(encode_exact(value, subject=subject)) for name, value in changes.items()}


def _typed(record_type: type[Record], changes: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    """Encode the changes, having checked each against its field: what is stored must load as the type."""
    subject = f"a claim in {record_type.collection}"
    fields = {field.name: field for field in msgspec.structs.fields(record_type)}
    made: dict[str, msgspec.Raw] = {}
    for name, value in changes.items():
        field = fields.get(name)
        if field is None:
            raise InvalidRecordError(subject, f"$.{name}", f"{record_type.__name__} has no such field")
        if (found := unwritable(value, subject, f"$.{name}")) is not None:
            raise InvalidRecordError(subject, *found)
        try:
            data = _encode(value)
            exact_decoder(field.type).decode(data)
        except Exception as error:  # a type's own hooks may raise anything
            path, reason = reason_of(error)
            raise InvalidRecordError(subject, f"$.{name}{path[1:]}", reason) from error
        made[field.encode_name] = msgspec.Raw(data)
    return made
