"""The proof that an index is what its files and its outbox say, record by record and field by field."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from taskstore_async.core.declaration import TYPES, Declaration
from taskstore_async.storage import content
from taskstore_async.storage.comparison import Comparison
from taskstore_async.storage.health import is_damage
from taskstore_async.storage.journal import NoJournalError, open_to_read
from taskstore_async.storage.journal_reader import JournalReader
from taskstore_async.storage.reports import CheckReport, Finding, Problem
from taskstore_async.storage.sync import declarations, passed_over

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.directory import Directory
    from taskstore_async.storage.engine import Engine

__all__ = ["check", "problems_of"]

_LARGE_BYTES: Final = 100 << 20
_MANY_LINES: Final = 10  #: per record
_FEW: Final = 100  #: records below which lines per record mean nothing
_LISTED: Final = 1_000


def check(engine: Engine) -> CheckReport:
    """Check the whole store; see `Store.check`. The files are read under the lock, and nothing is changed."""
    try:
        return _check(engine)
    except sqlite3.DatabaseError as error:  # the catalogue itself cannot be read
        if not is_damage(error):
            raise
        return CheckReport(ok=False, collections=0, records=0, problems=(_told(error),))


def _told(error: sqlite3.DatabaseError) -> Finding:
    return Finding(kind="index", message=f"store.db is damaged: {error}; run: tstore sync --rebuild")


def _check(engine: Engine) -> CheckReport:
    listed: list[Finding] = []
    records = more = 0
    ok = True
    with engine.consistent() as (db, collections):
        for finding in _findings(db, collections, engine.directory):
            ok = ok and not finding.error
            if len(listed) < _LISTED:
                listed.append(finding)
            else:
                more += 1
        with suppress(sqlite3.DatabaseError):  # which is among the findings by now
            records = _count(db, collections)
    if more:
        listed.append(Finding(kind="more", message=f"{more:,} further findings are not listed", error=not ok))
    served_count = sum(name != TYPES for name in collections)
    return CheckReport(ok=ok, collections=served_count, records=records, problems=tuple(listed))


def _findings(db: sqlite3.Connection, collections: dict[str, Collection], directory: Directory) -> Iterator[Finding]:
    """Everything but the counts."""
    told = list(_integrity(db))
    yield from told
    try:
        yield from _contents(db, collections, directory)
    except sqlite3.DatabaseError as error:
        sqlite_says = getattr(error, "sqlite_errorcode", None) is not None
        found = _damage(str(error)) if sqlite_says else _told(error)
        if found not in told:
            yield found


def _contents(db: sqlite3.Connection, collections: dict[str, Collection], directory: Directory) -> Iterator[Finding]:
    """What files and rows say; raises when SQLite cannot read on."""
    served, strays = directory.journals()
    for name in strays:
        yield Finding(kind="stray", message=f"{name} is no collection name, so it is not served", file=name)
    for name in sorted({*served, *collections}):
        collection = collections.get(name)
        if collection is None:
            message = f"{name}.jsonl has not been read; run: tstore sync"
            yield Finding(kind="stale", message=message, collection=name)
        else:
            yield from _collection(db, collection, directory)
    declared = declarations(db, collections[TYPES]) if TYPES in collections else {}
    for name, collection in collections.items():
        yield from _rules(db, collection, collections)
        yield from content.findings(db, collection, directory.path)
        if name != TYPES and collection.declaration != declared.get(name, Declaration(name)):
            message = f"{name}: the index has other fields than {TYPES}.jsonl declares; run: tstore sync --rebuild"
            yield Finding(kind="difference", message=message, collection=name)
    for name, reason in passed_over(db, collections[TYPES]).items() if TYPES in collections else ():
        message = (
            f"{TYPES}.jsonl: what it declares of {name} cannot be, and holds for nothing: {reason}; mend that line"
        )
        yield Finding(kind="declaration", message=message, collection=name, file=f"{TYPES}.jsonl")


def _count(db: sqlite3.Connection, collections: dict[str, Collection]) -> int:
    """How many live records there are."""
    tables = [collection.rows for name, collection in collections.items() if name != TYPES]
    return sum(db.execute(f"SELECT count(*) FROM {table} WHERE dead = 0").fetchone()[0] for table in tables)


def problems_of(engine: Engine, name: str) -> tuple[Problem, ...]:
    """The lines of one journal that cannot be read, or break a limit."""
    path = engine.directory.journal(name)
    try:
        with open_to_read(path) as descriptor:
            if descriptor is None:
                return ()
            reader = JournalReader(descriptor, (), file=path.name, collection=name)
            for _ in reader.lines():
                pass
            return tuple(reader.problems)
    except NoJournalError as error:
        return (Problem(name, path.name, 0, 0, f"it is no file that can be read ({error.strerror})"),)


def _integrity(db: sqlite3.Connection) -> Iterator[Finding]:
    try:
        messages = [message for (message,) in db.execute("PRAGMA integrity_check").fetchall()]
    except sqlite3.DatabaseError as error:
        messages = [str(error)]
    for message in messages:
        if message != "ok":
            yield _damage(message)


def _damage(message: str) -> Finding:
    return Finding(kind="index", message=f"SQLite says of store.db: {message}; run: tstore doctor --fix")


def _collection(db: sqlite3.Connection, collection: Collection, directory: Directory) -> Iterator[Finding]:
    """Compare one collection's rows with its file and its outbox."""
    path = directory.journal(collection.name)
    comparison = Comparison(db, collection)
    reader: JournalReader | None = None
    try:
        with open_to_read(path) as descriptor:
            if descriptor is not None:
                reader = comparison.read(descriptor, path.name)
    except NoJournalError as error:
        message = f"{path.name} is no file that can be read ({error.strerror})"
        yield Finding(kind="no-journal", message=message, collection=collection.name, file=path.name)
        return
    if reader is not None:
        yield from _bad_lines(collection.name, reader)
        if reader.unreadable or collection.closed:
            message = f"{path.name} has no valid line, or ends within a conflict; it is closed to writing"
            yield Finding(kind="closed", message=message, collection=collection.name, file=path.name)
            return
        size = reader.status.st_size
        yield from _size(collection.name, path, size=size, lines=reader.good, records=comparison.records)
    for record_id, what in comparison.differences():
        message = f"{collection.name}/{record_id}: {what}; run: tstore sync --rebuild"
        yield Finding(kind="difference", message=message, collection=collection.name, record_id=record_id)


def _bad_lines(name: str, reader: JournalReader) -> Iterator[Finding]:
    for problem in reader.problems:
        yield Finding(
            kind="line" if problem.served else "bad-line",
            message=f"{problem.file}:{problem.line}: {problem.reason}",
            collection=name,
            file=problem.file,
            line=problem.line,
            offset=problem.offset,
            error=not problem.served,
        )


def _size(name: str, path: Path, *, size: int, lines: int, records: int) -> Iterator[Finding]:
    hint = "run: tstore compact"
    if size > _LARGE_BYTES:
        message = f"{path.name} has {size:,} bytes; {hint}"
        yield Finding(kind="large", message=message, collection=name, file=path.name, error=False)
    if lines > _FEW and lines >= _MANY_LINES * records:
        message = f"{path.name} has {lines:,} lines for {records:,} records; {hint}"
        yield Finding(kind="many-lines", message=message, collection=name, file=path.name, error=False)


def _rules(db: sqlite3.Connection, collection: Collection, collections: dict[str, Collection]) -> Iterator[Finding]:
    """What a merge or a hand brought that our own writes refuse."""
    for field, declared in collection.declaration.fields.items():
        column = collection.columns[field]
        if declared.unique:
            repeated = db.execute(
                f"SELECT {column}, min(id), max(id) FROM {collection.rows} "
                f"WHERE dead = 0 AND {column} IS NOT NULL AND {column} <> x'' GROUP BY {column} HAVING count(*) > 1"
            )
            for value, first, last in repeated:
                message = f"{collection.name}: {field}={value!r} is unique, and {first} and {last} have it"
                yield Finding(kind="duplicate", message=message, collection=collection.name, record_id=last)
        if declared.references is not None:
            yield from _dangling(db, collection, field, collections.get(declared.references), declared.references)


def _dangling(
    db: sqlite3.Connection, collection: Collection, field: str, target: Collection | None, target_name: str
) -> Iterator[Finding]:
    column = collection.columns[field]
    there = "0"
    if target is not None:
        there = f"EXISTS (SELECT 1 FROM {target.rows} t WHERE t.dead = 0 AND t.id = CAST(r.{column} AS TEXT))"
    found = db.execute(
        f"SELECT id, {column} FROM {collection.rows} r WHERE dead = 0 AND {column} IS NOT NULL AND NOT {there}"
    )
    for record_id, value in found:
        named = f"{target_name}/{value}, which does not exist" if value != b"" else "what is no id"
        message = f"{collection.name}/{record_id} names {named}, in {field}"
        yield Finding(kind="dangling", message=message, collection=collection.name, record_id=record_id)
