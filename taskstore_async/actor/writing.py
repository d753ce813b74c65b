"""The calls of a manager that change something."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from anyio.lowlevel import checkpoint

from taskstore_async.actor.handle import Handle, loaded
from taskstore_async.actor.reading import SLICE
from taskstore_async.core.query import Query
from taskstore_async.core.record import Document, Record
from taskstore_async.core.write import draft, load_stored
from taskstore_async.errors import StaleWriteError
from taskstore_async.storage import inspection
from taskstore_async.storage.batch import BatchWriter
from taskstore_async.storage.claims import claim_op, draft_of_modified, renew_op
from taskstore_async.storage.content import content_op
from taskstore_async.storage.ops import (
    Batch,
    Claimed,
    Create,
    CreateMany,
    Delete,
    DeleteWhere,
    Put,
    Release,
    Stored,
    Update,
)
from taskstore_async.storage.store import Lease

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from taskstore_async.core.filters import Filter
    from taskstore_async.core.schedule import Durability
    from taskstore_async.core.write import Draft

__all__ = ["Writing"]

R = TypeVar("R", bound=Record)
A = TypeVar("A", bound="Record | Document")


class Writing(Handle):
    """See `StateManager`."""

    async def create(self, record: A, *, durability: Durability | None = None) -> A:
        """Store a new record, and return it as it is stored.

        Raises:
            AlreadyExistsError: There is a record with this id.
            UniqueError, MissingReferenceError: A rule of the declaration is broken.
            InvalidRecordError, InvalidIdError, LimitExceededError: It cannot be stored at all.
            CollectionClosedError: The journal is damaged.
            WriteFailedError, StoreLockedError, StoreReadOnlyError, StoreBrokenError: Nothing was written.
            WriteUncertainError: It is not known whether it was.
            StoreClosedError: The manager is closing or closed; nothing was written.
        """
        return _stored(record, await self._write(Create(await self._draft(record)), durability))

    async def put(self, record: A, *, token: int | None = None, durability: Durability | None = None) -> A:
        """Store a record, whatever is there, and return it as it is stored.

        Args:
            record: A typed one keeps the stored fields that its type does not know; a document replaces all.
            token: The fencing token of the lease under which this is done.
            durability: Instead of the manager's.

        Raises:
            ClaimLostError: The lease has ended.
            TaskStoreError: As for `create`, except that it may exist.
        """
        return _stored(record, await self._write(Put(await self._draft(record), token), durability))

    async def update(self, record: A, *, token: int | None = None, durability: Durability | None = None) -> A:
        """Store a new version of the record that *record* was made from, and return it as it is stored.

        Raises:
            NotFoundError: There is no such record.
            StaleWriteError: Somebody changed it since it was read.
            TaskStoreError: As for `put`.
        """
        return _stored(record, await self._write(Update(await self._draft(record), token), durability))

    async def write_content(
        self, record: A, text: str, *, token: int | None = None, durability: Durability | None = None
    ) -> A:
        """Store *record* with *text* in a file beside it, and return it as it is stored; see `Store.write_content`."""
        op = content_op(await self._draft(record), text, token=token)
        return _stored(record, await self._write(op, durability))

    @overload
    async def modify(
        self,
        target: type[R],
        record_id: str,
        function: Callable[[R], R],
        *,
        token: int | None = ...,
        durability: Durability | None = ...,
    ) -> R: ...
    @overload
    async def modify(
        self,
        target: str,
        record_id: str,
        function: Callable[[Document], Document],
        *,
        token: int | None = ...,
        durability: Durability | None = ...,
    ) -> Document: ...
    async def modify(
        self,
        target: type[Record] | str,
        record_id: str,
        function: Callable[[Any], Any],
        *,
        token: int | None = None,
        durability: Durability | None = None,
    ) -> Any:
        """Read a record, change it with *function*, and store it; again, when somebody else was faster.

        *function* runs in the caller's task, perhaps several times, and must not await.

        Raises:
            NotFoundError: There is no such record.
            InvalidIdError: *function* returned another record.
            TaskStoreError: As for `update`, except that it cannot be stale.
        """
        name = await self._name(target)
        while True:
            found = await self._readers.get(name, record_id)
            if found is None:
                raise await self._worker.run(inspection.not_found, name, record_id)
            current = loaded(target, found)
            changed = function(current)
            made = draft_of_modified(await self._draft(changed), current)
            try:
                return _stored(changed, await self._write(Update(made, token), durability))
            except StaleWriteError:
                continue

    async def delete(
        self,
        target: type[Record] | str,
        record_id: str,
        *,
        if_updated_at: int | None = None,
        token: int | None = None,
        durability: Durability | None = None,
    ) -> None:
        """Delete a record, and what the declarations say goes with it.

        Args:
            target: The collection.
            record_id: Which.
            if_updated_at: Only if this is still its version.
            token: The fencing token of the lease under which this is done.
            durability: Instead of the manager's.

        Raises:
            NotFoundError: There is no such record.
            StaleWriteError: It has another version.
            ReferencedError: Others name it, and their reference says ``restrict``.
        """
        name = await self._name(target)
        await self._write(Delete(name, record_id, expected_at=if_updated_at, token=token), durability)

    async def delete_where(
        self, target: type[Record] | str, *filters: Filter, durability: Durability | None = None
    ) -> int:
        """Delete every record for which all *filters* hold, all or none; returns how many were found.

        Raises:
            ReferencedError: As for `delete`; then none was deleted.
        """
        op = DeleteWhere(await self._name(target), Query(filters))
        return cast("int", await self._write(op, durability))

    async def create_many(self, records: Iterable[Record | Document], *, durability: Durability | None = None) -> int:
        """Create many records, all or none, in one transaction; returns how many."""
        drafts: list[Draft] = []
        known: set[type] = set()
        for place, record in enumerate(records):
            if place and place % SLICE == 0:
                await checkpoint()
            if type(record) not in known:
                drafts.append(await self._draft(record))
                known.add(type(record))
            else:
                drafts.append(draft(record))
        return cast("int", await self._write(CreateMany(tuple(drafts)), durability)) if drafts else 0

    @asynccontextmanager
    async def batch(self, *, durability: Durability | None = None) -> AsyncGenerator[BatchWriter]:
        """Collect changes to any collections, and make them all at the end of the block, or none.

        Nothing is written when the block raises. A change that is asked for behind its end is a `RuntimeError`.
        """
        writer = BatchWriter(draft)
        try:
            yield writer
        finally:
            writer.end()
        if writer.ops:
            for record_type in writer.types:
                await self._name(record_type)
            answers = await self._write(Batch(tuple(writer.ops)), durability)
            writer.results = cast("tuple[Stored | None, ...]", answers)

    async def claim(
        self,
        target: type[Record] | str,
        *filters: Filter,
        owner: str,
        lease_ms: int = 60_000,
        set: dict[str, object] | None = None,  # noqa: A002 - reason: the public name
        order_by: str | None = None,
        durability: Durability | None = None,
    ) -> Lease | None:
        """Take the first record for which all *filters* hold and that nobody has a live lease on; see `Store.claim`."""
        await self._name(target)
        op = claim_op(target, filters, owner=owner, lease_ms=lease_ms, changes=set or {}, order_by=order_by)
        claimed = cast("Claimed | None", await self._write(op, durability))
        return None if claimed is None else Lease(claimed.record, claimed.token, claimed.until_ms)

    async def renew(self, target: type[Record] | str, record_id: str, *, token: int, lease_ms: int = 60_000) -> int:
        """Extend a lease by *lease_ms* from now; returns when it ends (ms).

        Raises:
            ClaimLostError: It has ended.
        """
        op = renew_op(await self._name(target), record_id, token=token, lease_ms=lease_ms)
        return cast("int", await self._write(op, None))

    async def release(self, target: type[Record] | str, record_id: str, *, token: int) -> None:
        """End a lease before its time.

        Raises:
            ClaimLostError: It has ended.
        """
        await self._write(Release(await self._name(target), record_id, token), None)

    async def _draft(self, record: Record | Document) -> Draft:
        if isinstance(record, Record) and not self._knows(type(record)):
            await self._name(type(record))
        return draft(record)


def _stored(record: A, stored: object) -> A:
    assert isinstance(stored, Stored)  # noqa: S101 - reason: what these ops answer
    return load_stored(record, stored.raw, stored.instant)
