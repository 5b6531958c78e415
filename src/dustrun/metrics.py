"""Instruments that cost next to nothing where things happen; `/metrics` turns them into Prometheus' text when asked.

Counting here is one addition in a dictionary. It is done on the event loop's thread or the writer's, each instrument
from one of them only, so there are no locks. One process is one server, so the instruments are the process's.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dustrun import clock

Labels = tuple[str, ...]
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MOST_SERIES = 5000

counters: list[Counter] = []
histograms: list[Histogram] = []


@dataclass(slots=True)
class Counter:
    """Counts by labels; `name` is without `_total`."""

    name: str
    help: str
    labels: Labels = ()
    values: dict[Labels, int] = field(default_factory=dict)

    def add(self, *labels: str) -> None:
        """One more."""
        values = self.values
        values[labels] = values.get(labels, 0) + 1


@dataclass(slots=True)
class Series:
    """What one histogram saw under one set of labels: how many fell into each bucket, and their sum."""

    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Histogram:
    """Sorts observations into buckets by labels; the last bucket, beyond all bounds, is implied."""

    name: str
    help: str
    labels: Labels = ()
    bounds: Sequence[float] = SECONDS
    series: dict[Labels, Series] = field(default_factory=dict)

    def observe(self, value: float, *labels: str) -> None:
        """One more observation."""
        found = self.series.get(labels)
        if found is None:
            if len(self.series) >= _MOST_SERIES:
                return
            found = self.series[labels] = Series([0] * (len(self.bounds) + 1))
        found.counts[bisect_left(self.bounds, value)] += 1
        found.total += value


class Watch:
    """Counts and times one kind of work: `with watch.of("GET") as seen: …; seen.outcome = "2xx"`.

    Work that raises has the exception's class as its outcome."""

    def __init__(self, counted: Counter, timed: Histogram) -> None:
        self._counted = counted
        self._timed = timed

    @contextlib.contextmanager
    def of(self, *labels: str) -> Iterator[Seen]:
        """One piece of work; the outcome is the counter's last label."""
        seen, started = Seen(), clock.monotonic_s()
        try:
            yield seen
        except BaseException as error:
            seen.outcome = type(error).__name__
            raise
        finally:
            self._counted.add(*labels, seen.outcome)
            self._timed.observe(clock.monotonic_s() - started)


@dataclass(slots=True)
class Seen:
    """What became of one piece of work."""

    outcome: str = "ok"


def counter(name: str, help: str, *labels: str) -> Counter:
    """A counter that `/metrics` shows."""
    made = Counter(name, help, labels)
    counters.append(made)
    return made


def histogram(name: str, help: str, *labels: str, bounds: Sequence[float] = SECONDS) -> Histogram:
    """A histogram that `/metrics` shows."""
    made = Histogram(name, help, labels, bounds)
    histograms.append(made)
    return made
