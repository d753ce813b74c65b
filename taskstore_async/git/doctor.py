"""Examining a store and the clone around it, and mending what can be mended: ``tstore doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from taskstore_async.core.diagnosis import Diagnosis
from taskstore_async.errors import GitError, NoRepositoryError, TaskStoreError
from taskstore_async.git.detectors import OF_GIT, OF_STORE
from taskstore_async.git.repository import Repository
from taskstore_async.storage.directory import Directory

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["DoctorReport", "Finding", "doctor", "examine"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A `Diagnosis` as it is told.

    Attributes:
        id: Its kind.
        seen: What was seen.
        advice: What a person can do about it.
        error: It puts records at risk, or something does not work.
        fixable: ``doctor`` can mend it.
        fixed: It was mended, and is not seen any more.
        failure: Why it could not be; empty when it was not tried or was.
    """

    id: str
    seen: str
    advice: str
    error: bool
    fixable: bool
    fixed: bool = False
    failure: str = ""


class DoctorReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `doctor` found.

    Attributes:
        store: The store directory.
        ok: No error is left.
        findings: What was found, in the order of the tables.
    """

    store: str
    ok: bool
    findings: tuple[Finding, ...]


def doctor(path: str | os.PathLike[str] = ".", *, fix: bool = False) -> DoctorReport:
    """Examine the store at *path* and the clone around it, by trying what can be tried.

    Args:
        path: The directory that holds ``.taskstore/``, or a store directory itself.
        fix: Mend what can be mended without loss, and look again.

    Raises:
        NoStoreError, StoreVersionError: There is no store, or one of a newer format.
    """
    directory = Directory.at(path, create=False)
    diagnoses = list(examine(directory))
    failures: dict[str, str] = {}
    left: set[tuple[str, str]] = {(one.id, one.seen) for one in diagnoses}
    if fix and any(one.fix for one in diagnoses):
        for one in diagnoses:
            if one.fix is not None:
                try:
                    one.fix()
                except (TaskStoreError, OSError) as error:
                    failures[one.id] = str(error)
        left = {(one.id, one.seen) for one in examine(directory)}
    findings = tuple(
        Finding(
            id=one.id,
            seen=one.seen,
            advice=one.advice,
            error=one.error,
            fixable=one.fix is not None,
            fixed=(one.id, one.seen) not in left,
            failure=failures.get(one.id, ""),
        )
        for one in diagnoses
    )
    ok = not any(one.error and not one.fixed for one in findings)
    return DoctorReport(store=str(directory.path), ok=ok, findings=findings)


def examine(directory: Directory) -> Iterator[Diagnosis]:
    """Everything that the detectors of both tables see."""
    for of_store in OF_STORE:
        yield from of_store(directory)
    try:
        repository = Repository.around(directory.path)
        for of_git in OF_GIT:
            yield from of_git(repository, directory)
    except NoRepositoryError as error:
        advice = "nothing, unless the records are to be under git"
        yield Diagnosis(id="no-repository", seen=str(error), advice=advice, error=False)
    except GitError as error:
        yield Diagnosis(id="git-failed", seen=str(error), advice="see what git says there: git status")
