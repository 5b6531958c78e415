"""Dust: an amount of a spend made about one cent's worth. Pure; integers and fractions only.

    dust = max(1, ceil(dustUsd / price × 10^decimals))        used = 0 when original is 0, else min(original, dust)

Limits that belong to an amount (least out, most in) are scaled with it. Two caps hold whatever a price says: one spend
is worth at most 5 × dustUsd, one run 100 × dustUsd, since the smallest unit of some tokens is worth more than a cent.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

from dustrun.core.money.policy.counting import USD_UNIT, Worth

SPEND_CAP: Final = 5
RUN_CAP: Final = 100
MAX_DUST_USD: Final = Decimal(1)

DustCode = Literal["DUST_UNPRICED", "DUST_UNSCALABLE", "DUST_OVER_CAP"]


class DustRefusal(Exception):
    """The amount cannot be made dust, or must not be spent as dust; the message says what to set."""

    def __init__(self, code: DustCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class DustRules:
    """What dust is worth in US dollars, and the two caps; dollars of amounts are in units of 1e-18."""

    dust_usd: Decimal

    def __post_init__(self) -> None:
        """Raises `ValueError` for nothing, and for more than a dollar."""
        if not 0 < self.dust_usd <= MAX_DUST_USD:
            raise ValueError(f"dust is worth more than 0 and at most {MAX_DUST_USD} US dollar, not {self.dust_usd}")

    @property
    def target(self) -> int:
        """What one amount is made worth."""
        return int(Fraction(self.dust_usd) * USD_UNIT)

    @property
    def spend_cap(self) -> int:
        """The most that one amount may be worth."""
        return SPEND_CAP * self.target

    @property
    def run_cap(self) -> int:
        """The most that all amounts of a run may be worth together."""
        return RUN_CAP * self.target


@dataclass(frozen=True, slots=True)
class Dusted:
    """An amount and what it became; `usd_units` is its worth in 1e-18 dollars, rounded up, None without a price."""

    original_units: int
    units: int
    usd_units: int | None

    @property
    def is_scaled(self) -> bool:
        """Whether it is another amount than before."""
        return self.units != self.original_units


def dust_units(worth: Worth, rules: DustRules) -> int:
    """Base units that are worth about the target: rounded up, at least one. A price of nothing raises."""
    usd = Fraction(worth.usd)
    if usd <= 0:
        raise DustRefusal("DUST_UNPRICED", f"The price is {worth.usd}, which says nothing about an amount.")
    wanted: Fraction = Fraction(rules.dust_usd) / usd * 10**worth.decimals
    return max(1, -(-wanted.numerator // wanted.denominator))


def make_dust(
    original: int, worth: Worth | None, rules: DustRules, *, override: int | None = None, spent_usd_units: int = 0
) -> Dusted:
    """The amount to use instead of `original`.

    `override` are the base units that the node's owner chose; the price is then only needed for the caps, and an
    asset that nobody prices counts as one target. `spent_usd_units` is what the run has spent before.
    """
    if original < 0:
        raise DustRefusal("DUST_UNSCALABLE", f"The amount {original} is negative.")
    if original == 0:
        return Dusted(0, 0, 0)
    if override is not None:
        units = min(original, override)
    elif worth is not None:
        units = min(original, dust_units(worth, rules))
    else:
        message = (
            "Nobody prices the asset, so nobody knows what dust of it is: set static_prices or a price source, or "
            "dustAmount on the node."
        )
        raise DustRefusal("DUST_UNPRICED", message)
    usd_units = None if worth is None else worth.of(units)
    check_caps(rules, rules.target if usd_units is None else usd_units, spent_usd_units)
    return Dusted(original, units, usd_units)


def check_caps(rules: DustRules, usd_units: int, spent_usd_units: int) -> None:
    """Raises when one spend, or the run with it, would be worth more than its cap."""
    if usd_units > rules.spend_cap:
        message = (
            f"The least that can be spent is worth {tell_usd(usd_units)}, over {tell_usd(rules.spend_cap)} "
            f"({SPEND_CAP} × dust_usd) for one spend of a dust test."
        )
        raise DustRefusal("DUST_OVER_CAP", message)
    if spent_usd_units + usd_units > rules.run_cap:
        message = (
            f"With {tell_usd(usd_units)} more the run would have spent {tell_usd(spent_usd_units + usd_units)}, over "
            f"{tell_usd(rules.run_cap)} ({RUN_CAP} × dust_usd) for one dust test."
        )
        raise DustRefusal("DUST_OVER_CAP", message)


def scale_least(least: int, dusted: Dusted) -> int:
    """The least amount out that belongs to a scaled amount in, rounded down; the same when nothing was scaled."""
    return least if dusted.original_units == 0 else least * dusted.units // dusted.original_units


def scale_most(most: int, dusted: Dusted) -> int:
    """The most amount in that belongs to a scaled amount out, rounded up."""
    return most if dusted.original_units == 0 else -(-most * dusted.units // dusted.original_units)


def scale_approval(wanted: Dusted, allowance: int) -> int | None:
    """What to approve; None when the present allowance is not below the dust, since an approval never lowers one.
    An approval of 0 takes one away, which has no dust."""
    if wanted.original_units == 0:
        message = 'An approval of 0 takes one away, which has no dust; set dust: "skip" on the node.'
        raise DustRefusal("DUST_UNSCALABLE", message)
    return None if allowance >= wanted.units else wanted.units


def tell_usd(usd_units: int) -> str:
    """US dollars for people, exact, without zeros at the end."""
    whole, part = divmod(usd_units, USD_UNIT)
    digits = f"{part:018d}".rstrip("0")
    return f"{whole}.{digits} USD" if digits else f"{whole} USD"
