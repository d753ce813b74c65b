"""The packs under git: records and the long texts beside them branch and merge together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskstore_async import Store, eq
from taskstore_async.records.loops import Loop, LoopStatus, LoopType, SignalRecord, SignalType
from taskstore_async.records.tasks import Execution, Prd, PrdStatus, TaskSpec, TaskStatus

if TYPE_CHECKING:
    from tests.git.support import Clone

TYPES = (Prd, TaskSpec, Execution, Loop, SignalRecord)
TEXT = "# Why\n\nBecause.\n\n# How\n\nSomehow.\n"


def plan(clone: Clone) -> None:
    """A plan with a part, and a loop that has been told to stop, in a commit."""
    with Store.open(clone.home, records=TYPES) as store:
        store.write_content(Prd(id="prd-1", title="Add OAuth"), TEXT)
        store.create(TaskSpec(id="ts-1", prd_id="prd-1", phase_name="Tokens"))
        store.create(Loop(id="l-1", loop_type=LoopType.CODE))
        store.create(SignalRecord(id="sig-1", signal_type=SignalType.STOP, target_loop="l-1"))
    clone.commit("the plan")


class TestBranches:
    """What two branches did to the same records is all there after a merge."""

    def test_records_and_texts_merge(self, clone: Clone) -> None:
        plan(clone)
        clone.switch("-b", "other")
        with Store.open(clone.home) as store:
            prd = store.modify(Prd, "prd-1", lambda old: old.evolve(status=PrdStatus.ACTIVE))
            store.write_content(prd, TEXT.replace("Because.", "Because people ask."))
            store.modify(TaskSpec, "ts-1", lambda old: old.evolve(assigned_to="exec-1"))
            store.create(Execution(id="exec-1", ts_id="ts-1"))
            store.modify(SignalRecord, "sig-1", lambda old: old.evolve(acknowledged_at=1_700_000_000_000))
        clone.commit("theirs")
        clone.switch("main")
        with Store.open(clone.home) as store:
            prd = store.modify(Prd, "prd-1", lambda old: old.evolve(review_passes=2))
            store.write_content(prd, TEXT.replace("Somehow.", "With tokens."))
            store.modify(TaskSpec, "ts-1", lambda old: old.evolve(status=TaskStatus.RUNNING))
            store.write_content(TaskSpec(id="ts-2", prd_id="prd-1", phase_name="Review"), "# Read it\n")
            store.modify(Loop, "l-1", lambda old: old.evolve(status=LoopStatus.PAUSED, iteration=3))
        clone.commit("ours")
        clone.git("merge", "--quiet", "other")

        with Store.open(clone.home) as store:
            assert store.check().problems == ()
            (prd,) = store.list(Prd)
            assert (prd.status, prd.review_passes) == (PrdStatus.ACTIVE, 2)
            text = store.read_content(prd)
            assert text == TEXT.replace("Because.", "Because people ask.").replace("Somehow.", "With tokens.")
            first, second = store.list(TaskSpec, eq("prd_id", "prd-1"))
            assert (first.status, first.assigned_to) == (TaskStatus.RUNNING, "exec-1")
            assert store.read_content(second) == "# Read it\n"
            assert store.count(Execution, eq("ts_id", "ts-1")) == 1
            assert store.count(SignalRecord, eq("target_loop", "l-1"), eq("acknowledged", value=False)) == 0
            (loop,) = store.list(Loop)
            assert (loop.status, loop.iteration) == (LoopStatus.PAUSED, 3)

    def test_two_records_that_branches_gave_one_name_can_be_parted(self, clone: Clone) -> None:
        clone.git("branch", "other")
        for branch, record_id in (("other", "prd-1"), ("main", "prd-2")):
            clone.switch(branch)
            with Store.open(clone.home, records=TYPES) as store:
                store.write_content(Prd(id=record_id, title="Add OAuth"), f"# {record_id}\n")
            clone.commit(branch)
        assert clone.run("git", "merge", "--quiet", "other").code == 1  # both added the text
        (clone.store / "prds" / "add-oauth.md").write_text("# prd-1\n")
        clone.commit("merged")
        with Store.open(clone.home) as store:
            assert [one.kind for one in store.check().problems] == ["duplicate"]
            second = store.modify(Prd, "prd-2", lambda old: old.evolve(file=None))
            second = store.write_content(second, "# prd-2\n")
            assert second.file == "prds/add-oauth-2.md"
            assert store.check().problems == ()
            assert [store.read_content(one) for one in store.list(Prd)] == ["# prd-1\n", "# prd-2\n"]

    def test_a_record_that_a_branch_deleted_goes_with_its_text(self, clone: Clone) -> None:
        plan(clone)
        clone.switch("-b", "other")
        with Store.open(clone.home) as store:
            store.delete(Prd, "prd-1")
        clone.commit("theirs")
        clone.switch("main")
        with Store.open(clone.home) as store:
            store.modify(Loop, "l-1", lambda old: old.evolve(iteration=1))
        clone.commit("ours")
        clone.git("merge", "--quiet", "other")
        with Store.open(clone.home) as store:
            assert store.check().problems == ()
            assert store.count(Prd) == store.count(TaskSpec) == 0
        assert not list(clone.store.glob("*/*.md"))


class TestHooks:
    """A commit has the texts of the records that it has."""

    def test_a_text_that_was_changed_is_staged(self, hooked: Clone) -> None:
        plan(hooked)
        with Store.open(hooked.home) as store:
            (prd,) = store.list(Prd)
            store.write_content(prd, "# Changed\n")
        hooked.git("commit", "--quiet", "--allow-empty", "--message", "changed")
        assert hooked.git("show", "HEAD:.taskstore/prds/add-oauth.md") == "# Changed\n"
        assert hooked.git("status", "--porcelain") == ""
