"""The collections that a transaction writes to: looked at, open to writing, and declared as the types in use say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.codec import join_fields, split_fields
from taskstore_async.core.declaration import TYPES
from taskstore_async.core.names import check_collection
from taskstore_async.storage import schema
from taskstore_async.storage.journal import closed
from taskstore_async.storage.ops import Applied, Declare
from taskstore_async.storage.row_writer import RowWriter
from taskstore_async.storage.sync import declared_by

if TYPE_CHECKING:
    from taskstore_async.core.declaration import Declaration
    from taskstore_async.core.record import Registry
    from taskstore_async.core.schedule import Durability
    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.ops import Op
    from taskstore_async.storage.sessions import Session

__all__ = ["Declaring", "declare"]


class Declaring(RowWriter):
    """Opens collections to writing inside the caller's transaction of *session*.

    Args:
        engine: What its record types in use declare is added to the store's declarations at their first write.
        session: Its index has the rows and the log; its syncer looks at the file of a collection that is new there.
        append_all: As for `RowWriter`.
    """

    def __init__(self, engine: Engine, session: Session, *, append_all: bool) -> None:
        super().__init__(session.index, coalesce=engine.config.coalesce, append_all=append_all)
        self._directory = session.directory
        self._syncer = session.syncer
        self._wanted = engine.wanted

    def declare(self, wanted: Declaration, *, exactly: bool = False) -> None:
        """Add to a declaration, in the journal of the declarations and in the layout of the row table.

        Args:
            wanted: What to add.
            exactly: Take away what *wanted* does not say.
        """
        types = self._known(TYPES)
        collection = self._index.collections.get(wanted.collection) or self._syncer.collection(wanted.collection)
        joined = wanted if exactly else collection.declaration.adopt(wanted)
        row = self._row(types, wanted.collection)
        there = row is not None and not row.dead
        if there and joined == collection.declaration:
            return
        stamp_ms = self._next(row)
        fields = {"id": wanted.collection, "updated_at": stamp_ms, **joined.to_fields()}
        raw = msgspec.json.encode(fields)
        if row is not None and not row.dead:  # what a later version may have added stays
            stored = split_fields(row.raw)
            ours = split_fields(raw)
            is_read = not isinstance(declared_by(wanted.collection, row.raw), str)  # else ours could not be read
            known = split_fields(stored.get("fields", b"{}")) if is_read and not exactly else {}
            raw = join_fields({**stored, **ours, "fields": join_fields({**known, **split_fields(ours["fields"])})})
        if joined.local and not collection.declaration.local:
            self._directory.keep_local([wanted.collection])
        kind = schema.UPDATED if there else schema.CREATED
        self._write(types, wanted.collection, row, raw=raw, ms=stamp_ms, cells=(), kind=kind)
        self._syncer.take_declarations()

    def _collection(self, name: str) -> Collection:
        """The catalogue's entry of a collection that is to be written; of one that is new here, its file was read.

        Raises:
            InvalidNameError: No collection can have this name.
            CollectionClosedError: It is closed to writing.
            DeclarationConflictError: The record type in use contradicts the store's declaration.
        """
        wanted = self._wanted.get(name)
        there = self._index.collections.get(name)
        if there is not None and wanted is not None and there.satisfies is wanted and there.writable:
            return there
        found = self._known(check_collection(name))
        if wanted is not None and found.satisfies is not wanted:
            self.declare(wanted)
            found = self._index.collections[name]
            found.satisfies = wanted
        return found

    def _known(self, name: str) -> Collection:
        found = self._index.collections.get(name)
        if found is None or (found.record is None and name != TYPES):
            self._ahead.clear()
            self._syncer.one(name)
            found = self._index.collections[name]
        return self._writable(found)

    def _writable(self, collection: Collection) -> Collection:
        if collection.closed:
            raise closed(collection.name, self._directory.journal(collection.name))
        return collection


def declare(engine: Engine, registry: Registry, durability: Durability) -> None:
    """Add to the store's declarations what the types say, where the store can be written.

    Raises:
        DeclarationConflictError: A type defines a field differently from the store.
        TaskStoreError: As for `Engine.commit`.
    """
    ops: list[Op] = []
    stored = engine.reader.collections
    for declaration in registry.declarations:
        there = stored.get(declaration.collection)
        if there is None or there.declaration.adopt(declaration) != there.declaration:
            ops.append(Declare(declaration))
    if ops and engine.directory.writable:
        for answer in engine.commit(ops, durability=durability):
            if not isinstance(answer, Applied):
                raise answer.error
    engine.wanted.update({one.collection: one for one in registry.declarations})
