"""What ``tstore doctor`` looks for.

A detector is a function that yields a `Diagnosis` for each thing that is not as it should be. A further one is a
function more in one of the two tables at the end.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from taskstore_async import __version__
from taskstore_async.core.conflicts import find_markers
from taskstore_async.core.declaration import TYPES
from taskstore_async.core.diagnosis import Diagnosis
from taskstore_async.git import ancestor, attributes, block, installation, probe
from taskstore_async.git.hooks import HooksDirectory, HookState
from taskstore_async.storage.detectors import OF_FILES
from taskstore_async.storage.journal import NoJournalError, chunks, open_to_read, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from taskstore_async.git.repository import Repository
    from taskstore_async.storage.directory import Directory

__all__ = ["OF_GIT", "OF_STORE"]

Diagnoses: TypeAlias = "Iterator[Diagnosis]"

SAFE_SQLITE: Final = (3, 51, 3)
_SHOWN: Final = 3


# -- the store ----------------------------------------------------------------------------------------------


def _old_sqlite(directory: Directory) -> Diagnoses:
    del directory
    if sqlite3.sqlite_version_info < SAFE_SQLITE:
        safe = ".".join(map(str, SAFE_SQLITE))
        yield Diagnosis(
            id="sqlite-old",
            seen=f"Python has SQLite {sqlite3.sqlite_version}; before {safe} a checkpoint that races another process's "
            f"commit can, rarely, corrupt store.db, which is then built anew from the files",
            advice=f"use a Python with SQLite {safe} or later where several processes share the store",
            error=False,
        )


def _markers(directory: Directory) -> Diagnoses:
    for path in sorted(directory.path.glob("*.jsonl")):
        try:
            with open_to_read(path) as descriptor:
                data = b"" if descriptor is None else b"".join(chunks(descriptor, 0, size_of(descriptor)))
        except NoJournalError:
            continue  # which is told elsewhere
        if b"<<<<<<<" not in data and b">>>>>>>" not in data:
            continue
        found = find_markers(data)
        lines = sorted({*(one.first for one in found.blocks), *found.stray})
        if lines:
            where = ", ".join(map(str, lines[:_SHOWN])) + (" and further" if len(lines) > _SHOWN else "")
            yield Diagnosis(
                id="conflict-markers",
                seen=f"{path.name} has conflict markers, at line {where}; both sides' records are read",
                advice=f"look what is to stay, then: tstore compact {TYPES}"
                if path.stem == TYPES  # a declaration is no record that could be resolved
                else "choose what is to stay: tstore resolve",
            )


# -- git ----------------------------------------------------------------------------------------------------


def _attributes(repository: Repository, directory: Directory) -> Diagnoses:
    named = attributes.named(repository, directory)
    if named == attributes.DRIVER:
        return
    folder = directory.path.name
    file = directory.path / ".gitattributes"
    if file.is_file() and f"merge={attributes.DRIVER}" in file.read_text(encoding="utf-8", errors="replace"):
        yield Diagnosis(
            id="attributes-overridden",
            seen=f"{folder}/.gitattributes names the merge driver, but git takes merge={named or '(none)'}",
            advice=f"see which line says so, and take it away: git check-attr -a {folder}/any.jsonl",
        )
        return
    yield Diagnosis(
        id="attributes-missing",
        seen=f"git merges {folder}/*.jsonl with {named or 'its text merge'}, not record by record",
        advice="tstore install-merge-driver",
        fix=directory.complete,
    )


def _driver(repository: Repository, directory: Directory) -> Diagnoses:
    command = attributes.configured(repository)
    configure = partial(attributes.configure, repository)
    if command is None:
        yield Diagnosis(
            id="driver-not-configured",
            seen=attributes.unconfigured(repository, directory) or "this clone has no merge driver called tstore",
            advice="tstore install-merge-driver",
            fix=configure,
        )
        return
    failure = probe.merge_failure(command)
    if failure is not None:
        standard = command == attributes.COMMAND
        yield Diagnosis(
            id="driver-fails",
            seen=f"git merged three lines with the driver {command!r}, and {failure}",
            advice="see that git finds tstore on its PATH" if standard else "tstore doctor --fix configures ours",
            fix=None if standard else configure,
        )


def _program(repository: Repository, directory: Directory) -> Diagnoses:
    del directory
    found = probe.version_found(repository)
    if found is None:
        yield Diagnosis(
            id="program-not-found",
            seen="git finds no tstore that runs on its PATH, so it runs neither driver nor hooks",
            advice="put the directory of tstore on the PATH that git, and the program that runs it, is started with",
        )
    elif found != __version__:
        yield Diagnosis(
            id="program-differs",
            seen=f"git finds tstore {found} on its PATH, and this is {__version__}",
            advice="see which one is meant, and take the other off the PATH: type -a tstore",
        )


def _hooks(repository: Repository, directory: Directory) -> Diagnoses:
    folder = HooksDirectory(repository)
    hooks = [folder.look(name) for name in block.HOOKS]
    missing = [hook for hook in hooks if hook.state in {HookState.ABSENT, HookState.OUTDATED}]
    if missing:
        some = len(missing) < len(hooks) or any(hook.state is HookState.OUTDATED for hook in missing)
        by_hand = [hook for hook in missing if hook.hindrance]
        yield Diagnosis(
            id="hooks-incomplete" if some else "hooks-absent",
            seen=f"git runs nothing of ours at {', '.join(hook.name for hook in missing)}"
            + (
                "; some are there in another version's words"
                if any(h.state is HookState.OUTDATED for h in missing)
                else ""
            ),
            advice=f"{by_hand[0].name}: {by_hand[0].hindrance}" if by_hand else "tstore install-hooks",
            error=some,
            fix=partial(installation.install, directory.path, driver=False) if some and not by_hand else None,
        )
    for hook in hooks:
        if hook.state is HookState.INSTALLED and (version := probe.answers(repository, hook)) != __version__:
            what = "nobody answered" if version is None else f"tstore {version} answered"
            yield Diagnosis(
                id="hook-unreachable",
                seen=f"git ran {hook.name}, and {what}",
                advice=f"see that git can run {hook.path}, and finds tstore on its PATH",
            )


def _ancestor(repository: Repository, directory: Directory) -> Diagnoses:
    folder = HooksDirectory(repository)
    left = list(ancestor.hooks_left(folder))
    if left:
        names = ", ".join(path.name for path in left)
        yield Diagnosis(
            id="ancestor-hooks",
            seen=f"hooks of the older program call taskstore sync, which knows nothing of this index: {names}",
            advice=f"take those lines out of {folder.path}, then: tstore install-hooks",
            fix=partial(_replace_hooks, left, directory) if folder.own else None,
        )
    path = ancestor.attributes_left(repository)
    if path is not None:
        yield Diagnosis(
            id="ancestor-attributes",
            seen=f"{path.name} at the top of the tree names the older program's driver, taskstore-merge",
            advice=f"take merge=taskstore-merge out of {path}",
            fix=partial(ancestor.clear_attributes, path),
        )


def _replace_hooks(left: list[Path], directory: Directory) -> None:
    for path in left:
        ancestor.clear_hook(path)
    installation.install(directory.path)


OF_STORE: Final[tuple[Callable[[Directory], Diagnoses], ...]] = (_old_sqlite, *OF_FILES, _markers)
"""What can be seen in the store's directory, git or not."""

OF_GIT: Final[tuple[Callable[[Repository, Directory], Diagnoses], ...]] = (
    _ancestor, _attributes, _program, _driver, _hooks,
)  # fmt: skip
"""What can be seen of the clone around it."""
