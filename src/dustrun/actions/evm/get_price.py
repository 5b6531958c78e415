"""Reads the price of a token in US dollars.

Use it in conditions and to convert dollars into amounts. The result says which source it came from and how old it is:
static prices of the settings, a price feed on the chain, an exchange's pool, or an HTTP source, in this order. A token
without a price fails the node; nothing is guessed. `maxAgeMs` rejects an old price.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from dustrun.actions.evm.coins import read_coin
from dustrun.actions.evm.fields import ChainId
from dustrun.clock import to_rfc3339
from dustrun.errors import Temporary
from dustrun.sdk import Context, Effect, Fields, Origin, action


class Input(Fields):
    """The token."""

    chain_id: ChainId
    token: str = Field(
        "native",
        max_length=100,
        description="`native`, the address of a token, or a symbol from the chain's file.",
        json_schema_extra={"x-widget": "token"},
    )
    max_age_ms: int | None = Field(None, ge=1, description="Fail the node if the price is older.")


class Output(Fields):
    """The price."""

    token: str = Field(description="Address of the token, or `native`.")
    symbol: str = Field(description="Its symbol.")
    usd: Decimal = Field(description="Exact US dollars per whole token.")
    source: str = Field(description="The price source.")
    at: str = Field(description="When the source set the price.")
    age_ms: int = Field(description="Age of the price in milliseconds.")


@action(
    effect=Effect.READ,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "token": "native"},
    example_output={
        "token": "native",
        "symbol": "ETH",
        "usd": Decimal("3127.41829051"),
        "source": "chainlink",
        "at": "2026-01-31T12:00:00.000Z",
        "ageMs": 41000,
    },
    origins=[Origin("price", "chainId"), Origin("contract", "token")],
    tags=("evm", "price"),
)
async def get_price(input: Input, ctx: Context) -> Output:
    """Asks the price sources in order."""
    coin = await read_coin(ctx.chain(input.chain_id), input.token, "token")
    price = await ctx.prices.price(coin.asset)
    if input.max_age_ms is not None and price.age_ms > input.max_age_ms:
        text = f"The price of {coin.symbol} ({price.source}) is {price.age_ms} ms old"
        raise Temporary(f"{text}, older than maxAgeMs ({input.max_age_ms}).")
    return Output(
        token=coin.address,
        symbol=coin.symbol,
        usd=price.usd,
        source=price.source,
        at=to_rfc3339(price.at_ms),
        age_ms=price.age_ms,
    )
