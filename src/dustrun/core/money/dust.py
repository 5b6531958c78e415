"""Dust: scales an amount of a spend to about one cent. Pure; integers and fractions only.

dust = max(1, ceil(dustUsd / price × 10^decimals))        used = 0 when original is 0, else min(original, dust)

Limits tied to an amount (minimum out, maximum in) are scaled with it. Two caps hold for any price, because the smallest
unit of some tokens is worth more than a cent: one spend is worth at most 5 × dustUsd, one run at most 100 × dustUsd.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

from dustrun.core.money.policy.counting import USD_UNIT, Worth
from dustrun.records import dataclass

SPEND_CAP: Final = 5
RUN_CAP: Final = 100
MAX_DUST_USD: Final = Decimal(1)

DustCode = Literal["DUST_UNPRICED", "DUST_UNSCALABLE", "DUST_OVER_CAP"]


class DustRefusal(Exception):
    """The amount cannot be scaled to dust, or exceeds a dust cap; the message says which setting to change."""

    def __init__(self, code: DustCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class DustRules:
    """The dust target in US dollars and the two caps, which are in units of 1e-18 dollars."""

    dust_usd: Decimal

    def __post_init__(self) -> None:
        """Raises `ValueError` unless 0 < dust_usd ≤ 1."""
        if not 0 < self.dust_usd <= MAX_DUST_USD:
            raise ValueError(
                f"dust_usd must be greater than 0 and at most {MAX_DUST_USD} US dollar, not {self.dust_usd}"
            )

    @property
    def target(self) -> int:
        """Worth of one scaled amount, in 1e-18 dollars."""
        return int(Fraction(self.dust_usd) * USD_UNIT)

    @property
    def spend_cap(self) -> int:
        """Largest worth of one amount, in 1e-18 dollars."""
        return SPEND_CAP * self.target

    @property
    def run_cap(self) -> int:
        """Largest worth of all amounts of a run, in 1e-18 dollars."""
        return RUN_CAP * self.target


@dataclass(frozen=True, slots=True)
class DustedAmount:
    """An amount and its scaled value; `usd_units` is its worth in 1e-18 dollars, rounded up, None without a price."""

    original_units: int
    units: int
    usd_units: int | None

    @property
    def is_scaled(self) -> bool:
        """Whether scaling changed the amount."""
        return self.units != self.original_units


def dust_units(worth: Worth, rules: DustRules) -> int:
    """Base units worth about the target: rounded up, at least one. Raises `DustRefusal` for a price of zero."""
    usd = Fraction(worth.usd)
    if usd <= 0:
        raise DustRefusal("DUST_UNPRICED", f"The price is {worth.usd} USD, so no dust amount can be computed from it.")
    wanted: Fraction = Fraction(rules.dust_usd) / usd * 10**worth.decimals
    return max(1, -(-wanted.numerator // wanted.denominator))


def make_dust(
    original: int,
    worth: Worth | None,
    rules: DustRules,
    *,
    override: int | None = None,
    most_units: int | None = None,
    spent_usd_units: int = 0,
) -> DustedAmount:
    """Scales `original` to dust.

    `override` is the base-unit amount set on the node; a price is then needed only for the caps, and an unpriced asset
    counts as one target, up to `most_units`, the maximum that the wallet's policy states for it. `spent_usd_units` is
    what the run has spent so far, in 1e-18 dollars.
    """
    if original < 0:
        raise DustRefusal("DUST_UNSCALABLE", f"The amount {original} is negative.")
    if original == 0:
        return DustedAmount(0, 0, 0)
    if override is not None:
        units = min(original, override)
        if worth is None:
            _check_unpriced(units, most_units)
    elif worth is not None:
        units = min(original, dust_units(worth, rules))
    else:
        message = (
            "No price source covers this asset, so its dust amount cannot be computed: set static_prices or a price "
            "source, or dustAmount on the node."
        )
        raise DustRefusal("DUST_UNPRICED", message)
    usd_units = None if worth is None else worth.of(units)
    check_caps(rules, rules.target if usd_units is None else usd_units, spent_usd_units)
    return DustedAmount(original, units, usd_units)


def _check_unpriced(units: int, most_units: int | None) -> None:
    """An amount that nobody prices is bounded in base units by the policy, or refused."""
    if most_units is None:
        message = (
            "No price source covers this asset, so dustAmount cannot be held against the dust caps: set a price, or a "
            "maximum in base units for the asset in the wallet's policy (limits or outflow.assets)."
        )
        raise DustRefusal("DUST_UNPRICED", message)
    if units > most_units:
        message = f"The amount {units} of an asset without a price is over the policy's maximum of {most_units}."
        raise DustRefusal("DUST_OVER_CAP", message)


def check_caps(rules: DustRules, usd_units: int, spent_usd_units: int) -> None:
    """Raises `DustRefusal` when this spend, or the run including it, would exceed its cap."""
    if usd_units > rules.spend_cap:
        message = (
            f"The smallest possible spend is worth {tell_usd(usd_units)}, over the cap of "
            f"{tell_usd(rules.spend_cap)} ({SPEND_CAP} × dust_usd) for one spend of a dust test."
        )
        raise DustRefusal("DUST_OVER_CAP", message)
    if spent_usd_units + usd_units > rules.run_cap:
        message = (
            f"With this spend of {tell_usd(usd_units)} the run would have spent "
            f"{tell_usd(spent_usd_units + usd_units)}, over the cap of {tell_usd(rules.run_cap)} ({RUN_CAP} × "
            "dust_usd) for one dust test."
        )
        raise DustRefusal("DUST_OVER_CAP", message)


def scale_least(least: int, dusted: DustedAmount) -> int:
    """Scales a minimum output in proportion to the scaled input, rounded down."""
    return least if dusted.original_units == 0 else least * dusted.units // dusted.original_units


def scale_most(most: int, dusted: DustedAmount) -> int:
    """Scales a maximum input in proportion to the scaled output, rounded up."""
    return most if dusted.original_units == 0 else -(-most * dusted.units // dusted.original_units)


def scale_approval(wanted: DustedAmount, allowance: int) -> int | None:
    """The scaled approval; None when the current allowance already covers it, since a dust test never lowers one.
    Raises `DustRefusal` for 0, which revokes an allowance and has no dust amount.
    """
    if wanted.original_units == 0:
        message = 'An approval of 0 revokes the allowance and has no dust amount; set dust: "skip" on the node.'
        raise DustRefusal("DUST_UNSCALABLE", message)
    return None if allowance >= wanted.units else wanted.units


def tell_usd(usd_units: int) -> str:
    """Exact US dollars for messages, without trailing zeros."""
    whole, part = divmod(usd_units, USD_UNIT)
    digits = f"{part:018d}".rstrip("0")
    return f"{whole}.{digits} USD" if digits else f"{whole} USD"
