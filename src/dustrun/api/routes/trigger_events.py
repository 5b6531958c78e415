"""`/v1/webhook-events` and a workflow's trigger events: what triggers saw, and replays."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query
from pydantic import Field

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.triggers.events import (
    FiredAnswer,
    GapAnswer,
    Outcome,
    TriggerEventAnswer,
    event_shape,
    fired_shape,
    gap_shape,
)
from dustrun.api.shapes.wire import Instant, PageAnswer, Paged, moment_ms, page_shape
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.services.access.paging import Page
from dustrun.services.triggers.recording import Fired
from dustrun.storage.triggers.events import EventRow, Filters
from dustrun.storage.triggers.gaps import GapRow

routes = Routes("Triggers")
router = routes.router

EventId = Annotated[str, Path(alias="id", description="Id of the event.", max_length=64)]
GapId = Annotated[str, Path(alias="gapId", description="Id of the gap.", max_length=64)]


class ReplayEvent(Fields):
    """How an event is taken once more."""

    ignore_limits: bool = Field(
        False, description="Whether it runs whatever `maxRuns`, the cooldown and a pause say, and without counting."
    )


async def _filters(
    call: Call,
    workflow_id: Annotated[str | None, Query(alias="workflowId", max_length=64)] = None,
    trigger_node_id: Annotated[str | None, Query(alias="triggerNodeId", max_length=64)] = None,
    platform: Annotated[str | None, Query(description="Type of the trigger.", max_length=64)] = None,
    outcome: Outcome | None = None,
    reason: Annotated[str | None, Query(max_length=64)] = None,
    since: Annotated[Instant | None, Query(description="Only those that came in at or after this time.")] = None,
) -> Filters:
    return Filters(
        org_id=call.principal.org_id,
        workflow_id=workflow_id,
        node_id=trigger_node_id,
        type=platform,
        outcome=outcome,
        reason=reason,
        since=moment_ms(since) if since is not None else None,
    )


Filtered = Annotated[Filters, Depends(_filters)]


@routes.get(
    "/v1/webhook-events",
    permission="run:read",
    answers=PageAnswer[TriggerEventAnswer],
    shape=page_shape(event_shape),
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_trigger_events(call: Call, filters: Filtered, paging: Paged) -> Page[EventRow]:
    """List what the triggers of all workflows saw, newest first.

    Inbound webhooks and every other trigger; `platform=webhook` lists only the webhooks.
    """
    return await call.parts.triggers.events.list_page(call.principal, filters, paging)


@routes.get(
    "/v1/webhook-events/{id}",
    permission="run:read",
    answers=TriggerEventAnswer,
    shape=event_shape,
    refusals=[Code.TRIGGER_EVENT_UNKNOWN],
)
async def get_trigger_event(call: Call, event_id: EventId) -> EventRow:
    """Get one event."""
    return await call.parts.triggers.events.get(call.principal, event_id)


@routes.post(
    "/v1/webhook-events/{id}/replay",
    permission="workflow:execute",
    answers=FiredAnswer,
    shape=fired_shape,
    refusals=[Code.TRIGGER_EVENT_UNKNOWN, Code.STATE_CONFLICT],
)
async def replay_trigger_event(call: Call, event_id: EventId, body: ReplayEvent | None = None) -> Fired:
    """Take an event once more.

    The replay is an event of its own that points to the first (`replayOf`). It runs the version that is live now, in
    the caller's name, and obeys `maxRuns`, cooldown and pause unless `ignoreLimits` is set.
    """
    ignores = body is not None and body.ignore_limits
    return await call.parts.triggers.events.replay(call.principal, event_id, ignore_limits=ignores)


@routes.get(
    "/v1/workflows/{id}/trigger-events",
    permission="run:read",
    answers=PageAnswer[TriggerEventAnswer],
    shape=page_shape(event_shape),
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_workflow_trigger_events(
    call: Call,
    id: str,
    paging: Paged,
    outcome: Outcome | None = None,
    trigger_node_id: Annotated[str | None, Query(alias="triggerNodeId", max_length=64)] = None,
) -> Page[EventRow]:
    """List what a workflow's triggers saw, newest first."""
    org_id = call.principal.org_id
    filters = Filters(org_id=org_id, workflow_id=id, node_id=trigger_node_id, outcome=outcome)
    return await call.parts.triggers.events.list_page(call.principal, filters, paging)


@routes.get(
    "/v1/workflows/{id}/trigger-gaps",
    permission="run:read",
    answers=PageAnswer[GapAnswer],
    shape=page_shape(gap_shape),
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_trigger_gaps(call: Call, id: str, paging: Paged) -> Page[GapRow]:
    """List what a workflow's triggers did not scan, newest first.

    After a long downtime a trigger scans at most as far back as the operator allows; the rest is a gap.
    """
    return await call.parts.triggers.gaps.list_page(call.principal, id, paging)


@routes.post(
    "/v1/workflows/{id}/trigger-gaps/{gapId}/replay",
    permission="workflow:execute",
    reads="run:read",
    needed=["state", "replayedAt"],
    answers=GapAnswer,
    shape=gap_shape,
    refusals=[Code.WORKFLOW_UNKNOWN, Code.TRIGGER_GAP_UNKNOWN, Code.STATE_CONFLICT],
)
async def replay_trigger_gap(call: Call, id: str, gap_id: GapId) -> GapRow:
    """Scan a gap after all; its events count like any other, and none that was seen before is taken twice."""
    return await call.parts.triggers.gaps.replay(call.principal, id, gap_id)
