"""Sends native coin or one token to many addresses, one transaction per row.

Use it for payrolls, payouts and refunds, with rows from a CSV file or an API. Every row is checked before the first one
is signed. Each row is paid once: its `key` (an invoice number, a user id) or, without one, its index identifies the
payment, so that a retry of the node or run pays only what is still open and nothing twice. Set keys if a retry may get
the rows in another order. Equal rows without keys are different payments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from dustrun.actions.evm import erc20
from dustrun.actions.evm.coins import Coin, check_decimals, check_recipients, read_balance, read_coin
from dustrun.actions.evm.fields import ChainId, Party, Positive
from dustrun.core.money.intent import FundsMovement, Intent, Movement, Receipt, Spend, Spent
from dustrun.core.values.amounts import MAX_UINT256
from dustrun.errors import Permanent
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import Chain, ChainCall


class Row(Fields):
    """One payment."""

    recipient: Party = Field(description="Recipient address.")
    amount: Positive = Field(description="Amount in base units.")
    key: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.:#-]{1,64}$", description="Identifies this payment; unique in the batch."
    )


class Input(Fields):
    """The token and the payments."""

    chain_id: ChainId
    token: str = Field(
        "native",
        max_length=100,
        description="`native`, the address of a token, or a symbol from the chain's file.",
        json_schema_extra={"x-widget": "token"},
    )
    rows: list[Row] = Field(min_length=1, max_length=500, description="The payments.")
    decimals: int | None = Field(
        None, ge=0, le=77, description="The decimals you expect; the node fails if the token's differ."
    )

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        seen: dict[str, int] = {}
        for place, row in enumerate(self.rows):
            if row.key is not None and row.key in seen:
                raise ValueError(f'rows[{place}].key "{row.key}" is also the key of rows[{seen[row.key]}]')
            if row.key is not None:
                seen[row.key] = place
        if sum(row.amount for row in self.rows) > MAX_UINT256:
            raise ValueError("the rows add up to more than 2**256 - 1")
        return self


class PaidRow(Fields):
    """The result of one row."""

    key: str = Field(description="The payment's key.")
    recipient: str = Field(description="Recipient address.")
    amount: str = Field(description="Amount sent, in base units.")
    amount_formatted: str = Field(description="Amount sent, in whole tokens.")
    amount_received: str = Field(description="Amount received, in base units: less if the token takes a fee.")
    hash: str | None = Field(description="Hash of its transaction; null in a simulation.")
    block_number: int = Field(description="Number of its block.")
    fee: str = Field(description="Its fee in base units of the native coin.")


class Output(Fields):
    """The results of all payments."""

    token: str = Field(description="Address of the token, or `native`.")
    symbol: str = Field(description="Its symbol.")
    count: int = Field(description="Number of rows paid.")
    total: str = Field(description="Total, in base units.")
    total_formatted: str = Field(description="Total, in whole tokens.")
    total_fee: str = Field(description="Total fees, in base units of the native coin.")
    rows: list[PaidRow] = Field(description="The rows, in order.")


def _item(row: Row, place: int) -> str:
    return f"row[{place}]" if row.key is None else f"row:{row.key}"


def _call(coin: Coin, row: Row, sender: str) -> ChainCall:
    if coin.token is None:
        return ChainCall(row.recipient, b"", sender, row.amount)
    return ChainCall(coin.token, erc20.TRANSFER.encode(row.recipient, row.amount), sender)


async def _check(chain: Chain, coin: Coin, sender: str, rows: Sequence[Row]) -> None:
    """Fails if the balance does not cover all rows, or a row's transfer would fail."""
    total = sum(row.amount for row in rows)
    balance = await read_balance(chain, coin, sender)
    if total > balance:
        raise refuse(f"the wallet {sender} has {coin.tell(balance)}, the rows need {coin.tell(total)}", "rows")
    await check_recipients(chain, coin, {f"rows[{place}].recipient": row.recipient for place, row in enumerate(rows)})
    calls = [_call(coin, row, sender) for row in rows]
    for place, answer in enumerate(await chain.call_many(calls)):
        if not answer.is_success:
            await _refuse_reverting(chain, calls[place], place)
        elif coin.token is not None and not erc20.is_accepted(answer.data):
            raise refuse(f"{coin.symbol} returns false for the transfer: it would move nothing", f"rows[{place}]")


async def _refuse_reverting(chain: Chain, call: ChainCall, place: int) -> None:
    try:
        await chain.call(call)
    except Permanent as error:
        raise refuse(f"the transfer would fail: {error.message}", f"rows[{place}]") from None


def _intent(chain: Chain, coin: Coin, sender: str, row: Row, place: int) -> Intent:
    call = _call(coin, row, sender)
    return Intent(
        item=_item(row, place),
        chain_id=coin.chain_id,
        to=call.to,
        value_units=call.value_units,
        data=call.data,
        movements=(Movement("send", coin.asset, row.amount, row.recipient),),
        about=f"Send {coin.tell(row.amount)} to {row.recipient} on {chain.network.name} ({_item(row, place)})",
        method=None if coin.token is None else erc20.TRANSFER.signature,
        errors=() if coin.token is None else erc20.ERRORS,
    )


def _paid(coin: Coin, row: Row, place: int, receipt: Receipt) -> PaidRow:
    received = row.amount
    if coin.token is not None and erc20.transfers(receipt.logs, coin.token):
        received = erc20.total(receipt.logs, coin.token, recipient=row.recipient)
    return PaidRow(
        key=row.key or str(place),
        recipient=row.recipient,
        amount=str(row.amount),
        amount_formatted=coin.format(row.amount),
        amount_received=str(received),
        hash=receipt.hash,
        block_number=receipt.block_number,
        fee=str(receipt.fee_units),
    )


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output row by row."""
    coin = Coin.of(spend.notes["coin"])
    total = sum(row.amount for row in input.rows)
    pairs = zip(input.rows, spent.receipts, strict=True)
    return Output(
        token=coin.address,
        symbol=coin.symbol,
        count=len(input.rows),
        total=str(total),
        total_formatted=coin.format(total),
        total_fee=str(sum(receipt.fee_units for receipt in spent.receipts)),
        rows=[_paid(coin, row, place, receipt) for place, (row, receipt) in enumerate(pairs)],
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "token": "USDC",
        "rows": [
            {"recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "amount": "25000000", "key": "invoice-17"}
        ],
    },
    example_output={
        "token": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "symbol": "USDC",
        "count": 1,
        "total": "25000000",
        "totalFormatted": "25",
        "totalFee": "970740000000000",
        "rows": [
            {
                "key": "invoice-17",
                "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
                "amount": "25000000",
                "amountFormatted": "25",
                "amountReceived": "25000000",
                "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
                "blockNumber": 21000000,
                "fee": "970740000000000",
            }
        ],
    },
    funds_movement=[FundsMovement("send", "rows[].amount", token_field="token", recipient_field="rows[].recipient")],
    finish=finish,
    tags=("evm", "transfer", "erc20", "pay", "payout"),
)
async def batch_transfer(input: Input, ctx: Context) -> Spend:
    """Checks every row, then returns one transfer intent per row."""
    chain, sender = ctx.chain(input.chain_id), ctx.wallet.address
    coin = await read_coin(chain, input.token, "token")
    check_decimals(coin, input.decimals)
    await _check(chain, coin, sender, input.rows)
    intents = tuple(_intent(chain, coin, sender, row, place) for place, row in enumerate(input.rows))
    return Spend(intents, notes={"coin": coin.note()})
