"""A look at JSON through its schema: as much of JSON Schema as ours use, and nothing beyond what a schema names."""

from __future__ import annotations

from typing import Any

__all__ = ["mismatches"]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_KNOWN = {
    *("$defs", "$ref", "$schema", "additionalProperties", "anyOf", "default", "description", "enum", "items"),
    *("properties", "required", "title", "type"),
}


def mismatches(value: object, schema: dict[str, Any], root: dict[str, Any] | None = None, path: str = "$") -> list[str]:
    """What of *value* is not as *schema* says, with the path to it; nothing, when all of it is."""
    root = schema if root is None else root
    assert schema.keys() <= _KNOWN, schema.keys() - _KNOWN
    if "$ref" in schema:
        return mismatches(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, path)
    if "anyOf" in schema:
        each = [mismatches(value, one, root, path) for one in schema["anyOf"]]
        return [] if not all(each) else min(each, key=len)
    found: list[str] = []
    wanted = schema.get("type")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r} is none of {schema['enum']}")
    elif wanted is not None and not _is(value, wanted):
        found.append(f"{path}: {value!r} is no {wanted}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            found += mismatches(item, schema.get("items") or {}, root, f"{path}[{place}]")
    elif isinstance(value, dict) and wanted == "object":
        found += _of_object(value, schema, root, path)
    return found


def _is(value: object, wanted: str) -> bool:
    return isinstance(value, _TYPES[wanted]) and not (isinstance(value, bool) and wanted in {"integer", "number"})


def _of_object(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], path: str) -> list[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", False)
    found = [f"{path}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, one in value.items():
        if name in known:
            found += mismatches(one, known[name], root, f"{path}.{name}")
        elif others is False:
            found.append(f"{path}.{name} is not in the schema")
        elif isinstance(others, dict):
            found += mismatches(one, others, root, f"{path}.{name}")
    return found
