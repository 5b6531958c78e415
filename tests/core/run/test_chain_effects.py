"""The chain part of the report of a run's effects."""

from __future__ import annotations

from typing import Any

from dustrun.core.run import chain_effects
from dustrun.core.run.journal import ReportedExecution
from dustrun.core.run.state import NodeStatus
from dustrun.core.values.amounts import MAX_UINT256

ME, SHOP, ROUTER = "0x" + "a1" * 20, "0x" + "b2" * 20, "0x" + "c3" * 20
NATIVE, USDC = "eip155:1/native", "eip155:1/erc20:0x" + "d4" * 20
ASSETS = {
    NATIVE: {"symbol": "ETH", "decimals": 18, "usd": "2500", "source": "static"},
    USDC: {"symbol": "USDC", "decimals": 6, "usd": None, "source": None},
}


def _transaction(**fields: Any) -> dict[str, Any]:
    return {
        "item": "send",
        "chainId": 1,
        "from": ME,
        "to": SHOP,
        "value": "0",
        "about": "Send",
        "status": "simulated",
        "movements": [],
        "balanceChanges": [],
        "approvals": [],
        **fields,
    }


def _execution(path: str, *transactions: dict[str, Any], assumed: bool = False) -> ReportedExecution:
    facts = {"transactions": list(transactions), "assets": ASSETS}
    return ReportedExecution(
        path,
        path,
        1,
        NodeStatus.SUCCESS,
        facts=facts,
        assumed=assumed,
        started_at=1,
        finished_at=2,
        run_id=f"run_{path}",
    )


def _change(address: str, asset: str, delta: int) -> dict[str, Any]:
    return {"address": address, "asset": asset, "delta": str(delta)}


def test_changes_are_summed_per_address_and_asset_and_priced() -> None:
    first = _transaction(balanceChanges=[_change(ME, NATIVE, -(10**18)), _change(SHOP, NATIVE, 10**18)], fee="21000")
    second = _transaction(balanceChanges=[_change(ME, NATIVE, 4 * 10**17), _change(SHOP, USDC, 5)], fee="1000")
    report = chain_effects.fold([_execution("a", first), _execution("b", second)])
    assert report["balanceChanges"] == [
        {
            "address": ME,
            "asset": NATIVE,
            "amount": "-600000000000000000",
            "amountFormatted": "-0.6",
            "symbol": "ETH",
            "usd": "-1500.000000",
        },
        {"address": SHOP, "asset": USDC, "amount": "5", "amountFormatted": "0.000005", "symbol": "USDC", "usd": None},
        {
            "address": SHOP,
            "asset": NATIVE,
            "amount": "1000000000000000000",
            "amountFormatted": "1",
            "symbol": "ETH",
            "usd": "2500.000000",
        },
    ]
    assert [(fee["address"], fee["amount"]) for fee in report["totalFees"]] == [(ME, "22000")]
    assert report["transactions"][0]["feeUsd"] == "0.000000"


def test_changes_of_what_reverted_do_not_count_but_its_fee_does() -> None:
    reverted = _transaction(status="reverted", balanceChanges=[_change(ME, NATIVE, -5)], fee="7")
    report = chain_effects.fold([_execution("a", reverted)])
    assert report["balanceChanges"] == []
    assert report["totalFees"][0]["amount"] == "7"


def test_the_last_word_on_an_approval_remains_and_zero_is_none() -> None:
    def approval(amount: int) -> dict[str, Any]:
        return {"owner": ME, "spender": ROUTER, "asset": USDC, "amount": str(amount)}

    limited = chain_effects.fold(
        [
            _execution("a", _transaction(approvals=[approval(MAX_UINT256)])),
            _execution("b", _transaction(approvals=[approval(3)])),
        ]
    )
    assert [(item["spender"], item["amount"]) for item in limited["approvals"]] == [(ROUTER, "3")]
    assert [warning["code"] for warning in limited["warnings"]] == ["UNLIMITED_APPROVAL"]
    none = chain_effects.fold([_execution("a", _transaction(approvals=[approval(0)]))])
    assert none["approvals"] == []


def test_a_transaction_on_assumed_values_says_so() -> None:
    report = chain_effects.fold(
        [_execution("a", _transaction(verdict={"outcome": "deny", "reasons": ["no"]}), assumed=True)]
    )
    assert report["transactions"][0]["assumed"] is True
    assert report["policyVerdicts"] == [
        {"runId": "run_a", "nodeId": "a", "path": "a", "item": "send", "outcome": "deny", "reasons": ["no"]}
    ]
