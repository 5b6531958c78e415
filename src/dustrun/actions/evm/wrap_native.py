"""Wraps native coin (ETH into WETH), one for one.

Use it before calling a contract that accepts tokens only. The swaps of this family accept native coin themselves.
`amount` is in base units, or `max`: all but the fee.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.actions.evm import erc20
from dustrun.actions.evm.fields import MAX, Amount, ChainId
from dustrun.actions.evm.gas import fee_reserve
from dustrun.actions.evm.receipts import TransactionFields, transaction_facts
from dustrun.actions.evm.wrapping import event_amount, read_pair
from dustrun.core.money.intent import FundsMovement, Intent, Movement, Spend, Spent
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.chain import ChainCall
from dustrun.sdk.gather import side_by_side
from dustrun.sdk.refusal import refuse

_GAS = 60_000
_GAS_ON_ARBITRUM = 1_500_000  # its gas includes the data on L1


class Input(Fields):
    """The amount."""

    chain_id: ChainId
    amount: Amount = Field(description="Base units, or `max`: all but the fee.")


class Output(TransactionFields):
    """The result."""

    token: str = Field(description="Address of the wrapped token.")
    symbol: str = Field(description="Its symbol.")
    amount: str = Field(description="Amount wrapped, in base units, by the contract's event.")
    amount_formatted: str = Field(description="Amount wrapped, in whole tokens.")


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output from the contract's event."""
    chain, receipt = ctx.chain(input.chain_id), spent.receipts[0]
    wrapped = (await read_pair(chain)).wrapped
    amount = event_amount(receipt, wrapped.address, erc20.DEPOSITED, ctx.wallet.address)
    return Output(
        **transaction_facts(receipt, chain.network),
        token=wrapped.address,
        symbol=wrapped.symbol,
        amount=str(amount),
        amount_formatted=wrapped.format(amount),
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "amount": "1000000000000000000"},
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "blockNumber": 21000000,
        "gasUsed": "45038",
        "fee": "900760000000000",
        "feeFormatted": "0.00090076",
        "explorerUrl": "https://etherscan.io/tx/0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "token": "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
        "symbol": "WETH",
        "amount": "1000000000000000000",
        "amountFormatted": "1",
    },
    funds_movement=[FundsMovement("send", "amount")],
    finish=finish,
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
    await chain.call(call)
    intent = Intent(
        item="wrap",
        chain_id=input.chain_id,
        to=call.to,
        value_units=amount,
        data=call.data,
        movements=(Movement("send", pair.native.asset, amount, call.to),),
        about=f"Wrap {pair.native.tell(amount)} as {pair.wrapped.symbol} on {chain.network.name}",
        method=erc20.DEPOSIT.signature,
    )
    return Spend((intent,))
