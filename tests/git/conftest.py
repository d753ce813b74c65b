"""What git needs to run without the person's own configuration, and repositories to run it in."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taskstore_async.git import install
from taskstore_async.git.repository import LOCAL_VARIABLES
from tests.git.support import Clone

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the repository's, a name to commit with, and this program on the PATH."""
    _set(monkeypatch)


def _set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*LOCAL_VARIABLES, "TSTORE_DIR", "TSTORE_RECORDS"}:
        monkeypatch.delenv(name, raising=False)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Kim")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "kim@example.com")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_MERGE_AUTOEDIT", "no")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to copy, which takes less time than to make one."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _set(monkeypatch)
        return Clone.made(tmp_path_factory.mktemp("template") / "clone").top


@pytest.fixture
def clone(template: Path, tmp_path: Path) -> Iterator[Clone]:
    """A repository with a store and the merge driver, without hooks; record "a" is in its first commit.

    Whatever a test does with it, the index equals the journal after.
    """
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    copy = Clone(tmp_path / "clone")
    yield copy
    assert copy.is_sound()


@pytest.fixture
def hooked(clone: Clone) -> Clone:
    """The same, with hooks."""
    install(clone.home)
    return clone
