"""What is bid for gas, and what an L2 charges for data: live and simulated alike."""

from __future__ import annotations

from typing import Any

import pytest

from chain.test_endpoints import chain_of
from dustrun.chain import fees
from dustrun.chain.simulate import SimChain
from dustrun.sdk.chain import Fees
from testkit.chain.anvil import ACCOUNTS, Anvil
from testkit.chain.contracts import ETHER, World
from testkit.chain.intents import pay

ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]
ORACLE_FEE = 1000
_ORACLE = "0x6103e860005260206000f3"  # answers 1000
_NODE_INTERFACE = "0x6113886000526007602052600960405260606000f3"  # answers 5000, 7, 9


@pytest.mark.parametrize(
    ("rewards", "tip"),
    [([["0x5"], ["0x3"], ["0x9"], ["0x7"], ["0x1"]], 5), ([["0x0"]] * 5, 1), ([], 1), ([["0x2"], ["0x8"]], 8)],
)
def test_the_tip_is_the_median_and_at_least_one(rewards: list[list[str]], tip: int) -> None:
    history = {"baseFeePerGas": ["0x64"] * 5 + ["0xc8"], "reward": rewards}
    assert fees.from_history(history) == Fees(2 * 200 + tip, tip, 200 + tip)


async def test_a_legacy_chain_bids_the_nodes_price(world: World, anvil: Anvil) -> None:
    async with chain_of(world, anvil.url, changes={"fee_model": "legacy"}) as chain:
        price = int(anvil.rpc("eth_gasPrice"), 16)
        assert await chain.fees() == Fees(price, price, price, is_legacy=True)
        sim = SimChain(chain)
        result = await sim.send(ALICE, pay(BOB, 1))
        assert result.receipt is not None
        assert result.receipt.fee_units == 21_000 * price
        assert (await sim.block()).base_fee_units is None


@pytest.mark.parametrize("strategy", ["simulate-v1", "trace-call"])
async def test_an_op_stack_chain_charges_for_data(strategy: Any, world: World, anvil: Anvil) -> None:
    anvil.rpc("anvil_setCode", fees.OP_STACK_ORACLE, _ORACLE)
    async with chain_of(world, anvil.url, changes={"data_fee": "op-stack"}) as chain:
        assert await chain.data_fee(BOB, b"\x01" * 40) == ORACLE_FEE
        before = await chain.balance(ALICE)
        sim = SimChain(chain, strategy=strategy)
        first = await sim.send(ALICE, pay(BOB, ETHER))
        assert first.receipt is not None
        gas = 21_000 * first.receipt.gas_price_units
        assert first.receipt.fee_units == gas + ORACLE_FEE
        assert {change.delta_units for change in first.changes} == {-ETHER, ETHER}
        await sim.send(ALICE, pay(BOB, ETHER))
        assert await sim.balance(ALICE) == before - 2 * (ETHER + gas + ORACLE_FEE)


async def test_arbitrums_data_fee_is_gas_that_a_simulation_adds(world: World, anvil: Anvil) -> None:
    anvil.rpc("anvil_setCode", fees.ARBITRUM_NODE_INTERFACE, _NODE_INTERFACE)
    async with chain_of(world, anvil.url, changes={"data_fee": "arbitrum"}) as chain:
        assert await chain.data_fee(BOB, b"") == 0
        result = await SimChain(chain).send(ALICE, pay(BOB, 1))
        assert result.receipt is not None
        assert result.receipt.fee_units == 21_000 * result.receipt.gas_price_units + 5000 * 7


async def test_who_cannot_pay_for_data_is_rejected(world: World, anvil: Anvil) -> None:
    anvil.rpc("anvil_setCode", fees.OP_STACK_ORACLE, _ORACLE)
    async with chain_of(world, anvil.url, changes={"data_fee": "op-stack"}) as chain:
        bid = await chain.fees()
        poor = "0x00000000000000000000000000000000C0FFEE00"
        for short in (1, 0):
            anvil.set_balance(poor, 5 + 21_000 * bid.max_fee_units + ORACLE_FEE - short)
            result = await SimChain(chain).send(poor, pay(BOB, 5))
            assert result.status == ("rejected" if short else "success")
        assert result.rejected is None
