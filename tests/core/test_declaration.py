"""Declarations: what stands in ``_types.jsonl`` and fills the columns of the index."""

from __future__ import annotations

import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.comparable import OPAQUE, field_comparable
from taskstore_async.core.declaration import ON_DELETE, TYPES, Declaration, FieldDeclaration
from taskstore_async.errors import (
    DeclarationConflictError,
    InvalidNameError,
    InvalidRecordError,
    LimitExceededError,
)

NAMES = st.sampled_from(["status", "slug", "parent_id", "created_at", "_a1", "B"])
SOURCES = st.sampled_from(["status", "created_at", "finished_at", "x"])
REAL = st.builds(
    FieldDeclaration,
    indexed=st.just(value=True),
    unique=st.booleans(),
    references=st.none() | st.sampled_from(["plans", "tasks"]),
).flatmap(
    lambda field: (
        st.sampled_from(ON_DELETE).map(lambda on_delete: msgspec.structs.replace(field, on_delete=on_delete))
        if field.references
        else st.just(field)
    )
)
COMPUTED = st.builds(FieldDeclaration, present=SOURCES) | st.builds(
    FieldDeclaration, first_of=st.lists(SOURCES, min_size=1, max_size=3).map(tuple)
)
FIELDS = st.dictionaries(NAMES, REAL, max_size=4).flatmap(
    lambda real: st.dictionaries(st.sampled_from(["c1", "c2", "c3"]), COMPUTED, max_size=3).map(
        lambda made: {**real, **made}
    )
)
DECLARATIONS = st.builds(Declaration, st.just("plans"), FIELDS, st.booleans())
VALUES: st.SearchStrategy[object] = st.sampled_from(
    [None, msgspec.UNSET, True, 0, 7, 2**70, 1.5, "", "2024-01-01T00:00:00Z", [1], {}]
)


class TestTheLine:
    """A declaration is a line in ``_types.jsonl``, and the line is the declaration."""

    def test_it_has_the_form_that_the_design_shows(self) -> None:
        declaration = Declaration(
            "plans",
            {
                "status": FieldDeclaration(indexed=True),
                "parent_id": FieldDeclaration(indexed=True, references="plans", on_delete="cascade"),
                "slug": FieldDeclaration(unique=True),
                "acknowledged": FieldDeclaration(present="acknowledged_at"),
                "ended_at": FieldDeclaration(first_of=("finished_at", "created_at")),
            },
        )
        assert msgspec.json.encode(declaration.to_fields()) == (
            b'{"fields":{"status":{"indexed":true},'
            b'"parent_id":{"indexed":true,"references":"plans","on_delete":"cascade"},'
            b'"slug":{"unique":true},'
            b'"acknowledged":{"present":"acknowledged_at"},'
            b'"ended_at":{"first_of":["finished_at","created_at"]}},"local":false}'
        )

    @given(DECLARATIONS)
    def test_it_reads_back_as_itself(self, declaration: Declaration) -> None:
        line = msgspec.json.encode({"id": "plans", "updated_at": 1, **declaration.to_fields()})
        read = Declaration.from_object("plans", msgspec.json.decode(line))
        assert read == declaration
        assert read.columns == declaration.columns

    @given(st.permutations(["indexed", "references", "on_delete", "later"]))
    def test_what_a_later_version_says_is_passed_over(self, order: list[str]) -> None:
        said = {"indexed": True, "references": "plans", "on_delete": "restrict", "later": {"x": 1}}
        obj = {"fields": {"a": {key: said[key] for key in order}, "b": {"later": 1}, "c": {}}, "newer": 2}
        assert Declaration.from_object("plans", obj) == Declaration(
            "plans", {"a": FieldDeclaration(indexed=True, references="plans")}
        )

    def test_nothing_said_is_an_empty_declaration(self) -> None:
        assert Declaration.from_object("plans", {}) == Declaration("plans", {}, local=False)
        assert Declaration.from_object(TYPES, {}).columns == ()

    def test_a_marker_switched_off_is_none(self) -> None:
        obj = {"fields": {"a": {"indexed": False, "unique": False}, "b": {"on_delete": "cascade"}}}
        assert Declaration.from_object("plans", obj).fields == {}

    def test_a_reference_without_on_delete_restricts(self) -> None:
        (field,) = Declaration.from_object("plans", {"fields": {"a": {"references": "tasks"}}}).fields.values()
        assert field == FieldDeclaration(references="tasks", on_delete="restrict")

    @pytest.mark.parametrize(
        ("obj", "path"),
        [
            ({"fields": []}, "$.fields"),
            ({"local": 1}, "$.local"),
            ({"fields": {"a": True}}, "$.fields.a"),
            ({"fields": {"a": {"indexed": 1}}}, "$.fields.a.indexed"),
            ({"fields": {"a": {"unique": "yes"}}}, "$.fields.a.unique"),
            ({"fields": {"a": {"references": None}}}, "$.fields.a.references"),
            ({"fields": {"a": {"references": "b", "on_delete": "explode"}}}, "$.fields.a.on_delete"),
            ({"fields": {"a": {"present": ["x"]}}}, "$.fields.a.present"),
            ({"fields": {"a": {"first_of": "x"}}}, "$.fields.a.first_of"),
            ({"fields": {"a": {"first_of": []}}}, "$.fields.a.first_of"),
            ({"fields": {"a": {"first_of": ["x", 1]}}}, "$.fields.a.first_of[1]"),
        ],
    )
    def test_a_wrong_type_is_refused_with_its_path(self, obj: dict[str, object], path: str) -> None:
        with pytest.raises(InvalidRecordError) as refused:
            Declaration.from_object("plans", obj)
        assert refused.value.path == path

    @pytest.mark.parametrize(
        ("collection", "fields"),
        [
            ("Plans", {}),
            ("../plans", {}),
            ("plans", {"a b": {"indexed": True}}),
            ("plans", {"id": {"indexed": True}}),
            ("plans", {"updated_at": {"indexed": True}}),
            ("plans", {"deleted": {"indexed": True}}),
            ("plans", {"a": {"references": "No"}}),
            ("plans", {"a": {"present": "x y"}}),
            ("plans", {"a": {"present": "updated_at"}}),
            ("plans", {"a": {"first_of": ["x", "id"]}}),
            ("plans", {"created_at": {"present": "x"}}),
        ],
    )
    def test_a_name_that_cannot_be_is_refused(self, collection: str, fields: dict[str, object]) -> None:
        with pytest.raises(InvalidNameError):
            Declaration.from_object(collection, {"fields": fields})

    def test_a_line_with_more_fields_than_a_type_may_have_is_still_read(self) -> None:
        obj = {"fields": {f"f{number}": {"indexed": True} for number in range(80)}}  # a merge can bring that
        assert len(Declaration.from_object("plans", obj).columns) == 80


def naive_column(name: str, field: FieldDeclaration, line: dict[str, object]) -> object:
    """What a column holds, said as in the design."""
    if field.present is not None:
        return int(line.get(field.present) is not None)
    for source in field.first_of or (name,):
        if line.get(source) is not None:
            return field_comparable(source, line[source])
    return None


class TestColumns:
    """Every declared field has a column, and what a column holds depends on the line alone."""

    @given(DECLARATIONS, st.data())
    def test_the_values_are_what_the_fields_say(self, declaration: Declaration, data: st.DataObject) -> None:
        values = data.draw(st.tuples(*(VALUES for _ in declaration.sources)))
        line = {
            name: value for name, value in zip(declaration.sources, values, strict=True) if value is not msgspec.UNSET
        }
        expected = tuple(naive_column(name, declaration.fields[name], line) for name in declaration.columns)
        found = declaration.column_values(values)
        assert found == expected
        assert [type(value) for value in found] == [type(value) for value in expected]

    @given(DECLARATIONS)
    def test_sources_are_read_once(self, declaration: Declaration) -> None:
        assert len(set(declaration.sources)) == len(declaration.sources)
        assert declaration.columns == tuple(declaration.fields)

    def test_created_at_of_another_tool_compares_with_ours(self) -> None:
        declaration = Declaration("plans", {"created_at": FieldDeclaration(indexed=True)})
        assert declaration.column_values(["1970-01-01T00:00:01Z"]) == (1000,)

    def test_a_list_is_opaque(self) -> None:
        assert Declaration("plans", {"tags": FieldDeclaration(indexed=True)}).column_values([["a"]]) == (OPAQUE,)

    def test_the_rules_are_listed(self) -> None:
        reference = FieldDeclaration(references="tasks")
        declaration = Declaration("plans", {"a": reference, "b": FieldDeclaration(unique=True)})
        assert declaration.unique_fields == ("b",)
        assert declaration.references == {"a": reference}


class TestAdopting:
    """Opening a store adds to its declarations, and never removes."""

    @given(DECLARATIONS, DECLARATIONS)
    def test_nothing_is_lost_and_nothing_wanted_is_left_out(self, stored: Declaration, wanted: Declaration) -> None:
        try:
            both = stored.adopt(wanted)
        except DeclarationConflictError:
            return
        assert list(both.fields)[: len(stored.fields)] == list(stored.fields)
        assert set(both.fields) == set(stored.fields) | set(wanted.fields)
        assert both.local == (stored.local or wanted.local)
        for side in (stored, wanted):
            for name, field in side.fields.items():
                assert both.fields[name].to_object().items() >= field.to_object().items()
        assert both.adopt(wanted) is both
        assert both.adopt(stored) is both

    @given(DECLARATIONS, DECLARATIONS)
    def test_both_sides_meet_in_the_same_or_both_refuse(self, one: Declaration, other: Declaration) -> None:
        def adopt(stored: Declaration, wanted: Declaration) -> object:
            try:
                return stored.adopt(wanted)
            except DeclarationConflictError as error:
                return error.field in stored.fields and error.field in wanted.fields

        assert adopt(one, other) == adopt(other, one)

    @given(DECLARATIONS)
    def test_a_collection_that_nobody_declared_takes_everything(self, wanted: Declaration) -> None:
        assert Declaration("plans", {}, local=False).adopt(wanted) == wanted

    @pytest.mark.parametrize(
        ("stored", "wanted"),
        [
            ({"references": "plans"}, {"references": "tasks"}),
            ({"references": "plans"}, {"references": "plans", "on_delete": "cascade"}),
            ({"indexed": True}, {"present": "x"}),
            ({"present": "x"}, {"unique": True}),
            ({"present": "x"}, {"present": "y"}),
            ({"first_of": ("x", "y")}, {"first_of": ("y", "x")}),
        ],
    )
    def test_a_different_definition_is_refused_and_shown(self, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
        here = Declaration("plans", {"a": FieldDeclaration(**stored)})
        with pytest.raises(DeclarationConflictError, match="rebuild_indexes") as refused:
            here.adopt(Declaration("plans", {"a": FieldDeclaration(**wanted)}))
        assert refused.value.field == "a"
        assert refused.value.stored == str(here.fields["a"])

    @pytest.mark.parametrize("further", [{"unique": True}, {"references": "plans", "on_delete": "cascade"}])
    def test_a_further_marker_is_an_addition(self, further: dict[str, Any]) -> None:
        here = Declaration("plans", {"a": FieldDeclaration(indexed=True)})
        both = here.adopt(Declaration("plans", {"a": FieldDeclaration(**further)}))
        assert both.fields["a"] == FieldDeclaration(indexed=True, **further)
        assert both.adopt(here) is both

    def test_fields_are_limited_to_64(self) -> None:
        letters = [a + b for a in string.ascii_lowercase for b in "abc"]
        full = Declaration("plans", {name: FieldDeclaration(indexed=True) for name in letters[:64]})
        assert len(Declaration("plans").adopt(full).columns) == 64
        with pytest.raises(LimitExceededError) as refused:
            full.adopt(Declaration("plans", {"more": FieldDeclaration(indexed=True)}))
        assert (refused.value.value, refused.value.limit) == (65, 64)

    def test_a_declaration_that_a_merge_made_too_large_still_opens(self) -> None:
        large = Declaration("plans", {f"f{number}": FieldDeclaration(indexed=True) for number in range(80)})
        assert large.adopt(Declaration("plans", {"f1": FieldDeclaration(unique=True)})).fields["f1"].unique
