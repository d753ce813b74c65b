"""A store against a plain dictionary: whatever is asked of it in whatever order, both answer the same."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from taskstore_async.core.filters import eq
from taskstore_async.core.record import Document, Indexed, Record, References, Unique
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.errors import (
    AlreadyExistsError,
    MissingReferenceError,
    NotFoundError,
    ReferencedError,
    StaleWriteError,
    UniqueError,
)
from taskstore_async.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSALS = (AlreadyExistsError, MissingReferenceError, NotFoundError, ReferencedError, StaleWriteError, UniqueError)
REFERENCES = {"parent_id": "cascade", "lock_id": "restrict", "hint_id": "set_null"}
FIELDS = ("title", "slug", *REFERENCES)


class Item(Record):
    collection: ClassVar[str] = "items"
    title: Annotated[str, Indexed] = ""
    slug: Annotated[str | None, Unique] = None
    parent_id: Annotated[str | None, References("items", on_delete="cascade")] = None
    lock_id: Annotated[str | None, References("items", on_delete="restrict")] = None
    hint_id: Annotated[str | None, References("items", on_delete="set_null")] = None


class RefusedByModelError(Exception):
    pass


class Model:
    """Records by id; each op the slow and obvious way."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}

    def run(self, ops: list[tuple[str, Any]]) -> None:
        """Make all of the changes, or none."""
        before = {record_id: dict(fields) for record_id, fields in self.records.items()}
        self.checks: list[Callable[[], bool]] = []
        try:
            for kind, value in ops:
                if kind == "delete_if_there" and value not in self.records:
                    continue  # a cascade was faster
                if kind.startswith("delete"):
                    self.delete(value)
                else:
                    self.write(kind, value)
            self.settle()
        except RefusedByModelError:
            self.records = before
            raise

    def settle(self) -> None:
        if not all(check() for check in self.checks):
            raise RefusedByModelError

    def write(self, kind: str, item: dict[str, Any]) -> None:
        record_id = item["id"]
        current = self.records.get(record_id)
        if kind == "create" and current is not None:
            raise RefusedByModelError
        for field in FIELDS[1:]:
            value = item[field]
            if value is not None and (current is None or current[field] != value):
                self.checks.append(partial(self.holds, record_id, field, value))
        self.records[record_id] = dict(item)

    def holds(self, record_id: str, field: str, value: str) -> bool:
        if self.records.get(record_id, {}).get(field) != value:
            return True
        if field == "slug":
            return [item["slug"] for item in self.records.values()].count(value) == 1
        return value in self.records

    def delete(self, record_id: str) -> None:
        if record_id not in self.records:
            raise RefusedByModelError
        del self.records[record_id]
        self.checks.append(
            lambda: record_id in self.records or all(item["lock_id"] != record_id for item in self.records.values())
        )
        for item in list(self.records.values()):
            if item["hint_id"] == record_id:
                self.records[item["id"]] = {**self.records[item["id"]], "hint_id": None}
        for item in list(self.records.values()):
            if item["parent_id"] == record_id and item["id"] in self.records:
                self.delete(item["id"])


IDS = st.sampled_from(["a", "b", "c", "7", "e"])
SLUGS = st.sampled_from([None, None, "s", "t"])
LINKS = st.one_of(st.none(), st.none(), IDS)
ITEMS = st.fixed_dictionaries(
    {"id": IDS, "title": st.sampled_from("xyz"), "slug": SLUGS, "parent_id": LINKS, "lock_id": LINKS, "hint_id": LINKS}
)
OPS = st.one_of(st.tuples(st.sampled_from(["create", "put", "put"]), ITEMS), st.tuples(st.just("delete"), IDS))
LEVELS = st.sampled_from([None, None, *Durability])


class StoreMachine(RuleBasedStateMachine):
    @initialize(coalesce=st.booleans(), level=st.sampled_from(Durability))
    def begin(self, *, coalesce: bool, level: Durability) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="taskstore-model-"))
        self.config = SyncConfig(auto_export=False, coalesce=coalesce)
        self.level = level
        self.model = Model()
        self.stale: Item | None = None
        self.open()

    def open(self) -> None:
        self.store = Store.open(self.folder, records=[Item], sync=self.config, durability=self.level)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.flush()
            report = self.store.sync(rebuild=True)
            assert report.rebuilt
            self.agree()
            assert [one for one in self.store.check().problems if one.kind not in {"duplicate", "dangling"}] == []
            self.store.close()
            shutil.rmtree(self.folder)

    def both(self, ops: list[tuple[str, Any]], ask: Callable[[], object]) -> None:
        """Ask the store and the model for the same; they must agree about refusing."""
        try:
            self.model.run(ops)
        except RefusedByModelError:
            refused = True
        else:
            refused = False
        try:
            ask()
        except REFUSALS:
            assert refused
        else:
            assert not refused

    @rule(item=ITEMS, level=LEVELS)
    def create(self, item: dict[str, Any], level: Durability | None) -> None:
        self.both([("create", item)], lambda: self.store.create(Item(**item), durability=level))

    @rule(item=ITEMS, typed=st.booleans(), level=LEVELS)
    def put(self, item: dict[str, Any], level: Durability | None, *, typed: bool) -> None:
        record = Item(**item) if typed else Document("items", item)
        self.both([("put", item)], lambda: self.store.put(record, durability=level))

    @rule(record_id=IDS, title=st.sampled_from("xyz"))
    def update(self, record_id: str, title: str) -> None:
        item = self.store.get(Item, record_id)
        if item is not None:
            self.store.update(item.evolve(title=title))
            self.model.records[record_id]["title"] = title
            self.stale = item

    @rule()
    def update_of_an_old_version(self) -> None:
        if self.stale is not None:
            try:
                self.store.update(self.stale)
            except (StaleWriteError, NotFoundError):
                return
            raise AssertionError(self.stale)

    @rule(record_id=IDS, level=LEVELS)
    def delete(self, record_id: str, level: Durability | None) -> None:
        self.both([("delete", record_id)], lambda: self.store.delete(Item, record_id, durability=level))

    @rule(title=st.sampled_from("xyz"))
    def delete_where(self, title: str) -> None:
        found = [record_id for record_id, item in sorted(self.model.records.items()) if item["title"] == title]

        def ask() -> None:
            assert self.store.delete_where(Item, eq("title", title)) == len(found)

        self.both([("delete_if_there", record_id) for record_id in found], ask)

    @rule(ops=st.lists(OPS, min_size=1, max_size=6), level=LEVELS)
    def batch(self, ops: list[tuple[str, Any]], level: Durability | None) -> None:
        def ask() -> None:
            with self.store.batch(durability=level) as batch:
                for kind, value in ops:
                    if kind == "delete":
                        batch.delete(Item, value)
                    elif kind == "create":
                        batch.create(Item(**value))
                    else:
                        batch.put(Item(**value))

        self.both(ops, ask)

    @rule(items=st.lists(ITEMS, min_size=1, max_size=4))
    def create_many(self, items: list[dict[str, Any]]) -> None:
        ops = [("create", item) for item in items]
        self.both(ops, lambda: self.store.create_many([Item(**item) for item in items]))

    @rule(flush=st.booleans())
    def reopen(self, *, flush: bool) -> None:
        """Close, or be killed."""
        if flush:
            self.store.close()
        else:
            self.store._engine.abandon()
        self.open()

    @rule()
    def flush(self) -> None:
        self.store.flush()
        assert self.store.stats().pending == 0

    @rule(rebuild=st.booleans())
    def sync(self, *, rebuild: bool) -> None:
        self.store.sync(rebuild=rebuild)

    @rule()
    def lose_the_index(self) -> None:
        self.store.flush()
        (self.store.path / "store.db").unlink()

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule(item=ITEMS, newer=st.booleans())
    def foreign_line(self, item: dict[str, Any], *, newer: bool) -> None:
        """Somebody appends to the file, with a stamp above the record's or far below."""
        self.store.flush()
        known = self.store.history("items", item["id"])
        if not newer and not any(one.current for one in known):
            return
        at = max((one.updated_at for one in known), default=10) + 1 if newer else 1
        with self.journal.open("ab") as file:
            file.write(json.dumps({**item, "updated_at": at}).encode() + b"\n")
        self.store.sync()
        if newer:
            self.model.records[item["id"]] = dict(item)

    @rule(record_id=IDS)
    def foreign_removal(self, record_id: str) -> None:
        """Somebody takes every line of a record out of the file."""
        self.store.flush()
        lines = self.journal.read_bytes().splitlines(keepends=True) if self.journal.exists() else []
        self.journal.write_bytes(b"".join(line for line in lines if json.loads(line)["id"] != record_id))
        self.store.sync()
        self.model.records.pop(record_id, None)
        if self.stale is not None and self.stale.id == record_id:
            self.stale = None

    @property
    def journal(self) -> Path:
        return self.store.path / "items.jsonl"

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "store"):
            return
        stored = {
            one.id: {"id": one.id, **{name: one.get(name) for name in FIELDS}} for one in self.store.list("items")
        }
        assert stored == self.model.records
        for title in "xyz":
            wanted = sum(item["title"] == title for item in self.model.records.values())
            assert self.store.count(Item, eq("title", title)) == wanted

    @invariant()
    def proven(self) -> None:
        if hasattr(self, "store"):
            found = [one for one in self.store.check().problems if one.kind not in {"duplicate", "dangling"}]
            assert found == []


TestStoreAgainstAModel = StoreMachine.TestCase
TestStoreAgainstAModel.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
