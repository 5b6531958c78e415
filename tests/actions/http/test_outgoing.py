"""Building and showing requests."""

from __future__ import annotations

from decimal import Decimal

import pytest

from dustrun.actions.http.outgoing import shown, text_of, with_query
from dustrun.core.text.secret_rules import may_be_credential
from dustrun.sdk import HttpRequest

_CONTRACT = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", "http://h?a=1"),
        ("http://h/?", "http://h/?a=1"),
        ("http://h/?b", "http://h/?b&a=1"),
        ("http://h/?b&", "http://h/?b&a=1"),
        ("http://h/?b=%2F#f", "http://h/?b=%2F&a=1"),
    ],
)
def test_with_query(url: str, expected: str) -> None:
    assert (with_query(url, {"a": 1}), with_query(url, {"a": None})) == (expected, url)


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (10**30, "1" + "0" * 30), (Decimal("1E-7"), "0.0000001"), (Decimal("1E+3"), "1000"), ("x", "x")],
)
def test_text_of(value: str | bool | int | Decimal, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "COOKIE",
        "Proxy-Authorization",
        "X-Api-Key",
        "x-auth",
        "X-Vault-Token",
        "client_secret",
        "sig_key",
        "KC-API-SIGN",
        "KC-API-PASSPHRASE",
    ],
)
def test_is_secret(name: str) -> None:
    assert may_be_credential(name)


@pytest.mark.parametrize("name", ["Accept", "Content-Type", "Idempotency-Key", "X-Request-Id", "X-Signal", "design"])
def test_is_secret_of_what_is_none(name: str) -> None:
    assert not may_be_credential(name)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://u:p@h/x?a=1", "https://***@h/x?a=1"),
        ("https://h/x?api_key=s&b=%2F", "https://h/x?api_key=***&b=%2F"),
        (f"https://h/x?token={_CONTRACT}&b=%2F", f"https://h/x?token={_CONTRACT}&b=%2F"),
        (f"https://h/x?tokenAddress={_CONTRACT}&token=s", f"https://h/x?tokenAddress={_CONTRACT}&token=***"),
        (f"https://h/x?access_key={_CONTRACT}&auth_token={_CONTRACT}", "https://h/x?access_key=***&auth_token=***"),
        (f"https://h/x?token={_CONTRACT}{'00' * 12}", "https://h/x?token=***"),
        ("https://h/x?b=%2f&c", "https://h/x?b=%2f&c"),
        ("http://[", "http://["),
    ],
)
def test_shown_url_has_no_secrets(url: str, expected: str) -> None:
    assert shown(HttpRequest("GET", url))["url"] == expected


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Content-Type": "application/json"}, b'{"a":1.10}', {"a": Decimal("1.10")}),
        ({"content-type": "application/json"}, b"{", "{"),
        ({"Content-Type": "text/plain"}, b"1", "1"),
        ({}, b"\xff", "\ufffd"),
    ],
)
def test_shown_body(headers: dict[str, str], body: bytes, expected: object) -> None:
    assert shown(HttpRequest("POST", "http://h/", headers, body))["body"] == expected
    assert "body" not in shown(HttpRequest("POST", "http://h/", headers))
