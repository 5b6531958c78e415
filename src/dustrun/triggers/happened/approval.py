"""Starts a run when an approval is asked for, voted on, decided, or expires.

Use it to tell people where they are asked, or to act on what nobody decided in time, for all workflows at once. Spends,
`approve` nodes and proposed launches count. A workflow never hears of approvals of its own runs, nor of those that it
led to."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import Field

from dustrun.sdk import Polled, TriggerContext
from dustrun.sdk.trigger import Fact, polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.happened.facts_poll import HappenedConfig, news, recent_of

Status = Literal["asked", "voted", "decided", "expired", "cancelled"]


class Config(HappenedConfig):
    """Which approvals start a run."""

    statuses: tuple[Status, ...] = Field(
        ("asked",),
        min_length=1,
        description="What happened. `voted`: one of several who must approve it did; `cancelled`: nobody needs the "
        "decision any more.",
    )
    modes: tuple[Literal["live", "dust"], ...] = Field(("live",), min_length=1, description="The modes of their runs.")


class Output(EventOutput):
    """An approval."""

    status: Status = Field(description="What happened.")
    approval_id: str = Field(description="Its id.")
    run_id: str = Field(description="The run that asks.")
    workflow_id: str | None = Field(description="The run's workflow; null: an inline run.")
    workflow_name: str = Field(description="The workflow's name.")
    path: str = Field(description="The node in the run.")
    message: str = Field(description="What is asked.")
    mode: str = Field(description="The run's mode.")
    decision: Literal["approved", "rejected"] | None = Field(description="The decision; null: there is none.")
    decided_by: str | None = Field(description="The key that decided or voted, or `link`.")
    comment: str | None = Field(description="Why.")
    quorum: int = Field(description="How many hands must approve it.")
    votes: list[dict[str, Any]] = Field(
        description="Who had approved it by then, if several must: `by`, `at`, `comment`."
    )
    expires_at: str = Field(description="Until when it can be decided, RFC 3339.")
    at: str = Field(description="When it happened, RFC 3339.")
    depth: int = Field(description="How many runs in a row led to this one by such events, itself included.")
    through: list[str] = Field(description="The workflows of these runs, oldest first, without this one.")


def _counts(config: Config, one: Fact) -> bool:
    told = one.what in config.statuses and one.data["mode"] in config.modes
    return told and config.takes(one.data["workflowId"])


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    return await recent_of(ctx, "approval", partial(_counts, config))


_EXAMPLE: dict[str, Any] = {
    "status": "asked",
    "approvalId": "apr_01m8brt9hae4de3w6f0w3c1rmr",
    "runId": "run_01m8brt9hae4de3w6f0w3c1rmr",
    "workflowId": "wf_01m8brt9hae4de3w6f0w3c1rmr",
    "workflowName": "Pay invoices",
    "path": "pay",
    "message": "Send 250 USDC to 0x7099…79C8?",
    "mode": "live",
    "decision": None,
    "decidedBy": None,
    "comment": None,
    "quorum": 1,
    "votes": [],
    "expiresAt": "2026-02-01T12:00:00.000Z",
    "at": "2026-01-31T12:00:00.000Z",
    "depth": 1,
    "through": ["wf_01m8brt9hae4de3w6f0w3c1rmr"],
}


@polled(
    config=Config,
    output=Output,
    recent=_recent,
    example_config={"statuses": ["asked", "expired"]},
    example_output=example_output(_EXAMPLE, "approval"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """The events of approvals since the cursor."""
    return await news(ctx, "approval", cursor, partial(_counts, config))
