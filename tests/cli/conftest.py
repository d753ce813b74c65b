"""A person at the command line, in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from taskstore_async.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Result(msgspec.Struct, frozen=True):
    """What a command said and ended with."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: empty, and no store above it or in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSTORE_DIR", raising=False)
    monkeypatch.delenv("TSTORE_RECORDS", raising=False)
    return tmp_path


@pytest.fixture
def tstore(folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Result]:
    """Run ``tstore`` with these words in *folder*."""
    assert folder.is_dir()

    def run(*words: str) -> Result:
        code = main(words)
        captured = capfdbinary.readouterr()
        return Result(code, captured.out.decode(), captured.err.decode())

    return run
