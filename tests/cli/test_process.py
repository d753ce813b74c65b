"""The program as a process of its own: what it loads, how it dies, what a terminal gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taskstore_async import __version__
from taskstore_async.cli import main
from taskstore_async.cli.text import width_of
from taskstore_async.storage.store import Store
from tests.cli.terminal import shown_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

PROGRAM = [sys.executable, "-m", "taskstore_async"]
UNWANTED = {"aiosqlite", "anyio", "asyncio", "importlib.metadata", "portalocker", "pydantic", "rich", "trio", "uvloop"}


def on_a_terminal(folder: Path, *words: str, columns: int = 80) -> tuple[int, str]:
    """Run the program on a terminal of its own; returns its exit code and what was shown there."""
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "TSTORE_DIR"}}
    return shown_by([*PROGRAM, *words], folder, environment, columns=columns)


class TestImports:
    """A read command loads no event loop, no lock and no entry points: what it costs is what it needs."""

    @pytest.mark.parametrize(
        "words",
        [
            ["list", "issues", "-f", "x=1"],
            ["get", "issues", "a"],
            ["show", "a"],
            ["collections"],
            ["stats", "--json"],
            ["info"],
            ["list", "issues", "--explain"],
            ["log", "issues", "a"],
            ["query", "SELECT id FROM issues"],
            ["indexes", "issues"],
            ["describe", "a"],
            ["conflicts"],
            ["list", "--help"],
            ["--version"],
        ],
        ids=lambda words: words[0],
    )
    @pytest.mark.usefixtures("folder")
    def test_a_read_command_loads_nothing_that_it_does_not_need(self, words: list[str]) -> None:
        assert main(["create", "issues", "--id", "a", "x:=1"]) == 0
        code = (
            "import sys; from taskstore_async.cli import main; code = main(sys.argv[1:]); print('\\n--', *sys.modules)"
        )
        # -S: what other packages load at every start, through their .pth files, is not ours.
        program = f"import sys; sys.path[:0] = {sys.path!r}; {code}; sys.exit(code)"
        result = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program, *words], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        loaded = set(result.stdout.partition("\n--")[2].split())
        assert "taskstore_async.cli.running" in loaded
        assert loaded & UNWANTED == set()
        if words[-1] in {"--help", "--version"}:
            assert "sqlite3" not in loaded

    def test_the_package_does_not_load_the_command_line_nor_that_typer(self) -> None:
        code = "import sys, taskstore_async.cli; print('typer' in sys.modules)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout == "False\n"


class TestProcess:
    """It ends as a program in a pipeline should."""

    def test_it_runs_as_a_module(self) -> None:
        result = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout) == (0, f"tstore {__version__}\n")

    def test_a_failure_is_its_exit_code(self, folder: Path) -> None:
        result = subprocess.run([*PROGRAM, "list", "issues"], capture_output=True, text=True, cwd=folder, check=False)
        assert (result.returncode, result.stdout) == (4, "")

    def test_a_reader_that_goes_away_is_no_error_to_tell(self, folder: Path) -> None:
        assert main(["create", "issues", "a=b"]) == 0
        read, write = os.pipe()
        os.close(read)
        result = subprocess.run(
            [*PROGRAM, "list", "issues"], stdout=write, stderr=subprocess.PIPE, cwd=folder, check=False
        )
        os.close(write)
        assert (result.returncode, result.stderr) == (141, b"")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")  # noqa: PTH110 - reason: it is no file
    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize(
        "words", ["list issues", "list issues --json", "--help", "list --help", "--version", "merge a a a"]
    )
    def test_output_that_does_not_fit_is_told(
        self, words: str, unbuffered: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert main(["create", "issues", "a=b"]) == 0
        (folder / "a").write_text('{"id":"a","updated_at":1}\n')
        monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
        with open("/dev/full", "wb") as full:  # noqa: PTH123 - reason: as above
            result = subprocess.run(
                [*PROGRAM, *words.split()], stdout=full, stderr=subprocess.PIPE, cwd=folder, check=False
            )
            unheard = subprocess.run([*PROGRAM, "get", "issues", "b"], stderr=full, cwd=folder, check=False)
        assert result.returncode == (2 if words.startswith("merge") else 1)
        assert b"No space left" in result.stderr
        assert result.stderr.count(b"\n") == 1
        assert unheard.returncode == 3

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize(
        ("words", "code"), [("list issues --json", 141), ("get issues a", 141), ("merge a a a", 2)]
    )
    def test_output_of_which_a_part_was_taken_is_not_taken(
        self, words: str, code: int, unbuffered: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        long = "x" * 1_000_000  # a pipe holds less
        (folder / "a").write_text(json.dumps({"id": "a", "updated_at": 1, "x": long}) + "\n")
        assert main(["import", str(folder / "a"), "-c", "issues"]) == 0
        monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
        with subprocess.Popen(
            [*PROGRAM, *words.split()], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, cwd=folder
        ) as process:
            assert process.stdout is not None
            assert process.stdout.read(1) in {b"[", b"{"}
            process.stdout.close()
        assert process.returncode == code

    @pytest.mark.skipif(sys.platform == "win32", reason="the shell is POSIX's")
    @pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
    def test_a_stream_that_is_closed_takes_and_gives_nothing(self, closed: str, folder: Path) -> None:
        (folder / "a").write_text('{"id":"a","updated_at":1}\n')
        for words, code in (
            ("create issues a=b", 0),
            ("list issues", 0),
            ("get issues b", 3),
            ("import - -c issues", 0),
            ("merge a a a", 0),
            ("merge-driver a a a a", 0),
            ("complete -- li", 0),
            ("--help", 0),
        ):
            result = subprocess.run(
                ["sh", "-c", f'"$@" {closed}', "sh", *PROGRAM, *words.split()],
                input=b"",
                capture_output=True,
                cwd=folder,
                check=False,
            )
            assert (result.returncode, b"Traceback" in result.stderr) == (code, False), (words, result)

    def test_an_interrupt_ends_it_with_130_and_without_a_word(
        self, tstore: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        tstore("init")
        monkeypatch.setattr(Store, "lines", interrupted)
        result = tstore("list", "issues")
        assert (result.code, result.out, result.err) == (130, "", "")

    def test_bytes_that_are_no_utf_8_are_refused_not_crashed_on(self, folder: Path) -> None:
        result = subprocess.run(
            [*[word.encode() for word in PROGRAM], b"create", b"issues", b"a=\xff"],
            capture_output=True,
            cwd=folder,
            check=False,
        )
        assert (result.returncode, result.stdout) == (2, b"")
        assert result.stderr.startswith(b"tstore: ")

    @pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names are Unicode there")
    def test_a_directory_whose_name_is_no_utf_8_holds_a_store(self, folder: Path) -> None:
        home = folder / os.fsdecode(b"caf\xe9")
        home.mkdir()
        for words in (
            "create issues --id a b=c",
            "get issues a",
            "info --json",
            "check --json",
            "sync --rebuild --json",
        ):
            result = subprocess.run([*PROGRAM, *words.split()], capture_output=True, cwd=home, check=False)
            assert (result.returncode, result.stdout != b"") == (0, True), result
            assert "--json" not in words or json.loads(result.stdout)
        for words in ("--store caf\udce9/no info --json", "--store caf\udce9 get issues \udce9 --json"):
            result = subprocess.run([*PROGRAM, *words.split()], capture_output=True, cwd=folder, check=False)
            assert (result.returncode, result.stdout) in {(4, b""), (3, b""), (2, b"")}
            assert json.loads(result.stderr)["error"]["exit_code"] == result.returncode


class TestTerminal:
    """A person gets tables that fit, and no character of data acts on the terminal."""

    EVIL = "a\x1b[31m\x9b2J\u202e\u2066b\x07"

    @pytest.fixture(autouse=True)
    def _store(self, folder: Path) -> None:
        assert folder == Path.cwd()
        assert main(["create", "issues", "--id", "i-1", f"title={self.EVIL}", "status=open"]) == 0
        assert main(["create", "issues", "--id", "i-2", "title=日本語のタイトル", "status=open"]) == 0
        assert main(["create", "issues", "--id", "i-3", f"title={'long ' * 30}", "status=closed"]) == 0

    @pytest.mark.parametrize(
        "words",
        [
            ["list", "issues"],
            ["list", "issues", "--json"],
            ["list", "issues", "--jsonl"],
            ["get", "issues", "i-1"],
            ["show", "i-1"],
            ["show", "i-1", "--json"],
        ],
    )
    def test_data_does_not_act(self, words: list[str], folder: Path) -> None:
        code, shown = on_a_terminal(folder, *words)
        assert code == 0
        assert "\\u001b[31m" in shown
        assert "\\u009b2J\\u202e\\u2066b\\u0007" in shown
        assert not set("\x1b\x9b\u202e\u2066\x07") & set(shown)

    def test_neither_does_it_in_an_error(self, folder: Path) -> None:
        code, shown = on_a_terminal(folder, "get", "issues", "\x1b[31mx")
        assert code == 3
        assert "\x1b" not in shown

    def test_json_says_the_same_all_the_same(self, folder: Path) -> None:
        _, shown = on_a_terminal(folder, "get", "issues", "i-1")
        assert json.loads(shown)["title"] == self.EVIL

    def test_in_a_pipe_data_stays_as_it_is(self, tstore: Callable[..., Result]) -> None:
        assert json.loads(tstore("get", "issues", "i-1").out)["title"] == self.EVIL
        assert tstore("list", "issues", "--fields", "title", "--limit", "1").out == self.EVIL + "\n"

    @pytest.mark.parametrize("columns", [30, 60, 100])
    def test_a_table_fits_and_lines_up(self, columns: int, folder: Path) -> None:
        code, shown = on_a_terminal(folder, "list", "issues", columns=columns)
        header, *rows, last = shown.splitlines()
        assert (code, last) == (0, "tstore: 3 records")
        assert header.startswith("id   title")
        assert len(rows) == 3
        assert all(width_of(line) <= columns for line in (header, *rows))
        if "status" in header:
            place = header.index("status")
            for row, status in zip(rows, ("open", "open", "closed"), strict=True):
                before = row[: row.index(status)]
                assert width_of(before) == place

    def test_nothing_found_is_said(self, folder: Path) -> None:
        assert on_a_terminal(folder, "list", "issues", "-f", "id=x") == (0, "tstore: 0 records\n")

    def test_columns_that_were_asked_for_and_do_not_fit_are_named(self, folder: Path) -> None:
        words = ("list", "issues", "--fields", "id,title,status")
        assert "too narrow for title, status; " in on_a_terminal(folder, *words, columns=8)[1]
        assert "too narrow" not in on_a_terminal(folder, *words)[1]
        assert "too narrow" not in on_a_terminal(folder, "list", "issues", columns=8)[1]

    def test_sizes_and_moments_are_for_people(self, folder: Path) -> None:
        _, shown = on_a_terminal(folder, "info", columns=200)
        assert " B, last synced 20" in shown
        assert "KiB" in shown
        _, shown = on_a_terminal(folder, "collections")
        assert shown.startswith("collection  records  waiting  size")

    def test_declared_columns_come_first_and_empty_ones_not_at_all(self, folder: Path) -> None:
        (folder / "pack.py").write_text(
            "from typing import Annotated, ClassVar\n"
            "from taskstore_async import Indexed, Record\n"
            "class Plan(Record):\n"
            "    collection: ClassVar[str] = 'plans'\n"
            "    notes: str = ''\n"
            "    owner: Annotated[str | None, Indexed] = None\n"
            "    status: Annotated[str, Indexed] = 'open'\n"
        )
        words = ["create", "plans", "--id", "p", "notes=n", "status=open", 'tags:=["x"]', "--records", "pack"]
        assert on_a_terminal(folder, *words)[0] == 0
        _, shown = on_a_terminal(folder, "list", "plans", columns=120)
        assert shown.splitlines()[0].split() == ["id", "status", "notes", "updated_at"]

    def test_an_import_shows_a_bar_and_takes_it_away(self, folder: Path) -> None:
        (folder / "plans.jsonl").write_text("".join(f'{{"id":"p-{n}"}}\n' for n in range(3)))
        code, shown = on_a_terminal(folder, "import", "plans.jsonl")
        bar, _, after = shown.rpartition("\r\x1b[K")
        assert code == 0
        assert "3/3" in bar
        assert after.startswith("collection  plans\n")

    def test_words_follow_what_was_done(self, folder: Path) -> None:
        assert on_a_terminal(folder, "sync") == (0, "tstore: nothing has moved\n")
        with (folder / ".taskstore" / "issues.jsonl").open("a") as file:
            file.write('{"id":"x"}\n')
        code, shown = on_a_terminal(folder, "sync", "--check")
        assert code == 6
        assert shown.startswith("collection  how ")
        assert "all is well" in on_a_terminal(folder, "check")[1]
        assert on_a_terminal(folder, "compact")[1].startswith("collection  lines before")
        assert on_a_terminal(folder, "show", "i-2")[1].startswith("collection  issues\nid          i-2\n")


def is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


class TestRealData:
    """The issues of a public project: thousands of records, and files that were committed broken."""

    @pytest.fixture
    def unpacked(self, folder: Path, shared_data: Path) -> Path:
        import lzma  # noqa: PLC0415 - reason: only where the data is

        for name in ("beads_max_live", "broken_markers_01", "broken_markers_09", "broken_torn_line"):
            with lzma.open(shared_data / f"{name}.jsonl.xz") as packed:
                (folder / f"{name}.jsonl").write_bytes(packed.read())
        return folder

    def test_every_record_comes_in_and_goes_out_as_it_was(self, unpacked: Path, tstore: Callable[..., Result]) -> None:
        file = unpacked / "beads_max_live.jsonl"
        report = json.loads(tstore("import", file.name, "-c", "issues", "--json").out)
        assert (report["lines"], report["taken"], report["bad_count"]) == (9365, 9365, 0)
        printed = tstore("list", "issues", "--jsonl").out
        assert sorted(printed.splitlines()) == sorted(file.read_text(encoding="utf-8").splitlines())
        found = tstore("list", "issues", "-f", "status=open", "-f", "priority<=1").out
        wanted = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        wanted = [one for one in wanted if one["status"] == "open" and one["priority"] <= 1]
        assert [row.split("\t")[0] for row in found.splitlines()] == sorted(one["id"] for one in wanted)
        assert tstore("check").code == 0

    @pytest.mark.parametrize("name", ["broken_markers_01", "broken_markers_09", "broken_torn_line"])
    def test_a_broken_file_is_taken_but_for_what_is_broken(
        self, name: str, unpacked: Path, tstore: Callable[..., Result]
    ) -> None:
        result = tstore("import", f"{name}.jsonl", "--json")
        report = json.loads(result.out)
        assert result.code == 1
        assert report["bad_count"] > 0
        assert report["lines"] == report["taken"] + report["superseded"] + report["bad_count"]
        lines = (unpacked / f"{name}.jsonl").read_bytes().splitlines()
        for problem in report["bad"]:
            assert f"{name}.jsonl:{problem['line']}: " in result.err or len(report["bad"]) > 20
            assert not is_object(lines[problem["line"] - 1])
