"""Which fields of records make the columns of a list."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from taskstore_async.cli.output import cell_of
from taskstore_async.cli.text import human_time, width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskstore_async.core.declaration import Declaration
    from taskstore_async.storage.rows import Found

__all__ = ["cell", "columns_for_people", "columns_for_programs", "fields_of", "row_of", "unknown_fields"]

_LOOKED_AT: Final = 50  #: records that decide about the columns for people
_HEADLINES: Final[tuple[str, ...]] = ("title", "name")  #: what a person looks for first, whether declared or not
_WIDEST: Final = 80  #: a field with longer text than this is for `show`
_STAMPS: Final = frozenset({"created_at", "updated_at"})
_ALWAYS: Final = frozenset({"id", *_STAMPS})


def columns_for_programs(declaration: Declaration) -> list[str]:
    """Columns that do not depend on the records: id, updated_at and what is declared."""
    return list(dict.fromkeys(["id", "updated_at", *declaration.columns]))


def columns_for_people(found: Sequence[Found], declaration: Declaration) -> list[str]:
    """Columns in the order in which they matter: id, a headline, what is declared, short fields, moments.

    A field that none of the first records has is left out, and so is one that is not declared and holds lists, objects
    or long text.
    """
    from taskstore_async.storage.rows import values_of  # noqa: PLC0415 - reason: it loads the database

    first = [values_of(one, declaration) for one in islice(found, _LOOKED_AT)]
    names = dict.fromkeys(name for one in islice(found, _LOOKED_AT) for name in _names(one))
    values = {
        name: [value for value_of in first if cell_of(value := value_of(name)) != ""]
        for name in (*names, *declaration.columns)
    }
    declared = [name for name in declaration.columns if values[name]]
    short = [name for name in names if values[name] and _is_short(values[name])]
    wanted = [name for name in _HEADLINES if name in short]
    wanted += declared
    wanted += sorted((name for name in short if name not in _STAMPS), key=lambda name: name.endswith("_at"))
    return list(dict.fromkeys(["id", *wanted, "updated_at"]))


def unknown_fields(
    names: Iterable[str], declaration: Declaration, records: Iterable[Found]
) -> tuple[list[str], list[str]]:
    """Which of *names* are neither declared nor in any of *records*, and what there is; none when there is no record.

    *records* is read until every name was found: not at all when all are declared, mostly to its first record.
    """
    known = {*_ALWAYS, *declaration.columns}
    wanted = [name for name in dict.fromkeys(names) if name not in known]
    missing: list[str] = []
    for one in records if wanted else ():
        known.update(_names(one))
        missing = [name for name in wanted if name not in known]
        if not missing:
            break
    return missing, sorted(known)


def _names(one: Found) -> list[str]:
    from taskstore_async.core.codec import split_fields  # noqa: PLC0415 - reason: --help needs no records

    return list(split_fields(one.raw))


def _is_short(values: Sequence[object]) -> bool:
    if any(isinstance(value, list | dict) for value in values):
        return False
    cells = [cell_of(value) for value in values]
    typical = sorted(width_of(cell) if "\n" not in cell else _WIDEST + 1 for cell in cells)
    return typical[len(typical) // 2] <= _WIDEST


def row_of(one: Found, columns: Sequence[str], declaration: Declaration, *, people: bool) -> list[str]:
    """The cells of one record; for people, moments as they read them."""
    from taskstore_async.storage.rows import values_of  # noqa: PLC0415 - reason: it loads the database

    value_of = values_of(one, declaration)
    return [cell(name, value_of(name), people=people) for name in columns]


def fields_of(one: Found, columns: Sequence[str], declaration: Declaration) -> dict[str, object]:
    """Some fields of one record, as JSON has them; those that it lacks are left out."""
    import msgspec  # noqa: PLC0415 - reason: --help needs no records

    from taskstore_async.storage.rows import values_of  # noqa: PLC0415 - reason: it loads the database

    value_of = values_of(one, declaration)
    return {name: value for name in columns if (value := value_of(name)) is not msgspec.UNSET}


def cell(name: str, value: object, *, people: bool) -> str:
    """The value of one field; for people, a moment as they read it."""
    if people and name in _STAMPS and isinstance(value, int) and not isinstance(value, bool):
        return human_time(value) if value else ""  # 0 is what a record has that came without a stamp
    return cell_of(value)
