"""Signatures of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over id, timestamp and body.

Only `v1` (symmetric) signatures. A secret is `whsec_` followed by base64 of 24 to 64 bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

PREFIX: Final = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64
WANTED: Final = f"must be {PREFIX} followed by base64 of {_LEAST_BYTES} to {_MOST_BYTES} bytes"


def key_of(secret: str) -> bytes:
    """The key of a secret; raises `ValueError` without the secret in its message."""
    if not secret.startswith(PREFIX):
        raise ValueError(WANTED)
    text = secret[len(PREFIX) :]
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(WANTED) from None
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ValueError(WANTED)
    return key


def signature(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: `v1,` and base64. `timestamp_s` is in seconds since the epoch."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def headers(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a signed message."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature(key, message_id, timestamp_s, body),
    }
