"""Starts a run for each message of an MQTT topic.

The broker keeps a session of the trigger's own, so it also delivers what was published while nobody listened. A message
is acknowledged once its event is on disk (QoS 1); one that is delivered again, since the server was killed in between,
starts no second run. MQTT gives messages no identity: `key` says what identifies one, like `message.id`, and then the
same again starts no second run, however it comes.

`message` is the JSON of a message, else its text. The server needs the extra `queues` (`pip install dustrun[queues]`).
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from dustrun.clock import to_rfc3339
from dustrun.errors import Invalid, Temporary
from dustrun.records import dataclass
from dustrun.sdk import Finding, PolledEvent, TriggerConfig, TriggerContext
from dustrun.sdk.brokers.refusals import unreachable
from dustrun.sdk.context import NoConnection
from dustrun.sdk.fields import raw
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import Lost, Received, streamed
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.streamed.expressions import OverMessage, judge, not_read, read_message, too_large, value_of
from dustrun.triggers.streamed.place import MARK_EVERY_MS, key_of, short
from dustrun.triggers.streamed.sockets import NamedTls, blocking, until_readable

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

_AT_ONCE: Final = 20
_OPENS_WITHIN_S: Final = 15
_KEEP_ALIVE_S: Final = 30
_NO_TOPIC: Final = "dustrun/acknowledged"
_MISSING: Final = "needs the extra `queues` on the server: pip install dustrun[queues]"


class Config(TriggerConfig):
    """Which messages start a run."""

    topic: str = Field(
        min_length=1, max_length=1000, description="The topic, also with `+` and `#`, like `plant/+/alarms`."
    )
    client_id: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Name of the session that the broker keeps; no other client may use it.",
    )
    takes_retained: bool = Field(
        False,
        description="Whether messages that the broker had retained before the trigger subscribed start runs too.",
    )
    filter: OverMessage | None = raw(
        None, max_length=4000, description="Which messages start a run, like `message.value > 80`; null: all."
    )
    key: OverMessage | None = raw(
        None,
        max_length=4000,
        description="What identifies a message, like `message.id`: the same again starts no second run.",
    )
    max_bytes: int = Field(262_144, ge=1024, le=1_048_576, description="The largest message, in bytes.")


class Output(EventOutput):
    """One message."""

    topic: str = Field(description="Its topic.")
    message: Any = Field(description="The message: JSON, else text; null if it is larger than `maxBytes`.")
    qos: int = Field(description="With which quality it came: 1 with acknowledgement, 0 without.")
    retained: bool = Field(description="Whether the broker had retained it from before the subscription.")
    redelivered: bool = Field(description="Whether it was delivered before, and not acknowledged.")
    received_at: str = Field(description="When it came, RFC 3339.")


async def _check(_: TriggerContext, config: Config) -> list[Finding]:
    if importlib.util.find_spec("paho") is None:
        return [Finding("", _MISSING)]
    if config.key is None:
        message = "is not given: a message that its sender publishes twice starts two runs"
        return [Finding("key", message, "warning")]
    return []


@dataclass(slots=True)
class _Link:
    """One connection. What comes waits in `received` until it is taken; nothing more is read meanwhile."""

    client: Client
    received: list[MQTTMessage] = field(default_factory=list)
    heard: dict[int, str] = field(default_factory=dict)
    """By the number of a delivery: what came last under it. Some brokers repeat one while the connection stands."""
    refused: str | None = None
    has_session: bool | None = None
    is_subscribed: bool = False
    answered: set[int] = field(default_factory=set)
    """The numbers of requests to unsubscribe that the broker has answered."""

    def take(self, one: MQTTMessage) -> None:
        """A message has come; one that has come over this connection before is on its way to the disk, or there."""
        mark = _mark_of(one)
        if one.qos and one.dup and self.heard.get(one.mid) == mark:
            return
        if one.qos:
            self.heard[one.mid] = mark
        self.received.append(one)

    async def acknowledge(self, messages: Sequence[MQTTMessage]) -> None:
        """Acknowledges messages, and waits until the broker has read that: only then it answers another request, which
        ends a subscription that does not exist (MQTT 3.1.1, 3.10.4). Raises `Temporary` without an answer."""
        for one in messages:
            self.client.ack(one.mid, one.qos)
        _, number = self.client.unsubscribe(_NO_TOPIC)
        if not await self.wait(lambda: number in self.answered, _OPENS_WITHIN_S):
            raise Temporary("The broker does not answer.")
        self.answered.clear()

    async def wait(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Reads until something holds, or the time is up; raises `Temporary` when the connection ends."""
        left = timeout_s
        while not holds():
            sock = self.client.socket()
            if sock is None or self.refused is not None:
                raise Temporary(f"The broker has closed the connection{f': {self.refused}' if self.refused else ''}.")
            if self.client.want_write():
                self.client.loop_write()
            if await until_readable(sock, min(left, 1.0)):  # type: ignore[arg-type]
                self.client.loop_read()
            else:
                left -= min(left, 1.0)
            self.client.loop_misc()
            if left <= 0:
                return holds()
        return True


async def _open(ctx: TriggerContext, config: Config, *, is_new: bool) -> _Link:
    """A connection to this broker alone; `is_new`: the session begins anew."""
    if importlib.util.find_spec("paho") is None:
        raise Temporary(f"The trigger {_MISSING}.")
    from paho.mqtt.client import Client  # optional dependency
    from paho.mqtt.enums import CallbackAPIVersion  # optional dependency

    if ctx.connection is None:
        raise Invalid('The trigger needs a connector of the type "mqtt".')
    data = ctx.connection.data
    (address, *_) = await ctx.http.addresses(data.host, data.port)
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=config.client_id,
        clean_session=is_new,
        manual_ack=True,
        reconnect_on_failure=False,
    )
    client.connect_timeout = _OPENS_WITHIN_S
    if data.tls == "verify-full":
        client.tls_set_context(NamedTls.of(data.host))
    if data.user is not None:
        client.username_pw_set(data.user, data.password)
    link = _Link(client)

    def on_connect(_: Any, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        link.has_session = bool(flags.session_present)
        link.refused = str(reason) if reason.is_failure else None

    def on_subscribe(_: Any, __: Any, ___: Any, reasons: Any, ____: Any) -> None:
        link.is_subscribed = True
        link.refused = next((f"it refuses the topic: {one}" for one in reasons if one.is_failure), None)

    def on_unsubscribe(_: Any, __: Any, number: int, ___: Any, ____: Any) -> None:
        link.answered.add(number)

    client.on_connect, client.on_subscribe = on_connect, on_subscribe
    client.on_unsubscribe = on_unsubscribe
    client.on_message = lambda _, __, message: link.take(message)
    encrypts = data.tls == "verify-full"
    try:
        await blocking(client.connect, address, data.port, _KEEP_ALIVE_S)
    except OSError as error:
        raise unreachable("The broker", error, where="host", encrypts=encrypts) from None
    try:
        await _need_answer(link, encrypts=encrypts)
    except BaseException:
        client.disconnect()  # a broker may keep the connection of who is refused
        raise
    return link


async def _need_answer(link: _Link, *, encrypts: bool) -> None:
    """Waits for the broker's answer to the login; raises `NoConnection` if it is none, or a refusal."""
    try:
        answers = await link.wait(lambda: link.has_session is not None, _OPENS_WITHIN_S)
    except Temporary:
        raise NoConnection("The broker ends the connection before any answer: check `tls` and `port`.") from None
    if not answers:
        raise unreachable("The broker", TimeoutError(), where="host", encrypts=encrypts)
    if link.refused is not None:
        is_user = link.refused in ("Bad user name or password", "Not authorized")
        mends, status = (": check `user` and `password`", 401) if is_user else ("", None)
        raise NoConnection(f"The broker refuses the connection{mends}. It says: {link.refused}.", status)


async def _connected(ctx: TriggerContext, config: Config, cursor: Any) -> _Link:
    """A connection with the session that the broker keeps. Without a cursor, one from before is forgotten first."""
    if cursor is None:
        (await _open(ctx, config, is_new=True)).client.disconnect()
    link = await _open(ctx, config, is_new=False)
    if not link.has_session:
        link.client.subscribe(config.topic, qos=1)
        if not await link.wait(lambda: link.is_subscribed, _OPENS_WITHIN_S):
            raise Temporary("The broker does not answer the subscription.")
        if link.refused is not None:
            raise Temporary(f"The broker refuses the subscription: {link.refused}.")
    return link


def _mark_of(one: MQTTMessage) -> str:
    """The number of a message until it is acknowledged: its delivery keeps it when it is repeated."""
    return f"{one.mid}:{short(one.topic + ':' + one.payload.hex())}"


def _events(
    config: Config, messages: list[MQTTMessage], known: list[str], now: int, _: object
) -> tuple[list[PolledEvent], list[str]]:
    """The events of messages, and the marks of all that are on disk with the last of them."""
    found, marks = [], list(known)
    for number, one in enumerate(messages):
        mark = _mark_of(one)
        if config.key is None and one.dup and mark in known:
            continue
        marks += [mark] if one.qos else []
        if one.retain and not config.takes_retained:
            continue
        is_large = len(one.payload) > config.max_bytes
        message = None if is_large else read_message(bytes(one.payload))
        counts, no_run = (True, None) if is_large else judge(config.filter, message)
        no_run = too_large(config.max_bytes) if is_large else no_run
        if not counts:
            continue
        payload = {
            "topic": one.topic,
            "message": message,
            "qos": one.qos,
            "retained": bool(one.retain),
            "redelivered": bool(one.dup),
            "receivedAt": to_rfc3339(now),
        }
        key = f"{now}.{number}:{mark}"
        if config.key is not None and not is_large:
            try:
                key = f"key:{key_of(value_of('key', config.key, message))}"
            except Invalid as error:  # it holds up no other
                no_run = no_run or not_read(error)
        found.append(PolledEvent(key, payload, now, {"at": now, "taken": list(marks)}, no_run))
    return found, marks


_EXAMPLE = {
    "topic": "plant/7/alarms",
    "message": {"id": "A-17", "value": 91},
    "qos": 1,
    "retained": False,
    "redelivered": False,
    "receivedAt": "2026-01-31T12:00:00.000Z",
}


@streamed(
    config=Config,
    output=Output,
    check=_check,
    connector="mqtt",
    connector_required=True,
    example_config={"topic": "plant/+/alarms", "clientId": "dustrun-alarms", "key": "message.id"},
    example_output=example_output(_EXAMPLE, "mqtt"),
)
async def listen(ctx: TriggerContext, config: Config, cursor: Any) -> AsyncIterator[Received]:
    """Takes messages, and acknowledges them once they are on disk. The cursor has those that are on disk and of whose
    acknowledgement the broker may not have read; it forgets those of which it has before anything else is taken, since
    the broker uses their numbers again."""
    link = await _connected(ctx, config, cursor)
    try:
        now = ctx.now_ms
        known: list[str] = [] if cursor is None or not link.has_session else list(cursor["taken"])
        lost = None
        if cursor is not None and not link.has_session:
            lost = Lost(
                {"from": to_rfc3339(cursor["at"]), "to": to_rfc3339(now)}, "The broker has not kept the session."
            )
        yield Received((), {"at": now, "taken": known}, lost)
        written_at = now
        while True:
            await link.wait(lambda: bool(link.received), MARK_EVERY_MS / 1000)
            now = ctx.now_ms
            messages = link.received[:_AT_ONCE]
            del link.received[: len(messages)]
            if messages:
                size = sum(len(one.payload) for one in messages)
                events, marks = await run_in_thread(partial(_events, config, messages, known, now), size)
                yield Received(events, {"at": now, "taken": marks}, acknowledge=partial(link.acknowledge, messages))
                numbers = {str(one.mid) for one in messages}
                known = [one for one in known if one.partition(":")[0] not in numbers]
            if messages or now - written_at >= MARK_EVERY_MS:
                written_at = now
                yield Received((), {"at": now, "taken": known})
    except ValueError as error:
        raise Temporary(f"The broker's data cannot be read: {str(error)[:300]}") from None
    finally:
        with contextlib.suppress(Exception):
            link.client.disconnect()
