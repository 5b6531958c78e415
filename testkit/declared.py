"""Requests of operations, made from their declarations alone: of nouns whose things are made by a documented body.

Tests that ask every operation take these where nothing of their own is said: a noun that is made with `POST`, listed,
shown, changed and deleted under `{id}` needs no row in any of them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any

from dustrun.api.server import discover
from dustrun.operations.declaration.operation import Operation

_ID = "/{id}"
CONSENTED: dict[str, Any] = {
    "type": "oauth2-authorization-code",
    "name": "Books",
    "data": {
        "authorizeUrl": "https://auth.example.com/authorize",
        "tokenUrl": "https://auth.example.com/token",
        "clientId": "dustrun",
    },
    "allowedHosts": ["api.example.com"],
}
"""A connector that a person consents to."""
_MOST_TEXT = 20_000
_numbers = itertools.count(1)


@functools.cache
def operations() -> Mapping[str, Operation]:
    """All declared operations, by name."""
    return {route.operation.name: route.operation for route in discover()[0]}


@functools.cache
def operation_at(method: str, path: str) -> Operation | None:
    """The declared operation of a route."""
    return next((one for one in operations().values() if (one.method, one.path) == (method, path)), None)


def maker_of(path: str) -> Operation | None:
    """The operation that makes what the `{id}` of a path names; None: its things are not made so, or the path has
    other parameters."""
    before, found, after = path.partition(_ID)
    if not found or "{" in before + after:
        return None
    made = operation_at("POST", before)
    return made if made is not None and made.example is not None else None


def is_enough(operation: Operation) -> bool:
    """Whether the declaration says all that a request needs."""
    if operation.must_have_body and operation.example is None:
        return False
    return "{" not in operation.path or maker_of(operation.path) is not None


def body_of(operation: Operation) -> Any:
    """The documented body, under a name of its own: many nouns have each name once."""
    body = operation.example
    return {**body, "name": f"{body['name']}-{next(_numbers)}"} if isinstance(body, dict) and "name" in body else body


def largest_body_of(operation: Operation) -> Any:
    """The documented body with its texts as long as they may be, and its lists as full."""
    body = body_of(operation)
    if not isinstance(body, dict) or operation.body_model is None:
        return body
    fields = operation.body_model.model_json_schema(by_alias=True).get("properties", {})
    return {name: _enlarged(value, fields.get(name, {})) for name, value in body.items()}


def _enlarged(value: Any, schema: Mapping[str, Any]) -> Any:
    schemas = [one for one in (schema, *schema.get("anyOf", ())) if not {"pattern", "enum", "format"} & one.keys()]
    if isinstance(value, str) and (most := max((one.get("maxLength", 0) for one in schemas), default=0)):
        return value + "x" * (min(most, _MOST_TEXT) - len(value))
    if isinstance(value, list) and value and (most := max((one.get("maxItems", 0) for one in schemas), default=0)):
        return [*value, *[value[-1]] * (most - len(value))]
    return value
