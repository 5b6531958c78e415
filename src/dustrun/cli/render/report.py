"""Renders a run's effects, or a simulation's: the response of `/v1/runs/{id}/effects`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from dustrun.cli.render import chain_report
from dustrun.cli.render.output import compact
from dustrun.cli.render.wording import Names, request_outcome


def draw(effects: Mapping[str, Any]) -> list[RenderableType]:
    """Renders the report as tables and lines."""
    is_simulated = effects.get("mode") == "simulate"
    names = Names(effects.get("names") or {})
    chain = chain_report.draw(effects)
    parts = [chain_report.dust(effects)]
    if effects.get("requests") or not chain:
        parts.append(_requests(effects.get("requests") or [], is_simulated, _is_whole(effects)))
    text = "would be made" if is_simulated else "made"
    parts += [
        _section("Answers", [compact(item, 200) for item in effects.get("answers") or []], "bold"),
        _section(f"Table changes {text}", [compact(item, 200) for item in effects.get("tableWrites") or []], "bold"),
        _section(f"Variables {text}", [compact(item, 200) for item in effects.get("variableWrites") or []], "bold"),
        _note((effects.get("dust") or {}).get("note")),
        _section("Assumed", [_assumed(item) for item in effects.get("assumed") or []], "cyan"),
        _section("Uncertain", list(effects.get("uncertain") or []), "yellow"),
        _section("Warnings", [names.inside(_warning(item)) for item in effects.get("warnings") or []], "yellow"),
        _section("Not passed because", [names.inside(_reason(item)) for item in effects.get("notPassed") or []], "red"),
    ]
    head = _head(effects)
    called = _section("Called runs", _called(effects), "yellow")
    shown = [part for part in (head, chain, *parts, called, _earlier(effects)) if part]
    return [line for number, part in enumerate(shown) for line in ([Text(), *part] if number and chain else part)]


def _head(effects: Mapping[str, Any]) -> list[RenderableType]:
    """Describes the run and whether anything was sent."""
    if "runId" not in effects:
        return []
    mode = {"simulate": "Simulation", "dust": "Dust test"}.get(str(effects.get("mode")), "Live run")
    text = Text(f"{mode} {effects['runId']}", style="bold")
    if effects.get("workflowName"):
        text.append(f" of {effects['workflowName']}, version {effects.get('workflowVersion')}", style="not bold")
    text.append(f": {effects['status']}", style="green" if effects["status"] == "success" else "yellow")
    if effects.get("passed") is not None and effects.get("mode") != "live":
        text.append(", passed" if effects["passed"] else ", not passed", style="green" if effects["passed"] else "red")
    lines: list[RenderableType] = [text]
    for chain in effects.get("chains") or []:
        if "simulatedOn" in chain:
            on = chain["simulatedOn"]
            where = f"Simulated at block {on['blockNumber']} of {chain['name']} ({on['strategy']})."
            lines.append(Text(f"{where} Nothing was signed or sent.", style="dim"))
    return lines


def _called(effects: Mapping[str, Any]) -> list[str]:
    """The called runs of which the report does not have everything."""
    told = []
    for child in effects.get("children") or ():
        if child.get("isOpen"):
            told.append(f"{child['path']}: run {child['runId']} has not ended; this is what it did so far")
        elif child.get("isShown") is False:
            told.append(f"{child['path']}: what run {child['runId']} did is not in this report")
    return told


def _earlier(effects: Mapping[str, Any]) -> list[RenderableType]:
    """The effects of a retry chain's earlier runs; they are not in the sums of this run."""
    earlier = effects.get("earlier")
    if not earlier:
        return []
    title = f"Earlier runs of this retry chain ({', '.join(earlier['runIds'])})"
    apart = {"mode": effects.get("mode"), "names": effects.get("names"), **earlier}
    chain = chain_report.draw(apart)
    requests = _requests(earlier["requests"], False) if earlier["requests"] or not chain else []
    return [Text(title, style="bold cyan"), *chain, *requests]


def _note(note: str | None) -> list[RenderableType]:
    return [Text(f"Dust: {note}")] if note else []


def _assumed(item: Mapping[str, Any]) -> str:
    through = ", ".join(item.get("dependsOn") or ())
    return f"{item['path']}: {item['why']}{f' ({through})' if through else ''}"


def _reason(item: Mapping[str, Any]) -> str:
    return f"{item['path']}: {item['message']}" if item.get("path") else str(item["message"])


def _is_whole(effects: Mapping[str, Any]) -> bool:
    """Whether the report has all that called runs did so far."""
    return bool((effects.get("called") or {}).get("isComplete", True))


def _requests(requests: list[Mapping[str, Any]], is_simulated: bool, is_whole: bool = True) -> list[RenderableType]:
    if not requests:
        told = "Nothing would be sent" if is_simulated else "Nothing was sent"
        return [Text(f"{told}." if is_whole else f"{told} by the runs that this report covers.")]
    sent = [item for item in requests if item.get("sent")]
    kept = [item for item in requests if not item.get("sent")]
    lines = _section("Went out", [f"{_request(item)}{_failed(item)}" for item in sent], "bold")
    title = "Would be sent" if is_simulated else "Not sent"
    return lines + _section(title, [_request(item) for item in kept], "bold")


def _request(item: Mapping[str, Any]) -> str:
    request = item.get("request")
    if not isinstance(request, Mapping) or "url" not in request:
        return f"{item['path']}: {compact(request, 200)}"
    body = request.get("body")
    text = "" if body is None else f"  {compact(body, 120)}"
    return f"{item['path']}: {request.get('method', 'GET')} {request['url']}{text}"


def _failed(item: Mapping[str, Any]) -> str:
    outcome = request_outcome(item)
    return "" if outcome == "sent" else f"  ({outcome})"


def _warning(item: Any) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    message = str(item.get("message", item.get("code", "")))
    return f"{item['path']}: {message}" if item.get("path") else message


def _section(title: str, items: list[str], style: str) -> list[RenderableType]:
    return [Text(title, style=style), *(Text(f"  {item}") for item in items)] if items else []
