"""A record's versions with the commits that brought them, and what differs between two states of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from taskstore_async.core.difference import Kind
from taskstore_async.errors import (
    AmbiguousIdError,
    NoRepositoryError,
    NoRevisionError,
    NoStoreError,
    NotFoundError,
)
from taskstore_async.git.history import log
from taskstore_async.git.snapshots import difference
from taskstore_async.storage.store import Store
from tests.git.support import COLLECTION, Clone

if TYPE_CHECKING:
    from pathlib import Path

    from taskstore_async.git.history import LoggedVersion


def logged(clone: Clone, record_id: str = "a", *, commits: bool = True) -> list[LoggedVersion]:
    with Store.open(clone.home) as store:
        return log(store, COLLECTION, record_id, commits=commits)[1]


def told(clone: Clone, record_id: str = "a") -> list[tuple[str, str | None]]:
    """What each version did, and the subject of the commit that brought it."""
    return [(one.kind.value, one.commit.subject if one.commit else None) for one in logged(clone, record_id)]


class TestLog:
    """Each version, what changed in it, and the first commit that has it."""

    def test_versions_and_their_commits(self, clone: Clone) -> None:
        clone.change("a", status="closed")
        clone.commit("close it")
        clone.change("a", title="B")
        assert told(clone) == [("created", "the store"), ("updated", "close it"), ("updated", None)]
        last = logged(clone)[-1]
        assert [(one.field, bytes(one.before or b""), bytes(one.after or b"")) for one in last.fields] == [
            ("title", b'"A"', b'"B"')
        ]
        assert last.current
        commit = logged(clone)[1].commit
        assert commit is not None
        assert commit.hash == clone.git("rev-parse", "HEAD").strip()
        assert (commit.author, commit.at) == ("Kim", int(clone.git("log", "-1", "--format=%at")) * 1_000)

    def test_without_being_asked_git_is_not_asked(self, clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        assert [one.commit for one in logged(clone, commits=False)] == [None]

    def test_a_record_that_came_back_was_created_anew(self, clone: Clone) -> None:
        clone.delete("a")
        clone.commit("delete it")
        clone.put("a", title="again")
        assert [kind for kind, _ in told(clone)] == ["created", "deleted", "created"]

    def test_a_deleted_record_has_its_versions_by_its_whole_id(self, clone: Clone) -> None:
        clone.put("abc", title="x")
        clone.delete("abc")
        assert [kind for kind, _ in told(clone, "abc")] == ["created", "deleted"]

    def test_what_a_compaction_took_from_the_journal_is_still_in_commits(self, clone: Clone) -> None:
        for number in range(3):
            clone.change("a", n=number)
            clone.commit(f"n {number}")
        with Store.open(clone.home) as store:
            store.compact(COLLECTION)
        clone.commit("compact")
        assert told(clone) == [("created", "the store"), *(("updated", f"n {number}") for number in range(3))]
        assert [one.line for one in logged(clone)] == [None, None, None, 1]
        assert len(logged(clone, commits=False)) == 1

    def test_a_version_is_its_own_commits_and_not_the_merges(self, clone: Clone) -> None:
        clone.git("checkout", "--quiet", "-b", "topic")
        clone.change("a", status="closed")
        clone.commit("on topic")
        clone.git("checkout", "--quiet", "main")
        clone.change("a", title="B")
        clone.commit("on main")
        clone.git("merge", "--quiet", "-m", "the merge", "topic")
        assert {subject for _, subject in told(clone)} == {"the store", "on topic", "on main", "the merge"}
        assert [subject for _, subject in told(clone)][-1] == "the merge"
        assert len(logged(clone)) == 4

    def test_a_version_is_compared_with_the_one_that_its_branch_had(self, clone: Clone) -> None:
        clone.git("checkout", "--quiet", "-b", "topic")
        clone.change("a", title="B")
        clone.commit("on topic")
        clone.git("checkout", "--quiet", "main")
        clone.change("a", status="closed")
        clone.commit("on main")
        clone.change("a", owner="kim")
        clone.commit("on main again")
        clone.git("merge", "--quiet", "-m", "the merge", "topic")
        clone.change("a", n=1)
        found = {
            one.commit.subject if one.commit else "": (one.aside, {change.field for change in one.fields})
            for one in logged(clone)[1:]
        }
        assert found == {
            "on topic": (False, {"title"}),
            "on main": (True, {"status"}),
            "on main again": (False, {"owner"}),
            "the merge": (False, {"title"}),
            "": (False, {"n"}),
        }
        # Without commits nobody knows, and the one above is all there is.
        assert not any(one.aside for one in logged(clone, commits=False))

    def test_one_that_is_older_than_the_one_above_it_does_not_follow_it(self, clone: Clone) -> None:
        def line(at: int, **fields: int) -> bytes:
            return msgspec.json.encode({"id": "z", **fields, "updated_at": at}) + b"\n"

        clone.journal.write_bytes(line(10, a=1) + line(30, a=1, b=1) + line(20, a=2) + line(40, a=2, b=1))
        found = [(one.aside, [change.field for change in one.fields]) for one in logged(clone, "z", commits=False)]
        assert found == [(False, ["a"]), (False, ["b"]), (True, ["a"]), (False, ["a"])]

    def test_a_version_that_went_and_came_back_is_its_first_commits(self, clone: Clone) -> None:
        clone.change("a", status="closed")
        clone.commit("close it")
        clone.journal.write_bytes(clone.journal.read_bytes().splitlines(keepends=True)[0])
        clone.commit("cut off")
        clone.git("checkout", "--quiet", "HEAD~1", "--", ".taskstore")
        clone.commit("restored")
        assert told(clone) == [("created", "the store"), ("updated", "close it")]

    def test_whatever_the_person_has_configured(self, clone: Clone) -> None:
        (clone.store / ".gitattributes").write_text("*.jsonl -diff -text\n")
        for name, value in (("color.ui", "always"), ("diff.noprefix", "true"), ("log.showSignature", "true")):
            clone.git("config", name, value)
        clone.change("a", title="Grün")
        clone.commit("Grün")
        assert told(clone) == [("created", "the store"), ("updated", "Grün")]

    def test_ids_that_are_no_plain_words(self, clone: Clone) -> None:
        for record_id in ("x.*", "ä ö", "-p"):
            clone.put(record_id, title="x")
        clone.commit("odd")
        for record_id in ("x.*", "ä ö", "-p"):
            assert told(clone, record_id) == [("created", "odd")]

    def test_nothing_is_committed_yet(self, tmp_path: Path) -> None:
        clone = Clone(tmp_path)
        clone.run("git", "init", "--quiet")
        clone.put("a", title="A")
        assert told(clone) == [("created", None)]

    def test_no_repository(self, tmp_path: Path) -> None:
        clone = Clone(tmp_path)
        clone.put("a", title="A")
        with pytest.raises(NoRepositoryError):
            logged(clone)

    def test_there_is_no_such_record(self, clone: Clone) -> None:
        clone.put("bd-1")
        clone.put("bd-2")
        with pytest.raises(NotFoundError, match="did you mean"):
            logged(clone, "bd-9")
        with pytest.raises(AmbiguousIdError):
            logged(clone, "bd-")


def changes(clone: Clone | None, *what: str | None, collection: str | None = None) -> list[tuple[str, str, Kind]]:
    first, second = (*what, None, None)[:2]
    found = difference(None if clone is None else clone.home, first, second, collection=collection)
    return [(one.collection, one.change.id, one.change.kind) for one in found]


class TestDifference:
    """Store directories, journals and revisions are compared record by record."""

    def test_head_and_what_is_there_now(self, clone: Clone) -> None:
        assert changes(clone) == []
        clone.change("a", title="B")
        clone.put("b")
        assert changes(clone) == [(COLLECTION, "a", Kind.UPDATED), (COLLECTION, "b", Kind.CREATED)]
        clone.commit()
        assert changes(clone) == []

    def test_two_revisions_in_either_order_and_in_one_word(self, clone: Clone) -> None:
        clone.delete("a")
        clone.commit("gone")
        assert changes(clone, "HEAD~1", "HEAD") == [(COLLECTION, "a", Kind.DELETED)]
        assert changes(clone, "HEAD", "HEAD~1") == [(COLLECTION, "a", Kind.CREATED)]
        assert changes(clone, "HEAD~1..HEAD") == changes(clone, "HEAD~1..") == changes(clone, "HEAD~1", "HEAD")

    def test_what_waits_to_be_flushed_counts_as_there(self, clone: Clone) -> None:
        from taskstore_async import Document, SyncConfig  # noqa: PLC0415 - reason: one test needs them

        with Store.open(clone.home, sync=SyncConfig(auto_export=False)) as store:
            store.create(Document(COLLECTION, {"id": "waits"}))
            # The comparison's own handle flushes what it finds when it closes.
            assert changes(clone) == [(COLLECTION, "waits", Kind.CREATED)]

    def test_directories_and_journals(self, clone: Clone, tmp_path: Path) -> None:
        copy = tmp_path / "copy" / ".taskstore"
        copy.mkdir(parents=True)
        (copy / clone.journal.name).write_bytes(clone.journal.read_bytes())
        (copy / "_types.jsonl").write_bytes(b'{"id":"x"}\n')
        (copy / "notes.jsonl").write_bytes(b'{"id":"n"}\n')
        clone.put("b")
        old, new = str(tmp_path / "copy"), str(clone.home)
        assert changes(None, old, new) == [(COLLECTION, "b", Kind.CREATED), ("notes", "n", Kind.DELETED)]
        assert changes(None, old, new, collection="notes") == [("notes", "n", Kind.DELETED)]
        assert changes(None, str(copy / clone.journal.name), new) == [(COLLECTION, "b", Kind.CREATED)]
        assert changes(None, old, str(clone.journal)) == [(COLLECTION, "b", Kind.CREATED)]
        assert not (copy / "store.db").exists()

    def test_two_files_are_one_collection_whatever_they_are_called(self, tmp_path: Path) -> None:
        old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
        old.write_bytes(b'{"id":"a","x":1}\n')
        new.write_bytes(b'{"id":"a","x":2}\n')
        assert changes(None, str(old), str(new)) == [("new", "a", Kind.UPDATED)]

    def test_a_store_that_is_not_at_the_top_of_its_repository(self, tmp_path: Path) -> None:
        clone = Clone.made(tmp_path / "clone", place="deep", driver=False)
        clone.put("b")
        assert changes(clone, "HEAD") == [(COLLECTION, "b", Kind.CREATED)]

    def test_a_branch_may_be_called_like_a_directory(self, clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
        clone.git("branch", "docs")
        clone.put("b")
        (clone.top / "docs").mkdir()
        monkeypatch.chdir(clone.top)
        assert changes(clone, "docs") == [(COLLECTION, "b", Kind.CREATED)]

    @pytest.mark.parametrize("name", ["nonsense", "--all", "HEAD^{tree}", ""])
    def test_what_is_nothing(self, clone: Clone, name: str) -> None:
        with pytest.raises(NoRevisionError, match="git log"):
            changes(clone, name)

    def test_a_mistyped_directory_outside_of_git(self, tmp_path: Path) -> None:
        with Store.open(tmp_path):
            pass
        with pytest.raises(NoRevisionError, match="'backpu' is no store"):
            list(difference(tmp_path / ".taskstore", "backpu", None))

    def test_without_a_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(NoStoreError):
            changes(None)
        with pytest.raises(NoStoreError):
            changes(None, "HEAD", "HEAD")
