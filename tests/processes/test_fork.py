from __future__ import annotations

import pytest

from tests.processes.child import Child

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork here")


class TestFork:
    """A forked child cannot use its parent's handle, and takes nothing from the parent."""

    def test_a_store_is_closed_in_the_child_and_works_on_in_the_parent(self, tmp_path: object) -> None:
        with Child("fork_store", store=tmp_path) as child:
            child.hear_out()
        assert [event["child"] for event in child.told("refused")] == ["get", "create", "flush", "sync", "check"]
        parent = child.events[-1]
        assert parent == {"parent": ["after", "before"], "ok": True, "status": 0}

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_a_manager_is_closed_in_the_child_and_works_on_in_the_parent(self, tmp_path: object, backend: str) -> None:
        with Child("fork_manager", store=tmp_path, backend=backend) as child:
            child.hear_out()
        refused = {event["child"]: event["refused"] for event in child.told("refused")}
        assert refused == dict.fromkeys(["get", "list", "create", "flush", "sync", "check"], True)
        parent = child.events[-1]
        assert parent == {"parent": ["after", "before"], "ok": True, "status": 0}
