"""A retry: a new run that keeps what succeeded in the old one."""

from __future__ import annotations

from dustrun import clock, ids
from dustrun.core.run.as_of import AsOf
from dustrun.core.run.journal import KEPT_FROM, Execution
from dustrun.core.run.state import Mode, NodeStatus
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.core.workflow.program import Program
from dustrun.services.runs.engine_port import RunFacts
from dustrun.services.runs.start_request import Prepared, RunRequest, first_batch
from dustrun.storage.runs.runs import RunRow


def retry_of(old: RunRow, executions: list[Execution], program: Program, triggered_by: str) -> Prepared:
    """A new run of the same version and payload; succeeded nodes and loops' items keep their results. A simulation
    keeps none: its results belong to the old run's simulated chains, and the retry starts on current state."""
    payload = loads(old.payload)
    facts = RunFacts(
        pk=0,
        id=ids.new_id("run"),
        org_id=old.org_id,
        workflow_id=old.workflow_id,
        workflow_name=old.workflow_name,
        version=old.version,
        mode=Mode(old.mode),
        trigger_node_id=old.trigger_node_id,
        trigger_source="retry",
        prop_values=loads(old.prop_values),
        root_run_id=old.root_run_id,
        concurrency_key=old.concurrency_key,
        started_at=clock.now_ms(),
        triggered_by=triggered_by,
        as_of=AsOf.of(loads_own(old.as_of)) if old.as_of is not None else None,
    )
    fired = next((one for one in executions if one.path == old.trigger_node_id), None)
    seen = fired.result if fired is not None and isinstance(fired.result, dict) else {}
    inbound = RunRequest(headers=seen.get("headers", {}), query=seen.get("query", {}))
    is_assumed = fired is not None and fired.assumed
    batch = first_batch(facts, program, payload, request=inbound, assumed=is_assumed)
    for execution in executions if facts.mode is not Mode.SIMULATE else ():
        kept = _kept(execution, old.id)
        if kept is not None:
            batch.added[(kept.path, 1)] = kept
    request = RunRequest(
        payload=payload, prop_values=facts.prop_values, source="retry", rehearsal_run_id=old.rehearsal_run_id
    )
    return Prepared(
        facts, program, batch, payload, request, triggered_by, definition=old.definition, source_run_id=old.id
    )


def _kept(execution: Execution, run_id: str) -> Execution | None:
    """What a retry keeps of an execution of a run: its result and who had it, or the items of an unfinished loop."""
    kept = Execution(
        path=execution.path,
        node_id=execution.node_id,
        attempt=1,
        status=execution.status,
        branch=execution.branch,
        input=execution.input,
        result=execution.result,
        facts=execution.facts,
        assumed=execution.assumed,
        started_at=execution.started_at,
        finished_at=execution.finished_at,
    )
    # What was skipped is decided anew: it may have come after what failed, and now succeeds.
    if execution.status is NodeStatus.SUCCESS and not (execution.facts and "stop" in execution.facts):
        kept.facts = {KEPT_FROM: run_id, **(execution.facts or {})}
        return kept
    if execution.facts is not None and "items" in execution.facts:
        kept.status, kept.result, kept.branch, kept.finished_at = NodeStatus.RUNNING, None, None, None
        return kept
    return None
