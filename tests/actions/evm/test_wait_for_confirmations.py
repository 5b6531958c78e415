from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from actions.evm.conftest import Scene
from dustrun.actions.evm.wait_for_confirmations import wait_for_confirmations
from dustrun.errors import Permanent, Temporary
from dustrun.sdk.chain import ChainTransaction
from dustrun.sdk.testing import FakeContext, perform
from dustrun.sdk.testing_chain import FakeChain
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID

HASH = "0x" + "12" * 32


def paid(scene: Scene) -> str:
    hash: str = scene.witness.pay(ACCOUNTS[2], 1, scene.wallet.address)["transactionHash"].to_0x_hex()
    return hash


async def test_a_deep_transaction_is_a_result_at_once(scene: Scene) -> None:
    hash = paid(scene)
    scene.node.mine(4)
    result = await scene.do(wait_for_confirmations, hash=hash, confirmations=5, pollMs=0)
    assert (result["status"], result["confirmations"]) == ("success", 5)
    assert result["blockNumber"] == scene.witness.web3.eth.get_transaction_receipt(hash)["blockNumber"]  # type: ignore[arg-type]


async def test_it_waits_for_blocks_that_come(scene: Scene) -> None:
    hash = paid(scene)
    waiting = asyncio.create_task(scene.do(wait_for_confirmations, hash=hash, confirmations=3, pollMs=10_000))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    scene.node.mine(2)
    assert (await waiting)["confirmations"] == 3
    assert [report.message for report in scene.ctx.reports] == ["The transaction has 1 of 3 confirmations."]


async def test_too_few_are_a_temporary_failure(scene: Scene) -> None:
    hash = paid(scene)
    with pytest.raises(Temporary, match="has 1 of 9 confirmations so far") as caught:
        await scene.do(wait_for_confirmations, hash=hash, confirmations=9, pollMs=0)
    assert caught.value.retry_after_s == 1
    with pytest.raises(Temporary, match="is not known to the chain so far"):
        await scene.do(wait_for_confirmations, hash=HASH, pollMs=0)


async def test_without_a_number_it_is_that_of_the_chain(scene: Scene) -> None:
    assert (await scene.do(wait_for_confirmations, hash=paid(scene), pollMs=0))["confirmations"] == 1


async def test_a_failed_transaction_fails_the_node_unless_it_is_allowed(scene: Scene) -> None:
    fields: Any = {
        "from": scene.wallet.address,
        "to": scene["zoo"],
        "data": scene.witness.data("zoo", "requireString"),
        "gas": 100_000,
    }
    hash = scene.witness.web3.eth.send_transaction(fields).to_0x_hex()
    scene.witness.web3.eth.wait_for_transaction_receipt(hash)  # type: ignore[arg-type]
    with pytest.raises(Permanent, match="failed in block"):
        await scene.do(wait_for_confirmations, hash=hash, pollMs=0)
    result = await scene.do(wait_for_confirmations, hash=hash, pollMs=0, allowFailed=True)
    assert result["status"] == "failed"


async def test_one_that_waits_for_a_block_is_told(scene: Scene) -> None:
    """A receipt may be gone again after a reorganisation: then it waits anew."""
    network = scene.ctx.chain(CHAIN_ID).network
    found = ChainTransaction(HASH, ACCOUNTS[1], ACCOUNTS[2], 0, 1, b"", 7, True, 21_000, 1, (), 1)
    chain = FakeChain(network, transactions={HASH: replace(found, block_number=None, confirmations=0)})
    with pytest.raises(Temporary, match="is waiting to be included"):
        await perform(
            wait_for_confirmations,
            {"chainId": CHAIN_ID, "hash": HASH, "pollMs": 0},
            FakeContext(chains={CHAIN_ID: chain}),
        )


async def test_without_a_transaction_there_is_nothing_to_wait_for(scene: Scene) -> None:
    result = await scene.do(wait_for_confirmations, hash=None, confirmations=9)
    assert result == {"hash": None, "status": "none", "blockNumber": None, "confirmations": 0}
    with pytest.raises(ValidationError):
        await scene.do(wait_for_confirmations, confirmations=9)
