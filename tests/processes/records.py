"""What the processes of these tests store."""

from __future__ import annotations

from typing import Annotated, ClassVar

from taskstore_async import Indexed, Record


class Note(Record):
    """A record that says which write it is: *n* is never used twice in a test."""

    collection: ClassVar[str] = "notes"

    n: int
    by: Annotated[str, Indexed] = ""
    text: str = ""


class Mark(Record):
    """The same, in a journal of its own."""

    collection: ClassVar[str] = "marks"

    n: int


class Job(Record):
    """Something to claim."""

    collection: ClassVar[str] = "jobs"

    status: Annotated[str, Indexed] = "pending"
    by: str = ""
