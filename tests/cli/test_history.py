"""log and diff, as programs and people see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_process import on_a_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]


@pytest.fixture
def issue(tstore: Tstore) -> str:
    """A record with three versions, of which the last is newest."""
    tstore("create", "issues", "--id", "bd-1", "title=Ship it", "n:=0.12345678901234567890")
    tstore("update", "issues", "bd-1", "status=open", "n:=2")
    tstore("update", "issues", "bd-1", "n:=null")
    return "bd-1"


@pytest.fixture
def repository_(folder: Path, issue: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory as a repository, with the store committed."""
    assert issue  # it is what is committed
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # git looks for the driver there
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Kim")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "kim@example.com")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


class TestLog:
    """The versions of a record, the latest first, and what changed in each."""

    def test_in_a_pipe(self, tstore: Tstore, issue: str) -> None:
        rows = [row.split("\t") for row in tstore("log", "issues", issue).out.splitlines()]
        assert [row[1:4] for row in rows] == [["updated", "3", ""], ["updated", "2", ""], ["created", "1", ""]]
        assert [row[4] for row in rows[:2]] == ["n: 2 → null", 'n: 0.12345678901234567890 → 2, status: "open"']
        assert 'title: "Ship it"' in rows[2][4]
        stamps = [int(row[0]) for row in rows]
        assert stamps == sorted(stamps, reverse=True)

    def test_as_json_with_exact_numbers(self, tstore: Tstore, issue: str) -> None:
        result = tstore("log", "issues", issue, "--json")
        latest, middle, first = json.loads(result.out)
        assert (latest["current"], middle["current"], first["line"]) == (True, False, 1)
        assert middle["fields"][0] == {"field": "n", "before": 0.12345678901234567890, "after": 2}
        assert '"before":0.12345678901234567890' in result.out
        assert latest["commit"] is None
        assert latest["raw"]["id"] == issue

    def test_as_many_as_asked_for(self, tstore: Tstore, issue: str) -> None:
        assert (
            tstore("log", "issues", issue, "--limit", "1").out
            == tstore("log", "issues", issue).out.split("\n")[0] + "\n"
        )

    def test_the_beginning_of_the_id_is_enough(self, tstore: Tstore, issue: str) -> None:
        assert tstore("log", "issues", "bd") == tstore("log", "issues", issue)

    def test_a_deleted_one(self, tstore: Tstore, issue: str) -> None:
        tstore("delete", "issues", issue)
        assert tstore("log", "issues", issue).out.splitlines()[0].split("\t")[1:] == ["deleted", "4", "", ""]

    def test_with_commits(self, tstore: Tstore, repository_: Path) -> None:
        tstore("update", "issues", "bd-1", "n:=3")
        name = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository_, capture_output=True, text=True, check=True)
        rows = [row.split("\t") for row in tstore("log", "issues", "bd-1", "--git").out.splitlines()]
        assert [row[3] for row in rows] == ["", *[name.stdout.strip()] * 3]

    def test_what_another_branch_had_is_said_to_be_from_there(self, tstore: Tstore, repository_: Path) -> None:
        def git(*words: str) -> None:
            subprocess.run(["git", *words], cwd=repository_, check=True, capture_output=True)

        assert tstore("install-merge-driver").code == 0
        git("commit", "-aqm", "attributes", "--allow-empty")
        git("checkout", "-qb", "topic")
        tstore("update", "issues", "bd-1", "title=Shipped")
        git("commit", "-aqm", "on topic")
        git("checkout", "-q", "-")
        tstore("update", "issues", "bd-1", "status=closed")
        git("commit", "-aqm", "on main")
        git("merge", "-qm", "both", "topic")
        rows = [row.split("\t") for row in tstore("log", "issues", "bd-1", "--git", "--limit", "3").out.splitlines()]
        assert [row[4] for row in rows] == [
            'title: "Ship it" → "Shipped"',
            'status: "open" → "closed"',
            'title: "Ship it" → "Shipped"',
        ]
        found = json.loads(tstore("log", "issues", "bd-1", "--git", "--limit", "3", "--json").out)
        assert [one["aside"] for one in found] == [False, True, False]
        _, shown = on_a_terminal(repository_, "log", "issues", "bd-1", "--git", columns=200)
        (line,) = [line for line in shown.splitlines() if "from another branch" in line]
        assert "Kim: on main" in line

    def test_on_a_terminal_an_older_version_below_is_said_to_be_one(self, tstore: Tstore, folder: Path) -> None:
        tstore("init")
        lines = (f'{{"id":"z","n":{number},"updated_at":{at}}}\n' for number, at in ((1, 10), (2, 30), (3, 20)))
        (folder / ".taskstore" / "issues.jsonl").write_text("".join(lines))
        _, shown = on_a_terminal(folder, "log", "issues", "z", columns=200)
        (line,) = [line for line in shown.splitlines() if "older than what counted before" in line]
        assert "line 3" in line
        assert "n: 1 → 3" in shown

    def test_on_a_terminal_no_character_of_a_record_acts(self, folder: Path, tstore: Tstore) -> None:
        tstore("create", "issues", "--id", "x", "title=\x1b[2J\x9b\u202e" + "w" * 200)
        code, shown = on_a_terminal(folder, "log", "issues", "x")
        assert code == 0
        assert not {"\x1b", "\x9b", "\u202e"}.intersection(shown)
        assert max(map(len, shown.splitlines())) <= 80
        assert "current" in shown

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["issues", "bd-2"], 3, "did you mean bd-1"),
            (["nowhere", "bd-1"], 3, "nowhere/bd-1 does not exist"),
            (["issues", "bd-1", "--git"], 1, "git init"),
            (["issues"], 2, "ID"),
            (["issues", "bd-1", "--limit", "0"], 2, "--limit"),
        ],
    )
    @pytest.mark.usefixtures("issue")
    def test_errors(self, words: list[str], code: int, message: str, tstore: Tstore) -> None:
        result = tstore("log", *words)
        assert (result.code, result.out) == (code, "")
        assert message in result.err

    def test_without_a_store_it_ends_with_4(self, tstore: Tstore) -> None:
        assert tstore("log", "issues", "a").code == tstore("diff").code == tstore("diff", "HEAD", "HEAD").code == 4


class TestDiff:
    """Two states, record by record."""

    @pytest.mark.usefixtures("repository_")
    def test_in_a_pipe_a_changed_value_per_line(self, tstore: Tstore) -> None:
        assert tstore("diff").out == ""
        tstore("update", "issues", "bd-1", "title=Ship\tit", "status:=null")
        tstore("create", "issues", "--id", "bd-2", "created_at:=1")
        tstore("create", "notes", "--id", "n", "created_at:=1")
        assert tstore("diff").out.splitlines() == [
            'updated\tissues\tbd-1\ttitle\t"Ship it"\t"Ship\\\\tit"',
            'updated\tissues\tbd-1\tstatus\t"open"\tnull',
            "created\tissues\tbd-2\tcreated_at\t\t1",
            "created\tnotes\tn\tcreated_at\t\t1",
        ]
        assert tstore("diff", "--collection", "notes").out.splitlines() == ["created\tnotes\tn\tcreated_at\t\t1"]
        (one,) = json.loads(tstore("diff", "-c", "notes", "--json").out)
        assert one == {
            "collection": "notes",
            "id": "n",
            "kind": "created",
            "fields": [{"field": "created_at", "after": 1}],
        }

    def test_on_a_terminal_a_record_that_came_is_one_line(self, tstore: Tstore, repository_: Path) -> None:
        tstore("create", "issues", "--id", "bd-2", "title=New", "body=x", "other=y")
        code, shown = on_a_terminal(repository_, "diff")
        assert code == 0
        assert shown.count("bd-2") == 1
        assert '"New"' in shown
        assert "1 record differs" in shown

    def test_directories_need_no_store_around_and_no_git(self, tstore: Tstore) -> None:
        tstore("create", "issues", "--id", "a", "x:=1", "--store", "one")
        tstore("create", "issues", "--id", "a", "x:=2", "--store", "two")
        rows = tstore("diff", "one", "two", "-c", "issues").out.splitlines()
        assert "updated\tissues\ta\tx\t1\t2" in rows

    @pytest.mark.usefixtures("repository_")
    def test_what_is_nothing_ends_with_3(self, tstore: Tstore) -> None:
        result = tstore("diff", "nonsense")
        assert (result.code, result.out) == (3, "")
        assert "'nonsense' is no store" in result.err

    @pytest.mark.usefixtures("issue")
    def test_without_a_repository_that_is_said(self, tstore: Tstore) -> None:
        result = tstore("diff")
        assert result.code == 1
        assert "git init" in result.err
