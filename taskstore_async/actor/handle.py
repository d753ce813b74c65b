"""What the calls of a manager stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from taskstore_async.core.record import declaration_of
from taskstore_async.core.write import load, load_document

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from taskstore_async.actor.flusher import Flusher
    from taskstore_async.actor.measures import Measures
    from taskstore_async.actor.readers import Readers
    from taskstore_async.actor.watch import Bell
    from taskstore_async.actor.worker import Worker
    from taskstore_async.actor.writer import Writer
    from taskstore_async.core.declaration import Declaration
    from taskstore_async.core.query import Query
    from taskstore_async.core.record import Record
    from taskstore_async.core.schedule import Durability
    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.ops import Op
    from taskstore_async.storage.reader import Reader
    from taskstore_async.storage.rows import Found

__all__ = ["Handle", "declared", "loaded"]

T = TypeVar("T")


class Handle:
    """The parts of a manager, and the ways to them."""

    _worker: Worker[Engine]
    _writer: Writer
    _flusher: Flusher
    _readers: Readers
    _bell: Bell
    _measures: Measures
    _durability: Durability
    _path: Path
    _wanted: dict[str, Declaration]  # what was held against the store's declarations, by collection

    async def _name(self, target: type[Record] | str) -> str:
        """The collection's name. A type that is new here is held against the store's declaration first.

        Raises:
            DeclarationConflictError: It defines a field differently.
        """
        if isinstance(target, str):
            return target
        declaration = declaration_of(target)
        if not self._knows(target):
            await self._worker.run(_want, declaration)
            self._wanted[declaration.collection] = declaration
        return declaration.collection

    def _knows(self, target: type[Record]) -> bool:
        """Whether the type was held against the store's declaration."""
        declaration = declaration_of(target)
        return self._wanted.get(declaration.collection) is declaration

    def _write(self, op: Op, durability: Durability | None) -> Awaitable[object]:
        return self._writer.ask(op, durability or self._durability)

    async def _find(self, target: type[Record] | str, query: Query) -> list[Found]:
        name = await self._name(target)
        declaration = declared(target)
        untyped = isinstance(target, str)
        return await self._readers.ask(
            lambda reader: reader.find(name, query, declaration=declaration, untyped=untyped)
        )

    async def _ask_engine(self, question: Callable[[Reader], T]) -> T:
        return await self._worker.run(_read, question)


def declared(target: type[Record] | str) -> Declaration | None:
    """What *target* declares; None when it is only a name."""
    return None if isinstance(target, str) else declaration_of(target)


def loaded(target: type[Record] | str, found: Found) -> Any:  # noqa: ANN401 - reason: what target says
    """The record of a line."""
    if isinstance(target, str):
        return load_document(target, found.raw, found.instant)
    return load(target, found.raw, found.instant)


def _want(engine: Engine, declaration: Declaration) -> None:
    """Have a type's declaration written with its first record; refuse it now if it contradicts the store's."""
    engine.declaration(declaration.collection).adopt(declaration)
    engine.wanted[declaration.collection] = declaration


def _read(engine: Engine, question: Callable[[Reader], T]) -> T:
    return engine.read(question)
