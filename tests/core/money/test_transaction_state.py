from __future__ import annotations

import pytest

from dustrun.core.money.transaction_state import MOST_GAS, gas_limit_of


@pytest.mark.parametrize(
    ("estimate", "is_plain", "limit"),
    [
        (21_000, True, 21_000),
        (24_001, True, 36_001),  # a transfer to a contract runs its code
        (93_464, False, 140_196),
        (100_000, False, 150_000),
        (200_000, False, 250_000),
        (1_000_000, False, 1_250_000),
        (MOST_GAS - 1, False, MOST_GAS),
        (MOST_GAS + 4, False, (MOST_GAS + 4) * 5 // 4),
    ],
)
def test_gas_limit_by_an_estimate(estimate: int, is_plain: bool, limit: int) -> None:
    assert gas_limit_of(estimate, is_plain) == limit
