"""The roads from a key that may not spend to money that is not its own: each is refused, however a run starts. The same
workflow pays unasked while the owner alone has written what shapes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.trigger_tables import trigger_events
from outbox import ANYTHING, address
from rehearsals import SHOP, Run, Studio, open_studio, pay, say, second_wallet, told
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import World
from testkit.composition import Client
from testkit.model_server import ModelServer, Reply, serving_model
from testkit.routes import table

Json = dict[str, Any]
Attack = Callable[[], Awaitable[Any]]
NEEDED = 409011
EDITOR = (
    *("workflow:create", "workflow:read", "workflow:update", "workflow:publish", "workflow:execute", "run:read"),
    *("table:write", "table:read", "connector:write", "connector:read", "wallet:read", "wallet:write"),
)
ROLES = {
    "deleter": ("table:write", "table:read", "workflow:delete"),
    "publisher": ("workflow:publish", "workflow:read"),
    "archiver": ("workflow:delete", "workflow:read"),
    "keeper of wallets": ("wallet:write",),
}
"""Keys with little more than one right, each of which can change what a workflow of the owner pays."""
AGENT = ("workflow:read", "workflow:simulate", "workflow:execute", "wallet:spend", "run:read")
SPENDER = ("workflow:execute", "wallet:spend", "run:read")
THIEF = address(99)
MUCH = "1000"
"""What an attack would pay; honest runs pay 1, and few of them."""
DEFS = [{"name": "v", "type": "any", "default": "1", "lifetime": "persist"}]


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, outbound_allow=("127.0.0.1",)) as opened:
            columns = [{"name": "id", "type": "text"}, {"name": "n", "type": "text"}]
            for name in ("t", "w", "s", "d"):
                await opened.api.post("/v1/tables", {"name": name, "primaryKey": "id", "columns": columns})
            yield opened


def define(nodes: Json) -> Json:
    named = {child for one in nodes.values() for child in one.get("children", ())}
    return {"nodes": {"root": {"type": "manual", "children": [one for one in nodes if one not in named]}, **nodes}}


async def write_row(by: Client, units: str) -> None:
    body = {"mode": "upsert", "rows": [{"id": "a", "n": units}]}
    assert (await by.post("/v1/tables/t/rows", body)).status == 200


@dataclass(frozen=True)
class Road:
    """A way from a key that may not spend to what a workflow of the owner pays. `payload`: what strangers send, where
    that is the road; those who may spend are trusted with it. `asks`: which starts are asked about."""

    workflow_id: str
    shop: str
    attack: Attack
    asks: frozenset[str] = frozenset()
    is_accepted: bool = False
    payload: Json = field(default_factory=dict)


async def nothing() -> None:
    """The attack lies in what is sent."""


class Roads:
    """Workflows that pay one unit, each to its own shop, and how an editor changes what they pay."""

    def __init__(self, studio: Studio, editor: Client, models: ModelServer, roles: dict[str, Client]) -> None:
        self.studio, self.editor, self.models, self.roles = studio, editor, models, roles
        self.found: dict[str, Road] = {}
        self.wallet = {"type": "wallet", "id": studio.outbox.wallet_id}

    def pay(self, amount: str, to: str = "", **more: Any) -> Json:
        """Pays from a wallet that is named, so that the default one shapes nothing."""
        shop = to or address(100 + len(self.found))
        return pay(amount, to=shop, **{"connector": self.wallet, **more})

    async def add(self, name: str, nodes: Json, attack: Attack, *, defs: list[Json] | None = None, **more: Any) -> None:
        definition = {**rooted(nodes), "variableDefs": defs or []}
        made = await self.studio.api.create_workflow(definition)
        self.found[name] = Road(made["id"], address(100 + len(self.found)), attack, **more)

    async def edit(self, flow: str, nodes: Json, *, by_mcp: bool = False) -> None:
        if by_mcp:
            said = await call_tool(self.editor, "save_workflow", workflowId=flow, definition=define(nodes))
            assert '"version":2' in said, said
            return
        assert (await self.editor.put(f"/v1/workflows/{flow}", {"definition": define(nodes)})).status == 200

    async def add_all(self) -> None:
        """Every road."""
        await self.add_calls()
        await self.add_stores()
        await self.add_outside()
        await self.add_roles()

    async def add_calls(self) -> None:
        """What is called gives the amount or the recipient, or decides; edited over the API and over MCP."""
        said = "{{ask.result.result.message}}"
        for name, says, changed in (
            ("a called workflow gives the amount", "1", MUCH),
            ("a called workflow is edited over MCP", "1", MUCH),
            ("a called workflow gives the recipient", address(100 + 2), THIEF),
            ("a called workflow decides whether", "no", "yes"),
        ):
            helper = await self.studio.workflow({"say": say(says)})
            ask: Json = {"type": "call-workflow", "payload": {"workflowId": helper}, "children": ["pay"]}
            nodes: Json = {"ask": ask, "pay": self.pay(said)}
            if "recipient" in name:
                nodes["pay"] = self.pay("1", to=said)
            if "whether" in name:
                test = {"type": "if", "payload": {"expression": "ask.result.result.message == 'yes'"}}
                nodes = {"ask": {**ask, "children": ["test"]}, "test": {**test, "children": ["pay"]}}
                nodes["pay"] = self.pay(MUCH, branch="then")
            edit = partial(self.edit, helper, {"say": say(changed)}, by_mcp="MCP" in name)
            await self.add(name, nodes, edit)

        helper = await self.studio.workflow({"say": say("1")})
        await self.studio.api.post("/v1/tables/w/rows", {"rows": [{"id": "a", "n": helper}]})
        read = {"type": "read-table", "payload": {"table": "w"}, "children": ["ask"]}
        ask = {"type": "call-workflow", "payload": {"workflowId": "{{read.result.first.n}}"}, "children": ["pay"]}
        await self.add(
            "data names the called workflow", {"read": read, "ask": ask, "pay": self.pay(said)},
            partial(self.edit, helper, {"say": say(MUCH)}), is_accepted=True,
        )  # fmt: skip

    async def add_stores(self) -> None:
        """What others can write: rows, variables, connectors, names, the default wallet."""
        await write_row(self.studio.api, "1")
        read = {"type": "read-table", "payload": {"table": "t"}, "children": ["pay"]}
        paying = self.pay("{{read.result.first.n}}")
        await self.add("a row is written", {"read": read, "pay": paying}, lambda: write_row(self.editor, MUCH))

        async def assign() -> None:
            path = f"/v1/workflows/{self.found['a variable is written'].workflow_id}/variables/v/value"
            assert (await self.editor.post(path, {"value": MUCH})).status == 200

        await self.add("a variable is written", {"pay": self.pay("{{$vars.v}}")}, assign, defs=DEFS)

        async def rename() -> None:
            path = f"/v1/workflows/{self.found['the workflow is renamed'].workflow_id}"
            assert (await self.editor.put(path, {"name": "seven"})).status == 200

        named = self.pay("{{$workflow.name == 'flow' ? '1' : '" + MUCH + "'}}")
        await self.add("the workflow is renamed", {"pay": named}, rename)

        data = {"token": "a-token-of-the-owner"}
        body = {"type": "http-bearer", "name": "c", "data": data, "allowedHosts": ["one.example.com"]}
        connector = (await self.studio.api.post("/v1/connectors", body)).data["id"]
        ask = {
            "type": "http-request",
            "connector": {"type": "http-bearer", "id": connector},
            "payload": {"url": "https://one.example.com/x"},
            "children": ["pay"],
        }

        async def move() -> None:
            change = {"data": {"token": "a-token-of-the-editor"}, "allowedHosts": ["two.example.com"]}
            assert (await self.editor.put(f"/v1/connectors/{connector}", change)).status == 200

        await self.add("a connector is moved", {"ask": ask, "pay": self.pay("{{string(ask.result.body.n)}}")}, move)

        await self.add_document()
        other = await second_wallet(self.studio)

        async def choose() -> None:
            assert (await self.roles["keeper of wallets"].put(f"/v1/wallets/{other}/default")).status == 200

        await self.add("the default wallet is another", {"pay": self.pay("1", connector=None)}, choose)

    async def add_document(self) -> None:
        """An OpenAPI document that the owner imported is imported anew by somebody else, from another server."""

        def at(host: str) -> Json:
            paths = {"/x": {"get": {"operationId": "readPrice"}}}
            info = {"title": "Shop", "version": "1"}
            return {
                "openapi": "3.1.0",
                "info": info,
                "servers": [{"url": f"https://{host}.example.com"}],
                "paths": paths,
            }

        imports = "/v1/catalog/imports"
        assert (await self.studio.api.post(imports, {"document": at("one")})).status == 200
        ask: Json = {"type": "shop.read-price", "payload": {"args": {}}, "children": ["pay"]}

        async def renew() -> None:
            assert (await self.editor.post(f"{imports}/shop/renew", {"document": at("two")})).status == 200

        await self.add("a document is renewed", {"ask": ask, "pay": self.pay("{{string(ask.result.body.n)}}")}, renew)

    async def add_outside(self) -> None:
        """What strangers send, and what a model says that somebody else has talked to."""
        sent = self.pay("{{string($trigger.body.n ?? 1)}}")
        strangers, given = frozenset({"webhook", "form"}), {"n": int(MUCH)}
        await self.add("a stranger sends the amount", {"pay": sent}, nothing, asks=strangers, payload=given)
        connector = (await self.studio.api.post("/v1/connectors", self.models.connector())).data
        ask: Json = {"type": "llm", "payload": {"prompt": "How much?", "maxCostUsd": "1"}, "children": ["pay"]}
        ask["connector"] = {"type": connector["type"], "id": connector["id"]}
        anyone = strangers | {"cronjob", "launch"}
        said = self.pay("{{ask.result.text}}")
        await self.add("a model says the amount", {"ask": ask, "pay": said}, nothing, asks=anyone)
        await self.add_row_of_a_stranger(anyone)

    async def add_row_of_a_stranger(self, anyone: frozenset[str]) -> None:
        """Another workflow of the owner writes what strangers send to its webhook."""
        await self.studio.api.post("/v1/tables/s/rows", {"rows": [{"id": "a", "n": "1"}]})
        row = {"id": "a", "n": "{{string($trigger.body.n)}}"}
        write = {"type": "write-table", "payload": {"table": "s", "mode": "upsert", "rows": row}}
        hook = {"type": "webhook", "payload": {}, "children": ["write"]}
        writing = {"nodes": {"hook": hook, "write": write}, "triggerNodeIds": ["hook"]}
        flow = (await self.studio.api.create_workflow(writing))["id"]
        assert (await self.studio.api.post(f"/v1/workflows/{flow}/publish")).status == 200
        url = (await self.studio.api.post(f"/v1/workflows/{flow}/webhooks/hook/rotate", {})).data["url"]

        async def send() -> None:
            headers = {"Content-Type": "application/json"}
            stranger = self.studio.outbox.composition.client(None)
            await stranger.http.post("/" + url.split("/", 3)[3], content=json.dumps({"n": int(MUCH)}), headers=headers)
            async with asyncio.timeout(60):
                while (await self.studio.api.get("/v1/tables/s/rows/a")).data["values"]["n"] != MUCH:
                    await asyncio.sleep(0.05)

        read = {"type": "read-table", "payload": {"table": "s"}, "children": ["pay"]}
        paying = self.pay("{{read.result.first.n}}")
        await self.add("a stranger has a row written", {"read": read, "pay": paying}, send, asks=anyone)

    async def add_roles(self) -> None:
        """What the owner left there is used by keys that may do little more than one thing."""
        rows = [{"id": "a", "n": "1"}, {"id": "b", "n": MUCH}]
        await self.studio.api.post("/v1/tables/d/rows", {"rows": rows})
        read = {"type": "read-table", "payload": {"table": "d"}, "children": ["pay"]}

        async def drop() -> None:
            assert (await self.roles["deleter"].delete("/v1/tables/d/rows/a")).status == 200

        paying = self.pay("{{read.result.first.n}}")
        await self.add("the first row is deleted", {"read": read, "pay": paying}, drop)
        for name in ("a draft is published", "a workflow is archived and restored"):
            helper = await self.studio.workflow({"say": say("1")})
            path = f"/v1/workflows/{helper}"
            assert (await self.studio.api.post(f"{path}/publish")).status == 200
            draft = {"definition": define({"say": say(MUCH)})}
            assert (await self.studio.api.put(path, draft)).status == 200

            async def choose(path: str = path, publishes: bool = "draft" in name) -> None:
                publisher, archiver = self.roles["publisher"], self.roles["archiver"]
                if publishes:
                    assert (await publisher.post(f"{path}/publish")).status == 200
                else:
                    assert (await archiver.delete(path)).status == 200
                    assert (await archiver.post(f"{path}/unarchive")).status == 200

            ask: Json = {"type": "call-workflow", "payload": {"workflowId": helper}, "children": ["pay"]}
            await self.add(name, {"ask": ask, "pay": self.pay("{{ask.result.result.message}}")}, choose)


def rooted(nodes: Json) -> Json:
    """Nodes that a key, a form, a webhook and a clock start."""
    named = {child for one in nodes.values() for child in one.get("children", ())}
    first = [one for one in nodes if one not in named]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    roots = {
        "root": {"type": "manual", "payload": {"inputSchema": schema}},
        "hook": {"type": "webhook", "payload": {}},
        "clock": {"type": "cronjob", "payload": {"schedule": "*/4 * * * * *"}},
    }
    started = {name: {**root, "children": first} for name, root in roots.items()}
    return {"nodes": {**started, **nodes}, "triggerNodeIds": [*roots]}


async def call_tool(by: Client, name: str, **arguments: Any) -> str:
    """The text of a tool's answer over `/mcp`."""
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-11-25",
    }
    answer = await by.http.post("/mcp", json=table.call_tool(name, **arguments), headers=headers)
    return answer.text.replace('\\"', '"').replace(": ", ":")


class Starts:
    """All ways in which a road's workflow is started, in the owner's name or by whoever sends something."""

    def __init__(self, studio: Studio, spender: Client, agent: Client) -> None:
        self.studio, self.spender, self.agent = studio, spender, agent
        self.stranger = studio.outbox.composition.client(None)
        self.hooks: dict[str, str] = {}
        self.forms: dict[str, str] = {}

    async def arm(self, road: Road) -> None:
        """Publishes a workflow, with an address and a form."""
        owner, path = self.studio.api, f"/v1/workflows/{road.workflow_id}"
        if road.is_accepted:  # what it calls is data, so somebody stands for all that anybody may have written
            assert (await owner.post(f"{path}/versions/1/accept", {})).status == 200
        published = await owner.post(f"{path}/publish")
        assert published.status == 200, published.body
        hook = (await owner.post(f"{path}/webhooks/hook/rotate", {})).data["url"]
        self.hooks[road.workflow_id] = "/" + hook.split("/", 3)[3]
        made = await owner.post(f"{path}/forms", {"mode": "live"})
        self.forms[road.workflow_id] = made.data["url"].rsplit("/", 1)[1]

    async def by_hand(self, road: Road) -> set[int]:
        """Live, as a dust test, by a key that may spend, and by another workflow that is not saved."""
        path = f"/v1/workflows/{road.workflow_id}/run"
        call = {"type": "call-workflow", "payload": {"workflowId": road.workflow_id}}
        return {
            (await self.studio.api.post(path, {})).code,
            (await self.studio.api.post(path, {"dustTest": True})).code,
            (await self.spender.post(path, {})).code,
            (await self.studio.api.post("/v1/runs", {"definition": define({"call": call})})).code,
        }

    async def by_others(self, road: Road) -> tuple[bool, bool, bool]:
        """By its webhook, its form, and the tool of an assistant: which of them started it."""
        flow, given = road.workflow_id, road.payload
        headers = {"Content-Type": "application/json"}
        hook = await self.stranger.http.post(self.hooks[flow], content=json.dumps(given).encode(), headers=headers)
        form = await self.stranger.post(f"/v1/forms/{self.forms[flow]}", {"values": given})
        rehearsal = await self.studio.run(flow, simulate=True)
        asked = {"workflowId": flow, "version": 1, "mode": "live", "rehearsalRunId": rehearsal["id"]}
        tool = await call_tool(self.agent, "launch", **asked)
        return hook.json()["data"]["action"] == "triggered", form.status == 200, '"started":true' in tool

    async def clocks(self) -> dict[str, list[str | None]]:
        """By workflow, why its clock started no run; None: it did. The newest last."""
        columns = (trigger_events.c.workflow_id, trigger_events.c.reason)
        query = sa.select(*columns).where(trigger_events.c.type == "cronjob").order_by(trigger_events.c.pk)
        found: dict[str, list[str | None]] = {}
        for flow, reason in await self.studio.outbox.composition.rows(query):
            found.setdefault(flow, []).append(reason)
        return found


async def test_no_road_leads_an_editor_to_money(studio: Studio) -> None:
    """Every road, however the run is started: nobody who may spend was asked, so nothing is paid. What a starter may
    send, and a model may say, starts and asks."""
    owner, make, other = studio.api, studio.outbox.composition, studio.outbox.nonce(ACCOUNTS[2])
    policy = {name: rule for name, rule in ANYTHING.items() if name != "sources"}
    assert (await owner.put(f"/v1/wallets/{studio.outbox.wallet_id}/policy", {"policy": policy})).status == 200
    editor, agent, spender = [await make.client_with(*rights) for rights in (EDITOR, AGENT, SPENDER)]
    roles = {name: await make.client_with(*rights) for name, rights in ROLES.items()}
    async with serving_model(Reply(MUCH)) as models:
        roads, starts = Roads(studio, editor, models, roles), Starts(studio, spender, agent)
        await roads.add_all()
        honest = {}
        for name, road in roads.found.items():
            await starts.arm(road)
            started = await owner.post(f"/v1/workflows/{road.workflow_id}/run", {})
            honest[name] = started.data["runId"]
        for name in ("a called workflow gives the amount", "a row is written", "the default wallet is another"):
            assert (await studio.bench.ended(honest[name]))["status"] == "success"
            assert studio.outbox.balance(roads.found[name].shop) >= 1
        for road in roads.found.values():
            await road.attack()
        seen = await starts.clocks()
        for name, road in roads.found.items():
            expected = ({200}, (True, True, True)) if road.asks else ({NEEDED}, (False, False, False))
            assert (await starts.by_hand(road), await starts.by_others(road)) == expected, name
        told_of = seen
        async with asyncio.timeout(60):
            while any(len(told_of.get(flow, ())) <= len(seen.get(flow, ())) for flow in starts.hooks):
                await asyncio.sleep(0.1)
                told_of = await starts.clocks()
        for name, road in roads.found.items():
            assert told_of[road.workflow_id][-1] == (None if road.asks else "not_accepted"), name
            if road.asks:
                await all_ask(studio, road)
    assert {name: studio.outbox.balance(road.shop) >= int(MUCH) for name, road in roads.found.items()} == dict.fromkeys(
        roads.found, False
    )
    assert (studio.outbox.balance(THIEF), studio.outbox.nonce(ACCOUNTS[2])) == (0, other)


async def all_ask(studio: Studio, road: Road) -> None:
    """What strangers started, or a model spoke in, waits for a person."""
    asked: set[str] = set()
    async with asyncio.timeout(60):
        while not road.asks <= asked:
            runs = (await studio.api.get(f"/v1/runs?limit=100&workflowId={road.workflow_id}")).data["items"]
            asked = {run["triggerSource"] for run in runs if run["status"] == "waiting"}
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("by_editor", [True, False])
async def test_what_changes_while_a_run_waits_is_judged_before_it_signs(studio: Studio, by_editor: bool) -> None:
    """A wait that the owner resumes does not stand for the row that was written meanwhile; the owner's own does not
    ask, and neither does one that was accepted."""
    make, owner = studio.outbox.composition, studio.api
    writer = await make.client_with(*EDITOR) if by_editor else owner
    await write_row(owner, "1")
    nodes = {
        "wait": {"type": "wait", "payload": {"timeoutMs": 3_600_000}, "children": ["read"]},
        "read": {"type": "read-table", "payload": {"table": "t"}, "children": ["pay"]},
        "pay": pay("{{read.result.first.n}}"),
    }
    flow = await studio.workflow(nodes)

    async def paid(*, is_accepted: bool) -> Run:
        run_id = (await owner.post(f"/v1/workflows/{flow}/run", {})).data["runId"]
        await studio.bench.until(run_id, lambda run: run["status"] == "waiting")
        await write_row(writer, "777")
        if is_accepted:
            assert (await owner.post(f"/v1/workflows/{flow}/versions/1/accept", {})).status == 200
        assert (await owner.post(f"/v1/runs/{run_id}/nodes/wait/resume", {"data": {}})).status == 200
        return await studio.bench.ended(run_id)

    before = studio.outbox.balance(SHOP)
    run = await paid(is_accepted=False)
    if not by_editor:
        assert (run["status"], studio.outbox.balance(SHOP) - before) == ("success", 777), told(run)
        return
    assert (run["status"], 'the table "t"' in str(told(run))) == ("failure", True), told(run)
    assert studio.outbox.balance(SHOP) == before
    assert (await owner.post(f"/v1/workflows/{flow}/versions/1/accept", {})).status == 200
    assert (await paid(is_accepted=True))["status"] == "success"


@pytest.mark.parametrize("is_in_loop", [False, True])
async def test_a_workflow_that_is_edited_while_its_caller_waits_is_judged_before_it_is_taken(
    studio: Studio, is_in_loop: bool
) -> None:
    """It spends nothing itself, and gives the amount: called at once, in a loop, and by another one between."""
    make, owner = studio.outbox.composition, studio.api
    editor, gated = await make.client_with(*EDITOR), ("wait", "approve")
    helper = await studio.workflow({"say": say("1")})
    inner: Json = {"type": "call-workflow", "payload": {"workflowId": helper}, "children": ["out"]}
    between = await studio.workflow({"in": inner, "out": say("{{in.result.result.message}}")})

    async def started(called: str, kind: str) -> str:
        wait: Json = {"type": "wait", "payload": {"timeoutMs": 3_600_000}, "children": ["ask"]}
        ask: Json = {"type": "call-workflow", "payload": {"workflowId": called}, "children": ["pay"]}
        if kind == "approve":
            wait = {"type": "approve", "payload": {"message": "Go on?", "allowStarter": True}, "children": ["ask"]}
            ask["branch"] = "approved"
        nodes: Json = {"wait": wait, "ask": ask, "pay": pay("{{ask.result.result.message}}")}
        if is_in_loop:
            each = {"type": "for-each", "payload": {"array": [1, 2]}, "loopBody": ["ask"]}
            branch = {"branch": ask.pop("branch")} if "branch" in ask else {}
            nodes |= {"wait": {**wait, "children": ["each"]}, "each": {**each, **branch}}
        flow = await studio.workflow(nodes)
        run_id: str = (await owner.post(f"/v1/workflows/{flow}/run", {})).data["runId"]
        await studio.bench.until(run_id, lambda run: run["status"] == "waiting")
        return run_id

    async def ended(run_id: str) -> Run:
        resume = f"/v1/runs/{run_id}/nodes/wait/resume"
        assert (await owner.post(resume, {"data": {"decision": "approved"}})).status == 200
        return await studio.bench.ended(run_id)

    waiting = [await started(called, kind) for called in (helper, between) for kind in gated]
    own = await started(helper, "wait")
    changed = {"definition": define({"say": say("3")})}
    assert (await owner.put(f"/v1/workflows/{helper}", changed)).status == 200
    assert (await ended(own))["status"] == "success"  # the owner's edit asks nobody
    paid = studio.outbox.balance(SHOP)
    assert paid == (6 if is_in_loop else 3)
    assert (await editor.put(f"/v1/workflows/{helper}", {"definition": define({"say": say("777")})})).status == 200
    for run_id in waiting:
        run = await ended(run_id)
        assert (run["status"], helper in str(told(run))) == ("failure", True), told(run)
    assert studio.outbox.balance(SHOP) == paid


@pytest.mark.parametrize("way", ["comment", "a called comment", "a row", "only whether"])
async def test_who_only_decides_names_nobody_who_is_paid(studio: Studio, way: str) -> None:
    """Also not by a row that another workflow keeps of the comment. Who may spend does, and yes or no is for both."""
    owner = studio.api
    clerk, spender = [
        await studio.outbox.composition.client_with("approval:decide", *more) for more in ((), ("wallet:spend",))
    ]
    ask: Json = {"type": "approve", "payload": {"message": "To whom?"}, "children": ["next"]}
    said, to = "{{ask.result.comment}}", address(300)
    follow: Json = {
        "comment": pay("1", to=said),
        "a called comment": say(said),
        "a row": {"type": "write-table", "payload": {"table": "t", "mode": "upsert", "rows": {"id": "c", "n": said}}},
        "only whether": pay("1", to=to),
    }[way]
    flow = await studio.workflow({"ask": ask, "next": {**follow, "branch": "approved"}})
    if way == "a called comment":
        call = {"type": "call-workflow", "payload": {"workflowId": flow}, "children": ["pay"]}
        flow = await studio.workflow({"call": call, "pay": pay("1", to="{{call.result.result.message}}")})

    async def decided(by: Client, comment: str) -> int:
        before = {one["id"] for one in (await owner.get("/v1/approvals?status=pending")).data["items"]}
        run_id = (await owner.post(f"/v1/workflows/{flow}/run", {})).data["runId"]
        async with asyncio.timeout(60):
            while not (fresh := await new_questions(owner, before)):
                await asyncio.sleep(0.05)
        answer = await by.post(f"/v1/approvals/{fresh[0]}/approve", {"comment": comment})
        if answer.status == 200:
            assert (await studio.bench.ended(run_id))["status"] == "success"
        return int(answer.status)

    if way != "a row":
        assert await decided(clerk, THIEF) == (200 if way == "only whether" else 403)
        assert studio.outbox.balance(THIEF) == 0
        assert await decided(spender, to) == 200
        assert studio.outbox.balance(to) >= 1
        return
    read = {"type": "read-table", "payload": {"table": "t", "where": {"id": "c"}}, "children": ["pay"]}
    paying = await studio.workflow({"read": read, "pay": pay("1", to="{{read.result.first.n}}")})
    assert await decided(spender, to) == 200
    assert (await studio.run(paying))["status"] == "success"
    assert await decided(clerk, THIEF) == 200, "it spends nothing itself"
    assert (await owner.post(f"/v1/workflows/{paying}/run", {})).code == NEEDED
    assert studio.outbox.balance(THIEF) == 0


async def new_questions(owner: Client, before: set[str]) -> list[str]:
    """The open questions that were not there before."""
    items = (await owner.get("/v1/approvals?status=pending")).data["items"]
    return [one["id"] for one in items if one["id"] not in before]


FORM = {"type": "object", "properties": {"n": {"type": "integer"}}}
WAYS = ("a new form", "a form of before", "a form of its own", "resume", "refill", "more runs", "webhook")


async def test_nobody_opens_a_way_to_money_that_the_owner_has_not_opened(studio: Studio) -> None:
    """Who may publish and not spend opens, or opens again, nothing by which what is live pays: no form, paused
    workflow, counter of runs, or address. Who may spend does."""
    editor = await studio.outbox.composition.client_with(*EDITOR)
    for way in WAYS:
        opening = Opening(studio, way)
        await opening.prepare(editor)
        assert not await opening.opens(editor), way
        assert studio.outbox.balance(opening.shop) == opening.paid, way
        if way not in ("a form of before", "a form of its own"):
            assert await opening.opens(studio.api), way


class Opening:
    """A live workflow of the owner that pays one unit, and a way to have it pay again."""

    def __init__(self, studio: Studio, way: str) -> None:
        self.studio, self.way, self.paid, self.path = studio, way, 0, ""
        self.shop = address(200 + WAYS.index(way))
        root = {"type": "manual", "payload": {"inputSchema": FORM}, "children": ["pay"]}
        hook = {"type": "webhook", "payload": {}, "children": ["pay"]}
        self.harmless: Json = {"nodes": {"root": root, "pay": say("nothing")}}
        self.paying: Json = {
            "nodes": {"root": root, "hook": hook, "pay": pay("1", to=self.shop)},
            "triggerNodeIds": ["root", "hook"],
        }

    async def prepare(self, editor: Client) -> None:
        owner, first = self.studio.api, self.harmless if self.way == "a form of before" else self.paying
        flow = (await owner.create_workflow(first, maxRuns=1))["id"]
        self.path = f"/v1/workflows/{flow}"
        assert (await owner.post(f"{self.path}/publish")).status == 200
        if self.way == "resume":
            assert (await editor.post(f"{self.path}/pause")).status == 200  # everybody who may publish stops
        if self.way in ("refill", "more runs"):
            assert (await self.studio.run(flow, payload={"n": 1}))["status"] == "success"
            self.paid = 1
        if self.way == "a form of its own":
            call = {"type": "call-workflow", "payload": {"workflowId": flow, "payload": {"n": 1}}}
            root = {**self.paying["nodes"]["root"], "children": ["call"]}
            self.path = f"/v1/workflows/{(await editor.create_workflow({'nodes': {'root': root, 'call': call}}))['id']}"
            await editor.post(f"{self.path}/publish")

    async def opens(self, by: Client) -> bool:
        path = self.path
        if self.way in ("resume", "refill"):
            body = {"remainRuns": 5} if self.way == "refill" else None
            return bool((await by.post(f"{path}/{self.way}", body)).status == 200)
        if self.way == "more runs":
            return bool((await by.put(path, {"maxRuns": 9})).status == 200)
        if self.way == "webhook":
            return bool((await by.post(f"{path}/webhooks/hook/rotate", {})).status == 200)
        made = await by.post(f"{path}/forms", {"mode": "live"})
        if made.status != 200:
            return False
        if self.way == "a form of before":
            assert (await self.studio.api.put(path, {"definition": self.paying})).status == 200
            assert (await self.studio.api.post(f"{path}/publish")).status == 200
        stranger, secret = self.studio.outbox.composition.client(None), made.data["url"].rsplit("/", 1)[1]
        return bool((await stranger.post(f"/v1/forms/{secret}", {"values": {"n": 1}})).status == 200)
