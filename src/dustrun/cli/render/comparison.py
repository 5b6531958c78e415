"""Renders a comparison of two runs: the response of `/v1/runs/{id}/compare/{otherId}`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dustrun.cli.render.wording import Names, usd

Json = Mapping[str, Any]
_MODES = {"simulate": "simulation", "dust": "dust test", "live": "live run"}

_RANKS = {"course": 0, "money": 1, "detail": 2}
_CELLS = ("what", "left", "right", "change")
_DETAILS = 4
_WIDEST = 44
_UNKNOWN = ("NOT_MEASURED", "NOT_WATCHED", "OTHERS_IN_BLOCK")


def draw(found: Json) -> list[RenderableType]:
    """Renders the verdict, the differences by node, the estimates, and what was not compared."""
    names = Names(found.get("names") or {})
    drawn: list[RenderableType] = [_verdict(found), *_sides(found)]
    differences = found["differences"]
    if differences:
        drawn += [Text(), _differences(differences, _labels(found), names)]
    if found["estimates"]:
        drawn += [Text(), _estimates(found)]
    if found["notes"]:
        texts = (f"{one['path']}: {one['message']}" if one["path"] else one["message"] for one in found["notes"])
        drawn += [Text(), Text("Notes", style="bold cyan"), *_listed(texts, names)]
    return drawn


def _listed(messages: Iterable[str], names: Names) -> list[RenderableType]:
    return [Text(f"  {names.inside(message)}") for message in messages]


def _verdict(found: Json) -> Text:
    count = len(found["differences"])
    if not count and any(note["code"] in _UNKNOWN for note in found["notes"]):
        return Text("Same, as far as the runs could be compared: see below.", style="bold yellow")
    if not count:
        return Text("Same: both runs did exactly the same, to the last base unit.", style="bold green")
    return Text(f"Differs: {count} {'difference' if count == 1 else 'differences'}.", style="bold yellow")


def _sides(found: Json) -> list[RenderableType]:
    return [Text(f"  {_MODES.get(run['mode'], run['mode'])} {run['id']}: {run['status']}{_version(run)}, "
                 f"{run['startedAt'][:19].replace('T', ' ')}") for run in (found["left"], found["right"])]  # fmt: skip


def _version(run: Json) -> str:
    return "" if run.get("workflowVersion") is None else f", version {run['workflowVersion']}"


def _labels(found: Json) -> tuple[str, str]:
    left, right = (_MODES.get(found[side]["mode"], "run") for side in ("left", "right"))
    return ("first run", "second run") if left == right else (left, right)


def _differences(differences: list[Json], labels: tuple[str, str], names: Names) -> Table:
    """The differences by node: status, then amounts, then some of the details."""
    table = _table("What differs")
    for name, ratio in (("node", 2), ("what", 4), (labels[0], 4), (labels[1], 4), ("difference", 3)):
        table.add_column(name, header_style="dim", overflow="fold", ratio=ratio)
    for path in dict.fromkeys(one["path"] for one in differences):
        own = sorted((d for d in differences if d["path"] == path), key=lambda d: _RANKS[d["kind"]])
        details = [one for one in own if one["kind"] == "detail"]
        shown = [one for one in own if one["kind"] != "detail"]
        shown += details[: _DETAILS if shown else 2 * _DETAILS]
        for number, one in enumerate(shown):
            texts = [_cell(names.inside(one["shown"][name] or ""), one["kind"]) for name in _CELLS]
            table.add_row(Text("" if number else str(path), style="bold"), *texts)
        hidden = len(own) - len(shown)
        if hidden:
            table.add_row("", Text(f"and {hidden} more; --json shows all", style="dim"))
    return table


def _cell(text: str, kind: str) -> Text:
    if kind == "detail":
        return Text(text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…", style="dim")
    return Text(text)


def _estimates(found: Json) -> Table:
    table = _table("Gas and fees (estimates that change with the block; not counted as differences)")
    labels = _labels(found)
    for name in ("node", "", *(f"gas, {label}" for label in labels), *(f"fee, {label}" for label in labels)):
        table.add_column(name, header_style="dim", overflow="fold", justify="right" if "," in name else "left")
    for one in found["estimates"]:
        gas = [str(one["gasUsed"][side]) for side in ("left", "right")]
        fees = [_fee(one, side) for side in ("left", "right")]
        table.add_row(one["path"], one["item"], *gas, *fees)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))


def _fee(one: Json, side: str) -> str:
    worth = one["feeUsd"][side]
    return f"{one['fee'][side]} base units" if worth is None else usd(worth)
