"""Records, documents, and what their types declare."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, Optional, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.declaration import FieldDeclaration
from taskstore_async.core.record import (
    Document,
    Indexed,
    Record,
    RecordMeta,
    References,
    Registry,
    Unique,
    crc_of,
    declaration_of,
    first_of,
    keep_crc,
    present,
)
from taskstore_async.errors import (
    InvalidIdError,
    InvalidNameError,
    InvalidRecordTypeError,
    LimitExceededError,
)

JSON = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers(), max_size=2)
FIELDS = st.dictionaries(st.text(max_size=8), JSON, max_size=5)
_T = TypeVar("_T")


class Status(StrEnum):
    DRAFT = "draft"
    ACTIVE = "active"


class Plan(Record):
    collection: ClassVar[str] = "plans"

    title: str
    status: Annotated[Status, Indexed] = Status.DRAFT
    slug: Annotated[str | None, Unique] = None
    parent_id: Annotated[str | None, Indexed, References("plans", on_delete="cascade")] = None
    acknowledged_at: int | None = None

    indexed: ClassVar = (
        present("acknowledged", "acknowledged_at"),
        first_of("seen_at", "acknowledged_at", "created_at"),
    )


def pickled(value: Document) -> Document:
    copied: Document = pickle.loads(pickle.dumps(value))  # noqa: S301 - reason: our own bytes
    return copied


class TestRecord:
    """A record is an immutable value with an id."""

    def test_the_base_brings_id_and_stamps(self) -> None:
        plan = Plan("Ship it", id="p1")
        assert (plan.id, plan.created_at, plan.updated_at) == ("p1", None, 0)

    @pytest.mark.parametrize("name", ["id", "title", "updated_at", "unheard_of"])
    def test_it_cannot_be_changed(self, name: str) -> None:
        plan = Plan("Ship it", id="p1")
        with pytest.raises(AttributeError):
            setattr(plan, name, "x")

    def test_a_subclass_of_a_subclass_is_immutable_too(self) -> None:
        class Big(Plan, kw_only=True):
            size: int = 1

        with pytest.raises(AttributeError):
            Big(id="p1", title="x").size = 2  # type: ignore[misc]

    def test_a_mutable_record_type_is_refused(self) -> None:
        with pytest.raises(InvalidRecordTypeError, match="evolve"):

            class Loose(Record, frozen=False):  # type: ignore[misc]
                collection: ClassVar[str] = "loose"

    def test_records_are_equal_by_their_fields(self) -> None:
        one, other = Plan("x", id="p1"), Plan("x", id="p1")
        keep_crc(one, 7)
        assert one == other
        assert hash(one) == hash(other)
        assert one != Plan("y", id="p1")

    def test_evolving_changes_what_is_named(self) -> None:
        plan = Plan("Ship it", id="p1", slug="ship")
        assert plan.evolve(slug=None, status=Status.ACTIVE) == Plan("Ship it", id="p1", status=Status.ACTIVE)
        with pytest.raises(TypeError):
            plan.evolve(unheard_of=1)


class TestWhatIsKeptBeside:
    """The CRC of the line that a record was read from stays with it, beside the data."""

    @pytest.mark.parametrize("record", [Plan("x", id="p1"), Document("plans", {"id": "p1"})])
    def test_it_is_no_part_of_the_data(self, record: Plan | Document) -> None:
        assert crc_of(record) is None
        read = record.evolve()
        keep_crc(read, 0)
        assert crc_of(read) == 0
        assert read == record
        assert "crc" not in repr(read)
        if isinstance(read, Record):
            assert msgspec.json.encode(read) == msgspec.json.encode(record)

    @pytest.mark.parametrize("record", [Plan("x", id="p1"), Document("plans", {"id": "p1"})])
    def test_evolving_carries_it(self, record: Plan | Document) -> None:
        assert crc_of(record.evolve(title="y")) is None
        read = record.evolve()
        keep_crc(read, 2**32 - 1)
        assert crc_of(read.evolve(title="y").evolve(title="z")) == 2**32 - 1

    def test_taking_a_field_out_carries_it(self) -> None:
        document = Document("plans", {"id": "p1", "x": 1})
        keep_crc(document, 5)
        assert crc_of(document.without("x")) == 5

    def test_making_a_record_anew_loses_it(self) -> None:
        plan = Plan("x", id="p1")
        keep_crc(plan, 5)
        assert crc_of(msgspec.convert(msgspec.to_builtins(plan), Plan)) is None


class TestDocument:
    """A document is a read-only view of a record's fields."""

    def test_it_reads_like_a_mapping(self) -> None:
        document = Document("plans", {"id": "p1", "tags": ["a"], "note": None})
        assert document["tags"] == ["a"]
        assert document.get("note", "x") is None
        assert document.get("missing", "x") == "x"
        assert list(document) == ["id", "tags", "note"]
        assert len(document) == 3
        assert "note" in document
        assert dict(document) == document.fields
        with pytest.raises(KeyError):
            document["missing"]

    @given(FIELDS, FIELDS)
    def test_equal_means_same_collection_and_fields(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        left, right = Document("plans", {**one, "id": "p1"}), Document("plans", {**other, "id": "p1"})
        assert (left == right) == ({**one, "id": 0} == {**other, "id": 0})
        assert left != right or hash(left) == hash(right)
        assert left != Document("tasks", left.fields)
        assert left != left.fields

    def test_it_cannot_be_changed(self) -> None:
        given_fields = {"id": "p1", "x": 1}
        document = Document("plans", given_fields)
        given_fields["x"] = 2
        assert document["x"] == 1
        with pytest.raises(AttributeError, match="evolve"):
            document.id = "p2"  # type: ignore[misc]
        with pytest.raises(AttributeError, match="without"):
            del document.id  # pyright: ignore[reportAttributeAccessIssue] - reason: that is the test
        with pytest.raises(TypeError):
            document.fields["x"] = 3  # type: ignore[index]

    def test_evolving_sets_and_without_takes_out(self) -> None:
        document = Document("plans", {"id": "p1", "x": 1, "odd key": 2})
        assert document.evolve(x=None, **{"odd key": 3}).fields == {"id": "p1", "x": None, "odd key": 3}
        assert document.without("x", "never there").fields == {"id": "p1", "odd key": 2}

    @pytest.mark.parametrize("fields", [{}, {"id": None}, {"id": 5}])
    def test_an_id_that_is_no_text_is_refused(self, fields: dict[str, object]) -> None:
        with pytest.raises(InvalidIdError):
            Document("plans", fields)

    def test_it_keeps_its_id(self) -> None:
        with pytest.raises(InvalidIdError):
            Document("plans", {"id": "p1"}).without("id")

    @pytest.mark.parametrize(
        ("stamp", "created_at", "updated_at"),
        [(5, 5, 5), ("1970-01-01T00:00:01.0009Z", 1000, 1000), ("soon", None, 0), (None, None, 0), (True, None, 0)],
    )
    def test_stamps_are_whole_milliseconds(self, stamp: object, created_at: int | None, updated_at: int) -> None:
        document = Document("plans", {"id": "p1", "created_at": stamp, "updated_at": stamp})
        assert (document.created_at, document.updated_at) == (created_at, updated_at)

    def test_it_has_the_stamps_of_a_record_that_was_never_stored(self) -> None:
        assert (Document("plans", {"id": "p1"}).created_at, Document("plans", {"id": "p1"}).updated_at) == (None, 0)

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
    def test_copies_are_equal(self, duplicate: Callable[[Document], Document]) -> None:
        document = Document("plans", {"id": "p1", "tags": ["a"]})
        assert duplicate(document) == document

    def test_its_repr_makes_it_again(self) -> None:
        document = Document("plans", {"id": "p1", "x": [1]})
        assert eval(repr(document)) == document  # noqa: S307 - reason: our own text


class TestDeclaring:
    """A type's declaration says what its annotations say, under the names that lines have."""

    def test_markers_become_declarations(self) -> None:
        declaration = declaration_of(Plan)
        assert declaration.collection == "plans"
        assert not declaration.local
        assert declaration.fields == {
            "status": FieldDeclaration(indexed=True),
            "slug": FieldDeclaration(unique=True),
            "parent_id": FieldDeclaration(indexed=True, references="plans", on_delete="cascade"),
            "acknowledged": FieldDeclaration(present="acknowledged_at"),
            "seen_at": FieldDeclaration(first_of=("acknowledged_at", "created_at")),
        }
        assert declaration_of(Plan) is declaration

    def test_markers_may_stand_around_an_alternative_or_be_instances(self) -> None:
        class Odd(Record):
            collection: ClassVar[str] = "odd"
            local: ClassVar[bool] = True
            one: Annotated[str, Indexed()] | None = None
            other: Optional[Annotated[str, Unique()]] = None  # noqa: UP045 - reason: the older spelling is the test
            third: Annotated[Annotated[str, Indexed] | None, References("odd", on_delete="set_null")] = None

        assert declaration_of(Odd).local
        assert declaration_of(Odd).fields == {
            "one": FieldDeclaration(indexed=True),
            "other": FieldDeclaration(unique=True),
            "third": FieldDeclaration(indexed=True, references="odd", on_delete="set_null"),
        }

    def test_other_metadata_is_left_to_others(self) -> None:
        class Bound(Record):
            collection: ClassVar[str] = "bound"
            id: Annotated[str, msgspec.Meta(min_length=3)]
            size: Annotated[int, msgspec.Meta(ge=0), Indexed, "a note"] = 0

        assert declaration_of(Bound).columns == ("size",)

    def test_renamed_fields_are_declared_by_the_name_in_the_line(self) -> None:
        class Camel(Record, rename="camel"):
            collection: ClassVar[str] = "camel"
            started_at: Annotated[int, Indexed] = 0
            ended_at: Annotated[int, Indexed] = msgspec.field(name="END", default=0)

        assert declaration_of(Camel).columns == ("startedAt", "END")
        assert b'"created_at":' in msgspec.json.encode(Camel(id="x"))

    def test_created_at_may_be_indexed(self) -> None:
        class Old(Record):
            collection: ClassVar[str] = "old"
            created_at: Annotated[int | None, Indexed] = None

        assert declaration_of(Old).columns == ("created_at",)

    def test_a_subclass_declares_what_its_base_does(self) -> None:
        class Big(Plan):
            size: Annotated[int, Indexed] = 1

        assert set(declaration_of(Big).columns) == {*declaration_of(Plan).columns, "size"}


def record_type(namespace: dict[str, Any], annotations: dict[str, Any], **config: bool) -> type[Record]:
    """Make a record type as a class statement would."""
    made = {"__module__": __name__, "__annotations__": annotations, "collection": "things", **namespace}
    return RecordMeta("Thing", (Record,), made, **config)  # type: ignore[return-value]


class Custom:
    """Nothing that JSON has."""


class TestRefusing:
    """A type that cannot work is refused when it is first used, and told why."""

    @pytest.mark.parametrize(
        ("namespace", "annotations", "reason"),
        [
            ({"collection": None}, {}, "collection is no field"),
            ({}, {"collection": str}, "collection is no field"),
            ({"local": False}, {"local": bool}, "local is no field"),
            ({"indexed": "status"}, {}, "indexed is no field"),
            ({"indexed": ("status",)}, {}, "present"),
            ({"deleted": False}, {"deleted": bool}, "deleted is every record's own"),
            ({"gone": msgspec.field(name="deleted")}, {"gone": bool}, "deleted is every record's own"),
            ({"id": msgspec.field(name="key")}, {"id": str}, "id is every record's own"),
            ({}, {"id": int}, "id is every record's own"),
            ({}, {"id": str | None}, "id is every record's own"),
            ({"created_at": ""}, {"created_at": str}, "created_at is every record's own"),
            ({"updated_at": 0.0}, {"updated_at": float}, "updated_at is every record's own"),
            ({}, {"a": "Unresolved"}, "Unresolved"),
            ({}, {"a": list[int] | set[int]}, "array-like"),
            ({}, {"a": msgspec.Raw}, "bring back Raw"),
            ({}, {"a": dict[str, list[msgspec.msgpack.Ext]]}, "bring back Ext"),
            ({}, {"a": Custom}, "bring back Custom"),
            ({}, {"a": Annotated[str, References]}, "say References"),
            ({}, {"a": list[Annotated[str, Indexed]]}, "marker inside"),
            ({}, {"a": Annotated[list[str], Unique]}, "equal to nothing"),
            ({}, {"a": Annotated[str, References("a"), References("b")]}, "two collections"),
            ({}, {"a": Annotated[int, References("plans")]}, "str or str"),
            ({}, {"a": Annotated[list[str], References("plans")]}, "str or str"),
            ({}, {"a": Annotated[str, References("plans", on_delete="set_null")]}, "set to null"),
            ({}, {"a": Annotated[str, References("plans", on_delete="explode")]}, "explode"),  # type: ignore[arg-type]
            ({"a": object()}, {"a": int}, "unsupported"),
        ],
    )
    def test_what_cannot_mean_anything(
        self, namespace: dict[str, Any], annotations: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(InvalidRecordTypeError, match=reason):
            declaration_of(record_type(namespace, annotations))

    @pytest.mark.parametrize(
        ("config", "reason"),
        [
            ({"array_like": True}, "JSON object"),
            ({"tag": True, "tag_field": "deleted"}, "tag field deleted"),
        ],
    )
    def test_settings_that_break_lines(self, config: dict[str, Any], reason: str) -> None:
        with pytest.raises(InvalidRecordTypeError, match=reason):
            declaration_of(record_type({}, {}, **config))

    @pytest.mark.parametrize(
        ("namespace", "annotations"),
        [
            ({"collection": "No Name"}, {}),
            ({}, {"id": Annotated[str, Indexed]}),
            ({"updated_at": 0}, {"updated_at": Annotated[int, Indexed]}),
            ({"a": msgspec.field(name="a b")}, {"a": Annotated[str, Indexed]}),
            ({}, {"a": Annotated[str, References("No Name")]}),
            ({"indexed": (present("a", "b"),)}, {"a": str}),
            ({"indexed": (present("a", "b"), present("a", "b"))}, {}),
            ({"indexed": (present("created_at", "b"),)}, {}),
            ({"indexed": (present("a b", "b"),)}, {}),
            ({"indexed": (first_of("a", "b", "updated_at"),)}, {}),
        ],
    )
    def test_names_that_cannot_be(self, namespace: dict[str, Any], annotations: dict[str, Any]) -> None:
        with pytest.raises(InvalidNameError):
            declaration_of(record_type(namespace, annotations))

    def test_more_than_64_indexed_fields(self) -> None:
        def indexed(count: int) -> type[Record]:
            return record_type({}, {f"f{number}": Annotated[str, Indexed] for number in range(count)})

        assert len(declaration_of(indexed(64)).columns) == 64
        with pytest.raises(LimitExceededError):
            declaration_of(indexed(65))

    def test_a_type_may_hold_anything_that_json_has(self) -> None:
        @dataclass
        class Point:
            x: float
            y: list[Point] | None = None

        class Box(msgspec.Struct, Generic[_T]):
            held: _T

        declaration_of(
            record_type({}, {"a": object, "b": dict[str, object], "c": Any, "d": Box[int], "e": list[Box[str]]})
        )


class TestRegistry:
    """A registry finds the type of a collection."""

    def test_types_are_found_by_collection(self) -> None:
        class Task(Record):
            collection: ClassVar[str] = "tasks"

        registry = Registry([Plan, Task, Plan])
        assert dict(registry.by_collection) == {"plans": Plan, "tasks": Task}
        assert registry.declarations == (declaration_of(Plan), declaration_of(Task))

    def test_two_types_for_one_collection_are_refused(self) -> None:
        class Other(Record):
            collection: ClassVar[str] = "plans"

        with pytest.raises(InvalidRecordTypeError, match="Plan"):
            Registry([Plan, Other])

    def test_an_empty_registry_knows_nothing(self) -> None:
        assert dict(Registry().by_collection) == {}
