"""Starts a run for each message of a WebSocket.

The connection stays open, and each message that `filter` lets through starts a run as it comes, in order. `subscribe`
is sent once it is open: what to subscribe to. If it breaks, it is opened again.

If the source numbers its messages and sends them again from a number on, `cursor` reads the number from a message, and
`resume` says what to send instead of `subscribe`: nothing is lost then, and what comes again starts no second run. With
`contiguous`, a number that is left out is a gap. Without `resume`, the time in which nobody listened is a gap, and a
message comes again if its number and its content do: the source may count anew on each connection.

`message` is a message as JSON, else as text. A connector adds its credential to the request that opens the connection.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import field, replace
from functools import partial
from typing import Any, Final

from pydantic import Field, field_validator, model_validator

from dustrun.clock import to_rfc3339
from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.polling import compile_over
from dustrun.core.values import exact_json
from dustrun.errors import Invalid, Temporary
from dustrun.records import dataclass
from dustrun.sdk import Finding, HttpRequest, PolledEvent, TriggerContext
from dustrun.sdk.context import Socket, TooLarge
from dustrun.sdk.fields import raw
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import Lost, Received, streamed
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.streamed.expressions import (
    OverMessage,
    StreamConfig,
    check_address,
    judge,
    not_read,
    read_message,
    too_large,
    value_of,
)
from dustrun.triggers.streamed.place import MARK_EVERY_MS, StreamPlace, key_of, short

_OPENS_WITHIN_S: Final = 30.0
_CURSOR: Final = ("cursor",)
_MOST_READ: Final = 4 << 20
"""The size up to which a message that exceeds `maxBytes` is read, and passed over."""
_MOST_RECENT: Final = 20
"""So many messages may a source without `resume` send again after a break without being taken for one that counts
anew."""


class Config(StreamConfig):
    """Which WebSocket, what to tell it, and which of its messages count."""

    url: str = Field(
        min_length=1,
        max_length=8192,
        pattern=r"^(wss?|https?)://",
        description="A wss or ws URL.",
        json_schema_extra={"x-url": True},
    )
    protocols: tuple[str, ...] = Field((), max_length=10, description="The subprotocols to ask for.")
    subscribe: list[Any] = Field(
        [],
        max_length=50,
        description="Messages that are sent once the connection is open: texts as they are, everything else as JSON.",
    )
    cursor: OverMessage | None = raw(
        None,
        max_length=4000,
        description="What numbers a message, like `message.seq ?? null`: null is of one without a number.",
    )
    resume: str | None = raw(
        None,
        max_length=4000,
        description="What is sent instead of `subscribe` when there is a `cursor`, like "
        '`{"op": "subscribe", "since": cursor}`; a list: several messages.',
    )
    contiguous: bool = Field(
        False, description="Whether the numbers are integers that rise by 1, so that one left out is a gap."
    )
    ping_ms: int = Field(
        20_000,
        ge=1000,
        le=3_600_000,
        description="How often the connection is tried, in milliseconds; one that does not answer is opened anew.",
    )
    ping_message: Any = Field(
        None, description="A message that is sent as often, for a source that wants to hear one; null: none."
    )
    idle_ms: int | None = Field(
        None,
        ge=1000,
        le=86_400_000,
        description="After how many milliseconds without a message the connection is opened anew; null: never.",
    )

    @field_validator("resume")
    @classmethod
    def _check_resume(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _CURSOR)
        return text

    @model_validator(mode="after")
    def _check_cursor(self) -> Config:
        if self.cursor is None and (self.resume is not None or self.contiguous):
            raise ValueError("`resume` and `contiguous` need `cursor`, the number that they are about")
        return self


class Output(EventOutput):
    """One message."""

    message: Any = Field(description="The message: JSON, else text; null if it is larger than `maxBytes`.")
    cursor: Any = Field(description="What numbers it, if `cursor` says so.")
    received_at: str = Field(description="When it came, RFC 3339.")


def _text(message: Any) -> str:
    return message if isinstance(message, str) else exact_json.dumps(message).decode()


def _request(config: Config) -> HttpRequest:
    url = config.url.replace("ws", "http", 1) if config.url.startswith("ws") else config.url
    return HttpRequest("GET", url, config.headers, timeout_s=_OPENS_WITHIN_S, max_bytes=_MOST_READ)


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    return await check_address(ctx, _request(config))


@dataclass(slots=True)
class _Stream:
    """One connection. `is_behind`: it has not yet come to a number that is new, though it was not asked to go on."""

    config: Config
    opened_at: int
    place: StreamPlace
    number: int = 0
    too_large: int = 0
    """How many messages were, since the last number."""
    since: int = field(init=False)
    is_behind: bool = field(init=False)

    def __post_init__(self) -> None:
        self.since = self.place.at
        self.is_behind = self.place.cursor is not None and self.config.resume is None

    def first(self) -> list[str]:
        """The messages that are sent once it is open."""
        config, cursor = self.config, self.place.cursor
        if cursor is None or config.resume is None or self.place.skips:
            return [_text(one) for one in config.subscribe]
        try:
            found = compile_over(config.resume, _CURSOR).value(cursor=cursor)
        except ExpressionError as error:
            raise Invalid(f"`resume` does not fit the cursor: {error}") from None
        return [_text(one) for one in (found if isinstance(found, list) else [found])]

    def take(self, data: str | bytes, now: int, _: object) -> tuple[list[PolledEvent], Lost | None]:
        """The event of a message, if it is one, and what was left out before it."""
        config = self.config
        self.number += 1
        raw = data.encode() if isinstance(data, str) else data
        if len(raw) > config.max_bytes:
            self.place, self.too_large = replace(self.place, at=now), self.too_large + 1
            payload = {"message": None, "cursor": None, "receivedAt": to_rfc3339(now)}
            digest = hashlib.sha256(raw).hexdigest()
            return [PolledEvent(f"large:{digest}", payload, now, no_run=too_large(config.max_bytes))], None
        message = read_message(data)
        cursor, wrong = None, None
        try:
            cursor = None if config.cursor is None else value_of("cursor", config.cursor, message)
        except Invalid as error:  # it holds up no other
            wrong = error
        self.place, lost, formerly = replace(self.place, at=now), None, None
        key = f"{self.opened_at}.{self.number}"
        if cursor is not None:
            content = short(exact_json.dumps(message, canonical=True).decode())
            keys = [f"cursor:{key_of(cursor)}", f"cursor:{key_of(cursor)}:{content}"]
            by_content = config.resume is None  # the number alone does not say then that it is the same
            key = keys[by_content]
            formerly = None if self.place.by_content == by_content else keys[not by_content]
            lost = self._go_on(cursor, content)
        counts, no_run = judge(config.filter, message)
        if not counts:
            return [], lost
        if config.key is not None:
            formerly = None
            try:
                key = f"key:{key_of(value_of('key', config.key, message))}"
            except Invalid as error:
                wrong = error
        if wrong is not None:
            no_run = no_run or not_read(wrong)
        payload = {"message": message, "cursor": cursor, "receivedAt": to_rfc3339(now)}
        return [PolledEvent(key, payload, now, no_run=no_run, formerly=formerly)], lost

    def _go_on(self, cursor: Any, content: str) -> Lost | None:
        """Moves the place to a number; returns what was left out before it."""
        place, before = self.place, self.place.cursor
        is_told = self.config.contiguous and self.config.resume is None
        recent = (*place.recent, [cursor, content])[-_MOST_RECENT:] if is_told else ()
        moved = replace(place, cursor=cursor, recent=recent)
        if not self.config.contiguous or not isinstance(before, int) or not isinstance(cursor, int):
            self.place = moved
            return None
        if cursor <= before:  # it comes again, or out of order, or the source counts anew
            if not self.is_behind or [cursor, content] in place.recent:
                return None
            self.is_behind, self.place = False, moved
            range_ = {"from": to_rfc3339(self.since), "to": to_rfc3339(self.opened_at)}
            return Lost(range_, f"The source's numbers begin again at {cursor}: what it sent meanwhile is not known.")
        self.is_behind, self.place, large = False, moved, self.too_large
        self.too_large = 0
        if cursor == before + 1:
            return None
        reason = f"The source left out the messages {before + 1} to {cursor - 1}."
        if large:
            reason = f"The messages {before + 1} to {cursor - 1} did not come, but {large} larger than `maxBytes`."
        return Lost({"fromCursor": before + 1, "toCursor": cursor - 1}, reason)


async def _greet(socket: Socket, stream: _Stream) -> None:
    for text in stream.first():
        await socket.send(text)


_EXAMPLE = {
    "message": {"type": "trade", "seq": 1042, "pair": "ETH-USD", "price": "3012.50"},
    "cursor": 1042,
    "receivedAt": "2026-01-31T12:00:00.000Z",
}


@streamed(
    config=Config,
    output=Output,
    check=_check,
    connector="http",
    peeks=True,
    example_config={
        "url": "wss://stream.example.com/v1",
        "subscribe": [{"op": "subscribe", "channel": "trades"}],
        "filter": 'message.type == "trade"',
        "cursor": "message.seq ?? null",
        "resume": '{"op": "subscribe", "channel": "trades", "since": cursor}',
    },
    example_output=example_output(_EXAMPLE, "websocket"),
)
async def listen(ctx: TriggerContext, config: Config, cursor: Any) -> AsyncIterator[Received]:
    """Listens from the last cursor on."""
    before = StreamPlace.read(cursor)
    async with ctx.http.websocket(_request(config), config.protocols, config.ping_ms / 1000) as socket:
        now, lost = ctx.now_ms, None
        first = StreamPlace(now, by_content=config.resume is None)
        stream = _Stream(config, now, before if before is not None and before.cursor is not None else first)
        await _greet(socket, stream)
        skips = stream.place.skips
        resumes = config.resume is not None and stream.place.cursor is not None and not skips
        if before is not None and not resumes and (skips or not (config.contiguous and before.cursor is not None)):
            reason = f"A message was larger than {_MOST_READ} bytes, so the source was not asked to go on before it."
            unasked = "Nobody listened, and the source is not asked for what came meanwhile."
            lost = Lost(before.gap(now), reason if skips else unasked)
            stream.place = replace(stream.place, at=now, skips=False)
        yield Received((), stream.place.stored(), lost)
        heard_at = written_at = now
        while True:
            try:
                data = await socket.receive(min(config.ping_ms, config.idle_ms or config.ping_ms, MARK_EVERY_MS) / 1000)
            except TooLarge:
                if config.resume is not None and stream.place.cursor is not None:
                    yield Received((), replace(stream.place, skips=True).stored())  # or it comes again and again
                raise
            now = ctx.now_ms
            if data is not None:
                heard_at = now
                found, lost = await run_in_thread(partial(stream.take, data, now), len(data))
                if found or lost is not None:
                    written_at = now
                    yield Received(found, stream.place.stored(), lost)
                    continue
            elif config.ping_message is not None:
                await socket.send(_text(config.ping_message))
            if config.idle_ms is not None and now - heard_at >= config.idle_ms:
                raise Temporary(f"No message has come for {config.idle_ms} ms (idleMs).")
            if now - written_at >= MARK_EVERY_MS:
                written_at, stream.place = now, replace(stream.place, at=now)
                yield Received((), stream.place.stored())
