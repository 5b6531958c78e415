"""Workflow files that the schema for editors accepts, and those that it refuses, each with the place of its fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dustrun.catalog import Catalog
from testkit.e2e.guide import ROOT

Json = dict[str, Any]
CONNECTOR_ID = "conn_01k9w3x7q2c4v6b8n0m1a2s3d4"
WALLET = {"type": "wallet", "id": "wal_01k9w3x7q2c4v6b8n0m1a2s3d4"}


def definition(type_: str, payload: Any = None, **node: Any) -> Json:
    """A definition with one node after its trigger."""
    body = {} if payload is None else {"payload": payload}
    return {"nodes": {"root": {"type": "manual", "children": ["a"]}, "a": {"type": type_, **body, **node}}}


URL = {"url": "https://example.com"}
EXPRESSION = "{{$trigger.body.x}}"
DEFINITIONS = [
    definition("http-request", {**URL, "method": EXPRESSION, "maxBytes": EXPRESSION, "followRedirects": EXPRESSION}),
    definition("http-request", {"url": EXPRESSION, "headers": {"X-Id": 7}, "query": EXPRESSION}),
    definition("http-request", URL, connector={"type": "http-bearer", "id": CONNECTOR_ID}, retry={"maxAttempts": 3}),
    definition("filter", {"array": EXPRESSION, "field": "usd", "operator": "$gt", "value": 5}),
    definition("increment-variable", {"name": "n", "by": EXPRESSION}),
    definition("if", {"expression": "$trigger.body.usd > 5"}),
    definition("delay", {"delayMs": EXPRESSION}),
    definition("send-native", {"chainId": 1, "recipient": EXPRESSION, "amount": EXPRESSION}, connector=WALLET),
]
"""Definitions without a problem."""
FILES: list[Json] = [
    {"name": "A", "description": "", "definition": DEFINITIONS[0], "payload": {"x": 1}},
    {"name": "A", "definition": DEFINITIONS[0], "maxRuns": 5, "requireRehearsal": "dust", "concurrency": {"max": 1}},
    {"$schema": "http://127.0.0.1:8080/v1/schemas/definition.json", "definition": DEFINITIONS[0]},
    {"$schema": "http://127.0.0.1:8080/v1/schemas/definition.json", **DEFINITIONS[0]},
    {"definition": DEFINITIONS[0], "references": [{"name": "w", "kind": "wallet", "target": "main"}]},
]
"""Files without a problem."""
REFUSED_DEFINITIONS = [
    (definition("http-reqest", URL), "http-reqest"),
    (definition("http-request", {**URL, "method": "GRAB"}), "GRAB"),
    (definition("http-request", {**URL, "maxBytes": "many"}), "many"),
    (definition("http-request", {**URL, "header": {}}), "header"),
    (definition("http-request", {"method": "GET"}), "payload"),
    (definition("http-request", URL, conector=None), "conector"),
    (definition("http-request", URL, connector={"type": "apprise", "id": CONNECTOR_ID}), "apprise"),
    (definition("http-request"), "a"),
    (definition("switch", {"cases": EXPRESSION}), EXPRESSION),
]
"""Definitions with one fault, and the text at its place."""
REFUSED_FILES: list[tuple[Json, str]] = [
    ({"title": "A", "definition": DEFINITIONS[0]}, "title"),
    ({"definition": DEFINITIONS[0], "maxRuns": 0}, "0"),
    ({"definition": DEFINITIONS[0], "requireRehearsal": "no"}, "no"),
    ({"definition": {**DEFINITIONS[0], "node": 1}}, "node"),
]
"""The same for files."""


def of_every_type(catalog: Catalog) -> Json:
    """A definition with a node of every type, with the payload that the catalogue shows as its example."""
    triggers = {f"t-{name}": {"type": name, "payload": one.example_config} for name, one in catalog.triggers.items()}
    shown = [one for one in catalog.public_actions() if one["type"] not in catalog.triggers]
    nodes = {f"a-{one['type']}": _node(one) for one in shown}
    return {"nodes": {**triggers, **nodes}, "triggerNodeIds": list(triggers)}


def _node(shown: Json) -> Json:
    node = {"type": shown["type"], "payload": shown["exampleInput"]}
    kinds = shown["connectors"]
    named = "http-bearer" if kinds == ["http"] else next(iter(kinds), None)
    return {**node, "connector": {"type": named, "id": CONNECTOR_ID}} if named is not None else node


def examples() -> Iterator[tuple[str, Json]]:
    """Every bundled example, with its path."""
    for path in sorted((ROOT / "examples").rglob("*.json")):
        yield str(path.relative_to(ROOT)), json.loads(path.read_text())
