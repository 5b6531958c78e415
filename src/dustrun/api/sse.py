"""Server-Sent Events (WHATWG HTML section 9.2) as plain ASGI: past events from the table, new ones from memory.

A slow reader never slows a run: events that do not fit into its small buffer are read from the table again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from starlette.types import Receive, Scope, Send

from dustrun import clock
from dustrun.assistant.conversation_turns import Turns
from dustrun.core.stream_events import RUN_FINISHED
from dustrun.core.text.masking import hide
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.errors import Code, Invalid, Problem
from dustrun.services.access.principal import Principal
from dustrun.services.streaming.broadcaster import Activity, ActivityNotice, Subscription
from dustrun.services.streaming.streams import ACTIVITY_PAGE, FEW_ACTIVITIES, StreamedRun, Streams
from dustrun.storage.data.conversation_turns import TurnEvent
from dustrun.storage.runs.journal import Event

RETRY = b"retry: 1000\n\n"
HEARTBEAT = b": heartbeat\n\n"
END = b"event: end\ndata: {}\n\n"
PIECE = 65_536
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


def frame(run_id: str, event: Event) -> bytes:
    """Encodes one event of one run as a frame."""
    rest = f",{event.data[1:]}" if event.data != "{}" else "}"
    head = f'{{"type":"{event.type}","seq":{event.seq},"runId":"{run_id}","at":"{clock.to_rfc3339(event.at)}"'
    return hide(f"id: {event.seq}\nevent: {event.type}\ndata: {head}{rest}\n\n").encode()


def last_event_id(scope: Scope, query: dict[str, str]) -> int | None:
    """The reader's cursor: header `Last-Event-ID`, or `?lastEventId=` for a first connection; None without one."""
    text = query.get("lastEventId")
    for name, value in scope["headers"]:
        if name == b"last-event-id" and value:
            text = value.decode("latin-1")
    if text is None or text == "":
        return None
    if not text.isdecimal() or len(text) > 18:
        message = "must be the id of an event of this stream, a whole number"
        raise Invalid(
            "The event id is not valid.",
            code=Code.PARAMETER_INVALID,
            details=[Problem("Last-Event-ID", message)],
        )
    return int(text)


class Connection:
    """One open stream: sends frames, and notices if the reader disconnects, its key expires, or the server stops."""

    def __init__(
        self, receive: Receive, send: Send, streams: Streams, principal: Principal, subscription: Subscription[Any]
    ) -> None:
        self._receive = receive
        self._principal = principal
        self._send = send
        self._streams = streams
        self._subscription = subscription
        self._gone = False
        self._watch: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended."""
        return self._gone or not self._streams.may_go_on(self._principal)

    async def begin(self) -> None:
        """Sends the head of the answer."""
        self._watch = asyncio.get_running_loop().create_task(self._watch_reader())
        await self._send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        await self.write(RETRY)

    async def _watch_reader(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._subscription.wake()

    async def write(self, body: bytes) -> None:
        """Sends bytes; waits if the reader is slow."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def write_all(self, frames: Iterable[bytes]) -> None:
        """Sends frames in pieces of about `PIECE` bytes, so that no more is buffered for a slow reader."""
        piece = bytearray()
        for encoded in frames:
            piece += encoded
            if len(piece) >= PIECE:
                await self.write(bytes(piece))
                piece.clear()
                if self.is_over:
                    return
        if piece:
            await self.write(bytes(piece))

    async def wait(self) -> bool:
        """Waits for new events; after a quiet interval sends a heartbeat and returns False."""
        news = await self._subscription.wait(self._streams.patience_s(self._principal))
        if not news and not self.is_over:
            await self.write(HEARTBEAT)
        return news

    async def close(self) -> None:
        """Ends the stream."""
        if self._watch is not None:
            self._watch.cancel()
        if not self._gone:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def answer_no_content(send: Send) -> None:
    """Answers 204: there will be no event after the cursor, and an `EventSource` stops reconnecting."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def stream_run(
    streams: Streams, principal: Principal, run_id: str, after: int, receive: Receive, send: Send
) -> None:
    """Streams the events of one run after a cursor to the run's end, first from the table and then as they are
    committed."""
    org_id = principal.org_id
    subscription = streams.hub.watch_run(org_id, run_id)
    connection = Connection(receive, send, streams, principal, subscription)
    try:
        run = await streams.find_run(principal, run_id)
        if run is not None and run.is_final and after >= run.last_seq:
            await answer_no_content(send)
            return
        if run is None:
            streams.begin_waiting(principal.key_id)
            try:
                await connection.begin()
                run = await _wait_for_run(streams, connection, subscription, principal, run_id)
            finally:
                streams.end_waiting(principal.key_id)
        else:
            await connection.begin()
        if run is not None:
            async for events in _events_of(streams, connection, subscription, run, after):
                await connection.write_all(frame(run_id, event) for event in events)
                if events[-1].type == RUN_FINISHED and not connection.is_over:
                    await connection.write(END)
                    break
        await connection.close()
    finally:
        streams.hub.leave_run(org_id, run_id, subscription)


async def _wait_for_run(
    streams: Streams, connection: Connection, subscription: Subscription[Event], principal: Principal, run_id: str
) -> StreamedRun | None:
    """The run, as soon as it exists and the key may read it; None if the wait timed out.

    It did not exist when the stream was opened, after the subscription began, so its first event is on its way."""
    end_at = clock.monotonic_s() + streams.settings.stream_wait_s
    while not connection.is_over and clock.monotonic_s() < end_at:
        await connection.wait()
        if subscription.run_pk is not None and principal.workflow_ids is None:
            return StreamedRun(subscription.run_pk, is_final=False, last_seq=0)
        run = await streams.find_run(principal, run_id)
        if run is not None:
            return run
    return None


async def _events_of(
    streams: Streams, connection: Connection, subscription: Subscription[Event], run: StreamedRun, after: int
) -> AsyncIterator[Sequence[Event]]:
    """Events in order without gaps: from memory if it continues exactly at the cursor, otherwise from the table."""
    pages = streams.events_of(run.pk)
    from_table = not (subscription.entries and subscription.entries[0].seq <= after + 1)
    while not connection.is_over:
        if from_table or subscription.lost:
            subscription.lost = False
            page = await pages.after(after)
            from_table = len(page) > 0
            if page:
                after = page[-1].seq
                yield page
            continue
        events = [event for event in subscription.take() if event.seq > after]
        if not events:
            await connection.wait()
        elif events[0].seq != after + 1 or events[-1].seq != after + len(events):
            from_table = True
        else:
            after = events[-1].seq
            yield events


async def stream_activity(
    streams: Streams,
    principal: Principal,
    workflow_ids: Sequence[str] | None,
    after: int | None,
    receive: Receive,
    send: Send,
) -> None:
    """Streams starts, waits and ends of many runs in commit order, from now or after a cursor."""
    workflow_ids = _reachable(principal, workflow_ids)
    org_id = principal.org_id
    subscription = streams.hub.watch_activity(org_id)
    connection = Connection(receive, send, streams, principal, subscription)
    try:
        cursor = after if after is not None else await streams.newest_activity(org_id)
        await connection.begin()
        async for page in _activity_of(streams, connection, subscription, org_id, workflow_ids, cursor):
            await connection.write_all(_activity_frame(entry) for entry in page)
        await connection.close()
    finally:
        streams.hub.leave_activity(org_id, subscription)


def _reachable(principal: Principal, workflow_ids: Sequence[str] | None) -> Sequence[str] | None:
    """The requested workflows that the key may read; others are ignored."""
    reached = principal.workflow_ids
    if reached is None:
        return workflow_ids
    wanted = reached if workflow_ids is None else reached.intersection(workflow_ids)
    return sorted(wanted) or ["none"]


async def _activity_of(
    streams: Streams,
    connection: Connection,
    subscription: Subscription[Activity | ActivityNotice],
    org_id: str,
    workflow_ids: Sequence[str] | None,
    after: int,
) -> AsyncIterator[Sequence[Activity | ActivityNotice]]:
    """Entries in commit order: from the table until a page is not full, then from memory; after a quiet interval from
    the table again, because another process may have written. Notices come from memory alone."""
    from_table = True
    page: Sequence[Activity | ActivityNotice]
    while not connection.is_over:
        if from_table or subscription.lost or subscription.must_look:
            subscription.lost = subscription.must_look = False
            most = ACTIVITY_PAGE if from_table else FEW_ACTIVITIES
            page = await streams.list_activity(org_id, after, workflow_ids, most)
            from_table = len(page) >= most  # what commits after a page was read is told after it
        else:
            page = [entry for entry in subscription.take() if isinstance(entry, ActivityNotice) or entry.cursor > after]
            after = max([after, *(entry.cursor for entry in page if isinstance(entry, Activity))])
            page = [entry for entry in page if workflow_ids is None or entry.workflow_id in workflow_ids]
        if page:
            after = max([after, *(entry.cursor for entry in page if isinstance(entry, Activity))])
            yield page
        elif not from_table and not subscription.entries:
            from_table = not await connection.wait()


async def stream_conversation(
    streams: Streams,
    turns: Turns,
    principal: Principal,
    conversation_id: str,
    after: int,
    receive: Receive,
    send: Send,
) -> None:
    """Streams the turns of a conversation after a cursor, always from the table: each event is on disk first."""
    subscription = turns.watch(conversation_id)
    connection = Connection(receive, send, streams, principal, subscription)
    try:
        await connection.begin()
        while not connection.is_over:
            events = await turns.list_events(conversation_id, after)
            if events:
                await connection.write_all(map(_turn_frame, await turns.shown(principal, events)))
                after = events[-1].seq
            else:
                await connection.wait()
        await connection.close()
    finally:
        turns.leave(conversation_id, subscription)


def _turn_frame(event: TurnEvent) -> bytes:
    head = {"type": event.type, "seq": event.seq, "messageId": event.message_id, "at": clock.to_rfc3339(event.at)}
    data = dumps_text({**head, **loads_own(event.data)})
    return hide(f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n").encode()


def _activity_frame(entry: Activity | ActivityNotice) -> bytes:
    if isinstance(entry, ActivityNotice):  # without an id: it is not where a reader goes on
        head = dumps_text({"type": entry.type, "at": clock.to_rfc3339(entry.at), "workflowId": entry.workflow_id})
        rest = f",{entry.data[1:]}" if entry.data != "{}" else "}"
        return hide(f"event: {entry.type}\ndata: {head[:-1]}{rest}\n\n").encode()
    event, workflow_id = entry.event, entry.workflow_id
    body = frame(entry.run_id, event).split(b"data: ", 1)[1]
    named = f'{{"workflowId":"{workflow_id}",'.encode() if workflow_id and b'"workflowId"' not in body else b"{"
    return f"id: {entry.cursor}\nevent: {event.type}\ndata: ".encode() + named + body[1:]
