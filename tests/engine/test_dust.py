"""Dust tests of whole workflows, through the API, on a real chain with real pools: what is spent, by balances."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import Bench
from outbox import ALICE, ANYTHING, Outbox, address, open_outbox
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import ETHER, RICH, Witness, World

SHOP = address(1)
FINE, CENTS, WHOLE = "fine", "cents", "whole"


class Till:
    """A server with a wallet on a chain with pools and feeds."""

    def __init__(self, outbox: Outbox, witness: Witness) -> None:
        self.outbox = outbox
        self.witness = witness
        self.bench = Bench(outbox.composition)
        self.api = outbox.composition.owner

    def node(self, type: str, children: list[str] | None = None, **payload: Any) -> dict[str, Any]:
        """A node on the chain."""
        made = {"type": type, "payload": {"chainId": CHAIN_ID, **payload}}
        return made if children is None else {**made, "children": children}

    async def dust(self, **nodes: dict[str, Any]) -> dict[str, Any]:
        """A dust test of these nodes, in a row."""
        names = list(nodes)
        for name, following in itertools.pairwise(names):
            nodes[name].setdefault("children", [following])
        root = {"type": "manual", "children": names[:1]}
        body = {"definition": {"nodes": {"root": root, **nodes}}, "dustTest": True}
        started = (await self.api.post("/v1/runs", body)).data["runId"]
        return await self.bench.ended(started)

    async def allow(self, **more: Any) -> None:
        """Changes the wallet's policy."""
        path = f"/v1/wallets/{self.outbox.wallet_id}/policy"
        assert (await self.api.put(path, {"policy": {**ANYTHING, **more}})).status == 200

    async def error(self, **node: Any) -> dict[str, Any]:
        """Why a dust test of one node failed; nothing was signed."""
        before = self.outbox.nonce()
        run = await self.dust(pay=node)
        assert run["status"] == "failure"
        assert self.outbox.nonce() == before
        found: dict[str, Any] = run["executionState"]["pay"]["error"]
        return found


@pytest.fixture
async def till(tmp_path: Path, world: World) -> AsyncIterator[Till]:
    with world.node() as node:
        described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
        fields = {**described, "blockTimeMs": 200, "confirmations": 1}
        token = f"eip155:{CHAIN_ID}/erc20:"
        static = {token + world[WHOLE]: "60000", token + world[FINE]: "0.000000000001"}
        async with open_outbox(tmp_path, node, network=fields, static_prices=static) as outbox:
            yield Till(outbox, world.witness(node))


async def test_a_workflow_spends_about_a_cent_a_step_and_says_so(till: Till) -> None:
    usdc, native = till.witness.balance("usdc", ALICE), till.witness.native(SHOP)
    run = await till.dust(
        pay=till.node("send-native", recipient=SHOP, amount=str(5 * ETHER)),
        swap=till.node(
            "swap-uniswap-v2", tokenIn="native", tokenOut="USDC", amountIn=str(ETHER), amountOutMin="2400000000"
        ),
        back=till.node("send-erc20-token", token="USDC", recipient=SHOP, amount="{{$nodes.swap.result.amountOut}}"),
    )
    assert run["status"] == "success", run["executionState"]
    assert run["isDustTest"] is True
    assert till.witness.native(SHOP) - native == 4 * 10**12
    state = run["executionState"]
    got = int(state["swap"]["result"]["amountOut"])
    assert 9_900 < got < 10_000
    assert till.witness.balance("usdc", SHOP) == got  # it is dust already, and not scaled a second time
    assert till.witness.balance("usdc", ALICE) == usdc
    report = (await till.api.get(f"/v1/runs/{run['id']}/effects")).data
    assert len(report["transactions"]) == 3


async def test_an_approval_is_dust_and_never_lowers_one(till: Till) -> None:
    spender, other = till.witness.addresses["v2_router"], till.witness.addresses["v3_router"]
    till.witness.send("usdc", "approve", spender, 777_000_000, sender=ALICE)
    run = await till.dust(
        kept=till.node("approve-erc20", token="USDC", spender=spender, amount="5000000000"),
        made=till.node("approve-erc20", token="USDC", spender=other, amount="max"),
    )
    assert run["status"] == "success", run["executionState"]
    assert till.witness.allowance("usdc", ALICE, spender) == 777_000_000
    assert till.witness.allowance("usdc", ALICE, other) == 10_000


@pytest.mark.parametrize("version", [pytest.param("v2", marks=pytest.mark.long), "v3"])
async def test_a_swap_that_would_approve_without_an_end_approves_dust(till: Till, version: str) -> None:
    await till.allow(allowUnlimitedApprovals=True)
    router = till.witness.addresses[f"{version}_router"]
    swap: dict[str, Any] = {"tokenIn": "USDC", "tokenOut": "native", "amountIn": "2500000000", "approval": "unlimited"}
    run = await till.dust(swap=till.node(f"swap-uniswap-{version}", **swap, slippageBps="100"))
    assert run["status"] == "success", run["executionState"]
    assert till.witness.allowance("usdc", ALICE, router) == 0


@pytest.mark.parametrize(
    ("token", "amount", "code"),
    [(CENTS, "500", "DUST_UNPRICED"), (WHOLE, "3", "DUST_OVER_CAP")],
)
async def test_what_cannot_be_dust_is_refused_before_it_is_signed(
    till: Till, token: str, amount: str, code: str
) -> None:
    error = await till.error(
        **till.node("send-erc20-token", token=till.witness.addresses[token], recipient=SHOP, amount=amount)
    )
    assert error["code"] == code, error


async def test_an_action_without_an_amount_is_refused_or_skipped(till: Till) -> None:
    usdc, function = till.witness.addresses["usdc"], "mint(address to, uint256 amount)"
    node = till.node("write-contract", contract=usdc, function=function, args=[ALICE, "5"])
    refused = await till.error(**node)
    assert (refused["code"], refused["message"]) == (
        "DUST_UNSCALABLE",
        'The input of "write-contract" names no amount that could be scaled; list its arguments that are amounts of '
        'tokens in amounts ([] if it takes none), or set dust: "skip" on the node.',
    )
    signing = till.node("sign-message", message="x")
    signing["payload"].pop("chainId")
    error = await till.error(**signing, dustAmount="5")
    assert error["message"] == 'The action "sign-message" declares no amount; set dust: "skip" on the node.'
    run = await till.dust(pay={**node, "dust": "skip"}, then=till.node("send-native", recipient=SHOP, amount="7"))
    assert run["status"] == "success", run["executionState"]
    assert till.witness.native(SHOP) == 7


async def test_a_payment_that_depends_on_an_example_is_not_made_and_does_not_pass(till: Till) -> None:
    skipped = {**till.node("send-native", recipient=SHOP, amount="9"), "dust": "skip"}
    then = till.node("send-native", recipient=SHOP, amount="{{pay.result.gasUsed}}")
    before = till.outbox.nonce()
    run = await till.dust(pay=skipped, then=then)
    assert (run["status"], run["passed"], till.outbox.nonce()) == ("success", False, before)
    report = (await till.api.get(f"/v1/runs/{run['id']}/effects")).data
    assert [one["path"] for one in report["notPassed"]] == ["then"]
    pinned = await till.dust(pay={**skipped, "pinned": {"gasUsed": "3"}}, then=then)
    assert (pinned["status"], pinned["passed"], till.witness.native(SHOP)) == ("success", True, 3)


@pytest.mark.parametrize(
    ("passed", "mode"),
    [
        ("payload", "wait"),
        ("propValues", "start"),
        pytest.param("payload", "start", marks=pytest.mark.long),
        pytest.param("propValues", "wait", marks=pytest.mark.long),
    ],
)
async def test_a_called_workflow_does_not_pay_with_an_example_that_it_was_passed(
    till: Till, mode: str, passed: str
) -> None:
    amount = {"payload": "{{$trigger.amount}}", "propValues": "{{$props.amount}}"}[passed]
    pay = till.node("send-native", recipient=SHOP, amount=amount)
    called = {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": pay}}
    flow = await till.api.create_workflow(called)
    skipped = {**till.node("send-native", recipient=SHOP, amount="9"), "dust": "skip"}
    given = {"workflowId": flow["id"], "mode": mode, passed: {"amount": "{{skipped.result.gasUsed}}"}}
    run = await till.dust(skipped=skipped, call={"type": "call-workflow", "payload": given})
    assert (run["status"], run["passed"]) == ("success", False)
    (child,) = (await till.api.get(f"/v1/runs?workflowId={flow['id']}")).data["items"]
    ended = await till.bench.ended(child["id"])
    assert (ended["status"], ended["passed"], till.witness.native(SHOP)) == ("success", False, 0)
    report = (await till.api.get(f"/v1/runs/{run['id']}/effects")).data
    assert [one["path"] for one in report["notPassed"]] == ["call", "call/pay"]


async def test_an_example_from_a_called_workflow_is_not_paid(till: Till) -> None:
    skipped = {**till.node("send-native", recipient=SHOP, amount="9"), "dust": "skip"}
    called = {"nodes": {"root": {"type": "manual", "children": ["skipped"]}, "skipped": skipped}}
    flow = await till.api.create_workflow(called)
    call = {"type": "call-workflow", "payload": {"workflowId": flow["id"], "mode": "wait"}}
    run = await till.dust(
        call=call, pay=till.node("send-native", recipient=SHOP, amount="{{call.result.result.gasUsed}}")
    )
    assert (run["status"], run["passed"], till.witness.native(SHOP)) == ("success", False, 0)
    report = (await till.api.get(f"/v1/runs/{run['id']}/effects")).data
    assert [one["path"] for one in report["notPassed"]] == ["pay"]


async def test_nothing_is_paid_or_written_as_often_as_an_example_has_items(till: Till) -> None:
    await till.api.post("/v1/tables", {"name": "notes", "columns": [{"name": "text", "type": "text"}]})
    skipped = {**till.node("send-native", recipient=SHOP, amount="9"), "dust": "skip", "children": ["each", "note"]}
    nodes = {
        "skipped": skipped,
        "each": {
            "type": "for-each",
            "payload": {"array": ["{{skipped.result.gasUsed}}", "2"]},
            "loopBody": ["pay"],
            "children": [],
        },
        "pay": till.node("send-native", children=[], recipient=SHOP, amount="5"),
        "note": {
            "type": "write-table",
            "payload": {"table": "notes", "rows": {"text": "{{skipped.result.gasUsed}}"}},
            "children": [],
        },
    }
    run = await till.dust(**nodes)
    assert (run["status"], run["passed"], till.witness.native(SHOP)) == ("success", False, 0)
    assert (await till.api.get("/v1/tables/notes/rows")).data["items"] == []


async def test_an_amount_of_the_nodes_own_is_used_within_the_caps(till: Till) -> None:
    token = till.witness.addresses[CENTS]
    node = {**till.node("send-erc20-token", token=token, recipient=SHOP, amount="500"), "dustAmount": "3"}
    assert (await till.error(**node))["code"] == "DUST_UNPRICED"  # nobody prices it, and no policy bounds it
    bounds = [{"asset": f"eip155:{CHAIN_ID}/erc20:{token}", "maxUnits": "3"}]
    await till.allow(limits=bounds)
    assert (await till.error(**node))["code"] == "REFUSED"  # the policy still minds that nobody prices it
    await till.allow(allowUnpricedAssets=True, limits=bounds)
    run = await till.dust(pay=node)
    assert run["status"] == "success", run["executionState"]
    assert till.witness.balance(CENTS, SHOP) == 3
    before = till.outbox.nonce()
    skipped = await till.dust(pay={**node, "dustAmount": "0"})
    assert (skipped["status"], till.outbox.nonce(), till.witness.balance(CENTS, SHOP)) == ("success", before, 3)
    coin = till.node("send-native", recipient=SHOP, amount=str(ETHER))
    assert (await till.error(**coin, dustAmount=str(10**15)))["code"] == "DUST_OVER_CAP"  # 2.5 USD


async def test_a_token_of_24_decimals_that_is_worth_nearly_nothing(till: Till) -> None:
    token = till.witness.addresses[FINE]
    for account in ACCOUNTS[1:3]:
        till.witness.send(FINE, "mint", ALICE, 10**36, sender=account)
    run = await till.dust(pay=till.node("send-erc20-token", token=token, recipient=SHOP, amount=str(10**35)))
    assert run["status"] == "success", run["executionState"]
    assert till.witness.balance(FINE, SHOP) == 10**34


async def test_a_venue_that_gives_nothing_for_dust_has_its_own_name(till: Till) -> None:
    for token in (FINE, "usdc"):
        till.witness.send(token, "approve", till.witness.addresses["v2_router"], 2**255)
    till.witness.send(FINE, "mint", RICH, 10**33)
    pair = (till.witness.addresses[FINE], till.witness.addresses["usdc"])
    # a pool with one unit on the other side: a cent's worth buys none of it
    till.witness.send("v2_router", "addLiquidity", *pair, 10**33, 1, 0, 0, RICH, 2**40)
    error = await till.error(**till.node("swap-uniswap-v2", tokenIn=pair[0], tokenOut="USDC", amountIn=str(10**36)))
    assert error["code"] == "DUST_BELOW_MINIMUM", error


async def test_the_cap_of_a_run_holds_over_all_its_nodes(till: Till) -> None:
    rows = [{"to": address(20 + n)} for n in range(24)]
    pay = till.node("send-native", recipient="{{$item.to}}", amount=str(ETHER))
    pay = {**pay, "dustAmount": str(16 * 10**12)}  # 0.04 USD each; 25 of them are one dollar
    each = {
        "type": "for-each",
        "payload": {"array": [*rows, *rows[:3]], "concurrency": 9, "onItemError": "continue"},
        "loopBody": ["pay"],
    }
    before = till.outbox.nonce()
    body = {"nodes": {"root": {"type": "manual", "children": ["each"]}, "each": each, "pay": pay}}
    started = (await till.api.post("/v1/runs", {"definition": body, "dustTest": True})).data["runId"]
    await till.bench.ended(started)
    assert till.outbox.nonce() - before == 25


async def test_the_cap_of_a_run_holds_for_retries_of_what_it_called(till: Till) -> None:
    pay = till.node("send-native", recipient="{{$item.to}}", amount=str(ETHER))
    pay = {**pay, "dustAmount": str(16 * 10**12)}  # 0.04 USD each; 25 of them are one dollar
    rows = {"array": [{"to": address(20 + n)} for n in range(27)], "concurrency": 9, "onItemError": "continue"}
    each = {"type": "for-each", "payload": rows, "loopBody": ["pay"]}
    nodes = {"root": {"type": "manual", "children": ["each"]}, "each": each, "pay": pay}
    callee = await till.api.create_workflow({"nodes": nodes})
    before = till.outbox.nonce()
    run = await till.dust(call={"type": "call-workflow", "payload": {"workflowId": callee["id"]}})
    called = run["executionState"]["call"]["result"]["runId"]
    for _ in range(2):
        assert till.outbox.nonce() - before == 25
        called = (await till.api.post(f"/v1/runs/{called}/retry")).data["runId"]
        await till.bench.ended(called)
    assert till.outbox.nonce() - before == 25


async def test_a_contract_call_runs_with_the_amounts_that_it_declares(till: Till) -> None:
    router, at = till.witness.addresses["v2_router"], till.witness.addresses
    for token in ("usdc", "dai"):
        till.witness.send(token, "approve", router, 2**255, sender=ALICE)
    args = [at["usdc"], at["dai"], str(5 * 10**9), str(5 * 10**21), "0", "0", ALICE, str(2**40)]
    function = "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)"
    call = till.node("write-contract", contract=router, function=function, args=args)
    declared = [{"argument": "2", "token": "USDC"}, {"argument": "3", "token": "DAI"}]
    assert (await till.error(**call))["code"] == "DUST_UNSCALABLE"
    lies = {**call, "payload": {**call["payload"], "amounts": [declared[0], {**declared[0], "argument": "4"}]}}
    assert (await till.error(**lies))["code"] == "REFUSED"  # the calldata of this router says that DAI goes too
    usdc, dai = till.witness.balance("usdc", ALICE), till.witness.balance("dai", ALICE)
    run = await till.dust(pay={**call, "payload": {**call["payload"], "amounts": declared}})
    assert run["status"] == "success", run["executionState"]
    spent = usdc - till.witness.balance("usdc", ALICE), dai - till.witness.balance("dai", ALICE)
    assert spent == (10_000, 10**16)
    least = [{**declared[0], "minimum": "4"}, {**declared[1], "minimum": "5"}]
    args[4:6] = [str(4 * 10**9), str(4 * 10**21)]  # far above what dust could reach
    assert (await till.error(**{**call, "payload": {**call["payload"], "amounts": declared}}))["code"] == "REVERTED"
    run = await till.dust(pay={**call, "payload": {**call["payload"], "amounts": least}})
    assert run["status"] == "success", run["executionState"]
    scaled = (await till.api.get(f"/v1/runs/{run['id']}/effects")).data["dust"]["scaled"]
    assert [one["limits"] for one in scaled if one["field"] != "value"] == [
        {"amounts[0].minimumUnits": {"from": str(4 * 10**9), "to": "8000"}},
        {"amounts[1].minimumUnits": {"from": str(4 * 10**21), "to": str(8 * 10**15)}},
    ]
    mint = till.node("write-contract", contract=at["usdc"], function="mint(address,uint256)", args=[ALICE, "5"])
    run = await till.dust(pay={**mint, "payload": {**mint["payload"], "amounts": []}})
    assert run["status"] == "success", run["executionState"]
    wrong = {**call, "payload": {**call["payload"], "amounts": [{"argument": "9", "token": "USDC"}]}}
    nodes = {"root": {"type": "manual", "children": ["pay"]}, "pay": wrong}
    refused = await till.api.post("/v1/runs", {"definition": {"nodes": nodes}, "dustTest": True})
    assert (refused.code, refused.body["details"][0]["field"]) == (400_228, "nodes.pay.payload")
