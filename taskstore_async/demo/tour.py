"""A tour of the engine on a temporary store: what it does, why, and whether it kept its word."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, ClassVar, Final, Protocol, TypeAlias

from taskstore_async.core.filters import eq
from taskstore_async.core.record import Document, Indexed, Record, References, Unique
from taskstore_async.errors import StaleWriteError, TaskStoreError, UniqueError
from taskstore_async.storage.store import Store

__all__ = ["STEPS", "Claim", "Plan", "Status", "Step", "Task", "tour"]

_WRITES: Final = 150  #: of the process that may finish
_ENDLESS: Final = 1_000_000  #: of the one that is killed
_KILLED_AFTER: Final = 40
_WAIT_S: Final = 60.0


class Status(StrEnum):
    """How far a task is."""

    OPEN = "open"
    DONE = "done"


class Plan(Record):
    """What is to be reached."""

    collection: ClassVar[str] = "plans"

    title: str
    slug: Annotated[str | None, Unique] = None


class Task(Record):
    """One thing to do for it."""

    collection: ClassVar[str] = "tasks"

    plan_id: Annotated[str, Indexed, References("plans", on_delete="cascade")]
    title: str
    status: Annotated[Status, Indexed] = Status.OPEN


Say: TypeAlias = Callable[[str], None]


class Claim(Protocol):
    """Is told what should hold, and whether it does."""

    def __call__(self, promise: str, holds: bool, /) -> None:  # noqa: FBT001 - reason: it is what a claim is about
        """Note it."""


Step: TypeAlias = Callable[[Path, Say, Claim], None]
"""One stop of the tour: gets the directory of the store, and what to talk to."""


def records_are_lines(folder: Path, say: Say, claim: Claim) -> None:
    """Typed records in plain files: git and people read what the program wrote."""
    with Store.open(folder, records=[Plan, Task]) as store:
        store.create(Plan(id="plan-1", title="Ship it", slug="ship-it"))
        store.create(Task(id="task-1", plan_id="plan-1", title="Write the notes"))
        store.create(Task(id="task-2", plan_id="plan-1", title="Tag the release"))
        found = store.list(Task, eq("status", Status.OPEN))
    journal = _journal(folder, "tasks").read_text(encoding="utf-8")
    for line in journal.splitlines():
        say(f"    tasks.jsonl  {line}")
    claim(
        "each record is a line of its collection's file",
        {"task-1", "task-2"} == {task.id for task in found} and journal.count("\n") == len(found),
    )


def nobody_overwrites_unseen(folder: Path, say: Say, claim: Claim) -> None:
    """Compare-and-set: who was slower is told, and nothing is lost."""
    with Store.open(folder) as ann, Store.open(folder) as ben:
        seen_by_ann, seen_by_ben = ann.get(Task, "task-1"), ben.get(Task, "task-1")
        assert seen_by_ann is not None  # noqa: S101 - reason: the step before made it
        assert seen_by_ben is not None  # noqa: S101 - reason: as above
        ann.update(seen_by_ann.evolve(status=Status.DONE))
        refused = False
        try:
            ben.update(seen_by_ben.evolve(title="Write no notes"))
        except StaleWriteError as error:
            refused = True
            say(f"    refused: {error}")
        claim("the second of two updates from one version is refused", refused)
        ben.modify(Task, "task-1", lambda task: task.evolve(title="Write the notes, briefly"))
        both = ann.get(Task, "task-1")
        claim(
            "read again and reapplied, both changes are there",
            both is not None and (both.status, both.title) == (Status.DONE, "Write the notes, briefly"),
        )
        taken = False
        try:
            ann.create(Plan(id="plan-2", title="Ship something else", slug="ship-it"))
        except UniqueError as error:
            taken = True
            say(f"    refused: {error}")
        claim("a unique value is given once", taken)


def a_killed_process_loses_nothing(folder: Path, say: Say, claim: Claim) -> None:
    """Two processes write at once, and one is killed in the middle: what was acknowledged is there."""
    finishing, killed = _writer(folder, "finishing", _WRITES), _writer(folder, "killed", _ENDLESS)
    try:
        acknowledged = [line.strip() for line in islice(killed.stdout or (), _KILLED_AFTER)]
        killed.kill()
        rest, _ = killed.communicate(timeout=_WAIT_S)
        # A line that the kill cut short was not read whole, so nobody was told anything by it.
        acknowledged += [line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        finished, _ = finishing.communicate(timeout=_WAIT_S)
    finally:
        for process in (finishing, killed):
            process.kill()
            process.wait()
    acknowledged += finished.split()
    with Store.open(folder) as store:
        there = {event.id for event in store.list("events")}
        store.flush()
        in_file = _journal(folder, "events").read_text(encoding="utf-8")
    say(f"    {len(acknowledged)} writes were acknowledged, {len(there)} are there")
    claim("the process that was not killed wrote all of its records", len(finished.split()) == _WRITES)
    claim("every acknowledged record is in the store", set(acknowledged) <= there)
    claim("and in the file, written by the next process", all(f'"id":"{one}"' in in_file for one in acknowledged))


def people_write_too(folder: Path, say: Say, claim: Claim) -> None:
    """An editor adds a line with a field that no type knows, and leaves another one torn."""
    torn = '{"id":"task-4","title":"An editor died he'
    with _journal(folder, "tasks").open("a", encoding="utf-8") as file:
        file.write('{"id":"task-3","plan_id":"plan-1","title":"By hand","mood":"sunny","updated_at":1767225600000}\n')
        file.write(torn)
    with Store.open(folder) as store:
        task = store.get(Task, "task-3")
        claim("the line is a record", task is not None and task.title == "By hand")
        listing = store.list_tolerant(Task)
        for one in listing.unreadable:
            say(f"    unreadable: line {one.line}: {one.reason}")
        claim(
            "the torn line is reported, and hides no other",
            len(listing.unreadable) == 1 and {one.id for one in listing.records} == {"task-1", "task-2", "task-3"},
        )
        store.modify(Task, "task-3", lambda task: task.evolve(status=Status.DONE))
        line = store.line("tasks", "task-3") or b""
    claim("a typed write keeps the field that its type does not know", b'"mood":"sunny"' in line)
    journal = _journal(folder, "tasks").read_text(encoding="utf-8")
    claim("the torn line is still in the file, on a line of its own", f"\n{torn}\n" in journal)


def the_index_is_disposable(folder: Path, say: Say, claim: Claim) -> None:
    """store.db is derived: delete it, and the files say the same again."""
    before = _state(folder)
    for file in (folder / ".taskstore").glob("store.db*"):
        file.unlink()
    after = _state(folder)
    say(f"    {sum(map(len, after.values()))} records read back from the files")
    claim("rebuilt from the files, the index says the same", before == after)
    with Store.open(folder) as store:
        claim("filters and rules came back without the Python types", store.declaration("tasks").references != {})


def what_hangs_together_goes_together(folder: Path, say: Say, claim: Claim) -> None:
    """A reference says what happens to a record when the one it names is deleted."""
    with Store.open(folder) as store:
        store.delete("plans", "plan-1")
        left = store.count("tasks")
        say(f"    {left} tasks are left")
        claim("deleting a plan deletes its tasks: the declaration says cascade", left == 0)
        report = store.compact()
        lines = sum(one.lines_before - one.lines_after for one in report.collections.values())
        say(f"    compaction removed {lines} superseded lines")
        checked = store.check()
        claim(
            "after all that the index is what the files say, record by record",
            not [one for one in checked.problems if one.kind == "difference"],
        )


STEPS: Final[tuple[Step, ...]] = (
    records_are_lines,
    nobody_overwrites_unseen,
    a_killed_process_loses_nothing,
    people_write_too,
    the_index_is_disposable,
    what_hangs_together_goes_together,
)


def tour(say: Say, *, steps: tuple[Step, ...] = STEPS) -> bool:
    """Take the tour.

    Args:
        say: Is told what is done and why, a line at a time.
        steps: The stops.

    Returns:
        Whether every claim held.
    """
    broken: list[str] = []

    def claim(promise: str, holds: bool) -> None:  # noqa: FBT001 - reason: it is what the claim is about
        say(f"  {'✓' if holds else '✗ BROKEN:'} {promise}")
        if not holds:
            broken.append(promise)

    with tempfile.TemporaryDirectory(prefix="tstore-demo-") as folder:
        say(f"A store in {folder}, which goes when the tour ends.")
        for number, step in enumerate(steps, 1):
            say("")
            say(f"{number}. {' '.join((step.__doc__ or step.__name__).split())}")
            try:
                step(Path(folder), say, claim)
            except TaskStoreError as error:
                claim(f"it should have worked, but: {error}", False)  # noqa: FBT003 - reason: as above
    say("")
    say("Every promise was kept." if not broken else f"{len(broken)} of the promises were broken.")
    return not broken


def _writer(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "taskstore_async.demo.writer", str(folder), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - reason: our own module


def _journal(folder: Path, collection: str) -> Path:
    return folder / ".taskstore" / f"{collection}.jsonl"


def _state(folder: Path) -> dict[str, list[Document]]:
    with Store.open(folder) as store:
        return {name: store.list(name) for name in ("plans", "tasks", "events")}
