"""The engine goes through what the simulator's schedules say from without, and is judged by the simulator's oracle."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings

from taskstore_async.core.record import Document
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.errors import NotFoundError, TaskStoreError
from taskstore_async.storage.store import Store
from tests.storage.simulator_disk import Version, read_line, versions_of
from tests.storage.simulator_schedule import A, Command, outside, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.storage import simulator_oracle
    from tests.storage.simulator_schedule import Schedule

NAME = "plans"
EXAMPLES = settings().max_examples * 3 // 2  #: a schedule costs 30 milliseconds


class RealFile:
    """A file of the disk in the hands of the simulator's editor."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def looks(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns

    def read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def overwrite(self, data: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.ftruncate(descriptor, len(data))
            os.pwrite(descriptor, data, 0)
        finally:
            os.close(descriptor)

    def replace(self, data: bytes) -> None:
        self.path.unlink(missing_ok=True)  # as git does, and ext4 gives the same inode number again
        self.path.write_bytes(data)

    def unlink(self) -> None:
        self.path.unlink(missing_ok=True)


class StoreSubject:
    """Two handles on a store in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stores: dict[int, Store] = {}
        self._store(A)
        self.file = RealFile(folder / ".taskstore" / f"{NAME}.jsonl")

    def _store(self, handle: int) -> Store:
        if handle not in self._stores:
            self._stores[handle] = Store.open(self._folder, sync=SyncConfig(auto_export=False))
        return self._stores[handle]

    def put(
        self, handle: int, record_id: str, *, value: int, durability: simulator_oracle.Durability
    ) -> Version | None:
        store = self._store(handle)
        try:
            stored = store.put(Document(NAME, {"id": record_id, "v": value}), durability=Durability(durability))
        except TaskStoreError:
            return None
        assert stored["v"] == value
        return Version(record_id, stored.updated_at, value)

    def delete(self, handle: int, record_id: str, *, durability: simulator_oracle.Durability) -> Version | None:
        store = self._store(handle)
        try:
            store.delete(NAME, record_id, durability=Durability(durability))
        except NotFoundError:
            raise
        except TaskStoreError:
            return None
        (raw,) = store._engine.read(
            lambda reader: reader.db.execute(
                f"SELECT line FROM {reader.collections[NAME].rows} WHERE id = ?", (record_id,)
            ).fetchone()
        )
        written = [read_line(raw), *reversed(versions_of(self.file.read() or b""))]  # a later version may have met it
        return next(one for one in written if one is not None and (one.id, one.value) == (record_id, None))

    def flush(self, handle: int) -> bool:
        return self._done(self._store(handle).flush)

    def sync(self, handle: int) -> bool:
        return self._done(self._store(handle).sync)

    def _done(self, call: Callable[[], object]) -> bool:
        try:
            call()
        except TaskStoreError:
            return False
        return True

    def drop(self, handle: int) -> None:
        store = self._stores.pop(handle, None)
        if store is not None:
            store._engine.abandon()

    def delete_index(self) -> None:
        for path in self._folder.glob(".taskstore/store.db*"):
            path.unlink()

    def advance(self, ms: int) -> None:
        """The clock is the machine's own."""

    def rows(self, handle: int) -> dict[str, Version]:
        found = [read_line(line.raw) for line in self._store(handle).lines(NAME)]
        return {version.id: version for version in found if version is not None}

    def close(self) -> None:
        for handle in list(self._stores):
            self.drop(handle)


def broken_by(schedule: Schedule) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        subject = StoreSubject(Path(name))
        try:
            return run(subject, schedule)
        finally:
            subject.close()


class TestEngineKeepsThePromisesOfTheModel:
    """Nothing acknowledged is lost, nothing is made up, and the index is the fold: whatever is done from without."""

    @given(schedule=outside())
    @settings(max_examples=EXAMPLES)
    def test_in_any_schedule(self, schedule: list[Command]) -> None:
        assert broken_by(schedule) == []
