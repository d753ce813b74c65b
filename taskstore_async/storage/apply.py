"""Applying changes inside one transaction: our own rules, the rows, the log.

What is refused is refused by our own reads before an op's first write, so that its neighbours in the transaction
commit; an op of several rows has a savepoint, and its rules are checked on what it leaves.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from itertools import repeat
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from taskstore_async.core.codec import check_line, join_fields, split_fields
from taskstore_async.core.fold import effective
from taskstore_async.core.names import can_be_stored, check_id
from taskstore_async.core.stamp import NS_PER_MS
from taskstore_async.core.write import line_of, load, load_document
from taskstore_async.errors import (
    AlreadyExistsError,
    InvalidRecordError,
    NotFoundError,
    StaleWriteError,
    TaskStoreError,
    UnreadableRecordError,
)
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
from taskstore_async.storage.record_writer import RecordWriter
from taskstore_async.storage.row_writer import LOOKED_AHEAD, UNREAD, Row
from taskstore_async.storage.rows import found_lines

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from taskstore_async.core.fold import Folded
    from taskstore_async.core.line import Line
    from taskstore_async.core.record import Document, Record
    from taskstore_async.core.write import Draft
    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.ops import Answer, Op
    from taskstore_async.storage.sessions import Session

__all__ = ["Application"]

_RESERVED: Final = frozenset({"id", "created_at", "updated_at", "deleted"})
_OF_ONE_DRAFT: Final = (Create, Put, Update)
_WORTH_A_QUERY: Final = 4  #: ids that are asked for together rather than one by one


class Application(RecordWriter):
    """Applies ops inside the caller's transaction of *session*; arguments as for `Declaring`.

    Attributes:
        lines: The lines of the transaction by collection, oldest first, as they must be appended.
        written: How many versions it wrote.
        contents: As for `RecordWriter`.
    """

    def __init__(self, engine: Engine, session: Session, *, append_all: bool) -> None:
        super().__init__(engine, session, append_all=append_all)
        self._holding: Collection | None = None  #: new rows of it are held back
        self._unwritten: dict[str, Row | None] = {}  #: its rows read ahead: who is None may be held back
        self._held: dict[str, bytes] = {}  #: the lines of its new rows that are not written yet

    def look_ahead(self, ops: Sequence[Op]) -> None:
        """Read the rows of records that *ops* are going to ask for, many with one query."""
        wanted: dict[str, list[str]] = {}
        for op in ops:
            if isinstance(op, _OF_ONE_DRAFT):
                wanted.setdefault(op.draft.collection, []).append(op.draft.id)
        for name, ids in wanted.items():
            if len(ids) >= _WORTH_A_QUERY:
                self.look_ahead_in(name, ids)

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
        self._write_log()
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
            for start in range(0, len(ops), LOOKED_AHEAD):
                some = ops[start : start + LOOKED_AHEAD]
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
        if not isinstance(op, Create) and (not isinstance(op, Put) or op.token is not None):
            return None
        draft = op.draft
        if self._holding is None or self._holding.name != draft.collection:
            self._hold_in(draft.collection)
        if self._unwritten.get(draft.id, UNREAD) is not None:
            return None
        raw = line_of(draft, None, stamp_ms=self._clock_ms, created_ms=self._clock_ms)
        del self._unwritten[draft.id]
        self._held[draft.id] = raw
        return Stored(raw, self._clock_ms * NS_PER_MS)

    def _hold_in(self, name: str) -> None:
        """Hold back new rows of one collection from now on, if there are no rules to check when they are written."""
        self._write_held()
        collection = self._index.collections.get(name)
        wanted = self._wanted.get(name)
        if collection is not None and wanted is not None and collection.satisfies is wanted:
            self._holding = collection
            if collection.writable and not collection.has_rules:
                self._unwritten = self._ahead.get(collection.key, {})

    def _write_held(self) -> None:
        """Write the rows that were held back, and their entries in the log; hold no more, for anything may follow."""
        collection, held = self._holding, self._held
        self._holding, self._unwritten = None, {}
        if collection is not None and held:
            self._held = {}
            self._write_new(collection, list(held), list(held.values()), repeat(self._clock_ms), repeat(0))

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

    def _store(self, collection: Collection, draft: Draft, row: Row | None, current: Row | None) -> Stored:
        stamp_ms = self._next(row)
        raw = line_of(draft, None if current is None else current.raw, stamp_ms=stamp_ms, created_ms=self._clock_ms)
        self._write_line(collection, draft.id, row, raw, stamp_ms)
        return Stored(raw, stamp_ms * NS_PER_MS)

    def _delete_one(self, op: Delete) -> None:
        collection = self._collection(op.collection)
        row = self._row(collection, op.id) if can_be_stored(op.id) else None
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

    def take_lines(
        self, name: str, some: Sequence[Folded], *, new: bool, coming: Mapping[str, set[str]]
    ) -> list[tuple[str, TaskStoreError]]:
        """Store lines of another file, one per record, each with its bytes and its stamp where these can stay.

        Args:
            name: The collection.
            some: What to store, each with the stamp that the other file's fold gave it.
            new: There is a row of none of them, not even of one that was deleted.
            coming: Ids that this import brings, by collection; its references may name them already. Those that are
                refused leave it.

        Returns:
            The ids that were refused, with the reason: it breaks a rule of the declaration, or may stand in a file but
            not be written.
        """
        refused: list[tuple[str, TaskStoreError]] = []
        held: list[Folded] = []
        try:
            collection = self._collection(name)
        except TaskStoreError as error:
            return [(one.line.id, error) for one in some]
        if not new:
            self.look_ahead_in(name, [one.line.id for one in some])
        at_once = new and not collection.has_rules
        self._rules.coming = coming
        for one in some:
            line, instant = one.line, one.instant
            # A line without a problem breaks no limit, and one with a stamp of its own keeps its bytes.
            if at_once and line.problem is None and line.instant == instant and not line.deleted:
                held.append(one)
                continue
            self._write_new_lines(collection, held)
            held = []
            try:
                self._take_line(collection, line, instant)
            except TaskStoreError as error:
                refused.append((line.id, error))
                coming[name].discard(line.id)
        self._write_new_lines(collection, held)
        self._rules.coming = {}
        return refused

    def _write_new_lines(self, collection: Collection, held: Sequence[Folded]) -> None:
        if held:
            ids, raws = [one.line.id for one in held], [one.line.raw for one in held]
            ms, ns = [one.instant // NS_PER_MS for one in held], [one.instant % NS_PER_MS for one in held]
            self._write_new(collection, ids, raws, ms, ns)

    def _take_line(self, collection: Collection, line: Line, instant: int) -> None:
        check_id(line.id)
        row = self._row(collection, line.id)
        above = None if row is None else instant_of(row.ms, row.ns)
        raw, (ms, ns) = line.raw, divmod(instant, NS_PER_MS)
        late = above is not None and instant <= above
        if late or effective(line, above) != instant:  # its own bytes would lose here, or count with another stamp
            ms, ns = self._next(row) if late else -(-instant // NS_PER_MS), 0
            raw = join_fields({**split_fields(raw), "updated_at": msgspec.Raw(b"%d" % ms)})
        check_line(raw, subject=f"{collection.name}/{line.id}")
        if not line.deleted:
            self._write_line(collection, line.id, row, raw, ms, ns=ns)
        elif row is not None and not row.dead:
            with self._savepoint():
                self._delete(collection, line.id, row, raw=raw, ms=ms, ns=ns)

    # -- leases ---------------------------------------------------------------------------------------------

    def _lease(self, op: Claim | Renew | Release) -> Claimed | int | None:
        if isinstance(op, Claim):
            return self._claim(op)
        if isinstance(op, Renew):
            return self._leases.renew(self._require_lease(op.collection, op.id, op.token), op.id, lease_ms=op.lease_ms)
        self._leases.end(self._require_lease(op.collection, op.id, op.token), op.id)
        return None

    def _claim(self, op: Claim) -> Claimed | None:
        collection = self._collection(op.collection)
        if found := _RESERVED.intersection(op.changes):
            name = min(found)
            reason = "a claim does not change it; set other fields, or none"
            raise InvalidRecordError(f"a claim in {op.collection}", f"$.{name}", reason)
        passed = self._leases.held(collection)
        limit = len(passed) + 1  # so many that one of them is free
        while True:
            candidates = found_lines(self._db, collection, msgspec.structs.replace(op.query, limit=limit))
            for candidate in candidates:
                if candidate.id not in passed:
                    if (claimed := self._take(collection, op, candidate.id)) is not None:
                        return claimed
                    passed.add(candidate.id)
            if len(candidates) < limit:
                return None
            limit *= 2

    def _take(self, collection: Collection, op: Claim, record_id: str) -> Claimed | None:
        """Lease a record and change it; None when it would not be what the claim takes it for."""
        row = self._row(collection, record_id)
        assert row is not None  # noqa: S101 - reason: it was just found
        stamp_ms = self._next(row)
        raw = join_fields({**split_fields(row.raw), **op.changes, "updated_at": msgspec.Raw(b"%d" % stamp_ms)})
        record = _readable(op, raw, stamp_ms * NS_PER_MS)
        if record is None:
            return None
        check_line(raw, subject=f"{op.collection}/{record_id}")
        self._write_line(collection, record_id, row, raw, stamp_ms)
        token, until_ms = self._leases.take(collection, record_id, owner=op.owner, lease_ms=op.lease_ms)
        return Claimed(record, token, until_ms)

    def _require_lease(self, name: str, record_id: str, token: int) -> Collection:
        """Check that a lease lives; returns the collection."""
        collection = self._collection(name)
        self._leases.require(collection, record_id, token=token)
        return collection

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
            self._holding, self._unwritten, self._held = None, {}, {}
            self._ahead.clear()  # they may have been read behind what is taken back
            del self._log[logged:]
            self.contents.keep_all_but(freed)
            self.lines = {name: held[: lines[name]] for name, held in self.lines.items() if name in lines}
            raise
        self._db.execute("RELEASE op")


def _readable(op: Claim, raw: bytes, instant: int) -> Record | Document | None:
    """The record of a line, as whoever claims it will have it; None when it does not fit the type."""
    if op.record_type is None:
        return load_document(op.collection, raw, instant)
    try:
        return load(op.record_type, raw, instant)
    except UnreadableRecordError:
        return None


def _require_version(name: str, record_id: str, row: Row, expected_at: int, expected_crc: int | None) -> None:
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
