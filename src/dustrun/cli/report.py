"""Draws what a run did, or would have done, outside: the answer of `/v1/runs/{id}/effects`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from dustrun.cli import chain_report
from dustrun.cli.output import compact


def draw(effects: Mapping[str, Any]) -> list[RenderableType]:
    """The report as tables and lines."""
    is_simulated = effects.get("mode") == "simulate"
    lines: list[RenderableType] = chain_report.draw(effects)
    if effects.get("requests") or not lines:
        lines += _requests(effects.get("requests") or [], is_simulated)
    lines += _section("Table writes", [compact(item, 200) for item in effects.get("tableWrites") or []], "bold")
    lines += _section("Variable writes", [compact(item, 200) for item in effects.get("variableWrites") or []], "bold")
    lines += chain_report.dust(effects)
    if note := (effects.get("dust") or {}).get("note"):
        lines.append(Text(f"Dust: {note}"))
    lines += _section("Assumed", [f"{item['path']}: {item['why']}" for item in effects.get("assumed") or []], "cyan")
    lines += _section("Uncertain", list(effects.get("uncertain") or []), "yellow")
    lines += _section("Warnings", [_warning(item) for item in effects.get("warnings") or []], "yellow")
    return lines


def _requests(requests: list[Mapping[str, Any]], is_simulated: bool) -> list[RenderableType]:
    if not requests:
        return [Text("Nothing would go out." if is_simulated else "Nothing went out.")]
    sent = [item for item in requests if item.get("sent")]
    kept = [item for item in requests if not item.get("sent")]
    lines = _section("Went out", [_request(item) for item in sent], "bold")
    title = "Would go out" if is_simulated else "Did not go out"
    return lines + _section(title, [_request(item) for item in kept], "bold")


def _request(item: Mapping[str, Any]) -> str:
    request = item.get("request")
    if not isinstance(request, Mapping) or "url" not in request:
        return f"{item['path']}: {compact(request, 200)}"
    body = request.get("body")
    told = "" if body is None else f"  {compact(body, 120)}"
    return f"{item['path']}: {request.get('method', 'GET')} {request['url']}{told}"


def _warning(item: Any) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    return f"{item.get('path', '')}: {item.get('message', item.get('code', ''))}"


def _section(title: str, items: list[str], style: str) -> list[RenderableType]:
    return [Text(title, style=style), *(Text(f"  {item}") for item in items)] if items else []
