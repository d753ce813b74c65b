"""Three-way merge of a JSONL file: record by record, field by field, without loss.

A pure function of three byte strings that knows no schema. Calling either side ours gives the same bytes, merging
again changes nothing, and the fold of the result is the three-way result for every record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskstore_async.core.merge_file import assemble
from taskstore_async.core.merge_history import Layout, arrange, arrange_at_once
from taskstore_async.core.merge_read import read
from taskstore_async.core.merge_renames import separate
from taskstore_async.core.merge_report import Decision, Merged, Report, Rule, Sides
from taskstore_async.core.merge_state import decide, sides_of

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["merge"]


def merge(base: bytes, ours: bytes, theirs: bytes, *, references: Collection[str] = ()) -> Merged:
    """Merge two versions of a file that come from one.

    Args:
        base: The version both come from; empty when both sides added the file.
        ours: One side.
        theirs: The other.
        references: Fields that hold ids of this file's records, beside those called ``..._id`` and ``..._ids``.

    Returns:
        The merged file, and what was decided. The file is the same whichever side is called ours; the report says
        ours and theirs.

    Raises:
        MergeInputError: A side has lines, but not one that is a record.
    """
    if theirs in (ours, base):
        return Merged(ours, Report(), 0)
    if ours == base:
        return Merged(theirs, Report(), 0)
    reading = read(base, ours, theirs)
    decisions = separate(reading.records, references=references)
    layouts: dict[str, Layout] = {}
    counts = {"ours": 0, "theirs": 0, "both": 0, "": 0}
    sides: dict[str, Sides] = {}
    conflicts = 0
    for record_id, versions in reading.records.items():
        at_once = arrange_at_once(record_id, versions)
        if at_once is not None:
            who, layouts[record_id] = at_once
            counts[who] += 1
            continue
        outcome = decide(record_id, versions)
        layout = arrange(record_id, versions, outcome.lines)
        layouts[record_id] = layout
        counts[outcome.changed_by] += 1
        conflicts += len(outcome.lines) > 1
        if outcome.decision is not None:
            decisions.append(outcome.decision)
            sides[record_id] = outcome.sides or sides_of(versions)
        if layout.repeated:
            decisions.append(Decision(record_id, Rule.REPEATED))
    report = Report(
        ours=counts["ours"],
        theirs=counts["theirs"],
        both=counts["both"],
        conflicts=conflicts,
        decisions=tuple(sorted(decisions, key=lambda decision: (decision.id, decision.rule, decision.note))),
        notes=tuple(reading.notes),
    )
    return Merged(assemble(reading, layouts), report, conflicts, sides)
