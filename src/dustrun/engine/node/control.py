"""Executes the control nodes: they direct a run and change nothing outside.

What needs the store (variables, calls) is left to do as an `StoreEffect`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dustrun import clock
from dustrun.catalog import Catalog
from dustrun.core.expression import DEFAULT_LIMITS, EvaluationLimits
from dustrun.core.run.journal import ANSWER
from dustrun.core.run.plan import Start
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.values.exact_json import dumps_text
from dustrun.core.workflow.condition import Condition
from dustrun.core.workflow.program import ProgramNode
from dustrun.engine.node.mode import RunMode
from dustrun.engine.node.outcome import ApprovalQuestion, Failed, OpenedLoop, Outcome, Settled, Suspended
from dustrun.engine.node.roots import NodeRoots
from dustrun.engine.node.store_effects import StoreEffect, SubworkflowCall, VariableWrite
from dustrun.engine.node.time_limits import call_until
from dustrun.records import dataclass
from dustrun.settings import Settings

TIMED_OUT = "timed_out"
_MOST_REPORTED = 65_536
"""Characters of an answer's body that reports show; the node's result has it whole."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One control node about to be executed; `payload` is a model of the node's spec, None for `if` and `switch`."""

    start: Start
    node: ProgramNode
    payload: Any
    roots: NodeRoots
    mode: RunMode
    now: int
    settings: Settings
    catalog: Catalog
    limits: EvaluationLimits = DEFAULT_LIMITS

    @property
    def pins(self) -> bool:
        """Whether the pinned result is used."""
        return self.mode.uses_pinned(self.node.node)


def carry_out(scene: Scene) -> Outcome | StoreEffect:
    """Executes one control node: its outcome, or the store effect still to perform."""
    kind = scene.node.node.type
    if scene.pins and kind in _PINNABLE:
        return _pinned(scene)
    return _CARRY_OUT[kind](scene)


def _pinned(scene: Scene) -> Outcome:
    pinned = scene.node.node.pinned
    branch = pinned.get("branch") if scene.node.choices and isinstance(pinned, Mapping) else None
    return Settled(pinned, branch=branch, note={"pinned": True})


def _choose(scene: Scene) -> Outcome:
    """`if` and `switch`: the first test that is true names the branch."""
    branch = scene.node.fallback
    for name, test in scene.node.choices:
        value = test.evaluate(scene.roots, scene.limits)
        if not isinstance(test, Condition) and not isinstance(value, bool):
            return Failed("INVALID_INPUT", f'The test of "{name}" gives {_kind(value)}, not true or false.')
        if value:
            branch = name
            break
    return Settled({"branch": branch}, branch=branch, assumed=scene.roots.assumed)


def _kind(value: Any) -> str:
    names = {type(None): "null", str: "text", int: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _delay(scene: Scene) -> Outcome:
    payload, now = scene.payload, scene.now
    until = now + payload.delay_ms if payload.delay_ms is not None else payload.until_ms()
    result = {"until": clock.to_rfc3339(until), "delayedMs": max(0, until - now)}
    if scene.mode.has_simulated_clock:
        return Settled(result, facts={"clock": until}, assumed=scene.roots.assumed)
    if until <= now:
        return Settled(result)
    return Suspended(until, facts={"result": result})


def _stop(scene: Scene) -> Outcome:
    payload = scene.payload
    status = RunStatus(payload.status)
    result = {"status": payload.status, "message": payload.message}
    return Settled(result, stop=status, facts={"stop": status.value}, assumed=scene.roots.assumed)


def _respond(scene: Scene) -> Outcome:
    """Whether it is the run's first, and so takes effect, is decided where its result is recorded. What is made up
    answers only in a simulation, whose caller knows."""
    payload = scene.payload
    result = {
        "status": payload.status,
        "headers": payload.headers,
        "contentType": payload.media_type,
        "body": payload.body,
        "isEffective": True,
    }
    result = scene.roots.masked(result)
    if scene.mode.changes_outside and (scene.roots.assumed or scene.roots.is_in_assumed_loop):
        unsent = {**result, "headers": {}, "body": None, "isEffective": False}
        return Settled(unsent, assumed=True, note={"dust": "skipped"})
    shown = {name: result[name] for name in ("status", "headers", "contentType")}
    is_long = len(dumps_text(result["body"])) > _MOST_REPORTED
    answer = {**shown, "body": None if is_long else result["body"], "bodyOmitted": is_long}
    return Settled(result, facts={ANSWER: answer}, assumed=scene.roots.assumed)


def _for_each(scene: Scene) -> Outcome:
    payload, settings = scene.payload, scene.settings
    most = min(payload.max_items or settings.max_loop_items, settings.max_loop_items)
    if scene.node.repeat is not None:
        first = [scene.roots.masked(payload.first)]
        return OpenedLoop(first, 1, payload.on_item_error, assumed=scene.roots.assumed, most_items=most)
    items = payload.array
    if not isinstance(items, list):
        return Failed("INVALID_INPUT", f'"array" is {_kind(items)}; a for-each needs a list.')
    if len(items) > most:
        message = f"The loop has {len(items)} items, at most {most} are allowed (maxItems, setting max_loop_items)."
        return Failed("LIMIT", message)
    items = scene.roots.masked(items)
    return OpenedLoop(items, payload.concurrency, payload.on_item_error, assumed=scene.roots.assumed)


# --- waits ---


def resumed(timeout_ms: int, data: Any, source: str) -> dict[str, Any]:
    """The result of a `wait` that someone resumed."""
    return {
        "status": "resumed",
        "branch": "resumed",
        "triggerResult": data,
        "source": source,
        "timeoutMs": timeout_ms,
    }


def decided(message: str, decision: str, by: str | None, comment: str | None, at: int) -> dict[str, Any]:
    """The result of an `approve`."""
    return {
        "decision": decision,
        "branch": decision,
        "message": message,
        "by": by,
        "comment": comment,
        "decidedAt": clock.to_rfc3339(at),
    }


def _wait(scene: Scene) -> Outcome:
    payload = scene.payload
    late = {
        "status": TIMED_OUT,
        "branch": TIMED_OUT,
        "triggerResult": None,
        "source": None,
        "timeoutMs": payload.timeout_ms,
    }
    if scene.mode.has_simulated_clock:
        return _simulate_wait(scene, late)
    facts = {"wait": {"timeoutMs": payload.timeout_ms}, "result": late, "branch": TIMED_OUT}
    return Suspended(scene.now + payload.timeout_ms, facts, answerable=True)


def _simulate_wait(scene: Scene, late: dict[str, Any]) -> Outcome:
    """A simulation does not wait: it takes the pinned result, else the trigger's example, else it ends here."""
    payload, node = scene.payload, scene.node.node
    if node.is_pinned:
        if _names_branch(node.pinned, ("resumed", TIMED_OUT)) == TIMED_OUT:
            return Settled(late, branch=TIMED_OUT, facts=_later(scene), note={"pinned": True})
        data = node.pinned
        if _names_branch(data, ("resumed",)):
            data = data.get("triggerResult")
        return Settled(resumed(payload.timeout_ms, data, "pinned"), branch="resumed", note={"pinned": True})
    if payload.trigger_type is not None:
        example = scene.catalog.triggers[payload.trigger_type].example_output["body"]
        return Settled(resumed(payload.timeout_ms, example, "example"), branch="resumed", assumed=True)
    result = {"status": "waiting", "branch": None, "triggerResult": None, "source": None}
    note = {"simulationEnds": "Nobody resumes a simulated wait: pin what the resume would bring to go on."}
    facts = {"stop": RunStatus.PARTIAL.value}
    return Settled(
        {**result, "timeoutMs": payload.timeout_ms},
        status=NodeStatus.PARTIAL,
        stop=RunStatus.PARTIAL,
        facts=facts,
        note=note,
    )


def _names_branch(pinned: Any, branches: tuple[str, ...]) -> str | None:
    """The branch that a pinned result names; None when it is only the data of a resume."""
    if not isinstance(pinned, Mapping):
        return None
    named = pinned.get("branch", pinned.get("status"))
    return named if named in branches else None


def _later(scene: Scene) -> dict[str, Any]:
    """The facts that advance the simulated clock by the whole wait."""
    return {"clock": scene.now + scene.payload.timeout_ms}


def _approve(scene: Scene) -> Outcome:
    payload, now = scene.payload, scene.now
    until = now + payload.timeout_ms
    late = decided(payload.message, TIMED_OUT, None, None, until)
    if scene.mode.has_simulated_clock:
        return _simulate_approve(scene, late)
    facts = {"approve": {"message": payload.message}, "result": late, "branch": TIMED_OUT}
    return Suspended(
        until, facts, answerable=True, asked=ApprovalQuestion(payload.message, payload.approvers, payload.allow_starter)
    )


def _simulate_approve(scene: Scene, late: dict[str, Any]) -> Outcome:
    node, message = scene.node.node, scene.payload.message
    if not node.is_pinned:
        result = decided(message, "approved", None, None, scene.now)
        return Settled(result, branch="approved", assumed=True)
    pinned = node.pinned
    decision = pinned.get("decision", pinned.get("branch")) if isinstance(pinned, Mapping) else pinned
    if decision not in ("approved", "rejected", TIMED_OUT):
        message = 'The pinned result of an approve is "approved", "rejected" or "timed_out", or has it as `decision`.'
        return Failed("INVALID_INPUT", message)
    if decision == TIMED_OUT:
        return Settled(late, branch=TIMED_OUT, facts=_later(scene), note={"pinned": True})
    comment = pinned.get("comment") if isinstance(pinned, Mapping) else None
    result = decided(message, decision, "pinned", comment, scene.now)
    return Settled(result, branch=decision, note={"pinned": True})


# --- calls and variables ---


def _call(scene: Scene) -> StoreEffect:
    payload, roots = scene.payload, scene.roots
    return SubworkflowCall(
        start=scene.start,
        workflow_id=payload.workflow_id,
        version=payload.version,
        payload=roots.masked(payload.payload),
        prop_values=roots.masked(payload.prop_values),
        waits=payload.mode == "wait",
        assumed=roots.assumed or roots.is_in_assumed_loop,
        at=scene.now,
        until=None if scene.mode.has_simulated_clock else call_until(scene.node, scene.now),
        is_simulated=scene.mode.has_simulated_chains,
    )


def _write_variable(scene: Scene) -> Outcome | StoreEffect:
    node, payload = scene.node.node, scene.payload
    op = "set" if node.type == "set-variable" else "increment"
    value = payload.value if op == "set" else payload.by
    result = {"name": payload.name, "value": value, "previous": None}
    assumed = scene.roots.assumed or scene.roots.is_in_assumed_loop
    settled = scene.mode.write_variable(node, result, assumed=assumed)
    if settled is not None:
        return settled
    return VariableWrite(
        start=scene.start,
        name=payload.name,
        op=op,
        value=value,
        scope=payload.scope,
        assumed=scene.roots.assumed,
        at=scene.now,
        pinned=node.pinned if scene.pins else None,
        pins=scene.pins,
    )


def _read_variable(scene: Scene) -> Outcome:
    payload, roots = scene.payload, scene.roots
    seen = roots.variables.get(payload.name)
    if seen is None:
        return Settled({"name": payload.name, "value": payload.default, "exists": False}, assumed=roots.assumed)
    value = payload.default if seen.value is None else seen.value
    result = {"name": payload.name, "value": value, "exists": True}
    return Settled(result, assumed=roots.assumed or seen.assumed)


_CARRY_OUT: dict[str, Callable[[Scene], Outcome | StoreEffect]] = {
    "if": _choose,
    "switch": _choose,
    "delay": _delay,
    "stop": _stop,
    "respond": _respond,
    "for-each": _for_each,
    "wait": _wait,
    "approve": _approve,
    "call-workflow": _call,
    "set-variable": _write_variable,
    "increment-variable": _write_variable,
    "get-variable": _read_variable,
}
# `wait` and `approve` interpret their pinned value themselves; a variable is written to its overlay first.
_PINNABLE = frozenset({"if", "switch", "delay", "for-each", "call-workflow", "get-variable"})
