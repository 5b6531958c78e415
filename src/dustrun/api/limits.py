"""Limits on requests: requests per second and key, body size, and content type."""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import MutableMapping
from typing import Any
from weakref import WeakValueDictionary

from starlette.types import Message, Receive

from dustrun import clock
from dustrun.core.values import exact_json
from dustrun.core.values.exact_json import JsonError
from dustrun.core.values.weight import is_large
from dustrun.errors import Code, DustrunError, Invalid, TooMany
from dustrun.sdk.threads import run_beside

_BURST_FACTOR = 2
_MOST_BUCKETS = 10_000


class RateLimiter:
    """A token bucket per caller: `per_second` tokens per second, with a burst of twice that; 0 means no limit."""

    def __init__(self, per_second: float, burst_factor: int = _BURST_FACTOR) -> None:
        self._rate = float(per_second)
        self._burst = self._rate * burst_factor
        self._factor = burst_factor
        self._whole = self._rate
        self._buckets: dict[str, tuple[float, float]] = {}

    def divide(self, among: int) -> None:
        """Lets through one of so many parts of the rate: other processes let through the others."""
        self._rate = self._whole / among
        self._burst = max(1.0, self._rate * self._factor) if self._whole else 0.0

    def take(self, caller: str, message: str = "Too many requests from this organisation.") -> None:
        """Takes one token of the caller, or raises `TooMany` with the time to wait."""
        if not self._rate:
            return
        if len(self._buckets) > _MOST_BUCKETS:
            self._forget_full()
        now = clock.monotonic_s()
        tokens, at = self._buckets.get(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        if tokens < 1:
            self._buckets[caller] = (tokens, now)
            raise TooMany(message, retry_after_s=(1 - tokens) / self._rate)
        self._buckets[caller] = (tokens - 1, now)

    def give_back(self, caller: str) -> None:
        """Gives one token back."""
        if caller in self._buckets:
            tokens, at = self._buckets[caller]
            self._buckets[caller] = (min(self._burst, tokens + 1), at)

    def _forget_full(self) -> None:
        """Forgets buckets that are full again, which is all that they say; then the oldest half."""
        now = clock.monotonic_s()
        kept = {
            name: pair for name, pair in self._buckets.items() if pair[0] + (now - pair[1]) * self._rate < self._burst
        }
        if len(kept) > _MOST_BUCKETS:
            newest = sorted(kept.items(), key=lambda pair: pair[1][1])[len(kept) // 2 :]
            kept = dict(newest)
        self._buckets = kept


class WrongKeys:
    """Slows down addresses that send wrong keys: `per_second` of them a second, a burst of twenty times that; 0 lets
    everything pass. Keys that were good before are never held up, since many callers may share one address.
    """

    def __init__(self, per_second: int) -> None:
        self._limiter = RateLimiter(per_second, burst_factor=20)
        self._good: dict[str, None] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn_of(self, key_hash: str) -> asyncio.Lock:
        """To be held from `check` until the key is known: of many who send a good one at once, all after the first
        pass without a token."""
        return self._turns.setdefault(key_hash, asyncio.Lock())

    def divide(self, among: int) -> None:
        """Lets through one of so many parts; other processes let through the others."""
        self._limiter.divide(among)

    def check(self, address: str, key_hash: str) -> None:
        """Takes one token of the address before an unknown key is looked up; raises `TooMany`."""
        if key_hash not in self._good:
            self._limiter.take(network_of(address), "Too many wrong keys or tokens from this address.")

    def was_good(self, address: str, key_hash: str) -> None:
        """Notes a key that was found, and gives the token back."""
        if key_hash not in self._good:
            self._limiter.give_back(network_of(address))
            if len(self._good) >= _MOST_BUCKETS:
                self._good.pop(next(iter(self._good)))
            self._good[key_hash] = None

    def was_wrong(self, key_hash: str) -> None:
        """Forgets a key that was good before."""
        self._good.pop(key_hash, None)


def network_of(address: str) -> str:
    """What counts as one caller: an IPv4 address, or an IPv6 network of 64 bits, of which each host has many
    addresses.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


def _header(scope: MutableMapping[str, Any], name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


def _too_large(limit: int) -> DustrunError:
    return DustrunError(f"The body is larger than {limit} bytes.", code=Code.BODY_TOO_LARGE)


async def read_body(scope: MutableMapping[str, Any], receive: Receive, limit: int) -> bytes:
    """Reads the body, counting bytes as they arrive, since `Content-Length` may be wrong or absent."""
    declared = _header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise Invalid("The connection was closed before the complete body arrived.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def check_content_type(scope: MutableMapping[str, Any]) -> None:
    """Raises 415 unless the body is declared as JSON, in UTF-8 and without an encoding."""
    encoding = _header(scope, b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise DustrunError(
            f'Content-Encoding "{encoding.decode("latin-1")}" is not supported.', code=Code.CONTENT_TYPE_UNSUPPORTED
        )
    content_type = _header(scope, b"content-type")
    if content_type == b"application/json":
        return
    media, _, parameters = (content_type or b"").decode("latin-1").partition(";")
    name, _, charset = parameters.strip().partition("=")
    plain = not name or (name.strip().lower() == "charset" and charset.strip().strip('"').lower() in ("utf-8", "utf8"))
    if media.strip().lower() != "application/json" or not plain:
        raise DustrunError("The body must be application/json in UTF-8.", code=Code.CONTENT_TYPE_UNSUPPORTED)


async def read_json(scope: MutableMapping[str, Any], receive: Receive, limit: int) -> tuple[bytes, Any]:
    """Reads the body's bytes and its document, decoded exactly; an absent or blank body is `(b"", None)`."""
    body = await read_body(scope, receive, limit)
    if not body.strip():
        return b"", None
    check_content_type(scope)
    try:
        if is_large(body):
            return body, await run_beside(exact_json.loads_unique, body)
        return body, exact_json.loads_unique(body)
    except JsonError as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from None


def retry_after(seconds: float | None) -> str:
    """The value of `Retry-After`: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds or 1)))
