"""CSV that is safe to open in a spreadsheet. Pure."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from taskstore_async.cli.output import cell_of
from taskstore_async.core.sheet import guarded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["csv_lines"]


def csv_lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Lines of CSV (RFC 4180), the header first, without their ends; a cell with a newline makes several of one.

    Text that a spreadsheet would take for a formula has ``'`` before it, which spreadsheets do not show. Numbers stay
    numbers.
    """
    for row in (header, *rows):
        line = io.StringIO()
        csv.writer(line).writerow([_cell(value) for value in row])
        yield line.getvalue().removesuffix("\r\n")


def _cell(value: object) -> str:
    text = cell_of(value)
    return guarded(text) if isinstance(value, str) else text
