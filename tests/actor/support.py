"""What the tests of the manager share."""

from __future__ import annotations

import gc
import json
import threading
from contextlib import asynccontextmanager
from types import coroutine
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from anyio import create_task_group, fail_after, wait_all_tasks_blocked

from taskstore_async import Indexed, Record, StateManager

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
    from pathlib import Path

DEADLINE_S = 20
T = TypeVar("T")


class Plan(Record):
    collection: ClassVar[str] = "plans"
    title: str = ""
    status: Annotated[str, Indexed] = "draft"
    number: int = 0


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncGenerator[StateManager]:  # noqa: ANN401 - reason: as open takes them
    """A manager with a deadline around it."""
    with fail_after(DEADLINE_S):
        options.setdefault("records", [Plan])
        async with StateManager.open(path, **options) as store:
            yield store


@asynccontextmanager
async def engine_busy(store: StateManager) -> AsyncGenerator[None]:
    """Keep the engine's thread busy for the length of the block."""
    free = threading.Event()

    def wait(_: object) -> None:
        assert free.wait(DEADLINE_S)

    async with create_task_group() as tasks:
        tasks.start_soon(store._worker.run, wait)
        await wait_all_tasks_blocked()
        try:
            yield
        finally:
            free.set()


def lines_of(path: Path, collection: str = "plans") -> list[dict[str, Any]]:
    """What stands in a journal."""
    file = path / ".taskstore" / f"{collection}.jsonl"
    return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def ids_of(path: Path, collection: str = "plans") -> set[str]:
    return {line["id"] for line in lines_of(path, collection)}


def threads() -> list[str]:
    """The names of our threads; what nobody refers to any more is collected first."""
    gc.collect()
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("taskstore"))


class Steps:
    """Awaits a coroutine, and calls *cancel* when it suspends for the *at*-th time.

    Attributes:
        fired: It got that far.
    """

    def __init__(self, at: int, cancel: Callable[[], object]) -> None:
        self._at = at
        self._cancel = cancel
        self.fired = False

    @coroutine
    def drive(self, whole: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        count = 0
        step = whole.send
        value: Any = None
        while True:
            try:
                asked = step(value)
            except StopIteration as stop:
                result: T = stop.value
                return result
            count += 1
            if count == self._at:
                self.fired = True
                self._cancel()
            try:
                value = yield asked
                step = whole.send
            except BaseException as error:  # noqa: BLE001 - reason: it is the coroutine's
                value = error
                step = whole.throw
