"""The main job in small: agents claim tasks from one store, work, fail sometimes, tell each other, and finish.

Everything they know of each other is in the store, so they may as well run in several processes on one directory.
"""

from __future__ import annotations

import os
import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from taskstore_async.actor.manager import StateManager
from taskstore_async.actor.measures import ManagerStats  # noqa: TC001 - reason: msgspec reads it at run time
from taskstore_async.core.filters import Filter, eq, in_
from taskstore_async.core.schedule import Durability
from taskstore_async.errors import AlreadyExistsError, ClaimLostError
from taskstore_async.records.loops import SignalRecord, SignalType
from taskstore_async.records.tasks import Execution, ExecutionStatus, Prd, PrdStatus, TaskSpec, TaskStatus
from taskstore_async.storage.clock import new_id, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from taskstore_async.storage.store import Lease

__all__ = ["Job", "Outcome", "Progress", "run", "tasks_from"]

_PRD: Final = "prd-demo"
_LEASE_MS: Final = 30_000
_ATTEMPTS: Final = 3
_FAILS: Final = 0.1  #: of all attempts
_DONE: Final = (TaskStatus.COMPLETE, TaskStatus.FAILED)
_RECORDS: Final = (Prd, TaskSpec, Execution, SignalRecord)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done.

    Attributes:
        path: Where the store is, or will be.
        agents: How many work at it in this process. > 0.
        tasks: Id, name and description of each; what is in the store already is not made again.
        loop: ``asyncio`` or ``trio``.
        durability: What acknowledged means.
        seed: Makes the same agents decide the same.
    """

    path: str
    agents: int
    tasks: Sequence[tuple[str, str, str]]
    loop: str = "asyncio"
    durability: Durability = Durability.INDEX
    seed: int = 0


class Progress(msgspec.Struct):
    """What has happened so far, for whoever watches.

    Attributes:
        total: How many tasks there are.
        done: How many of them are complete, or were given up.
    """

    total: int = 0
    done: int = 0
    claimed: int = 0
    iterations: int = 0
    failures: int = 0
    signals: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        complete: Tasks that were done.
        given_up: Tasks that failed three times.
        broken: The invariants that do not hold; none, or something is wrong with the store.
    """

    complete: int
    given_up: int
    executions: int
    progress: Progress
    stats: ManagerStats
    broken: tuple[str, ...]


def tasks_from(lines: Sequence[bytes], most: int | None) -> list[tuple[str, str, str]]:
    """Tasks from the lines of an issue file: their ``id``, ``title`` and ``description``.

    Args:
        lines: One JSON object each; what is none is passed over.
        most: At most so many; None for all.
    """
    tasks: dict[str, tuple[str, str, str]] = {}
    for line in lines:
        try:
            issue = msgspec.json.decode(line, type=dict[str, object])
        except (msgspec.DecodeError, RecursionError):
            continue
        record_id = str(issue.get("id", "")).strip()
        if record_id and (most is None or len(tasks) < most):
            title = str(issue.get("title") or record_id)
            tasks[record_id] = (record_id, title, str(issue.get("description") or ""))
    return list(tasks.values())


def run(job: Job, progress: Progress, show: Callable[[], None]) -> Outcome:
    """Do the job on an event loop of its own.

    Args:
        job: What is to be done.
        progress: Is kept up to date.
        show: Called now and then, to show it.

    Raises:
        TaskStoreError: The store could not be used.
    """
    return anyio.run(partial(_run, job, progress, show), backend=job.loop)


async def _run(job: Job, progress: Progress, show: Callable[[], None]) -> Outcome:
    async with StateManager.open(job.path, records=_RECORDS, durability=job.durability) as store:
        await _prepare(store, job.tasks)
        progress.total = len(job.tasks)
        async with anyio.create_task_group() as watchers:
            watchers.start_soon(_show, show)
            async with anyio.create_task_group() as agents:
                for number in range(job.agents):
                    name = f"agent-{os.getpid()}-{number}"
                    chance = random.Random(f"{job.seed} {number}")  # noqa: S311 - reason: it plays dice, no secrets
                    agents.start_soon(_Agent(store, name, chance, progress).work)
            watchers.cancel_scope.cancel()
        show()
        await store.flush()
        return await _outcome(store, job, progress)


async def _prepare(store: StateManager, tasks: Sequence[tuple[str, str, str]]) -> None:
    """Store the tasks that are not there yet."""
    with suppress(AlreadyExistsError):  # another process was faster, or an earlier demo was here
        await store.create(Prd(id=_PRD, title="The demo's tasks", status=PrdStatus.ACTIVE))
    specs = [TaskSpec(id=key, prd_id=_PRD, phase_name=name, description=text) for key, name, text in tasks]
    try:
        await store.create_many(specs)
    except AlreadyExistsError:
        for spec in specs:
            if await store.get(TaskSpec, spec.id) is None:
                try:
                    await store.create(spec)
                except AlreadyExistsError:
                    continue


async def _show(show: Callable[[], None]) -> None:
    while True:
        show()
        await anyio.sleep(0.1)


class _Agent:
    """One loop: claim, work, finish, until nothing is left."""

    def __init__(self, store: StateManager, name: str, chance: random.Random, progress: Progress) -> None:
        self._store = store
        self._name = name
        self._chance = chance
        self._progress = progress

    async def work(self) -> None:
        """Work until every task is complete or given up."""
        while True:
            await self._listen()
            lease = await self._store.claim(
                TaskSpec,
                eq("status", TaskStatus.PENDING),
                owner=self._name,
                lease_ms=_LEASE_MS,
                set={"status": TaskStatus.RUNNING},
            )
            if lease is not None:
                self._progress.claimed += 1
                await self._attempt(lease)
            elif not await self._wait():
                return

    async def _wait(self) -> bool:
        """Wait for a task to come back, or for all to be done; whether there may be more to do."""
        left = await self._store.count(TaskSpec, in_("status", [TaskStatus.PENDING, TaskStatus.RUNNING]))
        self._progress.done = self._progress.total - left
        if not left:
            return False
        with suppress(TimeoutError):  # whoever has the rest may have finished meanwhile
            await self._store.wait_for(TaskSpec, eq("status", TaskStatus.PENDING), timeout_s=0.1)
        return True

    async def _attempt(self, lease: Lease) -> None:
        """Execute a task in a few iterations, and write down how it went."""
        task: TaskSpec = lease.record
        execution = await self._store.create(
            Execution(id=new_id("exec"), ts_id=task.id, started_at=now_ms(), branch_name=f"task/{task.id}"[:80])
        )
        task = await self._store.update(task.evolve(assigned_to=execution.id), token=lease.token)
        for number in range(self._chance.randint(1, 4)):
            await checkpoint()  # here an agent would think
            execution = await self._store.update(
                execution.evolve(iteration_count=number + 1, current_phase=f"iteration {number + 1}")
            )
            self._progress.iterations += 1
        failed = self._chance.random() < _FAILS
        try:
            await self._finish(lease, task, execution, failed=failed)
        except ClaimLostError:
            # The lease ran out, and somebody else may be at it: what they write counts.
            await self._store.update(execution.evolve(status=ExecutionStatus.STOPPED, completed_at=now_ms()))
            return
        await self._store.release(TaskSpec, task.id, token=lease.token)
        if failed:
            self._progress.failures += 1
            await self._tell(task)
        else:
            self._progress.done += 1

    async def _finish(self, lease: Lease, task: TaskSpec, execution: Execution, *, failed: bool) -> None:
        """Write the end of the attempt and the task's new state, both or neither."""
        attempts = await self._store.count(Execution, eq("ts_id", task.id))
        after = TaskStatus.COMPLETE
        if failed:
            after = TaskStatus.PENDING if attempts < _ATTEMPTS else TaskStatus.FAILED
        end = ExecutionStatus.FAILED if failed else ExecutionStatus.COMPLETE
        why = "the dice said so" if failed else None
        async with self._store.batch() as batch:
            batch.update(execution.evolve(status=end, completed_at=now_ms(), error_message=why))
            batch.update(task.evolve(status=after, assigned_to=None), token=lease.token)

    async def _tell(self, task: TaskSpec) -> None:
        """Warn whoever takes the task next."""
        await self._store.create(
            SignalRecord(
                id=new_id("signal"),
                signal_type=SignalType.ERROR,
                source_loop=self._name,
                target_loop=self._name.rpartition("-")[0] + "-0",
                reason=f"{task.id} failed once more",
            )
        )
        self._progress.signals += 1

    async def _listen(self) -> None:
        """Acknowledge what others have told this loop."""
        mine: tuple[Filter, ...] = (eq("target_loop", self._name), eq("acknowledged", False))  # noqa: FBT003 - reason: a value
        for signal in await self._store.list(SignalRecord, *mine):
            await self._store.modify(SignalRecord, signal.id, lambda one: one.evolve(acknowledged_at=now_ms()))


async def _outcome(store: StateManager, job: Job, progress: Progress) -> Outcome:
    """Count what is in the store, and hold it against what must be."""
    wanted = {key for key, _, _ in job.tasks}
    status = {task.id: task.status for task in await store.list(TaskSpec) if task.id in wanted}
    completed: dict[str, int] = {}
    executions = [one for one in await store.list(Execution) if one.ts_id in wanted]
    for execution in executions:
        if execution.status is ExecutionStatus.COMPLETE:
            completed[execution.ts_id] = completed.get(execution.ts_id, 0) + 1
    checked = await store.check()
    broken = [
        *(f"{key} is lost" for key in wanted - status.keys()),
        *(f"{key} is {state} at the end" for key, state in status.items() if state not in _DONE),
        *(f"{key} was done {times} times" for key, times in completed.items() if times > 1),
        *(
            f"{key} is {state}, and {completed.get(key, 0)} of its executions are complete"
            for key, state in status.items()
            if completed.get(key, 0) != (state is TaskStatus.COMPLETE)
        ),
        *(finding.message for finding in checked.problems if finding.error),
    ]
    return Outcome(
        complete=sum(state is TaskStatus.COMPLETE for state in status.values()),
        given_up=sum(state is TaskStatus.FAILED for state in status.values()),
        executions=len(executions),
        progress=progress,
        stats=await store.stats(),
        broken=tuple(broken),
    )
