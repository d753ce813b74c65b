"""One record of every type of the packs, with every field set; and lines as the older programs write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskstore_async.records.loops import (
    EventRecord,
    IterationLog,
    Lane,
    Loop,
    LoopStatus,
    LoopType,
    SignalRecord,
    SignalType,
    ToolJobRecord,
    ToolJobStatus,
)
from taskstore_async.records.runs import Project, Run, RunStatus, RunTask, RunTaskStatus, SkipKind
from taskstore_async.records.tasks import (
    Dependency,
    DependencyType,
    Execution,
    ExecutionStatus,
    Prd,
    PrdStatus,
    RepoState,
    TaskSpec,
    TaskStatus,
    Workflow,
)

if TYPE_CHECKING:
    from taskstore_async import Record

AT: Final = 1_700_000_000_000

TASKS: Final[tuple[Record, ...]] = (
    Prd(
        id="prd-1",
        title="Add OAuth",
        description="Sign in with what people have",
        status=PrdStatus.IN_PROGRESS,
        review_passes=255,
        content="# Why",
        file="prds/add-oauth.md",
    ),
    TaskSpec(
        id="ts-1",
        prd_id="prd-1",
        phase_name="Tokens",
        description="Store them",
        status=TaskStatus.BLOCKED,
        workflow_name="rust-dev",
        assigned_to="exec-1",
        content="# How",
        file="task_specs/tokens.md",
    ),
    Execution(
        id="exec-1",
        ts_id="ts-1",
        status=ExecutionStatus.PAUSED,
        worktree_path="/w/1",
        branch_name="feature/tokens",
        current_phase="tests",
        iteration_count=3,
        error_message="none yet",
        started_at=AT,
        completed_at=AT + 1,
    ),
    Dependency(
        id="dep-1",
        from_exec_id="exec-1",
        to_exec_id="exec-1",
        dependency_type=DependencyType.SHARE,
        payload={"api": ["users"]},
        resolved_at=AT,
    ),
    Dependency(id="dep-2", from_exec_id="exec-1"),
    Workflow(id="wf-1", name="rust-dev", version="1.0", description="For Rust", content="run: cargo test"),
    RepoState(id="/repo", repo_path="/repo", last_synced_commit="abc123"),
)

LOOPS: Final[tuple[Record, ...]] = (
    Loop(
        id="1738300800123-a1b2",
        loop_type=LoopType.PLAN,
        input_artifact="plans/000.md",
        output_artifacts=["plans/001.plan.md"],
        prompt_path="prompts/plan.md",
        validation_command="validate plan",
        max_iterations=10,
        worktree=".worktrees/plan-1",
        iteration=2,
        status=LoopStatus.REBASING,
        progress="two to go",
        context={"task": "Add OAuth", "weight": 1.5},
    ),
    Loop(id="1738300800123-a1b2-001", loop_type=LoopType.SPEC, parent_id="1738300800123-a1b2"),
    SignalRecord(
        id="sig-1",
        signal_type=SignalType.INVALIDATE,
        source_loop="1738300800123-a1b2",
        target_loop="1738300800123-a1b2-001",
        target_selector="descendants:1738300800123-a1b2",
        reason="the plan changed",
        payload={"iteration": 2},
        acknowledged_at=AT,
    ),
    SignalRecord(id="sig-2", signal_type=SignalType.STOP, target_loop="1738300800123-a1b2-001"),
    EventRecord(id="ev-1", event_type="loop.started", loop_id="1738300800123-a1b2", payload={"by": "me"}),
    ToolJobRecord(
        id="job-1",
        loop_id="1738300800123-a1b2",
        tool_name="bash",
        iteration=2,
        lane=Lane.HEAVY,
        input_summary="cargo test",
        output_summary="ok",
        status=ToolJobStatus.TIMEOUT,
        exit_code=124,
        duration_ms=60_000,
        completed_at=AT,
    ),
    IterationLog(
        id="exec-1-iter-2",
        execution_id="exec-1",
        iteration=2,
        validation_command="otto ci",
        exit_code=1,
        stdout="a lot",
        stderr="a little",
        duration_ms=1_234,
        files_changed=["src/lib.rs"],
        llm_input_tokens=10,
        llm_output_tokens=20,
        tool_calls=[{"tool_name": "Edit", "is_error": False}],
    ),
)

RUNS: Final[tuple[Record, ...]] = (
    Project(id="demo", name="demo", path="/home/ann/demo"),
    Run(
        id="run-1",
        project_id="demo",
        status=RunStatus.FAILED,
        started_at=AT,
        completed_at=AT + 2_000,
        duration_ms=2_000,
        args=("ci", "-v"),
        task_file="demo/tasks.yml",
        cwd="demo",
        user="ann",
        hostname="here",
        run_dir="demo/runs/1",
        size_bytes=512,
    ),
    RunTask(
        id="task-1",
        run_id="run-1",
        name="build",
        status=RunTaskStatus.SKIPPED,
        project_id="demo",
        started_at=AT,
        completed_at=AT + 1,
        duration_ms=1,
        script_hash="abc",
        inputs_hash="def",
        script_path="demo/runs/1/build.sh",
        stdout_path="demo/runs/1/build.out",
        stderr_path="demo/runs/1/build.err",
        output_path=".cache/build/def",
        artifacts=("dist/a", "dist/b"),
        exit_code=0,
        skip_kind=SkipKind.UP_TO_DATE,
        skip_reason="nothing changed",
        depends_on=("fetch",),
    ),
)

PACKS: Final = {"tasks": TASKS, "loops": LOOPS, "runs": RUNS}
