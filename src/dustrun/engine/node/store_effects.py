"""Control nodes that write to the store: set a variable, start another workflow.

A store effect is short and never interrupted; repeating it after a crash has the same result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from dustrun.core.run.journal import ASSUMED_CHILD
from dustrun.core.run.plan import Start
from dustrun.core.workflow.definition import Definition
from dustrun.engine.node.context import idempotency_key
from dustrun.engine.node.outcome import Outcome, Settled, Suspended, of_error
from dustrun.errors import DustrunError, StoreUnavailable, Temporary, Uncertain
from dustrun.records import dataclass
from dustrun.services.data.variables import VariableRequest, Variables
from dustrun.services.runs.engine_port import Child, ChildCall, RunFacts

_TRIES_S = (0.1, 0.5, 1.0, 2.0, 4.0)


class StartChild(Protocol):
    """Starts called runs."""

    async def __call__(self, parent: RunFacts, call: ChildCall) -> Child:
        """Starts one, or finds the one that the same call started earlier."""
        ...


@dataclass(frozen=True, slots=True)
class VariableWrite:
    """`set-variable` or `increment-variable`."""

    start: Start
    name: str
    op: str
    value: Any
    scope: str | None
    assumed: bool
    at: int
    pinned: Any
    pins: bool


@dataclass(frozen=True, slots=True)
class SubworkflowCall:
    """`call-workflow`."""

    start: Start
    workflow_id: str
    version: int | None
    payload: dict[str, Any]
    prop_values: dict[str, Any]
    waits: bool
    assumed: bool
    at: int
    until: int | None
    is_simulated: bool


StoreEffect = VariableWrite | SubworkflowCall


async def run(
    effect: StoreEffect, facts: RunFacts, definition: Definition, variables: Variables, start_child: StartChild
) -> Outcome:
    """Performs the effect; raises `Temporary` when nothing was done and a retry may succeed."""
    try:
        if isinstance(effect, VariableWrite):
            return await _write(effect, facts, definition, variables)
        return await _call(effect, facts, start_child)
    except Temporary:
        raise
    except Uncertain as error:
        raise Temporary(error.message) from error  # repeating it has the same result
    except DustrunError as error:
        return of_error(error)


async def run_patiently(
    effect: StoreEffect, facts: RunFacts, definition: Definition, variables: Variables, start_child: StartChild
) -> Outcome:
    """`run`, repeated for about 8 s while the server is busy; then a failure, which the node's `retry` may repeat. One
    that may have happened is repeated until that is known."""
    pauses, is_unknown = iter(_TRIES_S), False
    while True:
        try:
            return await run(effect, facts, definition, variables, start_child)
        except Temporary as error:
            is_away = isinstance(error, StoreUnavailable)  # else the store has answered, or another process has the run
            is_unknown = isinstance(error.__cause__, Uncertain) or (is_unknown and is_away)
            pause_s = next(pauses, _TRIES_S[-1] if is_unknown else None)
            if pause_s is None:
                return of_error(error)
        await asyncio.sleep(pause_s)


async def _write(effect: VariableWrite, facts: RunFacts, definition: Definition, variables: Variables) -> Outcome:
    request = VariableRequest(
        name=effect.name,
        op=effect.op,
        value=effect.value,
        scope=effect.scope,
        path=effect.start.path,
        key=idempotency_key(facts.org_id, facts.root_run_id, effect.start.path),
        assumed=effect.assumed,
        at=effect.at,
    )
    written = await variables.write_for(facts, definition, request)
    shown = {
        "name": effect.name,
        "op": effect.op,
        "scope": written.scope,
        "oldValue": written.previous,
        "newValue": written.value,
    }
    result = {"name": effect.name, "value": written.value, "previous": written.previous}
    return Settled(
        effect.pinned if effect.pins else result,
        assumed=effect.assumed and not effect.pins,
        facts={"variable": shown},
        note={"pinned": True} if effect.pins else None,
    )


async def _call(effect: SubworkflowCall, facts: RunFacts, start_child: StartChild) -> Outcome:
    waits = effect.waits or effect.is_simulated  # runs that share simulated chains are simulated one after the other
    call = ChildCall(
        path=effect.start.path,
        attempt=effect.start.attempt,
        workflow_id=effect.workflow_id,
        version=effect.version,
        payload=effect.payload,
        prop_values=effect.prop_values,
        waits=waits,
        is_assumed=effect.assumed,
        at=effect.at,
    )
    child = await start_child(facts, call)
    shown = {"runId": child.run_id, "workflowId": child.workflow_id, "mode": "wait" if effect.waits else "start"}
    if not waits:
        facts_of_call = {"child": shown} | (ASSUMED_CHILD if effect.assumed else {})
        return Settled(started(shown), assumed=effect.assumed, facts=facts_of_call)
    known = {**shown, "pk": child.pk, "assumed": effect.assumed, "simulated": effect.is_simulated}
    return Suspended(effect.until, {"child": known}, answerable=True)


def started(child: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a `call-workflow` that does not wait."""
    result: dict[str, Any] = {"runId": child["runId"], "workflowId": child["workflowId"]}
    return result | {"status": "started", "result": None, "results": {}}
