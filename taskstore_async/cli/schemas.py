"""What each command prints with ``--json``, as types; their JSON Schemas are generated from these.

The types are those of the reports that the commands print. Where a command adds to one, or prints less than a report,
the addition is a type of its own here.
"""

# ruff: noqa: TC001 - reason: msgspec reads every type at run time, to make its schema
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import msgspec

from taskstore_async.bench.debounce import Recommendation
from taskstore_async.bench.trial import Trial
from taskstore_async.bench.writes import WriteCost
from taskstore_async.core.change import Change
from taskstore_async.core.difference import FieldChange
from taskstore_async.core.exchange import ExchangeForm
from taskstore_async.core.merge_report import Report
from taskstore_async.core.sheet import Cells
from taskstore_async.demo.agents import Outcome
from taskstore_async.git.decisions import Conflicts
from taskstore_async.git.doctor import DoctorReport
from taskstore_async.git.history import LoggedVersion
from taskstore_async.git.installation import Installation
from taskstore_async.git.resolving import Foreseen, Resolved
from taskstore_async.records.runs import Run
from taskstore_async.storage.backup import BackupReport, RestoreReport
from taskstore_async.storage.description import Description, Explanation
from taskstore_async.storage.rehearsal import Doomed
from taskstore_async.storage.relations import Edge, Node
from taskstore_async.storage.reports import (
    CheckReport,
    CollectionInfo,
    CompactReport,
    FlushReport,
    ImportReport,
    StoreInfo,
    StoreStats,
    SyncReport,
)
from taskstore_async.tracker.reports import Cleaning, OverallStats, TaskHistory, TaskStats

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SHAPES", "schema_of"]

_ID: Final = {"id": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}
StoredRecord: TypeAlias = Annotated[
    dict[str, Any],
    msgspec.Meta(
        description="A record as it is stored; its other fields are its own.",
        extra_json_schema={"required": ["id"], "properties": _ID, "additionalProperties": True},
    ),
]
Fields: TypeAlias = Annotated[
    dict[str, Any],
    msgspec.Meta(description="The fields that were asked for.", extra_json_schema={"additionalProperties": True}),
]


class Made(msgspec.Struct, frozen=True):
    """What init did."""

    path: str
    created: bool


class Imported(ImportReport, frozen=True, kw_only=True):
    """What import took, all together, and by collection."""

    format: ExchangeForm
    columns: dict[str, Cells]
    collections: dict[str, ImportReport]


class ImportedFile(Imported, frozen=True, kw_only=True):
    """What import took of one file of several."""

    file: str


class ImportedFiles(ImportReport, frozen=True, kw_only=True):
    """What import took of several files, all together, and file by file."""

    files: list[ImportedFile]


class Written(msgspec.Struct, frozen=True):
    """The file that an export went to."""

    path: str
    bytes: int


class Deleted(msgspec.Struct, frozen=True):
    """What was deleted, without what went with it."""

    collection: str
    deleted: list[str]


class Info(StoreInfo, frozen=True, kw_only=True):
    """A store, and why it is this one."""

    found: str


class Stats(msgspec.Struct, frozen=True):
    """The store, and its runs."""

    store: StoreStats
    runs: OverallStats | None


class StatsOfTask(msgspec.Struct, frozen=True):
    """The store, and the executions of one task."""

    store: StoreStats
    runs: TaskStats


class Difference(msgspec.Struct, frozen=True):
    """A record that differs between two states."""

    collection: str
    id: str
    kind: str
    fields: list[FieldChange]


class Indexes(msgspec.Struct, frozen=True):
    """What a collection declares."""

    collection: str
    fields: dict[str, Fields]
    local: bool


class Described(Description, frozen=True, kw_only=True):
    """What is known of a record, and its long text."""

    content: str | None


class Drawn(msgspec.Struct, frozen=True):
    """Which records name which."""

    nodes: list[Node]
    edges: list[Edge]
    cycles: list[list[str]]


class Demonstrated(Outcome, frozen=True, kw_only=True):
    """What the demo did, and where."""

    path: str


class Benched(msgspec.Struct, frozen=True):
    """What the trials of bench debounce measured, and what to take."""

    trials: list[Trial]
    recommendation: Recommendation


class Failure(msgspec.Struct, frozen=True):
    """What went wrong."""

    code: str
    message: str
    exit_code: int
    details: Fields


class Failed(msgspec.Struct, frozen=True):
    """The last line of stderr of a command that failed with --json."""

    error: Failure


_RECORDS: Final = (list[StoredRecord],)
_DOCUMENT: Final = (Written, dict[str, list[StoredRecord]])

SHAPES: Final[Mapping[str, tuple[Any, ...]]] = {
    "error": (Failed,),
    "backup": (BackupReport,),
    "bench": (list[WriteCost], Benched),
    "check": (CheckReport,),
    "clean": (Cleaning,),
    "collections": (list[CollectionInfo],),
    "compact": (CompactReport,),
    "conflicts": (Conflicts,),
    "create": (StoredRecord,),
    "create-prd": (StoredRecord,),
    "create-task-spec": (StoredRecord,),
    "delete": (Deleted, list[Doomed]),
    "demo": (Demonstrated,),
    "describe": (Described,),
    "diff": (list[Difference],),
    "doctor": (DoctorReport,),
    "export": (*_DOCUMENT, list[StoredRecord]),
    "export-json": _DOCUMENT,
    "flush": (FlushReport,),
    "get": (StoredRecord,),
    "graph": (Drawn,),
    "history": (list[Run], TaskHistory),
    "import": (Imported, ImportedFiles),
    "indexes": (Indexes,),
    "info": (Info,),
    "init": (Made,),
    "install-hooks": (Installation,),
    "install-merge-driver": (Installation,),
    "list": (list[StoredRecord], list[Fields], Explanation),
    "list-executions": _RECORDS,
    "list-prds": _RECORDS,
    "list-task-specs": _RECORDS,
    "list-type": _RECORDS,
    "log": (list[LoggedVersion],),
    "merge": (Report,),
    "query": (list[Fields],),
    "resolve": (Resolved, Foreseen, list[Resolved], dict[str, int]),
    "restore": (RestoreReport,),
    "show": (StoredRecord,),
    "stats": (Stats, StatsOfTask),
    "sync": (SyncReport,),
    "uninstall-hooks": (Installation,),
    "update": (StoredRecord,),
    "watch": (Change[StoredRecord],),
}
"""What each command prints, by its name; one of several, where that depends on its options."""


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what a command prints.

    Raises:
        KeyError: It prints none.
    """
    schemas, components = msgspec.json.schema_components(SHAPES[name], ref_template="#/$defs/{name}")
    schema: dict[str, Any] = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
    if components:
        schema["$defs"] = components
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
