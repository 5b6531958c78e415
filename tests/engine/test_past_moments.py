"""Simulations as of a moment in the past: the state, clock and fees of that block, and never a passed rehearsal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dustrun import clock
from dustrun.core.run.as_of import AsOf
from dustrun.services.access.api_keys import principal_of
from dustrun.services.runs.start_request import RunRequest
from dustrun.storage.access import keys as key_rows
from engine.conftest import Bench
from outbox import Outbox, address, open_outbox
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil

SHOP, FUNDER = address(77), ACCOUNTS[3]
Json = dict[str, Any]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Outbox]:
    a_month_ago = clock.now_ms() // 1000 - 30 * 86_400
    with Anvil("--no-mining", "--timestamp", str(a_month_ago)) as node:
        node.rpc("evm_mine")
        async with open_outbox(tmp_path, node) as outbox:
            yield outbox


def definition(world: Outbox, **nodes: Json) -> Json:
    wallet = {"type": "wallet", "id": world.wallet_id}
    pay = {
        "type": "send-native",
        "connector": wallet,
        "payload": {"chainId": CHAIN_ID, "recipient": SHOP, "amount": str(10**18)},
    }
    look = {"type": "get-balance", "payload": {"chainId": CHAIN_ID, "address": SHOP}, "children": ["pay"]}
    return {"nodes": {"root": {"type": "manual", "children": ["look"]}, "look": look, "pay": pay, **nodes}}


def mined(world: Outbox, units: int) -> tuple[int, int]:
    """Pays SHOP in a block of its own; number and time of that block."""
    sent = {"from": FUNDER, "to": SHOP, "value": hex(units), "gas": "0x5208"}
    world.node.rpc("eth_sendTransaction", sent)
    world.node.rpc("evm_mine")
    block = world.node.rpc("eth_getBlockByNumber", "latest", False)
    return int(block["number"], 16), int(block["timestamp"], 16)


async def run_as_of(world: Outbox, flow: Json, as_of: AsOf) -> Json:
    parts = world.composition.parts
    row = await parts.database.read(lambda tx: key_rows.find(tx, world.org_id, world.key_id))
    assert row is not None
    request = RunRequest(simulate=True, as_of=as_of, source="backtest")
    created = await parts.starts.start(principal_of(row), flow["id"], request)
    return await Bench(world.composition).ended(created.run_id)


async def test_a_run_meets_the_state_of_its_block_and_its_clock(world: Outbox) -> None:
    flow = await world.composition.owner.create_workflow(definition(world))
    first, first_s = mined(world, 7)
    mined(world, 100)
    run = await run_as_of(world, flow, AsOf(first_s * 1000, {CHAIN_ID: first}))
    assert run["status"] == "success", run
    assert run["executionState"]["look"]["result"]["balance"] == "7"
    assert run["simulationForks"][0]["blockNumber"] == first
    begun = datetime.fromisoformat(run["executionState"]["look"]["startedAt"]).timestamp()
    assert first_s <= begun < first_s + 3600
    assert datetime.fromisoformat(run["startedAt"]).timestamp() > first_s + 20 * 86_400
    report = (await world.composition.owner.get(f"/v1/runs/{run['id']}/effects")).data
    assert report["balanceChanges"][-1]["amount"] in (str(10**18), str(-(10**18)))
    assert (report["passed"], [one["code"] for one in report["notPassed"]]) == (False, ["PAST"])
    assert run["asOf"] is not None


async def test_a_chain_that_is_not_named_starts_from_its_last_block_by_then(world: Outbox) -> None:
    flow = await world.composition.owner.create_workflow(definition(world))
    before = int(world.node.rpc("eth_getBalance", SHOP, "latest"), 16)
    number, at_s = mined(world, 11)
    world.node.rpc("evm_increaseTime", 3600)
    later, _ = mined(world, 13)
    assert later > number
    run = await run_as_of(world, flow, AsOf((at_s + 1) * 1000, {}))
    assert run["executionState"]["look"]["result"]["balance"] == str(before + 11)
    assert run["simulationForks"][0]["blockNumber"] == number


async def test_it_opens_no_gate_that_asks_for_a_rehearsal(world: Outbox) -> None:
    api = world.composition.owner
    flow = await api.create_workflow(definition(world), requireRehearsal="simulate")
    number, at_s = mined(world, 1)
    run = await run_as_of(world, flow, AsOf(at_s * 1000, {CHAIN_ID: number}))
    assert (run["status"], run["passed"]) == ("success", False)
    refused = await api.post(f"/v1/workflows/{flow['id']}/publish")
    assert refused.status == 409, refused.body
    now = await Bench(world.composition).ended(
        (await api.post(f"/v1/workflows/{flow['id']}/run", {"simulate": True})).data["runId"]
    )
    assert now["passed"] is True
    assert (await api.post(f"/v1/workflows/{flow['id']}/publish")).status == 200


async def test_called_runs_are_of_the_same_moment(world: Outbox) -> None:
    api = world.composition.owner
    child = await api.create_workflow(definition(world))
    call = {"type": "call-workflow", "payload": {"workflowId": child["id"]}, "children": ["say"]}
    flow = await api.create_workflow(
        {
            "nodes": {
                "root": {"type": "manual", "children": ["call"]},
                "call": call,
                "say": {"type": "log", "payload": {"message": "at {{$now}}"}},
            },
            "triggerNodeIds": ["root"],
        }
    )
    number, at_s = mined(world, 5)
    there = int(world.node.rpc("eth_getBalance", SHOP, hex(number)), 16)
    mined(world, 1000)
    run = await run_as_of(world, flow, AsOf(at_s * 1000, {CHAIN_ID: number}))
    assert run["status"] == "success", run
    report = (await api.get(f"/v1/runs/{run['id']}/effects")).data
    assert [one["code"] for one in report["notPassed"]] == ["PAST"]
    called = (await api.get(f"/v1/runs/{report['children'][0]['runId']}")).data
    assert called["executionState"]["look"]["result"]["balance"] == str(there)
    assert called["asOf"] == run["asOf"]


async def test_a_retry_is_of_the_same_moment_and_a_block_to_come_is_refused(world: Outbox) -> None:
    api = world.composition.owner
    flow = await api.create_workflow(definition(world))
    number, at_s = mined(world, 3)
    run = await run_as_of(world, flow, AsOf(at_s * 1000, {CHAIN_ID: number + 10_000}))
    assert run["status"] == "failure"
    assert "has no block" in run["executionState"]["look"]["error"]["message"]
    retried = (await api.post(f"/v1/runs/{run['id']}/retry")).data
    assert retried["asOf"] == run["asOf"]
