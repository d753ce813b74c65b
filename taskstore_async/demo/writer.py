"""A process that creates records and says which were acknowledged: ``python -m taskstore_async.demo.writer``."""

from __future__ import annotations

import sys

from taskstore_async.core.record import Document
from taskstore_async.storage.store import Store


def write(path: str, name: str, count: int) -> None:
    """Create *count* events at *path* as *name*, and print the id of each one that is acknowledged."""
    with Store.open(path) as store:
        for number in range(count):
            event = store.create(Document("events", {"id": f"{name}-{number}", "by": name, "number": number}))
            print(event.id, flush=True)  # noqa: T201 - reason: the line is the acknowledgement


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
