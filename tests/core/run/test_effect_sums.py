"""Sums over the effects reports of several runs."""

from __future__ import annotations

from typing import Any

from dustrun.core.run.effect_sums import EffectSums

ME, SHOP = "0x" + "11" * 20, "0x" + "22" * 20
COIN, TOKEN = "eip155:1/native", "eip155:1/erc20:0x" + "33" * 20


def report(status: str, changes: list[tuple[str, str, int, str | None]], **more: Any) -> dict[str, Any]:
    return {
        "status": status,
        "transactions": [{}],
        "signatures": [],
        "requests": [],
        "variableWrites": [],
        "tableWrites": [],
        "warnings": [],
        "policyVerdicts": [{"outcome": "allow"}],
        "balanceChanges": [
            {"address": address, "asset": asset, "symbol": None, "amount": str(amount), "usd": usd}
            for address, asset, amount, usd in changes
        ],
        "totalFees": [{"address": ME, "asset": COIN, "symbol": None, "amount": "21", "usd": "0.000021"}],
        "assets": {COIN: {"decimals": 18}, TOKEN: {"decimals": None}},
        **more,
    }


def test_amounts_add_up_per_address_and_asset() -> None:
    sums = EffectSums()
    sums.add(
        report("success", [(ME, COIN, -(10**18), "-3000.5"), (SHOP, COIN, 10**18, "3000.5"), (ME, TOKEN, 5, None)])
    )
    sums.add(report("failure", [(ME, COIN, -(10**30), "-1"), (SHOP, COIN, -(10**18), "-3000.5")]))
    found = sums.public()
    assert found["byStatus"] == {"success": 1, "failure": 1}
    assert (found["runs"], found["transactions"], found["verdicts"]) == (2, 2, {"allow": 2})
    assert [(one["address"], one["amount"], one["amountFormatted"], one["usd"]) for one in found["balanceChanges"]] == [
        (ME, str(-(10**18) - 10**30), "-1000000000001", "-3001.5"),
        (ME, "5", None, None),
    ]
    assert (found["totalFees"][0]["amount"], found["totalFeesUsd"]) == ("42", "0.000042")


def test_a_sum_without_a_price_of_one_of_its_parts_has_no_worth() -> None:
    sums = EffectSums()
    for usd in ("1", None, "2"):
        sums.add(report("success", [(ME, COIN, 1, usd)]))
    assert [(one["amount"], one["usd"]) for one in sums.public()["balanceChanges"]] == [("3", None)]


def test_nothing_added_is_an_empty_sum() -> None:
    found = EffectSums().public()
    assert (found["runs"], found["balanceChanges"], found["totalFeesUsd"]) == (0, [], "0")
