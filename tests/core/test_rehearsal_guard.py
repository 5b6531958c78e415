"""The guard that binds live spends to a rehearsal."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from dustrun.core.amounts import Asset
from dustrun.core.intent import Intent, Movement
from dustrun.core.rehearsal_guard import differences

SHOP, OTHER = "0x" + "b2" * 20, "0x" + "c3" * 20
TOKEN = Asset(1, "0x" + "d4" * 20)
WISH = Intent("send", 1, SHOP, 100, b"\x01", (Movement("send", TOKEN, 1000, SHOP),), "Send", method="pay(uint256)")


def _beyond(wish: Intent, tolerance: str = "0") -> list[str]:
    return differences([wish], [WISH.public()], Decimal(tolerance))


def test_the_same_or_less_passes() -> None:
    assert _beyond(WISH) == []
    assert _beyond(replace(WISH, value_units=1, movements=(Movement("send", TOKEN, 1, SHOP),))) == []


@pytest.mark.parametrize(
    "wish",
    [
        replace(WISH, item="another"),
        replace(WISH, chain_id=10),
        replace(WISH, to=OTHER),
        replace(WISH, to=None),
        replace(WISH, method="take(uint256)"),
        replace(WISH, value_units=101),
        replace(WISH, movements=(Movement("send", TOKEN, 1001, SHOP),)),
        replace(WISH, movements=(Movement("send", TOKEN, 1000, OTHER),)),
        replace(WISH, movements=(Movement("send", Asset(1), 1000, SHOP),)),
        replace(WISH, movements=(Movement("approve", TOKEN, 1000, SHOP),)),
    ],
)
def test_more_elsewhere_another_asset_or_no_match_is_told(wish: Intent) -> None:
    assert len(_beyond(wish)) == 1


def test_tolerance_is_exact() -> None:
    assert _beyond(replace(WISH, movements=(Movement("send", TOKEN, 1005, SHOP),)), "0.5") == []
    assert len(_beyond(replace(WISH, movements=(Movement("send", TOKEN, 1006, SHOP),)), "0.5")) == 1
