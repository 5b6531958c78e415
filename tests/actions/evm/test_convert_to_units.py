from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dustrun.actions.evm.convert_from_units import convert_from_units
from dustrun.actions.evm.convert_to_units import convert_to_units
from dustrun.errors import Invalid
from dustrun.sdk.testing import perform


@pytest.mark.parametrize(
    ("amount", "decimals", "units"),
    [
        ("1.5", 6, "1500000"),
        (Decimal("1.5"), 18, "1500000000000000000"),
        (25, 6, "25000000"),
        ("0.000001", 6, "1"),
        ("7", 0, "7"),
        ("0", 18, "0"),
        ("1.500000000", 2, "150"),
        (Decimal("1E+3"), 6, "1000000000"),
    ],
)
async def test_the_point_moves(amount: Any, decimals: int, units: str) -> None:
    assert (await perform(convert_to_units, {"amount": amount, "decimals": decimals}))["units"] == units


@pytest.mark.parametrize(("rounding", "units"), [("down", "1234567"), ("up", "1234568")])
async def test_digits_too_many_are_rounded_only_when_asked(rounding: str, units: str) -> None:
    payload = {"amount": "1.2345671", "decimals": 6}
    with pytest.raises(Invalid, match="more than 6 digits after the decimal point") as caught:
        await perform(convert_to_units, payload)
    assert caught.value.public_details()[0]["field"] == "payload.amount"
    assert (await perform(convert_to_units, {**payload, "rounding": rounding}))["units"] == units


@pytest.mark.parametrize("amount", ["-1", "1,5", "1e18", "", ".", "1.", "0x10", True, None, "+1", "1 "])
async def test_what_is_no_plain_amount_is_refused(amount: Any) -> None:
    with pytest.raises(ValidationError):
        await perform(convert_to_units, {"amount": amount, "decimals": 6})


async def test_more_than_a_word_holds_is_refused() -> None:
    with pytest.raises(Invalid, match="more than"):
        await perform(convert_to_units, {"amount": "1" + "0" * 60, "decimals": 18})


@given(st.integers(0, 2**256 - 1), st.integers(0, 77))
async def test_there_and_back_is_the_same(units: int, decimals: int) -> None:
    shown = await perform(convert_from_units, {"units": str(units), "decimals": decimals})
    back = await perform(convert_to_units, {"amount": shown["formatted"], "decimals": decimals})
    assert back == {"units": str(units), "formatted": shown["formatted"]}
    again = await perform(convert_to_units, {"amount": shown["amount"], "decimals": decimals})
    assert again["units"] == str(units)
