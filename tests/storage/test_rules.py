from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, ClassVar

import pytest

from taskstore_async.core.declaration import Declaration, FieldDeclaration
from taskstore_async.core.filters import eq
from taskstore_async.core.record import Document, Record, References
from taskstore_async.core.schedule import Durability
from taskstore_async.errors import (
    CollectionClosedError,
    DeclarationConflictError,
    MissingReferenceError,
    ReferencedError,
    UniqueError,
)
from taskstore_async.storage.ops import Applied, Declare, Refused
from taskstore_async.storage.store import Store

from .samples import ALL, QUIET, Note, Plan, Step, lines_of, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, records=ALL, sync=QUIET) as opened:
        yield opened
        assert opened.sync(rebuild=True).rebuilt
        assert [one for one in opened.check().problems if one.kind == "difference"] == []


def bring(store: Store, name: str, *records: Mapping[str, object]) -> None:
    """As a merge does: nobody asks for the rules."""
    store.flush()
    with (store.path / f"{name}.jsonl").open("ab") as file:
        for record in records:
            file.write(json.dumps(record).encode() + b"\n")
    store.sync()


class TestUnique:
    """No two live records of our own writing have the same value of a unique field."""

    def test_a_value_that_is_taken_is_refused(self, store: Store) -> None:
        store.create_many([Plan(id="a", slug="s"), Plan(id="b", slug="t"), Plan(id="c"), Plan(id="d")])
        read = store.get(Plan, "b")
        assert read is not None
        with unchanged(store):
            with pytest.raises(UniqueError, match="plans/a"):
                store.create(Plan(id="e", slug="s"))
            with pytest.raises(UniqueError):
                store.put(Document("plans", {"id": "c", "slug": "s"}))
            with pytest.raises(UniqueError):
                store.update(read.evolve(slug="s"))
            with pytest.raises(UniqueError):
                store.create_many([Plan(id="x", slug="n"), Plan(id="y", slug="n")])

    def test_a_value_is_free_again_once_its_record_is_gone_or_has_another(self, store: Store) -> None:
        store.create_many([Plan(id="a", slug="s"), Plan(id="b", slug="t")])
        store.delete(Plan, "a")
        store.modify(Plan, "b", lambda one: one.evolve(slug="u"))
        store.create_many([Plan(id="c", slug="s"), Plan(id="d", slug="t")])

    def test_a_batch_may_swap_two_values(self, store: Store) -> None:
        store.create_many([Plan(id="a", slug="s"), Plan(id="b", slug="t")])
        with store.batch() as batch:
            batch.put(Plan(id="a", slug="t"))
            batch.put(Plan(id="b", slug="s"))
        assert [plan.slug for plan in store.list(Plan)] == ["t", "s"]

    def test_what_is_equal_to_nothing_never_collides(self, store: Store) -> None:
        store.create_many([Document("plans", {"id": str(n), "slug": [1]}) for n in range(2)])

    def test_numbers_collide_as_filters_compare_them(self, store: Store) -> None:
        store.create(Document("plans", {"id": "a", "slug": 1}))
        with pytest.raises(UniqueError):
            store.create(Document("plans", {"id": "b", "slug": 1.0}))
        store.create(Document("plans", {"id": "c", "slug": "1"}))

    def test_what_a_merge_brought_stays_and_is_not_checked_until_it_is_changed(self, store: Store) -> None:
        bring(store, "plans", *({"id": n, "updated_at": 1, "slug": "s"} for n in "ab"))
        plan = store.get(Plan, "b")
        assert plan is not None
        plan = store.update(plan.evolve(title="changed"))
        plan = store.update(plan.evolve(slug="other"))
        with pytest.raises(UniqueError):
            store.update(plan.evolve(slug="s"))


class TestReferences:
    """A reference that is set names a live record, or one of the same batch."""

    def test_a_reference_to_nothing_is_refused(self, store: Store) -> None:
        store.create(Plan(id="dead"))
        store.delete(Plan, "dead")
        with unchanged(store):
            for target in ("absent", "dead"):
                with pytest.raises(MissingReferenceError):
                    store.create(Step(id="s", plan_id=target))
            with pytest.raises(MissingReferenceError, match="no id"):
                store.create(Document("steps", {"id": "s", "plan_id": ["p"]}))

    def test_a_collection_that_is_not_there_has_no_records_to_name(self, tmp_path: Path) -> None:
        class Lonely(Record):
            collection: ClassVar[str] = "lonely"
            target: Annotated[str, References("nowhere")]

        with Store.open(tmp_path, records=[Lonely]) as store, pytest.raises(MissingReferenceError):
            store.create(Lonely(id="x", target="y"))

    def test_a_batch_may_name_what_it_creates_later_and_itself(self, store: Store) -> None:
        with store.batch() as batch:
            batch.create(Step(id="s", plan_id="p"))
            batch.create(Plan(id="p", parent_id="q"))
            batch.create(Plan(id="q", parent_id="p"))
        assert store.create(Plan(id="self", parent_id="self")).parent_id == "self"
        assert store.create_many([Plan(id="1", parent_id="2"), Plan(id="2")]) == 2

    def test_a_batch_that_deletes_what_it_names_is_refused(self, store: Store) -> None:
        store.create(Plan(id="p"))
        with unchanged(store), pytest.raises(ReferencedError), store.batch() as batch:  # noqa: PT012 - reason: the block is the batch
            batch.delete(Plan, "p")
            batch.create(Step(id="s", plan_id="p"))
        with unchanged(store), pytest.raises(MissingReferenceError), store.batch() as batch:  # noqa: PT012 - reason: the block is the batch
            batch.delete(Plan, "p")
            batch.create(Note(id="n", plan_id="p"))

    def test_a_batch_may_name_nothing_as_long_as_it_does_not_stay_so(self, store: Store) -> None:
        store.create(Plan(id="p"))
        with store.batch() as batch:
            batch.put(Plan(id="q", parent_id="absent"))
            batch.put(Plan(id="q"))
            batch.put(Note(id="n", plan_id="absent"))
            batch.delete(Note, "n")

    def test_a_number_names_the_id_that_it_spells(self, store: Store) -> None:
        store.create(Plan(id="7"))
        store.create(Document("steps", {"id": "s", "plan_id": 7}))
        with pytest.raises(MissingReferenceError):
            store.create(Document("steps", {"id": "t", "plan_id": 8}))
        with unchanged(store), pytest.raises(ReferencedError):
            store.delete(Plan, "7")

    @pytest.mark.parametrize("record_id", ["07", "9223372036854775808", "1" * 40, "\u0667"])
    def test_an_id_that_only_looks_like_a_number_is_named_by_none(self, store: Store, record_id: str) -> None:
        store.create(Plan(id=record_id))
        bring(
            store,
            "steps",
            {"id": "s", "updated_at": 1, "plan_id": 2**63 - 1},
            {"id": "t", "updated_at": 1, "plan_id": 7},
        )
        store.delete(Plan, record_id)
        assert store.count(Step) == 2

    def test_a_reference_that_a_merge_left_dangling_does_not_stop_other_changes(self, store: Store) -> None:
        bring(store, "steps", {"id": "s", "updated_at": 1, "plan_id": "gone"})
        assert store.modify("steps", "s", lambda one: one.evolve(title="x"))["title"] == "x"


class TestDeleting:
    """What names a deleted record keeps it, goes with it or lets go of it, as declared; all in one transaction."""

    def test_restrict_refuses(self, store: Store) -> None:
        store.create(Plan(id="p"))
        store.create(Step(id="s", plan_id="p"))
        with unchanged(store):
            with pytest.raises(ReferencedError, match="steps/s"):
                store.delete(Plan, "p")
            with pytest.raises(ReferencedError):
                store.delete_where(Plan)
        store.delete(Step, "s")
        store.delete(Plan, "p")

    def test_a_batch_may_delete_both_in_any_order(self, store: Store) -> None:
        store.create(Plan(id="p"))
        store.create(Step(id="s", plan_id="p"))
        with store.batch() as batch:
            batch.delete(Plan, "p")
            batch.delete(Step, "s")
        assert store.count(Plan) == store.count(Step) == 0

    def test_cascade_writes_a_tombstone_for_each_and_set_null_a_version(self, store: Store) -> None:
        store.create(Plan(id="a"))
        store.create_many([Plan(id="b", parent_id="a"), Plan(id="c", parent_id="b"), Plan(id="d")])
        store.create(Note(id="n", plan_id="c"))
        store.put(Document("notes", {"id": "m", "plan_id": "c", "extra": 1}))
        store.delete(Plan, "a", durability=Durability.JOURNAL)
        dead = [json.loads(line)["id"] for line in lines_of(store, "plans") if b'"deleted":true' in line]
        assert dead == ["a", "b", "c"]
        assert [one.id for one in store.list(Plan)] == ["d"]
        assert {one.plan_id for one in store.list(Note)} == {None}
        assert b'"extra":1' in (store.line("notes", "m") or b"")

    def test_a_cascade_that_meets_a_restriction_leaves_everything(self, store: Store) -> None:
        store.create(Plan(id="a"))
        store.create(Plan(id="b", parent_id="a"))
        store.create(Step(id="s", plan_id="b"))
        store.create(Note(id="n", plan_id="a"))
        with unchanged(store), pytest.raises(ReferencedError, match="plans/b"):
            store.delete(Plan, "a")

    def test_circles_and_references_to_oneself_end(self, store: Store) -> None:
        with store.batch() as batch:
            batch.create(Plan(id="a", parent_id="b"))
            batch.create(Plan(id="b", parent_id="a"))
            batch.create(Plan(id="c", parent_id="c"))
        store.delete(Plan, "a")
        store.delete(Plan, "c")
        assert store.count(Plan) == 0

    def test_a_record_that_restricts_itself_can_go(self, tmp_path: Path) -> None:
        class Node(Record):
            collection: ClassVar[str] = "nodes"
            next_id: Annotated[str | None, References("nodes")] = None

        with Store.open(tmp_path, records=[Node]) as store:
            store.create(Node(id="x", next_id="x"))
            store.delete(Node, "x")
            assert store.count(Node) == 0

    def test_a_chain_of_thousands_is_no_matter_of_recursion(self, store: Store) -> None:
        store.create_many([Plan(id=f"{n:05}", parent_id=f"{n - 1:05}" if n else None) for n in range(3_000)])
        store.delete(Plan, "00000")
        assert store.count(Plan) == 0

    def test_delete_where_counts_what_it_found_also_when_a_cascade_was_faster(self, store: Store) -> None:
        store.create(Plan(id="a", title="x"))
        store.create_many([Plan(id="b", parent_id="a", title="x"), Plan(id="c", parent_id="b")])
        assert store.delete_where(Plan, eq("title", "x")) == 2
        assert store.count(Plan) == 0

    def test_a_cascade_into_a_closed_collection_is_refused(self, store: Store) -> None:
        store.create(Plan(id="p"))
        store.create(Note(id="n", plan_id="p"))
        store.flush()
        journal = store.path / "notes.jsonl"
        good = journal.read_bytes()
        journal.write_bytes(b"garbage\n")
        store.sync()
        with unchanged(store), pytest.raises(CollectionClosedError):
            store.delete(Plan, "p")
        journal.write_bytes(good)
        store.sync()


class TestDeclare:
    """Declarations add up in their journal, and keep what a later version put there."""

    def test_what_this_version_does_not_know_stays(self, store: Store) -> None:
        line = {"id": "plans", "updated_at": 2**52, "local": False, "later": [1.50], "fields": {"x": {"later": True}}}
        line["fields"] = {"x": {"later": True}, "status": {"indexed": True}}
        bring(store, "_types", line)
        store._engine.commit(
            [Declare(Declaration("plans", {"y": FieldDeclaration(indexed=True)}))], durability=Durability.JOURNAL
        )
        kept = json.loads(lines_of(store, "_types")[-1])
        assert kept["later"] == [1.5]
        assert kept["fields"] == {"x": {"later": True}, "status": {"indexed": True}, "y": {"indexed": True}}

    def test_a_line_that_declares_nothing_is_replaced(self, store: Store) -> None:
        bring(store, "_types", {"id": "odd", "updated_at": 5, "fields": 7})
        wanted = Declaration("odd", {"y": FieldDeclaration(indexed=True)})
        assert store._engine.commit([Declare(wanted)], durability=Durability.INDEX) == [Applied(None)]
        assert store.declaration("odd") == wanted

    def test_a_contradiction_is_refused_and_saying_it_again_writes_nothing(self, store: Store) -> None:
        field = FieldDeclaration(references="notes")
        with unchanged(store):
            (answer,) = store._engine.commit(
                [Declare(Declaration("steps", {"plan_id": field}))], durability=Durability.INDEX
            )
            store._engine.commit([Declare(store.declaration("plans"))], durability=Durability.INDEX)
        assert isinstance(answer, Refused)
        assert isinstance(answer.error, DeclarationConflictError)

    def test_a_local_collection_is_kept_out_of_git(self, tmp_path: Path) -> None:
        class Run(Record):
            collection: ClassVar[str] = "runs"
            local: ClassVar[bool] = True

        with Store.open(tmp_path, records=[Run]) as store:
            store.create(Run(id="r"))
            assert "runs.jsonl" in (store.path / ".gitignore").read_text().splitlines()

    def test_neighbours_of_a_refused_op_commit(self, store: Store) -> None:
        from taskstore_async.core.write import draft  # noqa: PLC0415 - reason: only here
        from taskstore_async.storage.ops import Create  # noqa: PLC0415 - reason: only here

        ops = [
            Create(draft(Plan(id=one, slug=slug))) for one, slug in (("a", "s"), ("b", "s"), ("a", None), ("c", "t"))
        ]
        answers = store._engine.commit(ops, durability=Durability.JOURNAL)
        assert [type(answer) for answer in answers] == [Applied, Refused, Refused, Applied]
        assert [json.loads(line)["id"] for line in lines_of(store, "plans")] == ["a", "c"]
