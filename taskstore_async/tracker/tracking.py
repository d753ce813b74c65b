"""What a tracker does, as plans; how the steps get to a store is left to those who await and to those who block."""

from __future__ import annotations

import getpass
import logging
import os
import socket
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict, TypeVar

from taskstore_async.records.runs import Project, Run, RunStatus, RunTask, RunTaskStatus, SkipKind
from taskstore_async.storage.clock import new_id, now_ms
from taskstore_async.storage.directory import NAME
from taskstore_async.tracker.directories import size_of, stored_path
from taskstore_async.tracker.plan import Plan, Settle, StoreUnavailableError, do, get
from taskstore_async.tracker.recording import completed_run, completed_task, project_named, skipped_task
from taskstore_async.tracker.settling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskstore_async.core.record import Record
    from taskstore_async.tracker.ledger import Ledger
    from taskstore_async.tracker.reports import TrackerState

__all__ = ["RECORDS", "AnyPath", "Budget", "RunEnd", "RunStart", "TaskEnd", "TaskStart", "Tracking"]

AnyPath: TypeAlias = str | os.PathLike[str]
R = TypeVar("R", Run, RunTask)
RECORDS: Final = (Project, Run, RunTask)
_logger = logging.getLogger(__name__)


class Budget:
    """How long a call may wait for the store: a call that records, all in all; one that asks for much, for each step.

    A long history is read a page at a time, so a step that takes that long says that something is wrong.
    """

    def __init__(self, seconds: float, *, renewed: bool) -> None:
        self.left_s = seconds
        self._renewed = renewed

    @classmethod
    def of_the_call(cls) -> Budget:
        """For all steps together."""
        return cls(PATIENCE_S, renewed=False)

    @classmethod
    def of_each_step(cls) -> Budget:
        """For every step anew, as long as nothing is wrong."""
        return cls(PATIENCE_S, renewed=True)

    def spend(self, seconds: float, *, degraded: bool) -> None:
        """A step has waited so long, for a store that is as it should be or is not."""
        if degraded or not self._renewed:
            self.left_s = max(0.0, self.left_s - seconds)


class RunStart(TypedDict, total=False):
    """What may be said of a run that begins; a relative path is below the root, but *task_file* below *cwd*."""

    run_id: str  #: instead of one that is made
    started_at: int  #: milliseconds since the epoch (UTC); now, when left out
    args: Sequence[str]
    task_file: AnyPath
    cwd: AnyPath  #: the process's, when left out
    user: str  #: the process's, when left out
    hostname: str  #: the machine's, when left out
    run_dir: AnyPath  #: what `delete_run` removes
    project_path: AnyPath


class RunEnd(TypedDict, total=False):
    """What may be said of a run that ends."""

    duration_ms: int  #: from *started_at* to now, when left out
    size_bytes: int  #: measured in *run_dir*, when left out


class TaskStart(TypedDict, total=False):
    """What may be said of a task when it begins, or is skipped; relative paths are below the root."""

    task_id: str  #: instead of one that is made
    started_at: int  #: milliseconds since the epoch (UTC); now, when left out
    script_hash: str
    inputs_hash: str
    script_path: AnyPath
    stdout_path: AnyPath
    stderr_path: AnyPath
    output_path: AnyPath
    artifacts: Sequence[AnyPath]
    depends_on: Sequence[str]  #: names of tasks of the same run


class TaskEnd(TypedDict, total=False):
    """What may be said of a task that ends."""

    status: RunTaskStatus | str  #: ``completed`` or ``failed``; told by the exit code, when left out
    duration_ms: int  #: from its beginning to now, when left out
    output_path: AnyPath
    artifacts: Sequence[AnyPath]


class Tracking:
    """The part of a tracker that neither waits nor blocks.

    Args:
        root: The directory that holds the store.
        ledger: The memory.
    """

    def __init__(self, root: AnyPath, ledger: Ledger) -> None:
        given = Path(os.path.abspath(root))  # noqa: PTH100 - reason: resolve() would follow the person's own links
        self._root = given.parent if given.name == NAME else given
        self._ledger = ledger

    @property
    def root(self) -> Path:
        """The directory that holds the store, and that the paths of records are relative to."""
        return self._root

    @property
    def state(self) -> TrackerState:
        """Whether the store takes what is recorded, and what it has not got yet."""
        return self._ledger.state

    # -- plans ----------------------------------------------------------------------------------------------

    def _start_run(self, project: str, said: RunStart) -> Plan[Run]:
        owner = project_named(project, path=self._stored(said.get("project_path")))
        cwd = os.path.abspath(said.get("cwd") or Path.cwd())  # noqa: PTH100 - reason: as in __init__
        task_file = said.get("task_file")
        run = Run(
            id=said.get("run_id") or new_id("run"),
            project_id=owner.id,
            started_at=said.get("started_at", now_ms()),
            args=tuple(said.get("args", ())),
            task_file=None if task_file is None else self._stored(Path(cwd) / task_file),
            cwd=self._stored(cwd),
            user=said.get("user", _user()),
            hostname=said.get("hostname", socket.gethostname()),
            run_dir=self._stored(said.get("run_dir")),
        )
        self._ledger.keep(owner)
        yield from self._keep(run)
        return run

    def _complete_run(self, run: Run | str, status: RunStatus | str, said: RunEnd) -> Plan[Run | None]:
        RunStatus(status)  # refused now, whatever else goes wrong
        begun = yield from self._latest(Run, run)
        if begun is None:
            return None
        size = said.get("size_bytes")
        if size is None and begun.run_dir is not None:
            size = yield from do(partial(size_of, self._root / begun.run_dir))
        ended = completed_run(begun, status, now_ms=now_ms(), duration_ms=said.get("duration_ms"), size_bytes=size)
        yield from self._keep(ended)
        self._ledger.forget_tasks_of(ended.id)
        return ended

    def _start_task(self, run: Run | str, name: str, said: TaskStart) -> Plan[RunTask]:
        task = self._new_task(run, name, RunTaskStatus.RUNNING, said)
        yield from self._keep(task)
        return task

    def _complete_task(self, task: RunTask | str, exit_code: int | None, said: TaskEnd) -> Plan[RunTask | None]:
        if "status" in said:
            RunTaskStatus(said["status"])
        begun = yield from self._latest(RunTask, task)
        if begun is None:
            return None
        artifacts = said.get("artifacts")
        ended = completed_task(
            begun,
            exit_code,
            now_ms=now_ms(),
            status=said.get("status"),
            duration_ms=said.get("duration_ms"),
            output_path=self._stored(said.get("output_path")),
            artifacts=None if artifacts is None else self._stored_all(artifacts),
        )
        yield from self._keep(ended)
        return ended

    def _skip_task(
        self, run: Run | str, name: str, kind: SkipKind | str, reason: str | None, said: TaskStart
    ) -> Plan[RunTask]:
        task = skipped_task(self._new_task(run, name, RunTaskStatus.SKIPPED, said), kind, reason)
        yield from self._keep(task)
        return task

    # -- inside ---------------------------------------------------------------------------------------------

    def _new_task(self, run: Run | str, name: str, status: RunTaskStatus, said: TaskStart) -> RunTask:
        if not name.strip():
            raise ValueError("a task's name cannot be empty")
        run_id = run if isinstance(run, str) else run.id
        known = run if isinstance(run, Run) else self._ledger.known(Run, run_id)
        return RunTask(
            id=said.get("task_id") or new_id("task"),
            run_id=run_id,
            name=name,
            status=status,
            project_id=None if known is None else known.project_id,
            started_at=said.get("started_at", now_ms()),
            script_hash=said.get("script_hash"),
            inputs_hash=said.get("inputs_hash"),
            script_path=self._stored(said.get("script_path")),
            stdout_path=self._stored(said.get("stdout_path")),
            stderr_path=self._stored(said.get("stderr_path")),
            output_path=self._stored(said.get("output_path")),
            artifacts=self._stored_all(said.get("artifacts", ())),
            depends_on=tuple(said.get("depends_on", ())),
        )

    def _latest(self, target: type[R], given: R | str) -> Plan[R | None]:
        """The newest version that is known of a record; None when nobody knows it, which is told."""
        record_id = given if isinstance(given, str) else given.id
        if (known := self._ledger.known(target, record_id)) is not None:
            return known
        try:
            stored = yield from get(target, record_id)
        except StoreUnavailableError:
            stored = None
        if stored is None and isinstance(given, str):
            _logger.warning(
                "%s/%s is unknown, so its end was not recorded",
                target.collection,
                record_id,
                extra={"store": str(self._root)},
            )
            self._ledger.lose()
            return None
        return stored if stored is not None or isinstance(given, str) else given

    def _keep(self, record: Record) -> Plan[None]:
        """Keep *record* in memory, and wait for the store to have it, as long as it is to be waited for."""
        self._ledger.keep(record)
        with suppress(StoreUnavailableError):  # it is kept, and given to the store later
            yield Settle()

    def _stored(self, path: AnyPath | None) -> str | None:
        return stored_path(self._root, path)

    def _stored_all(self, paths: Sequence[AnyPath]) -> tuple[str, ...]:
        return tuple(str(self._stored(path)) for path in paths)


@cache
def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # nobody in particular
        return None
