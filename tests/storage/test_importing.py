from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async.core.line import Line, decode_line
from taskstore_async.core.record import Document
from taskstore_async.core.schedule import Durability
from taskstore_async.errors import CollectionClosedError, FlushError, ImportConflictError, WriteUncertainError
from taskstore_async.storage import files, importing
from taskstore_async.storage.store import Store

from .samples import ALL, QUIET, Plan, Step, lines_of, unchanged, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, records=ALL, sync=QUIET) as opened:
        yield opened
        assert opened.check().ok


def data(*records: object) -> list[bytes]:
    return [one + b"\n" if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in records]


class TestWinners:
    """The winner of each id is taken, one line each, with its bytes and its stamp where these can stay."""

    def test_bytes_and_stamps_stay(self, store: Store) -> None:
        odd = b'{ "updated_at" : "2024-01-02T03:04:05.123456789Z", "id":"a", "x":1.10 }'
        report = store.import_lines("things", [odd[:20], odd[20:] + b"\r\n"], source="f")
        assert (report.lines, report.taken, report.superseded) == (1, 1, 0)
        assert lines_of(store, "things") == [odd]

    def test_only_the_winner_of_each_id_is_taken(self, store: Store) -> None:
        report = store.import_lines(
            "things",
            data(
                {"id": "a", "updated_at": 3, "n": 1},
                {"id": "a", "updated_at": 9, "n": 2},
                {"id": "a", "updated_at": 9, "n": 3},
                {"id": "a", "updated_at": 5, "n": 4},
            ),
        )
        assert (report.lines, report.taken, report.superseded) == (4, 1, 3)
        assert [json.loads(line)["n"] for line in lines_of(store, "things")] == [3]

    @pytest.mark.parametrize(
        "lines",
        [
            [{"id": "a", "updated_at": 100, "n": 1}, {"id": "a", "n": 2}],
            [{"id": "a", "created_at": 50, "n": 1}],
            [{"id": "a", "n": 1}],
            [{"id": "a", "created_at": "2024-01-02T03:04:05.123456789Z"}, {"id": "a", "n": 1}],
            [{"id": 7, "n": 1}, {"id": "7", "n": 2}],
            [{"id": "a", "updated_at": "yesterday"}],
        ],
    )
    @pytest.mark.parametrize(
        "there", [None, {"id": "a", "updated_at": 70}, {"id": "a", "deleted": True, "updated_at": 120}]
    )
    def test_the_fold_of_what_was_written_is_what_was_meant(
        self, store: Store, lines: list[dict[str, object]], there: dict[str, object] | None
    ) -> None:
        if there is not None:
            (store.path / "things.jsonl").write_bytes(b"".join(data(there)))
        store.import_lines("things", data(*lines), on_conflict="replace")
        record_id = str(lines[-1]["id"])
        found = store.get("things", record_id)
        assert found is not None
        assert (found.get("n"), found.id) == (lines[-1].get("n"), record_id)
        assert store.check().ok
        store.sync(rebuild=True)
        assert store.get("things", record_id) == found

    def test_bad_lines_are_reported_and_not_taken(self, store: Store) -> None:
        report = store.import_lines(
            "things", data({"id": "a"}, b"garbage", b'{"no":"id"}', {"id": " "}), source="f.jsonl"
        )
        assert report.taken == 1
        assert report.bad_count == 3
        assert [(one.file, one.line) for one in report.bad] == [("f.jsonl", 2), ("f.jsonl", 3), ("f.jsonl", 4)]
        assert report.bad[0].offset == len(data({"id": "a"})[0])

    def test_tombstones_delete_and_follow_the_references(self, store: Store) -> None:
        store.create_many([Plan(id="a"), Plan(id="b")])
        store.create_many([Plan(id="c", parent_id="a"), Step(id="s", plan_id="b")])
        dead = data(
            {"id": "a", "deleted": True, "updated_at": 2**50},
            {"id": "b", "deleted": True},
            {"id": "z", "deleted": True},
        )
        report = store.import_lines("plans", dead, on_conflict="replace")
        assert (report.replaced, report.unchanged, report.bad_count) == (1, 1, 1)
        assert "steps/s" in report.bad[0].reason
        assert [plan.id for plan in store.list(Plan)] == ["b"]

    def test_a_record_of_the_same_file_may_be_named_before_it_comes(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importing, "_BATCH", 2)
        lines = [{"id": str(n), "parent_id": str(n + 1)} for n in range(5)]
        report = store.import_lines("plans", data(*lines, {"id": "5"}))
        assert report.taken == 6
        report = store.import_lines(
            "plans",
            data({"id": "x", "parent_id": "absent"}, {"id": "y", "parent_id": "z"}, {"id": "z", "deleted": True}),
        )
        assert (report.taken, report.bad_count) == (0, 2)

    def test_a_record_that_the_file_deletes_cannot_be_named(self, store: Store) -> None:
        store.create(Plan(id="z"))
        report = store.import_lines(
            "plans", data({"id": "z", "deleted": True}, {"id": "x", "parent_id": "z"}), on_conflict="replace"
        )
        assert (report.taken, report.replaced, report.bad_count) == (1, 1, 0)
        assert store.list(Plan) == []
        report = store.import_lines("plans", data({"id": "y", "parent_id": "z"}))
        assert (report.taken, report.bad_count) == (0, 1)

    def test_a_unique_value_that_is_taken_is_refused_and_reported(self, store: Store) -> None:
        store.create(Plan(id="a", slug="s"))
        report = store.import_lines("plans", data({"id": "b", "slug": "s"}, {"id": "c", "slug": "t"}))
        assert (report.taken, report.bad_count) == (1, 1)
        assert "unique" in report.bad[0].reason


class TestConflicts:
    """What to do with a record that is stored with other content is decided before anything is written."""

    def test_fail_writes_nothing(self, store: Store) -> None:
        store.create(Document("things", {"id": "a", "n": 1}), durability=Durability.JOURNAL)
        store.sync()
        with unchanged(store), pytest.raises(ImportConflictError) as caught:
            store.import_lines("things", data({"id": "new"}, {"id": "a", "n": 2}))
        assert (caught.value.record_ids, caught.value.total) == (("a",), 1)

    def test_skip_replace_and_newer(self, store: Store) -> None:
        stored = [{"id": one, "updated_at": 50, "n": 1} for one in ("old", "new", "gone")]
        (store.path / "things.jsonl").write_bytes(
            b"".join(data(*stored, {"id": "gone", "deleted": True, "updated_at": 60}))
        )
        brought = data(
            {"id": "old", "updated_at": 40, "n": 2},
            {"id": "new", "updated_at": 70, "n": 2},
            {"id": "gone", "updated_at": 55},
        )
        report = store.import_lines("things", brought[:2], on_conflict="skip")
        assert (report.skipped, report.skipped_ids) == (2, ("old", "new"))
        report = store.import_lines("things", brought, on_conflict="newer")
        assert (report.replaced, report.skipped_ids) == (1, ("old", "gone"))
        assert lines_of(store, "things")[-1] == brought[1].strip()
        report = store.import_lines("things", brought, on_conflict="replace")
        assert (report.replaced, report.unchanged, report.taken) == (1, 1, 1)
        old: Document | None = store.get("things", "old")
        assert old is not None
        assert (old["n"], old.updated_at > 50) == (2, True)

    def test_what_is_stored_already_is_no_conflict(self, store: Store) -> None:
        brought = data({"id": "a", "updated_at": 40, "n": 1.0}, {"id": "b", "n": 2})
        store.create(Document("things", {"id": "a", "n": 1, "created_at": 5}))
        store.put(Document("things", {"id": "a", "n": 1}))
        with pytest.raises(ImportConflictError):  # it has a created_at that the file does not have
            store.import_lines("things", brought)
        store.import_lines("things", brought, on_conflict="replace")
        with unchanged(store):
            report = store.import_lines("things", brought)
        assert (report.unchanged, report.taken) == (2, 0)

    def test_other_words_are_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="on_conflict"):
            store.import_lines("things", [], on_conflict="merge")  # type: ignore[arg-type]  # reason: that it is refused

    def test_a_closed_collection_takes_nothing(self, store: Store) -> None:
        journal = store.path / "things.jsonl"
        journal.write_bytes(b"garbage\n")
        with pytest.raises(CollectionClosedError):
            store.import_lines("things", data({"id": "a"}))
        journal.unlink()
        store.sync()


class Killed(BaseException):
    pass


class TestInterrupted:
    """An import that was killed is finished by running it again, and takes nothing twice."""

    def test_a_second_run_takes_the_rest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importing, "_BATCH", 10)
        lines = data(*({"id": str(n), "updated_at": n, "n": n} for n in range(35)))

        def progress(done: int, of: int) -> None:
            assert of == 35
            if done == 20:
                raise Killed

        store = Store.open(tmp_path, sync=QUIET)
        with pytest.raises(Killed):
            store.import_lines("things", lines, progress=progress)
        store._engine.abandon()
        with Store.open(tmp_path) as store:
            assert store.count("things") == 20
            report = store.import_lines("things", lines)
            assert (report.taken, report.unchanged) == (15, 20)
            assert len(lines_of(store, "things")) == 35
            assert store.check().ok

    def test_what_a_full_disk_kept_out_of_the_journal_waits(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_descriptor: int, _data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        store.flush()
        monkeypatch.setattr(files, "write", full)
        with pytest.raises(FlushError, match="No space"):
            store.import_lines("things", data({"id": "a", "updated_at": 1}))
        monkeypatch.undo()
        assert store.get("things", "a") is not None
        assert store.flush().lines == 1
        assert [line[:9] for line in lines_of(store, "things")][-1:] == [b'{"id": "a']

    def test_what_waited_before_stands_before_it(self, store: Store) -> None:
        store.put(Document("things", {"id": "first"}))
        store.import_lines("things", data({"id": "a", "updated_at": 1}, {"id": "b", "updated_at": 1}))
        assert [json.loads(line)["id"] for line in lines_of(store, "things")] == ["first", "a", "b"]
        assert store.stats().pending == 0

    def test_a_commit_that_fails_is_uncertain(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        from taskstore_async.storage.index import CommitError, Index  # noqa: PLC0415 - reason: only here

        real, plan = Index.transaction, importing._plan
        planned: list[object] = []

        def failing(index: Index, *, full: bool) -> object:
            if planned:  # what comes now writes the records
                raise CommitError("gone")
            return real(index, full=full)

        def planning(*words: Any) -> object:  # noqa: ANN401 - reason: as what it stands for
            planned.append(plan(*words))
            return planned[0]

        monkeypatch.setattr(Index, "transaction", failing)
        monkeypatch.setattr(importing, "_plan", planning)
        with pytest.raises(WriteUncertainError):
            store.import_lines("things", data({"id": "a"}))
        monkeypatch.undo()
        store._engine.mend()


class TestRealData:
    """Real journals come in whole, whether imported or simply placed in the directory."""

    @pytest.mark.parametrize(
        ("name", "lines", "records"), [("beads_max_live", 9_365, 9_365), ("beads_max_records", 10_519, 10_360)]
    )
    def test_imported_and_placed_are_the_same(
        self, tmp_path: Path, shared_data: Path, name: str, lines: int, records: int
    ) -> None:
        raw = unpack(shared_data, name)
        with Store.open(tmp_path, sync=QUIET) as store:
            report = store.import_lines("issues", [raw[at : at + 65_536] for at in range(0, len(raw), 65_536)])
            assert (report.lines, report.taken, report.bad_count) == (lines, records, 0)
            assert report.superseded == lines - records
            (store.path / "placed.jsonl").write_bytes(raw)
            assert store.sync().collections["placed"].taken == records
            assert store.count("issues") == store.count("placed") == records
            placed = {one.id: (one.raw, one.instant) for one in store.lines("placed")}
            assert {one.id: (one.raw, one.instant) for one in store.lines("issues")} == placed
            assert len(lines_of(store, "issues")) == records
            assert store.check().ok

    def test_every_line_taken_is_a_line_of_the_file(self, tmp_path: Path, shared_data: Path) -> None:
        raw = unpack(shared_data, "beads_events_append_only")
        with Store.open(tmp_path, sync=QUIET) as store:
            report = store.import_lines("events", [raw])
            assert report.taken == 3_582
            assert set(lines_of(store, "events")) <= set(raw.splitlines())
            assert all(isinstance(decode_line(line, ()), Line) for line in lines_of(store, "events"))
            assert store.import_lines("events", [raw]).unchanged == 3_582
