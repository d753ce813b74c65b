"""The tour keeps its word, and says so when it does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from taskstore_async.cli import live
from taskstore_async.demo import agents
from taskstore_async.demo import tour as demo
from taskstore_async.errors import NoStoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result


class TestDemo:
    """tstore demo shows what the store promises, and ends with 1 when a promise is broken."""

    def test_every_promise_is_kept(self, tstore: Callable[..., Result], folder: Path) -> None:
        result = tstore("demo", "--tour")
        assert (result.code, result.err) == (0, "")
        assert "BROKEN" not in result.out
        assert result.out.endswith("Every promise was kept.\n")
        assert result.out.count("  ✓ ") > len(demo.STEPS)
        for number, step in enumerate(demo.STEPS, 1):
            assert f"{number}. {' '.join((step.__doc__ or '').split())}" in result.out
        assert list(folder.iterdir()) == []

    def test_a_broken_promise_is_told_and_ends_it_with_1(
        self, tstore: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def breaking(_folder: Path, _say: demo.Say, claim: demo.Claim) -> None:
            """A promise nobody can keep."""
            claim("two is three", bool([]))

        def failing(_folder: Path, _say: demo.Say, _claim: demo.Claim) -> None:
            """A step that does not get far."""
            raise NoStoreError("/nowhere")

        kept = demo.tour
        monkeypatch.setattr(demo, "tour", lambda say: kept(say, steps=(breaking, failing)))
        result = tstore("demo", "--tour")
        assert result.code == 1
        assert "✗ BROKEN: two is three" in result.out
        assert "no store at /nowhere" in result.out
        assert result.out.endswith("2 of the promises were broken.\n")


class TestAgents:
    """tstore demo does the main job, and ends with 1 when an invariant is broken."""

    @pytest.mark.parametrize("loop", ["asyncio", "trio"])
    def test_agents_finish_every_task(self, loop: str, tstore: Callable[..., Result], folder: Path) -> None:
        result = tstore("demo", "--agents", "3", "--tasks", "12", "--loop", loop, "--dir", str(folder), "--json")
        told = json.loads(result.out)
        assert (result.code, told["broken"], told["complete"] + told["given_up"]) == (0, [], 12)
        assert tstore("--store", str(folder), "check").code == 0

    def test_it_says_what_happened_and_where_to_look(self, tstore: Callable[..., Result], folder: Path) -> None:
        result = tstore("demo", "--tasks", "5", "--dir", str(folder))
        assert "done twice, lost, index ≠ journal\tnone\n" in result.out
        _, _, words = result.err.strip().partition("look for yourself: tstore ")
        assert words.startswith(f"--store {folder} ")
        assert tstore(*words.split()).out.count("\n") >= 5

    def test_tasks_come_from_an_issue_file(self, tstore: Callable[..., Result], folder: Path) -> None:
        (folder / "issues.jsonl").write_text('{"id":"bd-1","title":"Mend it"}\n{"id":"bd-2"}\n', encoding="utf-8")
        result = tstore("demo", "--from", "issues.jsonl", "--dir", "here")
        assert result.code == 0
        listed = tstore("--store", "here", "list", "task_specs", "--jsonl").out.splitlines()
        assert [json.loads(line)["phase_name"] for line in listed] == ["Mend it", "bd-2"]

    @pytest.mark.parametrize(
        ("name", "said"), [("missing.jsonl", "cannot be read"), ("empty.jsonl", "no line with an id")]
    )
    def test_a_file_without_tasks_is_a_mistake(
        self, name: str, said: str, tstore: Callable[..., Result], folder: Path
    ) -> None:
        (folder / "empty.jsonl").touch()
        result = tstore("demo", "--from", name)
        assert (result.code, said in result.err) == (2, True)

    def test_a_broken_invariant_ends_it_with_1(
        self, tstore: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = agents.run

        def broken(job: agents.Job, progress: agents.Progress, show: Callable[[], None]) -> agents.Outcome:
            return msgspec.structs.replace(whole(job, progress, show), broken=("ts-0001 was done 2 times",))

        monkeypatch.setattr(agents, "run", broken)
        result = tstore("demo", "--tasks", "2", "--dir", str(folder))
        assert (result.code, "1 BROKEN" in result.out, "ts-0001 was done 2 times" in result.out) == (1, True, True)

    def test_a_loop_that_is_not_installed_is_named(
        self, tstore: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live, "find_spec", lambda _: None)
        result = tstore("demo", "--loop", "trio")
        assert (result.code, "pip install trio" in result.err) == (2, True)


class TestWatch:
    """tstore watch prints a line of JSON for each change."""

    def test_what_is_there_then_what_happens(self, tstore: Callable[..., Result]) -> None:
        assert tstore("create", "tasks", "--id", "a", "title=x").code == 0
        lines = tstore("watch", "--since", "0", "--limit", "2").out.splitlines()
        assert [json.loads(line)["kind"] for line in lines] == ["reset", "present"]
        assert json.loads(lines[1])["record"]["title"] == "x"
        assert tstore("update", "tasks", "a", "title=y").code == 0
        result = tstore("watch", "tasks", "--since", json.loads(lines[1])["cursor"], "--limit", "1")
        told = json.loads(result.out)
        assert (told["kind"], told["id"], told["record"]["title"]) == ("updated", "a", "y")

    def test_a_cursor_that_is_none_is_refused(self, tstore: Callable[..., Result], folder: Path) -> None:
        assert tstore("create", "tasks", "--id", "a", "title=x").code == 0
        assert folder.is_dir()
        assert tstore("watch", "--since", "yesterday").code == 2
