"""Reads name, symbol, decimals and supply of an ERC-20 token.

Use it when the token comes from outside, so that amounts can be converted with the right decimals. The values are the
contract's own; `isKnown` says whether the chain's file lists this address, since any token may call itself "USDC".
"""

from __future__ import annotations

from pydantic import Field

from dustrun.actions.evm import erc20
from dustrun.actions.evm.coins import read_token
from dustrun.actions.evm.fields import ChainId, Token
from dustrun.core.money.tokens import find_known
from dustrun.sdk import Context, Effect, Fields, Origin, action
from dustrun.sdk.chain import ChainCall


class Input(Fields):
    """The token."""

    chain_id: ChainId
    token: Token


class Output(Fields):
    """The token's metadata, as its contract reports it."""

    token: str = Field(description="Address of the token.")
    name: str | None = Field(description="Its name; null if it has no printable one.")
    symbol: str = Field(description="Its symbol.")
    decimals: int = Field(description="Its decimals.")
    total_supply: str | None = Field(description="Total supply, in base units; null if unknown.")
    total_supply_formatted: str | None = Field(description="Total supply in whole tokens.")
    is_known: bool = Field(description="Whether the chain's file lists this address.")


@action(
    effect=Effect.READ,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "token": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"},
    example_output={
        "token": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "name": "USD Coin",
        "symbol": "USDC",
        "decimals": 6,
        "totalSupply": "25000000000000000",
        "totalSupplyFormatted": "25000000000",
        "isKnown": True,
    },
    origins=[Origin("chain", "chainId"), Origin("contract", "token")],
    tags=("evm", "erc20"),
)
async def get_token_info(input: Input, ctx: Context) -> Output:
    """Calls the token."""
    chain = ctx.chain(input.chain_id)
    coin = await read_token(chain, input.token, "token")
    (answer,) = await chain.call_many([ChainCall(coin.address, erc20.TOTAL_SUPPLY.encode())])
    is_known = answer.is_success and len(answer.data) == 32
    supply = int.from_bytes(answer.data, "big") if is_known else None
    return Output(
        token=coin.address,
        name=coin.name,
        symbol=coin.symbol,
        decimals=coin.decimals,
        total_supply=None if supply is None else str(supply),
        total_supply_formatted=None if supply is None else coin.format(supply),
        is_known=find_known(chain.network, coin.address) is not None,
    )
