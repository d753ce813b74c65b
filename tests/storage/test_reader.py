from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async.core.filters import contains, eq, gt, gte, in_, is_null, lt, ne
from taskstore_async.core.query import Query
from taskstore_async.core.record import Document
from taskstore_async.storage import rows
from taskstore_async.storage.reader import Reader
from taskstore_async.storage.store import Store

from .samples import ALL, QUIET, Plan, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, records=ALL, sync=QUIET) as opened:
        yield opened


@pytest.fixture
def reader(store: Store) -> Iterator[Reader]:
    opened = Reader.open(store.path / "store.db")
    yield opened
    opened.close()


class TestReader:
    """A reader needs no lock, and is never confused by what a writer does to the tables."""

    def test_it_cannot_write(self, reader: Reader) -> None:
        with pytest.raises(sqlite3.OperationalError):
            reader.db.execute("DELETE FROM log")

    def test_it_finds_a_collection_that_came_after_it(self, store: Store, reader: Reader) -> None:
        assert reader.get("things", "a") is None
        store.create(Document("things", {"id": "a"}))
        found = reader.get("things", "a")
        assert found is not None
        assert found.raw == store.line("things", "a")
        assert reader.ids("things") == ["a"]
        assert reader.get_many([("things", "a"), ("plans", "a"), ("nothing", "a")]) == [found, None, None]

    def test_it_follows_a_table_that_took_the_place_of_another(self, store: Store, reader: Reader) -> None:
        store.create(Plan(id="p", priority=3))
        assert reader.count("plans", Query((gt("priority", 2),))) == 1
        store.sync(rebuild=True)
        assert reader.count("plans", Query((gt("priority", 2),))) == 1
        store.rebuild_indexes(Plan)
        assert [one.id for one in reader.find("plans", Query())] == ["p"]
        assert reader.declaration("plans") == store.declaration(Plan)
        assert reader.declaration("nothing").columns == ()

    def test_another_error_than_a_missing_table_is_told(self, store: Store, reader: Reader) -> None:
        store.create(Plan(id="p"))

        def broken(*_: object) -> str:
            raise sqlite3.OperationalError("disk I/O error")

        def missing(*_: object) -> str:
            raise sqlite3.OperationalError("no such table: r9")

        with pytest.raises(sqlite3.OperationalError, match="disk"):
            reader.ask("plans", broken)
        with pytest.raises(sqlite3.OperationalError, match="r9"):
            reader.ask("plans", missing)

    def test_a_snapshot_answers_from_one_state(self, store: Store, reader: Reader) -> None:
        store.create(Plan(id="p"))
        with reader.snapshot():
            assert reader.count("plans", Query()) == 1
            store.create(Plan(id="q"))
            assert reader.count("plans", Query()) == 1
        assert reader.count("plans", Query()) == 2

    def test_it_can_tell_that_its_file_lost_its_name(self, store: Store, reader: Reader) -> None:
        before = reader.is_current
        (store.path / "store.db").unlink()
        assert (before, reader.is_current) == (True, False)
        store.sync()

    def test_it_opens_nothing_that_is_no_index(self, tmp_path: Path) -> None:
        (tmp_path / "other.db").write_bytes(b"text" * 1_000)
        with pytest.raises(sqlite3.DatabaseError):
            Reader.open(tmp_path / "other.db")
        with pytest.raises(sqlite3.DatabaseError):
            Reader.open(tmp_path / "absent.db")
        with closing(sqlite3.connect(tmp_path / "foreign.db")) as db:
            db.execute("CREATE TABLE t (x)")
        with pytest.raises(sqlite3.DatabaseError, match="no index of this program"):
            Reader.open(tmp_path / "foreign.db")


class TestValues:
    """Fields that have no column are read from the line, computed ones too."""

    def test_computed_fields_that_the_store_does_not_know_yet(self, store: Store) -> None:
        from taskstore_async.core.declaration import Declaration, FieldDeclaration  # noqa: PLC0415 - reason: only here

        wanted = Declaration(
            "things", {"done": FieldDeclaration(present="done_at"), "name": FieldDeclaration(first_of=("title", "id"))}
        )
        store.create(Document("things", {"id": "a", "done_at": 5, "title": [1]}))
        store.create(Document("things", {"id": "b", "done_at": None}))
        reader = store._engine.reader
        assert [one.id for one in reader.find("things", Query((eq("done", 1),)), declaration=wanted)] == ["a"]
        assert [one.id for one in reader.find("things", Query((eq("done", 0),)), declaration=wanted)] == ["b"]
        assert reader.count("things", Query((is_null("name"),)), declaration=wanted) == 0
        (found,) = reader.find("things", Query((eq("id", "b"),)))
        value_of = rows.values_of(found, wanted)
        assert value_of("name") == "b"
        assert value_of("updated_at") == found.instant // 1_000_000


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[tuple[Store, list[dict[str, Any]]]]:
    raw = unpack(shared_data, "beads_max_live")
    with Store.open(tmp_path_factory.mktemp("live"), sync=QUIET) as store:
        (store.path / "issues.jsonl").write_bytes(raw)
        store.sync()
        yield store, sorted((json.loads(line) for line in raw.splitlines()), key=lambda one: one["id"])


class TestRealData:
    """list, filter, count and get agree with a script that knows nothing of an index."""

    def test_all_of_it(self, live: tuple[Store, list[dict[str, Any]]]) -> None:
        store, truth = live
        assert len(truth) == 9_365
        assert [one.id for one in store.list("issues")] == [one["id"] for one in truth]
        for one in truth[::97]:
            found = store.get("issues", one["id"])
            assert found is not None
            assert {**found, "updated_at": 0, "created_at": 0} == {**one, "updated_at": 0, "created_at": 0}

    def test_filters(self, live: tuple[Store, list[dict[str, Any]]]) -> None:
        store, truth = live
        questions: list[tuple[Any, Any]] = [
            (eq("status", "closed"), lambda one: one.get("status") == "closed"),
            (ne("status", "closed"), lambda one: one.get("status") != "closed"),
            (gte("priority", 2), lambda one: one.get("priority", -1) >= 2),
            (lt("priority", 1), lambda one: one.get("priority", 9) < 1),
            (in_("issue_type", ["bug", "epic"]), lambda one: one.get("issue_type") in {"bug", "epic"}),
            (is_null("assignee"), lambda one: one.get("assignee") is None),
            (contains("title", "test"), lambda one: "test" in one.get("title", "").lower()),
        ]
        for asked, holds in questions:
            wanted = [one["id"] for one in truth if holds(one)]
            assert [one.id for one in store.list("issues", asked)] == wanted
            assert store.count("issues", asked) == len(wanted)
        ordered = sorted(truth, key=lambda one: one["id"])
        ordered.sort(key=lambda one: one.get("priority", -1), reverse=True)
        page = store.list("issues", order_by="-priority", limit=50, offset=100)
        assert [one.id for one in page] == [one["id"] for one in ordered[100:150]]
