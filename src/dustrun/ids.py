"""The only source of randomness: time-ordered ids, keys and tokens."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections import deque

from dustrun import clock

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_id(prefix: str) -> str:
    """`prefix` + `_` + 26 characters: 48 bits of milliseconds, then 80 random bits, in Crockford base 32."""
    value = (clock.now_ms() << 80) | int.from_bytes(_ten_random_bytes(), "big")
    return f"{prefix}_{''.join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])}"


_SHIFTS = range(120, -1, -10)
_ahead: deque[bytes] = deque()


def _ten_random_bytes() -> bytes:
    """Reads random bytes for 100 ids at a time: each `os.urandom` call releases the GIL."""
    try:
        return _ahead.pop()
    except IndexError:
        fresh = os.urandom(10 * 100)
        _ahead.extend(fresh[start : start + 10] for start in range(10, len(fresh), 10))
        return fresh[:10]


def new_secret(prefix: str, length: int = 40) -> str:
    """`prefix` + `_` + `length` random base 62 characters."""
    return f"{prefix}_{''.join(secrets.choice(_BASE62) for _ in range(length))}"


def new_entropy(size: int) -> bytes:
    """Random bytes from the operating system, for keys."""
    return os.urandom(size)


def secret_hash(secret: str) -> str:
    """The hex SHA-256 that is stored instead of a secret. For random secrets only, never for passwords."""
    return hashlib.sha256(secret.encode()).hexdigest()


def jitter() -> float:
    """A random number in [0, 1) for back-off; not for secrets."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
