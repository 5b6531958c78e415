"""Policy in simulations: judged as live, against what the simulation has spent itself, reserving nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import metadata
from engine.conftest import OWN_ACTIONS, let_go, trial
from outbox import address
from rehearsals import SHOP, Run, Studio, call, error, hand, node, open_studio, pay, result, runs, told
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import ETHER, World
from testkit.chain.rpc_proxy import proxy

HOUR_MS = 3_600_000
NATIVE = f"eip155:{CHAIN_ID}/native"


def limit(units: int, window_ms: int | None = HOUR_MS) -> dict[str, Any]:
    """So many base units of native coin."""
    found = {"asset": NATIVE, "maxUnits": str(units)}
    return found if window_ms is None else {**found, "windowMs": window_ms}


@pytest.fixture
async def studio(tmp_path: Path, world: World, store_url: str) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url, actions_dir=OWN_ACTIONS) as studio:
            yield studio
            assert studio.held == 0


def outcomes(run: Run) -> dict[str, Any]:
    """What became of each node that pays: its status, and whether policy refused it."""
    return {
        path: (one["status"], (one["error"] or {}).get("code"))
        for path, one in run["executionState"].items()
        if path.startswith("pay")
    }


@pytest.mark.parametrize(
    "policy",
    [
        {"limits": [limit(10)]},
        pytest.param({"limits": [limit(5, None)]}, marks=pytest.mark.long),
        {"limits": [{"maxCount": 2, "windowMs": HOUR_MS}]},
        {"limits": [{"maxUsd": "0.0000000000000201", "windowMs": HOUR_MS}]},
        {"recipients": [SHOP]},
        pytest.param({"newRecipientHours": 1, "recipients": [SHOP, "*"]}, marks=pytest.mark.long),
        pytest.param({"chains": [1]}, marks=pytest.mark.long),
    ],
    ids=lambda policy: next(iter(policy)),
)
async def test_policy_says_the_same_as_live(studio: Studio, policy: dict[str, Any]) -> None:
    """Three payments, the fee of each being paid before the next is judged."""
    await studio.let(**policy)
    nodes = {
        "pay1": pay(4, "pay2", onError="continue"),
        "pay2": pay(6, "pay3", onError="continue", to=address(2)),
        "pay3": pay(2, onError="continue"),
    }
    predicted = await studio.simulate(nodes)
    again = await studio.simulate(nodes)
    live = await studio.bench.run(nodes)
    assert outcomes(predicted) == outcomes(live), told(live)
    assert outcomes(again) == outcomes(predicted)  # nothing was reserved by the first
    if "newRecipientHours" not in policy:
        assert ("failure", "REFUSED") in outcomes(live).values(), "the policy refuses nothing, so this tests nothing"


async def test_policy_and_report_take_prices_from_the_simulated_state(tmp_path: Path, world: World) -> None:
    """Nothing but a pool prices the token; the run's own purchase makes it dearer than the limit allows."""
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, price_keep_ms=0) as studio:
            fee = studio.witness.addresses["fee"]
            buy = {"tokenIn": "native", "tokenOut": fee, "amountIn": str(3 * ETHER), "slippageBps": 500}
            nodes = {
                "before": node("get-price", "buy", payload={"token": fee}),
                "buy": node("swap-uniswap-v2", "after", payload={**buy, "maxPriceImpactBps": 10_000}),
                "after": node("get-price", "pay", payload={"token": fee}),
                "pay": hand(fee, "max"),
            }
            allowed = await studio.passed(nodes)
            before, after = (Decimal(result(allowed, name)["usd"]) for name in ("before", "after"))
            assert after > before * Decimal("1.5")
            (paid,) = [one for one in (await studio.effects(allowed))["transactions"] if one["nodeId"] == "pay"]
            units = int(result(allowed, "pay")["amount"])
            assert Decimal(paid["movements"][0]["usd"]) == pytest.approx(after * units / ETHER)
            asset = f"eip155:{CHAIN_ID}/erc20:{fee}"
            await studio.let(assets=[asset, NATIVE], limits=[{"maxUsd": "8500"}])  # the purchase: 7500
            nodes = {name: nodes[name] for name in ("buy", "after", "pay")}
            predicted, live = await studio.simulate(nodes), await studio.bench.run(nodes)
            assert outcomes(predicted) == outcomes(live) == {"pay": ("failure", "REFUSED")}, told(predicted)


async def test_what_the_simulated_clock_made_stale_has_the_live_price(studio: Studio) -> None:
    nodes = {
        "later": {"type": "delay", "payload": {"delayMs": 20 * 24 * HOUR_MS}, "children": ["much"]},
        "much": {"type": "delay", "payload": {"delayMs": 20 * 24 * HOUR_MS}, "children": ["pay"]},
        "pay": pay(ETHER // 100),
    }
    await studio.let(limits=[{"maxUsd": "24"}])
    predicted = await studio.simulate(nodes)
    assert error(predicted, "pay")["details"][0]["message"] == "25 USD is over 24 USD in one transaction."
    await studio.let(limits=[{"maxUsd": "25"}])
    report = await studio.effects(await studio.passed(nodes))
    assert {one["usd"] for one in report["balanceChanges"]} == {"25.000000", "-25.000000"}


async def test_a_spend_counts_for_one_window_of_the_simulated_clock(studio: Studio) -> None:
    await studio.let(limits=[limit(10)])

    def nodes(minutes: int) -> dict[str, Any]:
        delay = {"type": "delay", "payload": {"delayMs": minutes * 60_000}, "children": ["pay2"]}
        return {"pay1": pay(8, "delay"), "delay": delay, "pay2": pay(8)}

    assert outcomes(await studio.simulate(nodes(59)))["pay2"] == ("failure", "REFUSED")
    assert outcomes(await studio.simulate(nodes(61)))["pay2"] == ("success", None)


async def test_what_was_spent_live_counts_in_a_simulation(studio: Studio) -> None:
    await studio.let(limits=[limit(10)])
    assert (await studio.bench.run({"pay": pay(7)}))["status"] == "success"
    assert outcomes(await studio.simulate({"pay": pay(4)})) == {"pay": ("failure", "REFUSED")}
    assert outcomes(await studio.simulate({"pay": pay(3)})) == {"pay": ("success", None)}


async def test_limits_count_over_called_runs(studio: Studio) -> None:
    await studio.let(limits=[limit(10)])
    callee = await studio.workflow({"pay": pay("{{$inputs.units}}")})

    def calls(units: int) -> dict[str, Any]:
        return {"workflowId": callee, "payload": {"units": str(units)}}

    down = {"pay1": pay(6, "call"), "call": {"type": "call-workflow", "payload": calls(5)}}
    run = await studio.simulate(down)
    assert error(run, "call")["code"] == "CHILD_FAILED"
    assert "refuses" in error(run, "call")["message"]
    up = {"call": {"type": "call-workflow", "payload": calls(6), "children": ["pay"]}, "pay": pay(5)}
    assert outcomes(await studio.simulate(up))["pay"] == ("failure", "REFUSED")
    fits = {"call": {"type": "call-workflow", "payload": calls(6), "children": ["pay"]}, "pay": pay(4)}
    await studio.passed(fits)


async def test_a_person_is_not_asked_and_the_simulation_goes_on(studio: Studio) -> None:
    await studio.let(approvalAbove={"assets": {NATIVE: "5"}}, limits=[limit(20)])
    run = await studio.passed({"pay1": pay(9, "pay2"), "pay2": pay(3)})
    report = await studio.effects(run)
    assert [one["outcome"] for one in report["policyVerdicts"]] == ["ask", "allow"]
    assert (await studio.api.get("/v1/approvals")).data["items"][1:] == []  # the one is the waiting run's
    run = await studio.simulate({"pay1": pay(18, "pay2"), "pay2": pay(3)})  # what would be asked counts as if allowed
    assert outcomes(run)["pay2"] == ("failure", "REFUSED")


async def test_a_spend_that_reverts_counts_nothing(studio: Studio) -> None:
    await studio.let(limits=[{"maxCount": 1, "windowMs": HOUR_MS}])
    zoo = studio.witness.addresses["zoo"]
    run = await studio.simulate({"pay1": call(zoo, "custom()", "pay2", onError="continue"), "pay2": pay(3)})
    assert outcomes(run) == {"pay1": ("failure", "REVERTED"), "pay2": ("success", None)}


@pytest.mark.both_stores
async def test_limits_hold_over_a_restart_in_the_middle(tmp_path: Path, world: World, store_url: str) -> None:
    settings: dict[str, Any] = {"actions_dir": OWN_ACTIONS, "shutdown_grace_s": 0.1}
    nodes = {
        "pay1": pay(6, "pause"),
        "pause": trial(name="pause", effect="read", held=True, children=["pay2"]),
        "pay2": pay(5, onError="continue", children=["pay3"]),
        "pay3": pay(4),
    }
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url, **settings) as studio:
            await studio.let(limits=[limit(10)])
            run_id = await studio.bench.start(nodes, simulate=True)
            await studio.bench.until(run_id, runs("pause"))
        async with open_studio(tmp_path, world, chain, store_url=store_url, reuse=True, **settings) as studio:
            await studio.let(limits=[limit(10)])
            let_go("pause")
            run = await studio.bench.ended(run_id)
            expected = {"pay1": ("success", None), "pay2": ("failure", "REFUSED"), "pay3": ("success", None)}
            assert outcomes(run) == expected
            assert studio.held == 0


async def _rows(studio: Studio) -> dict[str, set[str]]:
    """Every row of the store, by table, but those by which processes that share it say that they live."""
    return {
        table.name: {
            json.dumps(row, default=str) for row in map(list, await studio.outbox.composition.rows(sa.select(table)))
        }
        for table in metadata.sorted_tables
        if table.name != "processes"
    }


@pytest.mark.both_stores
async def test_a_simulation_leaves_rows_of_its_own_run_and_nothing_else(studio: Studio) -> None:
    """Variables, tables, limits, nonces, approvals, questions: read from the store before and after."""
    usdc = studio.witness.addresses["usdc"]
    await studio.let(limits=[limit(ETHER)], approvalAbove={"assets": {NATIVE: "5"}}, newRecipientHours=0)
    nodes = {
        "pay": pay(9, "bad", to=address(77)),
        "bad": call(usdc, "nothing()", "set", onError="continue", retry={"maxAttempts": 3, "backoffMs": 1000}),
        "set": {
            "type": "set-variable",
            "payload": {"name": "n", "value": 5},
            "children": ["hand"],
        },
        "hand": hand("USDC", 5, "write", to=ACCOUNTS[2]),
        "write": trial(name="write", children=["wait"]),
        "wait": {"type": "wait", "payload": {"timeoutMs": 60_000}, "pinned": {"x": 1}},
    }
    workflow = await studio.workflow(nodes, defs=[{"name": "n", "type": "number"}])
    before = await _rows(studio)
    run = await studio.run(workflow, simulate=True)
    assert run["status"] == "partial", told(run)
    assert result(run, "hand")["amountReceived"] == "5"
    after = await _rows(studio)
    table = metadata.tables["runs"]
    ((pk,),) = await studio.outbox.composition.rows(sa.select(table.c.pk).where(table.c.id == run["id"]))
    gone = {name: rows - after[name] for name, rows in before.items() if rows - after[name]}
    assert set(gone) <= {"api_keys", "run_counts"}, gone  # when the key was used last; how many runs there are
    owners = {"runs": "pk", "events": "run_pk", "executions": "run_pk", "simulation_forks": "top_pk"}
    owners |= {"run_variables": "owner_pk", "variable_writes": "run_pk", "activity": "run_pk"}
    for name, rows in after.items():
        columns = [column.name for column in metadata.tables[name].columns]
        for row in map(json.loads, rows - before[name]):
            fields = dict(zip(columns, row, strict=True))
            if name in ("api_keys", "run_counts", "request_log", "key_requests"):
                continue
            assert name in owners, f"a simulation left a row in {name}: {fields}"
            assert fields[owners[name]] == pk, f"a row of another run in {name}: {fields}"


# --- what a person has to look at ---

PROXY, IMPLEMENTATION = address(77), "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"


def asks(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (reason["statement"], reason["message"])
        for verdict in report["policyVerdicts"]
        if verdict["outcome"] == "ask"
        for reason in verdict["reasons"]
    ]


async def test_a_simulation_shows_that_a_proxy_has_changed(studio: Studio) -> None:
    def point(at: str) -> None:
        studio.outbox.node.rpc("anvil_setCode", PROXY, "0x00")
        studio.outbox.node.rpc("anvil_setStorageAt", PROXY, IMPLEMENTATION, "0x" + at[2:].lower().rjust(64, "0"))

    called = {"chainId": CHAIN_ID, "contract": PROXY, "data": "0xd09de08a"}
    nodes = {"call": {"type": "write-contract", "payload": called, "children": []}}
    point(address(81))
    assert asks(await studio.effects(await studio.passed(nodes))) == []
    live = await studio.bench.run(nodes)
    assert live["status"] == "success", told(live)
    point(address(82))
    where = f"/v1/contracts/{CHAIN_ID}/{PROXY}"
    assert (await studio.api.put(where, {"name": "Counter"})).status == 200
    report = await studio.effects(await studio.passed(nodes))
    ((statement, message),) = asks(report)
    assert statement == "proxyChanged"
    assert f'{PROXY} ("Counter") is a proxy, and has changed' in message
    assert report["names"][PROXY] == {"name": "Counter", "kind": "contract"}


async def test_a_simulation_asks_the_second_endpoint_before_the_run_changes_a_chain(
    tmp_path: Path, world: World
) -> None:
    def twist(asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if isinstance(answer.get("result"), str):  # the feed says a tenth
            answer["result"] = answer["result"].replace(f"{2500 * 10**8:064x}", f"{250 * 10**8:064x}")
        return answer

    with world.node() as chain:
        async with proxy(chain.url, twist=twist) as liar:
            settings: dict[str, Any] = {"second_endpoints": {CHAIN_ID: chain.url}, "price_keep_ms": 0}
            async with open_studio(tmp_path, world, chain, url=liar.url, network={"dex": {}}, **settings) as studio:
                report = await studio.effects(await studio.passed({"pay1": pay(4, "pay2"), "pay2": pay(6)}))
                told_of = [one["nodeId"] for one in report["policyVerdicts"] if one["outcome"] == "ask"]
                assert told_of == ["pay1"], "later ones stand on what the run itself has changed"
                ((statement, message),) = asks(report)
                assert statement == "secondOpinion"
                assert "is worth $2500.00000000, by the first endpoint $250.00000000" in message


async def test_pools_are_asked_for_prices_only_where_a_statement_is_in_dollars(tmp_path: Path, world: World) -> None:
    """To hold all sources against each other takes many requests."""
    with world.node() as chain:
        async with proxy(chain.url) as node, open_studio(tmp_path, world, chain, url=node.url) as studio:
            nodes = {"pay1": hand(studio.witness.addresses["usdc"], "7")}

            async def calls(**policy: Any) -> int:
                await studio.let(**policy)
                node.methods.clear()
                await studio.passed(nodes)
                return node.methods.count("eth_call")

            assert await calls() * 2 < await calls(limits=[{"maxUsd": "1000000"}])
