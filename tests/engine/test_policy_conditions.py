"""Conditions of a policy on a call's arguments: the same verdict in every mode, and however the call comes about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from outbox import ALICE
from rehearsals import Run, Studio, node, open_studio, told
from testkit.chain.anvil import ACCOUNTS, Anvil
from testkit.chain.contracts import MAX, World

EVE = ACCOUNTS[3]
SWAP = "swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline)"
RULE = {"method": SWAP, "where": "to == wallet && amountIn <= units('0.02', 6) && value == 0"}
MODES: dict[str, dict[str, bool]] = {"simulate": {"simulate": True}, "live": {}, "dust": {"dustTest": True}}
ITEMS: dict[str, list[str]] = {"small": ["20000", ALICE], "large": ["1000000", ALICE], "away": ["20000", EVE]}
PASSES = {"simulate": {"small"}, "live": {"small"}, "dust": {"small", "large"}}
"""A dust test scales 1 USDC to about a cent; what is judged is the call that would be signed."""


@asynccontextmanager
async def conditioned(folder: Path, world: World, chain: Anvil, **more: Any) -> AsyncIterator[Studio]:
    """A wallet that may swap little, and only to itself."""
    async with open_studio(folder, world, chain, **more) as studio:
        await studio.let(methods=["*", RULE], contracts=[studio.witness.addresses["v2_router"]])
        yield studio


def swap(studio: Studio, units: str, to: str, **more: Any) -> dict[str, Any]:
    """Sells USDC on the router."""
    at = studio.witness.addresses
    payload = {
        "contract": at["v2_router"],
        "function": SWAP,
        "args": [units, "0", [at["usdc"], at["weth"]], to, 2**40],
        "amounts": [{"argument": "0", "token": at["usdc"]}],
    }
    return node("write-contract", payload=payload, **more)


def apart(studio: Studio) -> dict[str, Any]:
    """One node for each item."""
    return {name: swap(studio, *item, onError="continue") for name, item in ITEMS.items()}


def passed(run: Run) -> set[str]:
    """The names of the calls that passed; the others were refused by the condition."""
    state = run["executionState"]
    outcomes = dict(zip(ITEMS, state["each"]["result"]["iterations"], strict=True)) if "each" in state else state
    errors = {name: outcomes[name].get("error") for name in ITEMS}
    denied = {name: error for name, error in errors.items() if error is not None}
    for error in denied.values():
        assert f'The condition "{RULE["where"]}" on' in error["message"], errors
    return {*ITEMS} - {*denied}


async def test_condition_gives_one_verdict_alone_in_loops_in_calls_and_in_retries(tmp_path: Path, world: World) -> None:
    with world.node() as chain:
        witness = world.witness(chain)
        witness.send("usdc", "approve", witness.addresses["v2_router"], MAX, sender=ALICE)
        async with conditioned(tmp_path, world, chain) as studio:
            sell = swap(studio, "{{$inputs.units}}", "{{$inputs.to}}")
            child = await studio.workflow({"pay": sell})
            payload = {"workflowId": child, "payload": {"units": "{{$item[0]}}", "to": "{{$item[1]}}"}}
            call = {"type": "call-workflow", "payload": payload}
            items = {"array": [*ITEMS.values()], "onItemError": "continue"}
            each = {"type": "for-each", "payload": items, "loopBody": ["pay"]}
            looped = {"each": each, "pay": swap(studio, "{{$item[0]}}", "{{$item[1]}}")}
            called = {"each": each, "pay": call}
            for mode, body in MODES.items():
                before = witness.balance("usdc", ALICE)
                for nodes in (apart(studio), looped, called):
                    run = await studio.bench.run(nodes, **body)
                    assert passed(run) == PASSES[mode], (mode, told(run))
                sent = {"simulate": 0, "live": 3 * 20_000, "dust": 3 * 2 * 10_000}
                assert before - witness.balance("usdc", ALICE) == sent[mode], mode
            await _retried(studio)


async def _retried(studio: Studio) -> None:
    """A retry keeps what passed and asks again for the rest, by the policy of that moment."""
    before = studio.witness.balance("usdc", ALICE)
    nodes = {name: {**one, "onError": "fail" if name == "away" else "continue"} for name, one in apart(studio).items()}
    run = await studio.bench.run(nodes)
    for loosened, wanted in ((False, {"small"}), (True, {"small", "large"})):
        if loosened:
            rule = {**RULE, "where": RULE["where"].replace("0.02", "1")}
            await studio.let(methods=["*", rule], contracts=[studio.witness.addresses["v2_router"]])
        reply = await studio.api.post(f"/v1/runs/{run['id']}/retry", {})
        run = await studio.bench.ended(reply.data.get("runId") or reply.data["id"])
        state = run["executionState"]
        assert {name for name in ITEMS if state[name]["status"] == "success"} == wanted, told(run)
    assert before - studio.witness.balance("usdc", ALICE) == 20_000 + 1_000_000


async def test_condition_gives_the_same_verdict_after_a_restart(tmp_path: Path, world: World) -> None:
    with world.node() as chain:
        witness = world.witness(chain)
        witness.send("usdc", "approve", witness.addresses["v2_router"], MAX, sender=ALICE)
        ask = {"type": "approve", "payload": {"message": "Sell?", "allowStarter": True}, "children": [*ITEMS]}
        async with conditioned(tmp_path, world, chain) as studio:
            run_id = await studio.bench.start({"ask": ask, **apart(studio)})
            await studio.bench.until(run_id, lambda run: run["status"] == "waiting")
        before = witness.balance("usdc", ALICE)
        async with conditioned(tmp_path, world, chain, reuse=True) as studio:
            (asked,) = [one for one in (await studio.api.get("/v1/approvals")).data["items"] if one["runId"] == run_id]
            assert (await studio.api.post(f"/v1/approvals/{asked['id']}/approve", {})).status == 200
            run = await studio.bench.ended(run_id)
        assert passed(run) == {"small"}
        assert before - witness.balance("usdc", ALICE) == 20_000
