"""Documents: records whose type is not at hand, and what is kept beside any record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Protocol, Self, cast

from taskstore_async.core.stamp import read_stamp, to_ms
from taskstore_async.errors import InvalidIdError

__all__ = ["Beside", "Document", "carry_crc", "crc_of", "keep_crc"]


class Beside:
    """What is kept beside a record: not encoded, no part of equality, unset until the record is read or stored."""

    __slots__ = ("_line_crc",)

    _line_crc: int


class _Slot(Protocol):
    def __set__(self, instance: object, value: int, /) -> None: ...


_CRC: Final = cast("_Slot", Beside.__dict__["_line_crc"])


def crc_of(record: Beside) -> int | None:
    """The CRC-32 of the line that *record* was decoded from; None when it was made, not read."""
    return getattr(record, "_line_crc", None)


def keep_crc(record: Beside, crc: int) -> None:
    """Keep beside *record* the CRC-32 of the line that it stands for."""
    _CRC.__set__(record, crc)


def carry_crc(old: Beside, new: Beside) -> None:
    """Keep beside *new* what is kept beside *old*, so that it counts as the same version."""
    crc = getattr(old, "_line_crc", None)
    if crc is not None:
        _CRC.__set__(new, crc)


class Document(Beside, Mapping[str, object]):
    """A record without a type: a read-only view of the fields as JSON has them.

    Writing a document replaces the whole record: a field that is not in it is gone. Numbers are exact: an integer
    of any size, and ``decimal.Decimal`` for what a float would round.

    Args:
        collection: Where it stands.
        fields: Its fields, ``id`` among them. Copied; lists and objects inside are not.

    Raises:
        InvalidIdError: *fields* has no ``id`` that is text.
    """

    __slots__ = ("_collection", "_fields", "_id")

    _collection: str
    _fields: Mapping[str, object]
    _id: str

    def __init__(self, collection: str, fields: Mapping[str, object]) -> None:
        record_id = fields.get("id")
        if not isinstance(record_id, str):
            raise InvalidIdError(f"a document needs an id that is text, got {record_id!r}", record_id)
        object.__setattr__(self, "_collection", collection)
        object.__setattr__(self, "_fields", MappingProxyType(dict(fields)))
        object.__setattr__(self, "_id", record_id)

    @property
    def collection(self) -> str:
        """Where the document stands."""
        return self._collection

    @property
    def fields(self) -> Mapping[str, object]:
        """The fields, decoded; read-only."""
        return self._fields

    @property
    def id(self) -> str:
        """The field ``id``."""
        return self._id

    @property
    def created_at(self) -> int | None:
        """Milliseconds since the epoch (UTC); None when the document has no readable one."""
        instant = read_stamp(self.fields.get("created_at"))
        return None if instant is None else to_ms(instant)

    @property
    def updated_at(self) -> int:
        """The version: milliseconds since the epoch (UTC); 0 when it was never stored."""
        instant = read_stamp(self.fields.get("updated_at"))
        return 0 if instant is None else to_ms(instant)

    def evolve(self, **changes: object) -> Self:
        """A copy with *changes*, of the same version. None sets null; see `without` for taking a field out."""
        return self._with({**self.fields, **changes})

    def without(self, *names: str) -> Self:
        """A copy that lacks the fields *names*, whether or not it had them."""
        return self._with({name: value for name, value in self.fields.items() if name not in names})

    def _with(self, fields: Mapping[str, object]) -> Self:
        changed = type(self)(self.collection, fields)
        carry_crc(self, changed)
        return changed

    def __getitem__(self, name: str, /) -> object:
        """Return the field *name*."""
        return self.fields[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the fields."""
        return iter(self.fields)

    def __len__(self) -> int:
        """Return how many fields there are."""
        return len(self.fields)

    def __eq__(self, other: object) -> bool:
        """Whether *other* is a document with the same collection and fields."""
        if not isinstance(other, Document):
            return NotImplemented
        return self.collection == other.collection and self.fields == other.fields

    def __hash__(self) -> int:
        """Hash what never changes about a record."""
        return hash((self.collection, self.id))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a document is immutable."""
        raise AttributeError(f"documents are immutable; use evolve({name}=...)")

    def __delattr__(self, name: str) -> None:
        """Refuse: a document is immutable."""
        raise AttributeError(f"documents are immutable; use without({name!r})")

    def __reduce__(self) -> tuple[type[Self], tuple[str, dict[str, object]]]:
        """Copy and pickle by value; what is kept beside the record stays behind."""
        return type(self), (self.collection, dict(self.fields))

    def __repr__(self) -> str:
        """Return the call that makes this document."""
        return f"Document({self.collection!r}, {dict(self.fields)!r})"
