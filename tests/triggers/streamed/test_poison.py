"""A message that is too large, or of which something cannot be read, is recorded as failed, and holds up no other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from dustrun.sdk import PolledEvent
from dustrun.triggers.streamed import email_received, kafka, sse, websocket
from dustrun.triggers.streamed.place import StreamPlace


def outcome(events: list[PolledEvent]) -> list[tuple[str, str | None]]:
    return [(one.key, None if one.no_run is None else one.no_run.reason) for one in events]


def test_sse_goes_on_past_a_message_without_a_key() -> None:
    config = sse.Config.model_validate({"url": "https://x.example.com", "key": "message.id"})
    stream = sse._Stream(config, 5, StreamPlace(5), sse.Reader(10_000))
    found = stream.take(b'id: 1\ndata: {"id":1}\n\nid: 2\ndata: {"x":1}\n\nid: 3\ndata: {"id":3}\n\n', 6, None)
    (first, failed, last) = outcome(found)
    assert (first, last) == (("key:1", None), ("key:3", None))
    assert failed[0].startswith("id:2:"), "the same when it comes again"
    assert failed[1] == "filter"
    assert found[1].no_run is not None
    assert found[1].no_run.is_failure
    assert found[1].no_run.message.startswith("`key` does not fit a message")
    assert stream.place.cursor == "3"


def test_websocket_goes_on_past_a_message_without_a_key_or_number() -> None:
    def told(message: Any, **config: Any) -> tuple[list[tuple[str, str | None]], Any]:
        given = {"url": "wss://x.example.com", "cursor": "message.seq", "resume": "cursor", **config}
        stream = websocket._Stream(websocket.Config.model_validate(given), 5, StreamPlace(5, 7))
        found, lost = stream.take(json.dumps(message), 6, None)
        assert lost is None
        return outcome(found), stream.place.cursor

    assert told({"seq": 8}, key="message.id") == ([("cursor:8", "filter")], 8)
    assert told({"id": "a"}, key="message.id", contiguous=True) == ([("key:a", "filter")], 7)
    assert told({"type": "heartbeat"}) == ([("5.1", "filter")], 7)
    assert told({"type": "heartbeat"}, filter='message.type == "trade"') == ([], 7), "what does not count needs none"


def test_sse_goes_on_past_an_event_that_is_too_large() -> None:
    config = sse.Config.model_validate({"url": "https://x.example.com", "maxBytes": 1024, "key": "message.id"})
    stream = sse._Stream(config, 5, StreamPlace(5), sse.Reader(config.max_bytes))
    found = stream.take(b'id: 1\ndata: "' + b"x" * 2000 + b'"\n\nid: 2\ndata: {"id": 2}\n\n', 6, None)
    (failed, last) = outcome(found)
    assert (failed[0].startswith("id:1:"), failed[1], last) == (True, "payload", ("key:2", None))
    assert found[0].payload["id"] == "1"
    assert stream.place.cursor == "2"


def test_websocket_goes_on_past_a_message_that_is_too_large() -> None:
    given = {"url": "wss://x.example.com", "cursor": "message.seq", "resume": "cursor", "maxBytes": 1024}
    config = websocket.Config.model_validate({**given, "contiguous": True})
    stream = websocket._Stream(config, 5, StreamPlace(5, 7))
    large = json.dumps({"seq": 8, "padding": "x" * 2000})
    found, lost = stream.take(large, 6, None)
    assert (outcome(found)[0][1], lost, stream.place.cursor) == ("payload", None, 7)
    assert stream.take(large, 6, None)[0][0].key == found[0].key, "the same when it comes again"
    found, lost = stream.take('{"seq": 9}', 6, None)
    assert lost is not None
    assert (outcome(found), lost.range) == ([("cursor:9", None)], {"fromCursor": 8, "toCursor": 8})
    assert lost.reason == "The messages 8 to 8 did not come, but 2 larger than `maxBytes`."


def test_kafka_takes_a_message_whatever_its_sender_says_of_the_time() -> None:
    for time in (-(2**62), 2**62):
        record = ConsumerRecord("t", 0, 1, time, 0, b"k", b"{}", None, 1, 2, [])
        event = kafka._event(kafka.Config(topic="t"), record, {}, 5)
        assert event is not None
        assert event.no_run is None


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"Content-Type: text/plain; charset=a\0b\r\n\r\nhello", None),
        (b"Content-Type: message/rfc822\r\n\r\n" * 2000, "payload"),
    ],
)
def test_email_goes_on_past_what_nobody_can_read(head: bytes, reason: str | None) -> None:
    raw = email_received._Raw(3, len(head), b"Subject: one\r\n" + head, is_cut=False)
    (event,) = email_received._events(email_received.Config(), [raw], 1, 5, None)
    assert (event.key, None if event.no_run is None else event.no_run.reason) == ("1:3", reason)
    assert event.payload["mail"]["uid"] == 3
