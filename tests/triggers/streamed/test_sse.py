"""The reader of event streams: whatever pieces the bytes come in, the same events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    "large", [b"data: " + b"x" * 5000, b"\n".join([b"data: xxxxxxxxxx"] * 200), b"data: x\ndata:" + b"y" * 1000]
)
@pytest.mark.parametrize("size", [1, 7, 999, 100_000])
def test_an_event_that_is_too_large_is_passed_over_and_never_kept(large: bytes, size: int) -> None:
    reader, found = Reader(1000), []
    stream = b"data: a\n\n" + large + b"\nid: 7\nevent: e\n\n: " + b"z" * 3000 + b"\nid: 8\ndata: b\n\n"
    for at in range(0, len(stream), size):
        found += list(reader.feed(stream[at : at + size]))
        assert len(reader._rest) + sum(map(len, reader._data)) <= 2010
    assert found == [("message", None, "a"), ("e", "7", None), ("message", "8", "b")]
