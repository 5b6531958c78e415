"""Counters, gauges and histograms that `/metrics` renders as Prometheus text.

Recording is one addition in a dictionary. There are no locks, because each instrument is used either by the event
loop's
thread or by the writer's, never by both. The instruments are global: one process is one server.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import field

from dustrun import clock
from dustrun.records import dataclass

Labels = tuple[str, ...]
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MOST_SERIES = 5000

counters: list[Counter] = []
histograms: list[Histogram] = []
gauges: list[Gauge] = []


@dataclass(slots=True)
class Counter:
    """A counter by labels; `name` is without `_total`."""

    name: str
    help: str
    labels: Labels = ()
    values: dict[Labels, int] = field(default_factory=dict)

    def add(self, *labels: str) -> None:
        """Adds one."""
        values = self.values
        values[labels] = values.get(labels, 0) + 1


@dataclass(slots=True)
class Gauge:
    """A value by labels that rises and falls."""

    name: str
    help: str
    labels: Labels = ()
    values: dict[Labels, float] = field(default_factory=dict)

    def set(self, value: float, *labels: str) -> None:
        """Sets it."""
        self.values[labels] = value


@dataclass(slots=True)
class Series:
    """One histogram's bucket counts and sum for one set of labels."""

    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Histogram:
    """A histogram by labels; the last bucket (+Inf) is implied."""

    name: str
    help: str
    labels: Labels = ()
    bounds: Sequence[float] = SECONDS
    series: dict[Labels, Series] = field(default_factory=dict)

    def observe(self, value: float, *labels: str) -> None:
        """Records one observation; drops new label sets beyond 5,000."""
        found = self.series.get(labels)
        if found is None:
            if len(self.series) >= _MOST_SERIES:
                return
            found = self.series[labels] = Series([0] * (len(self.bounds) + 1))
        found.counts[bisect_left(self.bounds, value)] += 1
        found.total += value


class Watch:
    """Counts and times one kind of work: `with watch.of("GET") as seen: …; seen.outcome = "2xx"`.

    If the work raises, the outcome is the exception's class name."""

    def __init__(self, counted: Counter, timed: Histogram) -> None:
        self._counted = counted
        self._timed = timed

    @contextlib.contextmanager
    def of(self, *labels: str) -> Iterator[MeasuredOutcome]:
        """Measures the body of the `with`; the outcome becomes the counter's last label."""
        seen, started = MeasuredOutcome(), clock.monotonic_s()
        try:
            yield seen
        except BaseException as error:
            seen.outcome = type(error).__name__
            raise
        finally:
            self._counted.add(*labels, seen.outcome)
            self._timed.observe(clock.monotonic_s() - started)


@dataclass(slots=True)
class MeasuredOutcome:
    """The outcome of the measured work."""

    outcome: str = "ok"


def counter(name: str, help: str, *labels: str) -> Counter:
    """Creates a counter and registers it for `/metrics`."""
    made = Counter(name, help, labels)
    counters.append(made)
    return made


def gauge(name: str, help: str, *labels: str) -> Gauge:
    """Creates a gauge and registers it for `/metrics`."""
    made = Gauge(name, help, labels)
    gauges.append(made)
    return made


def histogram(name: str, help: str, *labels: str, bounds: Sequence[float] = SECONDS) -> Histogram:
    """Creates a histogram and registers it for `/metrics`."""
    made = Histogram(name, help, labels, bounds)
    histograms.append(made)
    return made
