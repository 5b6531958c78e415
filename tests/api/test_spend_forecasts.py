"""Dust plans and needed funds through the API, on a chain with pools and feeds; nothing is signed by either."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from outbox import ALICE, Outbox, address, open_outbox
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil
from testkit.chain.contracts import ETHER, Witness, World
from testkit.composition import Client

SHOP = address(1)


@pytest.fixture(scope="module")
def node(world: World) -> Iterator[Anvil]:
    with world.node() as found:
        yield found


class Operations:
    """A server with a wallet, asked about workflows that do not run."""

    def __init__(self, outbox: Outbox, witness: Witness) -> None:
        self.outbox = outbox
        self.witness = witness
        self.api: Client = outbox.composition.owner

    async def keep(self, entries: list[str], **nodes: dict[str, Any]) -> str:
        """The id of a new workflow."""
        definition = {"nodes": {"root": {"type": "manual", "children": entries}, **nodes}}
        workflow_id: str = (await self.api.create_workflow(definition))["id"]
        return workflow_id

    async def plan(self, workflow_id: str, **body: Any) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.post(f"/v1/workflows/{workflow_id}/dust-plan", body)).data
        return found


@pytest.fixture
async def operations(tmp_path: Path, world: World, node: Anvil) -> AsyncIterator[Operations]:
    described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
    before = node.snapshot()
    async with open_outbox(tmp_path, node, network=described) as outbox:
        nonce = outbox.nonce()
        yield Operations(outbox, world.witness(node))
        assert outbox.nonce() == nonce
    node.revert(before)


def at(type: str, *children: str, **payload: Any) -> dict[str, Any]:
    return {"type": type, "payload": {"chainId": CHAIN_ID, **payload}, "children": list(children)}


async def test_a_plan_tells_amounts_refusals_unknowns_writes_and_conditions(operations: Operations) -> None:
    url = "http://127.0.0.1:9/"
    workflow_id = await operations.keep(
        ["pay", "told"],
        pay=at("send-native", "swap", recipient="{{$trigger.body.to}}", amount=str(2 * ETHER)),
        swap=at(
            "swap-uniswap-v2",
            "check",
            tokenIn="USDC",
            tokenOut="DAI",
            amountIn="9000000",
            amountOutMin="8000000000000000000",
        ),
        check={
            "type": "if",
            "payload": {"expression": "$nodes.swap.result.amountOut > 900"},
            "children": ["back", "post"],
        },
        back={
            **at("send-erc20-token", token="DAI", recipient=SHOP, amount="{{$nodes.swap.result.amountOut}}"),
            "branch": "then",
        },
        post={
            "type": "http-request",
            "payload": {"url": url, "method": "POST", "body": {"got": "{{swap.result.amountOut}}"}},
            "branch": "else",
        },
        told={
            "type": "http-request",
            "payload": {"url": url, "method": "GET"},
            "children": ["quiet", "raw", "poor", "no"],
        },
        quiet={"type": "http-request", "payload": {"url": url, "method": "POST"}, "dust": "skip"},
        raw=at(
            "write-contract",
            contract=operations.witness.addresses["usdc"],
            function="mint(address,uint256)",
            args=[ALICE, "1"],
        ),
        poor=at("send-erc20-token", token=operations.witness.addresses["cents"], recipient=SHOP, amount="5"),
        no={**at("send-native", recipient=SHOP, amount="5"), "dust": "skip"},
    )
    plan = await operations.plan(workflow_id, payload={"to": SHOP})
    spends = {spend["nodeId"]: spend for spend in plan["spends"]}
    assert set(spends) == {"pay", "swap", "back", "poor", "raw"}
    assert (spends["raw"]["entries"], spends["raw"]["fee"]) == ([], None)
    (entry,) = spends["pay"]["entries"]
    assert (entry["original"], entry["dust"], entry["recipient"], entry["usd"]) == (
        str(2 * ETHER),
        "4000000000000",
        SHOP,
        "0.01",
    )
    assert entry["price"]["source"] in ("feed", "uniswap-v2", "uniswap-v3")
    assert (spends["pay"]["walletId"], spends["pay"]["walletAddress"]) == (operations.outbox.wallet_id, ALICE)
    assert spends["pay"]["fee"]["gas"] == "21000"
    assert float(spends["pay"]["fee"]["usd"]) > 0
    (entry,) = spends["swap"]["entries"]
    assert entry["limits"]["amountOutMin"] == {
        "from": "8000000000000000000",
        "to": str(8 * ETHER * int(entry["dust"]) // 9_000_000),
    }
    assert plan["skipped"] == ["no"]
    assert {(found["nodeId"], found["code"]) for found in plan["refusals"]} == {
        ("raw", "DUST_UNSCALABLE"),
        ("poor", "DUST_UNPRICED"),
    }
    assert [(found["nodeId"], found["field"], found["message"]) for found in plan["unknowns"]] == [
        ("back", "amount", 'depends on the result of "swap"')
    ]
    place = {"workflowId": workflow_id}
    assert plan["writes"] == [
        {**place, "path": "post", "nodeId": "post", "type": "http-request", "reads": ["swap.result.amountOut"]}
    ]
    assert plan["conditions"] == [
        {
            **place,
            "path": "check",
            "nodeId": "check",
            "type": "if",
            "field": "then",
            "reads": "$nodes.swap.result.amountOut",
        }
    ]
    assert (plan["dustUsd"], plan["spendCapUsd"], plan["runCapUsd"], plan["version"]) == ("0.01", "0.05", "1", 1)
    assert 0.02 <= float(plan["totalUsd"]) < 0.0201
    unknown = await operations.plan(workflow_id)
    assert len(unknown["spends"]) == 5  # who is paid may stay open: the amount is known


async def test_a_plan_opens_loops_and_sees_the_cap_of_the_run(operations: Operations) -> None:
    loop = {"type": "for-each", "payload": {"array": "{{$trigger.body.rows}}"}, "loopBody": ["pay"]}
    pay = {**at("send-native", recipient="{{$item.to}}", amount="{{$item.amount}}"), "dustAmount": "16000000000000"}
    workflow_id = await operations.keep(["each"], each=loop, pay=pay)
    rows = [{"to": SHOP, "amount": str(ETHER)}] * 26
    plan = await operations.plan(workflow_id, payload={"rows": rows})
    assert [spend["path"] for spend in plan["spends"]] == [f"pay[{n}]" for n in range(26)]
    assert [(found["path"], found["code"]) for found in plan["refusals"]] == [("pay[25]", "DUST_OVER_CAP")]
    assert plan["totalUsd"] == "1"
    plan = await operations.plan(workflow_id)
    assert "once per item" in plan["spends"][0]["repeats"]
    assert [found["field"] for found in plan["unknowns"]] == [None, "amount"]


async def test_a_plan_of_what_is_not_there(operations: Operations) -> None:
    assert (await operations.api.post("/v1/workflows/wf_none/dust-plan", {})).code == 404001
    workflow_id = await operations.keep(["pay"], pay={"type": "send-native", "payload": {"chainId": 5}})
    refused = await operations.api.post(f"/v1/workflows/{workflow_id}/dust-plan", {})
    assert refused.code == 400228
    assert (await operations.api.post(f"/v1/workflows/{workflow_id}/dust-plan", {"version": 9})).code == 404002
    odd = await operations.keep(
        ["pay"], pay={**at("send-native", recipient=SHOP, amount="1"), "connector": {"type": "wallet", "id": "wal_x"}}
    )
    (found,) = (await operations.plan(odd))["unknowns"]
    assert 'no wallet "wal_x"' in found["message"]
    far = await operations.keep(
        ["pay"], pay={"type": "send-native", "payload": {"chainId": 987654321, "recipient": SHOP, "amount": "1"}}
    )
    (found,) = (await operations.plan(far))["refusals"]
    assert found["code"] == "CHAIN_UNKNOWN"


async def test_funds_are_compared_with_what_the_wallet_has(operations: Operations) -> None:
    workflow_id = await operations.keep(
        ["pay"],
        pay=at("send-native", "usd", recipient=SHOP, amount=str(10 * ETHER)),
        usd={
            **at("send-erc20-token", "more", token="USDC", recipient=SHOP, amount="700000000000"),
            "titleOverride": "Rent",
        },
        more=at("send-erc20-token", "swap", token="USDC", recipient=SHOP, amount="600000000000"),
        swap=at(
            "swap-uniswap-v2",
            "all",
            tokenIn="DAI",
            tokenOut="native",
            amountOut=str(ETHER),
            amountInMax=str(2600 * ETHER),
        ),
        all=at("send-erc20-token", "late", token="WBTC", recipient=SHOP, amount="max"),
        late=at("send-erc20-token", token="DAI", recipient=SHOP, amount="{{$vars.rest}}"),
    )
    found = (await operations.api.get(f"/v1/workflows/{workflow_id}/analyze-funds")).data
    assert (found["workflowId"], found["workflowVersion"], found["balancesFetched"]) == (workflow_id, 1, True)
    needs = {(one["nodeId"], one["source"]): one for one in found["requirements"]}
    assert set(needs) == {("pay", "node"), ("usd", "node"), ("more", "node"), ("swap", "node")} | {
        (name, "gas") for name in ("pay", "usd", "more", "swap", "all", "late")
    }
    usd = needs["usd", "node"]
    assert (usd["nodeName"], usd["symbol"], usd["decimals"], usd["requiredAmount"]) == (
        "Rent",
        "USDC",
        6,
        "700000000000",
    )
    assert usd["balance"]["amount"] == "1000000000000"
    assert usd["balance"]["isInsufficient"] is True  # with the other node's 600,000 it is too much
    assert float(usd["balance"]["amountUsd"]) == 1_000_000
    assert (usd["isNative"], needs["pay", "node"]["isNative"], needs["pay", "node"]["tokenAddress"]) == (
        False,
        True,
        None,
    )
    assert needs["pay", "node"]["balance"]["isInsufficient"] is False
    assert needs["pay", "gas"]["requiredAmount"] is not None
    assert (needs["swap", "node"]["symbol"], needs["swap", "node"]["requiredAmount"]) == ("DAI", str(2600 * ETHER))
    unresolved = {one["nodeId"]: one["unresolvedReason"] for one in found["unresolved"]}
    assert unresolved == {"all": "it takes the whole balance", "late": "amount depends on a variable"}


async def test_funds_of_a_definition_with_a_wallet_of_ones_choice(operations: Operations) -> None:
    definition = {
        "nodes": {
            "root": {"type": "manual", "children": ["pay", "swap"]},
            "pay": at("send-native", recipient=SHOP, amount=str(9_999 * ETHER)),
            "swap": at("swap-uniswap-v2", tokenIn="native", tokenOut="USDC", amountOut="5"),
        }
    }
    body = {"definition": definition, "defaultWalletAddress": ACCOUNTS[2].lower()}
    found = (await operations.api.post("/v1/workflows/analyze-funds", body)).data
    assert (found["workflowId"], found["workflowVersion"]) == (None, None)
    (pay,) = (one for one in found["requirements"] if one["source"] == "node")
    assert pay["walletAddress"] == ACCOUNTS[2]
    assert pay["balance"]["isInsufficient"] is True
    (swap,) = found["unresolved"]
    assert "only known from the quote" in swap["unresolvedReason"]
    bad = await operations.api.post("/v1/workflows/analyze-funds", {**body, "defaultWalletAddress": "bob.eth"})
    assert (bad.code, bad.fields) == (400001, ["defaultWalletAddress"])
    definition["nodes"]["pay"] = {"type": "no-such"}
    assert (await operations.api.post("/v1/workflows/analyze-funds", {"definition": definition})).code == 400228


async def test_a_key_that_may_not_read_wallets_is_told_what_is_short_and_no_balance(operations: Operations) -> None:
    workflow_id = await operations.keep(
        ["pay", "more"],
        pay=at("send-native", recipient=SHOP, amount="5"),
        more=at("send-erc20-token", token="USDC", recipient=SHOP, amount="999999999999999"),
    )
    limited = await operations.outbox.composition.client_with("workflow:read")
    path = f"/v1/workflows/{workflow_id}/analyze-funds"
    whole, found = (await operations.api.get(path)).data, (await limited.get(path)).data
    assert ("hiddenWithout" in whole, found["hiddenWithout"]) == (False, "wallet:read")
    told = {(one["nodeId"], one["source"]): one for one in found["requirements"]}
    assert (told["pay", "node"]["isSufficient"], told["more", "node"]["isSufficient"]) == (True, False)
    assert {(one["balance"], one["walletAddress"]) for one in told.values()} == {(None, None)}
    hidden = ("balance", "walletAddress")
    for one, same in zip(found["requirements"], whole["requirements"], strict=True):
        assert {**one, **dict.fromkeys(hidden)} == {**same, **dict.fromkeys(hidden)}
        assert same["isSufficient"] is not same["balance"]["isInsufficient"]
    plan = (await limited.post(f"/v1/workflows/{workflow_id}/dust-plan", {})).data
    assert {one["walletAddress"] for one in plan["spends"]} == {None}
    definition = (await operations.api.get(f"/v1/workflows/{workflow_id}")).data["definition"]
    unsaved = (await limited.post("/v1/workflows/analyze-funds", {"definition": definition})).data
    assert {(one["balance"], one["isSufficient"]) for one in unsaved["requirements"]} == {(None, None)}
    assert unsaved["requirements"][0]["requiredAmount"] is not None


async def test_a_key_without_that_wallet_learns_nothing_of_it(operations: Operations) -> None:
    workflow_id = await operations.keep(["pay"], pay=at("send-native", recipient=SHOP, amount="5"))
    mine = (await operations.api.post("/v1/wallets", {"name": "mine"})).data["id"]
    body = {"name": "k", "permissions": ["workflow:read"], "walletIds": [mine]}
    made = await operations.api.post("/v1/api-keys", body)
    other = operations.outbox.composition.client(made.data["key"])
    found = (await other.get(f"/v1/workflows/{workflow_id}/analyze-funds")).data
    assert found["requirements"] == []
    assert {one["walletAddress"] for one in found["unresolved"]} == {None}
    assert "that this key reaches" in found["unresolved"][0]["unresolvedReason"]


async def test_a_chain_that_does_not_answer_leaves_balances_out(
    operations: Operations, tmp_path: Path, node: Anvil
) -> None:
    (tmp_path / "dead").mkdir()
    async with open_outbox(tmp_path / "dead", node, url="http://127.0.0.1:1") as outbox:
        api = outbox.composition.owner
        pay = at("send-native", recipient=SHOP, amount="5")
        definition = {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": pay}}
        found = (await api.post("/v1/workflows/analyze-funds", {"definition": definition})).data
        assert found["balancesFetched"] is False
        assert [one["balance"] for one in found["requirements"]] == [None]
        assert [one["source"] for one in found["unresolved"]] == ["gas"]
