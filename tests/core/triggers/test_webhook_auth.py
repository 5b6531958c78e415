"""Who sent a request: signatures of Standard Webhooks and of services in use, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from dustrun.core.text import standard_webhooks
from dustrun.core.triggers.webhook_auth import Bad, Good
from dustrun.core.triggers.webhook_senders import Auth, verify

NOW = 1_700_000_000_000
BODY = b'{"a":1}'
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
AUTH: TypeAdapter[Any] = TypeAdapter(Auth)


def auth(**fields: Any) -> Any:
    return AUTH.validate_python(fields)


def check(given: Any, headers: dict[str, str], body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,)) -> str:
    found = verify(given, headers, body, secrets, NOW)
    return found.reason if isinstance(found, Bad) else "good"


def mac(text: bytes, secret: str = SECRET, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), text, algorithm).hexdigest()


def standard(at_s: int = NOW // 1000, secret: str = SECRET, body: bytes = BODY) -> dict[str, str]:
    return standard_webhooks.headers(standard_webhooks.key_of(secret), "msg_1", at_s, body)


def test_standard_webhooks() -> None:
    given = auth(type="standard-webhooks")
    assert verify(given, standard(), BODY, [SECRET], NOW) == Good("id:msg_1", NOW)
    assert check(given, standard(), b'{"a":2}') == "signature"
    assert check(given, {**standard(), "webhook-id": "msg_2"}) == "signature"
    assert check(given, {**standard(), "webhook-timestamp": str(NOW // 1000 + 1)}) == "signature"
    assert check(given, standard(NOW // 1000 - 300)) == "good"
    assert check(given, standard(NOW // 1000 - 301)) == "timestamp"
    assert check(given, standard(NOW // 1000 + 301)) == "timestamp"
    assert check(given, {**standard(), "webhook-timestamp": "1e9"}) == "timestamp"
    for name in standard():
        assert check(given, {key: value for key, value in standard().items() if key != name}) == "signature"


def test_either_secret_is_good_while_they_overlap() -> None:
    other = "whsec_" + base64.b64encode(b"o" * 32).decode()
    given = auth(type="standard-webhooks")
    assert check(given, standard(secret=other), secrets=(SECRET, other)) == "good"
    assert check(given, standard(secret=other), secrets=(SECRET,)) == "signature"
    assert check(given, standard(), secrets=("a plain secret of another kind",)) == "signature"
    assert check(given, standard(), secrets=()) == "signature"


def test_header() -> None:
    given = auth(type="header", header="X-Token")
    assert check(given, {"x-token": SECRET}) == "good"
    assert check(given, {"x-token": SECRET + "x"}) == "signature"
    assert check(given, {}) == "signature"
    assert check(auth(type="header", header="Authorization"), {"authorization": f"Bearer {SECRET}"}) == "good"
    assert check(given, {"x-token": ""}, secrets=()) == "signature"


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"header": "X-Hub-Signature-256", "prefix": "sha256="}, {"x-hub-signature-256": f"sha256={mac(BODY)}"}),
        (
            {"header": "X-S", "encoding": "base64", "algorithm": "sha512"},
            {"x-s": base64.b64encode(hmac.new(SECRET.encode(), BODY, hashlib.sha512).digest()).decode()},
        ),
        (
            {"header": "X-S", "prefix": "v0=", "signed": "v0:{timestamp}:{body}", "timestampHeader": "X-T"},
            {"x-s": "v0=" + mac(b"v0:1700000000:" + BODY), "x-t": "1700000000"},
        ),
        (
            {"header": "Sig", "signed": "{timestamp}.{body}", "parameters": {"timestamp": "t", "signature": "v1"}},
            {"sig": f"t=1700000000,v1={mac(b'x')},v1={mac(b'1700000000.' + BODY)}"},
        ),
    ],
)
def test_hmac(fields: dict[str, Any], headers: dict[str, str]) -> None:
    given = auth(type="hmac", **fields)
    assert check(given, headers) == "good"
    assert check(given, headers, BODY + b" ") == "signature"
    assert check(given, headers, secrets=("another secret of ours",)) == "signature"
    assert check(given, {}) == "signature"


def test_hmac_holds_the_time_that_it_signs() -> None:
    given = auth(type="hmac", header="S", signed="{timestamp}{body}", timestampHeader="T")
    for at, expected in (
        ("1700000000", "good"),
        ("1699999700", "good"),
        ("1699999699", "timestamp"),
        ("x", "timestamp"),
    ):
        assert check(given, {"s": mac(at.encode() + BODY), "t": at}) == expected
    assert check(given, {"s": mac(BODY)}) == "timestamp"
    seen = [
        verify(given, {"s": mac(at.encode() + BODY), "t": at}, BODY, [SECRET], NOW)
        for at in ("1700000000", "1700000001")
    ]
    keys = {one.key for one in seen if isinstance(one, Good)}
    assert len(keys) == 2
    assert None not in keys


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "basic"},
        {"type": "hmac", "signed": "{timestamp}"},
        {"type": "hmac", "signed": "{timestamp}.{body}"},
        {"type": "hmac", "timestampHeader": "T"},
        {"type": "hmac", "parameters": {"timestamp": "t"}},
        {"type": "hmac", "algorithm": "md5"},
        {"type": "header", "header": "a b"},
        {"type": "standard-webhooks", "toleranceMs": 86_400_000},
    ],
)
def test_refused_settings(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        auth(**fields)
