"""What a long-lived handle does now and then: notice files that moved, and write down what its flushes have marked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.declaration import TYPES
from taskstore_async.storage import journal
from taskstore_async.storage.sync import moved
from taskstore_async.storage.transact import transaction

if TYPE_CHECKING:
    from taskstore_async.storage.catalogue import Collection
    from taskstore_async.storage.directory import Directory
    from taskstore_async.storage.engine import Engine

__all__ = ["Poller"]

SECOND_LOOK_S: Final = 0.2


class _Suspect(msgspec.Struct, frozen=True):
    """A file that looks as if git or an editor were in the middle of replacing it."""

    looks: tuple[int, ...] | None
    since_s: float


class Poller:
    """Looks at the files for one engine.

    Git is not atomic: that a file vanished, shrank or ends in a torn line is believed when a second look, 200 ms
    later, says the same.
    """

    def __init__(self) -> None:
        self._suspects: dict[str, _Suspect] = {}

    def __call__(self, engine: Engine) -> bool:
        """Import what moved.

        Returns:
            Whether a second look is wanted soon.

        Raises:
            TaskStoreError: As for `Engine.session`.
        """
        if engine.index_path is None:
            return False  # an index in memory is of the moment in which it was made
        if engine.connections.let_go_of_given_up():
            return True
        names, _ = engine.read(lambda reader: moved(reader.collections, engine.directory))
        believed = self._believed(engine, names)
        if believed or engine.has_marks or engine.connections.saved:
            engine.mending(lambda: self._import(engine, names, believed))
        return bool(self._suspects)

    def _import(self, engine: Engine, names: list[str], believed: list[str]) -> None:
        with engine.session() as session:
            if believed:
                waiting = set(names) - set(believed)
                with transaction(engine, session, full=False):
                    session.syncer.all(except_for=waiting)
                engine.expect_flush(session)

    def _believed(self, engine: Engine, names: list[str]) -> list[str]:
        now_s = time.monotonic()
        collections = engine.read(lambda reader: reader.collections)
        self._suspects = {name: suspect for name, suspect in self._suspects.items() if name in names}
        believed: list[str] = []
        for name in names:
            collection = collections.get(name)
            if collection is None or not _is_suspect(collection, engine.directory):
                self._suspects.pop(name, None)
                believed.append(name)
                continue
            looks = _looks(engine.directory, name)
            before = self._suspects.get(name)
            if before is None or before.looks != looks:
                self._suspects[name] = _Suspect(looks, now_s)
            elif now_s - before.since_s >= SECOND_LOOK_S:
                del self._suspects[name]
                believed.append(name)
        return believed


def _looks(directory: Directory, name: str) -> tuple[int, ...] | None:
    status = journal.stat_of(directory.journal(name))
    return None if status is None else journal.identity_of(status)


def _is_suspect(collection: Collection, directory: Directory) -> bool:
    """Whether the file vanished, shrank, or ends in a line that is not whole."""
    record = collection.record
    if record is None or (collection.name == TYPES and record.size == 0):
        return False
    path = directory.journal(collection.name)
    status = journal.stat_of(path)
    if status is None or status.st_size < record.size:
        return record.size > 0
    try:
        with journal.open_to_read(path) as descriptor:
            return descriptor is None or journal.last_byte(descriptor) not in {b"", b"\n"}
    except journal.NoJournalError:
        return False
