"""Reads the native balance of an address.

Use it before a transfer, or to top up a wallet that runs low. Without `address` it is the node's own wallet. For
tokens use `get-erc20-balance`.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.actions.evm.coins import native_coin
from dustrun.actions.evm.fields import Address, ChainId
from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """Whose balance."""

    chain_id: ChainId
    address: Address | None = Field(None, description="Whose balance; without it the node's wallet.")


class Output(Fields):
    """What is there."""

    address: str = Field(description="Whose balance it is.")
    balance: str = Field(description="In base units.")
    balance_formatted: str = Field(description="The same for people.")
    symbol: str = Field(description="Symbol of the coin.")
    decimals: int = Field(description="Digits after the point.")


@action(
    effect=Effect.READ,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"},
    example_output={
        "address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "balance": "1500000000000000000",
        "balanceFormatted": "1.5",
        "symbol": "ETH",
        "decimals": 18,
    },
    needs_wallet=lambda input: input.address is None,
    tags=("evm", "balance"),
)
async def get_balance(input: Input, ctx: Context) -> Output:
    """Asks the chain."""
    chain = ctx.chain(input.chain_id)
    coin = native_coin(chain)
    address = input.address or ctx.wallet.address
    balance = await chain.balance(address)
    return Output(
        address=address,
        balance=str(balance),
        balance_formatted=coin.format(balance),
        symbol=coin.symbol,
        decimals=coin.decimals,
    )
