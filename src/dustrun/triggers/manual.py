"""Starts a run on request, through the API, the command line or the editor.

Use it for runs started by a person or a program. With `inputSchema` the payload is validated first. Numbers are exact,
`pattern` is RE2, `format` is not checked, and references must stay within the schema.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from dustrun.sdk import Fields, manual
from dustrun.triggers._input_schema import InputSchema


class Config(InputSchema):
    """Validation of the payload."""


class Output(Fields):
    """The keys of the payload, and these."""

    model_config = ConfigDict(extra="allow")

    body: dict[str, Any] = Field(description="The whole payload.")
    headers: dict[str, str] = Field(description="Headers of the request, for a webhook.")
    query: dict[str, str] = Field(description="Query of the request, for a webhook.")
    source: str = Field(description="What started the run.")
    triggered_at: str = Field(description="Start time, RFC 3339.")


@manual(
    config=Config,
    output=Output,
    example_config={"inputSchema": {"type": "object", "properties": {"usd": {"type": "number"}}}},
    example_output={
        "usd": 2000,
        "body": {"usd": 2000},
        "headers": {},
        "query": {},
        "source": "api",
        "triggeredAt": "2026-01-31T12:00:00.000Z",
    },
)
def accept(config: Config, payload: dict[str, Any]) -> dict[str, Any]:
    """Returns the payload; raises `Invalid` if it does not match the schema."""
    if config.compiled is not None:
        config.compiled.check(payload)
    return payload
