"""Combines several prices of one asset: the median, and whether they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

DISAGREE: Final = Fraction(5, 100)
"""Spread between highest and lowest price, relative to the lowest, above which a warning is given."""


def middle(prices: Sequence[Decimal]) -> int:
    """The index of the median; of an even number the higher middle one, so that dust is rather less."""
    order = sorted(range(len(prices)), key=lambda index: (prices[index], index))
    return order[len(order) // 2]


def disagreement(prices: Sequence[tuple[str, Decimal]]) -> str | None:
    """A warning if sources differ by over 5 %, else None."""
    if len(prices) < 2:
        return None
    low, high = min(prices, key=lambda one: one[1]), max(prices, key=lambda one: one[1])
    if low[1] <= 0 or Fraction(high[1] - low[1]) <= DISAGREE * Fraction(low[1]):
        return None
    percent = Fraction(high[1] - low[1]) / Fraction(low[1]) * 100
    return f"Price sources disagree by {int(percent)} %: {low[0]} says {low[1]:f} USD, {high[0]} says {high[1]:f} USD."
