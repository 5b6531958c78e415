"""Dust: worked examples, every refusal, and properties over decimals 0 to 24 and prices 1e-12 to 1e6."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dustrun.core.money import dust
from dustrun.core.money.dust import DustedAmount, DustRefusal, DustRules, make_dust
from dustrun.core.money.policy import Worth
from dustrun.core.values.amounts import MAX_UINT256

RULES = DustRules(Decimal("0.01"))
CENT = 10**16
prices = st.integers(-12, 6).flatmap(
    lambda exponent: st.integers(1, 9_999_999).map(lambda digits: Decimal(digits).scaleb(exponent - 6))
)
worths = st.builds(Worth, prices, st.integers(0, 24))


def worth(usd: str, decimals: int) -> Worth:
    return Worth(Decimal(usd), decimals)


@pytest.mark.parametrize(
    ("original", "price", "units"),
    [
        (5 * 10**18, worth("2500", 18), 4 * 10**12),
        (10**12, worth("2500", 18), 10**12),  # less than dust already
        (1000 * 10**6, worth("1", 6), 10_000),
        (1000 * 10**6, worth("0.9997", 6), 10_004),  # rounded up
        (10**8, worth("60000", 8), 17),
        (MAX_UINT256, worth("1", 6), 10_000),
        (10**30, worth("1e-9", 18), 10**25),
        (10**40, worth("1e-12", 24), 10**34),
        (9, worth("0.02", 0), 1),  # one unit is worth two cents
        (0, worth("2500", 18), 0),
    ],
)
def test_worked_examples(original: int, price: Worth, units: int) -> None:
    assert make_dust(original, price, RULES).units == units


def refused(code: str, *values: object, **options: object) -> str:
    with pytest.raises(DustRefusal) as caught:
        make_dust(*values, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    return caught.value.message


def test_zero_stays_zero_without_a_price() -> None:
    assert make_dust(0, None, RULES) == DustedAmount(0, 0, 0)


def test_what_nobody_prices_is_refused_and_says_what_to_set() -> None:
    message = refused("DUST_UNPRICED", 1, None, RULES)
    assert "static_prices" in message
    assert "dustAmount" in message
    refused("DUST_UNPRICED", 1, worth("0", 18), RULES)
    refused("DUST_UNPRICED", 1, worth("-3", 18), RULES)


def test_a_unit_that_is_worth_more_than_the_cap_is_refused() -> None:
    assert make_dust(1, worth("0.05", 0), RULES).usd_units == 5 * CENT
    assert "0.0500001 USD" in refused("DUST_OVER_CAP", 1, worth("0.0500001", 0), RULES)
    refused("DUST_OVER_CAP", 3, worth("60000", 0), RULES)


def test_the_run_has_its_own_cap() -> None:
    cent = worth("1", 2)
    assert make_dust(100, cent, RULES, spent_usd_units=99 * CENT).units == 1
    refused("DUST_OVER_CAP", 100, cent, RULES, spent_usd_units=99 * CENT + 1)
    refused("DUST_OVER_CAP", 100, None, RULES, override=1, most_units=1, spent_usd_units=100 * CENT)


def test_an_amount_that_the_owner_chose_is_used_within_the_caps() -> None:
    assert make_dust(100, None, RULES, override=7, most_units=7) == DustedAmount(100, 7, None)
    assert make_dust(5, None, RULES, override=7, most_units=5) == DustedAmount(5, 5, None)
    refused("DUST_OVER_CAP", 100, None, RULES, override=7, most_units=6)
    assert "outflow.assets" in refused("DUST_UNPRICED", 100, None, RULES, override=7)
    assert make_dust(10**6, worth("1", 6), RULES, override=50_000).usd_units == 5 * CENT
    refused("DUST_OVER_CAP", 10**6, worth("1", 6), RULES, override=50_001)


def test_a_negative_amount_is_refused() -> None:
    refused("DUST_UNSCALABLE", -1, worth("1", 6), RULES)


def test_limits_scale_with_their_amount() -> None:
    third = DustedAmount(3000, 1000, None)
    assert (dust.scale_least(100, third), dust.scale_most(100, third)) == (33, 34)
    same = DustedAmount(7, 7, None)
    assert (dust.scale_least(100, same), dust.scale_most(100, same)) == (100, 100)
    assert (dust.scale_least(5, DustedAmount(0, 0, 0)), dust.scale_most(5, DustedAmount(0, 0, 0))) == (5, 5)


def test_an_approval_never_lowers_an_allowance() -> None:
    wanted = DustedAmount(10**9, 10_000, CENT)
    assert dust.scale_approval(wanted, 9_999) == 10_000
    assert dust.scale_approval(wanted, 10_000) is None
    assert dust.scale_approval(wanted, MAX_UINT256) is None
    with pytest.raises(DustRefusal, match="revokes the allowance"):
        dust.scale_approval(DustedAmount(0, 0, 0), 5)


@pytest.mark.parametrize("usd", ["0", "-0.01", "1.000001"])
def test_rules_are_of_at_most_a_dollar(usd: str) -> None:
    with pytest.raises(ValueError, match="at most 1"):
        DustRules(Decimal(usd))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, MAX_UINT256), worths, st.sampled_from(["0.01", "0.0001", "1", "0.03"]))
@example(MAX_UINT256, Worth(Decimal("1e-12"), 24), "1")
def test_dust_is_the_least_that_reaches_the_target(original: int, price: Worth, target: str) -> None:
    rules = DustRules(Decimal(target))
    try:
        made: DustedAmount | None = make_dust(original, price, rules)
    except DustRefusal:
        made = None
    if made is None:
        assert Fraction(price.usd) / 10**price.decimals > 5 * Fraction(target)  # one unit alone is beyond the cap
        return
    assert type(made.units) is int
    assert made.units <= original
    assert (made.units == 0) == (original == 0)
    assert made.usd_units is not None
    assert made.usd_units <= rules.spend_cap
    value = Fraction(price.usd) * made.units / 10**price.decimals
    if 1 < made.units < original:  # one unit less would be worth less than the target
        assert value >= Fraction(target) > value - Fraction(price.usd) / 10**price.decimals
    if made.units == original > 1:
        assert value - Fraction(price.usd) / 10**price.decimals < Fraction(target)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, MAX_UINT256), st.integers(0, MAX_UINT256), worths)
def test_scaled_limits_keep_the_rate(original: int, limit: int, price: Worth) -> None:
    units = min(original, dust.dust_units(price, RULES))
    made = DustedAmount(original, units, None)
    exact = Fraction(limit * units, original)
    assert exact - 1 < dust.scale_least(limit, made) <= exact <= dust.scale_most(limit, made) < exact + 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**30), worths), max_size=150))
def test_a_run_never_spends_more_than_its_cap(amounts: list[tuple[int, Worth]]) -> None:
    spent = 0
    for original, price in amounts:
        try:
            spent += make_dust(original, price, RULES, spent_usd_units=spent).usd_units or 0
        except DustRefusal:
            continue
    assert spent <= RULES.run_cap
