"""SQL over the collections: real names, reading alone, bounded in time and size."""

from __future__ import annotations

import itertools
import os
import sqlite3
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pytest

from taskstore_async.core.record import Document, Indexed, Record, present
from taskstore_async.core.schedule import SyncConfig
from taskstore_async.errors import InvalidQueryError, LimitExceededError, QueryTimeoutError
from taskstore_async.storage import ask as asking
from taskstore_async.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Issue(Record):
    collection: ClassVar[str] = "issues"
    status: Annotated[str, Indexed] = "open"
    Status: Annotated[int, Indexed] = 0
    labels: Annotated[list[str], Indexed] = []
    json: Annotated[str | None, Indexed] = None
    title: str = ""
    closed_at: int | None = None
    indexed: ClassVar = (present("closed", "closed_at"),)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, records=[Issue]) as opened:
        opened.create(Issue(id="a", status="open", Status=1, labels=["x", "y"], json="j", title="A"))
        opened.create(Issue(id="b", status="closed", Status=2, closed_at=5, title="B"))
        opened.create(Issue(id="gone"))
        opened.delete(Issue, "gone")
        opened.create(Document("log-book", {"id": "l", "n": 7}))
        opened.create(Document("log", {"id": "shadow"}))
        yield opened


def rows(store: Store, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - reason: what SQL takes
    return store.query(sql, parameters).rows


class TestNames:
    """Every collection is a view of its live records: id, updated_at, what is declared, and the stored line."""

    def test_columns(self, store: Store) -> None:
        answer = store.query("SELECT * FROM issues ORDER BY id")
        assert answer.columns == ("id", "updated_at", "status", "Status_2", "labels", "json_2", "closed", "json")
        first = dict(zip(answer.columns, answer.rows[0], strict=True))
        record = store.get(Issue, "a")
        assert record is not None
        assert first["updated_at"] == record.updated_at
        assert (first["status"], first["Status_2"], first["json_2"], first["closed"]) == ("open", 1, "j", 0)
        assert first["json"] == (store.line("issues", "a") or b"").decode()

    def test_only_what_lives_is_shown(self, store: Store) -> None:
        assert rows(store, "SELECT id FROM issues ORDER BY id") == [("a",), ("b",)]

    def test_any_field_can_be_reached_through_the_line(self, store: Store) -> None:
        assert rows(store, "SELECT json ->> '$.title' FROM issues ORDER BY 1 DESC") == [("B",), ("A",)]
        labels = "SELECT issues.id, value FROM issues, json_each(issues.json, '$.labels') ORDER BY value"
        assert rows(store, labels) == [("a", "x"), ("a", "y")]
        assert rows(store, "SELECT count(*) FROM issues, json_tree(issues.json)")[0][0] > 10

    def test_a_list_is_empty_bytes_in_its_own_column(self, store: Store) -> None:
        assert rows(store, "SELECT labels FROM issues WHERE id = 'a'") == [(b"",)]

    def test_a_collection_shadows_the_tables_of_the_index_and_any_name_can_be_quoted(self, store: Store) -> None:
        assert rows(store, "SELECT id FROM log") == [("shadow",)]
        assert rows(store, "SELECT json ->> '$.n' FROM \"log-book\"") == [(7,)]

    def test_a_name_that_sqlite_has_for_itself(self, store: Store) -> None:
        store.create(Document("sqlite_things", {"id": "s"}))
        assert rows(store, "SELECT id FROM _sqlite_things") == [("s",)]

    def test_columns_of_one_name_are_told_apart(self, store: Store) -> None:
        assert store.query("SELECT id, id, ID FROM issues").columns == ("id", "id_2", "id_3")

    def test_the_declared_fields_have_their_indexes(self, store: Store) -> None:
        plan = rows(store, "EXPLAIN QUERY PLAN SELECT id FROM issues WHERE status = 'open' AND updated_at > 5")
        assert "USING INDEX" in plan[0][3]

    def test_what_waits_to_be_flushed_is_there(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, sync=SyncConfig(auto_export=False)) as store:
            store.create(Document("notes", {"id": "n"}))
            assert rows(store, "SELECT id FROM notes") == [("n",)]

    def test_a_store_without_collections_answers_too(self, tmp_path: Path) -> None:
        with Store.open(tmp_path) as store:
            assert rows(store, "SELECT 1") == [(1,)]
            with pytest.raises(InvalidQueryError, match="there are: none yet"):
                rows(store, "SELECT * FROM issues")

    def test_text_that_is_none_is_shown_as_far_as_it_goes(self, store: Store) -> None:
        assert rows(store, "SELECT CAST(x'ff41' AS TEXT)") == [("\ufffdA",)]


class TestParameters:
    """Values come apart from the SQL."""

    def test_by_name(self, store: Store) -> None:
        assert rows(store, "SELECT id FROM issues WHERE status = :s AND Status_2 = :n", s="closed", n=2) == [("b",)]
        assert rows(store, "SELECT :x", x="' OR 1=1 --") == [("' OR 1=1 --",)]

    def test_one_that_is_missing_is_named(self, store: Store) -> None:
        with pytest.raises(InvalidQueryError, match="-p name=value"):
            rows(store, "SELECT :x")

    @pytest.mark.parametrize("value", [2**70, "\ud800"])
    def test_one_that_sqlite_does_not_take_is_refused(self, value: object, store: Store) -> None:
        with pytest.raises(InvalidQueryError):
            rows(store, "SELECT :x", x=value)


class TestReadingAlone:
    """Whatever is asked, nothing changes: no record, no file, no setting."""

    @pytest.mark.parametrize(
        "sql",
        [
            "DELETE FROM issues",
            "DELETE FROM main.r1",
            "UPDATE issues SET status = 'x'",
            "INSERT INTO main.meta VALUES ('x', 1)",
            "REPLACE INTO main.meta VALUES ('x', 1)",
            "CREATE TABLE x (y)",
            "CREATE TEMP TABLE x (y)",
            "CREATE TEMP TRIGGER t INSTEAD OF INSERT ON issues BEGIN SELECT 1; END",
            "CREATE VIRTUAL TABLE x USING fts5(y)",
            "DROP VIEW issues",
            "ALTER TABLE main.r1 RENAME TO x",
            "ATTACH 'evil.db' AS evil",
            "DETACH temp",
            "VACUUM",
            "VACUUM INTO 'evil.db'",
            "ANALYZE",
            "REINDEX",
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "SAVEPOINT x",
            "PRAGMA query_only",
            "PRAGMA writable_schema = ON",
            "PRAGMA journal_mode = DELETE",
            "SELECT * FROM pragma_table_info('issues')",
            "SELECT load_extension('evil')",
            "WITH x AS (SELECT 1) DELETE FROM issues",
        ],
    )
    def test_a_statement_that_would_do_more_is_refused(self, sql: str, store: Store, tmp_path: Path) -> None:
        before = {path.name: path.read_bytes() for path in store.path.glob("*.jsonl")}
        with pytest.raises(InvalidQueryError, match="cannot be answered"):
            rows(store, sql)
        assert {path.name: path.read_bytes() for path in store.path.glob("*.jsonl")} == before
        assert not list(tmp_path.rglob("evil*"))
        assert rows(store, "SELECT id FROM issues ORDER BY id") == [("a",), ("b",)]
        assert store.check().ok

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * FROM main.meta",
            "SELECT * FROM lease",
            "SELECT * FROM main.log",
            "SELECT * FROM main.r1",
            "SELECT sql FROM sqlite_master",
            "WITH issues AS (SELECT * FROM main.meta) SELECT * FROM issues",
        ],
    )
    def test_how_the_index_is_laid_out_is_not_shown(self, sql: str, store: Store) -> None:
        with pytest.raises(InvalidQueryError, match=r"what can be read is: issues, log, log-book"):
            rows(store, sql)

    def test_one_statement_at_a_time(self, store: Store) -> None:
        with pytest.raises(InvalidQueryError, match="one statement"):
            rows(store, "SELECT 1; DELETE FROM issues")

    def test_the_connection_itself_cannot_write(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(asking, "_authorizer", lambda _: None)
        with pytest.raises(InvalidQueryError, match="more than read"):
            rows(store, "DELETE FROM main.meta")

    def test_a_directory_that_cannot_be_written_can_be_asked(self, store: Store) -> None:
        store.flush()
        (store.path / "store.db").chmod(0o400)
        if os.access(store.path, os.W_OK) and os.geteuid() == 0:
            # root may write everywhere: make the engine think otherwise
            from taskstore_async.storage.directory import Directory  # noqa: PLC0415 - reason: one test needs it

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Directory, "writable", False)
                with Store.open(store.path, create=False) as reading:
                    assert rows(reading, "SELECT id FROM issues ORDER BY id") == [("a",), ("b",)]
                    with pytest.raises(InvalidQueryError):
                        rows(reading, "DELETE FROM main.meta")
                    assert reading.get("issues", "a") is not None


class TestBounds:
    """An endless query ends, and a huge result is refused."""

    def test_time(self, store: Store) -> None:
        endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
        with pytest.raises(QueryTimeoutError, match="--timeout"):
            store.query(endless, timeout_s=0.05)

    def test_not_a_number_is_no_time_at_all(self, store: Store) -> None:
        endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
        with pytest.raises(QueryTimeoutError):
            store.query(endless, timeout_s=float("nan"))

    def test_a_signal_is_no_timeout(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        readings = itertools.count()

        def monotonic() -> float:
            if next(readings) == 1:  # the first look is the deadline's, the second SQLite's
                raise KeyboardInterrupt
            return 0.0

        monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=monotonic))
        endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
        with pytest.raises(KeyboardInterrupt):
            store.query(endless)
        assert rows(store, "SELECT 1") == [(1,)]
        assert rows(store, "SELECT 1") == [(1,)]

    def test_rows(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(asking, "MAX_RESULT_BYTES", 10_000)
        endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
        with pytest.raises(LimitExceededError, match="10,000 are allowed"):
            rows(store, endless)

    @pytest.mark.parametrize("sql", ["SELECT zeroblob(1000000000)", "SELECT randomblob(100000000)"])
    def test_a_value(self, sql: str, store: Store) -> None:
        with pytest.raises(InvalidQueryError, match="too big"):
            rows(store, sql)

    def test_a_pattern_whose_matching_cannot_be_interrupted(self, store: Store) -> None:
        with pytest.raises(InvalidQueryError, match="pattern"):
            rows(store, "SELECT id FROM issues WHERE json LIKE :p", p="%a" * 600)


class TestMistakes:
    """What is wrong is said, and what would be right."""

    @pytest.mark.parametrize(
        ("sql", "hint"),
        [
            ("SELECT * FROM isues", r"no collection isues; did you mean issues\?"),
            ("SELECT * FROM zzz", r"there are: issues, log, log-book"),
            ("SELECT title FROM issues", r"json ->> '\$\.title'"),
            ("SELECT i.title FROM issues i", r"json ->> '\$\.title'"),
            ("SELECT json FROM issues, json_each(issues.json)", r"write the collection before it: issues\.json"),
            ("SELEC 1", "syntax error"),
            ("", "write a SELECT"),
            ("-- nothing", "write a SELECT"),
            ("SELECT nope(1)", "no such function: nope"),
            ("SELECT json_extract('{', '$')", "malformed JSON"),
        ],
    )
    def test_hints(self, sql: str, hint: str, store: Store) -> None:
        with pytest.raises(InvalidQueryError, match=hint):
            rows(store, sql)

    def test_a_damaged_index_is_mended_and_asked_again(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        real, damage = asking._fetched, [sqlite3.DatabaseError("database disk image is malformed")]
        damage[0].sqlite_errorcode = sqlite3.SQLITE_CORRUPT

        def once(*args: Any) -> Any:  # noqa: ANN401 - reason: passed on
            if damage:
                raise damage.pop()
            return real(*args)

        monkeypatch.setattr(asking, "_fetched", once)
        assert rows(store, "SELECT id FROM issues ORDER BY id") == [("a",), ("b",)]
