from __future__ import annotations

import sqlite3
import tempfile
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskstore_async.core.filters import eq
from taskstore_async.core.fold import fold
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.record import Document
from taskstore_async.storage import check as checking
from taskstore_async.storage.store import Store

from .samples import ALL, QUIET, Note, Plan, Step, tamper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, records=ALL, sync=QUIET) as opened:
        opened.create(Plan(id="p", title="x", status="open", priority=1, slug="s"))
        opened.create(Plan(id="q"))
        opened.delete(Plan, "q")
        opened.flush()
        opened.create(Plan(id="waits", status="open"))
        yield opened


def kinds(store: Store) -> list[str]:
    return [one.kind for one in store.check().problems]


class TestDifferences:
    """An index that is not what its files and its outbox say is found, and a rebuild mends it."""

    @pytest.mark.parametrize(
        ("sql", "values"),
        [
            ("UPDATE {plans} SET line = ? WHERE id = 'p'", (b'{"id":"p","updated_at":5}',)),
            ("UPDATE {plans} SET ms = ms + 1 WHERE id = 'p'", ()),
            ("UPDATE {plans} SET ns = 1 WHERE id = 'p'", ()),
            ("UPDATE {plans} SET dead = 1 WHERE id = 'p'", ()),
            ("UPDATE {plans} SET c0 = 'closed' WHERE id = 'p'", ()),
            ("UPDATE {plans} SET c1 = 1.0 WHERE id = 'p'", ()),
            ("UPDATE {plans} SET c2 = NULL WHERE id = 'p'", ()),
            ("DELETE FROM {plans} WHERE id = 'p'", ()),
            ("DELETE FROM {plans} WHERE id = 'q'", ()),
            ("UPDATE {plans} SET id = 'other' WHERE id = 'p'", ()),
            (
                "INSERT INTO {plans} (id, ms, ns, dead, pending, line) VALUES ('ghost', 1, 0, 0, 0, ?)",
                (b'{"id":"ghost","updated_at":1}',),
            ),
        ],
    )
    def test_a_changed_row_is_found_and_mended(self, store: Store, sql: str, values: tuple[object, ...]) -> None:
        truth = store.list(Plan)
        assert store.check().ok
        tamper(store, sql, *values)
        report = store.check()
        assert not report.ok
        assert "difference" in {one.kind for one in report.problems}
        store.sync(rebuild=True)
        assert store.check().ok
        assert store.list(Plan) == truth

    @pytest.mark.parametrize(
        ("sql", "values"),
        [
            ("UPDATE {plans} SET ms = 'x' WHERE id = 'p'", ()),
            ("UPDATE log SET ms = 'x' WHERE id = 'waits'", ()),
            ("UPDATE {plans} SET line = '{{\"id\":\"waits\"}}' WHERE id = 'waits'", ()),
            ("UPDATE {plans} SET line = ? WHERE id = 'waits'", (b"\0",)),
            ("UPDATE {plans} SET id = x'ff' WHERE id = 'p'", ()),
            ("UPDATE collection SET revision = 'x'", ()),
            ("UPDATE collection SET declaration = x'ff'", ()),
            ("UPDATE collection SET rows = 'x'", ()),
            ("UPDATE meta SET value = 'x' WHERE name = 'low'", ()),
        ],
    )
    def test_what_is_no_stamp_or_no_line_is_found_and_mended(
        self, store: Store, sql: str, values: tuple[object, ...]
    ) -> None:
        tamper(store, sql, *values)
        assert kinds(store) == ["index"]
        store.sync(rebuild=True)
        assert store.check().ok
        assert store.get(Plan, "p") is not None
        store.create(Plan(id="next"))

    @pytest.mark.parametrize(
        ("sql", "values"),
        [
            ("UPDATE log SET seq = ? WHERE id = 'waits'", (2**63 - 1,)),
            ("UPDATE meta SET value = ? WHERE name = 'low'", (2**63 - 1,)),
            ("UPDATE meta SET value = 'x' WHERE name = 'low'", ()),
            ("UPDATE collection SET flushed = ?", (2**63 - 1,)),
            ("UPDATE collection SET revision = 'x'", ()),
            ("UPDATE collection SET revision = ?", (2**63 - 1,)),
            ("UPDATE {plans} SET line = CAST(line AS TEXT) WHERE id = 'waits'", ()),
        ],
    )
    def test_what_is_written_after_damage_reaches_its_journal(
        self, store: Store, sql: str, values: tuple[object, ...]
    ) -> None:
        tamper(store, sql, *values)
        store.create(Plan(id="next"))
        store.flush()
        assert b'"next"' in (store.path / "plans.jsonl").read_bytes()
        assert len(store.notes) == 1
        assert store.check().ok

    @pytest.mark.parametrize(
        "write",
        [
            lambda store: store.put(Plan(id="p")),
            lambda store: store.delete(Plan, "p"),
            lambda store: store.delete_where(Plan),
        ],
    )
    @pytest.mark.parametrize("line", [b"\0", b'{"id":"p"', b"[]"])
    def test_a_write_over_a_line_that_is_none_has_it_mended(
        self, store: Store, write: Callable[[Store], object], line: bytes
    ) -> None:
        self.meet(store, write, line)

    @pytest.mark.parametrize(
        "read",
        [
            lambda store: store.get("plans", "p"),
            lambda store: store.list("plans"),
            lambda store: list(store.iterate("plans")),
            lambda store: store.line(Plan, "p"),
            lambda store: store.lines(Plan),
            lambda store: store.describe(Plan, "p"),
        ],
    )
    @pytest.mark.parametrize("line", [b"\0", b'{"id":"p"', b"[]", b'{"id":"p","x":"\xff"}', '{"id":"p"}'])
    def test_a_read_of_a_line_that_is_none_has_it_mended(
        self, store: Store, read: Callable[[Store], object], line: bytes | str
    ) -> None:
        self.meet(store, read, line)

    def test_a_filter_that_decodes_a_line_that_is_none_has_it_mended(self, store: Store) -> None:
        self.meet(store, lambda store: store.count("plans", eq("no_such_field", 1)), b"\0")

    def meet(self, store: Store, call: Callable[[Store], object], line: bytes | str) -> None:
        """Let *call* meet *line* in the index."""
        store.flush()
        tamper(store, "UPDATE {plans} SET line = ? WHERE id = 'p'", line)
        call(store)
        assert len(store.notes) == 1
        assert store.check().ok

    def test_nothing_is_changed_by_looking(self, store: Store) -> None:
        before = sorted((path.name, path.read_bytes()) for path in store.path.glob("*.jsonl"))
        assert store.check().ok
        assert sorted((path.name, path.read_bytes()) for path in store.path.glob("*.jsonl")) == before
        report = store.check()
        assert (report.collections, report.records, report.problems) == (3, 2, ())

    def test_a_pending_line_that_was_lost_is_found(self, store: Store) -> None:
        tamper(store, "UPDATE log SET origin = 2 WHERE id = 'waits'")
        (finding,) = store.check().problems
        assert (finding.kind, finding.record_id) == ("difference", "waits")

    def test_another_layout_than_the_declared_is_found(self, store: Store) -> None:
        tamper(store, "UPDATE collection SET declaration = ? WHERE name = 'notes'", b'{"fields":{},"local":false}')
        assert kinds(store) == ["difference"]
        store.sync(rebuild=True)

    def test_a_file_that_was_edited_or_is_new_is_found(self, store: Store) -> None:
        (store.path / "things.jsonl").write_bytes(b'{"id":"a"}\n')
        with (store.path / "plans.jsonl").open("ab") as file:
            file.write(b'{"id":"foreign","updated_at":1}\n')
        assert kinds(store) == ["difference", "stale"]
        store.sync()
        assert store.check().ok

    def test_a_damaged_database_is_reported_not_raised(self) -> None:
        class Damaged:
            def execute(self, sql: str) -> object:
                raise sqlite3.DatabaseError(f"database disk image is malformed ({sql})")

        (finding,) = checking._integrity(Damaged())  # type: ignore[arg-type]  # reason: what a damaged one does
        assert (finding.kind, finding.error) == ("index", True)
        assert "malformed" in finding.message

    def test_damage_that_two_looks_meet_is_told_once(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, sync=QUIET) as store:
            store.put(Document("notes", {"id": "a"}))
            store.flush()
            (tmp_path / ".taskstore" / "store.db").write_bytes(b"")
        with Store.open(tmp_path, sync=QUIET) as store:
            messages = [one.message for one in store.check().problems]
            store.sync(rebuild=True)
        assert len(messages) == len(set(messages)) == 1

    def test_what_sqlite_finds_is_reported(self, store: Store) -> None:
        with closing(sqlite3.connect(store.path / "store.db")) as db:
            (rows,) = db.execute("SELECT rows FROM collection WHERE name = 'plans'").fetchone()
            db.execute("PRAGMA writable_schema = ON")
            db.execute(
                "UPDATE sqlite_schema SET sql = replace(sql, 'ns INTEGER NOT NULL', 'ns INTEGER CHECK (ns > 5)') "
                "WHERE name = ?",
                (rows,),
            )
            db.execute("PRAGMA schema_version = 999")
            db.commit()
        found = [one for one in store.check().problems if one.kind == "index"]
        assert found
        assert "CHECK" in found[0].message


ids = st.sampled_from("abcd")
stamps = st.one_of(st.integers(1, 3), st.none(), st.just("1970-01-01T00:00:00.002Z"))
records = st.fixed_dictionaries(
    {"id": ids, "updated_at": stamps, "n": st.integers(0, 1)},
    optional={"deleted": st.just(value=True), "created_at": st.integers(1, 3)},
)


def text_of(lines: list[dict[str, object]]) -> bytes:
    """A journal; a stamp of None is left out."""
    kept = [{name: value for name, value in line.items() if value is not None} for line in lines]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in kept)


class TestEveryDifference:
    """What is found is what folding file and outbox says, record by record."""

    @given(
        before=st.lists(records, min_size=1, max_size=10),
        after=st.lists(records, min_size=1, max_size=10),
        pending=st.lists(ids, max_size=2, unique=True),
    )
    @example(  # the row's line comes back after one that is as new
        before=[{"id": "a", "updated_at": 2, "n": 0}],
        after=[{"id": "a", "updated_at": 2, "n": n} for n in (0, 1, 0)],
        pending=[],
    )
    @example(  # and one that is as new comes after it
        before=[{"id": "a", "updated_at": 2, "n": 0}],
        after=[{"id": "a", "updated_at": 2, "n": n} for n in (0, 1)],
        pending=[],
    )
    @example(  # one that the index lacks has a line without a stamp
        before=[{"id": "a", "updated_at": 2, "n": 0}],
        after=[{"id": "b", "updated_at": stamp, "n": 0} for stamp in (2, None)],
        pending=[],
    )
    @example(  # and after one that is newer, it does not count
        before=[{"id": "a", "updated_at": 2, "n": 0}],
        after=[{"id": "a", "updated_at": stamp, "n": 0} for stamp in (3, 2)],
        pending=[],
    )
    @example(
        before=[{"id": "a", "updated_at": 2, "n": 0}],
        after=[{"id": "a", "updated_at": stamp, "n": 0} for stamp in (2, None)],
        pending=[],
    )
    def test_any_file(
        self, before: list[dict[str, object]], after: list[dict[str, object]], pending: list[str]
    ) -> None:
        with tempfile.TemporaryDirectory() as folder, Store.open(folder, sync=QUIET) as store:
            path = store.path / "things.jsonl"
            path.write_bytes(text_of(before))
            store.sync()
            for record_id in pending:
                store.put(Document("things", {"id": record_id, "n": 5}))
            assert store.check().ok
            path.write_bytes(text_of(after))
            report = store.check()
            with closing(sqlite3.connect(store.path / "store.db")) as db:
                (rows,) = db.execute("SELECT rows FROM collection WHERE name = 'things'").fetchone()
                has = {one: rest for one, *rest in db.execute(f"SELECT id, line, ms * 1000000 + ns, dead FROM {rows}")}
            waiting = b"".join(has[one][0] + b"\n" for one in pending)
            says = fold(decode_lines(text_of(after) + waiting))
            wanted = {one: [state.line.raw, state.instant, state.line.deleted] for one, state in says.items()}
            different = {one for one in has.keys() | wanted.keys() if has.get(one) != wanted.get(one)}
            found = [one.record_id for one in report.problems if one.kind == "difference"]
            assert sorted(found, key=str) == sorted(different)
            store.sync()
            assert store.check().ok

    def test_a_row_with_the_line_of_another_record(self, store: Store) -> None:
        store.flush()
        tamper(store, "UPDATE {plans} SET id = 'other' WHERE id = 'p'")
        found = [(one.kind, one.record_id) for one in store.check().problems]
        assert sorted(found, key=str) == [("difference", "other"), ("difference", "p")]

    def test_a_row_whose_line_is_none(self, store: Store) -> None:
        store.flush()
        for line in (b"garbage", "text", b'{"id":"p"}'):
            tamper(store, "UPDATE {plans} SET line = ? WHERE id = 'p'", line)
            assert [(one.kind, one.record_id) for one in store.check().problems] == [("difference", "p")]

    def test_what_is_as_it_should_be_is_not_held_in_memory(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, sync=QUIET) as store:
            store.create_many([Document("things", {"id": f"t-{n}", "text": "x" * 200}) for n in range(10_000)])
            store.flush()
            tracemalloc.start()
            try:
                assert store.check().ok
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < (store.path / "things.jsonl").stat().st_size / 2

    def test_beyond_a_thousand_they_are_counted(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, sync=QUIET) as store:
            store.create_many([Document("things", {"id": f"t-{number}"}) for number in range(1_200)])
            store.flush()
            (store.path / "things.jsonl").write_bytes(b'{"id":"t-0","updated_at":1}\n')
            report = store.check()
            assert not report.ok
            assert len(report.problems) == 1_001
            assert report.problems[-1].message.startswith("200 further findings")


class TestFiles:
    """Every line that cannot be read is reported with file, line, offset and reason."""

    def test_bad_lines_and_lines_beyond_a_limit(self, store: Store) -> None:
        text = b'{"id":"a"}\nbad\n{"id":" "}\n{"id":"b","updated_at":-5}\n[]\n'
        (store.path / "things.jsonl").write_bytes(text)
        store.sync()
        found = [(one.kind, one.file, one.line, one.offset, one.error) for one in store.check().problems]
        assert found == [
            ("bad-line", "things.jsonl", 2, text.index(b"bad"), True),
            ("line", "things.jsonl", 3, text.index(b'{"id":" "'), False),
            ("line", "things.jsonl", 4, text.index(b'{"id":"b"'), False),
            ("bad-line", "things.jsonl", 5, text.index(b"[]"), True),
        ]
        assert all(one.message.startswith(f"things.jsonl:{one.line}: ") for one in store.check().problems)

    def test_closed_files_links_and_strays(self, store: Store, tmp_path: Path) -> None:
        (store.path / "closed.jsonl").write_bytes(b"garbage\n")
        (store.path / "Bad Name.jsonl").write_bytes(b'{"id":"a"}\n')
        (tmp_path / "elsewhere").write_bytes(b'{"id":"a"}\n')
        (store.path / "linked.jsonl").symlink_to(tmp_path / "elsewhere")
        store.sync()
        assert kinds(store) == ["stray", "bad-line", "closed", "no-journal"]
        (unreadable,) = store.list_tolerant("linked").unreadable
        assert "no file that can be read" in unreadable.reason

    def test_a_journal_that_wants_compaction_is_worth_a_word(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (store.path / "things.jsonl").write_bytes(b'{"id":"a","updated_at":1}\n' * 200)
        store.sync()
        assert [(one.kind, one.error) for one in store.check().problems] == [("many-lines", False)]
        monkeypatch.setattr(checking, "_LARGE_BYTES", 1_000)
        report = store.check()
        assert report.ok
        assert [one.kind for one in report.problems] == ["large", "many-lines"]
        store.compact("things")
        assert store.check().problems == ()

    def test_there_is_an_end_to_what_is_listed(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checking, "_LISTED", 3)
        (store.path / "things.jsonl").write_bytes(b'{"id":"a","updated_at":1}\n' + b"bad\n" * 10)
        store.sync()
        assert kinds(store) == ["bad-line"] * 3 + ["more"]
        assert "7" in store.check().problems[-1].message


class TestRules:
    """What a merge brought against the declarations is reported."""

    def test_dangling_references_and_duplicates(self, store: Store) -> None:
        store.create(Plan(id="7"))
        store.flush()
        with (store.path / "steps.jsonl").open("wb") as file:
            file.write(b'{"id":"s","updated_at":1,"plan_id":"gone"}\n{"id":"t","updated_at":1,"plan_id":[1]}\n')
            file.write(b'{"id":"u","updated_at":1,"plan_id":7}\n{"id":"v","updated_at":1,"plan_id":"q"}\n')
        with (store.path / "plans.jsonl").open("ab") as file:
            file.write(b'{"id":"z","updated_at":1,"slug":"s"}\n{"id":"y","updated_at":1,"slug":[1]}\n')
            file.write(b'{"id":"x","updated_at":1,"slug":[1]}\n')
        store.sync()
        found = [(one.kind, one.collection, one.record_id) for one in store.check().problems]
        assert sorted(found) == [
            ("dangling", "steps", "s"),
            ("dangling", "steps", "t"),
            ("dangling", "steps", "v"),
            ("duplicate", "plans", "z"),
        ]

    def test_a_reference_to_a_collection_that_is_not_there_dangles(self, store: Store) -> None:
        with (store.path / "_types.jsonl").open("ab") as file:
            file.write(b'{"id":"odd","updated_at":1,"fields":{"x":{"references":"nowhere"}}}\n')
        (store.path / "odd.jsonl").write_bytes(b'{"id":"o","updated_at":1,"x":"y"}\n')
        store.sync()
        (finding,) = store.check().problems
        assert (finding.kind, finding.record_id) == ("dangling", "o")
        assert "nowhere/y" in finding.message

    def test_our_own_writes_never_break_them(self, store: Store) -> None:
        store.create_many([Note(id="n", plan_id="p"), Step(id="s", plan_id="p"), Document("notes", {"id": "m"})])
        assert store.check().problems == ()

    @pytest.mark.parametrize(
        ("declared", "reason"),
        [
            ({"fields": 5}, "expected dict, got int, at $.fields"),
            ({"fields": {"name": {"unique": "yes"}}}, "expected bool, got str, at $.fields.name.unique"),
            ({"fields": {"name": {"references": "no where"}}}, "'no where' is no collection name"),
            ({"fields": {f"f{number}": {"indexed": True} for number in range(1_001)}}, "it has 1,001 fields"),
        ],
    )
    def test_a_declaration_that_holds_for_nothing_is_told(
        self, store: Store, declared: dict[str, object], reason: str
    ) -> None:
        with (store.path / "_types.jsonl").open("ab") as file:
            file.write(msgspec.json.encode({"id": "odd", "updated_at": 1, **declared}) + b"\n")
        store.sync()
        (found,) = store.check().problems
        assert (found.kind, found.error, found.collection) == ("declaration", True, "odd")
        assert reason in found.message
