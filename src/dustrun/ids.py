"""The only source of randomness: time-ordered ids, keys and tokens."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from dustrun import clock

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_random_bytes: Callable[[int], bytes] = os.urandom
_BELOW: Final = 256 - 256 % 62
"""Random bytes from here on would make some characters likelier than others."""


def new_id(prefix: str) -> str:
    """`prefix` + `_` + 26 characters in Crockford base 32: 50 bits of milliseconds, then 80 random bits."""
    ms = clock.now_ms()
    time = f"{_PAIRS[ms >> 40]}{_PAIRS[(ms >> 30) & 1023]}{_PAIRS[(ms >> 20) & 1023]}"
    return f"{prefix}_{time}{_PAIRS[(ms >> 10) & 1023]}{_PAIRS[ms & 1023]}{_sixteen_random_characters()}"


_ahead: deque[str] = deque()
_OF_BYTE = (_CROCKFORD * 8).encode()
"""The character of a random byte: of its lowest five bits."""


def _sixteen_random_characters() -> str:
    """Reads random bytes for 100 ids at a time: each call of `os.urandom` releases the GIL."""
    try:
        return _ahead.pop()
    except IndexError:
        fresh = _random_bytes(16 * 100).translate(_OF_BYTE).decode()
        _ahead.extend(fresh[start : start + 16] for start in range(16, len(fresh), 16))
        return fresh[:16]


def new_secret(prefix: str, length: int = 40) -> str:
    """`prefix` + `_` + `length` random base 62 characters."""
    found: list[str] = []
    while len(found) < length:
        found += [_BASE62[byte % 62] for byte in _random_bytes(length) if byte < _BELOW]
    return f"{prefix}_{''.join(found[:length])}"


def new_entropy(size: int) -> bytes:
    """Random bytes from the operating system, for keys."""
    return _random_bytes(size)


def secret_hash(secret: str) -> str:
    """The hex SHA-256 that is stored instead of a secret. For random secrets only, never for passwords."""
    return hashlib.sha256(secret.encode()).hexdigest()


def jitter() -> float:
    """A random number in [0, 1) for back-off; not for secrets."""
    return int.from_bytes(_random_bytes(4), "big") / 2**32


@contextlib.contextmanager
def seeded(random_bytes: Callable[[int], bytes]) -> Iterator[None]:
    """Context manager: the whole process takes its randomness from `random_bytes(size)`. For simulations: whoever knows
    the seed knows every key."""
    global _random_bytes
    before, _random_bytes = _random_bytes, random_bytes
    _ahead.clear()
    try:
        yield
    finally:
        _random_bytes = before
        _ahead.clear()
