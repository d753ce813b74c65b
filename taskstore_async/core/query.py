"""What can be asked of a collection: filters, an order, a page; and what they mean together.

`select` is the meaning, in Python. The engine answers what it can in SQL and leaves the rest to it, so the two must
agree on every row.
"""

from __future__ import annotations

import binascii
import operator
import reprlib
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from taskstore_async.core.comparable import COMPARABLE, OPAQUE, comparable, field_comparable, sort_key
from taskstore_async.core.filters import Filter, ValueOf, check_filters, checked_field, fields_of, predicate
from taskstore_async.errors import InvalidFilterError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Cursor", "Order", "Query", "decode_cursor", "encode_cursor", "select"]

_V = TypeVar("_V", bound=ValueOf)
_MOST: Final = 2**63 - 1
_set = msgspec.structs.force_setattr
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[str, int | float | str | tuple[()] | None, str]).decode
_OPAQUE_SIGN: Final = ()  # an empty list, in JSON: none of the values that compare
_AGAIN: Final = "begin at its first page"
_BROKEN: Final = "no page ends there; copy the whole token of the last page, or begin at the first page"


class Order(msgspec.Struct, frozen=True):
    """By one field, null first, then numbers, then text, then what is neither; ties by id, ascending.

    Attributes:
        field: The field's name; ``id`` unless told otherwise.
        descending: The field's values go down; ids among ties still go up.
    """

    field: str = "id"
    descending: bool = False

    @classmethod
    def parse(cls, order_by: str | None) -> Order:
        """Read ``"status"`` or, descending, ``"-status"``; None is by id.

        Raises:
            InvalidFilterError: It names no field.
        """
        if order_by is None:
            return cls()
        field = checked_field(f"order_by={reprlib.repr(order_by)}", order_by.removeprefix("-"))
        return cls(field, order_by.startswith("-"))

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return f"-{self.field}" if self.descending else self.field


class Cursor(msgspec.Struct, frozen=True):
    """Where a page ended: the next one begins behind this row, whatever was written in between.

    Attributes:
        order_by: The order of the pages, as `Order.parse` reads it.
        value: What the last row's field of the order compared as.
        id: The last row's id.

    Raises:
        InvalidFilterError: No row can have these.
    """

    order_by: str
    value: COMPARABLE
    id: str

    def __post_init__(self) -> None:
        """Check that a row can end here."""
        field = Order.parse(self.order_by).field
        value = self.value
        possible = comparable(value) == value
        if field == "id":
            possible = value == self.id
        elif field == "updated_at":
            possible = possible and isinstance(value, int | float)
        if not (possible and _is_unicode(self.id) and _is_unicode(value)):
            raise InvalidFilterError(f"a cursor at {reprlib.repr(value)}, {reprlib.repr(self.id)}", _BROKEN)

    @classmethod
    def at(cls, order_by: str | None, record_id: str, value_of: ValueOf) -> Cursor:
        """The cursor behind the row *record_id*, whose fields *value_of* gives.

        Raises:
            InvalidFilterError: *order_by* names no field.
        """
        order = Order.parse(order_by)
        value = record_id if order.field == "id" else field_comparable(order.field, value_of(order.field))
        return cls(str(order), value, record_id)


class Query(msgspec.Struct, frozen=True):
    """Which records, in which order, and which page of them.

    Attributes:
        filters: All of them hold.
        order_by: As `Order.parse` reads it; None is by id.
        limit: At most so many rows; None for all, else 0 … 2^63-1.
        offset: So many rows are passed over first (behind *after*, when there is one), 0 … 2^63-1.
        after: Only rows behind this one, in the same order.

    Raises:
        InvalidFilterError: A number is out of its range, the order names no field, or *after* has another order.
    """

    filters: tuple[Filter, ...] = ()
    order_by: str | None = None
    limit: int | None = None
    offset: int = 0
    after: Cursor | None = None

    def __post_init__(self) -> None:
        """Check the parts together."""
        _set(self, "filters", tuple(self.filters))
        check_filters(self.filters)
        for name, number in (("limit", self.limit), ("offset", self.offset)):
            if not (number is None and name == "limit") and not (type(number) is int and 0 <= number <= _MOST):
                raise InvalidFilterError(f"{name}={number!r}", "give a whole number from 0 to 2^63 - 1")
        order = self.order
        if self.after is not None and self.after.order_by != str(order):
            raise InvalidFilterError(
                f"a cursor for order_by={self.after.order_by!r}", f"this query has {str(order)!r}; {_AGAIN}"
            )

    @property
    def order(self) -> Order:
        """The order that *order_by* names."""
        return Order.parse(self.order_by)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the filters and the order look at, each once."""
        return tuple(dict.fromkeys((*fields_of(self.filters), self.order.field)))


def encode_cursor(cursor: Cursor) -> str:
    """*cursor* as a token of letters, digits, ``-`` and ``_``."""
    value = _OPAQUE_SIGN if cursor.value is OPAQUE else cursor.value
    return urlsafe_b64encode(_encode((cursor.order_by, value, cursor.id))).rstrip(b"=").decode()


def decode_cursor(token: str, *, order_by: str | None = None) -> Cursor:
    """The cursor that *token* was made from.

    Raises:
        InvalidFilterError: *token* is broken, or was made for another order than *order_by*.
    """
    subject = f"the cursor {reprlib.repr(token)}"
    try:
        wanted, value, record_id = _decode(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        cursor = Cursor(wanted, OPAQUE if isinstance(value, tuple) else value, record_id)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise InvalidFilterError(subject, _BROKEN) from error
    order = str(Order.parse(order_by))
    if cursor.order_by != order:
        raise InvalidFilterError(subject, f"it is for the order {cursor.order_by!r}, not {order!r}; {_AGAIN}")
    return cursor


def select(query: Query, rows: Iterable[tuple[str, _V]], *, in_order: bool = False) -> list[tuple[str, _V]]:
    """The rows that *query* asks for, in its order: the meaning of every query, and what the engine runs in Python.

    Args:
        query: What is asked for.
        rows: Ids, each with what gives the row's fields.
        in_order: *rows* come in the query's order and from behind its cursor. No more of them are taken than the
            page needs.
    """
    wanted = predicate(query.filters)
    found: Iterable[tuple[str, _V]] = (row for row in rows if wanted(row[1]))
    if not in_order:
        found = _sorted(query, found)
    stop = None if query.limit is None else min(query.offset + query.limit, sys.maxsize)
    return list(islice(found, min(query.offset, sys.maxsize), stop))


def _is_unicode(value: object) -> bool:
    """Whether *value* can stand in a record: text with a lone surrogate cannot."""
    return not isinstance(value, str) or value.encode(errors="replace").decode() == value


def _sorted(query: Query, rows: Iterable[tuple[str, _V]]) -> list[tuple[str, _V]]:
    """Sort *rows* that are behind the cursor."""
    field, descending = query.order.field, query.order.descending
    keyed = [(sort_key(field_comparable(field, row[1](field))), row) for row in rows]
    if query.after is not None:
        key, record_id = sort_key(query.after.value), query.after.id
        is_later = operator.lt if descending else operator.gt
        keyed = [(found, row) for found, row in keyed if is_later(found, key) or (found == key and row[0] > record_id)]
    keyed.sort(key=lambda pair: pair[1][0])
    keyed.sort(key=operator.itemgetter(0), reverse=descending)  # reversed or not, a sort keeps the order of ties
    return [row for _, row in keyed]
