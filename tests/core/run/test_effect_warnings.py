"""What a report warns of, by what was kept of its transactions."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.core.run import chain_effects
from dustrun.core.run.journal import ReportedExecution
from dustrun.core.run.state import NodeStatus
from dustrun.core.values.amounts import MAX_UINT256

ME, SHOP, ROUTER, POOL = (f"0x{byte * 20}" for byte in ("a1", "b2", "c3", "d4"))
COIN, USDC = "eip155:1/native", f"eip155:1/erc20:0x{'e5' * 20}"
Json = dict[str, Any]


def send(**fields: Any) -> Json:
    """A transaction that sends half a coin."""
    moved = {"kind": "send", "asset": COIN, "amount": str(5 * 10**17), "counterparty": SHOP}
    plain = {"item": "main", "chainId": 1, "from": ME, "to": SHOP, "value": "0", "about": "Send"}
    return {**plain, "status": "simulated", "movements": [moved], **fields}


def warned(*transactions: Json, age_ms: int = 0, **limits: Any) -> list[tuple[str, int]]:
    """Code and transaction of each warning."""
    assets = {
        COIN: {"symbol": "ETH", "decimals": 18, "usd": "2000", "source": "feed", "ageMs": age_ms},
        USDC: {"symbol": "USDC", "decimals": 6, "usd": "1", "source": "feed", "ageMs": 0},
    }
    most = {"valueUsd": "1000", "slippagePercent": "3", "priceAgeS": 3600, **limits}
    facts = {"transactions": list(transactions), "assets": assets, "limits": most}
    report = chain_effects.fold([ReportedExecution("pay", "pay", 1, NodeStatus.SUCCESS, facts=facts, started_at=1)])
    assert all(warning["nodeId"] == warning["path"] == "pay" for warning in report["warnings"])
    return [(warning["code"], warning["transaction"]) for warning in report["warnings"]]


def test_nothing_is_said_of_what_is_ordinary() -> None:
    assert warned(send()) == []


def test_the_value_of_one_transaction() -> None:
    assert warned(send(), valueUsd="999.99") == [("LARGE_VALUE", 0)]
    assert warned(send(), valueUsd="1000") == []  # it is not above


def test_an_old_price_is_told_once() -> None:
    assert warned(send(), send(item="b"), age_ms=3_601_000) == [("STALE_PRICE", 0)]
    assert warned(send(), age_ms=3_600_000) == []


def test_a_call_of_nothing() -> None:
    assert warned(send(noCode=True, method="f()")) == [("NO_CODE", 0)]


def test_a_new_recipient_is_told_once() -> None:
    both = [send(newRecipients=[SHOP]), send(item="b", newRecipients=[SHOP, POOL])]
    assert warned(*both) == [("FIRST_TIME_RECIPIENT", 0), ("FIRST_TIME_RECIPIENT", 1)]


@pytest.mark.parametrize(("got", "codes"), [(970_000_000, []), (969_999_999, [("SLIPPAGE", 0)])])
def test_what_a_swap_loses_by_the_prices(got: int, codes: list[Any]) -> None:
    changes = [
        {"address": ME, "asset": COIN, "delta": str(-5 * 10**17)},
        {"address": ME, "asset": USDC, "delta": str(got)},
        {"address": POOL, "asset": USDC, "delta": str(-got)},
    ]
    assert warned(send(balanceChanges=changes)) == codes


def test_an_approval_without_end_is_told_where_it_is_made_and_not_again() -> None:
    def left(amount: int) -> list[Json]:
        return [{"owner": ME, "spender": ROUTER, "asset": USDC, "amount": str(amount)}]

    made = send(approvals=left(MAX_UINT256), movements=[])
    used = send(item="b", approvals=left(MAX_UINT256 - 5), movements=[])
    assert warned(made, used) == [("UNLIMITED_APPROVAL", 0)]
    assert warned(send(approvals=left(10**30), movements=[])) == []


def test_what_was_not_measured_and_what_was_too_much() -> None:
    lost = send(status="final", measured=False, notMeasured="no such state", blockHash="0x1")
    assert warned(lost) == [("NOT_MEASURED", 0)]
    assert warned(send(unreadBalances=7)) == [("BALANCES_UNREAD", 0)]
