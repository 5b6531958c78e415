"""Carries out the control nodes: they decide where a run goes and touch nothing outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dustrun import clock
from dustrun.core.condition import Condition
from dustrun.core.program import ProgramNode
from dustrun.core.state import Mode, RunStatus
from dustrun.engine.outcome import Failed, Opened, Outcome, PutDown, Settled
from dustrun.engine.roots import NodeRoots
from dustrun.settings import Settings


def carry_out(node: ProgramNode, payload: Any, roots: NodeRoots, now: int, settings: Settings) -> Outcome:
    """One control node, its templates resolved into `payload` (a model of the node's spec)."""
    return _CARRY_OUT[node.node.type](node, payload, roots, now, settings)


def _choose(node: ProgramNode, _payload: Any, roots: NodeRoots, _now: int, _settings: Settings) -> Outcome:
    """`if` and `switch`: the first test that holds names the branch."""
    branch = node.fallback
    for name, test in node.choices:
        value = test.evaluate(roots)
        if not isinstance(test, Condition) and not isinstance(value, bool):
            return Failed("INVALID_INPUT", f'The test of "{name}" gives {_kind(value)}, not true or false.')
        if value:
            branch = name
            break
    return Settled({"branch": branch}, branch=branch, assumed=roots.assumed)


def _kind(value: Any) -> str:
    names = {type(None): "null", str: "text", int: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _delay(_node: ProgramNode, payload: Any, roots: NodeRoots, now: int, _settings: Settings) -> Outcome:
    until = now + payload.delay_ms if payload.delay_ms is not None else payload.until_ms()
    result = {"until": clock.to_rfc3339(until), "delayedMs": max(0, until - now)}
    if roots.facts.mode is Mode.SIMULATE:
        return Settled(result, facts={"clock": until}, assumed=roots.assumed)
    if until <= now:
        return Settled(result)
    return PutDown(until, facts={"result": result})


def woken(facts: dict[str, Any] | None) -> Outcome:
    """A node that waited for an instant, when the instant has come."""
    return Settled((facts or {}).get("result"))


def _stop(_node: ProgramNode, payload: Any, roots: NodeRoots, _now: int, _settings: Settings) -> Outcome:
    status = RunStatus(payload.status)
    result = {"status": payload.status, "message": payload.message}
    return Settled(result, stop=status, facts={"stop": status.value}, assumed=roots.assumed)


def _for_each(_node: ProgramNode, payload: Any, roots: NodeRoots, _now: int, settings: Settings) -> Outcome:
    items = payload.array
    if not isinstance(items, list):
        return Failed("INVALID_INPUT", f'"array" is {_kind(items)}; a for-each needs a list.')
    most = min(payload.max_items or settings.max_loop_items, settings.max_loop_items)
    if len(items) > most:
        message = f"The loop has {len(items)} items, at most {most} are allowed (maxItems, setting max_loop_items)."
        return Failed("LIMIT", message)
    return Opened(items, payload.concurrency, payload.on_item_error, assumed=roots.assumed)


_CARRY_OUT: dict[str, Callable[[ProgramNode, Any, NodeRoots, int, Settings], Outcome]] = {
    "if": _choose,
    "switch": _choose,
    "delay": _delay,
    "stop": _stop,
    "for-each": _for_each,
}
