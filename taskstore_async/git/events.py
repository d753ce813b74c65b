"""What happens when git runs a hook: the journals get what waits, or the index gets what moved.

A hook never gets in git's way: whatever goes wrong is one line on stderr and exit 0. The one refusal is a merge commit
that would drop records. No hook runs a git command that moves HEAD.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskstore_async.core.content import file_name
from taskstore_async.errors import TaskStoreError
from taskstore_async.git import attributes
from taskstore_async.git.block import REFUSED
from taskstore_async.git.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["PROBE", "main"]

PROBE: Final = "TSTORE_PROBE"  #: set by `doctor` to see whether git gets here, and whom it finds

_NAME: Final = ".taskstore"
_SHOWN: Final = 5
_USAGE: Final = "tstore: usage: tstore hook pre-commit|post-merge|post-checkout|post-rewrite|pre-push"


def main(argv: Sequence[str]) -> int:
    """Do what the hook *argv* names is there for.

    Args:
        argv: The hook's name, and what git gave it.

    Returns:
        0, also when something went wrong; `REFUSED` to stop a commit.
    """
    name = argv[0] if argv else ""
    if os.environ.get(PROBE):
        return _answer_probe(name)
    happen = _HOOKS.get(name)
    if happen is None:
        _say(_USAGE.removeprefix("tstore: "))
        return 0
    try:
        repository = Repository.of_hook()
        return max((happen(repository, store) for store in list(_stores(repository))), default=0)
    except Exception as error:  # noqa: BLE001 - reason: a bug of ours must not keep anybody from committing
        _say(f"hook {name} left the store as it was: {str(error) or type(error).__name__}")
        return 0


def _answer_probe(name: str) -> int:
    from taskstore_async import __version__  # noqa: PLC0415 - reason: only a probe wants it

    print(f"{os.environ[PROBE]} {name} {__version__}")  # noqa: T201 - reason: the probe reads it
    return REFUSED  # so that nothing behind our lines is run


# -- the hooks ----------------------------------------------------------------------------------------------


def _pre_commit(repository: Repository, store: Path) -> int:
    folder = repository.relative(store)
    _sync(store)
    _stage(repository, folder)
    new = repository.run("ls-files", "-z", "--others", "--exclude-standard", "--", f"{folder}/").names
    journals = [name for name in new if name.endswith(".jsonl")]
    if journals:
        _say(f"{_listed(journals)} is new, and not in this commit; git add it, or let git ignore it")
    return _refuse_lossy_merge(repository, folder)


def _post(repository: Repository, store: Path) -> int:
    del repository
    _sync(store)
    return 0


def _post_merge(repository: Repository, store: Path) -> int:
    _sync(store)
    from taskstore_async.storage.directory import Directory  # noqa: PLC0415 - reason: only where there is a store

    warning = attributes.unconfigured(repository, Directory(store))
    if warning:
        _say(warning)
    return 0


def _post_checkout(repository: Repository, store: Path) -> int:
    # In a rebase, what a sync may append would be in the way of the next pick; post-rewrite comes at its end.
    if any(repository.path(state).exists() for state in ("rebase-merge", "rebase-apply")):
        return 0
    return _post(repository, store)


def _pre_push(repository: Repository, store: Path) -> int:
    _sync(store)
    folder = repository.relative(store)
    for path, record_ids in _uncommitted(repository, folder):
        counted = "1 record is" if len(record_ids) == 1 else f"{len(record_ids)} records are"
        _say(f"{path}: {counted} not committed as in the file: {_listed(record_ids)}")
    return 0


_HOOKS: Final[dict[str, Callable[[Repository, Path], int]]] = {
    "pre-commit": _pre_commit,
    "post-merge": _post_merge,
    "post-checkout": _post_checkout,
    "post-rewrite": _post,
    "pre-push": _pre_push,
}


# -- stores -------------------------------------------------------------------------------------------------


def _stores(repository: Repository) -> Iterator[Path]:
    """The store directories that git tracks something in; about any other it has nothing to say."""
    tracked = repository.run("ls-files", "-z", "--", f":(glob)**/{_NAME}/*", ":(glob)**/.version", globs=True).names
    for folder in sorted({name.rpartition("/")[0] for name in tracked}):
        store = repository.top / folder
        named = store.name == _NAME
        if (named and store.is_dir()) or (store / "store.db").exists():  # many things have a .version
            yield store


def _sync(store: Path) -> None:
    """Bring the index in step with the files, and write what waits: of every process, for it is on the disk.

    Where there is no index yet nothing waits, and whoever opens the store next makes one.
    """
    if not (store / "store.db").exists():
        return
    from taskstore_async.storage.store import Store  # noqa: PLC0415 - reason: only where there is a store

    try:
        with Store.open(store, create=False) as opened:  # which brings the index in step where a file has moved
            if opened.stats().pending:
                opened.flush()
    except TaskStoreError as error:
        _say(str(error))


# -- staging ------------------------------------------------------------------------------------------------


def _stage(repository: Repository, folder: str) -> None:
    """Put the store's own tracked files into the commit as they are now, and the long texts of tracked journals.

    A journal that is missing is left to the person; a long text that is has gone with its record.
    """
    changed = repository.run("ls-files", "-z", "--modified", "--", f"{folder}/").names
    changed = [name for name in changed if os.path.lexists(repository.top / name)]
    changed = sorted({*changed, *_moved_texts(repository, folder)})
    partial = _is_partial()
    if partial:  # a commit of named files: of ours only those that it has, and the texts of its journals
        had = repository.run("diff", "--cached", "--name-only", "--no-renames", "-z", "HEAD", "--", f"{folder}/").names
        changed = [name for name in changed if name in had or _journal_of(name) in had]
    if not changed:
        return
    repository.run("add", "--all", "--", *changed)
    if partial:  # and what the index will be after the commit, which git has made ready already
        ready = Path(os.environ["GIT_INDEX_FILE"]).with_name("index.lock")
        repository.run("add", "--all", "--", *changed, environment={"GIT_INDEX_FILE": str(ready)})


def _moved_texts(repository: Repository, folder: str) -> Iterator[str]:
    """The files beside tracked journals, of records' long texts, that are new or gone."""
    moved = repository.run("ls-files", "-z", "--others", "--deleted", "--exclude-standard", "--", f"{folder}/").names
    moved = [name for name in moved if name.endswith(".md")]
    tracked = set(repository.run("ls-files", "-z", "--", *map(_journal_of, moved)).names) if moved else set[str]()
    for name in moved:
        inside = name.removeprefix(f"{folder}/")
        if _journal_of(name) in tracked and file_name(inside.partition("/")[0], inside) is not None:
            yield name


def _journal_of(text: str) -> str:
    """The journal of the record whose long text is in the file *text*, as git names both."""
    return text.rpartition("/")[0] + ".jsonl"


def _is_partial() -> bool:
    """Whether the commit is one of named files (``git commit -- FILE``), for which git makes an index of its own."""
    return Path(os.environ.get("GIT_INDEX_FILE", "")).name.startswith("next-index-")


# -- what a commit lacks ------------------------------------------------------------------------------------


def _refuse_lossy_merge(repository: Repository, folder: str) -> int:
    """Stop a merge commit that lacks records of the other side, as one does that git made without the driver."""
    try:
        others = repository.path("MERGE_HEAD").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return 0
    from taskstore_async.git.lacking import lacking  # noqa: PLC0415 - reason: only merges want it

    # Whether there was a driver when git merged cannot be seen any more: it may have been configured since, or killed.
    first = "" if attributes.configured(repository) else "tstore install-merge-driver && "
    code = 0
    for other in others:
        for path, record_ids in lacking(repository, folder, other):
            _say(
                f"{path} lacks {len(record_ids)} record(s) of the branch that is being merged: {_listed(record_ids)}. "
                f"Merge it again: {first}git checkout --merge -- '{path}' && git add '{path}', then commit; or, if "
                f"this is meant: git commit --no-verify"
            )
            code = REFUSED
    return code


def _uncommitted(repository: Repository, folder: str) -> Iterator[tuple[str, list[str]]]:
    """The records whose state is not the one that HEAD has, by journal."""
    from taskstore_async.git.lacking import moved_records  # noqa: PLC0415 - reason: only a push wants it

    changed = repository.run("diff", "--name-only", "--no-renames", "-z", "HEAD", "--", f"{folder}/").names
    new = repository.run("ls-files", "-z", "--others", "--exclude-standard", "--", f"{folder}/").names
    for name in sorted({*changed, *new}):
        path = repository.top / name
        if name.endswith(".jsonl"):
            now = path.read_bytes() if path.is_file() else b""
            record_ids = moved_records(repository.blob("HEAD", name), now)
            if record_ids:
                yield name, record_ids


# -- words --------------------------------------------------------------------------------------------------


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _say(text: str) -> None:
    plain = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    with suppress(OSError):  # nobody listens
        print("tstore:", plain.encode(errors="backslashreplace").decode(), file=sys.stderr)  # noqa: T201 - reason: a hook's way to speak
