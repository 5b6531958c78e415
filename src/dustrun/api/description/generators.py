"""Writes schemas in the forms that generators of clients turn into code that works; they mean the same."""

from __future__ import annotations

import json
from typing import Any, Final

from dustrun.api.description.sharing import parts

Json = dict[str, Any]
_LIMITS: Final = ("maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "multipleOf")
_MOST: Final = 2**63 - 1
"""The largest limit that a field of ours has; as a float it is one more."""


def adapt(schemas: Json) -> None:
    """Moves into a field's description its default if it is a list, an object, or of one of several types: some
    generators make classes of these and assign the plain value. Turns a constant among several types into a list of
    one value: openapi-python-client would take no other type. Makes limits of integers integers: FastAPI makes floats
    of them, and of the largest one another number."""
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            if _needs_words(field):
                told = json.dumps(field.pop("default"))
                field["description"] = f"{field.get('description', '')} Default: `{told}`.".strip()
        for part in parts(schema):
            for limit in _LIMITS:
                if part.get("type") == "integer" and limit in part:
                    part[limit] = int(part[limit]) if limit == "exclusiveMaximum" else min(int(part[limit]), _MOST)
            for one in (*part.get("anyOf", ()), *part.get("oneOf", ())):
                if "const" in one:
                    one["enum"] = [one.pop("const")]


def _needs_words(field: Json) -> bool:
    default = field.get("default")
    return bool(isinstance(default, list | dict) and default) or ("anyOf" in field and default is not None)
