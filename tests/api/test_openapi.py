"""The OpenAPI document and the page that shows it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
from pydantic import TypeAdapter

from dustrun.api import openapi
from dustrun.api.body_examples import BY_OPERATION
from testkit.composition import DEFINITION, Composition

METHODS = {"get", "post", "put", "patch", "delete"}


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_references(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(_references(item) for item in value))
    return set()


async def _document(server: Composition) -> Any:
    response = await server.client(None).http.get("/openapi.json")
    return json.loads(response.content)


async def test_the_document_describes_every_route(server: Composition) -> None:
    document = await _document(server)
    assert document["openapi"].startswith("3.1")
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    for route in server.app.routes:
        if hasattr(route, "permission"):
            for method in route.methods - {"HEAD"}:
                assert (route.path, method.lower()) in described
                operation = document["paths"][route.path][method.lower()]
                assert operation["x-permission"] == route.permission
    for name in _references(document):
        assert name.removeprefix("#/components/schemas/") in document["components"]["schemas"], name


async def test_every_operation_says_who_may_call_and_what_may_come_back(server: Composition) -> None:
    document = await _document(server)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert method in METHODS
            assert operation["summary"], path
            responses = operation["responses"]
            assert "422" not in responses
            assert {"500", "503"} <= set(responses)
            assert bool(operation["security"]) == ("401" in responses), path
            takes_body = "requestBody" in operation
            assert not takes_body or {"400", "413", "415"} <= set(responses)
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


async def test_every_body_has_an_example_that_its_model_takes(server: Composition) -> None:
    document = await _document(server)
    named = {
        operation["operationId"]: operation
        for operations in document["paths"].values()
        for operation in operations.values()
        if "requestBody" in operation
    }
    assert set(BY_OPERATION) == set(named) - {"run_workflow"}  # which has several
    for name, example in BY_OPERATION.items():
        assert named[name]["requestBody"]["content"]["application/json"]["example"] == example
    bodies = {
        route.endpoint.__name__: route.body_field.field_info.annotation
        for route in server.app.routes
        if getattr(route, "body_field", None) is not None
    }
    assert set(bodies) == set(BY_OPERATION)
    for name, model in bodies.items():
        TypeAdapter(model).validate_python(BY_OPERATION[name])


async def test_summaries_and_names_of_operations_say_what_is_done(server: Composition) -> None:
    document = await _document(server)
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["description"], operation["operationId"]
            first = operation["summary"].split()[0]
            assert not first.endswith("s"), operation["summary"]  # "List", not "Lists"
            assert "_" in operation["operationId"]


async def test_bare_operations_and_schemas_can_be_added(server: Composition) -> None:
    collected = openapi.Document()
    responses = openapi.responses_of("POST", "workflow:execute", [])
    collected.add("/v1/bare", "POST", {"summary": "Bare", "x-permission": "workflow:execute", "responses": responses})
    collected.add_schema("Event", {"type": "object"})
    document = collected.build(server.app.app)
    assert document["components"]["schemas"]["Event"] == {"type": "object"}
    operation = document["paths"]["/v1/bare"]["post"]
    assert operation["security"] == [{"bearer": []}]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["Idempotency-Key"]
    assert "429" in operation["responses"]


async def test_the_root_tells_programs_and_people_where_things_are(server: Composition) -> None:
    anyone = server.client(None)
    places = (await anyone.http.get("/")).json()["data"]
    assert places == {
        "docs": "/docs",
        "openapi": "/openapi.json",
        "api": "/v1",
        "health": "/healthz",
        "ready": "/readyz",
    }
    page = await anyone.http.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert ('href="docs"' in page.text, 'href="openapi.json"' in page.text) == (True, True)
    for place in ("docs", "openapi", "health", "ready"):
        assert (await anyone.http.get(places[place])).status_code == 200


async def test_the_page_needs_nothing_from_outside(server: Composition) -> None:
    anyone = server.client(None)
    page = await anyone.http.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"docs/{name}" in page.text
        asset = await anyone.http.get(f"/docs/{name}")
        assert (asset.status_code, len(asset.content) > 10_000) == (200, True)
    assert (await anyone.get("/docs/other.js")).code == 404004


async def test_the_definitions_schema_is_published_and_is_the_one_that_validates(server: Composition) -> None:
    response = await server.client(None).http.get("/v1/schemas/definition.json")
    schema = json.loads(response.content)
    documented = (await server.client(None).http.get("/openapi.json")).json()["paths"]["/v1/schemas/definition.json"]
    assert list(documented["get"]["responses"]["200"]["content"]) == [response.headers["content-type"]]
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert validator.is_valid(DEFINITION)
    assert not validator.is_valid({"nodes": {"root": {"type": "manual", "kids": []}}})


async def test_the_schema_of_policies_is_published_and_is_the_one_that_validates(server: Composition) -> None:
    response = await server.client(None).http.get("/v1/schemas/wallet-policy.json")
    assert response.headers["content-type"] == "application/schema+json"
    validator = jsonschema.Draft202012Validator(json.loads(response.content))
    validator.check_schema(json.loads(response.content))
    assert validator.is_valid({"chains": [1, "*"], "limits": [{"maxUsd": "5.25", "windowMs": 3_600_000}]})
    assert not validator.is_valid({"limits": [{"maxUsd": "1e3"}]})
    assert not validator.is_valid({"allowAll": True})
