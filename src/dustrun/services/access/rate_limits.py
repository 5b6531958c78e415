"""Limits on how often callers ask: a bucket of tokens each, and addresses that send wrong keys slowed down."""

from __future__ import annotations

import asyncio
import ipaddress
from weakref import WeakValueDictionary

from dustrun import clock
from dustrun.errors import TooMany

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
