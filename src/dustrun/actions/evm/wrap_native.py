"""Wraps native coin (ETH into WETH), one for one.

Use it before calling a contract that accepts tokens only. The swaps of this family accept native coin themselves.
`amount` is in base units, or `max`: all but the fee.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.actions.evm import erc20
from dustrun.actions.evm.fields import MAX, Amount, ChainId, fee_reserve
from dustrun.actions.evm.wrapping import EXAMPLE_OUTPUT, Output, finish_with, plan_conversion, read_pair
from dustrun.core.money.intent import FundsMovement, Spend
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import ChainCall
from dustrun.sdk.threads import side_by_side

_GAS = 60_000
_GAS_ON_ARBITRUM = 1_500_000  # its gas includes the data on L1


class Input(Fields):
    """The amount."""

    chain_id: ChainId
    amount: Amount = Field(description="Base units, or `max`: all but the fee.")


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "amount": "1000000000000000000"},
    example_output=EXAMPLE_OUTPUT,
    funds_movement=[FundsMovement("send", "amount", takes_max=True)],
    finish=finish_with(erc20.DEPOSITED, lambda pair: pair.wrapped),
    tags=("evm", "weth"),
)
async def wrap_native(input: Input, ctx: Context) -> Spend:
    """Checks the balance, then returns one deposit intent."""
    chain, sender = ctx.chain(input.chain_id), ctx.wallet.address
    pair, balance = await side_by_side(read_pair(chain), chain.balance(sender))
    gas = _GAS_ON_ARBITRUM if chain.network.data_fee == "arbitrum" else _GAS
    reserve = await fee_reserve(chain, gas) if input.amount == MAX else 0
    amount = balance - reserve if input.amount == MAX else int(input.amount)
    if amount > balance or amount <= 0:
        asked = "not enough for the fee" if input.amount == MAX else f"not {pair.native.tell(amount)}"
        raise refuse(f"the wallet {sender} has {pair.native.tell(balance)}, {asked}", "amount")
    call = ChainCall(pair.wrapped.address, erc20.DEPOSIT.encode(), sender, amount)
    about = f"Wrap {pair.native.tell(amount)} as {pair.wrapped.symbol} on {chain.network.name}"
    return await plan_conversion(chain, pair.native, amount, call, erc20.DEPOSIT, "wrap", about)
