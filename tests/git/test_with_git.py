"""What git does to a store with the merge driver and without hooks: nothing is lost, nothing comes back to life."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from taskstore_async.cli import main
from taskstore_async.git import install
from tests.git.support import JOURNAL, Clone


class TestPromise:
    """Two branches that both created a record merge without a conflict, without hooks and without a further command."""

    def test_from_nothing_to_three_records(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        here = Clone(tmp_path)
        here.git("init", "--quiet", "-b", "main")
        assert main(["init"]) == 0
        assert main(["install-merge-driver"]) == 0
        assert main(["create", "issues", "--id", "A", "title=first"]) == 0
        here.commit("A")
        here.switch("-b", "side")
        assert main(["create", "issues", "--id", "B", "title=second"]) == 0
        here.commit("B")
        here.switch("main")
        assert main(["create", "issues", "--id", "C", "title=third"]) == 0
        here.commit("C")
        here.git("merge", "--quiet", "side")
        capfd.readouterr()
        assert main(["list", "issues", "--fields", "id"]) == 0
        assert capfd.readouterr().out == "A\nB\nC\n"
        assert here.git("status", "--porcelain") == ""


class TestMerge:
    """Merging, however git comes to do it, is record by record and field by field."""

    def test_fields_of_one_record_are_merged(self, clone: Clone) -> None:
        clone.switch("-b", "side")
        clone.change("a", status="done")
        clone.commit()
        clone.switch("main")
        clone.change("a", owner="kim")
        clone.commit()
        clone.git("merge", "--quiet", "side")
        assert (clone.records()["a"]["status"], clone.records()["a"]["owner"]) == ("done", "kim")

    def test_a_rebase_keeps_both_sides(self, clone: Clone) -> None:
        clone.switch("-b", "side")
        for name in "bc":
            clone.put(name)
            clone.commit()
        clone.switch("main")
        clone.put("d")
        clone.commit()
        clone.switch("side")
        clone.git("rebase", "--quiet", "main")
        assert clone.ids() == "a b c d"
        assert len(clone.git("rev-list", "main..side").split()) == 2

    def test_a_record_that_was_picked_and_then_deleted_stays_deleted(self, clone: Clone) -> None:
        clone.switch("-b", "side")
        clone.put("b")
        clone.commit()
        clone.put("c")
        clone.commit()
        clone.switch("main")
        clone.put("d")
        clone.commit()
        clone.git("cherry-pick", "side~1")
        assert clone.ids() == "a b d"
        clone.delete("b")
        clone.commit()
        clone.git("merge", "--quiet", "side")
        assert clone.ids() == "a c d"

    def test_an_octopus_is_refused_and_one_by_one_works(self, clone: Clone) -> None:
        for name in "bcd":
            clone.switch("-b", name, "main")
            clone.put(name)
            clone.commit()
        clone.switch("main")
        clone.put("e")
        clone.commit()
        assert clone.run("git", "merge", "b", "c", "d").code != 0
        clone.git("reset", "--quiet", "--hard")
        for name in "bcd":
            clone.git("merge", "--quiet", name)
        assert clone.ids() == "a b c d e"

    def test_a_stash_comes_back_beside_what_was_committed_since(self, clone: Clone) -> None:
        clone.put("b")
        clone.git("stash", "--quiet")
        assert clone.ids() == "a"
        clone.put("c")
        clone.commit()
        clone.git("stash", "pop", "--quiet")
        assert clone.ids() == "a b c"


class TestRevert:
    """A revert takes back what it is told to, and is itself taken back by another."""

    @pytest.fixture
    def changed(self, clone: Clone) -> Clone:
        clone.change("a", status="done")
        clone.commit("done")
        clone.put("b")
        clone.commit("b")
        clone.change("a", owner="kim")
        clone.commit("owner")
        return clone

    def test_a_change_is_taken_back_and_a_later_one_of_another_field_stays(self, changed: Clone) -> None:
        changed.git("revert", "--no-edit", "HEAD~2")
        a = changed.records()["a"]
        assert (a["status"], a["owner"]) == ("open", "kim")
        assert changed.ids() == "a b"

    def test_a_revert_is_no_silent_nothing_and_can_be_reverted(self, changed: Clone) -> None:
        before = changed.git("rev-parse", "HEAD:.taskstore")
        changed.git("revert", "--no-edit", "HEAD~2")
        assert changed.git("rev-parse", "HEAD:.taskstore") != before
        changed.git("revert", "--no-edit", "HEAD")
        a = changed.records()["a"]
        assert (a["status"], a["owner"]) == ("done", "kim")

    def test_a_record_whose_creation_is_reverted_goes_and_comes_back(self, changed: Clone) -> None:
        changed.git("revert", "--no-edit", "HEAD~1")
        assert changed.ids() == "a"
        changed.git("revert", "--no-edit", "HEAD")
        assert changed.ids() == "a b"


class TestClones:
    """Clones exchange records by pull and push; each needs the driver's configuration once."""

    @pytest.fixture
    def other(self, clone: Clone, tmp_path: Path) -> Clone:
        clone.git("clone", "--quiet", str(clone.top), str(tmp_path / "other"))
        return Clone(tmp_path / "other")

    def test_a_pull_merges(self, clone: Clone, other: Clone) -> None:
        install(other.home, hooks=False)
        clone.put("b")
        clone.commit()
        other.put("c")
        other.commit()
        other.git("pull", "--quiet", "--no-rebase")
        assert other.ids() == "a b c"
        clone.git("pull", "--quiet", "--no-rebase", str(other.top), "main")
        assert clone.ids() == "a b c"
        assert clone.journal.read_bytes() == other.journal.read_bytes()

    def test_a_clone_without_the_driver_conflicts_and_can_be_mended(self, clone: Clone, other: Clone) -> None:
        clone.put("b")
        clone.commit()
        other.put("c")
        other.commit()
        assert other.run("git", "pull", "--no-rebase").code != 0
        assert other.ids() == "a b c"  # the lines between the markers are read, both sides'
        install(other.home, hooks=False)
        other.git("checkout", "--merge", "--", JOURNAL)
        other.commit("merged")
        assert other.ids() == "a b c"
        assert b"<<<" not in other.journal.read_bytes()
        assert other.is_sound()

    def test_linked_working_trees_share_the_driver_and_have_an_index_each(self, clone: Clone, tmp_path: Path) -> None:
        clone.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "tree"))
        tree = Clone(tmp_path / "tree")
        tree.put("b")
        tree.commit()
        clone.put("c")
        clone.commit()
        assert (tree.ids(), clone.ids()) == ("a b", "a c")
        tree.git("merge", "--quiet", "main")
        assert (tree.ids(), clone.ids()) == ("a b c", "a c")
        assert tree.is_sound()

    def test_a_store_in_a_submodule_merges_there(self, clone: Clone, tmp_path: Path) -> None:
        outer = Clone.made(tmp_path / "outer", driver=False)
        outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(clone.top), "state")
        inner = Clone(outer.top / "state")
        install(inner.home, hooks=False)
        inner.put("b")
        inner.commit()
        clone.put("c")
        clone.commit()
        inner.git("pull", "--quiet", "--no-rebase")
        assert (inner.ids(), outer.ids()) == ("a b c", "a")
        assert outer.run("git", "config", "merge.tstore.driver").code == 1


class TestMishaps:
    """A driver that cannot run, or dies, leaves our side whole, and git says that it is not merged."""

    @pytest.fixture
    def forked(self, clone: Clone) -> Clone:
        clone.switch("-b", "side")
        clone.put("b")
        clone.commit()
        clone.switch("main")
        clone.put("c")
        clone.commit()
        return clone

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A directory of programs, first on the PATH."""
        (tmp_path / "bin").mkdir()
        return tmp_path / "bin"

    def merge_again(self, forked: Clone) -> None:
        assert "UU " in forked.git("status", "--porcelain")
        assert forked.ids() == "a c"
        forked.git("checkout", "--merge", "--", JOURNAL)
        forked.git("commit", "--quiet", "--all", "--no-edit")
        assert forked.ids() == "a b c"

    def test_a_program_that_is_missing(self, forked: Clone, folder: Path) -> None:
        (folder / "git").symlink_to(shutil.which("git") or "")
        result = forked.run("git", "merge", "side", PATH=f"{folder}:/bin")
        assert result.code == 1
        assert "tstore: not found" in result.err
        self.merge_again(forked)

    def test_a_driver_that_is_killed_half_way(self, forked: Clone, folder: Path) -> None:
        program = folder / "tstore"
        program.write_text(
            f"#!{sys.executable}\nimport os, signal, sys\nfrom taskstore_async.cli import main\n"
            "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nsys.exit(main())\n"
        )
        program.chmod(0o755)
        assert forked.run("git", "merge", "side", PATH=f"{folder}:{os.environ['PATH']}").code == 1
        self.merge_again(forked)
