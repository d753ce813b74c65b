"""Nothing that a record, a file's name or a commit says acts on the terminal, whichever command shows it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from taskstore_async.cli.text import width_of
from taskstore_async.core.record import Document
from taskstore_async.records.tasks import Prd
from taskstore_async.storage.store import Store
from tests.cli.terminal import shown_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Tstore = Callable[..., Result]

EVIL = "e\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2066\x7f\b\r\x00v"
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
OURS = re.compile(r"\r\x1b\[K|\r(?=importing |copying )|\x1b\[K")  #: what progress writes

COMMANDS: list[list[str]] = [
    ["list", "evils"],
    ["list", "evils", "--fields", "title,n"],
    ["list", "evils", "--json"],
    ["list", "evils", "-f", f"title={EVIL.replace(chr(0), '')}", "--explain"],
    ["get", "evils", "ev"],
    ["show", "ev"],
    ["describe", "ev"],
    ["describe", "prd-1"],
    ["log", "evils", "ev", "--git"],
    ["log", "evils", "ev", "--json"],
    ["diff", "HEAD"],
    ["query", "SELECT * FROM evils"],
    ["query", "SELECT * FROM evils", "--csv"],
    ["query", f"SELECT '{EVIL.replace(chr(0), '')}' AS \"x\x1b[2J\""],
    ["collections"],
    ["graph"],
    ["graph", "--format", "dot"],
    ["info"],
    ["stats"],
    ["check"],
    ["doctor"],
    ["sync", "--check"],
    ["conflicts"],
    ["export", "evils"],
    ["export", "evils", "--format", "csv"],
    ["export", "evils", "--format", "json"],
    ["export-json"],
    ["delete", "evils", "ev", "--dry-run"],
    ["backup", "copy"],
    ["restore", "copy", "--dry-run"],
    ["import", "evil\x1b[2J.csv", "-c", "others", "--dry-run"],
    ["import", "bad.jsonl", "-c", "others"],
    ["get", "evils", "\x1b[2Jx"],
    ["get", "evils\x1b[2J", "x"],
    ["list", "evils", "-f", "\x1b[2J"],
    ["--store", "\x1b[2J", "list", "evils"],
    ["import", "\x1b[2J.jsonl"],
    ["\x1b[2J"],
    ["list", "evils", "--\x1b[2J"],
    ["get", "evils", "\x1b[2Jx", "--json"],
    ["prime"],
    ["complete", "--", "get", "evils", ""],
    ["complete", "--", "list", "evils", "-f", ""],
    ["watch", "evils", "--since", "0", "--limit", "1"],
]


@pytest.fixture
def evil(folder: Path) -> Path:
    """A store in a repository, with hostile text wherever there can be any."""
    git = ["git", "-c", "user.name=x\x1b[2J", "-c", "user.email=x@x", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "-q", "."], check=True)
    with Store.open(folder, records=[Prd]) as store:
        store.create(Document("evils", {"id": "ev", "title": "first", "n": 1}))
        store.write_content(Prd(id="prd-1", title=EVIL), f"# {EVIL}\n\n- {EVIL}\n\n```\n{EVIL}\n```\n{EVIL}\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", f"s\x1b[2J {EVIL.replace(chr(0), '')}"], check=True)
    with Store.open(folder) as store:
        store.modify("evils", "ev", lambda one: one.evolve(**{"title": EVIL, f"k{EVIL}": [EVIL, {EVIL: EVIL}]}))
    with (folder / ".taskstore" / "evils.jsonl").open("ab") as file:
        file.write(json.dumps({"id": EVIL, "title": "=1+1", "status": EVIL, "updated_at": 5}).encode() + b"\n")
        file.write(b'{"bad": "\x1b[2J"\n')
    (folder / ".taskstore" / "evil\x1b[2J.jsonl").write_text("{}\n")
    (folder / "evil\x1b[2J.csv").write_text(f"id,{EVIL.replace(chr(13), '')}\nx,1\n")
    (folder / "bad.jsonl").write_bytes(b'{"id": "\x1b[2J", \n{"id":"b"}\n')
    return folder


def on_one_terminal(folder: Path, commands: list[list[str]]) -> list[tuple[int, str]]:
    """Run several commands in one process on a terminal; the code of each, and what was shown."""
    code = (
        "import json, sys\n"
        "from taskstore_async.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    code = main(words)\n"
        "    print(f'<<<{code}>>>', flush=True)\n"
    )
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"}
    ended, shown = shown_by([sys.executable, "-c", code, json.dumps(commands)], folder, environment, columns=200)
    assert ended == 0, shown
    pieces = re.split(r"<<<(\d+)>>>\n", shown)
    return [(int(number), text) for text, number in zip(pieces[::2], pieces[1::2], strict=False)]


class TestHostileRecords:
    """No control character of data reaches the terminal, in results, in words or in errors."""

    def test_no_command_lets_one_through(self, evil: Path) -> None:
        answers = on_one_terminal(evil, COMMANDS)
        assert len(answers) == len(COMMANDS)
        for words, (code, shown) in zip(COMMANDS, answers, strict=True):
            found = ACTS.search(OURS.sub("", shown))
            assert found is None, (words, found, shown)
            assert code in {0, 1, 2, 3, 4, 5, 6}, (words, shown)
        seen = "".join(shown for _, shown in answers)
        assert seen.count("\\u001b[2J") > 50  # it was there to be shown

    def test_colour_is_ours_and_can_be_had_or_not(self, evil: Path) -> None:
        words = [["--color", choice, "describe", "prd-1"] for choice in ("never", "auto", "always")]
        shown = [text for _, text in on_one_terminal(evil, words)]
        assert ["\x1b[" in text for text in shown] == [False, False, True]
        styles = re.compile(r"\x1b\[[\d;]*m")
        assert ACTS.search(styles.sub("", shown[2])) is None

    def test_no_cell_of_a_sheet_is_a_formula(self, evil: Path, tstore: Tstore) -> None:
        assert evil.is_dir()
        for words in (["export", "evils", "--format", "csv"], ["query", "SELECT * FROM evils", "--csv"]):
            cells = [cell for row in csv.reader(io.StringIO(tstore(*words).out, newline="")) for cell in row]
            assert "'=1+1" in cells or any("=1+1" in cell for cell in cells)
            assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]

    def test_names_and_values_line_up_whatever_they_are(self, folder: Path) -> None:
        with Store.open(folder) as store:
            store.create(Document("wide", {"id": "w", "日本": "a", "e\u0301e\u0301": "b", "x\x1b": "c"}))
        ((code, shown),) = on_one_terminal(folder, [["show", "w"]])
        assert code == 0
        places = {width_of(line[: line.rindex("  ") + 2]) for line in shown.splitlines()}
        assert places == {len("collection  ")}

    def test_in_a_pipe_there_is_no_colour(self, evil: Path, tstore: Tstore) -> None:
        assert evil.is_dir()
        styles = re.compile(r"\x1b\[[\d;]*m")
        for words in (["history"], ["list", "prds"], ["describe", "prd-1", "--json"], ["collections"]):
            assert styles.search(tstore(*words).out) is None
