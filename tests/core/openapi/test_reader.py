"""What is read of OpenAPI documents: each operation with its arguments and its request, and why others are left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dustrun.core.json_schema.check import PayloadCheck
from dustrun.core.json_schema.schema import check_schema
from dustrun.core.openapi.operation import pin_of, read_operation, text_of_operation
from dustrun.core.openapi.reader import DocumentContent, read
from dustrun.core.openapi.request import build_request
from dustrun.core.openapi.servers import ServerChoice
from dustrun.core.openapi.unwritten import find_unwritten
from dustrun.errors import Invalid
from testkit.processor_time import is_within

Json = dict[str, Any]
SERVER = "https://api.example.com/v1"


def document(paths: Json, **more: Any) -> Json:
    return {
        "openapi": "3.0.3",
        "info": {"title": "Pet Shop", "version": "7"},
        "servers": [{"url": SERVER}],
        "paths": paths,
        **more,
    }


def reading(value: Json | str, **more: Any) -> DocumentContent:
    return read((value if isinstance(value, str) else json.dumps(value)).encode(), **more)


def only(value: Json, **more: Any) -> Any:
    found = reading(value, **more)
    assert len(found.operations) == 1, found.left_out
    check_schema(dict(found.operations[0].args))
    return found.operations[0]


def left_out(value: Json, **more: Any) -> dict[str, str]:
    value["paths"]["/fine"] = {"get": {"operationId": "fine"}}
    found = reading(value, **more)
    return {one.operation: f"{one.reason}: {one.message}" for one in found.left_out}


def refused(value: Json | str, **more: Any) -> str:
    with pytest.raises(Invalid) as caught:
        reading(value, **more)
    return str(caught.value.public_details()[0]["message"])


def test_an_operation_has_its_name_effect_and_arguments() -> None:
    pets = {
        "parameters": [{"name": "owner", "in": "path", "required": True, "schema": {"type": "string"}}],
        "get": {
            "operationId": "listPets",
            "summary": "List pets",
            "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100}}],
            "responses": {"200": {"content": {"application/json": {"schema": {"type": "array"}}}}},
        },
        "post": {
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
        },
    }
    found = reading(document({"/{owner}/pets": pets}))

    listed, made = found.operations
    assert (found.name, found.title, found.version) == ("pet-shop", "Pet Shop", "7")
    assert (listed.type, listed.effect, listed.summary) == ("pet-shop.list-pets", "read", "List pets")
    assert (made.type, made.effect) == ("pet-shop.post-owner-pets", "write")
    assert listed.args["required"] == ["owner"]
    assert made.args["required"] == ["owner", "body"]
    assert listed.result == {"type": "array"}
    PayloadCheck(dict(listed.args)).check({"owner": "me", "limit": 5})
    with pytest.raises(Invalid):
        PayloadCheck(dict(listed.args)).check({"owner": "me", "limit": 500})
    request = build_request(listed, {"owner": "a/b", "limit": 5})
    assert request.url == f"{SERVER}/a%2Fb/pets?limit=5"
    assert request.headers == {"Accept": "application/json"}


def test_what_is_kept_of_an_operation_is_pinned_and_read_again() -> None:
    one = only(document({"/a": {"get": {"operationId": "a"}}}))
    text = text_of_operation(one)

    assert read_operation(text) == one
    assert pin_of(text) == pin_of(text_of_operation(read_operation(text)))
    assert len(pin_of(text)) == 32


def test_yaml_is_read_as_json_is() -> None:
    text = "openapi: 3.0.0\ninfo: {title: Pets, version: 1.0}\nservers: [{url: 'https://a.example'}]\npaths:\n"
    found = reading(text + "  /on:\n    get: {operationId: on}\n")

    assert found.operations[0].type == "pets.on"


def test_version_2_has_forms_collections_and_a_host() -> None:
    swagger = {
        "swagger": "2.0",
        "info": {"title": "Old"},
        "host": "old.example",
        "basePath": "/api",
        "schemes": ["http", "https"],
        "paths": {
            "/x": {
                "post": {
                    "operationId": "x",
                    "consumes": ["application/x-www-form-urlencoded"],
                    "parameters": [
                        {"name": "ids", "in": "query", "type": "array", "items": {"type": "integer"}},
                        {"name": "tags", "in": "query", "type": "array", "collectionFormat": "multi", "items": {}},
                        {"name": "a", "in": "formData", "type": "string", "required": True},
                        {"name": "b", "in": "formData", "type": "array", "collectionFormat": "pipes", "items": {}},
                    ],
                }
            }
        },
    }
    one = only(swagger)
    request = build_request(one, {"ids": [1, 2], "tags": ["x", "y"], "body": {"a": "1", "b": ["p", "q"]}})

    assert request.url == "https://old.example/api/x?ids=1,2&tags=x&tags=y"
    assert request.form == {"a": ["1"], "b": ["p|q"]}
    assert one.args["required"] == ["body"]


def test_a_form_is_nested_where_the_document_says_so() -> None:
    schema = {"type": "object", "properties": {"card": {"type": "object"}, "amount": {"type": "integer"}}}
    media = {"schema": schema, "encoding": {"card": {"style": "deepObject", "explode": True}}}
    content = {"application/x-www-form-urlencoded": media}
    one = only(document({"/charges": {"post": {"operationId": "PostCharges", "requestBody": {"content": content}}}}))

    assert one.type == "pet-shop.post-charges"
    request = build_request(one, {"body": {"amount": 5, "card": {"exp": {"year": 30}}}})
    assert request.form == {"amount": ["5"], "card[exp][year]": ["30"]}


def test_two_parameters_of_one_name_have_different_fields() -> None:
    given: list[Json] = [
        {"name": "id", "in": place, "required": True, "schema": {}} for place in ("path", "query", "header")
    ]
    given.append({"name": "body", "in": "query", "schema": {}})
    body: Json = {"content": {"application/vnd.api+json": {"schema": {}}}}
    one = only(document({"/{id}": {"post": {"operationId": "o", "parameters": given, "requestBody": body}}}))

    args = {"id": "p", "id_query": "q", "id_header": "h", "body_query": "b", "body": [1]}
    request = build_request(one, args)
    assert request.url == f"{SERVER}/p?id=q&body=b"
    assert request.headers["id"] == "h"
    assert (request.json, request.headers["Content-Type"]) == ([1], "application/vnd.api+json")


def test_headers_that_the_client_or_a_connector_sets_are_no_arguments() -> None:
    names = ["Authorization", "accept", "Content-Type", "Host", "X-Trace"]
    given = [{"name": name, "in": "header", "required": True, "schema": {}} for name in names]

    assert only(document({"/a": {"get": {"parameters": given}}})).args["required"] == ["X-Trace"]


def test_a_credential_that_a_connector_gives_is_not_required() -> None:
    given = [{"name": "token", "in": "query", "required": True, "schema": {"type": "string"}}]
    paths = {"/a": {"get": {"parameters": given, "security": [{"key": []}]}}}
    schemes = {"securitySchemes": {"key": {"type": "apiKey", "in": "query", "name": "token"}}}
    one = only(document(paths, components=schemes))

    assert (one.args["required"], one.security) == ([], ("http-query",))


def test_circular_schemas_are_accepted() -> None:
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/components/schemas/T"}}}}
    endless = {"allOf": [{"$ref": "#/components/schemas/E"}]}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/T"}}}
    other = {"application/json": {"schema": {"$ref": "#/components/schemas/E"}}}
    paths = {
        "/t": {"post": {"operationId": "t", "requestBody": {"content": content}}},
        "/e": {"post": {"operationId": "e", "requestBody": {"content": other}}},
    }
    found = reading(document(paths, components={"schemas": {"T": tree, "E": endless}}))

    for one in found.operations:
        check_schema(dict(one.args))
    PayloadCheck(dict(found.operations[0].args)).check({"body": {"kids": [{"kids": []}]}})
    with pytest.raises(Invalid):
        PayloadCheck(dict(found.operations[0].args)).check({"body": {"kids": [{"kids": 1}]}})


def test_schemas_of_3_0_become_those_of_2020_12() -> None:
    schema = {
        "type": "object",
        "required": ["id", "n"],
        "properties": {
            "id": {"type": "string", "readOnly": True},
            "n": {"type": "integer", "nullable": True, "minimum": 1, "exclusiveMinimum": True},
            "odd": {"type": "file", "pattern": "(?!x)y", "required": True, "x-own": 1},
        },
    }
    body = {"content": {"application/json": {"schema": schema}}}
    one = only(document({"/a": {"put": {"requestBody": body}}}))

    fields = one.args["properties"]["body"]["properties"]
    assert one.args["properties"]["body"]["required"] == ["n"]
    assert fields["n"] == {"type": ["integer", "null"], "exclusiveMinimum": 1}
    assert fields["odd"] == {}


def test_schemas_that_are_too_large_keep_what_is_near() -> None:
    big = {f"f{at}": {"type": "string", "description": "x" * 300} for at in range(199)}
    schemas = {"Root": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Big"}}}}
    schemas["Big"] = {"type": "object", "properties": {name: {"type": "object", "properties": big} for name in big}}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Root"}}}}
    one = only(document({"/a": {"put": {"operationId": "a", "requestBody": body}}}, components={"schemas": schemas}))

    assert len(text_of_operation(one)) < 40_000
    PayloadCheck(dict(one.args)).check({"body": {"next": {"f1": {"f1": "x"}}}})


def test_schemas_of_requests_keep_long_enums_and_their_shape_rather_than_descriptions() -> None:
    countries = [f"C{at}" for at in range(300)]
    field = {"type": "string", "description": "x" * 230}
    inner = {"type": "object", "properties": {**{f"f{at}": field for at in range(150)}, "country": {"enum": countries}}}
    schema = {"type": "object", "properties": {"address": inner, "about": field}}
    answer = {"content": {"application/json": {"schema": {"enum": countries}}}}
    body = {"content": {"application/json": {"schema": schema}}}
    one = only(document({"/a": {"put": {"operationId": "a", "requestBody": body, "responses": {"200": answer}}}}))

    fields = one.args["properties"]["body"]["properties"]
    assert fields["address"]["properties"]["country"] == {"enum": countries}
    assert fields["address"]["properties"]["f1"] == {"type": "string"}
    assert fields["about"] == field
    assert one.result == {}
    with pytest.raises(Invalid):
        PayloadCheck(dict(one.args)).check({"body": {"address": {"country": "text"}}})


def test_alternatives_that_are_too_many_are_left_out_rather_than_cut() -> None:
    schema = {"anyOf": [{"const": at} for at in range(250)]}
    body = {"content": {"application/json": {"schema": schema}}}
    one = only(document({"/a": {"put": {"operationId": "a", "requestBody": body}}}))

    PayloadCheck(dict(one.args)).check({"body": 249})


def test_null_is_taken_where_a_document_says_nullable() -> None:
    fields = {
        "value": {"nullable": True, "oneOf": [{"type": "string"}, {"type": "number"}]},
        "validity": {"nullable": True, "type": "string", "enum": ["active", "inactive"]},
    }
    body = {"content": {"application/json": {"schema": {"type": "object", "properties": fields}}}}
    one = only(document({"/a": {"put": {"operationId": "a", "requestBody": body}}}))

    PayloadCheck(dict(one.args)).check({"body": {"value": None, "validity": None}})


def form_operation() -> Any:
    """An operation with a form in Stripe's manner."""
    updates = {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"enum": [""]}]}
    features = {"type": "object", "required": ["updates"], "properties": {"updates": updates, "meta": {}}}
    lines = {"type": "array", "items": {"$ref": "#/components/schemas/Line"}}
    schema = {
        "type": "object",
        "required": ["features"],
        "properties": {"features": features, "lines": lines, "expand": {"type": "array"}},
    }
    style = {"style": "deepObject", "explode": True}
    media = {"schema": schema, "encoding": dict.fromkeys(("features", "lines", "expand"), style)}
    body = {"required": True, "content": {"application/x-www-form-urlencoded": media}}
    ids = {"name": "ids", "in": "query", "required": True, "schema": {"type": "array"}}
    line = {"type": "object", "required": ["tax"], "properties": {"tax": {"type": "array"}, "id": {}}}
    paths = {"/a": {"post": {"operationId": "a", "requestBody": body, "parameters": [ids]}}}
    return only(document(paths, components={"schemas": {"Line": line}}))


@pytest.mark.parametrize(
    ("ids", "body", "field"),
    [
        ([1], {"features": {}}, "body.features"),
        ([1], {"features": {"meta": {"a": []}}}, "body.features"),
        ([1], {"features": {"updates": [], "meta": {"a": 1}}}, "body.features.updates"),
        ([1], {"features": {"updates": ["x", None]}}, "body.features.updates[1]"),
        ([1], {"features": {"updates": ""}, "lines": [{"id": 1, "tax": []}]}, "body.lines[0].tax"),
        ([1], {"features": {"updates": ""}, "lines": [{"tax": [1]}, {}]}, "body.lines[1]"),
        ([], {"features": {"updates": ""}}, "ids"),
    ],
)
def test_what_a_form_or_query_cannot_carry_is_refused(ids: list[int], body: Json, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        build_request(form_operation(), {"ids": ids, "body": body})
    told = caught.value.public_details()[0]
    assert told["field"] == f"payload.args.{field}"
    assert "cannot carry an empty list" in str(told["message"])


def test_many_values_are_looked_through_once() -> None:
    line = {"required": ["a"], "properties": {"a": {}, **{f"f{at}": {} for at in range(50)}}}
    definitions: Json = {f"d{at}": {"anyOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 8} for at in range(16)}
    definitions["d16"] = {"anyOf": [line] * 100}
    lines = [{f"f{at}": 1 for at in range(50)}] * 1_000

    def search() -> None:
        assert find_unwritten([*lines, {"a": []}], {"items": {"$ref": "#/$defs/d0"}}, definitions) == (1_000,)

    assert is_within(search, 1.0)


def test_what_may_be_left_out_of_a_form_may_be_empty() -> None:
    body: Json = {"features": {"updates": "", "meta": {}}, "lines": [], "expand": None}
    request = build_request(form_operation(), {"ids": [1], "body": body})
    assert request.form == {"features[updates]": [""]}


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        ({"requestBody": {"content": {"multipart/form-data": {}}}}, "upload: "),
        ({"requestBody": {"content": {"application/xml": {}}}}, "xml: "),
        ({"requestBody": {"content": {"text/plain": {}}}}, "media_type: "),
        ({"parameters": [{"$ref": "other.yaml#/x"}]}, 'broken: it refers to another document, "other.yaml#/x"'),
        ({"parameters": [{"$ref": "#/none"}]}, 'broken: it refers to "#/none", which the document does not have'),
        ({"parameters": [{"name": "x", "in": "query", "style": "odd"}]}, 'broken: its parameter "x" in the query'),
        ({"servers": [{"url": "/relative"}]}, 'server: its server "/relative" is no absolute'),
        ({"servers": [{"url": "https://{tenant}.example"}]}, "server: the server"),
        ({"servers": [{"url": "https://a:b@c.example"}]}, "server: the server"),
    ],
)
def test_what_cannot_be_called_is_left_out_with_a_reason(operation: Json, reason: str) -> None:
    assert left_out(document({"/a": {"post": operation}}))["POST /a"].startswith(reason)


def test_extensions_beside_the_paths_are_no_operations() -> None:
    assert left_out(document({"x-root": "/api", "/a": {"trace": {}}})).keys() == {"TRACE /a"}


def test_methods_that_cannot_be_sent_are_left_out() -> None:
    assert left_out(document({"/a": {"trace": {}}})) == {"TRACE /a": "method: requests with TRACE cannot be sent"}


def test_servers_may_be_chosen() -> None:
    variables = {"region": {"default": "eu", "enum": ["eu", "us"]}, "tenant": {}}
    servers = [{"url": "https://{tenant}.{region}.example/", "variables": variables}]
    given = document({"/a": {"get": {}}}, servers=servers)

    chosen = ServerChoice(variables={"tenant": "me", "region": "us"})
    assert only(given, choice=chosen).server == "https://me.us.example"
    assert only(given, choice=ServerChoice(server="http://b.example:8080/x/")).server == "http://b.example:8080/x"
    assert "is one of eu, us" in refused(given, choice=ServerChoice(variables={"tenant": "me", "region": "x"}))
    relative = document({"/a": {"get": {}}}, servers=[{"url": "/v2"}])
    assert only(relative, choice=ServerChoice(base="https://c.example/d/o.json")).server == "https://c.example/v2"


def test_operations_of_one_name_have_those_of_their_paths() -> None:
    found = reading(document({"/a": {"get": {"operationId": "get"}}, "/b/{c}": {"get": {"operationId": "Get"}}}))

    assert [one.type for one in found.operations] == ["pet-shop.get-a", "pet-shop.get-b-c"]
    assert found.renamed == ["GET /a", "GET /b/{c}"]
    clash = left_out(document({"/a": {"get": {}}, "/a/": {"get": {}}}))
    assert clash == {"GET /a/": 'name: another operation has the name "pet-shop.get-a", too'}


@pytest.mark.parametrize("value", [".", "..", "", "a/.."])
def test_a_value_cannot_lead_to_another_path(value: str) -> None:
    parameter = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    one = only(document({"/users/{+id}/keys": {"get": {"parameters": [parameter]}}}))

    with pytest.raises(Invalid, match="other path"):
        build_request(one, {"id": value})
    assert build_request(one, {"id": "a/b"}).url == f"{SERVER}/users/a/b/keys"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[1]", "must be an object"),
        ("{", "neither JSON nor YAML"),
        ("a: &x 1\nb: *x", "anchors and aliases"),
        ('{"a": 1}', "neither `openapi` nor `swagger`"),
        ('{"swagger": "1.2"}', 'of version "1.2"'),
        ('{"openapi": "3.0.0", "info": {"title": "x"}}', "None of its operations can be imported: it has none"),
        ("[" * 2000 + "]" * 2000, "nested"),
    ],
)
def test_what_is_no_document_is_refused(value: str, message: str) -> None:
    assert message in refused(value)


def test_a_name_must_fit_into_types() -> None:
    assert "Give `name`" in refused(document({"/a": {"get": {}}}, info={"title": "…"}))
    assert "Give `name`" in refused(document({"/a": {"get": {}}}), name="Pets.2")
