"""Sends a message to people: Slack, Discord, Telegram, e-mail and about a hundred other services.

The node's connector of type `apprise` selects the service and its credentials: one URL, stored encrypted, as listed at
https://github.com/caronc/apprise/wiki. Only services over HTTP or SMTP are supported; desktop notifications, system
logs and local programs are not. The block on private networks applies.

Services do not detect duplicates. So a message without a definite response is uncertain, and a person decides before it
is sent again. To notify another program, `send-webhook` is better.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.sdk import Context, Effect, Fields, Notice, NoticeFormat, NoticeKind, action


class Input(Fields):
    """The message."""

    body: str = Field(description="The message text.", min_length=1, max_length=32_768)
    title: str = Field("", description="A title; services without titles prepend it to the body.", max_length=500)
    format: NoticeFormat = Field("text", description="Format of the body; services convert what they cannot display.")
    kind: NoticeKind = Field("info", description="Kind of message; some services show it as a colour.")
    timeout_ms: int = Field(30_000, ge=1000, le=300_000, description="Timeout of the delivery in milliseconds.")


class Output(Fields):
    """The service that accepted it."""

    service: str = Field(description="Name of the service.")


def _preview(input: Input) -> dict[str, Any]:
    return input.model_dump(by_alias=True, exclude={"timeout_ms"})


@action(
    effect=Effect.WRITE,
    input=Input,
    output=Output,
    example_input={"title": "Price alert", "body": "ETH is at {{$trigger.body.usd}} USD.", "kind": "warning"},
    example_output={"service": "Slack"},
    connector="apprise",
    sends_by_context=True,
    preview=_preview,
    tags=("messages", "slack", "discord", "telegram", "email", "alert"),
)
async def notify(input: Input, ctx: Context) -> Output:
    """Delivers the message."""
    notice = Notice(input.body, input.title, input.format, input.kind, input.timeout_ms / 1000)
    return Output(service=await ctx.notify.send(ctx.connection.data.url, notice))
