"""Sends a signed webhook (Standard Webhooks).

Use it to notify another system that verifies the sender. The body is JSON and is sent by POST with `webhook-id`,
`webhook-timestamp` and `webhook-signature` (`v1`, HMAC-SHA256), which every library of https://www.standardwebhooks.com
verifies. If the receiver does not check signatures, `http-request` is enough.

The secret comes from a connector of type `webhook-secret`, or from `secret`.

With `type` the body is `{"type", "timestamp", "data"}`, as the standard recommends; without it, `data` alone.

The id is the same for every attempt, restart and retry of this node, and receivers drop duplicates. So an attempt
without a response is simply repeated by the node's `retry`, and so is one that a crash interrupted. 408, 429 and 5xx
may be retried; a redirect and any other 4xx are final. Redirects are never followed: the message is signed for one
receiver.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from dustrun.actions.http import incoming, outgoing
from dustrun.clock import to_rfc3339
from dustrun.core.text import standard_webhooks
from dustrun.core.values.exact_json import dumps
from dustrun.errors import Permanent
from dustrun.sdk import Context, Effect, Fields, HttpRequest, HttpResponse, Origin, action
from dustrun.sdk.fields import secret
from dustrun.sdk.threads import run_sized

_OURS = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature", "content-type"})
_PREVIEW_ID = "(the key of this node in this run)"


class Input(Fields):
    """The message."""

    url: str = Field(
        description="An http or https URL.", min_length=1, max_length=8192, json_schema_extra={"x-url": True}
    )
    data: Any = Field(None, description="The event data, as JSON.")
    type: str | None = Field(
        None,
        max_length=128,
        description="Event type, like `order.paid`; with it the body is `{type, timestamp, data}`.",
    )
    secret: str | None = secret(
        None,
        description=(
            "The signing secret shared with the receiver, `whsec_` followed by base64; default is that of the "
            "connector, where it is stored encrypted."
        ),
    )
    headers: dict[str, outgoing.Scalar] = Field({}, description="Additional headers; null omits one.")
    timeout_ms: int = Field(15_000, ge=1, le=600_000, description="Timeout of one attempt in milliseconds.")

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, value: str | None) -> str | None:
        if value is not None:
            standard_webhooks.key_of(value)
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, outgoing.Scalar]) -> dict[str, outgoing.Scalar]:
        taken = sorted(name for name in value if name.lower() in _OURS)
        if taken:
            raise ValueError(f'"{taken[0]}" is set by this action; remove it')
        return value


class Output(Fields):
    """The receiver's response."""

    id: str = Field(description="The message's id, `webhook-id`.")
    timestamp: str = Field(description="Signing time.")
    status: int = Field(description="The HTTP status.")
    body: Any = Field(
        description=("The response body: JSON as a value, text as a string, else base64; null without a body.")
    )


def _body(input: Input, now_ms: int) -> bytes:
    if input.type is None:
        return dumps(input.data)
    return dumps({"type": input.type, "timestamp": to_rfc3339(now_ms), "data": input.data})


def _build(input: Input, signed: dict[str, str], body: bytes) -> HttpRequest:
    headers = {**dict(outgoing.pairs(input.headers)), **signed, "Content-Type": "application/json"}
    return HttpRequest(
        method="POST",
        url=input.url,
        headers=headers,
        body=body,
        timeout_s=input.timeout_ms / 1000,
        max_redirects=0,
        safe=False,
    )


def _preview(input: Input) -> dict[str, Any]:
    signed = {"webhook-id": _PREVIEW_ID, "webhook-timestamp": "(the time)", "webhook-signature": outgoing.MASK}
    body = dumps(input.data) if input.type is None else dumps({"type": input.type, "data": input.data})
    return outgoing.shown(_build(input, signed, body))


def _host_of(input: Input) -> str | None:
    try:
        return urlsplit(input.url).hostname
    except ValueError:
        return None


@action(
    effect=Effect.WRITE,
    input=Input,
    output=Output,
    example_input={
        "url": "https://hooks.example.com/orders",
        "type": "order.paid",
        "data": {"orderId": "ord_1", "amount": "{{$trigger.body.amount}}"},
    },
    example_output={
        "id": "dustrun-0123456789abcdef0123456789abcdef01234567",
        "timestamp": "2026-01-31T12:00:00.000Z",
        "status": 200,
        "body": {"received": True},
    },
    idempotent=True,
    preview=_preview,
    host_of=_host_of,
    connector="webhook-secret",
    connector_optional=True,
    connector_instead_of="secret",
    sends_by_context=True,
    origins=[Origin("http", "url")],
    tags=("http", "webhook", "signature"),
)
async def send_webhook(input: Input, ctx: Context) -> Output:
    """Signs the message and sends it once."""
    now_ms = ctx.now_ms
    body = await run_sized(input, _body, input, now_ms)
    key = _key_of(input, ctx)
    signed = standard_webhooks.headers(key, ctx.idempotency_key, now_ms // 1000, body)
    response = await ctx.http.request(_build(input, signed, body))
    await run_sized(response.body, _refuse, response, now_ms)
    answer, warning = await run_sized(response.body, incoming.read_body, response)
    if warning is not None:
        ctx.log(warning, level="warning")
    return Output(id=ctx.idempotency_key, timestamp=to_rfc3339(now_ms), status=response.status, body=answer)


def _key_of(input: Input, ctx: Context) -> bytes:
    if input.secret is not None:
        return standard_webhooks.key_of(input.secret)
    return standard_webhooks.key_of(ctx.connection.data.secret)


def _refuse(response: HttpResponse, now_ms: int) -> None:
    """Raises unless the message was accepted. Repeating it is safe, as for a read."""
    what = f"The webhook to {response.url.partition('?')[0]}"
    error = incoming.failure(response, what, is_read=True, now_ms=now_ms)
    if error is not None:
        raise error
    if response.status >= 300:
        raise Permanent(f"{what} got status {response.status}: redirects are not followed; use the final URL.")
