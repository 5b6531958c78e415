"""The ceiling on what a transaction takes, with balances as they would be read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dustrun.core.money.intent import Movement
from dustrun.core.money.policy import WalletPolicy, Worth, is_looser
from dustrun.core.money.policy.outflow import Ceilings, RaisedAllowance, TakenAmounts, judge_outflow
from dustrun.core.values.amounts import Asset

WHO = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
TOKEN = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
COIN, USDC = "eip155:1/native", f"eip155:1/erc20:{TOKEN}"
PIECE = f"eip155:1/erc721:{TOKEN}/7"
WORTHS = {COIN: Worth(Decimal(2500), 18), USDC: Worth(Decimal(1), 6)}
SEND = Movement("send", Asset.parse(USDC), 5_000_000, WHO)
ALLOW = Movement("approve", Asset.parse(USDC), 40, WHO)


def policy(**outflow: Any) -> WalletPolicy:
    return WalletPolicy.model_validate({"chains": ["*"], "outflow": outflow})


def statements(
    taken: TakenAmounts, *declared: Movement, worths: Any = None, dust_cap: int | None = None, **outflow: Any
) -> list[str]:
    rule = None if dust_cap is not None else policy(**outflow).outflow
    found = judge_outflow(Ceilings(rule, dust_cap), taken, declared, WORTHS if worths is None else worths)
    return [reason.statement for reason in found]


@pytest.mark.parametrize(
    ("taken", "declared", "outflow", "denied"),
    [
        (TakenAmounts({USDC: 5_000_000}), [SEND], {}, []),
        (TakenAmounts({USDC: 5_000_001}), [SEND], {}, ["outflow.beyondDeclared"]),
        (TakenAmounts({USDC: 5_000_000}), [], {}, ["outflow.beyondDeclared"]),
        (TakenAmounts({USDC: 5_000_000}), [], {"beyondDeclared": True}, []),
        (TakenAmounts({COIN: 1}), [SEND], {}, ["outflow.beyondDeclared"]),
        (TakenAmounts({PIECE: 1}), [], {}, ["outflow.beyondDeclared"]),
        (TakenAmounts({PIECE: 1}), [SEND], {"maxUsd": "0"}, []),
        (TakenAmounts({USDC: 9}), [SEND], {"assets": {USDC: "8"}}, [f"outflow.assets.{USDC}"]),
        (TakenAmounts({USDC: 5_000_000}), [SEND], {"maxUsd": "4.999999"}, ["outflow.maxUsd"]),
        (TakenAmounts({USDC: 5_000_000}), [SEND], {"maxUsd": "5"}, []),
        (TakenAmounts({}, (RaisedAllowance(TOKEN, WHO, 0, 40),)), [ALLOW], {}, []),
        (TakenAmounts({}, (RaisedAllowance(TOKEN, WHO, 0, 41),)), [ALLOW], {}, ["outflow.allowancesBeyondDeclared"]),
        (TakenAmounts({}, (RaisedAllowance(TOKEN, WHO, 0, 1),)), [SEND], {}, ["outflow.allowancesBeyondDeclared"]),
        (TakenAmounts({}, (RaisedAllowance(TOKEN, WHO, 0, 1),)), [], {"allowancesBeyondDeclared": True}, []),
        (TakenAmounts({}, (), 3), [], {}, ["outflow"]),
    ],
)
def test_what_is_beyond_a_statement_is_denied(
    taken: TakenAmounts, declared: Any, outflow: Any, denied: list[str]
) -> None:
    assert statements(taken, *declared, **outflow) == denied


def test_what_nobody_prices_leaves_only_if_it_is_bounded_in_units() -> None:
    taken = TakenAmounts({USDC: 5})
    assert statements(taken, SEND, worths={}, maxUsd="100") == ["outflow.maxUsd"]
    assert statements(taken, SEND, worths={}, maxUsd="100", assets={USDC: "5"}) == []
    assert statements(taken, SEND, worths={}, dust_cap=1) == []  # its amount was bounded when it was scaled
    assert statements(taken, worths={}, dust_cap=1) == ["outflow.beyondDeclared", "dust"]


def test_a_dust_test_is_bounded_by_its_cap_and_by_what_is_declared() -> None:
    cap = 5 * 10**16
    assert statements(TakenAmounts({USDC: 50_000}), SEND, dust_cap=cap) == []
    assert statements(TakenAmounts({USDC: 50_001}), SEND, dust_cap=cap) == ["dust"]
    assert statements(TakenAmounts({USDC: 1}, (RaisedAllowance(TOKEN, WHO, 0, 1),)), SEND, dust_cap=cap) == [
        "outflow.allowancesBeyondDeclared"
    ]


@pytest.mark.parametrize(
    ("old", "new", "looser"),
    [
        ({}, {}, False),
        ({"maxUsd": "5"}, {"maxUsd": "4"}, False),
        ({"maxUsd": "5"}, {"maxUsd": "6"}, True),
        ({"maxUsd": "5"}, {}, True),
        ({}, {"beyondDeclared": True}, True),
        ({}, {"allowancesBeyondDeclared": True}, True),
        ({}, {"unsimulated": "declared"}, True),
        ({"assets": {USDC: "5"}}, {"assets": {USDC: "5", COIN: "1"}}, False),
        ({"assets": {USDC: "5"}}, {"assets": {COIN: "5"}}, True),
        ({"maxUsd": "5"}, {"maxUsd": "5", "assets": {COIN: "1"}}, True),  # a coin without a price may then leave
        ({"assets": {USDC: "5"}}, {"assets": {USDC: "4"}}, False),
    ],
)
def test_a_looser_outflow_is_a_looser_policy(old: Any, new: Any, looser: bool) -> None:
    assert is_looser(policy(**old), policy(**new)) is looser
    assert is_looser(policy(**old), WalletPolicy.model_validate({"chains": ["*"]})) is True
