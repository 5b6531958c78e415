"""`/v1/trigger-events` and a workflow's trigger events: what triggers saw, and replays."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import PageAnswer
from dustrun.operations.declaration.fields import Instant, Paged, moment_ms
from dustrun.operations.declaration.operation import Group, Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.trigger_events import (
    FiredAnswer,
    GapAnswer,
    Outcome,
    ReplaysAnswer,
    TriggerEventAnswer,
)
from dustrun.services.access.paging import Page
from dustrun.services.triggers.events import ReplayOptions, Replays
from dustrun.services.triggers.recording import EventOutcome
from dustrun.storage.triggers.events import EventRow, TriggerEventFilters
from dustrun.storage.triggers.gaps import GapRow

noun = Noun("Triggers")
aliases = [(r"/v1/webhook-events(/.*)?", r"/v1/trigger-events\1")]
"""The path's former name, from when only webhooks had events."""

EventId = Annotated[str, Named("id"), Field(description="Id of the event.", max_length=64)]
GapId = Annotated[str, Named("gapId"), Field(description="Id of the gap.", max_length=64)]


class ReplayEvent(Fields):
    """How an event is taken once more."""

    ignore_limits: bool = Field(
        False, description="Whether it runs whatever `maxRuns`, the cooldown and a pause say, and without counting."
    )


class ReplayEvents(Fields):
    """Which events of a workflow are taken once more, and how."""

    workflow_id: str = Field(min_length=1, max_length=64)
    trigger_node_id: str | None = Field(None, max_length=64)
    outcome: Literal["started", "skipped", "failed"] | None = Field(
        None, description="Only those with this outcome; null: those that started no run (`skipped` and `failed`)."
    )
    reason: str | None = Field(None, max_length=64, description="Only those with this reason, like `paused`.")
    since: Instant | None = Field(None, description="Only those that came in at or after this time.")
    until: Instant | None = Field(None, description="Only those that came in before this time.")
    mode: Literal["preview", "simulate", "replay"] = Field(
        "preview",
        description="`preview` only lists them; `simulate` starts a simulation of each, which shows what it would do; "
        "`replay` takes each once more, as it would have been.",
    )
    ignore_limits: bool = Field(
        False, description="Whether they run whatever `maxRuns`, the cooldown and a pause say, and without counting."
    )
    limit: int = Field(
        20, ge=1, le=100, strict=True, description="At most so many, oldest first; `hasMore`: there are more."
    )


class EventQuery(Group):
    """Which events are listed."""

    workflow_id: str | None = Field(None, max_length=64)
    trigger_node_id: str | None = Field(None, max_length=64)
    platform: str | None = Field(None, description="Type of the trigger.", max_length=64)
    outcome: Outcome | None = None
    reason: str | None = Field(None, max_length=64)
    since: Instant | None = Field(None, description="Only those that came in at or after this time.")
    until: Instant | None = Field(None, description="Only those that came in before this time.")

    def filters(self, call: Call) -> TriggerEventFilters:
        """The same for the store."""
        return TriggerEventFilters(
            org_id=call.principal.org_id,
            workflow_id=self.workflow_id,
            node_id=self.trigger_node_id,
            type=self.platform,
            outcome=self.outcome,
            reason=self.reason,
            since=moment_ms(self.since) if self.since is not None else None,
            until=moment_ms(self.until) if self.until is not None else None,
        )


@noun.get(
    "/v1/trigger-events",
    permission="run:read",
    answers=PageAnswer[TriggerEventAnswer],
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_trigger_events(call: Call, query: EventQuery, paging: Paged) -> Page[EventRow]:
    """List what the triggers of all workflows saw, newest first.

    Inbound webhooks and every other trigger; `platform=webhook` lists only the webhooks.
    """
    return await call.parts.triggers.events.list_page(call.principal, query.filters(call), paging)


@noun.get(
    "/v1/trigger-events/{id}",
    permission="run:read",
    answers=TriggerEventAnswer,
    refusals=[Code.TRIGGER_EVENT_UNKNOWN],
)
async def get_trigger_event(call: Call, event_id: EventId) -> EventRow:
    """Get one event."""
    return await call.parts.triggers.events.get(call.principal, event_id)


@noun.post(
    "/v1/trigger-events/replay",
    permission="workflow:execute",
    reads="run:read",
    needed=["action", "runIds"],
    answers=ReplaysAnswer,
    refusals=[Code.WORKFLOW_UNKNOWN, Code.STATE_CONFLICT],
    example={
        "workflowId": "wf_01m8brt9hae4de3w6f0w3c1rmr",
        "outcome": "skipped",
        "reason": "paused",
        "mode": "preview",
    },
)
async def replay_trigger_events(call: Call, body: ReplayEvents) -> Replays:
    """Take all events of a filter once more, oldest first.

    An event that has been replayed with a run is left out, so that the same request again goes on where the last one
    ended, and takes nothing twice, also if two callers ask at the same time.
    """
    filters = TriggerEventFilters(
        org_id=call.principal.org_id,
        workflow_id=body.workflow_id,
        node_id=body.trigger_node_id,
        outcome=body.outcome,
        reason=body.reason,
        since=moment_ms(body.since) if body.since is not None else None,
        until=moment_ms(body.until) if body.until is not None else None,
    )
    wanted = ReplayOptions(body.mode, ignore_limits=body.ignore_limits, count=body.limit)
    return await call.parts.triggers.events.replay_all(call.principal, filters, wanted)


@noun.post(
    "/v1/trigger-events/{id}/replay",
    permission="workflow:execute",
    answers=FiredAnswer,
    refusals=[Code.TRIGGER_EVENT_UNKNOWN, Code.STATE_CONFLICT],
    example={"ignoreLimits": True},
)
async def replay_trigger_event(call: Call, event_id: EventId, body: ReplayEvent | None = None) -> EventOutcome:
    """Take an event once more.

    The replay is an event of its own that points to the first (`replayOf`). It runs the version that is live now, in
    the caller's name, and obeys `maxRuns`, cooldown and pause unless `ignoreLimits` is set.
    """
    ignores = body is not None and body.ignore_limits
    return await call.parts.triggers.events.replay(call.principal, event_id, ignore_limits=ignores)


@noun.get(
    "/v1/workflows/{id}/trigger-events",
    permission="run:read",
    answers=PageAnswer[TriggerEventAnswer],
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_workflow_trigger_events(
    call: Call,
    id: str,
    paging: Paged,
    outcome: Outcome | None = None,
    trigger_node_id: Annotated[str | None, Named("triggerNodeId"), Field(max_length=64)] = None,
) -> Page[EventRow]:
    """List what a workflow's triggers saw, newest first."""
    org_id = call.principal.org_id
    filters = TriggerEventFilters(org_id=org_id, workflow_id=id, node_id=trigger_node_id, outcome=outcome)
    return await call.parts.triggers.events.list_page(call.principal, filters, paging)


@noun.get(
    "/v1/workflows/{id}/trigger-gaps",
    permission="run:read",
    answers=PageAnswer[GapAnswer],
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_trigger_gaps(call: Call, id: str, paging: Paged) -> Page[GapRow]:
    """List what a workflow's triggers did not scan, newest first.

    After a long downtime a trigger scans at most as far back as the operator allows; the rest is a gap.
    """
    return await call.parts.triggers.gaps.list_page(call.principal, id, paging)


@noun.post(
    "/v1/workflows/{id}/trigger-gaps/{gapId}/replay",
    permission="workflow:execute",
    reads="run:read",
    needed=["state", "replayedAt"],
    answers=GapAnswer,
    refusals=[Code.WORKFLOW_UNKNOWN, Code.TRIGGER_GAP_UNKNOWN, Code.STATE_CONFLICT],
)
async def replay_trigger_gap(call: Call, id: str, gap_id: GapId) -> GapRow:
    """Scan a gap after all; its events count like any other, and none that was seen before is taken twice."""
    return await call.parts.triggers.gaps.replay(call.principal, id, gap_id)
