"""What the routes are driven with: a server with definitions, runs, lists and values as large as it takes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from dustrun import ids
from testkit import plain_mcp
from testkit.authenticator import Authenticator
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.composition import Composition
from testkit.identity_provider import IdentityProvider
from testkit.routes.drivers import Drivers, body_of

Json = dict[str, Any]
ROWS = [{"n": number} for number in range(45_000)]
NUMBERS = [7] * 130_000
"""About 250 KB of JSON, the most that a variable or a row of a table takes."""
LOOPS, ITEMS = 6, 1_000
_PAGE, LARGE_VALUES = 100, 24
_PAY = {"chainId": CHAIN_ID, "recipient": ACCOUNTS[3], "amount": "1000"}


def many_nodes(count: int, text: str) -> Json:
    """A definition with so many nodes that log a text, each its own."""
    names = [f"n{number}" for number in range(count)]
    nodes = {name: {"type": "log", "payload": {"message": f"{name} {text}"}} for name in names}
    return {"nodes": {"root": {"type": "manual", "children": names}, **nodes}, "triggerNodeIds": ["root"]}


def one_node(node: Json, **more: Any) -> Json:
    """A definition whose trigger leads to one node."""
    return {"nodes": {"root": {"type": "manual", "children": ["n"]}, "n": node, **more}, "triggerNodeIds": ["root"]}


def many_spends(count: int) -> Json:
    """A definition with so many nodes that pay."""
    names = [f"pay{number}" for number in range(count)]
    nodes = {name: {"type": "send-native", "payload": _PAY} for name in names}
    return {"nodes": {"root": {"type": "manual", "children": names}, **nodes}, "triggerNodeIds": ["root"]}


def each(body: str, items: Any, **payload: Any) -> Json:
    """A loop."""
    return {"type": "for-each", "payload": {"array": items, "concurrency": 50, **payload}, "loopBody": [body]}


LARGE, CHANGED = many_nodes(900, "x" * 1_000), many_nodes(900, "y" * 1_000)
FAILING = {"type": "log", "payload": {"message": "{{1 / $trigger.body.zero}}"}}


def wide() -> Json:
    """Loops with 6,000 executions in all, and a node that fails after them."""
    loops = {f"each{number}": {**each(f"log{number}", list(range(ITEMS))), "children": []} for number in range(LOOPS)}
    log = {"type": "log", "payload": {"message": "{{$item}} " + "w" * 100}}
    logs = {f"log{number}": log for number in range(LOOPS)}
    names = list(loops)
    for name, follower in zip(names, [*names[1:], "fails"], strict=True):
        loops[name]["children"] = [follower]
    root = {"type": "manual", "children": names[:1]}
    return {"nodes": {"root": root, **loops, **logs, "fails": FAILING}, "triggerNodeIds": ["root"]}


def openapi() -> Json:
    """A document with as many operations as a request has room for."""
    schema = {"type": "object", "properties": {f"f{number}": {"type": "string"} for number in range(12)}}
    body = {"content": {"application/json": {"schema": schema}}}
    operation = {"summary": "s" * 150, "requestBody": body}
    paths = {f"/p{number}": {"post": operation} for number in range(900)}
    info = {"title": "Large", "version": "1"}
    return {"openapi": "3.0.3", "info": info, "servers": [{"url": "https://large.example"}], "paths": paths}


@dataclass(slots=True)
class Stored:
    """A server, and the ids of what it has by name. `silent`: a URL that hangs up; `tools_url`: an MCP server;
    `provider`: whom people sign in with."""

    server: Composition
    wallet: str
    silent: str
    tools_url: str
    provider: IdentityProvider
    known: dict[str, str] = field(default_factory=dict)
    devices: dict[str, Authenticator] = field(default_factory=dict)
    keystore: Json = field(default_factory=dict)
    following: Json = field(default_factory=dict)
    drivers: Drivers = field(init=False)

    def __post_init__(self) -> None:
        self.drivers = Drivers(self.server)

    async def send(self, method: str, path: str, document: Any = None) -> Any:
        """The data of an answer that must be a success."""
        body = None if document is None else body_of(document)
        status, answer = await self.drivers.call(method, path, body)
        assert status == 200, (method, path, answer[:500])
        return json.loads(answer)["data"]

    async def workflow(self, definition: Json, **fields: Any) -> str:
        """The id of a new workflow."""
        body = {"name": ids.new_id("w"), "description": "d" * 2000, "definition": definition, **fields}
        return str((await self.send("POST", "/v1/workflows", body))["id"])

    async def begin(self, definition: Json, **options: Any) -> str:
        """The id of a run that has begun."""
        run_id = ids.new_id("run")
        await self.send("POST", "/v1/runs", {"definition": definition, "runId": run_id, **options})
        return run_id

    async def until(self, run_id: str, *statuses: str) -> str:
        """The status of a run, once it is one of these, or final."""
        wanted = {"success", "partial", "failure", "cancelled", *statuses}
        async with asyncio.timeout(60):
            while True:
                status = str((await self.send("GET", f"/v1/runs/{run_id}?summary=true"))["status"])
                if status in wanted:
                    return status
                await asyncio.sleep(0.05)

    async def run(self, definition: Json, **options: Any) -> str:
        """The id of a run that has ended."""
        run_id = await self.begin(definition, **options)
        await self.until(run_id)
        return run_id

    async def build(self) -> None:
        """Makes everything."""
        self.known["wallet"] = self.wallet
        await self._workflows()
        await self._runs()
        await self._wallets()
        await self._triggers()
        await self._lists()
        await self._tools()
        await self._values()

    async def _tools(self) -> None:
        made = await self.send("POST", "/v1/connectors", plain_mcp.connector(self.tools_url))
        self.known["mcp"] = str(made["id"])
        await self.send("POST", f"/v1/connectors/{made['id']}/tools", {})

    async def _workflows(self) -> None:
        large = self.known["large"] = await self.workflow(LARGE)
        template = await self.send("POST", "/v1/templates", {"sourceWorkflowId": large})
        self.known["template"] = str(template["id"])
        await self.send("POST", f"/v1/workflows/{large}/publish")
        await self.send("PUT", f"/v1/workflows/{large}", {"definition": CHANGED})
        self.known["spends"] = await self.workflow(many_spends(900))
        self.known["spare"] = await self.workflow(LARGE)
        log = {"type": "log", "payload": {"message": "{{$trigger.body.rows}}"}}
        self.known["small"] = await self.workflow(one_node(log))
        self.known["limited"] = await self.workflow(one_node(log), maxRuns=10)
        writer = await self.send("POST", "/v1/api-keys", {"name": "w", "permissions": ["workflow:create"]})
        body = body_of({"name": "foreign", "description": "", "definition": many_spends(900)})
        status, answer = await self.drivers.call("POST", "/v1/workflows", body, key=writer["key"])
        assert status == 200, answer
        self.known |= {"foreign": json.loads(answer)["data"]["id"], "key": writer["id"]}

    async def _runs(self) -> None:
        sorting = one_node({"type": "sort", "payload": {"array": "{{$trigger.body.rows}}"}})
        self.known["result"] = await self.run(sorting, payload={"rows": ROWS})
        self.known["wide"] = await self.run(wide(), payload={"zero": 0})
        child = self.known["child"] = await self.workflow(one_node({"type": "log", "payload": {"message": "x" * 200}}))
        call = {"type": "call-workflow", "payload": {"workflowId": child}}
        self.known["callers"] = await self.run(one_node(each("call", list(range(200))), call=call))
        self.known["failed"] = await self.run(one_node(FAILING), payload={"zero": 0, "rows": ROWS})
        root = {"type": "manual", "children": [f"log{number}" for number in range(30)]}
        log = {"type": "log", "payload": {"message": "{{$trigger.body.rows}}"}}
        nodes = dict.fromkeys(root["children"], log)
        self.known["many"] = await self.workflow({"nodes": {"root": root, **nodes}, "triggerNodeIds": ["root"]})
        pays = one_node(each("pay", list(range(60))), pay={"type": "send-native", "payload": _PAY})
        self.known["paid"] = await self.run(pays, simulate=True)
        sign = {"type": "sign-message", "payload": {"message": "m" * 60_000}}
        await self.run(one_node(sign))
        self.known["signature"] = str((await self.send("GET", "/v1/signatures"))["items"][0]["id"])

    async def _wallets(self) -> None:
        """A wallet that only watches, a keystore, and a page of transactions that no block has taken yet."""
        watched = {"name": "watched", "kind": "watch", "address": ACCOUNTS[2]}
        self.known["watched"] = str((await self.send("POST", "/v1/wallets", watched))["id"])
        exported = await self.send("POST", f"/v1/wallets/{self.wallet}/export", {"password": "p" * 1_000})
        self.keystore = exported["keystore"]
        names = [f"pay{number}" for number in range(20)]
        await self.begin(many_spends(len(names)))
        while not (found := (await self.send("GET", "/v1/transactions?status=sent"))["items"]):
            await asyncio.sleep(0.02)
        self.known["transaction"] = str(found[0]["id"])

    async def _triggers(self) -> None:
        """A workflow that follows another, of which some runs have ended."""
        watch = {"workflowIds": [self.known["limited"]], "mode": "simulate"}
        root = {"type": "workflow-finished", "payload": watch, "children": ["say"]}
        self.following = {"nodes": {"root": root, "say": {"type": "log", "payload": {"message": "m" * 900_000}}}}
        follower = self.known["follower"] = await self.workflow(self.following)
        await self.send("POST", f"/v1/workflows/{follower}/publish")
        for _ in range(5):
            await self.send("POST", f"/v1/workflows/{self.known['limited']}/run", {"payload": {"rows": ROWS}})
        while not (found := (await self.send("GET", f"/v1/workflows/{follower}/trigger-events"))["items"]):
            await asyncio.sleep(0.05)
        self.known["event"] = str(found[0]["id"])
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        called = {"type": "webhook", "payload": {"methods": methods}, "children": ["say"]}
        say = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
        webhook = self.known["webhook"] = await self.workflow({"nodes": {"root": called, "say": say}})
        await self.send("POST", f"/v1/workflows/{webhook}/publish")
        fields = {f"field{number}": {"description": "d" * 100} for number in range(400)}
        schema = {"type": "object", "properties": fields}
        asks = {"type": "manual", "payload": {"inputSchema": schema}, "children": ["answer"]}
        answer = {"type": "respond", "payload": {"body": "{{$trigger.body}}"}}
        asking = self.known["asking"] = await self.workflow({"nodes": {"root": asks, "answer": answer}})
        await self.send("POST", f"/v1/workflows/{asking}/publish")

    async def _lists(self) -> None:
        """A full page of everything that is listed."""
        asks = {f"ask{number}": {"type": "approve", "payload": {"message": "m" * 4_000}} for number in range(_PAGE)}
        root = {"type": "manual", "children": list(asks)}
        run = await self.begin({"nodes": {"root": root, **asks}})
        await self.until(run, "waiting")
        self.known["approval"] = str((await self.send("GET", "/v1/approvals?status=pending&limit=1"))["items"][0]["id"])
        hosts = [f"{'h' * 60}{number}.{'x' * 60}.example" for number in range(50)]
        secret = {"token": "t" * 4_000}
        key = {"name": "k" * 255, "permissions": ["run:read"], "workflowIds": [self.known["large"]]}
        for number in range(_PAGE):
            await self.workflow(many_nodes(20, "z"))
            await self.send("POST", "/v1/conversations", {"title": "t" * 255})
            await self.send("POST", "/v1/wallets", {"name": "w" * 255, "description": "d" * 2_000})
            connector = {"type": "http-bearer", "name": f"c{number}", "allowedHosts": hosts, "data": secret}
            self.known["connector"] = str((await self.send("POST", "/v1/connectors", connector))["id"])
            await self.send("POST", "/v1/api-keys", {**key, "description": "d" * 2_000})
        hook = {"name": "h", "url": self.silent, "subscribedEventTypes": ["run.failed"]}
        self.known["hook"] = str((await self.send("POST", "/v1/hooks", hook))["id"])
        document = {"document": openapi(), "name": "large"}
        self.known["import"] = str((await self.send("POST", "/v1/catalog/imports", document))["id"])
        for _ in range(_PAGE):
            sent = await self.send("POST", f"/v1/hooks/{self.known['hook']}/test")
            self.known["delivery"] = str(sent["id"])
        self.known["organization"] = str((await self.send("GET", "/v1/organizations"))["items"][0]["id"])

    async def _values(self) -> None:
        """Values, rows, messages and policies of the largest size."""
        at = f"/v1/workflows/{self.known['large']}/variables/list"
        await self.send("PUT", at, {"type": "list"})
        columns = [{"name": "id", "type": "integer"}, {"name": "data", "type": "json"}]
        table = await self.send("POST", "/v1/tables", {"name": "rows", "primaryKey": "id", "columns": columns})
        second = await self.send("POST", "/v1/tables", {"name": "second", "primaryKey": "id", "columns": columns})
        self.known["second"] = str(second["id"])
        chat = self.known["chat"] = str((await self.send("POST", "/v1/conversations", {"title": "long"}))["id"])
        self.known["table"] = str(table["id"])
        for number in range(LARGE_VALUES):
            await self.send("POST", f"{at}/value", {"value": [*NUMBERS, number]})
            row = {"id": number, "data": NUMBERS}
            await self.send("POST", f"/v1/tables/{table['id']}/rows", {"rows": [row]})
            message = await self.send("POST", f"/v1/conversations/{chat}/messages",
                                      {"role": "user", "content": "dlv_ " + "c" * 1_000_000})  # fmt: skip
            self.known["message"] = str(message["id"])
