"""Imported OpenAPI documents: what comes in, what nodes are pinned to, what their runs send, and what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.errors import Code
from dustrun.storage.data import catalog as rows
from dustrun.storage.db.catalog_tables import catalog_imports
from dustrun.storage.db.statement import Tx
from echoing import Echo, echoing
from testkit.composition import Client, Composition, composed

Json = dict[str, Any]


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echoing() as echo:
        yield echo


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, outbound_allow=("127.0.0.1",)) as composition:
        yield composition


@pytest.fixture
def api(server: Composition) -> Client:
    return server.owner


def document(echo: Echo, **paths: Any) -> Json:
    """A document with an operation that reads an order, one that writes one, and whatever is given."""
    number = {"name": "id", "in": "query", "required": True, "schema": {"type": "integer"}}
    order = {"type": "object", "required": ["symbol"], "properties": {"symbol": {"type": "string"}}}
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}}
    return {
        "openapi": "3.0.3",
        "info": {"title": "Shop", "version": "1"},
        "servers": [{"url": echo.url}],
        "paths": {
            "/echo": {
                "get": {"operationId": "readOrder", "summary": "Read one order", "parameters": [number]},
                "put": {"operationId": "writeOrder", "parameters": [number], "requestBody": body},
            },
            **paths,
        },
        "components": {"schemas": {"Order": order}},
    }


def workflow(kind: str, args: Any, **payload: Any) -> Json:
    node = {"type": kind, "payload": {"args": args, **payload}}
    return {"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": node}}


async def bring_in(api: Client, value: Any, **more: Any) -> Json:
    reply = await api.post("/v1/catalog/imports", {"document": value, **more})
    assert reply.status == 200, reply.body
    found: Json = reply.data
    return found


async def run(api: Client, definition: Json, **more: Any) -> Json:
    reply = await api.post("/v1/runs/sync", {"definition": definition, **more})
    assert reply.status == 200, reply.body
    found: Json = reply.data
    return found


@pytest.mark.both_stores
async def test_operations_come_in_and_are_found(api: Client, echo: Echo) -> None:
    paths: Json = {
        f"/things/{at}": {"get": {"operationId": f"listThing{at}", "summary": "List of things"}} for at in range(450)
    }
    paths["/up"] = {"post": {"requestBody": {"content": {"multipart/form-data": {}}}}}
    made = await bring_in(api, document(echo, **paths))

    assert (made["name"], made["version"], made["operations"]) == ("shop", 1, 452)
    assert made["leftOutCounts"] == {"upload": 1}
    assert made["changes"]["added"]["count"] == 452
    everything = (await api.get("/v1/catalog/operations?limit=1&offset=1")).data
    assert ([one["type"] for one in everything["items"]], everything["hasMore"]) == (["shop.list-thing1"], True)
    found = (await api.get("/v1/catalog/operations?q=ORDER%20rea")).data["items"]
    assert [(one["type"], one["method"], one["effect"]) for one in found] == [("shop.read-order", "GET", "read")]
    assert (await api.get("/v1/catalog/operations?q=order&api=other")).data["items"] == []
    assert len((await api.get("/v1/catalog/operations?q=order%20-%20%22*")).data["items"]) == 2
    shown = (await api.get("/v1/catalog/operations/shop.write-order")).data
    assert shown["payloadSchema"]["properties"]["args"]["required"] == ["id", "body"]
    assert shown["exampleInput"] == {"args": {"id": 1, "body": {"symbol": "text"}}}
    assert [one["name"] for one in (await api.get("/v1/catalog/imports")).data["items"]] == ["shop"]


@pytest.mark.both_stores
async def test_whole_words_of_a_name_are_found_before_beginnings_and_descriptions(api: Client, echo: Echo) -> None:
    def named(name: str, summary: str) -> Json:
        return {"get": {"operationId": name, "summary": summary}}

    told = {"listRefunds": "Refunds of customers", "listCustomers": "All", "customships": "Some", "getZ": "One"}
    await bring_in(api, document(echo, **{f"/{name}": named(name, summary) for name, summary in told.items()}))
    await bring_in(api, document(echo, **{"/other": named("otherCustomers", "Others")}), name="customers")

    async def found(query: str) -> list[str]:
        return [one["type"] for one in (await api.get(f"/v1/catalog/operations?{query}")).data["items"]]

    assert await found("q=customers&api=shop") == ["shop.list-customers", "shop.list-refunds"]
    assert await found("q=custom&api=shop") == ["shop.customships", "shop.list-customers", "shop.list-refunds"]
    assert (await found("q=customers"))[-1] == "shop.list-refunds"  # its name has the word nowhere
    assert await found("q=z") == ["shop.get-z"]
    assert await found("q=l&api=shop") == []  # a single letter is no beginning
    assert await found("q=list%20c&api=shop") == await found("q=list&api=shop")  # until something has it
    assert await found("q=customers&api=nowhere") == []
    pages = [await found(f"q=cust&limit=2&offset={offset}") for offset in range(0, 10, 2)]
    assert [len(page) for page in pages] == [2, 2, 2, 0, 0]
    assert [one for page in pages for one in page] == await found("q=cust")


@pytest.mark.both_stores
async def test_pages_skip_imports_and_show_each_operation_once(api: Client, echo: Echo) -> None:
    for name, more in (("shop", 3), ("shop-eu", 0), ("a-shop", 5)):
        await bring_in(
            api, document(echo, **{f"/{at}": {"get": {"operationId": f"get{at}"}} for at in range(more)}), name=name
        )
    one = document(echo)
    del one["paths"]["/echo"]["put"]
    assert (await api.post("/v1/catalog/imports/shop/renew", {"document": one})).status == 200  # one is left of five

    async def page(query: str) -> list[str]:
        return [found["type"] for found in (await api.get(f"/v1/catalog/operations?{query}")).data["items"]]

    everything = await page("limit=100")
    assert everything == sorted(everything)
    assert len(everything) == 1 + 2 + 7
    for limit in (1, 2, 3):
        pages = [await page(f"limit={limit}&offset={offset}") for offset in range(0, 12, limit)]
        assert [kind for shown in pages for kind in shown] == everything
    assert await page("limit=100&offset=3&api=a-shop") == everything[3:7]


@pytest.mark.both_stores
async def test_a_renewed_document_changes_no_node(api: Client, echo: Echo) -> None:
    await bring_in(api, document(echo, **{"/gone": {"get": {"operationId": "gone"}}}))
    made = await api.create_workflow(workflow("shop.write-order", {"id": 1, "body": {"symbol": "ETH"}}))
    pinned = made["definition"]["nodes"]["ask"]["payload"]
    assert (pinned["server"], pinned["effect"], len(pinned["operation"])) == (echo.url, "write", 32)

    renewed = document(echo, **{"/new": {"get": {"operationId": "new"}}})
    renewed["components"]["schemas"]["Order"]["required"] = ["symbol", "amount"]
    found = (await api.post("/v1/catalog/imports/shop/renew", {"document": renewed})).data

    named = {name: found["changes"][name]["types"] for name in ("added", "changed", "removed")}
    assert named == {"added": ["shop.new"], "changed": ["shop.write-order"], "removed": ["shop.gone"]}
    used = {"type": "shop.write-order", "operation": pinned["operation"], "state": "changed"}
    assert [one["operations"] for one in found["users"]] == [[used]]
    assert (await api.get("/v1/catalog/operations/shop.gone")).code == Code.TYPE_UNKNOWN
    assert [one["type"] for one in (await api.get("/v1/catalog/operations?q=gone")).data["items"]] == []
    assert (await api.post(f"/v1/workflows/{made['id']}/publish")).status == 200
    done = (await api.post(f"/v1/workflows/{made['id']}/run-sync")).data
    assert done["status"] == "success", done
    moved = await api.create_workflow(workflow("shop.write-order", {"id": 1, "body": {"symbol": "ETH"}}))
    problems = (await api.post(f"/v1/workflows/{moved['id']}/publish")).body["details"]
    assert [one["field"] for one in problems] == ["nodes.ask.payload.args.body.amount"]

    refused = await api.delete("/v1/catalog/imports/shop")
    assert (refused.code, {one["workflowId"] for one in refused.body["details"]}) == (
        Code.IMPORT_IN_USE,
        {made["id"], moved["id"]},
    )
    for one in (made, moved):
        assert (await api.delete(f"/v1/workflows/{one['id']}")).status == 200
    assert (await api.delete("/v1/catalog/imports/shop")).status == 200
    assert (await api.get("/v1/catalog/imports")).data["items"] == []
    assert (await api.get("/v1/catalog/operations")).data["items"] == []
    assert (await bring_in(api, document(echo)))["version"] == 1


async def test_a_run_sends_what_the_document_describes(api: Client, echo: Echo) -> None:
    await bring_in(api, document(echo))
    read = await run(api, workflow("shop.read-order", {"id": "{{2 + 3}}"}))
    written = await run(api, workflow("shop.write-order", {"id": 7, "body": {"symbol": "{{'E' + 'TH'}}"}}))

    assert (read["status"], written["status"]) == ("success", "success")
    assert [(one.method, one.path_qs) for one in echo.seen] == [("GET", "/echo?id=5"), ("PUT", "/echo?id=7")]
    assert echo.seen[1].headers["Content-Type"] == "application/json"
    assert echo.seen[1].headers["Idempotency-Key"]
    assert await echo.seen[1].text() == '{"symbol":"ETH"}'


async def test_a_simulation_reads_and_holds_writes_back(api: Client, echo: Echo) -> None:
    await bring_in(api, document(echo), effects={"shop.read-order": "write"})
    body = {"id": 1, "body": {"symbol": "ETH"}}
    for definition in (workflow("shop.read-order", {"id": 1}), workflow("shop.write-order", body)):
        assert (await run(api, definition, simulate=True))["status"] == "success"
    assert echo.seen == []

    renewed = await api.post(
        "/v1/catalog/imports/shop/renew", {"document": document(echo), "effects": {"shop.read-order": "read"}}
    )
    assert renewed.data["changes"]["changed"]["types"] == ["shop.read-order"]
    await run(api, workflow("shop.read-order", {"id": 1}), simulate=True)
    assert [one.method for one in echo.seen] == ["GET"]


async def test_wrong_arguments_are_refused_before_anything_is_sent(api: Client, echo: Echo) -> None:
    await bring_in(api, document(echo))

    async def problems(args: Any, **payload: Any) -> list[tuple[str, str]]:
        answer = await api.post("/v1/workflows/validate", {"definition": workflow("shop.write-order", args, **payload)})
        return [(one["field"].removeprefix("nodes.ask.payload."), one["message"]) for one in answer.data["errors"]]

    assert await problems({"id": "{{1}}", "body": {"symbol": "{{2}}"}}) == []
    assert {one[0] for one in await problems({"id": "x", "body": {}})} == {"args.id", "args.body.symbol"}
    assert [one[0] for one in await problems({"id": 1, "body": {"symbol": "a"}, "ID": 1})] == ["args.ID"]
    good = {"id": 1, "body": {"symbol": "a"}}
    assert [one[0] for one in await problems(good, effect="read")] == ["effect"]
    assert [one[0] for one in await problems(good, server="https://elsewhere.example")] == ["server"]
    assert [one[0] for one in await problems(good, operation="0" * 32)] == ["operation"]
    failed = await run(api, workflow("shop.write-order", {"id": 1, "body": {"symbol": "{{5}}"}}))
    assert (failed["status"], echo.seen) == ("failure", [])
    unknown = await api.post("/v1/runs/sync", {"definition": workflow("shop.none", {})})
    assert unknown.code == Code.DEFINITION_INVALID


@pytest.mark.both_stores
async def test_names_that_do_not_exist_are_compared_with_few(server: Composition, api: Client, echo: Echo) -> None:
    verbs = ("read", "write", "close", "open", "watch", "count")
    paths: Json = {
        f"/{verb}/{at}": {"get": {"operationId": f"{verb}Shelf{at}Of{'Big' if at % 2 else 'Small'}House"}}
        for verb in verbs
        for at in range(200)
    }
    await bring_in(api, document(echo, **paths))

    async def told(kind: str) -> str:
        answer = await api.get(f"/v1/catalog/operations/{kind}")
        assert answer.code == Code.TYPE_UNKNOWN
        return str(answer.body["message"])

    assert '"shop.write-order"' in await told("shop.write-ordr")
    assert '"shop.watch-shelf77-of-big-house"' in await told("shop.wtach-shelf77-of-big-house")
    assert '"shop.count-shelf10-of-small-house"' in await told("shp.count-shelf10-of-smal-house")
    assert "Did you mean" not in await told("elsewhere.count")
    answer = await api.post("/v1/workflows/validate", {"definition": workflow("shop.write-ordr", {})})
    wanted = 'There is no node type "shop.write-ordr". Did you mean "shop.write-order"'
    assert answer.data["errors"][0]["message"].startswith(wanted)
    assert answer.data["errors"][0]["message"].endswith("See GET /v1/catalog/operations.")
    org_id = (await server.rows(sa.select(catalog_imports.c.org_id)))[0][0]

    def near(tx: Tx) -> list[str]:
        row = rows.find(tx, org_id, "shop")
        assert row is not None
        return rows.types_near(tx, row, "shop.wtach-shelf77-of-big-house")

    compared = await server.parts.database.read(near)
    assert len(compared) == len(set(compared)) < 300


async def test_a_document_is_fetched_through_the_guard(server: Composition, api: Client, echo: Echo) -> None:
    refused = await api.post("/v1/catalog/imports", {"url": "http://10.0.0.1/openapi.json"})
    assert (refused.status, "10.0.0.1" in json.dumps(refused.body)) == (400, True)
    private = document(echo)
    private["servers"] = [{"url": "http://10.0.0.1/v1"}]
    hidden = await api.post("/v1/catalog/imports", {"document": private})
    assert [one["field"] for one in hidden.body["details"]] == ["server"]
    assert "cannot be reached" in hidden.body["details"][0]["message"]
    assert (await api.get("/v1/catalog/imports")).data["items"] == []
    assert (await api.get("/v1/catalog/operations")).data["items"] == []
    assert (await bring_in(api, private, server=echo.url))["operations"] == 2
    assert (await api.post("/v1/catalog/imports", {"document": document(echo)})).code == Code.IMPORT_NAME_TAKEN
    assert (await api.post("/v1/catalog/imports", {})).code == Code.PARAMETER_INVALID
    reader = await server.client_with("workflow:read")
    assert (await reader.get("/v1/catalog/imports/shop")).status == 200
    assert (await reader.post("/v1/catalog/imports", {"document": document(echo)})).status == 403
    other = await server.other_owner()
    assert (await other.get("/v1/catalog/imports/shop")).code == Code.IMPORT_UNKNOWN
    assert (await other.get("/v1/catalog/operations?q=order")).data["items"] == []
    foreign = await other.post("/v1/workflows/validate", {"definition": workflow("shop.read-order", {"id": 1})})
    assert [one["field"] for one in foreign.data["errors"]] == ["nodes.ask.type"]
