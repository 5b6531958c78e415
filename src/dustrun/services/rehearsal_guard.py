"""Holds live spends to what a passed simulation of the same version and payload has shown (`enforceRehearsal`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dustrun import clock
from dustrun.core import rehearsal_guard
from dustrun.core.exact_json import loads
from dustrun.core.intent import Spend
from dustrun.core.state import Mode
from dustrun.errors import Problem, Refused
from dustrun.services.ports import RunFacts
from dustrun.storage import journal as journal_rows
from dustrun.storage import runs as run_rows
from dustrun.storage import workflows as workflow_rows
from dustrun.storage.database import Database
from dustrun.storage.statement import Tx


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the newest matching simulation did at one node."""

    run_id: str
    started_at: int
    wishes: list[Mapping[str, Any]]


class RehearsalGuard:
    """Compares wishes with the rehearsal before anything is signed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def check(self, facts: RunFacts, path: str, spend: Spend) -> None:
        """Raises `Refused` when the workflow asks for the guard and the wishes go beyond their rehearsal."""
        if facts.mode is not Mode.LIVE or facts.workflow_id is None or facts.version is None:
            return
        workflow_id, version = facts.workflow_id, facts.version
        row = await self._database.read(lambda tx: workflow_rows.find(tx, facts.org_id, workflow_id))
        if row is None or row.enforce_rehearsal is None:
            return
        rule = loads(row.enforce_rehearsal)
        shown = await self._database.read(lambda tx: _find(tx, facts.pk, workflow_id, version, path))
        found = _too_old(shown, rule) or rehearsal_guard.differences(
            spend.intents, shown.wishes if shown is not None else (), Decimal(str(rule["tolerancePercent"]))
        )
        if spend.signatures:
            found.append("signatures are never rehearsed")
        if found:
            run = f" ({shown.run_id})" if shown is not None else ""
            raise Refused(
                f"enforceRehearsal: this goes beyond the newest passed simulation{run} of version {version} with this "
                "payload. Simulate again, look at its effects, then run.",
                details=[Problem(path, text) for text in found],
            )


def _find(tx: Tx, run_pk: int, workflow_id: str, version: int, path: str) -> _Shown | None:
    payload = loads(run_rows.get(tx, run_pk).payload)
    for simulated in run_rows.list_passed(tx, workflow_id, version, Mode.SIMULATE.value):
        if loads(simulated.payload) == payload:
            execution = journal_rows.find_execution(tx, simulated.pk, path)
            facts = execution.facts or {} if execution is not None else {}
            return _Shown(simulated.id, simulated.started_at, facts.get("transactions", []))
    return None


def _too_old(shown: _Shown | None, rule: Mapping[str, Any]) -> list[str]:
    if shown is None:
        return ["there is no passed simulation of this version with this payload"]
    most = rule.get("maxAgeMs")
    age = clock.now_ms() - shown.started_at
    if most is not None and age > most:
        return [f"the newest one is {age // 1000} s old, at most {most // 1000} s are allowed (maxAgeMs)"]
    return []
