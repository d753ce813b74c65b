"""Real merges of public issue trackers: nothing is lost, whichever side is ours and however often."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from taskstore_async.core.fold import fold
from taskstore_async.core.line import Line
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge import merge
from taskstore_async.core.merge_report import Merged, Rule
from tests.core.merge_oracle import content, expected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBERS = [f"{number:03}" for number in range(1, 62, 2)]
VERSIONS = ("base", "ours", "theirs")
STAMPS = {"updated_at"}


class Real(NamedTuple):
    """A merge that happened, with what is known of it."""

    base: bytes
    ours: bytes
    theirs: bytes
    expected: bytes
    ties: set[str]
    collisions: set[str]

    @property
    def merged(self) -> Merged:
        return merge(self.base, self.ours, self.theirs)


def states(data: bytes) -> dict[str, Any]:
    return {record_id: json.loads(state.line.raw) for record_id, state in fold(decode_lines(data)).items()}


def lines(data: bytes) -> dict[str, list[bytes]]:
    """The lines of every record."""
    found: dict[str, list[bytes]] = {}
    for line in decode_lines(data):
        if isinstance(line, Line):
            found.setdefault(line.id, []).append(line.raw)
    return found


def text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def one_sided(real: Real) -> Iterator[tuple[str, str, Any]]:
    """Every field that one side changed and the other did not, lists aside: the record's id, its name, its value."""
    base, ours, theirs = (states(data) for data in real[:3])
    for record_id in ours.keys() & theirs.keys():
        old, mine, others = base.get(record_id, {}), ours[record_id], theirs[record_id]
        for name in {*old, *mine, *others} - STAMPS:
            was, here, there = (text(side.get(name)) for side in (old, mine, others))
            if here != there and was in {here, there} and "[" not in (was[0], here[0], there[0]):
                yield record_id, name, (others if here == was else mine).get(name)


def added_elements(real: Real) -> Iterator[tuple[str, str, list[Any]]]:
    """What a side added to a list: the record's id, the field's name, the elements."""
    base, *sides = (states(data) for data in real[:3])
    for side in sides:
        for record_id, record in side.items():
            for name, value in record.items():
                if isinstance(value, list):
                    was = base.get(record_id, {}).get(name)
                    old = Counter(map(text, was if isinstance(was, list) else []))
                    new = [json.loads(each) for each in (Counter(map(text, value)) - old).elements()]
                    if new:
                        yield record_id, name, new


@pytest.fixture(scope="module")
def archive(shared_data: Path) -> dict[str, Real]:
    with tarfile.open(shared_data / "merges" / "real_merges.tar.xz") as tar:
        files = {
            member.name.removeprefix("./"): found.read()
            for member in tar
            if (found := tar.extractfile(member)) is not None
        }
    merges: dict[str, Real] = {}
    for number in NUMBERS:
        oracle = json.loads(files[f"{number}/oracle.json"])
        base, ours, theirs, simple = (files[f"{number}/{name}.jsonl"] for name in (*VERSIONS, "expected"))
        merges[number] = Real(base, ours, theirs, simple, set(oracle["ties"]), set(oracle["id_collisions"]))
    return merges


@pytest.fixture(params=NUMBERS)
def real(request: pytest.FixtureRequest, archive: dict[str, Real]) -> Real:
    return archive[request.param]


class TestRealMerges:
    """31 merges that happened: the result has every record, every one-sided change and every element."""

    def test_there_is_what_the_other_tests_look_for(self, archive: dict[str, Real]) -> None:
        assert len(archive) == 31
        fields = sum(1 for real in archive.values() for _ in one_sided(real))
        added = sum(len(new) for real in archive.values() for _, _, new in added_elements(real))
        rules = Counter(decision.rule for real in archive.values() for decision in real.merged.report.decisions)
        assert (fields, added, sum(len(real.collisions) for real in archive.values())) == (1193, 897, 38)
        assert all(
            rules[rule] for rule in (Rule.FIELDS, Rule.NEWEST, Rule.MODIFIED_LIVES, Rule.RENAMED, Rule.REFERENCES)
        )

    def test_no_record_is_missing_and_none_is_extra(self, real: Real) -> None:
        merged = states(real.merged.data)
        twins = {
            decision.note.rpartition(" ")[2]
            for decision in real.merged.report.decisions
            if decision.rule is Rule.RENAMED
        }
        assert merged.keys() == states(real.expected).keys() | twins
        assert {twin.rpartition("-")[0] for twin in twins} <= real.collisions
        assert merged.keys() - twins == (states(real.ours).keys() | states(real.theirs).keys()) & merged.keys()

    def test_two_records_under_one_id_both_live(self, real: Real) -> None:
        ours, theirs, merged = states(real.ours), states(real.theirs), states(real.merged.data)
        for decision in real.merged.report.decisions:
            if decision.rule is Rule.RENAMED:
                old, new = decision.id, decision.note.rpartition(" ")[2]
                titles = [merged[record_id]["title"] for record_id in (old, new)]
                assert sorted(titles) == sorted(side[old]["title"] for side in (ours, theirs))
                assert merged[old]["created_at"] < merged[new]["created_at"]

    def test_every_record_is_the_three_way_result(self, real: Real) -> None:
        sides = [lines(data) for data in (real.base, real.ours, real.theirs)]
        found = real.merged
        merged = states(found.data)
        renamed = {each.id for each in found.report.decisions if each.rule in {Rule.RENAMED, Rule.REFERENCES}}
        ids = set().union(*sides) - renamed
        assert ids
        for record_id in ids:
            wanted = expected(record_id, *(side.get(record_id, []) for side in sides))
            assert content(merged.get(record_id)) in wanted, record_id

    def test_every_field_that_one_side_changed_is_there(self, real: Real) -> None:
        merged = states(real.merged.data)
        for record_id, name, value in one_sided(real):
            if record_id not in real.collisions:
                assert merged[record_id].get(name) == value, (record_id, name)

    def test_lists_have_what_either_side_added(self, real: Real) -> None:
        merged = states(real.merged.data)
        for record_id, name, new in added_elements(real):
            if record_id in merged and record_id not in real.collisions:
                found = merged[record_id].get(name, [])
                named = {str(item["id"]) for item in found if isinstance(item, dict) and "id" in item}
                plain = Counter(map(text, found))
                for item in new:
                    if isinstance(item, dict) and "id" in item:
                        assert str(item["id"]) in named
                    else:
                        assert plain[text(item)], (record_id, name)

    def test_records_outside_the_hard_cases_are_as_the_simple_rule_has_them(self, real: Real) -> None:
        merged, wanted = states(real.merged.data), states(real.expected)
        for record_id in wanted.keys() - real.ties - real.collisions:
            for name, value in wanted[record_id].items():
                if name not in STAMPS and not isinstance(value, list):
                    assert merged[record_id].get(name) == value, (record_id, name)

    def test_either_side_may_be_ours_and_merging_again_changes_nothing(self, real: Real) -> None:
        base, ours, theirs = real[:3]
        merged = real.merged
        assert merged.conflicts == 0
        assert merge(base, theirs, ours).data == merged.data
        assert merge(base, merged.data, theirs).data == merged.data
        assert merge(base, ours, merged.data).data == merged.data

    def test_one_side_alone_is_taken_as_it_is(self, real: Real) -> None:
        base, ours, theirs = real[:3]
        assert merge(base, ours, ours).data == ours
        assert merge(base, base, theirs).data == theirs
        assert merge(base, ours, base).data == ours

    def test_lines_that_nobody_touched_keep_their_bytes_and_their_order(self, real: Real) -> None:
        base, ours, theirs = (data.splitlines() for data in real[:3])
        untouched = set(base) & set(ours) & set(theirs)
        merged = [line for line in real.merged.data.splitlines() if line in untouched]
        assert sorted(merged) == sorted(line for line in base if line in untouched)
        ids = list(lines(real.merged.data))
        if all(list(lines(side)) == sorted(lines(side)) for side in (real.ours, real.theirs)):
            assert ids == sorted(ids)
        else:
            assert merged == [line for line in base if line in untouched]

    def test_what_one_line_files_hold_stays_one_line_each(self, real: Real) -> None:
        ours, theirs, merged = (lines(data) for data in (real.ours, real.theirs, real.merged.data))
        for record_id, found in merged.items():
            if len(ours.get(record_id, [])) <= 1 and len(theirs.get(record_id, [])) <= 1:
                assert len(found) == 1


class TestBrokenFiles:
    """Files that were committed with markers or a torn line lose nothing that can be read."""

    @pytest.mark.parametrize("name", ["broken_markers_01", "broken_markers_09", "broken_torn_line"])
    def test_what_can_be_read_is_there_after_a_merge(self, shared_data: Path, name: str) -> None:
        import lzma  # noqa: PLC0415 - reason: only here

        broken = lzma.decompress((shared_data / f"{name}.jsonl.xz").read_bytes())
        base = b"\n".join(broken.splitlines()[: len(broken.splitlines()) // 2]) + b"\n"
        new = b'{"id":"brand-new","updated_at":"2026-01-01T00:00:00Z"}\n'
        for sides in ((broken, base + new), (base + new, broken)):
            merged = states(merge(base, *sides).data)
            assert merged.keys() == states(broken).keys() | {"brand-new"}
        readable = {line.raw for line in decode_lines(broken) if isinstance(line, Line)}
        kept = {line.raw for line in decode_lines(merge(b"", broken, new).data) if isinstance(line, Line)}
        assert readable <= kept
