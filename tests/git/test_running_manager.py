"""A StateManager at work while git commits, checks out, rebases and merges under it."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import pytest

from taskstore_async.storage import journal
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.git.support import Clone


class Agents:
    """The program `tests.git.agents` at work on a store, for the length of a block."""

    def __init__(self, clone: Clone, how: str) -> None:
        command = [sys.executable, "-m", "tests.git.agents", str(clone.home), how]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.acknowledged: set[str] = set()

    def __enter__(self) -> Self:
        """Wait for the first acknowledged record."""
        assert self._process.stdout is not None
        self.acknowledged.add(self._process.stdout.readline().strip())
        return self

    def stop(self) -> None:
        """Have them stop, and hear of all that was acknowledged."""
        out, _ = self._process.communicate("stop\n", timeout=60)
        self.acknowledged.update(out.split())
        assert self._process.returncode == 0

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Person:
    """Does with git what comes to mind, and commits whenever git wants that first."""

    def __init__(self, clone: Clone, seed: int) -> None:
        self._clone = clone
        self._random = random.Random(seed)  # noqa: S311 - reason: the same walk each time
        self.done = 0  #: what git did when it was told to, and did not refuse
        clone.git("branch", "side")

    @property
    def other(self) -> str:
        """The branch that is not checked out."""
        return "side" if self._clone.git("branch", "--show-current").strip() == "main" else "main"

    def act(self, kinds: tuple[str, ...]) -> None:
        """Do one of *kinds* of things."""
        words = {
            "commit": ("commit", "--quiet", "--all", "-m", "x"),
            "checkout": ("checkout", "--quiet", self.other),
            "merge": ("merge", "--quiet", "-m", "m", self.other),
            "rebase": ("rebase", "--quiet", self.other),
        }[self._random.choice(kinds)]
        if self._clone.run("git", *words).code == 0:
            self.done += 1
        else:
            self.settle()

    def settle(self, tries: int = 3) -> bool:
        """Commit everything, and bring to an end what git has begun; whether that was possible.

        A rebase cannot be ended while somebody writes into its file between any two steps.
        """
        git = self._clone.top / ".git"
        for _ in range(tries):
            self._clone.run("git", "add", "--all")
            self._clone.run("git", "commit", "--quiet", "-m", "x")
            if (git / "rebase-merge").exists():
                self._clone.run("git", "rebase", "--continue", GIT_EDITOR="true")
            elif not (git / "MERGE_HEAD").exists():
                return True
        return False

    def bring_together(self) -> None:
        """Merge both branches into what is checked out."""
        assert self.settle(tries=100)
        self._clone.git("merge", "--quiet", "-m", "all", self.other)


class TestRunningManager:
    """Nothing acknowledged is lost, and the index equals the journal at the end.

    A merge looks at the files, runs the driver without any lock that could be seen, and puts its result in their place:
    what was appended meanwhile is appended again.
    """

    @pytest.mark.parametrize("how", ["flushing", "by hooks alone"])
    def test_it_writes_while_git_commits_checks_out_rebases_and_merges(self, how: str, hooked: Clone) -> None:
        person = Person(hooked, seed=1)
        with Agents(hooked, how) as agents:
            for _ in range(10):
                person.act(("commit", "checkout", "rebase", "merge"))
            agents.stop()
        person.bring_together()
        assert person.done > 0
        assert agents.acknowledged <= hooked.records().keys()

    def test_a_file_that_git_has_just_unlinked_is_not_made_again(
        self, clone: Clone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Git would not write over it, and an empty one would be committed."""
        opened = journal.open_to_append
        unlinked: list[bool] = []

        @contextmanager
        def open_to_append(path: Path, *, create: bool, wait_s: float) -> Generator[int]:
            if not unlinked:
                path.unlink()  # between the look at the file and this
                with pytest.raises(FileNotFoundError), opened(path, create=create, wait_s=wait_s):
                    pass
                unlinked.append(not path.exists())
                raise FileNotFoundError
            with opened(path, create=create, wait_s=wait_s) as descriptor:
                yield descriptor

        monkeypatch.setattr(journal, "open_to_append", open_to_append)
        clone.put("b")
        assert unlinked == [True]
        assert clone.ids() == "b"  # it is gone for good, as a second look says
