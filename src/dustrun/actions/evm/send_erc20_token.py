"""Sends an ERC-20 token to an address.

Use it for USDC, WETH and other fungible tokens, by address or by a symbol from the chain's file. `amount` is in base
units (1 USDC is `"1000000"`; `convert-to-units` computes it) or `max`: the whole balance.

The result is read from the token's events: `amountSent` left the wallet, `amountReceived` reached the recipient, which
is less for tokens that take a fee. Tokens that return nothing (such as USDT) work. A transfer is rejected before
anything is signed if the token returns false, is paused or blocks the wallet, or if the recipient is a token contract,
where tokens would be lost.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.actions.evm import erc20
from dustrun.actions.evm.coins import (
    Coin,
    check_decimals,
    find_tokens,
    read_balance,
    read_balance_of,
    read_token,
    refuse_tokens,
    token_address,
)
from dustrun.actions.evm.fields import MAX, Amount, ChainId, Party, Token, TransactionFields, name_of, transaction_facts
from dustrun.core.money.intent import FundsMovement, Intent, Movement, Receipt, Spend, Spent
from dustrun.errors import Permanent
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import Chain, ChainCall
from dustrun.sdk.threads import side_by_side


class Input(Fields):
    """The token, recipient and amount."""

    chain_id: ChainId
    token: Token
    recipient: Party = Field(description="Recipient address.")
    amount: Amount = Field(description="Base units, or `max`: the whole balance.")
    decimals: int | None = Field(
        None, ge=0, le=77, description="The decimals you expect; the node fails if the token's differ."
    )


class Output(TransactionFields):
    """The transfer."""

    token: str = Field(description="Address of the token.")
    symbol: str = Field(description="Its symbol.")
    decimals: int = Field(description="Its decimals.")
    recipient: str = Field(description="Recipient address.")
    amount: str = Field(description="Requested amount, in base units.")
    amount_formatted: str = Field(description="Requested amount, in whole tokens.")
    amount_sent: str = Field(description="Amount that left the wallet, in base units.")
    amount_received: str = Field(
        description=("Amount that reached the recipient, in base units: less if the token takes a fee.")
    )
    amount_received_formatted: str = Field(description="Amount received, in whole tokens.")


async def _look(chain: Chain, token: str, sender: str, input: Input) -> tuple[Coin, int, int]:
    """The token, and the balances of wallet and recipient."""
    coin, tokens, balance, had = await side_by_side(
        read_token(chain, token, "token"),
        find_tokens(chain, [input.recipient]),
        read_balance_of(chain, token, sender),
        read_balance_of(chain, token, input.recipient),
    )
    check_decimals(coin, input.decimals)
    refuse_tokens(coin, {"recipient": input.recipient}, tokens)
    return coin, balance, had


def _resolve(coin: Coin, balance: int, sender: str, input: Input) -> int:
    amount = balance if input.amount == MAX else int(input.amount)
    if not balance or amount > balance:
        asked = "nothing to send" if input.amount == MAX else f"not {coin.tell(amount)}"
        raise refuse(f"the wallet {sender} has {coin.tell(balance)}, {asked}", "amount")
    return amount


async def _moved(
    chain: Chain, coin: Coin, receipt: Receipt, spend: Spend, input: Input, sender: str
) -> tuple[int, int]:
    """Amounts that left and arrived: by the token's events; without any, by the recipient's balance."""
    assert coin.token is not None
    if erc20.transfers(receipt.logs, coin.token):
        sent = erc20.total(receipt.logs, coin.token, sender=sender)
        return sent, erc20.total(receipt.logs, coin.token, recipient=input.recipient)
    came = await read_balance(chain, coin, input.recipient) - int(spend.notes["recipientHad"])
    if came <= 0:
        raise Permanent(f"{name_of(receipt)} succeeded, but {coin.symbol} moved nothing, against its return value.")
    return came, came


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output from the token's events."""
    chain, receipt, coin = ctx.chain(input.chain_id), spent.receipts[0], Coin.of(spend.notes["coin"])
    amount = spend.intents[0].movements[0].amount_units
    sent, received = await _moved(chain, coin, receipt, spend, input, ctx.wallet.address)
    return Output(
        **transaction_facts(receipt, chain.network),
        token=coin.address,
        symbol=coin.symbol,
        decimals=coin.decimals,
        recipient=input.recipient,
        amount=str(amount),
        amount_formatted=coin.format(amount),
        amount_sent=str(sent),
        amount_received=str(received),
        amount_received_formatted=coin.format(received),
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "token": "USDC",
        "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "amount": "25000000",
    },
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "blockNumber": 21000000,
        "gasUsed": "48537",
        "fee": "970740000000000",
        "feeFormatted": "0.00097074",
        "explorerUrl": "https://etherscan.io/tx/0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "token": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "symbol": "USDC",
        "decimals": 6,
        "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "amount": "25000000",
        "amountFormatted": "25",
        "amountSent": "25000000",
        "amountReceived": "25000000",
        "amountReceivedFormatted": "25",
    },
    funds_movement=[FundsMovement("send", "amount", token_field="token", recipient_field="recipient", takes_max=True)],
    finish=finish,
    tags=("evm", "transfer", "erc20", "pay", "payout"),
)
async def send_erc20_token(input: Input, ctx: Context) -> Spend:
    """Checks token, recipient, balance and a simulated transfer, then returns one intent."""
    chain, sender = ctx.chain(input.chain_id), ctx.wallet.address
    token = token_address(chain, input.token, "token")
    coin, balance, had = await _look(chain, token, sender, input)
    amount = _resolve(coin, balance, sender, input)
    data = erc20.TRANSFER.encode(input.recipient, amount)
    if not erc20.is_accepted(await chain.call(ChainCall(token, data, sender))):
        raise refuse(f"{coin.symbol} returns false for the transfer: it would move nothing", "token")
    intent = Intent(
        item="send",
        chain_id=input.chain_id,
        to=token,
        value_units=0,
        data=data,
        movements=(Movement("send", coin.asset, amount, input.recipient),),
        about=f"Send {coin.tell(amount)} to {input.recipient} on {chain.network.name}",
        method=erc20.TRANSFER.signature,
        errors=erc20.ERRORS,
    )
    return Spend((intent,), notes={"coin": coin.note(), "recipientHad": str(had)})
