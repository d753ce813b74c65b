"""The engine against everything that hands, git and crashes do to its files, in any order."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from taskstore_async.core.stamp import MAX_STAMP_MS
from taskstore_async.errors import CollectionClosedError, TaskStoreError, WriteUncertainError
from tests.storage.workshop import Durability, assert_true, document, journal_of, line, naive, open_store, outbox, rows

if TYPE_CHECKING:
    from collections.abc import Generator

    from taskstore_async.storage.store import Store

IDS = ("a", "b", "c")
STAMPS: list[object] = [
    None, 0, 5, 6, 7, 2_000_000_000_000, 4_000_000_000_000, MAX_STAMP_MS,
    "1970-01-01T00:00:00.0065Z", "2040-01-01T00:00:00+01:00", "nonsense", 1.5, True, -1,
]  # fmt: skip
Step: TypeAlias = tuple[str, object]

good_lines = st.builds(
    lambda key, at, dead, value: line(key, at, **({"deleted": True} if dead else {"value": value})),
    st.sampled_from(IDS),
    st.sampled_from(STAMPS),
    st.booleans(),
    st.integers(0, 2),
)
bad_lines = st.sampled_from(
    [
        b"",
        b"nonsense",
        b"[1]",
        b'{"id":',
        b"<<<<<<< ours",
        b"||||||| base",
        b"=======",
        b">>>>>>> theirs",
        b"\r",
        b'{"x":1}',
    ]
)
some_lines = st.lists(st.one_of(good_lines, good_lines, good_lines, bad_lines), max_size=4)
contents = st.builds(
    lambda lines, end: b"\n".join(lines) + end,
    some_lines,
    st.sampled_from([b"", b"\n", b"\n", b"\r\n", b'\n{"id":"a","up']),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("replace"), contents),
        st.tuples(st.just("append"), contents),
        st.tuples(st.just("truncate"), st.integers(0, 80)),
        st.tuples(st.just("unlink"), st.none()),
        st.tuples(st.just("put"), st.tuples(st.sampled_from(IDS), st.integers(0, 2), st.sampled_from(Durability))),
        st.tuples(st.just("delete"), st.tuples(st.sampled_from(IDS), st.sampled_from(Durability))),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("sync"), st.none()),
        st.tuples(st.just("kill"), st.none()),
        st.tuples(st.just("close"), st.none()),
        st.tuples(st.just("other"), st.none()),
        st.tuples(st.just("rebuild"), st.none()),
    ),
    max_size=14,
)


class Played:
    """Two handles on one store, of which one acts at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / ".taskstore" / "plans.jsonl"
        self.handles: list[Store | None] = [None, None]
        self.closed = False

    @property
    def store(self) -> Store:
        store = self.handles[0] or open_store(self.folder)
        self.handles[0] = store
        return store

    def play(self, step: Step) -> None:
        with suppress(CollectionClosedError, LookupError, WriteUncertainError):
            self._play(*step)

    def _play(self, kind: str, value: object) -> None:  # noqa: C901 - reason: one line a step
        data = self.path.read_bytes() if self.path.exists() else b""
        if kind == "replace":
            assert isinstance(value, bytes)
            self.path.unlink(missing_ok=True)
            self.path.write_bytes(value)
        elif kind == "append":
            assert isinstance(value, bytes)
            self.path.write_bytes(data + value)
        elif kind == "truncate":
            assert isinstance(value, int)
            self.path.write_bytes(data[:value])
        elif kind == "unlink":
            self.path.unlink(missing_ok=True)
        elif kind == "put":
            key, number, durability = value  # type: ignore[misc]
            self.store.put(document(key, value=number), durability=durability)  # type: ignore[has-type]
        elif kind == "delete":
            key, durability = value  # type: ignore[misc]
            self.store.delete("plans", key, durability=durability)  # type: ignore[has-type]
        elif kind == "flush":
            self.store.flush()
        elif kind == "sync":
            self.store.sync()
        elif kind == "rebuild":
            self.store.sync(rebuild=True)
        elif kind == "kill":
            self.store._engine.abandon()
            self.handles[0] = None
        elif kind == "close":
            store, self.handles[0] = self.store, None
            store.close()
        else:
            self.handles.reverse()

    def end(self) -> None:
        for store in self.handles:
            if store is not None:
                store._engine.abandon()


@contextmanager
def playing(folder: Path) -> Generator[Played]:
    """Handles on a new store in *folder*, which is left as a killed process leaves it."""
    with open_store(folder):
        pass
    played = Played(folder)
    try:
        yield played
    finally:
        played.end()


class TestIndexIsTheFold:
    """Whatever happens to the files, the next sync makes the index fold(file + outbox), and a rebuild is the same."""

    @given(done=steps)
    @settings(max_examples=60)
    def test_after_any_history(self, done: list[Step]) -> None:
        with tempfile.TemporaryDirectory() as name, playing(Path(name)) as played:
            for step in done:
                played.play(step)
            store = played.store
            played.play(("sync", None))
            if not any(found.closed for found in store._engine.reader.collections.values()):
                assert_true(store)
                before = rows(store)
                played.play(("rebuild", None))
                assert_true(store)
                assert rows(store) == before

    @given(done=steps)
    @settings(max_examples=60)
    def test_a_new_index_says_the_same(self, done: list[Step]) -> None:
        with tempfile.TemporaryDirectory() as name:
            with playing(Path(name)) as played:
                for step in done:
                    played.play(step)
                try:
                    played.store.sync()
                except CollectionClosedError:
                    return
                if any(found.closed for found in played.store._engine.reader.collections.values()):
                    return
                assert outbox(played.store) == []
                expected = rows(played.store)
            for path in played.path.parent.glob("store.db*"):
                path.unlink()
            with open_store(played.folder) as store:
                assert (
                    rows(store)
                    == expected
                    == naive(journal_of(store).read_bytes() if journal_of(store).exists() else b"", [])
                )


class TestNothingAcknowledgedIsLost:
    """An acknowledged version is in the journal or the outbox, until another hand takes it out of the file."""

    @given(done=steps)
    @settings(max_examples=60)
    def test_after_any_history(self, done: list[Step]) -> None:
        with tempfile.TemporaryDirectory() as name, playing(Path(name)) as played:
            latest: dict[str, bytes] = {}
            for step in done:
                if step[0] in {"replace", "truncate", "unlink", "append"}:
                    played.play(step)
                    # What stood in the file was theirs to take; what had not been flushed was not.
                    latest = {raw_id: raw for raw_id, raw in latest.items() if raw in outbox(played.store)}
                    continue
                if step[0] == "put":
                    key, number, durability = step[1]  # type: ignore[misc]
                    try:
                        stored = played.store.put(document(key, value=number), durability=durability)  # type: ignore[has-type]
                    except TaskStoreError:
                        continue
                    raw = played.store.line("plans", stored.id)
                    assert raw is not None
                    latest[stored.id] = raw
                elif step[0] == "delete":
                    latest.pop(step[1][0], None)  # type: ignore[index]
                    played.play(step)
                else:
                    played.play(step)
                held = outbox(played.store)
                held += played.path.read_bytes().splitlines() if played.path.exists() else []
                assert [raw for raw in latest.values() if raw not in held] == []
