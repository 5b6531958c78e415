"""Gas limits where a transaction takes more in its block than in the newest one: what a pool does once a second is
cheap in the second in which it was done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine.test_dust import Till
from outbox import ALICE, open_outbox
from testkit.chain.contracts import MAX, World
from testkit.chain.rpc_proxy import Answer, Call, proxy

_FOREVER = 2**40


@asynccontextmanager
async def _till(folder: Path, world: World, twist: Any = None) -> AsyncIterator[Till]:
    """A chain whose blocks the test makes; in the newest one two pairs were made, which nobody has traded with."""
    with world.node() as node:
        witness = world.witness(node)
        described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
        fields = {**described, "blockTimeMs": 200, "confirmations": 1}
        for token in ("dai", "wbtc", "fine"):
            witness.send(token, "approve", witness.addresses["v2_router"], MAX)
        witness.send("dai", "approve", witness.addresses["v2_router"], MAX, sender=ALICE)
        async with (
            proxy(node.url, twist=twist) as front,
            open_outbox(folder, node, network=fields, url=front.url) as outbox,
        ):
            node.rpc("evm_setAutomine", False)
            for first, second in (("dai", "wbtc"), ("wbtc", "fine")):
                _make_pair(Till(outbox, witness), first, second)
            node.mine()
            yield Till(outbox, witness)


def _make_pair(till: Till, *tokens: str) -> None:
    at = till.witness.addresses
    arguments = (*(at[token] for token in tokens), 10**9, 10**9, 0, 0, ALICE, _FOREVER)
    data = f"0x{till.witness.data('v2_router', 'addLiquidity', *arguments).hex()}"
    sender = till.witness.web3.eth.accounts[0]
    fields = {"from": sender, "to": at["v2_router"], "data": data, "gas": hex(6_000_000)}
    till.outbox.node.rpc("eth_sendTransaction", fields)


async def _trade(till: Till, deadline: int, *path: str) -> str:
    """Starts a live run that trades along a path."""
    at, function = till.witness.addresses, "swapExactTokensForTokens"
    types = "uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline"
    args = ["1000", "0", [at[token] for token in path], ALICE, deadline]
    node = till.node("write-contract", contract=at["v2_router"], function=f"{function}({types})", args=args)
    return await till.bench.start({"pay": node})


async def _mined(till: Till, run_id: str) -> dict[str, Any]:
    """The run, with its transaction in a block of the next second."""
    found = await till.bench.until(
        run_id,
        lambda run: run["finishedAt"] is not None or run["executionState"].get("pay", {}).get("status") == "waiting",
    )
    assert found["finishedAt"] is None, found["executionState"]
    till.outbox.node.mine()
    return await till.bench.ended(run_id)


def _is_old(call: Call, answer: Answer) -> Answer:
    """An endpoint that estimates on its newest block only."""
    if call["method"] != "eth_estimateGas" or len(call["params"]) < 4:
        return answer
    error = {"code": -32602, "message": "too many arguments, want at most 3"}
    return {"jsonrpc": "2.0", "id": call["id"], "error": error}


async def test_first_trades_in_two_new_pools_have_gas_enough(tmp_path: Path, world: World) -> None:
    async with _till(tmp_path, world) as till:
        run = await _mined(till, await _trade(till, _FOREVER, "dai", "wbtc", "fine"))
        assert run["status"] == "success", run["executionState"]["pay"]["error"]


async def test_the_first_trade_in_a_new_pool_has_gas_enough_at_an_endpoint_that_does_not_look_ahead(
    tmp_path: Path, world: World
) -> None:
    async with _till(tmp_path, world, _is_old) as till:
        run = await _mined(till, await _trade(till, _FOREVER, "dai", "wbtc"))
        assert run["status"] == "success", run["executionState"]["pay"]["error"]


async def test_what_would_revert_in_the_next_block_is_not_signed(tmp_path: Path, world: World) -> None:
    async with _till(tmp_path, world) as till:
        head = int(till.outbox.node.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        run = await till.bench.ended(await _trade(till, head, "dai", "wbtc"))
        error = run["executionState"]["pay"]["error"]
        assert error["code"] == "REVERTED"
        assert "EXPIRED" in error["message"]
        assert (await till.api.get("/v1/transactions")).data["items"][0]["status"] == "refused"
