"""Converts whole tokens (`1.5`) into base units (`"1500000"`).

Use it before an action that takes base units, with the token's decimals (`get-token-info` reads them). Digits below the
smallest unit fail the node unless `rounding` says how to round them. In an expression `toUnits(x, 6)` does the same.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field, field_validator

from dustrun.core.values.amounts import MAX_UINT256, format_units
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.action import refuse

_PLAIN = re.compile(r"[0-9]{1,80}(\.[0-9]{1,200})?")


def _digits(value: int | Decimal | str) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


class Input(Fields):
    """The amount, decimals and rounding."""

    amount: Any = Field(description="A number, or a string of digits with at most one decimal point, like `1.5`.")
    decimals: int = Field(ge=0, le=77, description="The token's decimals.")
    rounding: Literal["none", "down", "up"] = Field(
        "none", description="How to round digits below the smallest unit: `none` fails the node."
    )

    @field_validator("amount")
    @classmethod
    def _check_amount(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
            raise ValueError("must be a number or a string of digits")
        text = _digits(value)
        if text.startswith("-"):
            raise ValueError("must not be negative")
        if _PLAIN.fullmatch(text) is None:
            raise ValueError(
                "must be plain digits with at most one decimal point, like 1.5: no commas, signs or exponents"
            )
        return value


class Output(Fields):
    """The amount."""

    units: str = Field(description="Base units.")
    formatted: str = Field(description="The base units as whole tokens, after rounding.")


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"amount": "1.5", "decimals": 6},
    example_output={"units": "1500000", "formatted": "1.5"},
    idempotent=True,
    tags=("evm", "amount"),
)
def convert_to_units(input: Input, ctx: Context) -> Output:
    """Shifts the decimal point; integers only."""
    whole, _, fraction = _digits(input.amount).partition(".")
    kept, lost = fraction[: input.decimals], fraction[input.decimals :].strip("0")
    if lost and input.rounding == "none":
        text = f"{input.amount} has more than {input.decimals} digits after the decimal point"
        raise refuse(f'{text}; round it, or set rounding to "down" or "up"', "amount")
    units = int(whole + kept.ljust(input.decimals, "0")) + (1 if lost and input.rounding == "up" else 0)
    if units > MAX_UINT256:
        raise refuse(f"{input.amount} with {input.decimals} decimals is more than 2**256 - 1 base units", "amount")
    return Output(units=str(units), formatted=format_units(units, input.decimals))
