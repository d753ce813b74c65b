"""What type checkers must say about records; ``mypy --strict`` and pyright read this file, nothing runs it.

Every ``type: ignore`` is an assertion: mypy warns when the line has no such error.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, assert_type

from taskstore_async.core.record import (
    AnyRecord,
    Document,
    Indexed,
    Record,
    RecordT,
    References,
    Unique,
    first_of,
    present,
)


class Status(StrEnum):
    DRAFT = "draft"
    ACTIVE = "active"


class Plan(Record):
    collection: ClassVar[str] = "plans"

    title: str
    status: Annotated[Status, Indexed] = Status.DRAFT
    slug: Annotated[str | None, Unique] = None
    parent_id: Annotated[str | None, Indexed, References("plans", on_delete="cascade")] = None
    acknowledged_at: int | None = None

    indexed: ClassVar = (
        present("acknowledged", "acknowledged_at"),
        first_of("seen_at", "acknowledged_at", "created_at"),
    )


class Run(Record, kw_only=True):
    collection: ClassVar[str] = "runs"
    local: ClassVar[bool] = True

    plan_id: Annotated[str, References("plans")]


plan = Plan(id="plan-1", title="Ship it", slug="ship-it")
assert_type(plan.slug, str | None)
assert_type(plan.status, Status)
assert_type(plan.created_at, int | None)
assert_type(plan.evolve(title="Ship it now"), Plan)

Plan(title="Positional fields stay positional", id="plan-2")
Plan("Like this", id="plan-3")
Run(id="run-1", plan_id="plan-1", created_at=1, updated_at=2)

Plan(title="No id")  # type: ignore[call-arg]
Plan(id="plan-4")  # type: ignore[call-arg]
Plan(id="plan-5", title=5)  # type: ignore[arg-type]
plan.title = "Records are immutable"  # type: ignore[misc]
plan.updated_at = 1  # type: ignore[misc]
References("plans", on_delete="explode")  # type: ignore[arg-type]


def newest(records: list[RecordT]) -> RecordT:
    """Generic code sees what every record has."""
    return max(records, key=lambda record: (record.updated_at, record.id))


def name_of(record: AnyRecord) -> str:
    """So does code that takes either."""
    return f"{record.collection}/{record.id} {record.evolve().created_at}"


document = Document("plans", {"id": "plan-1", "title": "Ship it"})
assert_type(document["title"], object)
assert_type(document.evolve(title=None).without("title"), Document)
assert_type(newest([plan]), Plan)
assert_type(newest([document]), Document)
name_of(plan)
name_of(document)
document.id = "plan-2"  # type: ignore[misc]
