"""The engine's face: typed records in, typed records out, blocking.

`taskstore_async.StateManager` has the same calls for coroutines.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from taskstore_async.core.record import Record, Registry
from taskstore_async.core.schedule import GRACE_MS, Durability, SyncConfig
from taskstore_async.storage import inspection
from taskstore_async.storage.declaring import declare
from taskstore_async.storage.directory import Directory
from taskstore_async.storage.engine import Engine
from taskstore_async.storage.writing import Lease, Writing

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence

    from taskstore_async.core.conflicts import Markers
    from taskstore_async.core.declaration import Declaration
    from taskstore_async.core.filters import Filter
    from taskstore_async.storage.backup import BackupReport, RestoreReport
    from taskstore_async.storage.description import Description, Explanation
    from taskstore_async.storage.importing import OnConflict
    from taskstore_async.storage.reports import (
        CheckReport,
        CompactReport,
        FlushReport,
        ImportReport,
        StoreInfo,
        StoreStats,
        SyncReport,
    )

__all__ = ["Lease", "Store"]


class Store(Writing):
    """A blocking handle on a store, for one thread at a time; `StateManager` is the one that coroutines await.

    Open it with `Store.open`. A collection is named by its record type, or by its name for untyped access, which
    gives `Document` records.
    """

    # -- life -----------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = ".",
        *,
        records: Iterable[type[Record]] = (),
        sync: SyncConfig | None = None,
        durability: Durability = Durability.INDEX,
        create: bool = True,
        lock_timeout_s: float = 10.0,
    ) -> Self:
        """Open the store at *path*, and bring its index up to date.

        Args:
            path: The directory that holds or will hold ``.taskstore/``, or a store directory itself.
            records: Types to declare now; others are declared at their first write.
            sync: When writes are exported to the journal: by the first call, a read too, that finds it due.
            durability: What acknowledged means, unless a call says otherwise.
            create: Make the store when there is none.
            lock_timeout_s: Seconds a call may wait for other processes.

        Raises:
            NoStoreError: There is none, and *create* is false.
            StoreVersionError: It has a newer format.
            StoreLockedError: Another process held the lock for too long.
            DeclarationConflictError: A type defines a field differently from the store.
            InvalidRecordTypeError, InvalidNameError: A type cannot be used.
        """
        registry = Registry(records)
        directory = Directory.at(path, create=create)
        engine = Engine(directory, config=sync or SyncConfig(), deadline_s=lock_timeout_s)
        store = cls(engine, durability=durability)
        try:
            declare(engine, registry, durability)
        except BaseException:
            engine.close()
            raise
        return store

    @classmethod
    @contextmanager
    def temporary(
        cls,
        *,
        records: Iterable[type[Record]] = (),
        sync: SyncConfig | None = None,
        durability: Durability = Durability.INDEX,
    ) -> Generator[Self]:
        """A store in a temporary directory that goes with it; for tests."""
        import tempfile  # noqa: PLC0415 - reason: most processes never need it, and each starts with this module

        with (
            tempfile.TemporaryDirectory(prefix="taskstore-") as folder,
            cls.open(folder, records=records, sync=sync, durability=durability) as store,
        ):
            yield store

    def close(self) -> None:
        """Flush and close. Closing again does nothing.

        Raises:
            FlushError, StoreBrokenError, CollectionClosedError: What waits could not be written; the handle is closed.
        """
        self._engine.close()

    def __enter__(self) -> Self:
        """Enter the block at whose end the store is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Flush and close."""
        self.close()

    @property
    def path(self) -> Path:
        """The store directory."""
        return self._engine.directory.path

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about how the store was opened."""
        return tuple(self._engine.notes)

    # -- files ----------------------------------------------------------------------------------------------

    def flush(self) -> FlushReport:
        """Write everything acknowledged before to the journal, fsynced."""
        return self._engine.flush()

    def sync(self, *, check: bool = False, rebuild: bool = False) -> SyncReport:
        """Import what moved in the files, then flush.

        Args:
            check: Only tell what would be done.
            rebuild: Read every file anew, whatever is known of it.
        """
        return self._engine.sync(check=check, rebuild=rebuild)

    def is_stale(self) -> bool:
        """Whether a file is not what the index knows."""
        return self._engine.is_stale()

    def rebuild_indexes(self, record_type: type[Record]) -> int:
        """Make the store's declaration exactly what *record_type* says, and fill its index anew.

        Returns:
            How many records can be read as the type; each of the first ten others is named in a warning.
        """
        return inspection.rebuild_indexes(self._engine, record_type)

    def compact(
        self, target: type[Record] | str | None = None, *, grace_ms: int = GRACE_MS, dry_run: bool = False
    ) -> CompactReport:
        """Leave only the latest line of each record in the journals, and tombstones younger than *grace_ms*.

        Lines that cannot be read are moved to ``quarantine/``. With *dry_run* it only tells. Of all journals, those
        that cannot be compacted now are left alone, and not in the report.

        Raises:
            CollectionClosedError: The journal of *target* is closed to writing.
            UnresolvedConflictError: It has versions of a record between conflict markers, with equal stamps, so that a
                person has to choose first.
            FlushError: A file could not be written, or somebody else kept replacing it.
        """
        from taskstore_async.storage.compact import compact  # noqa: PLC0415 - reason: as in temporary

        name = None if target is None else self._known(target)[0]
        return compact(self._engine, name, grace_ms=grace_ms, dry_run=dry_run)

    def markers(self, target: type[Record] | str) -> Markers:
        """The conflict markers that stand in a collection's journal, and what is contested between them."""
        from taskstore_async.storage.unmark import markers_of  # noqa: PLC0415 - reason: merges alone leave markers

        return markers_of(self._engine, self._known(target)[0])

    def unmark(self, target: type[Record] | str, chosen: Collection[str] = ()) -> int:
        """Take out the conflict markers of a journal between which nothing is left to choose; no record changes.

        Args:
            target: The collection.
            chosen: The ids of the records of which a version was chosen, and written.

        Returns:
            How many lines went to ``quarantine/``: the markers, and the base parts of diff3 blocks.

        Raises:
            CollectionClosedError: No line of the file is a record.
            FlushError: The file could not be written, or somebody else kept replacing it.
        """
        from taskstore_async.storage.unmark import unmark  # noqa: PLC0415 - reason: as above

        return len(unmark(self._engine, self._known(target)[0], chosen))

    def rehearse_unmark(self, target: type[Record] | str, chosen: Collection[str] = ()) -> list[bytes]:
        """The lines that `unmark` would take out of a journal; nothing is changed.

        Raises:
            CollectionClosedError: As for `unmark`.
        """
        from taskstore_async.storage.unmark import unmark  # noqa: PLC0415 - reason: as above

        return unmark(self._engine, self._known(target)[0], chosen, dry_run=True)

    def check(self) -> CheckReport:
        """Prove that the index is what the journals and the outbox say, and report whatever else is wrong."""
        from taskstore_async.storage.check import check  # noqa: PLC0415 - reason: as in temporary

        return check(self._engine)

    def import_lines(
        self,
        collection: str,
        data: Iterable[bytes],
        *,
        source: str = "<import>",
        on_conflict: OnConflict = "fail",
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> ImportReport:
        """Take records from the lines of another JSONL file, keeping their bytes and stamps where that can be.

        Args:
            collection: Where they go.
            data: The file, in chunks of any size.
            source: What reports call it.
            on_conflict: What to do with a record that is stored with other content: ``fail`` (before anything is
                written), ``skip``, ``replace``, or ``newer`` (the higher stamp wins).
            dry_run: Do all of it and take it back, to tell what would be.
            progress: Called with how many records of how many are written.

        Raises:
            ImportConflictError: There are conflicts, and *on_conflict* is ``fail``.
        """
        return self.import_all(
            {collection: data}, source=source, on_conflict=on_conflict, dry_run=dry_run, progress=progress
        )[collection]

    def import_all(
        self,
        data: Mapping[str, Iterable[bytes]],
        *,
        source: str = "<import>",
        on_conflict: OnConflict = "fail",
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, ImportReport]:
        """The same for several collections, whose records may name each other; what was taken, by collection.

        Raises:
            ImportConflictError: As for `import_lines`; then nothing was written to any of them.
        """
        return self.import_files([(source, data)], on_conflict=on_conflict, dry_run=dry_run, progress=progress)[0]

    def import_files(
        self,
        files: Sequence[tuple[str, Mapping[str, Iterable[bytes]]]],
        *,
        on_conflict: OnConflict = "fail",
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, ImportReport]]:
        """The same for several files, whose records may name each other: of an id in several, the winner is taken.

        Args:
            files: What reports call each, and its lines by collection.
            on_conflict: As for `import_lines`; so are the others.
            dry_run: Do all of it and take it back.
            progress: Called with how many records of how many are written.

        Returns:
            What was taken of each file, by collection.

        Raises:
            ImportConflictError: As for `import_lines`; then nothing was written of any file.
        """
        from taskstore_async.storage.importing import import_files  # noqa: PLC0415 - reason: as in temporary

        return import_files(self._engine, files, on_conflict=on_conflict, dry_run=dry_run, progress=progress)

    def backup(
        self,
        destination: str | os.PathLike[str],
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> BackupReport:
        """Copy the store to a new directory, which opens as a store: everything but what can be made anew.

        What waits is flushed first, and nobody writes meanwhile. The copy has its name only when it is whole.

        Args:
            destination: A directory that is not there, or is empty.
            dry_run: Only tell.
            progress: Called with how many files of how many are copied.

        Raises:
            DestinationError: Something is there, or it is in the store.
            WriteFailedError: It could not be written; nothing is left of it.
            TaskStoreError: As for `flush`.
        """
        from taskstore_async.storage.backup import back_up  # noqa: PLC0415 - reason: as in temporary

        return back_up(self._engine, Path(destination), dry_run=dry_run, progress=progress)

    def restore(self, source: str | os.PathLike[str], *, replace: bool = False, dry_run: bool = False) -> RestoreReport:
        """Make this store what the backup *source* is; its files are put in place one after the other.

        Args:
            source: A backup, or any other store.
            replace: Also when this one has records that the backup does not have, or has differently. Its files are
                kept in ``quarantine/``, from where they can be restored in their turn.
            dry_run: Only tell.

        Raises:
            DestinationError: It has such records, and *replace* is false.
            NoStoreError: *source* is no store.
            WriteFailedError: It could not be written.
            TaskStoreError: As for `flush`.
        """
        from taskstore_async.storage.backup import restore  # noqa: PLC0415 - reason: as in temporary

        return restore(self._engine, source, replace=replace, dry_run=dry_run)

    def stats(self) -> StoreStats:
        """Counts and sizes."""
        return inspection.stats(self._engine)

    def info(self) -> StoreInfo:
        """Where the store is and how it is kept."""
        return inspection.info(self._engine)

    def describe(self, target: type[Record] | str, record_id: str) -> Description:
        """What is known of a record beside its fields: versions, size, lease, who names it and whom it names.

        Raises:
            NotFoundError: There is none.
        """
        from taskstore_async.storage.description import describe  # noqa: PLC0415 - reason: as in temporary

        return describe(self._engine, self._known(target)[0], record_id)

    def explain(self, target: type[Record] | str, *filters: Filter, order_by: str | None = None) -> Explanation:
        """How `list` would find the records: by which index, and what is left to check one by one."""
        from taskstore_async.storage.description import explain  # noqa: PLC0415 - reason: as in temporary

        return explain(self._engine, self._known(target)[0], *filters, order_by=order_by)

    def declaration(self, target: type[Record] | str) -> Declaration:
        """What the store has declared about a collection."""
        return self._engine.declaration(self._known(target)[0])
