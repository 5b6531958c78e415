"""The chain part of a run's report: transactions, balance changes, approvals, fees and verdicts, in the same shape for
simulated and sent transactions.

A spending node execution stores `transactions` (see `services/preview/spend_reports.py`), `assets`, the facts known of
each asset at that time (`{key: {symbol, decimals, usd, source, ageMs}}`), and `limits`, the warning thresholds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

from dustrun.core.run import balances
from dustrun.core.run.balances import TransactionGroup
from dustrun.core.run.journal import ReportedExecution
from dustrun.core.run.state import NodeStatus
from dustrun.core.values.amounts import MAX_UINT256, format_units, tell_usd
from dustrun.records import dataclass

# Warnings about a run's transactions. Each has a code, the node, the transaction and a sentence.


_UNLIMITED = MAX_UINT256 // 2


@dataclass(frozen=True, slots=True)
class WarningThresholds:
    """Warning thresholds."""

    value_usd: Decimal
    slippage_percent: Decimal
    price_age_s: int

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> WarningThresholds:
        """The thresholds stored with the facts."""
        return cls(
            Decimal(shown.get("valueUsd", "1000")),
            Decimal(shown.get("slippagePercent", "3")),
            int(shown.get("priceAgeS", 86_400)),
        )


def warn(
    raw: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
    groups: Iterable[TransactionGroup],
    known: Mapping[str, Json],
    limits: WarningThresholds,
) -> list[Json]:
    """All warnings in the order of the transactions; `raw` are the stored facts of the transactions `shown`."""
    by_place = {place: group for group in groups for place in group.members}
    found: list[Json] = []
    said: set[tuple[str, str]] = set()  # a warning about the whole run is given once, at its first transaction
    for place, (facts, transaction) in enumerate(zip(raw, shown, strict=True)):
        about = {name: transaction[name] for name in ("runId", "nodeId", "path", "item")}
        about["transaction"] = place
        for code, message, once in _of_one(facts, transaction, by_place.get(place), known, limits):
            if (code, once) not in said:
                found.append({"code": code, **about, "message": message})
            if once:
                said.add((code, once))
    return found


def warn_of_signatures(signatures: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Signed unlimited approvals: whoever has the signature can use it."""
    return [
        {
            "code": "UNLIMITED_APPROVAL",
            **{name: signature[name] for name in ("runId", "nodeId", "path", "item")},
            "message": f"A signature lets {m['counterparty']} spend any amount of {m.get('symbol') or m['asset']}.",
        }
        for signature in signatures
        for m in signature["movements"]
        if m["kind"] == "approve" and int(m["amount"]) > _UNLIMITED
    ]


_Warning = tuple[str, str, str]  # code, message, and the key by which it is given only once (or "")


def _of_one(
    facts: Mapping[str, Any],
    shown: Mapping[str, Any],
    group: TransactionGroup | None,
    known: Mapping[str, Json],
    limits: WarningThresholds,
) -> Iterator[_Warning]:
    for warning in facts.get("warnings", ()):
        yield warning["code"], warning["message"], ""
    yield from _unlimited(shown)
    for who in facts.get("newRecipients", ()):
        yield "FIRST_TIME_RECIPIENT", f"This wallet pays {who} for the first time.", who
    yield from _value(shown, limits)
    yield from _slippage(shown, limits)
    for key in sorted({movement["asset"] for movement in shown["movements"]}):
        yield from _stale(key, known.get(key), limits)
    if facts.get("noCode"):
        yield "NO_CODE", f"{shown['to']} has no contract code: the call succeeds and does nothing.", ""
    if facts.get("unreadBalances"):
        yield (
            "BALANCES_UNREAD",
            (f"{facts['unreadBalances']} balances and approvals were not read, because there are too many."),
            "",
        )
    yield from _measured(facts, group)


def _unlimited(shown: Mapping[str, Any]) -> Iterator[_Warning]:
    asked = {(m["counterparty"], m["asset"]): m for m in shown["movements"] if m["kind"] == "approve"}
    left = {(a["spender"], a["asset"]): a for a in shown["approvals"]}
    for (spender, asset), one in {**asked, **left}.items():
        if int(one["amount"]) > _UNLIMITED:
            message = f"{spender} may spend any amount of {one.get('symbol') or one['asset']}."
            yield "UNLIMITED_APPROVAL", message, f"{spender} {asset}"


def _value(shown: Mapping[str, Any], limits: WarningThresholds) -> Iterator[_Warning]:
    worths = [Decimal(m["usd"]) for m in shown["movements"] if m["kind"] == "send" and m["usd"] is not None]
    if sum(worths) > limits.value_usd:
        yield (
            "LARGE_VALUE",
            f"It moves {tell_usd(sum(worths, Decimal(0)))}, more than {tell_usd(limits.value_usd)}.",
            "",
        )


def _slippage(shown: Mapping[str, Any], limits: WarningThresholds) -> Iterator[_Warning]:
    """The sender's gain or loss: what it gave against what it received, at the prices known then."""
    if shown.get("sharesBlock"):
        return
    own = [change for change in shown["balanceChanges"] if change["address"] == shown["from"]]
    gave = [change["usd"] for change in own if change["amount"].startswith("-")]
    got = [change["usd"] for change in own if not change["amount"].startswith("-")]
    if not gave or not got or None in (*gave, *got):
        return
    spent, came = -sum(map(Decimal, gave), Decimal(0)), sum(map(Decimal, got), Decimal(0))
    lost = (spent - came) / spent * 100 if spent else Decimal(0)
    if lost > limits.slippage_percent:
        message = (
            f"At the known prices it gives {tell_usd(spent)} and receives {tell_usd(came)}: a loss of {lost:.1f} %."
        )
        yield "SLIPPAGE", message, ""


def _stale(key: str, asset: Mapping[str, Any] | None, limits: WarningThresholds) -> Iterator[_Warning]:
    age_s = (asset or {}).get("ageMs", 0) // 1000
    if asset is not None and age_s > limits.price_age_s:
        name = asset.get("symbol") or key
        yield "STALE_PRICE", f"The price of {name} ({asset['source']}) is {age_s} s old, so its worth is a guess.", key


def _measured(facts: Mapping[str, Any], group: TransactionGroup | None) -> Iterator[_Warning]:
    if facts.get("measured") is False:
        yield "NOT_MEASURED", f"Its balance changes were not measured: {facts['notMeasured']}.", ""
    if group is not None and group.others:
        whose = ", ".join(sorted({address for address, _ in group.others}))
        message = f"Other transactions of block {facts.get('blockNumber')} are included in the changes of {whose}."
        yield "OTHERS_IN_BLOCK", message, str(facts.get("blockHash"))


Json = dict[str, Any]
_WIDE = Context(prec=120)
_CENT_PARTS = Decimal("0.000001")
_INNER = ("block", "newRecipients", "noCode", "plannedAt")


def fold(executions: Iterable[ReportedExecution], apart: Collection[str] = ()) -> Json:
    """Builds the chain part of the report from executions in start order. `apart` are the ids of transactions that
    belong to earlier runs of the retry chain and are left out.
    """
    executions = list(executions)
    spending = [execution for execution in executions if _spends(execution)]
    known = _known_assets(executions)
    signatures = _signatures(executions, known)
    facts = [found for found in raw(spending) if found[1].get("id") not in apart]
    groups = balances.group([transaction for _, transaction in facts])
    by_place = {place: found for found in groups for place in found.members}
    shown = [
        _transaction(execution, transaction, by_place.get(place), known)
        for place, (execution, transaction) in enumerate(facts)
    ]
    limits = WarningThresholds.of(next((e.facts["limits"] for e in spending if e.facts and "limits" in e.facts), {}))
    fees = _fees(shown, known)
    return {
        "transactions": shown,
        "balanceChanges": _balance_changes(groups, known),
        "approvals": _approvals(shown),
        "policyVerdicts": [
            {**{name: t[name] for name in ("runId", "nodeId", "path", "item")}, **t["verdict"]}
            for t in (*shown, *signatures)
            if t.get("verdict")
        ],
        "signatures": signatures,
        "totalFees": fees,
        "totalFeesUsd": _sum_usd(fees),
        "assets": known,
        "warnings": [*warn([t for _, t in facts], shown, groups, known, limits), *warn_of_signatures(signatures)],
    }


def _spends(execution: ReportedExecution) -> bool:
    return bool(execution.facts and execution.facts.get("transactions"))


def raw(executions: Iterable[ReportedExecution]) -> list[tuple[ReportedExecution, Mapping[str, Any]]]:
    """Each transaction with its node, as its newest attempt reports it: one that is pending or done when an attempt
    ends belongs to the next attempt too.
    """
    found: dict[Any, tuple[ReportedExecution, Mapping[str, Any]]] = {}
    for execution in filter(_spends, executions):
        for place, transaction in enumerate((execution.facts or {})["transactions"]):
            key = transaction.get("id") or _simulated_key(execution, transaction, place)
            if transaction["status"] == "planned" and execution.status is NodeStatus.CANCELLED:
                transaction = {**transaction, "status": "cancelled"}  # dropped together with its run
            found[key] = (execution, transaction)
    return list(found.values())


def _simulated_key(execution: ReportedExecution, transaction: Mapping[str, Any], place: int) -> tuple[Any, ...]:
    """A simulated transaction has its own block; one that failed has none and belongs to its attempt alone."""
    if transaction["status"] == "simulated" and transaction.get("blockNumber") is not None:
        return (execution.path, transaction["item"], transaction["chainId"], transaction["blockNumber"])
    return (execution.run_id, execution.path, execution.attempt, place)


def _signatures(executions: Iterable[ReportedExecution], known: Mapping[str, Json]) -> list[Json]:
    """The signatures that were made, or would be, for others to use."""
    return [
        {
            **execution.place,
            **signature,
            "movements": [{**m, **amount(int(m["amount"]), m["asset"], known)} for m in signature["movements"]],
        }
        for execution in executions
        for signature in (execution.facts or {}).get("signatures", ())
    ]


def usd_of(units: int, asset: Mapping[str, Any] | None) -> str | None:
    """The worth of base units, rounded to a millionth of a dollar; None when the asset has no price."""
    if asset is None or asset.get("usd") is None or asset.get("decimals") is None:
        return None
    worth = _WIDE.multiply(_WIDE.scaleb(Decimal(units), -asset["decimals"]), Decimal(asset["usd"]))
    # plus 0: what rounds to nothing has no sign
    return f"{_WIDE.add(_WIDE.quantize(worth, _CENT_PARTS), 0):f}" if abs(worth) < Decimal(10) ** 60 else f"{worth:f}"


def _sum_usd(amounts: Iterable[Mapping[str, Any]]) -> str | None:
    """The sum in dollars; None when one of them is not priced."""
    worths = [amount["usd"] for amount in amounts]
    return None if None in worths else f"{sum((Decimal(worth) for worth in worths), Decimal(0)):f}"


def _known_assets(executions: Iterable[ReportedExecution]) -> dict[str, Json]:
    known: dict[str, Json] = {}
    for execution in executions:
        known.update((execution.facts or {}).get("assets", {}))
    return known


def amount(units: int, key: str, known: Mapping[str, Json]) -> Json:
    """An amount as the report shows it, with symbol and worth where known."""
    asset = known.get(key)
    shown: Json = {"asset": key, "amount": str(units)}
    if asset is not None and asset.get("decimals") is not None:
        shown["amountFormatted"] = format_units(units, asset["decimals"])
    if asset is not None and asset.get("symbol"):
        shown["symbol"] = asset["symbol"]
    shown["usd"] = usd_of(units, asset)
    return shown


def _transaction(
    execution: ReportedExecution,
    transaction: Mapping[str, Any],
    group: TransactionGroup | None,
    known: Mapping[str, Json],
) -> Json:
    plain = {name: value for name, value in transaction.items() if name not in _INNER}
    shown: Json = {**execution.place, "attempt": execution.attempt, **plain}
    shown["movements"] = [
        {**movement, **amount(int(movement["amount"]), movement["asset"], known)}
        for movement in transaction.get("movements", ())
    ]
    shown["balanceChanges"] = _changes_of(group, known)
    if group is not None and len(group.members) > 1:
        shown["sharesBlock"] = True
    shown["approvals"] = [
        {**approval, **amount(int(approval["amount"]), approval["asset"], known)}
        for approval in transaction.get("approvals", ())
    ]
    shown.setdefault("events", [])
    if group is not None:
        shown["measured"] = group.unmeasured is None
    if transaction.get("fee") is not None:
        shown["feeUsd"] = usd_of(int(transaction["fee"]), known.get(f"eip155:{transaction['chainId']}/native"))
    if execution.assumed:
        shown["assumed"] = True
    return shown


def _changes_of(group: TransactionGroup | None, known: Mapping[str, Json]) -> list[Json]:
    changes = group.changes if group is not None else {}
    return [{"address": who, **amount(units, asset, known)} for (who, asset), units in changes.items()]


def _balance_changes(groups: Sequence[TransactionGroup], known: Mapping[str, Json]) -> list[Json]:
    """Sums per address and asset over all transactions, gas fees excluded; `shared` where another party's transaction
    of the same block may contribute.
    """
    shared = {pair for found in groups for pair in found.others}
    return [
        {"address": who, **amount(units, asset, known), **({"shared": True} if (who, asset) in shared else {})}
        for (who, asset), units in balances.total(groups).items()
    ]


def _approvals(transactions: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The approvals left at the end: the last value per (owner, spender, asset), zeros omitted."""
    last: dict[tuple[str, str, str], Json] = {}
    for transaction in transactions:
        for approval in transaction["approvals"] if balances.happened(transaction) else ():
            last[(approval["owner"], approval["spender"], approval["asset"])] = dict(approval)
    return [approval for _, approval in sorted(last.items()) if int(approval["amount"])]


def _fees(transactions: Iterable[Mapping[str, Any]], known: Mapping[str, Json]) -> list[Json]:
    """Gas fees per payer and chain, including reverted transactions."""
    sums: dict[tuple[str, str], int] = {}
    for transaction in transactions:
        if transaction.get("fee") is not None:
            key = (transaction["from"], f"eip155:{transaction['chainId']}/native")
            sums[key] = sums.get(key, 0) + int(transaction["fee"])
    return [{"address": address, **amount(units, asset, known)} for (address, asset), units in sorted(sums.items())]
