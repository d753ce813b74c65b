"""Filters: what each says of a record, and what that means.

`predicate` is the meaning, in Python. The engine answers what it can in SQL and leaves the rest to it, so the two must
agree on every row.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, StrEnum
from typing import Final, TypeAlias, cast

import msgspec

from taskstore_async.core.comparable import OPAQUE, comparable, field_comparable
from taskstore_async.core.names import check_field
from taskstore_async.errors import InvalidFilterError, InvalidNameError

__all__ = [
    "Filter",
    "FilterOp",
    "FilterValue",
    "ValueOf",
    "any_",
    "check_filters",
    "checked_field",
    "contains",
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
]

FilterValue: TypeAlias = int | float | str | None
"""What a field is compared with. An integer may have any size."""

ValueOf: TypeAlias = Callable[[str], object]
"""Gives the decoded JSON value of a record's field, ``msgspec.UNSET`` when it is absent.

``id`` gives the id as text and ``updated_at`` the stamp in milliseconds, whatever the line spells them as; a computed
field gives what it is computed as.
"""

_Check: TypeAlias = Callable[[ValueOf], bool]

_MAX_DEPTH: Final = 100  # far below where Python's own recursion ends, far above what anybody means
_BEYOND: Final = 2**1024  # above every float: an integer further out says no more than this one
_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


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
        check_filters(self.filters)
        if _depth(self) > _MAX_DEPTH:
            raise InvalidFilterError(subject, f"filters are nested more than {_MAX_DEPTH} deep; flatten them")

    def _check_comparison(self) -> None:
        subject = f"the filter {self.op} on {reprlib.repr(self.field)}"
        checked_field(subject, self.field)
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


# -- inside -------------------------------------------------------------------------------------------------

_set = msgspec.structs.force_setattr


def _filter(field: str, op: FilterOp, value: object) -> Filter:
    """Make a filter from a value of any type, which `Filter` then checks."""
    return Filter(field, op, value)  # type: ignore[arg-type]  # reason: what is not allowed is refused there, by name


def checked_field(subject: str, name: object) -> str:
    """Refuse a *name* that no field has; *subject* is what it stands in, for the message.

    Raises:
        InvalidFilterError: It is none.
    """
    if not isinstance(name, str):
        raise InvalidFilterError(subject, "a field is named by text")
    try:
        return check_field(name)
    except InvalidNameError as error:
        raise InvalidFilterError(subject, f"{reprlib.repr(name)} is no field name: {error.rule}") from None


def check_filters(parts: Iterable[object]) -> None:
    """Refuse *parts* that are no filters.

    Raises:
        InvalidFilterError: One is none.
    """
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
