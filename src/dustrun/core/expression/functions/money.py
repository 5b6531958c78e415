"""Money: amounts and base units; nothing is ever rounded silently."""

from __future__ import annotations

import re
from decimal import Decimal

from dustrun.core.expression import operators
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.table import FunctionGroup
from dustrun.core.expression.operators import WIDE, Number
from dustrun.core.expression.values import Meter

money = FunctionGroup("Money")

MAX_DECIMALS = 255
_AMOUNT = re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{1,400})?")


def _amount(name: str, x: Number | str) -> Number:
    """An amount; JSON often carries it as a string of digits, which is unambiguous here."""
    if not isinstance(x, str):
        return x
    if not _AMOUNT.fullmatch(x):
        raise Fault("value", f"{name}(): the text is not a plain number like 1.25")
    return Decimal(x) if "." in x else int(x)


def _check_decimals(name: str, decimals: int) -> None:
    if not 0 <= decimals <= MAX_DECIMALS:
        raise Fault("value", f"{name}(): decimals must be from 0 to {MAX_DECIMALS}")


@money.function(
    "toUnits(x: number|string, decimals: int) -> int",
    "An amount in base units; fails if it has more digits than `decimals`.",
    "toUnits(1.5, 18)",
    "1500000000000000000",
)
def to_units(meter: Meter, x: Number | str, decimals: int) -> int:
    _check_decimals("toUnits", decimals)
    exact = WIDE.scaleb(Decimal(_amount("toUnits", x)), decimals)
    if exact != exact.to_integral_value():
        raise Fault(
            "value", (f"toUnits(): the amount has more than {decimals} digits after the decimal point; round it first")
        )
    meter.bits(int(exact).bit_length())
    return int(exact)


@money.function(
    "units(x: number|string, decimals: int) -> int",
    "The same as `toUnits`, in the short form of a policy's conditions.",
    "units('5', 6)",
    "5000000",
)
def units(meter: Meter, x: Number | str, decimals: int) -> int:
    return to_units(meter, x, decimals)  # type: ignore[no-any-return]


@money.function(
    "fromUnits(x: int|string, decimals: int) -> decimal",
    "The exact amount of a number of base units.",
    'fromUnits("1500000000000000000", 18)',
    "1.5",
)
def from_units(meter: Meter, x: int | str, decimals: int) -> Decimal:
    _check_decimals("fromUnits", decimals)
    whole = _amount("fromUnits", x)
    if not isinstance(whole, int):
        raise Fault("value", "fromUnits(): base units must be a whole number")
    return operators.trimmed(WIDE.scaleb(Decimal(whole), -decimals))


@money.function("percent(x: number, p: number) -> number", "p percent of x, exact.", "percent(200, 2.5)", "5.0")
def percent(meter: Meter, x: Number, p: Number) -> Number:
    return operators.divide(meter, operators.multiply(meter, x, p), 100)  # type: ignore[no-any-return]


@money.function(
    "bps(x: number, b: number) -> number", "b basis points (hundredths of a percent) of x.", "bps(1000000, 30)", "3000"
)
def basis_points(meter: Meter, x: Number, b: Number) -> Number:
    return operators.divide(meter, operators.multiply(meter, x, b), 10_000)  # type: ignore[no-any-return]


@money.function(
    "clamp(x: number, low: number, high: number) -> number",
    "x limited to the range from low to high.",
    "clamp(150, 0, 100)",
    "100",
)
def clamp(meter: Meter, x: Number, low: Number, high: Number) -> Number:
    if low > high:
        raise Fault("value", "clamp(): low is greater than high")
    return min(max(x, low), high)
