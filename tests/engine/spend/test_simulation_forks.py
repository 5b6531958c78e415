"""The block that a simulation stands on: how it simulates there, and what becomes of it when nobody has it any more."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from engine.conftest import OWN_ACTIONS, let_go, trial
from rehearsals import SHOP, Run, Studio, balance, call, error, hand, look, node, open_studio, pay, result, runs, told
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil, binary
from testkit.chain.contracts import ETHER, World, artifact
from testkit.chain.rpc_proxy import Answer, Call, proxy

STRATEGIES = ["simulate-v1", "trace-call", "local-fork"]


@pytest.fixture
async def chain(world: World) -> AsyncIterator[Anvil]:
    with world.node() as chain:
        chain.mine(4)
        yield chain


def pause(ms: int, *children: str) -> dict[str, Any]:
    """A node that looks at nothing for a while."""
    return trial(name="pause", effect="read", sleepMs=ms, children=[*children])


_NUMBERS = itertools.count()


def restarted(chain: Anvil) -> None:
    chain.stop()
    chain.start()


def reorganised(chain: Anvil) -> None:
    chain.reorg(3)


async def interrupted(studio: Studio, after: dict[str, Any], happens: Callable[[], None]) -> Run:
    """Pays, lets something happen to the chain while the run pauses, and goes on with `after`."""
    paused = f"paused {next(_NUMBERS)}"
    nodes = {
        "pay": pay(1, "pause"),
        "pause": trial(name=paused, effect="read", held=True, children=["after"]),
        "after": {**after, "onError": "continue", "children": ["never"]},
        "never": pay(2),
    }
    run_id = await studio.bench.start(nodes, simulate=True)
    await studio.bench.until(run_id, runs("pause"))
    happens()
    let_go(paused)
    return await studio.bench.ended(run_id)


def check_lost(run: Run) -> None:
    """It ended since its block is gone, and says so; an `onError` does not go on without a state."""
    assert error(run, "after") is not None, run["executionState"]
    assert error(run, "after")["code"] == "SIM_FORK_LOST", told(run)
    assert (run["status"], run["error"]["code"]) == ("failure", "SIM_FORK_LOST")
    (fork,) = run["simulationForks"]
    for part in (fork["blockHash"], "start a new one,"):
        assert part in run["error"]["message"]
    assert run["executionState"].get("never", {}).get("status") != "success"


_OF_A_CHANGE = (
    *(("pay", "simulate-v1", restarted), ("see", "trace-call", reorganised)),
    *(("call", "trace-call", restarted), ("create", "simulate-v1", reorganised)),
)
"""Each node, strategy and way for a block to go."""


@pytest.mark.parametrize(
    ("what", "strategy", "happens"),
    [
        pytest.param(*case, marks=() if case in _OF_A_CHANGE else pytest.mark.long)
        for case in itertools.product(
            ("pay", "see", "call", "create"), ("simulate-v1", "trace-call"), (restarted, reorganised)
        )
    ],
)
async def test_a_block_that_is_gone_ends_the_simulation(
    tmp_path: Path, world: World, chain: Anvil, happens: Callable[[Anvil], None], strategy: str, what: str
) -> None:
    after = {
        "pay": pay(1),
        "see": balance(SHOP),
        "call": look(world["usdc"], "symbol() returns (string)"),
        "create": node("deploy-contract", payload={"bytecode": "0x6001600c60003960016000f300"}),
    }
    settings: dict[str, Any] = {"simulation_strategy": strategy, "actions_dir": OWN_ACTIONS}
    async with open_studio(tmp_path, world, chain, **settings) as studio:
        await studio.let(allowDeploy=True)
        check_lost(await interrupted(studio, after[what], lambda: happens(chain)))
        assert studio.held == 0


@pytest.mark.parametrize("happens", [restarted, reorganised])
async def test_a_local_fork_goes_on_with_what_it_has_and_never_reads_another_block(
    tmp_path: Path, world: World, chain: Anvil, happens: Callable[[Anvil], None]
) -> None:
    settings: dict[str, Any] = {
        "simulation_strategy": "local-fork",
        "fork_binary": binary(),
        "actions_dir": OWN_ACTIONS,
    }
    async with open_studio(tmp_path, world, chain, **settings) as studio:
        run = await interrupted(studio, balance(SHOP), lambda: happens(chain))
        assert (run["status"], result(run, "after")["balance"]) == ("success", "1")
        chain.mine(3)
        read = look(world["usdc"], "symbol() returns (string)")
        check_lost(await interrupted(studio, read, lambda: happens(chain)))
        assert studio.held == 0


async def test_an_endpoint_that_lacks_the_block_is_passed_over(tmp_path: Path, world: World, chain: Anvil) -> None:
    """One of two endpoints answers from a height below: the other one is asked for everything at the block."""
    refused: list[str] = []

    def twist(call: Call, answer: Answer) -> Answer:
        if "blockHash" not in json.dumps(call.get("params", [])):
            return answer
        refused.append(call["method"])
        return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32001, "message": "header not found"}}

    nodes = {
        "read": look(world["usdc"], "symbol() returns (string)", "pay"),
        "pay": pay(5, "see"),
        "see": balance(SHOP),
    }
    async with proxy(chain.url, twist=twist) as behind:
        endpoints = {CHAIN_ID: (behind.url, chain.url)}
        async with open_studio(tmp_path, world, chain, chain_endpoints=endpoints) as studio:
            run = await studio.passed(nodes)
            assert result(run, "see")["balance"] == "5"
            assert {"eth_call", "debug_traceCall"} <= set(refused)


async def test_a_block_is_not_given_up_while_an_endpoint_that_may_have_it_is_silent(
    tmp_path: Path, world: World, chain: Anvil
) -> None:
    """The endpoint with the block comes back after a while, and the run goes on; the other one never had it."""
    silent = [False]

    async def reply(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=503) if silent[0] else None

    def twist(call: Call, answer: Answer) -> Answer:
        if "blockHash" not in json.dumps(call.get("params", [])):
            return answer
        return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32001, "message": "header not found"}}

    nodes = {
        "pay": pay(1, "pause"),
        "pause": trial(name="pause", effect="read", held=True, children=["after"]),
        "after": pay(2, "rest", onError="continue"),
        "rest": trial(name="rest", effect="read", sleepMs=4000, children=["see"]),
        "see": balance(SHOP),
    }
    async with proxy(chain.url, reply=reply) as full, proxy(chain.url, twist=twist) as light:
        endpoints = {CHAIN_ID: (full.url, light.url)}
        async with open_studio(tmp_path, world, chain, chain_endpoints=endpoints, actions_dir=OWN_ACTIONS) as studio:
            run_id = await studio.bench.start(nodes, simulate=True)
            await studio.bench.until(run_id, runs("pause"))
            silent[0] = True
            let_go("pause")
            await studio.bench.until(run_id, lambda run: bool(run["executionState"].get("after", {}).get("error")))
            silent[0] = False
            run = await studio.bench.ended(run_id)
            assert error(run, "after")["code"] == "TEMPORARY", told(run)
            assert "does not answer" in error(run, "after")["message"]
            assert result(run, "see")["balance"] == "1", told(run)


@pytest.mark.parametrize("has_strategy", [None, "trace-call"])
async def test_without_a_way_to_simulate_the_node_says_what_would_make_one(
    tmp_path: Path, world: World, chain: Anvil, has_strategy: str | None
) -> None:
    def twist(call: Call, answer: Answer) -> Answer:
        if call["method"] not in ("eth_simulateV1", "debug_traceCall"):
            return answer
        return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32601, "message": "method not found"}}

    settings: dict[str, Any] = {"simulation_strategy": has_strategy} if has_strategy else {}
    async with proxy(chain.url, twist=twist) as poor:
        async with open_studio(tmp_path, world, chain, url=poor.url, **settings) as studio:
            run = await studio.simulate({"pay": pay(1)})
            found = error(run, "pay")
            assert (run["status"], run["error"]["nodeId"], found["code"]) == ("failure", "pay", "SIM_UNAVAILABLE")
            for part in ("eth_simulateV1", "debug_traceCall", "fork_binary", "Test chain"):
                assert part in found["message"]
            assert run["simulationForks"] == []
            assert studio.held == 0
        async with open_studio(tmp_path, world, chain, url=poor.url, reuse=True, fork_binary=binary()) as studio:
            if has_strategy is None:  # an anvil binary is what makes it possible
                run = await studio.passed({"pay": pay(1)})
                assert run["simulationMode"] == "local-fork"


async def test_every_strategy_comes_to_the_same(tmp_path: Path, world: World, chain: Anvil) -> None:
    abi, code = artifact("Zoo")
    at = "{{deploy.result.contractAddress}}"
    swap = {"tokenIn": "native", "tokenOut": "USDC", "amountIn": str(ETHER)}
    nodes = {
        "deploy": node("deploy-contract", "count", payload={"bytecode": code, "abi": abi}),
        "count": call(at, "count()", "swap"),
        "swap": node("swap-uniswap-v2", "sell", payload=swap),
        "sell": node(
            "swap-uniswap-v2", "sleep", payload={"tokenIn": "USDC", "tokenOut": "DAI", "amountIn": "1000000000"}
        ),
        "sleep": {"type": "delay", "payload": {"delayMs": 600_000}, "children": ["share"]},
        "share": hand("USDC", "{{int(swap.result.amountOut) - 1000000000}}", "bad"),
        "bad": call(at, "custom()", "has", onError="continue"),
        "has": look(at, "counter() returns (uint256)", "see"),
        "see": balance(ACCOUNTS[1], "symbol"),
        "symbol": look(world["usdc"], "balanceOf(address) returns (uint256)", args=[SHOP]),
    }
    found = []
    for strategy in STRATEGIES:
        folder = tmp_path / strategy
        folder.mkdir()
        settings: dict[str, Any] = {"simulation_strategy": strategy, "fork_binary": binary()}
        async with open_studio(folder, world, chain, **settings) as studio:
            await studio.let(allowDeploy=True)
            run = await studio.simulate(nodes)
            assert run["status"] == "partial", told(run)
            assert run["simulationMode"] == strategy
            report = await studio.effects(run)
            found.append(
                {
                    "results": {name: run["executionState"][name].get("result") for name in ("has", "see", "symbol")},
                    "error": error(run, "bad"),
                    "changes": report["balanceChanges"],
                    "approvals": report["approvals"],
                    "fees": report["totalFees"],
                    "transactions": [
                        {name: one.get(name) for name in ("status", "to", "gasUsed", "events", "contractAddress")}
                        for one in report["transactions"]
                    ],
                }
            )
    assert found[0] == found[1]
    assert found[0] == found[2]
