"""A conflict in real git: left between markers, settled by a person, and settled for everybody who merges it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from taskstore_async.errors import AmbiguousIdError, CannotResolveError
from taskstore_async.git.decisions import conflicts
from taskstore_async.git.resolving import Side, resolve, resolve_all
from taskstore_async.storage.store import Store
from tests.git.support import COLLECTION, JOURNAL, Clone

if TYPE_CHECKING:
    from pathlib import Path

AT = 1_900_000_000_000


def append(clone: Clone, **fields: object) -> None:
    """Write a version with a stamp that both sides share."""
    import json  # noqa: PLC0415 - reason: one helper needs it

    with clone.journal.open("a") as file:
        file.write(json.dumps({"id": "a", "title": "A", **fields, "updated_at": AT}, separators=(",", ":")) + "\n")


def diverged(clone: Clone) -> None:
    """Main and topic set one field to two values at the same time."""
    clone.git("checkout", "--quiet", "-b", "topic")
    append(clone, status="closed", by="topic")
    clone.commit("topic")
    clone.git("checkout", "--quiet", "main")
    append(clone, status="started", owner="main")
    clone.commit("main")


def standing(clone: Clone) -> int:
    with Store.open(clone.home) as store:
        return len(conflicts(store).standing)


class TestDriver:
    """What the driver left is settled in the merge, and stays settled."""

    @pytest.mark.parametrize(("take", "status"), [(Side.OURS, "started"), (Side.THEIRS, "closed")])
    def test_a_chosen_side_is_committed_and_merged_by_others(self, take: Side, status: str, clone: Clone) -> None:
        diverged(clone)
        assert clone.run("git", "merge", "topic").code == 1
        assert standing(clone) == 1
        with Store.open(clone.home) as store:
            resolve(store, "a", take)
        assert standing(clone) == 0
        clone.git("add", JOURNAL)
        clone.git("commit", "--quiet", "-m", "merged")
        clone.git("checkout", "--quiet", "topic")
        clone.change("a", later=1)
        clone.commit("later")
        clone.git("merge", "--quiet", "-m", "back", "main")
        found = clone.records()["a"]
        assert (found["status"], found["by"], found["owner"], found["later"]) == (status, "topic", "main", 1)

    def test_in_a_rebase_ours_is_the_branch_that_is_rebased_onto(self, clone: Clone) -> None:
        diverged(clone)
        clone.git("checkout", "--quiet", "topic")
        assert clone.run("git", "rebase", "main").code == 1
        with Store.open(clone.home) as store:
            resolve(store, "a", Side.OURS)
        clone.git("add", JOURNAL)
        clone.git("rebase", "--continue", GIT_EDITOR="true")
        assert clone.records()["a"]["status"] == "started"

    def test_a_merge_that_is_given_up_leaves_nothing_between_markers(self, clone: Clone) -> None:
        diverged(clone)
        clone.run("git", "merge", "topic")
        clone.git("merge", "--abort")
        assert standing(clone) == 0
        assert clone.records()["a"]["status"] == "started"


class TestWithoutDriver:
    """Where the driver is not configured, git's own markers are read, and say whose is which."""

    @pytest.fixture
    def plain(self, tmp_path: Path) -> Clone:
        clone = Clone.made(tmp_path / "plain", driver=False)
        clone.store.joinpath(".gitattributes").write_text("*.jsonl -text\n")
        clone.commit("no driver")
        return clone

    @pytest.mark.parametrize("style", ["merge", "diff3", "zdiff3"])
    @pytest.mark.parametrize(("take", "status"), [(Side.OURS, "started"), (Side.THEIRS, "closed")])
    def test_either_side(self, take: Side, status: str, style: str, plain: Clone) -> None:
        plain.git("config", "merge.conflictStyle", style)
        diverged(plain)
        assert plain.run("git", "merge", "topic").code == 1
        with Store.open(plain.home) as store:
            (resolved,) = resolve_all(store, take)
            assert resolved.markers >= 3
        assert plain.records()["a"]["status"] == status
        assert b"<<<" not in plain.journal.read_bytes()
        plain.git("add", JOURNAL)
        plain.git("commit", "--quiet", "-m", "merged")
        assert plain.git("status", "--porcelain") == ""
        assert plain.is_sound()


class TestErrors:
    """What cannot be resolved is said before anything is written."""

    def test_nothing_is_known(self, clone: Clone) -> None:
        with Store.open(clone.home) as store, pytest.raises(CannotResolveError, match="tstore conflicts"):
            resolve(store, "a", Side.OURS)

    def test_several_fit(self, clone: Clone) -> None:
        for record_id in ("bd-1", "bd-2"):
            clone.journal.write_bytes(
                clone.journal.read_bytes()
                + b"<<<<<<< HEAD\n"
                + b'{"id":"%s","f":1,"updated_at":1}\n=======\n' % record_id.encode()
                + b'{"id":"%s","f":2,"updated_at":1}\n>>>>>>> x\n' % record_id.encode()
            )
        with Store.open(clone.home) as store:
            with pytest.raises(AmbiguousIdError, match=f"{COLLECTION}/bd-2"):
                resolve(store, "bd", Side.OURS)
            assert len(resolve_all(store, Side.OURS)) == 2
