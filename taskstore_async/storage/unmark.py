"""Taking conflict markers out of a journal, once there is nothing left to choose between them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from zlib import crc32

from taskstore_async.core.conflicts import Markers, find_markers, without_markers
from taskstore_async.errors import FlushError
from taskstore_async.storage import replacing
from taskstore_async.storage.journal import NoJournalError, chunks, closed, open_to_append, open_to_read, stat_of
from taskstore_async.storage.transact import transaction

if TYPE_CHECKING:
    from collections.abc import Collection

    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.sessions import Session

__all__ = ["markers_of", "unmark"]


def markers_of(engine: Engine, name: str) -> Markers:
    """The conflict markers that stand in a collection's journal."""
    try:
        with open_to_read(engine.directory.journal(name)) as descriptor:
            return find_markers(b"" if descriptor is None else _read(descriptor))
    except NoJournalError:  # sync and check report it
        return find_markers(b"")


def unmark(engine: Engine, name: str, chosen: Collection[str] = (), *, dry_run: bool = False) -> list[bytes]:
    """Take out the markers of a collection's journal between which nothing is left to choose.

    Every line of a record stays, in an order that folds to the same. The markers, and the base part of a diff3 block,
    go to ``quarantine/``.

    Args:
        engine: The store.
        name: The collection.
        chosen: The ids of the records of which a person has chosen a version.
        dry_run: Only tell.

    Returns:
        The lines that were taken out.

    Raises:
        CollectionClosedError: No line of the file is a record.
        FlushError: The file could not be written, or somebody else kept replacing it.
    """
    engine.sync()

    def work() -> list[bytes]:
        with engine.session() as session:
            return _unmark(engine, session, name, chosen, dry_run=dry_run)

    return engine.mending(work)


def _unmark(engine: Engine, session: Session, name: str, chosen: Collection[str], *, dry_run: bool) -> list[bytes]:
    path = engine.directory.journal(name)
    collection = session.index.collections.get(name)
    if collection is None or stat_of(path) is None:
        return []
    if collection.closed:  # without its markers the file would be an empty one, and its rows would go
        raise closed(name, path)
    kept: list[bytes] = []
    try:
        if dry_run:
            with open_to_read(path) as found:
                return [] if found is None else without_markers(_read(found), chosen)[1]
        replacing.clear_temporaries(path)
        for _ in range(replacing.TRIES):
            with open_to_append(path, create=False) as old:
                data = _read(old)
                made, taken = without_markers(data, chosen)
                if made == data:
                    return []
                if taken != kept:
                    kept = taken
                    replacing.quarantine(engine.directory, name, kept)
                if replacing.replace(path, old, [made], size=len(data), crc=crc32(data)) is None:
                    continue
            with transaction(engine, session, full=False):
                session.syncer.one(name, force=True)
            return taken
    except OSError as error:
        raise FlushError(str(path), error.strerror or str(error), pending=0) from error
    raise FlushError(str(path), "it keeps being replaced while its markers are taken out", pending=0)


def _read(descriptor: int) -> bytes:
    return b"".join(chunks(descriptor, 0, os.fstat(descriptor).st_size))
