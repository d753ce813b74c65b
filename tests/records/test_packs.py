"""What every pack promises, from the first record to the merge of two branches."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

import taskstore_async
import taskstore_async.records
from taskstore_async import MissingReferenceError, NotFoundError, Record, StateManager, Store, eq
from taskstore_async.core.codec import decode_exact
from taskstore_async.core.merge import merge
from taskstore_async.core.record import declaration_of
from taskstore_async.records import loops, runs, tasks
from tests.records.samples import PACKS

every_pack = pytest.mark.parametrize("pack", PACKS)
SAMPLES = [pytest.param(one, id=one.id) for records in PACKS.values() for one in records]
PLAN, SPEC = "1738300800123-a1b2", "1738300800123-a1b2-001"

# Collection, declared field, value, and the samples that have it.
QUERIES: dict[str, list[tuple[type[Record], str, object, list[str]]]] = {
    "tasks": [
        (tasks.Prd, "status", "in_progress", ["prd-1"]),
        (tasks.Prd, "file", "prds/add-oauth.md", ["prd-1"]),
        (tasks.TaskSpec, "prd_id", "prd-1", ["ts-1"]),
        (tasks.TaskSpec, "status", tasks.TaskStatus.BLOCKED, ["ts-1"]),
        (tasks.TaskSpec, "file", "task_specs/tokens.md", ["ts-1"]),
        (tasks.Execution, "ts_id", "ts-1", ["exec-1"]),
        (tasks.Execution, "status", "paused", ["exec-1"]),
        (tasks.Dependency, "from_exec_id", "exec-1", ["dep-1", "dep-2"]),
        (tasks.Dependency, "to_exec_id", "exec-1", ["dep-1"]),
        (tasks.Dependency, "to_exec_id", None, ["dep-2"]),
        (tasks.Dependency, "dependency_type", "notify", ["dep-2"]),
        (tasks.Dependency, "resolved", False, ["dep-2"]),
        (tasks.Workflow, "name", "rust-dev", ["wf-1"]),
    ],
    "loops": [
        (loops.Loop, "status", "pending", [SPEC]),
        (loops.Loop, "loop_type", "plan", [PLAN]),
        (loops.Loop, "parent_id", PLAN, [SPEC]),
        (loops.SignalRecord, "target_loop", SPEC, ["sig-1", "sig-2"]),
        (loops.SignalRecord, "target_selector", f"descendants:{PLAN}", ["sig-1"]),
        (loops.SignalRecord, "acknowledged", False, ["sig-2"]),
        (loops.EventRecord, "event_type", "loop.started", ["ev-1"]),
        (loops.EventRecord, "loop_id", PLAN, ["ev-1"]),
        (loops.ToolJobRecord, "loop_id", PLAN, ["job-1"]),
        (loops.ToolJobRecord, "iteration", 2, ["job-1"]),
        (loops.ToolJobRecord, "tool_name", "bash", ["job-1"]),
        (loops.ToolJobRecord, "status", "timeout", ["job-1"]),
        (loops.IterationLog, "execution_id", "exec-1", ["exec-1-iter-2"]),
        (loops.IterationLog, "iteration", 2, ["exec-1-iter-2"]),
    ],
    "runs": [
        (runs.Run, "project_id", "demo", ["run-1"]),
        (runs.Run, "status", "failed", ["run-1"]),
        (runs.Run, "started_at", 1_700_000_000_000, ["run-1"]),
        (runs.RunTask, "run_id", "run-1", ["task-1"]),
        (runs.RunTask, "name", "build", ["task-1"]),
        (runs.RunTask, "status", runs.RunTaskStatus.SKIPPED, ["task-1"]),
        (runs.RunTask, "started_at", 1_700_000_000_000, ["task-1"]),
    ],
}


def types_of(pack: str) -> list[type[Record]]:
    """The record types that a pack names."""
    module = import_module(f"taskstore_async.records.{pack}")
    return [one for one in (getattr(module, name) for name in module.__all__) if issubclass(one, Record)]


def fields_of(record: Record) -> dict[str, Any]:
    """What the caller of a record set."""
    return {
        name: getattr(record, name) for name in record.__struct_fields__ if name not in {"created_at", "updated_at"}
    }


class TestAPack:
    """A pack is data and pure functions, made of public names: an example of how to write one's own."""

    @pytest.mark.parametrize("pack", taskstore_async.records.PACKS)
    def test_it_imports_public_names_only(self, pack: str) -> None:
        source = Path(inspect.getfile(import_module(pack))).read_text(encoding="utf-8")
        imported = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
        ours = [node for node in imported if (node.module or "").startswith("taskstore_async")]
        assert {node.module for node in ours} == {"taskstore_async"}
        assert {alias.name for node in ours for alias in node.names} <= set(taskstore_async.__all__)

    @every_pack
    def test_the_samples_have_every_type_and_the_queries_every_declared_field(self, pack: str) -> None:
        assert {type(one) for one in PACKS[pack]} == set(types_of(pack))
        declared = {(one, field) for one in types_of(pack) for field in declaration_of(one).columns}
        assert {(one, field) for one, field, *_ in QUERIES[pack]} == declared

    @pytest.mark.parametrize("record", SAMPLES)
    def test_a_round_trip_keeps_every_field_and_unknown_ones_too(self, record: Record, tmp_path: Path) -> None:
        (tmp_path / ".taskstore").mkdir()
        known = msgspec.json.decode(msgspec.json.encode(record))
        line = msgspec.json.encode({**known, "created_at": 5, "updated_at": 7, "extra": {"n": 1.5, "deep": [None]}})
        (tmp_path / ".taskstore" / f"{record.collection}.jsonl").write_bytes(line + b"\n")
        with Store.open(tmp_path, create=False) as store:
            read = store.get(type(record), record.id)
            assert read is not None
            assert fields_of(read) == fields_of(record)
            written = store.modify(record.collection, record.id, lambda found: found)
            assert written.updated_at > 7
            raw = store.line(record.collection, record.id)
        assert raw is not None
        assert decode_exact(raw) == {**decode_exact(line), "updated_at": written.updated_at}


@pytest.mark.anyio
class TestEndToEnd:
    """A pack works on every loop: stored, found by each indexed field, and the same after a rebuild without types."""

    @every_pack
    async def test_created_found_and_found_again(self, pack: str, tmp_path: Path) -> None:
        async with StateManager.open(tmp_path, records=types_of(pack)) as manager:
            async with manager.batch() as batch:
                for record in PACKS[pack]:
                    batch.create(record)
            for record in PACKS[pack]:
                read = await manager.get(type(record), record.id)
                assert read is not None
                assert fields_of(read) == fields_of(record)
                assert read.updated_at == read.created_at != 0
            for record_type, field, value, wanted in QUERIES[pack]:
                assert [one.id for one in await manager.list(record_type, eq(field, value))] == wanted, field

        for path in (tmp_path / ".taskstore").glob("store.db*"):
            path.unlink()
        async with StateManager.open(tmp_path) as manager:  # without types: the declarations stand in the store
            for record_type, field, value, wanted in QUERIES[pack]:
                name = record_type.collection
                assert [one.id for one in await manager.list(name, eq(field, value))] == wanted, field
                assert field in manager_columns(tmp_path, name)

    async def test_deleting_a_prd_deletes_what_belongs_to_it(self, tmp_path: Path) -> None:
        async with StateManager.open(tmp_path, records=types_of("tasks")) as manager:
            for record in PACKS["tasks"]:
                await manager.create(record)
            await manager.delete(tasks.Prd, "prd-1")
            left = [name for name in ("prds", "task_specs", "executions", "dependencies") if await manager.count(name)]
            assert left == []
            assert await manager.count("workflows") == await manager.count("repo_states") == 1

    async def test_what_belongs_to_nothing_is_refused(self, tmp_path: Path) -> None:
        async with StateManager.open(tmp_path) as manager:
            with pytest.raises(MissingReferenceError):
                await manager.create(tasks.TaskSpec(id="ts-9", prd_id="prd-9", phase_name="x"))
            with pytest.raises(MissingReferenceError):
                await manager.create(tasks.Dependency(id="dep-9", from_exec_id="exec-9"))
            for record in PACKS["tasks"]:
                await manager.create(record)
            with pytest.raises(MissingReferenceError):
                await manager.create(tasks.Dependency(id="dep-9", from_exec_id="exec-1", to_exec_id="exec-9"))
            await manager.create(tasks.Execution(id="exec-2", ts_id="ts-1"))
            await manager.create(tasks.Dependency(id="dep-9", from_exec_id="exec-1", to_exec_id="exec-2"))
            await manager.delete(tasks.Execution, "exec-2")
            assert await manager.get(tasks.Dependency, "dep-9") is None
            assert await manager.count(tasks.Dependency) == 2

    async def test_git_does_not_keep_events(self, tmp_path: Path) -> None:
        async with StateManager.open(tmp_path, records=types_of("loops")) as manager:
            ignored = (manager.path / ".gitignore").read_text().split()
        names = {f"{one.collection}.jsonl" for one in types_of("loops")}
        assert names & set(ignored) == {"events.jsonl"}

    async def test_deleting_a_loop_leaves_those_it_started(self, tmp_path: Path) -> None:
        async with StateManager.open(tmp_path, records=types_of("loops")) as manager:
            for record in PACKS["loops"]:
                await manager.create(record)
            await manager.delete(loops.Loop, PLAN)
            with pytest.raises(NotFoundError):
                await manager.delete(loops.Loop, PLAN)
            assert [one.id for one in await manager.list(loops.Loop, eq("parent_id", PLAN))] == [SPEC]

    @every_pack
    async def test_two_branches_merge_without_loss(self, pack: str, tmp_path: Path) -> None:
        async with StateManager.open(tmp_path / "base", records=types_of(pack)) as manager:
            for record in PACKS[pack]:
                await manager.create(record)
        base = {path.name: path.read_bytes() for path in (tmp_path / "base" / ".taskstore").glob("*.jsonl")}
        sides: list[dict[str, bytes]] = []
        for side, field in (("ours", "note"), ("theirs", "mark")):
            folder = tmp_path / side / ".taskstore"
            folder.mkdir(parents=True)
            for name, data in base.items():
                (folder / name).write_bytes(data)
            async with StateManager.open(tmp_path / side) as manager:
                for record in PACKS[pack]:
                    found = await manager.get(record.collection, record.id)
                    assert found is not None
                    await manager.update(found.evolve(**{field: side}))
            sides.append({path.name: path.read_bytes() for path in folder.glob("*.jsonl")})

        folder = tmp_path / "merged" / ".taskstore"
        folder.mkdir(parents=True)
        for name, data in base.items():
            merged = merge(data, sides[0][name], sides[1][name])
            assert merged.conflicts == 0
            assert merged == merge(data, sides[0][name], sides[1][name])
            (folder / name).write_bytes(merged.data)
        async with StateManager.open(tmp_path / "merged", records=types_of(pack)) as manager:
            for record in PACKS[pack]:
                typed = await manager.get(type(record), record.id)
                untyped = await manager.get(record.collection, record.id)
                assert typed is not None
                assert untyped is not None
                assert fields_of(typed) == fields_of(record)
                assert (untyped["note"], untyped["mark"]) == ("ours", "theirs")


def manager_columns(path: Path, name: str) -> tuple[str, ...]:
    """The fields of a collection that the index has columns for, as another handle sees them."""
    with Store.open(path) as store:
        return store.declaration(name).columns


class TestLimits:
    """Limits bind writes. What a file holds all the same is read, and can be mended."""

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            (tasks.Prd(id="p", title=" \t"), "title cannot be empty"),
            (tasks.Prd(id="p", title="x", review_passes=256), "review_passes is 256, and must be in 0 ... 255"),
            (tasks.Prd(id="p", title="x", review_passes=-1), "review_passes is -1"),
            (tasks.Execution(id="e", ts_id="t", iteration_count=-1), "iteration_count is -1, and must be 0 or more"),
            (tasks.RepoState(id="other", repo_path="/repo"), "the id of this repo_path is '/repo'"),
            (
                loops.ToolJobRecord(id="j", loop_id="l", tool_name="bash", output_summary="é" * 500 + "x"),
                "output_summary has 1,001 bytes",
            ),
        ],
    )
    def test_a_value_beyond_its_limit_is_refused(self, record: Record, message: str) -> None:
        with Store.temporary() as store:
            for write in (store.create, store.put):
                with pytest.raises(ValueError, match=message) as caught:
                    write(record)
                assert isinstance(caught.value, taskstore_async.InvalidRecordError)
            assert store.count(type(record)) == 0

    def test_the_limits_themselves_are_taken(self) -> None:
        with Store.temporary() as store:
            store.create(tasks.Prd(id="p", title="x", review_passes=255))
            job = loops.ToolJobRecord(id="j", loop_id="l", tool_name="bash", output_summary="é" * 500)
            assert store.create(job).output_summary == "é" * 500

    def test_a_line_beyond_a_limit_is_read_and_can_be_mended(self, tmp_path: Path) -> None:
        (tmp_path / ".taskstore").mkdir()
        line = b'{"id":"p","updated_at":7,"title":"","review_passes":300}\n'
        (tmp_path / ".taskstore" / "prds.jsonl").write_bytes(line)
        with Store.open(tmp_path) as store:
            (prd,) = store.list(tasks.Prd)
            assert (prd.title, prd.review_passes) == ("", 300)
            with pytest.raises(taskstore_async.InvalidRecordError):
                store.update(prd.evolve(status=tasks.PrdStatus.READY))
            assert store.update(prd.evolve(title="Mended", review_passes=3)).title == "Mended"

    def test_the_defaults_are_the_first_status_zero_and_none(self) -> None:
        assert tasks.Prd(id="p", title="x").status == "draft"
        assert tasks.TaskSpec(id="t", prd_id="p", phase_name="x").status == "pending"
        attempt = tasks.Execution(id="e", ts_id="t")
        assert (attempt.status, attempt.iteration_count, attempt.started_at) == ("running", 0, None)
        wanted = tasks.Dependency(id="d", from_exec_id="e")
        assert (wanted.dependency_type, wanted.to_exec_id, wanted.resolved_at) == ("notify", None, None)
        loop = loops.Loop(id="l", loop_type=loops.LoopType.CODE)
        assert (loop.status, loop.iteration, loop.parent_id) == ("pending", 0, None)
        job = loops.ToolJobRecord(id="j", loop_id="l", tool_name="bash")
        assert (job.status, job.lane, job.iteration, job.exit_code) == ("pending", "no-net", 0, None)


class TestUniqueNames:
    """A workflow is known by its name, a repository by its path."""

    def test_a_second_workflow_of_one_name_is_refused(self) -> None:
        with Store.temporary() as store:
            store.create(tasks.Workflow(id="wf-1", name="rust-dev"))
            with pytest.raises(taskstore_async.UniqueError):
                store.create(tasks.Workflow(id="wf-2", name="rust-dev"))

    def test_a_path_that_is_too_long_for_an_id_is_known_by_its_hash(self) -> None:
        path = "/very" * 100
        state = tasks.RepoState(id=taskstore_async.text_id(path), repo_path=path, last_synced_commit="abc")
        assert len(state.id) == len("sha256-") + 64
        with Store.temporary() as store:
            assert store.create(state).repo_path == path
            assert store.get(tasks.RepoState, taskstore_async.text_id(path)) is not None
            assert store.get(tasks.RepoState, taskstore_async.text_id(path + "/")) is None

    def test_so_is_one_with_what_no_id_may_have(self) -> None:
        assert taskstore_async.text_id("/a\nb").startswith("sha256-")
        assert taskstore_async.text_id("/a b") == "/a b"
        with pytest.raises(taskstore_async.InvalidIdError):
            taskstore_async.text_id(" ")
