"""What a write must know about a struct type, read from its annotations once.

A typed write takes over the stored bytes of every value that decodes to the same. Whether it does is decided on
the thread of the index, where no code of the user may run; so a shape says for which fields decoding runs none.
"""

from __future__ import annotations

from decimal import Decimal
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_origin, get_type_hints

import msgspec
from msgspec import inspect as kinds
from msgspec.json import Decoder, Encoder

from taskstore_async.errors import InvalidRecordTypeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Form",
    "Shape",
    "canonical",
    "exact_decoder",
    "forbids_fields",
    "has_own_equality",
    "members",
    "parts",
    "runs_user_code",
    "shape_of",
]

_SORTED: Final = Encoder(decimal_format="number", order="deterministic")
_PLAIN: Final = Encoder(decimal_format="number")
_BUILT_IN_FACTORIES: Final = frozenset({list, dict, set, frozenset, bytearray, tuple})
_ONE_FORM: Final = (
    kinds.NoneType,
    kinds.BoolType,
    kinds.IntType,
    kinds.StrType,
    kinds.EnumType,
    kinds.LiteralType,
    kinds.ListType,
    kinds.VarTupleType,
    kinds.TupleType,
    kinds.DictType,
    kinds.UnionType,
    kinds.Metadata,
)
_Object: TypeAlias = kinds.StructType | kinds.DataclassType | kinds.TypedDictType
_USER_METHODS: Final = ("__post_init__", "__eq__", "__hash__", "__lt__", "__setattr__", "__getattribute__")


class Form(msgspec.Struct, frozen=True):
    """How the values of one field are compared, where JSON alone does not tell.

    Attributes:
        decoder: Brings every way of writing a value to one; None when there is one only, or decoding runs user code.
        shape: The shape of the struct that the field holds.
        items: The form of a list's items; None when JSON tells.
        values: The form of a mapping's values; None when JSON tells.
        is_list: It holds a list, whose items are compared one by one.
        is_set: It holds a set, whose order says nothing.
        is_mapping: It holds a mapping with text as keys, whose values are compared one by one.
    """

    decoder: Decoder[Any] | None = None
    shape: Shape | None = None
    items: Form | None = None
    values: Form | None = None
    is_list: bool = False
    is_set: bool = False
    is_mapping: bool = False


class Shape(msgspec.Struct, frozen=True):
    """What is known about the fields of a struct (a dataclass, a typed dictionary), by their names in JSON.

    Attributes:
        known: The names that the type writes; every other one is an unknown field.
        forms: The fields whose values JSON alone does not compare.
        defaults: What an omitted field stands for, as canonical JSON.
    """

    known: frozenset[str]
    forms: dict[str, Form]
    defaults: dict[str, bytes]


def exact_decoder(kind: Any) -> Decoder[Any]:  # noqa: ANN401 - reason: any annotation is a type to msgspec
    """A decoder of *kind* that keeps numbers in untyped places exactly."""
    return Decoder(kind, float_hook=_exact_float)


def canonical(decoder: Decoder[Any], raw: bytes | msgspec.Raw) -> bytes:
    """The one form of what *raw* decodes to: equal for equal values, however they were written.

    Raises:
        msgspec.DecodeError: *raw* does not decode.
    """
    value = decoder.decode(raw)
    try:
        return _SORTED.encode(value)
    except TypeError:  # a set whose items have no order among themselves, a mapping whose keys are no text
        return _PLAIN.encode(value)


def shape_of(struct: type[msgspec.Struct]) -> Shape:
    """The shape of *struct*, whose every field must have a type that JSON can hold and bring back.

    Raises:
        InvalidRecordTypeError: It has not: the type cannot be resolved, or contains ``msgspec.Raw`` or a class that
            msgspec does not know.
    """
    try:
        root = kinds.type_info(struct)
        assert isinstance(root, kinds.StructType)  # noqa: S101 - reason: what type_info returns for a struct
        shape = _shape(root, {})
    except (NameError, TypeError) as error:
        raise InvalidRecordTypeError(struct.__name__, str(error)) from error
    for part in parts(root):
        if isinstance(part, kinds.RawType | kinds.ExtType | kinds.CustomType):
            cls = part.cls if isinstance(part, kinds.CustomType) else type(part)
            if cls is not object:  # which msgspec treats as Any
                lost = cls.__name__.removesuffix("Type")
                raise InvalidRecordTypeError(
                    struct.__name__, f"JSON does not bring back {lost}; use a type that it has"
                )
    return shape


def members(kind: kinds.Type) -> tuple[kinds.Type, ...]:
    """The alternatives of a union, or the one type, without what annotations add."""
    if isinstance(kind, kinds.Metadata):
        return members(kind.type)
    if isinstance(kind, kinds.UnionType):
        return tuple(member for alternative in kind.types for member in members(alternative))
    return (kind,)


def parts(kind: kinds.Type) -> Iterator[kinds.Type]:
    """Every type inside *kind*, itself first, each once; a type may contain itself."""
    seen: set[int] = set()
    waiting = [kind]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        match part:
            case kinds.Metadata():
                waiting.append(part.type)
            case kinds.UnionType():
                waiting.extend(part.types)
            case kinds.CollectionType():
                waiting.append(part.item_type)
            case kinds.TupleType():
                waiting.extend(part.item_types)
            case kinds.DictType():
                waiting.extend((part.key_type, part.value_type))
            case kinds.StructType() | kinds.DataclassType() | kinds.TypedDictType() | kinds.NamedTupleType():
                waiting.extend(field.type for field in part.fields)
            case _:
                pass


def runs_user_code(kind: kinds.Type) -> bool:
    """Whether decoding a value of *kind* may run code that is neither Python's nor msgspec's."""
    return any(_is_user_code(part) for part in parts(kind))


def forbids_fields(kind: kinds.Type) -> bool:
    """Whether a struct in *kind* refuses fields that it does not know, and so what others may have stored."""
    return any(isinstance(part, kinds.StructType) and part.forbid_unknown_fields for part in parts(kind))


def has_own_equality(kind: kinds.Type) -> bool:
    """Whether ``==`` between values of *kind* may be a function that somebody wrote, and so say anything."""
    return any(_writes(part, ("__eq__",)) for part in parts(kind))


def _is_user_code(part: kinds.Type) -> bool:
    match part:
        case kinds.EnumType():
            return _writes(part, _USER_METHODS) or "_missing_" in vars(part.cls)
        case kinds.StructType():
            factories = {field.default_factory for field in part.fields} - {msgspec.NODEFAULT}
            return _writes(part, _USER_METHODS) or not factories <= _BUILT_IN_FACTORIES
        case kinds.DataclassType() | kinds.NamedTupleType():
            return True
        case _:
            return False


def _writes(part: kinds.Type, methods: tuple[str, ...]) -> bool:
    """Whether the class behind *part* has one of *methods* written in Python."""
    cls = getattr(part, "cls", object)
    bases = [base for base in (get_origin(cls) or cls).__mro__ if base.__module__ not in {"enum", "builtins"}]
    return any(isinstance(vars(base).get(method), FunctionType) for base in bases for method in methods)


def _shape(kind: _Object, made: dict[type, Shape]) -> Shape:
    if kind.cls in made:
        return made[kind.cls]
    known = {field.encode_name for field in kind.fields}
    if isinstance(kind, kinds.StructType) and kind.tag_field is not None:
        known.add(kind.tag_field)
    shape = Shape(known=frozenset(known), forms={}, defaults=dict(_defaults(kind)))
    made[kind.cls] = shape  # before its fields: a type may contain itself
    if isinstance(kind, kinds.StructType):
        annotations = {field.name: field.type for field in msgspec.structs.fields(kind.cls)}
    else:
        annotations = get_type_hints(kind.cls, include_extras=True)
    for field in kind.fields:
        if (form := _form(field.type, made, annotations[field.name])) is not None:
            shape.forms[field.encode_name] = form
    return shape


def _form(kind: kinds.Type, made: dict[type, Shape], annotation: Any = None) -> Form | None:  # noqa: ANN401 - as above
    """Make the form of *kind*, with a decoder when its *annotation* is known; None when JSON tells."""
    one_form = all(isinstance(part, _ONE_FORM) for part in parts(kind))
    decoder = None if annotation is None or one_form or runs_user_code(kind) else exact_decoder(annotation)
    match [member for member in members(kind) if not isinstance(member, kinds.NoneType)]:
        case [kinds.StructType(array_like=False) | kinds.DataclassType() | kinds.TypedDictType() as inside]:
            return Form(decoder, shape=_shape(inside, made))
        case [kinds.ListType() | kinds.VarTupleType() as many]:
            form = Form(decoder, items=_form(many.item_type, made), is_list=True)
        case [kinds.SetType() | kinds.FrozenSetType()]:
            return Form(decoder, is_set=True)
        case [kinds.DictType(key_type=kinds.StrType()) as mapping]:
            form = Form(decoder, values=_form(mapping.value_type, made), is_mapping=True)
        case _:
            form = Form(decoder)
    told = form.decoder is None and form.items is None and form.values is None
    return None if told else form


def _defaults(kind: _Object) -> Iterator[tuple[str, bytes]]:
    for field in kind.fields:
        if field.default_factory in _BUILT_IN_FACTORIES:
            yield field.encode_name, _PLAIN.encode(field.default_factory())
        elif field.default is not msgspec.NODEFAULT and field.default is not msgspec.UNSET:
            yield field.encode_name, _PLAIN.encode(field.default)


def _exact_float(text: str) -> float | Decimal:
    """Read a number in an untyped place: a float when it says the same number, else a decimal."""
    number = float(text)
    exact = Decimal(text)
    return number if repr(number) == text or Decimal(repr(number)) == exact else exact
