"""The reader of event streams: whatever pieces the bytes come in, the same events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dustrun.errors import Temporary
from dustrun.triggers.streamed.sse import Reader

STREAM = (
    b"\xef\xbb\xbf: a comment\n\ndata: one\r\n\r\nid: 7\rdata: two\rdata:  lines\r\r"
    b"event: named\ndata\nid: 8\n\nevent: no data\n\ndata: after\nretry: 10\nunknown: x\n\nid\n"
    b'data: {"a": 1}\n\ndata: cut'
)
EVENTS = [
    ("message", None, "one"),
    ("message", "7", "two\n lines"),
    ("named", "8", ""),
    ("message", "8", "after"),
    ("message", None, '{"a": 1}'),
]


@settings(max_examples=60)
@given(st.lists(st.integers(1, 9), max_size=len(STREAM)))
def test_events_are_the_same_whatever_pieces_they_come_in(sizes: list[int]) -> None:
    reader, found, rest = Reader(1000), [], STREAM
    for size in sizes:
        found += list(reader.feed(rest[:size]))
        rest = rest[size:]
    found += list(reader.feed(rest))
    assert found == EVENTS


def test_an_event_that_is_too_large_ends_the_stream_before_it_fills_the_memory() -> None:
    for chunk in (b"data: " + b"x" * 2000, b"data: xxxxxxxxxx\n" * 200):
        with pytest.raises(Temporary, match="larger than 1000 bytes"):
            list(Reader(1000).feed(chunk))
