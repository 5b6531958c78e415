"""The event log: what triggers saw and what became of it, and replays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dustrun import clock, ids, log
from dustrun.core.triggers.event import REFUSED, TriggerEvent
from dustrun.core.values.exact_json import loads
from dustrun.errors import Code, Conflict, NotFound
from dustrun.records import dataclass
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.triggers.arming import Arming
from dustrun.services.triggers.intake import FireOptions, Intake
from dustrun.services.triggers.recording import Fired
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.triggers import events as rows
from dustrun.storage.triggers import subscriptions as subscription_rows
from dustrun.storage.triggers.events import EventRow, Filters
from dustrun.storage.workflows import workflows


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What came of one trigger: events by outcome, and the runs that they started by status."""

    sub: Subscription
    outcomes: Mapping[str, int]
    runs: Mapping[str, int]


class TriggerEvents:
    """Use cases of events."""

    def __init__(self, database: Database, subscriptions: Subscriptions, intake: Intake, arming: Arming) -> None:
        self._database = database
        self._subscriptions = subscriptions
        self._intake = intake
        self._arming = arming

    async def list_page(self, principal: Principal, filters: Filters, paging: Paging) -> Page[EventRow]:
        """Lists events, newest first; raises `NotFound` for a workflow that the caller cannot see."""
        if principal.workflow_ids is not None:
            filters = replace(filters, only=tuple(sorted(principal.workflow_ids)))

        def query(tx: Tx) -> list[EventRow]:
            if filters.workflow_id is not None:
                get_workflow(tx, principal, filters.workflow_id)
            return rows.list_page(tx, filters, limit=paging.peek, offset=paging.offset)

        return page_of(await self._database.read(query), paging)

    async def get(self, principal: Principal, event_id: str) -> EventRow:
        """Reads one event; raises `NotFound`."""
        return await self._database.read(lambda tx: _get(tx, principal, event_id))

    async def replay(self, principal: Principal, event_id: str, *, ignore_limits: bool) -> Fired:
        """Takes an event once more, as a new one that points to the first, in the caller's name. It runs the version
        that is live now and obeys the limits, unless the caller says otherwise.

        Raises `NotFound`, `Forbidden` if the caller may not spend what the run can, and `Conflict` if the trigger is no
        longer part of the live version, or a reorg removed the event."""

        def query(tx: Tx) -> tuple[EventRow, Subscription | None]:
            row = _get(tx, principal, event_id)
            sub = subscription_rows.get(tx, row.subscription_pk)
            workflow = workflows.find(tx, row.org_id, row.workflow_id)
            if workflow is not None and workflow.live_version is not None and sub.mode != "simulate":
                self._arming.need_spending(tx, principal, workflow)
            is_live = workflow is not None and workflow.live_version == sub.version
            return row, self._subscriptions.parsed(sub) if is_live else None

        row, sub = await self._database.read(query)
        if row.key.startswith(REFUSED):
            raise Conflict("The request was refused before it was read, so there is no event to take again.")
        if sub is None or (sub.row.state == subscription_rows.ENDED and sub.row.state_reason != "over"):
            raise Conflict(f'The live version has no trigger "{row.node_id}" of type "{row.type}" any more.')
        if row.outcome == rows.ORPHANED:
            raise Conflict(
                f"{row.message} What it tells of is not so any more, so it cannot be taken again. To run the workflow "
                "all the same, start it by hand."
            )
        if row.payload == rows.NO_CONTENT:
            raise Conflict("The content of this event was deleted, as the organisation's retention says.")
        request = loads(row.request) if row.request is not None else None
        again = TriggerEvent(
            key=f"replay:{row.id}:{ids.new_id('rep')}",
            payload=loads(row.payload),
            occurred_at=clock.now_ms(),
            headers=(request or {}).get("headers", {}),
            query=(request or {}).get("query", {}),
            request=request,
        )
        origin = row.replay_of or row.id
        options = FireOptions(is_unlimited=ignore_limits, replay_of=origin, by=principal)
        fired = await self._intake.fire(sub, again, None, options)
        if fired.run_ids:
            log.bind(run_id=fired.run_ids[0])
        return fired

    async def list_triggers(self, principal: Principal, workflow_id: str) -> list[Subscription]:
        """The subscriptions of a workflow; raises `NotFound`."""

        def query(tx: Tx) -> list[Subscription | None]:
            get_workflow(tx, principal, workflow_id)
            return [self._subscriptions.parsed(row) for row in subscription_rows.list_of(tx, workflow_id)]

        return [sub for sub in await self._database.read(query) if sub is not None]

    async def aggregates(self, principal: Principal, workflow_id: str) -> list[Aggregate]:
        """What came of each trigger of a workflow; raises `NotFound`."""
        found = await self.list_triggers(principal, workflow_id)

        def query(tx: Tx) -> tuple[dict[tuple[int, str], int], dict[tuple[int, str], int]]:
            return rows.count_outcomes(tx, workflow_id), rows.count_run_statuses(tx, principal.org_id, workflow_id)

        outcomes, runs = await self._database.read(query)
        return [Aggregate(sub, _of(outcomes, sub.pk), _of(runs, sub.pk)) for sub in found]


def _get(tx: Tx, principal: Principal, event_id: str) -> EventRow:
    row = rows.find(tx, principal.org_id, event_id)
    if row is None or not principal.may_use_workflow(row.workflow_id):
        raise NotFound(f'There is no trigger event "{event_id}".', code=Code.TRIGGER_EVENT_UNKNOWN)
    return row


def _of(counts: Mapping[tuple[int, str], int], subscription_pk: int) -> dict[str, int]:
    return {name: count for (pk, name), count in counts.items() if pk == subscription_pk}
