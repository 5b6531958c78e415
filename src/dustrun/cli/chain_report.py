"""Draws the chain part of a run's report: who pays what to whom, fees, what remains approved, what policy said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

Json = Mapping[str, Any]
STATES = {
    "simulated": ("would succeed", "green"),
    "rejected": ("would be rejected", "red"),
    "reverted": ("reverted", "red"),
    "planned": ("not signed yet", "yellow"),
    "signed": ("signed", "yellow"),
    "sent": ("sent", "yellow"),
    "mined": ("in a block", "cyan"),
    "final": ("confirmed", "green"),
    "cancelled": ("cancelled", "magenta"),
    "displaced": ("displaced: look at it", "red"),
    "refused": ("refused", "red"),
}


def draw(effects: Json) -> list[RenderableType]:
    """The chain part as tables and lines; nothing for a run that spends nothing."""
    if not effects.get("transactions"):
        return []
    drawn: list[RenderableType] = [_transactions(effects["transactions"])]
    if effects.get("balanceChanges"):
        drawn.append(_changes(effects["balanceChanges"]))
    drawn += _lines("Fees", [f"{short(fee['address'])} pays {amount(fee)}" for fee in effects.get("totalFees", ())])
    drawn += _lines("Remains approved", [_approval(item) for item in effects.get("approvals", ())], "yellow")
    drawn += _lines(
        "Policy", [_verdict(item) for item in effects.get("policyVerdicts", ()) if _is_notable(item)], "yellow"
    )
    return drawn


def dust(effects: Json) -> list[RenderableType]:
    """What a dust run scaled."""
    scaled = (effects.get("dust") or {}).get("scaled") or []
    return list(_lines("Scaled to dust", [_scaled(entry) for entry in scaled]))


def short(address: Any) -> str:
    """An address as people compare it."""
    text = str(address)
    return f"{text[:6]}…{text[-4:]}" if text.startswith("0x") and len(text) == 42 else text


def amount(item: Json) -> str:
    """An amount with its symbol and its worth."""
    number = item.get("amountFormatted")
    text = f"{number if number is not None else item['amount']} {symbol(item)}"
    if number is None:
        text += " (base units)"
    return text if item.get("usd") is None else f"{text} (${_cents(item['usd'])})"


def symbol(item: Json) -> str:
    """What an amount is of: its symbol, else its key."""
    if item.get("symbol"):
        return str(item["symbol"])
    key = str(item["asset"])
    return short(key.rpartition(":")[2]) if "erc20" in key else key


def _cents(usd: str) -> str:
    """US dollars with cents; small sums with all their digits."""
    whole, _, part = usd.partition(".")
    if whole.lstrip("-") != "0" or not part.strip("0"):
        return f"{whole}.{part[:2]:0<2}" if part else whole
    return f"{whole}.{part.rstrip('0')}"


def _transactions(transactions: list[Json]) -> Table:
    table = Table(title="Transactions", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("", "node", "what", "moves", "to", "fee", "outcome"):
        table.add_column(name, overflow="fold", header_style="dim")
    for number, transaction in enumerate(transactions, 1):
        moves = [amount(movement) for movement in transaction["movements"] if movement["kind"] == "send"]
        to = sorted({short(m["counterparty"]) for m in transaction["movements"]}) or [short(transaction["to"])]
        table.add_row(
            str(number),
            str(transaction["path"]),
            str(transaction["about"]),
            "\n".join(moves),
            "\n".join(to),
            _fee(transaction),
            _outcome(transaction),
        )
    return table


def _fee(transaction: Json) -> str:
    if transaction.get("feeUsd") is not None:
        return f"${_cents(transaction['feeUsd'])}"
    return "" if transaction.get("fee") is None else str(transaction["fee"])


def _outcome(transaction: Json) -> Text:
    told, style = STATES.get(transaction["status"], (str(transaction["status"]), ""))
    revert = transaction.get("revert") or transaction.get("error")
    if revert:
        told += f": {revert.get('message') or revert.get('text') or revert.get('reason') or ''}"
    if transaction.get("assumed"):
        told += " (on assumed values)"
    if transaction.get("hash"):
        told += f" {short_hash(transaction['hash'])}"
    return Text(told, style=style)


def short_hash(hash: Any) -> str:
    """A transaction's hash as people compare it."""
    return f"{str(hash)[:10]}…"


def _changes(changes: list[Json]) -> Table:
    table = Table(title="Balances", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("address", "change"):
        table.add_column(name, overflow="fold", header_style="dim")
    for change in changes:
        is_loss = str(change["amount"]).startswith("-")
        table.add_row(
            short(change["address"]), Text(("" if is_loss else "+") + amount(change), style="" if is_loss else "green")
        )
    return table


def _approval(item: Json) -> str:
    return f"{short(item['spender'])} may take {amount(item)} of {short(item['owner'])}"


def _is_notable(verdict: Json) -> bool:
    return str(verdict.get("outcome", "")).lower() != "allow"


def _verdict(item: Json) -> str:
    reasons = "; ".join(str(r.get("message", r)) if isinstance(r, Mapping) else str(r) for r in item.get("reasons", ()))
    return f"{item['path']}: {item.get('outcome')}: {reasons}"


def _scaled(entry: Json) -> str:
    source = f", price from {entry['source']}" if entry.get("source") else ""
    return f"{entry['path']}: {entry.get('original')} → {entry.get('dust')} {entry.get('symbol') or ''}{source}"


def _lines(title: str, items: list[str], style: str = "") -> list[RenderableType]:
    return [Text(title, style=f"bold {style}"), *(Text(f"  {item}") for item in items)] if items else []
