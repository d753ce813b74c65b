from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async.core.fold import fold
from taskstore_async.core.line import BadLine
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.record import Document
from taskstore_async.core.schedule import SyncConfig
from taskstore_async.errors import CollectionClosedError, FlushError, UnresolvedConflictError
from taskstore_async.storage import compact as compaction
from taskstore_async.storage import files, replacing
from taskstore_async.storage.clock import now_ms
from taskstore_async.storage.store import Store

from .samples import ALL, QUIET, Plan, files_of, lines_of, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BROKEN = ("broken_markers_01", "broken_markers_09", "broken_torn_line")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, records=ALL, sync=QUIET) as opened:
        yield opened
        assert opened.check().ok


def write(store: Store, name: str, *lines: bytes) -> None:
    (store.path / f"{name}.jsonl").write_bytes(b"".join(lines))
    store.sync()


def quarantined(store: Store) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((store.path / "quarantine").glob("*")))


class TestWhatStays:
    """The latest line of each record stays, and tombstones that are younger than the grace."""

    def test_old_versions_go_and_the_latest_keeps_its_bytes(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=ALL, sync=SyncConfig(auto_export=False, coalesce=False)) as store:
            for number in range(5):
                store.put(Plan(id="p", priority=number))
            store.create(Plan(id="q"))
            store.flush()
            last = lines_of(store, "plans")[-2:]
            report = store.compact(Plan).collections["plans"]
            assert (report.lines_before, report.lines_after, report.quarantined) == (6, 2, 0)
            assert (report.bytes_before > report.bytes_after) is True
            assert report.bytes_after == (store.path / "plans.jsonl").stat().st_size
            assert lines_of(store, "plans") == last
            assert store.check().ok
            assert not store.is_stale()
            assert not store.sync().stale

    def test_what_waits_is_flushed_first(self, store: Store) -> None:
        store.put(Plan(id="p", title="waits"))
        store.compact()
        assert b"waits" in files_of(store)["plans.jsonl"]

    def test_tombstones_stay_as_long_as_a_branch_may_not_have_seen_them(self, store: Store) -> None:
        old = now_ms() - 31 * 24 * 3_600_000
        write(store, "things", b'{"id":"old","deleted":true,"updated_at":%d}\n' % old, b'{"id":"x","updated_at":1}\n')
        store.create(Document("things", {"id": "young"}))
        store.delete("things", "young")
        store.compact("things")
        assert [json.loads(line)["id"] for line in lines_of(store, "things")] == ["x", "young"]
        store.compact("things", grace_ms=-1_000)
        assert [json.loads(line)["id"] for line in lines_of(store, "things")] == ["x"]
        assert [one.id for one in store.list("things")] == ["x"]

    def test_a_line_whose_position_was_its_stamp_gets_the_stamp_written_into_it(self, store: Store) -> None:
        write(
            store,
            "things",
            b'{"id":"a","updated_at":"2024-01-02T03:04:05.0000001Z"}\n',
            b'{"id":"b","updated_at":5}\n{"id":"a","n":1.10}\n{"id":"c","n":1}\n',
        )
        before = store.list("things")
        store.compact()
        b, a, c = lines_of(store, "things")
        assert b == b'{"id":"b","updated_at":5}'
        assert a == b'{"id":"a","n":1.10,"updated_at":1704164645001}'
        assert c == b'{"id":"c","n":1,"updated_at":0}'
        assert [one.id for one in store.list("things")] == [one.id for one in before]

    def test_a_last_line_without_newline_gets_one(self, store: Store) -> None:
        write(store, "things", b'{"id":"a","updated_at":5}')
        store.compact()
        assert files_of(store)["things.jsonl"] == b'{"id":"a","updated_at":5}\n'

    def test_the_mode_of_the_file_stays(self, store: Store) -> None:
        write(store, "things", b'{"id":"a","updated_at":5}\n')
        (store.path / "things.jsonl").chmod(0o640)
        store.compact()
        assert (store.path / "things.jsonl").stat().st_mode & 0o777 == 0o640

    def test_what_a_killed_compaction_left_is_cleared_away(self, store: Store) -> None:
        write(store, "things", b'{"id":"a","updated_at":5}\n')
        left = store.path / "things.jsonl.1.tmp"
        left.write_bytes(b"half")
        store.compact()
        assert not left.exists()

    def test_there_is_nothing_to_compact_where_there_is_no_file(self, store: Store) -> None:
        assert store.compact("nothing").collections == {}
        assert store.compact(Plan).collections == {}


class TestQuarantine:
    """Nothing that cannot be read is dropped: it moves to quarantine/, byte for byte."""

    def test_bad_lines_move_with_their_exact_bytes(self, store: Store) -> None:
        write(store, "things", b'{"id":"a","updated_at":5}\r\n', b"bad \xff one\r\r\n", b'{"id":"b"}\n', b"[1]\n")
        report = store.compact("things").collections["things"]
        assert report.quarantined == 2
        assert quarantined(store) == b"bad \xff one\r\r\n[1]\n"
        assert [one.id for one in store.list("things")] == ["a", "b"]

    def test_a_torn_line_at_the_end_is_left_to_its_writer(self, store: Store) -> None:
        write(store, "things", b'{"id":"a","updated_at":5}\n{"id":"a","updated_at":6}\n', b'{"id":"b","upd')
        store.compact("things")
        assert files_of(store)["things.jsonl"] == b'{"id":"a","updated_at":6}\n{"id":"b","upd'
        with (store.path / "things.jsonl").open("ab") as file:
            file.write(b'ated_at":7}\n')
        store.sync()
        assert [one.id for one in store.list("things")] == ["a", "b"]

    def test_a_closed_file_is_not_touched(self, store: Store) -> None:
        write(store, "things", b"garbage\n")
        with pytest.raises(CollectionClosedError):
            store.compact("things")
        assert "things" not in store.compact().collections
        assert files_of(store)["things.jsonl"] == b"garbage\n"
        (store.path / "things.jsonl").unlink()
        store.sync()

    def test_a_choice_that_a_later_line_has_made_is_made(self, store: Store) -> None:
        sides = (b'{"id":"a","n":1,"updated_at":5}\n', b"=======\n", b'{"id":"a","n":2,"updated_at":5}\n')
        later = b'{"id":"a","n":3,"updated_at":6}\n'
        write(store, "things", b"<<<<<<< HEAD\n", *sides, b">>>>>>> side\n", later, b">>>>>>> astray\n")
        store.compact("things")
        assert files_of(store)["things.jsonl"] == later

    def test_a_choice_is_left_to_a_person(self, store: Store) -> None:
        lines = (b'{"id":"a","n":1,"updated_at":5}\n', b'{"id":"a","n":2,"updated_at":5}\n')
        write(store, "things", b"<<<<<<< HEAD\n", lines[0], b"=======\n", lines[1], b">>>>>>> side\n")
        text = files_of(store)["things.jsonl"]
        for dry_run in (True, False):
            with pytest.raises(UnresolvedConflictError, match=r"things\.jsonl .*\(a\)") as caught:
                store.compact("things", dry_run=dry_run)
            assert caught.value.record_ids == ("a",)
        write(store, "others", b'{"id":"b"}\n')
        assert list(store.compact().collections) == ["_types", "others"]
        assert files_of(store)["things.jsonl"] == text
        assert quarantined(store) == b""
        write(
            store,
            "things",
            b"<<<<<<< HEAD\n",
            lines[0],
            b"=======\n",
            lines[1].replace(b"5}", b"6}"),
            b">>>>>>> side\n",
        )
        assert store.compact("things").collections["things"].lines_after == 1
        assert store.list("things")[0]["n"] == 2

    def test_markers_around_nothing_to_choose_go_to_quarantine(self, store: Store) -> None:
        lines = (b'{"id":"a","n":1,"updated_at":5}\n', b'{"id":"b","n":2,"updated_at":5}\n')
        write(store, "things", b"<<<<<<< HEAD\n", lines[0], b"=======\n", lines[1], b">>>>>>> side\n")
        assert store.compact("things").collections["things"].quarantined == 3
        assert files_of(store)["things.jsonl"] == b"".join(lines)

    @pytest.mark.parametrize("text", [b"garbage\n", b'{"id":"a"}\n<<<<<<< a\n{"id":"b"}\n||||||| b\n{"id":"c"}\n'])
    def test_a_file_that_becomes_unreadable_just_before_is_not_touched(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, text: bytes
    ) -> None:
        write(store, "things", b'{"id":"a","updated_at":5}\n')
        journal = store.path / "things.jsonl"
        real = compaction._read

        def late(descriptor: int) -> object:
            os.truncate(journal, 0)
            with journal.open("ab") as file:
                file.write(text)
            return real(descriptor)

        monkeypatch.setattr(compaction, "_read", late)
        with pytest.raises(CollectionClosedError):
            store.compact("things")
        assert journal.read_bytes() == text
        journal.write_bytes(b'{"id":"a","updated_at":5}\n')
        store.sync()


class TestCompany:
    """What others do to the file meanwhile is kept, and what git puts in its place is never overwritten."""

    def test_what_is_appended_before_the_rename_comes_along(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(store, "things", b'{"id":"a","updated_at":5}\n{"id":"a","updated_at":6}\n')
        journal = store.path / "things.jsonl"
        latest, is_still = compaction._latest, replacing.is_still

        def append(line: bytes) -> None:
            with journal.open("ab") as file:
                file.write(line)

        def late_latest(*args: Any, **named: Any) -> list[bytes]:  # noqa: ANN401 - reason: passed on
            append(b'{"id":"b","updated_at":1}\n')
            return latest(*args, **named)

        def late_is_still(*args: Any, **named: Any) -> bool:  # noqa: ANN401 - reason: passed on
            still = is_still(*args, **named)
            append(b'{"id":"c","updated_at":1}\n')
            return still

        monkeypatch.setattr(compaction, "_latest", late_latest)
        monkeypatch.setattr(replacing, "is_still", late_is_still)
        store.compact("things")
        assert [json.loads(line)["id"] for line in lines_of(store, "things")] == ["a", "b", "c"]
        assert [one.id for one in store.list("things")] == ["a", "b", "c"]

    def test_a_file_that_git_replaced_is_compacted_in_its_turn(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(store, "things", b'{"id":"a","updated_at":5}\nbad\n{"id":"a","updated_at":6}\n')
        journal = store.path / "things.jsonl"
        real = replacing._write
        replaced: list[int] = []

        def replace(*args: Any) -> tuple[int, int]:  # noqa: ANN401 - reason: passed on
            sizes = real(*args)
            if not replaced:
                replaced.append(1)
                journal.unlink()
                journal.write_bytes(b'{"id":"git","updated_at":5}\nbad\n{"id":"git","updated_at":6}\n')
            return sizes

        monkeypatch.setattr(replacing, "_write", replace)
        store.compact("things")
        assert lines_of(store, "things") == [b'{"id":"git","updated_at":6}']
        assert quarantined(store) == b"bad\n"

    def test_it_gives_up_on_a_file_that_keeps_being_replaced(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(store, "things", b'{"id":"a","updated_at":5}\n{"id":"a","updated_at":6}\n')
        before = files_of(store)
        monkeypatch.setattr(replacing, "is_still", lambda *_, **__: False)
        with pytest.raises(FlushError, match="replaced"):
            store.compact("things")
        assert files_of(store) == before
        assert list(store.path.glob("*.tmp")) == []

    def test_a_full_disk_leaves_the_file(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        write(store, "things", b'{"id":"a","updated_at":5}\n{"id":"a","updated_at":6}\n')
        before = files_of(store)

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files, "fsync", full)
        with pytest.raises(FlushError, match="No space"):
            store.compact("things")
        monkeypatch.undo()
        assert files_of(store) == before
        assert list(store.path.glob("*.tmp")) == []


class TestRealBrokenFiles:
    """Of a journal with conflict markers or a torn line every readable record is served, and nothing is ever lost."""

    @pytest.mark.parametrize("name", BROKEN)
    def test_what_can_be_read_is_served_and_the_rest_is_kept(
        self, tmp_path: Path, shared_data: Path, name: str
    ) -> None:
        raw = unpack(shared_data, name)
        with Store.open(tmp_path, sync=QUIET) as store:
            (store.path / "issues.jsonl").write_bytes(raw)
            problems = store.sync().collections["issues"].problems
            read = list(decode_lines(raw))
            bad = [line for line in read if isinstance(line, BadLine)]
            good = {record_id: one.line.raw for record_id, one in fold(read).items() if not one.line.deleted}
            assert bad
            assert [(one.line, one.offset) for one in problems if not one.served] == [
                (line.number, line.offset) for line in bad
            ]
            served = {found.id: found.raw for found in store.lines("issues")}
            assert served == good
            findings = [one for one in store.check().problems if one.kind == "bad-line"]
            assert [(one.line, one.offset) for one in findings] == [(line.number, line.offset) for line in bad]
            store.put(Document("issues", {"id": "ours"}))
            store.flush()
            contests = [one for block in store.markers("issues").blocks for one in block.contests]
            contested = [one.id for one in contests if one.first.instant == one.second.instant]
            taken = 0
            if contested:
                with pytest.raises(UnresolvedConflictError) as caught:
                    store.compact("issues")
                assert caught.value.record_ids == tuple(contested)
                assert files_of(store)["issues.jsonl"].startswith(raw)
                taken = store.unmark("issues", contested)  # what was served is chosen
            report = store.compact("issues").collections["issues"]
            assert report.quarantined == len(bad) - taken
            assert quarantined(store).split(b"\n")[:-1] == [line.raw for line in bad]
            after = {found.id: found.raw for found in store.lines("issues") if found.id != "ours"}
            assert after == served
            assert store.check().ok
