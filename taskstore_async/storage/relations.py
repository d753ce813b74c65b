"""What the records of a store name: references, and lists of what comes first, as a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from taskstore_async.core.graph import Graph
from taskstore_async.storage.rows import values_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from taskstore_async.core.declaration import Declaration
    from taskstore_async.storage.store import Store

__all__ = ["Edge", "Node", "Relations", "relations"]

_OWN = ("parent_id", "depends_on")  #: fields that name records of their own collection, declared or not
_TITLES = ("title", "name", "phase_name")


class Node(msgspec.Struct, frozen=True):
    """A record in a graph.

    Attributes:
        key: ``collection/id``.
        title: What a person calls it, when it says so.
        status: How far it has come, when it says so.
    """

    key: str
    title: str | None
    status: str | None


class Edge(msgspec.Struct, frozen=True):
    """That a record names another one.

    Attributes:
        source: The key of the one that names.
        target: The key of the one that is named; it may not exist.
        field: The field in which it does.
    """

    source: str
    target: str
    field: str


class Relations(msgspec.Struct, frozen=True):
    """The records of a store, and what they name."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @property
    def graph(self) -> Graph:
        """What each record needs first: what it names."""
        needs: dict[str, list[str]] = {node.key: [] for node in self.nodes}
        for edge in self.edges:
            needs[edge.source].append(edge.target)
        return Graph(needs)


def relations(store: Store, collections: Collection[str] = ()) -> Relations:
    """What the records of a store name, by declared references, ``parent_id`` and ``depends_on``.

    Args:
        store: Where to look.
        collections: Only their records; empty for those of every collection that names others or is named, or is
            declared to, but for local ones, of which there are many.
    """
    declared = {one.name: store.declaration(one.name) for one in store.collections()}
    if collections:
        wanted = [name for name in declared if name in collections]
    else:
        wanted = [name for name, declaration in declared.items() if not declaration.local]
    found = [(name, *_look(store, name, declared[name])) for name in wanted]
    if not collections:
        related = {edge.target.partition("/")[0] for _, _, edges in found for edge in edges}
        for name, declaration in declared.items():
            targets = {reference.references for reference in declaration.references.values()}
            related.update(target for target in (*targets, name if targets else None) if target is not None)
        found = [(name, nodes, edges) for name, nodes, edges in found if edges or name in related]
    return Relations(
        tuple(node for _, nodes, _ in found for node in nodes),
        tuple(edge for _, _, edges in found for edge in edges),
    )


def _look(store: Store, name: str, declaration: Declaration) -> tuple[list[Node], list[Edge]]:
    references = {field: one.references or name for field, one in declaration.references.items()}
    references = {**dict.fromkeys(_OWN, name), **references}
    nodes: list[Node] = []
    edges: list[Edge] = []
    for line in store.iterate_lines(name):
        value_of = values_of(line, declaration)
        titles = [value_of(title) for title in _TITLES]
        status = value_of("status")
        key = f"{name}/{line.id}"
        title = next((one for one in titles if isinstance(one, str) and one.strip()), None)
        nodes.append(Node(key, title, status if isinstance(status, str) else None))
        for field, target in references.items():
            edges += [Edge(key, f"{target}/{one}", field) for one in _ids(value_of(field))]
    return nodes, edges


def _ids(value: object) -> Iterator[str]:
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    yield from (str(one) for one in values if isinstance(one, str | int) and not isinstance(one, bool))
