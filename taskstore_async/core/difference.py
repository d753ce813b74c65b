"""What changed: between two versions of a record, field by field, and between two states of a collection."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from taskstore_async.core.codec import same_value
from taskstore_async.core.fold import fold
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge_stamp import STAMP
from taskstore_async.core.merge_values import fields_of
from taskstore_async.core.names import MAX_NESTING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FieldChange", "Kind", "RecordChange", "State", "compare", "field_changes", "state_of"]

State: TypeAlias = Mapping[str, bytes]
"""The live records of a collection: lines by id."""

_NOT_COMPARED: Final = frozenset({"id", STAMP})


class Kind(StrEnum):
    """What happened to a record."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


class FieldChange(msgspec.Struct, frozen=True):
    """A value that is another now.

    Attributes:
        field: Where it stands in the record: ``status``, ``meta.owner``.
        before: What it was, as JSON; ``msgspec.UNSET`` when it was not there.
        after: What it is; ``msgspec.UNSET`` when it is not there any more.
    """

    field: str
    before: msgspec.Raw | UnsetType = UNSET
    after: msgspec.Raw | UnsetType = UNSET


class RecordChange(msgspec.Struct, frozen=True):
    """A record that is another now.

    Attributes:
        id: The record's id.
        kind: What happened to it.
        fields: What changed in it, of one that was updated; the values that came or went, of any other.
    """

    id: str
    kind: Kind
    fields: tuple[FieldChange, ...]


def field_changes(before: bytes | None, after: bytes | None) -> tuple[FieldChange, ...]:
    """The values in which two lines of a record differ, in the order of the later line.

    Objects are compared field by field, everything else as a whole. The id and the stamp are no part of it.

    Args:
        before: The one; None when there was no record.
        after: The other; None when there is none any more.
    """
    old, new = ({} if line is None else fields_of(line) for line in (before, after))
    return tuple(_changes(*(_compared(fields) for fields in (old, new)), path="", depth=0))


def compare(before: State, after: State) -> list[RecordChange]:
    """The records in which two states of a collection differ, by id. A new stamp alone is no difference."""
    changes: list[RecordChange] = []
    for record_id in sorted(before.keys() | after.keys()):
        old, new = before.get(record_id), after.get(record_id)
        if old == new:
            continue
        fields = field_changes(old, new)
        if old is None or new is None or fields:
            kind = Kind.CREATED if old is None else Kind.DELETED if new is None else Kind.UPDATED
            changes.append(RecordChange(record_id, kind, fields))
    return changes


def state_of(data: bytes) -> dict[str, bytes]:
    """The live records of a file."""
    return {record_id: one.line.raw for record_id, one in fold(decode_lines(data)).items() if not one.line.deleted}


def _compared(fields: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in fields.items() if name not in _NOT_COMPARED}


def _changes(
    before: Mapping[str, bytes], after: Mapping[str, bytes], *, path: str, depth: int
) -> Iterator[FieldChange]:
    for name in dict.fromkeys((*after, *before)):
        where = f"{path}.{name}" if path else name
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            yield FieldChange(where, _raw(old), _raw(new))
        elif old.startswith(b"{") and new.startswith(b"{") and depth < MAX_NESTING:
            yield from _changes(fields_of(old), fields_of(new), path=where, depth=depth + 1)
        elif not same_value(old, new):
            yield FieldChange(where, _raw(old), _raw(new))


def _raw(value: bytes | None) -> msgspec.Raw | UnsetType:
    return UNSET if value is None else msgspec.Raw(value)
