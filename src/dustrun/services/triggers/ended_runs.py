"""Consequences of a run's end: runs of workflows that wait for it, and a pause after too many failures.

One durable cursor over all ends. A page's events are fired first, under the ended runs' ids, which makes a repetition
harmless; then failures are counted and the cursor moves, in one transaction. Pages that lead to nothing move the cursor
in memory, and on disk only now and then, so that ends that nobody waits for cost no commit, nor do those of triggered
runs while all goes well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from dustrun import clock
from dustrun.catalog import Catalog
from dustrun.core.run.state import Mode, RunStatus
from dustrun.core.triggers.event import TriggerEvent
from dustrun.core.triggers.limits import MAX_DEPTH, Skip
from dustrun.core.values.exact_json import loads
from dustrun.records import dataclass
from dustrun.services.triggers import pausing
from dustrun.services.triggers.arming import TYPE
from dustrun.services.triggers.facts import way_of
from dustrun.services.triggers.intake import FireOptions, Intake
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions, recorded_principal
from dustrun.storage.db import store_facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs.large_values import StoredValues
from dustrun.storage.triggers import ended_runs as rows
from dustrun.storage.triggers import subscriptions as subscription_rows
from dustrun.storage.triggers.ended_runs import EndRow
from dustrun.storage.triggers.subscriptions import SubscriptionRow

_OF_ANY = "run-finished"
_TYPES = (TYPE, _OF_ANY)
_CURSOR = "ended_runs_followed"
_PAGE = 100
_AT_ONCE = 20
_MOST_PASSED = 5_000
"""The most reports of runs that one page passes over."""
_MOST_UNWRITTEN = 5_000
"""Ends that are read again after a crash, at most."""


@dataclass(frozen=True, slots=True)
class _Found:
    """`ended` is all that may matter up to the cursor `until`, `counted` what changes how many runs have failed in a
    row."""

    until: int
    armed: Sequence[SubscriptionRow] = ()
    ended: Sequence[EndRow] = ()
    counted: Sequence[EndRow] = ()
    has_more: bool = False


class EndedRuns:
    """Follows the ends of runs."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        catalog: Catalog,
        subscriptions: Subscriptions,
        intake: Intake,
        pause_after: int,
    ) -> None:
        self._database = database
        self._writer = writer
        self._catalog = catalog
        self._subscriptions = subscriptions
        self._intake = intake
        self._pause_after = pause_after
        self._ends_of_triggered = rows.EndsOf([name for name, one in catalog.triggers.items() if one.is_armed])
        self._at = 0
        self._written = 0

    def counts(self, source: str) -> bool:
        """Whether the failures of runs that this started are counted."""
        trigger = self._catalog.triggers.get(source)
        return trigger is not None and trigger.is_armed

    async def begin(self) -> None:
        """Begins at the newest end, if the store has never followed them."""

        def unit(tx: Tx) -> int:
            stored = store_facts.find(tx, _CURSOR)
            if stored is None:
                stored = str(rows.newest(tx))
                store_facts.put(tx, _CURSOR, stored)
            return int(stored)

        self._at = self._written = await self._writer.write(unit)

    async def follow(self) -> bool:
        """Handles the next page; returns whether there may be more."""
        found = await self._database.read(self._look)
        if found.until == self._at:
            return False
        waiting: dict[str, list[Subscription]] = {}
        for one in found.armed if found.ended else ():
            parsed = self._subscriptions.parsed(one)
            if parsed is not None:
                waiting.setdefault(one.org_id, []).append(parsed)
        for start in range(0, len(found.ended), _AT_ONCE):
            some = found.ended[start : start + _AT_ONCE]
            await asyncio.gather(*(self._fire(row, waiting[row.org_id]) for row in some if row.org_id in waiting))
        if waiting or found.counted or found.until - self._written >= _MOST_UNWRITTEN:
            changed = await self._writer.write(lambda tx: self._pass(tx, found.until, found.counted), repeatable=True)
            self._written = found.until
            for workflow_id in changed:
                self._intake.on_changed(workflow_id)
        self._at = found.until
        return found.has_more

    def _look(self, tx: Tx) -> _Found:
        """The next ends that lead to something: all while anything waits for ends, else those of triggered runs, whose
        failures are counted."""
        newest = rows.newest(tx)
        until = min(newest, self._at + _MOST_PASSED)
        if until <= self._at:
            return _Found(self._at)
        armed = [one for type_ in _TYPES for one in subscription_rows.list_armed_as(tx, type_)]
        list_ends = rows.list_all if armed else self._ends_of_triggered.list
        ended = list_ends(tx, self._at, until, _PAGE)
        counted = self._counted(tx, ended)
        if len(ended) == _PAGE:
            return _Found(ended[-1].cursor, armed, ended, counted, has_more=True)
        return _Found(until, armed, ended, counted, has_more=until < newest)

    def _counted(self, tx: Tx, ended: Sequence[EndRow]) -> list[EndRow]:
        """The ends of triggered runs of workflows with a failure among these ends or before."""
        triggered = [row for row in ended if self._counts(row)]
        failing = {row.workflow_id for row in triggered if row.status == RunStatus.FAILURE.value}
        for workflow_id in {row.workflow_id for row in triggered} - failing:
            if workflow_id is not None and rows.failures(tx, workflow_id):
                failing.add(workflow_id)
        return [row for row in triggered if row.workflow_id in failing]

    # --- what waits for the end ---

    async def _fire(self, row: EndRow, waiting: Sequence[Subscription]) -> None:
        if row.workflow_id is None or row.finished_at is None:
            return
        for sub in waiting:
            if row.finished_at < sub.row.armed_at or row.workflow_id == sub.row.workflow_id:
                continue
            if not recorded_principal(sub.row).may_use_workflow(row.workflow_id):
                continue
            seen = self._seen(row)
            if sub.row.type == _OF_ANY:
                error = loads(row.told).get("error")
                seen["error"] = None if error is None else {name: error.get(name) for name in ("code", "message")}
            assert sub.trigger.match is not None
            payload = sub.trigger.match(sub.config, seen)
            if payload is not None:
                await self._fire_one(sub, row, payload)

    async def _fire_one(self, sub: Subscription, row: EndRow, payload: dict[str, Any]) -> None:
        depth, through = await self._database.read(
            lambda tx: way_of(
                tx,
                row.trigger_source,
                StoredValues(tx, row.run_pk).whole(row.payload),
                row.callers,
                row.workflow_id,
            )
        )
        payload |= {"depth": depth + 1, "through": through}
        skip = None
        if depth >= MAX_DEPTH:
            skip = Skip("depth", f"More than {MAX_DEPTH} workflows in a row were started by the end of another.")
        elif sub.row.type == _OF_ANY and sub.row.workflow_id in through:
            skip = Skip("circle", "This workflow has led to the run that ended.")
        options = FireOptions(given=skip)
        event = TriggerEvent(row.run_id, payload, row.finished_at or clock.now_ms())
        await self._intake.fire(sub, event, None, options)

    def _seen(self, row: EndRow) -> dict[str, Any]:
        return {
            "runId": row.run_id,
            "workflowId": row.workflow_id,
            "workflowName": row.workflow_name,
            "workflowVersion": row.version,
            "status": row.status,
            "mode": row.mode,
            "startedAt": clock.to_rfc3339(row.started_at),
            "finishedAt": clock.to_rfc3339(row.finished_at or row.started_at),
        }

    # --- failures in a row ---

    def _pass(self, tx: Tx, cursor: int, counted: Sequence[EndRow]) -> list[str]:
        """Counts failures, pauses, and moves the cursor; returns the workflows that it paused."""
        paused = [row.workflow_id for row in counted if row.workflow_id is not None and self._count(tx, row)]
        store_facts.put(tx, _CURSOR, str(cursor))
        return paused

    def _counts(self, row: EndRow) -> bool:
        """Whether it is a live run that a trigger started."""
        return self.counts(row.trigger_source) and row.mode == Mode.LIVE.value and row.workflow_id is not None

    def _count(self, tx: Tx, row: EndRow) -> bool:
        """Counts a live run that a trigger started; returns whether its workflow is paused for it."""
        assert row.workflow_id is not None, "only runs of workflows are counted"
        known = rows.failures_to_change(tx, row.workflow_id)
        if known is None or row.status not in (RunStatus.SUCCESS.value, RunStatus.FAILURE.value):
            return False
        failures = known[0] + 1 if row.status == RunStatus.FAILURE.value else 0
        pauses = bool(self._pause_after) and failures >= self._pause_after and known[1] == "active"
        if pauses:
            subs = subscription_rows.list_of(tx, row.workflow_id)
            by = next(recorded_principal(sub) for sub in subs if sub.type == row.trigger_source)
            pausing.pause(tx, row.workflow_id, pausing.CONSECUTIVE_FAILURES, by)
        if known[0] != failures or pauses:
            rows.set_failures(tx, row.workflow_id, 0 if pauses else failures)
        return pauses
