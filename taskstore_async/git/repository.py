"""Asking git, safely: in the right directory, without what the environment of a hook would have it look at."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.errors import GitError, NoRepositoryError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LOCAL_VARIABLES", "Reply", "Repository", "cleared"]

LOCAL_VARIABLES: Final = frozenset({
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
})  # fmt: skip
"""What git sets for its children about the repository that it works on; not for a look at any other."""

_NOT_ONE: Final = ("not a git repository", "must be run in a work tree")


class Reply(msgspec.Struct, frozen=True):
    """What git said and ended with."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """One value, without the newline behind it."""
        return os.fsdecode(self.out).removesuffix("\n")

    @property
    def names(self) -> list[str]:
        """The names of a list made with ``-z``."""
        return [os.fsdecode(name) for name in self.out.split(b"\0") if name]


def cleared(environment: Mapping[str, str]) -> dict[str, str]:
    """*environment* without what git has set in it about a repository."""
    return {name: value for name, value in environment.items() if name not in LOCAL_VARIABLES}


class Repository:
    """A working tree, and git run in it.

    Attributes:
        top: Its topmost directory, absolute.
    """

    def __init__(self, top: Path, environment: Mapping[str, str]) -> None:
        self.top = top
        self._environment = {
            **environment,
            "GIT_LITERAL_PATHSPECS": "1",  # a directory may be called "*"
            "GIT_OPTIONAL_LOCKS": "0",  # a look must not make somebody's commit fail
            "LC_ALL": "C",
        }

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """The working tree that *folder* lies in, whatever repository a hook's environment is about.

        Raises:
            NoRepositoryError: There is none.
            GitError: Git is not there, or refuses to look.
        """
        repository = cls(folder, cleared(os.environ))
        reply = repository.ask("rev-parse", "--show-toplevel")
        if reply.code:
            if any(words in reply.err for words in _NOT_ONE):
                raise NoRepositoryError(str(folder))
            raise GitError("git rev-parse", _reason(reply))
        repository.top = Path(reply.text)
        return repository

    @classmethod
    def of_hook(cls) -> Repository:
        """The working tree that a hook was started for: in its topmost directory, with the index that git says."""
        return cls(Path.cwd(), os.environ)

    def ask(
        self, *words: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None, globs: bool = False
    ) -> Reply:
        """Run git, whatever comes of it.

        Args:
            words: The command and its arguments.
            stdin: What it can read.
            environment: Variables that it gets beside those of this process.
            globs: Paths among the arguments are patterns.

        Raises:
            GitError: There is no git.
        """
        variables = {**self._environment, **(environment or {})}
        if globs:
            del variables["GIT_LITERAL_PATHSPECS"]
        try:
            result = subprocess.run(  # noqa: S603 - reason: no shell, and words of our own
                ["git", *words],  # noqa: S607 - reason: the person's git
                cwd=self.top,
                env=variables,
                input=stdin,
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise GitError(f"git {words[0]}", error.strerror or str(error)) from error
        return Reply(result.returncode, result.stdout, result.stderr.decode(errors="replace"))

    def run(
        self, *words: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None, globs: bool = False
    ) -> Reply:
        """Run git, which must succeed; see `ask`.

        Raises:
            GitError: It does not.
        """
        reply = self.ask(*words, stdin=stdin, environment=environment, globs=globs)
        if reply.code:
            raise GitError(f"git {words[0]}", _reason(reply))
        return reply

    def path(self, name: str) -> Path:
        """Where this working tree's git keeps *name*: ``hooks``, ``MERGE_HEAD``."""
        return self.top / self.run("rev-parse", "--git-path", name).text

    def blob(self, revision: str, path: str) -> bytes:
        """The bytes that *path* has in *revision*, or in the index when that is empty; none when it is not there."""
        reply = self.ask("cat-file", "blob", f"{revision}:{path}")
        return b"" if reply.code else reply.out

    def relative(self, path: Path) -> str:
        """*path* as git names it."""
        real = Path(os.path.realpath(path))
        return real.relative_to(os.path.realpath(self.top)).as_posix()


def _reason(reply: Reply) -> str:
    lines = [line.strip() for line in reply.err.splitlines() if line.strip()]
    return lines[0].removeprefix("fatal: ").rstrip(".") if lines else f"it ended with {reply.code}"
