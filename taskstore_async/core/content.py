"""Where a record's long text stands: the rules for the names of files beside the journals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from taskstore_async.core.names import is_device

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CONTENT", "FILE", "SUFFIX", "file_name", "names_of", "slug_of"]

FILE: Final = "file"
"""The field that names a record's file: ``prds/add-oauth.md``. Its collection declares it unique."""

CONTENT: Final = "content"
"""The field that has the text itself, of a record without a file."""

SUFFIX: Final = ".md"
_MOST_CHARS: Final = 80
_APOSTROPHES: Final = re.compile("['\u2018\u2019\u02bc]")
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f/\\.][^\x00-\x1f\x7f/\\]*")


def slug_of(*texts: object) -> str:
    """The name that the first of *texts* gives that gives one: ``"Add OAuth!"`` is ``"add-oauth"``.

    Args:
        texts: What may name a file, the best first. What is no text, or has no letter or digit of ASCII even without
            its accents, gives no name.

    Returns:
        Lowercase letters, digits and hyphens, at most 80 characters; ``"untitled"`` when there is nothing to go by.
    """
    import unicodedata  # noqa: PLC0415 - reason: a large table, and most stores have no such files

    for text in texts:
        if not isinstance(text, str):
            continue
        plain = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text)).encode("ascii", "ignore").decode().lower()
        slug = _SEPARATORS.sub("-", plain).strip("-")[:_MOST_CHARS].rstrip("-")
        if slug:
            return f"{slug}-file" if is_device(slug) else slug
    return "untitled"


def names_of(slug: str) -> Iterator[str]:
    """*slug* as a file's name, and what to take when that is taken: ``slug.md``, ``slug-2.md``, and so on."""
    yield slug + SUFFIX
    number = 2
    while True:
        yield f"{slug}-{number}{SUFFIX}"
        number += 1


def file_name(collection: str, value: object) -> str | None:
    """The name, in the collection's own folder, of the file that *value* names; None when it names no such file.

    Whatever leads elsewhere names none: an absolute path, another folder, ``..``, a hidden file.

    Args:
        collection: Where the record stands.
        value: What its field ``file`` holds.
    """
    if not isinstance(value, str):
        return None
    folder, slash, name = value.partition("/")
    fits = folder == collection and slash and name.endswith(SUFFIX) and _NAME.fullmatch(name)
    return name if fits else None
