"""Dollars as people read them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from dustrun.core.run.chain_effects import usd_of
from dustrun.core.values.amounts import tell_usd


@pytest.mark.parametrize(
    ("worth", "told"),
    [
        ("0", "$0"),
        ("1234.5", "$1,234.50"),
        ("-0.0125", "-$0.01"),
        ("0.0042", "$0.0042"),
        ("0.0000001", "less than $0.000001"),
        ("-0.0000001", "more than -$0.000001"),
    ],
)
def test_a_worth_is_told(worth: str, told: str) -> None:
    assert tell_usd(Decimal(worth)) == told


@pytest.mark.parametrize(("units", "usd"), [(-1, "0.000000"), (1, "0.000000"), (-(10**18), "-2000.000000")])
def test_what_rounds_to_nothing_has_no_sign(units: int, usd: str) -> None:
    assert usd_of(units, {"usd": "2000", "decimals": 18}) == usd
