"""Setting git up for a store, taking that back, and telling how things are. Opening a store does none of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.git import attributes, block
from taskstore_async.git.hooks import HooksDirectory, HookState
from taskstore_async.git.repository import Repository
from taskstore_async.storage.directory import Directory

if TYPE_CHECKING:
    import os

__all__ = ["Action", "GitStatus", "Installation", "Step", "install", "status", "uninstall"]


class Action(StrEnum):
    """What was done about a thing; with ``dry_run``, what would be."""

    MADE = "made"
    CHANGED = "changed"  #: lines were added or brought up to date; what stood there stands there still
    UNCHANGED = "unchanged"  #: it is as it should be
    REMOVED = "removed"
    ABSENT = "absent"  #: there was nothing to remove
    MANUAL = "manual"  #: it is not ours to change; the note says what to add


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What was done about one thing.

    Attributes:
        what: ``attributes``, ``merge driver``, or the name of a hook.
        action: What was done.
        where: The file, or the name of the setting.
        note: What a person should know or do.
    """

    what: str
    action: Action
    where: str
    note: str = ""


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """What `install` or `uninstall` did.

    Attributes:
        store: The store directory.
        repository: The topmost directory of the working tree.
        steps: What was done, in order.
    """

    store: str
    repository: str
    steps: tuple[Step, ...]


class GitStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a clone is set up for a store.

    Attributes:
        store: The store directory.
        repository: The topmost directory of the working tree.
        attribute: The merge driver that git's attributes name for its journals; None when they name none.
        driver: The command behind the name ``tstore`` in this clone; None when there is none.
        hooks_path: Where git looks for hooks.
        hooks: What is known of each.
        warnings: What puts records at risk.
    """

    store: str
    repository: str
    attribute: str | None
    driver: str | None
    hooks_path: str
    hooks: dict[str, HookState]
    warnings: tuple[str, ...]


def install(
    path: str | os.PathLike[str] = ".", *, hooks: bool = True, driver: bool = True, dry_run: bool = False
) -> Installation:
    """Set git up for the store at *path*. What is as it should be stays as it is, and so does what is somebody else's.

    Args:
        path: The directory that holds ``.taskstore/``, or a store directory itself.
        hooks: Put our lines into this clone's hooks.
        driver: Complete the store's ``.gitattributes``, and configure the merge driver in this clone.
        dry_run: Only tell.

    Raises:
        NoStoreError: There is no store.
        NoRepositoryError: It is in no working tree of git.
        GitError: Git is not there, or refused.
        OSError: A file could not be written.
    """
    directory, repository = _found(path)
    steps: list[Step] = []
    if driver:
        steps += [_install_attributes(repository, directory, dry_run), _install_driver(repository, dry_run)]
    if hooks:
        folder = HooksDirectory(repository)
        steps += [_install_hook(folder, name, dry_run) for name in block.HOOKS]
    return Installation(store=str(directory.path), repository=str(repository.top), steps=tuple(steps))


def uninstall(
    path: str | os.PathLike[str] = ".", *, hooks: bool = True, driver: bool = True, dry_run: bool = False
) -> Installation:
    """Take out of this clone what `install` put there. The store's ``.gitattributes`` stays: other clones use it.

    Args:
        path: As for `install`.
        hooks: Take our lines out of the hooks, and away the files that hold nothing else.
        driver: Take the merge driver out of this clone's configuration.
        dry_run: Only tell.

    Raises:
        NoStoreError, NoRepositoryError, GitError, OSError: As for `install`.
    """
    directory, repository = _found(path)
    steps: list[Step] = []
    if hooks:
        folder = HooksDirectory(repository)
        steps += [_uninstall_hook(folder, name, dry_run) for name in block.HOOKS]
    if driver:
        gone = attributes.unconfigure(repository, dry_run=dry_run)
        action = Action.REMOVED if gone else Action.ABSENT
        steps.append(Step(what="merge driver", action=action, where="merge.tstore.driver"))
    return Installation(store=str(directory.path), repository=str(repository.top), steps=tuple(steps))


def status(path: str | os.PathLike[str] = ".") -> GitStatus:
    """How this clone is set up for the store at *path*.

    Raises:
        NoStoreError, NoRepositoryError, GitError: As for `install`.
    """
    directory, repository = _found(path)
    folder = HooksDirectory(repository)
    warning = attributes.unconfigured(repository, directory)
    return GitStatus(
        store=str(directory.path),
        repository=str(repository.top),
        attribute=attributes.named(repository, directory),
        driver=attributes.configured(repository),
        hooks_path=str(folder.path),
        hooks={name: folder.look(name).state for name in block.HOOKS},
        warnings=(warning,) if warning else (),
    )


def _found(path: str | os.PathLike[str]) -> tuple[Directory, Repository]:
    directory = Directory.at(path, create=False)
    return directory, Repository.around(directory.path)


def _install_attributes(repository: Repository, directory: Directory, dry_run: bool) -> Step:  # noqa: FBT001 - reason: its only callers are above
    file = directory.path / ".gitattributes"
    there = file.exists()
    action = Action.UNCHANGED
    # Of attributes that are missing git reads the version in its index.
    if not there or attributes.named(repository, directory) != attributes.DRIVER:
        action = Action.CHANGED if there else Action.MADE
        if not dry_run:
            directory.complete()
    note = ""
    if not dry_run and (other := attributes.named(repository, directory)) != attributes.DRIVER:
        action = Action.MANUAL
        note = f"other attributes say merge={other}; see: git check-attr -a {directory.path.name}/any.jsonl"
    return Step(what="attributes", action=action, where=str(file), note=note)


def _install_driver(repository: Repository, dry_run: bool) -> Step:  # noqa: FBT001 - reason: as above
    there = attributes.configured(repository)
    where = "merge.tstore.driver"
    if there is not None and attributes.is_ours(there):
        return Step(
            what="merge driver", action=Action.UNCHANGED, where=where, note="" if there == attributes.COMMAND else there
        )
    if not dry_run:
        attributes.configure(repository)
    if there is None:
        return Step(what="merge driver", action=Action.MADE, where=where)
    return Step(what="merge driver", action=Action.CHANGED, where=where, note=f"it was: {there}")


def _install_hook(folder: HooksDirectory, name: str, dry_run: bool) -> Step:  # noqa: FBT001 - reason: as above
    hook = folder.look(name)
    if hook.state in {HookState.INSTALLED, HookState.CHAINED}:
        return Step(what=name, action=Action.UNCHANGED, where=hook.path, note=hook.note)
    if hook.hindrance:
        return Step(what=name, action=Action.MANUAL, where=hook.path, note=hook.hindrance)
    action = Action.CHANGED if Path(hook.path).exists() else Action.MADE
    if not dry_run:
        folder.write(hook)
    return Step(what=name, action=action, where=hook.path, note=hook.note)


def _uninstall_hook(folder: HooksDirectory, name: str, dry_run: bool) -> Step:  # noqa: FBT001 - reason: as above
    hook = folder.look(name)
    if folder.clear(name, dry_run=dry_run):
        return Step(what=name, action=Action.REMOVED, where=hook.path)
    if hook.state is HookState.CHAINED:
        note = f"somebody's own lines in it call tstore hook {name}; take them out by hand"
        return Step(what=name, action=Action.MANUAL, where=hook.path, note=note)
    return Step(what=name, action=Action.ABSENT, where=hook.path)
