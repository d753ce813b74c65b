"""What ``-f``, ``k=v`` and ``k:=json`` say. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from taskstore_async.cli.errors import UsageError
from taskstore_async.core.codec import decode_exact
from taskstore_async.core.filters import any_, contains, eq, gt, gte, lt, lte, not_
from taskstore_async.core.stamp import read_stamp, to_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from taskstore_async.core.filters import Filter

__all__ = ["parse_assignments", "parse_filter", "parse_parameters"]

_CONDITION: Final = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(:=|!=|>=|<=|=|>|<|~)(.*)", re.DOTALL)
_COMPARISONS: Final[dict[str, Callable[[str, object], Filter]]] = {
    "=": eq,
    ">": gt,
    ">=": gte,
    "<": lt,
    "<=": lte,
    "~": contains,
}
_STAMPS: Final = frozenset({"created_at", "updated_at"})
_SET_BY_THE_STORE: Final = "updated_at"
_NOTHING: Final = object()


def parse_filter(text: str) -> Filter:
    """The condition that ``-f`` *text* says: a field, one of ``= != > >= < <= ~ :=``, and a value.

    The value counts as the text it is and as the JSON scalar it spells, so that ``priority=2`` finds 2 and "2". After
    ``:=`` it is JSON alone. A moment (RFC 3339) compares with ``created_at`` and ``updated_at``; a
    date is the moment at which it begins (UTC).

    Raises:
        UsageError: *text* is no condition, or what follows ``:=`` is no JSON.
        InvalidFilterError: The field or the value cannot be compared.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text!r} is no filter; write a field, one of = != > >= < <= ~ := and a value: -f status=open"
        )
    field, operator, value = found.groups()
    if operator == ":=":
        return eq(field, _json(value, text))
    if operator == "!=":
        return not_(_either(field, "=", value))
    return _either(field, operator, value)


def _either(field: str, operator: str, value: str) -> Filter:
    compare = _COMPARISONS[operator]
    meanings: list[object] = [value]
    scalar = _scalar(value)
    if scalar is not _NOTHING and (operator in "=~" or isinstance(scalar, int | float)):
        meanings.append(scalar)
    if field in _STAMPS:
        moments = (read_stamp(text) for text in (value, f"{value}T00:00:00Z"))
        meanings += [to_ms(moment) for moment in moments if moment is not None]
    if operator == "~":
        meanings = [meaning for meaning in meanings if meaning is not None]  # "null" is in no text
    filters = [compare(field, meaning) for meaning in meanings]
    return filters[0] if len(filters) == 1 else any_(*filters)


def _scalar(text: str) -> object:
    """The JSON scalar that *text* spells; `_NOTHING` when it spells none that can be compared."""
    try:
        value = decode_exact(text.encode())
    except (ValueError, RecursionError):
        return _NOTHING
    if value is None or isinstance(value, str | int):
        return value
    return float(value) if not isinstance(value, list | dict) and abs(value) < float("inf") else _NOTHING


def parse_assignments(words: Iterable[str]) -> dict[str, object]:
    """The fields that ``name=text`` and ``name:=json`` set.

    Raises:
        UsageError: A word is neither, what follows ``:=`` is no JSON, or a field is set twice or by the store alone.
    """
    fields = _named(words)
    if _SET_BY_THE_STORE in fields:
        raise UsageError(f"{_SET_BY_THE_STORE} is set by the store with every write; leave it out")
    return fields


def parse_parameters(words: Iterable[str]) -> dict[str, int | float | str | None]:
    """The values that ``name=text`` and ``name:=json`` give to the ``:name`` of a query.

    Raises:
        UsageError: As for `parse_assignments`; or the JSON is no scalar, or a number that SQL does not have.
    """
    values: dict[str, int | float | str | None] = {}
    for name, value in _named(words).items():
        if value is not None and not isinstance(value, int | float | str):
            raise UsageError(f"{name} is no value that SQL has; give it text, a number, true, false or null")
        values[name] = value
    return values


def _named(words: Iterable[str]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for word in words:
        name, sign, value = word.partition("=")
        exact = name.endswith(":")
        name = name.removesuffix(":")
        if not sign or not name:
            raise UsageError(f"{word!r} sets no field; write name=text or name:=json: title='Ship it' priority:=2")
        if name in fields:
            raise UsageError(f"{name} is set twice; leave one of them out")
        fields[name] = _json(value, word) if exact else value
    return fields


def _json(value: str, word: str) -> object:
    try:
        return decode_exact(value.encode())
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{word!r}: what follows := is no JSON ({error}); quote text as in name:='\"text\"', or write name=text"
        ) from error
