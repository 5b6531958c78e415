"""What contracts may do that few of them do: end themselves, pay the block's producer, burn gas, leave no code."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.chain.evm import LiveChain
from dustrun.chain.simulate import SimChain
from dustrun.core.money.intent import BalanceChange, Intent
from dustrun.core.values.addresses import checksum
from dustrun.errors import Permanent
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil
from testkit.chain.intents import create, pay

ALICE = ACCOUNTS[1]
HEIR = checksum(f"0x{'be' * 20}")
PLACE = "0x00000000000000000000000000000000C0FFEE01"
NATIVE = f"eip155:{CHAIN_ID}/native"


def ask(value: int = 0) -> Intent:
    """A call of what stands at `PLACE`."""
    return Intent("call", CHAIN_ID, PLACE, value, b"\1", (), "calls")


@pytest.mark.parametrize(
    ("init_code", "says"),
    [
        ("6160016000f3", "larger than 24,576 bytes"),  # returns 24,577 bytes
        ("60ef60005360016000f3", "begins with 0xef"),  # returns ef
    ],
)
async def test_code_that_no_node_takes_creates_nothing(
    sim: SimChain, chain: LiveChain, init_code: str, says: str
) -> None:
    made = await sim.send(ALICE, create(bytes.fromhex(init_code)))
    assert made.status == "reverted"
    assert says in str(made.reason)
    for one in (sim, chain):  # simulated and live say the same
        with pytest.raises(Permanent, match=f"The transaction reverted: .*{says}"):
            await one.estimate_gas(ALICE, None, 0, bytes.fromhex(init_code))
    assert (await sim.send(ALICE, pay(HEIR, 1))).is_success


async def test_who_a_dying_constructor_pays_by_its_arguments_is_seen(sim: SimChain) -> None:
    heir = bytes(12) + bytes.fromhex(HEIR[2:])
    made = await sim.send(ALICE, create(bytes.fromhex("6020600b600039600051ff") + heir, 5))
    assert set(made.changes) == {BalanceChange(ALICE, NATIVE, -5), BalanceChange(HEIR, NATIVE, 5)}
    assert made.unseen_units == 0


async def test_coin_that_goes_where_nobody_looks_is_told(sim: SimChain, anvil: Anvil) -> None:
    anvil.rpc("anvil_setCode", PLACE, f"0x73{HEIR[2:].lower()}ff")  # ends itself in favour of the heir
    result = await sim.send(ALICE, ask(5))
    seen = BalanceChange(HEIR, NATIVE, 5) in result.changes
    codes = [warning["code"] for warning in result.public().get("warnings", ())]
    assert seen is (sim.strategy == "trace-call")  # this node's transfers tell nothing of it
    assert codes == ([] if seen else ["BALANCES_UNREAD"])
    assert await sim.balance(HEIR) == 5


async def test_the_producer_of_the_block_gets_what_it_is_paid_and_no_fee(sim: SimChain, anvil: Anvil) -> None:
    producer = f"0x{'00' * 20}"  # this node's
    anvil.rpc("anvil_setCode", PLACE, "0x600060006000600034415af100")  # pays what comes with the call on to it
    result = await sim.send(ALICE, ask(5))
    assert set(result.changes) == {BalanceChange(ALICE, NATIVE, -5), BalanceChange(producer, NATIVE, 5)}


async def test_what_burns_all_gas_that_it_gets_costs_what_its_estimate_says(sim: SimChain, anvil: Anvil) -> None:
    anvil.rpc("anvil_setCode", PLACE, "0x600060006001600060095afa5000")  # asks the ninth precompile nonsense
    fields: dict[str, Any] = {"from": ALICE, "to": PLACE, "data": "0x01"}
    estimate = int(anvil.rpc("eth_estimateGas", fields), 16)
    assert estimate <= await sim.estimate_gas(ALICE, PLACE, 0, b"\1") <= 2 * estimate
    result = await sim.send(ALICE, ask())
    assert result.receipt is not None
    assert result.receipt.gas_used < 100_000  # and not the millions of a whole block
