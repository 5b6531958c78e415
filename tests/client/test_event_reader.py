"""Events come out once and in order, however their bytes arrive."""

from __future__ import annotations

import pytest

from dustrun import clock
from dustrun.client import StillRunning, Unavailable, Unreachable
from dustrun.client.event_reader import SILENCE_S, EventReader
from dustrun.client.patience import Patience


def frame(seq: int) -> bytes:
    data = f'{{"type":"log","seq":{seq},"runId":"run_1","at":"2026-01-31T12:00:00.000Z","nodeId":"say"}}'
    return f"id: {seq}\nevent: log\ndata: {data}\n\n".encode()


def reader(cursor: int = 0, patience_s: float = 60.0, until_s: float | None = None) -> EventReader:
    return EventReader("run_1", cursor, Patience(patience_s), until_s)


WHOLE = b"retry: 1000\n\n" + frame(1) + b": heartbeat\n\n" + frame(2) + frame(3) + b"event: end\ndata: {}\n\n"


@pytest.mark.parametrize("size", [1, 2, 7, len(WHOLE)])
def test_bytes_in_pieces_are_the_same_events(size: int) -> None:
    found = reader()
    found.begin()
    pieces = [WHOLE[start : start + size] for start in range(0, len(WHOLE), size)]
    assert [event.seq for piece in pieces for event in found.take(piece)] == [1, 2, 3]
    assert found.is_over


def test_the_next_request_goes_on_after_the_last_event_and_what_comes_again_is_left_out() -> None:
    found = reader()
    assert found.begin()["Last-Event-ID"] == "0"
    assert [event.node_id for event in found.take(frame(1) + frame(2) + frame(3)[:-5])] == ["say", "say"]
    found.broke("the server ended")
    assert found.begin()["Last-Event-ID"] == "2"
    assert [event.seq for event in found.take(frame(2) + frame(3))] == [3]


def test_a_gap_is_asked_for_again() -> None:
    found = reader(cursor=4)
    found.begin()
    assert list(found.take(frame(6))) == []
    assert (found.must_reopen, found.cursor) == (True, 4)
    assert found.begin()["Last-Event-ID"] == "4"


def test_nothing_follows_after_204() -> None:
    found = reader(cursor=3)
    found.refused(204, {}, b"")
    assert found.is_over


def test_patience_ends_in_the_error_that_there_was() -> None:
    busy = b'{"code": 503001, "message": "It starts.", "details": [], "requestId": "req_1"}'
    with pytest.raises(Unavailable, match="It starts"):
        reader(patience_s=5).refused(503, {"retry-after": "9"}, busy)
    with pytest.raises(Unreachable, match="after event 7: it ended"):
        reader(cursor=7, patience_s=0).broke("it ended")
    found = reader(patience_s=5)
    found.refused(503, {"retry-after": "3"}, busy)
    assert found.wait_s == 3
    found.refused(502, {}, b"<html>")  # a proxy, whose server is not there


def test_a_wait_ends_in_time_though_the_server_sends_signs_of_life() -> None:
    found = reader(until_s=clock.monotonic_s() + SILENCE_S + 60)
    found.begin()
    assert found.silence_s == SILENCE_S
    list(found.take(b": heartbeat\n\n"))
    assert not found.must_reopen
    late = reader(cursor=2, until_s=clock.monotonic_s())
    with pytest.raises(StillRunning) as caught:
        late.begin()
    assert caught.value.cursor == 2
