"""Bringing an index to what all files of its directory say, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.declaration import TYPES, Declaration
from taskstore_async.errors import InvalidRecordError, TaskStoreError
from taskstore_async.storage import catalogue, journal
from taskstore_async.storage.journal import How
from taskstore_async.storage.reconcile import Reconciler
from taskstore_async.storage.reports import CollectionSync

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection as Names
    from collections.abc import Iterator
    from pathlib import Path

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.directory import Directory
    from taskstore_async.storage.index import Index

__all__ = ["Syncer", "all_look_fresh", "declarations", "declared_by", "look_at_all", "moved", "passed_over"]


class Syncer:
    """Looks at the files of *directory* on behalf of *index*.

    Args:
        index: Where what they say goes. Every call is made inside a transaction of it.
        directory: The store.
        building: The index is new, so that nobody waits for its changes.
    """

    def __init__(self, index: Index, directory: Directory, *, building: bool = False) -> None:
        self._index = index
        self._directory = directory
        self._building = building
        self._reconciler = Reconciler(
            index.db, directory.git, take_seqs=index.take_seqs, now_ms=index.now_ms, building=building
        )

    def all(
        self, *, except_for: Names[str] = (), settle: bool = True, force: bool = False
    ) -> dict[str, CollectionSync]:
        """Look at every journal, the declarations first.

        Args:
            except_for: Collections whose files are not to be looked at now.
            settle: A line identical to a pending one settles it.
            force: Read and compare the whole of every file.

        Returns:
            What was found, by collection.
        """
        found: dict[str, CollectionSync] = {}
        if TYPES not in except_for:
            found[TYPES] = self.one(TYPES, settle=settle, force=force)
        served, _ = self._directory.journals()
        for name in sorted({*served, *self._index.collections} - {TYPES, *except_for}):
            found[name] = self.one(name, settle=settle, force=force)
        if found.get(TYPES) == CollectionSync(how=How.NEW):
            del found[TYPES]  # there is no such file, and there need not be
        return found

    def one(self, name: str, *, flushing: bool = False, settle: bool = True, force: bool = False) -> CollectionSync:
        """Look at the journal of one collection; of the declarations, take over what they say."""
        collection = self.collection(name)
        path = self._directory.journal(name)
        report = self._reconciler.look(collection, path, flushing=flushing, settle=settle, force=force)
        self._after(name, report)
        return report

    def rebuild(self, name: str) -> CollectionSync:
        """Load the journal of one collection into a new table."""
        collection = self.collection(name)
        fresh, report = self._reconciler.rebuild(collection, self._directory.journal(name))
        self._index.collections[name] = fresh
        self._after(name, report)
        return report

    def collection(self, name: str) -> Collection:
        """The catalogue's entry of *name*, entered when it is new."""
        found = self._index.collections.get(name)
        if found is None:
            declared = None
            types = self._index.collections.get(TYPES)
            if types is not None and name != TYPES:
                declared = declarations(self._index.db, types).get(name)
            found = self._index.collections[name] = catalogue.add(self._index.db, name, declared)
        return found

    def _after(self, name: str, report: CollectionSync) -> None:
        if report.how == How.FRESH:
            return
        self._index.recount()
        if name == TYPES:
            self.take_declarations()

    def take_declarations(self) -> None:
        """Lay every collection out as its declaration says."""
        wanted = declarations(self._index.db, self._index.collections[TYPES])
        for name, collection in list(self._index.collections.items()):
            declaration = wanted.pop(name, None) or Declaration(name)
            if name != TYPES and declaration != collection.declaration:
                self._index.collections[name] = catalogue.redeclare(self._index.db, collection, declaration)
        for name, declaration in wanted.items():
            self._index.collections[name] = catalogue.add(self._index.db, name, declaration)


class _OnlyLooking(Exception):  # noqa: N818 - reason: it is no error
    """Takes a transaction back that was made to see what it would do."""


def look_at_all(index: Index, syncer: Syncer, *, check: bool, rebuild: bool) -> tuple[dict[str, CollectionSync], bool]:
    """Look at every file, in one transaction of *index*.

    Args:
        index: Outside a transaction.
        syncer: Of that index.
        check: Take it back: only tell what would be done.
        rebuild: Read every file anew into new tables, too.

    Returns:
        What was found, by collection; and whether a file was not what the index knew.
    """
    found: dict[str, CollectionSync] = {}
    stale = False
    try:
        with index.transaction(full=False):
            found = syncer.all()
            stale = any(one.how != How.FRESH for one in found.values())
            if rebuild:
                found |= {name: syncer.rebuild(name) for name in list(index.collections)}
            if check:
                raise _OnlyLooking  # noqa: TRY301 - reason: to leave the transaction, which takes it back
    except _OnlyLooking:
        pass
    return found, stale


_MOST_READ = 1_000  #: fields of one declaration: SQLite refuses a table of 2,000 columns, and with it every write


def declarations(db: sqlite3.Connection, types: Collection) -> dict[str, Declaration]:
    """What the collections are declared to be, by name; a line that declares nothing that can be is passed over."""
    return {name: declared for name, declared in _declared(db, types) if isinstance(declared, Declaration)}


def passed_over(db: sqlite3.Connection, types: Collection) -> dict[str, str]:
    """Why the lines declare nothing that `declarations` passes over, by the name that each is about."""
    return {name: reason for name, reason in _declared(db, types) if isinstance(reason, str)}


def _declared(db: sqlite3.Connection, types: Collection) -> Iterator[tuple[str, Declaration | str]]:
    for name, raw in db.execute(f"SELECT id, line FROM {types.rows} WHERE dead = 0").fetchall():
        if name != TYPES:
            yield name, declared_by(name, raw)


def declared_by(name: str, raw: bytes) -> Declaration | str:
    """What a line of the declarations says of the collection *name*, or why that cannot be."""
    try:
        declared = Declaration.from_object(name, msgspec.json.decode(raw))
    except InvalidRecordError as error:
        return f"{error.reason}, at {error.path}"
    except (TaskStoreError, msgspec.DecodeError) as error:
        return str(error)
    count = max(len(declared.columns), len(declared.sources))
    return declared if count <= _MOST_READ else f"it has {count:,} fields, and at most {_MOST_READ:,} are read"


def all_look_fresh(collections: dict[str, Collection], directory: Directory) -> bool:
    """Whether the stat of every file alone shows that nothing moved; see `looks_fresh`."""
    served, _ = directory.journals()
    return collections.keys() >= set(served) and all(
        journal.looks_fresh(one.record, journal.stat_of(directory.journal(name))) for name, one in collections.items()
    )


_WORTH_A_LOCK = 1 << 20


def moved(
    collections: dict[str, Collection], directory: Directory, *, large: int = _WORTH_A_LOCK
) -> tuple[list[str], bool]:
    """The collections whose files are not what the index knows, without touching either.

    Args:
        collections: What the index knows.
        directory: The store.
        large: The size in bytes from which a file is not to be read at every look.

    Returns:
        Their names; and whether there are records of large files that would be looked at in full every time until
        somebody writes down that they are as they were.
    """
    served, _ = directory.journals()
    names: list[str] = []
    unsettled = False
    for name in sorted({*served, *collections}):
        collection = collections.get(name)
        path = directory.journal(name)
        if collection is None:
            names.append(name)
        elif not journal.looks_fresh(collection.record, journal.stat_of(path)):
            if not _unchanged(collection, path):
                names.append(name)
            elif collection.record is not None and collection.record.size >= large:
                unsettled = True
    return names, unsettled


def _unchanged(collection: Collection, path: Path) -> bool:
    """Whether the bytes are those that the index knows, whatever their file looks like."""
    try:
        with journal.open_to_read(path) as descriptor:
            record = collection.record
            how = journal.classify(descriptor, record)
            # What is torn is no part of what the CRC is of.
            same = record is not None and journal.size_of(descriptor) == record.offset
            return how is How.FRESH or (how is How.TAIL and same)
    except journal.NoJournalError:
        return False
