"""The corpus: a file per kind of damage, and what must become of each of its lines.

It is made by code: git, editors and checkouts would mend half of it.
"""

from __future__ import annotations

import gzip
import json
from enum import Enum
from typing import Final, NamedTuple

__all__ = ["KINDS", "Kind", "Piece", "Verdict"]


class Verdict(Enum):
    """What must become of a line."""

    SERVED = "it is a record"
    REPORTED = "it is a record, and what is wrong with it is told"
    BAD = "it is no record: told, kept by append and merge, moved to quarantine by compaction"
    MARKER = "as BAD, but a merge, which settles conflicts, leaves it out"
    BLANK = "nothing"


class Piece(NamedTuple):
    """One line, with the carriage return or the mark that belongs to it in the file, and without its newline.

    Attributes:
        record_id: Whose line it is, of one that is served.
        says: Some of the words in which it is reported.
    """

    raw: bytes
    verdict: Verdict
    record_id: str = ""
    says: str = ""


class Kind(NamedTuple):
    """One file.

    Attributes:
        alone: It has no good line, so that nothing may be appended to it.
        torn: It ends without a newline.
    """

    name: str
    pieces: tuple[Piece, ...]
    alone: bool = False
    torn: bool = False

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return b"\n".join(piece.raw for piece in self.pieces) + (b"" if self.torn else b"\n")


def good(record_id: str, text: str = "x", at: int = 1_700_000_000_000) -> Piece:
    """A line as we write it."""
    raw = json.dumps({"id": record_id, "text": text, "updated_at": at}, separators=(",", ":")).encode()
    return Piece(raw, Verdict.SERVED, record_id)


def served(record_id: str, raw: bytes | str) -> Piece:
    return Piece(raw.encode() if isinstance(raw, str) else raw, Verdict.SERVED, record_id)


def reported(record_id: str, raw: bytes | str, says: str) -> Piece:
    return Piece(raw.encode() if isinstance(raw, str) else raw, Verdict.REPORTED, record_id, says)


def bad(raw: bytes | str, says: str = "") -> Piece:
    return Piece(raw.encode() if isinstance(raw, str) else raw, Verdict.BAD, "", says)


def marker(raw: bytes) -> Piece:
    return Piece(raw, Verdict.MARKER)


def among(name: str, *pieces: Piece, torn: bool = False) -> Kind:
    """A file in which good lines stand around the others."""
    around = (good("first"), *pieces) if torn else (good("first"), *pieces, good("last"))
    return Kind(name, around, torn=torn)


def alone(name: str, data: bytes) -> Kind:
    """A file that is something else altogether."""
    torn = not data.endswith(b"\n")
    lines = (data if torn else data[:-1]).split(b"\n")
    pieces = tuple(Piece(b"", Verdict.BLANK) if not line.strip() else bad(line) for line in lines)
    return Kind(name, pieces, alone=True, torn=torn)


DIGITS: Final = "1234567890" * 4
STAMPS: Final = {
    "negative": "-1",
    "2^53": "9007199254740992",
    "a fraction": "1.5",
    "an exponent": "1e400",
    "40 digits": DIGITS,
    "a boolean": "true",
    "words": '"yesterday"',
    "empty text": '""',
    "digits as text": '"1704067200000"',
    "the 30th of February": '"2024-02-30T00:00:00Z"',
    "the 25th hour": '"2024-02-03T25:00:00Z"',
    "a list": "[1704067200000]",
    "an object": '{"ms":1}',
}
PAGE: Final = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n<body>nginx</body>\n</html>\n"
POINTER: Final = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
LINE: Final = good("flip", "some text").raw


def _flipped(place: int, bit: int) -> bytes:
    return LINE[:place] + bytes([LINE[place] ^ (1 << bit)]) + LINE[place + 1 :]


KINDS: Final = (
    # -- torn and damaged bytes
    among("torn within a value", bad('{"id":"a","text":"hal', "torn"), torn=True),
    among("torn within a character", bad('{"id":"a","text":"ä'.encode()[:-1], "torn"), torn=True),
    among("torn and appended to", bad('{"id":"a","text":"hal'), good("a", "again")),
    among("two lines run together", bad(good("a").raw + good("b").raw)),
    among("the last newline is missing", good("a"), torn=True),
    among("NUL instead of a line", bad(b"\0" * 300)),
    among("NUL at the end, as a power cut leaves it", bad(b"\0" * 4096, "torn"), torn=True),
    among("NUL within a value", bad(b'{"id":"a","text":"x\0y","updated_at":1}')),
    among("NUL behind a record", bad(good("a").raw + b"\0\0")),
    among("NUL as an escape is a character", served("a", '{"id":"a","text":"x\\u0000y","updated_at":1}')),
    among("a bit of a brace flipped", bad(_flipped(0, 0)), bad(_flipped(len(LINE) - 1, 3))),
    among("a bit of a quote flipped", bad(_flipped(1, 1)), bad(_flipped(4, 0))),
    among("a bit of a key flipped", bad(_flipped(2, 0), "no id")),
    among("a bit of a value flipped shows nowhere", served("flip", _flipped(LINE.index(b"some"), 0))),
    among(
        "control characters raw in a value", bad(b'{"id":"a","text":"x\x0by\x0c"}'), bad(b'{"id":"a","text":"\x1b[2J"}')
    ),
    among("invalid UTF-8 in a value", bad(b'{"id":"a","text":"\xff\xfe"}'), bad(b'{"id":"a","text":"\xc3"}')),
    among("invalid UTF-8 in a key", bad(b'{"id":"a","\xff":1}')),
    among("invalid UTF-8 in an id", bad(b'{"id":"\xf0\x9f","updated_at":1}')),
    among("overlong UTF-8", bad(b'{"id":"a","text":"\xc0\xaf"}')),
    among("a surrogate in UTF-8", bad(b'{"id":"a","text":"\xed\xa0\x80"}')),
    among("Latin-1", bad('{"id":"a","text":"Müller"}'.encode("latin-1"))),
    # -- ends of lines, and marks
    Kind("a mark at the beginning", (served("first", b"\xef\xbb\xbf" + good("first").raw), good("last"))),
    among("a mark within the file", bad(b"\xef\xbb\xbf" + good("a").raw)),
    among(
        "carriage returns", *(served(one, good(one).raw + b"\r") for one in "ab"), served("c", good("c").raw + b"\r\r")
    ),
    among("a lone carriage return", bad(good("a").raw + b"\r" + good("b").raw)),
    among("blank lines", *(Piece(raw, Verdict.BLANK) for raw in (b"", b"  ", b"\t", b"\r"))),
    among("line separators within a value", served("a", '{"id":"a","text":"x\u2028y\u0085z","updated_at":1}')),
    # -- other files
    alone("UTF-16", '{"id":"a"}\n{"id":"b"}\n'.encode("utf-16")),
    alone("UTF-16 without a mark", '{"id":"a"}\n{"id":"b"}\n'.encode("utf-16-be")),
    alone("gzip", gzip.compress(good("a").raw, mtime=0)),
    alone("an error page", PAGE),
    alone("an LFS pointer", POINTER),
    alone("pretty-printed", json.dumps({"id": "a", "text": "x"}, indent=2).encode() + b"\n"),
    alone("an array", b'[{"id":"a"},{"id":"b"}]\n'),
    alone("an array over several lines", b'[\n{"id":"a"},\n{"id":"b"},\n"end"]\n'),
    alone("a table", b"id,text,updated_at\na,x,1\n"),
    alone("lines that were all cut off", b'{"id":"a","text":"so\n{"id":"b","text":"an\n'),
    alone("only markers", b"<<<<<<< ours\n=======\n>>>>>>> theirs\n"),
    # -- conflicts
    among(
        "a conflict",
        marker(b"<<<<<<< HEAD"),
        good("ours"),
        marker(b"======="),
        good("theirs"),
        marker(b">>>>>>> other"),
    ),
    among(
        "a conflict with its base",
        marker(b"<<<<<<< HEAD"),
        good("ours"),
        marker(b"||||||| 1234567"),
        marker(good("gone").raw),
        marker(b"======="),
        good("theirs"),
        marker(b">>>>>>> other"),
    ),
    among("equals signs outside a conflict", bad(b"=======")),
    # -- JSON that is no record, or that decoders disagree about
    among("other values", *(bad(raw) for raw in ("null", "1", '"text"', "[]", "true", "{}", '{"text":"x"}'))),
    among("comments and single quotes", bad('// {"id":"a"}'), bad("{'id':'a'}"), bad('{"id":"a",}'), bad('{id:"a"}')),
    among("a key twice", served("b", '{"id":"a","id":"b","text":"x","text":"y","updated_at":1,"updated_at":2}')),
    among("what is behind the object", bad('{"id":"a"} {"id":"b"}'), bad('{"id":"a"}]')),
    among("depth 100 000", bad('{"id":"a","d":' + "[" * 100_000 + "]" * 100_000 + "}", "nesting")),
    among("depth 100 000, never closed", bad('{"id":"a","d":' + '{"x":' * 100_000)),
    among("depth 300", reported("a", '{"id":"a","d":' + "[" * 299 + "]" * 299 + "}", "nesting")),
    among("depth 200", served("a", '{"id":"a","updated_at":1,"d":' + "[" * 199 + "]" * 199 + "}")),
    among(
        "ten thousand keys",
        served("a", '{"id":"a","updated_at":1' + "".join(f',"k{n}":{n}' for n in range(10_000)) + "}"),
    ),
    among("a key of a megabyte", served("a", '{"id":"a","updated_at":1,"' + "k" * 1_000_000 + '":1}')),
    among("keys with a meaning elsewhere", served("a", '{"id":"a","updated_at":1,"":1,"__proto__":{},"__class__":1}')),
    # -- numbers
    among("2^53 + 1", served("a", '{"id":"a","n":9007199254740993,"updated_at":1}')),
    among("40 digits", served("a", f'{{"id":"a","n":{DIGITS},"f":0.{DIGITS},"updated_at":1}}')),
    among("5 000 digits", served("a", '{"id":"a","n":' + "7" * 5_000 + ',"updated_at":1}')),
    among("1e400", served("a", '{"id":"a","n":1e400,"m":-1e-400,"updated_at":1}')),
    among("an exponent beyond all measure", served("a", '{"id":"a","n":1e99999999999999999999,"updated_at":1}')),
    among(
        "no numbers",
        *(bad(f'{{"id":"a","n":{raw}}}') for raw in ("NaN", "Infinity", "-Infinity", "01", "+1", ".5", "0x1")),
    ),
    # -- text
    among("lone surrogates", bad('{"id":"a","text":"\\ud800"}'), bad('{"id":"a","text":"\\udc00\\ud800"}')),
    among("a pair of surrogates", served("a", '{"id":"a","text":"\\ud83d\\ude00","updated_at":1}')),
    among("a terminal's escapes", served("a", '{"id":"a","text":"\\u001b]0;x\\u0007\\u001b[2J\\r","updated_at":1}')),
    # -- ids
    among(
        "ids that look like something",
        *(good(one) for one in ("../../etc/passwd", "'; DROP TABLE r1; --", "=1+1", "CON", "a/b")),
    ),
    among("ids that look alike", *(good(one) for one in ("a", "A", "\u00e9", "e\u0301", "\u202ea", "\u200ba"))),
    among("an integer id", served("7", '{"id":7,"updated_at":1}'), served("-1", '{"id":-1,"updated_at":1}')),
    among(
        "an id of another type", *(bad(f'{{"id":{raw}}}', "no id") for raw in ("1.5", "null", "true", "[1]", '{"a":1}'))
    ),
    among(
        "a huge id",
        reported("i" * 300, '{"id":"%s"}' % ("i" * 300), "256"),
        reported("h" * 257, f'{{"id":"{"h" * 257}","updated_at":1}}', "256"),
        reported("j" * 1_000_000, '{"id":"%s"}' % ("j" * 1_000_000), "256"),
    ),
    among("a blank id", reported("", '{"id":""}', "empty"), reported("  ", '{"id":"  "}', "empty")),
    among(
        "ids with controls",
        *(reported(one, json.dumps({"id": one}), "control") for one in ("a\nb", "\x00", "x\u2028y", "\x1b[31m")),
    ),
    # -- tombstones
    among(
        "tombstones of wrong types",
        *(
            served(f"t{n}", f'{{"id":"t{n}","deleted":{raw},"updated_at":1}}')
            for n, raw in enumerate(("1", '"true"', "null", "{}", "[true]", "1.0"))
        ),
    ),
    # -- stamps
    among("no stamp", served("a", '{"id":"a"}'), served("b", '{"id":"b","updated_at":null}')),
    among("the last moment", served("a", '{"id":"a","updated_at":9007199254740991}')),
    among(
        "stamps as text",
        *(
            served(f"s{n}", json.dumps({"id": f"s{n}", "updated_at": at}))
            for n, at in enumerate(
                ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00.123456789+05:30", "2024-01-01 00:00:00")
            )
        ),
    ),
    *(
        among(f"a stamp that is {name}", reported("a", f'{{"id":"a","updated_at":{raw}}}', "stamp"))
        for name, raw in STAMPS.items()
    ),
)
"""Every kind but those that take a file of many megabytes."""
