"""Run the benchmarks: ``python -m benchmarks [--profile small|full] [--only FAMILY] [--json FILE] [--page FILE]``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks import growth, imports, merges, programs, reads, startup, syncs, tracker, writes
from benchmarks.machine import describe
from benchmarks.page import page, verdict
from benchmarks.rows import Absent, Profile, Report, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rows import Family

PROFILES: Final = {
    "small": Profile(name="small", rounds=1, slow_rounds=1, puts=640, gets=640, many=2_000, most=10_000),
    "full": Profile(name="full", rounds=7, slow_rounds=3, puts=6_400, gets=6_400, many=100_000, most=1_000_000),
}
FAMILIES: Final = (
    writes.FAMILY,
    reads.FAMILY,
    syncs.FAMILY,
    merges.FAMILY,
    startup.FAMILY,
    imports.FAMILY,
    tracker.FAMILY,
    growth.FAMILY,
    programs.FAMILY,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the words say; 0 when it ran, whatever came of it."""
    names = [family.name for family in FAMILIES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--profile", choices=list(PROFILES), default="small")
    parser.add_argument("--only", choices=names, action="append", help="this family; may be given again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there; with --only, into it")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page that the report makes there")
    words = parser.parse_args(argv)
    report = run(PROFILES[words.profile], [one for one in FAMILIES if words.only is None or one.name in words.only])
    if words.json is not None:
        if words.only and words.json.exists():
            report = joined(msgspec.json.decode(words.json.read_bytes(), type=Report), report)
        words.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if words.page is not None:
        words.page.write_text(page(report), encoding="utf-8")
    return 0


def run(profile: Profile, families: Sequence[Family]) -> Report:
    """Measure *families*, and print each row as it comes."""
    begun = time.perf_counter()
    rows: dict[str, list[Row]] = {}
    absent: list[Absent] = []
    for family in families:
        print(f"\n{family.name}")
        for one in family.rows(profile):
            if isinstance(one, Absent):
                absent.append(one)
                print(f"  {one.name}: skipped, {one.reason}")
            else:
                rows.setdefault(family.name, []).append(one)
                print(f"  {verdict(one):>12}  {one.name:32} {one.detail}", flush=True)
    return Report(profile.name, describe(), time.perf_counter() - begun, rows, absent)


def joined(before: Report, report: Report) -> Report:
    """An earlier report with the families of a later one in place of its own."""
    order = [family.name for family in FAMILIES]
    rows = {**before.rows, **report.rows}
    absent = [one for one in before.absent if one not in report.absent] + report.absent
    return msgspec.structs.replace(
        report,
        seconds=before.seconds + report.seconds,
        rows={name: rows[name] for name in order if name in rows},
        absent=absent,
    )


if __name__ == "__main__":
    sys.exit(main())
