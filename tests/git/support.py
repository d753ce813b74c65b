"""Working trees of real git with a store in them, used as people use them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.record import Document
from taskstore_async.git import install
from taskstore_async.storage.store import Store

if TYPE_CHECKING:
    from pathlib import Path

COLLECTION = "issues"
JOURNAL = f".taskstore/{COLLECTION}.jsonl"


class Result(msgspec.Struct, frozen=True):
    """What a command said and ended with."""

    code: int
    out: str
    err: str


class Clone:
    """A working tree of git.

    Args:
        top: Its topmost directory.
        place: Where in it the store is.
    """

    def __init__(self, top: Path, place: str = "") -> None:
        self.top = top
        self.home = top / place
        self.store = self.home / ".taskstore"

    @property
    def journal(self) -> Path:
        """The journal of the records."""
        return self.store / f"{COLLECTION}.jsonl"

    @classmethod
    def made(cls, top: Path, *, place: str = "", hooks: bool = False, driver: bool = True) -> Clone:
        """A new repository with a store in its first commit."""
        subprocess.run(["git", "init", "--quiet", "-b", "main", top], check=True)
        clone = cls(top, place)
        clone.home.mkdir(exist_ok=True)
        clone.put("a", title="A", status="open")
        clone.commit("the store")
        install(clone.home, hooks=hooks, driver=driver)
        return clone

    def run(self, *words: str, **environment: str) -> Result:
        """Run a program in the topmost directory."""
        done = subprocess.run(
            words, cwd=self.top, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def git(self, *words: str, **environment: str) -> str:
        """Run git, which must succeed; what it prints."""
        done = self.run("git", *words, **environment)
        assert done.code == 0, done
        return done.out

    def quietly(self, *words: str) -> None:
        """Run git, which must succeed, without hooks."""
        self.git("-c", f"core.hooksPath={os.devnull}", *words)

    def commit(self, message: str = "records") -> None:
        """Commit everything, without hooks."""
        self.git("add", "--all")
        self.quietly("commit", "--quiet", "--message", message)

    def switch(self, *words: str) -> None:
        """Check a branch out, without hooks."""
        self.quietly("checkout", "--quiet", *words)

    def put(self, record_id: str, **fields: object) -> None:
        """Write a record, and its journal with it."""
        with Store.open(self.home) as store:
            store.put(Document(COLLECTION, {"id": record_id, **fields}))

    def change(self, record_id: str, **fields: object) -> None:
        """Change fields of a record."""
        with Store.open(self.home) as store:
            store.modify(COLLECTION, record_id, lambda old: Document(COLLECTION, {**old, **fields}))

    def delete(self, record_id: str) -> None:
        """Delete a record."""
        with Store.open(self.home) as store:
            store.delete(COLLECTION, record_id)

    def records(self) -> dict[str, Document]:
        """All records, by id; with what the files say now, no command between."""
        with Store.open(self.home) as store:
            return {one.id: one for one in store.list(COLLECTION)}

    def ids(self) -> str:
        """The ids of all records."""
        return " ".join(sorted(self.records()))

    def is_sound(self) -> bool:
        """Whether the index equals the journal."""
        with Store.open(self.home) as store:
            return store.check().ok
