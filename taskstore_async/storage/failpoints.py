"""Named places at which a test may have this process die, as if it had been killed there.

``TASKSTORE_FAILPOINT=NAME`` in the environment, or ``NAME:N`` for the Nth time, has the process send itself SIGKILL.
Nothing is armed without it, and a place then costs a call that does nothing.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NAMES", "Name", "arm", "reach"]

Name = Literal[
    "locked",  # store.lock is held
    "begun",  # BEGIN, with the marks of a former flush
    "before commit",
    "after commit",
    "before checkpoint",
    "after checkpoint",
    "before append",  # the journal is open, and was looked at
    "appended",  # written, not fsynced
    "append fsynced",
    "name fsynced",  # the directory, too
    "quarantined",  # compaction has moved bad lines aside
    "rewritten",  # the new file is on the disk, under a temporary name
    "replaced",  # it has the name; the directory is not fsynced
    "built",  # a new index is on the disk, under a temporary name
    "index named",  # it has the name
    "set aside",  # a damaged index has lost its name, and no other has it
    "closing",  # flushed, and not yet closed
]
NAMES: Final[tuple[Name, ...]] = get_args(Name)
VARIABLE: Final = "TASKSTORE_FAILPOINT"


def _pass(_: Name) -> None:
    """Go on."""


reach: Callable[[Name], None] = _pass  #: tells that a place was reached; called through the module


def arm(name: str, *, nth: int = 1) -> None:
    """Have this process die when it reaches *name* for the *nth* time.

    Raises:
        ValueError: There is no such place.
    """
    global reach  # noqa: PLW0603 - reason: so that nothing is asked while nothing is armed
    if name not in NAMES:
        raise ValueError(f"{name!r} is no failpoint; there are: {', '.join(NAMES)}")
    left = nth

    def die(reached: Name) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    reach = die


def _arm_as_told(told: str) -> None:
    name, _, number = told.partition(":")
    arm(name, nth=int(number or 1))


if os.environ.get(VARIABLE):
    _arm_as_told(os.environ[VARIABLE])
