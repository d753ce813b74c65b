"""What is known of a record beside its fields, and how a query is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import pytest

from taskstore_async.core.filters import contains, eq, gt
from taskstore_async.core.record import Document, Indexed, Record, References
from taskstore_async.core.schedule import SyncConfig
from taskstore_async.errors import NotFoundError
from taskstore_async.storage.description import Reference
from taskstore_async.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Plan(Record):
    collection: ClassVar[str] = "plans"
    title: str = ""


class Step(Record):
    collection: ClassVar[str] = "steps"
    plan_id: Annotated[str | None, Indexed, References("plans", on_delete="set_null")] = None
    status: Annotated[str, Indexed] = "open"
    priority: Annotated[int, Indexed] = 0
    note: str = ""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, records=[Plan, Step]) as opened:
        opened.create(Plan(id="7", title="A"))
        opened.create(Step(id="s", plan_id="7", status="open"))
        yield opened


class TestDescribe:
    """Versions, size, claim, and references in both directions."""

    def test_who_names_whom(self, store: Store) -> None:
        assert store.describe(Step, "s").names == (Reference("plan_id", "plans", "7"),)
        assert store.describe(Plan, "7").named_by == (Reference("plan_id", "steps", "s"),)
        assert store.describe(Plan, "7").names == store.describe(Step, "s").named_by == ()

    def test_an_integer_that_spells_the_id_names_it_too(self, store: Store) -> None:
        with (store.path / "steps.jsonl").open("ab") as file:
            file.write(b'{"id":"t","plan_id":7,"updated_at":5}\n{"id":"u","plan_id":"gone","updated_at":5}\n')
        store.sync()
        assert [one.id for one in store.describe(Plan, "7").named_by] == ["s", "t"]
        assert store.describe("steps", "t").names == (Reference("plan_id", "plans", "7"),)
        assert store.describe("steps", "u").names == (Reference("plan_id", "plans", "gone", exists=False),)

    def test_an_id_of_more_digits_than_an_integer_may_have_is_text(self, store: Store) -> None:
        (store.path / "plans.jsonl").write_text(f'{{"id":"{"7" * 5_000}"}}\n')
        store.sync()
        assert store.describe("plans", "7" * 5_000).named_by == ()

    def test_its_line_and_its_versions(self, store: Store) -> None:
        store.flush()
        store.modify(Step, "s", lambda step: step.evolve(note="x"))
        store.flush()
        found = store.describe(Step, "s")
        assert (found.versions, found.line) == (2, 2)
        raw = store.line(Step, "s")
        assert raw is not None
        assert found.bytes == len(raw)
        record = store.get(Step, "s")
        assert record is not None
        assert (found.created_at, found.updated_at) == (record.created_at, record.updated_at)
        assert found.fields == 7

    def test_one_that_waits_has_no_line_yet(self, tmp_path: Path) -> None:
        with Store.open(tmp_path / "other", sync=SyncConfig(auto_export=False)) as store:
            store.create(Document("notes", {"id": "n"}))
            found = store.describe("notes", "n")
            assert (found.line, found.versions) == (None, 1)

    def test_a_claim_while_it_lasts(self, store: Store) -> None:
        lease = store.claim(Step, owner="agent-3")
        assert lease is not None
        held = store.describe(Step, "s").lease
        assert held is not None
        assert (held.owner, held.token, held.until_ms) == ("agent-3", lease.token, lease.until_ms)
        store.release(Step, "s", token=lease.token)
        assert store.describe(Step, "s").lease is None

    def test_a_creation_time_that_cannot_be_read_is_none(self, store: Store) -> None:
        with (store.path / "plans.jsonl").open("ab") as file:
            file.write(b'{"id":"t","created_at":"yesterday","updated_at":5}\n')
        store.sync()
        assert store.describe(Plan, "t").created_at is None

    def test_there_is_no_such_record(self, store: Store) -> None:
        with pytest.raises(NotFoundError):
            store.describe(Plan, "s")


class TestExplain:
    """Which index answers, what is checked one by one, and what puts the records in order."""

    def test_a_declared_field_has_an_index(self, store: Store) -> None:
        found = store.explain(Step, eq("status", "open"), gt("updated_at", 5))
        assert (found.index, found.records, found.checked) == ("status", 1, ())
        assert found.plan[0] == "SEARCH steps USING INDEX of status (status=? AND updated_at>?)"

    def test_id_has_one_too(self, store: Store) -> None:
        assert store.explain(Step, eq("id", "s")).index == "id"

    def test_any_other_field_is_checked_one_by_one(self, store: Store) -> None:
        store.create(Step(id="t", status="closed"))
        found = store.explain(Step, eq("status", "open"), contains("note", "x"))
        assert (found.index, found.records, found.checked) == ("status", 1, ("contains('note', 'x')",))
        found = store.explain(Step, eq("note", "x"))
        assert (found.index, found.records, found.checked) == (None, 2, ("eq('note', 'x')",))

    @pytest.mark.parametrize(("order_by", "how"), [("-priority", "sort"), ("note", "python"), (None, "index")])
    def test_order(self, order_by: str | None, how: str, store: Store) -> None:
        assert store.explain(Step, order_by=order_by).sorted_by == how

    def test_a_collection_that_is_not_there(self, store: Store) -> None:
        assert store.explain("nowhere", eq("x", 1)).records == 0
