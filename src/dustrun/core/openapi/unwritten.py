"""Finds what a form or a nested query cannot carry although the receiver needs it.

Nothing is written of null and of empty lists and objects. Of a field that may be left out that means the same; a
required field would be missing at the receiver, and a list would have a gap in its indices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str | int, ...]
Schemas = tuple[Any, ...]


def is_unwritten(value: Any) -> bool:
    """Whether nothing is written of a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return value is None if inner is None else all(is_unwritten(one) for one in inner)


def find_unwritten(value: Any, schema: Any, definitions: Mapping[str, Any]) -> Path | None:
    """The path of the first needed value of which nothing would be written."""
    return next(_Search(definitions).find(value, (schema,)), None)


class _Shape:
    """What several schemas of one value say of it: the fields that it needs, and the schemas of fields and items."""

    def __init__(self, schemas: Schemas, definitions: Mapping[str, Any]) -> None:
        seen: set[str] = set()
        parts = [part for one in schemas for part in _parts(one, definitions, seen)]
        required = [set(part.get("required", ())) for part in parts if "properties" in part or "required" in part]
        self.needed = set.intersection(*required) if required else set()  # which alternative is meant is not known
        self.items = tuple(part["items"] for part in parts if "items" in part)
        self.fields: dict[str, Schemas] = {}
        for part in parts:
            for name, one in part.get("properties", {}).items():
                self.fields[name] = (*self.fields.get(name, ()), one)


class _Search:
    """Each shape is made once, however many values have it."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._shapes: dict[tuple[int, ...], _Shape] = {}

    def find(self, value: Any, schemas: Schemas) -> Iterator[Path]:
        """The paths in a value."""
        if not isinstance(value, dict | list):
            return
        shape = self._shape(schemas)
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in entries:
            is_item = isinstance(key, int)
            if not is_unwritten(inner):
                within = shape.items if is_item else shape.fields.get(str(key), ())
                yield from ((key, *rest) for rest in self.find(inner, within))
            elif is_item or key in shape.needed:
                yield (key,)

    def _shape(self, schemas: Schemas) -> _Shape:
        key = tuple(map(id, schemas))
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = _Shape(schemas, self._definitions)
        return found


def _parts(schema: Any, definitions: Mapping[str, Any], seen: set[str]) -> Iterator[Mapping[str, Any]]:
    """The schema and its alternatives, without references; what is referred to again comes once."""
    if not isinstance(schema, dict):
        return
    if isinstance(reference := schema.get("$ref"), str):
        if reference not in seen:
            seen.add(reference)
            yield from _parts(definitions.get(reference.removeprefix("#/$defs/")), definitions, seen)
        return
    yield schema
    for key in ("allOf", "anyOf", "oneOf"):
        for one in schema.get(key, ()):
            yield from _parts(one, definitions, seen)
