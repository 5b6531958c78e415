"""Several runs of one workflow in one table: payments, fees, remaining approvals, what was not sent or was assumed.

The input is responses of `/v1/runs/{id}/effects`. A line is one effect of at least one run, matched with the other runs
by node and parties; a run without it has a dash there. Amounts that are too long end in `…`; the reports have all
digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dustrun.cli.render.chain_report import STATES
from dustrun.cli.render.flows import flows_of
from dustrun.cli.render.output import status_style
from dustrun.cli.render.wording import UNLIMITED, Names, request_outcome, symbol, usd
from dustrun.records import dataclass

Json = Mapping[str, Any]
WIDTH: Final = 100  # the width that the table needs; on a narrower terminal cells wrap
_LONGEST, _CELL = 10, 20
_MOVED: Final = ("simulated", "mined", "final")
_NOTHING: Final = Text("–", style="dim")
_OUTCOMES: Final = {"sent": "green", "would send": "cyan", "not sent": "cyan", "may have arrived": "yellow"}
_MODES: Final = {"simulate": "simulated", "dust": "dust, about a cent", "live": "live"}
_VERDICTS: Final = {"allow": "allowed", "deny": "denied", "ask": "asked for approval"}


@dataclass(slots=True)
class _Line:
    """One effect of a node, with a cell for each run that has it."""

    path: str
    label: str
    cells: dict[int, Text] = field(default_factory=dict)


def draw(reports: Sequence[Json], called: Mapping[str, str] | None = None) -> list[RenderableType]:
    """Renders the table and the warnings; names in `called` override those of the reports."""
    known = {address: named for report in reports for address, named in (report.get("names") or {}).items()}
    names = Names({**known, **{address: {"name": name} for address, name in (called or {}).items()}})
    table = Table(box=box.HORIZONTALS, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), border_style="dim")
    table.add_column(Text("node", style="bold"), overflow="fold", style="bold")
    table.add_column(overflow="fold")
    for report in reports:
        table.add_column(_heading(report), min_width=_LONGEST + 1, max_width=_CELL, overflow="fold")
    previous = None
    for line in _lines(reports, names):
        cells = [line.cells.get(place, _NOTHING) for place in range(len(reports))]
        table.add_row("" if line.path == previous else line.path, line.label, *cells)
        previous = line.path
    table.add_section()
    for label, texts, style in _sums(reports, names):
        table.add_row("", label, *(Text(text, style=style) if text else _NOTHING for text in texts))
    return [table, *_warnings(reports, names)]


def _heading(report: Json) -> Text:
    mode, status = str(report.get("mode")), str(report.get("status", ""))
    heading = Text(_MODES.get(mode, mode), style="bold")
    return heading.append(f"\n{status}", style=f"not bold {status_style(status)}".strip()) if status else heading


class _Lines:
    """The table's lines, in order of first appearance."""

    def __init__(self) -> None:
        self.found: dict[Any, _Line] = {}

    def put(self, place: int, path: str, key: Any, label: str, cell: Text) -> None:
        """Fills the run's cell; an effect that occurs again in one run (a retry, a loop) gets another line."""
        number = 1
        while place in self.found.setdefault((path, key, number), _Line(path, label)).cells:
            number += 1
        self.found[(path, key, number)].cells[place] = cell


def _lines(reports: Sequence[Json], names: Names) -> Iterable[_Line]:
    lines = _Lines()
    for place, report in enumerate(reports):
        for transaction in report.get("transactions") or ():
            _tell_transaction(lines, place, transaction, names)
        _tell_others(lines, place, report)
    paths = list(dict.fromkeys(line.path for line in lines.found.values()))
    return sorted(lines.found.values(), key=lambda line: paths.index(line.path))


def _tell_transaction(lines: _Lines, place: int, transaction: Json, names: Names) -> None:
    """Adds a transaction's payments; if it did not succeed, its outcome takes the place of the amounts."""
    path, item = str(transaction["path"]), transaction["item"]
    text, style = STATES.get(transaction["status"], (str(transaction["status"]), ""))
    outcome = None if transaction["status"] in _MOVED else Text(text, style=style)
    moves = list(_moves(transaction, names))
    for key, label, amount in moves:
        lines.put(place, path, (item, key), label, outcome.copy() if outcome is not None else _amount(amount))
    if outcome is not None and not moves:
        lines.put(place, path, (item, "outcome"), str(item), outcome)


def _moves(transaction: Json, names: Names) -> Iterator[tuple[Any, str, Json]]:
    """Yields key, label and amount of each approval and payment."""
    for movement in transaction.get("movements") or ():
        if movement["kind"] == "approve":
            key = ("approve", movement["counterparty"], movement["asset"])
            yield key, f"{names.of(movement['counterparty'])} may take {symbol(movement)}", movement
    for flow in flows_of(transaction):
        parties = [names.of(party) for party in (flow.payer, flow.payee) if party]
        alone = "" if len(parties) == 2 else " gives" if flow.payer else " gets"
        yield flow.key, f"{' → '.join(parties)}{alone}  {symbol(flow.amount)}", flow.amount


def _tell_others(lines: _Lines, place: int, report: Json) -> None:
    assumed = {item["path"] for item in report.get("assumed") or ()}
    for item in report.get("requests") or ():
        outcome = request_outcome(item, is_simulated=report.get("mode") == "simulate")
        cell = Text(outcome, style=_OUTCOMES.get(outcome, "red"))
        lines.put(place, item["path"], "request", _request(item), cell)
        if item["path"] in assumed:
            cell.append(", assumed")
    for kind, label in (("variableWrites", "writes a variable"), ("tableWrites", "writes to a table")):
        for item in report.get(kind) or ():
            cell = Text("written", style="green") if item.get("written") else Text("not written", style="cyan")
            lines.put(place, item["path"], kind, label, cell)
    for item in report.get("children") or ():
        lines.put(
            place, item["path"], "child", "calls a workflow", Text(item["status"], style=status_style(item["status"]))
        )


def _request(item: Json) -> str:
    request = item.get("request")
    if not isinstance(request, Mapping) or not request.get("url"):
        return str(item.get("action", "request"))
    return f"{request.get('method', 'GET')} {urlsplit(str(request['url'])).netloc}"


def _sums(reports: Sequence[Json], names: Names) -> list[tuple[str, list[str], str]]:
    """Yields the rows that every run has: label, texts, style."""
    ways: list[tuple[str, Callable[[Json], str], str]] = [
        ("network fees", _fees, ""),
        ("remains approved", lambda report: _approved(report, names), "yellow"),
        ("was not sent", _kept, "cyan"),
        ("was assumed", lambda report: _paths(report.get("assumed")), "cyan"),
        ("is uncertain", lambda report: ", ".join(report.get("uncertain") or ()), "red"),
        ("warnings", lambda report: _paths(report.get("warnings")), "yellow"),
        ("policy", _policy, ""),
    ]
    lines = [(label, [tell(report) for report in reports], style) for label, tell, style in ways]
    return [line for line in lines if line[0] not in ("is uncertain", "policy") or any(line[1])]


def _paths(items: Any) -> str:
    return ", ".join(dict.fromkeys(str(item.get("path") or "the run") for item in items or ()))


def _fees(report: Json) -> str:
    fees = report.get("totalFees") or ()
    if any(fee.get("usd") is None for fee in fees):
        return ", ".join(f"{_digits(fee)} {symbol(fee)}" for fee in fees)
    return usd(sum((Decimal(fee["usd"]) for fee in fees), Decimal(0))) if fees else ""


def _approved(report: Json, names: Names) -> str:
    return ", ".join(
        f"{names.of(item['spender'])} may take {_digits(item)} {symbol(item)}" for item in report.get("approvals") or ()
    )


def _kept(report: Json) -> str:
    """The unsent: a simulation's transactions, and requests."""
    number = sum(item["status"] in ("simulated", "rejected") for item in report.get("transactions") or ())
    transactions = f"{number} transaction{'' if number == 1 else 's'}" if number else ""
    requests = _paths([item for item in report.get("requests") or () if not item.get("sent")])
    return ", ".join(part for part in (transactions, requests) if part)


def _policy(report: Json) -> str:
    outcomes = Counter(str(item.get("outcome")).lower() for item in report.get("policyVerdicts") or ())
    return ", ".join(f"{number} {_VERDICTS.get(outcome, outcome)}" for outcome, number in outcomes.items())


def _warnings(reports: Sequence[Json], names: Names) -> list[RenderableType]:
    """Yields each warning once, with the modes in which it occurred."""
    modes: dict[str, dict[str, None]] = {}
    for report in reports:
        for item in report.get("warnings") or ():
            text = f"{item.get('path') or 'the run'}: {item.get('message', item.get('code', ''))}"
            modes.setdefault(names.inside(text), {})[str(report.get("mode"))] = None
    return [Text(f"Warning ({', '.join(found)}): {text}", style="yellow") for text, found in modes.items()]


def _amount(item: Json) -> Text:
    digits, worth = _digits(item), "" if item.get("usd") is None else usd(item["usd"])
    if worth:
        worth = f"{worth:>{max(_CELL - len(digits), len(worth) + 1)}}"
    return Text(digits).append(worth, style="dim")


def _digits(item: Json) -> str:
    """Formats an amount in at most 10 characters: in full, else truncated with `…`, else in powers of ten."""
    if abs(int(item["amount"])) >= UNLIMITED:
        return "any amount"
    number = str(item["amountFormatted"] if item.get("amountFormatted") is not None else item["amount"])
    if len(number) <= _LONGEST:
        return number
    cut = number[: _LONGEST - 1]
    if "." in cut and len(cut.replace(".", "").lstrip("-0")) >= 2:
        return f"{cut}…"
    return f"≈{Decimal(number):.2e}"
