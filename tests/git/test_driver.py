"""The merge driver as git starts it, and the same for people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskstore_async.git import driver
from taskstore_async.git.driver import CONFLICT, ERROR, LOG, LOG_BYTES, MERGED, main, merge_files

BASE = b'{"id":"a","f":1,"g":1,"updated_at":1}\n'
OURS = b'{"id":"a","f":2,"g":1,"updated_at":2}\n'
THEIRS = b'{"id":"a","f":1,"g":2,"updated_at":3}\n'
BOTH = b'{"id":"a","f":2,"g":2,"updated_at":4}\n'
RIVAL = b'{"id":"a","f":3,"g":1,"updated_at":2}\n'
POINTER = b"version https://git-lfs.github.com/spec/v1\nsize 1\n"


class Files:
    """Three files in a folder, named as git names them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base, self.ours, self.theirs = (folder / name for name in ("O", "A", "B"))

    def write(self, base: bytes = BASE, ours: bytes = OURS, theirs: bytes = THEIRS) -> list[str]:
        for path, data in zip(self.paths, (base, ours, theirs), strict=True):
            path.write_bytes(data)
        return [str(path) for path in self.paths]

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        return (self.base, self.ours, self.theirs)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class TestExitCodes:
    """0 merged, 1 conflict, 2 error; the file is replaced whole or not at all."""

    @pytest.mark.parametrize("path", [[], ["issues.jsonl"]])
    def test_it_takes_three_arguments_or_four(self, files: Files, path: list[str]) -> None:
        assert main([*files.write(), *path]) == MERGED
        assert files.ours.read_bytes() == BOTH

    def test_the_words_of_the_process_are_the_default(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["taskstore-merge", *files.write()])
        assert main() == MERGED

    @pytest.mark.parametrize("count", [0, 2, 5])
    def test_any_other_number_is_an_error_that_says_how(self, count: int, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["x"] * count) == ERROR
        assert "usage: taskstore-merge" in capsys.readouterr().err

    def test_a_conflict_stands_in_the_file_and_is_told(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(files.write(theirs=RIVAL)) == CONFLICT
        assert files.ours.read_bytes().count(b"<<<<<<<") == 1
        assert "tstore resolve" in capsys.readouterr().err

    @pytest.mark.parametrize("side", ["ours", "theirs"])
    def test_an_unreadable_side_is_an_error_and_nothing_is_touched(
        self, files: Files, side: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = files.write(**{side: POINTER})
        before = files.ours.read_bytes()
        assert main([*arguments, "x.jsonl"]) == ERROR
        assert files.ours.read_bytes() == before
        assert "x.jsonl was not merged" in capsys.readouterr().err

    def test_a_folder_where_a_file_should_be_is_an_error(self, files: Files) -> None:
        arguments = files.write()
        files.theirs.unlink()
        files.theirs.mkdir()
        assert main(arguments) == ERROR
        assert files.ours.read_bytes() == OURS

    def test_running_out_of_memory_is_an_error(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise MemoryError

        monkeypatch.setattr(driver, "merge", fail)
        assert main(files.write()) == ERROR
        assert files.ours.read_bytes() == OURS


class TestInputs:
    """Inputs may be absent or empty."""

    def test_an_absent_base_is_an_empty_one(self, files: Files) -> None:
        arguments = files.write(theirs=b'{"id":"b","updated_at":1}\n')
        files.base.unlink()
        assert main(arguments) == MERGED
        assert files.ours.read_bytes() == b'{"id":"a","f":2,"g":1,"updated_at":2}\n{"id":"b","updated_at":1}\n'

    def test_without_a_base_a_side_may_be_absent(self, files: Files) -> None:
        arguments = files.write(base=b"")
        files.ours.unlink()
        assert main(arguments) == MERGED
        assert files.ours.read_bytes() == THEIRS

    def test_with_a_base_an_absent_side_is_an_error(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = files.write()
        files.theirs.unlink()
        assert main(arguments) == ERROR
        assert files.ours.read_bytes() == OURS
        assert "would delete everything" in capsys.readouterr().err


class TestReplacing:
    """The result comes in by a rename, after it is on disk."""

    def test_a_failed_write_leaves_the_file_and_no_other(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: int) -> None:
            raise OSError(28, "No space left on device")

        arguments = files.write()
        monkeypatch.setattr(os, "fsync", fail)
        assert main(arguments) == ERROR
        assert files.ours.read_bytes() == OURS
        assert sorted(path.name for path in files.folder.iterdir()) == ["A", "B", "O"]

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
    def test_one_that_is_killed_half_way_leaves_the_file(self, files: Files, repository: Path) -> None:
        program = (
            "import os, sys; sys.path.insert(0, sys.argv.pop(1))\n"
            "os.fsync = lambda _: (print('written', flush=True), sys.stdin.read())\n"
            "from taskstore_async.git.driver import main; main()"
        )
        command = [sys.executable, "-c", program, str(repository), *files.write()]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"written\n"
            assert len(list(files.folder.glob("A.*.tmp"))) == 1  # the result is on its way
            child.kill()
        assert files.ours.read_bytes() == OURS
        assert main([str(path) for path in files.paths]) == MERGED
        assert files.ours.read_bytes() == BOTH

    def test_nobody_who_listens_is_no_error(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise BrokenPipeError

        monkeypatch.setattr(driver, "_say", fail)
        assert main(files.write()) == MERGED
        assert files.ours.read_bytes() == BOTH

    def test_mode_and_link_stay(self, files: Files) -> None:
        arguments = files.write()
        files.ours.chmod(0o640)
        link = files.folder / "link"
        link.symlink_to(files.ours)
        arguments[1] = str(link)
        assert main(arguments) == MERGED
        assert link.is_symlink()
        assert files.ours.read_bytes() == BOTH
        assert files.ours.stat().st_mode & 0o777 == 0o640

    def test_a_file_that_is_right_already_is_left_alone(self, files: Files) -> None:
        arguments = files.write(theirs=BASE)
        before = files.ours.stat()
        assert main(arguments) == MERGED
        assert files.ours.stat().st_ino == before.st_ino


class TestForPeople:
    """Three files merge into standard output or a file of choice."""

    def test_to_standard_output(self, files: Files, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        base, ours, theirs = files.write()
        assert merge_files(base, ours, theirs, output=None) == MERGED
        captured = capfdbinary.readouterr()
        assert captured.out == BOTH
        assert b"1 by both" in captured.err
        assert files.ours.read_bytes() == OURS

    def test_to_another_file(self, files: Files) -> None:
        base, ours, theirs = files.write()
        output = files.folder / "out.jsonl"
        assert merge_files(base, ours, theirs, output=str(output)) == MERGED
        assert output.read_bytes() == BOTH
        assert files.ours.read_bytes() == OURS

    def test_json_is_one_object(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--json", *files.write()]) == MERGED
        report = json.loads(capsys.readouterr().out)
        assert report["both"] == 1
        assert report["decisions"][0]["rule"] == "fields"

    def test_long_reports_are_cut(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        versions = [
            b"".join(line.replace(b'"a"', b'"a%d"' % number) for number in range(50)) for line in (BASE, OURS, THEIRS)
        ]
        assert main(files.write(*versions)) == MERGED
        assert "more lines; --json says all" in capsys.readouterr().err

    def test_names_are_shown_without_their_control_characters(
        self, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*files.write(), "x\x1b[2J.jsonl"]) == MERGED
        assert "\x1b" not in capsys.readouterr().err


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / ".taskstore"
    folder.mkdir(parents=True)
    return folder


def entries(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / LOG).read_bytes().splitlines()]


class TestLog:
    """What was decided is kept beside the store's files, bounded, and never in a merge's way."""

    def test_decisions_are_kept(self, files: Files, store: Path) -> None:
        assert main([*files.write(), str(store / "plans.jsonl")]) == MERGED
        (entry,) = entries(store)
        assert entry["exit"] == MERGED
        assert entry["both"] == 1
        assert entry["decisions"][0]["id"] == "a"  # type: ignore[index]  # reason: JSON

    def test_a_folder_with_a_version_is_a_store(self, files: Files, tmp_path: Path) -> None:
        (tmp_path / ".version").write_text("1\n")
        main([*files.write(), str(tmp_path / "plans.jsonl")])
        assert len(entries(tmp_path)) == 1

    def test_nothing_is_kept_elsewhere_or_when_nothing_was_decided(self, files: Files, store: Path) -> None:
        main([*files.write(), str(files.folder / "plans.jsonl")])
        main([*files.write(theirs=BASE), str(store / "plans.jsonl")])
        main([*files.write(), str(files.folder / "nowhere" / ".taskstore" / "plans.jsonl")])
        assert not list(files.folder.rglob(LOG))

    def test_it_is_bounded_and_keeps_the_newest(self, files: Files, store: Path) -> None:
        old = b'{"at":1,"path":"old","decisions":[]}\n'
        (store / LOG).write_bytes(old * (LOG_BYTES // len(old)))
        main([*files.write(), str(store / "plans.jsonl")])
        assert (store / LOG).stat().st_size < LOG_BYTES * 3 // 4
        found = entries(store)
        assert found[0]["path"] == "old"
        assert found[-1]["both"] == 1

    def test_a_merge_of_many_decisions_keeps_the_first_and_counts_the_rest(self, files: Files, store: Path) -> None:
        long = "x" * 10_000
        versions = [
            b"".join(
                line.replace(b'"a"', b'"a%d"' % number).replace(b'"f"', b'"%b"' % long.encode()) for number in range(40)
            )
            for line in (BASE, OURS, THEIRS)
        ]
        assert main([*files.write(*versions), str(store / "plans.jsonl")]) == MERGED
        (entry,) = entries(store)
        assert entry["decided"] == 40
        assert 5 < len(entry["decisions"]) < 20  # type: ignore[arg-type]  # reason: JSON
        assert (store / LOG).stat().st_size < LOG_BYTES // 2

    def test_one_that_cannot_be_written_fails_no_merge(self, files: Files, store: Path) -> None:
        (store / LOG).mkdir()
        assert main([*files.write(), str(store / "plans.jsonl")]) == MERGED
        assert files.ours.read_bytes() == BOTH


class TestDeclaredReferences:
    """What the store declares beside the file says which fields are references."""

    OLD = b'{"id":"t-1","created_at":10,"title":"Fix the parser","updated_at":10}\n'
    YOUNG = b'{"id":"t-1","created_at":20,"title":"Write documents","updated_at":20}\n'
    REFERS = b'{"id":"u","owner":"t-1","updated_at":20}\n'

    def owner(self, files: Files, store: Path) -> str:
        arguments = files.write(b"", self.OLD, self.YOUNG + self.REFERS)
        assert main([*arguments, str(store / "plans.jsonl")]) == MERGED
        return next(
            str(record["owner"])
            for record in map(json.loads, files.ours.read_bytes().splitlines())
            if record["id"] == "u"
        )

    def test_a_declared_reference_is_rewritten(self, files: Files, store: Path) -> None:
        types = {"id": "plans", "updated_at": 1, "fields": {"owner": {"references": "plans"}, "x": {"indexed": True}}}
        (store / "_types.jsonl").write_text(json.dumps(types) + "\n")
        assert self.owner(files, store).startswith("t-1-")

    @pytest.mark.parametrize(
        "types",
        [
            None,
            '{"id":"plans","updated_at":1,"fields":{"owner":{"references":"others"}}}\n',
            '{"id":"plans","updated_at":1,"fields":7}\n',
            "nonsense\n",
            '{"id":"others","updated_at":1,"fields":{"owner":{"references":"plans"}}}\n',
        ],
    )
    def test_anything_else_declares_none(self, files: Files, store: Path, types: str | None) -> None:
        if types is not None:
            (store / "_types.jsonl").write_text(types)
        assert self.owner(files, store) == "t-1"

    def test_what_cannot_be_read_declares_none(
        self, files: Files, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (store / "_types.jsonl").mkdir()
        assert self.owner(files, store) == "t-1"
        monkeypatch.setattr(driver, "_TYPES_BYTES", 0)
        assert self.owner(files, store) == "t-1"


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture
def clone(tmp_path: Path, repository: Path) -> Path:
    """A repository whose journals are merged by the driver."""
    folder = tmp_path / "clone"
    folder.mkdir()
    program = f"import sys; sys.path.insert(0, {str(repository)!r}); from taskstore_async.git.driver import main"
    command = f'"{sys.executable}" -c "{program}; sys.exit(main())" %O %A %B %P'
    assert git(folder, "init", "-q").returncode == 0
    git(folder, "config", "merge.tstore.driver", command)
    (folder / ".gitattributes").write_text("*.jsonl -text merge=tstore\n")
    (folder / "x.jsonl").write_bytes(BASE)
    commit(folder, "base")
    return folder


def commit(folder: Path, message: str, data: bytes | None = None) -> None:
    if data is not None:
        (folder / "x.jsonl").write_bytes(data)
    git(folder, "add", "-A")
    assert git(folder, "commit", "-qm", message).returncode == 0


class TestUnderGit:
    """git merge, cherry-pick and revert call the driver, and keep what it made."""

    def test_merge(self, clone: Path) -> None:
        git(clone, "checkout", "-qb", "topic")
        commit(clone, "theirs", THEIRS)
        git(clone, "checkout", "-q", "main")
        commit(clone, "ours", OURS)
        result = git(clone, "merge", "topic", "-m", "merge")
        assert result.returncode == 0, result.stderr
        assert (clone / "x.jsonl").read_bytes() == BOTH

    def test_a_conflict_stops_the_merge(self, clone: Path) -> None:
        git(clone, "checkout", "-qb", "topic")
        commit(clone, "theirs", RIVAL)
        git(clone, "checkout", "-q", "main")
        commit(clone, "ours", OURS)
        assert git(clone, "merge", "topic").returncode == 1
        assert b"<<<<<<<" in (clone / "x.jsonl").read_bytes()

    def test_revert_takes_back_one_change_and_keeps_later_ones(self, clone: Path) -> None:
        other = b'{"id":"b","updated_at":1}\n'
        commit(clone, "change", BASE + OURS)
        commit(clone, "more", BASE + OURS + other)
        result = git(clone, "revert", "--no-edit", "HEAD~1")
        assert result.returncode == 0, result.stderr
        assert (clone / "x.jsonl").read_bytes() == BASE + other


class TestImports:
    """Git starts it for every file: it loads the core and msgspec, and little else."""

    @pytest.fixture
    def loaded(self, files: Files) -> set[str]:
        """What is loaded at the end of a merge."""
        code = (
            "import sys; count = int(sys.argv.pop(1)); sys.path[:0] = sys.argv[1:count]; del sys.argv[1:count]\n"
            "from taskstore_async.git.driver import main; main(); print(*sys.modules)"
        )
        paths = list(filter(os.path.isabs, sys.path))
        result = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, str(len(paths) + 1), *paths, *files.write()],
            check=True,
            capture_output=True,
            text=True,
        )
        assert files.ours.read_bytes() == BOTH
        return set(result.stdout.split())

    def test_nothing_heavy_is_loaded(self, loaded: set[str]) -> None:
        heavy = {
            "argparse", "asyncio", "concurrent", "hashlib", "importlib.metadata", "json", "pathlib", "selectors",
            "socket", "sqlite3", "subprocess", "tempfile", "threading",
        }  # fmt: skip
        assert loaded & heavy == set()

    def test_of_other_projects_only_msgspec(self, loaded: set[str]) -> None:
        names = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"__main__"}
        assert names - {"typing_extensions", "_distutils_hack"} == {
            "msgspec",
            "taskstore_async",
        }  # msgspec loads the former

    def test_of_this_project_the_core_of_merging(self, loaded: set[str]) -> None:
        own = {name.removeprefix("taskstore_async.") for name in loaded if name.startswith("taskstore_async.")}
        assert own == {
            "errors", "git", "git.driver", "core", "core.codec", "core.fold", "core.ids", "core.line",
            "core.line_reader", "core.merge", "core.merge_file", "core.merge_history", "core.merge_read",
            "core.merge_renames", "core.merge_report", "core.merge_stamp", "core.merge_state", "core.merge_values",
            "core.names", "core.readback", "core.stamp",
        }  # fmt: skip
