"""Both trackers: the one that is awaited on every loop, and the one that blocks."""

from __future__ import annotations

from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from taskstore_async.tracker import BlockingRunTracker, RunTracker
from tests.conftest import LOOPS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    AnyTracker = RunTracker | BlockingRunTracker
    Open = Callable[[], AbstractAsyncContextManager[AnyTracker]]

T = TypeVar("T")
CASES = [
    pytest.param(("blocking", "asyncio", {}), id="blocking"),
    *(pytest.param(("awaited", *loop.values[0]), id=f"awaited-{loop.id}") for loop in LOOPS),  # type: ignore[misc]  # reason: what LOOPS has
]


async def of(answer: T | Awaitable[T]) -> T:
    """What a call of either tracker answers."""
    return cast("T", await answer if isawaitable(answer) else answer)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, Any]]:
    """Which tracker, and on which loop."""
    found: tuple[str, str, dict[str, Any]] = request.param
    return found


@pytest.fixture
def anyio_backend(case: tuple[str, str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The loop of the case."""
    return case[1], case[2]


@pytest.fixture
def opened(case: tuple[str, str, dict[str, Any]], tmp_path: Path) -> Open:
    """Opens the history in the test's own directory."""

    @asynccontextmanager
    async def open_() -> AsyncGenerator[AnyTracker]:
        if case[0] == "awaited":
            async with RunTracker.open(tmp_path) as tracker:
                yield tracker
        else:
            with BlockingRunTracker.open(tmp_path) as blocking:
                yield blocking

    return open_
