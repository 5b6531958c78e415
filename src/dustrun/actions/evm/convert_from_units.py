"""Converts base units (`"1500000"`) into whole tokens (`1.5`).

Use it for messages and conditions. The amount is exact unless `maxFraction` truncates it. In an expression
`fromUnits(x, 6)` does the same.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from dustrun.actions.evm.fields import Units
from dustrun.core.values.amounts import format_units
from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """The base units and decimals."""

    units: Units = Field(description="Base units.")
    decimals: int = Field(ge=0, le=77, description="The token's decimals.")
    max_fraction: int | None = Field(
        None,
        ge=0,
        le=77,
        description=("Maximum number of digits after the decimal point in `formatted`; the rest is truncated."),
    )


class Output(Fields):
    """The amount."""

    amount: Decimal = Field(description="The exact amount as a number.")
    formatted: str = Field(description="The amount as text.")


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"units": "1500000", "decimals": 6},
    example_output={"amount": Decimal("1.5"), "formatted": "1.5"},
    idempotent=True,
    tags=("evm", "amount"),
)
def convert_from_units(input: Input, ctx: Context) -> Output:
    """Shifts the decimal point; `amount` is exact."""
    exact = format_units(input.units, input.decimals)
    shown = exact
    if input.max_fraction is not None and input.max_fraction < input.decimals:
        step = 10 ** (input.decimals - input.max_fraction)
        shown = format_units(input.units // step, input.max_fraction)
    return Output(amount=Decimal(exact), formatted=shown)
