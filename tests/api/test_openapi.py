"""The OpenAPI document and the page that shows it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import jsonschema
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from dustrun.api import openapi
from dustrun.api.description.answer_examples import examples
from dustrun.api.description.sharing import parts
from dustrun.api.pages import Pages
from dustrun.api.routing import ForeignRoute, OperationRoute, RawRoute
from dustrun.api.server import create_app
from dustrun.errors import Code
from dustrun.services.connectors.consents import CALLBACK
from testkit.composition import DEFINITION, Composition
from testkit.conformance import DocumentedSchemas

_MOST_BYTES_AN_OPERATION = 4_000  # with the components that they share
METHODS = {"get", "post", "put", "patch", "delete"}


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_references(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(_references(item) for item in value))
    return set()


_sent: list[bytes] = []


async def _document(server: Composition) -> Any:
    """The document, which is the same of every server of this program and takes a while to make."""
    if not _sent:
        anyone = server.client(None).http
        _sent.append((await anyone.get("/openapi.json")).content)
        assert (await anyone.get("/openapi.json", headers={"Dustrun-Omit-Null": "true"})).content == _sent[0]
    document = json.loads(_sent[0])
    assert len(_sent[0]) / len(_operations(document)) < _MOST_BYTES_AN_OPERATION
    return document


async def test_the_document_describes_every_route(server: Composition) -> None:
    document = await _document(server)
    assert document["openapi"].startswith("3.1")
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    for route in server.app.routes:
        if hasattr(route, "permission") and not isinstance(route, ForeignRoute):
            # a webhook takes other methods, too; the document has the usual one
            for method in {route.method} if isinstance(route, RawRoute) else route.methods - {"HEAD"}:
                assert (route.path, method.lower()) in described
                operation = document["paths"][route.path][method.lower()]
                assert operation["x-permission"] == route.permission
    assert _references(document) == {
        f"#/components/{kind}/{name}"
        for kind, components in document["components"].items()
        if kind != "securitySchemes"
        for name in components
    }


async def test_only_another_protocol_is_left_out(server: Composition) -> None:
    """`/mcp` describes itself by `tools/list` (decision 0095), `/scim/v2` by its schemas, and one route is a page for
    people; nothing else is left out."""
    foreign = {route.path for route in server.app.routes if isinstance(route, ForeignRoute)}
    described = {path for path in foreign if path.startswith("/scim/v2/")}
    assert foreign - described == {"/mcp", "/.well-known/oauth-protected-resource/mcp", CALLBACK}
    assert foreign & (await _document(server))["paths"].keys() == set()


async def test_what_operations_repeat_is_written_once(server: Composition) -> None:
    document = await _document(server)
    operations = _operations(document)
    answers = [(status, one) for operation in operations for status, one in operation["responses"].items()]
    assert {status for status, one in answers if int(status) >= 400 and set(one) != {"$ref"}} == set()
    headers = [header for _, one in answers for header in one.get("headers", {}).values()]
    assert {json.dumps(header) for header in headers} == {json.dumps({"$ref": "#/components/headers/X-Request-ID"})}
    inline = Counter(
        json.dumps(one, sort_keys=True)
        for operation in operations
        for one in operation.get("parameters", [])
        if "$ref" not in one
    )
    assert [text for text, times in inline.items() if times > 1] == []
    components = document["components"]
    with_request_id = [name for name, one in components["schemas"].items() if {"data", "requestId"} <= {*_fields(one)}]
    assert with_request_id == []
    for kind, named in components.items():
        bodies = Counter(json.dumps(one, sort_keys=True) for one in named.values())
        assert kind == "schemas" or max(bodies.values()) == 1, kind
        assert len({name.lower() for name in named}) == len(named), kind


def _operations(document: Any) -> list[Any]:
    return [operation for operations in document["paths"].values() for operation in operations.values()]


def _fields(schema: Any) -> list[str]:
    return list(_properties(schema))


def _properties(schema: Any) -> Any:
    return schema.get("properties", {})


async def test_titles_tags_and_servers_are_declared_once(server: Composition) -> None:
    document = await _document(server)
    titles = Counter(re.sub(r"\W", "", schema["title"]) for schema in document["components"]["schemas"].values())
    assert [title for title, times in titles.items() if times > 1] == []
    assert {tag for operation in _operations(document) for tag in operation["tags"]} == {
        tag["name"] for tag in document["tags"]
    }
    assert all(tag["description"] for tag in document["tags"])
    assert document["servers"] == [{"url": "/", "description": "The server that sent this document."}]
    assert document["info"]["license"] == {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    assert document["info"]["contact"]["name"]


async def test_answers_have_schemas_and_examples_that_fit_them(server: Composition) -> None:
    document = await _document(server)
    schemas = DocumentedSchemas(document)
    for operation in _operations(document):
        for kind, content in operation["responses"]["200"]["content"].items():
            assert content["schema"], (operation["operationId"], kind)
            if kind == "application/json":
                example = content.get("example")
                if "examples" in content:
                    name = content["examples"]["answer"]["$ref"].rpartition("/")[2]
                    example = document["components"]["examples"][name]["value"]
                assert example is not None, f'{operation["operationId"]}: see CONTRIBUTING.md, "Add an operation"'
                schemas.validator(content["schema"]).validate(example)
    named = {operation["operationId"] for operation in _operations(document)}
    assert set(examples()) - named == set()
    for name, schema in document["components"]["schemas"].items():
        for field, one in schema.get("properties", {}).items():
            if "default" in one:
                assert field not in schema.get("required", []), (name, field)
                schemas.validator(one).validate(one["default"])


def _has_constant_among_types(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_constant_among_types, value))
    if not isinstance(value, dict):
        return False
    choices = [*value.get("anyOf", ()), *value.get("oneOf", ())]
    return any("const" in one for one in choices) or any(map(_has_constant_among_types, value.values()))


async def test_generators_can_write_the_schemas_as_classes(server: Composition) -> None:
    """A default that is a list, an object or of several types is in words; a constant among several types is a list of
    one value; no field is named like its own class. Nor is one whose values are listed in place named like an object:
    some generators name such a list for its field, and the object loses its name."""
    schemas = (await _document(server))["components"]["schemas"]
    fields = [(name, field, one) for name, schema in schemas.items() for field, one in _properties(schema).items()]
    unwritable = [
        (name, field)
        for name, field, one in fields
        if (one.get("default") and isinstance(one["default"], list | dict))
        or ("anyOf" in one and one.get("default") is not None)
    ]
    namesakes = [(name, field) for name, field, _ in fields if name.lower() == field.lower()]
    objects = {name.lower() for name, schema in schemas.items() if schema.get("type") == "object"}
    takers = [
        (name, field)
        for name, field, one in fields
        if field.lower() in objects and any("enum" in choice for choice in (one, *one.get("anyOf", ())))
    ]
    constants = [name for name, one in schemas.items() if _has_constant_among_types(one)]
    assert (unwritable, constants, namesakes, takers) == ([], [], [], [])
    assert schemas["Definition"]["properties"]["triggerNodeIds"]["description"].endswith('Default: `["root"]`.')


async def test_every_operation_says_who_may_call_and_what_may_come_back(server: Composition) -> None:
    document = await _document(server)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert method in METHODS
            assert operation["summary"], path
            responses = operation["responses"]
            assert "422" not in responses
            assert {"500", "503"} <= set(responses)
            # these take a secret of their own instead of a key
            has_own = operation["operationId"] in ("start_session", "redeem_sign_in_link", "receive_webhook")
            assert (bool(operation["security"]) or has_own) == ("401" in responses), path
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
    by_hand = {"run_workflow", "receive_webhook"}
    operations = [route.operation for route in server.app.routes if isinstance(route, OperationRoute)]
    declared = {operation.name: operation for operation in operations if operation.body is not None}
    assert set(declared) == set(named) - by_hand == {one.name for one in operations if one.example is not None}
    for name, operation in declared.items():
        assert named[name]["requestBody"]["content"]["application/json"]["example"] == operation.example
        TypeAdapter(operation.body).validate_python(operation.example)


async def test_limits_of_integers_are_integers(server: Composition) -> None:
    schemas = (await _document(server))["components"]["schemas"]
    limits = [
        (name, limit, part[limit])
        for name, schema in schemas.items()
        for part in parts(schema)
        if part.get("type") == "integer"
        for limit in part.keys() & {"maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum", "multipleOf"}
    ]
    assert [one for one in limits if not isinstance(one[2], int)] == []
    assert schemas["ReleaseBody"]["properties"]["chainId"]["maximum"] == 2**63 - 1
    assert {value for _, limit, value in limits if limit == "exclusiveMaximum" and value > 2**53} == {2**63}


async def test_summaries_and_names_of_operations_say_what_is_done(server: Composition) -> None:
    document = await _document(server)
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["description"], operation["operationId"]
            first = operation["summary"].split()[0]
            assert not first.endswith("s"), operation["summary"]  # "List", not "Lists"
            assert "_" in operation["operationId"]


async def count_sheep(scope: Scope, receive: Receive, send: Send) -> None:
    """Count sheep.

    Until the caller
    sleeps."""


async def test_a_bare_route_is_described_by_its_function(server: Composition) -> None:
    collected = openapi.Document()
    route = RawRoute("/v1/sheep/{id}", count_sheep, method="POST", permission="workflow:execute")
    collected.add(route, "Runs", {204: {"description": "None is left."}}, [Code.RUN_UNKNOWN], deprecated=True)
    collected.add_schema("Event", {"type": "object"})
    described = [route for route in server.app.app.routes if hasattr(route, "operation")][:40]
    some: Any = SimpleNamespace(routes=described)
    document = collected.build(some)
    assert document["components"]["schemas"]["Event"] == {"type": "object", "title": "Event"}
    operation = document["paths"]["/v1/sheep/{id}"]["post"]
    responses = operation.pop("responses")
    assert operation == {
        "tags": ["Runs"],
        "operationId": "count_sheep",
        "summary": "Count sheep.",
        "description": "Until the caller sleeps.",
        "x-permission": "workflow:execute",
        "parameters": [
            {"$ref": "#/components/parameters/Id"},
            {"$ref": "#/components/parameters/IdempotencyKeyHeader"},
        ],
        "deprecated": True,
        "security": [{"bearer": []}],
    }
    assert responses["204"] == {"description": "None is left."}
    assert {"200", "404", "429"} <= set(responses)


async def test_the_root_tells_programs_and_people_where_things_are(server: Composition, tmp_path: Path) -> None:
    app = create_app(server.app.parts, pages=Pages(tmp_path / "not built"))
    anyone = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080")
    places = (await anyone.get("/")).json()["data"]
    assert places == {
        "docs": "/docs",
        "openapi": "/openapi.json",
        "api": "/v1",
        "health": "/healthz",
        "ready": "/readyz",
    }
    page = await anyone.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert ('href="docs"' in page.text, 'href="openapi.json"' in page.text) == (True, True)
    for place in ("docs", "health", "ready"):  # what the document says is asked above
        assert (await anyone.get(places[place])).status_code == 200


async def test_the_page_needs_nothing_from_outside(server: Composition) -> None:
    anyone = server.client(None)
    page = await anyone.http.get("/docs")
    script = page.text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"script-src 'self' 'sha256-{digest}'" in policy
    assert "frame-ancestors 'none'" in policy
    assert (page.headers["x-frame-options"], page.headers["x-content-type-options"]) == ("DENY", "nosniff")
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
    documented = (await _document(server))["paths"]["/v1/schemas/definition.json"]
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


async def test_no_two_paths_can_be_taken_for_one_another(server: Composition) -> None:
    """As linters see it: a parameter may be any text, also a fixed part of another path."""
    document = await _document(server)
    paths = [path.strip("/").split("/") for path in document["paths"]]

    def may_meet(one: list[str], other: list[str]) -> bool:
        parts = list(zip(one, other, strict=True))
        differ = [(a, b) for a, b in parts if a != b]
        crossed = {("{" in a, "{" in b) for a, b in differ}
        return all("{" in a or "{" in b for a, b in differ) and len(crossed) > 1

    pairs = itertools.combinations(paths, 2)
    assert [(a, b) for a, b in pairs if len(a) == len(b) and may_meet(a, b)] == []
