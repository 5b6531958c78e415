"""Whoever may run workflows on a wallet, and writes the calldata: what its policy counts and whom it lets be paid, on a
real chain with real pools."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.test_dust import Till
from outbox import ALICE, open_outbox
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import ETHER, MAX, MULTICALL3, World

EVE = ACCOUNTS[3]
_FOREVER = 2**40
_SWAP = "swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline)"
_SWAP_NATIVE = "swapExactETHForTokens(uint256 amountOutMin, address[] path, address to, uint256 deadline)"
_WEEK_MS = 7 * 24 * 3_600_000


@pytest.fixture
async def till(tmp_path: Path, world: World) -> AsyncIterator[Till]:
    """The router may take all USDC of the wallet, as wallets have it that were used elsewhere before."""
    with world.node() as node:
        witness = world.witness(node)
        described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
        fields = {**described, "blockTimeMs": 200, "confirmations": 1}
        for spender in (witness.addresses["v2_router"], MULTICALL3):
            witness.send("usdc", "approve", spender, MAX, sender=ALICE)
        async with open_outbox(tmp_path, node, network=fields) as outbox:
            found = Till(outbox, witness)
            usdc = f"eip155:{CHAIN_ID}/erc20:{witness.addresses['usdc']}"
            await found.allow(
                assets=[usdc, f"eip155:{CHAIN_ID}/native"],
                recipients=[],
                contracts=[witness.addresses["v2_router"], MULTICALL3, witness.addresses["usdc"]],
                limits=[{"asset": usdc, "maxUnits": "1000", "windowMs": _WEEK_MS}],
            )
            yield found


async def _call(till: Till, contract: str, function: str, *args: Any, value: int = 0) -> dict[str, Any]:
    """A live run that calls a contract."""
    payload: dict[str, Any] = {"contract": contract, "function": function, "args": list(args), "value": str(value)}
    return await till.bench.run({"pay": till.node("write-contract", **payload)})


def _why(run: dict[str, Any]) -> set[str]:
    error = run["executionState"]["pay"]["error"]
    assert error["code"] == "REFUSED", error
    return {detail["field"] for detail in error["details"]}


async def test_what_a_router_takes_by_an_old_approval_counts_against_the_limit(till: Till) -> None:
    at = till.witness.addresses
    before, path = till.witness.balance("usdc", ALICE), [at["usdc"], at["weth"]]
    run = await _call(till, at["v2_router"], _SWAP, "600", "0", path, ALICE, _FOREVER)
    assert run["status"] == "success", run["executionState"]["pay"]["error"]
    assert _why(await _call(till, at["v2_router"], _SWAP, "600", "0", path, ALICE, _FOREVER)) == {"limits[0]"}
    assert before - till.witness.balance("usdc", ALICE) == 600


@pytest.mark.parametrize("is_native", [False, True])
async def test_a_router_pays_nobody_whom_the_policy_does_not_name(till: Till, is_native: bool) -> None:
    at, had = till.witness.addresses, till.witness.balance("usdc", EVE) + till.witness.balance("weth", EVE)
    if is_native:
        path = [at["weth"], at["usdc"]]
        run = await _call(till, at["v2_router"], _SWAP_NATIVE, "0", path, EVE, _FOREVER, value=ETHER)
    else:
        path = [at["usdc"], at["weth"]]
        run = await _call(till, at["v2_router"], _SWAP, "600", "0", path, EVE, _FOREVER)
    assert _why(run) == {"recipients", "methods"}
    assert till.witness.balance("usdc", EVE) + till.witness.balance("weth", EVE) == had


async def test_calls_within_a_multicall_pay_nobody_whom_the_policy_does_not_name(till: Till) -> None:
    take = till.witness.data("usdc", "transferFrom", ALICE, EVE, 900)
    function = "aggregate3((address target, bool allowFailure, bytes callData)[] calls)"
    had = till.witness.balance("usdc", EVE)
    run = await _call(till, MULTICALL3, function, [[till.witness.addresses["usdc"], False, f"0x{take.hex()}"]])
    assert _why(run) == {"recipients"}
    assert till.witness.balance("usdc", EVE) == had


async def test_conditions_and_lost_outputs_are_judged_the_same_live_and_simulated(till: Till) -> None:
    at = till.witness.addresses
    usdc = f"eip155:{CHAIN_ID}/erc20:{at['usdc']}"
    rule = {"method": _SWAP, "where": "to == wallet && amountIn <= units('0.0006', 6) && value == 0"}
    await till.allow(assets=[usdc], contracts=[at["v2_router"]], methods=["*", rule])
    path, before = [at["usdc"], at["weth"]], till.witness.balance("usdc", ALICE)

    def node(units: str, to: str = ALICE) -> dict[str, Any]:
        args = [units, "0", path, to, _FOREVER]
        return till.node("write-contract", contract=at["v2_router"], function=_SWAP, args=args)

    for simulate in (True, False):
        good = await till.bench.run({"pay": node("600")}, simulate=simulate)
        assert good["status"] == "success", good["executionState"]["pay"]["error"]
        for denied in (node("601"), node("1", EVE)):
            run = await till.bench.run({"pay": denied}, simulate=simulate)
            assert "methods" in _why(run)
            assert 'The condition "to == wallet' in str(run["executionState"]["pay"]["error"])
    for nobody in (f"0x{0:040x}", f"0x{1:040x}", f"0x{2:040x}", at["v2_router"]):
        await till.allow(assets=[usdc], contracts=[at["v2_router"]], methods=["*"], recipients=["*"])
        assert _why(await till.bench.run({"pay": node("600", nobody)}, simulate=True)) == {"recipients"}
        assert _why(await till.bench.run({"pay": node("600", nobody)})) == {"recipients"}
    assert before - till.witness.balance("usdc", ALICE) == 600
