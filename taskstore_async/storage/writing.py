"""The calls of a store that change records."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import msgspec

from taskstore_async.core.query import Query
from taskstore_async.core.record import Document, Record
from taskstore_async.core.schedule import Durability
from taskstore_async.core.write import draft, load_stored
from taskstore_async.errors import StaleWriteError
from taskstore_async.storage import inspection
from taskstore_async.storage.claims import claim_op, draft_of_modified, renew_op
from taskstore_async.storage.content import content_op
from taskstore_async.storage.ops import (
    Applied,
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
from taskstore_async.storage.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from taskstore_async.core.filters import Filter
    from taskstore_async.core.record import AnyRecord
    from taskstore_async.core.write import Draft
    from taskstore_async.storage.batch import BatchWriter
    from taskstore_async.storage.ops import Op
    from taskstore_async.storage.rehearsal import Doomed, Rehearsed

__all__ = ["Lease", "Writing"]

R = TypeVar("R", bound=Record)
A = TypeVar("A", bound="Record | Document")


class Lease(msgspec.Struct, frozen=True):
    """A record that is claimed.

    Attributes:
        record: As it is stored now.
        token: The fencing token: pass it to the writes that only the owner may make.
        until_ms: When the lease ends unless it is renewed, milliseconds since the epoch (UTC).
    """

    record: Any
    token: int
    until_ms: int


class Writing(Reading):
    """See `Store`."""

    def create(self, record: A, *, durability: Durability | None = None) -> A:
        """Store a new record, and return it as it is stored.

        Raises:
            AlreadyExistsError: There is a record with this id.
            UniqueError, MissingReferenceError: A rule of the declaration is broken.
            InvalidRecordError, InvalidIdError, LimitExceededError: It cannot be stored at all.
            CollectionClosedError: The journal is damaged.
            WriteFailedError, StoreLockedError, StoreReadOnlyError, StoreBrokenError: Nothing was written.
            WriteUncertainError: It is not known whether it was.
        """
        return self._stored(record, self._one(Create(self._draft(record)), durability))

    def put(self, record: A, *, token: int | None = None, durability: Durability | None = None) -> A:
        """Store a record, whatever is there, and return it as it is stored.

        Args:
            record: A typed one keeps the stored fields that its type does not know; a document replaces all.
            token: The fencing token of the lease under which this is done.
            durability: Instead of the handle's.

        Raises:
            ClaimLostError: The lease has ended.
            TaskStoreError: As for `create`, except that it may exist.
        """
        return self._stored(record, self._one(Put(self._draft(record), token), durability))

    def update(self, record: A, *, token: int | None = None, durability: Durability | None = None) -> A:
        """Store a new version of the record that *record* was made from, and return it as it is stored.

        Raises:
            NotFoundError: There is no such record.
            StaleWriteError: Somebody changed it since it was read.
            TaskStoreError: As for `put`.
        """
        return self._stored(record, self._one(Update(self._draft(record), token), durability))

    def write_content(
        self, record: A, text: str, *, token: int | None = None, durability: Durability | None = None
    ) -> A:
        """Store *record* with *text* in a file beside it, and return it as it is stored.

        A record that was never stored is created, any other updated. The file keeps its name; a new one is named after
        the record's title, name or phase: ``prds/add-oauth-authentication.md`` in the store directory, then ``-2``. It
        is durable before the record is stored, and goes when the record is deleted.

        Args:
            record: Its type has a field ``file: Annotated[str | None, Unique] = None``. A ``content`` of its own is
                set to null.
            text: Usually Markdown.
            token: The fencing token of the lease under which this is done.
            durability: Instead of the handle's.

        Raises:
            InvalidRecordError: The collection has no unique field ``file``, or it names something else.
            WriteFailedError: The file could not be written; nothing was changed.
            TaskStoreError: As for `create` and `update`; then the text was not written either.
        """
        return self._stored(record, self._one(content_op(self._draft(record), text, token=token), durability))

    @overload
    def modify(
        self,
        target: type[R],
        record_id: str,
        function: Callable[[R], R],
        *,
        token: int | None = ...,
        durability: Durability | None = ...,
    ) -> R: ...
    @overload
    def modify(
        self,
        target: str,
        record_id: str,
        function: Callable[[Document], Document],
        *,
        token: int | None = ...,
        durability: Durability | None = ...,
    ) -> Document: ...
    def modify(
        self,
        target: type[Record] | str,
        record_id: str,
        function: Callable[[Any], Any],
        *,
        token: int | None = None,
        durability: Durability | None = None,
    ) -> Any:
        """Read a record, change it with *function*, and store it; again, when somebody else was faster.

        Raises:
            NotFoundError: There is no such record.
            InvalidIdError: *function* returned another record.
            TaskStoreError: As for `update`, except that it cannot be stale.
        """
        while True:
            current: Any = self.get(target, record_id)
            if current is None:
                raise inspection.not_found(self._engine, self._known(target)[0], record_id)
            changed = function(current)
            made = draft_of_modified(self._draft(changed), current)
            try:
                return self._stored(changed, self._one(Update(made, token), durability))
            except StaleWriteError:
                continue

    def delete(
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
            durability: Instead of the handle's.

        Raises:
            NotFoundError: There is no such record.
            StaleWriteError: It has another version.
            ReferencedError: Others name it, and their reference says ``restrict``.
        """
        name, _ = self._known(target)
        self._one(Delete(name, record_id, expected_at=if_updated_at, token=token), durability)

    def rehearse_delete(self, target: type[Record] | str, record_ids: Sequence[str]) -> list[Doomed]:
        """What deleting records would delete and change, these included; nothing is changed.

        Raises:
            NotFoundError, ReferencedError: As for `delete`.
        """
        from taskstore_async.storage.rehearsal import rehearse_delete  # noqa: PLC0415 - reason: most processes never need it

        return rehearse_delete(self._engine, self._known(target)[0], record_ids)

    def rehearse(self, fill: Callable[[BatchWriter], None]) -> list[Rehearsed]:
        """The versions that a batch would write, with what follows from them; nothing is changed.

        Args:
            fill: Asks for the changes of the batch.

        Raises:
            TaskStoreError: What the batch would end with.
        """
        from taskstore_async.storage.batch import BatchWriter  # noqa: PLC0415 - reason: a command that reads has none
        from taskstore_async.storage.rehearsal import rehearse  # noqa: PLC0415 - reason: most processes never need it

        writer = BatchWriter(self._draft)
        fill(writer)
        writer.end()
        return rehearse(self._engine, Batch(tuple(writer.ops)))

    def delete_where(self, target: type[Record] | str, *filters: Filter, durability: Durability | None = None) -> int:
        """Delete every record for which all *filters* hold, all or none; returns how many were found.

        Raises:
            ReferencedError: As for `delete`; then none was deleted.
        """
        name, _ = self._known(target)
        return cast("int", self._one(DeleteWhere(name, Query(filters)), durability))

    def create_many(self, records: Iterable[Record | Document], *, durability: Durability | None = None) -> int:
        """Create many records, all or none, in one transaction; returns how many."""
        made = list(records)
        for record_type in set(map(type, made)):
            if issubclass(record_type, Record):
                self._known(record_type)
        return cast("int", self._one(CreateMany(tuple(map(draft, made))), durability)) if made else 0

    @contextmanager
    def batch(self, *, durability: Durability | None = None) -> Generator[BatchWriter]:
        """Collect changes to any collections, and make them all at the end of the block, or none.

        Nothing is written when the block raises. A change that is asked for behind its end is a `RuntimeError`.
        """
        from taskstore_async.storage.batch import BatchWriter  # noqa: PLC0415 - reason: a command that reads has none

        writer = BatchWriter(self._draft)
        try:
            yield writer
        finally:
            writer.end()
        if writer.ops:
            writer.results = cast("tuple[Stored | None, ...]", self._one(Batch(tuple(writer.ops)), durability))

    def claim(
        self,
        target: type[Record] | str,
        *filters: Filter,
        owner: str,
        lease_ms: int = 60_000,
        set: dict[str, object] | None = None,  # noqa: A002 - reason: the public name
        order_by: str | None = None,
        durability: Durability | None = None,
    ) -> Lease | None:
        """Take the first record for which all *filters* hold and that nobody has a live lease on.

        Args:
            target: The collection.
            filters: Which records may be taken.
            owner: Who takes it; for people to read. Not blank.
            lease_ms: How long, unless it is renewed. > 0.
            set: Fields to change at the same time.
            order_by: Which comes first.
            durability: Instead of the handle's.

        Returns:
            The record and the lease; None when there is none to take. A record that would not fit the type is passed
            over, and stays as it is; `list_tolerant` names it.

        Raises:
            InvalidRecordError: *set* has a value that its field cannot have; nothing was claimed.
            TaskStoreError: As for `put`.
        """
        self._known(target)
        op = claim_op(target, filters, owner=owner, lease_ms=lease_ms, changes=set or {}, order_by=order_by)
        claimed = cast("Claimed | None", self._one(op, durability))
        return None if claimed is None else Lease(claimed.record, claimed.token, claimed.until_ms)

    def renew(self, target: type[Record] | str, record_id: str, *, token: int, lease_ms: int = 60_000) -> int:
        """Extend a lease by *lease_ms* from now; returns when it ends (ms).

        Raises:
            ClaimLostError: It has ended.
        """
        op = renew_op(self._known(target)[0], record_id, token=token, lease_ms=lease_ms)
        return cast("int", self._one(op, None))

    def release(self, target: type[Record] | str, record_id: str, *, token: int) -> None:
        """End a lease before its time.

        Raises:
            ClaimLostError: It has ended.
        """
        self._one(Release(self._known(target)[0], record_id, token), None)

    # -- inside ---------------------------------------------------------------------------------------------

    def _draft(self, record: AnyRecord) -> Draft:
        if isinstance(record, Record):
            self._known(type(record))
        return draft(record)

    def _one(self, op: Op, durability: Durability | None) -> object:
        (answer,) = self._engine.commit([op], durability=Durability(durability or self._durability))
        self._flush_if_due(waiting=True)
        if isinstance(answer, Applied):
            return answer.value
        raise answer.error

    def _stored(self, record: A, stored: object) -> A:
        assert isinstance(stored, Stored)  # noqa: S101 - reason: what these ops answer
        return load_stored(record, stored.raw, stored.instant)
