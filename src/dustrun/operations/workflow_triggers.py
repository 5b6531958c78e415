"""A workflow's triggers: what is armed, what came of it, and making watching triggers live."""

from __future__ import annotations

import functools
from typing import Annotated

from pydantic import Field

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.fields import Instant, moment_ms
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.trigger_events import (
    TriggerAggregates,
    TriggerInfo,
    TriggerRehearsalAnswer,
    aggregates_shape,
    info_shape,
    rehearsal_shape,
    went_live_shape,
)
from dustrun.services.triggers.events import Aggregate, ChainProgress
from dustrun.services.triggers.rehearsal import Rehearsal
from dustrun.services.triggers.subscriptions import Subscription
from dustrun.storage.triggers.subscriptions import SubscriptionRow

noun = Noun("Triggers")


class GoLive(Fields):
    """Which watching triggers are made live."""

    trigger_node_id: str | None = Field(None, max_length=64, description="Only this one; default: all of them.")


def _live(workflow_id: str, rows: list[SubscriptionRow]) -> tuple[str, list[SubscriptionRow]]:
    return workflow_id, rows


@noun.get(
    "/v1/workflows/{id}/trigger-info",
    permission="workflow:read",
    answers=TriggerInfo,
    shape=info_shape,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def get_trigger_info(call: Call, id: str) -> tuple[str, list[tuple[Subscription, ChainProgress | None]]]:
    """Get what publishing has set up: each trigger that fires by itself, whether it is armed, and whether it stands
    still."""
    return id, await call.parts.triggers.events.list_with_progress(call.principal, id)


@noun.get(
    "/v1/workflows/{id}/trigger-aggregates",
    permission="run:read",
    answers=TriggerAggregates,
    shape=aggregates_shape,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def get_trigger_aggregates(call: Call, id: str) -> tuple[str, list[Aggregate]]:
    """Count what came of each trigger: events and runs, the last fire and the next."""
    return id, await call.parts.triggers.events.aggregates(call.principal, id)


@noun.get(
    "/v1/workflows/{id}/trigger-rehearsal",
    permission="run:read",
    answers=TriggerRehearsalAnswer,
    shape=rehearsal_shape,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def get_trigger_rehearsal(
    call: Call,
    id: str,
    since: Annotated[Instant | None, Field(description="Default: when the triggers began to watch.")] = None,
) -> Rehearsal:
    """Get what the events of watching triggers would have done.

    A trigger whose config has `mode` `simulate` or `dust` watches real events and rehearses each one.
    """
    start = moment_ms(since) if since is not None else None
    return await call.parts.triggers.rehearsals.report(call.principal, id, start)


@noun.post(
    "/v1/workflows/{id}/trigger-rehearsal/go-live",
    permission="workflow:publish",
    reads="workflow:read",
    needed=["triggers", "triggerNodeId", "state", "mode"],
    answers=TriggerInfo,
    shape=went_live_shape,
    refusals=[
        Code.WORKFLOW_UNKNOWN,
        Code.STATE_CONFLICT,
        Code.REHEARSAL_MISSING,
        Code.VERSION_NOT_ACCEPTED,
        Code.PERMISSION_MISSING,
    ],
    example={"triggerNodeId": "root"},
)
async def make_triggers_live(call: Call, id: str, body: GoLive | None = None) -> tuple[str, list[SubscriptionRow]]:
    """Make watching triggers live, in the caller's name.

    They go on where they are: nothing that they have seen runs again. The next version that asks for `mode` watches
    first again.
    """
    node_id = body.trigger_node_id if body is not None else None
    shaped = functools.partial(_live, id)
    call.answer_around(shaped)
    return shaped(await call.parts.triggers.rehearsals.go_live(call.principal, id, node_id))
