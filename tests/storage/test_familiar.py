"""Shortcuts of the engine mean the same as the long way: lines told by their bytes, rows read and written together."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskstore_async.core.fold import fold
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.record import Document
from taskstore_async.core.schedule import Durability
from taskstore_async.core.write import draft
from taskstore_async.git.doctor import doctor
from taskstore_async.storage.ops import Applied, Create, Delete, Put
from taskstore_async.storage.store import Store

from .samples import QUIET, Loose, lines_of, tamper

if TYPE_CHECKING:
    from taskstore_async.storage.ops import Answer, Op

ids = st.sampled_from("abcdef")
stamps = st.one_of(st.integers(1, 4), st.none(), st.just("1970-01-01T00:00:00.002Z"))
records = st.fixed_dictionaries(
    {"id": ids, "updated_at": stamps, "n": st.integers(0, 2)}, optional={"deleted": st.sampled_from([True])}
)


def text_of(lines: list[dict[str, object]]) -> bytes:
    """A journal; a stamp of None is left out."""
    kept = [{name: value for name, value in line.items() if value is not None} for line in lines]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in kept)


def folded(text: bytes) -> dict[str, bytes]:
    return {one: state.line.raw for one, state in fold(decode_lines(text)).items() if not state.line.deleted}


def stored(store: Store) -> dict[str, bytes]:
    return {found.id: found.raw for found in store.lines("things")}


def replace(path: Path, text: bytes) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(text)
    fresh.replace(path)


class TestFamiliarLines:
    """A file that was replaced is taken over as if it had been read for the first time."""

    @given(before=st.lists(records, max_size=12), after=st.lists(records, max_size=12))
    @settings(max_examples=60)
    @example(before=[{"id": "a", "updated_at": 2, "n": 0}], after=[{"id": "a", "updated_at": 1, "n": 1}] * 2)
    @example(
        before=[{"id": "a", "updated_at": 2, "n": 0}, {"id": "b", "updated_at": 1, "n": 0}],
        after=[
            {"id": "b", "updated_at": 1, "n": 0},
            {"id": "a", "updated_at": 1, "n": 1},
            {"id": "a", "updated_at": 2, "n": 0},
            {"id": "a", "updated_at": 2, "n": 1},
            {"id": "a", "updated_at": 2, "n": 0},
        ],
    )
    def test_whatever_moved(self, before: list[dict[str, object]], after: list[dict[str, object]]) -> None:
        with tempfile.TemporaryDirectory() as folder, Store.open(folder, sync=QUIET) as store:
            path = store.path / "things.jsonl"
            for lines in (before, after, before):  # the last one with rows that are gone between others
                replace(path, text_of(lines))
                store.sync()
                if lines:
                    assert stored(store) == folded(text_of(lines))
            assert store.check().ok

    @pytest.mark.parametrize("order", ["same", "reversed", "halves"])
    @pytest.mark.parametrize("versions", [1, 2])
    def test_more_rows_than_are_looked_for_at_a_time(self, tmp_path: Path, order: str, versions: int) -> None:
        lines: list[dict[str, object]] = [
            {"id": f"r-{number:05}", "updated_at": 5 + version, "n": version}
            for version in range(versions)
            for number in range(3_000)
        ]
        with Store.open(tmp_path, sync=QUIET) as store:
            path = store.path / "things.jsonl"
            replace(path, text_of(lines))
            store.sync()
            orders = {"same": lines, "reversed": lines[::-1], "halves": lines[1_500:] + lines[:1_500]}
            moved = orders[order]
            new: dict[str, object] = {"id": "new", "updated_at": 1, "n": 0}
            moved = [*moved[:700], new, *moved[750:], {**moved[-1], "n": 9}]
            replace(path, text_of(moved))
            report = store.sync()
            assert report.collections["things"].lines_read == len(moved)
            assert stored(store) == folded(text_of(moved))
            assert store.check().ok

    def test_long_lines_and_gaps_between_rows(self, tmp_path: Path) -> None:
        lines: list[dict[str, object]] = [
            {"id": f"r-{number}", "updated_at": 5, "text": "x" * (20_000 if number % 3 else 5)} for number in range(12)
        ]
        with Store.open(tmp_path, sync=QUIET) as store:
            path = store.path / "things.jsonl"
            for some in (lines, lines[:4] + lines[5:], lines[2:], [*lines[2:9], {**lines[9], "n": 1}, *lines[10:]]):
                replace(path, text_of(some))
                assert store.sync().collections["things"].lines_read == len(some)
                assert stored(store) == folded(text_of(some))
            assert store.check().ok

    def test_a_gap_costs_no_more_however_wide(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, sync=QUIET) as store:
            journal = store.path / "things.jsonl"
            replace(journal, text_of([{"id": one, "updated_at": 1} for one in "abc"]))
            store.sync()
            tamper(store, "UPDATE {things} SET pk = pk + 10000 WHERE id > 'a'")
            replace(journal, text_of([{"id": one, "updated_at": 1} for one in "bd"]))
            index = store._engine.connections.index
            assert index is not None
            asked: list[str] = []
            index.db.set_trace_callback(asked.append)
            store.sync()
            index.db.set_trace_callback(None)
            assert set(stored(store)) == {"b", "d"}
            assert len(asked) < 100
            assert store.check().ok

    @pytest.mark.parametrize("key", [0, -5, 2**40, 2**63 - 1])
    def test_keys_that_nobody_gave_are_found_and_mended(self, tmp_path: Path, key: int) -> None:
        with Store.open(tmp_path, sync=QUIET) as store:
            journal = store.path / "things.jsonl"
            replace(journal, text_of([{"id": one, "updated_at": 1} for one in "abc"]))
            store.sync()
            store.put(Document("things", {"id": "waits"}))
            tamper(store, "UPDATE {things} SET pk = ? WHERE id = 'b'", key)
            (found,) = store.check().problems
            assert found.kind == "index"
            assert str(key) in found.message
            assert "index-damaged" in [one.id for one in doctor(tmp_path).findings]
            replace(journal, text_of([{"id": one, "updated_at": 1} for one in "ac"]))
            store.sync()
            assert set(stored(store)) == {"a", "c", "waits"}
            assert store.check().ok

    def test_what_is_created_behind_the_last_key_is_flushed(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=[Loose], sync=QUIET) as store:
            store.create(Loose(id="a", title="x"))
            tamper(store, "UPDATE {loose} SET pk = ?", 2**63 - 1)
            store.create_many([Loose(id=one, title="x") for one in "bcdef"])
            store.flush()
            assert len(lines_of(store, "loose")) == 6

    def test_a_line_about_which_there_is_something_to_say_is_told_of_each_time(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, sync=QUIET) as store:
            path = store.path / "things.jsonl"
            odd = json.dumps({"id": "odd\a", "updated_at": 3}).encode() + b"\n"
            for n in range(2):
                replace(path, text_of([{"id": "a", "updated_at": 1, "n": n}]) + odd)
                assert [one.line for one in store.sync().collections["things"].problems] == [2]


steps = st.lists(
    st.tuples(st.sampled_from(["put", "create", "delete", "update"]), ids, st.integers(0, 9)), min_size=1, max_size=14
)


def op_of(step: tuple[str, str, int]) -> Op:
    kind, record_id, number = step
    document = Document("things", {"id": record_id, "n": number})
    if kind == "delete":
        return Delete("things", record_id)
    return Create(draft(document)) if kind == "create" else Put(draft(document))


def said(answer: Answer) -> str:
    return "applied" if isinstance(answer, Applied) else type(answer.error).__name__


class TestTogether:
    """The ops of one transaction mean what they mean one by one."""

    @given(steps=steps)
    @settings(max_examples=60)
    def test_any_ops(self, steps: list[tuple[str, str, int]]) -> None:
        outcomes: list[object] = []
        for size in (1, len(steps)):
            with tempfile.TemporaryDirectory() as folder, Store.open(folder, sync=QUIET) as store:
                store.put(Document("things", {"id": "a", "n": 0}), durability=Durability.JOURNAL)
                store._engine.wanted["things"] = store.declaration("things")  # as a record type in use would
                ops = [op_of(step) for step in steps]
                answers = [
                    said(answer)
                    for start in range(0, len(ops), size)
                    for answer in store._engine.commit(ops[start : start + size], durability=Durability.JOURNAL)
                ]
                assert store.check().ok
                lines = (store.path / "things.jsonl").read_bytes().splitlines()
                without_stamps = [
                    {name: value for name, value in json.loads(line).items() if not name.endswith("_at")}
                    for line in lines
                ]
                outcomes.append((answers, without_stamps))
        assert outcomes[0] == outcomes[1]

    def test_gets_together_find_what_gets_alone_find(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, sync=QUIET) as store:
            store.create_many([Document("things", {"id": one}) for one in "abcde"])
            store.create_many([Document("others", {"id": one}) for one in "ab"])
            store.delete("things", "b")
            keys = [("things", "a"), ("things", "b"), ("others", "b"), ("none", "a"), ("things", "a"), ("things", "x")]
            found = store._engine.reader.get_many(keys)
            assert found == [store._engine.reader.get(*key) for key in keys]
            assert [one is not None for one in found] == [True, False, True, False, True, False]

    def test_create_many_is_all_or_nothing_across_its_parts(self, tmp_path: Path) -> None:
        with Store.open(tmp_path, sync=QUIET) as store:
            store.put(Document("things", {"id": "r-1199"}))
            store._engine.wanted["things"] = store.declaration("things")
            many = [Document("things", {"id": f"r-{number}"}) for number in range(1_200)]
            with pytest.raises(Exception, match="r-1199"):
                store.create_many(many)
            assert store.count("things") == 1
            assert store.create_many(many[:1_199]) == 1_199
            with pytest.raises(Exception, match="twice"):
                store.create_many([Document("things", {"id": one}) for one in ("v", "w", "x", "y", "twice", "twice")])
            assert store.count("things") == 1_200
            assert store.check().ok
