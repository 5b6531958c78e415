"""Accepts JSON Schemas of draft 2020-12 that have no external references and whose validation work can be bounded."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dustrun.core.values.exact_json import JsonError, dumps, refuse_deep

_MOST_BYTES: Final = 65_536
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MOST_MEMORY: Final = 2_097_152

_OF_NAMES: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_OF_LIST: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_OF_ONE: Final = (
    "items",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_MOVING: Final = ("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor")
# Keywords of older drafts, which 2020-12 would silently ignore.
_FORMER: Final = {"dependencies": "dependentRequired or dependentSchemas", "additionalItems": "prefixItems with items"}


@functools.lru_cache(maxsize=256)
def pattern(expression: str) -> Any:
    """Compiles a pattern with RE2 (linear time); raises `ValueError` for syntax that RE2 does not support."""
    import re2  # slow import

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MOST_MEMORY
    try:
        return re2.compile(expression, options)
    except re2.error:
        raise ValueError(f'has a pattern that RE2 does not support: "{expression[:200]}"') from None


def local(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without its `$id`, so that "#" always means the schema itself."""
    return {key: value for key, value in schema.items() if key not in ("$id", "$schema")}


def check_schema(schema: dict[str, Any]) -> None:
    """Raises `ValueError` for an invalid schema, an external reference, or unbounded validation work."""
    _check_size(schema)
    dialect = schema.get("$schema", _DIALECT)
    if not isinstance(dialect, str) or dialect.rstrip("#") != _DIALECT:
        raise ValueError(
            f'is written for "{dialect}"; only draft 2020-12 is supported: adapt what differs and remove $schema'
        )
    _check_form(schema)
    found = list(parts(schema))
    has_patterns = any("patternProperties" in part for part in found)
    for part in found:
        _check_part(part, is_root=part is schema, has_patterns=has_patterns)
    try:
        _Links(schema, found).check()
    except RecursionError:
        raise ValueError("has a chain of references that is too long") from None


def _check_size(schema: dict[str, Any]) -> None:
    try:
        refuse_deep(schema)
    except JsonError as error:
        raise ValueError(f"is {error}") from None
    size = len(dumps(schema))
    if size > _MOST_BYTES:
        raise ValueError(f"has {size} bytes; at most {_MOST_BYTES} are accepted")


def _check_form(schema: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator  # slow import
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(str(step) for step in error.path)
        raise ValueError(
            f"is not a valid JSON Schema: {error.message[:300]}{(f' at {where}' if where else '')}"
        ) from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all its subschemas; `default`, `const` and `enum` are data, not subschemas."""
    if not isinstance(schema, dict):
        return
    yield schema
    for key in _OF_NAMES:
        for part in _mapping(schema.get(key)).values():
            yield from parts(part)
    for part in _branches(schema):
        yield from parts(part)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _branches(schema: dict[str, Any]) -> Iterator[Any]:
    for key in _OF_ONE:
        yield schema.get(key)
    for key in _OF_LIST:
        yield from schema.get(key) or ()


def _check_part(part: dict[str, Any], *, is_root: bool, has_patterns: bool) -> None:
    found = next((key for key in _MOVING if key in part), None)
    if found is not None:
        raise ValueError(f'may not use "{found}"; use "$ref" with "$defs"')
    if "$id" in part and not is_root:
        raise ValueError('may use "$id" only at its root')
    former = next((key for key in _FORMER if key in part), None)
    if former is not None:
        raise ValueError(f'uses "{former}", which draft 2020-12 does not define; use {_FORMER[former]}')
    if has_patterns and ("unevaluatedProperties" in part or "unevaluatedItems" in part):
        raise ValueError('may not use "unevaluatedProperties" or "unevaluatedItems" together with "patternProperties"')
    expressions = [part["pattern"]] if "pattern" in part else []
    for expression in [*expressions, *part.get("patternProperties", ())]:
        pattern(expression)


class _Links:
    """The references of a schema, each to a part of the same schema."""

    def __init__(self, schema: dict[str, Any], parts: list[dict[str, Any]]) -> None:
        from referencing import Registry  # slow import
        from referencing.jsonschema import DRAFT202012

        registry: Any = Registry().with_resource("", DRAFT202012.create_resource(local(schema)))
        self._resolver = registry.resolver()
        self._root = schema
        self._parts = parts
        self._known = {id(part) for part in parts}
        self._done: set[int] = set()

    def check(self) -> None:
        """Raises `ValueError` for an external, dangling or circular reference."""
        for part in self._parts:
            self._walk(part, {})

    def _walk(self, part: Any, above: dict[int, None]) -> None:
        """Follows references that apply to the same value: a cycle of those would never consume the payload, so never
        end.
        """
        if not isinstance(part, dict) or id(part) in self._done:
            return
        if id(part) in above:
            raise ValueError("has a circular reference, whose validation would never end")
        above[id(part)] = None
        for inner in _in_place(part):
            self._walk(inner, above)
        if "$ref" in part:
            self._walk(self._target(part["$ref"]), above)
        del above[id(part)]
        self._done.add(id(part))

    def _target(self, reference: str) -> Any:
        from referencing.exceptions import Unresolvable  # slow import

        if not reference.startswith("#"):
            raise ValueError(f'may only refer to itself ("#/…"), not to "{reference}"')
        if reference in ("#", ""):
            return self._root
        try:
            target = self._resolver.lookup(reference).contents
        except Unresolvable:
            target = None
        if not isinstance(target, bool) and id(target) not in self._known:
            raise ValueError(f'refers to "{reference}", which does not exist in it')
        return target


def _in_place(part: dict[str, Any]) -> Iterator[Any]:
    for key in ("not", "if", "then", "else"):
        yield part.get(key)
    for key in ("allOf", "anyOf", "oneOf"):
        yield from part.get(key) or ()
    yield from _mapping(part.get("dependentSchemas")).values()
