"""Warnings about a run's transactions. Each has a code, the node, the transaction and a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from dustrun.core.run.balances import Group
from dustrun.core.values.amounts import MAX_UINT256, tell_usd
from dustrun.records import dataclass

Json = dict[str, Any]
_UNLIMITED = MAX_UINT256 // 2


@dataclass(frozen=True, slots=True)
class Limits:
    """Warning thresholds."""

    value_usd: Decimal
    slippage_percent: Decimal
    price_age_s: int

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> Limits:
        """The thresholds stored with the facts."""
        return cls(
            Decimal(shown.get("valueUsd", "1000")),
            Decimal(shown.get("slippagePercent", "3")),
            int(shown.get("priceAgeS", 86_400)),
        )


def warn(
    raw: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
    groups: Iterable[Group],
    known: Mapping[str, Json],
    limits: Limits,
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
    group: Group | None,
    known: Mapping[str, Json],
    limits: Limits,
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


def _value(shown: Mapping[str, Any], limits: Limits) -> Iterator[_Warning]:
    worths = [Decimal(m["usd"]) for m in shown["movements"] if m["kind"] == "send" and m["usd"] is not None]
    if sum(worths) > limits.value_usd:
        yield (
            "LARGE_VALUE",
            f"It moves {tell_usd(sum(worths, Decimal(0)))}, more than {tell_usd(limits.value_usd)}.",
            "",
        )


def _slippage(shown: Mapping[str, Any], limits: Limits) -> Iterator[_Warning]:
    """What the sender gave against what it received, at the prices known then."""
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


def _stale(key: str, asset: Mapping[str, Any] | None, limits: Limits) -> Iterator[_Warning]:
    age_s = (asset or {}).get("ageMs", 0) // 1000
    if asset is not None and age_s > limits.price_age_s:
        name = asset.get("symbol") or key
        yield "STALE_PRICE", f"The price of {name} ({asset['source']}) is {age_s} s old, so its worth is a guess.", key


def _measured(facts: Mapping[str, Any], group: Group | None) -> Iterator[_Warning]:
    if facts.get("measured") is False:
        yield "NOT_MEASURED", f"Its balance changes were not measured: {facts['notMeasured']}.", ""
    if group is not None and group.others:
        whose = ", ".join(sorted({address for address, _ in group.others}))
        message = f"Other transactions of block {facts.get('blockNumber')} are included in the changes of {whose}."
        yield "OTHERS_IN_BLOCK", message, str(facts.get("blockHash"))
