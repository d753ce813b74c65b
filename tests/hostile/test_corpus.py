"""Every line of the corpus is served, reported or quarantined, and no append, compaction or merge loses it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from taskstore_async.core.codec import split_fields
from taskstore_async.core.line import BadLine
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge import merge
from taskstore_async.core.record import Document
from taskstore_async.errors import CollectionClosedError, MergeInputError
from tests.hostile.corpus import KINDS, Kind, Piece, Verdict, good
from tests.storage.workshop import NAME, Durability, assert_true, document, journal_of, open_store, rows

if TYPE_CHECKING:
    from pathlib import Path

    from taskstore_async.storage.store import Store

BOM = b"\xef\xbb\xbf"
UNREADABLE = {Verdict.BAD, Verdict.MARKER}
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
readable_kind = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.alone], ids=[kind.name for kind in KINDS if not kind.alone]
)


class Told(NamedTuple):
    """What a check says of a line."""

    served: bool
    offset: int
    message: str


def plant(folder: Path, data: bytes) -> Path:
    """Make a store whose journal has these bytes."""
    path = journal_of(folder)
    path.parent.mkdir()
    path.write_bytes(data)
    return path


def line_of(piece: Piece) -> bytes:
    """The piece as it is read: without a mark, without carriage returns."""
    return piece.raw.removeprefix(BOM).rstrip(b"\r")


def told(store: Store) -> dict[int, Told]:
    """What is told of the lines of the journal, by number."""
    return {
        finding.line: Told(finding.kind == "line", finding.offset or 0, finding.message)
        for finding in store.check().problems
        if finding.line is not None
    }


def assert_verdicts(store: Store, kind: Kind) -> None:
    """Each line has become what it must, and is told where it stands."""
    problems = told(store)
    for number, piece in enumerate(kind.pieces, 1):
        problem = problems.pop(number, None)
        if piece.verdict in {Verdict.SERVED, Verdict.BLANK}:
            assert problem is None
            continue
        assert problem is not None, f"line {number} is not told of"
        assert problem.served == (piece.verdict is Verdict.REPORTED)
        assert piece.says in problem.message
        assert kind.data[problem.offset :].removeprefix(BOM).startswith(piece.raw.removeprefix(BOM))
    assert problems == {}
    if not kind.alone:
        expected = {
            piece.record_id: line_of(piece) for piece in kind.pieces if piece.record_id or piece.says == "empty"
        }
        assert {record_id: raw for record_id, (raw, _) in rows(store).items()} == expected
        assert_true(store)


def followed_by(kind: Kind, raw: bytes) -> Kind:
    """The kind's file with one more line of ours; what ended without a newline is not called torn any more."""
    pieces = (piece._replace(says="") if piece.says == "torn" else piece for piece in kind.pieces)
    return Kind(kind.name, (*pieces, Piece(raw, Verdict.SERVED, "ours")))


class TestVerdict:
    """A line is served, reported, or both, whatever stands around it; opening never fails."""

    @every_kind
    def test_every_line_has_its_verdict(self, tmp_path: Path, kind: Kind) -> None:
        plant(tmp_path, kind.data)
        with open_store(tmp_path) as store:
            assert_verdicts(store, kind)
            store.sync(rebuild=True)
            assert_verdicts(store, kind)
        assert journal_of(tmp_path).read_bytes() == kind.data

    @readable_kind
    def test_every_record_can_be_asked_for(self, tmp_path: Path, kind: Kind) -> None:
        plant(tmp_path, kind.data)
        with open_store(tmp_path) as store:
            found = {one.id for one in store.list(NAME)}
            assert found == {piece.record_id for piece in kind.pieces if piece.record_id or piece.says == "empty"}
            assert all(store.get(NAME, record_id) is not None for record_id in found)
            assert store.count(NAME) == len(found)


class TestAppend:
    """An append adds lines behind what is there, and nothing of that becomes another line by it."""

    @readable_kind
    def test_what_was_there_stays(self, tmp_path: Path, kind: Kind) -> None:
        path = plant(tmp_path, kind.data)
        with open_store(tmp_path) as store:
            store.put(document("ours"), durability=Durability.JOURNAL)
            raw = store.line(NAME, "ours")
            assert raw is not None
            after = path.read_bytes()
            assert after.startswith(kind.data)
            assert after[len(kind.data) :].lstrip(b"\n") == raw + b"\n"
            assert_verdicts(store, followed_by(kind, raw))

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.alone], ids=lambda kind: kind.name)
    def test_a_file_without_a_record_is_closed(self, tmp_path: Path, kind: Kind) -> None:
        path = plant(tmp_path, kind.data)
        with open_store(tmp_path) as store:
            with pytest.raises(CollectionClosedError, match="closed to writing"):
                store.put(document("ours"), durability=Durability.JOURNAL)
            with pytest.raises(CollectionClosedError):
                store.compact(NAME)
            store.compact()
            store.put(Document("others", {"id": "a"}), durability=Durability.JOURNAL)
        assert path.read_bytes() == kind.data


class TestCompaction:
    """What compaction does not leave in the journal is in the quarantine, byte for byte."""

    @readable_kind
    def test_nothing_is_lost(self, tmp_path: Path, kind: Kind) -> None:
        path = plant(tmp_path, kind.data)
        with open_store(tmp_path) as store:
            before = rows(store)
            report = store.compact(NAME).collections[NAME]
            after = rows(store)
            torn = kind.torn and kind.pieces[-1].verdict in UNREADABLE
            wanted = [piece.raw for piece in kind.pieces if piece.verdict in UNREADABLE]
            held = Counter(
                line for file in (store.path / "quarantine").glob("*") for line in file.read_bytes().split(b"\n")
            )
            left = path.read_bytes()
            if torn:  # whoever is writing it may still end it
                assert left.endswith(wanted.pop())
            assert report.quarantined == len(wanted)
            assert Counter(wanted) <= held
            assert {key: instant for key, (_, instant) in after.items()} == {key: at for key, (_, at) in before.items()}
            for record_id, (raw, _) in before.items():
                assert same_but_for_the_stamp(raw, after[record_id][0])
            assert {one.served for one in told(store).values()} <= ({True, False} if torn else {True})
            assert_true(store)
        path.parent.joinpath("store.db").unlink()
        with open_store(tmp_path) as store:
            assert rows(store) == after


def same_but_for_the_stamp(one: bytes, other: bytes) -> bool:
    if one == other:
        return True
    fields, others = ({key: bytes(value) for key, value in split_fields(raw).items()} for raw in (one, other))
    fields.pop("updated_at", None)
    others.pop("updated_at", None)
    return fields == others


class TestMerge:
    """A merge keeps every line of either side that is not its business to settle, or changes nothing at all."""

    BASE = good("base").raw + b"\n"
    THEIRS = BASE + good("theirs-new").raw + b"\n"

    @readable_kind
    @pytest.mark.parametrize("place", ["behind the base", "before it"])
    def test_nothing_is_lost(self, kind: Kind, place: str) -> None:
        behind = place == "behind the base"
        ours = self.BASE + kind.data if behind else kind.data.rstrip(b"\n") + b"\n" + self.BASE
        torn = kind.torn and behind
        merged = merge(self.BASE, ours, self.THEIRS).data
        assert merge(self.BASE, self.THEIRS, ours).data == merged
        assert merge(self.BASE, merged, self.THEIRS).data == merged
        lines = Counter(merged.split(b"\n"))
        for number, piece in enumerate(kind.pieces):
            if piece.verdict in {Verdict.BLANK, Verdict.MARKER}:
                continue
            raw = piece.raw.rstrip(b"\r")
            if not (behind or number):
                raw = raw.removeprefix(BOM)  # elsewhere it is no mark
            assert lines[raw] == 1, f"{raw[:80]!r} is there {lines[raw]} times"
        assert torn == (not ours.endswith(b"\n"))
        assert {good("base").raw, good("theirs-new").raw} <= set(lines)

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.alone], ids=lambda kind: kind.name)
    def test_a_side_without_a_record_is_an_error(self, kind: Kind) -> None:
        for sides in ((kind.data, self.THEIRS), (self.THEIRS, kind.data)):
            with pytest.raises(MergeInputError):
                merge(self.BASE, *sides)


def test_every_kind_has_a_name_of_its_own_and_there_are_many() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) > 70
    used = {piece.verdict for kind in KINDS for piece in kind.pieces}
    assert used == set(Verdict)


def test_the_corpus_is_read_as_it_was_made() -> None:
    for kind in KINDS:
        found = list(decode_lines(kind.data))
        assert len(found) == sum(piece.verdict is not Verdict.BLANK for piece in kind.pieces), kind.name
        bad = sum(isinstance(one, BadLine) for one in found)
        assert bad == sum(piece.verdict in UNREADABLE for piece in kind.pieces), kind.name
