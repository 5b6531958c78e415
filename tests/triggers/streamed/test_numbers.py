"""Numbers of a WebSocket that is not asked to go on from one: what comes again is known, what only looks so is not."""

from __future__ import annotations

import json
from typing import Any

from dustrun.sdk.trigger import Lost
from dustrun.triggers.streamed.place import StreamPlace
from dustrun.triggers.streamed.websocket import Config, _Stream

Message = dict[str, Any]


class Listener:
    """Each connection goes on from the stored place of the one before; `keys` are of the events that are on record."""

    def __init__(self, **config: Any) -> None:
        self.config = Config.model_validate({"url": "wss://x.example.com", "cursor": "message.seq", **config})
        self.stored: Any = None
        self.keys: dict[str, None] = {}
        self.now = 1_000

    def connection(self, *messages: Message) -> tuple[int, list[Lost]]:
        """How many of the messages of a new connection are new, and what is told to be lost."""
        self.now += 1_000
        place = StreamPlace.read(self.stored) or StreamPlace(self.now, by_content=True)
        stream, gaps, before = _Stream(self.config, self.now, place), [], len(self.keys)
        for one in messages:
            found, lost = stream.take(json.dumps(one), self.now, None)
            self.keys |= {event.key: None for event in found}
            gaps += [lost] if lost is not None else []
        self.stored = json.loads(json.dumps(stream.place.stored()))
        return len(self.keys) - before, gaps


def told(first: int, last: int, day: str = "a") -> list[Message]:
    return [{"seq": n, "of": f"{day}{n}"} for n in range(first, last + 1)]


def test_a_source_that_counts_anew_on_each_connection_loses_nothing() -> None:
    for config in ({}, {"contiguous": True}):
        listener = Listener(**config)
        assert listener.connection(*told(1, 40))[0] == 40
        assert listener.connection(*told(1, 30, "b"))[0] == 30
        assert listener.connection(*told(1, 3, "c"))[0] == 3


def test_a_source_that_sends_again_what_it_sent_starts_no_second_run() -> None:
    for config in ({}, {"contiguous": True}):
        listener = Listener(**config)
        assert listener.connection(*told(1, 40)) == (40, [])
        assert listener.connection(*told(31, 50)) == (10, [])
        assert listener.connection(*told(50, 52)) == (2, [])
        reordered = {"of": "a52", "seq": 52}
        assert listener.connection(reordered) == (0, [])


def test_contiguous_numbers_that_begin_again_are_told() -> None:
    listener = Listener(contiguous=True)
    listener.connection({"seq": 1, "of": "hello"}, *told(2, 5))
    new, (gap,) = listener.connection({"seq": 1, "of": "hello"}, *told(2, 3, "b"))
    assert new == 2, "the first is the same in number and content"
    assert gap.range == {"from": "1970-01-01T00:00:02.000Z", "to": "1970-01-01T00:00:03.000Z"}
    assert gap.reason.startswith("The source's numbers begin again at 2")
    new, (gap,) = listener.connection(*told(4, 4, "b"), *told(6, 6, "b"))
    assert (new, gap.range) == (2, {"fromCursor": 5, "toCursor": 5})


def test_what_an_older_version_has_on_record_by_its_number_is_looked_for_there() -> None:
    config = Config.model_validate({"url": "wss://x.example.com", "cursor": "message.seq"})
    stream = _Stream(config, 9, StreamPlace.read({"at": 5, "cursor": 7}) or StreamPlace(9))
    ((event,), _) = stream.take('{"seq": 7}', 9, None)
    assert (event.formerly, event.key.startswith("cursor:7:")) == ("cursor:7", True)
    asked = config.model_copy(update={"resume": "cursor"})
    stream = _Stream(asked, 9, StreamPlace(5, 7, by_content=True))
    ((other,), _) = stream.take('{"seq": 7}', 9, None)
    assert (other.key, other.formerly) == ("cursor:7", event.key)
    stream = _Stream(asked, 9, StreamPlace(5, 7))
    ((other,), _) = stream.take('{"seq": 7}', 9, None)
    assert (other.key, other.formerly) == ("cursor:7", None)
