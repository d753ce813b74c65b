from __future__ import annotations

import io
import sys
import threading
from contextlib import suppress
from threading import Event

import pytest

from taskstore_async.cli import progress


class Terminal(io.StringIO):
    """What a person sees on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self.said = Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        written = super().write(text)
        self.said.set()
        return written


def seen(monkeypatch: pytest.MonkeyPatch, *, after_s: float) -> Terminal:
    """A terminal in the place of stderr: in the test itself, since pytest takes stderr anew for each phase of one."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_AFTER_S", after_s)
    return terminal


class TestTicking:
    """What takes long says that it is under way, and takes that away when it is done."""

    @pytest.mark.parametrize("interrupted", [False, True], ids=["done", "interrupted"])
    def test_it_says_so_and_takes_it_away(self, interrupted: object, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = seen(monkeypatch, after_s=0.0)
        with suppress(KeyboardInterrupt), progress.ticking("checking"):
            assert terminal.said.wait(30)
            if interrupted:
                raise KeyboardInterrupt
        shown = terminal.getvalue()
        assert shown.startswith("\r\x1b[Kchecking … ")
        assert shown.endswith(" s\r\x1b[K")
        assert "tstore-progress" not in {thread.name for thread in threading.enumerate()}

    def test_what_is_done_at_once_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = seen(monkeypatch, after_s=600.0)
        with progress.ticking("checking"):
            pass
        assert terminal.getvalue() == ""

    def test_in_a_pipe_there_is_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        with progress.ticking("checking"), progress.counting("importing") as show:
            assert show is None
        assert capsys.readouterr() == ("", "")


class TestCounting:
    """What knows how far it is draws a bar."""

    def test_a_bar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = seen(monkeypatch, after_s=0.0)
        with progress.counting("importing") as show:
            assert show is not None
            show(1, 2)
            show(0, 0)
        first, second, last = terminal.getvalue().split("\r")[1:]
        assert first == f"importing {'█' * 15}{'░' * 15} 1/2"
        assert second == f"importing {'░' * 30} 0/0"
        assert last == "\x1b[K"
