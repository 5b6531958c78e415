"""Dust tests before they sign: the plan that a run tells, and prices and pools that cannot be trusted."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dustrun.cli.render import report as drawn_report
from engine.conftest import OWN_ACTIONS, let_go, trial
from outbox import ALICE, address
from rehearsals import SHOP, Run, Studio, error, hand, node, open_studio, pay, result, runs, say, second_wallet, told
from testkit.chain.contracts import ETHER, MAX, RICH, World

DUST = 4 * 10**12  # a cent of a coin worth 2500 USD


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, actions_dir=OWN_ACTIONS, price_keep_ms=0) as studio:
            yield studio


@pytest.fixture
async def poor(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    """A chain without an exchange, so that its feeds are all that prices anything."""
    with world.node() as chain:
        network: dict[str, Any] = {"dex": {}, "wrappedNative": None}
        async with open_studio(tmp_path, world, chain, network=network, price_keep_ms=0) as studio:
            yield studio


async def events(studio: Studio, run_id: str) -> list[dict[str, Any]]:
    """Every event of an ended run."""
    text = (await studio.api.http.get(f"/v1/runs/{run_id}/stream")).text
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {") and line != "data: {}"]


def plans(told: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """The plans among events, with their numbers."""
    found = [(event["seq"], event["data"]) for event in told if event["type"] == "log" and event.get("data")]
    return [(seq, data["dustPlan"]) for seq, data in found if "dustPlan" in data]


def steady(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan without what another moment changes: the ages of prices, and what gas costs."""
    text = json.loads(json.dumps(plan))
    for spend in text["spends"]:
        for part in ("fee", "usd"):
            if spend["fee"] is not None:
                spend["fee"].pop(part)
        for entry in spend["entries"]:
            entry["price"].pop("ageMs")
            entry["price"].pop("atMs")
    found: dict[str, Any] = text
    return found


def flow(studio: Studio) -> dict[str, Any]:
    """Spends known and unknown, one in a loop, one skipped; writes; a condition on what was scaled."""
    usdc = studio.witness.addresses["usdc"]
    swap = {"tokenIn": "native", "tokenOut": "USDC", "amountIn": str(ETHER)}
    return {
        "pay": pay("{{$inputs.units}}", "swap"),
        "swap": node("swap-uniswap-v2", "much", payload=swap),
        "much": {"type": "if", "payload": {"expression": "int(swap.result.amountOut) > 900"}, "children": ["share"]},
        "share": hand("USDC", "{{swap.result.amountOut}}", "each", branch="then"),
        "each": {"type": "for-each", "payload": {"array": [1, 2]}, "loopBody": ["tip"], "children": ["mint"]},
        "tip": pay(5 * ETHER, to=address(5)),
        "mint": node(
            "write-contract",
            "note",
            payload={"contract": usdc, "function": "mint(address to, uint256 value)", "args": [ALICE, "5"]},
            dust="skip",
        ),
        "note": trial(name="note", value="{{share.result.amount}}"),
    }


async def test_the_plan_is_told_before_the_first_signature_and_is_that_of_the_route(studio: Studio) -> None:
    workflow = await studio.workflow(flow(studio))
    payload = {"units": str(3 * ETHER)}
    asked = (await studio.api.post(f"/v1/workflows/{workflow}/dust-plan", {"payload": payload})).data
    run = await studio.run(workflow, payload=payload, dustTest=True)
    assert run["status"] == "success", told(run)
    stream = await events(studio, run["id"])
    ((at, plan),) = plans(stream)
    signed = min(event["seq"] for event in stream if event["type"] == "transaction")
    assert at < signed
    assert {one["nodeId"] for one in asked.pop("sources")} >= {"pay", "swap"}, "only the route says why"
    assert steady(plan) == steady(asked)
    spends = {spend["path"]: spend for spend in plan["spends"]}
    (entry,) = spends["pay"]["entries"]
    assert (entry["original"], entry["dust"], entry["price"]["source"]) == (str(3 * ETHER), str(DUST), "feed")
    assert int(spends["pay"]["fee"]["gas"]) >= 21_000
    assert float(spends["pay"]["fee"]["usd"]) > 0
    assert {"tip[0]", "tip[1]"} <= set(spends)
    assert [one["nodeId"] for one in plan["unknowns"]] == ["share"]
    assert plan["skipped"] == ["mint"]
    assert [(one["nodeId"], one["reads"]) for one in plan["writes"]] == [("note", ["share.result.amount"])]
    assert [(one["nodeId"], one["reads"]) for one in plan["conditions"]] == [("much", "swap.result.amountOut")]
    report = await studio.effects(run)
    scaled = {one["path"]: one["dust"] for one in report["dust"]["scaled"]}
    assert scaled["pay"] == str(DUST)
    assert abs(int(scaled["each[0].tip"]) - DUST) < 10**6  # the swap has moved the pools a little
    got = int(result(run, "swap")["amountOut"])
    assert scaled["share"] == str(got) == str(studio.witness.balance("usdc", SHOP))  # dust is not scaled again
    started = next(event for event in stream if event["type"] == "run_started")
    assert "data.dustPlan" in started["dust"]["note"]


async def test_a_run_without_spends_tells_no_plan(studio: Studio) -> None:
    run = await studio.bench.run({"say": say("x")}, dustTest=True)
    stream = await events(studio, run["id"])
    assert plans(stream) == []
    assert "No node spends" in stream[0]["dust"]["note"]


async def test_a_called_run_tells_its_own_plan(studio: Studio) -> None:
    callee = await studio.workflow({"pay": pay(ETHER)})
    run = await studio.bench.run({"call": {"type": "call-workflow", "payload": {"workflowId": callee}}}, dustTest=True)
    assert run["status"] == "success", told(run)
    assert plans(await events(studio, run["id"])) == []
    ((_, plan),) = plans(await events(studio, result(run, "call")["runId"]))
    assert (plan["workflowId"], len(plan["spends"])) == (callee, 1)


@pytest.mark.parametrize(
    ("function", "argument", "why"),
    [
        ("setAt", (10**8, 0), "heartbeat"),
        ("set", (-1,), "which is not a price"),
        pytest.param("set", (0,), "which is not a price", marks=pytest.mark.long),
        pytest.param("setDecimals", (18,), "decimals", marks=pytest.mark.long),
        ("setStale", (1,), "round"),
    ],
)
async def test_a_feed_that_is_wrong_prices_nothing_and_nothing_is_signed(
    poor: Studio, function: str, argument: tuple[int, ...], why: str
) -> None:
    if function == "setAt":
        argument = (argument[0], int(time.time()) - 90_000)
    poor.witness.send("usdc_usd", function, *argument)
    nonce = poor.outbox.nonce()
    run = await poor.bench.run({"pay": hand("USDC", 5_000_000)}, dustTest=True)
    assert error(run, "pay")["code"] == "DUST_UNPRICED", told(run)
    assert why in json.dumps(error(run, "pay"))
    assert poor.outbox.nonce() == nonce
    ((_, plan),) = plans(await events(poor, run["id"]))
    assert [one["code"] for one in plan["refusals"]] == ["UNPRICED"] or plan["refusals"][0]["code"] == "DUST_UNPRICED"


async def test_a_fresh_feed_prices_where_there_is_no_exchange(poor: Studio) -> None:
    """What makes the test above one of the feed."""
    run = await poor.bench.run({"pay": hand("USDC", 5_000_000)}, dustTest=True)
    assert run["status"] == "success", told(run)
    assert poor.witness.balance("usdc", SHOP) == 10_000


async def test_sources_that_disagree_warn_in_plan_and_report(studio: Studio) -> None:
    studio.witness.send("usdc_usd", "set", 110_000_000)
    run = await studio.bench.run({"pay": hand("USDC", 5_000_000)}, dustTest=True)
    assert run["status"] == "success", told(run)
    ((_, plan),) = plans(await events(studio, run["id"]))
    (entry,) = plan["spends"][0]["entries"]
    assert any("disagree by 1" in one for one in entry["warnings"])
    (scaled,) = (await studio.effects(run))["dust"]["scaled"]
    assert scaled["warnings"] == entry["warnings"]


_NUMBERS = itertools.count()


async def _swap_after(studio: Studio, happens: Any, **swap: Any) -> Run:
    """A dust test that pays, lets something happen to the pools, and swaps; only the payment may be signed."""
    payload = {"tokenIn": "native", "tokenOut": "USDC", "amountIn": str(ETHER), **swap}
    paused = f"paused {next(_NUMBERS)}"
    nodes = {
        "pay": pay(ETHER, "pause"),
        "pause": trial(name=paused, effect="read", held=True, children=["swap"]),
        "swap": node("swap-uniswap-v2", payload=payload),
    }
    nonce = studio.outbox.nonce()
    run_id = await studio.bench.start(nodes, dustTest=True)
    await studio.bench.until(run_id, runs("pause"))
    happens()
    let_go(paused)
    run = await studio.bench.ended(run_id)
    assert run["status"] == "failure", run["executionState"]["swap"]
    assert studio.outbox.nonce() == nonce + 1
    return run


async def test_a_pool_that_was_drained_after_the_plan(studio: Studio) -> None:
    """Whoever gave the liquidity has taken it away: the node fails by name before anything of it is signed."""
    witness, at = studio.witness, studio.witness.addresses

    def drain() -> None:
        for pair in (("weth", "usdc"), ("usdc", "dai")):
            pool = witness.read("v2_factory", "getPair", at[pair[0]], at[pair[1]])
            pair_contract = witness.contract("v2_pair", pool)
            units = pair_contract.functions.balanceOf(RICH).call()
            pair_contract.functions.approve(at["v2_router"], MAX).transact({"from": RICH})
            witness.send("v2_router", "removeLiquidity", at[pair[0]], at[pair[1]], units, 0, 0, RICH, 2**40)

    run = await _swap_after(studio, drain)
    found = error(run, "swap")
    assert (found["code"], found["message"]) == ("DUST_BELOW_MINIMUM", "The pools give nothing for 0.000004 ETH.")


async def test_a_pool_that_was_moved_after_the_plan(studio: Studio) -> None:
    """The least to get is scaled with the amount, and holds."""
    witness, at = studio.witness, studio.witness.addresses

    def move() -> None:
        path = [at["weth"], at["usdc"]]
        witness.send("v2_router", "swapExactETHForTokens", 0, path, RICH, 2**40, value=60 * ETHER)

    run = await _swap_after(studio, move, amountOutMin="2400000000")
    found = error(run, "swap")
    assert (found["code"], found["details"][0]["field"]) == ("INVALID_INPUT", "payload.amountOutMin")
    assert "less than 0.0096 USDC" in found["message"]


async def test_a_token_whose_piece_is_worth_more_than_the_cap(tmp_path: Path, world: World) -> None:
    """Also when the node names an amount of its own: the cap is held by what is moved."""
    key = f"eip155:31337/erc20:{world['whole']}"
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, static_prices={key: "0.06"}) as studio:
            for more in ({}, {"dustAmount": "1"}):
                nonce = studio.outbox.nonce()
                run = await studio.bench.run({"pay": hand(world["whole"], 3, **more)}, dustTest=True)
                assert error(run, "pay")["code"] == "DUST_OVER_CAP", told(run)
                assert "0.06 USD" in error(run, "pay")["message"]
                assert studio.outbox.nonce() == nonce


async def _pooling(studio: Studio) -> str:
    """Calls a workflow that adds to a pool: an amount and an argument beside it come from an earlier node."""
    at = studio.witness.addresses
    for token in ("usdc", "dai"):
        studio.witness.send(token, "approve", at["v2_router"], MAX, sender=ALICE)
    given = {
        **{"address tokenA": at["usdc"], "address tokenB": at["dai"]},
        **{"uint256 amountA": "{{$trigger.units}}", "uint256 amountB": "{{look.result.balance}}"},
        **{"uint256 minA": "4000", "uint256 minB": "{{string(0 * int(look.result.balance))}}"},
        **{"address to": ALICE, "uint256 deadline": str(2**40)},
    }
    payload = {
        "contract": at["v2_router"],
        "function": f"addLiquidity({', '.join(given)})",
        "args": {name.partition(" ")[2]: value for name, value in given.items()},
        "amounts": [
            {"argument": "amountA", "token": "USDC", "minimum": "minA"},
            {"argument": "amountB", "token": "DAI"},
        ],
    }
    look = node("get-erc20-balance", "add", payload={"token": "DAI", "address": ALICE})
    inner = await studio.workflow({"look": look, "add": node("write-contract", payload=payload)})
    call = {"type": "call-workflow", "payload": {"workflowId": inner, "payload": {"units": "{{$trigger.units}}"}}}
    return await studio.workflow({"call": call})


async def test_declared_amounts_are_planned_and_scaled_in_a_called_workflow(studio: Studio) -> None:
    """The plan knows one amount with its minimum, though others are only known to the run; a limited key runs it."""
    top = await _pooling(studio)
    payload = {"units": "5000000000"}
    plan = (await studio.api.post(f"/v1/workflows/{top}/dust-plan", {"payload": payload})).data
    (spend,) = plan["spends"]
    least = {"amounts[0].minimumUnits": {"from": "4000", "to": "0"}}
    known = [(one["field"], one["dust"], one["limits"]) for one in spend["entries"] if one["field"] != "value"]
    assert (spend["path"], known) == ("call/add", [("amounts[0].units", "10000", least)])
    assert [(one["path"], one["field"]) for one in plan["unknowns"]] == [("call/add", "amounts[1].units")]
    before = [studio.witness.balance(token, ALICE) for token in ("usdc", "dai")]
    for wallets, status in (([await second_wallet(studio)], "failure"), ([studio.outbox.wallet_id], "success")):
        asked = {"name": "pool", "permissions": ["workflow:execute", "wallet:spend"], "walletIds": wallets}
        limited = studio.outbox.composition.client((await studio.api.post("/v1/api-keys", asked)).data["key"])
        started = await limited.post(f"/v1/workflows/{top}/run", {"payload": payload, "dustTest": True})
        run = await studio.bench.ended(started.data["runId"])
        assert run["status"] == status, told(run)
    took = [had - studio.witness.balance(token, ALICE) for had, token in zip(before, ("usdc", "dai"), strict=True)]
    assert took == [10_000, 10**16]
    report = await studio.effects(run)
    scaled = [(one["path"], one["field"], one["dust"]) for one in report["dust"]["scaled"] if one["field"] != "value"]
    assert scaled == [("call/add", "amounts[0].units", "10000"), ("call/add", "amounts[1].units", str(10**16))]
    console = Console(width=200, record=True, file=StringIO())
    console.print(*drawn_report.draw(report))
    assert "call/add: amounts[0].units 5000 becomes 0.01 USDC" in console.export_text()
