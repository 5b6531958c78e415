"""Starts a run on request, through the API, the command line or the editor.

Use it for runs started by a person or a program. With `inputSchema` the payload is validated first. Numbers are exact,
`pattern` is RE2, `format` is not checked, and references must stay within the schema.
"""

from __future__ import annotations

import functools
from typing import Any

from pydantic import ConfigDict, Field, field_validator

from dustrun.core.json_schema.check import PayloadCheck
from dustrun.core.json_schema.schema import check_schema
from dustrun.sdk import Fields, manual


class Config(Fields):
    """Validation of the payload."""

    input_schema: dict[str, Any] | None = Field(
        None, description="JSON Schema (2020-12) of the payload; without it, every object is accepted."
    )

    @field_validator("input_schema")
    @classmethod
    def _check_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            check_schema(schema or {})
        except ValueError as error:
            raise ValueError(f"the schema {error}") from None
        return schema

    @functools.cached_property
    def compiled(self) -> PayloadCheck | None:
        """The compiled schema, built at the first run; None if everything is accepted."""
        return PayloadCheck(self.input_schema) if self.input_schema else None


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
