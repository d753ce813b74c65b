"""Where a record names another by its id: as a reference, or in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["find_mentions", "with_mentions"]


def find_mentions(fields: Mapping[str, object], record_id: str, *, references: Collection[str] = ()) -> list[str]:
    """Where *fields* name *record_id*: paths such as ``parent_id``, ``links[].task_id`` and ``notes``.

    Args:
        fields: A decoded record; its own id is no mention.
        record_id: The id, which counts where it stands as a whole word of a text.
        references: Fields that hold ids, beside those called ``..._id`` and ``..._ids``: there an integer that spells
            the id counts too.
    """
    word = _word(record_id)
    found: dict[str, None] = {}
    for path, name, value in _leaves("", "", fields):
        if path != "id" and _names(value, name, record_id, word, references):
            found[path] = None
    return list(found)


def with_mentions(
    fields: Mapping[str, object], record_id: str, new_id: str, *, references: Collection[str] = ()
) -> dict[str, object]:
    """*fields*, with *new_id* wherever `find_mentions` finds *record_id*."""
    word = _word(record_id)

    def renewed(name: str, value: object) -> object:
        if isinstance(value, dict):
            return {key: renewed(key, item) for key, item in cast("dict[str, object]", value).items()}
        if isinstance(value, list):
            return [renewed(name, item) for item in cast("list[object]", value)]
        if not _names(value, name, record_id, word, references):
            return value
        return word.sub(lambda _: new_id, value) if isinstance(value, str) else new_id

    return {name: value if name == "id" else renewed(name, value) for name, value in fields.items()}


def _leaves(path: str, name: str, value: object) -> Iterator[tuple[str, str, object]]:
    """Every value that has none inside: its path, the name of the field that it stands in, and itself."""
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[str, object]", value).items():
            yield from _leaves(f"{path}.{key}" if path else key, key, item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _leaves(f"{path}[]", name, item)
    else:
        yield path, name, value


def _names(value: object, name: str, record_id: str, word: re.Pattern[str], references: Collection[str]) -> bool:
    if isinstance(value, str):
        return word.search(value) is not None
    is_reference = name.endswith(("_id", "_ids")) or name in references
    return is_reference and isinstance(value, int) and str(value) == record_id


def _word(record_id: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(record_id)}(?![\w-]|\.\w)")
