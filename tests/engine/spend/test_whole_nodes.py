"""All transactions of a node are judged before the first is signed: the same refusal, gas limits and question in every
mode, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.core.money.intent import Spend
from outbox import ALICE, address, transfer
from rehearsals import SHOP, Run, Studio, error, node, open_studio, told
from testkit.approving import question_of
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import World

HOUR_MS = 3_600_000
NATIVE = f"eip155:{CHAIN_ID}/native"
RETRY = {"maxAttempts": 2, "backoffMs": 1}
TAKES_ONE = "0x5f54600a5760015f55005b5f5ffd"
"""Code that takes one payment and reverts from then on: it reverts if slot 0 is set, and sets it."""


@pytest.fixture
async def studio(tmp_path: Path, world: World, store_url: str) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url) as studio:
            yield studio


def batch(*units: int, token: str = "native", **more: Any) -> dict[str, Any]:
    """Pays so much to one shop after the other."""
    rows = [{"recipient": address(number), "amount": str(one)} for number, one in enumerate(units, 1)]
    return node("batch-transfer", payload={"token": token, "rows": rows}, **more)


def swap(studio: Studio, units: int = 10**6) -> dict[str, Any]:
    payload = {"tokenIn": "USDC", "tokenOut": studio.witness.addresses["dai"], "amountIn": str(units)}
    return node("swap-uniswap-v2", payload={**payload, "slippageBps": 500, "maxPriceImpactBps": 10_000})


def allowance(studio: Studio) -> int:
    return int(studio.witness.read("usdc", "allowance", ALICE, studio.witness.addresses["v2_router"]))


async def transactions(studio: Studio, run: Run) -> list[tuple[Any, ...]]:
    """Of the report of a run: item, what became of it, verdict."""
    names = {"simulated": "done", "final": "done", "mined": "done", "rejected": "refused"}
    return [
        (one["item"], names.get(one["status"], one["status"]), (one.get("verdict") or {}).get("outcome"))
        for one in (await studio.effects(run))["transactions"]
    ]


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"limits": [{"asset": NATIVE, "maxUnits": "10", "windowMs": HOUR_MS}]}, "limits[0]"),
        pytest.param({"limits": [{"maxCount": 2, "windowMs": HOUR_MS}]}, "limits[0]", marks=pytest.mark.long),
        pytest.param({"recipients": [SHOP, address(2)]}, "recipients", marks=pytest.mark.long),
        ({"outflow": {"assets": {NATIVE: "4"}}}, f"outflow.assets.{NATIVE}"),
        pytest.param({"gas": [{"maxFeePerGas": "1"}]}, "gas[0]", marks=pytest.mark.long),
    ],
    ids=["window", "count", "recipient", "outflow", "gas"],
)
async def test_a_refused_row_stops_its_batch_before_the_first_signature(
    studio: Studio, policy: dict[str, Any], field: str
) -> None:
    await studio.let(**policy)
    nonce = studio.outbox.nonce()
    simulated = await studio.simulate({"pay": batch(4, 4, 5, 1, retry=RETRY)})
    live = await studio.bench.run({"pay": batch(4, 4, 5, 1, retry=RETRY)})
    assert [studio.outbox.balance(address(number)) for number in range(1, 5)] == [0] * 4
    assert studio.outbox.nonce() == nonce
    assert error(simulated, "pay") == error(live, "pay"), (told(simulated), told(live))
    assert error(live, "pay")["details"][0]["field"] == field
    assert await transactions(studio, simulated) == await transactions(studio, live)


async def test_a_row_that_reverts_only_after_another_stops_its_batch_before_the_first_signature(studio: Studio) -> None:
    """Each row alone would succeed, so only a simulation of all in their order finds it."""
    studio.outbox.node.rpc("anvil_setCode", address(9), TAKES_ONE)
    nonce = studio.outbox.nonce()
    rows = [{"recipient": address(number), "amount": "4"} for number in (1, 9, 9, 2)]
    nodes = {"pay": node("batch-transfer", payload={"token": "native", "rows": rows})}
    simulated, live = await studio.simulate(nodes), await studio.bench.run(nodes)
    assert [studio.outbox.balance(address(number)) for number in (1, 9, 2)] == [0] * 3
    assert studio.outbox.nonce() == nonce
    assert error(simulated, "pay") == error(live, "pay"), (told(simulated), told(live))
    assert error(live, "pay")["code"] == "REVERTED"
    assert await transactions(studio, simulated) == await transactions(studio, live)


async def test_policy_comes_before_outflow_and_after_cost_in_every_mode(studio: Studio) -> None:
    await studio.let(limits=[{"asset": NATIVE, "maxUnits": "4"}], outflow={"assets": {NATIVE: "3"}})
    for mode in ({"simulate": True}, {}):
        run = await studio.bench.ended(await studio.bench.start({"pay": batch(5)}, **mode))
        assert error(run, "pay")["code"] == "REFUSED"
        run = await studio.bench.ended(await studio.bench.start({"pay": batch(1, 1, 4, 9)}, **mode))
        assert error(run, "pay")["code"] == "OUTFLOW_EXCEEDED"


async def test_gas_limits_of_a_swap_and_of_rows_are_the_same_in_every_mode(studio: Studio) -> None:
    nodes = {"swap": swap(studio), "pay": batch(4, 4, 5, token="DAI")}
    nodes["swap"]["children"] = ["pay"]
    simulated = await studio.simulate(nodes)
    live = await studio.bench.run(nodes)
    assert live["status"] == simulated["status"] == "success", (told(simulated), told(live))
    limits = [
        {one["item"]: one["gasLimit"] for one in (await studio.effects(run))["transactions"]}
        for run in (simulated, live)
    ]
    assert limits[0] == limits[1]
    assert set(limits[0]) == {"approve", "swap", "row[0]", "row[1]", "row[2]"}


async def test_a_swap_over_a_ceiling_leaves_no_allowance(studio: Studio) -> None:
    nonce = studio.outbox.nonce()
    simulated = await studio.simulate({"swap": swap(studio)})
    most = max(one["gasLimit"] for one in (await studio.effects(simulated))["transactions"])
    await studio.let(gas=[{"maxGas": most - 1}])
    refused = [await studio.simulate({"swap": swap(studio)}), await studio.bench.run({"swap": swap(studio)})]
    assert (allowance(studio), studio.outbox.nonce()) == (0, nonce)
    assert error(refused[0], "swap") == error(refused[1], "swap")
    assert error(refused[0], "swap")["message"].endswith(f"The gas limit {most} is over {most - 1}.")
    await studio.let(gas=[{"maxGas": most}])
    assert (await studio.bench.run({"swap": swap(studio)}))["status"] == "success"


async def _asked(studio: Studio, nodes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A started run, and the one question that it asks."""
    run_id = await studio.bench.start(nodes)
    question = (await studio.api.get(f"/v1/approvals/{await question_of(studio.api, run_id)}")).data
    return run_id, question


async def _decide(studio: Studio, question: dict[str, Any], decision: str) -> None:
    reply = await studio.api.post("/v1/api-keys", {"name": "other", "permissions": ["admin"]})
    other = studio.outbox.composition.client(reply.data["key"])
    reply = await other.post(
        f"/v1/approvals/{question['id']}/{decision}", {"binding": question["binding"]} if decision == "approve" else {}
    )
    assert reply.status == 200, reply.body


@pytest.mark.parametrize("above", [{"usd": "0.5"}, {"totals": [{"per": "batch", "usd": "0.5"}]}], ids=["one", "total"])
async def test_a_swap_and_its_allowance_are_one_question(studio: Studio, above: dict[str, Any]) -> None:
    await studio.let(approvalAbove=above)
    nonce = studio.outbox.nonce()
    run_id, question = await _asked(studio, {"swap": swap(studio)})
    assert (allowance(studio), studio.outbox.nonce()) == (0, nonce)
    assert question["message"].startswith("2 transactions together. 1. Let ")
    await _decide(studio, question, "reject")
    run = await studio.bench.ended(run_id)
    assert error(run, "swap")["code"] == "REJECTED"
    assert (allowance(studio), studio.outbox.nonce()) == (0, nonce)
    run_id, question = await _asked(studio, {"swap": swap(studio)})
    await _decide(studio, question, "approve")
    run = await studio.bench.ended(run_id)
    assert run["status"] == "success", told(run)
    assert len((await studio.api.get("/v1/approvals?status=approved")).data["items"]) == 1


async def test_totals_ask_per_batch_run_and_window(studio: Studio) -> None:
    rows = {"pay1": batch(4, 4), "pay2": batch(4)}
    rows["pay1"]["children"] = ["pay2"]
    for per, asked in (
        ({"per": "batch"}, []),
        ({"per": "run"}, ["pay2"]),
        ({"per": "window", "windowMs": HOUR_MS}, ["pay2"]),
    ):
        await studio.let(approvalAbove={"totals": [{**per, "asset": NATIVE, "units": "10"}]})
        report = await studio.effects(await studio.passed(rows))
        assert [one["nodeId"] for one in report["policyVerdicts"] if one["outcome"] == "ask"] == asked, per
    run_id, question = await _asked(studio, rows)
    assert question["nodeId"] == "pay2"
    assert f"4 base units of {NATIVE} on top of the 8 spent" in question["message"]
    await _decide(studio, question, "approve")
    assert (await studio.bench.ended(run_id))["status"] == "success"
    await studio.let(approvalAbove={"totals": [{"per": "run", "asset": NATIVE, "units": "10"}]})
    run_id, question = await _asked(studio, rows)  # each run has its own sum
    assert question["nodeId"] == "pay2"
    await _decide(studio, question, "reject")
    assert error(await studio.bench.ended(run_id), "pay2")["code"] == "REJECTED"


@pytest.mark.both_stores
async def test_what_takes_the_rest_of_a_limit_meanwhile_stops_the_whole_batch(studio: Studio) -> None:
    """Both are judged before either is written; the unit that writes judges again, and takes all rows or none."""
    await studio.let(limits=[{"asset": NATIVE, "maxUnits": "10", "windowMs": HOUR_MS}])
    outbox = studio.outbox
    first, second = outbox.request("first"), outbox.request("second")
    await outbox.outbox.plan(first, Spend((transfer(address(1), 3, "a"), transfer(address(2), 3, "b"))))
    await outbox.outbox.plan(second, Spend((transfer(address(3), 3, "a"), transfer(address(4), 3, "b"))))
    found = await asyncio.gather(outbox.outbox.advance(first), outbox.outbox.advance(second))
    states = sorted({one["status"] for one in status.transactions} for status in found)
    assert {"refused", "cancelled"} in [*states], found
    assert sum(len(one) for one in states) == 3, found
