"""What a simulated transaction sees: all that earlier ones of the run left, however one leads to the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outbox import ALICE, address
from rehearsals import (
    OTHER_CHAIN,
    SHOP,
    Studio,
    balance,
    call,
    hand,
    look,
    node,
    open_studio,
    pay,
    result,
    say,
    second_wallet,
    told,
)
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import ETHER, World, artifact

DAY_MS = 86_400_000
BLOCK = "blockFacts() returns (uint256 number, uint256 time, uint256 baseFee)"


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain) as studio:
            yield studio
            assert studio.held == 0, "a simulation that has ended is still in memory"


def each(array: Any, *body: str, **more: Any) -> dict[str, Any]:
    """A loop over `body`."""
    payload = {"array": array, "concurrency": more.pop("concurrency", 1)}
    return {"type": "for-each", "payload": payload, "loopBody": [*body], **more}


async def test_amounts_flow_from_one_transaction_into_the_next(studio: Studio) -> None:
    """approve → swap → a branch on what came out → transfer of exactly that → reads between see it."""
    swap = {"tokenIn": "native", "tokenOut": "USDC", "amountIn": str(ETHER)}
    usdc = studio.witness.addresses["usdc"]
    nodes = {
        "before": balance(ALICE, "swap"),
        "swap": node("swap-uniswap-v2", "much", payload=swap),
        "much": {
            "type": "if",
            "payload": {"expression": "int(swap.result.amountOut) > 1000000000"},
            "children": ["share", "poor"],
        },
        "share": {**hand("USDC", "{{swap.result.amountOut}}", "has", "after"), "branch": "then"},
        "poor": {**pay(1), "branch": "else"},
        "has": look(usdc, "balanceOf(address) returns (uint256)", args=[SHOP]),
        "after": balance(ALICE),
    }
    run = await studio.passed(nodes)
    got = int(result(run, "swap")["amountOut"])
    assert result(run, "has")["value"] == str(got) == str(int(result(run, "share")["amountReceived"]))
    assert run["executionState"]["poor"]["status"] == "skipped"
    fees = sum(int(result(run, name)["fee"]) for name in ("swap", "share"))
    assert int(result(run, "before")["balance"]) - int(result(run, "after")["balance"]) == ETHER + fees
    assert studio.witness.balance("usdc", SHOP) == 0
    live = await studio.bench.run(nodes)
    assert live["status"] == "success", told(live)
    assert int(result(live, "swap")["amountOut"]) == got == studio.witness.balance("usdc", SHOP)


async def test_a_switch_takes_the_way_that_the_simulated_state_says(studio: Studio) -> None:
    nodes = {
        "pay": pay(3, "read"),
        "read": balance(SHOP, "way"),
        "way": {
            "type": "switch",
            "payload": {
                "cases": [
                    {"name": "none", "expression": "read.result.balance == '0'"},
                    {"name": "three", "expression": "read.result.balance == '3'"},
                ]
            },
            "children": ["right", "wrong"],
        },
        "right": {**pay(4), "branch": "three"},
        "wrong": {**pay(5), "branch": "none"},
    }
    run = await studio.passed(nodes)
    states = {name: run["executionState"][name]["status"] for name in ("right", "wrong")}
    assert states == {"right": "success", "wrong": "skipped"}


@pytest.mark.parametrize("concurrency", [pytest.param(1, marks=pytest.mark.long), 4])
async def test_the_items_of_a_loop_are_simulated_one_after_the_other(studio: Studio, concurrency: int) -> None:
    """Each item pays and reads what all items so far have paid; a parallel loop comes to the same, in its order."""
    nodes = {
        "each": each([1, 2, 3, 4, 5], "pay", "read", concurrency=concurrency, children=["all"]),
        "pay": pay("{{$item}}", "read"),
        "read": balance(SHOP),
        "all": balance(SHOP),
    }
    run = await studio.passed(nodes)
    iterations = result(run, "each")["iterations"]
    blocks = [one["results"]["pay"]["blockNumber"] for one in iterations]
    assert blocks == list(range(blocks[0], blocks[0] + 5))
    seen = [int(one["results"]["read"]["balance"]) for one in iterations]
    assert seen[-1] == 15
    if concurrency == 1:
        assert seen == [1, 3, 6, 10, 15]
    assert result(run, "all")["balance"] == "15"
    again = await studio.passed(nodes)
    assert [one["results"]["read"] for one in result(again, "each")["iterations"]] == [
        one["results"]["read"] for one in iterations
    ]


async def test_parallel_branches_are_simulated_in_the_planners_order(studio: Studio) -> None:
    nodes = {f"pay{n}": pay(n + 1, to=address(40 + n)) for n in range(6)}
    blocks = []
    for _ in range(2):
        run = await studio.passed(nodes)
        blocks.append([result(run, name)["blockNumber"] for name in nodes])
    assert blocks[0] == blocks[1] == sorted(blocks[0])


async def test_a_delay_moves_the_chains_clock_on(studio: Studio) -> None:
    zoo = studio.witness.addresses["zoo"]
    nodes = {
        "first": look(zoo, BLOCK, "pay"),
        "pay": pay(1, "sleep"),
        "sleep": {"type": "delay", "payload": {"delayMs": 3 * DAY_MS}, "children": ["second"]},
        "second": look(zoo, BLOCK, "more"),
        "more": pay(1, "third"),
        "third": look(zoo, BLOCK),
    }
    run = await studio.passed(nodes)
    times = [int(result(run, name)["values"]["time"]) for name in ("first", "second", "third")]
    assert times[1] - times[0] >= 3 * DAY_MS // 1000
    assert times[1] - times[0] < 3 * DAY_MS // 1000 + 120
    assert times[2] >= times[1]
    numbers = [int(result(run, name)["values"]["number"]) for name in ("first", "third")]
    assert numbers[1] > numbers[0]


async def test_a_contract_sees_the_moment_that_a_simulated_wait_has_come_to(studio: Studio) -> None:
    """A permit that ends before the wait does is refused by the token, as it would be."""
    wait = {"type": "wait", "payload": {"timeoutMs": 2 * DAY_MS}, "pinned": {"branch": "timed_out"}}
    zoo = studio.witness.addresses["zoo"]
    nodes = {"first": look(zoo, BLOCK, "wait"), "wait": {**wait, "children": ["late"]}, "late": look(zoo, BLOCK)}
    nodes["late"]["branch"] = "timed_out"
    run = await studio.passed({**nodes, "pay": pay(1)})
    times = [int(result(run, name)["values"]["time"]) for name in ("first", "late")]
    assert times[1] - times[0] >= 2 * DAY_MS // 1000


async def test_a_wait_goes_on_with_what_is_pinned_or_assumed_or_ends_as_partial(studio: Studio) -> None:
    def nodes(**wait: Any) -> dict[str, Any]:
        payload = {"timeoutMs": 60_000, **wait.pop("payload", {})}
        after = pay("{{wait.result.triggerResult.amount}}", branch="resumed")
        return {"wait": {"type": "wait", "payload": payload, "children": ["pay"], **wait}, "pay": after}

    run = await studio.passed(nodes(pinned={"amount": "7"}))
    assert result(run, "pay")["amount"] == "7"
    run = await studio.simulate(nodes())
    assert run["status"] == "partial"
    assert "pay" not in run["executionState"] or run["executionState"]["pay"]["status"] != "success"
    assert (await studio.effects(run))["passed"] is False


async def test_a_called_workflow_stands_on_the_same_chains(studio: Studio) -> None:
    callee = await studio.workflow({"pay": pay(5, "read"), "read": balance(SHOP)})
    nodes = {
        "first": pay(1, "call"),
        "call": {"type": "call-workflow", "payload": {"workflowId": callee}, "children": ["start"]},
        "start": {"type": "call-workflow", "payload": {"workflowId": callee, "mode": "start"}, "children": ["read"]},
        "read": balance(SHOP),
    }
    run = await studio.passed(nodes)
    assert result(run, "call")["results"]["read"]["balance"] == "6"
    assert result(run, "start")["status"] == "started"
    assert result(run, "read")["balance"] == "11"
    child = (await studio.api.get(f"/v1/runs/{result(run, 'call')['runId']}")).data
    assert child["simulationForks"] == run["simulationForks"]
    (fork,) = run["simulationForks"]
    assert (fork["chainId"], fork["transactions"], fork["strategy"]) == (CHAIN_ID, 3, "trace-call")
    assert run["simulationMode"] == "trace-call"


async def test_calls_in_a_parallel_loop_take_turns(studio: Studio) -> None:
    """What a called run reads is what the ones before it left, nothing in between."""
    callee = await studio.workflow({"pay": pay(1, "read"), "read": balance(SHOP)})
    nodes = {
        "each": each([1, 2, 3], "call", concurrency=3),
        "call": {"type": "call-workflow", "payload": {"workflowId": callee}},
    }
    run = await studio.passed(nodes)
    seen = [one["results"]["call"]["results"]["read"]["balance"] for one in result(run, "each")["iterations"]]
    assert seen == ["1", "2", "3"]


async def test_a_contract_is_created_and_then_called(studio: Studio) -> None:
    await studio.let(allowDeploy=True)
    abi, code = artifact("Zoo")
    at = "{{deploy.result.contractAddress}}"
    nodes = {
        "deploy": node("deploy-contract", "count", payload={"bytecode": code, "abi": abi}),
        "count": call(at, "count()", "again"),
        "again": call(at, "count()", "read"),
        "read": look(at, "counter() returns (uint256)"),
    }
    run = await studio.passed(nodes)
    assert result(run, "read")["value"] == "2"
    live = await studio.bench.run(nodes)
    assert live["status"] == "success", told(live)
    assert result(live, "deploy")["contractAddress"] == result(run, "deploy")["contractAddress"]
    assert result(live, "read")["value"] == "2"


async def test_a_token_that_a_simulation_creates_is_described_there_and_new_to_the_live_run(studio: Studio) -> None:
    """Only the simulated chain knows it; what the live chain says of its address before must not be kept."""
    await studio.let(allowDeploy=True, allowUnpricedAssets=True)
    abi, code = artifact("Token")
    at = "{{deploy.result.contractAddress}}"
    made = {"bytecode": code, "abi": abi, "args": ["Gold", "GOLD", 3]}
    nodes = {
        "deploy": node("deploy-contract", "mint", payload=made),
        "mint": call(at, "mint(address to, uint256 value)", "pay", args=[ALICE, "5000"]),
        "pay": hand(at, 2000),
    }
    simulated = await studio.passed(nodes)
    live = await studio.bench.run(nodes)
    assert live["status"] == "success", told(live)
    for run in (simulated, live):
        changes = (await studio.effects(run))["balanceChanges"]
        shown = {one["address"]: (one.get("symbol"), one.get("amountFormatted")) for one in changes}
        assert shown == {ALICE: ("GOLD", "3"), SHOP: ("GOLD", "2")}
    compared = (await studio.bench.api.get(f"/v1/runs/{simulated['id']}/compare/{live['id']}")).data
    assert compared["verdict"] == "same", compared


async def test_a_price_from_a_pool_is_that_of_the_simulated_state(studio: Studio) -> None:
    """Nothing but a pool prices the token; the swap in the simulation moves it."""
    fee = studio.witness.addresses["fee"]
    price = {"token": fee}
    swap = {"tokenIn": "native", "tokenOut": fee, "amountIn": str(3 * ETHER), "slippageBps": 500}
    nodes = {
        "before": node("get-price", "swap", payload=price),
        "swap": node("swap-uniswap-v2", "after", payload={**swap, "maxPriceImpactBps": 10_000}),
        "after": node("get-price", payload=price),
    }
    run = await studio.passed(nodes)
    before, after = (float(result(run, name)["usd"]) for name in ("before", "after"))
    assert after > before * 1.5
    live = await studio.bench.run({"now": node("get-price", payload=price)})
    assert float(result(live, "now")["usd"]) == pytest.approx(before)


async def test_wallets_spend_on_one_state(studio: Studio) -> None:
    """Bob passes on what Alice gave him in the same run, and could not without it."""
    bob = ACCOUNTS[2]
    wallet = {"connector": {"type": "wallet", "id": await second_wallet(studio)}}
    had = studio.witness.balance("usdc", bob)
    nodes = {
        "give": hand("USDC", 1_000_000, "on", to=bob),
        "on": hand("USDC", had + 1_000_000, to=SHOP, **wallet),
    }
    run = await studio.passed(nodes)
    assert result(run, "on")["amountReceived"] == str(had + 1_000_000)
    alone = await studio.simulate({"on": {**nodes["on"]}})
    assert alone["status"] == "failure"
    report = await studio.effects(run)
    assert {one["from"] for one in report["transactions"]} == {ALICE, bob}


async def test_two_chains_in_one_run_have_a_fork_each(tmp_path: Path, world: World) -> None:
    with world.node() as chain, world.node(chain_id=OTHER_CHAIN) as other:
        other.mine(5)
        async with open_studio(tmp_path, world, chain, other=other) as studio:
            nodes = {
                "here": pay(1, "there"),
                "there": pay(2, "back", chain=OTHER_CHAIN),
                "back": pay(3, "reads"),
                "reads": say("go", "one", "two"),
                "one": balance(SHOP),
                "two": balance(SHOP, chain=OTHER_CHAIN),
            }
            run = await studio.passed(nodes)
            assert (result(run, "one")["balance"], result(run, "two")["balance"]) == ("4", "2")
            forks = {fork["chainId"]: fork for fork in run["simulationForks"]}
            assert {chain_id: fork["transactions"] for chain_id, fork in forks.items()} == {CHAIN_ID: 2, OTHER_CHAIN: 1}
            heads = {CHAIN_ID: chain, OTHER_CHAIN: other}
            for chain_id, fork in forks.items():
                block = heads[chain_id].rpc("eth_getBlockByNumber", hex(fork["blockNumber"]), False)
                assert block["hash"] == fork["blockHash"]
            assert len({fork["forkId"] for fork in forks.values()}) == 2
            assert studio.held == 0


async def test_a_gas_limit_is_tried_as_it_stands_in_both_modes(studio: Studio) -> None:
    """What the contract does depends on the gas that it gets: it calls itself until that is used up, or not at all."""
    at = studio.witness.addresses
    token, greedy = at["reentrant"], at["greedy"]
    paying = call(token, "transfer(address to, uint256 value) returns (bool)", args=[greedy, "1"])
    nodes = {
        "let": call(token, "approve(address spender, uint256 value) returns (bool)", "pay", args=[greedy, "1000"]),
        "pay": {**paying, "payload": {**paying["payload"], "gasLimit": 1_500_000}},
    }
    await studio.let(allowUnpricedAssets=True)
    simulated, live = await studio.passed(nodes), await studio.bench.run(nodes)
    assert live["status"] == "success", told(live)
    compared = (await studio.bench.api.get(f"/v1/runs/{simulated['id']}/compare/{live['id']}")).data
    assert compared["verdict"] == "same", compared
    taken = result(live, "pay")["gasUsed"]
    assert taken == result(simulated, "pay")["gasUsed"]
    assert int(taken) < 1_500_000


@pytest.mark.parametrize(
    ("function", "gas_limit", "code", "says"),
    [
        ("count()", 21_000, "GAS_LIMIT", "its limit is 21000"),
        pytest.param("count()", 21_500, "GAS_LIMIT", "its limit is 21500", marks=pytest.mark.long),
        pytest.param("requireString()", 300_000, "REVERTED", "no way", marks=pytest.mark.long),
        ("requireString()", 21_500, "REVERTED", "no way"),
    ],
)
async def test_too_low_a_gas_limit_is_told_from_a_revert_in_both_modes(
    studio: Studio, function: str, gas_limit: int, code: str, says: str
) -> None:
    calling = call(studio.witness.addresses["zoo"], function)
    nodes = {"call": {**calling, "payload": {**calling["payload"], "gasLimit": gas_limit}}}
    nonce = studio.outbox.nonce()
    for run in (await studio.simulate(nodes), await studio.bench.run(nodes)):
        failed = run["executionState"]["call"]["error"]
        assert (failed["code"], says in failed["message"]) == (code, True), failed
    assert studio.outbox.nonce() == nonce


async def test_a_report_is_in_the_order_of_the_run_when_the_clock_was_advanced(studio: Studio) -> None:
    """Waits, retries and rate limits put the simulated clock ahead; what follows still has an order of its own."""
    inner = await studio.workflow({"last": pay(5, "first"), "first": pay(6)})
    rate = {"count": 1, "perMs": 60_000}
    top = await studio.workflow(
        {
            "wait": {"type": "delay", "payload": {"delayMs": DAY_MS}, "children": ["z"]},
            "z": pay(1, "y"),
            "y": pay(10**30, "each", onError="continue", retry={"maxAttempts": 2, "backoffMs": 50_000}),
            "each": each([2, 3], "pay", children=["call"]),
            "pay": pay("{{string($item)}}", rate=rate),
            "call": {"type": "call-workflow", "payload": {"workflowId": inner}, "children": ["a"]},
            "a": pay(7),
        }
    )
    report = await studio.effects(await studio.run(top, simulate=True))
    paths = [one["path"] for one in report["transactions"] if one["status"] == "simulated"]
    assert paths == ["z", "each[0].pay", "each[1].pay", "call/last", "call/first", "a"]


async def test_a_spend_without_a_result_has_one_code_in_all_modes(studio: Studio) -> None:
    """A token without events that its owner sends to itself: nothing shows that it moved."""
    token = studio.witness.deploy("SilentToken")
    studio.witness.addresses["SilentToken"] = token
    studio.witness.send("SilentToken", "mint", ALICE, 10)
    await studio.let(allowUnpricedAssets=True)
    again = {"maxAttempts": 2, "backoffMs": 1}
    flow = await studio.workflow({"pay": hand(token, 7, to=ALICE, retry=again)})
    ended = [await studio.run(flow, **mode) for mode in ({"simulate": True}, {})]
    for run in ended:  # the second attempt makes the result again, and spends nothing
        assert len((await studio.effects(run))["transactions"]) == 1
    errors = [run["executionState"]["pay"]["error"] for run in ended]
    assert [(one["code"], one["retryable"]) for one in errors] == [("RESULT", True)] * 2
    assert "It was simulated, but its result could not be made: The simulated transaction" in errors[0]["message"]


@pytest.mark.both_stores
@pytest.mark.of_one_process("with Temporal a run is taken up once it has been created, which is a commit of its own")
async def test_a_simulated_transaction_takes_one_commit(tmp_path: Path, world: World, store_url: str) -> None:
    """The run and its first start are one; each transaction and end of a node is one with what follows it."""
    nodes = {"one": pay(1, "two"), "two": hand("USDC", "5", "three"), "three": pay(3)}
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url, request_audit_rows=0) as studio:
            await studio.passed(nodes)  # what is looked up once is known from here on
            parts = studio.bench.composition.parts
            await parts.access.usage.stop()  # it writes once a second
            before = parts.writer.units
            run = await studio.simulate(nodes)
            await parts.writer.write(lambda _: None)  # PostgreSQL shows a commit before its writer is told of it
            assert (parts.writer.units - before, run["status"]) == (len(nodes) + 2, "success")
            found = [event for event in await studio.bench.events(run["id"]) if event[1] is not None]
            kinds = ("node_started", "transaction", "node_succeeded")
            assert found == [(kind, name) for name in nodes for kind in kinds]
