"""Renders a run's progress: a live tree on a terminal, one line per event elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.text import Text
from rich.tree import Tree

from dustrun.cli.render.output import compact, status_style
from dustrun.cli.render.tree import Branch, NodeView, RunView, nest
from dustrun.core.stream_events import LOG, NODE_PROGRESS

_SIGNS = {
    "running": "●",
    "waiting": "◌",
    "success": "✓",
    "partial": "◐",
    "failure": "✗",
    "retrying": "↻",
    "skipped": "–",
    "cancelled": "⊘",
    "uncertain": "?",
}
_SHOWN_ITEMS = 8
_UNITS = ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s"))
_BUSY = frozenset({"running", "waiting", "retrying", "uncertain", "failure"})


def draw(view: RunView) -> Tree:
    """Renders the run as a tree."""
    tree = Tree(headline(view), guide_style="dim")
    for branch in nest(view.nodes).inside.values():
        _add(tree, branch)
    return tree


def headline(view: RunView) -> Text:
    """The run's status, id, mode and version in one line."""
    text = Text()
    text.append(f"{_SIGNS.get(view.status, '●')} {view.status}", style=f"bold {status_style(view.status)}")
    text.append(f"  {view.run_id}")
    if view.mode != "live":
        text.append(f"  {view.mode}", style="bold cyan")
    if view.version is not None:
        text.append(f"  version {view.version}", style="dim")
    if view.until:
        text.append(f"  until {view.until}{_in_how_long(view.until)}", style="yellow")
    return text


def _add(tree: Tree, branch: Branch) -> None:
    drawn = tree.add(_label(branch))
    inside = list(branch.inside.values())
    hidden = _hidden(inside)
    for child in inside:
        if child.label not in hidden:
            _add(drawn, child)
    if hidden:
        counts = Counter(_worst(child) for child in inside if child.label in hidden)
        text = ", ".join(f"{number} {status}" for status, number in counts.items())
        drawn.add(Text(f"… and {len(hidden)} more: {text}", style="dim"))


def _hidden(inside: list[Branch]) -> set[str]:
    """The items of a long loop to leave out: all but the last few and those that need attention."""
    quiet = [child.label for child in inside if child.label.startswith("[") and _worst(child) not in _BUSY]
    busy = [child.label for child in inside if child.label.startswith("[") and _worst(child) in _BUSY]
    room = max(_SHOWN_ITEMS - len(busy), 1)
    return set(quiet[:-room]) | set(busy[:-_SHOWN_ITEMS])


def _worst(branch: Branch) -> str:
    """The most important status among a branch's nodes."""
    statuses = [branch.node.status] if branch.node else []
    statuses += [_worst(child) for child in branch.inside.values()]
    for status in ("uncertain", "failure", "running", "waiting", "retrying"):
        if status in statuses:
            return status
    return statuses[0] if statuses else "success"


def _label(branch: Branch) -> Text:
    if branch.node is None:
        return Text(branch.label, style="dim")
    return node_line(branch.node, branch.label)


def node_line(node: NodeView, label: str | None = None) -> Text:
    """A node's status, type, attempt, duration and result in one line."""
    text = Text()
    text.append(f"{_SIGNS.get(node.status, '●')} ", style=status_style(node.status) or "yellow")
    text.append(label or node.path, style="bold")
    if node.type:
        text.append(f"  {node.type}", style="dim")
    if node.attempt > 1:
        text.append(f"  attempt {node.attempt}", style="yellow")
    seconds = node.seconds
    if seconds is not None and node.status != "skipped":
        text.append(f"  {seconds:.3f} s" if seconds < 10 else f"  {seconds:.0f} s", style="dim")
    text.append(_what(node))
    if node.remark:
        text.append(f"  [{node.remark}]", style="cyan")
    for line in node.logs:
        text.append(f"\n  {compact(line, 160)}", style="italic dim")
    return text


def _what(node: NodeView) -> Text:
    if node.error is not None:
        code, message = node.error.get("code", "error"), node.error.get("message", "")
        again = f"; next attempt at {node.wake_at}" if node.status == "retrying" and node.wake_at else ""
        return Text(f"  {code}: {compact(message, 200)}{again}", style=status_style(node.status) or "yellow")
    if node.status == "waiting" and node.wake_at:
        return Text(f"  until {node.wake_at}{_in_how_long(node.wake_at)}", style="yellow")
    if node.status == "running" and node.progress:
        return Text(f"  {node.progress}", style="cyan")
    if node.branch is not None:
        return Text(f"  → {node.branch}", style="cyan")
    if node.has_result and node.status in ("success", "partial"):
        return Text(f"  {compact(_gist(node.result), 80)}", style="dim")
    return Text("")


def _gist(result: Any) -> Any:
    """The part of a result worth showing: for an HTTP response, status and body."""
    if isinstance(result, dict) and {"status", "headers", "body"} <= result.keys():
        return f"{result['status']} {compact(result['body'])}"
    return result


def _in_how_long(moment: str) -> str:
    try:
        seconds = (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()
    except ValueError:
        return ""
    if seconds <= 0:
        return ""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= 2 * size or size == 1)
    return f" (in {seconds / size:.0f} {unit})"


def event_line(event: Mapping[str, Any], view: RunView) -> Text | None:
    """One event as one line, for output that is not a terminal; None if it adds nothing."""
    kind = event["type"]
    if kind in (LOG, NODE_PROGRESS):
        return Text(f"  {event.get('path', '')}: {event.get('message', '')}")
    if kind.startswith("run_"):
        return headline(view)
    node = view.nodes.get(event.get("path", ""))
    return None if node is None else _without_logs(node)


def _without_logs(node: NodeView) -> Text:
    return node_line(node).split("\n")[0]
