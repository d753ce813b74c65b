"""The changes of a batch, collected until its block ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskstore_async.core.record import Record, declaration_of
from taskstore_async.storage.ops import Create, Delete, Put, Update

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskstore_async.core.record import AnyRecord
    from taskstore_async.core.write import Draft
    from taskstore_async.storage.ops import Stored

__all__ = ["BatchWriter"]


class BatchWriter:
    """Collects the changes of a batch; each of its calls raises a `RuntimeError` once the block has ended.

    Attributes:
        types: The record types that were used.
        ops: What was asked for, in order.
        results: What was stored, in order, once the block has ended; None for a delete.
    """

    def __init__(self, make_draft: Callable[[AnyRecord], Draft]) -> None:
        self.ops: list[Create | Put | Update | Delete] = []
        self.types: set[type[Record]] = set()
        self.results: tuple[Stored | None, ...] = ()
        self._make_draft = make_draft
        self._ended = False

    def end(self) -> None:
        """Take no more: nobody would write it."""
        self._ended = True

    def _add(self, op: Create | Put | Update | Delete) -> None:
        if self._ended:
            raise RuntimeError("this batch has ended, so nothing was written; begin another with batch()")
        self.ops.append(op)

    def _draft(self, record: AnyRecord) -> Draft:
        if isinstance(record, Record):
            self.types.add(type(record))
        return self._make_draft(record)

    def create(self, record: AnyRecord) -> None:
        """As `Store.create`."""
        self._add(Create(self._draft(record)))

    def put(self, record: AnyRecord, *, token: int | None = None) -> None:
        """As `Store.put`."""
        self._add(Put(self._draft(record), token))

    def update(self, record: AnyRecord, *, token: int | None = None) -> None:
        """As `Store.update`."""
        self._add(Update(self._draft(record), token))

    def delete(
        self, target: type[Record] | str, record_id: str, *, if_updated_at: int | None = None, token: int | None = None
    ) -> None:
        """As `Store.delete`."""
        name = target if isinstance(target, str) else declaration_of(target).collection
        self._add(Delete(name, record_id, expected_at=if_updated_at, token=token))
