"""Applying changes inside one transaction: our own rules, the rows, the log.

What is refused is refused by our own reads before an op's first write, so that its neighbours in the transaction
commit; an op of several rows has a savepoint, and its rules are checked on what it leaves.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from taskstore_async.core.codec import check_line, join_fields, split_fields, tombstone
from taskstore_async.core.declaration import TYPES
from taskstore_async.core.fold import effective
from taskstore_async.core.names import check_collection, check_id
from taskstore_async.core.stamp import NS_PER_MS, next_stamp
from taskstore_async.core.write import line_of
from taskstore_async.errors import (
    AlreadyExistsError,
    ClaimLostError,
    CollectionClosedError,
    InvalidRecordError,
    NotFoundError,
    StaleWriteError,
    TaskStoreError,
)
from taskstore_async.storage import schema
from taskstore_async.storage.log import instant_of
from taskstore_async.storage.ops import (
    Applied,
    Batch,
    Claim,
    Claimed,
    Create,
    CreateMany,
    Declare,
    Delete,
    DeleteWhere,
    Put,
    Refused,
    Release,
    Renew,
    Stored,
    Update,
)
from taskstore_async.storage.rows import found_lines
from taskstore_async.storage.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Container, Generator, Mapping, Sequence

    from taskstore_async.core.codec import Line
    from taskstore_async.core.declaration import Declaration
    from taskstore_async.core.write import Draft
    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.directory import Directory
    from taskstore_async.storage.index import Index
    from taskstore_async.storage.ops import Answer, Op
    from taskstore_async.storage.sync import Syncer

__all__ = ["Application"]

_LOG: Final = "INSERT INTO log (seq, collection, id, kind, origin, ms, ns, line) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_NULL: Final = msgspec.Raw(b"null")
_RESERVED: Final = frozenset({"id", "created_at", "updated_at", "deleted"})


class _Row(msgspec.Struct, frozen=True, gc=False):
    """A record's row, as a write sees it."""

    ms: int
    ns: int
    dead: bool
    pending: int
    raw: bytes
    pk: int


class Application:
    """Applies ops inside the caller's transaction of *index*.

    Args:
        index: Where the rows and the log are.
        directory: The store.
        syncer: Looks at the file of a collection that is new to the index.
        coalesce: A pending version that is replaced before it was flushed needs no line of its own.
        append_all: Versions of this very transaction need one all the same.
        wanted: What the record types in use declare, by collection; added to the store's when they are first written.

    Attributes:
        lines: The lines of the transaction by collection, oldest first, as they must be appended.
        written: How many versions it wrote.
    """

    def __init__(
        self,
        index: Index,
        directory: Directory,
        syncer: Syncer,
        *,
        coalesce: bool,
        append_all: bool,
        wanted: Mapping[str, Declaration],
    ) -> None:
        self.lines: dict[str, list[bytes]] = {}
        self.written = 0
        self._index = index
        self._db = index.db
        self._directory = directory
        self._syncer = syncer
        self._wanted = wanted
        self._clock_ms = index.now_ms()
        self._first_seq = index.next_seq
        self._keep_from = 0 if not coalesce else self._first_seq if append_all else None
        self._log: list[list[object]] = []
        self._rules = Rules(index)

    def apply(self, op: Op) -> Answer:
        """Make one change, or leave everything as it was."""
        try:
            return Applied(self._apply(op))
        except TaskStoreError as error:
            return Refused(error)

    def finish(self) -> None:
        """Write what was held back. Called once, before the commit."""
        self._db.executemany(_LOG, self._log)

    # -- ops ------------------------------------------------------------------------------------------------

    def _apply(self, op: Op) -> object:
        answer: object = None
        match op:
            case Create() | Put() | Update():
                answer = self._put(op)
            case Delete():
                self._delete_one(op)
            case DeleteWhere():
                answer = self._delete_where(op)
            case CreateMany():
                answer = len(self._together([Create(draft) for draft in op.drafts]))
            case Batch():
                answer = self._together(op.ops)
            case Declare():
                self.declare(op.declaration)
            case Claim():
                answer = self._claim(op)
            case Renew():
                answer = self._renew(op)
            case Release():
                self._end_lease(self._require_lease(op.collection, op.id, op.token), op.id)
        return answer

    def _together(self, ops: Sequence[Create | Put | Update | Delete]) -> tuple[object, ...]:
        """Make all of the changes or none; their answers."""
        # What is new enters the catalogue before the savepoint, which could take it back behind the catalogue's back.
        for name in dict.fromkeys([op.collection if isinstance(op, Delete) else op.draft.collection for op in ops]):
            self._collection(name)
        with self._savepoint():
            return tuple([self._apply(op) for op in ops])

    def _put(self, op: Create | Put | Update) -> Stored:
        draft = op.draft
        collection = self._collection(draft.collection)
        row = self._row(collection, draft.id)
        current = None if row is None or row.dead else row
        if isinstance(op, Create):
            if current is not None:
                raise AlreadyExistsError(draft.collection, draft.id)
        else:
            if op.token is not None:
                self._require_lease(draft.collection, draft.id, op.token)
            if isinstance(op, Update):
                if current is None:
                    raise NotFoundError(draft.collection, draft.id)
                _require_version(draft.collection, draft.id, current, draft.expected_at, draft.expected_crc)
        return self._store(collection, draft, row, current)

    def _store(self, collection: Collection, draft: Draft, row: _Row | None, current: _Row | None) -> Stored:
        stamp_ms = self._next(row)
        raw = line_of(draft, None if current is None else current.raw, stamp_ms=stamp_ms, created_ms=self._clock_ms)
        self._write_line(collection, draft.id, row, raw, stamp_ms)
        return Stored(raw, stamp_ms * NS_PER_MS)

    def _write_line(
        self,
        collection: Collection,
        record_id: str,
        row: _Row | None,
        raw: bytes,
        ms: int,
        *,
        ns: int = 0,
        check: bool = True,
    ) -> None:
        """Make *raw* the live version of a record, its rules kept."""
        cells = collection.cells(collection.decode(raw))
        current = None if row is None or row.dead else row
        if check and (collection.declaration.unique_fields or collection.declaration.references):
            before = None if current is None else collection.cells(collection.decode(current.raw))
            self._rules.check(collection, record_id, cells, before)
        kind = schema.CREATED if current is None else schema.UPDATED
        self._write(collection, record_id, row, raw=raw, ms=ms, ns=ns, cells=cells, kind=kind)

    def _delete_one(self, op: Delete) -> None:
        collection = self._collection(op.collection)
        row = self._row(collection, op.id)
        if row is None or row.dead:
            raise NotFoundError(op.collection, op.id)
        if op.token is not None:
            self._require_lease(op.collection, op.id, op.token)
        if op.expected_at is not None:
            _require_version(op.collection, op.id, row, op.expected_at, op.expected_crc)
        with self._savepoint() if self._rules.refers_to(op.collection) else nullcontext():
            self._delete(collection, op.id, row)

    def _delete_where(self, op: DeleteWhere) -> int:
        collection = self._collection(op.collection)
        ids = [found.id for found in found_lines(self._db, collection, op.query)]
        with self._savepoint():
            for record_id in ids:
                row = self._row(collection, record_id)
                if row is not None and not row.dead:  # a cascade may have been faster
                    self._delete(collection, record_id, row)
        return len(ids)

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
            known = {**_object(stored.get("fields")), **split_fields(ours["fields"])}
            raw = join_fields({**stored, **ours, "fields": ours["fields"] if exactly else join_fields(known)})
        if joined.local and not collection.declaration.local:
            self._directory.keep_local([wanted.collection])
        kind = schema.UPDATED if there else schema.CREATED
        self._write(types, wanted.collection, row, raw=raw, ms=stamp_ms, cells=(), kind=kind)
        self._syncer.take_declarations()

    def take_line(self, name: str, line: Line, instant: int, *, coming: Container[str]) -> None:
        """Store a line of another file, with its bytes and its stamp where these can stay.

        Args:
            name: The collection.
            line: What to store.
            instant: The stamp that the other file's fold gave it, in nanoseconds.
            coming: Ids that this import brings, which its references may name already.

        Raises:
            UniqueError, MissingReferenceError: A rule of the declaration is broken.
            LimitExceededError, InvalidIdError: It may stand in a file, but not be written.
        """
        collection = self._collection(name)
        check_id(line.id)
        row = self._row(collection, line.id)
        above = None if row is None else instant_of(row.ms, row.ns)
        raw, (ms, ns) = line.raw, divmod(instant, NS_PER_MS)
        late = above is not None and instant <= above
        if late or effective(line, above) != instant:  # its own bytes would lose here, or count with another stamp
            ms, ns = self._next(row) if late else -(-instant // NS_PER_MS), 0
            raw = join_fields({**split_fields(raw), "updated_at": msgspec.Raw(b"%d" % ms)})
        check_line(raw, subject=f"{name}/{line.id}")
        if line.deleted:
            if row is not None and not row.dead:
                with self._savepoint():
                    self._delete(collection, line.id, row, raw=raw, ms=ms, ns=ns)
            return
        self._rules.coming = (name, coming)
        try:
            self._write_line(collection, line.id, row, raw, ms, ns=ns)
        finally:
            self._rules.coming = None

    # -- leases ---------------------------------------------------------------------------------------------

    def _claim(self, op: Claim) -> Claimed | None:
        collection = self._collection(op.collection)
        if found := _RESERVED.intersection(op.changes):
            name = min(found)
            reason = "a claim does not change it; set other fields, or none"
            raise InvalidRecordError(f"a claim in {op.collection}", f"$.{name}", reason)
        leased = self._db.execute(
            "SELECT id FROM lease WHERE collection = ? AND until_ms > ?", (collection.key, self._clock_ms)
        )
        held = {record_id for (record_id,) in leased}
        query = msgspec.structs.replace(op.query, limit=len(held) + 1)  # so many that one of them is free
        free = next((found for found in found_lines(self._db, collection, query) if found.id not in held), None)
        if free is None:
            return None
        row = self._row(collection, free.id)
        assert row is not None  # noqa: S101 - reason: it was just found
        stamp_ms = self._next(row)
        raw = join_fields({**split_fields(row.raw), **op.changes, "updated_at": msgspec.Raw(b"%d" % stamp_ms)})
        check_line(raw, subject=f"{op.collection}/{free.id}")
        self._write_line(collection, free.id, row, raw, stamp_ms)
        (token,) = self._db.execute(
            "UPDATE meta SET value = max(value + 1, ?) WHERE name = 'token' RETURNING value", (self._clock_ms,)
        ).fetchone()
        until_ms = self._clock_ms + op.lease_ms
        self._db.execute("DELETE FROM lease WHERE collection = ? AND until_ms <= ?", (collection.key, self._clock_ms))
        self._db.execute(
            "INSERT INTO lease (collection, id, owner, token, until_ms) VALUES (?, ?, ?, ?, ?)",
            (collection.key, free.id, op.owner, token, until_ms),
        )
        return Claimed(Stored(raw, stamp_ms * NS_PER_MS), token, until_ms)

    def _renew(self, op: Renew) -> int:
        collection = self._require_lease(op.collection, op.id, op.token)
        until_ms = self._clock_ms + op.lease_ms
        self._db.execute(
            "UPDATE lease SET until_ms = ? WHERE collection = ? AND id = ?", (until_ms, collection.key, op.id)
        )
        return until_ms

    def _require_lease(self, name: str, record_id: str, token: int) -> Collection:
        """Check that a lease lives; returns the collection."""
        collection = self._collection(name)
        found = self._db.execute(
            "SELECT 1 FROM lease WHERE collection = ? AND id = ? AND token = ? AND until_ms > ?",
            (collection.key, record_id, token, self._clock_ms),
        ).fetchone()
        if found is None:
            raise ClaimLostError(name, record_id, token=token)
        return collection

    def _end_lease(self, collection: Collection, record_id: str) -> None:
        self._db.execute("DELETE FROM lease WHERE collection = ? AND id = ?", (collection.key, record_id))

    # -- deleting -------------------------------------------------------------------------------------------

    def _delete(
        self,
        collection: Collection,
        record_id: str,
        row: _Row,
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
        self, collection: Collection, record_id: str, row: _Row, *, raw: bytes | None = None, ms: int, ns: int = 0
    ) -> None:
        if raw is None:
            raw = tombstone(split_fields(row.raw)["id"], ms)
        cells = (None,) * len(collection.columns)
        self._write(collection, record_id, row, raw=raw, ms=ms, ns=ns, cells=cells, kind=schema.DELETED)
        self._end_lease(collection, record_id)

    # -- transactions ---------------------------------------------------------------------------------------

    @contextmanager
    def _savepoint(self) -> Generator[None]:
        """All of the block or nothing, its rules checked at its end. The outermost one counts."""
        if self._rules.deferring:
            yield
            return
        written, logged = self.written, len(self._log)
        lines = {name: len(held) for name, held in self.lines.items()}
        self._db.execute("SAVEPOINT op")
        try:
            with self._rules.deferred():
                yield
        except BaseException:
            if self._db.in_transaction:  # else SQLite, on a full disk, has taken all of it back
                self._db.execute("ROLLBACK TO op")
                self._db.execute("RELEASE op")
            self.written = written
            del self._log[logged:]
            self.lines = {name: held[: lines[name]] for name, held in self.lines.items() if name in lines}
            raise
        self._db.execute("RELEASE op")

    # -- rows and log ---------------------------------------------------------------------------------------

    def _collection(self, name: str) -> Collection:
        """The catalogue's entry of a collection that is to be written; of one that is new here, its file was read.

        Raises:
            InvalidNameError: No collection can have this name.
            CollectionClosedError: It is closed to writing.
            DeclarationConflictError: The record type in use contradicts the store's declaration.
        """
        found = self._known(check_collection(name))
        wanted = self._wanted.get(name)
        if wanted is not None and found.satisfies is not wanted:
            self.declare(wanted)
            found = self._index.collections[name]
            found.satisfies = wanted
        return found

    def _known(self, name: str) -> Collection:
        found = self._index.collections.get(name)
        if found is None or (found.record is None and name != TYPES):
            self._syncer.one(name)
            found = self._index.collections[name]
        return self._writable(found)

    def _writable(self, collection: Collection) -> Collection:
        if collection.closed:
            raise CollectionClosedError(collection.name, str(self._directory.journal(collection.name)))
        return collection

    def _row(self, collection: Collection, record_id: str) -> _Row | None:
        found = self._db.execute(collection.select, (record_id,)).fetchone()
        return None if found is None else _Row(*found)

    def _next(self, row: _Row | None) -> int:
        """The stamp of the record's next version, in milliseconds."""
        return next_stamp(self._clock_ms, None if row is None else instant_of(row.ms, row.ns))

    def _write(
        self,
        collection: Collection,
        record_id: str,
        row: _Row | None,
        *,
        raw: bytes,
        ms: int,
        cells: Sequence[object],
        kind: int,
        ns: int = 0,
    ) -> None:
        """Write the row and its entry in the log; *ns* is the part of the stamp below a millisecond."""
        seq = self._index.take_seqs(1)
        dead = kind == schema.DELETED
        if row is None:
            self._db.execute(collection.insert, (ms, ns, dead, seq, raw, *cells, record_id))
        else:
            if self._keep_from is not None and row.pending and row.pending >= self._keep_from:
                self._keep_line(row)
            self._db.execute(collection.update, (ms, ns, dead, seq, raw, *cells, row.pk))
        self._log.append([seq, collection.key, record_id, kind, schema.OWN, ms, ns, None])
        self.lines.setdefault(collection.name, []).append(raw)
        self.written += 1

    def _keep_line(self, row: _Row) -> None:
        """Copy the line that a row is about to lose into its entry in the log, so that it is flushed all the same."""
        for entry in reversed(self._log):
            if entry[0] == row.pending:
                entry[-1] = row.raw
                return
        self._db.execute("UPDATE log SET line = ? WHERE seq = ?", (row.raw, row.pending))


def _object(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    """The fields of what should be an object; none when it is something else."""
    try:
        return split_fields(raw or b"{}")
    except msgspec.DecodeError:
        return {}


def _require_version(name: str, record_id: str, row: _Row, expected_at: int, expected_crc: int | None) -> None:
    """Check that a row is the version that a change was made from."""
    actual_crc = crc32(row.raw)
    fits = expected_at == row.ms and (expected_at > 0 if expected_crc is None else expected_crc == actual_crc)
    if not fits:
        raise StaleWriteError(
            name,
            record_id,
            expected_at=expected_at,
            actual_at=row.ms,
            expected_crc=expected_crc,
            actual_crc=actual_crc,
        )
