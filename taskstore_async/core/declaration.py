"""What a collection's fields are declared to be, as data.

A declaration stands in ``_types.jsonl``, a line per collection, so that a clone and the command line have the
same filters, uniqueness and cascades without the Python types at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, TypeAlias, TypeVar, cast

import msgspec

from taskstore_async.core.comparable import COMPARABLE, comparable, field_comparable
from taskstore_async.core.names import MAX_INDEXED_FIELDS, check_collection, check_field
from taskstore_async.errors import (
    DeclarationConflictError,
    InvalidNameError,
    InvalidRecordError,
    LimitExceededError,
)

__all__ = ["ON_DELETE", "TYPES", "Declaration", "FieldDeclaration", "check_declared", "check_field_count"]

TYPES: Final = "_types"
"""The journal of the declarations themselves: no collection name, so that nobody's records stand there."""

ON_DELETE: Final = ("restrict", "cascade", "set_null")
"""What deleting a record does to those that refer to it."""

_BASE: Final = frozenset({"id", "updated_at", "deleted"})
_STAMPS: Final = frozenset({"created_at"})
_KINDS: Final[dict[str, type]] = {
    "indexed": bool,
    "unique": bool,
    "references": str,
    "on_delete": str,
    "present": str,
    "first_of": list,
}
_T = TypeVar("_T")
_Read: TypeAlias = Callable[[Sequence[object]], COMPARABLE]


class FieldDeclaration(msgspec.Struct, frozen=True):
    """What one field is declared to be; every declared field has a column in the index.

    Attributes:
        indexed: Filters on the field use an index. Implied by everything below, without being set.
        unique: No two live records have the same value; null never collides.
        references: The collection whose record ids the field holds.
        on_delete: One of `ON_DELETE`; means something only with *references*.
        present: A computed field: 1 when the named field is there and not null, else 0.
        first_of: A computed field: the first of the named fields that is there and not null.
    """

    indexed: bool = False
    unique: bool = False
    references: str | None = None
    on_delete: str = "restrict"
    present: str | None = None
    first_of: tuple[str, ...] | None = None

    @property
    def computed(self) -> bool:
        """Whether the value is made from other fields and stands in no line."""
        return self.present is not None or self.first_of is not None

    def sources(self, name: str) -> tuple[str, ...]:
        """The fields of a line that the value of this field, called *name*, is made from."""
        if self.present is not None:
            return (self.present,)
        return (name,) if self.first_of is None else self.first_of

    def to_object(self) -> dict[str, object]:
        """The JSON object that stands in ``_types.jsonl``: only what is set, in one order."""
        if self.present is not None:
            return {"present": self.present}
        if self.first_of is not None:
            return {"first_of": list(self.first_of)}
        made: dict[str, object] = {}
        if self.indexed:
            made["indexed"] = True
        if self.unique:
            made["unique"] = True
        if self.references is not None:
            made["references"] = self.references
            made["on_delete"] = self.on_delete
        return made

    def adopt(self, wanted: FieldDeclaration) -> FieldDeclaration | None:
        """This and *wanted* together, or None when they contradict each other."""
        if self.computed or wanted.computed:
            return self if self == wanted else None
        if None not in {self.references, wanted.references} and (self.references, self.on_delete) != (
            wanted.references,
            wanted.on_delete,
        ):
            return None
        reference = self if self.references is not None else wanted
        return FieldDeclaration(
            indexed=self.indexed or wanted.indexed,
            unique=self.unique or wanted.unique,
            references=reference.references,
            on_delete=reference.on_delete,
        )

    def __str__(self) -> str:
        """Return the object as JSON, for messages."""
        return msgspec.json.encode(self.to_object()).decode()


class Declaration(msgspec.Struct, frozen=True, dict=True):
    """What a collection's fields are declared to be. Nothing, for a collection that nobody declared.

    Attributes:
        collection: The collection's name.
        fields: Declared fields by name, in the order in which they were declared.
        local: The journal stays out of git.
    """

    collection: str
    fields: dict[str, FieldDeclaration] = {}
    local: bool = False

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the fields that have a column in the index: all of them."""
        return tuple(self.fields)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The distinct fields that must be read from a line to fill the columns."""
        return tuple(dict.fromkeys(source for name, field in self.fields.items() for source in field.sources(name)))

    @cached_property
    def unique_fields(self) -> tuple[str, ...]:
        """The names of the fields in which no two live records may have the same value."""
        return tuple(name for name, field in self.fields.items() if field.unique)

    @cached_property
    def references(self) -> dict[str, FieldDeclaration]:
        """The fields that hold ids of other records."""
        return {name: field for name, field in self.fields.items() if field.references is not None}

    def column_values(self, values: Sequence[object]) -> tuple[COMPARABLE, ...]:
        """What a line's columns hold.

        Args:
            values: The decoded values of the line's `sources`, in that order; ``msgspec.UNSET`` where one is absent.

        Returns:
            A value per column, in the order of `columns`.
        """
        if self.plain:
            return tuple(map(comparable, values))
        return tuple([read(values) for read in self._readers])

    @cached_property
    def plain(self) -> bool:
        """Whether every column has the value of its own field, as `comparable` says."""
        return not any(field.computed or name in _STAMPS for name, field in self.fields.items())

    @cached_property
    def _readers(self) -> tuple[_Read, ...]:
        places = {source: place for place, source in enumerate(self.sources)}
        return tuple(_reader(name, field, places) for name, field in self.fields.items())

    def adopt(self, wanted: Declaration) -> Declaration:
        """This with everything that *wanted* adds; never less than this.

        Raises:
            DeclarationConflictError: *wanted* defines a field of this one differently. A further marker on a field
                is an addition, no difference.
            LimitExceededError: It would add fields beyond the 64 that may be indexed.
        """
        fields = dict(self.fields)
        for name, field in wanted.fields.items():
            stored = fields.get(name)
            joined = field if stored is None else stored.adopt(field)
            if joined is None:
                raise DeclarationConflictError(self.collection, name, stored=str(stored), wanted=str(field))
            fields[name] = joined
        if len(fields) > len(self.fields):
            check_field_count(self.collection, len(fields))
        joined_all = Declaration(self.collection, fields, self.local or wanted.local)
        return self if joined_all == self else joined_all

    def to_fields(self) -> dict[str, object]:
        """What the line in ``_types.jsonl`` says beside its id and stamp."""
        return {"fields": {name: field.to_object() for name, field in self.fields.items()}, "local": self.local}

    @classmethod
    def from_object(cls, collection: str, obj: Mapping[str, object]) -> Declaration:
        """The declaration that a line of ``_types.jsonl`` holds.

        Keys that this version does not know are passed over, and so is a field that has none it knows.

        Args:
            collection: The line's id.
            obj: The line, decoded.

        Raises:
            InvalidNameError: The collection, a field, a source or a referenced collection has a name that cannot be.
            InvalidRecordError: A value has a wrong type; ``path`` leads to it.
        """
        if collection != TYPES:
            check_collection(collection)
        subject = f"the declaration of {collection}"
        fields = _expect_object(subject, "$.fields", obj.get("fields", {}))
        local = _expect(subject, "$.local", obj.get("local", False), bool)
        read = {name: _read_field(subject, name, value) for name, value in fields.items()}
        return cls(collection, {name: field for name, field in read.items() if field is not None}, local)


def check_field_count(collection: str, count: int) -> None:
    """Refuse a declaration of more fields than a collection may have indexed.

    Raises:
        LimitExceededError: *count* is above 64.
    """
    if count > MAX_INDEXED_FIELDS:
        what = f"the declaration of {collection}"
        raise LimitExceededError(what, value=count, limit=MAX_INDEXED_FIELDS, unit="indexed fields")


def check_declared(name: str, field: FieldDeclaration) -> FieldDeclaration:
    """Return *field*, declared under *name*, when both can be.

    Raises:
        InvalidNameError: A name breaks the rules, or is one that a declaration may not use: ``id``, ``updated_at``
            and ``deleted`` are every record's own, filtered without being declared.
    """
    for used in (name, *field.sources(name)):
        check_field(used)
        if used in _BASE:
            raise InvalidNameError("declared field", used, "it is every record's own, and filters know it undeclared")
    if field.computed and name in _STAMPS:
        raise InvalidNameError("computed field", name, "it is every record's own")
    if field.references is not None:
        check_collection(field.references)
    return field


def _reader(name: str, field: FieldDeclaration, places: Mapping[str, int]) -> _Read:
    """Make the function that reads one column's value from the values of the sources."""
    if field.present is not None:
        place = places[field.present]
        return lambda values: 0 if values[place] is None or values[place] is msgspec.UNSET else 1
    if field.first_of is not None:
        steps = [(source, places[source]) for source in field.first_of]
        return lambda values: next(
            (
                field_comparable(source, values[at])
                for source, at in steps
                if values[at] is not None and values[at] is not msgspec.UNSET
            ),
            None,
        )
    place = places[name]
    if name in _STAMPS:
        return lambda values: field_comparable(name, values[place])
    return lambda values: comparable(values[place])


def _read_field(subject: str, name: str, value: object) -> FieldDeclaration | None:
    """Read one field of a declaration's line; None when it says nothing that this version knows."""
    path = f"$.fields.{name}"
    obj = _expect_object(subject, path, value)
    if (known := {key: obj[key] for key in obj if key in _KINDS}) == {}:
        return None
    for key, found in known.items():
        _expect(subject, f"{path}.{key}", found, _KINDS[key])
    if "first_of" in known:
        if not obj["first_of"]:
            raise InvalidRecordError(subject, f"{path}.first_of", "it names no field")
        sources = [_expect(subject, f"{path}.first_of[{at}]", source, str) for at, source in enumerate(obj["first_of"])]
        return check_declared(name, FieldDeclaration(first_of=tuple(sources)))
    if "present" in known:
        return check_declared(name, FieldDeclaration(present=obj["present"]))
    if "references" not in known:
        known.pop("on_delete", None)
    elif known.setdefault("on_delete", "restrict") not in ON_DELETE:
        reason = f"{known['on_delete']!r} is none of {', '.join(ON_DELETE)}"
        raise InvalidRecordError(subject, f"{path}.on_delete", reason)
    field = FieldDeclaration(**known)
    return None if field == FieldDeclaration() else check_declared(name, field)


def _expect_object(subject: str, path: str, value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", _expect(subject, path, value, dict))


def _expect(subject: str, path: str, value: object, wanted: type[_T]) -> _T:
    if type(value) is not wanted:
        raise InvalidRecordError(subject, path, f"expected {wanted.__name__}, got {type(value).__name__}")
    return value
