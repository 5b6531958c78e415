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
    """`prefix` + `_` + 26 characters in Crockford base 32: 50 bits of milliseconds, then 80 random bits."""
    ms = clock.now_ms()
    time = f"{_PAIRS[ms >> 40]}{_PAIRS[(ms >> 30) & 1023]}{_PAIRS[(ms >> 20) & 1023]}"
    return f"{prefix}_{time}{_PAIRS[(ms >> 10) & 1023]}{_PAIRS[ms & 1023]}{_sixteen_random_characters()}"


_ahead: deque[str] = deque()
_OF_BYTE = (_CROCKFORD * 8).encode()
"""The character of a random byte: of its lowest five bits."""


def _sixteen_random_characters() -> str:
    """Reads random bytes for 100 ids at a time: each `os.urandom` call releases the GIL."""
    try:
        return _ahead.pop()
    except IndexError:
        fresh = os.urandom(16 * 100).translate(_OF_BYTE).decode()
        _ahead.extend(fresh[start : start + 16] for start in range(16, len(fresh), 16))
        return fresh[:16]


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
