"""Two spends of one wallet that approve the same token for the same spender at the same time: a dust test never lowers
what the other set, whichever is signed first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from engine.test_dust import Till
from outbox import ALICE, open_outbox
from testkit.chain.contracts import World
from testkit.chain.rpc_proxy import proxy

_DUST, _MORE = 10_000, 30_000


@dataclass
class Gate:
    """Holds the estimate of an approval of the dust amount back until it is opened."""

    till: Till
    door: asyncio.Event
    knocked: asyncio.Event


@pytest.fixture
async def gate(tmp_path: Path, world: World) -> AsyncIterator[Gate]:
    door, knocked = asyncio.Event(), asyncio.Event()

    async def wait(request: web.Request) -> None:
        body = await request.read()
        if b"eth_estimateGas" in body and b"0x095ea7b3" in body and f"{_DUST:064x}".encode() in body:
            knocked.set()
            await door.wait()

    with world.node() as node:
        described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
        fields = {**described, "blockTimeMs": 200, "confirmations": 1}
        async with (
            proxy(node.url, reply=wait) as front,
            open_outbox(tmp_path, node, network=fields, url=front.url) as outbox,
        ):
            yield Gate(Till(outbox, world.witness(node)), door, knocked)
            door.set()


def _approval(till: Till, amount: int, **node: Any) -> dict[str, Any]:
    payload: dict[str, Any] = {"token": "USDC", "spender": till.witness.addresses["v2_router"], "amount": str(amount)}
    return {**till.node("approve-erc20", **payload), **node}


async def _start(till: Till, node: dict[str, Any], *, is_dust: bool = True) -> str:
    return await till.bench.start({"pay": node}, dustTest=is_dust)


def _swap(till: Till) -> dict[str, Any]:
    return till.node("swap-uniswap-v2", tokenIn="USDC", tokenOut="native", amountIn="2500000000", slippageBps="100")


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("approve", "dust"),
        ("swap", "live"),
        pytest.param("approve", "live", marks=pytest.mark.long),
        pytest.param("swap", "dust", marks=pytest.mark.long),
    ],
)
async def test_an_approval_that_was_set_after_the_allowance_was_read_is_not_lowered(
    gate: Gate, kind: str, other: str
) -> None:
    till = gate.till
    first = await _start(till, _swap(till) if kind == "swap" else _approval(till, 5_000_000_000))
    await gate.knocked.wait()  # it has read an allowance of 0
    if other == "dust":
        second = await _start(till, _approval(till, 5_000_000_000, dustAmount=str(_MORE)))
    else:
        second = await _start(till, _approval(till, _MORE), is_dust=False)
    assert (await till.bench.ended(second))["status"] == "success"
    gate.door.set()
    run = await till.bench.ended(first)
    assert run["status"] == "success", run["executionState"]
    spent = _DUST if kind == "swap" else 0
    assert till.witness.allowance("usdc", ALICE, till.witness.addresses["v2_router"]) == _MORE - spent


async def test_an_approval_waits_for_one_that_is_signed_and_not_mined(gate: Gate) -> None:
    till, node = gate.till, gate.till.outbox.node
    gate.door.set()
    node.rpc("evm_setAutomine", False)
    first = await _start(till, _approval(till, 5_000_000_000, dustAmount=str(_MORE)))
    await till.bench.until(first, lambda run: run["executionState"].get("pay", {}).get("status") == "waiting")
    second = await _start(till, _approval(till, 5_000_000_000))
    await till.bench.until(second, lambda run: run["executionState"].get("pay", {}).get("status") == "waiting")
    found = (await till.api.get("/v1/transactions")).data["items"]
    assert [one["status"] for one in found] == ["planned", "sent"]
    assert "never lowers" in found[0]["waitsBecause"]
    node.mine()
    node.rpc("evm_setAutomine", True)
    for run_id in (first, second):
        run = await till.bench.ended(run_id)
        assert run["status"] == "success", run["executionState"]
    assert till.witness.allowance("usdc", ALICE, till.witness.addresses["v2_router"]) == _MORE
