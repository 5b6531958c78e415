"""What a limit with a scope counts of a spend, and which documents say no sensible scope."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from core.money.policy.test_judge import (
    BOB,
    COIN,
    EVE,
    ME,
    ROUTER,
    TOKEN,
    USDC,
    WORTHS,
    approve,
    call_data,
    pay,
    rules,
    transfer,
)
from core.money.test_inner_calls import multicall
from dustrun.core.money.intent import Movement
from dustrun.core.money.policy import Allow, Deny, PolicyRequest, VerdictFacts, is_looser, judge
from dustrun.core.money.policy.counting import Origin
from dustrun.core.money.policy.scopes import bounds_of, count_under, measure_of

DAY = 86_400_000
SWAP = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"
DOLLAR = 10**18


def swap(units: int = 5_000_000, *, method: str = SWAP, nested: bool = False) -> PolicyRequest:
    data = call_data("deposit(uint256)" if method == "deposit(uint256)" else method, 5)
    moved = (Movement("send", USDC, units, ROUTER),)
    return PolicyRequest("transaction", 1, ROUTER, 0, multicall(data) if nested else data, moved, sender=ME)


@pytest.mark.parametrize(
    ("of", "request_", "dollars"),
    [
        ({"contracts": [ROUTER]}, swap(), 5),
        ({"contracts": [ROUTER]}, transfer(), 0),
        ({"contracts": [ROUTER]}, approve(2_000_000, ROUTER), 2),
        ({"contracts": [ROUTER]}, approve(2_000_000, ROUTER, of_swap=True), 0),
        ({"contracts": [EVE]}, swap(), 0),
        ({"contracts": ["eip155:10:*"]}, swap(), 0),
        ({"methods": ["deposit(uint256)"]}, swap(method="deposit(uint256)"), 5),
        ({"methods": ["deposit(uint256)"]}, swap(method="deposit(uint256)", nested=True), 5),
        ({"contracts": [ROUTER], "methods": ["deposit(uint256)"]}, swap(), 0),
        ({"recipients": [BOB]}, transfer(3_000_000), 3),
        ({"recipients": [EVE]}, transfer(3_000_000), 0),
        ({"recipients": [BOB], "assets": [COIN.key]}, transfer(3_000_000), 0),
        ({"assets": ["eip155:1/*"]}, transfer(3_000_000), 3),
        ({"workflows": ["wf_1"]}, transfer(3_000_000), 3),
        ({"workflows": ["wf_2"]}, transfer(3_000_000), 0),
        ({"keys": ["key_1"], "recipients": [BOB]}, transfer(3_000_000), 3),
        ({"keys": ["key_2"], "recipients": [BOB]}, transfer(3_000_000), 0),
    ],
)
def test_a_scope_counts_what_fits_all_that_it_names(of: dict[str, Any], request_: PolicyRequest, dollars: int) -> None:
    policy = rules(limits=[{"maxUsd": "1", "windowMs": DAY, "of": of}])
    asked = replace(request_, origin=Origin("wf_1", "run_1", "key_1"))
    (bound,) = bounds_of(policy, asked)
    assert count_under(policy, asked, WORTHS).units.get(bound.measure, 0) == dollars * DOLLAR
    expected = Deny if dollars or any(one.of_swap for one in asked.movements) else Allow
    assert (
        isinstance(judge(policy, asked, VerdictFacts(0, WORTHS, {(bound.measure, DAY): 0})), expected) or dollars <= 1
    )


def test_one_policy_for_swaps_and_three_payees() -> None:
    """Swap up to 500 dollars a day on one router, pay three up to 2,000 a month, ask above 100."""
    document = {
        "chains": [1], "assets": ["*"], "recipients": [BOB, EVE, TOKEN], "contracts": [ROUTER], "methods": ["*"],
        "limits": [
            {"maxUsd": "500", "windowMs": DAY, "of": {"contracts": [ROUTER]}},
            {"maxUsd": "2000", "windowMs": 30 * DAY, "of": {"recipients": [BOB, EVE, TOKEN]}},
        ],
        "approvalAbove": {"usd": "100"},
    }  # fmt: skip
    policy = rules(**document)
    swaps, payments = (measure_of(limit) for limit in policy.limits)
    spent = {(swaps, DAY): 490 * DOLLAR, (payments, 30 * DAY): 1_990 * DOLLAR}
    for units, verdict in ((10_000_000, Allow), (10_000_001, Deny)):
        assert isinstance(judge(policy, transfer(units), VerdictFacts(0, WORTHS, spent)), verdict)
        spender = approve(units, ROUTER)
        assert isinstance(judge(policy, spender, VerdictFacts(0, WORTHS, spent)), verdict)
    over = judge(policy, transfer(10_000_001), VerdictFacts(0, WORTHS, spent))
    assert "in the last 30 days within its scope is over 2000 USD" in over.reasons[0].message


@pytest.mark.parametrize(
    ("old", "new", "looser"),
    [
        ({"of": {"recipients": [BOB]}}, {}, False),
        ({"of": {"recipients": [BOB]}}, {"of": {"recipients": [BOB]}, "maxUsd": "4"}, False),
        ({"of": {"recipients": [BOB]}}, {"of": {"recipients": [BOB]}, "maxUsd": "6"}, True),
        ({"of": {"recipients": [BOB]}}, {"of": {"recipients": [BOB, EVE]}}, True),  # it begins to count anew
        ({}, {"of": {"recipients": [BOB]}}, True),
        ({"per": "key"}, {}, False),
        ({}, {"per": "key"}, True),
        ({"per": "run", "windowMs": None}, {}, True),
        ({"per": "run", "windowMs": None}, {"per": "run", "windowMs": None, "maxUsd": "4"}, False),
    ],
)
def test_a_narrower_scope_is_looser(old: dict[str, Any], new: dict[str, Any], looser: bool) -> None:
    both = [rules(limits=[{"maxUsd": "5", "windowMs": DAY, **one}]) for one in (old, new)]
    assert is_looser(*both) is looser


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ({"maxGasUsd": "1", "per": "run"}, "maxGasUsd counts all network fees"),
        ({"maxUsd": "1", "per": "run", "windowMs": DAY}, "per run has no windowMs"),
        ({"maxUsd": "1", "per": "key"}, "per key requires windowMs"),
        ({"maxCount": 1}, "or per run"),
        ({"maxUsd": "1", "of": {"recipients": ["bob"]}}, "an address 0x"),
        ({"maxUsd": "1", "of": {"people": ["bob"]}}, "people"),
    ],
)
def test_a_scope_that_says_nothing_sensible_is_refused(limit: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        rules(limits=[limit])


def test_what_has_no_scope_is_counted_as_before() -> None:
    assert measure_of(rules(limits=[{"maxUsd": "1", "windowMs": DAY}]).limits[0]) == "usd"
    assert set(count_under(rules(), pay(), WORTHS).units) == {"usd", "count", COIN.key, "gas:eip155:1", "gasUsd"}
