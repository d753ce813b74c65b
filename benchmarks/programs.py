"""Other programs on work that both can do, as whole processes; each is optional."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from benchmarks.child import program, run_program
from benchmarks.rows import Absent, Family, Row
from benchmarks.samples import folder, job, write_journal
from taskstore_async.bench.measure import Sample, race

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.rows import Profile

__all__ = ["FAMILY", "UnfitError", "rows_against", "run_theirs"]

_MOMENT = "20251124T160000Z"
_RULES = "confirmation=off\nverbose=nothing\ngc=off\nhooks=off\n"


class UnfitError(Exception):
    """A program is another one than its name says: it does not do what it is asked."""


def rows(profile: Profile) -> Iterator[Row | Absent]:
    """Everything against whole programs."""
    for name, says, measure in (("task", "Taskwarrior", _taskwarrior), ("taskstore", "the Rust taskstore", _taskstore)):
        yield from rows_against(name, says, measure, profile)


FAMILY = Family("programs", rows)


def rows_against(
    name: str, says: str, measure: Callable[[str, Profile, Path], Iterator[Row]], profile: Profile
) -> Iterator[Row | Absent]:
    """The rows of one program; a word when it is not on the path, or is another one of that name."""
    there = shutil.which(name)
    if there is None:
        yield Absent(says, f"there is no program `{name}` on the path")
        return
    with folder() as path:
        try:
            yield from measure(there, profile, path)
        except UnfitError as error:
            yield Absent(says, f"the program `{name}` is another one: {error}")


def run_theirs(command: Sequence[str]) -> Sample:
    """Run a program of somebody else's.

    Raises:
        UnfitError: It failed.
    """
    try:
        return run_program(command)
    except RuntimeError as error:
        raise UnfitError(str(error)) from error


def _taskwarrior(task: str, profile: Profile, path: Path) -> Iterator[Row]:
    """Importing what Taskwarrior exports, and listing all of it."""
    count = profile.many // 10
    (path / "rules").write_text(_RULES, encoding="utf-8")
    (path / "tasks.json").write_bytes(msgspec.json.encode([_exported(number) for number in range(count)]))
    theirs = [task, f"rc:{path / 'rules'}", f"rc.data.location={path / 'theirs'}"]
    ours = [program("tstore"), "--store", str(path / "ours")]
    file = str(path / "tasks.json")

    def into_new(data: Path, run: Callable[[], Sample]) -> Sample:
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        return run()

    import_theirs = partial(run_theirs, [*theirs, "import", file])
    import_ours = partial(run_program, [*ours, "import", file, "--collection", "tasks"])
    imports = {
        "theirs": partial(into_new, path / "theirs", import_theirs),
        "ours": partial(into_new, path / "ours", import_ours),
    }
    yield _row("taskwarrior.import", f"`tstore import` of {count:,} exported tasks", "`task import`", imports, profile)
    lists = {
        "theirs": partial(run_theirs, [*theirs, "list"]),
        "ours": partial(run_program, [*ours, "list", "tasks"]),
    }
    yield _row("taskwarrior.list", f"`tstore list tasks`, all {count:,}", "`task list`", lists, profile)


def _exported(number: int) -> dict[str, str]:
    one = job(number)
    return {
        "uuid": str(UUID(int=number, version=4)),
        "description": one.title,
        "status": "pending",
        "entry": _MOMENT,
        "modified": _MOMENT,
        "project": one.owner,
    }


def _taskstore(taskstore: str, profile: Profile, path: Path) -> Iterator[Row]:
    """Filling an index from a journal, and listing all of it."""
    count = profile.many // 10
    for side in ("theirs", "ours"):
        write_journal(path / side / ".taskstore" / "jobs.jsonl", count)
    theirs = [taskstore, "--store-path", str(path / "theirs")]
    ours = [program("tstore"), "--store", str(path / "ours")]

    def without_index(side: str, run: Callable[[], Sample]) -> Sample:
        for index in (path / side / ".taskstore").glob("*.db*"):
            index.unlink()
        return run()

    syncs = {
        "theirs": partial(without_index, "theirs", partial(run_theirs, [*theirs, "sync"])),
        "ours": partial(without_index, "ours", partial(run_program, [*ours, "sync"])),
    }
    yield _row(
        "taskstore.sync", f"`tstore sync` of {count:,} records, no index yet", "`taskstore sync`", syncs, profile
    )
    lists = {
        "theirs": partial(run_theirs, [*theirs, "list", "jobs"]),
        "ours": partial(run_program, [*ours, "list", "jobs"]),
    }
    yield _row("taskstore.list", f"`tstore list jobs`, all {count:,}", "`taskstore list jobs`", lists, profile)


def _row(name: str, work: str, floor: str, contenders: Mapping[str, Callable[[], Sample]], profile: Profile) -> Row:
    contest = race(contenders, rounds=profile.slow_rounds)
    return Row(
        name=f"program.{name}",
        work=f"{work}, whole process",
        floor=f"{floor}, whole process",
        value=contest.cost("ours", "theirs"),
        detail=f"{contest.seconds('ours') * 1e3:.0f} against {contest.seconds('theirs') * 1e3:.0f} ms",
    )
