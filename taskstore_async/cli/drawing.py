"""Graphs of records, drawn: a tree for people, dot and mermaid for programs that draw better. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskstore_async.storage.relations import Node, Relations

__all__ = ["as_dot", "as_mermaid", "as_tree"]


def as_tree(relations: Relations) -> Iterator[str]:
    """Each record below those that it names; one that stands below several shows what is below it only once."""
    nodes = {node.key: node for node in relations.nodes}
    graph = relations.graph
    dependents = graph.dependents
    roots = [key for key, needs in graph.needs.items() if not any(other in nodes for other in needs)]
    shown: set[str] = set()
    for root in [*roots, *nodes]:  # what stands in a circle is below nothing else
        if root in shown:
            continue
        waiting = [(root, "", "")]
        while waiting:  # not recursive: a chain may be long
            key, first, rest = waiting.pop()
            below = dependents.get(key, ())
            again = key in shown
            yield f"{first}{_label(nodes[key])}{' (see above)' if again and below else ''}"
            if again:
                continue
            shown.add(key)
            for place, other in enumerate(reversed(below)):
                last = place == 0
                waiting.append((other, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  ")))


def _label(node: Node) -> str:
    title = f" {node.title}" if node.title else ""
    status = f" [{node.status}]" if node.status else ""
    return f"{node.key}{title}{status}"


def as_dot(relations: Relations) -> Iterator[str]:
    """The graph for Graphviz: an arrow leads from what is named to what names it."""
    yield "digraph taskstore {"
    yield "  rankdir=LR;"
    yield "  node [shape=box];"
    for node in relations.nodes:
        yield f"  {_quoted(node.key)} [label={_quoted(_label(node))}];"
    for edge in relations.edges:
        yield f"  {_quoted(edge.target)} -> {_quoted(edge.source)} [label={_quoted(edge.field)}];"
    yield "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def as_mermaid(relations: Relations) -> Iterator[str]:
    """The graph for Mermaid: an arrow leads from what is named to what names it."""
    names = {node.key: f"n{number}" for number, node in enumerate(relations.nodes)}
    yield "graph LR"
    for node in relations.nodes:
        yield f'  {names[node.key]}["{_entities(_label(node))}"]'
    for edge in relations.edges:
        if edge.target not in names:  # it does not exist, so it has no label yet
            names[edge.target] = f"n{len(names)}"
            yield f'  {names[edge.target]}["{_entities(edge.target)}"]'
        yield f"  {names[edge.target]} -->|{_entities(edge.field)}| {names[edge.source]}"


def _entities(text: str) -> str:
    """Spell what means something to Mermaid as it wants it."""
    plain = " ".join(text.split())
    return "".join(f"#{ord(one)};" if one in '"#;&<>[]{}|`' else one for one in plain)
