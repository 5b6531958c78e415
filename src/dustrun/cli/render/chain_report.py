"""Renders the chain part of a run's effects report: payments, fees, remaining approvals, policy decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dustrun.cli.render.wording import Names, amount, short, short_hash, signed, usd

Json = Mapping[str, Any]
STATES = {
    "simulated": ("would succeed", "green"),
    "rejected": ("would be rejected", "red"),
    "reverted": ("reverted", "red"),
    "notSimulable": ("not simulated", "yellow"),
    "planned": ("not signed yet", "yellow"),
    "signed": ("signed", "yellow"),
    "sent": ("sent", "yellow"),
    "mined": ("in a block", "cyan"),
    "final": ("confirmed", "green"),
    "cancelled": ("cancelled", "magenta"),
    "displaced": ("displaced: check it", "red"),
    "refused": ("refused", "red"),
}


def draw(effects: Json) -> list[RenderableType]:
    """Renders the chain part as tables and lines; nothing for a run without spends."""
    transactions, is_simulated = effects.get("transactions"), effects.get("mode") == "simulate"
    names = Names(effects.get("names") or {})
    signed = _signed(effects.get("signatures") or (), names, is_simulated)
    if not transactions:
        return signed[1:]
    drawn: list[RenderableType] = [_transactions(transactions, names, is_simulated)]
    if effects.get("balanceChanges"):
        drawn += [Text(), _changes(effects["balanceChanges"], names)]
    drawn += _lines("Network fees", [_fee_of(fee, names) for fee in effects.get("totalFees", ())])
    drawn += signed
    drawn += _lines("Still approved", [_approval(item, names) for item in effects.get("approvals", ())], "yellow")
    notable = [_verdict(item, names) for item in effects.get("policyVerdicts", ()) if _is_notable(item)]
    drawn += _lines("Policy", notable, "yellow")
    return drawn


def _signed(signatures: Iterable[Json], names: Names, is_simulated: bool) -> list[RenderableType]:
    """Lists the signatures that others may use."""
    lines = [names.inside(f"{one['path']}: {one['about']}{_refused(one)}") for one in signatures]
    return _lines("Would sign" if is_simulated else "Signed", lines)


def _refused(signature: Json) -> str:
    return "" if signature["status"] in ("signed", "notSigned") else f" ({signature['status']})"


def dust(effects: Json) -> list[RenderableType]:
    """Lists the amounts that a dust run scaled."""
    assets = effects.get("assets") or {}
    scaled = (effects.get("dust") or {}).get("scaled") or []
    return _lines("Scaled to dust", [_scaled(entry, assets) for entry in scaled])[1:]


def _transactions(transactions: list[Json], names: Names, is_simulated: bool) -> Table:
    table = _table("Transactions, in order")
    table.add_column("", header_style="dim", no_wrap=True)
    table.add_column("node", header_style="dim", overflow="fold")
    table.add_column("what it does", header_style="dim", overflow="fold", ratio=3)
    table.add_column("worth", header_style="dim", justify="right", no_wrap=True)
    table.add_column("fee", header_style="dim", justify="right", no_wrap=True)
    text = "if it were sent" if is_simulated else "outcome"
    table.add_column(text, header_style="dim", overflow="fold", ratio=2)
    for number, transaction in enumerate(transactions, 1):
        what = Text(names.inside(transaction["about"]))
        if transaction.get("assumed"):
            what.append(" (on assumed values)", style="cyan")
        numbers = (_worth(transaction), _fee(transaction))
        table.add_row(str(number), str(transaction["path"]), what, *numbers, outcome(transaction, names))
    return table


def _worth(transaction: Json) -> str:
    """The amount that the transaction sends, or else the allowance that it grants."""
    kinds = {movement["kind"] for movement in transaction["movements"]}
    kind = "send" if "send" in kinds else "approve"
    moved = [movement for movement in transaction["movements"] if movement["kind"] == kind]
    worths = [movement.get("usd") for movement in moved]
    if not worths or None in worths or any(int(movement["amount"]) >= 2**255 for movement in moved):
        return "" if not worths else "?"
    return usd(sum(Decimal(str(worth)) for worth in worths))


def _fee(transaction: Json) -> str:
    if transaction.get("feeUsd") is not None:
        return usd(transaction["feeUsd"])
    return "" if transaction.get("fee") is None else str(transaction["fee"])


def outcome(transaction: Json, names: Names) -> Text:
    """A transaction's outcome, or its expected outcome in a simulation."""
    text, style = STATES.get(transaction["status"], (str(transaction["status"]), ""))
    if transaction["status"] == "reverted" and not transaction.get("hash"):
        text = "would revert"
    revert, error = transaction.get("revert") or {}, transaction.get("error") or {}
    why = revert.get("text") or transaction.get("rejected") or error.get("message")
    if why:
        text += f": {names.inside(why)}"
    if transaction.get("hash"):
        text += f" {short_hash(transaction['hash'])}"
    return Text(text, style=style)


def _changes(changes: list[Json], names: Names) -> Table:
    """Balance changes by address, the organisation's own wallets first."""
    table = _table("Balance changes (without network fees)")
    table.add_column("who", header_style="dim", overflow="fold")
    table.add_column("change", header_style="dim", justify="right")
    table.add_column("worth", header_style="dim", justify="right")
    table.add_column("", header_style="dim", overflow="fold")
    seen: set[str] = set()
    for change in sorted(changes, key=lambda change: (not names.is_own(change["address"]), change["address"])):
        who = change["address"]
        is_own, is_loss = names.is_own(who), str(change["amount"]).startswith("-")
        text = "" if who in seen else _who(who, names)
        seen.add(who)
        style = ("red" if is_loss else "green") if is_own else ""
        remark = "includes other transactions in its block" if change.get("shared") else ""
        worth = "" if change.get("usd") is None else usd(change["usd"])
        table.add_row(Text(text, style="bold" if is_own else ""), Text(signed(change), style=style), worth, remark)
    return table


def _who(address: str, names: Names) -> str:
    return f"{names.full(address)} (your wallet)" if names.is_own(address) else names.full(address)


def _fee_of(fee: Json, names: Names) -> str:
    return f"{names.of(fee['address'])} pays {amount(fee)}"


def _approval(item: Json, names: Names) -> str:
    return f"{names.full(item['spender'])} may take {amount(item)} from {names.of(item['owner'])}"


def _is_notable(verdict: Json) -> bool:
    return str(verdict.get("outcome", "")).lower() != "allow"


_OUTCOMES = {"deny": "refused by policy", "ask": "needs a person's approval"}


def _verdict(item: Json, names: Names) -> str:
    reasons = "; ".join(str(r.get("message", r)) if isinstance(r, Mapping) else str(r) for r in item.get("reasons", ()))
    outcome = str(item.get("outcome"))
    return names.inside(f"{item['path']}: {_OUTCOMES.get(outcome.lower(), outcome)}: {reasons}")


def _scaled(entry: Json, assets: Json) -> str:
    coin = (assets.get(entry["asset"]) or {}).get("symbol") or short(entry["asset"].rpartition(":")[2])
    price = entry.get("price") or {}
    text = f"{entry['path']}: {entry['field']} {entry['originalFormatted']} becomes {entry['dustFormatted']} {coin}"
    worth = "" if entry.get("usd") is None else f" ({usd(entry['usd'])}, price by {price.get('source', 'the node')})"
    return f"{text}{worth}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))


def _lines(title: str, items: Iterable[str], style: str = "") -> list[RenderableType]:
    lines = [Text(f"  {item}") for item in items]
    return [Text(), Text(title, style=f"bold {style}"), *lines] if lines else []
