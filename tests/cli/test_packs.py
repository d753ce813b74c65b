"""Commands about what the packs bring."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
import pytest

from taskstore_async import Document, Record, References, Store
from taskstore_async.cli.app import app
from taskstore_async.cli.drawing import as_dot, as_mermaid, as_tree
from taskstore_async.cli.markdown import rendered
from taskstore_async.records.loops import EventRecord, Loop, LoopType
from taskstore_async.records.tasks import Execution, Prd, PrdStatus, TaskSpec
from taskstore_async.storage.relations import Edge, Node, Relations, relations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Run = Callable[..., Result]

OWN = """
from typing import Annotated, ClassVar
from enum import StrEnum
from taskstore_async import Indexed, Record

class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"

class Box(Record):
    collection: ClassVar[str] = "boxes"
    status: Annotated[Size, Indexed] = Size.SMALL
"""


@pytest.fixture
def plans(folder: Path) -> Path:
    """A store with a plan of two parts, one of which was tried."""
    with Store.open(folder) as store:
        store.create(Prd(id="prd-1", title="Add OAuth", status=PrdStatus.ACTIVE))
        store.create(Prd(id="prd-2", title="Add search"))
        store.create(TaskSpec(id="ts-1", prd_id="prd-1", phase_name="Tokens"))
        store.create(TaskSpec(id="ts-2", prd_id="prd-2", phase_name="Index"))
        store.create(Execution(id="exec-1", ts_id="ts-1"))
        store.create(Execution(id="exec-2", ts_id="ts-1"))
    return folder


def ids(result: Result) -> list[str]:
    assert (result.code, result.err) == (0, "")
    return [line.split("\t")[0] for line in result.out.splitlines()]


def one(result: Result) -> str:
    (found,) = ids(result)
    return found


def test_no_two_commands_have_one_name() -> None:
    names = [one.name for one in app.registered_commands]
    assert sorted(set(names), key=str) == sorted(names, key=str)


class TestCreating:
    """What is made can be found by the id that is printed, and its text stands in a file beside it."""

    def test_a_prd(self, tstore: Run, folder: Path) -> None:
        (folder / "why.md").write_text("# Why\n")
        prd = one(tstore("create-prd", "Add OAuth Authentication", "--description", "Sign in", "--content", "why.md"))
        assert prd.startswith("prd-")
        fields = json.loads(tstore("get", "prds", prd).out)
        assert (fields["title"], fields["description"], fields["status"]) == (
            "Add OAuth Authentication",
            "Sign in",
            "draft",
        )
        assert fields["file"] == "prds/add-oauth-authentication.md"
        assert (folder / ".taskstore" / fields["file"]).read_text() == "# Why\n"

    def test_a_part_of_it_by_the_beginning_of_its_id(self, tstore: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        prd = one(tstore("create-prd", "Add OAuth"))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"# Wie?\n")))
        spec = one(tstore("create-task-spec", prd[:10], "Tokens", "--workflow", "rust-dev", "--content", "-"))
        fields = json.loads(tstore("get", "task_specs", spec).out)
        assert (fields["prd_id"], fields["phase_name"], fields["workflow_name"]) == (prd, "Tokens", "rust-dev")
        assert tstore("describe", spec).out.endswith("\n\n# Wie?\n")

    def test_for_programs_the_stored_line_is_printed(self, tstore: Run) -> None:
        fields = json.loads(tstore("create-prd", "Add OAuth", "--json").out)
        assert tstore("get", "prds", fields["id"]).out == tstore("list-prds", "--jsonl").out
        assert fields["title"] == "Add OAuth"

    def test_a_blank_title_is_refused(self, tstore: Run) -> None:
        result = tstore("create-prd", "  ")
        assert result.code == 2
        assert "title cannot be empty" in result.err
        assert tstore("list-prds").out == ""

    def test_a_part_of_nothing_is_refused(self, tstore: Run) -> None:
        tstore("create-prd", "Add OAuth")
        result = tstore("create-task-spec", "prd-9", "Tokens")
        assert (result.code, result.out) == (3, "")

    def test_a_content_that_cannot_be_read_makes_nothing(self, tstore: Run, folder: Path) -> None:
        (folder / "bytes").write_bytes(b"\xff")
        assert tstore("create-prd", "x", "--content", "bytes").code == 2
        assert tstore("create-prd", "x", "--content", "absent").code == 1
        assert not (folder / ".taskstore").exists()


class TestListing:
    """Every type has its list, by its plural."""

    @pytest.mark.parametrize(
        ("words", "wanted"),
        [
            ("list-prds", ["prd-1", "prd-2"]),
            ("list-prds --status active", ["prd-1"]),
            ("list-prds --status failed", []),
            ("list-task-specs", ["ts-1", "ts-2"]),
            ("list-task-specs prd-2", ["ts-2"]),
            ("list-task-specs prd-2 --status complete", []),
            ("list-executions --limit 1", ["exec-1"]),
            ("list-executions --status running", ["exec-1", "exec-2"]),
            ("list-type executions", ["exec-1", "exec-2"]),
            ("list-loops", []),
            ("list-dependencies", []),
            ("--jsonl list-repo-states", []),
        ],
    )
    def test_list(self, words: str, wanted: list[str], tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        assert ids(tstore(*words.split())) == wanted

    def test_it_is_the_list_of_the_collection(self, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        assert tstore("list-prds", "--json") == tstore("list", "prds", "--json")
        assert tstore("list-prds") == tstore("list", "prds")

    def test_a_wrong_status_is_told_the_right_ones(self, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        result = tstore("list-executions", "--status", "done")
        assert (result.code, result.out) == (2, "")
        assert "they are running, paused, complete, failed, stopped" in result.err
        assert "workflows have no status" in tstore("list-workflows", "--status", "x").err

    def test_an_unknown_type_is_told_those_there_are(self, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        result = tstore("list-nonsense")
        assert (result.code, result.out) == (2, "")
        assert "there is no record type nonsense; there are: dependencies, events, executions" in result.err

    def test_a_parent_that_does_not_exist_is_told(self, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        assert tstore("list-task-specs", "prd-9").code == 3

    def test_a_computed_field_is_known_before_it_was_ever_written(self, tstore: Run, folder: Path) -> None:
        (folder / ".taskstore").mkdir()
        (folder / ".taskstore" / "loops.jsonl").write_bytes(b'{"id":"l-1","loop_type":"code","status":"running"}\n')
        assert ids(tstore("list-loops", "--status", "running")) == ["l-1"]

    def test_a_collection_of_ones_own_with_a_packs_name_stays_ones_own(self, tstore: Run, folder: Path) -> None:
        (folder / ".taskstore").mkdir()
        (folder / ".taskstore" / "_types.jsonl").write_bytes(
            b'{"id":"loops","updated_at":1,"fields":{"status":{"present":"done_at"}},"local":false}\n'
        )
        (folder / ".taskstore" / "loops.jsonl").write_bytes(b'{"id":"l-1"}\n')
        assert ids(tstore("list-loops")) == ["l-1"]


class TestOwnTypes:
    """Types come from --records, from what the store declares, and only else from installed packages."""

    def test_of_a_module(self, tstore: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "own_records_1.py").write_text(OWN)
        monkeypatch.syspath_prepend(str(folder))
        assert one(tstore("create", "boxes", "--id", "b-1", "status=small", "--records", "own_records_1")) == "b-1"
        assert ids(tstore("--records", "own_records_1", "list-boxes", "--status", "small")) == ["b-1"]
        result = tstore("--records", "own_records_1", "list-boxes", "--status", "huge")
        assert "they are small, large" in result.err

    def test_of_the_store(self, tstore: Run, folder: Path) -> None:
        assert folder.is_dir()
        tstore("create", "issues", "--id", "i-1", "status=open")
        assert ids(tstore("list-issues", "--status", "open")) == ["i-1"]
        assert ids(tstore("list-issues", "--status", "anything")) == []

    def test_of_an_installed_package(self, tstore: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        site = folder / "site"
        (site / "own_pack-1.0.dist-info").mkdir(parents=True)
        (site / "own_pack-1.0.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: own-pack\nVersion: 1.0\n"
        )
        points = "[taskstore_async.records]\nown = own_records_2\n"
        (site / "own_pack-1.0.dist-info" / "entry_points.txt").write_text(points)
        (site / "own_records_2.py").write_text(OWN)
        monkeypatch.syspath_prepend(str(site))
        tstore("create-prd", "x")
        assert tstore("list-prds").code == 0
        assert "own_records_2" not in sys.modules  # a name that is built in loads nothing
        assert ids(tstore("list-boxes", "--status", "large")) == []
        assert "they are small, large" in tstore("list-boxes", "--status", "huge").err

    def test_a_package_that_does_not_load_is_told(
        self, tstore: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site = folder / "site"
        (site / "bad_pack-1.0.dist-info").mkdir(parents=True)
        (site / "bad_pack-1.0.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: bad-pack\nVersion: 1.0\n"
        )
        points = "[taskstore_async.records]\nbad = absent_records\n"
        (site / "bad_pack-1.0.dist-info" / "entry_points.txt").write_text(points)
        monkeypatch.syspath_prepend(str(site))
        tstore("create", "issues", "title=x")
        assert tstore("list-issues").code == 0
        result = tstore("list-boxes")
        assert result.code == 2
        assert "the record types of absent_records cannot be loaded (ModuleNotFoundError" in result.err


class TestShowing:
    """``show`` takes a type by any of its names, or finds it; ``describe`` adds the text."""

    @pytest.mark.parametrize(
        "words",
        [
            "prd prd-1",
            "prds prd-1",
            "prd-1",
            "ts ts-1",
            "task-spec ts-1",
            "task_specs ts-1",
            "execution exec-1",
            "exec exec-1",
        ],
    )
    def test_show_and_describe(self, words: str, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        for command in ("show", "describe"):
            result = tstore(command, *words.split())
            assert (result.code, result.err) == (0, "")
            assert f"id\t{words.rsplit(maxsplit=1)[-1]}\n" in result.out

    def test_a_collection_called_so_comes_first(self, tstore: Run) -> None:
        tstore("create", "prd", "--id", "x-1", "title=mine")
        assert tstore("show", "prd", "x-1").out.startswith("collection\tprd\n")

    def test_an_id_that_is_not_there(self, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        assert tstore("describe", "prd-9").code == 3
        assert tstore("show", "prd", "ts-1").code == 3
        assert tstore("show", "nonsense", "prd-1").code == 2

    def test_for_programs_the_text_is_the_content(self, tstore: Run, folder: Path) -> None:
        with Store.open(folder) as store:
            store.write_content(Prd(id="prd-1", title="x"), "# Why\n")
            store.create(Prd(id="prd-2", title="y", content="short"))
        assert json.loads(tstore("describe", "prd-1", "--json").out)["content"] == "# Why\n"
        assert tstore("describe", "prd-2").out.endswith("\n\nshort\n")
        assert json.loads(tstore("describe", "prd-2", "--json").out)["content"] == "short"

    def test_a_file_that_is_gone_is_told(self, tstore: Run, folder: Path) -> None:
        with Store.open(folder) as store:
            store.write_content(Prd(id="prd-1", title="x"), "# Why\n")
        (folder / ".taskstore" / "prds" / "x.md").unlink()
        result = tstore("describe", "prd-1")
        assert (result.code, result.out) == (1, "")
        assert "prds/prd-1 has its text in 'prds/x.md', which cannot be read" in result.err
        assert tstore("show", "prd-1").code == 0


class TestGraph:
    """Which records name which."""

    def test_a_tree(self, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        assert tstore("graph").out.splitlines() == [
            "prds/prd-1 Add OAuth [active]",
            "└─ task_specs/ts-1 Tokens [pending]",
            "   ├─ executions/exec-1 [running]",
            "   └─ executions/exec-2 [running]",
            "prds/prd-2 Add search [draft]",
            "└─ task_specs/ts-2 Index [pending]",
        ]
        assert tstore("graph", "prd").out.splitlines() == [
            "prds/prd-1 Add OAuth [active]",
            "prds/prd-2 Add search [draft]",
        ]

    def test_parents_and_lists_of_what_comes_first_are_edges_too(self, tstore: Run, folder: Path) -> None:
        with Store.open(folder) as store:
            store.create(Loop(id="l-1", loop_type=LoopType.PLAN))
            store.create(Loop(id="l-2", loop_type=LoopType.SPEC, parent_id="l-1"))
            store.create(Document("issues", {"id": "i-1", "title": "Ship"}))
            store.create(Document("issues", {"id": "i-2", "depends_on": ["i-1", "i-9"]}))
            store.create(Document("notes", {"id": "n-1"}))
            store.create(EventRecord(id="ev-1", event_type="x"))
            store.modify("events", "ev-1", lambda event: event.evolve(depends_on=["ev-0"]))
            assert len(relations(store, ["events"]).nodes) == 1
            found = relations(store)
        assert [node.key for node in found.nodes] == ["issues/i-1", "issues/i-2", "loops/l-1", "loops/l-2"]
        assert found.edges == (
            Edge("issues/i-2", "issues/i-1", "depends_on"),
            Edge("issues/i-2", "issues/i-9", "depends_on"),
            Edge("loops/l-2", "loops/l-1", "parent_id"),
        )
        assert "issues/i-1 Ship\n└─ issues/i-2\n" in tstore("graph").out

    def test_what_is_declared_to_be_named_is_drawn_before_it_is(self, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        tstore("delete", "task_specs", "ts-1", "ts-2")
        assert tstore("graph").out == "prds/prd-1 Add OAuth [active]\nprds/prd-2 Add search [draft]\n"

    def test_for_programs(self, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        drawn = json.loads(tstore("graph", "--json").out)
        assert {"key": "prds/prd-1", "title": "Add OAuth", "status": "active"} in drawn["nodes"]
        assert {"source": "task_specs/ts-1", "target": "prds/prd-1", "field": "prd_id"} in drawn["edges"]
        assert drawn["cycles"] == []

    def test_a_circle_is_told_and_drawn_once(self, tstore: Run, folder: Path) -> None:
        (folder / ".taskstore").mkdir()
        lines = [{"id": one, "depends_on": [other]} for one, other in ("ab", "bc", "ca")]
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        (folder / ".taskstore" / "issues.jsonl").write_bytes(data)
        result = tstore("graph")
        assert result.code == 0
        assert "in a circle: issues/a → issues/b → issues/c → issues/a" in result.err
        assert result.out.splitlines() == [
            "issues/a",
            "└─ issues/c",
            "   └─ issues/b",
            "      └─ issues/a (see above)",
        ]

    def test_what_stands_below_two_is_unfolded_once(self) -> None:
        nodes = [Node(key, None, None) for key in "abcd"]
        edges = [Edge("c", "a", "x"), Edge("c", "b", "x"), Edge("d", "c", "x")]
        tree = list(as_tree(Relations(tuple(nodes), tuple(edges))))
        assert tree == ["a", "└─ c", "   └─ d", "b", "└─ c (see above)"]

    def test_a_long_chain_is_drawn(self) -> None:
        nodes = tuple(Node(str(number), None, None) for number in range(3_000))
        edges = tuple(Edge(str(number + 1), str(number), "x") for number in range(2_999))
        assert len(list(as_tree(Relations(nodes, edges)))) == 3_000

    def test_dot(self, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        lines = tstore("graph", "--format", "dot").out.splitlines()
        assert lines[0] == "digraph taskstore {"
        assert '  "prds/prd-1" [label="prds/prd-1 Add OAuth [active]"];' in lines
        assert '  "prds/prd-1" -> "task_specs/ts-1" [label="prd_id"];' in lines
        assert lines[-1] == "}"

    def test_mermaid(self, tstore: Run, plans: Path) -> None:
        assert plans.is_dir()
        lines = tstore("graph", "executions", "ts", "--format", "mermaid").out.splitlines()
        assert lines[0] == "graph LR"
        assert '  n2["task_specs/ts-1 Tokens #91;pending#93;"]' in lines
        assert "  n2 -->|ts_id| n0" in lines
        assert '  n4["prds/prd-1"]' in lines  # named, and not asked for
        assert "  n4 -->|prd_id| n2" in lines

    def test_what_would_end_a_label_does_not(self) -> None:
        node = Node('x/"\\', 'a "b"\n[c] | `d`', None)
        drawn = Relations((node,), (Edge(node.key, 'y/"', "f"),))
        assert list(as_dot(drawn))[3] == r'  "x/\"\\" [label="x/\"\\ a \"b\"\n[c] | `d`"];'
        label = list(as_mermaid(drawn))[1].removeprefix('  n0["').removesuffix('"]')
        assert not set(label) & set('"[]|`')
        assert "\n" not in label


class TestMarkdown:
    """On a terminal the marks are made visible, and nothing of the text acts on it."""

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("# Why", "\x1b[1m\x1b[4mWhy\x1b[0m"),
            ("### How ###", "\x1b[1mHow\x1b[0m"),
            ("#no heading", "#no heading"),
            ("- one", "• one"),
            ("  * [ ] two", "  ☐ two"),
            ("+ [x] three", "☑ three"),
            ("> said", "\x1b[2m│\x1b[0m said"),
            ("a `b` c", "a \x1b[2mb\x1b[0m c"),
            ("a **b** *c*", "a \x1b[1mb\x1b[0m \x1b[3mc\x1b[0m"),
            ("snake_case_name 2 * 3 * 4", "snake_case_name 2 * 3 * 4"),
            ("`**code**`", "\x1b[2m**code**\x1b[0m"),
            ("---", "\x1b[2m" + "─" * 40 + "\x1b[0m"),
            ("plain", "plain"),
            ("\x1b[31mred", "\\u001b[31mred"),
        ],
    )
    def test_a_line(self, text: str, shown: str) -> None:
        assert list(rendered(text)) == [shown]

    def test_a_block_of_code_is_as_it_is(self) -> None:
        text = "```python\n# no heading\n\n- no item\n```\n- item\n~~~\n```\n~~~\n"
        dim, end = "\x1b[2m", "\x1b[0m"
        assert list(rendered(text)) == [
            f"    {dim}# no heading{end}",
            "",
            f"    {dim}- no item{end}",
            "• item",
            f"    {dim}```{end}",
        ]


class TestUntyped:
    """What create and update store in a built-in type's collection is told to be none, and stored all the same."""

    def test_a_value_that_is_none_is_named_with_those_that_there_are(self, tstore: Run) -> None:
        made = tstore("create", "prds", "--id", "prd-1", "title=x", "status=bogus")
        assert (made.code, made.out) == (0, "prd-1\n")
        assert "note: prds/prd-1 is stored, but cannot be read as Prd: Invalid enum value 'bogus'" in made.err
        assert "(there are: draft, " in made.err
        assert made.err.count("\n") == 1
        mended = tstore("update", "prds", "prd-1", "status=draft")
        assert (mended.code, mended.err) == (0, "tstore: updated prds/prd-1\n")
        assert "cannot be read as Prd" in tstore("update", "prds", "prd-1", "status=bogus", "--json").err

    def test_a_field_that_is_missing(self, tstore: Run) -> None:
        assert "missing required field `title`" in tstore("create", "prds", "x=y").err

    def test_a_type_of_records_is_known_too(self, tstore: Run) -> None:
        words = ["create", "loops", "status=bogus"]
        assert tstore(*words).err == ""
        assert "cannot be read as " in tstore("--records", "taskstore_async.records.loops", *words).err

    def test_somebodys_own_collection_of_that_name_is_left_alone(self, folder: Path, tstore: Run) -> None:
        class Own(Record):
            collection: ClassVar[str] = "prds"
            status: Annotated[str, References("people")]

        with Store.open(folder, records=[Own]) as store:
            store.create(Document("people", {"id": "kim"}))
        assert tstore("create", "prds", "status=kim").err == ""

    def test_names_that_others_have_too_are_left_alone(self, tstore: Run) -> None:
        for name in ("tasks", "projects", "runs", "events", "issues"):
            assert tstore("create", name, "status=open").err == ""
