"""A query as SQL over one collection's row table, and what SQL must leave to Python.

`compile_query` only ever narrows: rows that SQL leaves out do not match, and what it cannot decide stands in
``Compiled.rest``, which `finish` runs over the rows that it leaves.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

import msgspec

from taskstore_async.core.comparable import OPAQUE
from taskstore_async.core.filters import Filter, FilterOp, FilterValue, ValueOf
from taskstore_async.core.query import Cursor, Order, Query, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Compiled", "SqlValue", "compile_query", "finish"]

SqlValue: TypeAlias = int | float | str | bytes
"""What is bound to a statement."""

_Number: TypeAlias = int | float
_Scalar: TypeAlias = int | float | str
_V = TypeVar("_V", bound=ValueOf)

# SQLite refuses more variables than 32,766 and expressions deeper than 1,000, and its parser stacks 100 symbols. A
# query beyond these is answered in Python, as far as it is beyond.
_MAX_VALUES: Final = 30_000
_MAX_FILTERS: Final = 200
_MAX_DEPTH: Final = 8

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_LEAST_NUMBER: Final = "-9e999"  # minus infinity, which nobody stores: SQLite prefers ranges with two ends
_LEAST_TEXT: Final = "''"  # above every number
_LEAST_BLOB: Final = "x''"  # above every text; and the one blob there is, for what is opaque
_FALSE: Final = "0"
_SIGNS: Final = {FilterOp.GT: ">", FilterOp.GTE: ">=", FilterOp.LT: "<", FilterOp.LTE: "<="}
_AFTER_SURROGATES: Final = "\ue000"


class Compiled(msgspec.Struct, frozen=True):
    """SQL for one query.

    Attributes:
        table: The row table.
        where: The condition on its rows; may let through rows that do not match, when `residual` says so.
        params: What *where* takes.
        order: What to order by; None when Python sorts.
        limit: As in the query; applied in SQL only when there is no *rest*.
        offset: As *limit*.
        rest: What is left for Python; None when SQL decides everything.
    """

    table: str
    where: str
    params: tuple[SqlValue, ...]
    order: str | None
    limit: int | None
    offset: int
    rest: Query | None

    @property
    def residual(self) -> tuple[Filter, ...]:
        """The filters that SQL does not decide. Empty: `count` is exact."""
        return () if self.rest is None else self.rest.filters

    @property
    def count(self) -> tuple[str, tuple[SqlValue, ...]]:
        """SQL and parameters that count the rows behind the cursor, whatever the limit and the offset."""
        return f"SELECT count(*) FROM {self.table} WHERE {self.where}", self.params

    def select(self, columns: str = "line, ms, ns, id") -> tuple[str, tuple[SqlValue, ...]]:
        """SQL and parameters that give *columns* of the page, or, when there is a *rest*, of what `finish` takes."""
        sql = f"SELECT {columns} FROM {self.table} WHERE {self.where}"
        if self.order is not None:
            sql += f" ORDER BY {self.order}"
        if self.rest is None and (self.limit is not None or self.offset):
            limit = -1 if self.limit is None else self.limit
            return f"{sql} LIMIT ? OFFSET ?", (*self.params, limit, self.offset)
        return sql, self.params


class _Column(msgspec.Struct, frozen=True):
    """A column, and what it holds. SQLite would convert what is compared with one that has a declared type."""

    sql: str
    holds: Literal["text", "number", "anything"] = "anything"


class _Part(msgspec.Struct, frozen=True):
    """A condition that holds for every row for which its filter does; if *exact*, for no other.

    It may be NULL for false: nothing that contains it may tell these two apart.
    """

    sql: str
    params: tuple[SqlValue, ...] = ()
    exact: bool = True


_BASE: Final = {"id": _Column("id", "text"), "updated_at": _Column("ms", "number")}
_NOTHING: Final = _Part(_FALSE)


def compile_query(query: Query, *, table: str, columns: Mapping[str, str]) -> Compiled:
    """Turn *query* into SQL.

    Args:
        query: What is asked for.
        table: The row table's name.
        columns: The generated column of each declared field.

    Returns:
        SQL over the live rows of *table*. When ``rest`` is not None, what it gives must go through `finish`.
    """
    known = _BASE | {field: _Column(column) for field, column in columns.items()}
    parts = [_Part("dead = 0")]  # spelt as in the indexes' own condition, else SQLite does not use them
    residual: list[Filter] = []
    filters, values = 0, 0
    for wanted in query.filters:
        more_filters, more_values = _size(wanted)
        fits = filters + more_filters <= _MAX_FILTERS and values + more_values <= _MAX_VALUES
        part = _part(wanted, known) if fits and _depth(wanted) <= _MAX_DEPTH else None
        if part is not None:
            parts.append(part)
            filters, values = filters + more_filters, values + more_values
        if part is None or not part.exact:
            residual.append(wanted)
    column = known.get(query.order.field)
    order = None if column is None else _order_by(query.order, column)
    if column is not None and query.after is not None:
        parts.extend(_behind(query.after, query.order, column))
    joined = _joined(parts, " AND ")
    rest = None
    if residual or order is None:
        rest = Query(tuple(residual), query.order_by, query.limit, query.offset, query.after)
    return Compiled(table, joined.sql, joined.params, order, query.limit, query.offset, rest)


def finish(compiled: Compiled, rows: Iterable[tuple[str, _V]]) -> list[tuple[str, _V]]:
    """The page of a query whose ``rest`` is not None, from the rows that its SQL gives.

    Args:
        compiled: The query.
        rows: The rows in the order in which SQL gives them: ids, each with what gives the row's fields. When SQL
            orders, no more of them are taken than the page needs.
    """
    rest = compiled.rest
    if rest is None:
        return list(rows)
    return select(rest, rows, in_order=compiled.order is not None)


# -- filters ------------------------------------------------------------------------------------------------


def _size(wanted: Filter) -> tuple[int, int]:
    """How many filters and how many values *wanted* is made of."""
    values = len(wanted.value) if isinstance(wanted.value, tuple) else 1
    sizes = [(1, values), *map(_size, wanted.filters)]
    return sum(filters for filters, _ in sizes), sum(values for _, values in sizes)


def _depth(wanted: Filter) -> int:
    return 1 + max(map(_depth, wanted.filters), default=0)


def _part(wanted: Filter, columns: Mapping[str, _Column]) -> _Part | None:
    """The condition for *wanted*; None when SQL has nothing to say about it."""
    match wanted.op:
        case FilterOp.ANY:
            return _any(wanted.filters, columns)
        case FilterOp.NOT:
            return _not(wanted.filters, columns)
        case _:
            column = columns.get(wanted.field)
            return None if column is None else _comparison(wanted, column)


def _any(filters: Sequence[Filter], columns: Mapping[str, _Column]) -> _Part | None:
    parts: list[_Part] = []
    for inner in filters:
        part = _part(inner, columns)
        if part is None:
            return None
        # Each branch says it again, else SQLite does not see that the branch implies the index's condition.
        parts.append(msgspec.structs.replace(part, sql=f"dead = 0 AND {part.sql}"))
    return _joined(parts, " OR ") if parts else _NOTHING


def _not(filters: Sequence[Filter], columns: Mapping[str, _Column]) -> _Part | None:
    if len(filters) == 1 and filters[0].op is FilterOp.NOT:
        parts = [_part(inner, columns) for inner in filters[0].filters]
        known = [part for part in parts if part is not None]  # each narrows, and so does what is left of them
        joined = _joined(known, " AND ") if known else _Part("1")
        return msgspec.structs.replace(joined, exact=joined.exact and len(known) == len(parts))
    if not filters:
        return _NOTHING
    parts = [_part(inner, columns) for inner in filters]
    exact = [part for part in parts if part is not None and part.exact]
    if len(exact) < len(parts):
        return None  # the complement of what lets too much through would let too little through
    joined = _joined(exact, " AND ")
    return _Part(f"(({joined.sql}) IS NOT TRUE)", joined.params)  # two-valued: the complement holds for NULL


def _comparison(wanted: Filter, column: _Column) -> _Part | None:
    match wanted.op:
        case FilterOp.IS_NULL:
            return _equal((None,), column)
        case FilterOp.IN:
            assert isinstance(wanted.value, tuple)  # noqa: S101 - reason: Filter made it one
            return _equal(wanted.value, column)
        case _:
            assert not isinstance(wanted.value, tuple | None)  # noqa: S101 - reason: Filter let them in above only
            if wanted.op is FilterOp.EQ:
                return _equal((wanted.value,), column)
            if wanted.op is FilterOp.CONTAINS:
                return _contains(wanted.value, column)
            return _range(wanted.op, wanted.value, column)


def _equal(values: Sequence[FilterValue], column: _Column) -> _Part:
    """Is one of *values*."""
    bound = tuple(found for value in values if value is not None for found in _stored(value, column))
    parts: list[_Part] = []
    if len(bound) == 1:
        parts.append(_Part(f"{column.sql} = ?", bound))
    elif bound:
        parts.append(_Part(f"{column.sql} IN ({', '.join('?' * len(bound))})", bound))
    if None in values:
        parts.append(_Part(f"{column.sql} IS NULL"))
    if len(parts) > 1:
        parts = [msgspec.structs.replace(part, sql=f"dead = 0 AND {part.sql}") for part in parts]
    return _joined(parts, " OR ") if parts else _NOTHING


def _stored(value: _Scalar, column: _Column) -> tuple[SqlValue, ...]:
    """The one value that *column* may hold and that equals *value*, if there is one."""
    if isinstance(value, str):
        return (value,) if column.holds != "number" and _prefix(value) == value else ()
    if column.holds == "text":
        return ()
    if isinstance(value, float) or _LEAST <= value <= _MOST:
        return (value,)
    below = _float_below(value)
    return (below,) if below == value else ()


def _contains(value: _Scalar, column: _Column) -> _Part | None:
    """Lists are opaque to SQL, so it tells only where there is no need to look."""
    if column.holds == "text" and isinstance(value, str):
        return None
    if column.holds != "anything":
        return _NOTHING
    least = _LEAST_TEXT if isinstance(value, str) else _LEAST_BLOB
    return _Part(f"{column.sql} >= {least}", exact=False)


def _range(op: FilterOp, value: _Scalar, column: _Column) -> _Part:
    """Is less or more than *value*, and of its kind: to SQLite every text is more than every number."""
    if column.holds == ("number" if isinstance(value, str) else "text"):
        return _NOTHING
    bound: SqlValue
    if isinstance(value, str):
        op, bound = _text_bound(op, value)
        least, beyond = _LEAST_TEXT, _LEAST_BLOB
    else:
        op, bound = _number_bound(op, value)
        least, beyond = _LEAST_NUMBER, _LEAST_TEXT
    sql = f"{column.sql} {_SIGNS[op]} ?"
    if column.holds == "anything":
        rises = op in {FilterOp.GT, FilterOp.GTE}
        sql += f" AND {column.sql} < {beyond}" if rises else f" AND {column.sql} >= {least}"
    return _Part(f"({sql})", (bound,))


def _text_bound(op: FilterOp, value: str) -> tuple[FilterOp, str]:
    """Say the same without a lone surrogate, which no stored text has and SQLite does not take.

    What begins like *value* as far as the surrogate goes on with a character below the surrogates, or above.
    """
    prefix = _prefix(value)
    if prefix == value:
        return op, value
    return (FilterOp.GTE if op in {FilterOp.GT, FilterOp.GTE} else FilterOp.LT), prefix + _AFTER_SURROGATES


def _number_bound(op: FilterOp, value: _Number) -> tuple[FilterOp, _Number]:
    """Say the same without an integer beyond 64 bits: out there only floats are stored."""
    if isinstance(value, float) or _LEAST <= value <= _MOST:
        return op, value
    below = _float_below(value)
    if below == value:
        return op, below
    return (FilterOp.GT if op in {FilterOp.GT, FilterOp.GTE} else FilterOp.LTE), below


def _float_below(value: int) -> float:
    """The greatest float that is not above *value*; minus infinity below them all."""
    try:
        nearest = float(value)
    except OverflowError:
        return sys.float_info.max if value > 0 else -math.inf
    return nearest if nearest <= value else math.nextafter(nearest, -math.inf)


def _prefix(text: str) -> str:
    """*text* as far as its first lone surrogate; all of it when there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return text[: error.start]
    return text


def _joined(parts: Sequence[_Part], operator: str) -> _Part:
    if len(parts) == 1:
        return parts[0]
    sql = operator.join(part.sql for part in parts)
    params = tuple([param for part in parts for param in part.params])
    return _Part(f"({sql})" if operator == " OR " else sql, params, all(part.exact for part in parts))


# -- order and page -----------------------------------------------------------------------------------------


def _order_by(order: Order, column: _Column) -> str:
    direction = " DESC" if order.descending else ""
    return f"{column.sql}{direction}" if order.field == "id" else f"{column.sql}{direction}, id"


def _behind(after: Cursor, order: Order, column: _Column) -> list[_Part]:
    """Comes after the cursor. The first condition is one that an index can begin at."""
    value = b"" if after.value is OPAQUE else after.value
    name = column.sql
    if order.field == "id":
        return [_Part(f"id {'<' if order.descending else '>'} ?", (after.id,))]
    if value is None:
        if order.descending:
            return [_Part(f"{name} IS NULL"), _Part("id > ?", (after.id,))]
        return [_Part(f"({name} IS NOT NULL OR id > ?)", (after.id,))]
    if not order.descending:
        return [_Part(f"{name} >= ?", (value,)), _Part(f"({name} > ? OR id > ?)", (value, after.id))]
    if column.holds == "number":
        return [_Part(f"{name} <= ?", (value,)), _Part(f"({name} < ? OR id > ?)", (value, after.id))]
    return [_Part(f"({name} < ? OR {name} IS NULL OR ({name} = ? AND id > ?))", (value, value, after.id))]
