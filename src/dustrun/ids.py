"""The only source of randomness: ids that sort by time, keys and tokens."""

from __future__ import annotations

import hashlib
import os
import secrets

from dustrun import clock

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_id(prefix: str) -> str:
    """`prefix` + `_` + 26 characters: 48 bits of milliseconds, then 80 random bits, in Crockford base 32."""
    value = (clock.now_ms() << 80) | int.from_bytes(os.urandom(10), "big")
    letters = [_CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(letters)}"


def new_secret(prefix: str, length: int = 40) -> str:
    """`prefix` + `_` + `length` random base 62 characters."""
    return f"{prefix}_{''.join(secrets.choice(_BASE62) for _ in range(length))}"


def new_entropy(size: int) -> bytes:
    """Random bytes of the operating system, for keys."""
    return os.urandom(size)


def secret_hash(secret: str) -> str:
    """What is stored of a secret: its SHA-256 in hexadecimal. Fit for random secrets only, not passwords."""
    return hashlib.sha256(secret.encode()).hexdigest()


def jitter() -> float:
    """A random number in [0, 1) for back-off; nothing secret hangs on it."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
