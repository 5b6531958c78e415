"""Holds live spends to what a passed simulation of the same version and payload has shown (`enforceRehearsal`). A run
that was launched is held to its own rehearsal, whatever its workflow says.

A workflow's rule also holds for the runs that its runs call: their spends are looked up in what the simulation called
at the same place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from dustrun import clock
from dustrun.core.money import rehearsal_guard
from dustrun.core.money.intent import Spend
from dustrun.core.run.state import Mode, NodeStatus
from dustrun.core.values.exact_json import loads
from dustrun.errors import Code, Conflict, Problem, Refused
from dustrun.records import dataclass
from dustrun.services.runs.engine_port import RunFacts
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import called_runs, journal
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import rehearsals as rehearsal_rows
from dustrun.storage.runs import runs as rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.runs import RunRow
from dustrun.storage.workflows import workflows as workflow_rows

LAUNCH_RULE: Mapping[str, Any] = {"tolerancePercent": 1, "maxAgeMs": 3_600_000}


@dataclass(frozen=True, slots=True)
class _Bound:
    """A run with a rule: the spending run itself, or one of its callers. `calls` are the paths of the calls in
    between."""

    run: RunRow
    rule: Mapping[str, Any]
    calls: tuple[str, ...]
    rehearsal: str | None = None
    """The one simulation that shows it; None: the newest."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """The newest matching simulation's record of one node. `problem` says why it is not usable."""

    run_id: str
    started_at: int
    intents: Sequence[Mapping[str, Any]]
    problem: str | None = None


class RehearsalGuard:
    """Compares intents with the rehearsal before anything is signed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def check(self, facts: RunFacts, path: str, wallet_id: str, spend: Spend) -> None:
        """Raises `Refused` if a workflow uses the guard and the intents go beyond its rehearsal."""
        if facts.mode is not Mode.LIVE or (facts.workflow_id is None and facts.caller is None):
            return
        if not await self._database.look_up(lambda tx: rehearsal_rows.may_be_bound(tx, facts.pk)):
            return
        for bound, shown in await self._database.read(lambda tx: _look(tx, facts, path)):
            tolerance = Decimal(str(bound.rule["tolerancePercent"]))
            found = _unfit(shown, bound.rule)
            if not found and shown is not None:
                found = rehearsal_guard.differences(wallet_id, spend.intents, shown.intents, tolerance)
            if spend.signatures:
                found.append("signatures cannot be rehearsed")
            if found:
                raise _refused(bound, shown, path, found)


def _refused(bound: _Bound, shown: _Shown | None, path: str, found: list[str]) -> Refused:
    run = f" ({shown.run_id})" if shown is not None else ""
    which = "newest passed simulation" if bound.rehearsal is None else "rehearsal of its launch"
    return Refused(
        f'enforceRehearsal of "{bound.run.workflow_name}": this spend goes beyond the {which}{run} of '
        f"version {bound.run.version} with this payload: {found[0]}. Simulate with the payload of this run, check its "
        "effects, then run again.",
        details=[Problem(path, text) for text in found],
    )


def _look(tx: Tx, facts: RunFacts, path: str) -> list[tuple[_Bound, _Shown | None]]:
    return [(bound, _find(tx, bound, facts, path)) for bound in _bounds(tx, facts)]


def _bounds(tx: Tx, facts: RunFacts) -> list[_Bound]:
    """The run and all its callers that were launched, or whose workflow has a rule."""
    found: list[_Bound] = []
    run, calls = run_rows.get(tx, facts.pk), tuple[str, ...]()
    while True:
        workflow = workflow_rows.find(tx, run.org_id, run.workflow_id) if run.workflow_id is not None else None
        if workflow is not None and workflow.enforce_rehearsal is not None:
            found.append(_Bound(run, loads(workflow.enforce_rehearsal), calls))
        if run.rehearsal_run_id is not None:
            found.append(_Bound(run, LAUNCH_RULE, calls, run.rehearsal_run_id))
        call = called_runs.find_call(tx, run)
        if call is None or call.parent_pk is None or call.parent_path is None:
            return found
        calls = (call.parent_path, *calls)
        run = run_rows.get(tx, call.parent_pk)


def _find(tx: Tx, bound: _Bound, facts: RunFacts, path: str) -> _Shown | None:
    """The record of the newest simulation of the version and payload at the node, in the run that it called there."""
    run, payload = bound.run, loads(bound.run.payload)
    if run.workflow_id is None or run.version is None:
        return None
    for simulated in _candidates(tx, bound):
        if loads(simulated.payload) == payload:
            inner: RunRow | None = simulated
            for call in bound.calls:
                inner = run_rows.find_called(tx, inner.pk, call) if inner is not None else None
            problem = _other(inner, facts) if bound.calls else None
            execution = journal_rows.find_execution(tx, inner.pk, path) if inner is not None else None
            facts_of = execution.facts or {} if execution is not None else {}
            return _Shown(simulated.id, simulated.started_at, facts_of.get("transactions", []), problem)
    return None


def _candidates(tx: Tx, bound: _Bound) -> list[RunRow]:
    run = bound.run
    if run.workflow_id is None or run.version is None:
        return []
    if bound.rehearsal is None:
        return run_rows.list_passed(tx, run.workflow_id, run.version, Mode.SIMULATE.value)
    found = run_rows.find(tx, run.org_id, bound.rehearsal)
    return [found] if found is not None and found.passed else []


def _other(called: RunRow | None, facts: RunFacts) -> str | None:
    """Why a run called in the simulation is not comparable with the one called now."""
    if called is None:
        return "it called no workflow here"
    if (called.workflow_id, called.version) != (facts.workflow_id, facts.version):
        return f"it called version {called.version} of {called.workflow_id}, not version {facts.version}"
    return None


def _unfit(shown: _Shown | None, rule: Mapping[str, Any]) -> list[str]:
    """Why the simulation is not usable at all."""
    if shown is None:
        return ["there is no passed simulation of this version with this payload"]
    if shown.problem is not None:
        return [shown.problem]
    most = rule.get("maxAgeMs")
    age = clock.now_ms() - shown.started_at
    if most is not None and age > most:
        return [f"the newest one is {age // 1000} s old, and at most {most // 1000} s are allowed (maxAgeMs)"]
    return []


# What a node answered in the rehearsal of a run, for nodes whose live runs use that answer.


async def find_answer(database: Database, facts: RunFacts, path: str) -> tuple[str, Any]:
    """The rehearsal's id, and the node's result in it. The rehearsal is that of the run's launch, else the newest
    passed simulation of the run's version with its payload, and the node's input must be the same; raises `Conflict`
    otherwise."""

    def query(tx: Tx) -> tuple[str, Any] | str:
        run = rows.get(tx, facts.pk)
        if run.workflow_id is None or run.version is None:
            return "an unsaved definition has no rehearsal"
        shown = _rehearsal_of(tx, run)
        if shown is None:
            return f"no simulation of version {run.version} with this payload has passed"
        mine, theirs = journal.find_execution(tx, run.pk, path), journal.find_execution(tx, shown.pk, path)
        if theirs is None or theirs.status is not NodeStatus.SUCCESS or theirs.assumed:
            return f"the simulation {shown.id} has no answer of this node"
        if mine is None or mine.input != theirs.input:
            return f"the node's input differs from that in the simulation {shown.id}"
        return shown.id, theirs.result

    found = await database.read(query)
    if isinstance(found, str):
        raise Conflict(
            f'answerFrom "rehearsal": {found}. Simulate again, check the answer, then run.',
            code=Code.REHEARSAL_ANSWER_MISSING,
        )
    return found


def _rehearsal_of(tx: Tx, run: RunRow) -> RunRow | None:
    """The simulation of a launched run that a person has seen, whatever was simulated since; else the newest."""
    if run.rehearsal_run_id is not None:
        return rows.find(tx, run.org_id, run.rehearsal_run_id)
    if run.workflow_id is None or run.version is None:
        return None
    payload = loads(run.payload)
    passed = rows.list_passed(tx, run.workflow_id, run.version, Mode.SIMULATE.value)
    return next((shown for shown in passed if loads(shown.payload) == payload), None)
