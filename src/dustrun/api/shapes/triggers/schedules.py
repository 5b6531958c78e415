"""Answers about what triggers will do."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.api.shapes.wire import Answer, Time, time
from dustrun.core.triggers.schedules.preview import Upcoming
from dustrun.core.values.fields import Fields
from dustrun.services.triggers.trying.previews import NodeSchedule, Tested, WorkflowSchedule

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

    trigger_node_id: str
    type: str = Field(examples=["cronjob"])
    timezone: str = Field(examples=["Europe/Berlin"])
    state: Literal["armed", "paused", "ended", "failed"] | None = Field(
        description="Of the published trigger; null if the version is not published."
    )
    next_fire_at: Time | None
    waiting: int = Field(description="Times that wait for the run before to end (`overlap: queue`).")
    fires: list[UpcomingFire] = Field(description="The next ten times, whether it is armed or not.")


class WorkflowScheduleAnswer(Answer):
    """When a workflow runs next."""

    workflow_id: str
    version: int = Field(description="The version shown: the live one, else the draft.")
    next_run_at: Time | None = Field(description="The next time of all armed schedules; null if there is none.")
    server_time: Time
    triggers: list[TriggerSchedule]


class ConfigProblem(Answer):
    """Why publishing would refuse the config, or warn about it."""

    field: str
    message: str
    severity: Literal["error", "warning"]


class TriggerTestAnswer(Answer):
    """What a trigger with this config would see."""

    type: str
    kind: str = Field(description="How it fires.")
    origin: Literal["sample", "recent"] = Field(
        description="`recent`: a real one, of the workflow, the chain or the source; `sample`: made up from the config."
    )
    note: str | None = Field(description="Where the event is from, or why it is only a sample.")
    event: Any = Field(description="The payload, which a run finds in `$trigger.body`.")
    valid: bool = Field(description="Whether it could be published.")
    problems: list[ConfigProblem]
    timezone: str | None = Field(description="Of a schedule.")
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


def _fire(fire: Upcoming) -> Json:
    return {"at": time(fire.at), "localTime": fire.local_time, "note": fire.note}


def _trigger(node: NodeSchedule) -> Json:
    return {
        "triggerNodeId": node.node_id,
        "type": node.type,
        "timezone": node.zone_name,
        "state": node.state,
        "nextFireAt": time(node.fires[0].at) if node.fires and node.state == "armed" else None,
        "waiting": node.waiting,
        "fires": [_fire(fire) for fire in node.fires],
    }


def schedule_shape(found: WorkflowSchedule) -> Json:
    """A workflow's schedule as JSON."""
    return {
        "workflowId": found.workflow_id,
        "version": found.version,
        "nextRunAt": time(found.next_run_at),
        "serverTime": time(found.now),
        "triggers": [_trigger(node) for node in found.nodes],
    }


def tested_shape(found: Tested) -> Json:
    """A tested trigger as JSON."""
    return {
        "type": found.type,
        "kind": found.kind,
        "origin": found.origin,
        "note": found.note,
        "event": found.payload,
        "valid": not any(one.severity == "error" for one in found.findings),
        "problems": [
            {"field": f"config.{one.field}".rstrip("."), "message": one.message, "severity": one.severity}
            for one in found.findings
        ],
        "timezone": found.zone_name,
        "fires": [_fire(fire) for fire in found.fires],
    }
