"""Expressions of polled triggers: over an answer, one of its items, or an old and a new value."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any, Final, Literal

from dustrun.core.expression import DEFAULT_LIMITS, ExpressionError, Template, parse_expression
from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class _Roots:
    values: Mapping[str, Any]

    def root(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True, slots=True)
class PollCondition:
    """A compiled expression over named values."""

    template: Template

    def value(self, **named: Any) -> Any:
        """Its value; raises `ExpressionError`."""
        return self.template.evaluate(_Roots(named), DEFAULT_LIMITS)


@lru_cache(maxsize=1000)
def compile_over(text: str, names: Sequence[str]) -> PollCondition:
    """Compiles an expression over values of these names; raises `ValueError` if it uses others."""
    try:
        template = parse_expression(text)
    except ExpressionError as error:
        raise ValueError(f"does not parse: {error}") from None
    for found in template.references:
        if found.root not in names:
            close = difflib.get_close_matches(found.root, names, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"It can use {', '.join(names)}."
            raise ValueError(f'there is no "{found.root}" here. {hint[:1].upper()}{hint[1:]}')
    return PollCondition(template)


# Which items of a list are new.
#
# A list shows the same items again and again, and drops old ones. What was seen is remembered by fingerprints: all that
# the list shows, and as many older ones as fit.


MOST_ITEMS: Final = 1000
"""How many items a list may have."""
MOST_EVENTS: Final = 50
"""How many new items one poll takes; the next one follows at once."""
_REMEMBERED: Final = 2 * MOST_ITEMS
_LONGEST_KEY: Final = 200


@dataclass(frozen=True, slots=True)
class News:
    """The places of new items, in the list's order, and what is seen then. `is_cut`: there are more."""

    places: tuple[int, ...]
    seen: tuple[str, ...]
    is_cut: bool


def find_news(seen: Sequence[str] | None, keys: Sequence[str], *, takes_first: bool) -> News:
    """Which of the keys, oldest first, are new. `seen`: None at the first look, which finds nothing new unless
    `takes_first`."""
    shown = [fingerprint(key) for key in keys]
    if seen is None and not takes_first:
        return News((), _remembered(shown, ()), is_cut=False)
    known, places = set(seen or ()), []
    for place, one in enumerate(shown):
        if one not in known:
            known.add(one)
            places.append(place)
    taken = places[:MOST_EVENTS]
    left = {shown[place] for place in places[MOST_EVENTS:]}
    return News(tuple(taken), _remembered([one for one in shown if one not in left], seen or ()), bool(left))


def _remembered(shown: Sequence[str], before: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*shown, *before]))[:_REMEMBERED]


def fingerprint(text: str) -> str:
    """A short stand-in for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def event_key(source: str, key: str) -> str:
    """The key of an item's event. Two sources may number their items alike, so the source is part of it."""
    shown = key if len(key) <= _LONGEST_KEY else f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    return f"{fingerprint(source)}:{shown}"


# When a polled trigger is asked, and what is kept between two times.


_LONGEST_MS: Final = 3_600_000
_LONGEST_ASKED_MS: Final = 86_400_000
_SPREAD_MS: Final = 30_000


def backoff_ms(interval_ms: int, failures: int, retry_after_s: float | None = None) -> int:
    """How long to wait after so many failures in a row: twice as long each time, up to an hour or the interval, and no
    shorter than the source asks for, up to a day."""
    wait = min(interval_ms << min(failures - 1, 16), max(interval_ms, _LONGEST_MS))
    asked = min(int((retry_after_s or 0) * 1000), _LONGEST_ASKED_MS)
    return max(wait, asked)


def spread_ms(subscription_id: str, interval_ms: int) -> int:
    """How much later an overdue poll begins, so that a start does not ask everybody at once. Always the same for one
    subscription."""
    within = min(interval_ms, _SPREAD_MS)
    return int.from_bytes(hashlib.sha256(subscription_id.encode()).digest()[:4]) % within


@dataclass(frozen=True, slots=True)
class PollPlace:
    """How far a polled trigger has come: the cursor that its next poll gets, and the events of the last poll that are
    not taken yet. They are stored, since the source may not show them again."""

    cursor: Any
    left: tuple[dict[str, Any], ...] = ()

    @classmethod
    def read(cls, stored: Any) -> PollPlace | None:
        """The place in a subscription's cursor; None before the first poll."""
        return None if stored is None else cls(stored["at"], tuple(stored.get("left", ())))

    def stored(self) -> dict[str, Any]:
        """The state in a subscription's cursor."""
        return {"at": self.cursor, **({"left": list(self.left)} if self.left else {})}


# When a price counts: as it crosses a level, or moves by so much within a time. Pure.
#
# A crossing counts once. It counts again only after the price was back on the other side, by the hysteresis at least.


Operation = Literal["cross-up", "cross-down", "above", "below", "change-percent"]
_ROUNDED = Context(prec=40)
_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Rule:
    """What is waited for. `level` and `hysteresis` (percent of the level) are of crossings; `percent`, `window_ms` and
    `direction` of changes. `takes_first`: the first price counts too."""

    operation: Operation
    level: Decimal = Decimal(0)
    hysteresis: Decimal = Decimal(0)
    percent: Decimal = Decimal(0)
    window_ms: int = 0
    direction: Literal["up", "down", "any"] = "any"
    takes_first: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """A level that is reached from below (`rises`) or from above, and how far a value must go back before it counts
    again: `hysteresis` in percent of the level. `takes_first`: the first value counts too."""

    rises: bool
    level: Decimal
    hysteresis: Decimal
    takes_first: bool = False

    def observe(self, is_ready: bool | None, value: Decimal) -> tuple[bool, bool]:
        """Takes a value: whether the next one that is there counts, and whether this one does. `is_ready` is what it
        said before; None: there was no value."""
        is_there = value >= self.level if self.rises else value <= self.level
        band = abs(self.level) * self.hysteresis / _HUNDRED
        is_back = value < self.level - band if self.rises else value > self.level + band
        if self.hysteresis == 0:
            is_back = not is_there
        ready = (self.takes_first or not is_there) if is_ready is None else is_ready
        return (False, True) if is_there and ready else (ready or is_back, False)


@dataclass(frozen=True, slots=True)
class State:
    """The memory of a watch: whether the next crossing counts (None: no price was seen), the prices of the window, the
    price before, and how many events there were."""

    is_ready: bool | None = None
    points: tuple[tuple[int, Decimal], ...] = ()
    previous: Decimal | None = None
    fired: int = 0

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> State:
        """The state in a cursor."""
        points = tuple((int(at), Decimal(usd)) for at, usd in stored.get("points", ()))
        previous = stored.get("previous")
        return cls(
            stored.get("ready"), points, None if previous is None else Decimal(previous), int(stored.get("fired", 0))
        )

    def stored(self) -> dict[str, Any]:
        """The part of a cursor that belongs to it."""
        return {
            "ready": self.is_ready,
            "previous": None if self.previous is None else str(self.previous),
            "fired": self.fired,
            **({"points": [[at, str(usd)] for at, usd in self.points]} if self.points else {}),
        }


@dataclass(frozen=True, slots=True)
class Hit:
    """A price that counts: what it is compared with, and by how many percent it differs."""

    against: Decimal
    change_percent: Decimal


@dataclass(frozen=True, slots=True)
class Observation:
    """The state after a price, and whether it counts."""

    state: State
    hit: Hit | None = field(default=None)


def observe(rule: Rule, state: State, usd: Decimal, at_ms: int) -> Observation:
    """Takes a price."""
    found = _moved(rule, state, usd, at_ms) if rule.operation == "change-percent" else _crossed(rule, state, usd)
    fired = state.fired + (found.hit is not None)
    return replace(found, state=replace(found.state, previous=usd, fired=fired))


def _crossed(rule: Rule, state: State, usd: Decimal) -> Observation:
    level = Level(rule.operation in ("cross-up", "above"), rule.level, rule.hysteresis, rule.takes_first)
    ready, hits = level.observe(state.is_ready, usd)
    if hits:
        before = state.previous if state.previous is not None else rule.level
        return Observation(replace(state, is_ready=ready), Hit(rule.level, change_percent(before, usd)))
    return Observation(replace(state, is_ready=ready))


def _moved(rule: Rule, state: State, usd: Decimal, at_ms: int) -> Observation:
    points = [one for one in state.points if at_ms - rule.window_ms <= one[0] < at_ms]
    hit = _largest(rule, [price for _, price in points], usd)
    kept = [(at_ms, usd)] if hit is not None else [*points, (at_ms, usd)]
    return Observation(replace(state, points=tuple(kept)), hit)


def _largest(rule: Rule, prices: Sequence[Decimal], usd: Decimal) -> Hit | None:
    """The largest move to this price from the lowest or the highest price of the window, if it is large enough."""
    found: list[Hit] = []
    if prices and rule.direction in ("up", "any"):
        found.append(Hit(min(prices), change_percent(min(prices), usd)))
    if prices and rule.direction in ("down", "any"):
        found.append(Hit(max(prices), change_percent(max(prices), usd)))
    wanted = [
        one
        for one in found
        if abs(one.change_percent) >= rule.percent
        and (rule.direction == "any" or (one.change_percent > 0) == (rule.direction == "up"))
    ]
    return max(wanted, key=lambda one: abs(one.change_percent), default=None)


def change_percent(before: Decimal, now: Decimal) -> Decimal:
    """By how many percent a price has changed, with four decimals; 0 from nothing."""
    if before == 0:
        return Decimal(0)
    exact = _ROUNDED.multiply(_ROUNDED.divide(now - before, before), _HUNDRED)
    return exact.quantize(Decimal("0.0001"), context=_ROUNDED)
