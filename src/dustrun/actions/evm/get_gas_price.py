"""Reads current gas prices.

Use it to wait for low fees (`if` on `expectedGwei`), or to show what a step will cost. You need no price to send: the
server sets fees within the limits of the wallet's policy.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from dustrun.actions.evm.fields import ChainId
from dustrun.core.values.amounts import format_units
from dustrun.sdk import Context, Effect, Fields, Origin, action

_GWEI = 9


class Input(Fields):
    """The chain."""

    chain_id: ChainId


class Output(Fields):
    """Prices per unit of gas."""

    expected: str = Field(description="Expected price now, in base units of the native coin.")
    expected_gwei: Decimal = Field(description="Expected price in gwei (10^9 base units), as a number to compare with.")
    max_fee: str = Field(description="Maximum fee that would be bid, in base units.")
    tip: str = Field(description="Priority fee for the block producer, in base units.")
    is_legacy: bool = Field(description="Whether the chain has a single gas price and no base fee.")
    transfer_fee: str = Field(description="Cost of a plain transfer (21,000 gas), in base units.")
    transfer_fee_formatted: str = Field(
        description=("Cost of a plain transfer in whole coins, without an L2's data fee.")
    )
    symbol: str = Field(description="Symbol of the coin.")


@action(
    effect=Effect.READ,
    input=Input,
    output=Output,
    example_input={"chainId": 1},
    example_output={
        "expected": "15000000000",
        "expectedGwei": 15,
        "maxFee": "30000000000",
        "tip": "1000000000",
        "isLegacy": False,
        "transferFee": "315000000000000",
        "transferFeeFormatted": "0.000315",
        "symbol": "ETH",
    },
    origins=[Origin("chain", "chainId")],
    tags=("evm", "gas"),
)
async def get_gas_price(input: Input, ctx: Context) -> Output:
    """Reads the fees that the server would bid."""
    chain = ctx.chain(input.chain_id)
    fees, native = await chain.fees(), chain.network.native
    transfer = 21_000 * fees.expected_units
    return Output(
        expected=str(fees.expected_units),
        expected_gwei=Decimal(format_units(fees.expected_units, _GWEI)),
        max_fee=str(fees.max_fee_units),
        tip=str(fees.tip_units),
        is_legacy=fees.is_legacy,
        transfer_fee=str(transfer),
        transfer_fee_formatted=format_units(transfer, native.decimals),
        symbol=native.symbol,
    )
