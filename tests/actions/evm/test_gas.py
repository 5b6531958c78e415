"""What `max` leaves for the fee, on chains whose fees have more parts than those of a development node."""

from __future__ import annotations

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.fields import fee_reserve, transfer_gas
from dustrun.errors import Invalid
from dustrun.sdk.chain import Fees
from dustrun.sdk.testing_chain import Answer, FakeChain
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID

ORACLE = "0x420000000000000000000000000000000000000F"
FEES = Fees(30, 1, 15)
L1_FEE = (ORACLE, "getL1Fee(bytes)")


def chain_with(scene: Scene, data_fee: str | None, calls: dict[tuple[str, str], Answer]) -> FakeChain:
    network = scene.ctx.chain(CHAIN_ID).network.model_copy(update={"data_fee": data_fee})
    return FakeChain(network, calls=calls, fees=FEES)


async def test_half_more_than_the_highest_bid_is_left(scene: Scene) -> None:
    assert await fee_reserve(chain_with(scene, None, {}), 21_000) == 21_000 * 45


async def test_the_data_of_an_op_stack_chain_is_left_twice(scene: Scene) -> None:
    assert await fee_reserve(chain_with(scene, "op-stack", {L1_FEE: 1000}), 21_000) == 21_000 * 45 + 2000


async def test_a_chain_that_does_not_tell_is_refused(scene: Scene) -> None:
    with pytest.raises(Invalid, match="does not report its data fee;"):
        await fee_reserve(chain_with(scene, "op-stack", {L1_FEE: b""}), 21_000)


async def test_arbitrum_counts_data_as_gas_and_is_estimated(scene: Scene) -> None:
    gas, limit = await transfer_gas(chain_with(scene, "arbitrum", {}), ACCOUNTS[2])
    assert (gas > 1_000_000, limit) == (True, None)
    assert await transfer_gas(chain_with(scene, None, {}), ACCOUNTS[2]) == (21_000, 21_000)
