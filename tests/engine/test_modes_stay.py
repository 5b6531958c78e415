"""A run stays in its mode, whatever comes: a retry and what is asked of it, an answer, a replay, a called run, a new
version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from engine.conftest import Bench, Definition
from engine.test_subworkflows import call
from outbox import ALICE, Outbox, address, open_outbox
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.contracts import ETHER
from testkit.chain.lent import lent

SHOP = address(1)
NATIVE = f"eip155:{CHAIN_ID}/native"
DUST = 4 * 10**12  # a cent, at 2,500 dollars
MODES: dict[str, dict[str, Any]] = {"simulate": {"simulate": True}, "dust": {"dustTest": True}, "live": {}}
SPENT = {"simulate": 0, "dust": DUST, "live": ETHER}


@pytest.fixture
def node() -> Iterator[Anvil]:
    with lent() as node:
        yield node


@pytest.fixture
async def outbox(tmp_path: Path, node: Anvil) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path, node, network={"confirmations": 1}, static_prices={NATIVE: "2500"}) as outbox:
        yield outbox


@pytest.fixture
def bench(outbox: Outbox) -> Bench:
    return Bench(outbox.composition)


def send(*children: str, to: str = SHOP) -> Definition:
    """A node that sends one coin."""
    payload = {"chainId": CHAIN_ID, "recipient": to, "amount": str(ETHER)}
    return {"type": "send-native", "payload": payload, "children": [*children]}


BROKEN = {"type": "get-erc20-balance", "payload": {"chainId": CHAIN_ID, "token": SHOP, "address": SHOP}}
PAYS = {"root": {"type": "manual", "children": ["pay"]}, "pay": send("then"), "then": BROKEN}
ASKS = {
    "root": {"type": "manual", "children": ["ask"]},
    "ask": {
        "type": "approve",
        "payload": {"message": "Pay?", "timeoutMs": 60_000, "allowStarter": True},
        "children": ["pay"],
    },
    "pay": send(),
}


def _paid(outbox: Outbox, to: str = SHOP) -> int:
    return int(Web3(Web3.HTTPProvider(outbox.node.url)).eth.get_balance(Web3.to_checksum_address(to)))


def _nonce(outbox: Outbox) -> int:
    web3 = Web3(Web3.HTTPProvider(outbox.node.url))
    return int(web3.eth.get_transaction_count(Web3.to_checksum_address(ALICE)))


async def _start(bench: Bench, workflow: str, mode: str, **more: Any) -> str:
    return str((await bench.api.post(f"/v1/workflows/{workflow}/run", MODES[mode], **more)).data["runId"])


async def _flow(bench: Bench, nodes: Definition) -> str:
    return str((await bench.api.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]}))["id"])


@pytest.mark.parametrize("mode", MODES)
async def test_a_retry_is_of_the_same_mode_and_version_and_pays_nothing_twice(
    outbox: Outbox, bench: Bench, mode: str
) -> None:
    workflow = await _flow(bench, PAYS)
    run = await bench.ended(await _start(bench, workflow, mode))
    assert run["status"] == "failure", run
    assert _paid(outbox) == SPENT[mode]
    changed = {**PAYS, "pay": send("then", to=address(2))}
    path = f"/v1/workflows/{workflow}"
    definition = {"nodes": changed, "triggerNodeIds": ["root"]}
    assert (await bench.api.put(path, {"name": "other", "description": "", "definition": definition})).status == 200
    again = run["id"]
    for _ in range(2):
        again = (await bench.api.post(f"/v1/runs/{again}/retry")).data["runId"]
        retried = await bench.ended(again)
        assert (retried["mode"], retried["workflowVersion"], retried["isDustTest"]) == (mode, 1, mode == "dust")
    assert (_paid(outbox), _paid(outbox, address(2))) == (SPENT[mode], 0)
    assert _nonce(outbox) == (0 if mode == "simulate" else 1)


@pytest.mark.parametrize(
    "mode", [pytest.param("simulate", marks=pytest.mark.long), "dust", pytest.param("live", marks=pytest.mark.long)]
)
async def test_a_retry_cannot_be_asked_for_another_mode(bench: Bench, outbox: Outbox, mode: str) -> None:
    """A field that is not heeded would be a rehearsal that moves money."""
    run = await bench.ended(await _start(bench, await _flow(bench, PAYS), mode))
    for body in ({"simulate": True}, {"dustTest": True}, {"simulate": False}, {"mode": "live"}):
        assert (await bench.api.post(f"/v1/runs/{run['id']}/retry", body)).status == 400
    assert len([one for one in (await bench.api.get("/v1/runs")).data["items"] if one["workflowId"]]) == 1
    again = (await bench.api.post(f"/v1/runs/{run['id']}/retry", {})).data["runId"]
    assert (await bench.ended(again))["mode"] == mode


@pytest.mark.parametrize("mode", ["simulate", pytest.param("dust", marks=pytest.mark.long), "live"])
async def test_a_replay_is_of_the_same_mode(bench: Bench, outbox: Outbox, mode: str) -> None:
    workflow = await _flow(bench, PAYS)
    headers = {"Idempotency-Key": "order-17"}
    run = await _start(bench, workflow, mode, headers=headers)
    await bench.ended(run)
    assert await _start(bench, workflow, mode, headers=headers) == run
    for other in MODES.keys() - {mode}:
        path = f"/v1/workflows/{workflow}/run"
        assert (await bench.api.post(path, MODES[other], headers=headers)).status == 409
        assert (await bench.api.post(path, {**MODES[other], "runId": run})).status == 400
    first, second = [
        (await bench.api.post(f"/v1/runs/{run}/retry", headers={"Idempotency-Key": "again"})).data["runId"]
        for _ in range(2)
    ]
    assert first == second
    assert (await bench.ended(first))["mode"] == mode
    assert _paid(outbox) == SPENT[mode]


@pytest.mark.parametrize("mode", ["dust", pytest.param("live", marks=pytest.mark.long)])
async def test_an_answer_goes_on_in_the_mode(bench: Bench, outbox: Outbox, mode: str) -> None:
    run = await _start(bench, await _flow(bench, ASKS), mode)
    async with asyncio.timeout(60):
        while not (asked := (await bench.api.get("/v1/approvals")).data["items"][:1]) or asked[0]["runId"] != run:
            await asyncio.sleep(0.02)
    assert (await bench.api.post(f"/v1/approvals/{asked[0]['id']}/approve", {})).status == 200
    assert (await bench.ended(run))["mode"] == mode
    assert _paid(outbox) == SPENT[mode]


@pytest.mark.parametrize("mode", [pytest.param("simulate", marks=pytest.mark.long), "dust", "live"])
async def test_called_runs_and_their_retries_are_of_the_callers_mode(bench: Bench, outbox: Outbox, mode: str) -> None:
    callee = await _flow(bench, PAYS)
    caller = await _flow(bench, {"root": {"type": "manual", "children": ["call"]}, "call": call(callee)})
    run = await bench.ended(await _start(bench, caller, mode))
    assert run["status"] == "failure"
    (child,) = (one for one in (await bench.api.get("/v1/runs")).data["items"] if one["parentRunId"] == run["id"])
    for one in (child["id"], run["id"]):
        await bench.ended((await bench.api.post(f"/v1/runs/{one}/retry")).data["runId"])
    runs = [one for one in (await bench.api.get("/v1/runs")).data["items"] if one["workflowId"] in (callee, caller)]
    assert (len(runs), {one["mode"] for one in runs}) == (5, {mode})
    assert _paid(outbox) == SPENT[mode]


async def test_called_runs_share_the_cap_of_the_dust_test_that_calls_them(bench: Bench, outbox: Outbox) -> None:
    """A dollar in all, at four cents each, however many runs they are spread over."""
    pay = {**send(), "dustAmount": str(4 * DUST)}
    callee = await _flow(bench, {"root": {"type": "manual", "children": ["pay"]}, "pay": pay})
    each = {
        "type": "for-each",
        "payload": {"array": list(range(27)), "concurrency": 9, "onItemError": "continue"},
        "loopBody": ["call"],
    }
    nodes = {"root": {"type": "manual", "children": ["each"]}, "each": each, "call": call(callee)}
    run = await bench.ended(await _start(bench, await _flow(bench, nodes), "dust"))
    assert run["status"] == "partial", run["error"]
    assert (_paid(outbox), _nonce(outbox)) == (25 * 4 * DUST, 25)
    await bench.ended((await bench.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"])
    assert _nonce(outbox) == 25
