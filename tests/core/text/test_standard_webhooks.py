"""Signatures against the standard's own example, and secrets that are none."""

from __future__ import annotations

import base64

import pytest

from dustrun.core.text import standard_webhooks


def test_signature_is_that_of_the_standards_example() -> None:
    """The one of the specification's text: https://github.com/standard-webhooks/standard-webhooks."""
    key = standard_webhooks.key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    found = standard_webhooks.signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "secret",
        "whsec_",
        "whsec_!!!not base64!!!",
        "whsec_" + base64.b64encode(b"k" * 23).decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        base64.b64encode(b"k" * 32).decode(),
    ],
)
def test_secret_that_is_none_is_refused_without_being_told(secret: str) -> None:
    with pytest.raises(ValueError, match="must be whsec_ followed by base64 of 24 to 64 bytes") as caught:
        standard_webhooks.key_of(secret)
    assert len(secret) < 8 or secret not in str(caught.value)


def test_secret_may_come_without_padding() -> None:
    padded = base64.b64encode(b"k" * 25).decode()
    assert standard_webhooks.key_of("whsec_" + padded.rstrip("=")) == b"k" * 25
