"""Sends native coin (ETH, BNB, POL …) to an address.

Use it to pay somebody, or to top up another wallet's gas. `amount` is in base units (1 ETH is `"1000000000000000000"`;
`convert-to-units` computes it) or `max`: the whole balance minus a reserve for the fee, so that a little is left. A
contract that does not accept coin, the zero address and a token contract are rejected before anything is signed. For
tokens use `send-erc20-token`, for many recipients `batch-transfer`.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.actions.evm.coins import Coin, check_recipient, native_coin
from dustrun.actions.evm.fields import (
    MAX,
    Amount,
    ChainId,
    Party,
    TransactionFields,
    fee_reserve,
    transaction_facts,
    transfer_gas,
)
from dustrun.core.money.intent import FundsMovement, Intent, Movement, Spend, Spent
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import Chain
from dustrun.sdk.threads import side_by_side


class Input(Fields):
    """The recipient and amount."""

    chain_id: ChainId
    recipient: Party = Field(description="Recipient address.")
    amount: Amount = Field(description="Base units, or `max`: all but the fee.")


class Output(TransactionFields):
    """The transfer."""

    recipient: str = Field(description="Recipient address.")
    amount: str = Field(description="Amount sent, in base units.")
    amount_formatted: str = Field(description="Amount sent, in whole coins.")
    symbol: str = Field(description="Symbol of the coin.")


async def _resolve(chain: Chain, coin: Coin, balance: int, sender: str, input: Input) -> tuple[int, int | None]:
    """The amount as an integer, and its gas limit."""
    if input.amount != MAX:
        amount = int(input.amount)
        if amount > balance:
            raise refuse(f"the wallet {sender} has {coin.tell(balance)}, not {coin.tell(amount)}", "amount")
        return amount, None
    gas, limit = await transfer_gas(chain, input.recipient)
    reserve = await fee_reserve(chain, gas)
    if balance <= reserve:
        needed = f"the fee may take {coin.tell(reserve)}"
        raise refuse(f"the wallet {sender} has {coin.tell(balance)} and {needed}: nothing is left to send", "amount")
    return balance - reserve, limit


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output from the receipt and the intent."""
    chain = ctx.chain(input.chain_id)
    coin = native_coin(chain)
    amount = spend.intents[0].value_units
    return Output(
        **transaction_facts(spent.receipts[0], chain.network),
        recipient=input.recipient,
        amount=str(amount),
        amount_formatted=coin.format(amount),
        symbol=coin.symbol,
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "amount": "10000000000000000",
    },
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "blockNumber": 21000000,
        "gasUsed": "21000",
        "fee": "420000000000000",
        "feeFormatted": "0.00042",
        "explorerUrl": "https://etherscan.io/tx/0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "amount": "10000000000000000",
        "amountFormatted": "0.01",
        "symbol": "ETH",
    },
    funds_movement=[FundsMovement("send", "amount", recipient_field="recipient", takes_max=True)],
    finish=finish,
    tags=("evm", "transfer", "pay", "payout"),
)
async def send_native(input: Input, ctx: Context) -> Spend:
    """Checks that the recipient accepts it, then returns one transfer intent."""
    chain, sender = ctx.chain(input.chain_id), ctx.wallet.address
    coin = native_coin(chain)
    _, balance = await side_by_side(check_recipient(chain, coin, input.recipient), chain.balance(sender))
    amount, gas_limit = await _resolve(chain, coin, balance, sender, input)
    intent = Intent(
        item="send",
        chain_id=input.chain_id,
        to=input.recipient,
        value_units=amount,
        data=b"",
        movements=(Movement("send", coin.asset, amount, input.recipient),),
        about=f"Send {coin.tell(amount)} to {input.recipient} on {chain.network.name}",
        gas_limit=gas_limit,
    )
    return Spend((intent,))
