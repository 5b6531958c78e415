"""What a node answered in the rehearsal of a run, for nodes whose live runs use that answer."""

from __future__ import annotations

from typing import Any

from dustrun.core.run.state import Mode, NodeStatus
from dustrun.core.values.exact_json import loads
from dustrun.errors import Code, Conflict
from dustrun.services.runs.engine_port import RunFacts
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import journal
from dustrun.storage.runs import runs as rows
from dustrun.storage.runs.runs import RunRow


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
    """What a person has seen of a launched run, whatever was simulated since; else the newest."""
    if run.rehearsal_run_id is not None:
        return rows.find(tx, run.org_id, run.rehearsal_run_id)
    if run.workflow_id is None or run.version is None:
        return None
    payload = loads(run.payload)
    passed = rows.list_passed(tx, run.workflow_id, run.version, Mode.SIMULATE.value)
    return next((shown for shown in passed if loads(shown.payload) == payload), None)
