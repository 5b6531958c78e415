"""The output of triggers whose payload is an event."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from dustrun.sdk import Fields


class EventOutput(Fields):
    """The keys of the payload, and these."""

    model_config = ConfigDict(extra="allow")

    body: dict[str, Any] = Field(description="The whole payload.")
    headers: dict[str, str] = Field(description="Empty; for webhooks.")
    query: dict[str, str] = Field(description="Empty; for webhooks.")
    source: str = Field(description="What started the run.")
    triggered_at: str = Field(description="Start time, RFC 3339.")


def example_output(payload: dict[str, Any], kind: str) -> dict[str, Any]:
    """The output of a trigger for a payload."""
    head = {"body": payload, "headers": {}, "query": {}, "source": kind, "triggeredAt": "2026-01-31T12:00:00.000Z"}
    return {**payload, **head}
