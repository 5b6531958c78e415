from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from dustrun.actions.evm.convert_from_units import convert_from_units
from dustrun.sdk.testing import perform


@pytest.mark.parametrize(
    ("units", "decimals", "formatted"),
    [
        ("1500000", 6, "1.5"),
        (1, 18, "0.000000000000000001"),
        ("25", 0, "25"),
        ("0", 6, "0"),
        (str(2**256 - 1), 18, "115792089237316195423570985008687907853269984665640564039457.584007913129639935"),
    ],
)
async def test_the_amount_is_exact(units: Any, decimals: int, formatted: str) -> None:
    result = await perform(convert_from_units, {"units": units, "decimals": decimals})
    assert result == {"amount": Decimal(formatted), "formatted": formatted}


async def test_digits_are_cut_for_people_only() -> None:
    result = await perform(convert_from_units, {"units": "1999999", "decimals": 6, "maxFraction": 2})
    assert result == {"amount": Decimal("1.999999"), "formatted": "1.99"}


@pytest.mark.parametrize("units", ["-1", "1.5", "1e3", str(2**256), None, True])
async def test_what_is_no_amount_is_refused(units: Any) -> None:
    with pytest.raises(ValidationError):
        await perform(convert_from_units, {"units": units, "decimals": 6})
