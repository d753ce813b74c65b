"""Which runs are old, and deleting them with their directories."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.filters import Filter, eq, in_, lt
from taskstore_async.core.schedule import GRACE_MS
from taskstore_async.errors import InvalidFilterError, NotFoundError, UnresolvedConflictError
from taskstore_async.records.runs import Run, RunStatus, RunTask
from taskstore_async.tracker.directories import CACHE, RefusedPathError, cache_entries, remove, size_of
from taskstore_async.tracker.plan import DeleteWhere, Plan, do, drive, find, find_all, get, on_store
from taskstore_async.tracker.reading import checked_project
from taskstore_async.tracker.reports import Cleaning, Deletion, TrackerState
from taskstore_async.tracker.tracking import RECORDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from taskstore_async.storage.store import Store

__all__ = [
    "UNFINISHED_DAYS",
    "clean",
    "delete_run",
    "delete_runs",
    "find_old_runs",
    "find_orphaned_cache",
    "not_deleted",
    "survives",
]

UNFINISHED_DAYS: Final = 7  #: so long a run without an end is taken for one that goes on
_DAY_MS: Final = 24 * 3_600_000
_AT_ONCE: Final = 200  #: runs of one transaction


def survives(
    run: Run, *, newest: Collection[str], now_ms: int, keep_days: float, keep_failed_days: float | None = None
) -> bool:
    """Whether *run* is to be kept: it is, when one of the rules says so.

    It started within the last *keep_days*; it is one of the *newest*; it failed, and started within the last
    *keep_failed_days*; it has not ended, and started within the last 7 days.
    """
    if run.id in newest:
        return True
    days = keep_days
    if run.status is RunStatus.FAILED and keep_failed_days is not None:
        days = max(days, keep_failed_days)
    if run.status is RunStatus.RUNNING:
        days = max(days, UNFINISHED_DAYS)
    return run.started_at >= now_ms - days * _DAY_MS


def find_old_runs(
    *,
    now_ms: int,
    keep_days: float,
    keep_last: int = 0,
    keep_failed_days: float | None = None,
    project: str | None = None,
) -> Plan[list[Run]]:
    """The runs that do not survive, oldest first; with *project*, of its runs, and *keep_last* counts only those.

    Raises:
        InvalidFilterError: A number is less than 0.
    """
    for name, number in (("keep_days", keep_days), ("keep_last", keep_last), ("keep_failed_days", keep_failed_days)):
        if number is not None and not number >= 0:
            raise InvalidFilterError(f"{name}={number}", "give 0 or more")
    scope: list[Filter] = [] if project is None else [eq("project_id", project)]
    old = yield from find_all(Run, *scope, lt("started_at", now_ms - keep_days * _DAY_MS))
    kept = (yield from find(Run, *scope, order_by="-started_at", limit=keep_last)) if keep_last else []
    newest = {run.id for run in kept}
    gone = [
        run
        for run in old
        if not survives(run, newest=newest, now_ms=now_ms, keep_days=keep_days, keep_failed_days=keep_failed_days)
    ]
    return sorted(gone, key=lambda run: (run.started_at, run.id))


# -- deleting -----------------------------------------------------------------------------------------------


def delete_run(root: Path, run: Run | str) -> Plan[Deletion]:
    """Delete a run, its tasks and its directory.

    Raises:
        NotFoundError: There is no such run.
    """
    run_id = _id_of(run)
    stored = yield from get(Run, run_id)
    if stored is None:
        raise NotFoundError(Run.collection, run_id)
    (deletion,) = yield from delete_runs(root, [stored])
    return deletion


def not_deleted(run: Run | str, state: TrackerState) -> Deletion:
    """What is told of a run that could not be deleted, for there is no store to be had."""
    return Deletion(run_id=_id_of(run), deleted=False, reason=f"the store is not available: {state.reason}")


def _id_of(run: Run | str) -> str:
    return run if isinstance(run, str) else run.id


def delete_runs(root: Path, doomed: Sequence[Run], *, dry_run: bool = False) -> Plan[list[Deletion]]:
    """Delete runs, their tasks and their directories; with *dry_run*, only tell what would become of them.

    A directory goes before its record, so that whoever is interrupted finds the run again. One that a surviving run
    has too, or has something in, is kept.
    """
    ids = {run.id for run in doomed}
    needed = {
        folder
        for run in (yield from find_all(Run))
        if run.id not in ids and run.run_dir is not None
        for folder in (PurePosixPath(run.run_dir), *PurePosixPath(run.run_dir).parents)
    }
    done: list[Deletion] = []
    for start in range(0, len(doomed), _AT_ONCE):
        some = doomed[start : start + _AT_ONCE]
        deletions = yield from do(partial(_remove_directories, root, some, needed, dry_run=dry_run))
        done += deletions
        gone = [one.run_id for one in deletions if one.deleted]
        if gone and not dry_run:
            yield DeleteWhere(RunTask, (in_("run_id", gone),))
            yield DeleteWhere(Run, (in_("id", gone),))
    return done


def _remove_directories(
    root: Path, some: Sequence[Run], needed: Collection[PurePosixPath], *, dry_run: bool
) -> list[Deletion]:
    done: list[Deletion] = []
    for run in some:
        if run.run_dir is None:
            done.append(Deletion(run_id=run.id, deleted=True))
        elif PurePosixPath(run.run_dir) in needed:
            reason = f"{run.run_dir} is kept: another run has it, or something in it"
            done.append(Deletion(run_id=run.id, deleted=True, reason=reason))
        else:
            done.append(_removed(root, run.run_dir, run.id, dry_run=dry_run))
    return done


def _removed(root: Path, path: str, subject: str, *, dry_run: bool) -> Deletion:
    try:
        return Deletion(run_id=subject, deleted=True, freed_bytes=remove(root, path, dry_run=dry_run))
    except RefusedPathError as error:
        return Deletion(run_id=subject, deleted=False, reason=str(error))
    except OSError as error:
        return Deletion(run_id=subject, deleted=False, reason=f"{error.filename or path}: {error.strerror or error}")


# -- the cache ----------------------------------------------------------------------------------------------


def find_orphaned_cache(root: Path, *, without: Collection[str] = ()) -> Plan[list[str]]:
    """The entries ``.cache/<task>/<hash>`` that no task record names, relative to *root*.

    A task names an entry by its name and one of its hashes, or by a path that is the entry or lies in it. The tasks of
    the runs *without* do not count.
    """
    entries = yield from do(partial(cache_entries, root))
    if not entries:
        return []
    named: set[tuple[str, str]] = set()
    for task in (yield from find_all(RunTask)):
        if task.run_id in without:
            continue
        named.update((task.name, digest) for digest in (task.script_hash, task.inputs_hash) if digest is not None)
        named.update(_in_cache(task))
    return [f"{CACHE}/{name}/{digest}" for name, digest in entries if (name, digest) not in named]


def _in_cache(task: RunTask) -> Iterator[tuple[str, str]]:
    paths: Iterable[str | None] = (task.script_path, task.stdout_path, task.stderr_path, task.output_path)
    for path in (*paths, *task.artifacts):
        if path is not None and path.startswith(f"{CACHE}/"):
            _, name, digest, *_ = (*path.split("/"), "", "")
            yield name, digest


# -- all of it ----------------------------------------------------------------------------------------------


def clean(
    store: Store,
    *,
    now_ms: int,
    keep_days: float,
    keep_last: int = 0,
    keep_failed_days: float | None = None,
    project: str | None = None,
    orphans: bool = False,
    dry_run: bool = False,
) -> Cleaning:
    """Delete what `find_old_runs` finds, with *orphans* what `find_orphaned_cache` finds then, and compact.

    Args:
        store: Open, with the record types of runs.
        now_ms: Milliseconds since the epoch (UTC).
        keep_days: As for `find_old_runs`, like the next three.
        keep_last: So many survive.
        keep_failed_days: So long failed runs survive.
        project: Only its runs.
        orphans: The cache too.
        dry_run: Only tell.

    Raises:
        InvalidFilterError: A number is less than 0, or there is no such project.
        TaskStoreError: As for `Store.delete_where` and `Store.compact`.
    """

    def plan() -> Plan[Cleaning]:
        owner = None if project is None else (yield from checked_project(project))
        old = yield from find_old_runs(
            now_ms=now_ms, keep_days=keep_days, keep_last=keep_last, keep_failed_days=keep_failed_days, project=owner
        )
        return (yield from _delete_all(store.path.parent, old, orphans=orphans, dry_run=dry_run))

    if dry_run:
        return drive(plan(), on_store(store))
    store.flush()
    before = _journal_bytes(store)
    done = drive(plan(), on_store(store))
    for target in RECORDS:
        # No branch has what is local, so nobody must learn later what was deleted.
        with suppress(UnresolvedConflictError):  # what is to be chosen there does not keep the rest from going
            store.compact(target, grace_ms=0 if store.declaration(target).local else GRACE_MS)
    freed = done.freed_bytes + max(0, before - _journal_bytes(store))
    return msgspec.structs.replace(done, freed_bytes=freed)


def _delete_all(root: Path, old: Sequence[Run], *, orphans: bool, dry_run: bool) -> Plan[Cleaning]:
    deletions = yield from delete_runs(root, old, dry_run=dry_run)
    gone = {one.run_id for one in deletions if one.deleted}
    cache = (yield from find_orphaned_cache(root, without=gone)) if orphans else []
    removals = yield from do(lambda: [_removed(root, entry, entry, dry_run=dry_run) for entry in cache])
    return Cleaning(
        dry_run=dry_run,
        runs=[run for run in old if run.id in gone],
        refused=[one for one in (*deletions, *removals) if not one.deleted],
        cache=[one.run_id for one in removals if one.deleted],
        freed_bytes=sum(one.freed_bytes for one in (*deletions, *removals)),
    )


def _journal_bytes(store: Store) -> int:
    return sum(size_of(store.path / f"{target.collection}.jsonl") for target in RECORDS)
