"""Markdown for a terminal: as it was written, with its marks made visible. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from taskstore_async.cli.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["rendered"]

_END: Final = "\x1b[0m"
_BOLD: Final = "\x1b[1m"
_DIM: Final = "\x1b[2m"
_ITALIC: Final = "\x1b[3m"
_UNDERLINED: Final = "\x1b[4m"
_HEADING: Final = re.compile(r"(#{1,6})\s+(.*?)\s*#*")
_ITEM: Final = re.compile(r"(\s*)[-*+]\s+(?:\[([ xX])\]\s+)?(.*)")
_QUOTE: Final = re.compile(r"\s*>\s?(.*)")
_RULE: Final = re.compile(r"\s*([-*_])(?:\s*\1){2,}\s*")
_FENCE: Final = re.compile(r"\s*(```+|~~~+)")
_SPANS: Final = re.compile(
    r"(`+)(?P<code>.+?)\1|\*\*(?P<bold>\S(?:.*?\S)?)\*\*|(?<!\w)[*_](?P<italic>\S(?:.*?\S)?)[*_](?!\w)"
)
_RULE_CHARS: Final = 40


def rendered(text: str) -> Iterator[str]:
    """The lines of *text* for a terminal: its own control characters escaped, ours added for styles."""
    fence: str | None = None
    for raw in text.splitlines():
        line = escape(raw, keep="\t")
        found = _FENCE.match(line)
        if found is not None and (fence is None or found[1].startswith(fence)):
            fence = found[1] if fence is None else None
        elif fence is not None:
            yield f"    {_DIM}{line}{_END}" if line else ""
        else:
            yield _line(line)


def _line(line: str) -> str:
    if found := _HEADING.fullmatch(line):
        style = _BOLD + _UNDERLINED if len(found[1]) == 1 else _BOLD
        return f"{style}{found[2]}{_END}"
    if _RULE.fullmatch(line):
        return f"{_DIM}{'─' * _RULE_CHARS}{_END}"
    if found := _ITEM.fullmatch(line):
        box = {None: "•", " ": "☐"}.get(found[2], "☑")
        return f"{found[1]}{box} {_spans(found[3])}"
    if found := _QUOTE.fullmatch(line):
        return f"{_DIM}│{_END} {_spans(found[1])}"
    return _spans(line)


def _spans(text: str) -> str:
    return _SPANS.sub(_span, text)


def _span(found: re.Match[str]) -> str:
    if (code := found["code"]) is not None:
        return f"{_DIM}{code}{_END}"
    if (bold := found["bold"]) is not None:
        return f"{_BOLD}{bold}{_END}"
    return f"{_ITALIC}{found['italic']}{_END}"
