from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from cli.conftest import Answer, Asked, Peer, envelope, failure
from dustrun.cli.http.client import Client, Unreachable, find_key, segment
from dustrun.cli.http.failures import CliError, Exit


def test_get_takes_the_envelope_off(peer: Peer) -> None:
    peer.answer = lambda _: envelope({"a": 1})
    assert peer.client().get("/v1/things", q="a b", limit=None) == {"a": 1}
    assert peer.asked[0].path == "/v1/things?q=a+b"
    assert peer.asked[0].headers["authorization"] == "Bearer sk_test"


def test_numbers_stay_exact(peer: Peer) -> None:
    text = '{"code": 200, "message": "success", "data": 3127.418290517364281904, "requestId": "req_1"}'
    peer.answer = lambda _: Answer(200, text)
    assert peer.client().get("/x") == Decimal("3127.418290517364281904")


def test_integers_beyond_a_double_are_asked_for_as_numbers(peer: Peer) -> None:
    def answer(asked: Asked) -> Answer:
        is_exact = asked.headers.get("dustrun-exact-numbers") == "true"
        return envelope(2**60 if is_exact else str(2**60))

    peer.answer = answer
    assert peer.client().get("/x") == 2**60


def test_post_sends_json(peer: Peer) -> None:
    peer.answer = lambda _: envelope(None)
    peer.client(None).post("/x", {"n": "é"})
    assert peer.asked[0].body == {"n": "é"}
    assert peer.asked[0].headers["content-type"] == "application/json"
    assert "authorization" not in peer.asked[0].headers


def test_a_refusal_is_an_error_with_code_details_and_hint(peer: Peer) -> None:
    peer.answer = lambda _: failure(400228, "It does not validate.", [{"field": "nodes.a", "message": "is odd"}])
    with pytest.raises(CliError) as caught:
        peer.client().post("/x", {})
    assert caught.value.exit is Exit.USAGE
    assert caught.value.as_text().splitlines()[:2] == ["Error 400228: It does not validate.", "  - nodes.a: is odd"]
    assert caught.value.as_json() == {
        "code": 400228,
        "message": "It does not validate.",
        "details": [{"field": "nodes.a", "message": "is odd"}],
        "hint": "Fix the listed problems; `dustrun workflow validate FILE` checks without saving.",
        "requestId": "req_1",
        "exitStatus": 2,
    }


def test_a_failure_of_the_server_has_its_own_status(peer: Peer) -> None:
    peer.answer = lambda _: failure(503001, "Nothing was started.")
    with pytest.raises(CliError) as caught:
        peer.client().get("/x")
    assert caught.value.exit is Exit.SERVER


def test_an_answer_of_something_else_is_told(peer: Peer) -> None:
    peer.answer = lambda _: Answer(200, "<html>", "text/html")
    with pytest.raises(CliError, match="not like a Dustrun server"):
        peer.client().get("/x")


def test_nobody_listening_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"No answer from http://127\.0\.0\.1:1"):
        Client("127.0.0.1:1", None).get("/x")


def test_an_address_must_be_one() -> None:
    with pytest.raises(CliError, match="not a server address"):
        Client("ftp://example.com", None)


def test_the_key_is_found_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUSTRUN_DATA_DIR", str(tmp_path))
    assert find_key(None) is None
    (tmp_path / "owner.key").write_text("sk_owner\n")
    assert find_key(None) == "sk_owner"
    assert find_key("sk_given") == "sk_given"


def test_a_segment_cannot_leave_its_path() -> None:
    assert segment("../a?b") == "..%2Fa%3Fb"
