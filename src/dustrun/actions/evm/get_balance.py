"""Reads the native balance of an address.

Use it before a transfer, or to top up a wallet that runs low. Without `address` it reads the node's own wallet. For
tokens use `get-erc20-balance`.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.actions.evm.coins import native_coin
from dustrun.actions.evm.fields import Address, ChainId
from dustrun.sdk import Context, Effect, Fields, Origin, action


class Input(Fields):
    """The address to read."""

    chain_id: ChainId
    address: Address | None = Field(None, description="The address; default is the node's wallet.")


class Output(Fields):
    """The balance."""

    address: str = Field(description="The address.")
    balance: str = Field(description="Balance in base units.")
    balance_formatted: str = Field(description="Balance in whole coins.")
    symbol: str = Field(description="Symbol of the coin.")
    decimals: int = Field(description="Decimals of the coin.")


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
    origins=[Origin("chain", "chainId")],
    tags=("evm", "balance"),
)
async def get_balance(input: Input, ctx: Context) -> Output:
    """Reads the balance at the latest block."""
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
