"""Real merges of public issue trackers: nothing is lost, whichever side is ours and however often."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from taskstore_async.core.codec import Line, decode_lines
from taskstore_async.core.fold import fold
from taskstore_async.core.merge import merge

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = [f"{number:03}" for number in range(1, 62, 2)]
VERSIONS = ("base", "ours", "theirs")


@pytest.fixture(scope="module")
def archive(shared_data: Path) -> dict[str, bytes]:
    with tarfile.open(shared_data / "merges" / "real_merges.tar.xz") as tar:
        return {
            member.name.removeprefix("./"): found.read()
            for member in tar
            if (found := tar.extractfile(member)) is not None
        }


@pytest.fixture(params=NUMBERS)
def real(request: pytest.FixtureRequest, archive: dict[str, bytes]) -> dict[str, Any]:
    number = request.param
    files = {name: archive[f"{number}/{name}.jsonl"] for name in (*VERSIONS, "expected")}
    return {**files, "oracle": json.loads(archive[f"{number}/oracle.json"])}


def states(data: bytes) -> dict[str, Any]:
    return {record_id: json.loads(state.line.raw) for record_id, state in fold(decode_lines(data)).items()}


def elements(value: Any) -> Counter[str]:  # noqa: ANN401 - reason: JSON
    return Counter(json.dumps(item, sort_keys=True) for item in value) if isinstance(value, list) else Counter()


class TestRealMerges:
    """31 merges that happened: the result has every record, every one-sided change and every element."""

    def test_no_record_is_missing_and_none_is_extra(self, real: dict[str, Any]) -> None:
        merged, wanted = states(merge(*(real[name] for name in VERSIONS)).data), states(real["expected"])
        split = set(real["oracle"]["id_collisions"])
        extra = merged.keys() - wanted.keys()
        assert wanted.keys() <= merged.keys()
        assert all(record_id.rpartition("-")[0] in split for record_id in extra)
        assert len({record_id.rpartition("-")[0] for record_id in extra}) == len(extra)

    def test_every_field_that_one_side_changed_is_there(self, real: dict[str, Any]) -> None:
        base, ours, theirs = (states(real[name]) for name in VERSIONS)
        merged = states(merge(*(real[name] for name in VERSIONS)).data)
        everything = {json.dumps(value.get(name), sort_keys=True) for value in merged.values() for name in value}
        seen = 0
        for record_id in {*ours, *theirs}:
            old, mine, others = (side.get(record_id) for side in (base, ours, theirs))
            if mine is None or others is None:
                continue
            for name in {*mine, *others} - {"updated_at"}:
                values = [{} if side is None else side for side in (old, mine, others)]
                was, here, there = (side.get(name) for side in values)
                if here == there or was not in (here, there) or isinstance(was or here or there, list):
                    continue
                changed = there if here == was else here
                if record_id in real["oracle"]["id_collisions"]:
                    assert json.dumps(changed, sort_keys=True) in everything or name == "id"
                else:
                    assert merged[record_id].get(name) == changed, (record_id, name)
                seen += 1
        assert (
            seen
            or real["base"] in (real["ours"], real["theirs"])
            or not real["oracle"]["stats"].get("field_merge_clean")
        )

    def test_lists_have_what_either_side_added(self, real: dict[str, Any]) -> None:
        base, ours, theirs = (states(real[name]) for name in VERSIONS)
        merged = states(merge(*(real[name] for name in VERSIONS)).data)
        for record_id, name, changed in (
            (record_id, name, value)
            for side in (ours, theirs)
            for record_id, value in side.items()
            for name in value
            if isinstance(value[name], list)
            and record_id in merged
            and record_id not in real["oracle"]["id_collisions"]
        ):
            added = elements(changed[name]) - elements(base.get(record_id, {}).get(name))
            named = {json.loads(each).get("id") for each in added if each.startswith("{")} - {None}
            found = merged[record_id].get(name)
            assert {item["id"] for item in found or [] if isinstance(item, dict) and "id" in item} >= named
            plain = Counter({each: count for each, count in added.items() if '"id"' not in each})
            assert not plain - elements(found), (record_id, name)

    def test_records_outside_the_hard_cases_are_as_the_simple_rule_has_them(self, real: dict[str, Any]) -> None:
        merged, wanted = states(merge(*(real[name] for name in VERSIONS)).data), states(real["expected"])
        oracle = real["oracle"]
        hard = {*oracle["ties"], *oracle["id_collisions"]}
        for record_id in wanted.keys() - hard:
            for name, value in wanted[record_id].items():
                if name != "updated_at" and not isinstance(value, list):
                    assert merged[record_id].get(name) == value, (record_id, name)

    def test_either_side_may_be_ours_and_merging_again_changes_nothing(self, real: dict[str, Any]) -> None:
        base, ours, theirs = (real[name] for name in VERSIONS)
        merged = merge(base, ours, theirs)
        assert merged.conflicts == 0
        assert merge(base, theirs, ours).data == merged.data
        assert merge(base, merged.data, theirs).data == merged.data
        assert merge(base, ours, merged.data).data == merged.data

    def test_one_side_alone_is_taken_as_it_is(self, real: dict[str, Any]) -> None:
        base, ours, theirs = (real[name] for name in VERSIONS)
        assert merge(base, ours, ours).data == ours
        assert merge(base, base, theirs).data == theirs
        assert merge(base, ours, base).data == ours

    def test_lines_that_nobody_touched_keep_their_bytes(self, real: dict[str, Any]) -> None:
        base, ours, theirs = (set(real[name].splitlines()) for name in VERSIONS)
        merged = set(merge(*(real[name] for name in VERSIONS)).data.splitlines())
        assert base & ours & theirs <= merged

    def test_what_one_line_files_hold_stays_one_line_each(self, real: dict[str, Any]) -> None:
        counts = [
            Counter(line.id for line in decode_lines(real[name]) if isinstance(line, Line)) for name in VERSIONS[1:]
        ]
        merged = Counter(
            line.id for line in decode_lines(merge(*(real[name] for name in VERSIONS)).data) if isinstance(line, Line)
        )
        assert all(count == 1 for record_id, count in merged.items() if all(side[record_id] <= 1 for side in counts))


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
