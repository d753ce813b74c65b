"""What a merge decided, as values and in words."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Decision", "FieldDecision", "Merged", "Report", "Rule", "Sides", "words"]


class Rule(StrEnum):
    """Why a record became what it is."""

    FIELDS = "fields"
    NEWEST = "newest"
    MODIFIED_LIVES = "modified-lives"
    PAST = "past"
    CONFLICT = "conflict"
    RENAMED = "renamed"
    REFERENCES = "references"
    MENTIONED = "mentioned"
    REPEATED = "repeated"


_WORDS = {
    Rule.FIELDS: "merged field by field",
    Rule.NEWEST: "changed on both sides; the newer version says it all",
    Rule.MODIFIED_LIVES: "deleted on one side and modified on the other: the modification lives",
    Rule.PAST: "one side's version stands, superseded, in the other's history: the later one stays",
    Rule.CONFLICT: "CONFLICT: both sides changed the same value at the same time",
    Rule.RENAMED: "two different records were created under this id; the younger got another one",
    Rule.REFERENCES: "references to a renamed record were rewritten",
    Rule.MENTIONED: "mentions an id that now means two records; look whether it means the right one",
    Rule.REPEATED: "written once more, one millisecond above a line of its history that would beat it",
}


class FieldDecision(msgspec.Struct, frozen=True):
    """What became of a value that both sides disagree on.

    Attributes:
        path: Where it stands in the record: ``status``, ``meta.owner``, ``comments[7].text``.
        took: ``ours``, ``theirs`` or ``both``.
        why: The rule, in a word or two.
    """

    path: str
    took: str
    why: str


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a record that took a decision.

    Attributes:
        id: The record's id.
        rule: Why.
        fields: The values that both sides disagree on.
        note: What else there is to say: the new id, the id that is mentioned.
    """

    id: str
    rule: Rule
    fields: tuple[FieldDecision, ...] = ()
    note: str = ""


class Report(msgspec.Struct, frozen=True):
    """What a merge decided.

    Attributes:
        ours: How many records only our side changed, created or deleted.
        theirs: The same of theirs.
        both: How many records both sides changed.
        conflicts: How many of them are in conflict.
        decisions: What was decided about the records that took a decision, by id.
        notes: What there is to say of the files: lines that are no records, sides that look torn.
    """

    ours: int = 0
    theirs: int = 0
    both: int = 0
    conflicts: int = 0
    decisions: tuple[Decision, ...] = ()
    notes: tuple[str, ...] = ()


class Sides(msgspec.Struct, frozen=True):
    """The two versions between which a record was decided; None where a side has none.

    Of a record in conflict each is the complete merge with that side's values where they exclude each other.
    """

    ours: bytes | None
    theirs: bytes | None


class Merged(msgspec.Struct, frozen=True):
    """The result of a merge.

    Attributes:
        data: The merged file.
        report: What was decided.
        conflicts: How many records stand in *data* twice, between markers.
        sides: What there was to choose from, of the records that were decided, by id.
    """

    data: bytes
    report: Report
    conflicts: int
    sides: dict[str, Sides] = {}


def words(report: Report) -> Iterator[str]:
    """Say *report* in lines of text. Control characters in ids are spelled out."""
    yield (
        f"{report.ours} changed by us, {report.theirs} by them, {report.both} by both, {report.conflicts} in conflict"
    )
    for note in report.notes:
        yield _plain(note)
    for decision in report.decisions:
        note = f" ({decision.note})" if decision.note else ""
        yield _plain(f"{decision.id}: {_WORDS[decision.rule]}{note}")
        for field in decision.fields:
            yield _plain(f"    {field.path}: {field.took}, {field.why}")


def _plain(text: str) -> str:
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
