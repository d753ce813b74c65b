"""What can be asked of a collection: filters, an order, a page; and what each of them means.

`select` is the meaning, in Python. The engine answers what it can in SQL and leaves the rest to it, so the two must
agree on every row.
"""

from __future__ import annotations

import binascii
import operator
import reprlib
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, StrEnum
from itertools import islice
from typing import Final, TypeAlias, TypeVar, cast

import msgspec

from taskstore_async.core.comparable import COMPARABLE, OPAQUE, comparable, field_comparable, sort_key
from taskstore_async.core.names import check_field
from taskstore_async.errors import InvalidFilterError, InvalidNameError

__all__ = [
    "Cursor",
    "Filter",
    "FilterOp",
    "FilterValue",
    "Order",
    "Query",
    "ValueOf",
    "any_",
    "contains",
    "decode_cursor",
    "encode_cursor",
    "eq",
    "fields_of",
    "gt",
    "gte",
    "in_",
    "is_null",
    "lt",
    "lte",
    "matches",
    "ne",
    "not_",
    "predicate",
    "select",
]

FilterValue: TypeAlias = int | float | str | None
"""What a field is compared with. An integer may have any size."""

ValueOf: TypeAlias = Callable[[str], object]
"""Gives the decoded JSON value of a record's field, ``msgspec.UNSET`` when it is absent.

``id`` gives the id as text and ``updated_at`` the stamp in milliseconds, whatever the line spells them as; a computed
field gives what it is computed as.
"""

_V = TypeVar("_V", bound=ValueOf)
_Check: TypeAlias = Callable[[ValueOf], bool]

_MAX_DEPTH: Final = 100  # far below where Python's own recursion ends, far above what anybody means
_MOST: Final = 2**63 - 1
_BEYOND: Final = 2**1024  # above every float: an integer further out says no more than this one
_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


# -- filters ------------------------------------------------------------------------------------------------


class FilterOp(StrEnum):
    """What a filter does."""

    EQ = "eq"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    CONTAINS = "contains"
    IN = "in"
    IS_NULL = "is_null"
    ANY = "any"
    NOT = "not"


_ORDERED: Final[dict[FilterOp, Callable[..., bool]]] = {
    FilterOp.GT: operator.gt,
    FilterOp.GTE: operator.ge,
    FilterOp.LT: operator.lt,
    FilterOp.LTE: operator.le,
}
_JOINS: Final = frozenset({FilterOp.ANY, FilterOp.NOT})


class Filter(msgspec.Struct, frozen=True):
    """One condition on a record; true or false for every record, never unknown.

    Comparing with a missing value, a null or a value of another kind is false. Numbers compare with numbers (``true``
    and ``false`` are 1 and 0), text with text by code point.

    Attributes:
        field: The field's name; empty for ``ANY`` and ``NOT``.
        op: What is done. ``EQ`` with None becomes ``IS_NULL``.
        value: What the field is compared with: a tuple for ``IN``, None for ``IS_NULL``, ``ANY`` and ``NOT``.
        filters: For ``ANY``, of which one must hold; for ``NOT``, which must not all hold.

    Raises:
        InvalidFilterError: The field's name breaks the rules, or the value can be compared with nothing: a list, a
            date, NaN, an infinity; or filters are nested more than 100 deep.
    """

    field: str
    op: FilterOp
    value: FilterValue | tuple[FilterValue, ...] = None
    filters: tuple[Filter, ...] = ()

    def __post_init__(self) -> None:
        """Check the parts, and bring every way of saying a thing to one."""
        try:
            op = FilterOp(self.op)
        except ValueError:
            choices = ", ".join(FilterOp)
            raise InvalidFilterError(f"a filter with op={self.op!r}", f"the ops are {choices}") from None
        _set(self, "op", op)
        _set(self, "filters", tuple(self.filters))
        if op in _JOINS:
            self._check_join()
        else:
            self._check_comparison()

    def _check_join(self) -> None:
        subject = f"the filter {self.op}"
        if self.field != "" or self.value is not None:
            raise InvalidFilterError(subject, "it joins other filters; give it neither a field nor a value")
        _check_filters(self.filters)
        if _depth(self) > _MAX_DEPTH:
            raise InvalidFilterError(subject, f"filters are nested more than {_MAX_DEPTH} deep; flatten them")

    def _check_comparison(self) -> None:
        subject = f"the filter {self.op} on {reprlib.repr(self.field)}"
        _checked_field(subject, self.field)
        if self.filters:
            raise InvalidFilterError(subject, "it compares a field; only any and not join other filters")
        if self.op is FilterOp.IN:
            _set(self, "value", _values(subject, self.value))
            return
        value = _value(subject, self.value)
        if self.op is FilterOp.IS_NULL:
            if value is not None:
                raise InvalidFilterError(subject, "it takes no value; to compare with one, use eq")
        elif value is None:
            if self.op is not FilterOp.EQ:
                raise InvalidFilterError(subject, "null is neither less nor more than anything; use is_null")
            _set(self, "op", FilterOp.IS_NULL)
        _set(self, "value", value)

    def __repr__(self) -> str:
        """Return the call that makes this filter."""
        match self.op:
            case FilterOp.ANY | FilterOp.NOT:
                if self.op is FilterOp.NOT and len(self.filters) == 1 and self.filters[0].op is FilterOp.EQ:
                    return f"ne({self.filters[0].field!r}, {self.filters[0].value!r})"
                return f"{self.op}_({', '.join(map(repr, self.filters))})"
            case FilterOp.IS_NULL:
                return f"is_null({self.field!r})"
            case FilterOp.IN:
                return f"in_({self.field!r}, {self.value!r})"
            case _:
                return f"{self.op}({self.field!r}, {self.value!r})"


def eq(field: str, value: object) -> Filter:
    """*field* equals *value*; with None, as `is_null`.

    Raises:
        InvalidFilterError: As `Filter` says, here and in every function below.
    """
    return _filter(field, FilterOp.EQ, value)


def ne(field: str, value: object) -> Filter:
    """Not `eq`: also true for records in which *field* is missing, null or of another kind than *value*."""
    return not_(eq(field, value))


def gt(field: str, value: object) -> Filter:
    """*field* is more than *value*, a number or text."""
    return _filter(field, FilterOp.GT, value)


def gte(field: str, value: object) -> Filter:
    """*field* is *value* or more, a number or text."""
    return _filter(field, FilterOp.GTE, value)


def lt(field: str, value: object) -> Filter:
    """*field* is less than *value*, a number or text."""
    return _filter(field, FilterOp.LT, value)


def lte(field: str, value: object) -> Filter:
    """*field* is *value* or less, a number or text."""
    return _filter(field, FilterOp.LTE, value)


def contains(field: str, value: object) -> Filter:
    """*field* is text with *value* in it, or a list with *value* among its items.

    In text a-z and A-Z are the same, and ``%`` and ``_`` are plain; a list's items are compared as `eq` does.
    """
    return _filter(field, FilterOp.CONTAINS, value)


def in_(field: str, values: Iterable[object]) -> Filter:
    """*field* equals one of *values*; None among them includes null. No values match nothing."""
    return _filter(field, FilterOp.IN, values)


def is_null(field: str) -> Filter:
    """*field* is missing or null."""
    return _filter(field, FilterOp.IS_NULL, None)


def any_(*filters: Filter) -> Filter:
    """One of *filters* holds, or more of them. None at all match nothing."""
    return Filter("", FilterOp.ANY, None, filters)


def not_(first: Filter, *more: Filter) -> Filter:
    """The filters do not hold; several stand side by side, as in a query: they do not *all* hold."""
    return Filter("", FilterOp.NOT, None, (first, *more))


def fields_of(filters: Iterable[Filter]) -> tuple[str, ...]:
    """The fields that *filters* look at, each once, in the order in which they come."""
    return tuple(dict.fromkeys(_fields(filters)))


def matches(filters: Iterable[Filter], value_of: ValueOf) -> bool:
    """Whether all of *filters* hold for the record whose fields *value_of* gives."""
    return predicate(filters)(value_of)


def predicate(filters: Iterable[Filter]) -> Callable[[ValueOf], bool]:
    """`matches` for many records: what can be decided once about *filters* is."""
    checks = [_check(part) for part in filters]
    if len(checks) == 1:
        return checks[0]
    return lambda value_of: all(check(value_of) for check in checks)


# -- order and page -----------------------------------------------------------------------------------------


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
        field = _checked_field(f"order_by={reprlib.repr(order_by)}", order_by.removeprefix("-"))
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
        _check_filters(self.filters)
        for name, number in (("limit", self.limit), ("offset", self.offset)):
            if not (number is None and name == "limit") and not (type(number) is int and 0 <= number <= _MOST):
                raise InvalidFilterError(f"{name}={number!r}", "give a whole number, 0 or more")
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
        return tuple(dict.fromkeys((*_fields(self.filters), self.order.field)))


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


# -- inside -------------------------------------------------------------------------------------------------

_set = msgspec.structs.force_setattr
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[str, int | float | str | tuple[()] | None, str]).decode
_OPAQUE_SIGN: Final = ()  # an empty list, in JSON: none of the values that compare
_AGAIN: Final = "begin at its first page"
_BROKEN: Final = "no page ends there; copy the whole token of the last page, or begin at the first page"


def _filter(field: str, op: FilterOp, value: object) -> Filter:
    """Make a filter from a value of any type, which `Filter` then checks."""
    return Filter(field, op, value)  # type: ignore[arg-type]  # reason: what is not allowed is refused there, by name


def _checked_field(subject: str, name: object) -> str:
    if not isinstance(name, str):
        raise InvalidFilterError(subject, "a field is named by text")
    try:
        return check_field(name)
    except InvalidNameError as error:
        raise InvalidFilterError(subject, f"{reprlib.repr(name)} is no field name: {error.rule}") from None


def _check_filters(parts: Iterable[object]) -> None:
    for part in parts:
        if not isinstance(part, Filter):
            subject = f"the filter {reprlib.repr(part)}"
            raise InvalidFilterError(subject, "make one with a function, as in eq('status', 'open')")


def _value(subject: str, value: object) -> FilterValue:
    """Bring *value* to what records hold: plain text, a number or None."""
    if isinstance(value, Enum) and not isinstance(value, int | str):
        value = value.value  # as it is written into a record
    if isinstance(value, int):
        return max(-_BEYOND, min(int(value), _BEYOND))
    found = comparable(value)
    if found is not OPAQUE:
        return found
    if isinstance(value, float):
        raise InvalidFilterError(subject, f"{value!r} is in no record; use a finite number")
    kind = type(value).__name__
    if isinstance(value, list | tuple | set | frozenset):
        raise InvalidFilterError(subject, f"a {kind} equals nothing; use in_ for several values, contains for an item")
    raise InvalidFilterError(
        subject, f"a {kind} cannot be compared; use what stands in the record: text, a number, true, false or null"
    )


def _values(subject: str, values: object) -> tuple[FilterValue, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidFilterError(subject, f"it takes several values, not {reprlib.repr(values)}; put it into a list")
    items = cast("Iterable[object]", values)
    return tuple(dict.fromkeys(_value(subject, item) for item in items))


def _depth(part: Filter) -> int:
    return 1 + max(map(_depth, part.filters), default=0)


def _fields(filters: Iterable[Filter]) -> Iterator[str]:
    for part in filters:
        if part.op in _JOINS:
            yield from _fields(part.filters)
        else:
            yield part.field


def _is_unicode(value: object) -> bool:
    """Whether *value* can stand in a record: text with a lone surrogate cannot."""
    return not isinstance(value, str) or value.encode(errors="replace").decode() == value


def _check(part: Filter) -> _Check:
    """Make the function that tells whether *part* holds."""
    field = part.field
    match part.op:
        case FilterOp.ANY:
            checks = [_check(inner) for inner in part.filters]
            return lambda value_of: any(check(value_of) for check in checks)
        case FilterOp.NOT:
            all_hold = predicate(part.filters)
            return lambda value_of: not all_hold(value_of)
        case FilterOp.IS_NULL:
            return lambda value_of: field_comparable(field, value_of(field)) is None
        case FilterOp.IN:
            assert isinstance(part.value, tuple)  # noqa: S101 - reason: Filter made it one
            members = frozenset(part.value)
            return lambda value_of: field_comparable(field, value_of(field)) in members
        case _:
            assert not isinstance(part.value, tuple)  # noqa: S101 - reason: Filter let it in for IN only
            return _check_one(field, part.op, part.value)


def _check_one(field: str, op: FilterOp, value: FilterValue) -> _Check:
    if op is FilterOp.EQ:
        return lambda value_of: field_comparable(field, value_of(field)) == value
    if op is FilterOp.CONTAINS:
        return _check_contains(field, value)
    compare = _ORDERED[op]
    kind = str if isinstance(value, str) else (int, float)

    def is_ordered(value_of: ValueOf) -> bool:
        found = field_comparable(field, value_of(field))
        return isinstance(found, kind) and compare(found, value)

    return is_ordered


def _check_contains(field: str, value: FilterValue) -> _Check:
    folded = _folded(value) if isinstance(value, str) else None

    def is_contained(value_of: ValueOf) -> bool:
        found = value_of(field)
        if isinstance(found, list):
            return any(comparable(item) == value for item in cast("list[object]", found))
        if folded is None:
            return False
        text = field_comparable(field, found)
        return isinstance(text, str) and folded in _folded(text)

    return is_contained


def _folded(text: str) -> str:
    """Lower *text*'s ASCII letters, and no others: what is one letter elsewhere depends on the language."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


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
