"""Schemas of a document as JSON Schemas of 2020-12 that `PayloadCheck` can use: each with the definitions it refers to,
within a size, and without what never ends or is not understood.

What is left out only makes a schema accept more: the receiver checks its requests itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from dustrun.core.json_schema.schema import pattern
from dustrun.core.openapi.document import Broken, Document
from dustrun.core.openapi.naming import kebab
from dustrun.core.text.wording import without_unseen
from dustrun.core.values.exact_json import dumps
from dustrun.records import dataclass

Json = dict[str, Any]
_KINDS: Final = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_DEEPEST: Final = 24
_SHALLOWER: Final = (8, 5, 3, 2, 1)
_MOST_CHARS: Final = 240
_MOST_ITEMS: Final = 200
"""Of the names of an object or the choices of an answer: what has more is left out, or cut."""
_MOST_CHOICES: Final = 1_000
"""Of an `enum` of requests: countries and kinds of events are more than 200, and a wrong one is refused."""
_DESCRIBED: Final = 2
"""The depth to which a schema keeps its descriptions if it would be too large with all."""
_IN_PLACE: Final = ("allOf", "anyOf", "oneOf", "not")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and len(value) <= 500 and pattern(value) is not None
    except ValueError:
        return False


_PLAIN: Final[Mapping[str, Callable[[Any], bool]]] = {
    "format": lambda value: isinstance(value, str) and len(value) <= 60,
    "default": lambda value: len(dumps(value)) <= _MOST_CHARS,
    "const": lambda value: len(dumps(value)) <= _MOST_CHARS,
    "deprecated": lambda value: value is True,
    "minimum": _is_number,
    "maximum": _is_number,
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "minLength": _is_count,
    "maxLength": _is_count,
    "minItems": _is_count,
    "maxItems": _is_count,
    "minProperties": _is_count,
    "maxProperties": _is_count,
    "uniqueItems": lambda value: isinstance(value, bool),
    "pattern": _is_pattern,
}


@dataclass(frozen=True, slots=True)
class _Converted:
    """A definition: its schema, its length, what it refers to, and what of that applies to the same value."""

    schema: Any
    size: int
    refers: tuple[str, ...]
    in_place: tuple[str, ...]


class Schemas:
    """Converts the schemas of one document; `of_answers`: of results, else of requests."""

    def __init__(self, document: Document, *, of_answers: bool) -> None:
        self._document = document
        self._dropped = "writeOnly" if of_answers else "readOnly"
        self._known: dict[str, _Converted] = {}
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()

    def bundle(self, schema: Any, most: int) -> Json:
        """A schema with its definitions beside it, of about `most` bytes: of the definitions those nearest to it,
        others accept anything."""
        root = self._fitting(schema, most)
        left, kept = most - root.size, {}
        waiting, seen = deque(root.refers), set(root.refers)
        while waiting:
            reference = waiting.popleft()
            found = self._definition(reference, most)
            if found.size > left:
                kept[self._name(reference)] = True
                continue
            left -= found.size
            kept[self._name(reference)] = found.schema
            waiting.extend(one for one in dict.fromkeys(found.refers) if one not in seen)
            seen.update(found.refers)
        body = root.schema if isinstance(root.schema, dict) else {}
        return {**body, "$defs": kept} if kept else body

    def _definition(self, reference: str, most: int) -> _Converted:
        found = self._known.get(reference)
        if found is None:
            try:
                found = self._fitting(self._document.at(reference), most)
            except Broken:
                found = _Converted(True, 4, (), ())
            self._known[reference] = found
            if self._is_circular(reference, most):
                found = self._known[reference] = _Converted(True, 4, (), ())
        return found

    def _is_circular(self, reference: str, most: int) -> bool:
        """Whether it applies to the value to which it applies: validation would never end."""
        waiting, seen = list(self._known[reference].in_place), set()
        while waiting:
            one = waiting.pop()
            if one == reference:
                return True
            if one not in seen:
                seen.add(one)
                waiting += self._in_place_of(one, most)
        return False

    def _in_place_of(self, reference: str, most: int) -> tuple[str, ...]:
        if reference not in self._known:
            try:
                self._known[reference] = self._fitting(self._document.at(reference), most)
            except Broken:
                self._known[reference] = _Converted(True, 4, (), ())
        return self._known[reference].in_place

    def _fitting(self, schema: Any, most: int) -> _Converted:
        """The schema: if it would be larger than that, first without the descriptions far inside, which say nothing of
        what is accepted, then less deep."""
        for deepest, described in ((_DEEPEST, _DEEPEST), *((one, _DESCRIBED) for one in (_DEEPEST, *_SHALLOWER))):
            one = _Conversion(self._document, self._dropped, (deepest, described), self._name)
            converted = one.convert(schema, 0, in_place=True)
            size = len(dumps(converted))
            if size <= most:
                return _Converted(converted, size, tuple(one.refers), tuple(one.in_place))
        return _Converted(True, 4, (), ())

    def _name(self, reference: str) -> str:
        """The name of a definition in bundles, the same in each."""
        name = self._names.get(reference)
        if name is None:
            plain = kebab(reference.rpartition("/")[2])[:60] or "part"
            name, number = plain, 1
            while name in self._taken:
                number += 1
                name = f"{plain}-{number}"
            self._taken.add(name)
            self._names[reference] = name
        return name


class _Conversion:
    """One schema, to a depth, beyond which everything is accepted, and with descriptions to another. `dropped`: the
    key of fields that are not in this direction."""

    def __init__(self, document: Document, dropped: str, depths: tuple[int, int], name: Callable[[str], str]) -> None:
        self._old = not document.has_null_types
        self._dropped = dropped
        self._deepest, self._described = depths
        self._choices = _MOST_CHOICES if dropped == "readOnly" else _MOST_ITEMS
        self._name = name
        self.refers: dict[str, None] = {}
        self.in_place: dict[str, None] = {}

    def convert(self, schema: Any, depth: int, *, in_place: bool = False) -> Any:
        """The schema in 2020-12, or `True` for what is none."""
        if schema is False and not self._old:
            return False
        if not isinstance(schema, dict) or depth > self._deepest:
            return True
        reference = schema.get("$ref")
        if isinstance(reference, str):
            self.refers[reference] = None
            if in_place:
                self.in_place[reference] = None
            return {"$ref": f"#/$defs/{self._name(reference)}"}
        found = self._plain(schema, depth)
        found |= self._inside(schema, depth)
        for key in _IN_PLACE:
            value = schema.get(key)
            if key == "not":
                if isinstance(value, dict):
                    found[key] = self.convert(value, depth + 1, in_place=in_place)
            elif isinstance(value, list) and 0 < len(value) <= _MOST_ITEMS:  # with fewer it would accept less
                found[key] = [self.convert(one, depth + 1, in_place=in_place) for one in value]
        return self._with_null(schema, found) if self._old else found

    def _plain(self, schema: Json, depth: int) -> Json:
        found: Json = {}
        kind = _type_of(schema.get("type"))
        if kind is not None:
            found["type"] = kind
        if depth <= self._described and isinstance(about := schema.get("description"), str) and about:
            found["description"] = _cut(about)
        found |= {key: schema[key] for key, is_good in _PLAIN.items() if key in schema and is_good(schema[key])}
        values = schema.get("enum")
        if isinstance(values, list) and 0 < len(values) <= self._choices:
            found["enum"] = values
        for bound in ("minimum", "maximum"):
            key = f"exclusive{bound.capitalize()}"
            given = schema.get(key)
            if given is True and bound in found:
                found[key] = found.pop(bound)
            elif _is_number(given):
                found[key] = given
        return found

    def _inside(self, schema: Json, depth: int) -> Json:
        found: Json = {}
        named = schema.get("properties")
        named = dict(list(named.items())[:_MOST_ITEMS]) if isinstance(named, dict) else {}
        if named:
            found["properties"] = {str(name): self.convert(one, depth + 1) for name, one in named.items()}
        required = schema.get("required")
        if isinstance(required, list):
            needed = [one for one in required if isinstance(one, str) and not self._is_dropped(named.get(one))]
            if needed:
                found["required"] = list(dict.fromkeys(needed))[:_MOST_ITEMS]
        if isinstance(items := schema.get("items"), dict):
            found["items"] = self.convert(items, depth + 1)
        more = schema.get("additionalProperties")
        if isinstance(more, dict) and more:
            found["additionalProperties"] = self.convert(more, depth + 1)
        elif more is False and len(named) < _MOST_ITEMS:
            found["additionalProperties"] = False
        return found

    def _is_dropped(self, schema: Any) -> bool:
        return isinstance(schema, dict) and schema.get(self._dropped) is True

    @staticmethod
    def _with_null(schema: Json, found: Json) -> Json:
        """`nullable` of 3.0, and its usual extension in 2.0."""
        if schema.get("nullable") is not True and schema.get("x-nullable") is not True:
            return found
        if "enum" in found and None not in found["enum"]:
            found["enum"] = [*found["enum"], None]
        if isinstance(found.get("type"), str):
            found["type"] = [found["type"], "null"]
        elif any(key in found for key in _IN_PLACE):
            return {"anyOf": [found, {"type": "null"}]}
        return found


def _type_of(value: Any) -> str | list[str] | None:
    if isinstance(value, str):
        return value if value in _KINDS else None
    if isinstance(value, list) and value and all(one in _KINDS for one in value if isinstance(one, str)):
        kinds = list(dict.fromkeys(one for one in value if isinstance(one, str)))
        return kinds or None
    return None


def _cut(text: str) -> str:
    plain = " ".join(without_unseen(text).split())
    return plain if len(plain) <= _MOST_CHARS else f"{plain[: _MOST_CHARS - 1].rstrip()}…"


# --- examples ---


def example_of(schema: Any, definitions: Mapping[str, Any], depth: int = 0) -> Any:
    """A value that looks as the schema says: its default or first choice, and of objects what is required."""
    if not isinstance(schema, dict) or depth > 6:
        return None
    if isinstance(reference := schema.get("$ref"), str):
        return example_of(definitions.get(reference.removeprefix("#/$defs/")), definitions, depth + 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("allOf", "oneOf", "anyOf"):
        if schema.get(key):
            return _example_of_parts(schema, key, definitions, depth)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        return _example_object(schema, definitions, depth)
    if kind == "array":
        return [example_of(schema.get("items"), definitions, depth + 1)] if schema.get("minItems") else []
    return {
        "string": "text",
        "integer": schema.get("minimum", 1),
        "number": schema.get("minimum", 1),
        "boolean": True,
    }.get(str(kind))


def _example_of_parts(schema: Json, key: str, definitions: Mapping[str, Any], depth: int) -> Any:
    parts = schema[key] if key == "allOf" else schema[key][:1]
    found = [example_of(one, definitions, depth + 1) for one in parts]
    if key == "allOf" and all(isinstance(one, dict) for one in found):
        merged = _example_object(schema, definitions, depth)
        for one in found:
            merged |= one
        return merged
    return found[0]


def _example_object(schema: Json, definitions: Mapping[str, Any], depth: int) -> Json:
    named = schema.get("properties", {})
    return {
        name: example_of(named[name], definitions, depth + 1) for name in schema.get("required", ()) if name in named
    }


def fields_of(schema: Any) -> Iterator[str]:
    """The names of an object's fields, as far as the schema itself says."""
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
