"""Comparing journals as git has them: what a merge lacks, and what a commit does not have yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskstore_async.core.fold import fold
from taskstore_async.core.line import BadLine
from taskstore_async.core.line_reader import decode_lines
from taskstore_async.core.merge import merge
from taskstore_async.errors import MergeInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskstore_async.git.repository import Repository

__all__ = ["lacking", "moved_records"]


def lacking(repository: Repository, folder: str, other: str) -> Iterator[tuple[str, list[str]]]:
    """The records of the commit *other* that a merge should have, and that what is staged has no line of.

    Args:
        repository: The working tree in which the merge is about to be committed.
        folder: The store, as git names it.
        other: The commit that is merged.

    Yields:
        A journal's path and the ids, where there are any.
    """
    base = repository.ask("merge-base", "HEAD", other).text
    for path in repository.run("ls-tree", "--name-only", "-z", other, "--", f"{folder}/").names:
        if not path.endswith(".jsonl"):
            continue
        theirs = repository.blob(other, path)
        old = repository.blob(base, path) if base else b""
        if theirs == old:
            continue
        try:
            wanted = _live(merge(old, repository.blob("HEAD", path), theirs).data) & _live(theirs)
        except MergeInputError:
            continue  # an LFS pointer, or worse: there is no telling
        missing = sorted(wanted - _named(repository.blob("", path)))
        if missing:
            yield path, missing


def moved_records(before: bytes, after: bytes) -> list[str]:
    """The ids of the records whose winning line is not the same in two versions of a journal, sorted."""
    old = {record_id: folded.line.raw for record_id, folded in fold(decode_lines(before)).items()}
    new = {record_id: folded.line.raw for record_id, folded in fold(decode_lines(after)).items()}
    return sorted(record_id for record_id in old.keys() | new.keys() if old.get(record_id) != new.get(record_id))


def _live(data: bytes) -> set[str]:
    return {record_id for record_id, folded in fold(decode_lines(data)).items() if not folded.line.deleted}


def _named(data: bytes) -> set[str]:
    return {line.id for line in decode_lines(data) if not isinstance(line, BadLine)}
