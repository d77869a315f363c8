"""Counts and times by label, for the one thread of an event loop: an update takes no lock."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

Labels = tuple[str, ...]
Families = Iterator[Metric]
Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily)


class Histogram:
    """Seconds by label, in buckets whose upper ends are ``bounds``."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._ends = (*(str(float(bound)) for bound in bounds), "+Inf")
        self._cells: dict[Labels, list[float]] = {}
        """For each bucket how many fell into it alone, and the sum of all."""

    def observe(self, labels: Labels, seconds: float) -> None:
        """Count one more."""
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = [0] * (len(self._ends) + 1)
        cell[bisect_left(self._bounds, seconds)] += 1
        cell[-1] += seconds

    def counts(self) -> dict[Labels, float]:
        """How many there were of each."""
        return {labels: sum(cell[:-1]) for labels, cell in self._cells.items()}

    def family(self, name: str, meaning: str, labels: Sequence[str] = ()) -> HistogramMetricFamily:
        """What is counted, as a scrape has it."""
        family = HistogramMetricFamily(name, meaning, labels=labels)
        for values, cell in self._cells.items():
            reached, buckets = 0.0, []
            for end, count in zip(self._ends, cell[:-1], strict=True):
                reached += count
                buckets.append((end, reached))
            family.add_metric(values, buckets, cell[-1])
        return family


def counter(
    name: str, meaning: str, labels: Sequence[str], found: Mapping[Labels, float]
) -> CounterMetricFamily:
    """A family of counters, from values by label."""
    return _filled(CounterMetricFamily(name, meaning, labels=labels), found)


def gauge(
    name: str, meaning: str, labels: Sequence[str], found: Mapping[Labels, float]
) -> GaugeMetricFamily:
    """A family of gauges, from values by label."""
    return _filled(GaugeMetricFamily(name, meaning, labels=labels), found)


def value(name: str, meaning: str, found: float) -> GaugeMetricFamily:
    """A gauge without labels."""
    return gauge(name, meaning, (), {(): found})


def _filled(family: Family, found: Mapping[Labels, float]) -> Family:
    for values, number in found.items():
        family.add_metric(values, number)
    return family
