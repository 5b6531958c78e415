"""The generated JSON documents: the definition's schema, the OpenAPI document, the functions of expressions."""

from __future__ import annotations

import json
from typing import Any, cast

from dustrun import catalog
from dustrun.api import openapi as api
from dustrun.api.description import editor_schema
from dustrun.api.server import create_app
from dustrun.core.expression.functions import FUNCTIONS
from dustrun.core.text import secret_rules
from dustrun.core.values import exact_json
from dustrun.operations.declaration.parts import Parts
from dustrun.operations.shapes.workflows import WorkflowContent


def definition() -> str:
    """The JSON Schema of workflow files, with the node types that Dustrun brings."""
    schema = editor_schema.build(catalog.load(), WorkflowContent)
    return _pretty({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def openapi() -> str:
    """The OpenAPI 3.1 document; no server is needed to make it."""
    front: Any = create_app(cast(Parts, None))
    return _lines(_plain(api.document.build(front.app)), depth=3) + "\n"


def functions() -> str:
    """The functions of expressions, a line each."""
    lines = [
        {
            "name": one.name,
            "args": one.signature.removeprefix(f"{one.name}(").rpartition(") -> ")[0],
            "gives": one.signature.rpartition(" -> ")[2],
            "about": one.line,
            "example": one.expected.example,
            "result": one.expected.result,
        }
        for one in FUNCTIONS.values()
    ]
    return "[\n" + ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n]\n"


def secrets() -> str:
    """The rules by which a name or a text could be a secret."""
    return _pretty({"name": secret_rules.NAME, "shape": secret_rules.SHAPE})


def _pretty(document: Any) -> str:
    """Indented, with keys in the order of the code."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=False) + "\n"


def _plain(document: Any) -> Any:
    return json.loads(exact_json.dumps(document))


def _lines(value: Any, depth: int) -> str:
    """A line for each key down to `depth`, so that a change of one operation is a change of one line."""
    if not isinstance(value, dict) or depth == 0 or not value:
        return json.dumps(value, ensure_ascii=False)
    items = ",\n".join(f"{json.dumps(name)}: {_lines(item, depth - 1)}" for name, item in value.items())
    return "{\n" + items + "\n}"
