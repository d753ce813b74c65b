"""What git runs to merge a journal, and what a person runs to merge three files.

Git starts it for every file, so it loads the core and msgspec and little else. Exit codes are git's: 0 merged,
1 conflict, 2 error. Git keeps whatever is in ``%A`` when the driver ends, so that file is replaced whole or not at all.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import msgspec

from taskstore_async.core.codec import decode_exact
from taskstore_async.core.fold import fold
from taskstore_async.core.line import BadLine
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge import merge
from taskstore_async.core.merge_report import words
from taskstore_async.errors import MergeInputError, TaskStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from taskstore_async.core.merge_report import Decision, Merged, Report

__all__ = ["CONFLICT", "ERROR", "LOG", "MERGED", "keep_in_log", "main", "merge_files"]

MERGED: Final = 0
CONFLICT: Final = 1
ERROR: Final = 2

LOG: Final = "merges.log"
LOG_BYTES: Final = 1 << 20  #: what the log of past merges may grow to; then its older half goes
LOGGED_DECISIONS: Final = 200  #: of one merge, at most
LOGGED_DECISIONS_BYTES: Final = 1 << 17  #: of one merge; its later decisions are only counted
LOGGED_SIDES_BYTES: Final = 1 << 17  #: of the versions to choose from, of one merge

_TYPES: Final = "_types.jsonl"
_TYPES_BYTES: Final = 1 << 22  #: a larger file is no list of declarations worth a merge's time
_SHOWN_LINES: Final = 40
_USAGE: Final = "usage: taskstore-merge [--json] BASE OURS THEIRS [PATH]"


def main(argv: Sequence[str] | None = None) -> int:
    """Merge as git's driver: ``[--json] %O %A %B [%P]``, the result in place of ``%A``.

    Args:
        argv: The words after the program's name; those of the process when None.

    Returns:
        0 merged, 1 conflict (the file then has markers), 2 error (the file is untouched).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    paths = [argument for argument in arguments if argument not in {"--json", "--"}]
    if len(paths) not in {3, 4}:
        _say(f"{len(paths)} file(s) given; {_USAGE}")
        return ERROR
    base, ours, theirs, *path = paths
    return merge_files(base, ours, theirs, output=ours, path=path[0] if path else None, as_json=as_json)


def merge_files(
    base: str,
    ours: str,
    theirs: str,
    *,
    output: str | None,
    path: str | None = None,
    as_json: bool = False,
    refuse: Callable[[BaseException, str], None] | None = None,
) -> int:
    """Merge three files.

    Args:
        base: The version both come from; may be absent or empty.
        ours: One side; may be absent only when the base is absent or empty.
        theirs: The other, likewise.
        output: The file to put the result in, replaced whole or not at all; None for standard output.
        path: Where the merged file has its home. When that is a store, its declarations say which fields are
            references, and its ``merges.log`` keeps what was decided.
        as_json: The report is one JSON object instead of words on standard error: on standard output, or on standard
            error when the result goes to standard output.
        refuse: Tells an error, with the words for it; None for words on standard error.

    Returns:
        0 merged, 1 conflict, 2 error. Errors are told, never raised.
    """
    collecting = gc.isenabled()
    gc.disable()  # millions of values, next to no cycle among them: looking for one takes a fifth of the time
    try:
        old = _read(base, absent=True)
        mine, others = _read(ours, absent=not old, side="our"), _read(theirs, absent=not old, side="their")
        merged = merge(old, mine, others, references=_references(path))
        if output is None:
            sys.stdout.buffer.write(merged.data)
            sys.stdout.flush()
        elif output != ours or merged.data != mine or not os.path.exists(ours):  # noqa: PTH110 - reason: pathlib costs a start
            _replace(output, merged.data)
    except (TaskStoreError, OSError, ValueError, RecursionError, MemoryError) as error:
        message = f"{path or ours} was not merged: {str(error) or type(error).__name__}"
        if refuse is None:
            _say(message)
        else:
            refuse(error, message)
        return ERROR
    finally:
        if collecting:
            gc.enable()
    code = CONFLICT if merged.conflicts else MERGED
    _log(path, merged, code)
    try:
        _tell(path or ours, merged, as_json=as_json, to_stdout=output is not None)
    except OSError:  # nobody listens; the file is merged all the same
        return code
    return code


# -- files --------------------------------------------------------------------------------------------------


def _read(path: str, *, absent: bool, side: str = "the base's") -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - reason: pathlib costs a start
            return file.read()
    except FileNotFoundError:
        if absent:
            return b""
        reason = f"there is no file {path}, and that would delete everything"
        raise MergeInputError(side, reason) from None


def _replace(path: str, data: bytes) -> None:
    """Put *data* in the place of a file, or leave the file as it is."""
    path = os.path.realpath(path)  # a link stays one
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - reason: a descriptor
            file.write(data)
            file.flush()
            if os.path.exists(path):  # noqa: PTH110 - reason: pathlib costs a start
                os.chmod(temporary, os.stat(path).st_mode & 0o7777)  # noqa: PTH101, PTH116 - reason: as above
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - reason: as above
    except BaseException:
        os.unlink(temporary)  # noqa: PTH108 - reason: as above
        raise


# -- the store around the file ------------------------------------------------------------------------------


def _store(path: str | None) -> str | None:
    """The store directory that *path* lies in; None when it lies in none."""
    if path is None:
        return None
    folder = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - reason: pathlib costs a start
    named = os.path.basename(folder) == ".taskstore"  # noqa: PTH119 - reason: as above
    has_version = os.path.isfile(os.path.join(folder, ".version"))  # noqa: PTH113, PTH118 - reason: as above
    return folder if has_version or (named and os.path.isdir(folder)) else None  # noqa: PTH112 - reason: as above


def _references(path: str | None) -> frozenset[str]:
    """The fields that are declared, beside the merged file, to hold ids of its records. Best effort."""
    folder = _store(path)
    if folder is None or path is None:
        return frozenset()
    collection = os.path.basename(path).removesuffix(".jsonl")  # noqa: PTH119 - reason: pathlib costs a start
    types = os.path.join(folder, _TYPES)  # noqa: PTH118 - reason: as above
    try:
        # A link, which a clone may bring, leads anywhere, even to a file without end.
        if os.path.islink(types) or os.path.getsize(types) > _TYPES_BYTES:  # noqa: PTH114, PTH202 - reason: as above
            return frozenset()
        state = fold(line for line in decode_lines(_read(types, absent=True)) if not isinstance(line, BadLine))
    except OSError:
        return frozenset()
    found = state.get(collection)
    declared = cast("dict[str, object]", decode_exact(found.line.raw)).get("fields") if found is not None else None
    if not isinstance(declared, dict):
        return frozenset()
    fields = cast("dict[str, object]", declared)
    return frozenset(
        name
        for name, field in fields.items()
        if isinstance(field, dict) and cast("dict[str, object]", field).get("references") == collection
    )


def _log(path: str | None, merged: Merged, code: int) -> None:
    """Keep what was decided beside the store's files. A log that cannot be written fails no merge."""
    folder = _store(path)
    report = merged.report
    if folder is None or not (report.decisions or report.notes or report.both):
        return
    entry: dict[str, object] = {
        "at": time.time_ns() // 1_000_000,
        "path": path,
        "exit": code,
        "ours": report.ours,
        "theirs": report.theirs,
        "both": report.both,
        "conflicts": report.conflicts,
        "notes": report.notes,
        "decisions": list(_decisions(report)),
        "decided": len(report.decisions),
        "sides": _sides(merged),
    }
    keep_in_log(folder, entry)


def keep_in_log(folder: str, entry: dict[str, object]) -> None:
    """Add *entry* to the log of the store in *folder*, best effort; the oldest go when it grows too large."""
    log = os.path.join(folder, LOG)  # noqa: PTH118 - reason: pathlib costs a start
    if os.path.islink(log) or (os.path.exists(log) and not os.path.isfile(log)):  # noqa: PTH110, PTH113, PTH114 - reason: as above
        return
    try:
        line = msgspec.json.encode(entry) + b"\n"
        before = _read(log, absent=True)
        if len(before) + len(line) > LOG_BYTES:
            _replace(log, before[before.find(b"\n", len(before) - LOG_BYTES // 2) + 1 :] + line)
            return
        with open(log, "ab") as file:  # noqa: PTH123 - reason: as above
            file.write(line)
    except (OSError, ValueError):
        return


def _decisions(report: Report) -> Iterator[Decision]:
    """What was decided, as far as there is room."""
    left = LOGGED_DECISIONS_BYTES
    for decision in report.decisions[:LOGGED_DECISIONS]:
        left -= len(msgspec.json.encode(decision))
        if left < 0:
            return
        yield decision


def _sides(merged: Merged) -> dict[str, dict[str, msgspec.Raw | None]]:
    """What ``tstore resolve`` can choose from, as far as there is room."""
    kept: dict[str, dict[str, msgspec.Raw | None]] = {}
    left = LOGGED_SIDES_BYTES
    for record_id in dict.fromkeys(decision.id for decision in _decisions(merged.report)):
        sides = merged.sides.get(record_id)
        if sides is None:
            continue
        left -= len(sides.ours or b"") + len(sides.theirs or b"")
        if left < 0:
            break
        lines = {"ours": sides.ours, "theirs": sides.theirs}
        kept[record_id] = {side: None if line is None else msgspec.Raw(line) for side, line in lines.items()}
    return kept


# -- words --------------------------------------------------------------------------------------------------


def _tell(name: str, merged: Merged, *, as_json: bool, to_stdout: bool) -> None:
    if as_json:
        print(msgspec.json.encode(merged.report).decode(), file=sys.stdout if to_stdout else sys.stderr)
        return
    lines = list(words(merged.report))
    for line in lines[:_SHOWN_LINES]:
        _say(f"{name}: {line}")
    if len(lines) > _SHOWN_LINES:
        _say(f"{name}: and {len(lines) - _SHOWN_LINES} more lines; --json says all")
    if merged.conflicts:
        _say(f"{name}: choose between the versions that stand between markers: tstore conflicts, tstore resolve")


def _say(text: str) -> None:
    plain = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    with suppress(OSError):  # nobody listens
        print(plain.encode(errors="backslashreplace").decode(), file=sys.stderr)  # noqa: T201 - reason: words are its way to speak
