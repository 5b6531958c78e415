"""Payments of one transaction, from its balance changes, or from what was requested if those are unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dustrun.records import dataclass

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Flow:
    """One payment; `payer` or `payee` is None if balance changes of several accounts cannot be matched up."""

    payer: str | None
    payee: str | None
    amount: Json

    @property
    def key(self) -> tuple[str | None, str | None, str]:
        """The key that finds the same payment in another run."""
        return self.payer, self.payee, self.amount["asset"]


def flows_of(transaction: Json) -> list[Flow]:
    """The payments of a transaction, in the order of its balance changes."""
    by_asset: dict[str, list[Json]] = {}
    for change in transaction.get("balanceChanges") or ():
        by_asset.setdefault(change["asset"], []).append(change)
    if by_asset:
        return [flow for changes in by_asset.values() for flow in _of_asset(changes)]
    sender = transaction.get("from")
    sends = [item for item in transaction.get("movements") or () if item["kind"] == "send"]
    return [Flow(sender, item["counterparty"], item) for item in sends]


def _of_asset(changes: list[Json]) -> Iterator[Flow]:
    """If one payer or one payee accounts for the sum: one flow per counterparty. Otherwise one flow per account."""
    paid = [change for change in changes if int(change["amount"]) < 0]
    got = [change for change in changes if int(change["amount"]) > 0]
    agrees = sum(int(change["amount"]) for change in changes) == 0
    if agrees and len(paid) == 1:
        yield from (Flow(paid[0]["address"], change["address"], change) for change in got)
    elif agrees and len(got) == 1:
        yield from (Flow(change["address"], got[0]["address"], _turned(change)) for change in paid)
    else:
        yield from (Flow(change["address"], None, _turned(change)) for change in paid)
        yield from (Flow(None, change["address"], change) for change in got)


def _turned(change: Json) -> Json:
    """The absolute amount."""
    texts = ("amount", "amountFormatted", "usd")
    return {**change, **{name: str(change[name]).removeprefix("-") for name in texts if change.get(name) is not None}}
