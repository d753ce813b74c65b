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
from taskstore_async.storage.content import Contents
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
    WriteContent,
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
_LOG_NEW: Final = (
    f"INSERT INTO log (seq, collection, id, kind, origin, ms, ns) "
    f"VALUES (?, ?, ?, {schema.CREATED}, {schema.OWN}, ?, 0)"
)
_NULL: Final = msgspec.Raw(b"null")
_RESERVED: Final = frozenset({"id", "created_at", "updated_at", "deleted"})


_WORTH_A_QUERY: Final = 4  #: ids that are asked for together rather than one by one
_LOOKED_AHEAD: Final = 500
_UNREAD: Final = "unread"


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
        contents: The files of long texts that it writes, and those that deletions leave to nobody.
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
        self.contents = Contents(index.db, directory.path)
        self._index = index
        self._db = index.db
        self._directory = directory
        self._syncer = syncer
        self._wanted = wanted
        self._clock_ms = index.now_ms()
        self._first_seq = index.next_seq
        self._keep_from = 0 if not coalesce else self._first_seq if append_all else None
        self._log: list[list[object]] = []
        self._ahead: dict[tuple[int, str], _Row | None] = {}  #: rows that nobody has asked for since they were read
        self._held: list[tuple[Collection, str, bytes]] = []  #: new rows of one collection that are not written yet
        self._rules = Rules(index)

    def look_ahead(self, ops: Sequence[Op]) -> None:
        """Read the rows of records that *ops* are going to ask for, many with one query."""
        wanted: dict[str, list[str]] = {}
        for op in ops:
            if isinstance(op, Create | Put | Update):
                wanted.setdefault(op.draft.collection, []).append(op.draft.id)
        for name, ids in wanted.items():
            if len(ids) >= _WORTH_A_QUERY:
                self.look_ahead_in(name, ids)

    def look_ahead_in(self, name: str, ids: Sequence[str]) -> None:
        """Read the rows *ids* of one collection, which are going to be asked for, if it has any."""
        collection = self._index.collections.get(name)
        if collection is None or collection.record is None:
            return
        for start in range(0, len(ids), _LOOKED_AHEAD):
            some = ids[start : start + _LOOKED_AHEAD]
            self._ahead.update(dict.fromkeys([(collection.key, record_id) for record_id in some]))
            marks = ", ".join("?" * len(some))
            found = self._db.execute(
                f"SELECT id, ms, ns, dead, pending, line, pk FROM {collection.rows} WHERE id IN ({marks})", some
            )
            for record_id, *row in found:
                self._ahead[collection.key, record_id] = _Row(*row)

    def apply_all(self, ops: Sequence[Op]) -> list[Answer]:
        """Make changes one after the other, each whole or not at all; rows of new records many with one statement."""
        self.look_ahead(ops)
        answers: list[Answer] = []
        for op in ops:
            try:
                stored = self._hold(op)
            except TaskStoreError as error:
                answers.append(Refused(error))
                continue
            if stored is None:
                self._write_held()
                answers.append(self.apply(op))
            else:
                answers.append(Applied(stored))
        self._write_held()
        return answers

    def apply(self, op: Op) -> Answer:
        """Make one change, or leave everything as it was."""
        try:
            return Applied(self._apply(op))
        except TaskStoreError as error:
            return Refused(error)

    def finish(self) -> None:
        """Write what was held back. Called once, before the commit; `Contents.delete` comes after it."""
        self._db.executemany(_LOG, self._log)
        self.contents.settle()
        self.contents.publish()

    # -- ops ------------------------------------------------------------------------------------------------

    def _apply(self, op: Op) -> object:
        answer: object = None
        match op:
            case Create() | Put() | Update():
                answer = self._put(op)
            case WriteContent():
                answer = self._write_content(op)
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
            case Claim() | Renew() | Release():
                answer = self._lease(op)
        return answer

    def _together(self, ops: Sequence[Create | Put | Update | Delete]) -> tuple[object, ...]:
        """Make all of the changes or none; their answers."""
        # What is new enters the catalogue before the savepoint, which could take it back behind the catalogue's back.
        for name in dict.fromkeys([op.collection if isinstance(op, Delete) else op.draft.collection for op in ops]):
            self._collection(name)
        answers: list[object] = []
        with self._savepoint():
            for start in range(0, len(ops), _LOOKED_AHEAD):
                some = ops[start : start + _LOOKED_AHEAD]
                self.look_ahead(some)
                for op in some:
                    stored = self._hold(op)
                    if stored is None:
                        self._write_held()
                        answers.append(self._apply(op))
                    else:
                        answers.append(stored)
                self._write_held()
            self._ahead.clear()
        return tuple(answers)

    def _hold(self, op: Op) -> Stored | None:
        """Hold a new record back, to be written with others before anything else is done.

        Returns:
            What will be stored; None when the op is to be applied by itself: it is no creation, its row was not read
            ahead or is there, or there are rules to check.
        """
        if not self._ahead or not isinstance(op, Create | Put) or (isinstance(op, Put) and op.token is not None):
            return None
        draft = op.draft
        collection = self._index.collections.get(draft.collection)
        wanted = self._wanted.get(draft.collection)
        if collection is None or wanted is None or collection.satisfies is not wanted or not collection.writable:
            return None
        key = (collection.key, draft.id)
        if self._ahead.get(key, _UNREAD) is not None or collection.has_rules:
            return None
        raw = line_of(draft, None, stamp_ms=self._clock_ms, created_ms=self._clock_ms)
        del self._ahead[key]
        if self._held and self._held[0][0] is not collection:
            self._write_held()
        self._held.append((collection, draft.id, raw))
        return Stored(raw, self._clock_ms * NS_PER_MS)

    def _write_held(self) -> None:
        """Write the rows that were held back, all of one collection, and their entries in the log."""
        if not self._held:
            return
        held, self._held = self._held, []
        collection, first, ms = held[0][0], self._index.take_seqs(len(held)), self._clock_ms
        cells_of = collection.cells_of
        self._db.executemany(
            collection.insert,
            [(ms, 0, 0, first + place, raw, *cells_of(raw), one) for place, (_, one, raw) in enumerate(held)],
        )
        self._db.executemany(
            _LOG_NEW, [(first + place, collection.key, one, ms) for place, (_, one, _) in enumerate(held)]
        )
        self.lines.setdefault(collection.name, []).extend([raw for _, _, raw in held])
        self.written += len(held)

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

    def _write_content(self, op: WriteContent) -> Stored:
        name, draft = self.contents.place(self._collection(op.collection), op.change)
        temporary = self.contents.write(op.collection, name, op.data)
        try:
            return self._put(msgspec.structs.replace(op.change, draft=draft))
        except TaskStoreError:
            self.contents.withdraw(temporary)
            raise

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
        cells = collection.cells_of(raw)
        current = None if row is None or row.dead else row
        if check and collection.has_rules:
            before = None if current is None else collection.cells_of(current.raw)
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

    def take_line(self, name: str, line: Line, instant: int, *, coming: Mapping[str, Container[str]]) -> None:
        """Store a line of another file, with its bytes and its stamp where these can stay.

        Args:
            name: The collection.
            line: What to store.
            instant: The stamp that the other file's fold gave it, in nanoseconds.
            coming: Ids that this import brings, by collection; its references may name them already.

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
        self._rules.coming = coming
        try:
            self._write_line(collection, line.id, row, raw, ms, ns=ns)
        finally:
            self._rules.coming = {}

    # -- leases ---------------------------------------------------------------------------------------------

    def _lease(self, op: Claim | Renew | Release) -> Claimed | int | None:
        if isinstance(op, Claim):
            return self._claim(op)
        if isinstance(op, Renew):
            return self._renew(op)
        self._end_lease(self._require_lease(op.collection, op.id, op.token), op.id)
        return None

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
        self.contents.let_go(collection, row.raw)
        self._write(collection, record_id, row, raw=raw, ms=ms, ns=ns, cells=cells, kind=schema.DELETED)
        self._end_lease(collection, record_id)

    # -- transactions ---------------------------------------------------------------------------------------

    @contextmanager
    def _savepoint(self) -> Generator[None]:
        """All of the block or nothing, its rules checked at its end. The outermost one counts."""
        if self._rules.deferring:
            yield
            return
        written, logged, freed = self.written, len(self._log), self.contents.freed
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
            self._held.clear()
            self._ahead.clear()  # they may have been read behind what is taken back
            del self._log[logged:]
            self.contents.keep_all_but(freed)
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
            raise CollectionClosedError(collection.name, str(self._directory.journal(collection.name)))
        return collection

    def _row(self, collection: Collection, record_id: str) -> _Row | None:
        if self._ahead:
            ahead = self._ahead.pop((collection.key, record_id), _UNREAD)  # popped: whoever asks is going to change it
            if not isinstance(ahead, str):
                return ahead
        found = self._db.execute(collection.select, (record_id,)).fetchone()
        return None if found is None else _Row(*found)

    def _next(self, row: _Row | None) -> int:
        """The stamp of the record's next version, in milliseconds."""
        return self._clock_ms if row is None else next_stamp(self._clock_ms, instant_of(row.ms, row.ns))

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
        dead = int(kind == schema.DELETED)  # a bool takes sqlite3 longer to bind
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
