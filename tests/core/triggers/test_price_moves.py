"""When a price counts."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.triggers.polling import Rule, State, observe

UP = Rule("cross-up", level=Decimal(100))
SECOND = 1000


def hits(rule: Rule, prices: list[Any]) -> list[int]:
    """The places of the prices that count, one a second; each state goes through its stored form."""
    state, found = State(), []
    for place, usd in enumerate(prices):
        seen = observe(rule, State.read(state.stored()), Decimal(usd), place * SECOND)
        state = seen.state
        found += [place] if seen.hit is not None else []
    assert state.fired == len(found)
    return found


@pytest.mark.parametrize(
    ("rule", "prices", "expected"),
    [
        (UP, [120, 130], []),
        (UP, [90, 100], [1]),
        (UP, [90, 110, 120, 130], [1]),
        (UP, [90, 110, 99, 101], [1, 3]),
        (UP, [120, 90, 110], [2]),
        (Rule("above", level=Decimal(100)), [120, 90, 110], [2]),
        (Rule("above", level=Decimal(100), takes_first=True), [120, 130, 90, 110], [0, 3]),
        (Rule("cross-down", level=Decimal(100)), [110, 100, 90], [1]),
        (Rule("below", level=Decimal(100), takes_first=True), [90, 80], [0]),
        (Rule("cross-up", level=Decimal(100), hysteresis=Decimal(5)), [90, 101, 96, 101, 94, 101], [1, 5]),
        (Rule("cross-up", level=Decimal(100), hysteresis=Decimal(5)), [97, 101, 97, 101], [1]),
        (Rule("cross-down", level=Decimal(100), hysteresis=Decimal(5)), [110, 99, 104, 99, 106, 99], [1, 5]),
    ],
)
def test_crossings(rule: Rule, prices: list[Any], expected: list[int]) -> None:
    assert hits(rule, prices) == expected


@pytest.mark.parametrize(
    ("direction", "prices", "expected"),
    [
        ("any", [100, 104, 105], [2]),
        ("any", [100, 96, 95], [2]),
        ("up", [100, 95, 90], []),
        ("up", [100, 96, 101], [2]),
        ("down", [100, 104, "98.8"], [2]),
        ("down", [100, 110], []),
        ("any", [100, 105, 106, 111], [1, 3]),
        ("any", [100, 101, 102, 103, 104, 105], []),
    ],
)
def test_moves_within_three_seconds(direction: Any, prices: list[Any], expected: list[int]) -> None:
    rule = Rule("change-percent", percent=Decimal(5), window_ms=3 * SECOND, direction=direction)
    assert hits(rule, prices) == expected


def test_a_hit_says_what_it_is_compared_with() -> None:
    state = observe(UP, State(), Decimal(96), 0).state
    found = observe(UP, state, Decimal(108), SECOND)
    assert found.hit is not None
    assert (found.hit.against, found.hit.change_percent) == (Decimal(100), Decimal("12.5000"))
    rule = Rule("change-percent", percent=Decimal(5), window_ms=3 * SECOND)
    moved = observe(rule, observe(rule, State(), Decimal(200), 0).state, Decimal(180), SECOND)
    assert moved.hit is not None
    assert (moved.hit.against, moved.hit.change_percent) == (Decimal(200), Decimal("-10.0000"))


PRICES = st.lists(st.integers(80, 120), min_size=1, max_size=60)


@given(PRICES, st.integers(0, 15))
def test_between_two_crossings_the_price_was_back(prices: list[int], hysteresis: int) -> None:
    rule = Rule("cross-up", level=Decimal(100), hysteresis=Decimal(hysteresis))
    found = hits(rule, prices)
    for place in found:
        assert prices[place] >= 100
        assert min(prices[:place], default=100) < 100
    for first, second in pairwise(found):
        assert min(prices[first:second]) < 100 - hysteresis or (hysteresis == 0 and min(prices[first:second]) < 100)


@given(PRICES)
def test_every_rise_to_the_level_counts_without_hysteresis(prices: list[int]) -> None:
    rises = [place for place in range(1, len(prices)) if prices[place - 1] < 100 <= prices[place]]
    assert hits(UP, prices) == rises
