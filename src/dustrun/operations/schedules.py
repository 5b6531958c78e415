"""Previews of triggers: `/v1/workflows/{id}/schedule` and `/v1/triggers/{type}/test`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer, From, Time
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.triggers.trying import NodeSchedule, TriggerTrial, WorkflowSchedule

noun = Noun("Workflows")

Json = dict[str, Any]


class UpcomingFire(Answer):
    """One time at which a schedule fires."""

    at: Time
    local_time: str = Field(
        description="What the zone's clock shows, with its distance from UTC.", examples=["2026-03-29T03:00:00+02:00"]
    )
    note: str | None = Field(description="What is unusual about this time, such as a change of the clock.")


class TriggerSchedule(Answer):
    """The next times of one trigger."""

    trigger_node_id: Annotated[str, From("node_id")]
    type: str = Field(examples=["cronjob"])
    timezone: Annotated[str, From("zone_name")] = Field(examples=["Europe/Berlin"])
    state: Literal["armed", "paused", "ended", "failed"] | None = Field(
        description="Of the published trigger; null if the version is not published."
    )
    next_fire_at: Annotated[Time | None, From(_next_at)]
    waiting: int = Field(description="Times that wait for the run before to end (`overlap: queue`).")
    fires: list[UpcomingFire] = Field(description="The next ten times, whether it is armed or not.")


class WorkflowScheduleAnswer(Answer):
    """When a workflow runs next."""

    workflow_id: str
    version: int = Field(description="The version shown: the live one, else the draft.")
    next_run_at: Time | None = Field(description="The next time of all armed schedules; null if there is none.")
    server_time: Annotated[Time, From("now")]
    triggers: Annotated[list[TriggerSchedule], From("nodes")]


class ConfigProblem(Answer):
    """Why publishing would refuse the config, or warn about it."""

    field: Annotated[str, From(_field)]
    message: str
    severity: Literal["error", "warning"]


class TriggerTestAnswer(Answer):
    """The events that a trigger with this config would see."""

    type: str
    kind: str = Field(description="How it fires.")
    origin: Literal["sample", "recent"] = Field(
        description="`recent`: a real one, of the workflow, the chain or the source; `sample`: made up from the config."
    )
    note: str | None = Field(description="Where the event is from, or why it is only a sample.")
    event: Annotated[Any, From("payload")] = Field(description="The payload, which a run finds in `$trigger.body`.")
    valid: Annotated[bool, From(_is_valid)] = Field(description="Whether it could be published.")
    problems: Annotated[list[ConfigProblem], From("findings")]
    timezone: Annotated[str | None, From("zone_name")] = Field(description="Of a schedule.")
    fires: list[UpcomingFire] = Field(description="Of a schedule: the next ten times.")


class TestTrigger(Fields):
    """A trigger's config to test."""

    config: dict[str, Any] = Field(default_factory=dict, description="As in a trigger node's `payload`.")
    workflow_id: str | None = Field(
        None, max_length=64, description="A workflow whose last event of this type is shown instead of a sample."
    )
    connector_id: str | None = Field(
        None,
        max_length=64,
        description="Id of the connector that the trigger's node names: the source is asked with it.",
    )


def _next_at(node: NodeSchedule) -> int | None:
    return node.fires[0].at if node.fires and node.state == "armed" else None


def _field(finding: Any) -> str:
    return f"config.{finding.field}".rstrip(".")


def _is_valid(found: TriggerTrial) -> bool:
    return not any(one.severity == "error" for one in found.findings)


@noun.get(
    "/v1/workflows/{id}/schedule",
    permission="workflow:read",
    answers=WorkflowScheduleAnswer,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def get_schedule(call: Call, id: str) -> WorkflowSchedule:
    """Get when a workflow runs next.

    It shows the next ten times of each schedule in the live version, else in the draft, with the zone's local time and
    a note where the clock changes. `nextRunAt` is null while the workflow is paused or not published.
    """
    return await call.parts.triggers.previews.schedule(call.principal, id)


@noun.post(
    "/v1/triggers/{type}/test",
    permission="workflow:read",
    answers=TriggerTestAnswer,
    refusals=[Code.TYPE_UNKNOWN, Code.WORKFLOW_UNKNOWN, Code.BODY_INVALID, Code.HOST_NOT_ALLOWED],
    example={"config": {"schedule": "30 2 * * *", "timezone": "Europe/Berlin"}},
)
async def test_trigger(
    call: Call,
    type: Annotated[str, Field(description="The trigger type.", examples=["cronjob"], max_length=128)],
    body: TestTrigger,
) -> TriggerTrial:
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
