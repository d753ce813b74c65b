"""Giving a store what a tracker has kept for it, and judging what went wrong."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from taskstore_async import errors
from taskstore_async.records.runs import Project
from taskstore_async.tracker.plan import Plan, Put, get

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from taskstore_async.tracker.ledger import Ledger, Waiting

__all__ = ["LATE", "LOCK_TIMEOUT_S", "PATIENCE_S", "Health", "give", "is_mistake", "settle"]

_logger = logging.getLogger(__name__)

PATIENCE_S: Final = 0.9  #: no call waits longer for the store; a second, with what else a call does
LOCK_TIMEOUT_S: Final = 0.3  #: closing may wait three times, and is a call as well
LATE: Final = "it does not answer"
_PAUSES_S: Final = (0.1, 0.3, 1.0, 2.0)  #: between tries
_AT_ONCE: Final = 500  #: records of one transaction
_MISTAKES: Final = (
    errors.InvalidFilterError,
    errors.InvalidIdError,
    errors.InvalidNameError,
    errors.InvalidRecordError,
    errors.InvalidRecordTypeError,
    errors.LimitExceededError,
)
_REFUSALS: Final = (*_MISTAKES, errors.UnreadableRecordError, errors.UniqueError, errors.MissingReferenceError)


def is_mistake(error: BaseException) -> bool:
    """Whether *error* is about what was asked, not about the store."""
    return isinstance(error, _MISTAKES)


def settle(ledger: Ledger) -> Plan[None]:
    """Give the store all that waits for it."""
    while some := ledger.waiting():
        yield from give(ledger, some)


def give(ledger: Ledger, some: Sequence[Waiting]) -> Plan[None]:
    """Give the store the oldest of *some*; what it refuses is counted as lost, and the rest goes on."""
    wanted = yield from _not_there(ledger, some[:_AT_ONCE])
    try:
        if wanted:
            yield Put(tuple(one.record for one in wanted))
        ledger.settle(wanted)
    except _REFUSALS:
        for one in wanted:
            yield from _settle_one(ledger, one)


def _settle_one(ledger: Ledger, one: Waiting) -> Plan[None]:
    try:
        yield Put((one.record,))
        ledger.settle([one])
    except _REFUSALS as error:
        _logger.warning("%s/%s is lost: %s", type(one.record).collection, one.record.id, error)
        ledger.settle([one], lost=True)


def _not_there(ledger: Ledger, some: Sequence[Waiting]) -> Plan[list[Waiting]]:
    """What must be written: a project that is stored already need not be, with every run again."""
    wanted: list[Waiting] = []
    for one in some:
        if isinstance(one.record, Project):
            stored = yield from get(Project, one.record.id)
            if stored is not None and one.record.path in {None, stored.path}:
                ledger.settle([one])
                continue
        wanted.append(one)
    return wanted


class Health:
    """Says when a store that failed is tried again, and tells a person about it, once.

    Args:
        root: Where the store is, for the message.
        ledger: Keeps the state.
    """

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self._root = root
        self._ledger = ledger
        self._failures = 0
        self._again_s = 0.0

    def failed(self, reason: str) -> None:
        """The store could not do what was asked; it is not asked again for a while."""
        pause_s = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1
        self._again_s = time.monotonic() + pause_s
        self.tell(reason)

    def tell(self, reason: str) -> None:
        """Note in the state that the store cannot be used, and warn if nobody has been warned yet."""
        self._ledger.failed(reason)
        self.mention(reason)

    def mention(self, reason: str) -> None:
        """Warn if nobody has been warned yet; it may be over before anything has to be recorded."""
        if not self._ledger.told_before():
            _logger.warning(
                "the run history in %s cannot be written: %s. The run goes on; what it records is kept in memory, and "
                "written when that works again",
                self._root,
                reason,
                extra={"store": str(self._root)},
            )

    def recovered(self) -> None:
        """The store did what was asked; it is well once nothing waits: it may be readable and not writable."""
        if not self._ledger.is_waiting:
            self._failures = 0
            self._again_s = 0.0
            self._ledger.recovered()

    @property
    def pause_s(self) -> float:
        """How long the store is left alone from now on; 0 when it may be asked."""
        return max(0.0, self._again_s - time.monotonic())
