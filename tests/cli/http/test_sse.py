from __future__ import annotations

import pytest

from cli.conftest import Answer, Asked, Peer, failure
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.sse import Message, Stream, parse


def test_parse_follows_the_standard() -> None:
    lines = [
        b": hello\n",
        b"retry: 1000\n",
        b"\n",
        b"id: 1\r\n",
        b"event: log\r\n",
        b"data: one\r\n",
        b"data:two\r\n",
        b"\r\n",
        b"data\n",
        b"\n",
        b"data: cut off",
    ]
    assert list(parse(lines)) == [Message("log", "one\ntwo", "1"), Message("message", "", "1")]


def _event(seq: int) -> str:
    return f'id: {seq}\nevent: log\ndata: {{"type": "log", "seq": {seq}}}\n\n'


def _stream_answer(text: str) -> Answer:
    return Answer(200, text, "text/event-stream")


def test_a_broken_stream_goes_on_after_the_last_event(peer: Peer) -> None:
    def answer(asked: Asked) -> Answer:
        if "last-event-id" not in asked.headers:
            return _stream_answer(_event(1) + _event(2) + "id: 3\ndata: {")
        return _stream_answer(_event(3) + "event: end\ndata: {}\n\n")

    peer.answer = answer
    assert [event["seq"] for event in Stream(peer.client(), "/s")] == [1, 2, 3]
    assert [asked.headers.get("last-event-id") for asked in peer.asked] == [None, "2"]


def test_no_content_ends_the_stream(peer: Peer) -> None:
    peer.answer = lambda _: Answer(204)
    stream = Stream(peer.client(), "/s")
    stream.open()
    assert list(stream) == []
    assert len(peer.asked) == 1


def test_a_server_that_fails_for_a_moment_is_asked_again(peer: Peer) -> None:
    answers = [
        _stream_answer(_event(1)),
        failure(503001, "Starting."),
        _stream_answer(_event(2) + "event: end\ndata: {}\n\n"),
    ]
    peer.answer = lambda _: answers[len(peer.asked) - 1]
    told: list[str] = []
    assert [event["seq"] for event in Stream(peer.client(), "/s", told.append)] == [1, 2]
    assert told == ["Starting."]


def test_a_refusal_is_not_tried_again(peer: Peer) -> None:
    peer.answer = lambda _: failure(401001, "The API key is missing or invalid.")
    with pytest.raises(CliError, match="API key is missing"):
        Stream(peer.client(), "/s").open()
