"""The hooks, run by git: records and commits stay in step, and nothing ever stands in git's way but one thing."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taskstore_async.core.record import Document
from taskstore_async.core.schedule import SyncConfig
from taskstore_async.git import events, install, uninstall
from taskstore_async.git.block import REFUSED
from taskstore_async.storage.store import Store
from tests.git.support import COLLECTION, JOURNAL, Clone, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER = SyncConfig(auto_export=False)


def committed(clone: Clone, revision: str = "HEAD") -> str:
    return clone.git("show", f"{revision}:{JOURNAL}")


def commit(clone: Clone, *words: str, message: str = "x") -> Result:
    return clone.run("git", "commit", "--quiet", "-m", message, *words)


@pytest.fixture
def running(hooked: Clone) -> Iterator[Store]:
    """Another handle, as another process has it, that keeps what it writes in its outbox."""
    with Store.open(hooked.home, sync=NEVER) as store:
        yield store


class TestPreCommit:
    """A commit has the records as they are, also those that another process has not flushed yet."""

    def test_it_takes_what_waits_in_another_process(self, hooked: Clone, running: Store) -> None:
        running.put(Document(COLLECTION, {"id": "b", "title": "waits"}))
        assert "waits" not in hooked.journal.read_text()
        done = commit(hooked, "--allow-empty")
        assert (done.code, done.err) == (0, "")
        assert "waits" in committed(hooked)
        assert hooked.git("status", "--porcelain") == ""

    def test_all_tracked_files_of_the_store_are_taken_and_no_other(self, hooked: Clone) -> None:
        specs = hooked.store / "task_specs"
        specs.mkdir()
        for path in (specs / "a.md", hooked.top / "README.md"):
            path.write_text("first\n")
        hooked.commit()
        for path in (specs / "a.md", hooked.top / "README.md"):
            path.write_text("second\n")
        (specs / "b.md").write_text("new\n")
        assert commit(hooked, "--allow-empty").code == 0
        assert hooked.git("show", "--name-only", "--format=", "HEAD").split() == [".taskstore/task_specs/a.md"]

    def test_a_journal_that_is_new_is_named_and_not_taken(self, hooked: Clone) -> None:
        with Store.open(hooked.home) as store:
            store.put(Document("plans", {"id": "p"}))
        done = commit(hooked, "--allow-empty")
        assert done.code == 0
        assert done.err == (
            "tstore: .taskstore/plans.jsonl is new, and not in this commit; git add it, or let git ignore it\n"
        )
        assert hooked.git("status", "--porcelain") == "?? .taskstore/plans.jsonl\n"

    def test_long_texts_beside_a_tracked_journal_come_and_go_with_their_records(self, hooked: Clone) -> None:
        texts = hooked.store / COLLECTION
        texts.mkdir()
        (texts / "old.md").write_text("old\n")
        hooked.commit()
        (texts / "old.md").unlink()
        (texts / "new.md").write_text("new\n")
        for name in ("notes.txt", ".draft.md"):
            (texts / name).write_text("no text of a record\n")
        (hooked.store / "README.md").write_text("neither\n")
        assert commit(hooked, "--allow-empty").code == 0
        assert hooked.git("show", "--name-status", "--no-renames", "--format=", "HEAD").split() == [
            "A", ".taskstore/issues/new.md", "D", ".taskstore/issues/old.md",
        ]  # fmt: skip
        assert hooked.git("status", "--porcelain").splitlines() == [
            "?? .taskstore/README.md", "?? .taskstore/issues/.draft.md", "?? .taskstore/issues/notes.txt",
        ]  # fmt: skip

    def test_long_texts_stay_out_of_a_commit_that_is_not_of_their_journal(self, hooked: Clone) -> None:
        (hooked.store / COLLECTION).mkdir()
        (hooked.store / COLLECTION / "new.md").write_text("new\n")
        hooked.change("a", title="new")
        (hooked.store / ".gitignore").write_text((hooked.store / ".gitignore").read_text() + "x\n")
        assert commit(hooked, "--", ".taskstore/.gitignore").code == 0
        assert hooked.git("show", "--name-only", "--format=", "HEAD").split() == [".taskstore/.gitignore"]
        assert commit(hooked, "--", JOURNAL).code == 0
        assert hooked.git("show", "--name-only", "--format=", "HEAD").split() == [JOURNAL, ".taskstore/issues/new.md"]
        assert hooked.git("status", "--porcelain") == ""

    def test_a_journal_that_is_missing_is_left_to_the_person(self, hooked: Clone) -> None:
        hooked.journal.unlink()
        assert commit(hooked, "--allow-empty").code == 0
        assert hooked.git("status", "--porcelain") == f" D {JOURNAL}\n"
        hooked.git("checkout", "--", JOURNAL)

    def test_with_all_it_is_the_commits_index_that_is_staged_in(self, hooked: Clone, running: Store) -> None:
        running.put(Document(COLLECTION, {"id": "b", "title": "waits"}))
        (hooked.store / ".gitignore").write_text((hooked.store / ".gitignore").read_text() + "x\n")
        assert commit(hooked, "--all").code == 0
        assert "waits" in committed(hooked)
        assert hooked.git("status", "--porcelain") == ""

    def test_a_commit_of_other_files_stays_one_of_them(self, hooked: Clone, running: Store) -> None:
        (hooked.top / "README.md").write_text("first\n")
        hooked.git("add", "README.md")
        running.put(Document(COLLECTION, {"id": "b", "title": "waits"}))
        assert commit(hooked, "--", "README.md").code == 0
        assert hooked.git("show", "--name-only", "--format=", "HEAD").split() == ["README.md"]
        assert hooked.git("status", "--porcelain") == f" M {JOURNAL}\n"

    def test_a_commit_of_the_journal_by_name_is_complete_and_leaves_nothing_staged(
        self, hooked: Clone, running: Store
    ) -> None:
        hooked.put("b", title="flushed")
        running.put(Document(COLLECTION, {"id": "c", "title": "waits"}))
        assert commit(hooked, "--", JOURNAL).code == 0
        assert "waits" in committed(hooked)
        assert hooked.git("status", "--porcelain") == ""

    def test_in_a_linked_working_tree_it_is_that_ones_store(self, hooked: Clone, tmp_path: Path) -> None:
        hooked.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "tree"))
        tree = Clone(tmp_path / "tree")
        with Store.open(tree.home, sync=NEVER) as store:
            store.put(Document(COLLECTION, {"id": "b", "title": "waits"}))
            done = commit(tree, "--allow-empty")
        assert (done.code, done.err) == (0, "")
        assert "waits" in committed(tree)
        assert (tree.git("status", "--porcelain"), hooked.git("status", "--porcelain")) == ("", "")

    def test_in_a_submodule_it_is_the_submodules_store(self, clone: Clone, tmp_path: Path) -> None:
        outer = Clone.made(tmp_path / "outer", hooks=True)
        outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(clone.top), "state")
        inner = Clone(outer.top / "state")
        install(inner.home)
        with Store.open(inner.home, sync=NEVER) as store, Store.open(outer.home, sync=NEVER) as outside:
            store.put(Document(COLLECTION, {"id": "b", "title": "waits inside"}))
            outside.put(Document(COLLECTION, {"id": "b", "title": "waits outside"}))
            assert commit(inner, "--allow-empty").code == 0
            assert "waits inside" in committed(inner)
            assert "waits outside" not in outer.journal.read_text()
            assert commit(outer, "--allow-empty").code == 0
        assert "waits outside" in committed(outer)

    def test_every_tracked_store_below_the_top_is_taken(self, tmp_path: Path) -> None:
        clone = Clone.made(tmp_path / "clone", place="tools [x]", hooks=True)
        other = Clone(clone.top, "other")
        other.home.mkdir()
        other.put("o")
        clone.commit()
        clone.change("a", title="here")
        other.change("o", title="there")
        assert commit(clone, "--allow-empty").code == 0
        names = clone.git("show", "--name-only", "--format=", "-z", "HEAD").split("\0")
        assert {f"tools [x]/{JOURNAL}", f"other/{JOURNAL}"} <= set(names)

    def test_a_store_that_git_does_not_track_is_none_of_its_business(self, hooked: Clone) -> None:
        hooked.git("rm", "-r", "--quiet", "--cached", ".taskstore")
        with (hooked.top / ".gitignore").open("a") as file:
            file.write(".taskstore/\n")
        hooked.commit()
        hooked.change("a", title="private")
        done = commit(hooked, "--allow-empty")
        assert (done.code, done.err) == (0, "")
        assert hooked.git("show", "--name-only", "--format=", "HEAD") == ""


class TestRefusal:
    """The one thing that is refused is a merge commit that lacks records of the other side."""

    @pytest.fixture
    def conflicted(self, hooked: Clone) -> Clone:
        """In the middle of a merge that git made as text, because the clone had no driver."""
        uninstall(hooked.home, hooks=False)
        hooked.switch("-b", "side")
        hooked.put("b")
        hooked.put("c")
        hooked.put("x")
        hooked.delete("x")
        hooked.commit()
        hooked.switch("main")
        hooked.put("d")
        hooked.commit()
        assert hooked.run("git", "-c", "core.hooksPath=/dev/null", "merge", "side").code == 1
        return hooked

    def test_our_side_alone_is_refused_and_what_it_says_mends_it(self, conflicted: Clone) -> None:
        conflicted.git("checkout", "--ours", "--", JOURNAL)
        conflicted.git("add", JOURNAL)
        done = commit(conflicted)
        assert done.code == 1
        line = done.err.splitlines()[-1]
        assert f"{JOURNAL} lacks 2 record(s) of the branch that is being merged: b, c" in line
        mend = line.partition("Merge it again: ")[2].partition(", then commit")[0]
        assert conflicted.run("sh", "-c", mend).code == 0
        assert commit(conflicted).code == 0
        assert conflicted.ids() == "a b c d"
        assert len(conflicted.git("rev-parse", "HEAD^@").split()) == 2

    def test_that_the_driver_was_configured_since_makes_it_no_better(self, conflicted: Clone) -> None:
        conflicted.git("checkout", "--ours", "--", JOURNAL)
        install(conflicted.home)
        done = commit(conflicted, "--all")
        assert done.code == 1
        assert "Merge it again: git checkout --merge" in done.err

    def test_the_person_has_the_last_word(self, conflicted: Clone) -> None:
        conflicted.git("checkout", "--ours", "--", JOURNAL)
        assert commit(conflicted, "--all", "--no-verify").code == 0

    def test_a_merge_by_hand_that_has_them_all_goes_through(self, conflicted: Clone) -> None:
        lines = conflicted.journal.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.startswith("{") and not line.startswith('{"id":"x"')]
        conflicted.journal.write_text("".join(kept))  # nor is a record that they had deleted
        assert commit(conflicted, "--all").code == 0
        assert conflicted.ids() == "a b c d"

    def test_a_record_that_was_deleted_meanwhile_is_not_missed(self, conflicted: Clone) -> None:
        conflicted.git("checkout", "--theirs", "--", JOURNAL)  # what is lacking of our own side is not looked at
        conflicted.delete("b")
        assert commit(conflicted, "--all").code == 0
        assert conflicted.ids() == "a c"

    def test_markers_that_were_committed_lack_nothing(self, conflicted: Clone) -> None:
        assert commit(conflicted, "--all").code == 0
        assert conflicted.ids() == "a b c d"
        conflicted.git("checkout", "HEAD^", "--", JOURNAL)

    def test_a_side_that_cannot_be_read_is_not_judged(self, conflicted: Clone) -> None:
        conflicted.git("merge", "--abort")
        conflicted.switch("side")
        conflicted.journal.write_text("version https://git-lfs.github.com/spec/v1\n")
        commit(conflicted, "--all", "--no-verify")
        conflicted.switch("main")
        assert conflicted.run("git", "merge", "side").code == 1
        conflicted.git("checkout", "--ours", "--", JOURNAL)
        done = commit(conflicted, "--all")
        assert (done.code, done.err) == (0, "")


class TestPostHooks:
    """After git has moved the files, the index says what they say, without a further command."""

    def indexed(self, clone: Clone) -> set[str]:
        """What stands in the index, without anybody looking at the files first."""
        db = sqlite3.connect(f"file:{clone.store / 'store.db'}?mode=ro", uri=True)
        try:
            tables = [
                name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'r%'")
            ]
            return {
                str(row[0])
                for table in tables
                if {"id", "dead"} <= {column[1] for column in db.execute(f"PRAGMA table_info({table})")}
                for row in db.execute(f"SELECT id FROM {table} WHERE dead = 0")
            }
        finally:
            db.close()

    @pytest.fixture
    def forked(self, hooked: Clone) -> Clone:
        hooked.switch("-b", "side")
        hooked.put("b")
        hooked.commit()
        hooked.switch("main")
        hooked.put("c")
        hooked.commit()
        assert self.indexed(hooked) == {"a", "c"}
        return hooked

    def test_a_checkout(self, forked: Clone) -> None:
        forked.git("checkout", "--quiet", "side")
        assert self.indexed(forked) == {"a", "b"}

    def test_a_checkout_of_one_file(self, forked: Clone) -> None:
        forked.git("checkout", "--quiet", "side", "--", JOURNAL)
        assert self.indexed(forked) == {"a", "b"}
        forked.git("reset", "--quiet", "--hard")

    def test_a_merge(self, forked: Clone) -> None:
        forked.git("merge", "--quiet", "side")
        assert self.indexed(forked) == {"a", "b", "c"}

    def test_a_rebase(self, forked: Clone) -> None:
        forked.git("rebase", "--quiet", "side")
        assert self.indexed(forked) == {"a", "b", "c"}

    def test_in_the_middle_of_a_rebase_nothing_is_written(self, forked: Clone) -> None:
        with Store.open(forked.home, sync=NEVER) as store:
            store.put(Document(COLLECTION, {"id": "d", "title": "waits"}))
            forked.git("rebase", "--quiet", "side")
            assert "waits" in forked.journal.read_text()  # by post-rewrite, at its end
        assert forked.ids() == "a b c d"

    def test_an_amended_commit(self, forked: Clone) -> None:
        assert commit(forked, "--amend", "--allow-empty").code == 0
        assert self.indexed(forked) == {"a", "c"}

    def test_where_there_is_no_index_none_is_made(self, forked: Clone) -> None:
        (forked.store / "store.db").unlink()
        forked.git("checkout", "--quiet", "side")
        assert not (forked.store / "store.db").exists()
        assert forked.ids() == "a b"

    def test_a_merge_without_the_driver_is_told(self, forked: Clone) -> None:
        uninstall(forked.home, hooks=False)
        forked.git("reset", "--quiet", "--hard", "HEAD~1")
        done = forked.run("git", "merge", "--no-ff", "--quiet", "-m", "m", "side")
        assert done.code == 0
        assert "tstore install-merge-driver" in done.err
        assert done.err.count("\n") == 1


class TestPrePush:
    """A push says which records it does not take along, and is never refused."""

    @pytest.fixture
    def pushed(self, hooked: Clone, tmp_path: Path) -> Clone:
        hooked.git("init", "--quiet", "--bare", str(tmp_path / "remote"))
        hooked.git("remote", "add", "origin", str(tmp_path / "remote"))
        return hooked

    def push(self, clone: Clone) -> list[str]:
        done = clone.run("git", "push", "--quiet", "origin", "HEAD")
        assert done.code == 0
        return [line for line in done.err.splitlines() if line.startswith("tstore: ")]

    def test_nothing_is_said_when_there_is_nothing_to_say(self, pushed: Clone) -> None:
        assert self.push(pushed) == []

    def test_records_that_are_not_committed(self, pushed: Clone) -> None:
        with Store.open(pushed.home, sync=NEVER) as store:
            store.put(Document(COLLECTION, {"id": "b"}))
            store.modify(COLLECTION, "a", lambda old: Document(COLLECTION, {**old, "title": "new"}))
            assert self.push(pushed) == [f"tstore: {JOURNAL}: 2 records are not committed as in the file: a, b"]

    def test_a_deletion_counts_and_a_new_journal_too(self, pushed: Clone) -> None:
        pushed.delete("a")
        with Store.open(pushed.home) as store:
            for number in range(7):
                store.put(Document("plans", {"id": f"p{number}"}))
        assert self.push(pushed) == [
            f"tstore: {JOURNAL}: 1 record is not committed as in the file: a",
            "tstore: .taskstore/plans.jsonl: 7 records are not committed as in the file: p0, p1, p2, p3, p4 and 2 more",
        ]

    def test_a_line_that_changes_no_record_is_not_told(self, pushed: Clone) -> None:
        with pushed.journal.open("ab") as file:
            file.write(b"\n")
        assert self.push(pushed) == []


class TestNeverInTheWay:
    """Whatever else goes wrong is one line on stderr, and git goes on."""

    @pytest.fixture
    def here(self, hooked: Clone, monkeypatch: pytest.MonkeyPatch) -> Clone:
        monkeypatch.chdir(hooked.top)
        return hooked

    def one_line(self, capfd: pytest.CaptureFixture[str]) -> str:
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("tstore: ")
        return err

    def test_a_journal_that_is_closed_to_writing(self, hooked: Clone) -> None:
        with (hooked.store / ".gitignore").open("a") as file:
            file.write("x\n")
        with Store.open(hooked.home, sync=NEVER) as store:
            store.put(Document(COLLECTION, {"id": "b"}))
            whole = hooked.journal.read_bytes()
            hooked.journal.write_text("nonsense\n")
            done = commit(hooked, "--allow-empty", message="broken")
            hooked.journal.write_bytes(whole)
        assert done.code == 0
        assert ".gitignore" in hooked.git("show", "--name-only", "--format=", "HEAD")  # all else goes on
        assert done.err.count("\n") == 1
        assert "closed to writing" in done.err

    def test_a_newer_store(self, here: Clone, capfd: pytest.CaptureFixture[str]) -> None:
        (here.store / ".version").write_text("99\n")
        assert events.main(["pre-commit"]) == 0
        assert "upgrade taskstore-async" in self.one_line(capfd)
        (here.store / ".version").write_text("1\n")

    @pytest.mark.usefixtures("here")
    def test_an_error_that_nobody_thought_of(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def broken(*_: object) -> int:
            raise ZeroDivisionError

        monkeypatch.setitem(events._HOOKS, "post-merge", broken)
        assert events.main(["post-merge", "0"]) == 0
        assert "hook post-merge left the store as it was: ZeroDivisionError" in self.one_line(capfd)

    def test_a_directory_that_is_no_repository(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "nowhere").mkdir()
        monkeypatch.chdir(tmp_path / "nowhere")
        assert events.main(["post-checkout", "a", "b", "1"]) == 0
        assert "not a git repository" in self.one_line(capfd)

    @pytest.mark.parametrize("words", [[], ["post-nothing"]])
    def test_a_hook_that_is_none(self, words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
        assert events.main(words) == 0
        assert "usage: " in self.one_line(capfd)

    def test_a_probe_is_answered_and_stops_what_stands_behind(
        self, here: Clone, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(events.PROBE, "token")
        here.change("a", title="new")
        assert events.main(["pre-commit"]) == REFUSED
        assert capfd.readouterr().out.startswith("token pre-commit ")
        assert here.git("diff", "--cached", "--name-only") == ""
