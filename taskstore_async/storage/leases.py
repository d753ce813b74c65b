"""The table of leases: who has taken which record, until when, and with what token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from taskstore_async.core.names import can_be_stored
from taskstore_async.errors import ClaimLostError

if TYPE_CHECKING:
    import sqlite3

    from taskstore_async.storage.catalogue import Collection

__all__ = ["Leases"]

_TOKENS: Final = 2**63  #: SQLite has no greater number


class Leases:
    """The leases of an index, inside the caller's transaction.

    Args:
        db: The index.
        now_ms: The time for all of the transaction, milliseconds since the epoch (UTC).
    """

    def __init__(self, db: sqlite3.Connection, now_ms: int) -> None:
        self._db = db
        self._now_ms = now_ms

    def held(self, collection: Collection) -> set[str]:
        """The ids of the collection's records that have a live lease."""
        found = self._db.execute(
            "SELECT id FROM lease WHERE collection = ? AND until_ms > ?", (collection.key, self._now_ms)
        )
        return {record_id for (record_id,) in found}

    def take(self, collection: Collection, record_id: str, *, owner: str, lease_ms: int) -> tuple[int, int]:
        """Lease a record that nobody has; returns the fencing token, and when the lease ends (ms)."""
        (token,) = self._db.execute(
            "UPDATE meta SET value = max(value + 1, ?) WHERE name = 'token' RETURNING value", (self._now_ms,)
        ).fetchone()
        until_ms = self._now_ms + lease_ms
        self._db.execute("DELETE FROM lease WHERE collection = ? AND until_ms <= ?", (collection.key, self._now_ms))
        self._db.execute(
            "INSERT INTO lease (collection, id, owner, token, until_ms) VALUES (?, ?, ?, ?, ?)",
            (collection.key, record_id, owner, token, until_ms),
        )
        return token, until_ms

    def renew(self, collection: Collection, record_id: str, *, lease_ms: int) -> int:
        """Have a lease, which lives, end *lease_ms* from now; returns when that is (ms)."""
        until_ms = self._now_ms + lease_ms
        self._db.execute(
            "UPDATE lease SET until_ms = ? WHERE collection = ? AND id = ?", (until_ms, collection.key, record_id)
        )
        return until_ms

    def require(self, collection: Collection, record_id: str, *, token: int) -> None:
        """Check that a lease lives.

        Raises:
            ClaimLostError: It does not, or has another token.
        """
        if not (can_be_stored(record_id) and type(cast("object", token)) is int and 0 <= token < _TOKENS):
            raise ClaimLostError(collection.name, record_id, token=token)  # SQLite takes no such thing, and fails
        found = self._db.execute(
            "SELECT 1 FROM lease WHERE collection = ? AND id = ? AND token = ? AND until_ms > ?",
            (collection.key, record_id, token, self._now_ms),
        ).fetchone()
        if found is None:
            raise ClaimLostError(collection.name, record_id, token=token)

    def end(self, collection: Collection, record_id: str) -> None:
        """End the record's lease, if it has one."""
        self._db.execute("DELETE FROM lease WHERE collection = ? AND id = ?", (collection.key, record_id))
