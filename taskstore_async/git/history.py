"""The versions of a record, what changed in each, and the commits that brought them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.codec import Line, decode_line
from taskstore_async.core.difference import FieldChange, Kind, field_changes
from taskstore_async.core.stamp import to_ms
from taskstore_async.errors import NotFoundError
from taskstore_async.git.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from taskstore_async.storage.reports import Version
    from taskstore_async.storage.store import Store

__all__ = ["Commit", "LoggedVersion", "log"]

_HEADER: Final = b"\0"
_FORMAT: Final = "%x00%P%x1f%H%x1f%an%x1f%at%x1f%s"
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_.-]+")


class Commit(msgspec.Struct, frozen=True):
    """A commit.

    Attributes:
        hash: Its whole name.
        author: Who made it.
        at: When it was made, in milliseconds since the epoch (UTC).
        subject: The first line of its message.
    """

    hash: str
    author: str
    at: int
    subject: str


class LoggedVersion(msgspec.Struct, frozen=True):
    """A version of a record.

    Attributes:
        updated_at: Its stamp, in milliseconds since the epoch (UTC).
        kind: What it did to the record.
        fields: What changed from the version before it.
        line: Where it stands in the journal; None when it waits to be flushed, or is only in commits any more.
        current: It is the version that counts.
        commit: The first commit that has it; None when none has, or when that was not asked for.
        raw: The version itself, as stored.
    """

    updated_at: int
    kind: Kind
    fields: tuple[FieldChange, ...]
    line: int | None
    current: bool
    commit: Commit | None
    raw: msgspec.Raw


class _Known(msgspec.Struct):
    """A version that is still in the journal, or that waits for it, or that only git has."""

    raw: bytes
    updated_at: int
    deleted: bool
    line: int | None = None
    current: bool = False
    commit: Commit | None = None


def log(store: Store, collection: str, prefix: str, *, commits: bool = False) -> tuple[str, list[LoggedVersion]]:
    """The id that *prefix* means, and the versions of that record, oldest first; a deleted one too.

    Args:
        store: The store.
        collection: Where the record stands.
        prefix: Its id, or the beginning of it; of a deleted one the whole id.
        commits: Name the commits that brought the versions; those that only commits have any more come too.

    Raises:
        NotFoundError: There is no such record, and was none.
        AmbiguousIdError: Several ids begin like that.
        NoRepositoryError, GitError: Commits are asked for, and there are none to be had.
    """
    record_id, versions = _versions(store, collection, prefix)
    known = [_Known(one.raw, one.updated_at, one.deleted, one.line, one.current) for one in versions]
    if commits:
        known = _with_commits(known, store.path / f"{collection}.jsonl", record_id)
    if not known:
        store.resolve(collection, record_id)
    return record_id, list(_logged(known))


def _versions(store: Store, collection: str, prefix: str) -> tuple[str, list[Version]]:
    try:
        record_id = store.resolve(collection, prefix)
    except NotFoundError:
        versions = store.history(collection, prefix)
        if not versions:
            raise
        return prefix, versions
    return record_id, store.history(collection, record_id)


def _logged(known: Sequence[_Known]) -> Iterator[LoggedVersion]:
    before: bytes | None = None
    for one in known:
        after = None if one.deleted else one.raw
        kind = Kind.DELETED if after is None else Kind.CREATED if before is None else Kind.UPDATED
        changes = field_changes(before, after)
        yield LoggedVersion(one.updated_at, kind, changes, one.line, one.current, one.commit, msgspec.Raw(one.raw))
        before = after


# -- commits ------------------------------------------------------------------------------------------------


def _with_commits(known: Sequence[_Known], journal: Path, record_id: str) -> list[_Known]:
    """*known* with the commits that brought them, and what only commits have between them, by stamp."""
    brought = dict(_brought(journal, record_id))
    for one in known:
        one.commit = brought.pop(one.raw, None)
    lost = [
        _Known(raw, to_ms(line.instant or 0), line.deleted, commit=commit)
        for raw, commit in brought.items()
        if isinstance(line := decode_line(raw, ()), Line)
    ]
    joined = list(known)
    for one in lost:
        place = next((place for place, other in enumerate(joined) if other.updated_at > one.updated_at), len(joined))
        joined.insert(place, one)
    return joined


def _brought(journal: Path, record_id: str) -> Iterator[tuple[bytes, Commit]]:
    """The lines of a record that commits have added to the journal, each with the first commit that did."""
    repository = Repository.around(journal.parent)
    if repository.ask("rev-parse", "--verify", "--quiet", "HEAD").code:
        return  # nothing is committed yet
    words = ["log", "--topo-order", "--reverse", "--encoding=UTF-8", f"--format={_FORMAT}"]
    words += ["-c", "-p", "-U0", "--text", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"]
    if _PLAIN_ID.fullmatch(record_id):
        words += ["-G", record_id.replace(".", "[.]")]
    seen: set[bytes] = set()
    commit: Commit | None = None
    added = b"+"
    for text in repository.run(*words, "--", repository.relative(journal)).out.split(b"\n"):
        if text.startswith(_HEADER):
            parents, commit = _commit(text)
            added = b"+" * max(1, parents)  # a merge's own lines are new to each of its parents
            continue
        if commit is None or not text.startswith(added):
            continue
        line = decode_line(text.removeprefix(added).rstrip(b"\r"), ())
        if isinstance(line, Line) and line.id == record_id and line.raw not in seen:
            seen.add(line.raw)
            yield line.raw, commit


def _commit(header: bytes) -> tuple[int, Commit]:
    """How many parents a commit has, and the commit."""
    parents, name, author, at, subject = header[1:].decode(errors="replace").split("\x1f", 4)
    return len(parents.split()), Commit(name, author, int(at) * 1_000, subject)
