"""What a handle answers while something is missing, and when it is there again.

``python -m tests.faults.recovery CASE BACKEND FOLDER``, in a process of its own, prints what it heard as JSON.
"""

from __future__ import annotations

import errno
import inspect
import os
import resource
import sys
import tempfile
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio

from taskstore_async import StateManager, Store
from taskstore_async.core.record import Document
from taskstore_async.core.schedule import Durability
from taskstore_async.errors import TaskStoreError
from tests.processes.pipe import say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    Handle = StateManager | Store
    Lack = Callable[[Path], AbstractContextManager[None]]

__all__ = ["Heard", "balloon", "deleted", "driven", "moved_away"]

KINDS: Final = ("manager", "store")
NAME: Final = "notes"
NOBODY: Final = 65534


class Heard(NamedTuple):
    """What became of a call: its name, and the error, empty when there was none."""

    call: str
    error: str
    text: str


async def driven(kind: str, folder: Path, lack: Lack, *, before: Lack | None = None) -> tuple[list[Heard], list[Heard]]:
    """What a handle on *folder* is told while it lacks something, and when it does not any more.

    Args:
        kind: One of `KINDS`.
        folder: The store is in it.
        lack: A block in which something is missing.
        before: A block in which the handle is opened, when that is no usual day either.
    """
    async with AsyncExitStack() as stack:
        if before is None:
            handle = await opened(kind, folder, stack)
            await _heard(handle, "before")
        else:
            with before(folder):
                handle = await opened(kind, folder, stack)
        with lack(folder):
            during = await _heard(handle, "during")
        after = await _heard(handle, "after")
        report = await _answer(handle.check())
        assert not report.problems, report.problems
    async with AsyncExitStack() as stack:
        handle = await opened(kind, folder, stack)
        there = {one.id for one in await _answer(handle.list(NAME))}
        told = {f"{when}-{one.call}" for when, some in (("during", during), ("after", after)) for one in some}
        refused = {f"during-{one.call}" for one in during if one.error}
        written = {f"{when}-{level}" for when in ("during", "after") for level in Durability}
        assert (told & written) - refused <= there, "acknowledged, and lost"
    return during, after


async def opened(kind: str, folder: Path, stack: AsyncExitStack) -> Handle:
    """A handle for as long as *stack* is open."""
    if kind == "store":
        return stack.enter_context(Store.open(folder))
    return await stack.enter_async_context(StateManager.open(folder, on_trouble=lambda _: None))


async def _heard(handle: Handle, when: str) -> list[Heard]:
    heard: list[Heard] = []

    async def ask(name: str, call: Callable[[], object]) -> None:
        try:
            await _answer(call())
        except TaskStoreError as error:
            heard.append(Heard(name, type(error).__name__, str(error)))
        else:
            heard.append(Heard(name, "", ""))

    for level in Durability:
        document = Document(NAME, {"id": f"{when}-{level}", "text": "x" * 200})
        await ask(str(level), lambda document=document, level=level: handle.put(document, durability=level))  # type: ignore[misc]
        await ask("get", lambda: _found(handle))
        await ask("list", lambda: handle.list(NAME))
    await ask("flush", handle.flush)
    return heard


async def _found(handle: Handle) -> None:
    assert await _answer(handle.get(NAME, "before-relaxed")) is not None


async def _answer(made: Any) -> Any:  # noqa: ANN401 - reason: what any call of either handle returns
    return await made if inspect.isawaitable(made) else made


# -- what may be missing ------------------------------------------------------------------------------------


@contextmanager
def deleted(folder: Path, name: str) -> Generator[None]:
    """A file of the store, which never comes back as it was."""
    (folder / ".taskstore" / name).unlink()
    yield


@contextmanager
def moved_away(folder: Path) -> Generator[None]:
    """The whole store."""
    store = folder / ".taskstore"
    store.rename(folder / "away")
    yield
    (folder / "away").rename(store)


@contextmanager
def balloon(folder: Path) -> Generator[None]:
    """Any room on the disk of *folder*, which is a small one."""
    path = folder / "balloon"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4_096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    yield
    path.unlink()


@contextmanager
def no_write_permission(folder: Path) -> Generator[None]:
    """The permission to write any file of the store, or to make one."""
    store = folder / ".taskstore"
    files = list(store.iterdir())
    for path in files:
        path.chmod(0o444)
    store.chmod(0o555)
    yield
    store.chmod(0o755)
    for path in files:
        path.chmod(0o644)


@contextmanager
def few_descriptors(_folder: Path, *, spare: int = 0) -> Generator[None]:
    """All but *spare* of the descriptors that a process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    taken: list[int] = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    for _ in range(spare):
        os.close(taken.pop())
    yield
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def no_descriptor_for_a_moment(_folder: Path) -> Generator[None]:
    """A descriptor when SQLite opens its shared memory; it then opens it for reading, with the next one."""
    from tests.faults.shim import Action, Call, Shim  # noqa: PLC0415 - reason: only where there is one

    shim = Shim()
    shim.arm(Call.OPEN, "store.db-shm", nth=1, count=1, action=Action.REFUSE, number=errno.EMFILE)
    yield
    assert shim.disarm() > 1, "it was not opened again"


@contextmanager
def nothing(_folder: Path) -> Generator[None]:
    """Nothing is missing."""
    yield


async def _run(case: str, folder: Path) -> None:
    for kind in KINDS:
        place = folder / kind
        place.mkdir()
        if case == "moment":
            await _make(place)
            during, after = await driven(kind, place, nothing, before=no_descriptor_for_a_moment)
        elif case == "modes":
            during, after = await driven(kind, place, no_write_permission)
        else:
            during, after = await driven(kind, place, few_descriptors)
        say(kind=kind, during=during, after=after)
    if case == "descriptors":
        await _open_with_few(folder)


async def _make(place: Path) -> None:
    async with AsyncExitStack() as stack:
        await _heard(await opened("store", place, stack), "before")


async def _open_with_few(folder: Path) -> None:
    """Open while there are only some descriptors: that is refused, or the handle works when there are more."""
    for kind in KINDS:
        place = folder / f"{kind} opened"
        place.mkdir()
        await _make(place)
        works = refused = 0
        for spare in range(16):
            async with AsyncExitStack() as stack:
                handle: Handle | None = None
                with few_descriptors(place, spare=spare):
                    try:
                        handle = await opened(kind, place, stack)
                    except TaskStoreError:
                        refused += 1
                if handle is not None:
                    works += 1
                    assert not [one for one in await _heard(handle, f"spare {spare}") if one.error]
        say(kind=kind, works=works, refused=refused)


def main(case: str, backend: str, folder: str) -> None:
    """Try *case* with every kind of handle."""
    with tempfile.TemporaryDirectory() as scratch:  # load everything first: modules are files, too
        for kind in KINDS:
            anyio.run(driven, kind, Path(scratch), nothing, backend=backend)
    if case == "modes" and os.geteuid() == 0:
        os.setuid(NOBODY)  # no mode keeps root from anything
    anyio.run(_run, case, Path(folder), backend=backend)


if __name__ == "__main__":
    main(*sys.argv[1:])
