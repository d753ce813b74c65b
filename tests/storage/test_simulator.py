"""The state machine of file, index, outbox, mark and file record: it holds as designed, and every rule is needed."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.storage.simulator import Rules
from tests.storage.simulator_schedule import FAR, A, B, Command, ModelSubject, inside, outside, run, run_inside
from tests.storage.simulator_world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.storage.simulator_schedule import Schedule

EXAMPLES = 10 * settings().max_examples  #: a schedule costs a millisecond
SLOW_MS = 30  #: an fsync of a disk that is busy; longer than the 20 ms after which a file record is believed


class Schedules:
    """One per rule, by its name: what happens to a store that lacks it."""

    # -- a write

    @staticmethod
    def stamp_above_row(world: World) -> None:
        """A clock that was set back makes the newer write the older version."""
        world.put(A, "x", durability="journal")
        world.set_clock_back(500)
        world.put(B, "x")

    @staticmethod
    def seq_reread_when_other_wrote(world: World) -> None:
        """B took the seq that A means to use next."""
        world.put(A, "a")
        world.put(B, "b")
        world.put(A, "c")

    @staticmethod
    def first_seq_above_clock(world: World) -> None:
        """The power cut takes a relaxed commit whose seq a watcher has seen; the next write gets it again."""
        world.put(A, "a", durability="relaxed")
        world.power_cut()
        world.put(A, "b")

    @staticmethod
    def index_commits_full(world: World) -> None:
        """A commit at NORMAL is gone after a power cut."""
        world.put(A, "a", durability="index")
        world.power_cut()

    @staticmethod
    def store_db_looked_at_before_begin(world: World) -> None:
        """B writes into the unlinked index, blind to A's version of the same millisecond: the older wins the tie."""
        world.sync(B)
        world.delete_index()
        world.put(A, "x")
        world.put(B, "x")

    @staticmethod
    def store_db_looked_at_before_answer(world: World) -> None:
        """store.db goes while the transaction runs; it commits into a file without a name."""
        world.sync(A)
        world.put(A, "a", pause="commit")
        world.delete_index()
        world.finish(A)

    # -- an import

    @staticmethod
    def gone_file_keeps_pending_rows(world: World) -> None:
        """Deleting the journal must not delete what was never in it."""
        world.put(A, "a", durability="journal")
        world.put(A, "b")
        world.editor.delete()
        world.sync(A)

    @staticmethod
    def pending_folds_at_end(world: World) -> None:
        """Somebody's line has our pending line's stamp; ours will stand below it in the file, and win."""
        world.put(A, "x")
        world.editor.add_line("x", 0)
        world.sync(A)

    @staticmethod
    def pending_line_copied_when_import_wins(world: World) -> None:
        """Somebody's later version takes the row in which our pending line stood."""
        world.put(A, "x")
        world.editor.add_line("x", 5_000)
        world.sync(A)

    @staticmethod
    def identical_line_settles_pending(world: World) -> None:
        """A was killed between append and mark; B would write the line once more."""
        world.put(A, "a")
        world.flush(A, pause="fsync")
        world.kill(A)
        world.sync(B)

    settled_entries_change_origin = identical_line_settles_pending

    @staticmethod
    def fsync_before_settling(world: World) -> None:
        """A was killed between append and fsync; B believed the line it saw in the page cache. Then the power fails."""
        world.put(A, "a")
        world.flush(A, pause="fsync")
        world.kill(A)
        world.sync(B)
        world.put(B, "b")
        world.power_cut()

    @staticmethod
    def outplaced_tie_does_not_settle(world: World) -> None:
        """At the top stamp position decides: of a record set to 1, 2, 1 again, the file has the third line already."""
        world.editor.add_line("other")
        world.editor.add_line("x", FAR)
        for value in (101, 102):
            world.put(A, "x", value=value, durability="journal")
        world.put(A, "x", value=101)
        world.editor.edit_value(0)  # so that the whole file is scanned
        world.sync(A)

    # -- staleness

    @staticmethod
    def fresh_only_20_ms_after_mtime(world: World) -> None:
        """Two edits within one tick of the file system's clock, the second after we looked."""
        world.editor.add_line("a")
        world.sync(A)
        world.editor.edit_value()

    @staticmethod
    def fresh_only_20_ms_after_ctime(world: World) -> None:
        """Two edits within one tick that keep the old mtime, the second after we looked."""
        world.editor.add_line("a")
        world.advance(100)
        world.edit_keeping_mtime()
        world.sync(A)
        world.edit_keeping_mtime()

    @staticmethod
    def ctime_compared(world: World) -> None:
        """An edit that keeps size and mtime, as ``cp -p`` brings it."""
        world.editor.add_line("a")
        world.advance(100)
        world.sync(A)
        world.edit_keeping_mtime()

    @staticmethod
    def crc_of_prefix_checked(world: World) -> None:
        """An edit in place: the file is no shorter, but it is another."""
        world.editor.add_line("a")
        world.sync(A)
        world.advance(100)
        world.editor.edit_value()

    @staticmethod
    def newline_less_prefix_that_grew_is_scanned(world: World) -> None:
        """The last line, imported without its newline, grows into something that cannot be read."""
        world.editor.add_line("b")
        world.editor.add_bare_line("a")
        world.sync(A)
        world.editor.add_garbage()

    @staticmethod
    def stat_taken_before_reading(world: World) -> None:
        """An edit after we read: the stat must not be of what we did not see."""
        world.editor.add_line("a")
        world.sync(A, pause="import")
        world.editor.edit_value()
        world.advance(SLOW_MS)
        world.finish(A)

    @staticmethod
    def closed_file_does_not_advance_record(world: World) -> None:
        """A file of garbage keeps the rows; when a good line follows, they are not in the file."""
        world.editor.add_line("a")
        world.sync(A)
        world.editor.truncate(1_000)
        world.editor.add_garbage()
        world.sync(A)
        world.editor.add_line("b")

    # -- an append

    @staticmethod
    def import_before_append(world: World) -> None:
        """A was killed between append and mark; B, open all the time, flushes what it thinks is missing."""
        world.sync(B)
        world.put(A, "a")
        world.flush(A, pause="fsync")
        world.kill(A)
        world.flush(B)

    @staticmethod
    def open_path_afresh(world: World) -> None:
        """git replaces the file; a descriptor kept since the last append leads nowhere."""
        world.put(A, "a", durability="journal")
        world.editor.check_out(0)
        world.put(A, "b")
        world.flush(A)

    @staticmethod
    def repair_newline_before_append(world: World) -> None:
        """An editor left the last line without its newline: ours would be its end."""
        world.put(A, "a", durability="journal")
        world.editor.add_bare_line("b")
        world.put(A, "c", durability="journal")

    @staticmethod
    def complete_torn_tail(world: World) -> None:
        """A kill left half of our line: an unreadable line for ever, if nobody writes the other half."""
        world.put(A, "a")
        world.flush(A, pause="append")
        world.kill(A, cut=20)
        world.sync(B)

    @staticmethod
    def counted_only_while_path_names_inode(world: World) -> None:
        """git unlinks the file between our open and our append."""
        world.put(A, "a", durability="journal")
        world.put(A, "b")
        world.flush(A, pause="append")
        world.git_unlink()
        world.finish(A)

    @staticmethod
    def counted_only_if_lines_stand_alone(world: World) -> None:
        """Somebody writes half a line between our look and our append, and ours is glued to it."""
        world.put(A, "a", durability="journal")
        world.put(A, "b")
        world.flush(A, pause="append")
        world.editor.add_piece("c")
        world.finish(A)

    @staticmethod
    def record_does_not_advance_if_offset_differs(world: World) -> None:
        """Somebody's line comes between our look and our append, and the fsync is slow: it would be covered unread."""
        world.put(A, "a")
        world.flush(A, pause="append")
        world.editor.add_line("b")
        world.step(A)
        world.advance(SLOW_MS)
        world.finish(A)
        world.put(A, "c")

    @staticmethod
    def record_of_append_dated_before_it(world: World) -> None:
        """An edit in place between our look and our append, and the fsync is slow: the CRC is not of what is there."""
        world.editor.add_line("a")
        world.sync(A)
        world.put(A, "b")
        world.flush(A, pause="append")
        world.editor.edit_value()
        world.step(A)
        world.advance(SLOW_MS)
        world.finish(A)
        world.put(A, "c")
        world.kill(A)

    @staticmethod
    def record_ends_where_our_bytes_end(world: World) -> None:
        """Somebody's line comes between our append and our stat, which then says that its bytes are known."""
        world.put(A, "a")
        world.flush(A, pause="look at the path")
        world.editor.add_line("b")
        world.advance(SLOW_MS)
        world.finish(A)
        world.put(A, "c", durability="relaxed")

    @staticmethod
    def scanned_after_append_that_record_does_not_cover(world: World) -> None:
        """Somebody's line comes before ours, which counts but stands behind what is known; then ours is removed."""
        world.put(A, "a", durability="journal", pause="append")
        world.editor.add_line("b")
        world.finish(A)
        world.editor.drop_line(1)

    @staticmethod
    def index_durable_before_top_stamp(world: World) -> None:
        """At the top stamp: the power cut takes commit and mark, and what waits again then wins the tie."""
        world.editor.add_line("x", FAR)
        world.put(A, "x")
        world.flush(A)
        world.delete(A, "x", durability="journal")
        world.power_cut()

    @staticmethod
    def fsync_before_answer(world: World) -> None:
        """At ``journal`` the answer means that a power cut is harmless."""
        world.put(A, "a", durability="journal")
        world.put(A, "b", durability="journal")
        world.power_cut()

    @staticmethod
    def directory_fsynced(world: World) -> None:
        """A new file whose name was never synced is gone after a power cut."""
        world.put(A, "a", durability="journal")
        world.power_cut()

    @staticmethod
    def directory_fsynced_by_every_handle(world: World) -> None:
        """A created the file and was killed before it synced the name; to B the file is not new."""
        world.put(A, "a", durability="journal", pause="append")
        world.kill(A, cut=10)
        world.put(B, "b", durability="journal")
        world.power_cut()

    @staticmethod
    def second_look_while_git_works(world: World) -> None:
        """git has unlinked the file and will create it with O_EXCL: if we do first, the checkout fails."""
        world.put(A, "a", durability="journal")
        world.git_unlink()
        world.put(A, "b", durability="journal")

    # -- the mark

    @staticmethod
    def mark_only_if_record_unchanged(world: World) -> None:
        """git goes to another branch and back; A's mark, made before, must not say what B has imported since."""
        world.editor.add_line("x")
        world.sync(A)
        world.put(A, "a")
        world.flush(A)
        world.editor.remember()
        world.editor.check_out(0)
        world.sync(B)
        world.put(A, "c")
        world.editor.check_out(2)

    @staticmethod
    def mark_written_before_unlock_when_other_wrote(world: World) -> None:
        """A has flushed; git takes the line away; B, at work in the same store, must know that it was not pending."""
        world.sync(B)
        world.put(A, "a")
        world.put(B, "b")
        world.flush(A)
        world.editor.check_out(0)
        world.sync(B)

    @staticmethod
    def mark_written_when_idle(world: World) -> None:
        """A manager flushed and idles; after a checkout the hook, another process, would bring its line there."""
        world.put(A, "a")
        world.flush(A, pause="look at the path")
        world.advance(SLOW_MS)
        world.finish(A)
        world.idle(A)
        world.editor.check_out(0)
        world.sync(B)

    @staticmethod
    def mark_left_in_lost_index(world: World) -> None:
        """B flushed at the top stamp, moved on to a new store.db, and wrote again; A still has the old one open."""
        world.editor.add_line("x", FAR)
        world.sync(A)
        world.put(B, "x", durability="journal")
        world.put(B, "x", durability="journal")
        world.delete_index()
        world.put(B, "x", durability="journal")
        world.put(B, "y")
        world.sync(A)

    # -- compaction

    @staticmethod
    def compaction_carries_late_bytes(world: World) -> None:
        """Somebody appends after compaction has read the file."""
        world.put(A, "a", durability="journal")
        world.compact(A, pause="rename")
        world.editor.add_line("b")
        world.finish(A)

    @staticmethod
    def compaction_compares_before_rename(world: World) -> None:
        """git replaces the file after compaction has read it."""
        world.put(A, "a", durability="journal")
        world.editor.add_line("b")
        world.compact(A, pause="rename")
        world.editor.drop_line(0)
        world.editor.add_line("c")
        world.finish(A)


#: Rules that are one of two nets: a record dated before its append is looked at once more, with the CRC, and that
#: catches (or saves) the same. Each net holds alone.
SECOND_NETS = {
    "record_does_not_advance_if_offset_differs": {"record_of_append_dated_before_it"},
    "record_ends_where_our_bytes_end": {"record_of_append_dated_before_it"},
    "mark_written_when_idle": {"record_of_append_dated_before_it"},
}

NAMES = [rule.name for rule in fields(Rules)]


def without(*names: str) -> Rules:
    return Rules(**dict.fromkeys(names, False))


def schedule_of(rule: str) -> Callable[[World], None]:
    schedule: Callable[[World], None] = getattr(Schedules, rule)
    return schedule


@pytest.mark.parametrize("rule", NAMES)
class TestEveryRuleIsNeeded:
    """Take a rule away and an acknowledged write is lost, or the index is not the fold, or somebody's line is gone."""

    @pytest.mark.parametrize("reopen", [True, False], ids=["reopened", "still open"])
    def test_with_it_the_schedule_is_harmless(self, rule: str, *, reopen: bool) -> None:
        world = World(without(*SECOND_NETS.get(rule, ())))
        schedule_of(rule)(world)
        assert world.quiesce(reopen=reopen) == []

    def test_without_it_a_promise_is_broken(self, rule: str) -> None:
        worlds = [World(without(rule, *SECOND_NETS.get(rule, ()))) for _ in range(2)]
        for world, reopen in zip(worlds, [True, False], strict=True):
            schedule_of(rule)(world)
            world.quiesce(reopen=reopen)
        assert [problem for world in worlds for problem in world.witness.problems] != []


PUT, JOURNAL = Command("put", (A, "a")), {"durability": "journal"}

#: What shows from without that a store lacks a rule.
OUTSIDE: dict[str, Schedule] = {
    "gone_file_keeps_pending_rows": [
        Command("put", (A, "b"), JOURNAL),
        PUT,
        Command("editor.delete"),
        Command("sync", (A,)),
    ],
    "pending_folds_at_end": [Command("put", (A, "a"), JOURNAL), Command("editor.edit_value")],
    "pending_line_copied_when_import_wins": [PUT, Command("editor.add_line", ("a", 5_000)), Command("sync", (A,))],
    "settled_entries_change_origin": [PUT, Command("flush", (A,)), Command("drop", (A,)), Command("sync", (B,))],
    "fresh_only_20_ms_after_mtime": [
        Command("editor.add_line", ("a",)),
        Command("sync", (A,)),
        Command("editor.edit_value"),
    ],
    "crc_of_prefix_checked": [
        Command("editor.add_line", ("a",)),
        Command("sync", (A,)),
        Command("advance", (100,)),
        Command("editor.edit_value"),
    ],
    "repair_newline_before_append": [
        Command("editor.add_bare_line", ("b",)),
        Command("put", (A, "a"), JOURNAL),
        Command("put", (A, "c"), JOURNAL),
    ],
    "seq_reread_when_other_wrote": [
        Command("sync", (B,)),
        PUT,
        Command("flush", (A,)),
        Command("put", (B, "b")),
        Command("put", (A, "c")),
        Command("put", (B, "d")),
    ],
}


@pytest.mark.parametrize("rule", OUTSIDE)
class TestTheOracleHasTeeth:
    """What ``run`` sees of a subject, its journal and its answers, is enough to convict it."""

    def test_a_store_with_the_rule_passes(self, rule: str) -> None:
        assert run(ModelSubject(), OUTSIDE[rule]) == []

    def test_a_store_without_it_does_not(self, rule: str) -> None:
        assert run(ModelSubject(without(rule)), OUTSIDE[rule]) != []


class TestTheDesignHolds:
    """Whatever happens between any two steps, nothing acknowledged is lost and the index is the fold."""

    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
    @given(schedule=inside(), reopen=st.booleans())
    def test_between_any_two_steps(self, schedule: Schedule, reopen: bool) -> None:  # noqa: FBT001 - reason: Hypothesis names it
        problems = run_inside(World(), schedule, reopen=reopen)
        note(f"{problems}")
        assert problems == []

    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
    @given(schedule=outside())
    def test_from_outside(self, schedule: Schedule) -> None:
        problems = run(ModelSubject(), schedule)
        note(f"{problems}")
        assert problems == []
