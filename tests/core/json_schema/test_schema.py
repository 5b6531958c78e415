"""Schemas that are refused when a workflow is checked, so that no run meets them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dustrun.core.json_schema.schema import check_schema


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "nope"}, "is not a valid JSON Schema:"),
        (
            {"properties": {"x": {"minimum": "1"}}},
            "is not a valid JSON Schema: '1' is not of type 'number' at properties/x/minimum",
        ),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "only draft 2020-12 is supported:"),
        ({"$schema": "http://127.0.0.1:9/meta"}, "only draft 2020-12 is supported:"),
        ({"items": {"$ref": "http://127.0.0.1:9/x"}}, "may only refer to itself"),
        ({"$ref": "other.json"}, "may only refer to itself"),
        ({"$ref": "#/$defs/no"}, 'refers to "#/$defs/no", which does not exist in it'),
        ({"$ref": "#nowhere"}, "which does not exist in it"),
        ({"$ref": "#/default", "default": {"pattern": "(?=a)"}}, "which does not exist in it"),
        ({"$id": "http://127.0.0.1:9/s", "$ref": "#/$defs/no"}, "which does not exist in it"),
        ({"$dynamicRef": "#x"}, 'may not use "$dynamicRef"'),
        ({"items": {"$id": "http://127.0.0.1:9/s"}}, 'may use "$id" only at'),
        ({"dependencies": {"a": ["b"]}}, "dependentRequired"),
        ({"pattern": "(?=a)"}, "RE2 does not support:"),
        ({"patternProperties": {"(a)\\1": {}}}, "RE2 does not support:"),
        ({"$defs": {"a": {"patternProperties": {"a": {}}}}, "unevaluatedProperties": False}, "together with"),
        ({"$ref": "#"}, "circular reference"),
        ({"allOf": [{"$ref": "#"}]}, "circular reference"),
        ({"items": {"$ref": "#/items"}}, "circular reference"),
        ({"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"if": {"$ref": "#/$defs/a"}}}}, "circular reference"),
        (_deep(101), "nested deeper than 100 levels"),
        ({"description": "x" * 70_000}, "at most 65536 are accepted"),
        ({"$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(1500)} | {"a1500": {}}}, "too long"),
    ],
)
def test_it_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"$ref": {"type": "string"}, "pattern": {}, "$id": {}, "$dynamicRef": {}}},
        {"enum": [{"$ref": "http://x", "pattern": "(?=a)"}], "examples": [{"$id": "x"}]},
        {"properties": {"children": {"items": {"$ref": "#"}}}},
        {"$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/a"}}}}, "$ref": "#/$defs/a"},
        {"$defs": {"a/b": True}, "$ref": "#/$defs/a~1b"},
        {"$schema": "https://json-schema.org/draft/2020-12/schema#"},
        {"definitions": {"a": {"type": "string"}}, "items": {"$ref": "#/definitions/a"}},
    ],
)
def test_it_is_accepted(schema: dict[str, Any]) -> None:
    check_schema(schema)
