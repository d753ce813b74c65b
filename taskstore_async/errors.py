"""Every error this package raises on purpose.

One base, and a class only where a caller would act differently. A class makes its message from typed
arguments, which stay readable as attributes; every message says what happened, with the value, and what to
do next.
"""

from __future__ import annotations

__all__ = [
    "AlreadyExistsError",
    "AmbiguousIdError",
    "CannotResolveError",
    "ClaimLostError",
    "CollectionClosedError",
    "ContentError",
    "CycleError",
    "DeclarationConflictError",
    "DestinationError",
    "ExchangeError",
    "FlushError",
    "GitError",
    "ImportConflictError",
    "InvalidFilterError",
    "InvalidIdError",
    "InvalidNameError",
    "InvalidQueryError",
    "InvalidRecordError",
    "InvalidRecordTypeError",
    "LaggedError",
    "LimitExceededError",
    "MergeInputError",
    "MissingExtraError",
    "MissingReferenceError",
    "NoRepositoryError",
    "NoRevisionError",
    "NoStoreError",
    "NotFoundError",
    "QueryTimeoutError",
    "ReadFailedError",
    "ReferencedError",
    "StaleWriteError",
    "StoreBrokenError",
    "StoreClosedError",
    "StoreLockedError",
    "StoreReadOnlyError",
    "StoreVersionError",
    "TaskStoreError",
    "UniqueError",
    "UnreadableRecordError",
    "UnresolvedConflictError",
    "WriteFailedError",
    "WriteUncertainError",
]


_SHOWN = 5  # ids that a message names


class TaskStoreError(Exception):
    """The base of every error of this package."""


# -- what was asked for cannot be said ----------------------------------------------------------------------


class InvalidNameError(TaskStoreError, ValueError):
    """A collection or field name breaks the rules for names."""

    def __init__(self, kind: str, name: str, rule: str) -> None:
        super().__init__(f"{name!r} is no {kind} name: {rule}")
        self.kind = kind
        self.name = name
        self.rule = rule


class InvalidIdError(TaskStoreError, ValueError):
    """A record id breaks the rules for ids."""

    def __init__(self, message: str, record_id: object) -> None:
        super().__init__(message)
        self.record_id = record_id


class LimitExceededError(TaskStoreError, ValueError):
    """Something is larger than a store takes.

    ``value`` and ``limit`` are in ``unit``.
    """

    def __init__(self, what: str, *, value: int, limit: int, unit: str) -> None:
        super().__init__(f"{what} has {value:,} {unit}, and at most {limit:,} are allowed; make it smaller or split it")
        self.what = what
        self.value = value
        self.limit = limit
        self.unit = unit


class InvalidRecordError(TaskStoreError, ValueError):
    """A record cannot be written as JSON that reads back as itself.

    ``path`` leads into the data, as in ``$.steps[2].weight``.
    """

    def __init__(self, subject: str, path: str, reason: str) -> None:
        where = "" if path == "$" else f" - at {path}"
        super().__init__(f"{subject} cannot be stored: {reason}{where}; nothing was written")
        self.subject = subject
        self.path = path
        self.reason = reason


class InvalidRecordTypeError(TaskStoreError, TypeError):
    """A record type cannot be used as it is written."""

    def __init__(self, record_type: str, reason: str) -> None:
        super().__init__(f"the record type {record_type} cannot be used: {reason}")
        self.record_type = record_type
        self.reason = reason


class InvalidFilterError(TaskStoreError, ValueError):
    """A filter, an order or a page cannot mean anything."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(f"{subject}: {reason}")
        self.subject = subject
        self.reason = reason


class InvalidQueryError(TaskStoreError, ValueError):
    """SQL that cannot be answered: it would write, or is no SQL over what there is."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this query cannot be answered: {reason}")
        self.reason = reason


class QueryTimeoutError(TaskStoreError):
    """A query took longer than it may."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"this query took longer than {timeout_s:g} s and was stopped; have it find less, or give it more time "
            f"with --timeout"
        )
        self.timeout_s = timeout_s


class DeclarationConflictError(TaskStoreError):
    """A record type declares a field differently from what the store has declared."""

    def __init__(self, collection: str, field: str, *, stored: str, wanted: str) -> None:
        super().__init__(
            f"{collection}.{field} is declared in the store as {stored}, but the record type says {wanted}; "
            f"to change the store's declaration, call rebuild_indexes with this type"
        )
        self.collection = collection
        self.field = field
        self.stored = stored
        self.wanted = wanted


class CycleError(TaskStoreError, ValueError):
    """Records need each other in a circle, so none of them can come first.

    ``cycles`` has one circle of each knot: each id needs the next one, and the last needs the first.
    """

    def __init__(self, cycles: tuple[tuple[str, ...], ...]) -> None:
        shown = "; ".join(" → ".join([*cycle, cycle[0]]) for cycle in cycles[:_SHOWN])
        more = "; …" if len(cycles) > _SHOWN else ""
        super().__init__(f"these need each other in a circle: {shown}{more}; take one need out of each")
        self.cycles = cycles


# -- refusals: nothing changed ------------------------------------------------------------------------------


class AlreadyExistsError(TaskStoreError):
    """``create`` met a record with this id."""

    def __init__(self, collection: str, record_id: str) -> None:
        super().__init__(
            f"{collection}/{record_id} exists already; take another id, or change it with update (or put, in Python)"
        )
        self.collection = collection
        self.record_id = record_id


class NotFoundError(TaskStoreError, LookupError):
    """There is no such record."""

    def __init__(
        self,
        collection: str,
        record_id: str,
        *,
        near: tuple[str, ...] = (),
        there: str = "list the collection to see what there is",
    ) -> None:
        hint = f"did you mean {' or '.join(near)}?" if near else there
        super().__init__(f"{collection}/{record_id} does not exist; {hint}")
        self.collection = collection
        self.record_id = record_id
        self.near = near


class AmbiguousIdError(TaskStoreError, LookupError):
    """The beginning of an id fits several records."""

    def __init__(self, collection: str, prefix: str, candidates: tuple[str, ...]) -> None:
        shown = ", ".join(candidates[:_SHOWN]) + (", …" if len(candidates) > _SHOWN else "")
        super().__init__(f"{prefix!r} fits {len(candidates)} ids in {collection} ({shown}); give more of the id")
        self.collection = collection
        self.prefix = prefix
        self.candidates = candidates


class StaleWriteError(TaskStoreError):
    """Somebody else changed the record first. Read it again, reapply, retry."""

    def __init__(
        self,
        collection: str,
        record_id: str,
        *,
        expected_at: int,
        actual_at: int,
        expected_crc: int | None = None,
        actual_crc: int | None = None,
    ) -> None:
        expected, actual = str(expected_at), str(actual_at)
        if expected_at == actual_at and expected_crc is not None and actual_crc is not None:
            expected += f" with CRC {expected_crc:08x}"
            actual += f" with CRC {actual_crc:08x}"
        super().__init__(
            f"{collection}/{record_id} was changed at {actual}, but this update was made from the version of "
            f"{expected}; read it again, reapply the change and retry"
        )
        self.collection = collection
        self.record_id = record_id
        self.expected_at = expected_at
        self.actual_at = actual_at
        self.expected_crc = expected_crc
        self.actual_crc = actual_crc


class UniqueError(TaskStoreError):
    """Another live record holds this value of a unique field."""

    def __init__(self, collection: str, record_id: str, field: str, value: object, *, holder: str) -> None:
        super().__init__(
            f"{collection}/{record_id} cannot have {field}={value!r}: {collection}/{holder} has it, and {field} is "
            f"unique; choose another value or change that record first"
        )
        self.collection = collection
        self.record_id = record_id
        self.field = field
        self.value = value
        self.holder = holder


class MissingReferenceError(TaskStoreError):
    """A reference names a record that does not exist."""

    def __init__(self, collection: str, record_id: str, field: str, *, target: str, target_id: str) -> None:
        super().__init__(
            f"{collection}/{record_id} names {target}/{target_id} in {field}, which does not exist; create it first, "
            f"or in the same batch"
        )
        self.collection = collection
        self.record_id = record_id
        self.field = field
        self.target = target
        self.target_id = target_id


class ReferencedError(TaskStoreError):
    """A record cannot be deleted while others name it (``on_delete="restrict"``)."""

    def __init__(self, collection: str, record_id: str, *, by: str, field: str, holder: str) -> None:
        super().__init__(
            f"{collection}/{record_id} cannot be deleted: {by}/{holder} names it in {field}; delete or change that "
            f'record first, or declare the reference with on_delete="cascade" or "set_null"'
        )
        self.collection = collection
        self.record_id = record_id
        self.by = by
        self.field = field
        self.holder = holder


class ClaimLostError(TaskStoreError):
    """A write came with a fencing token that no live lease stands behind."""

    def __init__(self, collection: str, record_id: str, *, token: int) -> None:
        super().__init__(
            f"the lease {token} on {collection}/{record_id} has ended; somebody else may own the record now: "
            f"drop this work, or claim it again"
        )
        self.collection = collection
        self.record_id = record_id
        self.token = token


class ImportConflictError(TaskStoreError):
    """An import met records that are stored with other content."""

    def __init__(self, collection: str, record_ids: tuple[str, ...], *, total: int, source: str | None = None) -> None:
        shown = ", ".join(record_ids[:_SHOWN]) + (", …" if total > _SHOWN else "")
        of_file = "" if source is None else f"{source}: "
        super().__init__(
            f"{of_file}{total} of the records to import are in {collection} already, with other content ({shown}); "
            f"nothing was written: choose on_conflict (--on-conflict) skip, replace or newer"
        )
        self.collection = collection
        self.record_ids = record_ids
        self.total = total
        self.source = source


class ExchangeError(TaskStoreError, ValueError):
    """A file of another program is not what it was taken for."""

    def __init__(self, source: str, reason: str, hint: str) -> None:
        super().__init__(f"{source}: {reason}; {hint}")
        self.source = source
        self.reason = reason


class DestinationError(TaskStoreError):
    """Nothing may be written there: something is there already, or it is the store itself."""

    def __init__(self, path: str, reason: str, hint: str) -> None:
        super().__init__(f"{path} {reason}; {hint}")
        self.path = path
        self.reason = reason


# -- what is stored cannot be used --------------------------------------------------------------------------


class UnreadableRecordError(TaskStoreError):
    """A stored record does not fit the type it is read as."""

    def __init__(self, collection: str, record_id: str, record_type: str, reason: str) -> None:
        super().__init__(
            f"{collection}/{record_id} cannot be read as {record_type}: {reason}; read it untyped, with the "
            f"collection's name, or mend it (list_tolerant names every such record)"
        )
        self.collection = collection
        self.record_id = record_id
        self.record_type = record_type
        self.reason = reason


class ContentError(TaskStoreError):
    """The file that a record's long text stands in cannot be used."""

    def __init__(self, collection: str, record_id: str, file: str, reason: str) -> None:
        super().__init__(
            f"{collection}/{record_id} has its text in {file!r}, {reason}; restore the file (git checkout), or write "
            f"the text anew with write_content"
        )
        self.collection = collection
        self.record_id = record_id
        self.file = file
        self.reason = reason


class CollectionClosedError(TaskStoreError):
    """A journal has bytes but not one valid line, or is no file, so nothing may be appended to it."""

    def __init__(self, collection: str, path: str, *, regular: bool = True) -> None:
        what = "has content, but not one line of it is a record" if regular else "is no regular file"
        then = f"tstore import saved.jsonl -c {collection} --on-conflict newer"
        if collection == "_types":  # declarations are no records that could be imported
            then = f"mv saved.jsonl {path}"
        super().__init__(
            f"{path} {what}, so {collection} is closed to writing and keeps what it had; save that (tstore "
            f"export {collection} -o saved.jsonl), move {'the file' if regular else 'what is there'} away or restore "
            f"it (git checkout), then: {then}"
        )
        self.collection = collection
        self.path = path


class UnresolvedConflictError(TaskStoreError):
    """Versions of a record stand between markers in a journal, and what was asked would choose one of them."""

    def __init__(self, collection: str, path: str, record_ids: tuple[str, ...]) -> None:
        shown = ", ".join(record_ids[:_SHOWN]) + (", …" if len(record_ids) > _SHOWN else "")
        super().__init__(
            f"{path} has versions with equal stamps between conflict markers ({shown}), and compacting it would choose "
            f"one; it is as it was: see tstore conflicts, then tstore resolve"
        )
        self.collection = collection
        self.path = path
        self.record_ids = record_ids


class MergeInputError(TaskStoreError, ValueError):
    """A side of a merge cannot be what it says it is, so nothing was merged."""

    def __init__(self, side: str, reason: str = "it has lines, but not one of them is a record") -> None:
        super().__init__(
            f"{side} side cannot be merged: {reason}; nothing was changed: look at that version of the file (is it an "
            f"LFS pointer, or cut off?), restore it and merge again"
        )
        self.side = side
        self.reason = reason


class CannotResolveError(TaskStoreError, LookupError):
    """A merge has left nothing that could be resolved like that."""

    def __init__(self, record_id: str, reason: str) -> None:
        super().__init__(f"{record_id} cannot be resolved like that: {reason}")
        self.record_id = record_id
        self.reason = reason


class NoStoreError(TaskStoreError):
    """There is no store here."""

    def __init__(self, path: str, hint: str = "make one with: tstore init") -> None:
        super().__init__(f"no store at {path}; {hint}")
        self.path = path
        self.hint = hint


class NoRepositoryError(TaskStoreError):
    """The store lies in no git repository, or in one without a working tree."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is in no working tree of git; make one with: git init")
        self.path = path


class NoRevisionError(TaskStoreError, LookupError):
    """Something was to be compared that is no directory, no file and no revision of git."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is no store, no journal and no revision of git; see: git log --oneline")
        self.name = name


class GitError(TaskStoreError):
    """Git could not be run, or refused what it was asked for."""

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(f"{command} failed: {reason}; mend that, then try again")
        self.command = command
        self.reason = reason


class StoreVersionError(TaskStoreError):
    """The directory was written in a format that this program does not know."""

    def __init__(self, path: str, *, found: str, known: int) -> None:
        super().__init__(
            f"{path} has format {found!r}, and this program knows formats up to {known}; upgrade taskstore-async, or "
            f"restore .version (git checkout) if that is what is wrong"
        )
        self.path = path
        self.found = found
        self.known = known


class StoreLockedError(TaskStoreError):
    """Another process held store.lock for the whole of the deadline."""

    def __init__(self, path: str, *, waited_s: float, holder: str) -> None:
        super().__init__(
            f"{path} was held for the {waited_s:g} s that this call may wait, by {holder or 'an unknown process'}; "
            f"try again, or end that process if it hangs"
        )
        self.path = path
        self.waited_s = waited_s
        self.holder = holder


class StoreReadOnlyError(TaskStoreError):
    """The store's directory cannot be written."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be written ({reason}); give this user write permission, or copy the store")
        self.path = path
        self.reason = reason


class StoreClosedError(TaskStoreError):
    """The handle is closed, or belongs to another process (a fork)."""

    def __init__(self, reason: str = "it was closed") -> None:
        super().__init__(f"this store handle cannot be used: {reason}; open a new one")
        self.reason = reason


class StoreBrokenError(TaskStoreError):
    """A failed fsync or COMMIT stopped writing until the store has compared file and outbox."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"writing to {path} is stopped after {reason}; it is tried again by itself, within ten seconds, and at "
            f"once by a handle that is opened anew"
        )
        self.path = path
        self.reason = reason


class FlushError(TaskStoreError):
    """The outbox could not be written to the journal; it is kept and tried again."""

    def __init__(self, path: str, reason: str, *, pending: int) -> None:
        super().__init__(
            f"{pending} acknowledged change(s) could not be written to {path} ({reason}); they are safe in the index "
            f"and are tried again: make room or mend the disk, then flush"
        )
        self.path = path
        self.reason = reason
        self.pending = pending


class ReadFailedError(TaskStoreError):
    """The index, or a file of the store, cannot be read just now."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"{path} could not be read ({reason}); nothing is lost by that: try again, and if it stays so, look with: "
            f"tstore doctor"
        )
        self.path = path
        self.reason = reason


class WriteFailedError(TaskStoreError):
    """The index could not be written; everything was rolled back."""

    def __init__(self, path: str, reason: str) -> None:
        locked = reason.endswith("is locked")
        advice = (
            "wait for the program that holds it, or end it" if locked else "make room or mend what stands in the way"
        )
        super().__init__(f"{path} could not be written ({reason}); nothing was changed: {advice}, then try again")
        self.path = path
        self.reason = reason


class WriteUncertainError(TaskStoreError):
    """The outcome of a write is not known: COMMIT or the append failed."""

    def __init__(self, reason: str = "the commit or the append failed") -> None:
        super().__init__(f"this write may or may not have been applied ({reason}); read it back before retrying")
        self.reason = reason


class LaggedError(TaskStoreError):
    """A watcher was too slow. ``cursor`` is where to resume."""

    def __init__(self, cursor: str) -> None:
        super().__init__(f"this watcher fell too far behind; resume with watch(since={cursor!r})")
        self.cursor = cursor


class MissingExtraError(TaskStoreError, ImportError):
    """An optional part is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs: pip install 'taskstore-async[{extra}]'")
        self.what = what
        self.extra = extra
