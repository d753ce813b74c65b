"""Results, in the form that was asked for: a table on a terminal, TSV in a pipe, JSON for programs."""

from __future__ import annotations

import os
import re
import shutil
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.cli.errors import say
from taskstore_async.cli.pager import page
from taskstore_async.cli.text import escape, json_of, lay_out, left_out, tsv_cell, width_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Color", "Form", "Output", "cell_of"]

_MANY_BYTES: Final = 1 << 16  #: worth a write


class Form(StrEnum):
    """What results look like."""

    PEOPLE = "people"  #: stdout is a terminal
    TSV = "tsv"  #: a row per line, without a header, cells apart by tabs
    JSON = "json"  #: one value
    JSONL = "jsonl"  #: a value per line


class Color(StrEnum):
    """Whether what a person reads has colours and styles."""

    AUTO = "auto"  #: on a terminal, unless NO_COLOR is set or TERM is dumb
    ALWAYS = "always"
    NEVER = "never"


_STYLE: Final = re.compile(r"\x1b\[[\d;]*m")


class Output:
    """Where the results of one command go.

    Attributes:
        form: What they look like.
        terminal: stdout is a terminal: control characters of data are escaped, in every form.
        styles: Colours and styles may be used.
    """

    def __init__(self, form: Form | None, color: Color = Color.AUTO) -> None:
        self.terminal = sys.stdout.isatty()
        self.form = form or (Form.PEOPLE if self.terminal else Form.TSV)
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not self.terminal
        self.styles = color is Color.ALWAYS or (color is Color.AUTO and not plain)

    @property
    def for_programs(self) -> bool:
        """Whether JSON was asked for."""
        return self.form in {Form.JSON, Form.JSONL}

    @property
    def is_for_people(self) -> bool:
        """Whether a person reads it on a terminal."""
        return self.form is Form.PEOPLE

    def lines(self, lines: Iterable[str]) -> None:
        """Print *lines*, escaped where they are seen; for people a screen at a time."""
        shown = [f"{escape(line) if self.terminal else line}\n" for line in lines]
        if not (self.is_for_people and page("".join(shown), len(shown))):
            self._write("".join(shown).encode(errors="replace"))

    def styled(self, lines: Iterable[str]) -> None:
        """Print lines for a terminal whose data is escaped, and whose styles are meant, where there may be any."""
        text = "".join(f"{line}\n" for line in lines)
        self._write((text if self.styles else _STYLE.sub("", text)).encode(errors="replace"))

    def value(self, value: object) -> None:
        """Print one value as JSON."""
        self.stored([json_of(value)])

    def values(self, values: Iterable[object]) -> None:
        """Print several values as JSON: a list, or one per line."""
        self._many([json_of(value) for value in values])

    def stored(self, raws: Iterable[bytes]) -> None:
        """Print stored lines with the bytes that they have."""
        self._write(b"".join(self._safe(raw) + b"\n" for raw in raws))

    def stored_many(self, raws: Iterable[bytes]) -> None:
        """Print stored lines with the bytes that they have: as a list, or one per line."""
        self._many(list(raws))

    def pieces(self, pieces: Iterable[bytes]) -> None:
        """Print pieces of one text, such as an export, as they come."""
        waiting = bytearray()
        for piece in pieces:
            waiting += escape(piece.decode(errors="replace"), keep="\t\n").encode() if self.terminal else piece
            if len(waiting) > _MANY_BYTES:
                self._write(bytes(waiting))
                waiting.clear()
        self._write(bytes(waiting))

    def rows(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, wanted: bool = False) -> None:
        """Print a table: laid out with its header for people, if there are rows; else as TSV without one.

        Args:
            header: The columns' names.
            rows: Cells, as many per row as there are names.
            wanted: The person asked for these columns: those for which the terminal is too narrow are named.
        """
        if self.form is Form.PEOPLE:
            if not rows:
                return
            escaped = [[escape(cell) for cell in row] for row in rows]
            width = shutil.get_terminal_size().columns
            self.lines(lay_out(header, escaped, width=width))
            if wanted and (missing := left_out(header, escaped, width=width)):
                self.words(f"note: too narrow for {', '.join(missing)}; give fewer --fields, or a wider terminal")
        else:
            self.lines("\t".join(map(tsv_cell, row)) for row in rows)

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Print names and values: one below the other for people, else as TSV."""
        if self.form is not Form.PEOPLE:
            self.rows((), facts)
            return
        names = [escape(name) for name, _ in facts]
        wide = max(map(width_of, names), default=0)
        for name, (_, text) in zip(names, facts, strict=True):
            first, *more = text.split("\n")
            space = " " * (wide - width_of(name))
            self.lines([f"{name}{space}  {first}", *(f"{'':{wide}}  {line}" for line in more)])

    def words(self, message: str) -> None:
        """Tell a person what was done, on stderr."""
        say(message)

    def _many(self, encoded: Sequence[bytes]) -> None:
        if self.form is Form.JSONL:
            self.stored(encoded)
        else:
            self._write(b"[" + b",\n".join(map(self._safe, encoded)) + b"]\n")

    def _safe(self, raw: bytes) -> bytes:
        """JSON in which no character acts on the terminal; there, it says the same."""
        return escape(raw.decode(errors="replace"), keep="\t").encode() if self.terminal else raw

    def _write(self, data: bytes) -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()  # here, where a closed pipe is understood


def cell_of(value: object) -> str:
    """A decoded JSON value as text: text as it is, nothing for null and what is missing, else JSON."""
    if value is None or value is msgspec.UNSET:
        return ""
    return value if isinstance(value, str) else json_of(value).decode()
