"""Starts a run when somebody sends a request to the workflow's own address.

The address is secret: `POST /v1/workflows/{id}/webhooks/{nodeId}/rotate` creates it and shows it once. `auth` says how
a sender authenticates, besides knowing the address. A JSON object in the body is the payload; another JSON value is its
field `value`, the fields of a form are its fields, text is its field `text`. `$trigger.headers` and `$trigger.query`
have the headers and the query; headers with secrets are masked.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from dustrun.core.expression import ExpressionError, parse_template
from dustrun.core.triggers.webhook_auth import HeaderName, SecretUrl
from dustrun.core.triggers.webhook_senders import Auth, names_events
from dustrun.sdk import Fields, TriggerConfig
from dustrun.sdk.trigger import webhook
from dustrun.triggers._input_schema import InputSchema

METHODS = ("POST", "GET", "PUT", "PATCH", "DELETE")


class Dedupe(Fields):
    """How a repeated request is recognised: by a header, or by an expression."""

    header: HeaderName | None = Field(None, description="A header that identifies the event.")
    expression: str | None = Field(
        None,
        max_length=1000,
        description="Text with expressions over `$trigger.body`, `$trigger.headers` and `$trigger.query`.",
        examples=["{{$trigger.body.id}}"],
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Dedupe:
        if (self.header is None) == (self.expression is None):
            raise ValueError("give exactly one of `header` and `expression`")
        if self.expression is not None:
            try:
                parse_template(self.expression)
            except ExpressionError as error:
                raise ValueError(f"`expression` cannot be read: {error.message}") from None
        return self


class Config(InputSchema, TriggerConfig):
    """Which requests start a run, and what they are answered."""

    methods: tuple[Literal["POST", "GET", "PUT", "PATCH", "DELETE"], ...] = Field(
        ("POST",), min_length=1, max_length=5, description="Accepted methods; others are answered 405."
    )
    auth: Auth = Field(
        default_factory=SecretUrl, description="How a sender authenticates, besides knowing the address."
    )
    respond: Literal["202", "result", "respond"] = Field(
        "202",
        description="`202`: answer as soon as the event is stored; `result`: wait until the run ends and answer with "
        "its result; `respond`: wait for a `respond` node and send its answer.",
    )
    timeout_ms: int = Field(
        30_000, ge=100, le=60_000, description="How long `result` and `respond` wait; then the answer is 202."
    )
    dedupe: Dedupe | None = Field(
        None,
        description="How to recognise a repeated request. Without it, by the sender's own id, which "
        "`standard-webhooks` and the named senders have, or by a signature that covers a time.",
    )

    @property
    def recognises_events(self) -> bool:
        """Whether an event that its sender delivers again is recognised."""
        return self.dedupe is not None or names_events(self.auth)


class Output(Fields):
    """The keys of the payload, and these."""

    model_config = ConfigDict(extra="allow")

    body: dict[str, Any] = Field(description="The whole payload.")
    headers: dict[str, str] = Field(description="Headers of the request, by lower-case name; secrets are masked.")
    query: dict[str, str] = Field(description="Query of the address.")
    source: str = Field(description="What started the run: `webhook`.")
    triggered_at: str = Field(description="Start time, RFC 3339.")


@webhook(
    config=Config,
    output=Output,
    example_config={
        "auth": {"type": "standard-webhooks"},
        "inputSchema": {"type": "object", "required": ["orderId"]},
        "respond": "202",
    },
    example_output={
        "orderId": 17,
        "body": {"orderId": 17},
        "headers": {"content-type": "application/json", "webhook-id": "msg_1"},
        "query": {},
        "source": "webhook",
        "triggeredAt": "2026-01-31T12:00:00.000Z",
    },
)
def accept(config: Config, payload: dict[str, Any]) -> dict[str, Any]:
    """Returns the payload; raises `Invalid` if it does not match the schema."""
    if config.compiled is not None:
        config.compiled.check(payload)
    return payload
