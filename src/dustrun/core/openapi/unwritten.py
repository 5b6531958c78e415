"""Finds what a form or a nested query cannot carry although the receiver needs it.

Nothing is written of null and of empty lists and objects. Of a field that may be left out that means the same; a
required field would be missing at the receiver, and a list would have a gap in its indices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_MOST_HOPS: Final = 16
Path = tuple[str | int, ...]


def is_unwritten(value: Any) -> bool:
    """Whether nothing is written of a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return value is None if inner is None else all(is_unwritten(one) for one in inner)


def find_unwritten(value: Any, schema: Any, definitions: Mapping[str, Any]) -> Path | None:
    """The path of the first needed value of which nothing would be written."""
    return next(_unwritten(value, [schema], definitions), None)


def _unwritten(value: Any, schemas: list[Any], definitions: Mapping[str, Any]) -> Iterator[Path]:
    if not isinstance(value, dict | list):
        return
    parts = [part for one in schemas for part in _parts(one, definitions, 0)]
    if isinstance(value, dict):
        needed = _needed(parts)
        entries = [(name, one, name in needed, _of_field(parts, name)) for name, one in value.items()]
    else:
        items = [part["items"] for part in parts if "items" in part]
        entries = [(at, one, True, items) for at, one in enumerate(value)]
    for key, inner, is_needed, inner_schemas in entries:
        if is_unwritten(inner):
            if is_needed:
                yield (key,)
        else:
            yield from ((key, *rest) for rest in _unwritten(inner, inner_schemas, definitions))


def _needed(parts: list[Mapping[str, Any]]) -> set[str]:
    """The fields that each kind of object requires; which of the alternatives is meant is not known."""
    required = [set(part.get("required", ())) for part in parts if "properties" in part or "required" in part]
    return set.intersection(*required) if required else set()


def _of_field(parts: list[Mapping[str, Any]], name: str) -> list[Any]:
    return [part["properties"][name] for part in parts if name in part.get("properties", {})]


def _parts(schema: Any, definitions: Mapping[str, Any], hops: int) -> Iterator[Mapping[str, Any]]:
    """The schema and its alternatives, without references."""
    if not isinstance(schema, dict) or hops > _MOST_HOPS:
        return
    if isinstance(reference := schema.get("$ref"), str):
        yield from _parts(definitions.get(reference.removeprefix("#/$defs/")), definitions, hops + 1)
        return
    yield schema
    for key in ("allOf", "anyOf", "oneOf"):
        for one in schema.get(key, ()):
            yield from _parts(one, definitions, hops + 1)
