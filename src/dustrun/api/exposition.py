"""The text of `/metrics` in the Prometheus exposition format: instruments, and gauges that are read on request."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import dustrun
from dustrun import metrics
from dustrun.operations.declaration.parts import Gauges

CONTENT_TYPE = CONTENT_TYPE_LATEST


class _Instruments(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """Yields every instrument as a Prometheus metric family."""
        info = GaugeMetricFamily("dustrun_info", "Version of the running server.", labels=["version"])
        info.add_metric([dustrun.__version__], 1)
        yield info
        for name, (help, value) in self._gauges.items():
            yield GaugeMetricFamily(name, help, value)
        for counter in metrics.counters:
            yield _counted(counter)
        for gauge in metrics.gauges:
            shown = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            for labels, number in list(gauge.values.items()):
                shown.add_metric(labels, number)
            yield shown
        for histogram in metrics.histograms:
            yield _distributed(histogram)


def _counted(counter: metrics.Counter) -> Metric:
    family = CounterMetricFamily(counter.name, counter.help, labels=counter.labels)
    for labels, value in list(counter.values.items()):
        family.add_metric(labels, value)
    return family


def _distributed(histogram: metrics.Histogram) -> Metric:
    family = HistogramMetricFamily(histogram.name, histogram.help, labels=histogram.labels)
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    for labels, series in list(histogram.series.items()):
        buckets = list(zip(bounds, (float(count) for count in accumulate(series.counts)), strict=True))
        family.add_metric(labels, buckets, series.total)
    return family


def render(gauges: Gauges) -> bytes:
    """Renders all metrics as text."""
    registry = CollectorRegistry()
    registry.register(_Instruments(gauges))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
