"""Files of the programs that own these names load unchanged, and lose no update."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async import Record, StaleWriteError, StateManager, Store, eq, in_, is_null, not_, text_id
from taskstore_async.core.codec import decode_exact
from taskstore_async.core.fold import fold
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge import merge
from taskstore_async.core.query import Query
from taskstore_async.records import loops, tasks
from taskstore_async.storage.select import compile_query

if TYPE_CHECKING:
    from pathlib import Path

PLAN = (
    b'{"id":"1738300800123-a1b2","loop_type":"plan","parent_id":null,"input_artifact":null,"output_artifacts":'
    b'["plans/001.plan.md"],"prompt_path":"prompts/plan.md","validation_command":"loopr validate plan",'
    b'"max_iterations":10,"worktree":".loopr/worktrees/plan-1738300800123-a1b2","iteration":0,"status":"pending",'
    b'"progress":"","context":{"task":"Add OAuth"},"created_at":1738300800123,"updated_at":1738300800123}\n'
)
SPEC = (
    b'{"id":"1738300800123-a1b2-001","loop_type":"spec","parent_id":"1738300800123-a1b2","input_artifact":'
    b'"plans/001.plan.md","output_artifacts":[],"prompt_path":"prompts/spec.md","validation_command":"loopr validate '
    b'spec","max_iterations":10,"worktree":".loopr/worktrees/spec","iteration":1,"status":"running","progress":"","context":'
    b'{"spec_index":1},"created_at":1738300800200,"updated_at":1738300800200}\n'
)
SIGNALS = (
    b'{"id":"sig-1","signal_type":"stop","source_loop":null,"target_loop":"l-1","target_selector":null,"reason":"user",'
    b'"payload":null,"created_at":1738300800300,"acknowledged_at":null}\n'
    b'{"id":"sig-2","signal_type":"rebase","source_loop":"l-0","target_loop":"l-1","target_selector":null,"reason":"moved"'
    b',"payload":{"commit":"abc"},"created_at":1738300800400,"acknowledged_at":null}\n'
    b'{"id":"sig-1","signal_type":"stop","source_loop":null,"target_loop":"l-1","target_selector":null,"reason":"user",'
    b'"payload":null,"created_at":1738300800300,"acknowledged_at":1738300800500}\n'
)
JOBS = (
    b'{"id":"job-1","loop_id":"l-1","iteration":3,"tool_name":"bash","lane":"no-net","input_summary":"cargo test",'
    b'"output_summary":"","status":"running","exit_code":null,"duration_ms":0,"created_at":1738300800600,'
    b'"completed_at":null}\n'
    b'{"id":"job-1","loop_id":"l-1","iteration":3,"tool_name":"bash","lane":"no-net","input_summary":"cargo test",'
    b'"output_summary":"ok","status":"success","exit_code":0,"duration_ms":1500,"created_at":1738300800600,'
    b'"completed_at":1738300802100}\n'
)
EXECUTIONS = (
    b'{"id":"exec-1","ts_id":"ts-1","worktree_path":"/w/1","branch_name":"b","status":"running","started_at":1704067200000'
    b',"updated_at":1704067200000,"completed_at":null,"current_phase":null,"iteration_count":4,"error_message":null}\n'
)
WORKFLOWS = (
    b'{"id":"wf-1","name":"rust-dev","version":"1.0","awl_code":"loop { test }","created_at":1704067200000,'
    b'"updated_at":1704067200000}\n'
)
STATES = (
    b'{"repo_path":"/home/me/repo","last_synced_commit":"abc","updated_at":1704067200000}\n'
    b'{"repo_path":"/home/me/repo","last_synced_commit":"def","updated_at":1704067200001}\n'
)

STATE_LINES = st.builds(
    lambda path, own, at, commit: (
        b'{%s"repo_path":"%s","last_synced_commit":"%d","updated_at":%d}\n'
        % (b'"id":"%s",' % path if own else b"", path, commit, at)
    ),
    st.sampled_from([b"/a", b"/b"]),
    st.booleans(),
    st.integers(1, 4),
    st.integers(1, 3),
)
STATE_FILES = st.lists(STATE_LINES, max_size=3).map(b"".join)
PENDING = eq("acknowledged", value=False)


def folder(path: Path, **files: bytes) -> Path:
    """A store directory as such a program leaves it: files, and nothing of ours."""
    (path / ".taskstore").mkdir(parents=True)
    for name, data in files.items():
        (path / ".taskstore" / f"{name}.jsonl").write_bytes(data)
    return path


@pytest.mark.anyio
class TestLoops:
    """Loops with children, signals that were acknowledged later, jobs that ended."""

    async def test_loops_and_their_children(self, tmp_path: Path) -> None:
        async with StateManager.open(folder(tmp_path, loops=PLAN + SPEC), records=[loops.Loop]) as manager:
            (child,) = await manager.list(loops.Loop, eq("parent_id", "1738300800123-a1b2"))
            assert (child.loop_type, child.iteration) == (loops.LoopType.SPEC, 1)
            (root,) = await manager.list(loops.Loop, is_null("parent_id"))
            assert root.context == {"task": "Add OAuth"}
            assert await manager.count(loops.Loop, in_("status", ["pending", "running"])) == 2
            await manager.update(root.evolve(status=loops.LoopStatus.RUNNING))
        data = (tmp_path / ".taskstore" / "loops.jsonl").read_bytes()
        assert data.startswith(PLAN + SPEC)

    async def test_a_signal_that_was_acknowledged_later_is_not_pending(self, tmp_path: Path) -> None:
        async with StateManager.open(folder(tmp_path, signals=SIGNALS), records=[loops.SignalRecord]) as manager:
            mine = (eq("target_loop", "l-1"), PENDING)
            (pending,) = await manager.list(loops.SignalRecord, *mine)
            assert (pending.id, pending.payload) == ("sig-2", {"commit": "abc"})
            # Without a stamp of its own the fold's is the version: created_at here.
            assert pending.created_at == pending.updated_at == 1738300800400
            await manager.update(pending.evolve(acknowledged_at=1738300800700))
            with pytest.raises(StaleWriteError):
                await manager.update(pending.evolve(reason="again"))
            assert await manager.count(loops.SignalRecord, *mine) == 0
        async with StateManager.open(tmp_path) as manager:
            assert await manager.count("signals", *mine) == 0
            assert await manager.count("signals", not_(PENDING)) == 2

    async def test_a_job_has_what_its_last_line_says(self, tmp_path: Path) -> None:
        async with StateManager.open(folder(tmp_path, tool_jobs=JOBS), records=[loops.ToolJobRecord]) as manager:
            (job,) = await manager.list(loops.ToolJobRecord, eq("loop_id", "l-1"), eq("iteration", 3))
            assert (job.status, job.exit_code, job.output_summary) == ("success", 0, "ok")
            assert await manager.count(loops.ToolJobRecord, eq("iteration", "3")) == 0  # an integer, as it is written

    async def test_a_line_without_any_time_is_a_version_all_the_same(self, tmp_path: Path) -> None:
        line = b'{"id":"ev-1","event_type":"loop.started","loop_id":"l-1","payload":{}}\n'
        async with StateManager.open(folder(tmp_path, events=line), records=[loops.EventRecord]) as manager:
            event = await manager.get(loops.EventRecord, "ev-1")
            assert event is not None
            assert (event.created_at, event.updated_at) == (None, 0)
            changed = await manager.update(event.evolve(payload={"n": 1}))
            assert changed.updated_at > 0
            with pytest.raises(StaleWriteError):
                await manager.update(event.evolve(payload={"n": 2}))

    def test_pending_signals_are_one_indexed_lookup(self, tmp_path: Path) -> None:
        with Store.open(folder(tmp_path, signals=SIGNALS), records=[loops.SignalRecord]) as store:
            query = Query((eq("target_loop", "l-1"), PENDING))
            reader = store._engine.reader
            collection = reader.collections["signals"]
            compiled = compile_query(query, table=collection.rows, columns=collection.columns)
            assert compiled.rest is None
            sql, params = compiled.select()
            plan = [row[-1] for row in reader.db.execute(f"EXPLAIN QUERY PLAN {sql}", params)]
            assert plan[0].startswith(f"SEARCH {collection.rows} USING INDEX")
            assert not any(step.startswith("SCAN") for step in plan)


PRD = (
    b'{"id":"prd-1","title":"Add OAuth","description":"d","created_at":1704067200000,"updated_at":1704067200000,'
    b'"status":"ready","review_passes":5,"content":"# Why","owner":"kim"}\n'
)
TASK_SPEC = (
    b'{"id":"ts-1","prd_id":"prd-1","phase_name":"Tokens","description":"d","created_at":1704067200000,"updated_at":'
    b'1704067200000,"status":"pending","workflow_name":null,"assigned_to":null,"content":"# How"}\n'
)
DEPENDENCY = (
    b'{"id":"dep-1","from_exec_id":"exec-1","to_exec_id":"exec-2","dependency_type":"query","created_at":1704067200000,'
    b'"resolved_at":null,"payload":"{\\"q\\":1}"}\n'
    b'{"id":"dep-1","from_exec_id":"exec-1","to_exec_id":"exec-2","dependency_type":"query","created_at":1704067200000,'
    b'"resolved_at":1704067300000,"payload":"{\\"q\\":1}"}\n'
)
EVENT = (
    b'{"id":"ev-1","event_type":"loop.started","loop_id":null,"tool_job_id":"job-1","payload":{"n":1},"created_at":5}\n'
)
LOG = (
    b'{"id":"exec-1-iter-2","execution_id":"exec-1","iteration":2,"validation_command":"otto ci","exit_code":1,'
    b'"stdout":"","stderr":"no","duration_ms":7,"files_changed":["a"],"llm_input_tokens":null,"llm_output_tokens":3,"tool_calls":'
    b'[{"tool_name":"Edit","is_error":false}],"created_at":5,"updated_at":5}\n'
)


@pytest.mark.parametrize(
    ("record_type", "lines", "field", "value"),
    [
        (tasks.Prd, PRD, "review_passes", 5),
        (tasks.TaskSpec, TASK_SPEC, "content", "# How"),
        (tasks.Execution, EXECUTIONS, "iteration_count", 4),
        (tasks.Dependency, DEPENDENCY, "resolved_at", 1704067300000),
        (tasks.Workflow, WORKFLOWS, "content", "loop { test }"),
        (tasks.RepoState, STATES, "last_synced_commit", "def"),
        (loops.Loop, PLAN, "max_iterations", 10),
        (loops.EventRecord, EVENT, "payload", {"n": 1}),
        (loops.ToolJobRecord, JOBS, "completed_at", 1738300802100),
        (loops.IterationLog, LOG, "tool_calls", [{"tool_name": "Edit", "is_error": False}]),
    ],
)
def test_a_line_loads_and_its_file_is_left_as_it_is(
    record_type: type[Record], lines: bytes, field: str, value: object, tmp_path: Path
) -> None:
    path = folder(tmp_path, **{record_type.collection: lines}) / ".taskstore" / f"{record_type.collection}.jsonl"
    with Store.open(tmp_path, records=[record_type]) as store:
        (record,) = store.list(record_type)
        assert getattr(record, field) == value
        assert {one.kind for one in store.check().problems} <= {"dangling"}  # what it names stands in other files
        (document,) = store.list(record_type.collection)
        last = decode_exact(lines.splitlines()[-1])
        assert {name: document[name] for name in last} == last
    assert path.read_bytes() == lines


class TestTasks:
    """Attempts without ``created_at``, workflows in the old name, repositories without an id."""

    def test_an_execution_without_created_at(self, tmp_path: Path) -> None:
        with Store.open(folder(tmp_path, executions=EXECUTIONS)) as store:
            (attempt,) = store.list(tasks.Execution, eq("status", "running"))
            assert (attempt.created_at, attempt.updated_at) == (None, 1704067200000)
            assert (attempt.iteration_count, attempt.started_at) == (4, 1704067200000)
            ended = store.update(attempt.evolve(status=tasks.ExecutionStatus.COMPLETE))
            assert ended.created_at is None

    def test_a_workflow_is_read_under_its_old_name_and_keeps_it(self, tmp_path: Path) -> None:
        with Store.open(folder(tmp_path, workflows=WORKFLOWS)) as store:
            workflow = store.get(tasks.Workflow, "wf-1")
            assert workflow is not None
            assert workflow.content == "loop { test }"
            store.update(workflow.evolve(version="1.1"))
            raw = store.line("workflows", "wf-1")
            assert raw is not None
            assert decode_exact(raw)["awl_code"] == "loop { test }"

            changed = store.modify(tasks.Workflow, "wf-1", lambda found: found.evolve(content="loop { lint }"))
            assert changed.content == "loop { lint }"
            raw = store.line("workflows", "wf-1")
            assert raw is not None
            assert decode_exact(raw)["awl_code"] == "loop { lint }"  # so the older program sees the change too

    def test_a_new_workflow_has_the_new_name_only(self) -> None:
        with Store.temporary() as store:
            store.create(tasks.Workflow(id="wf-1", name="n", content="x"))
            raw = store.line("workflows", "wf-1")
            assert raw is not None
            assert b"awl_code" not in raw

    def test_a_repository_without_an_id_is_known_by_its_path(self, tmp_path: Path) -> None:
        with Store.open(folder(tmp_path, repo_states=STATES)) as store:
            state = store.get(tasks.RepoState, "/home/me/repo")
            assert state is not None
            assert state.last_synced_commit == "def"
            store.update(state.evolve(last_synced_commit="123"))
            assert store.check().ok
            store.flush()
            assert (tmp_path / ".taskstore" / "repo_states.jsonl").read_bytes().startswith(STATES)
            assert [one.last_synced_commit for one in store.list(tasks.RepoState)] == ["123"]
            store.sync(rebuild=True)
            assert [one.last_synced_commit for one in store.list(tasks.RepoState)] == ["123"]

            store.delete(tasks.RepoState, "/home/me/repo")
            store.sync(rebuild=True)
            assert store.count(tasks.RepoState) == 0
            assert store.check().ok

    def test_one_whose_path_is_too_long_for_an_id_is_known_by_its_hash(self, tmp_path: Path) -> None:
        path = "/very" * 100
        line = b'{"repo_path":"%s","last_synced_commit":"abc","updated_at":7}\n' % path.encode()
        with Store.open(folder(tmp_path, repo_states=line)) as store:
            state = store.get(tasks.RepoState, text_id(path))
            assert state is not None
            assert store.update(state.evolve(last_synced_commit="def")).repo_path == path
            assert store.check().problems == ()

    def test_compaction_gives_such_a_line_its_id(self, tmp_path: Path) -> None:
        with Store.open(folder(tmp_path, repo_states=STATES)) as store:
            store.compact("repo_states")
            assert store.check().ok
        (line,) = (tmp_path / ".taskstore" / "repo_states.jsonl").read_bytes().splitlines()
        assert decode_exact(line) == {**decode_exact(STATES.splitlines()[1]), "id": "/home/me/repo"}

    def test_branches_with_such_lines_merge(self) -> None:
        first, last = STATES.splitlines(keepends=True)
        ours = first + last
        theirs = first + b'{"repo_path":"/other","last_synced_commit":"xyz","updated_at":1704067200005}\n'
        merged = merge(first, ours, theirs)
        assert merged == merge(first, ours, theirs)
        assert merged.data == merge(first, theirs, ours).data
        assert merged.conflicts == 0
        with Store.temporary() as store:
            (store.path / "repo_states.jsonl").write_bytes(merged.data)
            store.sync()
            assert {one.id: one.last_synced_commit for one in store.list(tasks.RepoState)} == {
                "/home/me/repo": "def",
                "/other": "xyz",
            }

    @given(base=STATE_FILES, ours=STATE_FILES, theirs=STATE_FILES)
    def test_branches_with_such_lines_and_newer_ones_merge_whatever_stands_where(
        self, base: bytes, ours: bytes, theirs: bytes
    ) -> None:
        merged = merge(base, base + ours, base + theirs)
        assert merged.data == merge(base, base + theirs, base + ours).data
        sides = [fold(decode_lines(base + side)) for side in (ours, theirs)]
        found = fold(decode_lines(merged.data))
        assert set(found) == set(sides[0]) | set(sides[1])
        for record_id, winner in found.items():
            assert winner.instant >= max(side[record_id].instant for side in sides if record_id in side)
        if not merged.conflicts:
            assert merge(base, merged.data, base + theirs).data == merged.data

    def test_a_line_with_neither_id_nor_path_is_reported_and_kept(self, tmp_path: Path) -> None:
        bad = b'{"last_synced_commit":"abc"}\n{"repo_path":" "}\n{"repo_path":7}\n'
        with Store.open(folder(tmp_path, repo_states=STATES + bad)) as store:
            assert store.count(tasks.RepoState) == 1
            assert [one.line for one in store.list_tolerant(tasks.RepoState).unreadable] == [3, 4, 5]
