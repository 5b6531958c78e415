"""Shared by `wrap-native` and `unwrap-native`: the WETH-like contract of a chain, the intent and the output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pydantic import Field

from dustrun.actions.evm.coins import Coin, native_coin, read_token
from dustrun.actions.evm.fields import TransactionFields, transaction_facts
from dustrun.core.evm.abi import Event, Function
from dustrun.core.money.intent import Intent, Movement, Receipt, Spend, Spent
from dustrun.records import dataclass
from dustrun.sdk import Context
from dustrun.sdk.action import Finish, refuse
from dustrun.sdk.chain import Chain, ChainCall

EXAMPLE_OUTPUT: Final = {
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
}


class Output(TransactionFields):
    """The result."""

    token: str = Field(description="Address of the wrapped token.")
    symbol: str = Field(description="Symbol of the token or coin received.")
    amount: str = Field(description="Amount converted, in base units, from the contract's event.")
    amount_formatted: str = Field(description="Amount converted, in whole units.")


@dataclass(frozen=True, slots=True)
class Pair:
    """The native coin and its wrapped token."""

    native: Coin
    wrapped: Coin


async def read_pair(chain: Chain, field: str = "chainId") -> Pair:
    """The pair of a chain; raises `Invalid` if the chain's file has no wrapped token."""
    address = chain.network.wrapped_native
    if address is None:
        raise refuse(f"{chain.network.name} has no wrapped native token in its file (wrappedNative)", field)
    return Pair(native_coin(chain), await read_token(chain, address, field))


async def plan_conversion(
    chain: Chain, paid: Coin, amount: int, call: ChainCall, function: Function, item: str, about: str
) -> Spend:
    """Simulates the call, then returns its intent, which pays `amount` base units of `paid` to the contract."""
    await chain.call(call)
    intent = Intent(
        item=item,
        chain_id=chain.network.chain_id,
        to=call.to,
        value_units=call.value_units,
        data=call.data,
        movements=(Movement("send", paid.asset, amount, call.to),),
        about=about,
        method=function.signature,
    )
    return Spend((intent,))


def finish_with(event: Event, received: Callable[[Pair], Coin]) -> Finish:
    """A `finish` that reads the converted amount from the contract's `event`; `received` selects the coin received."""

    async def finish(input: Any, spend: Spend, spent: Spent, ctx: Context) -> Output:
        chain, receipt = ctx.chain(input.chain_id), spent.receipts[0]
        pair = await read_pair(chain)
        coin, amount = received(pair), event_amount(receipt, pair.wrapped.address, event, ctx.wallet.address)
        return Output(
            **transaction_facts(receipt, chain.network),
            token=pair.wrapped.address,
            symbol=coin.symbol,
            amount=str(amount),
            amount_formatted=coin.format(amount),
        )

    return finish


def event_amount(receipt: Receipt, contract: str, event: Event, party: str) -> int:
    """The amount in the contract's events for one address."""
    found = [event.find(log.topics, log.data) for log in receipt.logs if log.address == contract]
    return sum(values["value"] for values in found if values is not None and party in values.values())
