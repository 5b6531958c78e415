"""A message for which `key` or `cursor` cannot be evaluated is recorded as failed, and holds up no other."""

from __future__ import annotations

import json
from typing import Any

from dustrun.sdk import PolledEvent
from dustrun.triggers.streamed import sse, websocket
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
