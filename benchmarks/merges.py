"""Merging, as git runs it: a whole process each time."""

from __future__ import annotations

import io
import lzma
import shutil
import tarfile
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from benchmarks.child import floor_command, peak_mb_of, program, run_program
from benchmarks.rows import Absent, Family, Row, at_most
from benchmarks.samples import STAMP, folder, job, lines, real_data, stored
from taskstore_async.bench.measure import Sample, Spread, race

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.rows import Profile

__all__ = ["FAMILY", "make_sides", "merge_rows"]

_SIDES = ("base", "ours", "theirs")


def rows(profile: Profile) -> Iterator[Row | Absent]:
    """Everything about merging."""
    for count in dict.fromkeys((profile.many // 10, profile.many)):
        full = count == profile.many
        for kind, limit, limit_mb in (("journals", 2.2, 220), ("snapshots", 3.5, 320)):
            yield from merge_rows(profile, kind, count, limit if full else None, limit_mb if full else None)
    yield from _real_merges(profile)


FAMILY = Family("merge", rows)


def make_sides(path: Path, kind: str, count: int) -> None:
    """Write base, ours and theirs: each side changes 5 % of the records, none of them the same.

    Args:
        path: Where.
        kind: ``journals``: the changes are appended. ``snapshots``: they stand in place of what they change.
        count: How many records.
    """
    encode = msgspec.json.Encoder().encode
    base = list(lines(count))
    for side in _SIDES:
        text = list(base)
        for number in range(0 if side == "ours" else 10, count if side != "base" else 0, 20):
            changed = msgspec.structs.replace(stored(job(number), STAMP), title=f"Part {number}, by {side}")
            line = encode(msgspec.structs.replace(changed, updated_at=STAMP + 1_000 + number)) + b"\n"
            if kind == "journals":
                text.append(line)
            else:
                text[number] = line
        (path / f"{side}.jsonl").write_bytes(b"".join(text))


def merge_rows(profile: Profile, kind: str, count: int, limit: float | None, limit_mb: float | None) -> Iterator[Row]:
    """Merges of so many records, and their memory; see `make_sides`."""
    with folder() as path:
        make_sides(path, kind, count)
        base, ours, theirs = (path / f"{side}.jsonl" for side in _SIDES)

        command = [program("taskstore-merge")]

        def merge() -> Sample:
            mine = path / "mine.jsonl"
            shutil.copyfile(ours, mine)
            return run_program([*command, str(base), str(mine), str(theirs), "jobs.jsonl"], cwd=path)

        contest = race({"floor": partial(run_floor, base, ours, theirs), "merge": merge}, rounds=profile.slow_rounds)
        shutil.copyfile(ours, path / "mine.jsonl")
        peak_mb = peak_mb_of([*command, str(base), str(path / "mine.jsonl"), str(theirs)], cwd=path)
        floor_mb = peak_mb_of(floor_command(base, ours, theirs))
    work = f"merge of {kind}, {count:,} records, 5 % changed on each side"
    yield Row(
        name=f"merge.{kind}.{count}",
        work=work,
        floor="reading and splitting the three files, finding the changed lines and decoding them, whole process",
        value=contest.cost("merge", "floor"),
        budget=None if limit is None else at_most(limit),
        detail=f"{contest.seconds('merge'):.2f} against {contest.seconds('floor'):.2f} s",
    )
    yield Row(
        name=f"merge.{kind}.{count}.memory",
        work=f"{work}, peak memory",
        floor="nothing",
        value=Spread.of([peak_mb]),
        unit="MB",
        budget=None if limit_mb is None else at_most(limit_mb),
        detail=f"the floor takes {floor_mb:.0f} MB",
    )


def run_floor(base: Path, ours: Path, theirs: Path) -> Sample:
    """The floor of a merge, as a process from start to end."""
    return run_program(floor_command(base, ours, theirs))


def _real_merges(profile: Profile) -> Iterator[Row | Absent]:
    data = real_data("merges/real_merges.tar.xz")
    if data is None:
        yield Absent("merges of real journals", "the data is not there")
        return
    with folder() as path:
        with tarfile.open(fileobj=io.BytesIO(lzma.decompress(data.read_bytes()))) as archive:
            archive.extractall(path, filter="data")
        cases = sorted({one.parent for one in path.rglob("base.jsonl")})

        def merge() -> Sample:
            total = 0.0
            for case in cases:
                mine = case / "mine.jsonl"
                shutil.copyfile(case / "ours.jsonl", mine)
                command = [
                    program("taskstore-merge"),
                    *(str(case / f"{name}.jsonl") for name in ("base", "mine", "theirs")),
                ]
                total += run_program(command, cwd=case, codes=(0, 1)).seconds
            return Sample(total)

        def floor() -> Sample:
            total = sum(run_floor(*(case / f"{side}.jsonl" for side in _SIDES)).seconds for case in cases)
            return Sample(total)

        contest = race({"floor": floor, "merge": merge}, rounds=profile.slow_rounds)
    yield Row(
        name="merge.real",
        work=f"the {len(cases)} real merges, one process each",
        floor="as above, one process each",
        value=contest.cost("merge", "floor"),
        detail=f"{contest.seconds('merge') / len(cases) * 1e3:.0f} ms each",
    )
