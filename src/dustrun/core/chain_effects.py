"""The chain part of a run's report: transactions, balance changes, approvals, fees, verdicts, in one shape for
transactions that were simulated and those that were sent.

An execution that spends keeps `transactions` (see `services` and `engine` for who fills them) and `assets`, what was
known of each asset then: `{key: {symbol, decimals, usd, source}}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from typing import Any

from dustrun.core.amounts import MAX_UINT256, format_units
from dustrun.core.journal import Execution

Json = dict[str, Any]
_WIDE = Context(prec=120)
_CENT_PARTS = Decimal("0.000001")
_UNLIMITED = MAX_UINT256 // 2


def fold(executions: Iterable[Execution]) -> Json:
    """The chain part of the report, of executions in the order of their start."""
    spending = [execution for execution in executions if execution.facts and execution.facts.get("transactions")]
    known = _known_assets(spending)
    shown = [
        _transaction(execution, transaction, known)
        for execution in spending
        for transaction in (execution.facts or {})["transactions"]
    ]
    return {
        "transactions": shown,
        "balanceChanges": _balance_changes(shown, known),
        "approvals": _approvals(shown),
        "policyVerdicts": [
            {"nodeId": t["nodeId"], "path": t["path"], "item": t["item"], **t["verdict"]}
            for t in shown
            if t.get("verdict")
        ],
        "totalFees": _fees(shown, known),
        "warnings": [{"path": t["path"], "item": t["item"], **w} for t in shown for w in _warnings(t)],
    }


def usd_of(units: int, asset: Mapping[str, Any] | None) -> str | None:
    """What base units are worth, rounded to a millionth of a dollar; None when nobody prices the asset."""
    if asset is None or asset.get("usd") is None or asset.get("decimals") is None:
        return None
    worth = _WIDE.multiply(_WIDE.scaleb(Decimal(units), -asset["decimals"]), Decimal(asset["usd"]))
    return f"{_WIDE.quantize(worth, _CENT_PARTS):f}" if abs(worth) < Decimal(10) ** 60 else f"{worth:f}"


def _known_assets(executions: Iterable[Execution]) -> dict[str, Json]:
    known: dict[str, Json] = {}
    for execution in executions:
        known.update((execution.facts or {}).get("assets", {}))
    return known


def _amount(units: int, key: str, known: Mapping[str, Json]) -> Json:
    asset = known.get(key)
    shown: Json = {"asset": key, "amount": str(units)}
    if asset is not None and asset.get("decimals") is not None:
        shown["amountFormatted"] = format_units(units, asset["decimals"])
    if asset is not None and asset.get("symbol"):
        shown["symbol"] = asset["symbol"]
    shown["usd"] = usd_of(units, asset)
    return shown


def _transaction(execution: Execution, transaction: Mapping[str, Any], known: Mapping[str, Json]) -> Json:
    shown: Json = {"nodeId": execution.node_id, "path": execution.path, "attempt": execution.attempt, **transaction}
    shown["movements"] = [
        {**movement, **_amount(int(movement["amount"]), movement["asset"], known)}
        for movement in transaction.get("movements", ())
    ]
    shown["balanceChanges"] = [
        {"address": change["address"], **_amount(int(change["delta"]), change["asset"], known)}
        for change in transaction.get("balanceChanges", ())
    ]
    shown["approvals"] = [
        {**approval, **_amount(int(approval["amount"]), approval["asset"], known)}
        for approval in transaction.get("approvals", ())
    ]
    if transaction.get("fee") is not None:
        shown["feeUsd"] = usd_of(int(transaction["fee"]), known.get(f"eip155:{transaction['chainId']}/native"))
    if execution.assumed:
        shown["assumed"] = True
    return shown


def _counts(transaction: Mapping[str, Any]) -> bool:
    """Whether it happened, in reality or on the simulated chain."""
    return transaction["status"] in ("simulated", "mined", "final", "success")


def _balance_changes(transactions: Iterable[Mapping[str, Any]], known: Mapping[str, Json]) -> list[Json]:
    """Sums per address and asset over all transactions, fees of gas left out."""
    sums: dict[tuple[str, str], int] = {}
    for transaction in transactions:
        for change in transaction["balanceChanges"] if _counts(transaction) else ():
            key = (change["address"], change["asset"])
            sums[key] = sums.get(key, 0) + int(change["amount"])
    return [
        {"address": address, **_amount(units, asset, known)}
        for (address, asset), units in sorted(sums.items())
        if units
    ]


def _approvals(transactions: Iterable[Mapping[str, Any]]) -> list[Json]:
    """What remains approved at the end: the last word on each (owner, spender, asset), zeros left out."""
    last: dict[tuple[str, str, str], Json] = {}
    for transaction in transactions:
        for approval in transaction["approvals"] if _counts(transaction) else ():
            last[(approval["owner"], approval["spender"], approval["asset"])] = dict(approval)
    return [approval for _, approval in sorted(last.items()) if int(approval["amount"])]


def _fees(transactions: Iterable[Mapping[str, Any]], known: Mapping[str, Json]) -> list[Json]:
    """Fees of gas per payer and chain, also of what reverted."""
    sums: dict[tuple[str, str], int] = {}
    for transaction in transactions:
        if transaction.get("fee") is not None:
            key = (transaction["from"], f"eip155:{transaction['chainId']}/native")
            sums[key] = sums.get(key, 0) + int(transaction["fee"])
    return [{"address": address, **_amount(units, asset, known)} for (address, asset), units in sorted(sums.items())]


def _warnings(transaction: Mapping[str, Any]) -> list[Json]:
    found = [dict(warning) for warning in transaction.get("warnings", ())]
    for approval in transaction["approvals"]:
        if int(approval["amount"]) > _UNLIMITED:
            message = f"{approval['spender']} may take any amount of {approval.get('symbol') or approval['asset']}."
            found.append({"code": "UNLIMITED_APPROVAL", "message": message})
    return found
