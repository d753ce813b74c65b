"""--dry-run of resolve and uninstall-hooks: what they would do is told, and nothing of it is done."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async.cli.reference import commands
from tests.cli.test_merging import AT, journal, line, lines, merged, quarantined
from tests.cli.test_process import on_a_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]

__all__ = ["journal"]  # a fixture

TOLD = "tstore: nothing was written: this is what would be\n"


def files_of(journal: Path) -> dict[str, bytes]:
    """Every file of the store but the index, which is made from them, and the lock."""
    found = (path for path in journal.parent.rglob("*") if path.is_file() and not path.name.startswith("store."))
    return {str(path.relative_to(journal.parent)): path.read_bytes() for path in found}


def unstamped(raw: bytes) -> dict[str, Any]:
    """A line without the moment at which it was written."""
    fields: dict[str, Any] = json.loads(raw)
    return {name: value for name, value in fields.items() if name not in {"updated_at", "created_at"}}


class TestResolve:
    """What a dry run tells is what then happens; until then every file of the store has its bytes."""

    def _is_told_and_done(self, tstore: Tstore, journal: Path, *words: str) -> dict[str, Any]:
        """Rehearse, compare, carry out, compare; returns what was told."""
        before, was = files_of(journal), {one: lines(one) for one in journal.parent.glob("*.jsonl")}
        settled = (journal.parent / "merges.log").read_bytes() if (journal.parent / "merges.log").exists() else b""
        result = tstore("resolve", *words, "--dry-run", "--json")
        assert result.code == 0, result.err
        told: dict[str, Any] = json.loads(result.out)
        assert tstore("resolve", *words, "--dry-run").err == TOLD
        assert files_of(journal) == before
        assert tstore("resolve", *words).code == 0
        new = [one for path, had in was.items() for one in lines(path) if one not in had]
        assert [unstamped(one) for one in new] == [
            unstamped(json.dumps(one["line"]).encode()) for one in told["changes"]
        ]
        gone = [one for of_one in told["taken_out"].values() for one in of_one]
        assert quarantined(journal).decode().splitlines() == gone
        log = (journal.parent / "merges.log").read_bytes() if told["settled"] else settled
        notes = [json.loads(one)["settled"] for one in log[len(settled) :].splitlines()]
        assert [f"{one['collection']}/{one['id']}" for one in notes] == told["settled"]
        return told

    @pytest.mark.parametrize(("take", "value"), [("ours", 2), ("theirs", 3), ("first", 2)])
    def test_a_side(self, take: str, value: int, tstore: Tstore, journal: Path) -> None:
        merged(journal)
        told = self._is_told_and_done(tstore, journal, "a", "--take", take)
        assert [(one["kind"], one["id"], one["line"]["f"]) for one in told["changes"]] == [("updated", "a", value)]
        assert [one[:7] for one in told["taken_out"]["issues"]] == ["<<<<<<<", "=======", ">>>>>>>"]

    def test_a_deletion_writes_a_tombstone(self, tstore: Tstore, journal: Path) -> None:
        tombstone = b'{"id":"a","deleted":true,"updated_at":%d}\n' % AT
        journal.write_bytes(b"<<<<<<< HEAD\n" + tombstone + b"=======\n" + line("a", 5, f=1) + b">>>>>>> topic\n")
        told = self._is_told_and_done(tstore, journal, "a", "--take", "ours")
        assert [(one["kind"], one["line"]["deleted"]) for one in told["changes"]] == [("deleted", True)]

    def test_all(self, tstore: Tstore, journal: Path) -> None:
        base = b"".join(line(name, f=1) for name in "ab")
        merged(journal, base, *(b"".join(line(name, 5, f=value) for name in "ab") for value in (2, 3)))
        told = self._is_told_and_done(tstore, journal, "--all", "--take", "theirs")
        assert [one["line"]["f"] for one in told["changes"]] == [3, 3]
        assert told["settled"] == ["issues/a", "issues/b"]

    def test_markers_alone(self, tstore: Tstore, journal: Path) -> None:
        journal.write_bytes(b"<<<<<<< HEAD\n" + line("a") + b"=======\n" + line("b") + b">>>>>>> topic\n")
        told = self._is_told_and_done(tstore, journal)
        assert told == {
            "changes": [],
            "taken_out": {"issues": ["<<<<<<< HEAD", "=======", ">>>>>>> topic"]},
            "settled": [],
        }

    @pytest.mark.parametrize("same", [True, False])
    def test_a_mention(self, same: bool, tstore: Tstore, journal: Path) -> None:  # noqa: FBT001 - reason: a parameter
        tstore("create", "notes", "--id", "n-1", "text=see bd-7, soon")
        merged(journal, b"", line("bd-7", created_at=9, title="something else"), line("bd-7", created_at=5, name="x"))
        (mention,) = json.loads(tstore("conflicts", "--json").out)["mentions"]
        new = "bd-7" if same else mention["new"]
        told = self._is_told_and_done(tstore, journal, "n-1", "--refer", f"bd-7={new}")
        assert [one["line"]["text"] for one in told["changes"]] == ([] if same else [f"see {new}, soon"])
        assert tstore("conflicts").code == 0

    def test_it_is_refused_as_the_thing_itself_is(self, tstore: Tstore, journal: Path) -> None:
        merged(journal)
        tstore("update", "issues", "a", "h=new")
        for words in (["a", "--take", "ours"], ["nobody", "--take", "ours"], ["a", "--refer", "x=y"]):
            rehearsed, done = tstore("resolve", *words, "--dry-run"), tstore("resolve", *words)
            assert (rehearsed.code, rehearsed.err) == (done.code, done.err) == (3, done.err)

    def test_what_is_told_can_be_read(self, tstore: Tstore, journal: Path, folder: Path) -> None:
        merged(journal)
        rows = [row.split("\t") for row in tstore("resolve", "a", "--take", "theirs", "--dry-run").out.splitlines()]
        assert [row[:2] for row in rows] == [
            ["updated", "issues/a"],
            *[["taken out", "issues.jsonl"]] * 3,
            ["settled", "issues/a"],
        ]
        _, shown = on_a_terminal(folder, "resolve", "a", "--take", "theirs", "--dry-run", columns=20)
        assert '"g":9' in shown.replace("\r\n", "")
        assert "taken out  issues.jsonl  =======" in shown


class TestHooks:
    """The same of uninstall-hooks, whose files are git's."""

    def test_nothing_is_removed_before_it_is_meant(self, tstore: Tstore, folder: Path) -> None:
        subprocess.run(["git", "init", "-q", "."], check=True, cwd=folder)
        assert tstore("init").code == 0
        assert tstore("install-hooks").code == 0

        def state() -> dict[str, bytes]:
            found = [path for path in (folder / ".git").rglob("*") if path.is_file()]
            return {str(path): path.read_bytes() for path in found}

        before = state()
        told = tstore("uninstall-hooks", "--merge-driver", "--dry-run")
        assert (told.code, told.err) == (0, "tstore: nothing was changed\n")
        assert state() == before
        done = tstore("uninstall-hooks", "--merge-driver")
        assert (done.out, done.err) == (told.out, "")
        assert "pre-commit\tremoved\t" in done.out
        assert "merge driver\tremoved\t" in done.out
        assert state() != before


def test_every_command_that_deletes_or_rewrites_can_be_rehearsed() -> None:
    """doctor, sync and merge say under another name what they would do: without --fix, with --check, without -o."""
    rehearsed = {one.name for one in commands() if any("--dry-run" in option.names for option in one.options)}
    assert rehearsed == {
        "backup",
        "clean",
        "compact",
        "delete",
        "import",
        "install-hooks",
        "install-merge-driver",
        "resolve",
        "restore",
        "uninstall-hooks",
    }
