"""What a batch or a deletion would do, found out by doing it and taking it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from taskstore_async.storage import schema
from taskstore_async.storage.ops import Batch, Delete, Refused
from taskstore_async.storage.transact import rehearsal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.index import Index

__all__ = ["Doomed", "Rehearsed", "rehearse", "rehearse_delete"]

_KINDS = {schema.CREATED: "created", schema.UPDATED: "updated", schema.DELETED: "deleted"}


class Doomed(msgspec.Struct, frozen=True):
    """A record that a deletion changes.

    Attributes:
        collection: Where it stands.
        id: Which.
        kind: ``deleted``, or ``updated``: it only loses the reference.
    """

    collection: str
    id: str
    kind: str


class Rehearsed(msgspec.Struct, frozen=True):
    """A version that a batch would write.

    Attributes:
        collection: Where the record stands.
        id: Which.
        kind: ``created``, ``updated`` or ``deleted``.
        line: The line that its journal would get, stamped as if it were written now.
    """

    collection: str
    id: str
    kind: str
    line: msgspec.Raw


def rehearse(engine: Engine, batch: Batch) -> list[Rehearsed]:
    """The versions that *batch* would write, in order, with what the declarations say follows from them.

    Raises:
        TaskStoreError: What the batch would end with; as for `Engine.commit`.
    """
    engine.sync()
    return engine.mending(lambda: _rehearse(engine, batch))


def _rehearse(engine: Engine, batch: Batch) -> list[Rehearsed]:
    with engine.session() as session, rehearsal(engine, session):
        before = session.index.next_seq
        application = engine.application(session, append_all=False)
        answer = application.apply(batch)
        if isinstance(answer, Refused):
            raise answer.error
        application.finish()
        return list(_written(session.index, before))


def _written(index: Index, first: int) -> Iterator[Rehearsed]:
    """The versions from *first* on that reach a journal: of several of one record the last is one line."""
    collections = {one.key: (name, one.rows) for name, one in index.collections.items()}
    entries = index.db.execute("SELECT seq, collection, id, kind, line FROM log WHERE seq >= ? ORDER BY seq", (first,))
    for seq, key, record_id, kind, line in entries.fetchall():
        name, rows = collections[key]
        in_row = f"SELECT line FROM {rows} WHERE id = ? AND pending = ?"
        found = (line,) if line is not None else index.db.execute(in_row, (record_id, seq)).fetchone()
        if found is not None:
            yield Rehearsed(name, record_id, _KINDS[kind], msgspec.Raw(found[0]))


def rehearse_delete(engine: Engine, collection: str, ids: Sequence[str]) -> list[Doomed]:
    """The records that deleting *ids* deletes or changes, with what the declarations say goes with them.

    Raises:
        NotFoundError, ReferencedError: What the deletion would end with.
        TaskStoreError: As for `Engine.commit`.
    """
    found = rehearse(engine, Batch(tuple([Delete(collection, one) for one in ids])))
    return [Doomed(one.collection, one.id, one.kind) for one in found]
