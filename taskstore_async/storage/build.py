"""Making ``store.db``: a new one from the journals, in place of one that is missing or cannot be used."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.declaration import TYPES
from taskstore_async.core.line import Line, decode_line
from taskstore_async.core.names import is_collection
from taskstore_async.storage import failpoints, files, log, schema
from taskstore_async.storage.health import is_damage, is_trouble
from taskstore_async.storage.index import CommitError, Index, open_index
from taskstore_async.storage.sync import Syncer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from taskstore_async.storage.directory import Directory
    from taskstore_async.storage.reports import CollectionSync

__all__ = [
    "Opened",
    "bring_along",
    "build_in_memory",
    "open_or_build",
    "outbox_of",
    "replace_index",
]


class Opened(msgspec.Struct):
    """An index that is ready for use.

    Attributes:
        index: The connection that writes.
        built: What building it read, by collection; None when it was there.
        note: What a person should know about it.
    """

    index: Index
    built: dict[str, CollectionSync] | None = None
    note: str = ""


def open_or_build(directory: Directory, *, now_ms: Callable[[], int], busy_s: float = math.inf) -> Opened:
    """Open the directory's index; when it is missing or cannot be used, build a new one. Under store.lock.

    One that cannot be used keeps its bytes under another name, and what it had not flushed goes into the new one.

    Args:
        directory: The store.
        now_ms: The clock.
        busy_s: As for `schema.connect`.

    Raises:
        OSError: A file cannot be made.
        sqlite3.OperationalError: SQLite cannot open the file for a reason that another file would not mend.
    """
    aside = _aside(directory)
    if aside.exists():  # whoever set it aside did not get far
        if not directory.index.exists():
            _rename(directory.index, aside)  # what still stands beside the name is the other's
            return _build_from_aside(directory, "as was found before", _salvage(aside), now_ms=now_ms)
        _rename(aside, aside.with_name(f"{directory.index.name}.broken-{time.time_ns() // 1_000_000}"))
    if not directory.index.exists():
        return _build(directory, now_ms=now_ms, outbox={}, note="")
    if not (directory.index.is_file() and os.access(directory.index, os.R_OK | os.W_OK)):
        return replace_index(directory, "it is no file that can be read and written", now_ms=now_ms)
    try:
        index = open_index(directory.index, now_ms=now_ms, busy_s=busy_s)
        try:
            index.catch_up()
        except BaseException:
            index.close()
            raise
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return replace_index(directory, str(error), now_ms=now_ms)
    return Opened(index)


def replace_index(
    directory: Directory, reason: str, *, now_ms: Callable[[], int], saved: Mapping[str, list[bytes]] | None = None
) -> Opened:
    """Set the index aside, and build a new one with what the old one had not flushed. Under store.lock.

    Args:
        directory: The store.
        reason: Why, for people to read.
        now_ms: The clock.
        saved: What a connection that had it open could still read of its outbox.

    Raises:
        sqlite3.OperationalError: The old one cannot be reached just now, which is no damage; nothing was changed.
    """
    outbox = {name: list(raws) for name, raws in (saved or {}).items()}
    for name, raws in _salvage(directory.index).items():
        there = set(outbox.get(name, ()))
        outbox.setdefault(name, []).extend([raw for raw in raws if raw not in there])
    _rename(directory.index, _aside(directory))
    failpoints.reach("set aside")
    return _build_from_aside(directory, reason, outbox, now_ms=now_ms)


def _build_from_aside(
    directory: Directory, reason: str, outbox: dict[str, list[bytes]], *, now_ms: Callable[[], int]
) -> Opened:
    """Build an index with the outbox of the one that was set aside, which gets its last name when that is done."""
    opened = _build(directory, now_ms=now_ms, outbox=outbox, note="")
    kept = directory.index.with_name(f"{directory.index.name}.broken-{time.time_ns() // 1_000_000}")
    _rename(_aside(directory), kept)
    count = sum(map(len, outbox.values()))
    name = directory.index.name
    opened.note = f"{name} could not be used ({reason}); it is kept as {kept.name}, {count} pending line(s) saved"
    return opened


def build_in_memory(directory: Directory, *, now_ms: Callable[[], int]) -> Opened:
    """Build an index that lives in memory, of a directory that cannot be written."""
    db = schema.connect(None, writable=True)
    schema.create_tables(db)
    index = Index(db, None, now_ms=now_ms)
    index.catch_up()
    with index.transaction(full=False):
        built = Syncer(index, directory, building=True).all()
    return Opened(index, built, f"{directory.path} cannot be written; its index lives in memory")


def _build(directory: Directory, *, now_ms: Callable[[], int], outbox: dict[str, list[bytes]], note: str) -> Opened:
    """Build an index in a file of its own, and let it take the name."""
    for suffix in schema.BESIDE[1:]:  # of an index that is gone: SQLite would play it into the new one
        Path(f"{directory.index}{suffix}").unlink(missing_ok=True)
    for leftover in directory.path.glob(f"{directory.index.name}.*.new*"):  # of builds that were killed
        leftover.unlink(missing_ok=True)
    temporary = directory.index.with_name(f"{directory.index.name}.{os.getpid()}.new")
    try:
        with closing(schema.connect(temporary, writable=True, create=True)) as db:
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")
            schema.create_tables(db)
            index = Index(db, None, now_ms=now_ms)
            index.catch_up()
            with index.transaction(full=False):
                built = Syncer(index, directory, building=True).all()
                take_outbox(index, directory, outbox)
            db.execute(f"PRAGMA journal_mode = {schema.JOURNAL_MODE}").fetchone()
        with temporary.open("rb") as file:
            files.fsync(file.fileno())
        failpoints.reach("built")
        temporary.replace(directory.index)
        failpoints.reach("index named")
        files.fsync_directory(directory.path)
    except CommitError as error:
        _remove(temporary)
        raise sqlite3.OperationalError(str(error)) from error  # of a file that nobody has seen
    except BaseException:
        _remove(temporary)
        raise
    directory.complete()
    index = open_index(directory.index, now_ms=now_ms)
    try:
        index.catch_up()
    except BaseException:
        index.close()
        raise
    return Opened(index, built, note)


def _remove(path: Path) -> None:
    for suffix in schema.BESIDE:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _aside(directory: Directory) -> Path:
    """Where an index is whose outbox no other has yet: whoever opens the store next takes it over."""
    return directory.index.with_name(f"{directory.index.name}.aside")


def _rename(index: Path, other: Path) -> None:
    for suffix in schema.BESIDE:
        with suppress(FileNotFoundError):  # what was damaged may never have got its name
            Path(f"{index}{suffix}").replace(f"{other}{suffix}")


def _salvage(path: Path) -> dict[str, list[bytes]]:
    """The pending lines of an index that cannot be used, by collection; what can still be read of them.

    Only tables are asked, by names that we have given: a view of somebody else's may have no end.

    Raises:
        sqlite3.OperationalError: It cannot be reached just now.
    """
    outbox: dict[str, list[bytes]] = {}
    if not os.access(path, os.R_OK):
        return outbox
    with _only_damage(), closing(schema.connect(path, writable=False)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables >= {"collection", "log"}:
            return outbox
        for key, name, rows, flushed in db.execute("SELECT key, name, rows, flushed FROM collection").fetchall():
            if rows not in tables or not schema.is_row_table(rows):
                continue
            with _only_damage():
                for (line,) in db.execute(log.PENDING_LINES.format(rows=rows), (flushed, key)):
                    if isinstance(line, bytes) and isinstance(name, str):
                        outbox.setdefault(name, []).append(line)
    return outbox


@contextmanager
def _only_damage() -> Generator[None]:
    """Pass over what is damaged; of a file that cannot be reached, nobody knows what it has."""
    try:
        yield
    except sqlite3.Error as error:
        if is_trouble(error):
            raise


def outbox_of(index: Index) -> dict[str, list[bytes]]:
    """The pending lines of an index, by collection."""
    waiting = [index.collections[name] for name in index.waiting]
    return {one.name: [entry.raw for entry in log.pending(index.db, one)] for one in waiting}


def take_outbox(
    index: Index, directory: Directory, outbox: dict[str, list[bytes]], *, building: bool = True, settle: bool = True
) -> None:
    """Enter pending lines of another index into the outbox of *index*, unless their file has them.

    Args:
        index: In a transaction.
        directory: The store.
        outbox: The lines, oldest first, by collection. One whose name cannot be is passed over: its index was none.
        building: The index is new, so that nobody waits for its changes.
        settle: As for `Syncer.one`.
    """
    syncer = Syncer(index, directory, building=building)
    for name in sorted(outbox, key=lambda name: name != TYPES):
        if name != TYPES and not is_collection(name):
            continue
        collection = syncer.collection(name)
        entries: list[tuple[object, ...]] = []
        for raw in outbox[name]:
            line = decode_line(raw, ())
            if isinstance(line, Line) and line.instant is not None:
                ms, ns = divmod(line.instant, 1_000_000)
                kind = schema.DELETED if line.deleted else schema.UPDATED
                entries.append((index.take_seqs(1), collection.key, line.id, kind, schema.OWN, ms, ns, raw))
        index.db.executemany(
            "INSERT INTO log (seq, collection, id, kind, origin, ms, ns, line) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", entries
        )
        syncer.one(name, settle=settle, force=True)
    index.recount()


def bring_along(index: Index, directory: Directory, outbox: dict[str, list[bytes]], *, settle: bool) -> None:
    """Enter into the outbox of *index* what waits in another one, unless another handle has brought along the same."""
    index.catch_up()
    there = {name: set(raws) for name, raws in outbox_of(index).items()}
    missing = {name: [raw for raw in raws if raw not in there.get(name, ())] for name, raws in outbox.items()}
    with index.transaction(full=True):
        take_outbox(index, directory, missing, building=False, settle=settle)
