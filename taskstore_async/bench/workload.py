"""What agents do to a store, as far as writing goes: three shapes, each for so many seconds."""

from __future__ import annotations

import random
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from anyio import create_task_group, current_time, sleep, sleep_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Shape", "run_shape"]

_BURST_AGENTS: Final = 20
_BURST_WRITES: Final = 10
_BURST_EVERY_S: Final = 0.5
_TRICKLE_EVERY_S: Final = 0.05
_AGENTS: Final = 64
_THINKING_S: Final = (0.005, 0.015)


class Shape(StrEnum):
    """How writes come.

    ======= ==================================================================
    BURSTS  20 agents write 10 records each, twice a second, and are silent
    TRICKLE one agent writes 20 records a second
    AGENTS  64 agents write, and think for 10 ms on average between two writes
    ======= ==================================================================
    """

    BURSTS = "bursts"
    TRICKLE = "trickle"
    AGENTS = "agents"


async def run_shape(shape: Shape, write: Callable[[int], Awaitable[None]], seconds: float) -> None:
    """Write in the way of *shape*.

    Args:
        shape: Which.
        write: Makes one write of the agent with a number, and returns when it is acknowledged.
        seconds: How long. > 0.
    """
    end = current_time() + seconds
    if shape is Shape.TRICKLE:
        await _trickle(write, end)
    elif shape is Shape.BURSTS:
        await _bursts(write, end)
    else:
        async with create_task_group() as tasks:
            for number in range(_AGENTS):
                tasks.start_soon(_agent, number, write, end)


async def _trickle(write: Callable[[int], Awaitable[None]], end: float) -> None:
    due = current_time()
    while due < end:
        await sleep_until(due)
        await write(0)
        due += _TRICKLE_EVERY_S


async def _bursts(write: Callable[[int], Awaitable[None]], end: float) -> None:
    async def agent(number: int) -> None:
        for _ in range(_BURST_WRITES):
            await write(number)

    due = current_time()
    while due < end:
        await sleep_until(due)
        async with create_task_group() as tasks:
            for number in range(_BURST_AGENTS):
                tasks.start_soon(agent, number)
        due += _BURST_EVERY_S


async def _agent(number: int, write: Callable[[int], Awaitable[None]], end: float) -> None:
    chance = random.Random(number)  # noqa: S311 - reason: the same thoughts in every trial, no secret
    while current_time() < end:
        await write(number)
        await sleep(chance.uniform(*_THINKING_S))
