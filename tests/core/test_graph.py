"""What needs what: order, what is ready, what is blocked, and circles."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async import CycleError, Document, Graph
from taskstore_async.records.tasks import Dependency, TaskSpec

NODES = "abcdefg"
GRAPHS = st.dictionaries(st.sampled_from(NODES), st.lists(st.sampled_from(NODES + "xy"), max_size=4))
STATUSES = st.dictionaries(
    st.sampled_from(NODES + "xy"), st.sampled_from(["pending", "blocked", "running", "complete", "failed"])
)


def reaches(graph: Graph, start: str) -> set[str]:
    """What *start* needs, however indirectly; in the shortest code that says so."""
    found: set[str] = set()
    waiting = list(graph.needs.get(start, ()))
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += graph.needs.get(one, ())
    return found


class TestOrder:
    """Every id stands behind all that it needs, and otherwise where it stood."""

    def test_what_is_needed_comes_first(self) -> None:
        graph = Graph({"release": ["test", "notes"], "test": ["build"], "notes": [], "build": []})
        assert graph.order() == ["notes", "build", "test", "release"]

    def test_what_needs_nothing_keeps_its_place(self) -> None:
        assert Graph({"c": [], "a": [], "b": []}).order() == ["c", "a", "b"]

    def test_what_is_outside_of_the_graph_is_in_nobodys_way(self) -> None:
        assert Graph({"a": ["elsewhere"]}).order() == ["a"]

    def test_a_long_chain_is_no_problem(self) -> None:
        chain = {str(number): [str(number + 1)] for number in range(50_000)}
        assert Graph(chain).order()[0] == "49999"
        chain["50000"] = ["0"]
        (circle,) = Graph(chain).cycles()
        assert len(circle) == 50_001

    @given(GRAPHS)
    def test_there_is_an_order_or_a_circle(self, needs: dict[str, list[str]]) -> None:
        graph = Graph(needs)
        cyclic = {one for one in needs if one in reaches(graph, one)}
        if cyclic:
            with pytest.raises(CycleError):
                graph.order()
            return
        order = graph.order()
        assert sorted(order) == sorted(needs)
        for one, wanted in needs.items():
            assert all(order.index(other) < order.index(one) for other in wanted if other in needs)

    @given(GRAPHS)
    def test_of_two_that_could_come_next_the_first_one_does(self, needs: dict[str, list[str]]) -> None:
        graph = Graph(needs)
        if graph.cycles():
            return
        done: set[str] = set()
        for one in graph.order():
            could = [other for other in needs if other not in done and not (set(needs[other]) & set(needs)) - done]
            assert one == could[0]
            done.add(one)


class TestCycles:
    """Circles are named, one of each knot."""

    def test_a_circle_is_named_in_the_order_of_need(self) -> None:
        graph = Graph({"z": [], "a": ["b"], "b": ["c"], "c": ["a", "z"]})
        assert graph.cycles() == [("a", "b", "c")]
        with pytest.raises(CycleError, match="a → b → c → a; take one need out of each") as caught:
            graph.order()
        assert caught.value.cycles == (("a", "b", "c"),)

    def test_one_that_needs_itself(self) -> None:
        assert Graph({"a": ["a"], "b": ["a"]}).cycles() == [("a",)]

    def test_of_a_knot_the_shortest_circle_through_its_first_is_named(self) -> None:
        assert Graph({"a": ["b", "c"], "b": ["c"], "c": ["a"]}).cycles() == [("a", "c")]

    def test_many_are_not_all_told(self) -> None:
        with pytest.raises(CycleError, match=r"; …; take") as caught:
            Graph({str(number): [str(number)] for number in range(9)}).order()
        assert len(caught.value.cycles) == 9

    @given(GRAPHS)
    def test_what_is_named_is_a_circle_and_every_knot_has_one(self, needs: dict[str, list[str]]) -> None:
        graph = Graph(needs)
        cycles = graph.cycles()
        for cycle in cycles:
            assert len(set(cycle)) == len(cycle)
            for one, other in pairwise([*cycle, cycle[0]]):
                assert other in graph.needs[one]
        knots = {frozenset(o for o in reaches(graph, one) if one in reaches(graph, o)) for one in needs}
        knots.discard(frozenset())
        assert len(cycles) == len(knots)
        assert all(any(set(cycle) <= knot for cycle in cycles) for knot in knots)


class TestReadyAndBlocked:
    """Ready is what is pending while everything that it needs is complete."""

    def test_ready_and_blocked(self) -> None:
        graph = Graph({"a": [], "b": ["a"], "c": ["a", "b"], "d": []})
        status = {"a": "complete", "b": "pending", "c": "pending", "d": "running"}
        assert graph.ready(status) == ["b"]
        assert graph.blocked(status) == {"c": ("b",)}

    def test_what_failed_or_is_unknown_blocks(self) -> None:
        graph = Graph({"a": ["f"], "b": ["elsewhere"], "f": []})
        status = {"a": "pending", "b": "pending", "f": "failed"}
        assert graph.ready(status) == []
        assert graph.blocked(status) == {"a": ("f",), "b": ("elsewhere",)}
        assert graph.ready({**status, "elsewhere": "complete"}) == ["b"]

    def test_statuses_may_be_called_otherwise(self) -> None:
        graph = Graph({"a": ["b"], "b": []})
        assert graph.ready({"a": "open", "b": "closed"}, pending="open", complete="closed") == ["a"]

    @given(GRAPHS, STATUSES)
    def test_what_is_pending_is_one_of_them(self, needs: dict[str, list[str]], status: dict[str, str]) -> None:
        graph = Graph(needs)
        ready, blocked = graph.ready(status), graph.blocked(status)
        assert [one for one in needs if status.get(one) == "pending"] == sorted(
            {*ready, *blocked}, key=list(needs).index
        )
        assert not set(ready) & set(blocked)
        for unmet in blocked.values():
            assert unmet
            assert all(status.get(other) != "complete" for other in unmet)
        for one in ready:
            assert all(status.get(other) == "complete" for other in needs[one])


class TestOfRecords:
    """References and lists of ids are edges, of typed records and of documents."""

    def test_typed_records(self) -> None:
        first = TaskSpec(id="ts-1", prd_id="prd-1", phase_name="one")
        wanted = Dependency(id="dep-1", from_exec_id="exec-1", to_exec_id=None)
        graph = Graph.of([first, wanted], "prd_id", "from_exec_id", "to_exec_id")
        assert graph.needs == {"ts-1": ("prd-1",), "dep-1": ("exec-1",)}

    def test_documents(self) -> None:
        one = Document("issues", {"id": "i-1", "depends_on": ["i-2", "i-3", "i-2", 7], "parent_id": "i-0"})
        graph = Graph.of([one, Document("issues", {"id": "i-2", "depends_on": None})], "depends_on", "parent_id")
        assert graph.needs == {"i-1": ("i-2", "i-3", "i-0"), "i-2": ()}
        assert graph.dependents == {"i-2": ("i-1",), "i-3": ("i-1",), "i-0": ("i-1",)}
