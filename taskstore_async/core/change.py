"""Changes, as a feed tells them, and the cursors that say how far it was read."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final, Generic, TypeVar

import msgspec

from taskstore_async.errors import InvalidFilterError

__all__ = ["Change", "ChangeKind", "Origin", "Position"]

T = TypeVar("T")
_SEQ_MAX: Final = 2**63 - 1


class ChangeKind(StrEnum):
    """What happened to a record.

    ``RESET`` is about none: what follows is every live record as ``PRESENT``, because the feed cannot tell what
    happened since the cursor. ``REMOVED``: its lines are gone from the journal, without a tombstone.
    """

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    REMOVED = "removed"
    PRESENT = "present"
    RESET = "reset"


class Origin(StrEnum):
    """Where a change came from: a write through the store, or a file that somebody else changed."""

    WRITE = "write"
    FILE = "file"


class Change(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One change, or what a feed that begins anew tells instead.

    Attributes:
        kind: What happened.
        collection: Where; empty for ``RESET``.
        id: To which record; empty for ``RESET``.
        record: The record as it was when this was delivered; None when it is gone, the change is superseded, or it is
            ``unreadable``.
        superseded: A later change of the same record is on its way.
        origin: Where it came from; None for ``PRESENT`` and ``RESET``.
        cursor: Where a later `watch` goes on behind this change; before the last ``PRESENT`` it begins anew.
        unreadable: Why the record does not fit the type that is watched; None when it does.
    """

    kind: ChangeKind
    collection: str
    id: str
    record: T | None = None
    superseded: bool = False
    origin: Origin | None = None
    cursor: str
    unreadable: str | None = None


class Position(msgspec.Struct, frozen=True):
    """A place in the log of one index.

    Attributes:
        index_id: Which index; another one has another log.
        seq: The newest change that was seen; 0 for none.
    """

    NOWHERE: ClassVar[Position]  #: in no index

    index_id: str
    seq: int

    def __str__(self) -> str:
        """Return the cursor."""
        return f"{self.index_id}.{self.seq}"

    @classmethod
    def parse(cls, cursor: str) -> Position:
        """Read a cursor.

        Raises:
            InvalidFilterError: It is none.
        """
        index_id, dot, digits = cursor.rpartition(".")
        if dot and digits.isdecimal() and digits.isascii() and len(digits) <= len(str(_SEQ_MAX)):
            seq = int(digits)
            if seq <= _SEQ_MAX:
                return cls(index_id, seq)
        raise InvalidFilterError(f"the cursor {cursor!r}", "give one that a change brought, or none at all")


Position.NOWHERE = Position("", 0)
