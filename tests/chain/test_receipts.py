"""Receipts from endpoints that answer something else than they were asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dustrun.chain.chains import Chains
from dustrun.errors import Temporary
from dustrun.settings import Settings
from testkit.chain.anvil import Anvil
from testkit.chain.contracts import Witness, World
from testkit.chain.rpc_proxy import Answer, Call, proxy


def _changed(**fields: Any) -> Callable[[Call, Answer], Answer]:
    def twist(call: Call, answer: Answer) -> Answer:
        if call["method"] != "eth_getTransactionReceipt" or answer.get("result") is None:
            return answer
        return {**answer, "result": {**answer["result"], **fields}}

    return twist


async def _asked(world: World, anvil: Anvil, witness: Witness, twist: Callable[[Call, Answer], Answer]) -> Any:
    hash = witness.pay("0x00000000000000000000000000000000DeaDBeef", 5)["transactionHash"].to_0x_hex()
    async with proxy(anvil.url, twist=twist) as front:
        network = world.network(front.url)
        chains = Chains({network.chain_id: network}, Settings())
        try:
            chain = chains.get(network.chain_id)
            one, (same,) = await chain.receipt(hash), await chain.receipts([hash])
            assert one == same
            return one
        finally:
            await chains.close()


@pytest.mark.parametrize(
    "fields", [{"transactionHash": f"0x{'ab' * 32}"}, {"status": None}], ids=["of another transaction", "no status"]
)
async def test_an_answer_that_is_not_the_receipt_decides_nothing(
    anvil: Anvil, witness: Witness, world: World, fields: dict[str, Any]
) -> None:
    with pytest.raises(Temporary, match="a receipt"):
        await _asked(world, anvil, witness, _changed(**fields))


async def test_a_receipt_that_is_in_no_block_yet_is_none(anvil: Anvil, witness: Witness, world: World) -> None:
    assert await _asked(world, anvil, witness, _changed(blockHash=None, blockNumber=None)) is None


async def test_receipts_of_before_byzantium_have_a_root(anvil: Anvil, witness: Witness, world: World) -> None:
    found = await _asked(world, anvil, witness, _changed(status=None, root=f"0x{'12' * 32}"))
    assert found.is_success
