"""The engine's face: typed records in, typed records out, blocking.

`taskstore_async.StateManager` has the same calls for coroutines.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

import msgspec

from taskstore_async.core.ids import resolve_prefix
from taskstore_async.core.query import Cursor, Query
from taskstore_async.core.record import Document, Record, Registry, declaration_of
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.core.write import draft, load, load_document, load_stored
from taskstore_async.errors import (
    AmbiguousIdError,
    NotFoundError,
    StaleWriteError,
    UnreadableRecordError,
)
from taskstore_async.storage import inspection
from taskstore_async.storage.claims import claim_op, draft_of_modified, renew_op
from taskstore_async.storage.compact import GRACE_MS, compact
from taskstore_async.storage.content import content_op, read_content
from taskstore_async.storage.declaring import declare
from taskstore_async.storage.directory import Directory
from taskstore_async.storage.engine import Engine
from taskstore_async.storage.flush import flush_due
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
from taskstore_async.storage.reports import Listing, Unreadable, Version
from taskstore_async.storage.rows import Found, values_of

if TYPE_CHECKING:
    import builtins
    import os
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence

    from taskstore_async.core.conflicts import Markers
    from taskstore_async.core.declaration import Declaration
    from taskstore_async.core.filters import Filter
    from taskstore_async.core.record import AnyRecord
    from taskstore_async.core.write import Draft
    from taskstore_async.storage.ask import Answer, SqlResult
    from taskstore_async.storage.backup import BackupReport, RestoreReport
    from taskstore_async.storage.batch import BatchWriter
    from taskstore_async.storage.description import Description, Explanation
    from taskstore_async.storage.importing import OnConflict
    from taskstore_async.storage.ops import Op
    from taskstore_async.storage.reader import Reader
    from taskstore_async.storage.rehearsal import Doomed, Rehearsed
    from taskstore_async.storage.reports import (
        CheckReport,
        CollectionInfo,
        CompactReport,
        FlushReport,
        ImportReport,
        StoreInfo,
        StoreStats,
        SyncReport,
    )

__all__ = ["Lease", "Store"]

R = TypeVar("R", bound=Record)
A = TypeVar("A", bound="Record | Document")
T = TypeVar("T")
_PAGE = 500


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


class Store:
    """A blocking handle on a store, for one thread at a time; `StateManager` is the one that coroutines await.

    Open it with `Store.open`. A collection is named by its record type, or by its name for untyped access, which
    gives `Document` records.
    """

    def __init__(self, engine: Engine, *, durability: Durability) -> None:
        self._engine = engine
        self._durability = durability

    # -- life -----------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = ".",
        *,
        records: Iterable[type[Record]] = (),
        sync: SyncConfig | None = None,
        durability: Durability = Durability.INDEX,
        create: bool = True,
        lock_timeout_s: float = 10.0,
    ) -> Self:
        """Open the store at *path*, and bring its index up to date.

        Args:
            path: The directory that holds or will hold ``.taskstore/``, or a store directory itself.
            records: Types to declare now; others are declared at their first write.
            sync: When writes are exported to the journal: by the first call, a read too, that finds it due.
            durability: What acknowledged means, unless a call says otherwise.
            create: Make the store when there is none.
            lock_timeout_s: Seconds a call may wait for other processes.

        Raises:
            NoStoreError: There is none, and *create* is false.
            StoreVersionError: It has a newer format.
            StoreLockedError: Another process held the lock for too long.
            DeclarationConflictError: A type defines a field differently from the store.
            InvalidRecordTypeError, InvalidNameError: A type cannot be used.
        """
        registry = Registry(records)
        directory = Directory.at(path, create=create)
        engine = Engine(directory, config=sync or SyncConfig(), deadline_s=lock_timeout_s)
        store = cls(engine, durability=durability)
        try:
            declare(engine, registry, durability)
        except BaseException:
            engine.close()
            raise
        return store

    @classmethod
    @contextmanager
    def temporary(
        cls,
        *,
        records: Iterable[type[Record]] = (),
        sync: SyncConfig | None = None,
        durability: Durability = Durability.INDEX,
    ) -> Generator[Self]:
        """A store in a temporary directory that goes with it; for tests."""
        import tempfile  # noqa: PLC0415 - reason: most processes never need it, and each starts with this module

        with (
            tempfile.TemporaryDirectory(prefix="taskstore-") as folder,
            cls.open(folder, records=records, sync=sync, durability=durability) as store,
        ):
            yield store

    def close(self) -> None:
        """Flush and close. Closing again does nothing.

        Raises:
            FlushError, StoreBrokenError, CollectionClosedError: What waits could not be written; the handle is closed.
        """
        self._engine.close()

    def __enter__(self) -> Self:
        """Enter the block at whose end the store is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Flush and close."""
        self.close()

    @property
    def path(self) -> Path:
        """The store directory."""
        return self._engine.directory.path

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about how the store was opened."""
        return tuple(self._engine.notes)

    # -- reading --------------------------------------------------------------------------------------------

    @overload
    def get(self, target: type[R], record_id: str) -> R | None: ...
    @overload
    def get(self, target: str, record_id: str) -> Document | None: ...
    def get(self, target: type[Record] | str, record_id: str) -> Record | Document | None:
        """The record, or None when there is none.

        Raises:
            UnreadableRecordError: It is there, and does not fit the type.
        """
        name, _ = self._known(target)
        found = self._read(lambda reader: reader.get(name, record_id))
        return None if found is None else _loaded(target, found)

    def line(self, target: type[Record] | str, record_id: str) -> bytes | None:
        """The bytes that stand for the record in the journal, or will; None when there is none."""
        name, _ = self._known(target)
        found = self._read(lambda reader: reader.get(name, record_id))
        return None if found is None else found.raw

    def resolve(self, target: type[Record] | str, prefix: str) -> str:
        """The id that *prefix* is, or is the beginning of.

        Raises:
            NotFoundError: There is none.
            AmbiguousIdError: There are several.
        """
        name, _ = self._known(target)
        if self._read(lambda reader: reader.get(name, prefix)) is not None:
            return prefix
        return resolve_prefix(prefix, self._read(lambda reader: reader.ids(name)), collection=name)

    def ids(self, target: type[Record] | str, prefix: str = "", *, limit: int | None = None) -> builtins.list[str]:
        """The ids that begin with *prefix*, in order; at most *limit* of them."""
        name, _ = self._known(target)
        found = (one for one in self._read(lambda reader: reader.ids(name)) if one.startswith(prefix))
        return [*islice(found, limit)]

    def locate(self, prefix: str, collection: str | None = None) -> tuple[str, str]:
        """The collection and the id of the one record whose id *prefix* is, or else begins.

        Args:
            prefix: The beginning of an id.
            collection: Where to look; everywhere when None.

        Raises:
            NotFoundError: There is none.
            AmbiguousIdError: There are several.
        """
        if collection is not None:
            return collection, self.resolve(collection, prefix)
        near: list[tuple[str, str]] = []
        similar: list[str] = []
        for name in (one.name for one in self.collections()):
            try:
                near.append((name, self.resolve(name, prefix)))
            except NotFoundError as error:
                similar += [f"{name}/{one}" for one in error.near]
        exact = [one for one in near if one[1] == prefix]
        found = exact or near
        if len(found) > 1:
            raise AmbiguousIdError("all collections", prefix, tuple("/".join(one) for one in found))
        if not found:
            raise NotFoundError("(any collection)", prefix, near=tuple(similar[:3]))
        return found[0]

    @overload
    def list(
        self, target: type[R], *filters: Filter, order_by: str | None = ..., limit: int | None = ..., offset: int = ...
    ) -> builtins.list[R]: ...
    @overload
    def list(
        self, target: str, *filters: Filter, order_by: str | None = ..., limit: int | None = ..., offset: int = ...
    ) -> builtins.list[Document]: ...
    def list(
        self,
        target: type[Record] | str,
        *filters: Filter,
        order_by: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> builtins.list[Any]:
        """The records for which all *filters* hold.

        Args:
            target: The collection.
            filters: `eq`, `gt`, `in_` and so on.
            order_by: A field, with ``-`` before it for descending; by id when there is none. Ties are by id.
            limit: At most so many.
            offset: Without the first so many.

        Raises:
            InvalidFilterError: A filter, the order or the page cannot mean anything.
            UnreadableRecordError: A record does not fit the type; see `list_tolerant`.
        """
        return [
            _loaded(target, found)
            for found in self.lines(target, *filters, order_by=order_by, limit=limit, offset=offset)
        ]

    def lines(
        self,
        target: type[Record] | str,
        *filters: Filter,
        order_by: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        after: Cursor | None = None,
    ) -> builtins.list[Found]:
        """The same as `list`, as stored lines."""
        name, declaration = self._known(target)
        query = Query(filters, order_by=order_by, limit=limit, offset=offset, after=after)
        return self._read(lambda reader: reader.find(name, query, declaration=declaration))

    @overload
    def iterate(self, target: type[R], *filters: Filter, order_by: str | None = ...) -> Iterator[R]: ...
    @overload
    def iterate(self, target: str, *filters: Filter, order_by: str | None = ...) -> Iterator[Document]: ...
    def iterate(self, target: type[Record] | str, *filters: Filter, order_by: str | None = None) -> Iterator[Any]:
        """The same as `list`, fetched page by page; a record that changes meanwhile may be seen as either version."""
        return (_loaded(target, found) for found in self.iterate_lines(target, *filters, order_by=order_by))

    def iterate_lines(
        self, target: type[Record] | str, *filters: Filter, order_by: str | None = None
    ) -> Iterator[Found]:
        """The same as `iterate`, as stored lines."""
        name, declared = self._known(target)
        declaration = declared or self._engine.declaration(name)
        after: Cursor | None = None
        while page := self.lines(target, *filters, order_by=order_by, limit=_PAGE, after=after):
            yield from page
            if len(page) < _PAGE:
                return
            after = Cursor.at(order_by, page[-1].id, values_of(page[-1], declaration))

    def count(self, target: type[Record] | str, *filters: Filter) -> int:
        """How many records there are for which all *filters* hold."""
        name, declaration = self._known(target)
        query = Query(filters)
        return self._read(lambda reader: reader.count(name, query, declaration=declaration))

    def read_content(self, record: AnyRecord) -> str | None:
        """The long text of *record*: what its file has, else its own ``content``; None when it has neither.

        Raises:
            ContentError: The file is not there, is no text in UTF-8, or is not one that the store would read.
        """
        return read_content(self.path, record)

    def query(self, sql: str, parameters: Mapping[str, SqlResult] | None = None, *, timeout_s: float = 30.0) -> Answer:
        """Answer one SELECT over the collections by their names; see `taskstore_async.storage.ask.ask`.

        Raises:
            InvalidQueryError: It would write, or is no SQL over what there is.
            QueryTimeoutError: It took longer than *timeout_s* seconds.
            LimitExceededError: It found too much.
        """
        from taskstore_async.storage.ask import ask  # noqa: PLC0415 - reason: as in temporary

        answer = ask(self._engine, sql, parameters, timeout_s=timeout_s)
        self._flush_if_due(waiting=False)
        return answer

    def list_tolerant(self, target: type[Record] | str, *filters: Filter, order_by: str | None = None) -> Listing:
        """What can be read as the type, and what cannot, with the reason: records that do not fit, and bad lines."""
        records: list[Any] = []
        unreadable: list[Unreadable] = []
        for found in self.lines(target, *filters, order_by=order_by):
            try:
                records.append(_loaded(target, found))
            except UnreadableRecordError as error:
                unreadable.append(Unreadable(found.id, error.reason))
        name, _ = self._known(target)
        from taskstore_async.storage.check import problems_of  # noqa: PLC0415 - reason: as in temporary

        problems = problems_of(self._engine, name)
        unreadable += [Unreadable(None, p.reason, p.line, p.offset) for p in problems if not p.served]
        return Listing(records, unreadable)

    def history(self, target: type[Record] | str, record_id: str) -> builtins.list[Version]:
        """The versions of a record, oldest first: those in the journal, then those that wait to be flushed.

        It begins at the last compaction, and is complete when every version was flushed for itself
        (`Durability.JOURNAL`, or ``coalesce=False``).
        """
        name, _ = self._known(target)
        versions = inspection.history(self._engine, name, record_id)
        self._flush_if_due(waiting=False)
        return versions

    # -- writing --------------------------------------------------------------------------------------------

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
        self, target: type[R], record_id: str, function: Callable[[R], R], *, durability: Durability | None = ...
    ) -> R: ...
    @overload
    def modify(
        self,
        target: str,
        record_id: str,
        function: Callable[[Document], Document],
        *,
        durability: Durability | None = ...,
    ) -> Document: ...
    def modify(
        self,
        target: type[Record] | str,
        record_id: str,
        function: Callable[[Any], Any],
        *,
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
                return self._stored(changed, self._one(Update(made), durability))
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

    def rehearse_delete(self, target: type[Record] | str, record_ids: Sequence[str]) -> builtins.list[Doomed]:
        """What deleting records would delete and change, these included; nothing is changed.

        Raises:
            NotFoundError, ReferencedError: As for `delete`.
        """
        from taskstore_async.storage.rehearsal import rehearse_delete  # noqa: PLC0415 - reason: as in temporary

        return rehearse_delete(self._engine, self._known(target)[0], record_ids)

    def rehearse(self, fill: Callable[[BatchWriter], None]) -> builtins.list[Rehearsed]:
        """The versions that a batch would write, with what follows from them; nothing is changed.

        Args:
            fill: Asks for the changes of the batch.

        Raises:
            TaskStoreError: What the batch would end with.
        """
        from taskstore_async.storage.batch import BatchWriter  # noqa: PLC0415 - reason: a command that reads has none
        from taskstore_async.storage.rehearsal import rehearse  # noqa: PLC0415 - reason: as in temporary

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

    # -- files ----------------------------------------------------------------------------------------------

    def flush(self) -> FlushReport:
        """Write everything acknowledged before to the journal, fsynced."""
        return self._engine.flush()

    def sync(self, *, check: bool = False, rebuild: bool = False) -> SyncReport:
        """Import what moved in the files, then flush.

        Args:
            check: Only tell what would be done.
            rebuild: Read every file anew, whatever is known of it.
        """
        return self._engine.sync(check=check, rebuild=rebuild)

    def is_stale(self) -> bool:
        """Whether a file is not what the index knows."""
        return self._engine.is_stale()

    def rebuild_indexes(self, record_type: type[Record]) -> int:
        """Make the store's declaration exactly what *record_type* says, and fill its index anew.

        Returns:
            How many records can be read as the type; each of the first ten others is named in a warning.
        """
        return inspection.rebuild_indexes(self._engine, record_type)

    def compact(
        self, target: type[Record] | str | None = None, *, grace_ms: int = GRACE_MS, dry_run: bool = False
    ) -> CompactReport:
        """Leave only the latest line of each record in the journals, and tombstones younger than *grace_ms*.

        Lines that cannot be read are moved to ``quarantine/``. With *dry_run* it only tells.
        """
        name = None if target is None else self._known(target)[0]
        return compact(self._engine, name, grace_ms=grace_ms, dry_run=dry_run)

    def markers(self, target: type[Record] | str) -> Markers:
        """The conflict markers that stand in a collection's journal, and what is contested between them."""
        from taskstore_async.storage.unmark import markers_of  # noqa: PLC0415 - reason: merges alone leave markers

        return markers_of(self._engine, self._known(target)[0])

    def unmark(self, target: type[Record] | str, chosen: Collection[str] = ()) -> int:
        """Take out the conflict markers of a journal between which nothing is left to choose; no record changes.

        Args:
            target: The collection.
            chosen: The ids of the records of which a version was chosen, and written.

        Returns:
            How many lines went to ``quarantine/``: the markers, and the base parts of diff3 blocks.

        Raises:
            CollectionClosedError: No line of the file is a record.
            FlushError: The file could not be written, or somebody else kept replacing it.
        """
        from taskstore_async.storage.unmark import unmark  # noqa: PLC0415 - reason: as above

        return len(unmark(self._engine, self._known(target)[0], chosen))

    def rehearse_unmark(self, target: type[Record] | str, chosen: Collection[str] = ()) -> builtins.list[bytes]:
        """The lines that `unmark` would take out of a journal; nothing is changed.

        Raises:
            CollectionClosedError: As for `unmark`.
        """
        from taskstore_async.storage.unmark import unmark  # noqa: PLC0415 - reason: as above

        return unmark(self._engine, self._known(target)[0], chosen, dry_run=True)

    def check(self) -> CheckReport:
        """Prove that the index is what the journals and the outbox say, and report whatever else is wrong."""
        from taskstore_async.storage.check import check  # noqa: PLC0415 - reason: as in temporary

        return check(self._engine)

    def import_lines(
        self,
        collection: str,
        data: Iterable[bytes],
        *,
        source: str = "<import>",
        on_conflict: OnConflict = "fail",
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> ImportReport:
        """Take records from the lines of another JSONL file, keeping their bytes and stamps where that can be.

        Args:
            collection: Where they go.
            data: The file, in chunks of any size.
            source: What reports call it.
            on_conflict: What to do with a record that is stored with other content: ``fail`` (before anything is
                written), ``skip``, ``replace``, or ``newer`` (the higher stamp wins).
            dry_run: Do all of it and take it back, to tell what would be.
            progress: Called with how many records of how many are written.

        Raises:
            ImportConflictError: There are conflicts, and *on_conflict* is ``fail``.
        """
        return self.import_all(
            {collection: data}, source=source, on_conflict=on_conflict, dry_run=dry_run, progress=progress
        )[collection]

    def import_all(
        self,
        data: Mapping[str, Iterable[bytes]],
        *,
        source: str = "<import>",
        on_conflict: OnConflict = "fail",
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, ImportReport]:
        """The same for several collections, whose records may name each other; what was taken, by collection.

        Raises:
            ImportConflictError: As for `import_lines`; then nothing was written to any of them.
        """
        return self.import_files([(source, data)], on_conflict=on_conflict, dry_run=dry_run, progress=progress)[0]

    def import_files(
        self,
        files: Sequence[tuple[str, Mapping[str, Iterable[bytes]]]],
        *,
        on_conflict: OnConflict = "fail",
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> builtins.list[dict[str, ImportReport]]:
        """The same for several files, whose records may name each other: of an id in several, the winner is taken.

        Args:
            files: What reports call each, and its lines by collection.
            on_conflict: As for `import_lines`; so are the others.
            dry_run: Do all of it and take it back.
            progress: Called with how many records of how many are written.

        Returns:
            What was taken of each file, by collection.

        Raises:
            ImportConflictError: As for `import_lines`; then nothing was written of any file.
        """
        from taskstore_async.storage.importing import import_files  # noqa: PLC0415 - reason: as in temporary

        return import_files(self._engine, files, on_conflict=on_conflict, dry_run=dry_run, progress=progress)

    def backup(
        self,
        destination: str | os.PathLike[str],
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> BackupReport:
        """Copy the store to a new directory, which opens as a store: everything but what can be made anew.

        What waits is flushed first, and nobody writes meanwhile. The copy has its name only when it is whole.

        Args:
            destination: A directory that is not there, or is empty.
            dry_run: Only tell.
            progress: Called with how many files of how many are copied.

        Raises:
            DestinationError: Something is there, or it is in the store.
            WriteFailedError: It could not be written; nothing is left of it.
            TaskStoreError: As for `flush`.
        """
        from taskstore_async.storage.backup import back_up  # noqa: PLC0415 - reason: as in temporary

        return back_up(self._engine, Path(destination), dry_run=dry_run, progress=progress)

    def restore(self, source: str | os.PathLike[str], *, replace: bool = False, dry_run: bool = False) -> RestoreReport:
        """Make this store what the backup *source* is; its files are put in place one after the other.

        Args:
            source: A backup, or any other store.
            replace: Also when this one has records that the backup does not have, or has differently. Its files are
                kept in ``quarantine/``, from where they can be restored in their turn.
            dry_run: Only tell.

        Raises:
            DestinationError: It has such records, and *replace* is false.
            NoStoreError: *source* is no store.
            WriteFailedError: It could not be written.
            TaskStoreError: As for `flush`.
        """
        from taskstore_async.storage.backup import restore  # noqa: PLC0415 - reason: as in temporary

        return restore(self._engine, source, replace=replace, dry_run=dry_run)

    def collections(self) -> builtins.list[CollectionInfo]:
        """The collections and what is in them."""
        return inspection.collections(self._engine)

    def stats(self) -> StoreStats:
        """Counts and sizes."""
        return inspection.stats(self._engine)

    def info(self) -> StoreInfo:
        """Where the store is and how it is kept."""
        return inspection.info(self._engine)

    def describe(self, target: type[Record] | str, record_id: str) -> Description:
        """What is known of a record beside its fields: versions, size, lease, who names it and whom it names.

        Raises:
            NotFoundError: There is none.
        """
        from taskstore_async.storage.description import describe  # noqa: PLC0415 - reason: as in temporary

        return describe(self._engine, self._known(target)[0], record_id)

    def explain(self, target: type[Record] | str, *filters: Filter, order_by: str | None = None) -> Explanation:
        """How `list` would find the records: by which index, and what is left to check one by one."""
        from taskstore_async.storage.description import explain  # noqa: PLC0415 - reason: as in temporary

        return explain(self._engine, self._known(target)[0], *filters, order_by=order_by)

    def declaration(self, target: type[Record] | str) -> Declaration:
        """What the store has declared about a collection."""
        return self._engine.declaration(self._known(target)[0])

    # -- inside ---------------------------------------------------------------------------------------------

    def _known(self, target: type[Record] | str) -> tuple[str, Declaration | None]:
        """The collection's name, and what the type declares, which the store may not know yet."""
        if isinstance(target, str):
            return target, None
        declaration = declaration_of(target)
        if self._engine.wanted.get(declaration.collection) is not declaration:
            self._use(declaration)
        return declaration.collection, declaration

    def _use(self, declaration: Declaration) -> None:
        """Have a type's declaration written with its first record; refuse it now if it contradicts the store's."""
        self._engine.declaration(declaration.collection).adopt(declaration)
        self._engine.wanted[declaration.collection] = declaration

    def _read(self, question: Callable[[Reader], T]) -> T:
        answer = self._engine.read(question)
        self._flush_if_due(waiting=False)
        return answer

    def _flush_if_due(self, *, waiting: bool) -> None:
        if self._engine.flush_is_due:
            flush_due(self._engine, waiting=waiting)

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


def _loaded(target: type[Record] | str, found: Found) -> Any:  # noqa: ANN401 - reason: what target says
    if isinstance(target, str):
        return load_document(target, found.raw, found.instant)
    return load(target, found.raw, found.instant)
