"""Starts a run for each message of a NATS JetStream stream.

A durable consumer of its own keeps the place: it is made when the trigger first connects, and its messages are
acknowledged once their events are on disk. What was not acknowledged is delivered again, and starts no second run.
Messages come in their order, but for those that are delivered again.

`message` is the JSON of a message, else its text. The server needs the extra `queues` (`pip install dustrun[queues]`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import ssl
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from dustrun.clock import to_rfc3339
from dustrun.errors import Invalid, Temporary
from dustrun.sdk import Finding, PolledEvent, TriggerConfig, TriggerContext
from dustrun.sdk.context import NoConnection
from dustrun.sdk.fields import raw
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import NoRun, Received, streamed
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.streamed.expressions import OverMessage, judge, read_message

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

_NAME: Final = r"^[A-Za-z0-9_-]+$"
_AT_ONCE: Final = 20
_WAITS_S: Final = 5.0
_OPENS_WITHIN_S: Final = 15
_MISSING: Final = "needs the extra `queues` on the server: pip install dustrun[queues]"


class Config(TriggerConfig):
    """Which messages start a run."""

    stream: str = Field(max_length=255, pattern=_NAME, description="The stream.")
    consumer: str = Field(
        max_length=64, pattern=_NAME, description="Name of the durable consumer; no other reader may use it."
    )
    subject: str | None = Field(
        None, min_length=1, max_length=255, pattern=r"^[^\s]+$", description="Which subjects count; null: all."
    )
    begin: Literal["new", "all"] = Field(
        "new",
        description="Where a new consumer begins: at what is published from then on, or at all that the stream has.",
    )
    filter: OverMessage | None = raw(
        None, max_length=4000, description="Which messages start a run, like `message.total > 100`; null: all."
    )
    max_bytes: int = Field(262_144, ge=1024, le=1_048_576, description="The largest message, in bytes.")


class Output(EventOutput):
    """One message."""

    subject: str = Field(description="Its subject.")
    message: Any = Field(description="The message: JSON, else text; null if it is larger than `maxBytes`.")
    headers_of_message: dict[str, str] = Field(description="Its headers.")
    sequence: int = Field(description="Its number in the stream.")
    published_at: str = Field(description="When it was published, RFC 3339.")
    deliveries: int = Field(description="How often it has been delivered, this time included.")


async def _check(_: TriggerContext, __: Config) -> list[Finding]:
    return [] if importlib.util.find_spec("nats") is not None else [Finding("", _MISSING)]


async def _open(ctx: TriggerContext) -> Client:
    """A connection to this server alone: others that it names would be reached past the guard."""
    if importlib.util.find_spec("nats") is None:
        raise Temporary(f"The trigger {_MISSING}.")
    import nats  # optional dependency
    from nats.aio.client import Client  # optional dependency

    if ctx.connection is None:
        raise Invalid('The trigger needs a connector of the type "nats".')
    data, refused = ctx.connection.data, []
    (address, *_) = await ctx.http.addresses(data.host, data.port)
    shown = f"[{address}]" if ":" in address else address
    more: dict[str, Any] = {"token": data.token} if data.token else {"user": data.user, "password": data.password}
    if data.tls == "verify-full":
        more |= {"tls": ssl.create_default_context(), "tls_hostname": data.host}

    async def note(error: Exception) -> None:
        refused.append(error)

    client = Client()
    try:
        await client.connect(
            f"{'tls' if data.tls == 'verify-full' else 'nats'}://{shown}:{data.port}",
            allow_reconnect=False,
            connect_timeout=_OPENS_WITHIN_S,
            ping_interval=20,
            error_cb=note,
            name="dustrun",
            **more,
        )
        return client
    except (nats.errors.Error, OSError, TimeoutError) as error:
        with contextlib.suppress(Exception):
            await client.close()  # it keeps the connection of a server that refuses it
        why = str(refused[-1] if refused else error) or type(error).__name__
        status = 401 if "authorization" in why.lower() else None
        raise NoConnection(f"NATS cannot be connected to: {why[:300]}", status) from None


def _events(config: Config, messages: list[Msg], now: int, _: object) -> list[PolledEvent]:
    found = []
    for one in messages:
        about, is_large = one.metadata, len(one.data) > config.max_bytes
        message = None if is_large else read_message(one.data)
        counts, no_run = (True, None) if is_large else judge(config.filter, message)
        if is_large:
            no_run = NoRun(
                "payload", f"The message is larger than {config.max_bytes} bytes (maxBytes).", is_failure=True
            )
        if not counts:
            continue
        at = int(about.timestamp.timestamp() * 1000)
        payload = {
            "subject": one.subject,
            "message": message,
            "headersOfMessage": dict(one.headers or {}),
            "sequence": about.sequence.stream,
            "publishedAt": to_rfc3339(at),
            "deliveries": about.num_delivered,
        }
        # a stream that was deleted and made again counts anew: the time tells them apart
        key = f"{about.stream}:{about.sequence.stream}:{about.timestamp.isoformat()}"
        found.append(PolledEvent(key, payload, now, no_run=no_run))
    return found


_EXAMPLE = {
    "subject": "orders.paid",
    "message": {"orderId": "A-17", "total": "25.00"},
    "headersOfMessage": {},
    "sequence": 1042,
    "publishedAt": "2026-01-31T12:00:00.000Z",
    "deliveries": 1,
}


@streamed(
    config=Config,
    output=Output,
    check=_check,
    connector="nats",
    example_config={"stream": "ORDERS", "consumer": "dustrun-payouts", "subject": "orders.paid"},
    example_output=example_output(_EXAMPLE, "nats"),
)
async def listen(ctx: TriggerContext, config: Config, cursor: Any) -> AsyncIterator[Received]:
    """Fetches messages, and acknowledges them once they are on disk. The consumer keeps the place, not the cursor."""
    client = await _open(ctx)
    try:
        import nats  # optional dependency
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy  # optional dependency

        wanted = ConsumerConfig(
            ack_policy=AckPolicy.EXPLICIT,
            deliver_policy=DeliverPolicy.ALL if config.begin == "all" else DeliverPolicy.NEW,
            filter_subject=config.subject,
        )
        queue = await client.jetstream().pull_subscribe(
            config.subject or ">", durable=config.consumer, stream=config.stream, config=wanted
        )
        yield Received((), {})
        while True:
            try:
                messages = await queue.fetch(_AT_ONCE, timeout=_WAITS_S)
            except (TimeoutError, nats.errors.TimeoutError):
                if client.is_closed:
                    raise Temporary("The connection broke.") from None
                continue
            size = sum(len(one.data) for one in messages)
            events = await run_in_thread(partial(_events, config, messages, ctx.now_ms), size)

            async def acknowledge(messages: list[Msg] = messages) -> None:
                for one in messages:
                    await one.ack()

            yield Received(events, {}, acknowledge=acknowledge)
    except nats.errors.Error as error:
        raise Temporary(f"NATS says: {str(error)[:300] or type(error).__name__}") from None
    finally:
        with contextlib.suppress(Exception):
            await client.close()
