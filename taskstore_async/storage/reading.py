"""The calls of a store that change nothing."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, overload

from taskstore_async.core.ids import resolve_prefix
from taskstore_async.core.query import Cursor, Query
from taskstore_async.core.record import Document, Record, declaration_of
from taskstore_async.core.write import load, load_document
from taskstore_async.errors import AmbiguousIdError, NotFoundError, UnreadableRecordError
from taskstore_async.storage import inspection
from taskstore_async.storage.content import read_content
from taskstore_async.storage.flush import flush_due
from taskstore_async.storage.reports import Listing, Unreadable, Version
from taskstore_async.storage.rows import Found, values_of

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Mapping

    from taskstore_async.core.declaration import Declaration
    from taskstore_async.core.filters import Filter
    from taskstore_async.core.record import AnyRecord
    from taskstore_async.core.schedule import Durability
    from taskstore_async.storage.ask import Answer, SqlResult
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.reader import Reader
    from taskstore_async.storage.reports import CollectionInfo

__all__ = ["Reading"]

R = TypeVar("R", bound=Record)
T = TypeVar("T")
_PAGE = 500


class Reading:
    """See `Store`."""

    def __init__(self, engine: Engine, *, durability: Durability) -> None:
        self._engine = engine
        self._durability = durability

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
        found = self._read(lambda reader: reader.get(name, record_id, untyped=isinstance(target, str)))
        return None if found is None else _loaded(target, found)

    def line(self, target: type[Record] | str, record_id: str) -> bytes | None:
        """The bytes that stand for the record in the journal, or will; None when there is none."""
        name, _ = self._known(target)
        found = self._read(lambda reader: reader.get(name, record_id, untyped=True))
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
        query = Query(filters, order_by=order_by, limit=limit, offset=offset)
        return [_loaded(target, found) for found in self._find(target, query, untyped=isinstance(target, str))]

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
        query = Query(filters, order_by=order_by, limit=limit, offset=offset, after=after)
        return self._find(target, query, untyped=True)

    @overload
    def iterate(self, target: type[R], *filters: Filter, order_by: str | None = ...) -> Iterator[R]: ...
    @overload
    def iterate(self, target: str, *filters: Filter, order_by: str | None = ...) -> Iterator[Document]: ...
    def iterate(self, target: type[Record] | str, *filters: Filter, order_by: str | None = None) -> Iterator[Any]:
        """The same as `list`, fetched page by page; a record that changes meanwhile may be seen as either version."""
        pages = self._pages(target, filters, order_by, untyped=isinstance(target, str))
        return (_loaded(target, found) for found in pages)

    def iterate_lines(
        self, target: type[Record] | str, *filters: Filter, order_by: str | None = None
    ) -> Iterator[Found]:
        """The same as `iterate`, as stored lines."""
        return self._pages(target, filters, order_by, untyped=True)

    def _pages(
        self, target: type[Record] | str, filters: tuple[Filter, ...], order_by: str | None, *, untyped: bool
    ) -> Iterator[Found]:
        name, declared = self._known(target)
        declaration = declared or self._engine.declaration(name)
        after: Cursor | None = None
        while page := self._find(target, Query(filters, order_by=order_by, limit=_PAGE, after=after), untyped=untyped):
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
        return read_content(self._engine.directory.path, record)

    def query(self, sql: str, parameters: Mapping[str, SqlResult] | None = None, *, timeout_s: float = 30.0) -> Answer:
        """Answer one SELECT over the collections by their names; see `taskstore_async.storage.ask.ask`.

        Raises:
            InvalidQueryError: It would write, or is no SQL over what there is.
            QueryTimeoutError: It took longer than *timeout_s* seconds.
            LimitExceededError: It found too much.
        """
        from taskstore_async.storage.ask import ask  # noqa: PLC0415 - reason: most processes never need it

        answer = ask(self._engine, sql, parameters, timeout_s=timeout_s)
        self._flush_if_due(waiting=False)
        return answer

    def list_tolerant(self, target: type[Record] | str, *filters: Filter, order_by: str | None = None) -> Listing:
        """What can be read as the type, and what cannot, with the reason: records that do not fit, and bad lines."""
        records: list[Any] = []
        unreadable: list[Unreadable] = []
        for found in self._find(target, Query(filters, order_by=order_by), untyped=isinstance(target, str)):
            try:
                records.append(_loaded(target, found))
            except UnreadableRecordError as error:
                unreadable.append(Unreadable(found.id, error.reason))
        name, _ = self._known(target)
        from taskstore_async.storage.check import problems_of  # noqa: PLC0415 - reason: most processes never need it

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

    def collections(self) -> builtins.list[CollectionInfo]:
        """The collections and what is in them."""
        return inspection.collections(self._engine)

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

    def _find(self, target: type[Record] | str, query: Query, *, untyped: bool) -> builtins.list[Found]:
        name, declaration = self._known(target)
        return self._read(lambda reader: reader.find(name, query, declaration=declaration, untyped=untyped))

    def _read(self, question: Callable[[Reader], T]) -> T:
        answer = self._engine.read(question)
        self._flush_if_due(waiting=False)
        return answer

    def _flush_if_due(self, *, waiting: bool) -> None:
        if self._engine.flush_is_due:
            flush_due(self._engine, waiting=waiting)


def _loaded(target: type[Record] | str, found: Found) -> Any:  # noqa: ANN401 - reason: what target says
    if isinstance(target, str):
        return load_document(target, found.raw, found.instant)
    return load(target, found.raw, found.instant)
