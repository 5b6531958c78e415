"""Starts a run for each event of an event stream (server-sent events) over HTTP.

The connection stays open, and each event starts a run as it comes, in order. If it breaks, it is opened again from the
id of the last event (`Last-Event-ID`), so a source that gives ids and keeps its events loses none, and one that sends
an event again starts no second run. Of a source without ids, the time in which nobody listened is a gap.

`message` is the data of an event as JSON, else as text. An event larger than `maxBytes` is recorded as failed, and the
next ones are taken. A connector adds its credential to the request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import field
from functools import partial
from typing import Any, Final

from pydantic import Field

from dustrun.clock import to_rfc3339
from dustrun.core.values.retry_after import retry_after_s
from dustrun.errors import Invalid, Temporary
from dustrun.records import dataclass
from dustrun.sdk import Finding, HttpRequest, PolledEvent, TriggerContext
from dustrun.sdk.context import Incoming
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import Lost, Received, streamed
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.streamed.expressions import (
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
_MOST_EVENT_NAMES: Final = 50
_DATA: Final = b"data:"


class Config(StreamConfig):
    """Which stream, and which of its events."""

    url: str = Field(
        min_length=1, max_length=8192, description="An http or https URL.", json_schema_extra={"x-url": True}
    )
    events: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=_MOST_EVENT_NAMES,
        description="The names of the events that count; one without a name is a `message`. Null: all.",
    )
    idle_ms: int = Field(
        120_000,
        ge=1000,
        le=86_400_000,
        description="After how many milliseconds in which nothing comes, not even a comment, the connection is opened "
        "anew.",
    )


class Output(EventOutput):
    """One event."""

    event: str = Field(description="Its name.")
    id: str | None = Field(description="The id that the source gave it, or an event before it.")
    message: Any = Field(description="Its data: JSON, else text; null if it is larger than `maxBytes`.")
    received_at: str = Field(description="When it came, RFC 3339.")


@dataclass(slots=True)
class Reader:
    """Reads events from the bytes of a stream, as the HTML standard defines them (section 9.2.6). What is larger than
    `most` bytes is passed over, and not kept."""

    most: int
    last_id: str | None = None
    _rest: bytes = b""
    _data: list[str] = field(default_factory=list)
    _name: str = ""
    _size: int = 0
    _is_large: bool = False
    _is_cut: bool = False
    _is_first: bool = True
    _skips_newline: bool = False

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str | None, str | None]]:
        """The events that end in this chunk: name, id, data; without the data if it is too large."""
        if self._skips_newline and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._skips_newline = chunk.endswith(b"\r")
        text = self._rest + chunk
        if self._is_first and len(text) >= 3:
            self._is_first, text = False, text.removeprefix(b"\xef\xbb\xbf")
        lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            found = self._line(line)
            if found is not None:
                yield found
        if len(self._rest) > self.most + len(_DATA):
            self._drop(self._rest)
            self._rest, self._is_cut = self._rest[: len(_DATA)], True

    def _drop(self, line: bytes) -> None:
        """A line is too large; what else it may be than data does not count."""
        if line.startswith(_DATA):
            self._data, self._is_large = [], True

    def _line(self, raw: bytes) -> tuple[str, str | None, str | None] | None:
        is_cut, self._is_cut = self._is_cut, False
        if is_cut:
            return None
        line = raw.decode("utf-8", "replace")
        if not line:
            name, data, is_large = self._name or "message", self._data, self._is_large
            self._name, self._data, self._size, self._is_large = "", [], 0, False
            return (name, self.last_id, None if is_large else "\n".join(data)) if data or is_large else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(raw) - len(_DATA)
            if self._size > self.most:
                self._drop(raw)
            if not self._is_large:
                self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self.last_id = value or None
        return None


@dataclass(slots=True)
class _Stream:
    """One connection; `number` counts the events since the last id, by which those without one are told apart."""

    config: Config
    opened_at: int
    place: StreamPlace
    reader: Reader
    number: int = 0

    def take(self, chunk: bytes, now: int, _: object) -> list[PolledEvent]:
        found = []
        for name, given, data in self.reader.feed(chunk):
            is_new = given != self.place.cursor
            self.number = 0 if is_new else self.number + 1
            self.place = StreamPlace(now, given)
            one = self._event(name, data, now, is_new=is_new)
            if one is not None:
                found.append(one)
        return found

    def _event(self, name: str, data: str | None, now: int, *, is_new: bool) -> PolledEvent | None:
        config, given = self.config, self.place.cursor
        if config.events is not None and name not in config.events:
            return None
        message = None if data is None else read_message(data)
        counts, no_run = judge(config.filter, message) if data is not None else (True, too_large(config.max_bytes))
        if not counts:
            return None
        payload = {"event": name, "id": given, "message": message, "receivedAt": to_rfc3339(now)}
        number = "" if is_new else f"{self.number}."
        key = f"id:{key_of(given)}:{number}{short(name + (data or ''))}" if given else f"{self.opened_at}.{self.number}"
        if config.key is not None and data is not None:
            try:
                key = f"key:{key_of(value_of('key', config.key, message))}"
            except Invalid as error:  # it holds up no other
                no_run = no_run or not_read(error)
        return PolledEvent(key, payload, now, self.place.stored(), no_run)


def _request(config: Config, last_id: str | None) -> HttpRequest:
    mine = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if last_id is not None:
        mine["Last-Event-ID"] = last_id
    given = {name.lower() for name in config.headers}
    headers = {**{name: value for name, value in mine.items() if name.lower() not in given}, **config.headers}
    return HttpRequest("GET", config.url, headers, timeout_s=_OPENS_WITHIN_S)


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    return await check_address(ctx, _request(config, None))


def _need_stream(ctx: TriggerContext, incoming: Incoming) -> None:
    if incoming.status != 200:
        wait_s = retry_after_s(incoming.headers.get("retry-after", ""), ctx.now_ms)
        raise Temporary(f"The source answers with status {incoming.status}.", retry_after_s=wait_s)
    kind = incoming.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        raise Temporary(f'The source answers with "{kind[:100]}" instead of "text/event-stream".')


_EXAMPLE = {
    "event": "order",
    "id": "1042",
    "message": {"orderId": "A-17", "total": "25.00"},
    "receivedAt": "2026-01-31T12:00:00.000Z",
}


@streamed(
    config=Config,
    output=Output,
    check=_check,
    connector="http",
    peeks=True,
    example_config={
        "url": "https://shop.example.com/api/events",
        "events": ["order"],
        "filter": 'message.status == "paid"',
    },
    example_output=example_output(_EXAMPLE, "sse"),
)
async def listen(ctx: TriggerContext, config: Config, cursor: Any) -> AsyncIterator[Received]:
    """Listens from the last id on."""
    before = StreamPlace.read(cursor)
    last_id = None if before is None else before.cursor
    async with ctx.http.stream(_request(config, last_id)) as incoming:
        _need_stream(ctx, incoming)
        now, lost = ctx.now_ms, None
        if before is not None and last_id is None:
            lost = Lost(before.gap(now), "Nobody listened, and the source gives its events no ids to go on from.")
        place = before if before is not None and last_id is not None else StreamPlace(now)
        stream = _Stream(config, now, place, Reader(config.max_bytes, last_id))
        yield Received((), stream.place.stored(), lost)
        idle_s, written_at = config.idle_ms / 1000, now
        while (chunk := await incoming.read(min(idle_s, MARK_EVERY_MS / 1000))) != b"":
            now = ctx.now_ms
            if chunk is None:
                idle_s -= min(idle_s, MARK_EVERY_MS / 1000)
                if idle_s <= 0:
                    raise Temporary(f"Nothing has come for {config.idle_ms} ms (idleMs).")
                found = []
            else:
                idle_s = config.idle_ms / 1000
                found = await run_in_thread(partial(stream.take, chunk, now), len(chunk))
            if stream.place.cursor is None and now - written_at >= MARK_EVERY_MS:
                stream.place = StreamPlace(now)
            if found or stream.place.at - written_at >= MARK_EVERY_MS:
                written_at = now
                yield Received(found, stream.place.stored())
