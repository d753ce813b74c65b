"""The versions of a record, what changed in each, and the commits that brought them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.difference import FieldChange, Kind, field_changes
from taskstore_async.core.line import Line, decode_line
from taskstore_async.core.stamp import to_ms
from taskstore_async.errors import NotFoundError
from taskstore_async.git.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
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
        fields: What changed from the version that counted before it.
        line: Where it stands in the journal; None when it waits to be flushed, or is only in commits any more.
        current: It is the version that counts.
        commit: The first commit that has it; None when none has, or when that was not asked for.
        raw: The version itself, as stored.
        aside: The version that counted before it is none that it follows: that is another branch's, or is newer. What
            changed is told from the latest that it does follow.
    """

    updated_at: int
    kind: Kind
    fields: tuple[FieldChange, ...]
    line: int | None
    current: bool
    commit: Commit | None
    raw: msgspec.Raw
    aside: bool = False


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
    past: dict[str, set[str]] = {}
    if commits:
        journal = store.path / f"{collection}.jsonl"
        known = _with_commits(known, journal, record_id)
        past = _past(journal, {one.commit.hash for one in known if one.commit is not None})
    if not known:
        store.resolve(collection, record_id)
    return record_id, list(_logged(known, past))


def _versions(store: Store, collection: str, prefix: str) -> tuple[str, list[Version]]:
    try:
        record_id = store.resolve(collection, prefix)
    except NotFoundError:
        versions = store.history(collection, prefix)
        if not versions:
            raise
        return prefix, versions
    return record_id, store.history(collection, record_id)


def _logged(known: Sequence[_Known], past: Mapping[str, Collection[str]]) -> Iterator[LoggedVersion]:
    latest: _Known | None = None
    for place, one in enumerate(known):
        followed = latest
        if latest is not None and not _may_follow(one, latest, past):
            earlier = [other for other in known[:place] if _may_follow(one, other, past)]
            followed = max(reversed(earlier), key=lambda other: other.updated_at, default=None)
        before = None if followed is None or followed.deleted else followed.raw
        after = None if one.deleted else one.raw
        kind = Kind.DELETED if after is None else Kind.CREATED if before is None else Kind.UPDATED
        yield LoggedVersion(
            updated_at=one.updated_at,
            kind=kind,
            fields=field_changes(before, after),
            line=one.line,
            current=one.current,
            commit=one.commit,
            raw=msgspec.Raw(one.raw),
            aside=followed is not latest,
        )
        if latest is None or one.updated_at >= latest.updated_at:
            latest = one


def _may_follow(one: _Known, other: _Known, past: Mapping[str, Collection[str]]) -> bool:
    """Whether *one* may have been made from *other*, which stands above it, as far as stamps and commits tell."""
    if other.updated_at > one.updated_at:
        return False
    if one.commit is None or other.commit is None or one.commit.hash not in past:
        return True
    return other.commit.hash in past[one.commit.hash]


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


def _name(repository: Repository, journal: Path) -> str:
    """The journal as git names it, be it a link to somewhere else."""
    return f"{repository.relative(journal.parent)}/{journal.name}"


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
    for text in repository.run(*words, "--", _name(repository, journal)).out.split(b"\n"):
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


def _past(journal: Path, hashes: Collection[str]) -> dict[str, set[str]]:
    """For each of some commits, those of them that it has in its past, itself among them."""
    if len(hashes) < 2:  # noqa: PLR2004 - reason: one has no other
        return {}
    repository = Repository.around(journal.parent)
    words = ("rev-list", "--topo-order", "--reverse", "--parents", "HEAD", "--", _name(repository, journal))
    past: dict[str, set[str]] = {}
    for commit in repository.run(*words).out.decode().splitlines():
        name, *parents = commit.split()
        past[name] = set().union(*(past.get(parent, ()) for parent in parents))
        if name in hashes:
            past[name].add(name)
    return past


def _commit(header: bytes) -> tuple[int, Commit]:
    """How many parents a commit has, and the commit."""
    parents, name, author, at, subject = header[1:].decode(errors="replace").split("\x1f", 4)
    return len(parents.split()), Commit(name, author, int(at) * 1_000, subject)
