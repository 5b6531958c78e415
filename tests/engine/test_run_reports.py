"""Reports of effects and comparisons of runs, through the whole server, on a real chain: a rehearsal against the real
run, with the balances that both really came to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import Bench, Definition
from engine.test_chain_actions import CASES
from outbox import ALICE, ANYTHING, Outbox, address, open_outbox
from served import ROOT, outside
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import ETHER, MAX, Witness, World
from testkit.chain.rpc_proxy import proxy

EXAMPLES = ROOT / "examples" / "chain"
CAROL = ACCOUNTS[3]
SHOP = address(1)
NATIVE = f"eip155:{CHAIN_ID}/native"
Json = dict[str, Any]


class Operations:
    """A server with a wallet on a chain with every contract, and what people ask it."""

    def __init__(self, outbox: Outbox, witness: Witness, notices: Any) -> None:
        self.outbox = outbox
        self.bench = Bench(outbox.composition)
        self.api = outbox.composition.owner
        self.witness = witness
        self.outside = notices

    def asset(self, name: str) -> str:
        """The key of a token by its name."""
        return f"eip155:{CHAIN_ID}/erc20:{self.witness.addresses[name]}"

    def node(self, kind: str, **payload: Any) -> Definition:
        """A node on this chain; tokens by their names here."""
        fields: Json = {name: payload.pop(name) for name in ("children", "pinned") if name in payload}
        at = self.witness.addresses
        named = {name: at.get(value, value) if isinstance(value, str) else value for name, value in payload.items()}
        return {"type": kind, "payload": {"chainId": CHAIN_ID, **named}, **fields}

    async def run(self, nodes: Definition, status: str = "success", /, **body: Any) -> Json:
        """Runs to the end."""
        run = await self.bench.run(nodes, **body)
        assert run["status"] == status, _errors(run)
        return run

    async def example(self, name: str, changes: Json, **body: Any) -> str:
        """Runs an example with what this chain has in place of mainnet's; its id."""
        example = json.loads((EXAMPLES / f"{name}.json").read_text())
        payload = {**example["payload"], "chainId": CHAIN_ID, **changes}
        asked = {"definition": example["definition"], "payload": payload, **body}
        run = await self.bench.ended((await self.api.post("/v1/runs", asked)).data["runId"])
        assert run["status"] == "success", _errors(run)
        found: str = run["id"]
        return found

    async def effects(self, run: str | Json) -> Json:
        """The report of a run."""
        run_id = run if isinstance(run, str) else run["id"]
        report: Json = (await self.api.get(f"/v1/runs/{run_id}/effects")).data
        return report

    async def compare(self, left: str | Json, right: str | Json) -> Json:
        """Two runs side by side."""
        ids = [run if isinstance(run, str) else run["id"] for run in (left, right)]
        found: Json = (await self.api.get(f"/v1/runs/{ids[0]}/compare/{ids[1]}")).data
        return found


def _errors(run: Json) -> Json:
    return {path: node.get("error") for path, node in run["executionState"].items() if node.get("error")}


def changes(report: Json) -> dict[tuple[str, str], int]:
    """The balance changes of a report by address and asset."""
    return {(change["address"], change["asset"]): int(change["amount"]) for change in report["balanceChanges"]}


def codes(report: Json) -> list[str]:
    """The codes of its warnings."""
    return [warning["code"] for warning in report["warnings"]]


@pytest.fixture
async def operations(tmp_path: Path, world: World) -> AsyncIterator[Operations]:
    with world.node() as node, outside(tmp_path) as notices:
        left_out = {"chain_id", "block_time_ms", "confirmations", "endpoints"}
        network = world.network(node.url).model_dump(mode="json", by_alias=True, exclude=left_out)
        witness = world.witness(node)
        changed = {**network, "confirmations": 1}
        async with open_outbox(tmp_path, node, network=changed, outbound_allow=notices.address) as outbox:
            may = {"allowUnpricedAssets": True, "allowDeploy": True, "allowUnlimitedApprovals": True}
            policy = {**ANYTHING, **may, "methods": ["*", "tryForward(address)"]}
            path = f"/v1/wallets/{outbox.wallet_id}/policy"
            assert (await outbox.composition.owner.put(path, {"policy": policy})).status == 200
            yield Operations(outbox, witness, notices)


def _take_profit(operations: Operations) -> Json:
    at = operations.witness.addresses
    return {
        "router": at["v2_router"],
        "weth": at["weth"],
        "usdc": at["usdc"],
        "treasury": SHOP,
        "noticeUrl": f"{operations.outside.url}/notices",
    }


def _sell(operations: Operations, **more: Any) -> Json:
    return operations.node("swap-uniswap-v2", **{"tokenIn": "weth", "tokenOut": "usdc", "amountIn": str(ETHER), **more})


def _move_the_pool(operations: Operations, sender: str = ACCOUNTS[0]) -> None:
    """Somebody sells 5 WETH."""
    at = operations.witness.addresses
    operations.witness.send("weth", "approve", at["v2_router"], MAX, sender=sender)
    path = [at["weth"], at["usdc"]]
    operations.witness.send("v2_router", "swapExactTokensForTokens", 5 * ETHER, 0, path, CAROL, 2**60, sender=sender)


# --- the same ---


@pytest.mark.long
async def test_take_profit_is_the_same_live_as_simulated(operations: Operations) -> None:
    simulated = await operations.example("take-profit", _take_profit(operations), simulate=True)
    before = {name: operations.witness.balance(name, ALICE) for name in ("weth", "usdc")}
    live = await operations.example("take-profit", _take_profit(operations))
    found = await operations.compare(simulated, live)
    assert (found["verdict"], found["equal"], found["differences"]) == ("same", True, [])
    estimated = [(one["path"], one["item"]) for one in found["estimates"]]
    assert estimated == [("sell", "approve"), ("sell", "swap"), ("share", "send")]
    assert [(note["code"], note["path"]) for note in found["notes"]] == [("ASSUMED", "notify")]
    predicted, real = await operations.effects(simulated), await operations.effects(live)
    assert changes(predicted) == changes(real)
    for name in before:  # what the report says is what another client reads
        change = operations.witness.balance(name, ALICE) - before[name]
        assert changes(real)[(ALICE, operations.asset(name))] == change
    assert (ALICE, NATIVE) not in changes(real), "fees are told apart"
    assert [event["name"] for event in real["transactions"][1]["events"]] == ["Transfer", "Transfer", "Sync", "Swap"]
    assert real["approvals"] == predicted["approvals"] == []
    assert real["names"][ALICE] == {"name": "alice", "kind": "wallet", "walletId": operations.outbox.wallet_id}
    reader = await operations.outbox.composition.client_with("run:read")
    unread = (await reader.get(f"/v1/runs/{live}/effects")).data["names"]
    assert unread == {address: one for address, one in real["names"].items() if one["kind"] != "wallet"}
    assert real["totalFeesUsd"] == real["totalFees"][0]["usd"]


@pytest.mark.long
async def test_the_other_examples_are_the_same(operations: Operations) -> None:
    csv = f"invoice,address,amount\nA-17,{SHOP},12.50\nA-18,{CAROL},7\n"
    permit = {"token": operations.witness.addresses["usdc"], "version": "1", "spender": CAROL}
    for name, asked in (("payout", {"csv": csv}), ("top-up", {"address": SHOP}), ("permit", permit)):
        runs = [await operations.example(name, asked, **body) for body in ({"simulate": True}, {})]
        found = await operations.compare(*runs)
        assert (found["verdict"], found["differences"]) == ("same", []), name
        assert (await operations.compare(runs[1], runs[0]))["verdict"] == "same", name


async def test_every_action_is_the_same_live_as_simulated(operations: Operations) -> None:
    operations.witness.send("nft", "mint", ALICE, 7)
    operations.witness.send("rebasing", "rebase", 150)
    operations.witness.send("race", "approve", CAROL, 3, sender=ALICE)
    for name, kind, payload in CASES:
        node = {"it": operations.node(kind, **payload)}
        simulated, live = await operations.run(node, simulate=True), await operations.run(node)
        found = await operations.compare(simulated, live)
        assert found["differences"] == [], name
        assert {note["code"] for note in found["notes"]} <= {"NOT_WATCHED"}, name
        assert all(one["measured"] for one in (await operations.effects(live))["transactions"]), name


async def test_events_of_ones_own_contracts_are_decoded(operations: Operations) -> None:
    counted = operations.node(
        "write-contract", contract="zoo", function="count()", events=["Ping(uint256 indexed n, address who)"]
    )
    for body in ({"simulate": True}, {}):
        (one,) = (await operations.effects(await operations.run({"it": counted}, **body)))["transactions"]
        (event,) = one["events"]
        assert (event["name"], event["args"]["who"]) == ("Ping", ALICE), body


@pytest.mark.parametrize(("to", "done"), [(SHOP, True), ("rejector", False)])
async def test_what_a_function_returns_is_predicted(operations: Operations, to: str, done: bool) -> None:
    args = [operations.witness.addresses.get(to, to)]
    function = "tryForward(address to) payable returns (bool done)"
    asked = operations.node("write-contract", contract="forwarder", function=function, args=args)
    (one,) = (await operations.effects(await operations.run({"it": asked}, simulate=True)))["transactions"]
    assert one["returned"] == {"done": done}
    assert one["returnData"] == f"0x{done:064x}"


async def test_tokens_that_lie_in_their_events_are_measured(operations: Operations) -> None:
    operations.witness.send("rebasing", "rebase", 150)
    for token, arrives in (("fee", 990), ("rebasing", 999)):  # of 1000: 1 % for the token; whole shares only
        had = operations.witness.balance(token, ALICE)
        node = {"pay": operations.node("send-erc20-token", token=token, recipient=SHOP, amount="1000")}
        simulated, live = await operations.run(node, simulate=True), await operations.run(node)
        assert operations.witness.balance(token, SHOP) == arrives
        for run in (simulated, live):
            found = changes(await operations.effects(run))
            assert found[(SHOP, operations.asset(token))] == arrives
            assert found[(ALICE, operations.asset(token))] == operations.witness.balance(token, ALICE) - had


async def test_transactions_of_one_block_are_counted_once(operations: Operations) -> None:
    nodes = {
        f"pay{n}": operations.node("send-native", recipient=address(10 + n), amount=str(100 + n)) for n in range(3)
    }
    simulated = await operations.run(nodes, simulate=True)
    operations.outbox.node.rpc("evm_setAutomine", False)
    run_id = await operations.bench.start(nodes)
    await operations.bench.until(run_id, lambda _: int(operations.outbox.node.rpc("txpool_status")["pending"], 16) == 3)
    operations.outbox.node.rpc("evm_mine")
    live = await operations.bench.ended(run_id)
    report = await operations.effects(live)
    assert len({one["blockNumber"] for one in report["transactions"]}) == 1
    assert all(one["sharesBlock"] for one in report["transactions"])
    assert changes(report) == {(ALICE, NATIVE): -303} | {(address(10 + n), NATIVE): 100 + n for n in range(3)}
    assert codes(report).count("OTHERS_IN_BLOCK") == 0, "they are all ours"
    found = await operations.compare(simulated, live)
    assert (found["verdict"], found["notes"]) == ("same", [])


async def test_a_delay_and_coin_for_a_new_contract_are_no_difference(operations: Operations) -> None:
    nodes = {
        "sleep": {"type": "delay", "payload": {"delayMs": 1}, "children": ["make"]},
        "make": operations.node("deploy-contract", bytecode="0x600160005360016000f3", value="5"),
    }
    simulated, live = await operations.run(nodes, simulate=True), await operations.run(nodes)
    found = await operations.compare(simulated, live)
    assert (found["verdict"], found["differences"]) == ("same", [])
    made = live["executionState"]["make"]["result"]["contractAddress"]
    for run in (simulated, live):
        assert changes(await operations.effects(run)) == {(ALICE, NATIVE): -5, (made, NATIVE): 5}


# --- not the same ---


async def test_a_pool_that_moved_in_between_is_told_with_amounts(operations: Operations) -> None:
    simulated = await operations.example("take-profit", _take_profit(operations), simulate=True)
    _move_the_pool(operations)
    live = await operations.example("take-profit", _take_profit(operations))
    found = await operations.compare(simulated, live)
    assert found["verdict"] == "differs"
    predicted, real = await operations.effects(simulated), await operations.effects(live)
    usdc = (ALICE, operations.asset("usdc"))
    (own,) = [d for d in found["differences"] if d.get("address") == ALICE and d["path"] == "sell"]
    got = [int(report["transactions"][1]["balanceChanges"][-1]["amount"]) for report in (predicted, real)]
    assert (own["left"], own["right"], own["difference"]) == (str(got[0]), str(got[1]), str(got[1] - got[0]))
    assert own["asset"] == operations.asset("usdc")
    assert own["message"].endswith(f"({(got[1] - got[0]) / 10**6:.6f} USDC).")
    assert changes(real)[usdc] < changes(predicted)[usdc]
    (sent,) = [d for d in found["differences"] if d["field"] == "movements"]
    assert (sent["path"], sent["item"], sent["counterparty"]) == ("share", "send", address(1))
    assert "hash" not in {d["field"].rpartition(".")[2] for d in found["differences"]}


async def test_a_branch_and_what_ran_in_one_run_only_are_told(operations: Operations) -> None:
    one = await operations.example("take-profit", _take_profit(operations), simulate=True)
    other = await operations.example(
        "take-profit", {**_take_profit(operations), "limitUsdc": str(10**12)}, simulate=True
    )
    found = await operations.compare(one, other)
    told = {(d["path"], d["field"]): (d["left"], d["right"]) for d in found["differences"]}
    assert told[("check", "branch")] == ("then", "else")
    assert told[("sell", "transaction")] == ("simulated", None)
    assert told[("sell", "status")] == ("success", "skipped")
    assert [note["code"] for note in found["notes"]] == ["PAYLOAD"]


async def test_a_revert_is_decoded_and_told(operations: Operations) -> None:
    operations.witness.send("weth", "approve", operations.witness.addresses["v2_router"], MAX, sender=ALICE)
    nodes = {"sell": _sell(operations, slippageBps=10)}
    simulated = await operations.run(nodes, simulate=True)
    operations.witness.send("weth", "approve", operations.witness.addresses["v2_router"], MAX)
    rpc = operations.outbox.node.rpc
    rpc("evm_setAutomine", False)
    run_id = await operations.bench.start(nodes)
    await operations.bench.until(run_id, lambda _: int(rpc("txpool_status")["pending"], 16) == 1)
    at = operations.witness.addresses
    path = [at["weth"], at["usdc"]]
    data = operations.witness.data("v2_router", "swapExactTokensForTokens", 5 * ETHER, 0, path, CAROL, 2**60)
    front = {"from": ACCOUNTS[0], "to": at["v2_router"], "data": f"0x{data.hex()}", "gas": hex(500_000)}
    rpc("eth_sendTransaction", {**front, "gasPrice": hex(10**12)})
    rpc("evm_mine")
    rpc("evm_setAutomine", True)
    live = await operations.bench.ended(run_id)
    assert live["status"] == "failure"
    report = await operations.effects(live)
    (sent,) = report["transactions"]
    assert (sent["status"], sent["balanceChanges"]) == ("reverted", [])
    assert sent["revert"]["reason"] == "UniswapV2Router: INSUFFICIENT_OUTPUT_AMOUNT"
    assert int(report["totalFees"][0]["amount"]) == int(sent["fee"]) > 0
    found = await operations.compare(simulated, live)
    told = {d["field"]: d for d in found["differences"]}
    assert told["outcome"]["shown"]["left"] == "carried out"
    assert "INSUFFICIENT_OUTPUT_AMOUNT" in told["outcome"]["shown"]["right"]
    assert (told["status"]["left"], told["status"]["right"]) == ("success", "failure")


async def test_what_would_revert_and_was_not_signed_is_the_same(operations: Operations) -> None:
    """The swap would fail, so its approval is not made either."""
    nodes = {
        "sell": operations.node("swap-uniswap-v2", tokenIn="fee", tokenOut="weth", amountIn=str(ETHER), slippageBps=0)
    }
    nonce = operations.outbox.nonce()
    runs = [await operations.run(nodes, "failure", **body) for body in ({"simulate": True}, {})]
    for run in runs:
        assert (await operations.effects(run))["approvals"] == []
    assert operations.witness.allowance("fee", ALICE, operations.witness.addresses["v2_router"]) == 0
    assert operations.outbox.nonce() == nonce
    found = await operations.compare(*runs)
    assert found["differences"] == []


async def test_others_in_the_block_are_told(operations: Operations) -> None:
    rpc = operations.outbox.node.rpc
    rpc("evm_setAutomine", False)
    run_id = await operations.bench.start({"pay": operations.node("send-native", recipient=SHOP, amount="1000")})
    await operations.bench.until(run_id, lambda _: int(rpc("txpool_status")["pending"], 16) == 1)
    rpc("eth_sendTransaction", {"from": CAROL, "to": SHOP, "value": hex(7)})
    rpc("evm_mine")
    report = await operations.effects(await operations.bench.ended(run_id))
    assert changes(report) == {(ALICE, NATIVE): -1000, (SHOP, NATIVE): 1007}
    assert [change.get("shared", False) for change in report["balanceChanges"]] == [
        change["address"] == SHOP for change in report["balanceChanges"]
    ]
    assert "OTHERS_IN_BLOCK" in codes(report)


async def test_a_dust_test_is_compared_with_its_simulation(operations: Operations) -> None:
    nodes = {"pay": operations.node("send-native", recipient=SHOP, amount=str(ETHER))}
    simulated, dust = await operations.run(nodes, simulate=True), await operations.run(nodes, dustTest=True)
    found = await operations.compare(simulated, dust)
    assert "DUST" in [note["code"] for note in found["notes"]]
    (sent,) = [d for d in found["differences"] if d["field"] == "movements"]
    assert (sent["left"], sent["right"]) == (str(ETHER), str(4 * 10**12))
    report = await operations.effects(dust)
    assert changes(report) == {(ALICE, NATIVE): -4 * 10**12, (SHOP, NATIVE): 4 * 10**12}


# --- warnings, and what is not known ---


async def test_a_recipient_is_new_once(operations: Operations) -> None:
    nodes = {"pay": operations.node("send-native", recipient=SHOP, amount="5")}
    for body, is_new in (({"simulate": True}, True), ({}, True), ({}, False), ({"simulate": True}, False)):
        report = await operations.effects(await operations.run(nodes, **body))
        assert ("FIRST_TIME_RECIPIENT" in codes(report)) is is_new, body


async def test_approvals_that_remain_and_have_no_end_are_told(operations: Operations) -> None:
    usdc = operations.witness.addresses["usdc"]
    nodes = {"allow": operations.node("approve-erc20", token="usdc", spender=CAROL, amount="max")}
    for body in ({"simulate": True}, {}):
        report = await operations.effects(await operations.run(nodes, **body))
        assert codes(report) == ["UNLIMITED_APPROVAL"], body
        (warning,) = report["warnings"]
        assert (warning["nodeId"], warning["path"], warning["item"], warning["transaction"]) == (
            "allow",
            "allow",
            "approve",
            0,
        )
        (left,) = report["approvals"]
        assert (left["spender"], left["asset"], left["amount"]) == (CAROL, operations.asset("usdc"), str(MAX))
    taken = operations.witness.contract("usdc").functions.transferFrom(ALICE, SHOP, 7).transact({"from": CAROL})
    assert operations.witness.web3.eth.wait_for_transaction_receipt(taken)["status"] == 1
    back = {"back": operations.node("approve-erc20", token=usdc, spender=CAROL, amount="0")}
    assert (await operations.effects(await operations.run(back)))["approvals"] == []


async def test_an_approval_that_a_later_node_uses_up_does_not_remain(operations: Operations) -> None:
    router = operations.witness.addresses["v2_router"]
    allow = operations.node("approve-erc20", token="weth", spender=router, amount=str(ETHER), children=["sell"])
    nodes = {"allow": allow, "sell": _sell(operations)}
    for body in ({"simulate": True}, {}):
        assert (await operations.effects(await operations.run(nodes, **body)))["approvals"] == [], body


async def test_a_signed_permit_is_told_like_an_approval(operations: Operations) -> None:
    permit = {"token": operations.witness.addresses["usdc"], "version": "1", "spender": CAROL}
    for body, status in (({"simulate": True}, "notSigned"), ({}, "signed")):
        report = await operations.effects(await operations.example("permit", {**permit, "amount": str(MAX)}, **body))
        (signature,) = report["signatures"]
        assert (signature["path"], signature["sign"], signature["status"]) == ("sign", "typed-data", status)
        (moved,) = signature["movements"]
        assert (moved["kind"], moved["counterparty"], moved["amount"]) == ("approve", CAROL, str(MAX))
        assert codes(report) == ["UNLIMITED_APPROVAL"]
        assert [verdict["path"] for verdict in report["policyVerdicts"]] == ["sign"]


async def test_attempts_that_sign_nothing_are_told_and_cost_nothing(operations: Operations) -> None:
    """The swap would fail at each attempt: approval and swap of both are told, and none of them is signed."""
    sell = operations.node("swap-uniswap-v2", tokenIn="fee", tokenOut="weth", amountIn=str(ETHER), slippageBps=0)
    nodes = {"sell": {**sell, "retry": {"maxAttempts": 2, "backoffMs": 1}}}
    for body in ({"simulate": True}, {}):
        report = await operations.effects(await operations.run(nodes, "failure", **body))
        told = [(one["item"], one["status"]) for one in report["transactions"]]
        assert [one for one in told if one[0] == "approve"] == [("approve", "cancelled")] * 2, (body, told)
        assert sum(int(fee["amount"]) for fee in report["totalFees"]) == 0, body


async def test_big_values_and_bad_prices_are_warned_of(operations: Operations) -> None:
    nodes = {"sell": _sell(operations, amountIn=str(10 * ETHER), maxPriceImpactBps=10_000, slippageBps=5000)}
    for body in ({"simulate": True}, {}):
        report = await operations.effects(await operations.run(nodes, **body))
        assert {"LARGE_VALUE", "SLIPPAGE"} <= set(codes(report)), body


async def test_a_simulation_on_assumed_values_says_why_it_is_not_passed(operations: Operations) -> None:
    ask = {"method": "POST", "url": f"{operations.outside.url}/notices", "json": {"what": "how much"}}
    nodes: Json = {
        "ask": {"type": "http-request", "payload": ask, "children": ["pay"]},
        "pay": operations.node("send-native", recipient=SHOP, amount="{{string(int($nodes.ask.result.status) * 5)}}"),
    }
    report = await operations.effects(await operations.run(nodes, simulate=True))
    assert report["passed"] is False
    assert [(one["path"], one["source"], one["dependsOn"], one["decides"]) for one in report["assumed"]] == [
        ("ask", "example", [], False),
        ("pay", "input", ["ask"], True),
    ]
    (why,) = report["notPassed"]
    assert (why["code"], why["path"]) == ("ASSUMED", "pay")
    assert why["message"].endswith('Pin a result of "ask".')
    assert report["transactions"][0]["assumed"] is True
    nodes["ask"]["pinned"] = {
        **(await operations.run({"ask": {"type": "http-request", "payload": ask}}))["executionState"]["ask"]["result"],
        "status": 200,
    }
    passed = await operations.effects(await operations.run(nodes, simulate=True))
    assert (passed["passed"], passed["notPassed"], passed["assumed"]) == (True, [], [])


async def test_a_node_without_old_states_fails_no_run(tmp_path: Path, world: World) -> None:
    def forgetful(call: Json, answer: Json) -> Json:
        if call["method"] == "eth_call" and len(call["params"]) > 2:  # balances at a block
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": "missing trie node"}}
        return answer

    with world.node() as node, outside(tmp_path) as notices:
        async with (
            proxy(node.url, twist=forgetful) as between,
            open_outbox(tmp_path, node, url=between.url, network={"confirmations": 1}) as outbox,
        ):
            operations = Operations(outbox, world.witness(node), notices)
            run = await operations.run({"pay": operations.node("send-native", recipient=SHOP, amount="5")})
            report = await operations.effects(run)
            (sent,) = report["transactions"]
            assert (sent["status"], sent["measured"], sent["balanceChanges"]) == ("final", False, [])
            assert "missing trie node" in sent["notMeasured"]
            assert "NOT_MEASURED" in codes(report)
            again = await operations.run({"pay": operations.node("send-native", recipient=SHOP, amount="5")})
            found = await operations.compare(run, again)
            assert (found["verdict"], [note["code"] for note in found["notes"]]) == ("same", ["NOT_MEASURED"])


async def test_runs_of_other_versions_and_other_workflows(operations: Operations) -> None:
    definition = {
        "nodes": {
            "root": {"type": "manual", "children": ["pay"]},
            "pay": operations.node("send-native", recipient=SHOP, amount="5"),
        },
        "triggerNodeIds": ["root"],
    }
    body = {"name": "Pay", "description": "Pays.", "definition": definition}
    workflow = (await operations.api.post("/v1/workflows", body)).data["id"]
    runs = []
    for amount in ("5", "6"):
        definition["nodes"]["pay"]["payload"]["amount"] = amount  # type: ignore[index]
        await operations.api.put(f"/v1/workflows/{workflow}", {"definition": definition})
        started = await operations.api.post(f"/v1/workflows/{workflow}/run", {"simulate": True})
        runs.append(await operations.bench.ended(started.data["runId"]))
    found = await operations.compare(*runs)
    assert [note["code"] for note in found["notes"]] == ["VERSIONS"]
    assert {d["field"] for d in found["differences"]} >= {"movements", "value", "balanceChanges"}
    inline = await operations.run({"pay": operations.node("send-native", recipient=SHOP, amount="5")}, simulate=True)
    refused = await operations.api.get(f"/v1/runs/{runs[0]['id']}/compare/{inline['id']}")
    assert refused.status == 409
