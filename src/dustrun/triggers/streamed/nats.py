"""Starts a run for each message of a NATS JetStream stream.

A durable consumer of its own keeps the place: it is made when the trigger first connects, and its messages are
acknowledged once their events are on disk. What was not acknowledged is delivered again, and starts no second run. If
the consumer is gone, another one goes on from the last message that is on record; what the stream has deleted by then
is a gap. Messages come in their order, but for those that are delivered again.

`message` is the JSON of a message, else its text. The server needs the extra `queues` (`pip install dustrun[queues]`).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from dustrun.clock import to_rfc3339
from dustrun.errors import Invalid, Temporary
from dustrun.sdk import Finding, PolledEvent, TriggerConfig, TriggerContext
from dustrun.sdk.brokers.refusals import unreachable
from dustrun.sdk.context import NoConnection
from dustrun.sdk.fields import raw
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import Lost, Received, streamed
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.streamed.expressions import OverMessage, judge, read_message, too_large
from dustrun.triggers.streamed.sequences import Sequences

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.api import ConsumerInfo, StreamInfo
    from nats.js.client import JetStreamContext

_NAME: Final = r"^[A-Za-z0-9_-]+$"
_AT_ONCE: Final = 20
_WAITS_S: Final = 5.0
_OPENS_WITHIN_S: Final = 15
_ENDS_WITHIN_S: Final = 2.0
_LETS_GO_WITHIN_S: Final = 0.2
_LOOKS_EVERY_S: Final = 5.0
_GONE: Final = "The stream had deleted these messages before they were delivered."
_OTHERS: Final = " Messages of other subjects may be among them."
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
    data, refused = ctx.connection.data, list[Exception]()
    encrypts = data.tls == "verify-full"
    (address, *_) = await ctx.http.addresses(data.host, data.port)
    shown = f"[{address}]" if ":" in address else address
    client = Client()

    def credential() -> str:
        """The library encrypts only if the server says so; one that does not must not get it."""
        writer = client._transport._io_writer  # type: ignore[union-attr]  # the server had to answer before
        if encrypts and writer.get_extra_info("ssl_object") is None:
            raise NoConnection(
                "The NATS server does not encrypt, and was told nothing: check `host` and `port`, or set `tls` to "
                '"disable" if it is on this machine.'
            )
        return str(data.token or data.password)

    more: dict[str, Any] = {"token": credential} if data.token else {"user": data.user, "password": credential}
    if encrypts:
        more |= {"tls": ssl.create_default_context(), "tls_hostname": data.host}

    async def note(error: Exception) -> None:
        refused.append(error)

    is_open = False
    try:
        async with asyncio.timeout(_OPENS_WITHIN_S):
            await client.connect(
                f"{'tls' if encrypts else 'nats'}://{shown}:{data.port}",
                allow_reconnect=False,
                max_reconnect_attempts=1,  # by default it tries for minutes, without a word
                reconnect_time_wait=0,
                connect_timeout=_OPENS_WITHIN_S,
                ping_interval=20,
                verbose=True,  # else it may write on past a refusal, and then not read it
                error_cb=note,
                name="dustrun",
                **more,
            )
        is_open = True
        return client
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise _told(refused[-1] if refused else error, data) from None
    finally:
        if not is_open:
            await _end(client, _LETS_GO_WITHIN_S)  # it keeps the connection of a server that refuses it


async def _end(client: Client, within_s: float = _ENDS_WITHIN_S) -> None:
    """Closes a connection. After a failed handshake the library would wait for the end of one that it has given up."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(within_s):
            await client.close()


def _told(error: Exception, data: Any) -> NoConnection:
    """The message of a server's refusal, and which field of the connector mends it."""
    said = " ".join(str(error).removeprefix("nats: ").split()).strip("'")[:300]
    if "authorization" in said.lower():
        fields = "`token`" if data.token else "`user` and `password`"
        return NoConnection(f"The NATS server refuses the connector: check {fields}. It says: {said}.", 401)
    if isinstance(error, ssl.SSLError) and data.tls == "disable":
        return NoConnection('The NATS server wants encryption: set `tls` to "verify-full".')
    if isinstance(error, OSError | TimeoutError):
        return unreachable("The NATS server", error, where="host", encrypts=data.tls == "verify-full")
    return NoConnection(f"The NATS server cannot be connected to: {said or type(error).__name__}: check `host`.")


def _events(config: Config, messages: list[Msg], place: Sequences, now: int, _: object) -> list[PolledEvent]:
    """The events of messages; the place is after them then."""
    found = []
    for one in messages:
        about, is_large = one.metadata, len(one.data) > config.max_bytes
        at = int(about.timestamp.timestamp() * 1000)
        place.take(about.sequence.stream, at)
        message = None if is_large else read_message(one.data)
        counts, no_run = (True, None) if is_large else judge(config.filter, message)
        no_run = too_large(config.max_bytes) if is_large else no_run
        if not counts:
            continue
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
        found.append(PolledEvent(key, payload, now, place.stored(), no_run))
    return found


class _Queue:
    """The stream and its consumer over one connection."""

    def __init__(self, config: Config, stream: JetStreamContext) -> None:
        self.config = config
        self.stream = stream
        self._is_shown = True
        self._looked_at = time.monotonic()

    async def _state(self) -> StreamInfo | None:
        """The stream's content; None if the user may not ask."""
        import nats  # optional dependency

        if not self._is_shown:
            return None
        try:
            return await self.stream.stream_info(self.config.stream)
        except (TimeoutError, nats.errors.TimeoutError):  # nobody answers who is not allowed to ask
            self._is_shown = False
            return None

    async def _consumer(self) -> ConsumerInfo | None:
        from nats.js.errors import NotFoundError  # optional dependency

        try:
            found: ConsumerInfo = await self.stream.consumer_info(self.config.stream, self.config.consumer)
            return found
        except NotFoundError:
            return None

    async def _make(self, **start: Any) -> None:
        from nats.js.api import AckPolicy, ConsumerConfig  # optional dependency

        named, subject = self.config.consumer, self.config.subject
        await self.stream.add_consumer(
            self.config.stream,
            ConsumerConfig(durable_name=named, ack_policy=AckPolicy.EXPLICIT, filter_subject=subject, **start),
        )

    async def open(self, cursor: Any) -> tuple[Sequences, Lost | None]:
        """The place from which it goes on, with a consumer that does, and what is gone before it."""
        from nats.js.api import DeliverPolicy  # optional dependency

        state, consumer, place = await self._state(), await self._consumer(), Sequences.read(cursor)
        if place is None:
            lost = None
            if consumer is None:
                is_all = self.config.begin == "all"
                await self._make(deliver_policy=DeliverPolicy.ALL if is_all else DeliverPolicy.NEW)
                floor = 0 if state is None else state.state.first_seq - 1 if is_all else state.state.last_seq
                if cursor is not None:  # of an older version, which has not noted it
                    reason = "The consumer is gone, and it is not known what it had not delivered."
                    lost = Lost({"consumer": self.config.consumer}, reason)
            else:
                floor = 0 if consumer.ack_floor is None else consumer.ack_floor.stream_seq
                floor = floor if state is None else max(floor, state.state.first_seq - 1)
            return Sequences(floor, [], _created(state)), lost
        if state is not None and _is_other(place, state):
            return await self._begin_anew(place, state, consumer)
        if consumer is None:
            await self._make(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=place.floor + 1)
        return place, self._gone(place, state)

    async def _begin_anew(
        self, place: Sequences, state: StreamInfo, consumer: ConsumerInfo | None
    ) -> tuple[Sequences, Lost]:
        """Its numbers mean other messages now: those count that are newer than all that were taken."""
        from nats.js.api import DeliverPolicy  # optional dependency

        if consumer is not None:
            await self.stream.delete_consumer(self.config.stream, self.config.consumer)
        if place.at is None:
            await self._make(deliver_policy=DeliverPolicy.ALL)
        else:
            since = datetime.fromtimestamp((place.at + 1) / 1000, UTC)
            await self._make(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since)
        range_ = {"fromSequence": place.floor + 1, "goesOnAt": state.state.first_seq}
        reason = "The stream was made anew, or has lost its last messages: its numbers begin again."
        return Sequences(state.state.first_seq - 1, [], _created(state), place.at), Lost(range_, reason)

    def _gone(self, place: Sequences, state: StreamInfo | None) -> Lost | None:
        found = None if state is None else place.gone(state.state.first_seq)
        if state is None or found is None:
            return None
        place.settle(state.state.first_seq - 1)
        first, last, count = found
        reason = _GONE if self.config.subject is None else _GONE + _OTHERS
        return Lost({"fromSequence": first, "toSequence": last, "messages": count}, reason)

    async def look(self, place: Sequences, *, at_once: bool) -> tuple[bool, Lost | None]:
        """Now and then, or at once: whether it has looked, and what is gone. Raises `Temporary` if the consumer is."""
        if not at_once and time.monotonic() - self._looked_at < _LOOKS_EVERY_S:
            return False, None
        self._looked_at = time.monotonic()
        before, consumer, state = await self._state(), await self._consumer(), await self._state()
        if consumer is None or (state is not None and _is_other(place, state)):
            raise Temporary("The consumer is gone from the stream, or the stream is another one.")
        lost = self._gone(place, state)
        if consumer.ack_floor is not None:
            place.settle(consumer.ack_floor.stream_seq)
        if before is not None and not consumer.num_pending and not consumer.num_ack_pending:
            place.settle(before.state.last_seq)
        return True, lost


def _created(state: StreamInfo | None) -> str | None:
    return None if state is None or state.created is None else state.created.isoformat()


def _is_other(place: Sequences, state: StreamInfo) -> bool:
    """Whether its numbers mean other messages than when the place was noted."""
    newest = place.taken[-1][1] if place.taken else place.floor
    return (place.created is not None and place.created != _created(state)) or newest > state.state.last_seq


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
    connector_required=True,
    example_config={"stream": "ORDERS", "consumer": "dustrun-payouts", "subject": "orders.paid"},
    example_output=example_output(_EXAMPLE, "nats"),
)
async def listen(ctx: TriggerContext, config: Config, cursor: Any) -> AsyncIterator[Received]:
    """Fetches messages, and acknowledges them once they are on disk. The consumer keeps the place; the cursor has what
    is on record, for when the consumer is gone."""
    client = await _open(ctx)
    try:
        import nats  # optional dependency

        queue = _Queue(config, client.jetstream())
        place, lost = await queue.open(cursor)
        reader = await queue.stream.pull_subscribe_bind(durable=config.consumer, stream=config.stream)
        yield Received((), place.stored(), lost)
        while True:
            messages: list[Msg] = []
            with contextlib.suppress(TimeoutError, nats.errors.TimeoutError):
                messages = await reader.fetch(_AT_ONCE, timeout=_WAITS_S)
            if client.is_closed:
                raise Temporary("The connection broke.")
            size = sum(len(one.data) for one in messages)
            events = await run_in_thread(partial(_events, config, messages, place, ctx.now_ms), size)

            async def acknowledge(messages: list[Msg] = messages) -> None:
                for one in messages:
                    await one.ack()

            if messages:
                yield Received(events, place.stored(), acknowledge=acknowledge)
            has_looked, lost = await queue.look(place, at_once=not messages)
            if has_looked:
                yield Received((), place.stored(), lost)
    except nats.errors.Error as error:
        raise Temporary(f"NATS says: {str(error)[:300] or type(error).__name__}") from None
    finally:
        await _end(client)
