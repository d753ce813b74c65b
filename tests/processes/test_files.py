from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from taskstore_async import Store
from tests.processes.child import Child
from tests.processes.oracle import copy_of_the_journals, fold, read, versions, whole_lines
from tests.processes.records import Note

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes.child import Event

CALLERS = 5
IDENTITY = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "gc.auto=0"]


def git(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *IDENTITY, *arguments], cwd=folder, check=check, capture_output=True, text=True, timeout=60
    )


def written(event: Event) -> tuple[str, int]:
    return event["ack"], event["n"]


def assert_index_is_journal(store: Path, clone: Path) -> dict[str, int]:
    """Check says so, and so does an index made anew from the files; returns which write each record is of."""
    with Store.open(store, records=[Note]) as handle:
        report = handle.check()
        assert report.ok, report.problems
        lines = {found.id: found.raw for found in handle.lines(Note)}
        state = {note.id: note.n for note in handle.list(Note)}
    with Store.open(clone, records=[Note]) as handle:
        assert {found.id: found.raw for found in handle.lines(Note)} == lines
        assert handle.check().ok
    assert {key: line["n"] for key, line in fold(whole_lines(read(store / "notes.jsonl"))).items()} == state
    return state


class TestIndexRemoved:
    """Whoever deletes store.db beside a running manager loses nothing that was acknowledged."""

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_while_many_callers_write(self, tmp_path: Path, backend: str) -> None:
        store = tmp_path / ".taskstore"
        with Child("write", store=tmp_path, backend=backend, callers=6, debounce_ms=20, max_delay_ms=200) as child:
            child.hear_of("ack")
            for _ in range(6):
                for _ in range(60):
                    child.hear_of("ack")
                journalled = {written(event) for event in child.told("ack") if event["level"] == "journal"}
                assert journalled <= versions(whole_lines(read(store / "notes.jsonl")))
                for name in ("store.db", "store.db-shm", "store.db-wal"):  # the order of rm store.db*
                    (store / name).unlink(missing_ok=True)
            for _ in range(60):
                child.hear_of("ack")
            child.finish()
            acknowledged = child.told("ack")
            assert child.told("closed")
        clone = copy_of_the_journals(store, tmp_path / "clone" / ".taskstore")
        state = assert_index_is_journal(store, clone)
        assert_newest(acknowledged, state)


def assert_newest(acknowledged: list[Event], state: dict[str, int]) -> None:
    """Each record is its newest acknowledged version, or the one that its caller was waiting for at the end."""
    newest: dict[str, int] = {}
    for event in acknowledged:
        newest[event["ack"]] = event["n"]
    lost = {key: (n, state.get(key)) for key, n in newest.items() if state.get(key, -1) < n}
    assert not lost


class Repository:
    """A repository around a store, and what git has seen of its journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / ".taskstore" / "notes.jsonl"
        self.dropped: set[tuple[str, int]] = set()
        git(folder, "init", "-q", "-b", "main")
        with Store.open(folder, records=[Note]) as store:
            store.create(Note(id="base", n=-1))
        self.commit("base")
        git(folder, "checkout", "-q", "-b", "other")
        with Store.open(folder, records=[Note]) as store:
            store.create(Note(id="on-other", n=-2))
            for number in range(4):
                store.create(Note(id=f"c0-{number}", n=-10 - number))
        self.commit("other")
        git(folder, "checkout", "-q", "-b", "bare")
        git(folder, "rm", "-q", ".taskstore/notes.jsonl")
        git(folder, "commit", "-q", "-m", "bare")
        git(folder, "checkout", "-q", "main")

    def commit(self, message: str) -> None:
        git(self.folder, "add", "-A", check=False)  # git gives up when a file changes under its hands
        git(self.folder, "commit", "-q", "-m", message, check=False)

    def replace(self, *arguments: str) -> bool:
        """Run a git command that replaces the journal; whether it did. What the old file had is remembered."""
        try:
            with self.journal.open("rb") as old:
                done = git(self.folder, *arguments, check=False)
                # The file that had the name when the command began: what it has gained since is in the working file
                # at its acknowledgement, and it is git that drops it.
                self.dropped |= versions(whole_lines(old.read()))
        except FileNotFoundError:
            done = git(self.folder, *arguments, check=False)
        return done.returncode == 0

    def committed(self) -> set[tuple[str, int]]:
        """Every version in any commit or stash."""
        found: set[tuple[str, int]] = set()
        commits = git(self.folder, "log", "--all", "--reflog", "--format=%H").stdout  # a path would hide some merges
        for commit in commits.split():
            shown = git(self.folder, "show", f"{commit}:.taskstore/notes.jsonl", check=False)
            if shown.returncode == 0:
                found |= versions(whole_lines(shown.stdout.encode()))
        return found


class TestCheckout:
    """Git may replace the journal under a running manager; what was acknowledged is in a file, a commit or a stash."""

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_of_other_branches_in_a_loop(self, tmp_path: Path, backend: str) -> None:
        repository = Repository(tmp_path)
        arguments = {"callers": CALLERS, "debounce_ms": 10, "max_delay_ms": 300, "coalesce": False}
        replaced = 0
        with Child("write", store=tmp_path, backend=backend, **arguments) as child:
            child.hear_of("ack")
            for turn in range(12):
                for _ in range(25):
                    child.hear_of("ack")
                branch = ("other", "bare", "main")[turn % 3]
                if turn % 4 == 3:
                    replaced += repository.replace("checkout", "-q", "-f", branch)
                elif turn % 4 == 2:
                    repository.replace("stash", "-q")
                    replaced += repository.replace("checkout", "-q", branch)
                else:
                    repository.commit(f"turn {turn}")
                    replaced += repository.replace("checkout", "-q", branch)
            child.tell("mark")
            child.hear_of("marked")
            # What was on its way meanwhile may have been in the file before git replaced it: one for each caller.
            told = len(child.told("ack")) + CALLERS
            for _ in range(60):
                child.hear_of("ack")
            child.finish()
            acknowledged = child.told("ack")
        assert replaced
        repository.commit("end")
        kept = versions(whole_lines(read(repository.journal))) | repository.committed()
        everywhere = {written(event) for event in acknowledged}
        assert everywhere - kept - repository.dropped == set()
        git(tmp_path, "clone", "-q", str(tmp_path), str(tmp_path / "clone"))
        state = assert_index_is_journal(tmp_path / ".taskstore", tmp_path / "clone" / ".taskstore")
        assert_newest(acknowledged[told:], state)
