"""Send a message to people: Slack, Discord, Telegram, e-mail and a hundred other services.

Which service and with which credentials says the node's connector of type `apprise`: one URL, kept secret, as listed at
https://github.com/caronc/apprise/wiki. Services that speak HTTP or SMTP can be used; desktops, system logs and programs
of the server's machine cannot, and the server's guard of private networks applies.

A service has no way to recognise a message that comes twice. So a message that got no clear answer is uncertain, and
someone looks before it is sent again. For an event that another program is to act on, `send-webhook` is better.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.sdk import Context, Effect, Fields, Notice, NoticeFormat, NoticeKind, action


class Input(Fields):
    """The message."""

    body: str = Field(description="What to say.", min_length=1, max_length=32_768)
    title: str = Field("", description="A title; services without titles put it before the body.", max_length=500)
    format: NoticeFormat = Field("text", description="How the body is written; services convert what they cannot show.")
    kind: NoticeKind = Field("info", description="What sort of message it is; some services show it by a colour.")
    timeout_ms: int = Field(30_000, ge=1000, le=300_000, description="Time limit of the delivery.")


class Output(Fields):
    """Who took it."""

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
    preview=_preview,
    tags=("messages", "slack", "discord", "telegram", "email"),
)
async def notify(input: Input, ctx: Context) -> Output:
    """Hands the message to the service."""
    notice = Notice(input.body, input.title, input.format, input.kind, input.timeout_ms / 1000)
    return Output(service=await ctx.notify.send(ctx.connection.data.url, notice))
