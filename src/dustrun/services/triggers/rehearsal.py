"""Triggers that only watch: what their events would have done, and making them live."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from dustrun import clock
from dustrun.core.run.effect_sums import EffectSums
from dustrun.core.run.state import RUN_OPEN, Mode, RunStatus
from dustrun.errors import Conflict, NotFound
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.principal import Principal
from dustrun.services.runs.reporting.reports import RunReports
from dustrun.services.triggers.arming import Arming
from dustrun.services.triggers.subscriptions import principal_text
from dustrun.services.workflows.closure import Lookup
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.triggers import events as event_rows
from dustrun.storage.triggers import subscriptions as rows
from dustrun.storage.triggers.events import EventRow
from dustrun.storage.triggers.subscriptions import SubscriptionRow
from dustrun.storage.workflows import workflows

MOST_RUNS = 500
"""Runs whose effects are added up, the newest first."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of a workflow's watching triggers from `since` to `until`. `effects` sums up `summed` of the runs that
    have ended; `open` have not; `refused` are those that a policy or a failure stopped, the newest first."""

    workflow_id: str
    version: int | None
    since: int
    until: int
    subs: Sequence[SubscriptionRow]
    counts: Mapping[tuple[str, str | None], int]
    effects: dict[str, Any]
    summed: int
    open: int
    refused: Sequence[dict[str, Any]]


class TriggerRehearsals:
    """Use cases of watching triggers."""

    def __init__(
        self, database: Database, writer: Writer, reports: RunReports, arming: Arming, gate: SpendGate
    ) -> None:
        self._database = database
        self._writer = writer
        self._reports = reports
        self._arming = arming
        self._gate = gate

    async def report(self, principal: Principal, workflow_id: str, since: int | None) -> Rehearsal:
        """What the watched events would have done; by default since the triggers of this version began to watch.
        Raises `NotFound`."""

        def query(
            tx: Tx,
        ) -> tuple[int | None, int, list[SubscriptionRow], dict[tuple[str, str | None], int], list[EventRow]]:
            workflow = get_workflow(tx, principal, workflow_id)
            subs = [row for row in rows.list_of(tx, workflow_id) if row.state != rows.ENDED]
            start = since if since is not None else min((row.armed_at for row in subs), default=clock.now_ms())
            counts = event_rows.count_rehearsed(tx, workflow_id, start)
            listed = event_rows.list_rehearsed(tx, workflow_id, start, limit=MOST_RUNS)
            return workflow.live_version, start, subs, counts, listed

        version, start, subs, counts, listed = await self._database.read(query)
        sums, summed, still_open, refused = EffectSums(), 0, 0, list[dict[str, Any]]()
        for event in listed:
            assert event.run_id is not None
            try:
                found = await self._reports.effects(principal, event.run_id)
            except NotFound:
                continue  # deleted by retention
            if RunStatus(found["status"]) in RUN_OPEN:
                still_open += 1
                continue
            await asyncio.to_thread(sums.add, found)
            summed += 1
            if refusal := _refusal(event, found):
                refused.append(refusal)
        until = clock.now_ms()
        return Rehearsal(
            workflow_id, version, start, until, subs, counts, sums.public(), summed, still_open, refused[:50]
        )

    async def go_live(self, principal: Principal, workflow_id: str, node_id: str | None) -> list[SubscriptionRow]:
        """Makes watching triggers live, in the caller's name: one, or all of the workflow. They go on where they are.

        Raises `NotFound`, `Forbidden` if the caller may not spend what the version can, and `Conflict` if nothing
        watches, or the version is not accepted or lacks a rehearsal."""

        def unit(tx: Tx) -> list[SubscriptionRow]:
            get_workflow(tx, principal, workflow_id)
            workflow = workflows.find_to_change(tx, principal.org_id, workflow_id)
            assert workflow is not None
            watching = [row for row in rows.list_of(tx, workflow_id) if row.mode != "live" and row.state != rows.ENDED]
            chosen = [row for row in watching if node_id is None or row.node_id == node_id]
            if not chosen or workflow.live_version is None:
                which = "trigger" if node_id is None else f'trigger "{node_id}"'
                raise Conflict(f"The live version has no {which} that only watches; there is nothing to make live.")
            self._gate.admit(Lookup(tx, workflow.org_id), Mode.LIVE, workflow, workflow.live_version)
            self._arming.need_spending(tx, principal, workflow)
            now = clock.now_ms()
            for row in chosen:
                by = principal_text(principal)
                rows.update(tx, row.pk, mode="live", principal=by, updated_at=max(now, row.updated_at + 1))
            audit.record(tx, principal, "trigger.go-live", workflow_id, nodeIds=[row.node_id for row in chosen])
            return rows.list_of(tx, workflow_id)

        row = await self._database.read(lambda tx: get_workflow(tx, principal, workflow_id))
        if row.live_version is not None:
            await self._gate.prepare(principal.org_id, workflow_id, row.live_version)
        return await idempotency.write(self._writer, unit, lambda _: self._arming.committed(workflow_id))


def _refusal(event: EventRow, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Why a rehearsed run would not have done what it should; None if it would."""
    denied = [one for one in found["policyVerdicts"] if one["outcome"] != "allow"]
    if found["status"] == RunStatus.SUCCESS.value and not denied:
        return None
    reasons = [one.get("message") or one["outcome"] for one in denied]
    reasons += [one["message"] for one in found["notPassed"] if "message" in one]
    return {"eventId": event.id, "runId": event.run_id, "status": found["status"], "reasons": reasons[:5]}
