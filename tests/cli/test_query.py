"""query, indexes, describe and list --explain, as programs and people see them."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async import Store
from taskstore_async.cli.filters import parse_parameters
from taskstore_async.cli.spreadsheet import csv_lines
from tests.cli.test_process import on_a_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]

PACK = """
from typing import Annotated, ClassVar
from taskstore_async import Indexed, Record, References, Unique, first_of, present

class Plan(Record):
    collection: ClassVar[str] = "plans"
    title: str = ""
    slug: Annotated[str | None, Unique] = None
    closed_at: int | None = None
    indexed: ClassVar = (present("closed", "closed_at"), first_of("label", "slug", "title"))

class Step(Record):
    collection: ClassVar[str] = "steps"
    plan_id: Annotated[str, Indexed, References("plans", on_delete="cascade")]
    status: Annotated[str, Indexed] = "open"
"""


@pytest.fixture
def declared(tstore: Tstore, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A plan and two of its steps, with what the types declare."""
    name = f"pack_{abs(hash(request.node.nodeid))}"
    (folder / f"{name}.py").write_text(PACK, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    assert tstore("init", "--records", name).code == 0
    tstore("create", "plans", "--id", "p-1", "title=Ship it")
    tstore("create", "steps", "--id", "s-1", "plan_id=p-1", "status=open", "n:=0.12345678901234567890")
    tstore("create", "steps", "--id", "s-2", "plan_id=p-1", "status=closed", "tags:=[]")


class TestQuery:
    """SQL over the collections, in every form."""

    @pytest.mark.usefixtures("declared")
    def test_in_a_pipe(self, tstore: Tstore) -> None:
        sql = "SELECT plans.id, steps.id, status FROM plans JOIN steps ON plan_id = plans.id ORDER BY 2"
        assert tstore("query", sql).out == "p-1\ts-1\topen\np-1\ts-2\tclosed\n"

    @pytest.mark.usefixtures("declared")
    def test_as_json_a_column_has_its_name_once(self, tstore: Tstore) -> None:
        found = json.loads(tstore("query", "SELECT id, id, 1 AS x, NULL FROM steps WHERE id = 's-1'", "--json").out)
        assert found == [{"id": "s-1", "id_2": "s-1", "x": 1, "NULL": None}]
        assert tstore("query", "SELECT id FROM steps ORDER BY 1", "--jsonl").out == '{"id":"s-1"}\n{"id":"s-2"}\n'

    @pytest.mark.usefixtures("declared")
    def test_parameters(self, tstore: Tstore) -> None:
        sql = "SELECT id FROM steps WHERE status = :status AND updated_at > :since LIMIT :n"
        assert tstore("query", sql, "-p", "status=open", "-p", "since:=0", "-p", "n:=5").out == "s-1\n"

    @pytest.mark.usefixtures("declared")
    def test_on_a_terminal_a_table(self, folder: Path) -> None:
        code, shown = on_a_terminal(folder, "query", "SELECT id, status FROM steps ORDER BY 1")
        assert code == 0
        assert shown.splitlines() == ["id   status", "s-1  open", "s-2  closed", "tstore: 2 rows"]

    def test_on_a_terminal_no_character_acts(self, folder: Path, tstore: Tstore) -> None:
        tstore("create", "issues", "--id", "x", "title=\x1b[2J\x9b\u202e\x07")
        for form in ([], ["--json"], ["--csv"]):
            code, shown = on_a_terminal(folder, "query", "SELECT json ->> '$.title' FROM issues", *form)
            assert code == 0
            assert not {"\x1b", "\x9b", "\u202e", "\x07"}.intersection(shown)

    @pytest.mark.usefixtures("declared")
    @pytest.mark.parametrize(
        ("words", "code", "hint"),
        [
            (["DELETE FROM steps"], 2, "SELECT, WITH"),
            (["SELECT * FROM stepps"], 2, "did you mean steps?"),
            (["SELECT title FROM plans"], 2, "json ->> '$.title'"),
            (["SELECT :x"], 2, "-p name=value"),
            (["SELECT 1", "-p", "x"], 2, "name=text"),
            (["SELECT :x", "-p", "x:=[1]"], 2, "text, a number"),
            (["SELECT :x", "-p", "x:=1e400"], 2, "text, a number"),
            (["SELECT 1", "--timeout", "0"], 2, "--timeout"),
            (
                [
                    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT * FROM n WHERE x = 2",
                    "--timeout",
                    "0.1",
                ],
                1,
                "--timeout",
            ),
            ([], 2, "SELECT"),
        ],
    )
    def test_errors(self, words: list[str], code: int, hint: str, tstore: Tstore) -> None:
        result = tstore("query", *words)
        assert (result.code, result.out) == (code, "")
        assert hint in result.err
        assert tstore("check").code == 0

    def test_the_hint_about_a_field_works_when_followed(self, tstore: Tstore) -> None:
        tstore("create", "issues", "--id", "a", "title=Ship it")
        refused = tstore("query", "SELECT title FROM issues").err
        hint = refused.partition("any other field is: ")[2].strip()
        assert tstore("query", f"SELECT {hint} FROM issues").out == "Ship it\n"

    def test_without_a_store_it_ends_with_4(self, tstore: Tstore) -> None:
        assert tstore("query", "SELECT 1").code == tstore("indexes", "x").code == tstore("describe", "x").code == 4


class TestCsv:
    """What a spreadsheet opens has the cells that were found, and none that it would run."""

    def test_header_rows_and_quotes(self, tstore: Tstore) -> None:
        tstore("init")
        sql = "SELECT 1 AS a, -2.5 AS b, NULL AS \"c,d\", 'x\"y' AS e, 'two\nlines' AS f"
        assert list(csv.reader(io.StringIO(tstore("query", sql, "--csv").out))) == [
            ["a", "b", "c,d", "e", "f"],
            ["1", "-2.5", "", 'x"y', "two\nlines"],
        ]

    @given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=2, max_size=2))
    def test_no_text_begins_like_a_formula_and_none_is_lost(self, texts: list[str]) -> None:
        data = "\n".join(csv_lines(texts, [texts])) + "\n"
        for row in csv.reader(io.StringIO(data, newline="")):
            for cell, text in zip(row, texts, strict=True):
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
                assert cell in {text, f"'{text}"}


class TestParameters:
    """name=text and name:=json, for SQL."""

    def test_values(self) -> None:
        words = ["a=1", "b:=1", "c:=null", "d:=true", "e:=1.5", "updated_at:=2", "g="]
        assert parse_parameters(words) == {
            "a": "1",
            "b": 1,
            "c": None,
            "d": True,
            "e": 1.5,
            "updated_at": 2,
            "g": "",
        }


@pytest.mark.usefixtures("declared")
class TestIndexes:
    """The fields that a collection declares, and what they are."""

    def test_what_they_are(self, tstore: Tstore) -> None:
        assert tstore("indexes", "plans").out.splitlines() == [
            "slug\tunique",
            "closed\tcomputed: whether closed_at is there",
            "label\tcomputed: the first that is there of slug, title",
        ]
        assert tstore("indexes", "steps").out.splitlines() == [
            "plan_id\tnames a record of plans (when that is deleted: cascade)",
            "status\tindexed",
        ]
        assert json.loads(tstore("indexes", "steps", "--json").out)["fields"]["status"] == {"indexed": True}

    def test_a_collection_that_declares_nothing_or_is_not_there(self, tstore: Tstore) -> None:
        tstore("create", "notes", "a=b")
        result = tstore("indexes", "notes")
        assert (result.code, result.out) == (0, "")
        assert "--records" in result.err
        assert "no collection nowhere" in tstore("indexes", "nowhere").err


@pytest.mark.usefixtures("declared")
class TestDescribe:
    """What is known of a record beside its fields."""

    def test_facts(self, tstore: Tstore, folder: Path) -> None:
        with Store.open(folder) as store:
            assert store.claim("steps", owner="agent-3") is not None
        facts = tstore("describe", "s-1").out.splitlines()
        assert "collection\tsteps" in facts
        assert "names\tplans/p-1 in plan_id" in facts
        assert any(fact.startswith("claimed by\tagent-3, until ") for fact in facts)
        plan = json.loads(tstore("describe", "p", "--json").out)
        assert [one["id"] for one in plan["named_by"]] == ["s-1", "s-2"]
        assert (plan["line"], plan["versions"], plan["lease"]) == (1, 1, None)

    def test_errors(self, tstore: Tstore) -> None:
        assert tstore("describe", "s").code == 2
        assert tstore("describe", "s-1", "-c", "plans").code == 3
        missing = tstore("describe", "p-9")
        assert missing.code == 3
        assert "did you mean plans/p-1" in missing.err


@pytest.mark.usefixtures("declared")
class TestList:
    """Field selection, and which index answers."""

    def test_explain(self, tstore: Tstore) -> None:
        facts = dict(
            line.split("\t") for line in tstore("list", "steps", "-f", "status=open", "--explain").out.splitlines()
        )
        assert facts["index"] == "status"
        assert facts["records"] == "1"
        found = json.loads(tstore("list", "steps", "-f", "n>0", "--sort", "n", "--explain", "--json").out)
        assert (found["index"], found["checked"], found["sorted_by"]) == (
            None,
            ["any_(gt('n', '0'), gt('n', 0))"],
            "python",
        )

    def test_fields_are_chosen_in_json_too_and_numbers_stay_exact(self, tstore: Tstore) -> None:
        result = tstore("list", "steps", "--fields", "n,id,label", "--jsonl")
        assert result.out == '{"n":0.12345678901234567890,"id":"s-1"}\n{"id":"s-2"}\n'
