"""Turns signals into outcomes of waiting nodes: a resume, a decision, the end of a called run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dustrun.core.run.assumptions import ASSUMED_CHILD
from dustrun.core.run.journal import Execution, Journal
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.values.exact_json import loads_own
from dustrun.core.values.weight import is_large
from dustrun.core.workflow.program import Program
from dustrun.engine.node import control
from dustrun.engine.node.outcome import Failed, Outcome, Settled
from dustrun.engine.node.store_effects import started
from dustrun.storage.runs.runs import Signal

N = NodeStatus
_TOO_LARGE = (
    "The results of the called run {} have more than {} bytes, the most that are kept (setting max_result_bytes)."
)


def outcome_of(signal: Signal, execution: Execution) -> Outcome | None:
    """The outcome of a waiting node for a signal, or of an uncertain one that happened; None when the signal is for
    another kind of wait, or says that nothing happened."""
    facts, answer = execution.facts or {}, loads_own(signal.data)
    if signal.kind == "resolve":
        happened = answer["outcome"] == "happened"
        return Settled(answer.get("result"), note={"resolvedBy": answer["by"]}) if happened else None
    if signal.kind == "resume" and "wait" in facts:
        result = control.resumed(facts["wait"]["timeoutMs"], answer["data"], answer["source"])
        return Settled(result, branch="resumed", note={"resumedBy": answer["by"]})
    if signal.kind == "resume" and "approve" in facts:
        data = answer["data"]
        message = facts["approve"]["message"]
        result = control.decided(message, data["decision"], answer["by"], data.get("comment"), answer["at"])
        return Settled(result, branch=data["decision"], note={"resumedBy": answer["by"]})
    if signal.kind == "child" and "child" in facts and facts["child"]["runId"] == answer["runId"]:
        return _called(facts["child"], answer)
    return None


def _called(child: Mapping[str, Any], answer: Mapping[str, Any]) -> Outcome:
    """The outcome of a calling node when its called run has ended."""
    status = RunStatus(answer["status"])
    facts = {"child": dict(child)}
    if child["mode"] == "start":  # only a simulation waits for such a call
        facts |= {} if answer["passed"] else ASSUMED_CHILD
        return Settled(started(child), assumed=bool(child["assumed"] or not answer["passed"]), facts=facts)
    if answer.get("clock") is not None and child["simulated"]:
        facts["clock"] = answer["clock"]
    if status in (RunStatus.SUCCESS, RunStatus.PARTIAL):
        if "most" in answer:
            return Failed("LIMIT", _TOO_LARGE.format(answer["runId"], answer["most"]), facts=facts)
        result = {name: answer[name] for name in ("runId", "status", "result", "results")}
        result = {"runId": result.pop("runId"), "workflowId": child["workflowId"], **result}
        decisive, shown = bool(answer.get("assumed")), bool(answer.get("hasAssumedResult"))
        facts |= ASSUMED_CHILD if decisive else {}
        return Settled(result, status=N(status.value), assumed=child["assumed"] or decisive or shown, facts=facts)
    error = answer.get("error") or {}
    why = f": {error['message']}" if error.get("message") else "."
    code = "CHILD_CANCELLED" if status is RunStatus.CANCELLED else "CHILD_FAILED"
    details = [{"field": "runId", "message": answer["runId"]}]
    ended = "was cancelled" if status is RunStatus.CANCELLED else "failed"
    return Failed(code, f"The called run {answer['runId']} {ended}{why}", details=details, facts=facts)


def child_result(
    run_id: str, program: Program, journal: Journal, ending: Mapping[str, Any], most_bytes: int
) -> dict[str, Any]:
    """The signal of a called run to its caller: how it ended, and the results of its last nodes. `assumed`: an
    important part of it depends on an assumed value; `hasAssumedResult`: one of the results does. `most`: in place of
    results that have more than `most_bytes` bytes for certain, which a node cannot keep.
    """
    leaves = journal.list_last(program.graph)
    results = {node_id: execution.result for node_id, execution in leaves.items()}
    only = next(iter(results.values())) if len(results) == 1 else None
    has_assumed = any(execution.assumed for execution in leaves.values())
    if is_large(results, most_bytes // 2):  # each unit has two bytes of JSON at least
        return {"runId": run_id, **ending, "most": most_bytes, "hasAssumedResult": has_assumed}
    return {"runId": run_id, **ending, "result": only, "results": results, "hasAssumedResult": has_assumed}
