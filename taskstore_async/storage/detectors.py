"""What can be wrong with the files of a store, looked at from without: nothing is opened for writing, nothing mended.

Each detector yields a `Diagnosis` for each thing that is not as it should be; what mends it opens the store.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from taskstore_async.core.declaration import TYPES
from taskstore_async.core.diagnosis import Diagnosis
from taskstore_async.core.schedule import SyncConfig
from taskstore_async.storage import catalogue, log, schema
from taskstore_async.storage.engine import Engine
from taskstore_async.storage.health import is_damage, is_trouble
from taskstore_async.storage.journal import NoJournalError, open_to_read
from taskstore_async.storage.journal_reader import JournalReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskstore_async.storage.directory import Directory

__all__ = ["OF_FILES"]

Diagnoses: TypeAlias = "Iterator[Diagnosis]"

_DEADLINE_S: Final = 10.0
_REMOTE: Final = frozenset({"9p", "afs", "ceph", "cifs", "fuse.sshfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"})
_OURS: Final = (".version", ".gitignore", ".gitattributes", "store.lock")


def _with_engine(directory: Directory, work: Callable[[Engine], object]) -> None:
    engine = Engine(directory, config=SyncConfig(auto_export=False), deadline_s=_DEADLINE_S)
    try:
        work(engine)
    finally:
        engine.close()


# -- the index ----------------------------------------------------------------------------------------------


def _index(directory: Directory) -> Diagnoses:
    """Whether the index can be used, and what waits in it."""
    if not os.path.lexists(directory.index):
        return  # whoever opens the store makes one
    try:
        with closing(schema.connect(directory.index, writable=False)) as db:
            schema.require_ours(db)
            for collection in catalogue.load(db).values():
                schema.highest_key(db, collection.rows)
            messages = [message for (message,) in db.execute("PRAGMA quick_check").fetchall()]
            waiting = sum(log.pending_count(db).values())
            (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    except sqlite3.DatabaseError as error:
        if is_trouble(error) and not is_damage(error):
            yield Diagnosis(
                id="index-unreachable",
                seen=f"{directory.index.name} could not be read just now: {error}",
                advice="see what holds it or what ails the disk; nothing is lost by it, and nothing was changed",
            )
            return
        messages, waiting, mode = [str(error)], 0, "wal"
    if messages != ["ok"]:
        yield Diagnosis(
            id="index-damaged",
            seen=f"{directory.index.name} cannot be used: {messages[0]}",
            advice="tstore doctor --fix sets it aside, saves what waits in it, and builds a new one from the files",
            fix=partial(_with_engine, directory, partial(_replace, reason=messages[0])),
        )
    elif waiting:
        yield Diagnosis(
            id="outbox-waiting",
            seen=f"{waiting} acknowledged change(s) stand in the index alone, and in no journal yet",
            advice="tstore flush, or leave it to the program that is at work",
            error=False,
            fix=partial(_with_engine, directory, Engine.flush),
        )
    if mode != "wal":
        yield Diagnosis(
            id="no-write-ahead-log",
            seen=f"SQLite keeps no write-ahead log here (journal_mode is {mode}); readers and writers take turns",
            advice="nothing, unless the store could lie on a local disk",
            error=False,
        )


def _replace(engine: Engine, *, reason: str) -> None:
    if not any("could not be used" in note for note in engine.notes):  # opening it has seen the same
        engine.replace_index(reason)


def _set_aside(directory: Directory) -> Diagnoses:
    kept = sorted(path.name for path in directory.path.glob("store.db.broken-*") if path.name[-1].isdecimal())
    if kept:
        yield Diagnosis(
            id="index-set-aside",
            seen=f"{len(kept)} index(es) that could not be used are kept: {_shown(kept)}",
            advice="what could be read of their outbox was saved; delete them when nothing is missing",
            error=False,
        )


# -- the journals -------------------------------------------------------------------------------------------


def _journals(directory: Directory) -> Diagnoses:
    """What of the journals cannot be read, and what is none."""
    served, strays = directory.journals()
    if strays:
        yield Diagnosis(
            id="journal-stray",
            seen=f"no collection can have such a name, so it is not served: {_shown(strays)}",
            advice="rename the file, or move it out of the store",
            error=False,
        )
    for name in (*served, TYPES):
        path = directory.journal(name)
        try:
            yield from _journal(name, path)
        except NoJournalError as error:
            yield Diagnosis(
                id="journal-no-file",
                seen=f"{path.name} is no file that can be read ({error.strerror}); {name} is closed to writing",
                advice=f"{_saving(name)}move it away, and restore the file: git checkout -- {path}{_taking_back(name)}",
            )
        except OSError as error:
            yield Diagnosis(
                id="journal-unreachable",
                seen=f"{path.name} could not be read: {error.strerror or error}",
                advice="see what ails the disk; nothing was changed",
            )


def _saving(name: str) -> str:
    """What comes before a journal is replaced: only the index has what was never committed."""
    return "" if name == TYPES else f"save what it had (tstore export {name} -o saved.jsonl), "


def _taking_back(name: str) -> str:
    return "" if name == TYPES else f"; then: tstore import saved.jsonl -c {name} --on-conflict newer"


def _journal(name: str, path: Path) -> Diagnoses:
    with open_to_read(path) as descriptor:
        if descriptor is None:
            return
        reader = JournalReader(descriptor, (), file=path.name, collection=name)
        for _ in reader.lines():
            pass
    if reader.unreadable:
        yield Diagnosis(
            id="journal-damaged",
            seen=f"{path.name} has no line that is a record, or ends within a conflict; {name} is closed to writing",
            advice=f"where it has markers: tstore resolve; else {_saving(name)}restore it (git checkout -- {path}) "
            f"or move it away{_taking_back(name)}",
        )
    elif reader.bad:
        first = next(problem for problem in reader.problems if not problem.served)
        yield Diagnosis(
            id="lines-unreadable",
            seen=f"{reader.bad} line(s) of {path.name} are no records; line {first.line}: {first.reason}",
            advice="choose first between what stands between the markers: tstore resolve"  # compaction takes the later
            if reader.markers and name != TYPES
            else f"mend them by hand, or: tstore compact {name}, which moves them to quarantine/",
            error=False,
        )


def _quarantine(directory: Directory) -> Diagnoses:
    if directory.quarantine.is_dir() and not directory.quarantine.is_symlink():
        kept = sorted(path.name for path in directory.quarantine.iterdir())
        if kept:
            yield Diagnosis(
                id="lines-quarantined",
                seen=f"lines that were no records are kept in quarantine/: {_shown(kept)}",
                advice="look whether something of them is missed; then delete the files",
                error=False,
            )


# -- the directory ------------------------------------------------------------------------------------------


def _files(directory: Directory) -> Diagnoses:
    """What stands in the place of our small files, and is none."""
    for name in (*_OURS, directory.quarantine.name):
        path = directory.path / name
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            continue
        fits = stat.S_ISDIR(mode) if name == directory.quarantine.name else stat.S_ISREG(mode)
        if not fits:
            yield Diagnosis(
                id="file-foreign",
                seen=f"{name} is a link, or not what it should be; the store does not write through it",
                advice=f"see where it leads, and take it away: {path}",
            )


def _place(directory: Directory) -> Diagnoses:
    """Where the store lies."""
    if not directory.writable:
        yield Diagnosis(
            id="read-only",
            seen=f"{directory.path} cannot be written; the store is read, with an index in memory",
            advice="give this user write permission, if it is to write",
            error=False,
        )
    kind = _file_system(directory.path)
    if kind in _REMOTE:
        yield Diagnosis(
            id="network-file-system",
            seen=f"{directory.path} lies on {kind}, where locks and fsync may not be what they are on a local disk",
            advice="let one machine at a time write to it, or keep the store on a local disk",
            error=False,
        )


def _file_system(path: Path) -> str:
    """The kind of file system that *path* is on; empty where nobody says."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    home, best, kind = os.path.realpath(path), "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2:  # noqa: PLR2004 - reason: device, place, kind
            place = fields[1].replace("\\040", " ")
            inside = home == place or home.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best):
                best, kind = place, fields[2]
    return kind


def _shown(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


OF_FILES: Final[tuple[Callable[[Directory], Diagnoses], ...]] = (
    _place, _files, _index, _set_aside, _journals, _quarantine,
)  # fmt: skip
"""All of them, in the order in which they are told."""
