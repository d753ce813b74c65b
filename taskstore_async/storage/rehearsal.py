"""What a deletion would do, found out by doing it and taking it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from taskstore_async.storage import schema
from taskstore_async.storage.ops import Batch, Delete, Refused
from taskstore_async.storage.transact import rehearsal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskstore_async.storage.engine import Engine

__all__ = ["Doomed", "rehearse_delete"]


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


def rehearse_delete(engine: Engine, collection: str, ids: Sequence[str]) -> list[Doomed]:
    """The records that deleting *ids* deletes or changes, with what the declarations say goes with them.

    Raises:
        NotFoundError, ReferencedError: What the deletion would end with.
        TaskStoreError: As for `Engine.commit`.
    """
    engine.sync()
    with engine.session() as session, rehearsal(engine, session):
        before = session.index.next_seq
        application = engine.application(session, append_all=False)
        answer = application.apply(Batch(tuple([Delete(collection, one) for one in ids])))
        if isinstance(answer, Refused):
            raise answer.error
        application.finish()
        names = {one.key: name for name, one in session.index.collections.items()}
        found = session.index.db.execute("SELECT collection, id, kind FROM log WHERE seq >= ? ORDER BY seq", (before,))
        return [
            Doomed(names[key], record_id, "deleted" if kind == schema.DELETED else "updated")
            for key, record_id, kind in found
        ]
