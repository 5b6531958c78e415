"""Starts a run for each message of a Kafka topic.

The place in each partition is kept in this server's store, and moves in the transaction that starts the run, so each
message starts one run, in the order of its partition. The cluster is only told of it, if you name a `group`.

`message` is the JSON of a message, else its text. The server needs the extra `queues` (`pip install dustrun[queues]`).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from dustrun.clock import to_rfc3339
from dustrun.errors import DustrunError, Invalid, Temporary
from dustrun.sdk import Finding, PolledEvent, TriggerConfig, TriggerContext
from dustrun.sdk.fields import raw
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import Lost, Received, streamed
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.streamed.expressions import OverMessage, judge, not_read, read_message, too_large, value_of
from dustrun.triggers.streamed.place import key_of
from dustrun.triggers.streamed.sockets import NamedTls

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

_AT_ONCE: Final = 20
_WAITS_MS: Final = 1000
_MARKS_EVERY_MS: Final = 5000
_FETCHES: Final = 1 << 20
_LOOKS_FOR_PARTITIONS_MS: Final = 30_000
_LATEST_MS: Final = 253_402_300_799_999
"""The last that RFC 3339 can write; a sender may claim any time."""
_MISSING: Final = "needs the extra `queues` on the server: pip install dustrun[queues]"


class Config(TriggerConfig):
    """Which messages start a run."""

    topic: str = Field(max_length=249, pattern=r"^[A-Za-z0-9._-]+$", description="The topic.")
    begin: Literal["new", "all"] = Field(
        "new", description="Where it begins: at what is written from then on, or at all that the topic still has."
    )
    group: str | None = Field(
        None,
        max_length=255,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="A consumer group under which the cluster is told how far the trigger has come, for tools that "
        "show this. Nothing depends on it.",
    )
    filter: OverMessage | None = raw(
        None, max_length=4000, description="Which messages start a run, like `message.total > 100`; null: all."
    )
    key: OverMessage | None = raw(
        None,
        max_length=4000,
        description="What identifies a message, like `message.id`: the same again starts no second run, also if its "
        "sender writes it twice. Null: its place.",
    )
    max_bytes: int = Field(262_144, ge=1024, le=1_048_576, description="The largest message, in bytes.")


class Output(EventOutput):
    """One message."""

    topic: str = Field(description="The topic.")
    partition: int = Field(description="Its partition.")
    offset: int = Field(description="Its number in the partition.")
    message: Any = Field(
        description="The message: JSON, else text; null if it has no value, or is larger than `maxBytes`."
    )
    message_key: str | None = Field(description="Its key, as text.")
    headers_of_message: dict[str, str] = Field(description="Its headers, as texts.")
    published_at: str = Field(description="Its time, RFC 3339.")


async def _check(_: TriggerContext, __: Config) -> list[Finding]:
    return [] if importlib.util.find_spec("aiokafka") is not None else [Finding("", _MISSING)]


def _event(config: Config, one: ConsumerRecord[Any, Any], cursor: Any, now: int) -> PolledEvent | None:
    is_large = one.value is not None and len(one.value) > config.max_bytes
    message = None if is_large or one.value is None else read_message(one.value)
    counts, no_run = (True, None) if is_large else judge(config.filter, message)
    no_run = too_large(config.max_bytes) if is_large else no_run
    if not counts:
        return None
    payload = {
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "message": message,
        "messageKey": None if one.key is None else _text(one.key),
        "headersOfMessage": {name: _text(value or b"") for name, value in one.headers},
        "publishedAt": to_rfc3339(min(max(0, one.timestamp), _LATEST_MS)),
    }
    # a topic that was deleted and made again counts anew: the time tells them apart
    key = f"{one.topic}:{one.partition}:{one.offset}:{one.timestamp}"
    if config.key is not None and not is_large:
        try:
            key = f"key:{key_of(value_of('key', config.key, message))}"
        except Invalid as error:  # it holds up no other
            no_run = no_run or not_read(error)
    return PolledEvent(key, payload, now, cursor, no_run)


def _text(data: bytes) -> str:
    return data[:4096].decode("utf-8", "replace")


async def _open(ctx: TriggerContext, config: Config) -> AIOKafkaConsumer:
    if importlib.util.find_spec("aiokafka") is None:
        raise Temporary(f"The trigger {_MISSING}.")
    if ctx.connection is None:
        raise Invalid('The trigger needs a connector of the type "kafka".')
    await asyncio.to_thread(importlib.import_module, "dustrun.sdk.brokers.kafka_client")  # it takes a tenth of a second
    from aiokafka import AIOKafkaConsumer  # optional dependency

    from dustrun.sdk.brokers.kafka_client import GuardedClient  # optional dependency

    client = GuardedClient(
        ctx.connection.data, ctx.http.addresses, NamedTls.of, metadata_max_age_ms=_LOOKS_FOR_PARTITIONS_MS
    )
    consumer = AIOKafkaConsumer(
        group_id=config.group,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        fetch_max_bytes=_FETCHES,
        max_partition_fetch_bytes=_FETCHES,
    )
    consumer._client = client  # before it starts, so that there is no other way to the brokers
    client.set_topics([config.topic])
    try:
        await consumer.start()
    except BaseException:
        with contextlib.suppress(Exception):
            await consumer.stop()
        client.need_connection()
        raise
    return consumer


class _Topic:
    """The partitions of a topic. `offsets`: the number of the next message of each. `at`: until when messages have been
    taken, by their own time; in a topic that has begun to count anew it says which are new."""

    def __init__(self, config: Config, consumer: AIOKafkaConsumer, cursor: Any, now: int) -> None:
        self.config, self.consumer = config, consumer
        self.is_new = cursor is None
        self.at: int = now if cursor is None else cursor["at"]
        self.offsets: dict[str, int] = {} if cursor is None else dict(cursor["offsets"])
        self.assigned: set[int] = set()
        self.connections = 0

    def cursor(self) -> dict[str, Any]:
        """How far it has come."""
        return {"at": self.at, "offsets": self.offsets}

    async def assign(self) -> list[Lost]:
        """Takes all partitions that the topic has now, each from its place, a new one from its beginning; returns what
        was gone before it could be read."""
        from aiokafka import TopicPartition  # optional dependency

        found = self.consumer.partitions_for_topic(self.config.topic) or set()
        if not found:
            await self.consumer._client.force_metadata_update()
            self.consumer._client.need_connection()
            found = self.consumer.partitions_for_topic(self.config.topic) or set()
        if not found:
            raise Temporary(f'There is no topic "{self.config.topic}" that the user may see.')
        if found <= self.assigned and self.consumer._client.made == self.connections:
            return []  # a broker that was away may have come back with less, and some do not say so
        places = [TopicPartition(self.config.topic, number) for number in sorted(found | self.assigned)]
        self.consumer.assign(places)
        firsts, ends = await self.consumer.beginning_offsets(places), await self.consumer.end_offsets(places)
        lost = []
        for place in places:
            name, first, end = str(place.partition), firsts[place], ends[place]
            if name not in self.offsets:
                self.offsets[name] = end if self.is_new and self.config.begin == "new" else first
            elif not first <= self.offsets[name] <= end:
                lost.append(await self.skip(place))
            self.consumer.seek(place, self.offsets[name])
        self.is_new, self.assigned = False, {place.partition for place in places}
        self.connections = self.consumer._client.made
        return lost

    async def skip(self, place: TopicPartition) -> Lost:
        """Goes on with the first message that can still be read, since the next one cannot."""
        name = str(place.partition)
        wanted, goes_on = self.offsets[name], (await self.consumer.beginning_offsets([place]))[place]
        reason = "The topic had deleted these messages before they were read."
        if wanted > goes_on:
            reason = "The topic was made anew, or has lost its last messages: their numbers begin again."
            later = (await self.consumer.offsets_for_times({place: self.at}))[place]
            goes_on = (await self.consumer.end_offsets([place]))[place] if later is None else later.offset
        self.offsets = {**self.offsets, name: goes_on}
        self.consumer.seek(place, goes_on)
        return Lost({"partition": place.partition, "fromOffset": wanted, "goesOnAt": goes_on}, reason)

    def events(self, records: list[ConsumerRecord[Any, Any]], now: int, _: object) -> list[PolledEvent]:
        """The events of records; the place is after them then."""
        found = []
        for one in records:
            self.offsets = {**self.offsets, str(one.partition): one.offset + 1}
            self.at = max(self.at, min(one.timestamp, now))
            event = _event(self.config, one, self.cursor(), now)
            if event is not None:
                found.append(event)
        return found


_EXAMPLE = {
    "topic": "orders",
    "partition": 0,
    "offset": 1042,
    "message": {"orderId": "A-17", "total": "25.00"},
    "messageKey": "A-17",
    "headersOfMessage": {},
    "publishedAt": "2026-01-31T12:00:00.000Z",
}


@streamed(
    config=Config,
    output=Output,
    check=_check,
    connector="kafka",
    connector_required=True,
    peeks=True,
    example_config={"topic": "orders", "key": "message.orderId"},
    example_output=example_output(_EXAMPLE, "kafka"),
)
async def listen(ctx: TriggerContext, config: Config, cursor: Any) -> AsyncIterator[Received]:
    """Reads on from the cursor: the number of the next message of each partition."""
    consumer = None
    try:
        consumer = await _open(ctx, config)
        from aiokafka.errors import OffsetOutOfRangeError  # optional dependency

        topic = _Topic(config, consumer, cursor, ctx.now_ms)
        several: list[ConsumerRecord[Any, Any]] = []
        is_open, written_at = False, 0
        while True:
            for lost in await topic.assign():
                yield Received((), topic.cursor(), lost)
            if not is_open:
                yield Received((), topic.cursor())
            is_open = True
            try:
                records = await consumer.getmany(timeout_ms=_WAITS_MS, max_records=_AT_ONCE)
            except OffsetOutOfRangeError as error:
                for place in error.args[0]:
                    lost = await topic.skip(place)
                    yield Received((), topic.cursor(), lost)
                continue
            consumer._client.need_connection()
            several = [one for some in records.values() for one in some]
            size = sum(len(one.value or b"") for one in several)
            events = await run_in_thread(partial(topic.events, several, ctx.now_ms), size)
            if events or (several and ctx.now_ms - written_at >= _MARKS_EVERY_MS):
                written_at = ctx.now_ms
                tell = partial(_tell, consumer, topic.offsets, config) if config.group is not None else None
                yield Received(events, topic.cursor(), acknowledge=tell)
    except Exception as error:
        if consumer is not None and not isinstance(error, DustrunError):
            consumer._client.need_connection()
        raise _translated(error) from None
    finally:
        if consumer is not None:
            with contextlib.suppress(Exception):
                await consumer.stop()


async def _tell(consumer: AIOKafkaConsumer, offsets: dict[str, int], config: Config) -> None:
    """Tells the cluster, which is a courtesy: if it fails, the next one tells it."""
    from aiokafka import TopicPartition  # optional dependency
    from aiokafka.errors import KafkaError  # optional dependency

    with contextlib.suppress(KafkaError):
        await consumer.commit({TopicPartition(config.topic, int(name)): at for name, at in offsets.items()})


def _translated(error: Exception) -> Exception:
    if isinstance(error, DustrunError):
        return error
    from aiokafka.errors import KafkaError  # optional dependency

    if not isinstance(error, KafkaError | OSError | TimeoutError):
        return error
    return Temporary(f"Kafka says: {str(error)[:300] or type(error).__name__}")
