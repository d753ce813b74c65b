"""What the last merges decided, and what they left to a person."""

from __future__ import annotations

from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from taskstore_async.core.codec import decode_exact
from taskstore_async.core.difference import FieldChange, field_changes
from taskstore_async.core.mentions import find_mentions
from taskstore_async.core.merge_report import Decision, Rule
from taskstore_async.git.driver import LOG
from taskstore_async.storage.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from taskstore_async.core.conflicts import Contest
    from taskstore_async.storage.store import Store

__all__ = [
    "UNDECIDED",
    "Conflicts",
    "Entry",
    "Mention",
    "Past",
    "Settled",
    "Standing",
    "Stray",
    "conflicts",
    "find_decided",
    "find_standing",
    "read_log",
    "references_of",
]

_OF_THE_DRIVER: Final = ("one version", "the other version")  #: labels that do not tell the sides apart
_SUFFIX: Final = ".jsonl"
_NOW: Final = ": now "  #: comes before the new id in the note of a rename
UNDECIDED: Final = frozenset({Rule.REFERENCES, Rule.MENTIONED, Rule.RENAMED, Rule.REPEATED})
"""What a merge did or found beside deciding between two versions."""

_Place: TypeAlias = Literal["first", "second"]


class Standing(msgspec.Struct, frozen=True):
    """A record that stands between conflict markers in a journal: a version of it has to be chosen.

    Attributes:
        collection: Where it stands.
        id: The record's id.
        line: The number of the opening marker's line.
        first: The upper version, as stored.
        second: The lower version.
        ours: Which of them is ours; None when nobody knows any more.
        fields: What differs: from *first* to *second*.
    """

    collection: str
    id: str
    line: int
    first: msgspec.Raw
    second: msgspec.Raw
    ours: _Place | None
    fields: tuple[FieldChange, ...]


class Past(msgspec.Struct, frozen=True):
    """What a past merge decided about a record.

    Attributes:
        at: When, in milliseconds since the epoch (UTC).
        collection: Where the record stands.
        decision: What was decided, and why.
        ours: Our version before the merge; None when we had none, absent when it was not kept.
        theirs: The same of theirs.
    """

    at: int
    collection: str
    decision: Decision
    ours: msgspec.Raw | UnsetType | None = UNSET
    theirs: msgspec.Raw | UnsetType | None = UNSET


class Mention(msgspec.Struct, frozen=True):
    """A record that names an id which, since a merge, may mean either of two records.

    Attributes:
        collection: Where it stands.
        id: The record's id.
        paths: Where in it the id is named.
        old: The id that is named: now the older record's alone.
        new: The id that the younger one was given.
    """

    collection: str
    id: str
    paths: tuple[str, ...]
    old: str
    new: str


class Stray(msgspec.Struct, frozen=True):
    """Markers between which there is nothing to choose.

    Attributes:
        collection: In whose journal.
        lines: The numbers of the markers' lines.
        whole: They make whole blocks, which ``tstore resolve`` takes out; else a person has to look.
    """

    collection: str
    lines: tuple[int, ...]
    whole: bool


class Conflicts(msgspec.Struct, frozen=True):
    """What merges have left, and what they decided, the newest first."""

    standing: tuple[Standing, ...]
    markers: tuple[Stray, ...]
    mentions: tuple[Mention, ...]
    decided: tuple[Past, ...]


class Settled(msgspec.Struct, frozen=True):
    """A note that something a merge left or decided is dealt with."""

    collection: str
    id: str
    old: str | None = None  #: the id that was mentioned


class Entry(msgspec.Struct, frozen=True):
    """A line of the log: a merge, or a note."""

    at: int
    path: str | None = None
    decisions: tuple[Decision, ...] = ()
    sides: dict[str, dict[str, msgspec.Raw]] = {}
    settled: Settled | None = None

    @property
    def collection(self) -> str:
        """What was merged."""
        return PurePath(self.path or "").name.removesuffix(_SUFFIX)

    def version(self, record_id: str, side: str) -> msgspec.Raw | UnsetType | None:
        """What a side of the merge had; None when it had nothing, UNSET when that was not kept."""
        kept = self.sides.get(record_id, {}).get(side)
        return UNSET if kept is None else None if bytes(kept) == b"null" else kept


_ENTRY: Final = msgspec.json.Decoder(Entry)


def conflicts(store: Store, *, merges: int | None = None) -> Conflicts:
    """What stands between markers, what may name the wrong record, and what past merges decided.

    Args:
        store: The store.
        merges: Of how many past merges; None for all that are still known.
    """
    log = read_log(store)
    standing, markers = find_standing(store, log)
    past = [entry for entry in log if entry.decisions]
    told = past if merges is None else past[max(0, len(past) - merges) :]
    return Conflicts(standing, markers, tuple(_mentions(store, log)), tuple(find_decided(told, log)))


def read_log(store: Store) -> list[Entry]:
    """The log, oldest first; lines that cannot be read are passed over, and so is a link that a clone brings."""
    try:
        lines = read_regular(store.path / LOG).splitlines()
    except OSError:
        return []
    entries: list[Entry] = []
    for line in lines:
        try:
            entries.append(_ENTRY.decode(line))
        except (ValueError, RecursionError):
            continue
    return entries


def find_standing(store: Store, log: Sequence[Entry]) -> tuple[tuple[Standing, ...], tuple[Stray, ...]]:
    """The records that stand between markers, in the order of the files, and the markers around nothing to choose."""
    standing: list[Standing] = []
    markers: list[Stray] = []
    for name, closed in ((one.name, one.closed) for one in store.collections()):
        found = store.markers(name)
        for block in found.blocks:
            for contest in block.contests:
                ours = _whose(name, contest, block.labels, log)
                first, second = contest.first.raw, contest.second.raw
                changes = field_changes(first, second)
                standing.append(
                    Standing(name, contest.id, block.first, msgspec.Raw(first), msgspec.Raw(second), ours, changes)
                )
        if idle := [block for block in found.blocks if not block.contests]:
            lines = chain.from_iterable((block.first, block.middle, block.last) for block in idle)
            markers.append(Stray(name, tuple(lines), whole=not (found.stray or closed)))
        if found.stray:
            markers.append(Stray(name, found.stray, whole=False))
    return tuple(standing), tuple(markers)


def _whose(name: str, contest: Contest, labels: tuple[str, str], log: Sequence[Entry]) -> _Place | None:
    """Which of the versions between markers is ours: git's markers say so, the driver's need the log."""
    if labels != _OF_THE_DRIVER:
        return "first"
    for entry in reversed(log):
        ours = entry.version(contest.id, "ours") if entry.collection == name else None
        if not isinstance(ours, msgspec.Raw):
            continue
        if not field_changes(bytes(ours), contest.first.raw):
            return "first"
        if not field_changes(bytes(ours), contest.second.raw):
            return "second"
    return None


def find_decided(told: Iterable[Entry], log: Iterable[Entry]) -> Iterator[Past]:
    """The decisions of *told* that nobody has replaced by another since, the newest merge first."""
    settled = {(one.settled.collection, one.settled.id): one.at for one in log if one.settled and not one.settled.old}
    for entry in reversed([*told]):
        for decision in entry.decisions:
            if settled.get((entry.collection, decision.id), -1) >= entry.at:
                continue
            ours, theirs = (
                UNSET if decision.rule in UNDECIDED else entry.version(decision.id, side) for side in ("ours", "theirs")
            )
            yield Past(entry.at, entry.collection, decision, ours, theirs)


def _mentions(store: Store, log: Sequence[Entry]) -> Iterator[Mention]:
    """The records that name an id which a merge has made two of, but for those that the merge itself looked into."""
    settled = {(one.settled.collection, one.settled.id, one.settled.old) for one in log if one.settled}
    for (merged, old, new), left in _renames(log).items():
        if store.line(merged, new) is None:  # the merge was given up, or the record is deleted
            continue
        for name in (one.name for one in store.collections()):
            references = references_of(store, name, to=merged)
            for found in store.lines(name):
                if (name == merged and found.id not in left) or (name, found.id, old) in settled:
                    continue
                if msgspec.json.encode(old)[1:-1] not in found.raw:
                    continue
                if paths := find_mentions(decode_exact(found.raw), old, references=references):
                    yield Mention(name, found.id, tuple(paths), old, new)


def _renames(log: Iterable[Entry]) -> dict[tuple[str, str, str], set[str]]:
    """The collection, the old and the new id of every record that was renamed; who there may mean either."""
    renames: dict[tuple[str, str, str], set[str]] = {}
    for entry in log:
        for one in entry.decisions:
            if one.rule is Rule.RENAMED:
                left = {other.id for other in entry.decisions if (other.rule, other.note) == (Rule.MENTIONED, one.id)}
                renames.setdefault((entry.collection, one.id, one.note.partition(_NOW)[2]), set()).update(left)
    return renames


def references_of(store: Store, name: str, *, to: str | None) -> set[str]:
    """The fields of a collection that are declared to hold ids; those of the collection *to*, when it is given."""
    fields = store.declaration(name).fields
    return {field for field, one in fields.items() if one.references and to in {None, one.references}}
