"""A dust test whose world moves between plan and signature: prices, pools, decimals of a token, another dust test.
What is spent is about a cent by the balances, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.test_dust import FINE, SHOP, Till
from outbox import ALICE, open_outbox
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import ETHER, RICH, World

CAP_USD = Decimal("0.05")


@pytest.fixture
async def till(tmp_path: Path, world: World) -> AsyncIterator[Till]:
    """Prices are kept for a tenth of a second."""
    with world.node() as node:
        described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
        fields = {**described, "blockTimeMs": 200, "confirmations": 1}
        static = {f"eip155:{CHAIN_ID}/erc20:{world[FINE]}": "0.000000000001"}
        async with open_outbox(tmp_path, node, network=fields, static_prices=static, price_keep_ms=100) as outbox:
            yield Till(outbox, world.witness(node))


async def _planned(till: Till, **nodes: dict[str, Any]) -> str:
    """A dust test that has told its plan and waits for a person."""
    ask = {
        "type": "approve",
        "payload": {"message": "Go on?", "timeoutMs": 600_000, "allowStarter": True},
        "children": [next(iter(nodes))],
    }
    root = {"type": "manual", "children": ["ask"]}
    body = {"definition": {"nodes": {"root": root, "ask": ask, **nodes}}, "dustTest": True}
    run_id: str = (await till.api.post("/v1/runs", body)).data["runId"]
    await till.bench.until(run_id, lambda run: run["executionState"].get("ask", {}).get("status") == "waiting")
    return run_id


async def _go_on(till: Till, run_id: str) -> dict[str, Any]:
    """Approved, and ended."""
    await asyncio.sleep(0.15)
    (asked,) = [one for one in (await till.api.get("/v1/approvals")).data["items"] if one["runId"] == run_id]
    assert (await till.api.post(f"/v1/approvals/{asked['id']}/approve", {})).status == 200
    return await till.bench.ended(run_id)


@pytest.mark.parametrize(("usd", "status"), [("2.5", "success"), ("2500000", "failure")])
async def test_a_price_that_moves_after_the_plan_counts_when_it_is_spent(till: Till, usd: str, status: str) -> None:
    """The amount follows the median, which the feed alone does not move; the cap asks the feed, and refuses."""
    run_id = await _planned(till, pay=till.node("send-native", recipient=SHOP, amount=str(5 * ETHER)))
    till.witness.send("eth_usd", "set", int(Decimal(usd) * 10**8))
    run = await _go_on(till, run_id)
    assert run["status"] == status, run["executionState"]
    spent = Decimal(till.witness.native(SHOP)) / ETHER
    assert spent * max(Decimal(2500), Decimal(usd)) <= CAP_USD
    assert (spent == 0) == (status == "failure")


async def test_a_pool_that_moves_after_the_plan_costs_no_more_than_dust(till: Till) -> None:
    swap = till.node("swap-uniswap-v2", tokenIn="USDC", tokenOut="native", amountIn="2500000000", slippageBps="100")
    usdc = till.witness.balance("usdc", ALICE)
    run_id = await _planned(till, swap=swap)
    path = [till.witness.addresses["weth"], till.witness.addresses["usdc"]]
    till.witness.send("v2_router", "swapExactETHForTokens", 0, path, RICH, 2**40, value=300 * ETHER)
    run = await _go_on(till, run_id)
    spent = usdc - till.witness.balance("usdc", ALICE)
    assert 0 <= spent <= 50_000, run["executionState"]
    assert till.witness.allowance("usdc", ALICE, till.witness.addresses["v2_router"]) <= 50_000


async def test_a_token_whose_decimals_are_no_longer_those_of_the_file_is_not_spent(till: Till) -> None:
    """The token's answer falls from 24 to 6 after the plan: a cent's worth would be 10^18 times fewer units."""
    token = till.witness.addresses[FINE]
    till.witness.send(FINE, "mint", ALICE, 10**36)
    run_id = await _planned(till, pay=till.node("send-erc20-token", token=token, recipient=SHOP, amount=str(10**35)))
    other = till.witness.deploy("usdc", "Six", "SIX", 6)
    code = till.outbox.node.rpc("eth_getCode", other, "latest")
    till.outbox.node.rpc("anvil_setCode", token, code)
    run = await _go_on(till, run_id)
    assert run["executionState"]["pay"]["error"]["code"] == "INVALID_INPUT"
    assert till.witness.balance(FINE, SHOP) == 0


async def test_two_dust_tests_at_once_share_the_wallets_daily_limit(till: Till) -> None:
    """Seven cents a day; each of the two would spend five."""
    await till.allow(limits=[{"maxUsd": "0.07", "windowMs": 86_400_000}])
    nodes = {f"p{n}": till.node("send-native", recipient=SHOP, amount=str(ETHER)) for n in range(5)}
    root = {"type": "manual", "children": list(nodes)}
    body = {"definition": {"nodes": {"root": root, **nodes}}, "dustTest": True}
    before = till.outbox.nonce()
    started = [(await till.api.post("/v1/runs", body)).data["runId"] for _ in range(2)]
    ended = [await till.bench.ended(run_id) for run_id in started]
    assert till.outbox.nonce() - before == 7, [run["executionState"] for run in ended]
    assert till.witness.native(SHOP) == 7 * 4 * 10**12
