"""Text for people: escaped, measured, cut and laid out in columns. Pure."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

__all__ = [
    "clip",
    "escape",
    "human_bytes",
    "human_count",
    "human_duration",
    "human_time",
    "json_of",
    "lay_out",
    "left_out",
    "tsv_cell",
    "width_of",
]

# What moves a cursor, colours, rings, or turns the direction of the text around: C0, delete, C1, the separators that
# end a line, and the marks that embed, override and isolate a direction.
_UNSAFE: Final = "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
_SHORT: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_NAN: Final = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")|NaN')  #: texts, and what no JSON has
_TSV: Final = {"\\": "\\\\", **_SHORT}
_JOINING: Final = frozenset(map(chr, range(0x1160, 0x1200)))  #: vowels and finals of Korean: they join their initial
_GAP: Final = 2  #: columns between columns
_LEAST: Final = 12  #: a column that has to be narrower than this, and than its content, is left out
_MOST: Final = 40  #: wider only where there is room left
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_KIBI: Final = 1024
_SECOND_MS: Final = 999.5  #: from here on it would be rounded to 1000 ms
_MINUTE_MS: Final = 59_950  #: from here on it would be rounded to 60.0 s


def escape(text: str, *, keep: str = "") -> str:
    r"""*text* with its control characters as ``\n``, ``\u001b`` and so on, which is what JSON calls them.

    Args:
        text: Anything.
        keep: Characters to leave as they are.
    """
    if text.isprintable():  # as most is; none of those characters are
        return text
    return re.sub(_UNSAFE, lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def json_of(value: object) -> bytes:
    """*value* as JSON; a word or a path that is no UTF-8 has question marks there, a number beyond `Decimal` null."""
    try:
        encoded = _encoder().encode(value)
        return _NAN.sub(lambda found: found[1] or b"null", encoded) if b"NaN" in encoded else encoded
    except UnicodeEncodeError:
        import json  # noqa: PLC0415 - reason: next to no word is such

        import msgspec  # noqa: PLC0415 - reason: most commands need no JSON of ours

        plain = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))
        return plain.encode(errors="replace")


@cache
def _encoder() -> msgspec.json.Encoder:
    import msgspec  # noqa: PLC0415 - reason: most commands need no JSON of ours

    return msgspec.json.Encoder(decimal_format="number")


def tsv_cell(text: str) -> str:
    r"""*text* as one cell: a tab, a newline, a return and a backslash are ``\t``, ``\n``, ``\r`` and ``\\``."""
    if text.isprintable() and "\\" not in text:
        return text
    return re.sub(r"[\\\n\t\r]", lambda found: _TSV[found[0]], text)


def width_of(text: str) -> int:
    """How many columns of a terminal *text* takes: East Asian wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(map(_width_of_character, text))


def _width_of_character(character: str) -> int:
    import unicodedata  # noqa: PLC0415 - reason: a large table that most output does not need

    if unicodedata.category(character) in {"Mn", "Me", "Cf"} or character in _JOINING:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, width: int) -> str:
    """*text* in at most *width* columns; what is cut away leaves "…"."""
    if width_of(text) <= width:
        return text
    taken = 0
    for place, character in enumerate(text):
        taken += width_of(character)
        if taken > width - 1:
            return text[:place] + "…"
    return text


def lay_out(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> list[str]:
    """A table, a line per row, as wide as its content and at most *width* columns wide.

    Columns are cut where they have to be, and those that do not fit at all are left out, from the right. Columns of
    numbers are aligned to the right.

    Args:
        header: The columns' names.
        rows: Cells, as many per row as there are names; escaped.
        width: Of the terminal.
    """
    table = [header, *rows]
    widths = _fit(_natural(table), width)
    right = [bool(rows) and all(_is_number(row[place]) for row in rows) for place in range(len(widths))]
    lines: list[str] = []
    for row in table:
        cells = [
            _pad(clip(cell, wide), wide, right=aligned) for cell, wide, aligned in zip(row, widths, right, strict=False)
        ]
        lines.append((" " * _GAP).join(cells).rstrip())
    return lines


def left_out(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> list[str]:
    """The columns for which `lay_out` has no room."""
    return list(header[len(_fit(_natural([header, *rows]), width)) :])


def _natural(table: Sequence[Sequence[str]]) -> list[int]:
    """How wide the columns of *table* are by their content."""
    return [max(width_of(row[place]) for row in table) for place in range(len(table[0]))]


def _fit(natural: Sequence[int], width: int) -> list[int]:
    """How wide the columns are that fit into *width*, the first ones first."""
    widths: list[int] = []
    left = width + _GAP
    for wanted in natural:
        if widths and left < _GAP + min(wanted, _LEAST):
            break
        widths.append(max(1, min(wanted, _MOST, left - _GAP)))
        left -= widths[-1] + _GAP
    for place, wide in enumerate(widths):
        more = max(0, min(natural[place] - wide, left))
        widths[place] += more
        left -= more
    return widths


def _pad(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - width_of(text))
    return space + text if right else text + space


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-?[\d,]*\.?\d*", cell) is not None


def human_bytes(size: int) -> str:
    """A size for people: ``"512 B"``, ``"1.2 MiB"``."""
    if size < _KIBI:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, len(_UNITS))
    return f"{size / _KIBI**power:,.1f} {_UNITS[power - 1]}"


def human_count(count: int, noun: str) -> str:
    """A number of things: ``"1 record"``, ``"2,000 records"``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def human_duration(duration_ms: float) -> str:
    """A duration for people: ``"350 ms"``, ``"4.2 s"``, ``"2 m 05 s"``, ``"3 h 07 m"``, ``"2 d 04 h"``."""
    if duration_ms < _SECOND_MS:
        return f"{round(duration_ms)} ms"
    if duration_ms < _MINUTE_MS:
        return f"{duration_ms / 1_000:.1f} s"
    seconds = round(duration_ms / 1_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours:02} h"
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {seconds:02} s"


def human_time(at_ms: int | None) -> str:
    """A moment for people, in local time, to the second; ``"never"`` for None.

    Args:
        at_ms: Milliseconds since the epoch (UTC).
    """
    from datetime import UTC, datetime  # noqa: PLC0415 - reason: only tables need it

    if at_ms is None:
        return "never"
    try:
        return datetime.fromtimestamp(at_ms / 1_000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # beyond the calendar: a stamp may be any integer up to 2^53
        return str(at_ms)
