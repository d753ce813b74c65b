"""What can be asked of the engine, and what becomes of it: plain values that may cross a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import msgspec

if TYPE_CHECKING:
    from taskstore_async.core.declaration import Declaration
    from taskstore_async.core.query import Query
    from taskstore_async.core.record import Document, Record
    from taskstore_async.core.write import Draft
    from taskstore_async.errors import TaskStoreError

__all__ = [
    "Answer",
    "Applied",
    "Batch",
    "Claim",
    "Claimed",
    "Create",
    "CreateMany",
    "Declare",
    "Delete",
    "DeleteWhere",
    "Op",
    "Put",
    "Refused",
    "Release",
    "Renew",
    "Stored",
    "Update",
    "WriteContent",
]

T = TypeVar("T")


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A version as it is stored: its line, and the stamp that the fold gave it, in nanoseconds."""

    raw: bytes
    instant: int


class Create(msgspec.Struct, frozen=True, gc=False):
    """Store a record that must not be there yet. Answer: `Stored`."""

    draft: Draft


class Put(msgspec.Struct, frozen=True, gc=False):
    """Store a record whatever is there. Answer: `Stored`."""

    draft: Draft
    token: int | None = None


class Update(msgspec.Struct, frozen=True, gc=False):
    """Store a record that must still be the version that the draft was made from. Answer: `Stored`."""

    draft: Draft
    token: int | None = None


class WriteContent(msgspec.Struct, frozen=True):
    """Store a record with its long text in a file beside it. Answer: `Stored`.

    Attributes:
        change: The record; its field ``file`` may be set, and is set by this.
        data: What the file is to hold.
    """

    change: Create | Update
    data: bytes

    @property
    def collection(self) -> str:
        """Where the record stands."""
        return self.change.draft.collection


class Delete(msgspec.Struct, frozen=True):
    """Delete a record, and what the declarations say goes with it. Answer: None.

    Attributes:
        expected_at: The version it must have (ms); None for any.
        expected_crc: The CRC-32 of the line that it must have, when that is known.
    """

    collection: str
    id: str
    expected_at: int | None = None
    expected_crc: int | None = None
    token: int | None = None


class DeleteWhere(msgspec.Struct, frozen=True):
    """Delete every record that a query finds. Answer: how many it found."""

    collection: str
    query: Query


class CreateMany(msgspec.Struct, frozen=True):
    """Create records, all or none. Answer: how many."""

    drafts: tuple[Draft, ...]


class Declare(msgspec.Struct, frozen=True):
    """Add to what a collection is declared to be. Answer: None."""

    declaration: Declaration


class Claim(msgspec.Struct, frozen=True):
    """Lease the first record that a query finds and nobody holds. Answer: `Claimed`, or None when there is none.

    Attributes:
        changes: Fields to set on the record, by name, as JSON.
        record_type: What the record must be readable as once they are set; one that is not is passed over.
    """

    collection: str
    query: Query
    owner: str
    lease_ms: int
    changes: dict[str, msgspec.Raw]
    record_type: type[Record] | None = None


class Claimed(msgspec.Struct, frozen=True):
    """A record that was leased.

    Attributes:
        record: As it is stored now, of the type of the `Claim`; a document when that has none.
        token: The fencing token: greater than that of every lease before.
        until_ms: When the lease ends, milliseconds since the epoch (UTC).
    """

    record: Record | Document
    token: int
    until_ms: int


class Renew(msgspec.Struct, frozen=True):
    """Extend a lease. Answer: when it ends now, in milliseconds."""

    collection: str
    id: str
    token: int
    lease_ms: int


class Release(msgspec.Struct, frozen=True):
    """End a lease. Answer: None."""

    collection: str
    id: str
    token: int


class Batch(msgspec.Struct, frozen=True):
    """Several changes, all or none. Answer: a tuple of theirs."""

    ops: tuple[Create | Put | Update | Delete, ...]


Op: TypeAlias = (
    Create | Put | Update | WriteContent | Delete | DeleteWhere | CreateMany | Declare | Claim | Renew | Release | Batch
)


class Applied(msgspec.Struct, Generic[T], frozen=True):
    """The change was made; *value* is its answer."""

    value: T


class Refused(msgspec.Struct, frozen=True):
    """The change was not made (or, being a `WriteUncertainError`, perhaps not)."""

    error: TaskStoreError


Answer: TypeAlias = Applied[object] | Refused
