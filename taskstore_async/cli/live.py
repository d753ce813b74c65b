"""Commands that run an event loop: demo, watch."""

from __future__ import annotations

import sys
import tempfile
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from pathlib import Path  # noqa: TC003 - reason: typer looks at the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer

from taskstore_async.cli.errors import ExitCode, UsageError
from taskstore_async.cli.invocation import Invocation, command

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from taskstore_async.demo.agents import Outcome, Progress

_BAR: Final = 30  #: columns of the progress bar
_TOLD: Final = 20  #: broken invariants that are named one by one
_NOT_SHOWN: Final = frozenset({"record", "unreadable"})  #: of a change; without a type every record can be read


class Loop(StrEnum):
    """The event loops that a StateManager serves."""

    ASYNCIO = "asyncio"
    TRIO = "trio"


@command("demo")
def demo(
    tstore: Invocation,
    *,
    agents: Annotated[int, typer.Option(min=1, max=1_000, help="How many agents work.")] = 8,
    tasks: Annotated[int, typer.Option(min=1, help="How many tasks there are; of --from, at most so many.")] = 200,
    loop: Annotated[Loop, typer.Option(help="The event loop they run on.")] = Loop.ASYNCIO,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Take the tasks from an issue file of JSON lines.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where; a temporary directory, which stays, otherwise.")
    ] = None,
    tour: Annotated[bool, typer.Option("--tour", help="Show the engine's promises one by one instead.")] = False,
) -> None:
    """Let simulated agents share one store: claim tasks, work, fail sometimes, tell each other, finish.

    At the end it says what happened, checks that no task was done twice, none is lost and the index is what the journal
    says, and ends with 1 if one of these does not hold. Several demos may run on one --dir at the same time.

    Example: tstore demo --agents 16 --tasks 500 --loop trio
    """
    if tour:
        from taskstore_async.demo.tour import tour as show_tour  # noqa: PLC0415 - reason: no other command needs it

        if not show_tour(lambda line: tstore.out.lines([line])):
            tstore.code = ExitCode.FAILED
        return
    from taskstore_async.demo.agents import Job, Progress, run  # noqa: PLC0415 - reason: as above

    path = str(directory) if directory is not None else tempfile.mkdtemp(prefix="tstore-demo-")
    wanted = _tasks(source, tasks)
    progress = Progress()
    if find_spec(loop.value) is None:
        raise UsageError(f"{loop} is not installed; run: pip install {loop}, or leave out --loop")
    with _bar(progress) as show:
        outcome = run(Job(path=path, agents=agents, tasks=wanted, loop=loop.value), progress, show)
    _tell(tstore, path, outcome, agents=agents, loop=loop)
    if outcome.broken:
        tstore.code = ExitCode.FAILED


@command("watch")
def watch(
    tstore: Invocation,
    collection: Annotated[
        str | None, typer.Argument(metavar="[COLL]", help="Of this collection alone.", show_default=False)
    ] = None,
    *,
    since: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Go on behind this change; 0: begin with all that is there.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many changes.")] = None,
) -> None:
    """Print changes as they happen, a line of JSON each, until interrupted: by this program, others, git, an editor.

    Each has its cursor; --since goes on where an earlier watch ended.

    Example: tstore watch tasks --since 0
    """
    import anyio  # noqa: PLC0415 - reason: no other command runs a loop

    place = tstore.place()
    cursor = "0.0" if since == "0" else since
    anyio.run(partial(_watch, tstore, place.path, collection, cursor, limit))


async def _watch(tstore: Invocation, path: str, collection: str | None, since: str | None, limit: int | None) -> None:
    import msgspec  # noqa: PLC0415 - reason: as above

    from taskstore_async.actor.manager import StateManager  # noqa: PLC0415 - reason: as above

    left = limit
    async with StateManager.open(path, create=False) as store:
        async for change in store.watch(collection, since=since):
            record = None if change.record is None else dict(change.record)
            shown = {name: getattr(change, name) for name in change.__struct_fields__ if name not in _NOT_SHOWN}
            tstore.out.value(msgspec.to_builtins({**shown, "record": record}, builtin_types=_NUMBERS))
            left = None if left is None else left - 1
            if left == 0:
                return


def _numbers() -> tuple[type, ...]:
    from decimal import Decimal  # noqa: PLC0415 - reason: as above

    return (Decimal,)


_NUMBERS: Final = _numbers()  #: kept as they are: JSON has them


def _tasks(source: Path | None, most: int) -> list[tuple[str, str, str]]:
    from taskstore_async.demo.agents import tasks_from  # noqa: PLC0415 - reason: as above

    if source is None:
        return [(f"ts-{number:04}", f"Part {number}", "") for number in range(1, most + 1)]
    try:
        tasks = tasks_from(source.read_bytes().split(b"\n"), most)
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}; --from takes a file of JSON lines") from error
    if not tasks:
        raise UsageError(f"{source} has no line with an id; --from takes a file of JSON lines, an issue each")
    return tasks


@contextmanager
def _bar(progress: Progress) -> Generator[Callable[[], None]]:
    """A live line on stderr, where a person sees it."""
    if not sys.stderr.isatty():
        yield lambda: None
        return

    def show() -> None:
        full = _BAR * progress.done // max(1, progress.total)
        bar = "█" * full + "░" * (_BAR - full)
        sys.stderr.write(
            f"\r{bar} {progress.done:,}/{progress.total:,} done, {progress.claimed:,} claimed, "
            f"{progress.iterations:,} iterations, {progress.failures:,} failures, {progress.signals:,} signals\x1b[K"
        )
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")


def _tell(tstore: Invocation, path: str, outcome: Outcome, *, agents: int, loop: Loop) -> None:
    if tstore.out.for_programs:
        tstore.out.value({"path": path, **_facts(outcome)})
        return
    done, stats = outcome.progress, outcome.stats
    tstore.out.facts(
        [
            ("agents", f"{agents} on {loop}"),
            ("tasks", f"{outcome.complete} complete, {outcome.given_up} given up after three failures"),
            ("executions", f"{outcome.executions} in all; here {done.claimed} claims, {done.iterations} iterations"),
            ("failures", f"{done.failures}, each told to another agent ({done.signals} signals)"),
            ("writes", f"{stats.writes} in {stats.batches} transactions, {stats.mean_batch:.1f} each"),
            ("commit", f"p50 {stats.commit.p50_ms:.1f} ms, p99 {stats.commit.p99_ms:.1f} ms"),
            ("done twice, lost, index ≠ journal", "none" if not outcome.broken else f"{len(outcome.broken)} BROKEN"),
        ]
    )
    tstore.out.lines(outcome.broken[:_TOLD])
    tstore.out.words(f"look for yourself: tstore --store {path} list executions --sort -updated_at --limit 20")


def _facts(outcome: Outcome) -> dict[str, object]:
    import msgspec  # noqa: PLC0415 - reason: as above

    facts: dict[str, object] = msgspec.to_builtins(outcome)
    return facts
