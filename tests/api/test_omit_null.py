"""`Dustrun-Omit-Null: true`: every answer without nulls, and data as it was written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from dustrun.api import envelope
from testkit.composition import Client, Composition

OMIT = {"Dustrun-Omit-Null": "true"}
NULLS = {"a": None, "b": [None, {"c": None}]}
DEFINITION = {
    "nodes": {
        "root": {"type": "manual", "children": ["echo"]},
        "echo": {"type": "format", "payload": {"template": "x", "values": [NULLS]}, "pinned": None},
    }
}
OWN = {
    "args",  # of a trial call of a known service
    "attempts",
    "detail",
    "effects",
    "metadata",
    "range",
    "error",
    "events",
    "fundsMovement",
    "intent",
    "iterations",
    "keys",
    "publicKey",
    "receipt",
    "revert",
    "simulationForks",
    "verdict",
    "sources",
}
"""Fields without a schema that hold Dustrun's own values: their nulls go too."""


def _nulls(value: Any, name: str = "") -> Iterator[str]:
    """Where an answer has nulls that are not data."""
    if value is None:
        yield name
    for key, item in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        if key not in envelope.DATA:
            yield from _nulls(item, f"{name}.{key}")


async def _ended(client: Client, run_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            run: dict[str, Any] = (await client.get(f"/v1/runs/{run_id}")).data
            if run["finishedAt"]:
                return run
            await asyncio.sleep(0.01)


async def test_answers_have_no_nulls_but_those_of_data(server: Composition) -> None:
    owner = server.owner
    flow = await owner.create_workflow(DEFINITION, uiMetadata=NULLS)
    body = {"payload": NULLS}
    run = await _ended(owner, (await owner.post(f"/v1/workflows/{flow['id']}/run", body)).data["runId"])
    workflow = f"/v1/workflows/{flow['id']}"
    paths = [
        f"/v1/runs/{run['id']}",
        f"/v1/runs/{run['id']}/effects",
        f"/v1/runs/{run['id']}/compare/{run['id']}",
        "/v1/runs",
        "/v1/actions/http-request",
        "/v1/api-keys",
        "/v1/workflows",
        workflow,
        f"{workflow}/versions",
        f"{workflow}/ladder",
    ]
    had = 0
    for path in paths:
        full, short = [(await owner.http.get(path, headers=headers)).json() for headers in ({}, OMIT)]
        had += len(list(_nulls(full)))
        assert list(_nulls(short)) == [], path
        assert set(full["data"]) - set(short["data"]) == {name for name, item in full["data"].items() if item is None}
    assert had > 30
    short = (await owner.http.get(f"/v1/runs/{run['id']}", headers=OMIT)).json()["data"]
    assert (short["payload"], short["workflowDefinition"]) == (NULLS, DEFINITION)
    assert short["executionState"]["root"]["result"]["body"] == NULLS
    shown = (await owner.http.get(workflow, headers=OMIT)).json()["data"]
    assert (shown["uiMetadata"], shown["definition"]) == (NULLS, DEFINITION)
    assert "pinned" in shown["definition"]["nodes"]["echo"]


def test_a_side_of_a_difference_keeps_its_null() -> None:
    added = {"path": "maxRuns", "before": None, "after": None, "left": None, "note": None}
    assert envelope.without_nulls({"changes": [added], "left": None}) == {
        "changes": [{"path": "maxRuns", "before": None, "after": None, "left": None}]
    }


async def test_the_header_holds_for_writes_replays_errors_and_nothing_else(owner: Client) -> None:
    body = {"name": "a", "description": "", "definition": DEFINITION}
    key = {"Idempotency-Key": "once", "Content-Type": "application/json"}
    content = json.dumps(body).encode()
    made = await owner.http.post("/v1/workflows", content=content, headers={**key, **OMIT})
    replayed = await owner.http.post("/v1/workflows", content=content, headers={**key, **OMIT})
    assert (replayed.content, list(_nulls(made.json()))) == (made.content, [])
    plain = await owner.post("/v1/workflows", body, headers=key)
    assert plain.data["maxRuns"] is None
    assert {name for name, item in plain.data.items() if item is not None} == set(made.json()["data"])

    failed = await owner.get("/v1/runs/run_none", headers=OMIT)
    assert (failed.status, failed.code) == (404, 404003)
    full, short = [await owner.http.get("/v1/schemas/definition.json", headers=headers) for headers in ({}, OMIT)]
    assert short.content == full.content  # test_openapi.py has the document
    same = await owner.http.get("/v1/workflows", headers={"Dustrun-Omit-Null": "False"})
    assert list(_nulls(same.json())) != []
    refused = await owner.get("/v1/workflows", headers={"Dustrun-Omit-Null": "yes"})
    assert (refused.code, refused.fields) == (400002, ["Dustrun-Omit-Null"])


async def test_large_answers_keep_their_numbers_and_lose_their_nulls(owner: Client) -> None:
    payload = {"rows": [{"n": None, "amount": 1.10, "big": "123456789012345678901234567890"}] * 2000}
    flow = await owner.create_workflow({"nodes": {"root": {"type": "manual"}}})
    run_id = (await owner.post(f"/v1/workflows/{flow['id']}/run", {"payload": payload})).data["runId"]
    await _ended(owner, run_id)
    full, short = [await owner.http.get(f"/v1/runs/{run_id}", headers=headers) for headers in ({}, OMIT)]
    assert short.json()["data"]["payload"] == full.json()["data"]["payload"] == payload
    assert short.headers["content-length"] == str(len(short.content))
    assert b"1.1" in short.content
    assert list(_nulls(short.json())) == []


def _open_fields(schemas: dict[str, Any], schema: Any, name: str, seen: set[str]) -> Iterator[str]:
    """The fields of an answer that have no schema."""
    if not isinstance(schema, dict):
        yield name
        return
    reference = schema.get("$ref", "").rpartition("/")[2]
    if reference and reference not in seen:
        seen.add(reference)
        yield from _open_fields(schemas, schemas[reference], name, seen)
    parts = [one for kind in ("anyOf", "allOf", "oneOf") for one in schema.get(kind, [])]
    parts += [schema["items"]] if "items" in schema else []
    is_map = schema.get("type") == "object" and "properties" not in schema
    parts += [schema.get("additionalProperties", True)] if is_map else []
    for part in parts:
        yield from _open_fields(schemas, part, name, seen)
    for field, part in schema.get("properties", {}).items():
        yield from _open_fields(schemas, part, field, seen)
    if not {"$ref", "type", "anyOf", "allOf", "oneOf", "const", "enum"} & schema.keys():
        yield name


def test_every_field_without_a_schema_is_known_as_data_or_as_our_own(server: Composition) -> None:
    document = server.conformance.document
    found: set[str] = set()
    for operation in (one for operations in document["paths"].values() for one in operations.values()):
        schema = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is not None:
            found |= set(_open_fields(document["components"]["schemas"], schema, "", set()))
    known = envelope.DATA | envelope.SIDES | OWN | {"", "data"}
    assert found - known == set()
    assert found >= {"payload", "result", "definition"}
