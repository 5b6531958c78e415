"""Starts a run when calls with a connector begin to fail for good, or work again.

Use it to hear of a key that has expired or was revoked before the next payment needs it. A connector fails when its
credential is refused (401, or 403 three times in a row), when its provider issues no token any more and somebody must
reconnect it, or when its host has not answered five times in a row. It is told once, until the connector works again or
is changed. Nodes, polled and streamed triggers over HTTP and tests of connectors count. A workflow never hears of its
own runs, nor of those that it led to.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.sdk import Polled, TriggerContext
from dustrun.sdk.trigger import Fact, polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.happened.facts_poll import LookConfig, news, recent_of

What = Literal["refused", "reconnect", "unreachable", "recovered"]
ConnectorId = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Config(LookConfig):
    """Which connectors, and what of them."""

    what: tuple[What, ...] = Field(
        ("refused", "reconnect", "unreachable"),
        min_length=1,
        description="What happened. `reconnect`: its provider issues no token; `recovered`: it works again.",
    )
    connector_ids: tuple[ConnectorId, ...] | None = Field(
        None, min_length=1, max_length=50, description="Only these connectors; null: all."
    )


class Output(EventOutput):
    """A connector whose calls fail, or work again."""

    what: What = Field(description="What happened.")
    connector_id: str = Field(description="The connector.")
    name: str = Field(description="Its name.")
    connector_type: str = Field(description="Its type.")
    message: str | None = Field(description="How the calls fail; of one that works again, how they failed.")
    run_id: str | None = Field(description="The run in which it was noticed; null: a trigger or a test noticed it.")
    workflow_id: str | None = Field(description="The run's workflow.")
    at: str = Field(description="When it was noticed, RFC 3339.")
    depth: int = Field(description="How many runs in a row led to this one by such events, itself included.")
    through: list[str] = Field(description="The workflows of these runs, oldest first, without this one.")


def _counts(config: Config, one: Fact) -> bool:
    return one.what in config.what and (config.connector_ids is None or one.data["connectorId"] in config.connector_ids)


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    return await recent_of(ctx, "connector", partial(_counts, config))


_EXAMPLE: dict[str, Any] = {
    "what": "refused",
    "connectorId": "conn_01m8brt9hae4de3w6f0w3c1rmr",
    "name": "Orders API",
    "connectorType": "http-bearer",
    "message": "api.example.com answers with status 401.",
    "runId": "run_01m8brt9hae4de3w6f0w3c1rmr",
    "workflowId": "wf_01m8brt9hae4de3w6f0w3c1rmr",
    "at": "2026-01-31T12:00:00.000Z",
    "depth": 1,
    "through": ["wf_01m8brt9hae4de3w6f0w3c1rmr"],
}


@polled(
    config=Config,
    output=Output,
    recent=_recent,
    example_config={"what": ["refused", "reconnect"]},
    example_output=example_output(_EXAMPLE, "connector-failed"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """The events of connectors since the cursor."""
    return await news(ctx, "connector", cursor, partial(_counts, config))
