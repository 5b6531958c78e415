"""Each type of chain trigger on a real chain, and what publishing refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil
from testkit.chain.contracts import RICH, Witness, World
from testkit.chain.rpc_proxy import proxy
from testkit.chain_watching import Watching, watching

ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]


@pytest.fixture
def witness(world: World, anvil: Anvil) -> Witness:
    return world.witness(anvil)


@pytest.fixture
async def server(anvil: Anvil, tmp_path: Path) -> AsyncIterator[Watching]:
    async with watching(anvil.url, tmp_path) as server:
        yield server


async def test_token_transfers_to_and_from_an_address(server: Watching, witness: Witness, world: World) -> None:
    token, same = world["dai"], {"tokenAddress": world["dai"], "confirmations": 0}
    received = await server.publish("erc20-receive", address=ALICE.lower(), minAmount="5", **same)
    sent = await server.publish("erc20-send", address=[RICH, BOB], **same)
    for amount in (4, 5, 2**65):
        witness.send("dai", "transfer", ALICE, amount)
    witness.send("dai", "transfer", BOB, 9)
    witness.send("usdc", "transfer", ALICE, 9)
    bodies = await server.until_count(received, 2)
    assert [(body["sender"], body["recipient"], body["amount"]) for body in bodies] == [
        (RICH, ALICE, "5"),
        (RICH, ALICE, str(2**65)),
    ]
    assert {body["contract"] for body in bodies} == {token}
    assert [body["amount"] for body in await server.until_count(sent, 4)] == ["4", "5", str(2**65), "9"]


@pytest.mark.parametrize("traces", ["auto", "never"])
async def test_native_coin_is_found_in_transactions_and_traces(server: Watching, witness: Witness, traces: str) -> None:
    received = await server.publish("eth-receive", address=BOB, minAmount=7, confirmations=0, traces=traces)
    sent = await server.publish("eth-send", address=RICH, confirmations=0, traces=traces)
    witness.pay(BOB, 6)
    witness.pay(BOB, 7)
    witness.send("forwarder", "forward", BOB, value=8)
    witness.pay(BOB, 9)
    expected = ["7", "8", "9"] if traces == "auto" else ["7", "9"]
    bodies = await server.until_count(received, len(expected))
    assert [body["amount"] for body in bodies] == expected
    assert {body["foundIn"] for body in bodies} == {"trace" if traces == "auto" else "transaction"}
    assert [body["path"] for body in bodies] == (["", "0", ""] if traces == "auto" else ["", ""])
    assert [body["amount"] for body in await server.until_count(sent, 4)] == ["6", "7", "8", "9"]


async def test_traces_that_an_endpoint_refuses_for_a_moment_are_asked_for_again(
    anvil: Anvil, witness: Witness, tmp_path: Path
) -> None:
    left = [2]

    def refuse(call: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if call["method"] == "debug_traceBlockByHash" and left[0]:
            left[0] -= 1
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": "too many requests"}}
        return answer

    async with proxy(anvil.url) as endpoint, watching(endpoint.url, tmp_path) as server:
        received = await server.publish("eth-receive", address=BOB, confirmations=0)
        endpoint.twist = refuse
        witness.send("forwarder", "forward", BOB, value=8)
        (body,) = await server.until_count(received, 1)
        assert (body["amount"], body["foundIn"], left) == ("8", "trace", [0])


async def test_a_chain_that_finalizes_nothing_is_not_waited_for(anvil: Anvil, tmp_path: Path) -> None:
    def know_nothing(call: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if call["method"] == "eth_getBlockByNumber" and call["params"][0] == "finalized":
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -39001, "message": "Unknown block"}}
        return answer

    async with proxy(anvil.url, twist=know_nothing) as endpoint, watching(endpoint.url, tmp_path) as server:
        workflow = await server.create("evm-block", confirmations="finalized")
        refused = await server.server.owner.post(f"/v1/workflows/{workflow}/publish")
        assert refused.status == 400
        assert [one["field"] for one in refused.body["details"]] == ["nodes.root.payload.confirmations"]


async def test_every_nth_block(server: Watching, anvil: Anvil) -> None:
    workflow = await server.publish("evm-block", every=5, confirmations=1)
    start = int(anvil.rpc("eth_blockNumber"), 16)
    anvil.mine(21)
    bodies = await server.until_count(workflow, 4)
    assert [body["blockNumber"] for body in bodies] == [n for n in range(start + 1, start + 21) if n % 5 == 0]


async def test_a_filter_asks_the_node_and_is_exact(server: Watching, witness: Witness, world: World) -> None:
    transfer = "event Transfer(address indexed from, address indexed to, uint256 value)"
    what: dict[str, Any] = {"address": world["dai"], "eventSignature": transfer, "confirmations": 0}
    to_alice = await server.publish(filter=f'to == "{ALICE.lower()}" && value > {2**65}', **what)
    inverse = await server.publish(filter="10 / value >= 1", **what)
    for recipient, amount in ((ALICE, 2**65), (BOB, 2**66), (ALICE, 2**65 + 1), (ALICE, 0), (BOB, 10)):
        witness.send("dai", "transfer", recipient, amount)
    assert [body["args"]["value"] for body in await server.until_count(to_alice, 1)] == [str(2**65 + 1)]
    assert [body["args"]["value"] for body in await server.until_count(inverse, 1)] == ["10"]
    failed = [payload for _, outcome, payload, _ in await server.events(inverse) if outcome == "skipped"]
    assert ["args" in payload for payload in failed] == [False]


async def test_nfts_of_both_standards_move(server: Watching, witness: Witness, world: World) -> None:
    what = {"contract": [world["nft"], world["multi"], world["dai"]], "confirmations": 0}
    received = await server.publish("nft-transfer", address=ALICE.lower(), direction="to", **what)
    some = await server.publish("nft-transfer", tokenIds=["7", str(2**200)], **what)
    witness.send("nft", "mint", RICH, 7)
    witness.send("nft", "transferFrom", RICH, ALICE, 7)
    witness.send("dai", "transfer", ALICE, 7)  # an ERC-20 `Transfer` has the same name and other topics
    witness.send("multi", "mint", RICH, 2**200, 5)
    witness.send("multi", "mint", RICH, 8, 5)
    witness.send("multi", "safeBatchTransferFrom", RICH, ALICE, [2**200, 8], [2, 3], b"")
    found = await server.until_count(received, 2)
    zero = "0x" + "0" * 40
    assert [(body["standard"], body["sender"], body["tokenId"], body["amount"]) for body in found] == [
        ("erc721", RICH, "7", "1"),
        ("erc1155", RICH, None, None),
    ]
    assert found[1]["items"] == [{"tokenId": str(2**200), "amount": "2"}, {"tokenId": "8", "amount": "3"}]
    assert (found[1]["operator"], found[1]["contract"]) == (RICH, world["multi"])
    found = await server.until_count(some, 4)
    assert [(body["sender"], body["tokenId"], body["amount"]) for body in found] == [
        (zero, "7", "1"),
        (RICH, "7", "1"),
        (zero, str(2**200), "5"),
        (RICH, str(2**200), "2"),
    ]


async def test_transactions_of_an_address_and_calls_of_a_contract(
    server: Watching, witness: Witness, world: World, anvil: Anvil
) -> None:
    of_alice = await server.publish("evm-transaction", address=ALICE, confirmations=0, status="any")
    sent = await server.publish("evm-transaction", address=[ALICE], direction="from", confirmations=0)
    signature = "transfer(address to, uint256 amount)"
    calls = await server.publish("evm-contract-call", contract=world["dai"], function=signature, confirmations=0)
    reverted = await server.publish("evm-contract-call", contract=world["dai"], status="reverted", confirmations=0)
    witness.send("dai", "transfer", ALICE, 2**70)
    witness.pay(ALICE, 5)
    witness.send("dai", "approve", RICH, 3, sender=ALICE)
    fails = {"from": ALICE, "to": world["dai"], "data": f"0x{witness.data('dai', 'transfer', BOB, 2**255).hex()}"}
    anvil.rpc("eth_sendTransaction", {**fails, "gas": hex(200_000)})
    found = await server.until_count(of_alice, 3)
    assert [(body["sender"], body["recipient"], body["amount"], body["status"]) for body in found] == [
        (RICH, ALICE, "5", "success"),
        (ALICE, world["dai"], "0", "success"),
        (ALICE, world["dai"], "0", "reverted"),
    ]
    assert [(body["selector"], body["dataLength"]) for body in found] == [
        (None, 0),
        ("0x095ea7b3", 68),
        ("0xa9059cbb", 68),
    ]
    assert [body["nonce"] for body in await server.until_count(sent, 1)] == [found[1]["nonce"]]
    (call,) = await server.until_count(calls, 1)
    assert (call["function"], call["args"]) == ("transfer(address,uint256)", {"to": ALICE, "amount": str(2**70)})
    (failed,) = await server.until_count(reverted, 1)
    assert (failed["sender"], failed["status"], failed["function"], failed["args"]) == (ALICE, "reverted", None, None)
    tested = await server.server.owner.post(
        "/v1/triggers/evm-transaction/test", {"config": {"chainId": CHAIN_ID, "address": ALICE, "confirmations": 0}}
    )
    assert (tested.data["origin"], tested.data["event"]["transactionHash"]) == ("recent", found[1]["transactionHash"])


async def test_a_transaction_that_a_reorg_moves_is_told_once(server: Watching, witness: Witness, anvil: Anvil) -> None:
    workflow = await server.publish("evm-transaction", address=BOB, confirmations=0, onReorg="retract")
    snapshot = anvil.rpc("evm_snapshot")
    witness.pay(BOB, 5)
    (first,) = await server.until_count(workflow, 1)
    raw = anvil.rpc("eth_getTransactionByHash", first["transactionHash"])
    anvil.rpc("evm_revert", snapshot)
    anvil.mine(3)
    await server.until(lambda: _has_runs(server, workflow, 2))
    assert [run["reorg"] for run in await server.runs(workflow)] == [None, "retracted"]
    assert raw["hash"] == first["transactionHash"]


async def _has_runs(server: Watching, workflow: str, count: int) -> bool:
    return len(await server.runs(workflow)) >= count


TRANSFER = "event Transfer(address indexed from, address indexed to, uint256 value)"


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("evm-log", {"eventSignature": "Transfer"}, "eventSignature", "is not a signature"),
    ("evm-log", {"eventSignature": "Transfer(address indexed)"}, "eventSignature", "has no name"),
    ("evm-log", {"eventSignature": TRANSFER, "filter": "amount > 1"}, "filter", 'no field "amount"'),
    ("evm-log", {"eventSignature": TRANSFER, "filter": 'value > "1"'}, "filter", "types"),
    ("evm-log", {"eventSignature": TRANSFER, "address": "0x12"}, "address", "0x12"),
    ("evm-log", {"eventSignature": TRANSFER, "address": BOB}, "address", "there is no contract"),
    ("evm-log", {"eventSignature": TRANSFER, "chainId": 123456}, "chainId", "There is no chain"),
    ("erc20-receive", {"address": BOB, "tokenAddress": BOB}, "tokenAddress", "there is no contract"),
    ("erc20-send", {"address": BOB, "tokenAddress": BOB, "minAmount": 1.5}, "minAmount", "an integer of base units"),
    ("evm-block", {"every": 0}, "every", "1"),
    ("nft-transfer", {"contract": BOB}, "contract", "there is no contract"),
    ("nft-transfer", {"contract": BOB, "tokenIds": [-1]}, "tokenIds", "Must be from 0"),
    ("evm-contract-call", {"contract": BOB}, "contract", "there is no contract"),
    ("evm-contract-call", {"contract": BOB, "function": "transfer"}, "function", "is not a signature"),
]


async def test_publishing_refuses_what_could_not_run(server: Watching) -> None:
    for type, config, field, reason in REFUSED:
        node = {"type": type, "payload": {"chainId": CHAIN_ID, **config}, "children": ["say"]}
        nodes = {"root": node, "say": {"type": "log", "payload": {"message": "hello"}}}
        made = await server.server.owner.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]})
        refused = await server.server.owner.post(f"/v1/workflows/{made['id']}/publish")
        assert refused.status == 400, (type, config)
        found = [(one["field"], one["message"]) for one in refused.body["details"]]
        assert any(f"payload.{field}" in place and reason in message for place, message in found), (config, found)
