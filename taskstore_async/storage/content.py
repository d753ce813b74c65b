"""Long text beside its record: ``prds/add-oauth.md`` in the store directory, named by the record's field ``file``.

A file is written before the record that names it is committed, and deleted after the commit that deletes the record. So
a crash between the two leaves a file that no record names, which `check` tells, and never the other way round.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.codec import decode_exact, split_fields
from taskstore_async.core.content import CONTENT, FILE, SUFFIX, file_name, names_of, slug_of
from taskstore_async.core.document import Document
from taskstore_async.core.stamp import NS_PER_MS
from taskstore_async.core.write import load
from taskstore_async.errors import ContentError, InvalidRecordError, UnreadableRecordError, WriteFailedError
from taskstore_async.storage import files
from taskstore_async.storage.ops import Create, Update, WriteContent
from taskstore_async.storage.reports import Finding

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from taskstore_async.core.record import AnyRecord
    from taskstore_async.core.write import Draft
    from taskstore_async.storage.catalogue import Collection

__all__ = ["Contents", "content_op", "findings", "has_files", "read_content"]

_TITLES = ("title", "name", "phase_name", "id")  #: what may name a file, the best first
_encode = msgspec.json.encode
_NULL = msgspec.Raw(b"null")


def read_content(directory: Path, record: AnyRecord) -> str | None:
    """The long text of *record*: what its file has, else its own ``content``; None when it has neither.

    Args:
        directory: The store directory.
        record: Of any type, or a document.

    Raises:
        ContentError: The file is not there, is no text in UTF-8, or is not one that the store would read.
    """
    value = _field(record, FILE)
    if value is None:
        content = _field(record, CONTENT)
        return content if isinstance(content, str) else None

    def refused(reason: str) -> ContentError:
        return ContentError(record.collection, record.id, str(value), reason)

    name = file_name(record.collection, value)
    if name is None:
        raise refused(f"which is no file of the store (those are {record.collection}/NAME{SUFFIX})")
    try:
        return _read(directory / record.collection, name).decode()
    except UnicodeDecodeError as error:
        raise refused(f"which is no text in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise refused(f"which cannot be read ({error.strerror or error})") from error


def _read(folder: Path, name: str) -> bytes:
    """Read a file that is one itself, in a folder that is one itself."""
    if folder.is_symlink():
        raise OSError(f"{folder.name} is a symbolic link, and those are not followed")
    try:
        flags = os.O_RDONLY | files.CLOEXEC | files.NOFOLLOW | files.NONBLOCK
        descriptor = os.open(folder / name, flags)
    except OSError as error:
        if (folder / name).is_symlink():
            raise OSError("it is a symbolic link, and those are not followed") from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file")
        return file.read()


def content_op(draft: Draft, text: str, *, token: int | None = None) -> WriteContent:
    """The op that stores a record with *text* as its long text: new, or changed if it is still the version it was.

    Raises:
        InvalidRecordError: The record's type has no field ``file``, or *text* has a lone surrogate.
    """
    subject = f"{draft.collection}/{draft.id}"
    if draft.known is not None and FILE not in draft.known:
        reason = "the type has no such field; add file: Annotated[str | None, Unique] = None"
        raise InvalidRecordError(subject, f"$.{FILE}", reason)
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        reason = f"the text has a lone surrogate at position {error.start}"
        raise InvalidRecordError(subject, f"$.{CONTENT}", reason) from error
    new = draft.expected_at == 0 and draft.expected_crc is None and token is None  # nobody leases what is not there
    return WriteContent(Create(draft) if new else Update(draft, token), data)


def _check_type(draft: Draft, subject: str) -> None:
    """Refuse a type that could not read the record now that its text stands in a file."""
    if draft.record_type is None:
        return
    try:
        load(draft.record_type, draft.data, draft.expected_at * NS_PER_MS)
    except UnreadableRecordError as error:
        name = draft.record_type.__name__
        reason = f"{name} could not read it with the name of a file, and null as content ({error.reason})"
        raise InvalidRecordError(subject, f"$.{FILE}", reason) from error


def has_files(collection: Collection) -> bool:
    """Whether records of *collection* may have their text in files: it declares a unique field ``file``."""
    declared = collection.declaration.fields.get(FILE)
    return declared is not None and declared.unique


class Contents:
    """The files that one transaction writes, and those that its deletions leave to nobody.

    Args:
        db: The rows.
        directory: The store directory.
    """

    def __init__(self, db: sqlite3.Connection, directory: Path) -> None:
        self._db = db
        self._directory = directory
        self._written: list[tuple[Path, Path]] = []  #: where it is now, and where it goes
        self._freed: list[tuple[Collection, str]] = []

    # -- writing --------------------------------------------------------------------------------------------

    def place(self, collection: Collection, change: Create | Update) -> tuple[str, Draft]:
        """Choose the file of a record: the one it has, or a new one.

        Returns:
            Its name in the collection's folder, and the draft that names it, and has no text of its own any more.

        Raises:
            InvalidRecordError: The record names something else than a file of the store, the collection does not
                declare ``file`` unique, or the record's type could not read the result.
        """
        draft = change.draft
        subject = f"{draft.collection}/{draft.id}"
        if not has_files(collection):
            reason = f"{draft.collection} does not declare it unique, so that two records could share a file"
            raise InvalidRecordError(subject, f"$.{FILE}", reason)
        fields = split_fields(draft.data)
        value = decode_exact(fields.get(FILE, _NULL))
        name = file_name(draft.collection, value)
        if value is not None and name is None:
            reason = f"{value!r} is no file of the store: those are {draft.collection}/NAME{SUFFIX}"
            raise InvalidRecordError(subject, f"$.{FILE}", reason)
        if name is None or isinstance(change, Create):
            titles = [decode_exact(fields[title]) for title in _TITLES if title in fields]
            wanted = slug_of(*titles) if name is None else name.removesuffix(SUFFIX)
            name = next(one for one in names_of(wanted) if self._is_free(collection, one))
        named = {**fields, FILE: msgspec.Raw(_encode(f"{draft.collection}/{name}"))}
        if CONTENT in named:
            named[CONTENT] = _NULL
        draft = msgspec.structs.replace(draft, data=_encode(named))
        _check_type(draft, subject)
        return name, draft

    def _is_free(self, collection: Collection, name: str) -> bool:
        path = self._directory / collection.name / name
        # What this transaction is about to write is named by its rows already.
        return not os.path.lexists(path) and not self._is_named(collection, f"{collection.name}/{name}")

    def _is_named(self, collection: Collection, value: str) -> bool:
        """Whether a live record names the file."""
        sql = f"SELECT 1 FROM {collection.rows} WHERE {collection.columns[FILE]} = ? AND dead = 0 LIMIT 1"
        return self._db.execute(sql, (value,)).fetchone() is not None

    def write(self, collection: str, name: str, data: bytes) -> Path:
        """Write a text, fsynced, to where nobody looks for it yet; `publish` gives it its name.

        Returns:
            Where it is, for `withdraw`.

        Raises:
            WriteFailedError: It could not be written.
        """
        folder = self._directory / collection
        try:
            self._make(folder)
            temporary = folder / f"{name}.{os.getpid()}.tmp"
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                files.fsync(file.fileno())
        except OSError as error:
            raise WriteFailedError(str(folder / name), error.strerror or str(error)) from error
        self._written.append((temporary, folder / name))
        return temporary

    def _make(self, folder: Path) -> None:
        """Make the folder, and take away what somebody left who was killed: we hold the lock."""
        if folder.is_symlink():
            raise OSError("it is in a folder that is a symbolic link, and those are not followed")
        if not folder.is_dir():
            folder.mkdir()
            files.fsync_directory(self._directory)
        held = {temporary for temporary, _ in self._written}
        for left in folder.glob(f"*{SUFFIX}.*.tmp"):
            if left not in held:
                left.unlink(missing_ok=True)

    def withdraw(self, temporary: Path) -> None:
        """Take back a text whose record was refused."""
        temporary.unlink(missing_ok=True)
        self._written = [one for one in self._written if one[0] != temporary]

    def publish(self) -> None:
        """Give what was written its name. Called last before the commit: what fails before it has changed nothing.

        Raises:
            OSError: It could not be done.
        """
        for temporary, path in self._written:
            temporary.replace(path)
        for folder in {path.parent for _, path in self._written}:
            files.fsync_directory(folder)
        self._written = []

    # -- deleting -------------------------------------------------------------------------------------------

    @property
    def freed(self) -> int:
        """How many files were let go so far, for `keep_all_but`."""
        return len(self._freed)

    def let_go(self, collection: Collection, raw: bytes) -> None:
        """Note that the record of the line *raw* is deleted, and does not need its file any more."""
        if not has_files(collection):
            return
        field = split_fields(raw).get(FILE, _NULL)
        value: object = decode_exact(field)
        if isinstance(value, str) and file_name(collection.name, value) is not None:
            self._freed.append((collection, value))

    def keep_all_but(self, count: int) -> None:
        """Forget all that was let go but for the first *count*: those deletions were taken back."""
        del self._freed[count:]

    def settle(self) -> None:
        """Find out which files nobody names any more. Called before the commit, with everything in the rows."""
        self._freed = [
            (collection, value) for collection, value in self._freed if not self._is_named(collection, value)
        ]

    def delete(self) -> None:
        """Delete those files. Called after the commit; what cannot be deleted stays, and `check` tells it."""
        for collection, value in self._freed:
            with suppress(OSError):
                if not (self._directory / collection.name).is_symlink():
                    (self._directory / value).unlink(missing_ok=True)
        self._freed = []


def findings(db: sqlite3.Connection, collection: Collection, directory: Path) -> Iterator[Finding]:
    """What is wrong between the records of *collection* and their files."""
    if not has_files(collection):
        return
    folder = directory / collection.name
    there: set[str] = set()
    if folder.is_dir() and not folder.is_symlink():
        there = {entry.name for entry in os.scandir(folder) if entry.name.endswith(SUFFIX)}
    named: set[str] = set()
    column = collection.columns[FILE]
    rows = db.execute(f"SELECT id, {column} FROM {collection.rows} WHERE dead = 0 AND {column} IS NOT NULL ORDER BY id")
    for record_id, value in rows.fetchall():
        name = file_name(collection.name, value)
        if name is None or name not in there:
            what = "which is no file of the store" if name is None else "which is not there"
            message = f"{collection.name}/{record_id} has its text in {value!r}, {what}"
            yield Finding(kind="content", message=message, collection=collection.name, record_id=record_id)
        else:
            named.add(name)
    for name in sorted(there - named):
        message = f"{collection.name}/{name} belongs to no record; give it to one (its field file), or delete it"
        yield Finding(
            kind="stray", message=message, collection=collection.name, file=f"{collection.name}/{name}", error=False
        )


def _field(record: AnyRecord, name: str) -> object:
    return record.get(name) if isinstance(record, Document) else getattr(record, name, None)
