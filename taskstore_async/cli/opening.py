"""Opening the store that a command is about, with the record types that the person named."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, TypeGuard

from taskstore_async.cli.errors import UsageError, say
from taskstore_async.cli.progress import ticking
from taskstore_async.core.record import Record
from taskstore_async.core.schedule import SyncConfig
from taskstore_async.errors import NoStoreError
from taskstore_async.storage.directory import Directory
from taskstore_async.storage.engine import Engine
from taskstore_async.storage.reports import SyncReport
from taskstore_async.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from taskstore_async.cli.finding import Place

__all__ = ["is_record_type", "opened", "record_types", "require_store", "store_exists", "synced"]

DEADLINE_S = 10.0


@contextmanager
def opened(place: Place, *, create: bool, records: Sequence[type[Record]]) -> Generator[Store, None, None]:
    """The store at *place*, for a block at whose end everything is in the journal."""
    with ticking("reading the files"):  # all of them, in a fresh clone
        store = Store.open(place.path, records=records, create=create, lock_timeout_s=DEADLINE_S)
    with store:
        yield store
        for note in store.notes:
            say(f"note: {note}")


def store_exists(place: Place) -> bool:
    """Whether there is a store at *place*."""
    try:
        Directory.at(place.path, create=False)
    except NoStoreError:
        return False
    return True


def require_store(path: Path) -> None:
    """See that there is a store at *path*.

    Raises:
        NoStoreError: There is none.
    """
    try:
        Directory.at(path, create=False)
    except NoStoreError as error:
        raise NoStoreError(error.path, "name a store, such as tstore backup makes") from error


def record_types(module: str | None) -> list[type[Record]]:
    """The record types that *module*, or else the one that ``TSTORE_RECORDS`` names, has; none when neither is.

    Raises:
        UsageError: It cannot be imported, or has no record type.
    """
    name = module or os.environ.get("TSTORE_RECORDS")
    if not name:
        return []
    if "" not in sys.path:  # an installed program has its own directory there, not the person's
        sys.path.insert(0, "")
    try:
        loaded = import_module(name)
    except Exception as error:
        raise UsageError(
            f"the module {name} cannot be imported ({type(error).__name__}: {error}); --records takes a module's "
            f"dotted name, looked for in the working directory and among what is installed"
        ) from error
    found = [one for one in vars(loaded).values() if is_record_type(one)]
    if not found:
        raise UsageError(f"the module {name} has no record type; it must define subclasses of Record with a collection")
    return found


def is_record_type(value: object) -> TypeGuard[type[Record]]:
    """Whether *value* is a type of records that has a collection."""
    return isinstance(value, type) and issubclass(value, Record) and isinstance(getattr(value, "collection", None), str)


def synced(place: Place, *, check: bool, rebuild: bool) -> SyncReport:
    """Sync the store at *place*, without having opened it: that would have synced it already.

    Args:
        place: Where.
        check: Only tell; nothing is changed.
        rebuild: Read every file anew, whatever is known of it.
    """
    directory = Directory.at(place.path, create=False)
    if check and not directory.index.exists():
        return SyncReport(stale=True, notes=("there is no index yet; tstore sync makes one",))
    engine = Engine(directory, config=SyncConfig(), deadline_s=DEADLINE_S, look=False)
    try:
        report = engine.sync(check=check, rebuild=rebuild)
        if not check:
            engine.close()
        return report
    finally:
        engine.abandon()
