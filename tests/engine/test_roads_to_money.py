"""The roads from a key that may not spend to money that is not its own: each is refused, however a run starts. The same
workflow pays unasked while the owner alone has written what shapes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rehearsals import SHOP, Run, Studio, open_studio, pay, say, told
from testkit.chain.contracts import World
from testkit.composition import Client

Json = dict[str, Any]
Attack = Callable[[], Awaitable[Any]]
NEEDED = 409011
EDITOR = (
    *("workflow:create", "workflow:read", "workflow:update", "workflow:publish", "workflow:execute", "run:read"),
    *("table:write", "table:read", "connector:write", "connector:read", "wallet:read"),
)
DEFS = [{"name": "v", "type": "any", "default": "1", "lifetime": "persist"}]


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain) as opened:
            columns = [{"name": "id", "type": "text"}, {"name": "n", "type": "text"}]
            await opened.api.post("/v1/tables", {"name": "t", "primaryKey": "id", "columns": columns})
            yield opened


def define(nodes: Json) -> Json:
    named = {child for one in nodes.values() for child in one.get("children", ())}
    return {"nodes": {"root": {"type": "manual", "children": [one for one in nodes if one not in named]}, **nodes}}


async def write_row(by: Client, units: str) -> None:
    body = {"mode": "upsert", "rows": [{"id": "a", "n": units}]}
    assert (await by.post("/v1/tables/t/rows", body)).status == 200


async def roads_of(studio: Studio, editor: Client) -> list[tuple[str, str, Attack]]:
    """Name, workflow, and what the editor does."""
    owner = studio.api
    found: list[tuple[str, str, Attack]] = []

    async def add(
        name: str, nodes: Json, attack: Callable[[str], Awaitable[Any]], defs: list[Json] | None = None
    ) -> None:
        flow = await studio.workflow(nodes, defs=defs or [])
        found.append((name, flow, lambda: attack(flow)))

    for name, says, uses in (
        ("a called workflow gives the amount", "1", pay("{{ask.result.result.message}}")),
        ("a called workflow gives the recipient", SHOP, pay(1, to="{{ask.result.result.message}}")),
        ("a called workflow decides whether", "yes", pay(1, branch="then")),
    ):
        helper = await studio.workflow({"say": say(says)})
        ask: Json = {"type": "call-workflow", "payload": {"workflowId": helper}, "children": ["pay"]}
        nodes: Json = {"ask": ask, "pay": uses}
        if "branch" in uses:
            test = {"type": "if", "payload": {"expression": "ask.result.result.message == 'yes'"}, "children": ["pay"]}
            nodes = {"ask": {**ask, "children": ["test"]}, "test": test, "pay": uses}

        async def edit(_: str, helper: str = helper) -> None:
            changed = {"definition": define({"say": say("7")})}
            assert (await editor.put(f"/v1/workflows/{helper}", changed)).status == 200

        await add(name, nodes, edit)

    data = {"token": "a-token-of-the-owner"}
    body = {"type": "http-bearer", "name": "c", "data": data, "allowedHosts": ["one.example.com"]}
    connector = (await owner.post("/v1/connectors", body)).data["id"]
    request = {
        "type": "http-request",
        "connector": {"type": "http-bearer", "id": connector},
        "payload": {"url": "https://one.example.com/x"},
        "children": ["pay"],
    }

    async def move(_: str) -> None:
        change = {"data": {"token": "a-token-of-the-editor"}, "allowedHosts": ["two.example.com"]}
        assert (await editor.put(f"/v1/connectors/{connector}", change)).status == 200

    await add("a connector is moved", {"ask": request, "pay": pay("{{string(ask.result.body.n)}}")}, move)

    async def write(_: str) -> None:
        await write_row(editor, "7")

    await write_row(owner, "1")
    read = {"type": "read-table", "payload": {"table": "t"}, "children": ["pay"]}
    await add("a row is written", {"read": read, "pay": pay("{{read.result.first.n}}")}, write)

    async def assign(flow: str) -> None:
        assert (await editor.post(f"/v1/workflows/{flow}/variables/v/value", {"value": "7"})).status == 200

    await add("a variable is written", {"pay": pay("{{$vars.v}}")}, assign, DEFS)

    async def rename(flow: str) -> None:
        assert (await editor.put(f"/v1/workflows/{flow}", {"name": "seven"})).status == 200

    await add("the workflow is renamed", {"pay": pay("{{$workflow.name == 'flow' ? '1' : '7'}}")}, rename)
    return found


async def test_no_road_leads_an_editor_to_money(studio: Studio) -> None:
    """Started by the owner, live and as a dust test, by a key that may spend, and by another workflow that is not
    saved."""
    make, owner = studio.outbox.composition, studio.api
    editor = await make.client_with(*EDITOR)
    spender = await make.client_with("workflow:execute", "wallet:spend", "run:read")

    async def codes(flow: str) -> set[int]:
        path = f"/v1/workflows/{flow}/run"
        inline = {"definition": define({"call": {"type": "call-workflow", "payload": {"workflowId": flow}}})}
        return {
            (await owner.post(path, {})).code,
            (await owner.post(path, {"dustTest": True})).code,
            (await spender.post(path, {})).code,
            (await owner.post("/v1/runs", inline)).code,
        }

    open_roads, refused = {}, {}
    for name, flow, attack in await roads_of(studio, editor):
        before = await codes(flow)
        if before != {200}:
            refused[name] = before
        await attack()
        after = await codes(flow)
        if after != {NEEDED}:
            open_roads[name] = after
    assert (open_roads, refused) == ({}, {})


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
