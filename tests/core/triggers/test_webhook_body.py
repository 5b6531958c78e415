"""What an inbound request hands to a workflow."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.core.triggers.webhook_body import WrongType, key_of, parse, query_of, shown_headers


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", None, {}),
        (b' {"a": 1} ', "application/json", {"a": 1}),
        (b"[1,2]", "application/json; charset=UTF-8", {"value": [1, 2]}),
        (b'"x"', "application/cloudevents+json", {"value": "x"}),
        (b"a=1&b=2&b=3&c=", "application/x-www-form-urlencoded", {"a": "1", "b": ["2", "3"], "c": ""}),
        ("grüß".encode(), "text/plain", {"text": "grüß"}),
        (b"<a/>", "application/xml", {"text": "<a/>"}),
    ],
)
def test_parsed(body: bytes, kind: str | None, expected: dict[str, Any]) -> None:
    assert parse(body, kind) == expected


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"{}", None, WrongType),
        (b"{}", "application/octet-stream", WrongType),
        (b"--x", "multipart/form-data; boundary=x", WrongType),
        (b"{}", "application/json; charset=utf-16", WrongType),
        (b'{"a":1,"a":2}', "application/json", ValueError),
        (b"{", "application/json", ValueError),
        (b"[" * 101 + b"]" * 101, "application/json", ValueError),
        (b"[" * 100_000, "application/json", ValueError),
        (b"\xff", "text/plain", ValueError),
        (b"a=%ff", "application/x-www-form-urlencoded", ValueError),
        (b"&".join([b"a=1"] * 1001), "application/x-www-form-urlencoded", ValueError),
        (b"1e999999", "application/json", ValueError),
    ],
)
def test_refused(body: bytes, kind: str | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse(body, kind)


def test_secrets_among_headers_are_masked() -> None:
    headers = {"authorization": "Bearer x", "x-sig": "abc", "x-order": "7", "cookie": "a=b"}
    shown = shown_headers(headers, {"x-sig"})
    assert shown["x-order"] == "7"
    assert {shown[name] for name in ("authorization", "x-sig", "cookie")} == {"•••"}
    assert sum(map(len, shown_headers({f"x-{i}": "v" * 4000 for i in range(50)}, ()).values())) <= 16_384


def test_long_keys_are_hashed() -> None:
    assert key_of("given", "a" * 200) == "given:" + "a" * 200
    assert len(key_of("given", "a" * 10_000)) < 300
    assert key_of("given", "a" * 10_000) != key_of("given", "a" * 10_001)
    assert key_of("given", "a\n") != key_of("given", "a")


def test_query() -> None:
    assert query_of("a=1&b=%C3%A4&a=2") == {"a": "2", "b": "ä"}
    assert query_of("&".join(f"a{i}=1" for i in range(101))) == {}
