"""Settling what merges left to a person, and undoing what they decided.

History is never rewritten: whatever is chosen becomes a new version of the record.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, cast

import msgspec
from msgspec import UNSET

from taskstore_async.core.codec import decode_exact
from taskstore_async.core.document import Document, crc_of, keep_crc
from taskstore_async.core.line import Line, decode_line
from taskstore_async.core.mentions import find_mentions, with_mentions
from taskstore_async.core.stamp import NS_PER_MS
from taskstore_async.errors import AmbiguousIdError, CannotResolveError, InvalidRecordError
from taskstore_async.git.decisions import (
    UNDECIDED,
    Settled,
    find_decided,
    find_standing,
    read_log,
    references_of,
)
from taskstore_async.git.driver import keep_in_log
from taskstore_async.storage.clock import now_ms
from taskstore_async.storage.rehearsal import Rehearsed  # noqa: TC001 - reason: msgspec reads it for the schema

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from taskstore_async.git.decisions import Past, Standing
    from taskstore_async.storage.batch import BatchWriter
    from taskstore_async.storage.store import Store

__all__ = [
    "Foreseen",
    "Resolved",
    "Side",
    "clean",
    "refer",
    "rehearse_clean",
    "rehearse_refer",
    "rehearse_resolve",
    "rehearse_resolve_all",
    "resolve",
    "resolve_all",
]


class Side(StrEnum):
    """Which version of a record to take."""

    OURS = "ours"
    THEIRS = "theirs"
    FIRST = "first"  #: the upper one between markers
    SECOND = "second"  #: the lower one


class Resolved(msgspec.Struct, frozen=True):
    """What became of a record.

    Attributes:
        collection: Where it stands.
        id: The record's id.
        line: Its new version; None when it is deleted now.
        markers: How many lines were taken out of its journal, into ``quarantine/``; told with the first of several.
    """

    collection: str
    id: str
    line: msgspec.Raw | None
    markers: int = 0


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """What settling something would do.

    Attributes:
        changes: The versions that would be written, in order, with what the declarations say follows from them.
        taken_out: By collection, the lines that would go from its journal to ``quarantine/``: markers, and the base
            parts of diff3 blocks.
        settled: The records of which ``merges.log`` would say that they are settled, as ``collection/id``.
    """

    changes: tuple[Rehearsed, ...] = ()
    taken_out: dict[str, tuple[str, ...]] = {}
    settled: tuple[str, ...] = ()


class _Choice(msgspec.Struct):
    """The lines to take, by collection and id, None for no record; and whose journals have markers around them."""

    lines: dict[tuple[str, str], bytes | None]
    standing: set[str]

    def fill(self, store: Store, batch: BatchWriter) -> None:
        """Ask for the versions."""
        for (name, record_id), raw in self.lines.items():
            _write(batch, name, record_id, raw, current=store.get(name, record_id))

    def ids(self, collection: str) -> set[str]:
        """The records of *collection* of which a version is taken."""
        return {record_id for name, record_id in self.lines if name == collection}


def resolve(
    store: Store, record_id: str, take: Side | bytes, *, collection: str | None = None, force: bool = False
) -> Resolved:
    """Choose a version of a record that a merge left in conflict, or decided about: it becomes a new version.

    Args:
        store: The store.
        record_id: The record's id, or the beginning of it.
        take: Whose version; or a record as JSON.
        collection: Where it stands; needed when two collections have such a record.
        force: Also when the record was changed since the merge; that version stays in its history.

    Raises:
        CannotResolveError: No merge has left or decided anything about such a record, or the version is not known.
        AmbiguousIdError: Several records fit.
        InvalidRecordError: *take* is no record with this id.
        StaleWriteError: Somebody changed the record just now.
        TaskStoreError: As for `Store.put`.
    """
    (resolved,) = _carry_out(store, _chosen(store, record_id, take, collection=collection, force=force))
    return resolved


def rehearse_resolve(
    store: Store, record_id: str, take: Side | bytes, *, collection: str | None = None, force: bool = False
) -> Foreseen:
    """What `resolve` would do, and raise; nothing is changed."""
    return _foreseen(store, _chosen(store, record_id, take, collection=collection, force=force))


def _chosen(store: Store, record_id: str, take: Side | bytes, *, collection: str | None, force: bool) -> _Choice:
    log = read_log(store)
    standing, _ = find_standing(store, log)
    past = [one for one in find_decided(log, ()) if one.decision.rule not in UNDECIDED]
    name, found_id = _found(record_id, collection, standing, past)
    here = [one for one in standing if (one.collection, one.id) == (name, found_id)]
    before = [one for one in past if (one.collection, one.decision.id) == (name, found_id)]
    chosen = take if isinstance(take, bytes) else _version(f"{name}/{found_id}", take, here, before)
    if not force:
        _require_unchanged(store, name, found_id, here, before)
    return _Choice({(name, found_id): chosen}, {name} if here else set())


def resolve_all(store: Store, take: Side, *, collection: str | None = None, force: bool = False) -> list[Resolved]:
    """Choose the same side for every record that stands between markers, all of them or none.

    Raises:
        TaskStoreError: As for `resolve`; nothing was written.
    """
    return _carry_out(store, _all_chosen(store, take, collection=collection, force=force))


def rehearse_resolve_all(store: Store, take: Side, *, collection: str | None = None, force: bool = False) -> Foreseen:
    """What `resolve_all` would do, and raise; nothing is changed."""
    return _foreseen(store, _all_chosen(store, take, collection=collection, force=force))


def _all_chosen(store: Store, take: Side, *, collection: str | None, force: bool) -> _Choice:
    found, _ = find_standing(store, read_log(store))
    chosen: dict[tuple[str, str], bytes | None] = {}
    for one in found:
        if collection in {None, one.collection}:
            here = [other for other in found if (other.collection, other.id) == (one.collection, one.id)]
            if not force:
                _require_unchanged(store, one.collection, one.id, here, ())
            chosen[one.collection, one.id] = _version(f"{one.collection}/{one.id}", take, here, ())
    return _Choice(chosen, {name for name, _ in chosen})


def refer(store: Store, holder: str, old: str, new: str, *, collection: str | None = None) -> Resolved:
    """Settle which record a mention means: every place in the record *holder* that names *old* names *new* then.

    With *new* the same as *old*, nothing is written, and the mention is told no more.

    Raises:
        CannotResolveError: There is no such record that names *old*, or no record *new*.
        AmbiguousIdError: Several fit.
        TaskStoreError: As for `Store.update`.
    """
    document, changed = _referring(store, holder, old, new, collection)
    name, found_id = document.collection, document.id
    if changed is not None:
        store.update(changed)
    _note(store, Settled(name, found_id, old))
    line = store.line(name, found_id)
    return Resolved(name, found_id, None if line is None else msgspec.Raw(line))


def rehearse_refer(store: Store, holder: str, old: str, new: str, *, collection: str | None = None) -> Foreseen:
    """What `refer` would do, and raise; nothing is changed."""
    document, changed = _referring(store, holder, old, new, collection)
    changes = [] if changed is None else store.rehearse(lambda batch: batch.update(changed))
    return Foreseen(changes=tuple(changes), settled=(f"{document.collection}/{document.id}",))


def _referring(
    store: Store, holder: str, old: str, new: str, collection: str | None
) -> tuple[Document, Document | None]:
    """The record that names *old*, and what it would be; None when that is what it is."""
    name, found_id = store.locate(holder, collection)
    document = store.get(name, found_id)
    references = references_of(store, name, to=None)
    if document is None or not find_mentions(document.fields, old, references=references):
        raise CannotResolveError(f"{name}/{found_id}", f"it does not name {old}; tstore conflicts lists what does")
    if not any(store.line(one.name, new) is not None for one in store.collections()):
        raise CannotResolveError(f"{name}/{found_id}", f"there is no record {new}; give the whole id")
    if new == old:
        return document, None
    return document, document.evolve(**with_mentions(document.fields, old, new, references=references))


def clean(store: Store) -> dict[str, int]:
    """Take out the markers between which nothing is contested.

    Returns:
        How many lines went to ``quarantine/``, by collection.
    """
    return {name: taken for name in _open(store) if (taken := store.unmark(name))}


def rehearse_clean(store: Store) -> Foreseen:
    """What `clean` would do, and raise; nothing is changed."""
    return Foreseen(taken_out={name: taken for name in _open(store) if (taken := _taken_out(store, name))})


def _open(store: Store) -> list[str]:
    return [one.name for one in store.collections() if not one.closed]


def _found(
    record_id: str, collection: str | None, standing: Sequence[Standing], past: Sequence[Past]
) -> tuple[str, str]:
    """The one record that is meant."""
    known = dict.fromkeys(
        chain(((one.collection, one.id) for one in standing), ((one.collection, one.decision.id) for one in past))
    )
    near = [one for one in known if collection in {None, one[0]} and one[1].startswith(record_id)]
    found = [one for one in near if one[1] == record_id] or near
    if not found:
        reason = "no merge has left it in conflict or decided about it; see: tstore conflicts"
        raise CannotResolveError(record_id, reason)
    if len(found) > 1:
        raise AmbiguousIdError("what merges left and decided", record_id, tuple("/".join(one) for one in found))
    return found[0]


def _version(subject: str, take: Side, here: Sequence[Standing], before: Sequence[Past]) -> bytes | None:
    """The line to take; None for no record."""
    if here:
        standing = here[-1]
        if take in {Side.OURS, Side.THEIRS}:
            if standing.ours is None:
                reason = "nobody knows here which version is ours; see both with tstore conflicts, take first or second"
                raise CannotResolveError(subject, reason)
            upper = (standing.ours == "first") is (take is Side.OURS)
        else:
            upper = take is Side.FIRST
        return bytes(standing.first if upper else standing.second)
    if take in {Side.FIRST, Side.SECOND}:
        raise CannotResolveError(subject, "it does not stand between markers; take ours or theirs")
    version = before[0].ours if take is Side.OURS else before[0].theirs
    if version is UNSET:
        reason = "the log has not kept that version; take it from a file, as git show gives it"
        raise CannotResolveError(subject, reason)
    return None if version is None else bytes(version)


def _require_unchanged(
    store: Store, name: str, record_id: str, here: Sequence[Standing], before: Sequence[Past]
) -> None:
    """Refuse to take back, without being told to, what was changed after the merge."""
    if here:
        known: list[bytes | None] = [bytes(raw) for one in here for raw in (one.first, one.second)]
    else:
        sides = [side for side in (before[0].ours, before[0].theirs) if side is not UNSET]
        known = [None if side is None else bytes(side) for side in sides]
    lines = [line for raw in known if raw is not None and isinstance(line := decode_line(raw, ()), Line)]
    current = store.get(name, record_id)
    if current is None:
        unchanged = None in known or any(line.deleted for line in lines)
    elif here:
        unchanged = store.line(name, record_id) in known
    else:  # what the merge made of both is stamped one above them
        latest = max((line.instant or 0 for line in lines), default=0)
        unchanged = not lines or current.updated_at <= latest // NS_PER_MS + 1
    if not unchanged:
        reason = f"it was changed since that merge, which would be taken back too; see: tstore log {name} {record_id}, "
        raise CannotResolveError(f"{name}/{record_id}", reason + "and add --force if that is what you want")


def _carry_out(store: Store, choice: _Choice) -> list[Resolved]:
    """Write the chosen versions, all or none, then take the markers out of the journals around them."""
    with store.batch() as batch:
        choice.fill(store, batch)
    markers = {name: store.unmark(name, choice.ids(name)) for name in choice.standing}
    resolved: list[Resolved] = []
    for name, record_id in choice.lines:
        _note(store, Settled(name, record_id))
        line = store.line(name, record_id)
        raw_line = None if line is None else msgspec.Raw(line)
        resolved.append(Resolved(name, record_id, raw_line, markers.pop(name, 0)))
    return resolved


def _foreseen(store: Store, choice: _Choice) -> Foreseen:
    return Foreseen(
        changes=tuple(store.rehearse(lambda batch: choice.fill(store, batch))),
        taken_out={
            name: taken for name in sorted(choice.standing) if (taken := _taken_out(store, name, choice.ids(name)))
        },
        settled=tuple([f"{name}/{record_id}" for name, record_id in choice.lines]),
    )


def _taken_out(store: Store, name: str, chosen: Collection[str] = ()) -> tuple[str, ...]:
    return tuple([line.decode(errors="replace") for line in store.rehearse_unmark(name, chosen)])


def _write(batch: BatchWriter, name: str, record_id: str, raw: bytes | None, *, current: Document | None) -> None:
    """Make *raw* the record's newest version; None and a tombstone delete it."""
    fields = _fields(f"{name}/{record_id}", record_id, raw)
    if fields is None:
        if current is not None:
            batch.delete(name, record_id, if_updated_at=current.updated_at)
    elif current is None:
        batch.put(Document(name, fields))
    else:
        document = Document(name, {**fields, "updated_at": current.updated_at})
        keep_crc(document, crc_of(current) or 0)
        batch.update(document)


def _fields(subject: str, record_id: str, raw: bytes | None) -> dict[str, object] | None:
    """The fields of the line *raw*, which may lack the id; None when it deletes."""
    if raw is None:
        return None
    try:
        value = decode_exact(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidRecordError(subject, "$", f"it is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise InvalidRecordError(subject, "$", "it is no JSON object")
    fields = cast("dict[str, object]", value)
    if str(fields.get("id", record_id)) != record_id:
        raise InvalidRecordError(subject, "$.id", f"it is the record {fields['id']}")
    return None if fields.get("deleted") is True else {**fields, "id": record_id}


def _note(store: Store, settled: Settled) -> None:
    keep_in_log(str(store.path), {"at": now_ms(), "settled": settled})
