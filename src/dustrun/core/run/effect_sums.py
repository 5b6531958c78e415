"""Adds up the effects of several runs: what all events of a day, or of a back-test, would have done together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal, Inexact
from typing import Any

from dustrun.core.values.amounts import format_units

_WIDE = Context(prec=400, traps=[Inexact])
Json = dict[str, Any]


class EffectSums:
    """Running sums over effects reports (`core/run/effects.py`), which are added one by one and not kept."""

    def __init__(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._warnings: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()
        self._balances: dict[tuple[str, str], Json] = {}
        self._fees: dict[tuple[str, str], Json] = {}

    def add(self, report: Mapping[str, Any]) -> None:
        """Adds one report."""
        self._statuses[report["status"]] += 1
        for name in ("transactions", "signatures", "requests", "variableWrites", "tableWrites"):
            self._counts[name] += len(report[name])
        self._warnings.update(one["code"] for one in report["warnings"])
        self._verdicts.update(one["outcome"] for one in report["policyVerdicts"])
        _add_all(self._balances, report["balanceChanges"], report["assets"])
        _add_all(self._fees, report["totalFees"], report["assets"])

    def public(self) -> Json:
        """The sums as JSON. Dollars are null where one of the added amounts had no price."""
        fees: Decimal | None = Decimal(0)
        for one in self._fees.values():
            fees = None if fees is None or one["usd"] is None else _WIDE.add(fees, one["usd"])
        return {
            "runs": self._statuses.total(),
            "byStatus": dict(self._statuses),
            **{name: self._counts[name] for name in ("transactions", "signatures", "requests")},
            **{name: self._counts[name] for name in ("variableWrites", "tableWrites")},
            "verdicts": dict(self._verdicts),
            "warnings": dict(self._warnings),
            "balanceChanges": [_shown(one) for one in self._balances.values() if one["amount"]],
            "totalFees": [_shown(one) for one in self._fees.values()],
            "totalFeesUsd": None if fees is None else str(fees),
        }


def _add_all(
    sums: dict[tuple[str, str], Json], entries: Iterable[Mapping[str, Any]], assets: Mapping[str, Mapping[str, Any]]
) -> None:
    for entry in entries:
        asset = entry["asset"]
        known = {"address": entry["address"], "asset": asset, "decimals": None, "symbol": entry.get("symbol")}
        kept = sums.setdefault((entry["address"], asset), known | {"amount": 0, "usd": Decimal(0)})
        kept["amount"] += int(entry["amount"])
        kept["usd"] = _plus(kept["usd"], entry["usd"])
        if kept["decimals"] is None:
            kept["decimals"] = assets.get(asset, {}).get("decimals")


def _plus(sum_usd: Decimal | None, usd: str | None) -> Decimal | None:
    return None if sum_usd is None or usd is None else _WIDE.add(sum_usd, Decimal(usd))


def _shown(one: Json) -> Json:
    decimals, units = one["decimals"], one["amount"]
    return {
        "address": one["address"],
        "asset": one["asset"],
        "symbol": one["symbol"],
        "amount": str(units),
        "amountFormatted": None if decimals is None else format_units(units, decimals),
        "usd": None if one["usd"] is None else str(one["usd"]),
    }
