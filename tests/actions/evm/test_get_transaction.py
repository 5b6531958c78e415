from __future__ import annotations

from typing import Any

from actions.evm.conftest import Scene
from dustrun.actions.evm.get_transaction import get_transaction
from testkit.chain.anvil import ACCOUNTS

CAROL = ACCOUNTS[2]


async def test_it_tells_what_the_witness_sees(scene: Scene) -> None:
    receipt = scene.witness.send("usdc", "transfer", CAROL, 5, sender=scene.wallet.address)
    scene.node.mine(2)
    hash = receipt["transactionHash"].to_0x_hex()
    event = "Transfer(address indexed from, address indexed to, uint256 value)"
    result = await scene.do(get_transaction, hash=hash.upper().replace("0X", "0x"), events=[event])
    sent: Any = scene.witness.web3.eth.get_transaction(hash)
    assert result == {
        "hash": hash,
        "status": "success",
        "sender": scene.wallet.address,
        "to": scene["usdc"],
        "nonce": sent["nonce"],
        "value": "0",
        "valueFormatted": "0",
        "data": sent["input"].to_0x_hex(),
        "blockNumber": receipt["blockNumber"],
        "confirmations": 3,
        "gasUsed": str(receipt["gasUsed"]),
        "fee": str(receipt["gasUsed"] * receipt["effectiveGasPrice"]),
        "feeFormatted": result["feeFormatted"],
        "events": [
            {
                "contract": scene["usdc"],
                "name": "Transfer",
                "args": {"from": scene.wallet.address, "to": CAROL, "value": "5"},
            }
        ],
        "logs": result["logs"],
    }
    assert [log["data"] for log in result["logs"]] == [f"0x{5:064x}"]


async def test_an_unknown_hash_is_no_error(scene: Scene) -> None:
    result = await scene.do(get_transaction, hash="0x" + "12" * 32)
    assert (result["status"], result["blockNumber"], result["confirmations"]) == ("unknown", None, 0)


async def test_one_that_waits_is_pending(scene: Scene) -> None:
    scene.node.set_automine(False)
    fields: Any = {"from": scene.wallet.address, "to": CAROL, "value": 1, "gas": 21_000}
    hash = scene.witness.web3.eth.send_transaction(fields).to_0x_hex()
    result = await scene.do(get_transaction, hash=hash)
    scene.node.set_automine(True)
    scene.node.mine()
    assert (result["status"], result["value"], result["gasUsed"]) == ("pending", "1", None)


async def test_one_that_failed_says_so(scene: Scene) -> None:
    fields: Any = {
        "from": scene.wallet.address,
        "to": scene["zoo"],
        "data": scene.witness.data("zoo", "requireString"),
        "gas": 100_000,
    }
    hash = scene.witness.web3.eth.send_transaction(fields)
    scene.witness.web3.eth.wait_for_transaction_receipt(hash)
    assert (await scene.do(get_transaction, hash=hash.to_0x_hex()))["status"] == "failed"


async def test_without_a_transaction_there_is_none(scene: Scene) -> None:
    result = await scene.do(get_transaction, hash=None)
    assert (result["hash"], result["status"], result["logs"]) == (None, "none", [])
