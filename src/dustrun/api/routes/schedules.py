"""What triggers will do: `/v1/workflows/{id}/schedule` and `/v1/triggers/{type}/test`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.triggers.schedules import (
    TestTrigger,
    TriggerTestAnswer,
    WorkflowScheduleAnswer,
    schedule_shape,
    tested_shape,
)
from dustrun.errors import Code
from dustrun.services.triggers.trying.previews import Tested, WorkflowSchedule

routes = Routes("Workflows")
router = routes.router


@routes.get(
    "/v1/workflows/{id}/schedule",
    permission="workflow:read",
    answers=WorkflowScheduleAnswer,
    shape=schedule_shape,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def get_schedule(call: Call, id: str) -> WorkflowSchedule:
    """Get when a workflow runs next.

    It shows the next ten times of each schedule in the live version, else in the draft, with the zone's local time and
    a note where the clock changes. `nextRunAt` is null while the workflow is paused or not published.
    """
    return await call.parts.triggers.previews.schedule(call.principal, id)


@routes.post(
    "/v1/triggers/{type}/test",
    permission="workflow:read",
    answers=TriggerTestAnswer,
    shape=tested_shape,
    refusals=[Code.TYPE_UNKNOWN, Code.WORKFLOW_UNKNOWN, Code.BODY_INVALID, Code.HOST_NOT_ALLOWED],
)
async def test_trigger(
    call: Call,
    type: Annotated[str, Path(description="The trigger type.", examples=["cronjob"], max_length=128)],
    body: TestTrigger,
) -> Tested:
    """Test a trigger's config.

    Nothing is armed and no run is started. The answer has the payload of an event, what publishing would refuse, and
    for a schedule the next ten times. The event is the last one of `workflowId`, if there is one and the key has
    `run:read`. Otherwise triggers of a chain look for a real one in the newest 2,000 blocks (64, if they have to be
    read one by one), and polled triggers ask their source, if the key has `run:inline`, with the credential of
    `connectorId`. `origin` and `note` say which. The connector's secrets are masked. A config that does not fit the
    trigger's schema is refused with 400001.
    """
    return await call.parts.triggers.previews.test(
        call.principal, type, body.config, body.workflow_id, body.connector_id
    )
