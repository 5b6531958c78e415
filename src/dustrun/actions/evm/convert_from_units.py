"""Converts base units (`"1500000"`) into an amount for people (`1.5`).

Use it for messages and conditions. Nothing is rounded unless `maxFraction` cuts digits off. In an expression
`fromUnits(x, 6)` does the same.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from dustrun.actions.evm.fields import Units
from dustrun.core.values.amounts import format_units
from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """What is converted."""

    units: Units = Field(description="Base units.")
    decimals: int = Field(ge=0, le=77, description="Digits after the point that the token has.")
    max_fraction: int | None = Field(
        None, ge=0, le=77, description="At most so many digits after the point in `formatted`; the rest is cut off."
    )


class Output(Fields):
    """The amount."""

    amount: Decimal = Field(description="The exact amount as a number.")
    formatted: str = Field(description="The amount for people.")


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
    """Moves the point; nothing is lost in `amount`."""
    exact = format_units(input.units, input.decimals)
    shown = exact
    if input.max_fraction is not None and input.max_fraction < input.decimals:
        step = 10 ** (input.decimals - input.max_fraction)
        shown = format_units(input.units // step, input.max_fraction)
    return Output(amount=Decimal(exact), formatted=shown)
