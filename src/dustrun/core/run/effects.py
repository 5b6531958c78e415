"""Folds what a run and the runs that it called did, or would do, into one report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dustrun.core.run import assumptions, chain_effects
from dustrun.core.run.assumptions import References
from dustrun.core.run.journal import ANSWER, ReportedExecution
from dustrun.core.run.state import RUN_OPEN, Mode, NodeStatus, RunStatus
from dustrun.core.workflow.definition import Node
from dustrun.core.workflow.specs import Specs
from dustrun.records import dataclass

Json = dict[str, Any]
_NO_SPEND = "No node spends, so nothing was scaled: every node ran with its own values."
_NOT_SO_FAR = "Nothing was scaled: no spending node has run so far."


@dataclass(frozen=True, slots=True)
class Part:
    """One run's share of a report: the reported run, or one that it called, at any depth.

    `path` is that of the call, empty for the reported run; `caller_id` is the run that called. `is_awaited` is False
    for a run that was only started.
    """

    run_id: str
    path: str
    caller_id: str | None
    status: str
    passed: bool | None
    is_awaited: bool
    executions: Sequence[ReportedExecution]
    nodes: Mapping[str, Node]
    references: References

    @property
    def is_open(self) -> bool:
        """Whether the run has not ended: then there may be more to come."""
        return RunStatus(self.status) in RUN_OPEN


def fold(parts: Sequence[Part], specs: Specs, mode: Mode, apart: Collection[str] = ()) -> Json:
    """The report of runs. `requests` are the write requests in start order; `sent` says whether one left the server.
    `apart` are the ids of transactions that belong to earlier runs of the retry chain.

    The chain part (`core/run/chain_effects.py`) is empty for runs without spending nodes.
    """
    ordered = _in_order(parts)
    chain = chain_effects.fold(ordered, apart)
    chain_warnings = chain.pop("warnings")
    actions = {part.run_id: part.nodes for part in parts}
    report: Json = {
        "mode": mode.value,
        **chain,
        "requests": [_request(one, actions[one.run_id], mode) for one in ordered if _is_write(one)],
        "variableWrites": [_written(one, "variable", mode) for one in ordered if _fact(one, "variable")],
        "tableWrites": [_written(one, "tableWrite", mode) for one in ordered if _fact(one, "tableWrite")],
        "answers": [_answer(one) for one in ordered if _fact(one, ANSWER)],
        "children": _children(ordered, parts),
        "assumed": [
            one
            for part in parts
            for one in assumptions.list_assumed(_by_start(part.executions), part.nodes, specs, part.references)
        ],
        "uncertain": [execution.path for execution in ordered if execution.status is NodeStatus.UNCERTAIN],
        "warnings": [*_warnings(ordered, mode), *chain_warnings],
    }
    if mode is Mode.DUST:
        report["dust"] = _dust(ordered, _why_unscaled(parts, specs))
    return report


def split_earlier(parts: Sequence[Part], earlier: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """The effects of a run itself, and of the `earlier` runs of its retry chain. A result that a retry kept belongs to
    the run that carried it out, also when that run is not among the earlier ones any more.
    """
    known = {part.run_id for part in earlier}
    own, before = [_without_kept(part) for part in parts], [_without_kept(part) for part in earlier]
    for part in parts:
        for run_id in sorted({one.run_id for one in part.executions} - known - {part.run_id}):
            kept = [one for one in part.executions if one.run_id == run_id]
            before.append(replace(part, run_id=run_id, executions=kept))
    return own, before


def _without_kept(part: Part) -> Part:
    return replace(part, executions=[one for one in part.executions if one.run_id == part.run_id])


def transactions_of(parts: Sequence[Part]) -> list[Mapping[str, Any]]:
    """The facts of the transactions that a report shows, in its order."""
    return [facts for _, facts in chain_effects.raw(_in_order(parts))]


def why_not_passed(mode: Mode, parts: Sequence[Part], assumed: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Why a finished rehearsal, or a rehearsal that it only started, did not pass; empty if all passed, and for a live
    run. Of the runs that one node called in several attempts, the newest counts.
    """
    if mode is Mode.LIVE:
        return []
    newest = {part.path: part.run_id for part in parts}
    blamed: set[str] = set()
    reasons: list[Json] = []
    assumed = list(assumed)
    for part in parts:
        counts = part.caller_id is None or not part.is_awaited or part.caller_id in blamed
        if counts and part.passed is False and newest[part.path] == part.run_id:
            blamed.add(part.run_id)
            of_run = [one for one in assumed if one["runId"] == part.run_id]
            found = assumptions.why_not_passed(part.path, part.status, part.executions, of_run)
            reasons += [{"runId": part.run_id, **reason} for reason in found]
    return reasons


def _in_order(parts: Iterable[Part]) -> list[ReportedExecution]:
    return _by_start(execution for part in parts for execution in part.executions)


def _by_start(executions: Iterable[ReportedExecution]) -> list[ReportedExecution]:
    return sorted(executions, key=_moment)


def _moment(execution: ReportedExecution) -> tuple[int, int, str, int]:
    """Sort key: of two that started in the same millisecond, the one that ended first comes first."""
    started = execution.started_at or 0
    return started, execution.finished_at or started, execution.path, execution.attempt


def _why_unscaled(parts: Sequence[Part], specs: Specs) -> str:
    types = {node.type for part in parts for node in part.nodes.values()}
    may_spend = any((spec := specs.get(kind)) is not None and spec.effect == "spend" for kind in types)
    may_call = len(parts) == 1 and "call-workflow" in types
    return _NOT_SO_FAR if may_spend or may_call else _NO_SPEND


def _dust(executions: Iterable[ReportedExecution], note: str) -> Json:
    """The amounts that a dust run scaled: original amount, dust, price and price source; `note` when nothing was."""
    scaled = [{**execution.place, **entry} for execution in executions for entry in _fact(execution, "dust") or ()]
    return {"scaled": scaled} if scaled else {"scaled": [], "note": note}


def _fact(execution: ReportedExecution, name: str) -> Any:
    return execution.facts.get(name) if execution.facts is not None else None


def _written(execution: ReportedExecution, fact: str, mode: Mode) -> Json:
    """A write of a variable or a row; in a simulation it went to an overlay that only this run sees."""
    return {**execution.place, **_fact(execution, fact), "written": mode is not Mode.SIMULATE}


def _children(executions: Iterable[ReportedExecution], parts: Iterable[Part]) -> list[Json]:
    """The called runs. `isShown`: the report has their effects; `isOpen`: there may be more to come."""
    shown = {part.run_id: part for part in parts}
    return [_child(one, shown.get(_fact(one, "child")["runId"])) for one in executions if _fact(one, "child")]


def _child(execution: ReportedExecution, part: Part | None) -> Json:
    child = _fact(execution, "child")
    return {
        "nodeId": execution.node_id,
        "path": execution.path,
        "callerRunId": execution.run_id,
        **{name: child[name] for name in ("runId", "workflowId", "mode")},
        "status": execution.status.value,
        "runStatus": part.status if part is not None else None,
        "isOpen": part.is_open if part is not None else None,
        "isShown": part is not None,
    }


def _answer(execution: ReportedExecution) -> Json:
    """The response of a run to the request that started it. That of a called run goes nowhere."""
    return {**execution.place, **_fact(execution, ANSWER), "assumed": execution.assumed}


def _is_write(execution: ReportedExecution) -> bool:
    return execution.facts is not None and "request" in execution.facts


def _request(execution: ReportedExecution, nodes: Mapping[str, Node], mode: Mode) -> Json:
    assert execution.facts is not None
    return {
        **execution.place,
        "attempt": execution.attempt,
        "action": nodes[execution.node_id].type,
        "request": execution.facts["request"],
        "sent": bool(execution.facts.get("sent")) and mode is not Mode.SIMULATE,
        "answered": execution.facts.get("answered"),
        "status": execution.status.value,
    }


def _warnings(executions: Iterable[ReportedExecution], mode: Mode) -> list[Json]:
    warnings = []
    for execution in executions:
        if execution.assumed and execution.branch is not None:
            message = "A branch depends on an assumed value; pin a result to make the simulation meaningful."
            warnings.append({"code": "ASSUMED_BRANCH", **execution.place, "message": message})
        if mode is Mode.DUST and _is_write(execution) and execution.facts and execution.facts.get("sent"):
            message = "This request was sent unchanged: a dust run scales only amounts that are spent."
            warnings.append({"code": "DUST_UNSCALED_WRITE", **execution.place, "message": message})
    return warnings
