"""Limits on how often callers ask: a bucket of tokens each, and addresses that send wrong keys slowed down."""

from __future__ import annotations

import asyncio
import ipaddress
from enum import StrEnum
from weakref import WeakValueDictionary

from dustrun import clock
from dustrun.errors import Code, TooMany

_BURST_FACTOR = 2
_MOST_BUCKETS = 10_000


class Excess(StrEnum):
    """Everything that is answered 429, as it is told. Beside each: what sets the limit."""

    REQUESTS = "Too many requests from this organisation."  # rate_limit_per_second
    WRONG_KEYS = "Too many wrong keys or tokens from this address."  # wrong_keys_per_second, as all guesses
    WEBHOOK_GUESSES = "Too many unknown addresses of webhooks from this caller."
    WEBHOOK_REFUSALS = "Too many refused requests to this webhook."
    WEBHOOK_REQUESTS = "Too many requests to this webhook; wait a moment."  # requests_per_webhook
    SIGN_INS = "Too many sign-ins were begun from this address; wait a moment."  # wrong_keys_per_second
    FORM_GUESSES = "Too many unknown links to forms from this caller."
    FORM_REQUESTS = "Too many requests to this form; wait a moment."  # requests_per_link
    FORM_SUBMISSIONS = "Too many answers to this form; wait a moment."  # form_submissions_per_second
    LINK_REQUESTS = "Too many requests to this link; wait a moment."  # requests_per_link
    WAITING_STREAMS = "This key already has {waiting} streams waiting for runs (setting max_waiting_streams)."
    KEYSTORES = "Too many keystores are being opened or created; try again in a few seconds."  # signers.py
    SESSIONS = "The server has as many sessions open as it keeps; try again later."  # sessions.py, of /mcp

    def refusal(self, retry_after_s: float, **values: int) -> TooMany:
        """The error that says so."""
        code = Code.TOO_MANY_STREAMS if self is Excess.WAITING_STREAMS else Code.RATE_LIMITED
        return TooMany(self.value.format(**values), code=code, retry_after_s=retry_after_s)


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

    def take(self, caller: str, excess: Excess = Excess.REQUESTS) -> None:
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
            raise excess.refusal((1 - tokens) / self._rate)
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
            self._limiter.take(network_of(address), Excess.WRONG_KEYS)

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
    """The network of one caller: an IPv4 address, or the IPv6 network of 64 bits of a host with many addresses."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
