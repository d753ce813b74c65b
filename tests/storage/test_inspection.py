from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from taskstore_async.core.record import Document
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.errors import ReadFailedError
from taskstore_async.storage import inspection
from taskstore_async.storage.journal import open_to_read
from taskstore_async.storage.store import Store

from .samples import ALL, QUIET, Plan, files_of, tamper, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, records=ALL, sync=QUIET) as opened:
        yield opened


class TestCounts:
    """Counts and sizes are those of the files and the index."""

    def test_collections_tell_what_is_in_them(self, store: Store) -> None:
        store.create_many([Plan(id="a"), Plan(id="b")])
        store.flush()
        store.delete(Plan, "b")
        store.create(Document("things", {"id": "t"}))
        (store.path / "empty.jsonl").write_bytes(b"")
        store.sync(check=True)
        found = {one.name: one for one in store.collections()}
        assert set(found) == {"plans", "steps", "notes", "things"}
        plans = found["plans"]
        assert (plans.records, plans.tombstones, plans.pending, plans.lines) == (1, 1, 1, 2)
        assert plans.journal_bytes == len(files_of(store)["plans.jsonl"])
        assert plans.indexed == ("status", "priority", "slug", "parent_id")
        assert (plans.declared, found["things"].declared, plans.local, plans.closed) == (True, False, False, False)
        assert plans.last_sync_ms is not None

    def test_stats_and_info_agree_with_collections(self, store: Store) -> None:
        store.create_many([Plan(id="a"), Plan(id="b")])
        stats, info = store.stats(), store.info()
        assert stats.records == 2
        assert stats.pending == 5
        assert stats.collections == {"plans": 2, "steps": 0, "notes": 0}
        assert stats.index_bytes == (store.path / "store.db").stat().st_size
        assert stats.log_rows == 5
        assert info.stats == stats
        assert info.collections == tuple(store.collections())
        assert (info.format, info.index, len(info.index_id)) == (1, "wal", 16)
        assert msgspec.json.decode(msgspec.json.encode(info))["path"] == str(store.path)
        store.flush()
        assert store.stats().pending == 0


class TestHistory:
    """The versions of a record are those of its journal, then those that wait."""

    def test_every_version_of_a_store_that_does_not_coalesce(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=ALL, sync=SyncConfig(auto_export=False, coalesce=False)) as store:
            store.create(Plan(id="p", title="1"))
            store.put(Plan(id="p", title="2"))
            store.create(Plan(id="other"))
            store.flush()
            store.put(Plan(id="p", title="3"))
            store.delete(Plan, "p")
            versions = store.history(Plan, "p")
            assert [one.deleted for one in versions] == [False, False, False, True]
            assert [json.loads(one.raw).get("title") for one in versions] == ["1", "2", "3", None]
            assert [one.line for one in versions] == [1, 2, None, None]
            assert [one.current for one in versions] == [False, False, False, True]
            assert [one.updated_at for one in versions] == sorted(one.updated_at for one in versions)

    def test_a_line_in_the_journal_and_in_the_outbox_is_one_version(self, store: Store) -> None:
        store.create(Plan(id="p"))
        (store.path / "plans.jsonl").write_bytes((store.line(Plan, "p") or b"") + b"\n")
        (version,) = store.history(Plan, "p")
        assert (version.line, version.current) == (1, True)

    def test_stamps_decide_which_is_current(self, store: Store) -> None:
        text = b'{"id":7,"updated_at":9,"n":1}\nbad\n{"id":"7","updated_at":5,"n":2}\n{"id":7,"n":3}\n'
        (store.path / "things.jsonl").write_bytes(text)
        store.sync()
        versions = store.history("things", "7")
        assert [(one.line, one.updated_at, one.current) for one in versions] == [
            (1, 9, False),
            (3, 5, False),
            (4, 9, True),
        ]
        found = store.get("things", "7")
        assert found is not None
        assert found["n"] == 3

    def test_a_file_that_is_none_has_no_versions(self, store: Store, tmp_path: Path) -> None:
        (store.path / "linked.jsonl").symlink_to(tmp_path / "elsewhere")
        assert store.history("linked", "x") == []

    def test_a_journal_that_cannot_be_read_just_now(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: Path) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        store.create(Plan(id="p"))
        monkeypatch.setattr(inspection, "open_to_read", fail)
        with pytest.raises(ReadFailedError, match=os.strerror(errno.EIO)):
            store.history(Plan, "p")

    def test_an_index_that_turns_out_to_be_damaged_is_mended(self, store: Store) -> None:
        store.create(Plan(id="p"))
        store.flush()
        tamper(store, "ALTER TABLE log RENAME TO lost")
        assert len(store.history(Plan, "p")) == 1
        assert len(store.notes) == 1

    def test_real_history(self, store: Store, shared_data: Path) -> None:
        raw = unpack(shared_data, "beads_max_records")
        (store.path / "issues.jsonl").write_bytes(raw)
        store.sync()
        by_id: dict[str, list[bytes]] = {}
        for line in raw.splitlines():
            by_id.setdefault(json.loads(line)["id"], []).append(line)
        record_id, lines = max(by_id.items(), key=lambda item: len(item[1]))
        versions = store.history("issues", record_id)
        assert [one.raw for one in versions] == lines
        assert [one.raw for one in versions if one.current] == [store.line("issues", record_id)]


def test_a_version_that_is_flushed_meanwhile_is_not_missed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create(Plan(id="p"), durability=Durability.INDEX)
    real = open_to_read

    def late(path: Path) -> object:
        store.flush()
        return real(path)

    monkeypatch.setattr(inspection, "open_to_read", late)
    assert len(store.history(Plan, "p")) == 1
