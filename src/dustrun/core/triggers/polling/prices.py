"""When a price counts: as it crosses a level, or moves by so much within a time. Pure.

A crossing counts once. It counts again only after the price was back on the other side, by the hysteresis at least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from decimal import Context, Decimal
from typing import Any, Literal

from dustrun.records import dataclass

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
    """What is remembered: whether the next crossing counts (None: no price was seen), the prices of the window, the
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
        """What a cursor has of it."""
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
class Observed:
    """The state after a price, and whether it counts."""

    state: State
    hit: Hit | None = field(default=None)


def observe(rule: Rule, state: State, usd: Decimal, at_ms: int) -> Observed:
    """Takes a price."""
    found = _moved(rule, state, usd, at_ms) if rule.operation == "change-percent" else _crossed(rule, state, usd)
    fired = state.fired + (found.hit is not None)
    return replace(found, state=replace(found.state, previous=usd, fired=fired))


def _crossed(rule: Rule, state: State, usd: Decimal) -> Observed:
    level = Level(rule.operation in ("cross-up", "above"), rule.level, rule.hysteresis, rule.takes_first)
    ready, hits = level.observe(state.is_ready, usd)
    if hits:
        before = state.previous if state.previous is not None else rule.level
        return Observed(replace(state, is_ready=ready), Hit(rule.level, change_percent(before, usd)))
    return Observed(replace(state, is_ready=ready))


def _moved(rule: Rule, state: State, usd: Decimal, at_ms: int) -> Observed:
    points = [one for one in state.points if at_ms - rule.window_ms <= one[0] < at_ms]
    hit = _largest(rule, [price for _, price in points], usd)
    kept = [(at_ms, usd)] if hit is not None else [*points, (at_ms, usd)]
    return Observed(replace(state, points=tuple(kept)), hit)


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
