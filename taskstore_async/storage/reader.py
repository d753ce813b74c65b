"""Reading the index on a connection that cannot write: no lock, no waiting for the writer."""

from __future__ import annotations

import math
import sqlite3
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from taskstore_async.core.declaration import Declaration
from taskstore_async.storage import catalogue, rows, schema
from taskstore_async.storage.shared_memory import Connection, Holder, file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from taskstore_async.core.query import Query
    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.rows import Found

__all__ = ["Reader"]

P = ParamSpec("P")
T = TypeVar("T")


_WORTH_A_QUERY = 4  #: records that are looked up together rather than one by one


class Reader:
    """Answers questions from the index, each from one consistent state.

    Row tables are never changed in their layout: a new one takes the old one's place. So what is remembered of the
    catalogue is right until a table is missing.

    Args:
        db: The connection; any that reads the index.
        path: Its file; None when it lives in memory.
        guard: Held around every question; something only where SQLite's readers and writers exclude each other.
    """

    def __init__(
        self,
        db: Connection,
        path: Path | None,
        *,
        guard: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.db = db
        self._path = path
        self._guard = guard
        self._file = None if path is None else file_of(path)
        self._collections: dict[str, Collection] = {}
        with guard():
            schema.require_ours(db)
            (self.index_id,) = db.execute("SELECT value FROM meta WHERE name = 'index_id'").fetchone()
            self._collections = catalogue.load(db)
        self.memory = db.memory
        if self.memory is not None:
            self.memory.look()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        guard: Callable[[], AbstractContextManager[object]] = nullcontext,
        busy_s: float = math.inf,
        holder: Holder | None = None,
    ) -> Reader:
        """Open the index at *path* for reading.

        Args:
            path: The index.
            guard: Held around every question.
            busy_s: As for `schema.connect`.
            holder: Keeps the reader, and closes it when all connections have to close.

        Raises:
            sqlite3.DatabaseError: There is none, or none that can be used.
            OSError: Its shared memory is lost; see `SharedMemory.require`.
        """
        db = schema.connect(path, writable=False, busy_s=busy_s)
        try:
            reader = cls(db, path, guard=guard)
            if reader.memory is not None:
                reader.memory.require()
                if holder is not None:
                    reader.memory.kept_by(holder)
        except BaseException:
            db.close()
            raise
        return reader

    @property
    def is_current(self) -> bool:
        """Whether what it reads is what the path names, as others write it.

        While the whole directory is moved away, nobody writes there by this path, and what was read can be read on.
        """
        if self._path is None:
            return True
        named = file_of(self._path)
        if named is None and not self._path.parent.exists():
            return True
        return named == self._file and (self.memory is None or self.memory.looks_whole)

    def close(self) -> None:
        """Close the connection."""
        self.db.close()

    @property
    def collections(self) -> dict[str, Collection]:
        """The catalogue as it is now."""
        with self._guard():
            self._collections = catalogue.load(self.db, self._collections)
        return self._collections

    def ask(
        self,
        name: str,
        question: Callable[Concatenate[sqlite3.Connection, Collection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """Put *question* about one collection; None when there is no such collection."""
        with self._guard():
            for last in (False, True):
                collection = self._collections.get(name)
                if collection is None:
                    self._collections = catalogue.load(self.db, self._collections)
                    if (collection := self._collections.get(name)) is None:
                        return None
                try:
                    return question(self.db, collection, *args, **kwargs)
                except sqlite3.OperationalError as error:
                    if last or "no such" not in str(error):
                        raise
                    self._collections = catalogue.load(self.db)
        return None

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Answer every question of the block from one state of the index."""
        with self._guard():
            self.db.execute("BEGIN")
            try:
                yield
            finally:
                self.db.execute("COMMIT")

    def get(self, name: str, record_id: str, *, untyped: bool = False) -> Found | None:
        """The live record, or None; *untyped* is as for `find`."""
        found = self.ask(name, rows.get_line, record_id)
        if untyped and found is not None:
            rows.sound([found])
        return found

    def get_many(self, wanted: Sequence[tuple[str, str]]) -> list[Found | None]:
        """Live records by collection and id, in the order asked for."""
        if len(wanted) < _WORTH_A_QUERY:
            return [self.get(name, record_id) for name, record_id in wanted]
        ids: dict[str, list[str]] = {}
        for name, record_id in wanted:
            ids.setdefault(name, []).append(record_id)
        found = {name: self.ask(name, rows.get_lines, some) or {} for name, some in ids.items()}
        return [found[name].get(record_id) for name, record_id in wanted]

    def find(
        self, name: str, query: Query, *, declaration: Declaration | None = None, untyped: bool = False
    ) -> list[Found]:
        """The live records that *query* finds, in its order; see `rows.found_lines`.

        Args:
            name: The collection.
            query: What is asked for.
            declaration: As for `rows.found_lines`.
            untyped: No type will look at the lines, so that they are proved to be some; see `rows.sound`.
        """
        found = self.ask(name, rows.found_lines, query, declaration=declaration) or []
        if untyped:
            rows.sound(found)
        return found

    def count(self, name: str, query: Query, *, declaration: Declaration | None = None) -> int:
        """How many live records *query* finds."""
        return self.ask(name, rows.count_rows, query, declaration=declaration) or 0

    def declaration(self, name: str) -> Declaration:
        """What the store has declared the collection to be."""
        found = self.collections.get(name)
        return found.declaration if found else Declaration(name)

    def ids(self, name: str) -> list[str]:
        """The ids of all live records, in order."""
        return self.ask(name, rows.all_ids) or []
