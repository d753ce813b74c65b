"""The records that a transaction writes, with what hangs on them: rules, references, leases and long texts."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.codec import join_fields, split_fields
from taskstore_async.core.line import tombstone
from taskstore_async.storage import schema
from taskstore_async.storage.content import Contents
from taskstore_async.storage.declaring import Declaring
from taskstore_async.storage.leases import Leases
from taskstore_async.storage.rules import Rules

if TYPE_CHECKING:
    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.row_writer import Row
    from taskstore_async.storage.sessions import Session

__all__ = ["RecordWriter"]

_NULL: Final = msgspec.Raw(b"null")


class RecordWriter(Declaring):
    """Writes and deletes records inside the caller's transaction of *session*; arguments as for `Declaring`.

    Attributes:
        contents: The files of long texts that it writes, and those that deletions leave to nobody.
    """

    def __init__(self, engine: Engine, session: Session, *, append_all: bool) -> None:
        super().__init__(engine, session, append_all=append_all)
        self.contents = Contents(self._db, session.directory.path)
        self._leases = Leases(self._db, self._clock_ms)
        self._rules = Rules(self._index)

    def _write_line(
        self,
        collection: Collection,
        record_id: str,
        row: Row | None,
        raw: bytes,
        ms: int,
        *,
        ns: int = 0,
        check: bool = True,
    ) -> None:
        """Make *raw* the live version of a record, its rules kept."""
        cells = collection.cells_of(raw)
        current = None if row is None or row.dead else row
        if check and collection.has_rules:
            before = None if current is None else collection.cells_of(current.raw)
            self._rules.check(collection, record_id, cells, before)
        kind = schema.CREATED if current is None else schema.UPDATED
        self._write(collection, record_id, row, raw=raw, ms=ms, ns=ns, cells=cells, kind=kind)

    def _delete(
        self,
        collection: Collection,
        record_id: str,
        row: Row,
        *,
        raw: bytes | None = None,
        ms: int | None = None,
        ns: int = 0,
    ) -> None:
        """Write a tombstone, then do to the records that name the deleted one what their references say.

        Args:
            collection: Where it stands.
            record_id: Which.
            row: Its row.
            raw: The tombstone; None for ours.
            ms: Its stamp; None for the next one.
            ns: The part of its stamp below a millisecond.
        """
        self._bury(collection, record_id, row, raw=raw, ms=self._next(row) if ms is None else ms, ns=ns)
        gone = deque([(collection.name, record_id)])  # not recursive: a chain of references may be long
        while gone:
            name, gone_id = gone.popleft()
            for holders in self._rules.holders_of(name):
                if holders.on_delete == "restrict":
                    self._rules.check_unreferenced(name, gone_id, holders)
                    continue
                for holder_id in holders.of(gone_id):
                    held = self._row(self._writable(holders.collection), holder_id)
                    assert held is not None  # noqa: S101 - reason: it was just found
                    if holders.on_delete == "cascade":
                        self._bury(holders.collection, holder_id, held, ms=self._next(held))
                        gone.append((holders.collection.name, holder_id))
                    else:
                        stamp_ms = self._next(held)
                        stamp = msgspec.Raw(b"%d" % stamp_ms)
                        fields = {**split_fields(held.raw), holders.field: _NULL, "updated_at": stamp}
                        raw = join_fields(fields)
                        self._write_line(holders.collection, holder_id, held, raw, stamp_ms, check=False)

    def _bury(
        self, collection: Collection, record_id: str, row: Row, *, raw: bytes | None = None, ms: int, ns: int = 0
    ) -> None:
        if raw is None:
            raw = tombstone(split_fields(row.raw)["id"], ms)
        cells = (None,) * len(collection.columns)
        self.contents.let_go(collection, row.raw)
        self._write(collection, record_id, row, raw=raw, ms=ms, ns=ns, cells=cells, kind=schema.DELETED)
        self._leases.end(collection, record_id)
