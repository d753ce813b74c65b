"""The state of a store at some time and place: a directory, a journal, or a revision of git; and how two differ."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.core.difference import RecordChange, compare, state_of
from taskstore_async.core.names import is_collection
from taskstore_async.errors import NoRepositoryError, NoRevisionError, NoStoreError
from taskstore_async.git.repository import Repository
from taskstore_async.storage.directory import Directory
from taskstore_async.storage.files import read_regular
from taskstore_async.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskstore_async.core.difference import State

__all__ = ["CollectionChange", "Snapshot", "difference", "snapshot"]

_SUFFIX: Final = ".jsonl"
_HEAD: Final = "HEAD"
_RANGE: Final = ".."


class Snapshot(msgspec.Struct, frozen=True):
    """The live records of a store, or of one journal of it, by collection.

    Attributes:
        name: What it is a state of, for people.
        collections: The records.
        whole: All collections of a store; else the one that was named.
    """

    name: str
    collections: dict[str, dict[str, bytes]]
    whole: bool = True


class CollectionChange(msgspec.Struct, frozen=True):
    """A record that is another in the later state.

    Attributes:
        collection: Where it stands.
        change: What happened to it.
    """

    collection: str
    change: RecordChange


def difference(
    place: Path | None, first: str | None, second: str | None, *, collection: str | None = None
) -> list[CollectionChange]:
    """The records in which two states differ, by collection and id.

    Args:
        place: The store that is meant where a state does not name another; None when there is none.
        first: The earlier state: a store directory or the directory that holds one, a journal, a revision of git, or
            two revisions with ``..`` between them; ``HEAD`` when None.
        second: The later one; what the store holds now when None.
        collection: Compare this one alone.

    Raises:
        NoStoreError: A revision, or what there is now, is asked for, and *place* is None.
        NoRevisionError: Something is no directory, no journal and no revision.
        NoRepositoryError, GitError: As for `Repository.around`.
    """
    if first is not None and second is None and _RANGE in first and not Path(first).exists():
        earlier, _, later = first.partition(_RANGE)
        first, second = earlier or _HEAD, later or _HEAD
    old = snapshot(place, _HEAD if first is None else first)
    new = _now(place) if second is None else snapshot(place, second)
    return list(_changes(old, new, collection))


def snapshot(place: Path | None, what: str) -> Snapshot:
    """The state that *what* names; see `difference`."""
    path = Path(what)
    if path.is_dir():
        try:
            return _of_directory(path)
        except NoStoreError:  # a branch may be called like a directory
            return _of_revision(place, what)
    if path.is_file():
        return Snapshot(what, {path.name.removesuffix(_SUFFIX): state_of(path.read_bytes())}, whole=False)
    return _of_revision(place, what)


def _now(place: Path | None) -> Snapshot:
    if place is None:
        raise NoStoreError(str(Path.cwd()))
    return _of_directory(place)


def _of_directory(path: Path) -> Snapshot:
    """What a store holds, that which waits to be flushed too; a directory without an index is only read."""
    directory = Directory.at(path, create=False)
    if directory.index.exists():
        with Store.open(path, create=False) as store:
            names = [one.name for one in store.collections()]
            return Snapshot(str(path), {name: {one.id: one.raw for one in store.lines(name)} for name in names})
    names, _ = directory.journals()
    return Snapshot(str(path), {name: state_of(read_regular(directory.journal(name))) for name in names})


def _of_revision(place: Path | None, revision: str) -> Snapshot:
    if place is None:
        raise NoStoreError(str(Path.cwd()))
    folder = Directory.at(place, create=False).path
    try:
        repository = Repository.around(folder)
    except NoRepositoryError:
        if revision == _HEAD:
            raise
        raise NoRevisionError(revision) from None  # a mistyped directory, most likely
    found = repository.ask("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found.code:
        raise NoRevisionError(revision)
    where = repository.relative(folder)
    tree = repository.run("ls-tree", "-z", "--name-only", "--full-tree", found.text, f"{where}/")
    collections: dict[str, dict[str, bytes]] = {}
    for name in tree.names:
        stem = PurePosixPath(name).name.removesuffix(_SUFFIX)
        if name.endswith(_SUFFIX) and is_collection(stem):
            collections[stem] = state_of(repository.blob(found.text, name))
    return Snapshot(revision, collections)


def _changes(old: Snapshot, new: Snapshot, only: str | None) -> Iterator[CollectionChange]:
    for name, before, after in _pairs(old, new):
        if only in {None, name}:
            for change in compare(before, after):
                yield CollectionChange(name, change)


def _pairs(old: Snapshot, new: Snapshot) -> Iterator[tuple[str, State, State]]:
    """The collections to compare. Two journals are one collection, whatever they are called."""
    if not old.whole and not new.whole:
        ((_, before),) = old.collections.items()
        ((name, after),) = new.collections.items()
        yield name, before, after
        return
    named = [one.collections.keys() for one in (old, new) if not one.whole]
    for name in sorted(named[0] if named else old.collections.keys() | new.collections.keys()):
        yield name, old.collections.get(name, {}), new.collections.get(name, {})
