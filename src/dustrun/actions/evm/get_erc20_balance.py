"""Reads the balance of an ERC-20 token.

Use it before a transfer or swap. Without `address` it reads the node's own wallet. For ETH and other native coins use
`get-balance`.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.actions.evm.coins import read_balance, read_token
from dustrun.actions.evm.fields import Address, ChainId, Token
from dustrun.sdk import Context, Effect, Fields, Origin, action


class Input(Fields):
    """The token and address to read."""

    chain_id: ChainId
    token: Token
    address: Address | None = Field(None, description="The address; default is the node's wallet.")


class Output(Fields):
    """The balance."""

    address: str = Field(description="The address.")
    token: str = Field(description="Address of the token.")
    symbol: str = Field(description="Its symbol.")
    decimals: int = Field(description="Its decimals.")
    balance: str = Field(description="Balance in base units.")
    balance_formatted: str = Field(description="Balance in whole tokens.")


@action(
    effect=Effect.READ,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "token": "USDC", "address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"},
    example_output={
        "address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "token": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "symbol": "USDC",
        "decimals": 6,
        "balance": "25000000",
        "balanceFormatted": "25",
    },
    needs_wallet=lambda input: input.address is None,
    origins=[Origin("chain", "chainId"), Origin("contract", "token")],
    tags=("evm", "balance", "erc20"),
)
async def get_erc20_balance(input: Input, ctx: Context) -> Output:
    """Calls the token's balanceOf()."""
    chain = ctx.chain(input.chain_id)
    coin = await read_token(chain, input.token, "token")
    address = input.address or ctx.wallet.address
    balance = await read_balance(chain, coin, address)
    return Output(
        address=address,
        token=coin.address,
        symbol=coin.symbol,
        decimals=coin.decimals,
        balance=str(balance),
        balance_formatted=coin.format(balance),
    )
