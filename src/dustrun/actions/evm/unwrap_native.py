"""Unwraps native coin (WETH into ETH), one for one.

Use it when somebody wants to be paid in the coin, or the wallet needs gas. `amount` is in base units, or `max`: the
whole balance of the token.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.actions.evm import erc20
from dustrun.actions.evm.coins import read_balance
from dustrun.actions.evm.fields import MAX, Amount, ChainId
from dustrun.actions.evm.wrapping import EXAMPLE_OUTPUT, Output, finish_with, plan_conversion, read_pair
from dustrun.core.money.intent import FundsMovement, Spend
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import ChainCall


class Input(Fields):
    """The amount."""

    chain_id: ChainId
    amount: Amount = Field(description="Base units, or `max`: the whole balance of the token.")


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "amount": "max"},
    example_output={
        **EXAMPLE_OUTPUT,
        "symbol": "ETH",
        "gasUsed": "35143",
        "fee": "702860000000000",
        "feeFormatted": "0.00070286",
    },
    funds_movement=[FundsMovement("send", "amount", takes_max=True)],
    finish=finish_with(erc20.WITHDRAWN, lambda pair: pair.native),
    tags=("evm", "weth"),
)
async def unwrap_native(input: Input, ctx: Context) -> Spend:
    """Checks the balance, then returns one withdrawal intent."""
    chain, sender = ctx.chain(input.chain_id), ctx.wallet.address
    wrapped = (await read_pair(chain)).wrapped
    balance = await read_balance(chain, wrapped, sender)
    amount = balance if input.amount == MAX else int(input.amount)
    if amount > balance or not balance:
        asked = "nothing to unwrap" if input.amount == MAX else f"not {wrapped.tell(amount)}"
        raise refuse(f"the wallet {sender} has {wrapped.tell(balance)}, {asked}", "amount")
    call = ChainCall(wrapped.address, erc20.WITHDRAW.encode(amount), sender)
    about = f"Unwrap {wrapped.tell(amount)} on {chain.network.name}"
    return await plan_conversion(chain, wrapped, amount, call, erc20.WITHDRAW, "unwrap", about)
