"""The codec: lines and the JSON in them, with nothing rounded and nothing dropped."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from taskstore_async.core.codec import check_line, decode_exact, encode_exact, join_fields, same_value, split_fields
from taskstore_async.core.line import BadLine, Line, decode_line, tombstone
from taskstore_async.core.line_reader import Columns, LineReader, decode_lines
from taskstore_async.core.names import MAX_LINE_BYTES
from taskstore_async.errors import InvalidRecordError, LimitExceededError

if TYPE_CHECKING:
    from collections.abc import Sequence

MS = 1_000_000
LONG = "0.1000000000000000055511151231257827"
FORTY = "1234567890123456789012345678901234567890"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)

# -- JSON as files have it: every spelling of numbers and text, space between, keys in any order, keys twice -------

NUMBERS = st.sampled_from(
    [
        *("0", "-0", "-0.0", "1", "1.0", "10e-1", "1.10", "1.1", "11e-1", "1E+0", "1e23", "1" + "0" * 23, "1e400"),
        *("-1e400", "1e-400", LONG, FORTY, FORTY + ".5", FORTY + "e-40", str(2**53 + 1), str(2**53 + 1) + ".0", "0.1"),
        *("1e16", "5e-324", "1.7976931348623157e308", "123456789012345.6", "1234567890123456.7", "9" * 4301),
    ]
) | st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True).filter(str.isascii)
TEXTS = TEXT.map(json.dumps) | TEXT.map(lambda text: json.dumps(text, ensure_ascii=False).replace("/", "\\/"))
SPACE = st.sampled_from(["", "", "", " ", "\t", " \r"])


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Objects as text; keys may come twice."""
    key = st.sampled_from(['"a"', r'"\u0061"', '"b"', '"é"', r'"\u00e9"', '"updated_at"'])
    pair = st.tuples(SPACE, key, SPACE, values, SPACE).map(lambda parts: "{}{}{}:{}{}".format(*parts))
    return st.lists(pair, max_size=4).map(lambda pairs: "{" + ",".join(pairs) + "}")


WRITTEN = st.recursive(
    NUMBERS | TEXTS | st.sampled_from(["null", "true", "false"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[ " + " ,".join(items) + "]") | objects(inner),
    max_leaves=6,
)


def oracle(text: str) -> object:
    """The value in a form whose equality is right: tagged, every number the decimal that it was written as."""

    def tagged(value: object) -> object:
        if isinstance(value, dict):
            return ("object", frozenset((key, tagged(item)) for key, item in value.items()))
        if isinstance(value, list):
            return ("list", tuple(tagged(item) for item in value))
        return (type(value).__name__, value)

    return tagged(json.loads(text, parse_int=Decimal, parse_float=Decimal))


# -- lines ---------------------------------------------------------------------------------------------------------

IDS = st.sampled_from(['"a"', '"b"', '"é"', "7", '"a\\u0000"', '""', "-0", "1" * 300])
BAD_IDS = st.sampled_from(["null", "true", "1.0", "1e3", "[]", '{"id":"a"}', "9" * 5000])
STAMPS = st.sampled_from(
    ["3", "0", str(2**53 - 1), '"2024-01-01T00:00:00.5Z"', "null", "-1", str(2**53), "1.5", "true", '"soon"', "[]"]
)
EXTRA = st.sampled_from(["created_at", "deleted", "updated_at", "id", "status", "x y", "é"])


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line, nearly always a record."""
    fields = [("id", draw(IDS | BAD_IDS if draw(st.integers(0, 5)) == 0 else IDS))]
    if draw(st.booleans()):
        fields.append(("updated_at", draw(STAMPS)))
    fields += draw(st.lists(st.tuples(EXTRA, WRITTEN | STAMPS | st.just("true")), max_size=4))
    order = draw(st.permutations(fields))
    return ("{" + ",".join(f'"{name}":{text}' for name, text in order) + "}").encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A line in which some bytes were changed, lost or doubled."""
    raw = bytearray(draw(lines()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        patch = draw(
            st.sampled_from([b"", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u12", b"NaN", b"\x00", b"\t", b"1e", b"{["])
            | st.binary(max_size=2)
        )
        raw[at : at + draw(st.integers(0, 3))] = patch
    return bytes(raw).replace(b"\n", b"")


SOURCES = st.lists(EXTRA | st.sampled_from(['a"b', "a\\b", "status"]), max_size=4)


def served(text: str | bytes, *sources: str) -> Line:
    """The line in *text*, which must be one."""
    line = decode_line(text.encode() if isinstance(text, str) else text, sources)
    assert isinstance(line, Line)
    return line


def bad(text: str | bytes, *sources: str) -> BadLine:
    """The bad line in *text*, which must be one."""
    line = decode_line(text.encode() if isinstance(text, str) else text, sources, number=3, offset=70)
    assert isinstance(line, BadLine)
    assert (line.number, line.offset) == (3, 70)
    return line


def naive_id(raw: bytes) -> str | None:
    """The id of the record in *raw*, by the standard library; None when there is no record."""

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        json.dumps(pairs, ensure_ascii=False).encode()  # also what a later key of the same name hides
        return dict(pairs)

    def refuse(text: str) -> None:
        raise ValueError(text)

    try:
        found = json.loads(
            raw.decode(),
            parse_int=lambda text: ("integer", text),
            parse_float=lambda text: ("float", text),
            parse_constant=refuse,
            object_pairs_hook=checked,
        )
    except ValueError:
        return None
    match found.get("id") if isinstance(found, dict) else None:
        case str(text):
            return text
        case ("integer", text) if len(text.lstrip("-")) <= 4300:
            return "0" if text == "-0" else str(text)
        case _:
            return None


class TestALine:
    """A JSON object whose id is text or an integer is a record."""

    def test_what_it_says(self) -> None:
        raw = b'{"id":"a","created_at":2,"status":"open","updated_at":3,"size":1.10}'
        assert decode_line(raw, ("size", "gone", "status"), number=3, offset=70) == Line(
            "a", raw, 3 * MS, 2, deleted=False, values=(1.1, UNSET, "open"), number=3, offset=70
        )
        assert served(raw).created == 2 * MS
        assert served(raw).values == ()

    @pytest.mark.parametrize(
        ("text", "record_id"),
        [('"a"', "a"), ('"\\u0061"', "a"), ("7", "7"), ("-7", "-7"), (FORTY, FORTY), ('"7"', "7"), ('"7.0"', "7.0")],
    )
    def test_its_id(self, text: str, record_id: str) -> None:
        line = served(f'{{"id":{text}}}', "id")
        assert line.id == record_id
        assert line.problem is None
        assert line.values == (json.loads(text),)

    @pytest.mark.parametrize("text", ["null", "true", "1.0", "1e3", "[]", "{}", "9" * 5000])
    def test_what_is_no_id(self, text: str) -> None:
        assert "no id" in bad(f'{{"id":{text},"deleted":true}}').reason

    @pytest.mark.parametrize("text", ["{}", '{"ID":"a"}', '{"x":{"id":"a"}}'])
    def test_no_id_at_all(self, text: str) -> None:
        assert "no id" in bad(text).reason

    @pytest.mark.parametrize("text", ["[]", '["id"]', '"id"', "1", "null", "1e400", "9" * 5000])
    def test_what_is_no_object(self, text: str) -> None:
        assert "no JSON object" in bad(text).reason

    @pytest.mark.parametrize(
        "text",
        [
            *('{"id":"a"', '{"id":"a"}}', '{"id":"a"} {"id":"b"}', '{"id":"a",}', "{'id':'a'}", "version 1", "", "  "),
            *('{"id":"a","x":01}', '{"id":"a","x":NaN}', '{"id":"a","x":Infinity}', '{"id":"a","x":-Infinity}'),
            *('{"id":"a","x":"\t"}', '{"id":"a","x":"\\ud800"}', '{"id":"a","\\udc00":1}', '{"id":"\\ud800"}'),
            *('{"id":"a","x":"\\ud800\\u0041"}', '\ufeff{"id":"a"}'),
            '{"id":"a","big":' + "9" * 5000 + ',"x":"\\ud800"}',
        ],
    )
    def test_what_is_no_json(self, text: str) -> None:
        assert bad(text, "x").reason
        assert bad(text).reason == bad(text, "x").reason

    @pytest.mark.parametrize("name", ["x", "y", "\\u0078"])
    @pytest.mark.parametrize("wrong", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xe9"])
    def test_bytes_that_are_no_utf8_are_found_in_every_field(self, name: str, wrong: bytes) -> None:
        assert "utf-8" in bad(b'{"id":"a","' + name.encode() + b'":["' + wrong + b'"]}', "x").reason
        assert "utf-8" in bad(b'{"id":"a","' + wrong + b'":1}', "x").reason

    @pytest.mark.parametrize(
        ("text", "deleted"),
        [("true", True), ("false", False), ("1", False), ('"true"', False), ("null", False), ("[true]", False)],
    )
    def test_deleted_is_exactly_true(self, text: str, deleted: bool) -> None:  # noqa: FBT001 - reason: a parameter
        assert served(f'{{"id":"a","deleted":{text},"title":"x"}}').deleted is deleted
        assert served(f'{{"id":7,"deleted":{text},"updated_at":true}}').deleted is deleted
        among_many = [f'{{"id":"a{n}","updated_at":1,"deleted":{text}}}' for n in range(9)]
        found = list(decode_lines("\n".join([*among_many, ""]).encode()))
        assert [isinstance(line, Line) and line.deleted for line in found] == [deleted] * 9

    def test_a_tombstone_needs_nothing_else(self) -> None:
        line = served('{"id":"a","deleted":true}')
        assert (line.deleted, line.instant, line.created, line.problem) == (True, None, None, None)

    def test_the_last_of_duplicate_keys_counts(self) -> None:
        line = served(
            '{"id":1,"id":"b","updated_at":9,"x":1,"\\u0078":2,"updated_at":3,"deleted":true,"deleted":0}', "x"
        )
        assert (line.id, line.instant, line.values, line.deleted) == ("b", 3 * MS, (2,), False)
        assert served('{"id":"b","id":1}').id == "1"

    @given(lines() | damaged(), SOURCES)
    def test_it_is_what_a_slow_reading_says(self, raw: bytes, sources: list[str]) -> None:
        line = decode_line(raw, sources)
        record_id = naive_id(raw)
        assert isinstance(line, Line) == (record_id is not None)
        if isinstance(line, BadLine):
            return
        exact = decode_exact(raw)
        assert line.id == record_id
        assert line.raw == raw
        assert repr(line.values) == repr(tuple(exact.get(source, UNSET) for source in sources))
        assert line.deleted == (exact.get("deleted") is True)

    @given(lines())
    def test_the_order_of_sources_is_the_callers(self, raw: bytes) -> None:
        both = decode_line(raw, ("status", "é", "status"))
        if isinstance(both, Line):
            first, second, third = both.values
            assert repr((second, first)) == repr(served(raw, "é", "status").values)
            assert repr(first) == repr(third)


class TestStampsOfALine:
    """A stamp is read or reported; without one there is nothing to report."""

    @pytest.mark.parametrize(
        ("text", "instant"),
        [("0", 0), ("3", 3 * MS), (str(2**53 - 1), (2**53 - 1) * MS), ('"1970-01-01T00:00:00.000000001Z"', 1)],
    )
    def test_readable(self, text: str, instant: int) -> None:
        line = served(f'{{"id":"a","updated_at":{text},"created_at":{text}}}')
        assert (line.instant, line.created, line.problem) == (instant, instant, None)

    @pytest.mark.parametrize(
        "text",
        ["-1", str(2**53), FORTY, "9" * 5000, "3.0", "1e3", "1e400", LONG, "true", "false", '""', '"soon"', "[]"],
    )
    def test_unreadable(self, text: str) -> None:
        line = served(f'{{"id":"a","updated_at":{text}}}', "updated_at")
        assert line.instant is None
        assert line.problem is not None
        assert line.problem.startswith("updated_at is no readable stamp")
        assert len(line.problem) < 120
        assert line.values == (decode_exact(text.encode()),)

    @pytest.mark.parametrize("field", ["", ',"updated_at":null'])
    def test_absent_or_null(self, field: str) -> None:
        line = served(f'{{"id":"a"{field}}}')
        assert (line.instant, line.problem) == (None, None)

    @pytest.mark.parametrize("text", ["null", "-1", "1.5", "true", '"soon"', "1e400"])
    def test_a_created_at_that_cannot_be_read_is_none(self, text: str) -> None:
        line = served(f'{{"id":"a","created_at":{text}}}')
        assert (line.created, line.problem) == (None, None)


class TestLimitsOfALine:
    """A line that breaks a limit is served, and reported."""

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "empty"),
            (" ", "empty"),
            ("a\\n", "control character"),
            ("\\u0085", "empty"),
            ("a\\u2028", "control character"),
            ("x" * 257, "257 characters"),
        ],
    )
    def test_ids_that_cannot_be_written(self, text: str, said: str) -> None:
        line = served(f'{{"id":"{text}","updated_at":3,"x":1}}', "x")
        assert line.id == json.loads(f'"{text}"')
        assert (line.instant, line.values) == (3 * MS, (1,))
        assert line.problem is not None
        assert said in line.problem

    @pytest.mark.parametrize("text", ["a" * 256, " a", "é\\u200d", "a\\u00a0b", "\\ud83d\\ude00"])
    def test_ids_that_can(self, text: str) -> None:
        assert served(f'{{"id":"{text}"}}').problem is None

    def test_size(self) -> None:
        head = b'{"id":"a","x":"'
        fits = head + b"x" * (MAX_LINE_BYTES - len(head) - 2) + b'"}'
        assert served(fits).problem is None
        line = served(fits[:-2] + b'x"}')
        assert line.problem is not None
        assert "10,485,761 bytes" in line.problem

    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    @pytest.mark.parametrize(("levels", "problem"), [(200, False), (201, True), (500, True)])
    def test_nesting(self, levels: int, problem: bool, opening: str) -> None:  # noqa: FBT001 - reason: a parameter
        line = served(nested(levels, opening), "y")
        assert (line.problem is not None) is problem
        assert not problem or f"{levels} levels" in (line.problem or "")
        assert isinstance(decode_exact(line.raw), dict)

    @pytest.mark.parametrize("levels", [501, 5_000, 200_000])
    @pytest.mark.parametrize("source", ["x", "y"])
    def test_nesting_beyond_reading(self, levels: int, source: str) -> None:
        assert "levels of nesting" in bad(nested(levels), source).reason

    def test_brackets_side_by_side_or_in_text_are_no_nesting(self) -> None:
        assert served('{"id":"a","x":[' + ",".join(["[]"] * 300) + "]}").problem is None
        assert served('{"id":"a","x":"' + '\\"[{' * 300 + '"}').problem is None
        assert served('{"id":"a","x":"' + "\\\\" * 300 + '","y":"' + "[" * 300 + '"}').problem is None

    def test_several_problems_are_all_told(self) -> None:
        line = served('{"id":"","updated_at":true,"x":' + "[" * 250 + "]" * 250 + "}")
        for said in ("empty", "251 levels", "updated_at is no readable stamp: True"):
            assert said in (line.problem or "")


def nested(levels: int, opening: str = "[") -> str:
    """A record with so many levels of nesting."""
    closing = "]" if opening == "[" else "}"
    inner = opening * (levels - 1) + ("" if opening == "[" else "1") + closing * (levels - 1)
    return '{"id":"a","x":' + inner + "}"


class TestServedMeansDecodable:
    """Whatever is served can be decoded as a whole, split, and joined again without a change."""

    @given(lines() | damaged(), SOURCES)
    @example(b'{"id":"a","x":"\xff"}', [])
    @example(b'{"id":"a","x":{"\\ud800":1}}', [])
    @example(b'{"id":"a","x":[1e99999999999999999999]}', [])
    def test_invariant(self, raw: bytes, sources: list[str]) -> None:
        line = decode_line(raw, sources)
        if isinstance(line, BadLine):
            assert (line.raw, line.reason != "") == (raw, True)
            return
        exact = decode_exact(line.raw)
        fields = split_fields(line.raw)
        assert list(fields) == list(exact)
        assert repr({name: decode_exact(value) for name, value in fields.items()}) == repr(exact)
        assert repr(decode_exact(join_fields(fields))) == repr(exact)


class TestExactNumbers:
    """A number is read as it was written, or written as it is, or refused; never rounded."""

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1", 1),
            ("-0", 0),
            (str(2**53 + 1), 2**53 + 1),
            (FORTY, int(FORTY)),
            ("1.10", 1.1),
            ("1e16", 1e16),
            ("1e23", 1e23),
            ("1E400", Decimal("1E+400")),
            ("1e-400", Decimal("1E-400")),
            (LONG, Decimal(LONG)),
            (str(2**53 + 1) + ".0", Decimal(2**53 + 1)),
            (FORTY + ".5", Decimal(FORTY + ".5")),
            ("9" * 4300, int("9" * 4300)),
            ("9" * 4301, Decimal("9" * 4301)),
            ("-" + "9" * 5000, Decimal("-" + "9" * 5000)),
        ],
    )
    def test_reading(self, text: str, value: object) -> None:
        for wrap in ("{}", "[{}]", '{{"a":{}}}'):
            found = json_path(decode_exact(wrap.format(text).encode()))
            assert found == value
            assert type(found) is type(value)
        assert served(f'{{"id":"a","x":{text}}}', "x").values == (value,)

    @pytest.mark.parametrize("text", ["1e99999999999999999999", "-1e-99999999999999999999"])
    def test_a_number_beyond_all_bounds_is_there_and_cannot_be_written(self, text: str) -> None:
        line = served(f'{{"id":"a","x":{text},"y":[{text}]}}', "x")
        assert line.values[0].is_nan()
        with pytest.raises(InvalidRecordError) as refused:
            encode_exact(decode_exact(line.raw), subject="plans/a")
        assert refused.value.path == "$.x"

    @given(NUMBERS)
    def test_reading_loses_nothing(self, text: str) -> None:
        value = decode_exact(text.encode())
        spelled = repr(value) if isinstance(value, float) else value
        assert Decimal(spelled) == Decimal(text)

    @given(WRITTEN)
    def test_writing_brings_back_the_same(self, text: str) -> None:
        value = decode_exact(text.encode())
        data = encode_exact(value, subject="plans/a")
        assert same_value(data, text.encode())
        assert encode_exact(decode_exact(data), subject="plans/a") == data


def json_path(value: Any) -> object:  # noqa: ANN401 - reason: JSON is any value
    """The scalar inside lists and objects of one."""
    while isinstance(value, list | dict):
        (value,) = value if isinstance(value, list) else value.values()
    found: object = value
    return found


class Status(StrEnum):
    OPEN = "open"


class Level(IntEnum):
    HIGH = 3


class Color(Enum):
    RED = "red"


class Thing(msgspec.Struct):
    size: int = 1


class TestEncoding:
    """What JSON does not have, or would bring back as something else, is refused with the path to it."""

    def test_it_is_compact_and_in_order(self) -> None:
        value = {"id": "a", "é": [1, 1.5, None, True, "x"], "b": {}, "n": int(FORTY), "d": Decimal(LONG)}
        assert encode_exact(value, subject="plans/a") == (
            f'{{"id":"a","é":[1,1.5,null,true,"x"],"b":{{}},"n":{FORTY},"d":{LONG}}}'.encode()
        )

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ((1, (2,)), b"[1,[2]]"),
            (Status.OPEN, b'"open"'),
            ({Status.OPEN: 1}, b'{"open":1}'),
            (Level.HIGH, b"3"),
            (Decimal("1.10"), b"1.10"),
            (Decimal(1), b"1"),
            (Decimal("1E+400"), b"1E+400"),
            (Decimal("1E+5"), b"1E+5"),
            (1e23, b"1e23"),
            (-0.0, b"-0.0"),
            ("\ufeff\u2028\x7f\U0001f600", '"\ufeff\u2028\x7f\U0001f600"'.encode()),
            ("\x00\n", b'"\\u0000\\n"'),
        ],
    )
    def test_what_says_the_same_is_written(self, value: object, expected: bytes) -> None:
        assert encode_exact(value, subject="plans/a") == expected

    @pytest.mark.parametrize(
        ("value", "path"),
        [
            (math.nan, "$"),
            ([math.inf], "$[0]"),
            ({"a": [0, -math.inf]}, "$.a[1]"),
            ({"a": Decimal("NaN")}, "$.a"),
            ({"a": Decimal("sNaN")}, "$.a"),
            ({"a": Decimal("-Infinity")}, "$.a"),
            ({"a": "\ud800"}, "$.a"),
            ({"a": {"\udfff": 1}}, "$.a"),
            ({"a": {1: 2}}, "$.a"),
            ({"a": {None: 2}}, "$.a"),
            ({"a": {(1, 2): 2}}, "$.a"),
            ({"a": b"x"}, "$.a"),
            ({"a": {1, 2}}, "$.a"),
            ({"a": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}, "$.a"),
            ({"a": uuid.UUID(int=1)}, "$.a"),
            ({"a": Color.RED}, "$.a"),
            ({"a": Thing()}, "$.a"),
            ({"a": object()}, "$.a"),
            ({"a": [msgspec.Raw(b"1")]}, "$.a[0]"),
            ({"a": [1j]}, "$.a[0]"),
            ({"a b": [math.nan]}, "$['a b'][0]"),
            ({"a": 10**5000}, "$.a"),
        ],
    )
    def test_what_does_not_is_refused(self, value: object, path: str) -> None:
        with pytest.raises(InvalidRecordError, match="plans/a") as refused:
            encode_exact(value, subject="plans/a")
        assert refused.value.path == path

    @pytest.mark.parametrize("value", [UNSET, MappingProxyType({"x": 1})])
    def test_a_class_that_stands_for_something_elsewhere_is_named(self, value: object) -> None:
        for inside in (value, {"a": value}, [value]):
            with pytest.raises(InvalidRecordError, match=type(value).__name__):
                encode_exact(inside, subject="plans/a")

    @pytest.mark.parametrize("levels", [201, 400, 100_000])
    def test_nesting_has_a_limit(self, levels: int) -> None:
        value: object = 1
        for _ in range(levels):
            value = [value]
        with pytest.raises(LimitExceededError, match="plans/a") as refused:
            encode_exact(value, subject="plans/a")
        assert refused.value.limit == 200

    def test_the_last_level_is_written(self) -> None:
        value: object = 1
        for _ in range(200):
            value = [value]
        assert encode_exact(value, subject="plans/a").count(b"[") == 200

    def test_what_contains_itself_is_refused(self) -> None:
        endless: list[object] = []
        endless.append(endless)
        with pytest.raises(LimitExceededError):
            encode_exact(endless, subject="plans/a")


class TestSameValue:
    """Two texts are the same value when JSON says the same, exactly."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("1", "1.0"),
            ("1.10", "11e-1"),
            ("0", "-0.0"),
            ("1" + "0" * 23, "1e23"),
            ("1e400", "10E399"),
            ("9" * 5000, "9" * 5000 + ".0"),
            ('"a/b"', r'"\u0061\/b"'),
            ('{"a":1,"b":[2]}', '{ "b": [2.0], "\\u0061":1}'),
            ('{"a":1,"a":2}', '{"a":2}'),
            ("[]", " [ ] "),
            ("[" * 400 + "1" + "]" * 400, "[" * 400 + "1.0" + "]" * 400),
        ],
    )
    def test_the_same(self, one: str, other: str) -> None:
        assert same_value(one.encode(), other.encode())
        assert same_value(other.encode(), one.encode())

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("1", "true"),
            ("0", "false"),
            ("0", "null"),
            ("false", "null"),
            ("1", '"1"'),
            ('""', "null"),
            ("[]", "{}"),
            ("[]", "null"),
            ("[1]", "[true]"),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            ('{"a":null}', "{}"),
            ('{"a":1}', '{"b":1}'),
            ("0.1", LONG),
            ("0.1", "0.1000000000000000055511151231257827021181583404541015625"),
            (str(2**53), str(2**53 + 1) + ".0"),
            (FORTY, FORTY[:-1] + "1"),
            ("1e400", "1e401"),
            ('"é"', '"e\u0301"'),
        ],
    )
    def test_different(self, one: str, other: str) -> None:
        assert not same_value(one.encode(), other.encode())
        assert not same_value(other.encode(), one.encode())

    @given(WRITTEN, WRITTEN)
    def test_it_agrees_with_decimals(self, one: str, other: str) -> None:
        assert same_value(one.encode(), other.encode()) == (oracle(one) == oracle(other))

    @given(NUMBERS, NUMBERS)
    def test_numbers_agree_with_decimals(self, one: str, other: str) -> None:
        assert same_value(one.encode(), other.encode()) == (Decimal(one) == Decimal(other))

    @given(WRITTEN)
    def test_it_is_the_same_in_another_layout(self, text: str) -> None:
        assert same_value(text.encode(), msgspec.json.format(text.encode(), indent=4))

    def test_what_is_no_json_is_no_value(self) -> None:
        with pytest.raises(ValueError, match="malformed"):
            same_value(b"1", b"NaN")


class TestFields:
    """An object is taken apart and put together with every value's bytes."""

    def test_splitting_keeps_the_bytes_and_the_first_order(self) -> None:
        fields = split_fields(b'{"b" : 1.10 , "a":[ 1 ],"\\u0062": "\\u0061" }')
        assert {name: bytes(value) for name, value in fields.items()} == {"b": rb'"\u0061"', "a": b"[ 1 ]"}
        assert list(fields) == ["b", "a"]

    @pytest.mark.parametrize("values", [(b"1.10", b"[ 1 ]"), (msgspec.Raw(b"1.10"), b"[ 1 ]")])
    def test_joining_takes_both_kinds_of_text(self, values: tuple[Any, Any]) -> None:
        assert join_fields(dict(zip(['a"', "é"], values, strict=True))) == '{"a\\"":1.10,"é":[ 1 ]}'.encode()
        assert join_fields({}) == b"{}"

    @pytest.mark.parametrize("data", [b"[]", b"1", b"", b'{"a":1'])
    def test_what_is_no_object_has_no_fields(self, data: bytes) -> None:
        with pytest.raises(msgspec.DecodeError):
            split_fields(data)

    @given(st.dictionaries(TEXT, WRITTEN, max_size=5))
    def test_joined_and_split_it_is_the_same(self, texts: dict[str, str]) -> None:
        fields = {name: msgspec.Raw(text.encode()) for name, text in texts.items()}
        found = split_fields(join_fields(fields))
        assert {name: bytes(value) for name, value in found.items()} == {
            name: text.encode() for name, text in texts.items()
        }
        assert list(found) == list(texts)


class TestTombstones:
    """A tombstone is one line, the same from every writer."""

    def test_its_form(self) -> None:
        assert tombstone("x", 1704067200000) == b'{"id":"x","deleted":true,"updated_at":1704067200000}'
        assert tombstone(msgspec.Raw(b"5"), 0) == b'{"id":5,"deleted":true,"updated_at":0}'

    @given(TEXT, st.integers(0, 2**53 - 1))
    def test_it_reads_as_what_it_says(self, record_id: str, stamp_ms: int) -> None:
        line = served(tombstone(record_id, stamp_ms))
        assert (line.id, line.deleted, line.instant) == (record_id, True, stamp_ms * MS)


class TestCheckLine:
    """A line that is to be written keeps the limits."""

    def test_size(self) -> None:
        check_line(b'"' + b"x" * (MAX_LINE_BYTES - 2) + b'"', subject="plans/a")
        with pytest.raises(LimitExceededError, match="plans/a") as refused:
            check_line(b'"' + b"x" * (MAX_LINE_BYTES - 1) + b'"', subject="plans/a")
        assert (refused.value.value, refused.value.limit) == (MAX_LINE_BYTES + 1, MAX_LINE_BYTES)

    def test_nesting(self) -> None:
        check_line(nested(200).encode(), subject="plans/a")
        with pytest.raises(LimitExceededError, match="plans/a has 201 levels of nesting"):
            check_line(nested(201).encode(), subject="plans/a")

    def test_wide_is_not_deep(self) -> None:
        check_line(b"[" + b",".join([b"[]"] * 1000) + b"]", subject="plans/a")


# -- files ---------------------------------------------------------------------------------------------------------

MARKERS = [b"<<<<<<< ours", b"||||||| base", b"=======", b">>>>>>> theirs", b"<<<<<<<", b"<<<<<<<< eight", b"=======x"]
FILE_LINES = st.lists(
    lines()
    | damaged()
    | st.sampled_from([b"", b" \t", *MARKERS])
    | st.sampled_from([b'{"id":"a","updated_at":1}', b'{"id":"b"}']),
    max_size=12,
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file: with and without a BOM, carriage returns and the last newline."""
    bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    ends = st.sampled_from([b"\n", b"\r\n"])
    parts = [line + draw(ends) for line in draw(FILE_LINES)]
    tail = draw(
        st.just(b"") | lines() | damaged() | st.sampled_from([b"\xef\xbb", b" ", b">>>>>>> x", b'{"id":"a"}\r'])
    )
    return bom + b"".join(parts) + tail


def naive_lines(data: bytes) -> list[tuple[int, int, bytes, bool]]:
    """Number, offset, bytes and goodness of every line that is not blank, said as in the design."""
    found: list[tuple[int, int, bytes, bool]] = []
    block = base = False
    at = 0
    for number, text in enumerate(data.split(b"\n"), start=1):
        begins = 3 if at == 0 and text.startswith(b"\xef\xbb\xbf") else 0
        raw = text[begins:].rstrip(b"\r")
        word = raw.split(b" ")[0]
        marker = word in {b"<<<<<<<", b"|||||||", b">>>>>>>"} or (word == b"=======" and block)
        if marker:
            block = {b"<<<<<<<": True, b">>>>>>>": False}.get(word, block)
            base = block and word == b"|||||||"
        if raw.strip(b" \t\r\x0b\x0c"):
            good = not marker and not base and isinstance(decode_line(raw, ()), Line)
            found.append((number, at + begins, raw, good))
        at += len(text) + 1
    return found


def told(found: list[Line | BadLine]) -> list[tuple[int, int, bytes, bool]]:
    return [(line.number, line.offset, line.raw, isinstance(line, Line)) for line in found]


USUAL = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["a", "b", " c", "d\x7f", "", "x" * 257]) | st.just("e"),
            "updated_at": st.integers(-1, 9),
        },
        optional={
            "deleted": st.sampled_from([True, False, 1]),
            "n": st.one_of(st.integers(0, 3), st.just([])),
            "text": st.just("ü" * 250),
        },
    ),
    max_size=8,
).map(lambda records: b"".join(msgspec.json.encode(record) + b"\n" for record in records))


class TestFiles:
    """The lines of a file are the same however it is cut into chunks, and every line that is not blank is told of."""

    @given(files(), st.lists(st.integers(0, 400), max_size=6))
    def test_chunks_of_any_size_give_the_same_lines(self, data: bytes, cuts: list[int]) -> None:
        whole = list(decode_lines(data, ("status",)))
        reader = LineReader(("status",))
        found: list[Line | BadLine] = []
        bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, end in pairwise(bounds):
            found += reader.feed(data[start:end])
            assert reader.offset == data[:end].rfind(b"\n") + 1
            assert reader.number == data[:end].count(b"\n") + 1
        found += reader.finish()
        assert repr(found) == repr(whole)
        assert reader.finish() == []

    @given(files())
    def test_it_agrees_with_a_naive_reading(self, data: bytes) -> None:
        found = list(decode_lines(data))
        assert told(found) == naive_lines(data)
        assert all(data[line.offset :].startswith(line.raw) for line in found)

    @given(st.one_of(files(), USUAL), st.lists(st.integers(0, 400), max_size=6))
    def test_columns_are_the_same_lines(self, data: bytes, cuts: list[int]) -> None:
        reader, columns = LineReader(("status", "n")), LineReader(("status", "n"))
        bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, end in pairwise(bounds):
            lines = reader.feed(data[start:end])
            found = columns.feed_columns(data[start:end])
            if isinstance(found, Columns):
                rows = zip(found.ids, found.raws, found.stamps_ms, zip(*found.values, strict=True), strict=True)
                wanted = [(line.id, line.raw, line.instant, line.values) for line in lines if isinstance(line, Line)]
                assert repr([(one, raw, ms * 1_000_000, values) for one, raw, ms, values in rows]) == repr(wanted)
                assert not any(isinstance(line, BadLine) or line.deleted or line.problem for line in lines)
            else:
                assert repr(found) == repr(lines)
            assert (columns.offset, columns.number) == (reader.offset, reader.number)
            assert (columns.markers, columns.flawed) == (reader.markers, reader.flawed)

    def test_usual_lines_come_as_columns(self) -> None:
        found = LineReader(("n",)).feed_columns(b'{"id":"a","updated_at":5,"n":1}\n{"id":"b","updated_at":6}\n')
        assert isinstance(found, Columns)
        assert (list(found.ids), list(found.stamps_ms), found.values) == (["a", "b"], [5, 6], ((1, msgspec.UNSET),))

    @given(st.one_of(files(), USUAL), st.lists(st.booleans(), min_size=20, max_size=20))
    def test_lines_that_are_known_are_counted_and_the_others_read(self, data: bytes, answers: list[bool]) -> None:
        asked: list[bytes] = []

        def known(raws: Sequence[bytes], start: int, end: int) -> int:
            passing = next((at for at in range(start, end) if not answers[at % 20]), end) - start
            asked.extend(raws[start : start + passing])
            return passing

        reader, whole = LineReader(()), LineReader(())
        found = list(reader.feed_unknown(data, known))
        lines = whole.feed(data)
        assert (reader.offset, reader.number, reader.passed) == (whole.offset, whole.number, len(asked))
        assert repr(found) == repr([line for line in lines if line.raw not in asked or line in found])
        passed = [line for line in lines if line.raw in asked]
        assert all(isinstance(line, Line) and line.instant is not None for line in passed)

    @given(FILE_LINES.map(b"\n".join), st.integers(0, 12))
    def test_reading_may_go_on_where_it_ended(self, data: bytes, cut: int) -> None:
        if any(line.startswith(marker[:7]) for marker in MARKERS for line in data.split(b"\n")):
            return  # a block of conflict markers is read from its beginning
        first = LineReader(())
        found = first.feed(data[: sum(len(part) + 1 for part in data.split(b"\n")[:cut])])
        second = LineReader((), number=first.number, offset=first.offset)
        found += second.feed(data[first.offset :])
        found += second.finish()
        assert repr(found) == repr(list(decode_lines(data)))

    def test_an_empty_file_has_no_lines(self) -> None:
        assert list(decode_lines(b"")) == []
        assert list(decode_lines(b"\xef\xbb\xbf")) == []
        assert list(decode_lines(b"\n\r\n \n")) == []

    def test_a_byte_order_mark_counts_at_the_beginning_only(self) -> None:
        line = b'{"id":"a"}'
        found = list(decode_lines(b"\xef\xbb\xbf" + line + b"\n\xef\xbb\xbf" + line))
        assert told(found) == [(1, 3, line, True), (2, 14, b"\xef\xbb\xbf" + line, False)]
        tail = LineReader((), number=2, offset=11).feed(b"\xef\xbb\xbf" + line + b"\n")
        assert [type(found) for found in tail] == [BadLine]

    def test_blank_lines_are_counted(self) -> None:
        (line,) = decode_lines(b'\n \t\n\r\n{"id":"a"}\n')
        assert (line.number, line.offset) == (4, 6)

    def test_a_line_that_never_ends_is_held_without_copying_it_again_and_again(self) -> None:
        reader = LineReader(())
        chunk = b"x" * 1000
        for _ in range(50):
            assert reader.feed(chunk) == []
        assert reader._held == [chunk] * 50
        (line,) = reader.feed(b"\n")
        assert (line.raw, reader.offset, reader.number) == (chunk * 50, 50_001, 2)

    def test_a_large_file_comes_lazily(self) -> None:
        data = b'{"id":"a","x":"%s"}\n' % (b"x" * 1000) * 300
        numbers = [line.number for line in decode_lines(data)]
        assert numbers == list(range(1, 301))


class TestTheLastLine:
    """A last line without newline counts if it parses; else it is torn."""

    @pytest.mark.parametrize("end", [b"", b"\r", b" "])
    def test_one_that_parses(self, end: bytes) -> None:
        reader = LineReader(())
        assert [line.raw for line in reader.feed(b'{"id":"a"}\n{"id":"b"}' + end)] == [b'{"id":"a"}']
        (last,) = reader.finish()
        assert isinstance(last, Line)
        assert (last.id, last.number, last.offset) == ("b", 2, 11)
        assert (reader.offset, reader.number) == (11, 2)

    def test_one_that_does_not(self) -> None:
        reader = LineReader(())
        reader.feed(b'{"id":"a"}\n{"id":"b","x')
        (last,) = reader.finish()
        assert isinstance(last, BadLine)
        assert last.reason.startswith("torn: it ends without a newline, and ")
        assert (last.raw, last.number, last.offset) == (b'{"id":"b","x', 2, 11)

    @pytest.mark.parametrize("tail", [b"", b" ", b"\r", b"\t "])
    def test_none(self, tail: bytes) -> None:
        reader = LineReader(())
        reader.feed(b'{"id":"a"}\n' + tail)
        assert reader.finish() == []

    def test_a_marker_is_no_torn_line(self) -> None:
        (last,) = decode_lines(b">>>>>>> theirs")
        assert isinstance(last, BadLine)
        assert last.reason == "conflict marker"


def record(record_id: str) -> bytes:
    return b'{"id":"%s"}' % record_id.encode()


class TestConflictMarkers:
    """Both sides of a conflict are read, the base part is not, and nothing of it goes unsaid."""

    def read(self, *parts: bytes) -> tuple[list[str], list[tuple[int, str]], LineReader]:
        reader = LineReader(())
        found = reader.feed(b"".join(part + b"\n" for part in parts)) + reader.finish()
        good = [line.id for line in found if isinstance(line, Line)]
        return good, [(line.number, line.reason) for line in found if isinstance(line, BadLine)], reader

    def test_a_merge_block(self) -> None:
        good, others, reader = self.read(
            record("a"), b"<<<<<<< HEAD", record("b"), b"=======", record("c"), b">>>>>>> branch", record("d")
        )
        assert good == ["a", "b", "c", "d"]
        assert others == [(2, "conflict marker"), (4, "conflict marker"), (6, "conflict marker")]
        assert reader.markers

    @pytest.mark.parametrize("base", [b"||||||| 1a2b3c", b"|||||||"])
    def test_a_diff3_block(self, base: bytes) -> None:
        parts = [b"<<<<<<< HEAD", record("b"), base, record("x"), b"", b"{", b"=======", record("c"), b">>>>>>> x"]
        good, others, _ = self.read(*parts, record("d"))
        assert good == ["b", "c", "d"]
        assert [number for number, _ in others] == [1, 3, 4, 6, 7, 9]
        assert [reason for number, reason in others if number in {4, 6}] == [
            "it is in the base part of a conflict, which is not read"
        ] * 2

    def test_markers_of_a_nested_merge_stay_inside_the_base_part(self) -> None:
        good, _, _ = self.read(
            *(b"<<<<<<< HEAD", record("a"), b"||||||| merged common ancestors"),
            *(b"<<<<<<<<< Temporary merge branch 1", record("x"), b"=========", record("y"), b">>>>>>>>> Temporary"),
            *(b"=======", record("b"), b">>>>>>> branch"),
        )
        assert good == ["a", "b"]

    def test_a_new_block_ends_an_open_base_part(self) -> None:
        good, _, _ = self.read(
            b"<<<<<<< a", b"||||||| b", record("x"), b"<<<<<<< a", record("c"), b"=======", record("d"), b">>>>>>> e"
        )
        assert good == ["c", "d"]

    def test_the_end_of_the_block_ends_an_open_base_part(self) -> None:
        assert self.read(b"<<<<<<< a", b"||||||| b", record("x"), b">>>>>>> e", record("d"))[0] == ["d"]

    def test_a_divider_outside_a_block_is_a_bad_line_like_others(self) -> None:
        good, others, reader = self.read(record("a"), b"=======", record("b"))
        assert good == ["a", "b"]
        assert [reason == "conflict marker" for _, reason in others] == [False]
        assert not reader.markers

    @pytest.mark.parametrize("left", [b"||||||| base", b">>>>>>> theirs"])
    def test_what_is_left_of_a_block_hides_nothing(self, left: bytes) -> None:
        good, others, reader = self.read(left, record("a"), b"=======", record("b"))
        assert good == ["a", "b"]
        assert others[0] == (1, "conflict marker")
        assert reader.markers

    @pytest.mark.parametrize("text", [b"<<<<<<<< eight", b"<<<<<<<x", b" <<<<<<< a", b"<<<<<< six"])
    def test_what_only_looks_like_a_marker(self, text: bytes) -> None:
        _, others, reader = self.read(text)
        assert [reason == "conflict marker" for _, reason in others] == [False]
        assert not reader.markers

    def test_a_marker_with_a_carriage_return(self) -> None:
        assert self.read(b"<<<<<<< a\r", b"=======\r", b">>>>>>> b\r")[1] == [
            (number, "conflict marker") for number in (1, 2, 3)
        ]

    def test_the_reader_tells_whether_it_is_in_a_base_part(self) -> None:
        reader = LineReader(())
        told = []
        for part in (b"<<<<<<< a", b"||||||| b", b"=======", b">>>>>>> c"):
            reader.feed(part + b"\n")
            told.append(reader.in_base)
        assert told == [False, True, False, False]

    def test_a_base_part_without_newline_at_the_end_is_not_read(self) -> None:
        found = list(decode_lines(b"<<<<<<< a\n||||||| b\n" + record("x")))
        assert [type(line) for line in found] == [BadLine] * 3
