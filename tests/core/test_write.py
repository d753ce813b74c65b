"""How a record becomes a line, and a line a record."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, ClassVar, NamedTuple, TypedDict
from zlib import crc32
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.codec import decode_exact, same_value, split_fields
from taskstore_async.core.record import Document, Indexed, Record, crc_of, keep_crc
from taskstore_async.core.write import Draft, draft, line_of, load, load_document
from taskstore_async.errors import (
    InvalidIdError,
    InvalidNameError,
    InvalidRecordError,
    LimitExceededError,
    ReadFailedError,
    UnreadableRecordError,
)

MS = 1_000_000
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
IDS = st.text("abc-019é", min_size=1, max_size=6)
STAMPS = st.integers(0, 2**53 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
# Values as files have them: numbers in every spelling, escapes, space, keys in any order.
SPELLED = st.sampled_from(
    [
        *(
            "1.10",
            "1.1",
            "11e-1",
            "1",
            "1.0",
            "1E+0",
            "-0.0",
            "0",
            "1e400",
            "0.1000000000000000055511151231257827",
            "1" * 30,
        ),
        *("null", "true", "false", '""', '"a"', r'"\u0061"', '"é"', r'"\u00e9"', r'"a\/b"'),
    ]
)
WRITTEN = st.recursive(
    SPELLED,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[ " + " , ".join(items) + "]")
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(
            lambda items: "{" + ", ".join(f'"{key}" :{value}' for key, value in items.items()) + "}"
        )
    ),
    max_leaves=5,
)


class Status(StrEnum):
    OPEN = "open"
    DONE = "done"


class Note(msgspec.Struct):
    """A struct inside a record: data only."""

    text: str
    weight: float = 1.0
    id: str | None = None


class Color(Enum):
    RED = 1


class Plan(Record):
    collection: ClassVar[str] = "plans"

    title: str
    status: Annotated[Status, Indexed] = Status.OPEN
    slug: str | None = None
    size: float = 0.5


class Rich(Record):
    """A field of every type that JSON spells in several ways."""

    collection: ClassVar[str] = "rich"

    anything: Any = None
    obj: dict[str, object] = {}
    at: dt.datetime | None = None
    day: dt.date | None = None
    time: dt.time | None = None
    span: dt.timedelta | None = None
    key: uuid.UUID | None = None
    price: Decimal | None = None
    blob: bytes | None = None
    weight: float = 0.0
    weights: dict[str, float] = {}
    tags: set[str] = set()
    mixed: frozenset[str | int | None] = frozenset()
    by_number: dict[int, float] = {}
    main: Note | None = None
    notes: list[Note] = []
    pair: tuple[int, float] | None = None


AWARE = st.datetimes(timezones=st.just(dt.UTC)).filter(lambda moment: 1900 <= moment.year < 2100)
RICH = st.builds(
    Rich,
    id=IDS,
    created_at=st.none() | STAMPS,
    updated_at=STAMPS,
    anything=JSON,
    obj=st.dictionaries(TEXT, JSON, max_size=2),
    at=st.none() | AWARE | st.datetimes(),
    day=st.none() | st.dates(),
    time=st.none() | st.times(),
    span=st.none() | st.timedeltas(dt.timedelta(days=-9999), dt.timedelta(days=9999)),
    key=st.none() | st.uuids(),
    price=st.none() | st.decimals(allow_nan=False, allow_infinity=False),
    blob=st.none() | st.binary(max_size=5),
    weight=FLOATS,
    weights=st.dictionaries(TEXT, FLOATS, max_size=3),
    tags=st.sets(TEXT, max_size=3),
    mixed=st.frozensets(TEXT | st.integers() | st.none(), max_size=3),
    by_number=st.dictionaries(st.integers(-(2**63), 2**63 - 1), FLOATS, max_size=2),
    main=st.none() | st.builds(Note, TEXT, FLOATS),
    notes=st.lists(st.builds(Note, TEXT, FLOATS, st.none() | IDS), max_size=3),
    pair=st.none() | st.tuples(st.integers(), FLOATS),
)


def stored(text: str | bytes) -> dict[str, bytes]:
    """The fields of a line, as the bytes that stand there."""
    return {name: bytes(raw) for name, raw in split_fields(text.encode() if isinstance(text, str) else text).items()}


def written(record: Record | Document, current: str | None = None, *, stamp_ms: int = 9) -> bytes:
    """The line that a write of *record* over *current* makes."""
    return line_of(draft(record), None if current is None else current.encode(), stamp_ms=stamp_ms, created_ms=5)


class TestANewLine:
    """A new record's line begins with id, created_at and updated_at; the rest stands in the record's order."""

    def test_typed(self) -> None:
        assert written(Plan("Ship", id="p1")) == (
            b'{"id":"p1","created_at":5,"updated_at":9,"title":"Ship","status":"open","slug":null,"size":0.5}'
        )

    def test_untyped(self) -> None:
        document = Document("plans", {"b": 1, "updated_at": 3, "a": [1.5], "id": "p1"})
        assert written(document) == b'{"id":"p1","created_at":5,"updated_at":9,"b":1,"a":[1.5]}'

    def test_a_type_that_leaves_out_defaults(self) -> None:
        class Lean(Record, omit_defaults=True):
            collection: ClassVar[str] = "lean"
            size: int = 1

        assert written(Lean(id="x")) == b'{"id":"x","created_at":5,"updated_at":9}'

    def test_a_tagged_type(self) -> None:
        class Tagged(Record, tag="big"):
            collection: ClassVar[str] = "tagged"

        assert written(Tagged(id="x")) == b'{"id":"x","created_at":5,"updated_at":9,"type":"big"}'

    @pytest.mark.parametrize(
        "record", [Plan("x", id="p1", created_at=3), Document("plans", {"id": "p1", "created_at": 3})]
    )
    def test_a_created_at_that_it_brings_stays(self, record: Record | Document) -> None:
        assert stored(written(record))["created_at"] == b"3"

    @pytest.mark.parametrize("record", [Plan("x", id="p1"), Document("plans", {"id": "p1", "created_at": None})])
    def test_none_gets_the_stores(self, record: Record | Document) -> None:
        assert stored(written(record))["created_at"] == b"5"

    def test_sets_stand_in_one_order_whatever_the_hash_seed(self) -> None:
        line = stored(written(Rich(id="x", tags={"b", "c", "a"}, mixed=frozenset({None, 2, "a"}))))
        assert (line["tags"], line["mixed"]) == (b'["a","b","c"]', b'["a",2,null]')

    def test_decimals_are_numbers(self) -> None:
        assert stored(written(Rich(id="x", price=Decimal("1.10"))))["price"] == b"1.10"

    @pytest.mark.parametrize(
        "record", [Plan("x" * 11_000_000, id="p1"), Document("plans", {"id": "p1", "x": "x" * 11_000_000})]
    )
    def test_a_line_has_a_limit(self, record: Record | Document) -> None:
        with pytest.raises(LimitExceededError, match="plans/p1"):
            written(record)

    @pytest.mark.parametrize("depth", [201, 100_000])
    def test_nesting_has_a_limit(self, depth: int) -> None:
        nested: Any = None
        for _ in range(depth):
            nested = [nested]
        with pytest.raises(LimitExceededError):
            written(Rich(id="x", anything=nested))
        with pytest.raises(LimitExceededError):
            written(Document("rich", {"id": "x", "anything": nested}))


class TestReadingBack:
    """What is written reads back as the same record, whatever it holds."""

    @given(RICH, STAMPS)
    def test_a_typed_record(self, record: Rich, stamp_ms: int) -> None:
        line = line_of(draft(record), None, stamp_ms=stamp_ms, created_ms=5)
        created = 5 if record.created_at is None else record.created_at
        read = load(Rich, line, stamp_ms * MS + 999_999)
        assert read == record.evolve(created_at=created, updated_at=stamp_ms)
        assert crc_of(read) == crc32(line)

    @given(st.dictionaries(TEXT, JSON, max_size=5), STAMPS)
    def test_a_document(self, fields: dict[str, Any], stamp_ms: int) -> None:
        own = {"id": "x", "created_at": 1, "updated_at": 1}
        document = Document("rich", {**fields, **own, "deleted": 1})
        line = line_of(draft(document), None, stamp_ms=stamp_ms, created_ms=5)
        read = load_document("rich", line, stamp_ms * MS)
        assert read == document.evolve(updated_at=stamp_ms)
        assert crc_of(read) == crc32(line)

    @given(RICH, RICH)
    def test_a_record_written_over_another(self, before: Rich, after: Rich) -> None:
        line = written(before)
        over = line_of(draft(after.evolve(id=before.id)), line, stamp_ms=11, created_ms=5)
        created = load(Rich, line, 9 * MS).created_at if after.created_at is None else after.created_at
        assert load(Rich, over, 11 * MS) == after.evolve(id=before.id, created_at=created, updated_at=11)

    @given(WRITTEN)
    def test_numbers_in_a_document_are_exact(self, text: str) -> None:
        document = load_document("plans", b'{"id":"p1","x":' + text.encode() + b"}", 0)
        assert same_value(stored(written(document))["x"], text.encode())

    @pytest.mark.parametrize("line", [b"\0", b'{"id":"p1"', b"[]", b'{"title":"x"}'])
    def test_a_line_that_is_none_is_no_document(self, line: bytes) -> None:
        with pytest.raises(ReadFailedError, match=r"a line of plans in it is damaged.*tstore doctor"):
            load_document("plans", line, 0)


class TestTakingOver:
    """A write keeps, byte for byte, everything that it does not change."""

    @given(st.dictionaries(st.sampled_from("uvwxyz"), WRITTEN), st.data())
    def test_unknown_fields_survive_every_typed_write(self, unknown: dict[str, str], data: st.DataObject) -> None:
        known = {"id": '"p1"', "updated_at": "3", "title": '"a"', "size": "1.50", "status": r'"\u006fpen"'}
        fields = dict(data.draw(st.permutations([*known.items(), *unknown.items()])))
        current = "{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}"
        record = load(Plan, current.encode(), 3 * MS)
        untouched, changed = stored(written(record, current)), stored(written(record.evolve(title="b"), current))
        assert list(untouched) == list(fields)
        assert list(changed) == list(fields)
        assert untouched == {name: text.encode() for name, text in {**fields, "updated_at": "9"}.items()}
        assert changed == {**untouched, "title": b'"b"'}
        fresh = stored(written(Plan("c", id="p1", size=2.0), current))
        assert fresh == {**untouched, "title": b'"c"', "size": b"2.0"}

    @given(st.dictionaries(st.sampled_from("uvwxyz"), WRITTEN), st.dictionaries(st.sampled_from("uvwxyz"), WRITTEN))
    def test_a_document_replaces_all_and_keeps_equal_bytes(self, before: dict[str, str], after: dict[str, str]) -> None:
        def line(fields: dict[str, str]) -> str:
            return "{" + ",".join(f'"{name}":{text}' for name, text in {"id": '"p1"', **fields}.items()) + "}"

        document = load_document("plans", line(after).encode(), 3 * MS)
        found = stored(written(document, line(before)))
        assert list(found)[: 1 + len(before.keys() & after.keys())] == [
            "id",
            *(name for name in before if name in after),
        ]
        assert found.keys() == after.keys() | {"id", "updated_at"}
        for name, text in after.items():
            same = name in before and same_value(before[name].encode(), text.encode())
            assert same_value(found[name], text.encode())
            assert not same or found[name] == before[name].encode()

    @pytest.mark.parametrize(
        ("name", "spelled"),
        [
            ("weight", "1.50"),
            ("weight", "0.1000000000000000055511151231257827"),
            ("anything", '{"a": 0.1000000000000000055511151231257827, "b":[1e400, 1.0]}'),
            ("obj", '{ "k":1.10}'),
            ("at", '"2024-01-01T00:00:00.000Z"'),
            ("at", '"2024-01-01t00:00:00+00:00"'),
            ("day", '"2024-01-01"'),
            ("time", '"10:00:00.500000"'),
            ("span", '"P0DT60S"'),
            ("key", '"6A5BA1B0-6F6E-4B3E-8E1C-000000000001"'),
            ("price", "1.10"),
            ("price", '"1.10"'),
            ("weights", '{"a":1.50, "b":11e-1}'),
            ("tags", '["b", "a"]'),
            ("mixed", '["b", null, 1, "a"]'),
            ("by_number", '{"7":1.50}'),
            ("main", '{"weight":2.50, "text":"x", "pinned":true}'),
            ("main", '{"text":"x"}'),
            ("notes", '[{"text":"x","pinned":true}, {"text":"y","weight":1.00}]'),
            ("pair", "[1, 2.50]"),
        ],
    )
    def test_every_spelling_of_an_unchanged_value_stays(self, name: str, spelled: str) -> None:
        current = f'{{"id":"x","{name}":{spelled},"updated_at":3}}'
        record = load(Rich, current.encode(), 3 * MS)
        assert stored(written(record, current))[name] == spelled.encode()
        assert stored(written(record.evolve(anything=record.anything or 1), current))[name] == spelled.encode()

    @pytest.mark.parametrize(
        ("name", "spelled", "value", "expected"),
        [
            ("anything", "true", 1, b"1"),
            ("anything", "1", True, b"true"),
            ("anything", '{"a":0}', {"a": False}, b'{"a":false}'),
            ("anything", "1.5", "1.5", b'"1.5"'),
            ("at", '"2024-01-01T01:00:00+01:00"', dt.datetime(2024, 1, 1, tzinfo=dt.UTC), b'"2024-01-01T00:00:00Z"'),
            ("weight", '"not a number"', 1.0, b"1.0"),
            ("main", '"not an object"', Note("x"), b'{"text":"x","weight":1.0,"id":null}'),
            ("main", '{"text":"x"}', None, b"null"),
            ("notes", '{"text":"x"}', [], b"[]"),
            ("tags", '"a"', {"a"}, b'["a"]'),
            ("weights", "[1.50]", {"a": 1.5}, b'{"a":1.5}'),
            ("weight", "1e99999999999999999999", 1.0, b"1.0"),
        ],
    )
    def test_another_value_is_written(self, name: str, spelled: str, value: Any, expected: bytes) -> None:  # noqa: ANN401 - reason: one of any field
        assert stored(written(Rich(id="x", **{name: value}), f'{{"id":"x","{name}":{spelled}}}'))[name] == expected

    def test_unknown_fields_survive_inside_values(self) -> None:
        current = (
            '{"id":"x","main":{"pinned":1.0,"text":"a"},'
            '"notes":[{"id":"1","text":"x","by":1.0},{"id":"2","text":"y","by":2.0},{"text":"z","by":3.0}]}'
        )
        record = load(Rich, current.encode(), 0)
        changed = record.evolve(
            main=Note("b"),
            notes=[record.notes[2], Note("new"), Note("Y", id="2"), Note("other", id="2"), record.notes[0]],
        )
        line = stored(written(changed, current))
        assert line["main"] == b'{"pinned":1.0,"text":"b"}'
        assert line["notes"] == (
            b'[{"text":"z","by":3.0},{"text":"new","weight":1.0,"id":null},{"id":"2","text":"Y","by":2.0},'
            b'{"text":"other","weight":1.0,"id":"2"},{"id":"1","text":"x","by":1.0}]'
        )

    def test_unchanged_items_keep_their_bytes_when_others_change(self) -> None:
        current = (
            '{"id":"x","weights":{"a":1.50,"gone":2.50,"b":0.10},"tags":["b","\\u0061","gone"],"mixed":["z",1],'
            '"notes":[{"text":"x","weight":1.00},{"text":"x","weight":1.000}]}'
        )
        record = load(Rich, current.encode(), 0)
        changed = record.evolve(
            weights={"new": 1.0, "b": 0.1, "a": 7.5},
            tags={"a", "b", "new"},
            notes=[*record.notes, record.notes[0]],
        )
        line = stored(written(changed, current))
        assert line["weights"] == b'{"a":7.5,"b":0.10,"new":1.0}'
        assert line["tags"] == rb'["b","\u0061","new"]'
        assert line["notes"] == (
            b'[{"text":"x","weight":1.00},{"text":"x","weight":1.000},{"text":"x","weight":1.0,"id":null}]'
        )

    def test_a_field_left_out_for_its_default_keeps_only_the_default(self) -> None:
        class Lean(Record, omit_defaults=True):
            collection: ClassVar[str] = "lean"
            size: float = 1.5
            tags: list[str] = []
            note: str | None = None
            extra: int | msgspec.UnsetType = msgspec.UNSET

        kept = '{"id":"x","size":1.50,"tags":[ ],"note":null,"extra":1,"unknown":1.0,"created_at":4,"updated_at":3}'
        assert written(Lean(id="x"), kept) == (
            b'{"id":"x","size":1.50,"tags":[ ],"note":null,"unknown":1.0,"created_at":4,"updated_at":9}'
        )
        gone = '{"id":"x","size":2.0,"tags":["a"],"note":"a","updated_at":3}'
        assert written(Lean(id="x"), gone) == b'{"id":"x","updated_at":9}'

    def test_a_line_does_without_nulls_but_gets_other_defaults(self) -> None:
        assert written(Plan("x", id="p1"), '{"id":"p1","title":"x"}') == (
            b'{"id":"p1","title":"x","status":"open","size":0.5,"updated_at":9}'
        )

    def test_a_null_that_says_something_is_written(self) -> None:
        class Needs(Record):
            collection: ClassVar[str] = "needs"
            owner: str | None
            parent: str | None = "root"

        line = stored(written(Needs(None, None, id="x"), '{"id":"x"}'))
        assert (line["owner"], line["parent"]) == (b"null", b"null")

    def test_typed_dictionaries_and_dataclasses_keep_unknown_fields_too(self) -> None:
        current = '{"id":"x","point":{"x":1.50,"by":1.0},"place":{"name":"a","at":1.0},"moved":{"x":1.0,"by":2.0}}'
        record = load(Mixed, current.encode(), 0)
        assert written(record, current) == current[:-1].encode() + b',"updated_at":9}'
        assert record.point is not None
        changed = record.evolve(point=Point(1.5, ["b"]), place={"name": "b"}, moved=Point(2.0))
        assert written(changed, current) == (
            b'{"id":"x","point":{"x":1.50,"by":1.0,"labels":["b"]},"place":{"name":"b","at":1.0},'
            b'"moved":{"x":2.0,"by":2.0},"updated_at":9}'
        )

    def test_a_type_that_contains_itself(self) -> None:
        current = '{"id":"x","root":{"name":"a","n":1.0,"below":[{"id":"1","name":"b","n":2.0,"below":[]}]}}'
        record = load(Tree, current.encode(), 0)
        assert record.root is not None
        below = [msgspec.structs.replace(record.root.below[0], name="c")]
        line = written(record.evolve(root=msgspec.structs.replace(record.root, below=below)), current)
        assert line == current.replace('"b"', '"c"')[:-1].encode() + b',"updated_at":9}'


@dataclass
class Point:
    x: float
    labels: list[str] = field(default_factory=list)


class Place(TypedDict):
    name: str


class Node(msgspec.Struct):
    name: str
    below: list[Node] = []
    id: str | None = None


class Mixed(Record):
    collection: ClassVar[str] = "mixed"
    point: Point | None = None
    place: Place | None = None
    moved: Point | None = None


class Tree(Record):
    collection: ClassVar[str] = "trees"
    root: Node | None = None


class TestStamps:
    """The store sets ``updated_at``; ``created_at`` and ids keep their bytes until somebody changes them."""

    @pytest.mark.parametrize("text", ["3", "3.0", '"1970-01-01T00:00:00.003Z"', "9.0", '"soon"', "null"])
    def test_updated_at_is_always_our_integer(self, text: str) -> None:
        current = f'{{"updated_at":{text},"id":"p1","title":"x"}}'
        for record in (load(Plan, current.encode(), 3 * MS), load_document("plans", current.encode(), 3 * MS)):
            line = written(record, current)
            assert line.startswith(b'{"updated_at":9,"id":"p1"')

    @pytest.mark.parametrize(
        "text", ["4", '"1970-01-01T00:00:00.004Z"', '"1970-01-01T01:00:00.004999+01:00"', '"soon"', "-1", "1.5", "null"]
    )
    def test_an_untouched_created_at_keeps_its_bytes(self, text: str) -> None:
        current = f'{{"id":"p1","created_at":{text},"title":"x","updated_at":3}}'
        typed, untyped = load(Plan, current.encode(), 3 * MS), load_document("plans", current.encode(), 3 * MS)
        for record in (
            typed,
            typed.evolve(title="y"),
            typed.evolve(created_at=None),
            untyped,
            untyped.without("created_at"),
        ):
            assert stored(written(record, current))["created_at"] == text.encode()

    @pytest.mark.parametrize("text", ["4", '"1970-01-01T00:00:00.004Z"', '"soon"', "null"])
    def test_a_changed_created_at_is_written(self, text: str) -> None:
        current = f'{{"id":"p1","created_at":{text},"title":"x","updated_at":3}}'
        typed, untyped = load(Plan, current.encode(), 3 * MS), load_document("plans", current.encode(), 3 * MS)
        for record in (typed.evolve(created_at=7), untyped.evolve(created_at=7)):
            assert stored(written(record, current))["created_at"] == b"7"
        line = stored(written(untyped.evolve(created_at="1970-01-01T00:00:00.004001Z"), current))
        assert line["created_at"] == b'"1970-01-01T00:00:00.004001Z"'

    def test_a_stored_record_without_created_at_gets_none(self) -> None:
        current = '{"id":"p1","title":"x"}'
        for record in (Plan("x", id="p1"), Document("plans", {"id": "p1"})):
            assert "created_at" not in stored(written(record, current))
        assert stored(written(Plan("x", id="p1", created_at=7), current))["created_at"] == b"7"

    def test_an_integer_id_stays_one(self) -> None:
        current = '{"id":5,"title":"x"}'
        for record in (load(Plan, current.encode(), 0), load_document("plans", current.encode(), 0)):
            assert record.id == "5"
            assert stored(written(record, current))["id"] == b"5"


class TestRefusing:
    """What would not read back as itself is refused before the write, with the path into the data."""

    @pytest.mark.parametrize(
        ("changes", "path"),
        [
            ({"weight": math.nan}, "$.weight"),
            ({"weight": math.inf}, "$.weight"),
            ({"weight": "1"}, "$.weight"),
            ({"anything": -math.inf}, "$.anything"),
            ({"anything": {"a": [0, {"b c": math.nan}]}}, "$.anything.a[1]['b c']"),
            ({"obj": {"a": math.nan}}, "$.obj.a"),
            ({"anything": Decimal("NaN")}, "$.anything"),
            ({"anything": Decimal("sNaN")}, "$.anything"),
            ({"price": Decimal("Infinity")}, "$.price"),
            ({"price": Decimal("-Infinity")}, "$.price"),
            ({"anything": "\ud800"}, "$.anything"),
            ({"anything": ["\udfff"]}, "$.anything[0]"),
            ({"anything": {"\ud800": 1}}, "$.anything"),
            ({"main": Note("\ud800")}, "$.main.text"),
            ({"main": Note("x", math.nan)}, "$.main.weight"),
            ({"notes": [Note("x"), Note("x", math.nan)]}, "$.notes[1].weight"),
            ({"notes": [Note(5)]}, "$.notes[0].text"),  # type: ignore[arg-type]
            ({"tags": {"\ud800"}}, "$.tags[0]"),
            ({"anything": object()}, "$.anything"),
            ({"anything": {1: 2}}, "$.anything"),
            ({"anything": {(1, 2): 2}}, "$.anything"),
            ({"anything": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}, "$.anything"),
            ({"anything": Note("x")}, "$.anything"),
            ({"anything": [b"x"]}, "$.anything[0]"),
            ({"anything": [(1,), msgspec.Raw(b"1")]}, "$.anything[1]"),
            ({"weight": True}, "$.weight"),
            ({"created_at": -1}, "$.created_at"),
            ({"created_at": 2**53}, "$.created_at"),
            ({"created_at": True}, "$.created_at"),
            ({"updated_at": "3"}, "$.updated_at"),
            ({"at": dt.datetime(1900, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam"))}, "$.at"),
        ],
    )
    def test_typed_records(self, changes: dict[str, Any], path: str) -> None:
        with pytest.raises(InvalidRecordError) as refused:
            draft(Rich(id="x", **changes))
        assert refused.value.path == path
        assert "rich/x" in str(refused.value)

    @pytest.mark.parametrize(
        ("value", "path"),
        [(math.nan, "$.a"), ([Decimal("NaN")], "$.a[0]"), ({"b": "\ud800"}, "$.a.b"), (b"x", "$.a")],
    )
    def test_documents(self, value: object, path: str) -> None:
        with pytest.raises(InvalidRecordError) as refused:
            draft(Document("plans", {"id": "x", "a": value}))
        assert refused.value.path == path

    def test_a_document_that_says_that_it_is_deleted(self) -> None:
        with pytest.raises(InvalidRecordError, match="call delete") as refused:
            draft(Document("plans", {"id": "x", "deleted": True}))
        assert refused.value.path == "$.deleted"
        assert stored(written(Document("plans", {"id": "x", "deleted": False})))["deleted"] == b"false"

    @pytest.mark.parametrize("given", [None, {"id": "x"}, Plan, "x"])
    def test_what_is_no_record(self, given: Any) -> None:  # noqa: ANN401 - reason: anything but a record
        with pytest.raises(InvalidRecordError, match="neither a Record nor a Document"):
            draft(given)

    @pytest.mark.parametrize("blank", ["", "  "])
    def test_a_blank_id(self, blank: str) -> None:
        for record in (Plan("x", id=blank), Document("plans", {"id": blank})):
            with pytest.raises(InvalidIdError, match=r"^Record ID cannot be empty$"):
                draft(record)

    def test_ids_that_cannot_be(self) -> None:
        with pytest.raises(InvalidIdError):
            draft(Plan("x", id=5))  # type: ignore[arg-type]
        with pytest.raises(InvalidIdError):
            draft(Plan("x", id="a\nb"))
        with pytest.raises(LimitExceededError):
            draft(Document("plans", {"id": "x" * 257}))

    def test_a_collection_that_cannot_be(self) -> None:
        with pytest.raises(InvalidNameError):
            draft(Document("../plans", {"id": "x"}))

    def test_a_value_that_contains_itself(self) -> None:
        endless: list[object] = []
        endless.append(endless)
        with pytest.raises(LimitExceededError):
            draft(Rich(id="x", anything=endless))

    def test_a_record_whose_own_check_says_no(self) -> None:
        class Checked(Record):
            collection: ClassVar[str] = "checked"
            size: int = 0

            def __post_init__(self) -> None:
                if self.size < 0:
                    raise RuntimeError("too small")

        record = Checked(id="x")
        msgspec.structs.force_setattr(record, "size", -1)
        with pytest.raises(InvalidRecordError, match="too small") as refused:
            draft(record)
        assert refused.value.path == "$"

    def test_a_struct_with_more_fields_than_its_field_has(self) -> None:
        class Longer(Note):
            more: int = 1

        with pytest.raises(InvalidRecordError, match="Longer"):
            draft(Rich(id="x", main=Longer("x")))

    def test_an_equality_of_its_own_hides_nothing(self) -> None:
        class Same(Record):
            collection: ClassVar[str] = "same"
            inner: Any = None

            def __eq__(self, other: object) -> bool:
                return isinstance(other, Same)

            __hash__ = None  # type: ignore[assignment]

        assert stored(draft(Same(id="x", inner=1)).data)["inner"] == b"1"
        with pytest.raises(InvalidRecordError):
            draft(Same(id="x", inner=math.nan))


class TestAccepting:
    """Values that say the same to JSON and to the type are the same."""

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"anything": (1, [2])}, b"[1,[2]]"),
            ({"anything": Status.DONE}, b'"done"'),
            ({"anything": Decimal("1.10")}, b"1.10"),
            ({"anything": Decimal("0.1000000000000000055511151231257827")}, b"0.1000000000000000055511151231257827"),
            ({"anything": 10**30}, b"1" + b"0" * 30),
            ({"weight": 1}, b"1"),
            ({"notes": (Note("x"),)}, b'[{"text":"x","weight":1.0,"id":null}]'),
            (
                {"at": dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))},
                b'"2024-10-27T02:30:00+01:00"',
            ),
        ],
    )
    def test_equal_values(self, changes: dict[str, Any], expected: bytes) -> None:
        (name,) = changes
        assert stored(draft(Rich(id="x", **changes)).data)[name] == expected

    def test_read_only_annotations(self) -> None:
        class Calm(Record):
            collection: ClassVar[str] = "calm"
            tags: Sequence[str] = ()
            sizes: Mapping[str, float] = {}

        assert written(Calm(id="x", tags=("a",))).endswith(b'"tags":["a"],"sizes":{}}')

    def test_a_type_without_equality(self) -> None:
        class Only(Record, eq=False):
            collection: ClassVar[str] = "only"
            size: int = 0

        assert draft(Only(id="x", size=1)).id == "x"

    def test_plain_enums_in_their_own_fields(self) -> None:
        class Painted(Record):
            collection: ClassVar[str] = "painted"
            color: Color = Color.RED

        assert stored(draft(Painted(id="x")).data)["color"] == b"1"


class TestTheVersion:
    """A draft says which version it was made from, so that an update can tell whether that is stale."""

    @pytest.mark.parametrize(
        "record", [Plan("x", id="p1", updated_at=7), Document("plans", {"id": "p1", "updated_at": 7, "title": "x"})]
    )
    def test_stamp_and_crc(self, record: Record | Document) -> None:
        assert (draft(record).expected_at, draft(record).expected_crc) == (7, None)
        read = record.evolve()
        keep_crc(read, 3)
        made = draft(read.evolve(title="y"))
        assert (made.collection, made.id, made.expected_at, made.expected_crc) == ("plans", "p1", 7, 3)

    def test_what_is_known(self) -> None:
        known = {"id", "created_at", "updated_at", "title", "status", "slug", "size"}
        assert draft(Plan("x", id="p1")).known == frozenset(known)
        assert draft(Document("plans", {"id": "p1"})).known is None


class TestLoading:
    """A line that fits its type loads, whoever wrote it; one that does not says where."""

    @pytest.mark.parametrize(
        ("text", "created_at"),
        [
            ("null", None),
            ("4", 4),
            ('"1970-01-01T00:00:00.004999Z"', 4),
            ('"1970-01-01 00:00:01"', 1000),
            ("-1", None),
            (str(2**53), None),
            ("1.5", None),
            ("true", None),
            ('"soon"', None),
        ],
    )
    def test_stamps_of_others(self, text: str, created_at: int | None) -> None:
        raw = f'{{"id":"p1","title":"x","created_at":{text}}}'.encode()
        record = load(Plan, raw, 7 * MS + 999_999)
        assert (record.created_at, record.updated_at, crc_of(record)) == (created_at, 7, crc32(raw))
        document = load_document("plans", raw, 7 * MS)
        assert (document.created_at, document.updated_at, crc_of(document)) == (created_at, 7, crc32(raw))
        assert document["created_at"] == (json.loads(text) if created_at is None else created_at)

    @pytest.mark.parametrize("text", ["1", "1.5", '"2024-01-01T00:00:00Z"', '"soon"', "null", "[]"])
    def test_updated_at_is_what_the_fold_says(self, text: str) -> None:
        raw = f'{{"id":"p1","title":"x","updated_at":{text}}}'.encode()
        assert load(Plan, raw, 7 * MS).updated_at == 7
        assert load_document("plans", raw, 7 * MS)["updated_at"] == 7

    def test_an_integer_id_is_its_text(self) -> None:
        raw = b'{"id":123456789012345678901234567890,"title":"x"}'
        assert load(Plan, raw, 0).id == "123456789012345678901234567890"
        assert load_document("plans", raw, 0)["id"] == "123456789012345678901234567890"

    def test_hooks_see_the_stamps_that_the_record_has(self) -> None:
        seen = []

        class Watching(Record):
            collection: ClassVar[str] = "watching"

            def __post_init__(self) -> None:
                seen.append(self.updated_at)

        load(Watching, b'{"id":"x"}', 7 * MS)
        assert seen[-1] == 7

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ('{"id":"p1","title":5}', r"Expected `str`, got `int` - at \$\.title"),
            ('{"id":5,"status":"open"}', "missing required field `title`"),
            ('{"id":"p1","title":"x","size":1e400}', r"out of range - at \$\.size"),
        ],
    )
    def test_what_does_not_fit_says_where(self, line: str, reason: str) -> None:
        with pytest.raises(UnreadableRecordError, match=reason) as refused:
            load(Plan, line.encode(), 0)
        assert (refused.value.collection, refused.value.record_type) == ("plans", "Plan")
        assert refused.value.record_id in {"p1", "5"}

    def test_a_hook_that_raises_makes_the_record_unreadable(self) -> None:
        class Broken(Record):
            collection: ClassVar[str] = "broken"

            def __post_init__(self) -> None:
                raise KeyError

        with pytest.raises(UnreadableRecordError, match="KeyError"):
            load(Broken, b'{"id":"x"}', 0)

    def test_a_hook_that_raises_what_cannot_be_shown_does_too(self) -> None:
        class SilentError(Exception):
            def __str__(self) -> str:
                raise AttributeError("detail")

        class Silent(Record):
            collection: ClassVar[str] = "silent"

            def __post_init__(self) -> None:
                raise SilentError

        with pytest.raises(UnreadableRecordError, match="SilentError"):
            load(Silent, b'{"id":"x"}', 0)

    def test_a_line_that_is_none_is_unreadable(self) -> None:
        with pytest.raises(UnreadableRecordError):
            load(Plan, b"{", 0)

    def test_untyped_numbers_are_exact(self) -> None:
        raw = b'{"id":"x","anything":[0.1,1.10,0.1000000000000000055511151231257827,1e400]}'
        exact = [0.1, 1.1, Decimal("0.1000000000000000055511151231257827"), Decimal("1E+400")]
        assert load(Rich, raw, 0).anything == exact
        assert [type(number) for number in load(Rich, raw, 0).anything] == [float, float, Decimal, Decimal]
        assert load_document("rich", raw, 0)["anything"] == exact


calls: list[str] = []


def counted() -> str:
    calls.append("factory")
    return "made"


class Loud(Enum):
    A = "a"
    B = "b"

    @classmethod
    def _missing_(cls, value: object) -> Loud | None:
        calls.append("missing")
        return cls.A if value == "x" else None


class Hooked(msgspec.Struct):
    weight: float = 0.0

    def __post_init__(self) -> None:
        calls.append("post_init")


class Made(msgspec.Struct):
    weight: float = 0.0
    name: str = msgspec.field(default_factory=counted)


class Hashed(msgspec.Struct, frozen=True):
    weight: float = 0.0

    def __hash__(self) -> int:
        calls.append("hash")
        return 1


@dataclass
class Checked:
    weight: float = 0.0

    def __post_init__(self) -> None:
        calls.append("post_init")


class Row(NamedTuple):
    weight: float


class Busy(Record):
    collection: ClassVar[str] = "busy"

    hooked: Hooked | None = None
    many: list[Hooked] = []
    mapped: dict[str, Hooked] = {}
    made: Made | None = None
    hashed: frozenset[Hashed] = frozenset()
    checked: Checked | None = None
    checked_many: list[Checked] = []
    loud: Loud | list[float] | None = None
    rows: list[Row] = []

    def __post_init__(self) -> None:
        calls.append("post_init")


class TestWhereUserCodeRuns:
    """Joining a draft with the stored line runs no code of the user, whatever the types."""

    def test_it_runs_in_draft_and_load_only(self) -> None:
        current = (
            b'{"id":"x","hooked":{"weight":1.50,"more":1},"many":[{"weight":1.50,"more":1}],"made":{"weight":1.50},'
            b'"mapped":{"a":{"weight":1.50,"more":1}},"hashed":[{"weight":1.50}],"checked":{"weight":1.50,"more":1},'
            b'"checked_many":[{"weight":1.50}],"loud":"x","rows":[[1.50]]}'
        )
        record = load(Busy, current, 0)
        assert set(calls) == {"post_init", "factory", "hash", "missing"}
        drafts = [
            draft(record),
            draft(
                record.evolve(
                    hooked=Hooked(2.0), made=Made(2.0), mapped={"a": Hooked(2.0)}, many=[*record.many, Hooked()]
                )
            ),
            draft(Busy(id="x")),
        ]
        calls.clear()
        lines = [line_of(made, current, stamp_ms=9, created_ms=5) for made in drafts]
        assert calls == []
        assert stored(lines[0])["hooked"] == b'{"weight":1.50,"more":1}'
        assert stored(lines[1])["hooked"] == b'{"weight":2.0,"more":1}'
        assert stored(lines[1])["many"] == b'[{"weight":1.50,"more":1},{"weight":0.0}]'
        assert stored(lines[1])["mapped"] == b'{"a":{"weight":2.0,"more":1}}'
        assert [load(Busy, line, 9 * MS).evolve(updated_at=0) for line in lines] == [
            record,
            record.evolve(
                hooked=Hooked(2.0),
                made=drafts_made(drafts[1]),
                mapped={"a": Hooked(2.0)},
                many=[*record.many, Hooked()],
            ),
            Busy(id="x"),
        ]


def drafts_made(made: Draft) -> Made:
    """The field ``made`` that a draft of `Busy` holds."""
    return msgspec.convert(decode_exact(made.data), Busy).made or Made()
