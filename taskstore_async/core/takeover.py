"""A write takes over the stored bytes of everything that it does not change.

Pure functions of JSON: what a value decodes to is asked only of decoders that run no user code (`Form.decoder`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec.json import Decoder, Encoder

from taskstore_async.core.codec import join_fields, same_value, split_fields
from taskstore_async.core.shape import Form, Shape, canonical, exact_decoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Json", "take_over", "with_sorted"]

Json: TypeAlias = msgspec.Raw | bytes
"""The text of a JSON value."""

_Part: TypeAlias = tuple[msgspec.Raw, bytes]  #: a value inside another, and what the type sees of it

_NULL: Final = msgspec.Raw(b"null")
_ITEMS: Final = Decoder(list[msgspec.Raw])
_ENCODER: Final = Encoder()
_ANY: Final = exact_decoder(Any)


def take_over(
    stored: Mapping[str, Json], fields: Mapping[str, Json], shape: Shape | None, *, inside: bool = False
) -> dict[str, Json]:
    """What *fields* written over *stored* gives: the order of *stored*, then what is new.

    Args:
        stored: The fields of the stored object.
        fields: The fields to write.
        shape: What the writing type knows: fields that it does not know stay, and so does one that it leaves out
            because it has its default. None replaces all.
        inside: They are the fields of a value inside a record.
    """
    joined: dict[str, Json] = {}
    for name, value in stored.items():
        new = fields.get(name)
        if new is not None:
            joined[name] = _taken(value, new, None if shape is None else shape.forms.get(name))
        elif shape is not None and (name not in shape.known or _is_default(name, value, shape)):
            joined[name] = value
    for name, new in fields.items():
        if name in joined:
            continue
        # A field whose absence reads as null is not added to a line that did without it. Another default is: filters
        # know nothing of defaults. They do not look inside values, so there none is added.
        if shape is None or not ((inside or new == _NULL) and _is_default(name, new, shape)):
            joined[name] = new
    return joined


def with_sorted(data: bytes, names: Sequence[str]) -> bytes:
    """The object *data* with the lists called *names* in one order, for the hash seed is no content."""
    fields = split_fields(data)
    for name in names:
        text = bytes(fields.get(name, _NULL))
        if text.startswith(b"["):
            fields[name] = msgspec.Raw(_ENCODER.encode(sorted(_ITEMS.decode(text), key=bytes)))
    return join_fields(fields)


def _is_default(name: str, value: Json, shape: Shape) -> bool:
    """Whether *value* is the one that leaving the field out stands for."""
    default = shape.defaults.get(name)
    return default is not None and _taken(value, msgspec.Raw(default), shape.forms.get(name)) is value


def _taken(stored: Json, new: Json, form: Form | None) -> Json:  # noqa: PLR0911 - reason: a way out for each kind of value
    """*stored* itself when *new* is the same value, else *new* with what it does not change inside."""
    old, wanted = bytes(stored), bytes(new)
    if old == wanted or same_value(old, wanted):
        return stored
    if form is None:
        return new
    try:
        seen = _seen(old, form), _seen(wanted, form)
    except (ValueError, ArithmeticError):  # what is stored does not fit the type
        seen = None
    if seen is not None and seen[0] == seen[1]:
        return stored
    match old[:1] + wanted[:1]:
        case b"{{" if form.shape is not None:
            joined = take_over(split_fields(old), split_fields(wanted), form.shape, inside=True)
            return msgspec.Raw(join_fields(joined))
        case b"{{" if form.is_mapping and seen is not None:
            return _taken_values(_values(old, seen[0]), _values(wanted, seen[1]), form.values)
        case b"[[" if form.is_list and seen is not None:
            return _taken_items(_items(old, seen[0]), _items(wanted, seen[1]), form.items)
        case b"[[" if form.is_set and seen is not None:
            return _taken_set(stored, new)
        case _:
            return new


def _seen(text: bytes, form: Form | None) -> bytes:
    """What the type sees of a value, in one form: equal for what decodes to the same.

    Raises:
        ValueError: The value does not fit the type.
        ArithmeticError: It has a number beyond all bounds.
    """
    if form is None:
        return canonical(_ANY, text)
    if form.decoder is not None:
        return canonical(form.decoder, text)
    if form.shape is not None and text.startswith(b"{"):
        names = sorted(form.shape.known)
        fields = split_fields(text)
        seen = {name: _seen_field(fields.get(name), name, form.shape) for name in names}
        return join_fields({name: value for name, value in seen.items() if value is not None})
    if form.is_list and text.startswith(b"["):
        return _ENCODER.encode([msgspec.Raw(_seen(bytes(item), form.items)) for item in _ITEMS.decode(text)])
    if form.is_mapping and text.startswith(b"{"):
        fields = split_fields(text)
        return join_fields({key: msgspec.Raw(_seen(bytes(fields[key]), form.values)) for key in sorted(fields)})
    return canonical(_ANY, text)


def _seen_field(text: Json | None, name: str, shape: Shape) -> bytes | None:
    """What the type sees of a field, which it sees as its default where there is none."""
    text = shape.defaults.get(name) if text is None else text
    return None if text is None else _seen(bytes(text), shape.forms.get(name))


def _values(text: bytes, seen: bytes) -> dict[str, _Part]:
    """The values of a mapping, each with what the type sees of it."""
    forms = split_fields(seen)
    return {key: (value, bytes(forms[key])) for key, value in split_fields(text).items()}


def _items(text: bytes, seen: bytes) -> list[_Part]:
    """The items of a list, each with what the type sees of it."""
    return list(zip(_ITEMS.decode(text), map(bytes, _ITEMS.decode(seen)), strict=True))


def _taken_values(stored: Mapping[str, _Part], wanted: Mapping[str, _Part], form: Form | None) -> Json:
    """Join two mappings key by key: what stays in the stored order, then what is new."""
    joined: dict[str, Json] = {}
    for key in (*(key for key in stored if key in wanted), *(key for key in wanted if key not in stored)):
        new, sees = wanted[key]
        before, saw = stored.get(key, (new, sees))
        joined[key] = before if saw == sees else _taken(before, new, form)
    return msgspec.Raw(join_fields(joined))


def _taken_set(stored: Json, wanted: Json) -> Json:
    """Join two sets: what stays in the stored order, then what is new."""
    items = _ITEMS.decode(stored)
    new = {canonical(_ANY, item): item for item in _ITEMS.decode(wanted)}
    kept = [item for item in items if new.pop(canonical(_ANY, item), None) is not None]
    return msgspec.Raw(_ENCODER.encode([*kept, *new.values()])) if new or len(kept) < len(items) else stored


def _taken_items(stored: Sequence[_Part], wanted: Sequence[_Part], form: Form | None) -> Json:
    """Join two lists: an item that was there keeps its bytes; a changed object is known again by its ``id``."""
    waiting: dict[bytes, list[msgspec.Raw]] = {}
    for before, saw in reversed(stored):
        waiting.setdefault(saw, []).append(before)
    joined = [waiting[sees].pop() if waiting.get(sees) else None for _, sees in wanted]
    by_id = {_id_of(before): before for left in waiting.values() for before in left}
    items: list[Json] = []
    for taken, (new, _) in zip(joined, wanted, strict=True):
        known = None if taken is not None or _id_of(new) is None else by_id.pop(_id_of(new), None)
        items.append(taken or (new if known is None else _taken(known, new, form)))
    return msgspec.Raw(b"[" + b",".join(map(bytes, items)) + b"]")


def _id_of(item: msgspec.Raw) -> bytes | None:
    text = bytes(item)
    found = split_fields(text).get("id") if text.startswith(b"{") else None
    return None if found is None else bytes(found)
