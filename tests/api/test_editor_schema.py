"""The schema with which editors check workflow files says the same as the server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema

from testkit.composition import Composition, composed
from testkit.e2e.guide import ROOT
from testkit.editor import cases


async def _validator(server: Composition) -> jsonschema.Draft202012Validator:
    response = await server.client(None).http.get("/v1/schemas/definition.json")
    validator = jsonschema.Draft202012Validator(json.loads(response.content))
    validator.check_schema(validator.schema)
    return validator


def _faults(validator: jsonschema.Draft202012Validator, document: Any) -> list[str]:
    return [error.message[:200] for error in validator.iter_errors(document)]


async def _with_real_ids(server: Composition) -> Callable[[Any], Any]:
    """Gives documents the ids of a connector and a wallet that exist."""
    body = {"name": "c", "type": "http-bearer", "data": {"token": "secret-1"}, "allowedHosts": ["example.com"]}
    connector = (await server.owner.post("/v1/connectors", body)).data
    wallet = (await server.owner.post("/v1/wallets", {"name": "w"})).data
    ids = {cases.CONNECTOR_ID: connector["id"], cases.WALLET["id"]: wallet["id"]}

    def real(document: Any) -> Any:
        text = json.dumps(document)
        for written, found in ids.items():
            text = text.replace(written, found)
        return json.loads(text)

    return real


async def test_the_schema_and_the_server_accept_and_refuse_the_same(server: Composition) -> None:
    validator = await _validator(server)
    real = await _with_real_ids(server)
    wanted = [(real(one), True) for one in cases.DEFINITIONS]
    wanted += [(real(one), False) for one, _ in cases.REFUSED_DEFINITIONS]
    for document, is_valid in wanted:
        found = (await server.owner.post("/v1/workflows/validate", {"definition": document})).data
        assert (found["valid"], validator.is_valid(document)) == (is_valid, is_valid), (document, found["errors"])
        assert validator.is_valid({"name": "A", "definition": document}) == is_valid
    wanted = [(one, True) for one in cases.FILES[:-1]] + [(one, False) for one, _ in cases.REFUSED_FILES]
    for document, is_valid in wanted:
        files = [{"path": "a.json", "content": json.dumps(document)}]
        reply = await server.owner.post("/v1/workflows/apply", {"files": files, "dryRun": True})
        assert (reply.status == 200, validator.is_valid(document)) == (is_valid, is_valid), (document, reply.body)


async def test_examples_exports_and_the_catalogue_pass_the_schema(server: Composition) -> None:
    validator = await _validator(server)
    found = {path: _faults(validator, document) for path, document in cases.examples()}
    assert len(found) >= 8
    assert set(map(tuple, found.values())) == {()}, found
    every = cases.of_every_type(server.parts.catalog)
    assert {node["type"] for node in every["nodes"].values()} == set(server.parts.catalog.specs())
    assert _faults(validator, every) == []
    made = await server.owner.create_workflow(cases.DEFINITIONS[2], maxRuns=3, requireRehearsal="simulate")
    exported = (await server.owner.get(f"/v1/workflows/{made['id']}/export")).data
    assert _faults(validator, json.loads(exported["content"])) == []


async def test_every_type_and_field_has_a_description(server: Composition) -> None:
    schema: Any = (await _validator(server)).schema
    kind = schema["$defs"]["Node"]["properties"]["type"]
    assert kind["enum"] == sorted(server.parts.catalog.specs())
    assert [text for text in kind["enumDescriptions"] if not text] == []
    assert len(kind["enumDescriptions"]) == len(kind["enum"])
    for name in kind["enum"]:
        payload = schema["$defs"][name]
        assert payload["description"]
        assert payload["examples"]
        assert {
            field for field, about in payload.get("properties", {}).items() if not about.get("description")
        } == set()


async def test_the_schema_has_the_operators_own_types(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url, actions_dir=ROOT / "testkit" / "own_actions") as server:
        validator = await _validator(server)
        assert _faults(validator, cases.definition("trial", {"name": "a"})) == []
        assert not validator.is_valid(cases.definition("trial", {"nom": "a"}))
