"""Records: values with an id that stand in a collection.

A `Record` is typed: subclass it. A `Document` is a record of a collection whose type is not at hand. Both are
immutable and have ``collection``, ``id``, ``created_at``, ``updated_at`` and ``evolve``, so that generic code can
take an `AnyRecord`.
"""

from __future__ import annotations

import types
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
)

import msgspec
from msgspec import inspect as kinds

from taskstore_async.core.declaration import (
    ON_DELETE,
    Declaration,
    FieldDeclaration,
    check_declared,
    check_field_count,
)
from taskstore_async.core.document import Beside, Document, carry_crc, crc_of, keep_crc
from taskstore_async.core.names import check_collection
from taskstore_async.core.shape import members, shape_of
from taskstore_async.errors import InvalidNameError, InvalidRecordTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "AnyRecord",
    "Computed",
    "Document",
    "Indexed",
    "Record",
    "RecordMeta",
    "RecordT",
    "References",
    "Registry",
    "Unique",
    "crc_of",
    "declaration_of",
    "first_of",
    "keep_crc",
    "present",
]


class Indexed:
    """Marks a field whose filters and orders use an index: ``Annotated[str, Indexed]``."""


class Unique:
    """Marks a field in which no two live records have the same value; null never collides."""


class References(msgspec.Struct, frozen=True):
    """Marks a field that holds the id of a live record, or null.

    Args:
        target: The collection that the id is of; may be the record's own.
        on_delete: What deleting the target does: ``restrict`` refuses it, ``cascade`` deletes this record too,
            ``set_null`` sets this field to null.
    """

    target: str
    on_delete: Literal["restrict", "cascade", "set_null"] = "restrict"


class Computed(msgspec.Struct, frozen=True):
    """A field that is made from others: it can be filtered by, and stands in no line."""

    name: str
    field: FieldDeclaration


def present(name: str, source: str) -> Computed:
    """Declare *name* as 1 when the field *source* is there and not null, else 0."""
    return Computed(name, FieldDeclaration(present=source))


def first_of(name: str, source: str, *more: str) -> Computed:
    """Declare *name* as the first of the fields *source* and *more* that is there and not null, else null."""
    return Computed(name, FieldDeclaration(first_of=(source, *more)))


_Meta = TypeVar("_Meta", bound="RecordMeta")


class RecordMeta(msgspec.StructMeta):
    """Makes every record type immutable, without ``frozen=True`` in each."""

    def __new__(  # noqa: PYI019 - reason: Self means nothing in a metaclass
        mcls: type[_Meta],
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        frozen: bool = True,
        **config: Any,  # noqa: ANN401 - reason: msgspec checks what it takes
    ) -> _Meta:
        """Make a record type; takes what ``msgspec.Struct`` takes, but for ``frozen=False``.

        Raises:
            InvalidRecordTypeError: The type is to be mutable.
        """
        if not frozen:
            raise InvalidRecordTypeError(name, "records are immutable; leave out frozen=False and use evolve")
        return super().__new__(mcls, name, bases, namespace, frozen=True, **config)


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Record(Beside, msgspec.Struct, kw_only=True, frozen=True, metaclass=RecordMeta):
    """The base of typed records: subclass it, name the collection, add fields.

    Fields beyond JSON's own types are what ``msgspec`` knows (``datetime``, ``UUID``, ``Decimal``, enums, nested
    structs). A number in an untyped field (``Any``) that a float would round loads as ``decimal.Decimal``.

    Attributes:
        id: Not blank, at most 256 characters, no control characters.
        created_at: Milliseconds since the epoch (UTC). The store sets it when a record is new and has none.
        updated_at: The version: milliseconds since the epoch (UTC), always set by the store. 0: never stored.
    """

    collection: ClassVar[str]
    """Where records of this type stand: ``[a-z][a-z0-9_-]{0,63}``."""

    local: ClassVar[bool] = False
    """Keep the collection's journal out of git."""

    indexed: ClassVar[tuple[Computed, ...]] = ()
    """Computed fields: `present`, `first_of`."""

    id: str
    created_at: int | None = None
    updated_at: int = 0

    def __pre_write__(self) -> None:
        """Refuse a value that must not be written, by raising ``ValueError``; override it to set limits.

        Asked by every write of the record as a whole, never when it is read: what a file holds all the same, from a
        merge or another program, stays readable. (``__post_init__`` and ``msgspec.Meta`` bind reading too.)
        """

    def evolve(self, **changes: Any) -> Self:  # noqa: ANN401 - reason: the fields have any types; the struct checks
        """A copy with *changes*; it stays the version it was read as, so ``update`` can tell whether that is stale.

        Raises:
            TypeError: A name is no field of the type.
        """
        evolved = msgspec.structs.replace(self, **changes)
        carry_crc(self, evolved)
        return evolved


AnyRecord: TypeAlias = Record | Document
"""What every call that takes a record takes."""

RecordT = TypeVar("RecordT", bound=AnyRecord)

_BASE: Final = {
    "id": {kinds.StrType},
    "created_at": {kinds.IntType, kinds.NoneType},
    "updated_at": {kinds.IntType},
}
_INCOMPARABLE: Final = frozenset(
    {
        kinds.NoneType,
        kinds.ListType,
        kinds.SetType,
        kinds.FrozenSetType,
        kinds.VarTupleType,
        kinds.TupleType,
        kinds.DictType,
        kinds.StructType,
        kinds.DataclassType,
        kinds.TypedDictType,
        kinds.NamedTupleType,
    }
)
_SETTINGS: Final = {"collection": str, "local": bool, "indexed": tuple}
_RESERVED: Final = frozenset({*_BASE, "deleted"})
_Kinds: TypeAlias = set[type[kinds.Type]]


@cache
def declaration_of(record_type: type[Record]) -> Declaration:
    """What *record_type* declares about its collection and fields. Checked once per type.

    Raises:
        InvalidNameError: The collection or a marked or computed field has a name that cannot be.
        InvalidRecordTypeError: The type has no collection, changes the base's fields, has a field called ``deleted``,
            or marks a field in a way that cannot mean anything.
        LimitExceededError: More than 64 fields are indexed.
    """
    name = record_type.__name__
    for setting, wanted in _SETTINGS.items():
        if not isinstance(getattr(record_type, setting, None), wanted):
            reason = f"{setting} is no field, but a setting: {setting}: ClassVar[{wanted.__name__}] = ..."
            raise InvalidRecordTypeError(name, reason)
    collection = check_collection(record_type.collection)
    shape_of(record_type)
    found = _checked_kinds(record_type)
    fields: dict[str, FieldDeclaration] = {}
    taken: set[str] = set()
    for field in msgspec.structs.fields(record_type):
        taken.add(field.encode_name)
        markers = list(_markers(name, field.name, field.type))
        if markers:
            declared = _field_declaration(name, field.name, markers, found[field.name])
            fields[field.encode_name] = check_declared(field.encode_name, declared)
    for computed in cast("tuple[object, ...]", record_type.indexed):  # somebody may have written anything there
        if not isinstance(computed, Computed):
            raise InvalidRecordTypeError(name, f"indexed holds present(...) and first_of(...), not {computed!r}")
        if computed.name in taken:
            raise InvalidNameError("computed field", computed.name, f"{name} has another field of this name")
        taken.add(computed.name)
        fields[computed.name] = check_declared(computed.name, computed.field)
    check_field_count(collection, len(fields))
    return Declaration(collection, fields, record_type.local)


class Registry:
    """Record types by collection.

    Raises:
        InvalidRecordTypeError: Two of *records* name the same collection; or as `declaration_of` says.
        InvalidNameError: As `declaration_of` says.
    """

    def __init__(self, records: Iterable[type[Record]] = ()) -> None:
        by_collection: dict[str, type[Record]] = {}
        for record_type in records:
            collection = declaration_of(record_type).collection
            other = by_collection.setdefault(collection, record_type)
            if other is not record_type:
                raise InvalidRecordTypeError(record_type.__name__, f"{other.__name__} has the collection {collection}")
        self.by_collection: Mapping[str, type[Record]] = types.MappingProxyType(by_collection)

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """What the types declare, in the order in which they were given."""
        return tuple(declaration_of(record_type) for record_type in self.by_collection.values())


def _checked_kinds(record_type: type[Record]) -> dict[str, _Kinds]:
    """Tell what each field may hold, by its name in Python, having checked those that every record has."""
    name = record_type.__name__
    root = kinds.type_info(record_type)
    assert isinstance(root, kinds.StructType)  # noqa: S101 - reason: what type_info returns for a struct
    if root.array_like:
        raise InvalidRecordTypeError(name, "a line is a JSON object; leave out array_like=True")
    if root.tag_field in _RESERVED:
        raise InvalidRecordTypeError(name, f"its tag field {root.tag_field} is every record's own; name another one")
    found = {field.name: {type(member) for member in members(field.type)} for field in root.fields}
    for field in root.fields:
        own = field.name in _BASE
        if own and (field.encode_name != field.name or found[field.name] != _BASE[field.name]):
            raise InvalidRecordTypeError(name, f"{field.name} is every record's own; neither rename nor retype it")
        if not own and field.encode_name in _RESERVED:
            raise InvalidRecordTypeError(name, f"{field.encode_name} is every record's own; rename {field.name}")
    return found


def _markers(record_type: str, field: str, hint: Any) -> Iterator[object]:  # noqa: ANN401 - reason: any annotation
    """Yield the markers of a field; they stand around its type, or around an alternative of a union."""
    hint = getattr(hint, "__value__", hint)  # the statement ``type X = ...``
    if get_origin(hint) is Annotated:
        for marker in hint.__metadata__:
            if marker is References:
                raise InvalidRecordTypeError(record_type, f'{field} refers to nothing; say References("collection")')
            if marker is Indexed or marker is Unique or isinstance(marker, Indexed | Unique | References):
                yield marker
        yield from _markers(record_type, field, hint.__origin__)
    elif get_origin(hint) in (Union, types.UnionType):
        for alternative in get_args(hint):
            yield from _markers(record_type, field, alternative)
    elif any(True for inner in get_args(hint) for _ in _markers(record_type, field, inner)):
        raise InvalidRecordTypeError(record_type, f"a marker inside the type of {field} means nothing; mark the field")


def _field_declaration(record_type: str, field: str, markers: list[object], found: _Kinds) -> FieldDeclaration:
    """Join the markers of one field, whose values are of the kinds *found*."""
    declared = FieldDeclaration(
        indexed=any(marker is Indexed or isinstance(marker, Indexed) for marker in markers),
        unique=any(marker is Unique or isinstance(marker, Unique) for marker in markers),
    )
    if declared.unique and not found - _INCOMPARABLE:
        raise InvalidRecordTypeError(record_type, f"{field} cannot be Unique: its values are equal to nothing")
    references = [marker for marker in markers if isinstance(marker, References)]
    if not references:
        return declared
    if len(references) > 1:
        raise InvalidRecordTypeError(record_type, f"{field} refers to two collections")
    (reference,) = references
    if reference.on_delete not in ON_DELETE:
        choices = ", ".join(ON_DELETE)
        raise InvalidRecordTypeError(record_type, f"{field} has on_delete={reference.on_delete!r}, none of {choices}")
    if found - {kinds.NoneType} != {kinds.StrType}:
        raise InvalidRecordTypeError(record_type, f"{field} holds ids of {reference.target}; make it str or str | None")
    if reference.on_delete == "set_null" and kinds.NoneType not in found:
        raise InvalidRecordTypeError(record_type, f"{field} is to be set to null; make it str | None")
    return msgspec.structs.replace(declared, references=reference.target, on_delete=reference.on_delete)
