"""Unwraps native coin (WETH into ETH), one for one.

Use it when somebody wants to be paid in the coin, or the wallet needs gas. `amount` is in base units, or `max`: the
whole balance of the token.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.actions.evm import erc20
from dustrun.actions.evm.coins import read_balance
from dustrun.actions.evm.fields import MAX, Amount, ChainId
from dustrun.actions.evm.receipts import TransactionFields, transaction_facts
from dustrun.actions.evm.wrapping import event_amount, read_pair
from dustrun.core.money.intent import FundsMovement, Intent, Movement, Spend, Spent
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.chain import ChainCall
from dustrun.sdk.refusal import refuse


class Input(Fields):
    """The amount."""

    chain_id: ChainId
    amount: Amount = Field(description="Base units, or `max`: the whole balance of the token.")


class Output(TransactionFields):
    """The result."""

    token: str = Field(description="Address of the wrapped token.")
    symbol: str = Field(description="Symbol of the native coin.")
    amount: str = Field(description="Amount unwrapped, in base units, by the contract's event.")
    amount_formatted: str = Field(description="Amount unwrapped, in whole coins.")


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output from the contract's event."""
    chain, receipt = ctx.chain(input.chain_id), spent.receipts[0]
    pair = await read_pair(chain)
    amount = event_amount(receipt, pair.wrapped.address, erc20.WITHDRAWN, ctx.wallet.address)
    return Output(
        **transaction_facts(receipt, chain.network),
        token=pair.wrapped.address,
        symbol=pair.native.symbol,
        amount=str(amount),
        amount_formatted=pair.native.format(amount),
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "amount": "max"},
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "blockNumber": 21000000,
        "gasUsed": "35143",
        "fee": "702860000000000",
        "feeFormatted": "0.00070286",
        "explorerUrl": "https://etherscan.io/tx/0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "token": "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
        "symbol": "ETH",
        "amount": "1000000000000000000",
        "amountFormatted": "1",
    },
    funds_movement=[FundsMovement("send", "amount")],
    finish=finish,
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
    await chain.call(call)
    intent = Intent(
        item="unwrap",
        chain_id=input.chain_id,
        to=call.to,
        value_units=0,
        data=call.data,
        movements=(Movement("send", wrapped.asset, amount, call.to),),
        about=f"Unwrap {wrapped.tell(amount)} on {chain.network.name}",
        method=erc20.WITHDRAW.signature,
    )
    return Spend((intent,))
