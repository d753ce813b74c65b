"""What doctor sees, by trying what git would run, and that what it mends is mended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from taskstore_async import __version__
from taskstore_async.git import detectors, install, status, uninstall
from taskstore_async.git.attributes import COMMAND
from taskstore_async.git.block import HOOKS, insert
from taskstore_async.git.doctor import DoctorReport, Finding, doctor
from taskstore_async.storage.store import Store
from tests.git.support import Clone


@pytest.fixture(autouse=True)
def _sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite that nothing is to be said of."""
    monkeypatch.setattr(detectors, "SAFE_SQLITE", (3, 0, 0))


def found(clone: Clone, *, fix: bool = False) -> dict[str, Finding]:
    return {one.id: one for one in doctor(clone.home, fix=fix).findings}


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Put programs first on the PATH."""
    folder.mkdir()
    for name, script in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(script)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


class TestHealth:
    """Where all is well, nothing is found; where something is not, the report is not ok."""

    def test_all_is_well(self, hooked: Clone) -> None:
        assert doctor(hooked.home) == DoctorReport(store=str(hooked.store), ok=True, findings=())

    def test_without_hooks_there_is_a_note(self, clone: Clone) -> None:
        report = doctor(clone.home)
        assert report.ok
        (note,) = report.findings
        assert (note.id, note.error, note.fixable) == ("hooks-absent", False, False)
        assert note.advice == "tstore install-hooks"
        assert doctor(clone.home, fix=True) == report  # nobody asked for hooks

    def test_outside_of_git_there_is_a_note(self, tmp_path: Path) -> None:
        clone = Clone(tmp_path)
        clone.put("a")
        assert doctor(tmp_path).ok
        assert set(found(clone)) == {"no-repository"}

    def test_a_git_that_does_not_work_is_an_error(self, clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", os.devnull)
        assert not doctor(clone.home).ok
        assert set(found(clone)) == {"git-failed"}


class TestStore:
    """What can be seen in the store's directory."""

    def test_an_old_sqlite_is_named(self, hooked: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(detectors, "SAFE_SQLITE", (3, 51, 3))
        monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 51, 2))
        assert not found(hooked)["sqlite-old"].error
        monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 51, 3))
        assert found(hooked) == {}

    def test_conflict_markers_are_reported(self, hooked: Clone) -> None:
        whole = hooked.journal.read_bytes()
        hooked.journal.write_bytes(whole + b'<<<<<<< HEAD\n{"id":"b"}\n=======\n{"id":"c"}\n>>>>>>> side\n')
        one = found(hooked)["conflict-markers"]
        assert one.error
        assert "issues.jsonl has conflict markers, at line 2" in one.seen
        assert "tstore resolve" in one.advice
        hooked.journal.write_bytes(whole)

    @pytest.mark.parametrize("later", [2, 1])
    def test_those_of_the_declarations_go_as_it_says(self, hooked: Clone, later: int) -> None:
        upper = b'{"id":"issues","updated_at":1,"fields":{}}\n'
        lower = b'{"id":"issues","updated_at":%d,"fields":{"title":{"indexed":true}}}\n' % later
        types = hooked.journal.with_name("_types.jsonl")
        types.write_bytes(b"<<<<<<< HEAD\n" + upper + b"=======\n" + lower + b">>>>>>> side\n")
        command = found(hooked)["conflict-markers"].advice.rpartition("tstore ")[2].split()
        with Store.open(hooked.home) as store:
            getattr(store, command[0])(command[1])
        assert types.read_bytes() == lower
        assert "conflict-markers" not in found(hooked)

    def test_what_only_looks_like_one_is_none(self, hooked: Clone) -> None:
        hooked.put("b", title="<<<<<<< HEAD")
        assert found(hooked) == {}


class TestDriver:
    """The driver is tried on a merge of three lines, with what git would run."""

    def test_it_is_not_configured(self, hooked: Clone) -> None:
        uninstall(hooked.home, hooks=False)
        one = found(hooked)["driver-not-configured"]
        assert (one.error, one.fixable, one.fixed) == (True, True, False)
        assert found(hooked, fix=True)["driver-not-configured"].fixed
        assert status(hooked.home).driver == COMMAND
        assert doctor(hooked.home).ok

    def test_a_program_that_drops_their_side_without_a_word(
        self, hooked: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        programs(tmp_path / "bin", monkeypatch, taskstore_merge="#!/bin/sh\nexit 0\n")
        hooked.git("config", "merge.tstore.driver", "taskstore-merge %O %A %B %P")
        one = found(hooked)["driver-fails"]
        assert "left our side as it was, and theirs is lost (without a word)" in one.seen
        assert found(hooked, fix=True)["driver-fails"].fixed
        assert status(hooked.home).driver == COMMAND

    def test_a_program_that_does_something_else(
        self, hooked: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        programs(tmp_path / "bin", monkeypatch, taskstore_merge='#!/bin/sh\ncat "$3" > "$2"\n')
        hooked.git("config", "merge.tstore.driver", "taskstore-merge %O %A %B %P")
        assert "of three lines" in found(hooked)["driver-fails"].seen

    def test_a_program_that_is_missing(self, hooked: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "bin").mkdir()
        for name in ("git", "sh"):
            target = next(Path(one) / name for one in os.environ["PATH"].split(":") if (Path(one) / name).exists())
            (tmp_path / "bin" / name).symlink_to(target)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        every = found(hooked)
        assert set(every) == {"program-not-found", "driver-fails", "hook-unreachable"}
        assert "tstore: not found" in every["driver-fails"].seen
        assert not every["driver-fails"].fixable
        assert not doctor(hooked.home, fix=True).ok

    def test_a_program_of_another_version(self, hooked: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        other = (
            f"#!{sys.executable}\nimport sys, taskstore_async\ntaskstore_async.__version__ = '0.0.9'\n"
            "from taskstore_async.cli import main\nsys.exit(main())\n"
        )
        programs(tmp_path / "bin", monkeypatch, tstore=other)
        every = found(hooked)
        assert set(every) == {"program-differs", "hook-unreachable"}
        assert every["program-differs"].seen == f"git finds tstore 0.0.9 on its PATH, and this is {__version__}"
        assert "tstore 0.0.9 answered" in every["hook-unreachable"].seen

    def test_the_persons_own_configuration_of_git_has_no_part_in_the_probe(
        self, hooked: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "hooks").mkdir()
        hook = tmp_path / "hooks" / "post-checkout"
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
        hook.chmod(0o755)
        (tmp_path / "config").write_text(f"[core]\n\thooksPath = {tmp_path}/hooks\n")
        hooked.git("config", "core.hooksPath", ".git/hooks")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
        monkeypatch.setenv("GIT_DIR", "/nonexistent")
        assert found(hooked) == {}
        assert not (tmp_path / "was-run").exists()
        monkeypatch.delenv("GIT_DIR")


class TestAttributes:
    """The attributes must name the driver, and nothing may say otherwise."""

    def test_they_are_missing(self, hooked: Clone) -> None:
        (hooked.store / ".gitattributes").write_text("*.md text\n")
        assert "its text merge" in found(hooked)["attributes-missing"].seen
        assert found(hooked, fix=True)["attributes-missing"].fixed
        assert (hooked.store / ".gitattributes").read_text() == "*.md text\n*.jsonl -text merge=tstore\n"

    def test_they_are_overridden(self, hooked: Clone) -> None:
        (hooked.top / ".git" / "info" / "attributes").write_text("*.jsonl -merge\n")
        one = found(hooked, fix=True)["attributes-overridden"]
        assert (one.fixable, one.fixed) == (False, False)
        assert "git check-attr -a .taskstore/any.jsonl" in one.advice


class TestHooks:
    """Every hook is run as far as our lines, and no further."""

    def test_some_are_missing_or_old(self, hooked: Clone) -> None:
        hooks = hooked.top / ".git" / "hooks"
        (hooks / "pre-push").unlink()
        (hooks / "post-merge").write_text("#!/bin/sh\n# >>> tstore >>>\nold\n# <<< tstore <<<\n")
        one = found(hooked)["hooks-incomplete"]
        assert "post-merge, pre-push" in one.seen
        assert found(hooked, fix=True)["hooks-incomplete"].fixed
        assert found(hooked) == {}

    def test_one_that_cannot_be_run(self, hooked: Clone) -> None:
        hook = hooked.top / ".git" / "hooks" / "pre-push"
        hook.write_bytes(insert(b"#!/nonexistent/bash\n", "pre-push"))
        one = found(hooked)["hook-unreachable"]
        assert one.seen == "git ran pre-push, and nobody answered"

    def test_what_stands_behind_our_lines_is_not_run(self, hooked: Clone) -> None:
        for name in HOOKS:
            hook = hooked.top / ".git" / "hooks" / name
            hook.write_bytes(insert(b"#!/bin/sh\ntouch was-run\n", name))
        assert found(hooked) == {}
        assert not (hooked.top / "was-run").exists()

    def test_a_directory_that_is_not_ours(self, clone: Clone) -> None:
        clone.git("config", "core.hooksPath", "hooks")
        install(clone.home)
        one = found(clone, fix=True)["hooks-absent"]
        assert "add this line at its top: tstore hook pre-commit" in one.advice
        assert not (clone.top / "hooks").exists()


class TestAncestor:
    """What the older program left is reported, and replaced when that is asked for."""

    @pytest.fixture
    def left(self, hooked: Clone) -> Clone:
        uninstall(hooked.home)
        hooks = hooked.top / ".git" / "hooks"
        for name in ("pre-commit", "post-merge", "post-rebase", "pre-push", "post-checkout"):
            (hooks / name).write_text("#!/bin/sh\n# Auto-generated by taskstore\ntaskstore sync\n")
            (hooks / name).chmod(0o755)
        (hooks / "pre-push").write_text("#!/bin/sh\necho mine\n\ntaskstore sync")
        (hooked.top / ".gitattributes").write_text("*.png binary\n\n.taskstore/*.jsonl merge=taskstore-merge\n")
        return hooked

    def test_it_is_reported(self, left: Clone) -> None:
        every = found(left)
        assert {"ancestor-hooks", "ancestor-attributes"} <= set(every)
        assert "pre-commit" in every["ancestor-hooks"].seen
        assert "post-rebase" in every["ancestor-hooks"].seen

    def test_it_is_replaced(self, left: Clone) -> None:
        report = doctor(left.home, fix=True)
        assert report.ok
        assert all(one.fixed for one in report.findings)
        hooks = left.top / ".git" / "hooks"
        assert not (hooks / "post-rebase").exists()
        assert (hooks / "pre-push").read_bytes() == insert(b"#!/bin/sh\necho mine\n\n", "pre-push")
        assert (left.top / ".gitattributes").read_text() == "*.png binary\n\n"
        assert found(left) == {}

    def test_what_else_an_attribute_says_stays_and_an_empty_file_goes(self, left: Clone) -> None:
        file = left.top / ".gitattributes"
        file.write_text(".taskstore/*.jsonl merge=taskstore-merge -diff\n")
        doctor(left.home, fix=True)
        assert file.read_text() == ".taskstore/*.jsonl -diff\n"
        file.write_text(".taskstore/*.jsonl merge=taskstore-merge\n")
        doctor(left.home, fix=True)
        assert not file.exists()

    def test_in_a_directory_that_is_not_ours_it_is_only_reported(self, left: Clone) -> None:
        left.git("config", "core.hooksPath", "hooks")
        (left.top / "hooks").mkdir()
        hook = left.top / "hooks" / "pre-push"
        hook.write_text("#!/bin/sh\ntaskstore sync\n")
        one = found(left, fix=True)["ancestor-hooks"]
        assert (one.fixable, one.fixed) == (False, False)
        assert hook.read_text() == "#!/bin/sh\ntaskstore sync\n"


class TestFix:
    """A fix that fails says why, and the others go on."""

    def test_a_failure_is_told(self, hooked: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise PermissionError(13, "Permission denied", "somewhere")

        uninstall(hooked.home, hooks=False)
        (hooked.top / ".gitattributes").write_text(".taskstore/*.jsonl merge=taskstore-merge\n")
        monkeypatch.setattr("taskstore_async.git.ancestor.clear_attributes", broken)
        report = doctor(hooked.home, fix=True)
        every = {one.id: one for one in report.findings}
        assert not report.ok
        assert "Permission denied" in every["ancestor-attributes"].failure
        assert every["driver-not-configured"].fixed
