"""Starts a run when a trigger of another workflow cannot look for events, or an event of it can start no run.

Use it to hear of a source that does not answer, a connector whose credential is refused, or a payload that does not
fit, for all workflows at once. A trigger whose looks fail is told once, after `failures` of them in a row, and again
only after it has recovered; those that already fail when it is published are told too. A workflow never hears of its
own triggers. Events of triggers that only wait for what happens in this server do not count.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.clock import to_rfc3339
from dustrun.sdk import Polled, PolledEvent, TriggerContext
from dustrun.sdk.trigger import polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.happened.facts_poll import HappenedConfig

What = Literal["look", "event"]


class Config(HappenedConfig):
    """Which failures start a run."""

    what: tuple[What, ...] = Field(
        ("look", "event"),
        min_length=1,
        description="`look`: a trigger cannot see its source; `event`: an event of it should have started a run, "
        "and could not.",
    )
    failures: int = Field(3, ge=1, le=100, strict=True, description="How many looks in a row must have failed.")


class Output(EventOutput):
    """A failure."""

    what: What = Field(description="What failed.")
    workflow_id: str = Field(description="The trigger's workflow.")
    trigger_node_id: str = Field(description="The trigger's node.")
    trigger_type: str = Field(description="Its type.")
    message: str | None = Field(description="Why.")
    failures: int | None = Field(description="How many looks in a row have failed.")
    reason: str | None = Field(description="Of an event: the reason as a word.")
    event_id: str | None = Field(description="Of an event: its id.")
    at: str = Field(description="When it was noticed, RFC 3339.")


_NONE = {"failures": None, "reason": None, "eventId": None}


def _payload(what: What, data: dict[str, Any], at: int) -> dict[str, Any]:
    return {**_NONE, **{name: one for name, one in data.items() if name != "state"}, "what": what, "at": to_rfc3339(at)}


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    failing = await ctx.facts.failing_triggers()
    return _payload("look", failing[0].data, ctx.now_ms) if failing else None


_EXAMPLE: dict[str, Any] = {
    "what": "look",
    "workflowId": "wf_01m8brt9hae4de3w6f0w3c1rmr",
    "triggerNodeId": "root",
    "triggerType": "http-poll",
    "message": "The source answers with status 401.",
    "failures": 3,
    "reason": None,
    "eventId": None,
    "at": "2026-01-31T12:00:00.000Z",
}


@polled(
    config=Config,
    output=Output,
    recent=_recent,
    example_config={"what": ["look"], "failures": 3},
    example_output=example_output(_EXAMPLE, "trigger-failed"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """The triggers that have begun to fail since the cursor."""
    now = ctx.now_ms
    failed, after = await ctx.facts.failed_events(-1 if cursor is None else cursor["after"])
    failing = [one for one in await ctx.facts.failing_triggers() if config.takes(one.data["workflowId"])]
    known = set() if cursor is None else set(cursor["failing"])
    now_failing = [one for one in failing if one.failures >= config.failures or one.data["state"] == "failed"]
    events: list[PolledEvent] = []
    if "look" in config.what:
        events += [
            PolledEvent(f"{one.id}:{now}", _payload("look", one.data, now), now)
            for one in now_failing
            if one.id not in known
        ]
    if "event" in config.what:
        events += [
            PolledEvent(one.key, _payload("event", one.data, one.at), one.at)
            for one in failed
            if config.takes(one.data["workflowId"])
        ]
    # one that fails less often than that, but has not recovered, is not told again
    still = sorted({one.id for one in now_failing} | (known & {one.id for one in failing}))
    return Polled(events, {"after": after, "failing": still}, after_ms=0 if len(failed) == 100 else None)
