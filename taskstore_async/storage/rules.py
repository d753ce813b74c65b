"""What our own writes must keep: unique fields and references. What a merge brought may stay as it is."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from taskstore_async.errors import MissingReferenceError, ReferencedError, UniqueError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Generator, Mapping, Sequence

    from taskstore_async.core.declaration import FieldDeclaration
    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.index import Index

__all__ = ["Holders", "Rules", "integer_of"]

_OPAQUE_CELL: Final = b""
_MOST: Final = 2**63 - 1
_MOST_DIGITS: Final = 19


def integer_of(record_id: str) -> int | None:
    """The integer that names *record_id* too, since it spells it; None when the index has no such integer."""
    if not (record_id.isdecimal() and record_id.isascii() and len(record_id) <= _MOST_DIGITS):
        return None
    number = int(record_id)
    return number if number <= _MOST and str(number) == record_id else None


class Holders:
    """The references that name records of one collection.

    Attributes:
        collection: Where the records that hold the reference stand.
        field: The field that holds it.
        on_delete: What becomes of them: ``restrict``, ``cascade`` or ``set_null``.
    """

    def __init__(self, index: Index, collection: Collection, field: str, on_delete: str) -> None:
        self.collection = collection
        self.field = field
        self.on_delete = on_delete
        self._db = index.db
        column = collection.columns[field]
        self._sql = f"SELECT id FROM {collection.rows} WHERE {column} = ? AND typeof({column}) = ? AND dead = 0"

    def of(self, target_id: str) -> list[str]:
        """The ids of the live records that name *target_id*; an integer that spells it names it too."""
        found = self._db.execute(self._sql, (target_id, "text")).fetchall()
        number = integer_of(target_id)
        if number is not None:
            found += self._db.execute(self._sql, (number, "integer")).fetchall()
        return [record_id for (record_id,) in found]


class Rules:
    """Checks the rules of the declarations inside one transaction.

    Args:
        index: The rows.

    Attributes:
        coming: The ids of records that are on their way, by collection; references may name them already.
    """

    def __init__(self, index: Index) -> None:
        self.coming: Mapping[str, Container[str]] = {}
        self._index = index
        self._db = index.db
        self._deferred: list[Callable[[], None]] | None = None

    @property
    def deferring(self) -> bool:
        """Whether an op of several rows is under way, whose rules are checked on what it leaves."""
        return self._deferred is not None

    @contextmanager
    def deferred(self) -> Generator[None]:
        """Check at the end of the block what is to be checked in it."""
        checks = self._deferred = []
        try:
            yield
            for check in checks:
                check()
        finally:
            self._deferred = None

    def check(
        self, collection: Collection, record_id: str, cells: Sequence[object], before: Sequence[object] | None
    ) -> None:
        """Check the unique fields and the references that a write changes.

        Args:
            collection: Where the record stands.
            record_id: Its id.
            cells: What its columns are to hold.
            before: What they hold; None when there is no such record.

        Raises:
            UniqueError, MissingReferenceError: A rule is broken. Inside `deferred`, at its end.
        """
        for place, (field, declared) in enumerate(collection.declaration.fields.items()):
            value = cells[place]
            if value is None or not (declared.unique or declared.references is not None):
                continue
            if before is not None and before[place] == value:
                continue
            check = partial(self._check_field, collection, record_id, field, declared, value)
            if self._deferred is None:
                check()
            else:
                self._deferred.append(partial(self._check_if_still, collection, record_id, field, value, check))

    def check_unreferenced(self, target: str, target_id: str, holders: Holders) -> None:
        """Refuse that a record is gone while others hold on to it; at the end of `deferred`.

        Raises:
            ReferencedError: They do.
        """
        assert self._deferred is not None  # noqa: S101 - reason: what references follow has a savepoint
        self._deferred.append(partial(self._check_unreferenced, target, target_id, holders))

    def refers_to(self, name: str) -> bool:
        """Whether a declaration has references to the collection *name*."""
        return any(
            declared.references == name
            for collection in self._index.collections.values()
            for declared in collection.declaration.references.values()
        )

    def holders_of(self, name: str) -> list[Holders]:
        """The references that name records of the collection *name*."""
        return [
            Holders(self._index, collection, field, declared.on_delete)
            for collection in self._index.collections.values()
            for field, declared in collection.declaration.references.items()
            if declared.references == name
        ]

    def _check_unreferenced(self, target: str, target_id: str, holders: Holders) -> None:
        if not self._is_live(target, target_id) and (holding := holders.of(target_id)):
            raise ReferencedError(target, target_id, by=holders.collection.name, field=holders.field, holder=holding[0])

    def _check_if_still(
        self, collection: Collection, record_id: str, field: str, value: object, check: Callable[[], None]
    ) -> None:
        """Check, unless a later change of the same op took the value away again."""
        sql = f"SELECT 1 FROM {collection.rows} WHERE id = ? AND {collection.columns[field]} = ? AND dead = 0"
        if self._db.execute(sql, (record_id, value)).fetchone() is not None:
            check()

    def _check_field(
        self, collection: Collection, record_id: str, field: str, declared: FieldDeclaration, value: object
    ) -> None:
        if declared.unique and value != _OPAQUE_CELL:
            sql = f"SELECT id FROM {collection.rows} WHERE {collection.columns[field]} = ? AND dead = 0 AND id <> ?"
            holder = self._db.execute(f"{sql} LIMIT 1", (value, record_id)).fetchone()
            if holder is not None:
                raise UniqueError(collection.name, record_id, field, value, holder=holder[0])
        if declared.references is not None:
            target, target_id = declared.references, "(no id)" if value == _OPAQUE_CELL else str(value)
            if (target, target_id) == (collection.name, record_id):
                return
            if target_id in self.coming.get(target, ()):
                return
            if not self._is_live(target, target_id):
                raise MissingReferenceError(collection.name, record_id, field, target=target, target_id=target_id)

    def _is_live(self, name: str, record_id: str) -> bool:
        collection = self._index.collections.get(name)
        if collection is None:
            return False
        row = self._db.execute(collection.select, (record_id,)).fetchone()
        return row is not None and not row[2]
