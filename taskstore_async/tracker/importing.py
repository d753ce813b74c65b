"""Taking over run directories that exist already: each says in its ``run.json`` what it is.

Any other program's layout is brought into the history by writing that one file into each of its directories.
"""

from __future__ import annotations

import os
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.filters import in_
from taskstore_async.core.stamp import read_stamp, to_ms
from taskstore_async.core.write import draft
from taskstore_async.errors import TaskStoreError
from taskstore_async.records.runs import Run, RunStatus, RunTask, RunTaskStatus, SkipKind
from taskstore_async.tracker.directories import size_of, stored_path
from taskstore_async.tracker.plan import Plan, Put, StoreUnavailableError, do, find
from taskstore_async.tracker.recording import project_named
from taskstore_async.tracker.reports import ImportedRuns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskstore_async.core.record import Record

__all__ = ["FILE", "import_runs"]

FILE: Final = "run.json"
_AT_ONCE: Final = 100  #: runs of one transaction
_Moment = int | str | None


class _TaskFile(msgspec.Struct):
    """A task, as ``run.json`` has it. Moments are milliseconds since the epoch or RFC 3339 text."""

    name: str
    status: RunTaskStatus
    id: str | None = None
    started_at: _Moment = None
    completed_at: _Moment = None
    duration_ms: int | None = None
    script_hash: str | None = None
    inputs_hash: str | None = None
    script_path: str | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    output_path: str | None = None
    artifacts: tuple[str, ...] = ()
    exit_code: int | None = None
    skip_kind: SkipKind | None = None
    skip_reason: str | None = None
    depends_on: tuple[str, ...] = ()


class _RunFile(msgspec.Struct):
    """What ``run.json`` has."""

    project: str
    status: RunStatus
    started_at: int | str
    id: str | None = None
    completed_at: _Moment = None
    duration_ms: int | None = None
    args: tuple[str, ...] = ()
    task_file: str | None = None
    cwd: str | None = None
    user: str | None = None
    hostname: str | None = None
    tasks: tuple[_TaskFile, ...] = ()


class _Found(msgspec.Struct):
    """What a look at the directories gave: the records of each run, the run first but for its project."""

    runs: list[tuple[Record, ...]]
    skipped: dict[str, str]


def import_runs(root: Path, folder: Path) -> Plan[ImportedRuns]:
    """Record the runs whose directories are below *folder*, or are it.

    Args:
        root: The directory that holds the store. What is not below it is skipped: records name paths relative to it.
        folder: Looked through to any depth, but not behind links.

    Raises:
        OSError: *folder* cannot be read.
    """
    found = yield from do(partial(_found, root, folder))
    report = ImportedRuns(skipped=found.skipped)
    for start in range(0, len(found.runs), _AT_ONCE):
        some = found.runs[start : start + _AT_ONCE]
        try:
            there = {run.id for run in (yield from find(Run, in_("id", [run.id for run, *_ in some])))}
            new = [records for records in some if records[0].id not in there]
            if new:
                yield Put(tuple({(type(one), one.id): one for records in new for one in records}.values()))
        except StoreUnavailableError:
            late = {
                str(one.run_dir): "the store is not available" for one, *_ in found.runs[start:] if isinstance(one, Run)
            }
            return msgspec.structs.replace(report, skipped={**report.skipped, **late})
        report = msgspec.structs.replace(
            report,
            runs=report.runs + len(new),
            tasks=report.tasks + sum(isinstance(one, RunTask) for records in new for one in records),
            known=report.known + len(there),
        )
    return report


def _found(root: Path, folder: Path) -> _Found:
    found = _Found([], {})
    for parent in _run_directories(folder):
        try:
            records = _records(root, parent)
            for one in records:
                draft(one)
        except (OSError, ValueError, TaskStoreError) as error:
            found.skipped[str(parent)] = str(error)
        else:
            found.runs.append(records)
    return found


def _run_directories(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for parent, names, files in os.walk(os.path.abspath(folder), onerror=refuse):  # noqa: PTH100 - reason: keeps links
        names.sort()
        if FILE in files:
            yield Path(parent)
            names.clear()  # a run is not looked for inside of a run


def _records(root: Path, folder: Path) -> tuple[Record, ...]:
    """The run of a directory, its project and its tasks.

    Raises:
        ValueError: The file says something that cannot be.
    """
    said = msgspec.json.decode((folder / FILE).read_bytes(), type=_RunFile)
    run_dir = stored_path(root, folder)
    assert run_dir is not None  # noqa: S101 - reason: a path gives a path
    if Path(run_dir).is_absolute():
        raise ValueError(f"it is not below {root}")
    project = project_named(said.project)
    started_at, completed_at = _required(said.started_at), _moment(said.completed_at)
    run = Run(
        id=said.id or f"run-{sha256(run_dir.encode(errors='surrogatepass')).hexdigest()[:24]}",
        project_id=project.id,
        status=said.status,
        started_at=started_at,
        completed_at=completed_at,
        duration_ms=_duration(said.duration_ms, started_at, completed_at),
        args=said.args,
        task_file=said.task_file,
        cwd=said.cwd,
        user=said.user,
        hostname=said.hostname,
        run_dir=run_dir,
        size_bytes=size_of(folder),
    )
    return (run, project, *(_task(root, folder, run, number, one) for number, one in enumerate(said.tasks)))


def _task(root: Path, folder: Path, run: Run, number: int, said: _TaskFile) -> RunTask:
    def path(value: str | None) -> str | None:
        return None if value is None else stored_path(root, folder / value)

    started_at, completed_at = _moment(said.started_at), _moment(said.completed_at)
    return RunTask(
        id=said.id or f"{run.id}-{number}",
        run_id=run.id,
        project_id=run.project_id,
        name=said.name,
        status=said.status,
        started_at=run.started_at if started_at is None else started_at,
        completed_at=completed_at,
        duration_ms=_duration(said.duration_ms, started_at, completed_at),
        script_hash=said.script_hash,
        inputs_hash=said.inputs_hash,
        script_path=path(said.script_path),
        stdout_path=path(said.stdout_path),
        stderr_path=path(said.stderr_path),
        output_path=path(said.output_path),
        artifacts=tuple(str(path(one)) for one in said.artifacts),
        exit_code=said.exit_code,
        skip_kind=said.skip_kind,
        skip_reason=said.skip_reason,
        depends_on=said.depends_on,
    )


def _moment(value: _Moment) -> int | None:
    return None if value is None else _required(value)


def _required(value: int | str) -> int:
    instant = read_stamp(value)
    if instant is None:
        raise ValueError(f"{value!r} is no moment; write milliseconds since the epoch, or RFC 3339 text")
    return to_ms(instant)


def _duration(said: int | None, started_at: int | None, completed_at: int | None) -> int | None:
    if said is not None or started_at is None or completed_at is None:
        return said
    return max(0, completed_at - started_at)
