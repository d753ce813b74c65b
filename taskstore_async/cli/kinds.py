"""Which record types there are, and what a person may call them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.cli.errors import UsageError
from taskstore_async.errors import DeclarationConflictError, LimitExceededError, UnreadableRecordError
from taskstore_async.records import PACKS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from taskstore_async.cli.invocation import Invocation
    from taskstore_async.core.document import Document
    from taskstore_async.core.record import Record
    from taskstore_async.storage.store import Store

__all__ = ["ENTRY_POINTS", "Kind", "choices", "find_kind", "located", "say_if_unreadable"]

ENTRY_POINTS: Final = "taskstore_async.records"
"""The group in which an installed package names its modules of record types."""

_SHORT: Final = {"prd": "prds", "ts": "task_specs", "exec": "executions"}
_PACK_OF_SHORT: Final = PACKS[0]


class Kind(msgspec.Struct, frozen=True):
    """What is kept in one collection.

    Attributes:
        collection: Its name.
        record_type: Its type; None when only the store's own declaration is at hand.
    """

    collection: str
    record_type: type[Record] | None = None

    @property
    def target(self) -> type[Record] | str:
        """What the calls of a store take."""
        return self.record_type or self.collection


def find_kind(tstore: Invocation, store: Store, word: str) -> Kind:
    """What a person calls *word*: a collection, its singular, with hyphens or underscores, or a short name.

    Looked for among the types of ``--records``, the packs, the collections of the store, and only then among the types
    that installed packages bring.

    Raises:
        UsageError: There is no such type; the message names those there are.
    """
    types: dict[str, type[Record]] = {}
    for record_type in (*_built_in(), *tstore.record_types()):
        types[record_type.collection] = record_type
    stored = [one.name for one in store.collections()]
    name = _called(word, stored) or _called(word, types)
    if name is None:
        types |= {record_type.collection: record_type for record_type in _installed()}
        name = _called(word, types)
    if name is None:
        known = ", ".join(sorted({*stored, *types}))
        raise UsageError(f"there is no record type {word}; there are: {known}")
    found = types.get(name)
    return Kind(name, found if found is not None and _fits(store, found) else None)


def _fits(store: Store, record_type: type[Record]) -> bool:
    """Whether the store's collection of that name is one of that type, and not somebody's own of the same name."""
    from taskstore_async.core.record import declaration_of  # noqa: PLC0415 - reason: --help needs no records

    try:
        store.declaration(record_type.collection).adopt(declaration_of(record_type))
    except (DeclarationConflictError, LimitExceededError):
        return False
    return True


def located(tstore: Invocation, store: Store, first: str, second: str | None) -> tuple[str, str]:
    """The collection and the id that ``[TYPE] ID`` says; without a type the id is looked for everywhere.

    Raises:
        UsageError: There is no such type.
        NotFoundError, AmbiguousIdError: As for `Store.locate`.
    """
    if second is None:
        return store.locate(first)
    return store.locate(second, find_kind(tstore, store, first).collection)


def choices(kind: Kind, field: str) -> list[str]:
    """The values that a field may have, of a type that says so; else none."""
    from taskstore_async.core.shape import members  # noqa: PLC0415 - reason: --help needs no records

    if kind.record_type is None:
        return []
    described = msgspec.inspect.type_info(kind.record_type)
    fields = {one.encode_name: one for one in getattr(described, "fields", ())}
    found = members(fields[field].type) if field in fields else ()
    return [str(value.value) for one in found if isinstance(one, msgspec.inspect.EnumType) for value in one.cls]


def say_if_unreadable(tstore: Invocation, store: Store, document: Document, raw: bytes) -> None:
    """Tell a person when what was just stored cannot be read as the type of its collection.

    The type is one of ``--records``, or of those that have commands of their own, unless the store's collection is
    somebody's own of that name. Other names of the packs, such as tasks, are too common to tell whose they are.
    """
    types = tstore.record_types()
    if document.collection in _SHORT.values():
        types += [one for one in _types_in(import_module(_PACK_OF_SHORT)) if _adds_nothing(store, one)]
    record_type = next((one for one in types if one.collection == document.collection), None)
    if record_type is None:
        return
    from taskstore_async.core.stamp import NS_PER_MS  # noqa: PLC0415 - reason: --help needs no records
    from taskstore_async.core.write import load  # noqa: PLC0415 - reason: as above

    try:
        load(record_type, raw, document.updated_at * NS_PER_MS)
    except UnreadableRecordError as error:
        known = choices(Kind(document.collection, record_type), error.reason.rpartition("$.")[2])
        there = f" (there are: {', '.join(known)})" if known else ""
        name = f"{document.collection}/{document.id}"
        tstore.out.words(
            f"note: {name} is stored, but cannot be read as {error.record_type}: {error.reason}{there}; mend it with: "
            f"tstore update {document.collection} {document.id} FIELD=TEXT"
        )


def _adds_nothing(store: Store, record_type: type[Record]) -> bool:
    """Whether the store declares nothing about that collection that the type does not."""
    from taskstore_async.core.record import declaration_of  # noqa: PLC0415 - reason: --help needs no records

    wanted = declaration_of(record_type)
    try:
        return wanted.adopt(store.declaration(record_type.collection)) is wanted
    except (DeclarationConflictError, LimitExceededError):
        return False


def _called(word: str, names: Collection[str]) -> str | None:
    """The one of *names* that *word* calls; None when it calls none."""
    plain = word.replace("-", "_")
    ways = (word, plain, _SHORT.get(word), f"{plain}s", f"{plain.removesuffix('y')}ies")
    return next((name for name in ways if name in names), None)


def _built_in() -> Iterator[type[Record]]:
    for module in PACKS:
        yield from _types_in(import_module(module))


def _installed() -> Iterator[type[Record]]:
    """The types that installed packages bring; each entry point names a module, or one type."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - reason: 20 ms, and hardly ever needed

    for point in entry_points(group=ENTRY_POINTS):
        try:
            loaded = point.load()
        except Exception as error:
            raise UsageError(
                f"the record types of {point.value} cannot be loaded ({type(error).__name__}: {error}); mend or "
                f"uninstall the package that brings them"
            ) from error
        yield from _types_in(loaded)


def _types_in(loaded: object) -> Iterator[type[Record]]:
    from taskstore_async.cli.opening import is_record_type  # noqa: PLC0415 - reason: it loads the engine

    for value in (loaded, *vars(loaded).values()):
        if is_record_type(value):
            yield value
