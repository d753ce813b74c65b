"""SQL of a person over the collections by their real names: really read-only, and bounded in time and size."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from taskstore_async.core.declaration import TYPES
from taskstore_async.errors import InvalidQueryError, LimitExceededError, QueryTimeoutError
from taskstore_async.storage import catalogue, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.engine import Engine

__all__ = ["Answer", "SqlResult", "ask"]

SqlResult: TypeAlias = int | float | str | bytes | None

MAX_VALUE_BYTES: Final = 64 << 20  #: of one value, on the way too
MAX_RESULT_BYTES: Final = 256 << 20  #: of all rows together
_MAX_PATTERN: Final = 1_000  #: characters of a LIKE pattern: matching one cannot be interrupted
_STEPS: Final = 10_000  #: of SQLite's machine between two looks at the clock
_ROW_BYTES: Final = 64  #: what a row and each of its values take besides their content, about
_FUNCTION_TABLES: Final = frozenset({"json_each", "json_tree"})
_OF_THE_INDEX: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PROTOCOL,
}
"""What is wrong with the index or the machine; everything else is wrong with the person's SQL."""
_SIGNS_OF_WRITING: Final = ("not authorized", "readonly", "within a transaction", "is a view")
_ALLOWED: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})


class Answer(msgspec.Struct, frozen=True):
    """What a query found.

    Attributes:
        columns: The columns' names, each once: a second ``id`` is ``id_2``.
        rows: A value for each column. A list or an object in a declared field is empty bytes; the record's ``json`` has
            it.
    """

    columns: tuple[str, ...]
    rows: list[tuple[SqlResult, ...]]


def ask(
    engine: Engine, sql: str, parameters: Mapping[str, SqlResult] | None = None, *, timeout_s: float = 30.0
) -> Answer:
    """Answer one SELECT, from one state of the index.

    Every collection is a view of its live records: ``id``, ``updated_at`` (ms), the declared fields, and ``json``, the
    stored line. A field whose name differs from another only by case is ``name_2``.

    Args:
        engine: The store.
        sql: One statement that reads.
        parameters: The values of ``:name`` in it.
        timeout_s: How long it may take. > 0.

    Raises:
        InvalidQueryError: It cannot be answered: it would write, or is no SQL over what there is.
        QueryTimeoutError: It took longer.
        KeyboardInterrupt: A signal stopped it before that.
        LimitExceededError: The rows would take more than 256 MiB.
    """

    def question(_: object) -> Answer:
        with engine.connections.guard(), closing(_connect(engine)) as db:
            return _ask(db, sql, parameters or {}, timeout_s)

    return engine.read(question)


def _connect(engine: Engine) -> sqlite3.Connection:
    """A connection of its own that cannot write; to a copy, when the index lives in memory."""
    db = schema.connect(engine.index_path, writable=False)
    if engine.index_path is None:
        engine.reader.db.backup(db)
    return db


def _ask(db: sqlite3.Connection, sql: str, parameters: Mapping[str, SqlResult], timeout_s: float) -> Answer:
    deadline = time.monotonic() + timeout_s
    db.text_factory = _text
    db.execute("BEGIN")  # the views, and what they show, are of one state
    collections = catalogue.load(db)
    views = {_view_name(name): collection for name, collection in collections.items() if name != TYPES}
    for view, collection in views.items():
        db.execute(_view(view, collection))
    for table in _FUNCTION_TABLES:  # their first use changes SQLite's own schema in memory, which is no reading
        db.execute(f"SELECT 1 FROM {table}('[]')")
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    db.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _MAX_PATTERN)
    db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    db.set_progress_handler(lambda: not time.monotonic() <= deadline, _STEPS)  # of NaN there is no later
    db.set_authorizer(_authorizer(views))
    try:
        cursor = db.execute(sql, dict(parameters))
        if cursor.description is None:
            raise InvalidQueryError("it asks for nothing; write a SELECT")
        return Answer(_unique(name for name, *_ in cursor.description), _fetched(cursor))
    except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeEncodeError) as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in _OF_THE_INDEX:
            raise
        if code == sqlite3.SQLITE_INTERRUPT and time.monotonic() <= deadline:
            raise KeyboardInterrupt from error  # sqlite3 drops what a signal raises within a handler
        if code == sqlite3.SQLITE_INTERRUPT:
            raise QueryTimeoutError(timeout_s) from error
        raise InvalidQueryError(_explained(str(error), views)) from error


def _fetched(cursor: sqlite3.Cursor) -> list[tuple[SqlResult, ...]]:
    rows: list[tuple[SqlResult, ...]] = []
    size = 0
    for row in cursor:
        size += _ROW_BYTES + sum(_ROW_BYTES + (len(value) if isinstance(value, str | bytes) else 0) for value in row)
        if size > MAX_RESULT_BYTES:
            raise LimitExceededError("the result", value=size, limit=MAX_RESULT_BYTES, unit="bytes")
        rows.append(row)
    return rows


def _text(data: bytes) -> str:
    return data.decode(errors="replace")  # a CAST can make text of anything


# -- names --------------------------------------------------------------------------------------------------


def _view_name(collection: str) -> str:
    """What SQL calls a collection: its name, but where SQLite has that kind of name for itself."""
    return f"_{collection}" if collection.startswith("sqlite_") else collection


def _view(name: str, collection: Collection) -> str:
    columns = ["id", "ms", *collection.columns.values(), "CAST(line AS TEXT)"]
    # "json" is taken before the fields, so that what a field is called does not change what it means.
    own_id, stamp, line, *fields = _unique(["id", "updated_at", "json", *collection.columns])
    names = [own_id, stamp, *fields, line]
    shown = ", ".join(f"{column} AS {_quoted(shown)}" for column, shown in zip(columns, names, strict=True))
    return f"CREATE TEMP VIEW {_quoted(name)} AS SELECT {shown} FROM main.{collection.rows} WHERE dead = 0"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    """*names*, of which those that SQLite cannot tell from an earlier one get a number."""
    taken: dict[str, None] = {}
    unique: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate.lower() in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken[candidate.lower()] = None
        unique.append(candidate)
    return tuple(unique)


# -- what is allowed ----------------------------------------------------------------------------------------


def _authorizer(
    views: Mapping[str, Collection],
) -> Callable[[int, str | None, str | None, str | None, str | None], int]:
    """A function that lets SELECT, functions, and the reading of what the views show pass."""
    tables = {collection.rows for collection in views.values()}

    def authorize(action: int, first: str | None, _: str | None, database: str | None, source: str | None) -> int:
        if action in _ALLOWED:
            return sqlite3.SQLITE_OK
        if action != sqlite3.SQLITE_READ:
            return sqlite3.SQLITE_DENY
        shown = database != "main" or first in _FUNCTION_TABLES or (first in tables and source in views)
        return sqlite3.SQLITE_OK if shown else sqlite3.SQLITE_DENY

    return authorize


def _explained(reason: str, views: Mapping[str, Collection]) -> str:
    """What SQLite says, and what to do about it."""
    known = ", ".join(sorted(views)) or "none yet"
    reason = reason.rstrip(".")
    name = reason.rpartition(": ")[2]
    if reason.startswith("no such table"):
        from difflib import get_close_matches  # noqa: PLC0415 - reason: slow to load, and only a mistake needs it

        near = get_close_matches(name, views, n=1)
        return f"there is no collection {name}; " + (f"did you mean {near[0]}?" if near else f"there are: {known}")
    if any(sign in reason for sign in _SIGNS_OF_WRITING):
        return "it would do more than read; write SELECT, WITH, VALUES or EXPLAIN QUERY PLAN, and no other statement"
    hints = {
        "no such column": "the columns are id, updated_at, json and the declared fields (tstore indexes COLL); any "
        f"other field is: json ->> '$.{name.rpartition('.')[2]}'",
        "ambiguous column name": f"write the collection before it: issues.{name}",
        "prohibited": f"what can be read is: {known}",
        "binding": "give each :name a value, with -p name=value on the command line",
    }
    return "; ".join([reason, *(hint for sign, hint in hints.items() if sign in reason)])
