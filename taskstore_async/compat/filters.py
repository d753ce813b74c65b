"""Filters as the older calls make them, and what they mean today. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from taskstore_async.core import filters
from taskstore_async.core.filters import FilterOp

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Filter", "translated"]

_COMPARED = frozenset({FilterOp.EQ, FilterOp.IN})


class Filter(filters.Filter, frozen=True):
    """A condition, made by `Filter.eq` and so on.

    ``Filter.eq(field, None)`` is `is_null`. A text that is JSON for a text, as older programs wrote the values of
    enums (``'"running"'``), matches that text as well: ``running``.
    """

    @staticmethod
    def eq(field: str, value: object) -> filters.Filter:
        """*field* equals *value*."""
        return filters.eq(field, value)

    @staticmethod
    def ne(field: str, value: object) -> filters.Filter:
        """*field* does not equal *value*."""
        return filters.ne(field, value)

    @staticmethod
    def gt(field: str, value: object) -> filters.Filter:
        """*field* is more than *value*."""
        return filters.gt(field, value)

    @staticmethod
    def gte(field: str, value: object) -> filters.Filter:
        """*field* is *value* or more."""
        return filters.gte(field, value)

    @staticmethod
    def lt(field: str, value: object) -> filters.Filter:
        """*field* is less than *value*."""
        return filters.lt(field, value)

    @staticmethod
    def lte(field: str, value: object) -> filters.Filter:
        """*field* is *value* or less."""
        return filters.lte(field, value)

    @staticmethod
    def contains(field: str, value: object) -> filters.Filter:
        """*field* is text with *value* in it, or a list with *value* among its items."""
        return filters.contains(field, value)

    @staticmethod
    def in_(field: str, values: Iterable[object]) -> filters.Filter:
        """*field* equals one of *values*."""
        return filters.in_(field, values)

    @staticmethod
    def is_null(field: str) -> filters.Filter:
        """*field* is missing or null."""
        return filters.is_null(field)


def translated(wanted: filters.Filter) -> filters.Filter:
    """*wanted*, in which a quoted text also stands for the text that it quotes."""
    if wanted.filters:
        return filters.Filter("", wanted.op, None, tuple(translated(inner) for inner in wanted.filters))
    if wanted.op not in _COMPARED:
        return wanted
    values = wanted.value if isinstance(wanted.value, tuple) else (wanted.value,)
    both = [meaning for value in values for meaning in (value, _unquoted(value))]
    return wanted if len(set(both)) == len(values) else filters.in_(wanted.field, dict.fromkeys(both))


def _unquoted(value: object) -> object:
    """The text that *value* is JSON for; else *value*."""
    if not (isinstance(value, str) and value.startswith('"') and value.endswith('"')):
        return value
    try:
        inner: object = json.loads(value)
    except ValueError:
        return value
    return inner if isinstance(inner, str) else value
